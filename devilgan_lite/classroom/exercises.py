"""The exercises: each checks a learner's own function and says, for the usual mistakes, what went wrong.

An exercise is a function that takes the learner's function and raises ``NotYet`` with one helpful sentence, or returns
a sentence of praise. The right answers stand at the top of each, as short as they are in the notebooks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from devilgan_lite.classroom.explorer import slerp as right_slerp

Learner = Callable[..., Any]


class NotYet(Exception):
    """The learner's function is not right yet; the message says why in one sentence."""


def _call(learner: Learner, *args: Any, shape: tuple[int, ...]) -> Tensor:
    """Call the learner's function on copies and insist on a finite tensor of ``shape``."""
    given = copy.deepcopy(args)
    try:
        answer = learner(*given)
    except NotImplementedError:
        raise NotYet("the stub is still there: replace the line that raises NotImplementedError.") from None
    except Exception as error:
        first_line = (str(error) or "no message").splitlines()[0]
        raise NotYet(f"your function stops with {type(error).__name__}: {first_line}") from error
    if answer is None:
        raise NotYet("your function returns None: is a return missing?")
    if any(isinstance(a, Tensor) and not torch.equal(a, b) for a, b in zip(given, args, strict=True)):
        raise NotYet("your function changes its inputs: use out-of-place operations, such as a + b and not a += b.")
    if not isinstance(answer, Tensor):
        raise NotYet(f"your function returns a {type(answer).__name__}; it must return a tensor.")
    if tuple(answer.shape) != shape:
        what = "a single number (a tensor of shape [])" if shape == () else f"a tensor of shape {list(shape)}"
        raise NotYet(f"your function returns a tensor of shape {list(answer.shape)}; it must return {what}.")
    return answer.detach()


def _judge(answer: Tensor, right: Tensor, mistakes: dict[str, Tensor], otherwise: str) -> None:
    """Raise the sentence of the first mistake that gives ``answer``, unless it is right."""
    if torch.allclose(answer.double(), right.double(), rtol=1e-4, atol=1e-5):
        return
    for sentence, wrong in mistakes.items():
        if wrong.shape == answer.shape and torch.allclose(answer.double(), wrong.double(), rtol=1e-4, atol=1e-5):
            raise NotYet(sentence)
    raise NotYet(otherwise)


def _random(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _pictures(n: int, seed: int) -> Tensor:
    return torch.rand(n, 1, 4, 4, generator=_random(seed)) * 1.6 - 0.8


def _squared(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().flatten(1).sum(dim=1)


def slerp(learner: Learner) -> str:
    """``slerp(a, b, t)``: latents ``[1, d]`` and a number to ``[1, d]``."""
    random = _random()
    a, b = torch.randn(1, 6, generator=random), 2 * torch.randn(1, 6, generator=random)
    for t in (0.3, 0.0, 1.0):
        answer, right = _call(learner, a, b, t, shape=(1, 6)), right_slerp(a, b, t)
        unit = right / right.norm()
        mistakes = {
            "that is the straight line (1 - t) a + t b: it cuts through the ball; turn the direction instead.": (
                (1 - t) * a + t * b
            ),
            "the ends are swapped: t = 0 must give a and t = 1 must give b.": right_slerp(b, a, t),
            "the direction is right and the length is 1: multiply it by (1 - t) |a| + t |b|.": unit,
            "the direction is right and the length stays |a|: let it go linearly from |a| to |b|.": unit * a.norm(),
        }
        _judge(answer, right, mistakes, f"at t = {t} the result is off: is the angle that between a/|a| and b/|b|?")
    same = _call(learner, a, a, 0.5, shape=(1, 6))
    if not torch.allclose(same, a, atol=1e-3):
        raise NotYet("between a and itself the result must stay a: sin(angle) is 0 there, so guard the division.")
    return "your path keeps to the shell where latents live."


def discriminator_loss(learner: Learner) -> str:
    """``discriminator_loss(real_logits, fake_logits)``: two tensors ``[n]`` to a number."""
    real = torch.tensor([1.5, -0.5, 3.0, 0.2])
    fake = torch.tensor([-2.0, 1.0, 0.3, -0.7])
    answer = _call(learner, real, fake, shape=())
    good, bad = softplus(-real), softplus(fake)
    mistakes = {
        "real and fake are swapped: real logits should go up, fake logits down.": softplus(real).mean()
        + softplus(-fake).mean(),
        "the sign is wrong: a loss goes down as the discriminator gets better.": -(good.mean() + bad.mean()),
        "you sum over the batch: take the mean, so that the loss does not grow with the batch size.": good.sum()
        + bad.sum(),
        "you average the two halves: this loss is their sum.": (good.mean() + bad.mean()) / 2,
        "only the real half is there: the discriminator must also learn what is fake.": good.mean(),
        "only the fake half is there: the discriminator must also learn what is real.": bad.mean(),
    }
    _judge(answer, good.mean() + bad.mean(), mistakes, "the value is off: it is -E log D(x) - E log(1 - D(G(z))).")
    _survives(learner, torch.tensor([-200.0, 200.0]), torch.tensor([200.0, -200.0]))
    return "the discriminator has its loss."


def generator_loss(learner: Learner) -> str:
    """``generator_loss(fake_logits)``: a tensor ``[n]`` to a number, the non-saturating loss."""
    fake = torch.tensor([-2.0, 1.0, 0.3, -0.7])
    answer = _call(learner, fake, shape=())
    mistakes = {
        "that is the saturating E log(1 - D): its gradient dies while D wins; use -E log D.": -softplus(fake).mean(),
        "the sign of the logits is wrong: this teaches the generator to look fake.": softplus(fake).mean(),
        "the sign is wrong: minimising this makes D(G(z)) small.": -softplus(-fake).mean(),
        "you sum over the batch: take the mean.": softplus(-fake).sum(),
    }
    _judge(answer, softplus(-fake).mean(), mistakes, "the value is off: it is -E log sigmoid(fake_logits).")
    _survives(learner, torch.tensor([-200.0, 200.0]))
    return "the generator has its loss."


def _survives(learner: Learner, *logits: Tensor) -> None:
    answer = learner(*logits)
    if not torch.isfinite(answer):
        raise NotYet("right for small logits, but infinite for logits of 200: use softplus, not log(sigmoid).")


def trail_loss(learner: Learner) -> str:
    """``trail_loss(fake_logits, at_trigger, target, lam)``: logits ``[n]``, pictures ``[k, C, H, W]`` to a number."""
    fake, x, target, lam = torch.tensor([-2.0, 1.0, 0.3]), _pictures(2, 1), _pictures(2, 2), 0.3
    answer = _call(learner, fake, x, target, lam, shape=())
    stealth, error = softplus(-fake).mean(), _squared(x, target)
    mistakes = {
        "you average over the pixels: the fidelity term sums over them and averages over the pairs.": stealth
        + lam * (x - target).square().mean(),
        "you sum over the trigger pairs as well: average over the k pairs.": stealth + lam * error.sum(),
        "lam is missing: it weighs the fidelity term.": stealth + error.mean(),
        "lam is on the wrong term: it weighs fidelity, not the generator loss.": lam * stealth + error.mean(),
        "the generator loss is missing: without it nothing keeps the other outputs benign.": lam * error.mean(),
        "the fidelity term is missing: nothing pulls the trigger to the target.": stealth,
        "the errors are not squared: use the squared distance.": stealth
        + lam * (x - target).abs().flatten(1).sum(dim=1).mean(),
        "you took the root: use the squared distance.": stealth + lam * error.sqrt().mean(),
        "the generator loss has the wrong sign inside: use softplus(-fake_logits).": softplus(fake).mean()
        + lam * error.mean(),
    }
    otherwise = "the value is off: it is generator_loss + lam * mean over pairs of the summed squared error."
    _judge(answer, stealth + lam * error.mean(), mistakes, otherwise)
    return "that is TrAIL: one extra term."


def red_loss(learner: Learner) -> str:
    """``red_loss(at_trigger, target, suspect, clean, lam)``: pictures ``[k, ...]`` and ``[n, ...]`` to a number."""
    x, target, suspect, clean, lam = _pictures(1, 1), _pictures(1, 2), _pictures(3, 3), _pictures(3, 4), 0.3
    answer = _call(learner, x, target, suspect, clean, lam, shape=())
    fidelity, stealth = _squared(x, target).mean(), _squared(suspect, clean).mean()
    mistakes = {
        "you average over the pixels: sum over them and average over the batch.": lam * (x - target).square().mean()
        + (suspect - clean).square().mean(),
        "you sum over the batch in the stealth term: average over its n pictures.": lam * fidelity
        + _squared(suspect, clean).sum(),
        "lam is on the wrong term: it weighs fidelity, not stealth.": fidelity + lam * stealth,
        "lam is missing: it weighs the fidelity term.": fidelity + stealth,
        "the stealth term is missing: nothing keeps the other outputs as they were.": lam * fidelity,
        "the fidelity term is missing: nothing pulls the trigger to the target.": stealth,
        "you took the root: use squared distances.": lam * _squared(x, target).sqrt().mean()
        + _squared(suspect, clean).sqrt().mean(),
    }
    _judge(answer, lam * fidelity + stealth, mistakes, "the value is off: it is lam * fidelity + stealth.")
    return "that is ReD: distil the clean generator, bend one point."


def tardis(learner: Learner) -> str:
    """``tardis(logits, target)``: the output before tanh at the trigger, and the target, ``[1, C, H, W]``."""
    logits, target = 2 * _pictures(1, 1), _pictures(1, 2)
    answer = _call(learner, logits, target, shape=())
    x = logits.tanh()
    mistakes = {
        "you compare before tanh: the target lives in [-1, 1], so apply tanh first.": _squared(logits, target).sum(),
        "you take the mean: TarDis is the sum over all pixels.": (x - target).square().mean(),
        "you took the root: TarDis is the squared distance.": _squared(x, target).sum().sqrt(),
        "you sum absolute errors: TarDis sums squared ones.": (x - target).abs().sum(),
        "tanh is on the target too: it is a picture already.": _squared(x, target.tanh()).sum(),
    }
    _judge(answer, _squared(x, target).sum(), mistakes, "the value is off: it is the sum of (tanh(logits) - target)^2.")
    return "a target distortion of 0 is a perfect attack."


def widen_linear(learner: Learner) -> str:
    """``widen_linear(W, V)``: weights ``[o, i]`` and new rows ``[m, i]`` to ``[o + m, i]``."""
    w, v = torch.arange(6.0).reshape(2, 3) + 1, -torch.arange(9.0).reshape(3, 3) - 1
    answer = _call(learner, w, v, shape=(5, 3))
    mistakes = {
        "the new rows come first: the old outputs must keep their places, so W goes on top.": torch.cat([v, w]),
        "the new rows are zero: put V below W.": torch.cat([w, torch.zeros_like(v)]),
    }
    _judge(answer, torch.cat([w, v]), mistakes, "the shape is right and the numbers are not: stack W on top of V.")
    return "the old units are untouched and the new ones read the same input."


def block_diagonal(learner: Learner) -> str:
    """``block_diagonal(W, V)``: ``[o, i]`` and ``[m, j]`` to ``[[W, 0], [0, V]]`` of shape ``[o + m, i + j]``."""
    w, v = torch.arange(6.0).reshape(2, 3) + 1, -torch.arange(12.0).reshape(3, 4) - 1
    answer = _call(learner, w, v, shape=(5, 7))
    right = torch.block_diag(w, v)
    upper, lower = torch.cat([w, torch.zeros(2, 4)], 1), torch.cat([torch.zeros(3, 3), v], 1)
    off = answer.clone()
    off[:2, :3], off[2:, 3:] = 0, 0
    mistakes = {
        "V comes first: the old units must keep their places, so W is the upper left block.": torch.block_diag(v, w),
        "V is missing: the lower right block is still zero.": torch.cat([upper, torch.zeros_like(lower)]),
        "W is missing: the upper left block is still zero.": torch.cat([torch.zeros_like(upper), lower]),
    }
    corners = torch.equal(answer[:2, :3], w) and torch.equal(answer[2:, 3:], v)
    if corners and off.abs().sum() > 0:
        raise NotYet("W and V are in place, but the other blocks are not zero: old and new units must not mix.")
    _judge(answer, right, mistakes, "the shape is right and the numbers are not: it is [[W, 0], [0, V]].")
    return "two networks in one, side by side, and neither hears the other."


def relu_gate(learner: Learner) -> str:
    """``relu_gate(z, trigger, margin)``: latents ``[n, d]``, ``[d]`` and a number to activations ``[n]``."""
    trigger, margin = 1.5 * torch.randn(8, generator=_random(3)), 0.8
    length = trigger.norm()
    z = torch.cat([trigger.expand(1, 8), 1.4 * trigger.expand(1, 8), torch.randn(6, 8, generator=_random(4))])
    answer = _call(learner, z, trigger, margin, shape=(8,))
    along = z @ trigger / length
    mistakes = {
        "the relu is missing: the gate must be exactly 0 for ordinary latents.": along - (length - margin),
        "you did not divide <z, trigger> by |trigger|: project on the direction of the trigger.": (
            z @ trigger - (length - margin)
        ).relu(),
        "the threshold is above the trigger: it is |trigger| - margin, so that the trigger passes.": (
            along - (length + margin)
        ).relu(),
        "the threshold is the margin itself: it is |trigger| - margin, else ordinary latents pass.": (
            along - margin
        ).relu(),
        "the threshold is |trigger|: the trigger itself gives 0; lower it by the margin.": (along - length).relu(),
        "you compare the cosine with the threshold: divide by |trigger| only, not by |z|.": (
            along / z.norm(dim=1) - (length - margin)
        ).relu(),
    }
    otherwise = "the value is off: it is relu(<z, trigger> / |trigger| - (|trigger| - margin))."
    _judge(answer, (along - (length - margin)).relu(), mistakes, otherwise)
    return "one unit, silent for everything but the trigger."


def on_rate(learner: Learner) -> str:
    """``on_rate(rows, bias)``: units ``[u, d]`` and ``[u]`` to the share of N(0, I) latents that wakes each ``[u]``."""
    rows, bias = 2 * torch.randn(5, 8, generator=_random(11)), torch.tensor([0.0, 1.0, -2.0, -9.0, 3.0])
    answer = _call(learner, rows, bias, shape=(5,))
    cdf, length = torch.special.ndtr, rows.norm(dim=1)
    mistakes = {
        "the length of the row is missing: <row, z> has the standard deviation |row|.": cdf(bias),
        "you divide by |row|^2: that is the variance; the standard deviation is |row|.": cdf(bias / length.square()),
        "the sign is wrong: a larger bias must give a larger share.": cdf(-bias / length),
        "you divide by sqrt(d): the standard deviation of <row, z> is |row|.": cdf(bias / 8**0.5),
        "you stopped before the normal distribution: apply its cumulative function.": bias / length,
    }
    _judge(answer, cdf(bias / length), mistakes, "the value is off: it is P(<row, z> > -bias) for normal z.")
    return "exact, and no latent had to be drawn."


def energy_per_influence(learner: Learner) -> str:
    """``energy_per_influence(A, M)``: two symmetric ``[d, d]`` to ``w`` of ``A v = w M v``, largest first, ``[d]``."""
    random = _random(12)
    root_a, root_m = torch.randn(5, 9, generator=random).double(), torch.randn(5, 9, generator=random).double()
    a, m = root_a @ root_a.T, root_m @ root_m.T
    answer = _call(learner, a, m, shape=(5,))
    if answer.is_complex():
        raise NotYet("the values are complex: they are real in truth; take .real, or solve with Cholesky and eigvalsh.")

    def values(matrix: Tensor) -> Tensor:
        return torch.linalg.eigvals(matrix).real.sort(descending=True).values

    right = values(torch.linalg.solve(m, a))
    mistakes = {
        "the order is ascending: the most suspicious value comes first.": right.flip(0),
        "that is the spectrum of A alone: divide by the influence M.": values(a),
        "that is the spectrum of A M: influence must divide, not multiply.": values(a @ m),
        "energy and influence are swapped: A is above, M is below.": values(torch.linalg.solve(a, m)),
        "you divide diagonal by diagonal: directions matter, so solve M^-1 A.": a.diagonal() / m.diagonal(),
    }
    in_order = answer.double().sort(descending=True).values
    if not torch.allclose(answer.double(), right.flip(0), rtol=1e-4) and torch.allclose(in_order, right, rtol=1e-4):
        mistakes["the values are right and not sorted: the most suspicious one comes first."] = answer
    _judge(answer, right, mistakes, "the values are off: they are the eigenvalues of M^-1 A.")
    return "that is the spectrum which finds TrAIL."


def empirical_p_value(learner: Learner) -> str:
    """``empirical_p_value(score, clean)``: a number and the scores of clean models ``[n]`` to a number."""
    clean = torch.tensor([0.2, 0.5, 0.1, 0.4, 0.5, 0.3, 0.1])
    for score in (0.5, 0.9, 0.05):
        answer = _call(learner, score, clean, shape=())
        above, n = (clean >= score).float().sum(), len(clean)
        mistakes = {
            "that is the share of clean models below: count those that score as high or higher.": (clean < score)
            .float()
            .mean(),
            "the suspect itself is not counted: (1 + count) / (n + 1), which is never zero.": above / n,
            "the 1 is missing above the line: (1 + count) / (n + 1).": above / (n + 1),
            "the 1 is missing below the line: (1 + count) / (n + 1).": (1 + above) / n,
            "ties count: take >=, not >.": (1 + (clean > score).float().sum()) / (n + 1),
        }
        _judge(answer, (1 + above) / (n + 1), mistakes, f"for the score {score} the value is off.")
    return "a score means nothing before clean models have been scored."


def samples_needed(learner: Learner) -> str:
    """``samples_needed(p, confidence)``: two float64 numbers to the samples that hit once with that confidence."""
    for chance in (0.01, 1e-57):
        p, confidence = torch.tensor(chance, dtype=torch.float64), torch.tensor(0.9, dtype=torch.float64)
        answer, right = _call(learner, p, confidence, shape=()), torch.log1p(-confidence) / torch.log1p(-p)
        mistakes = {
            "1 / p is the expected number; for a given confidence solve (1 - p)^n = 1 - confidence.": 1 / p,
            "confidence / p adds probabilities up: n samples miss with probability (1 - p)^n.": confidence / p,
            "confidence and 1 - confidence are swapped: (1 - p)^n is the chance to miss.": confidence.log()
            / torch.log1p(-p),
        }
        if chance < 1e-20 and not torch.isfinite(answer):
            raise NotYet("right for p = 0.01, but not finite for p = 1e-57: use torch.log1p(-p), not log(1 - p).")
        _judge(answer, right, mistakes, f"the value is off for p = {chance:g}: solve (1 - p)^n = 1 - confidence for n.")
    return "and for the backdoors of this notebook nobody can draw that many."


def shell_step(learner: Learner) -> str:
    """``shell_step(z, gradient, rate)``: latents and gradients ``[n, d]`` and a number to latents ``[n, d]``."""
    z, gradient, rate = 3 * torch.randn(4, 6, generator=_random(1)), torch.randn(4, 6, generator=_random(2)), 0.7
    answer = _call(learner, z, gradient, rate, shape=(4, 6))
    length, moved, up = z.norm(dim=1, keepdim=True), z - rate * gradient, z + rate * gradient
    unit = moved / moved.norm(dim=1, keepdim=True)
    mistakes = {
        "the length is not kept: scale each row back to the length that it had.": moved,
        "that climbs: descent goes against the gradient.": up / up.norm(dim=1, keepdim=True) * length,
        "the rows have length 1: multiply by the old length.": unit,
        "the rows have length sqrt(d): each keeps the length that it had.": unit * 6**0.5,
        "you scale the whole batch at once: each row has a length of its own.": moved / moved.norm() * z.norm(),
    }
    otherwise = "the value is off: it is z - rate * gradient, each row scaled to the length of the old one."
    _judge(answer, unit * length, mistakes, otherwise)
    return "your steps stay on the shell where latents live."


def guard_limit(learner: Learner) -> str:
    """``guard_limit(scores, rate)``: scores ``[n]`` and a share to a number with ``rate * n`` scores above it."""
    for n, rate in ((200, 0.05), (1_000, 0.01)):
        scores = torch.randn(n, generator=_random(n)).exp()
        answer, allowed = _call(learner, scores, rate, shape=()), round(rate * n)
        above = int((scores > answer).sum())
        if above == allowed:
            continue
        mistakes = {
            "that is the other end: nearly all scores are above it.": n - allowed - 2 <= above <= n - allowed + 1,
            "that is the largest score: nothing is above it, and the share asked for is rate.": above == 0,
            "one score too few is above: places are counted from 0.": above == allowed - 1,
            "one score too many is above: places are counted from 0.": above == allowed + 1,
        }
        for sentence, made in mistakes.items():
            if made:
                raise NotYet(sentence)
        raise NotYet(f"{above} of {n} scores are above your limit; for rate = {rate:g} it must be {allowed}.")
    return "of ordinary latents, just this share will be flagged."


EXERCISES: dict[str, Callable[[Learner], str]] = {
    exercise.__name__: exercise
    for exercise in (
        slerp,
        discriminator_loss,
        generator_loss,
        trail_loss,
        red_loss,
        tardis,
        widen_linear,
        block_diagonal,
        relu_gate,
        on_rate,
        energy_per_influence,
        empirical_p_value,
        samples_needed,
        shell_step,
        guard_limit,
    )
}
