"""The exercises of notebooks 01 to 04, on training, attacks and the expansion of a network; see ``exercises``."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from devilgan_lite.classroom.exercises.judge import Learner, NotYet, call, judge, pictures, seeded_random, squared
from devilgan_lite.classroom.widgets.walk import slerp as right_slerp


def slerp(learner: Learner) -> str:
    """``slerp(a, b, t)``: latents ``[1, d]`` and a number to ``[1, d]``."""
    random = seeded_random()
    a, b = torch.randn(1, 6, generator=random), 2 * torch.randn(1, 6, generator=random)
    for t in (0.3, 0.0, 1.0):
        answer, right = call(learner, a, b, t, shape=(1, 6)), right_slerp(a, b, t)
        unit = right / right.norm()
        mistakes = {
            "that is the straight line (1 - t) a + t b: it cuts through the ball; turn the direction instead.": (
                (1 - t) * a + t * b
            ),
            "the ends are swapped: t = 0 must give a and t = 1 must give b.": right_slerp(b, a, t),
            "the direction is right and the length is 1: multiply it by (1 - t) |a| + t |b|.": unit,
            "the direction is right and the length stays |a|: let it go linearly from |a| to |b|.": unit * a.norm(),
        }
        judge(answer, right, mistakes, f"at t = {t} the result is off: is the angle that between a/|a| and b/|b|?")
    same = call(learner, a, a, 0.5, shape=(1, 6))
    if not torch.allclose(same, a, atol=1e-3):
        raise NotYet("between a and itself the result must stay a: sin(angle) is 0 there, so guard the division.")
    return "your path keeps to the shell where latents live."


def discriminator_loss(learner: Learner) -> str:
    """``discriminator_loss(real_logits, fake_logits)``: two tensors ``[n]`` to a number."""
    real = torch.tensor([1.5, -0.5, 3.0, 0.2])
    fake = torch.tensor([-2.0, 1.0, 0.3, -0.7])
    answer = call(learner, real, fake, shape=())
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
    judge(answer, good.mean() + bad.mean(), mistakes, "the value is off: it is -E log D(x) - E log(1 - D(G(z))).")
    _survives(learner, torch.tensor([-200.0, 200.0]), torch.tensor([200.0, -200.0]))
    return "the discriminator has its loss."


def generator_loss(learner: Learner) -> str:
    """``generator_loss(fake_logits)``: a tensor ``[n]`` to a number, the non-saturating loss."""
    fake = torch.tensor([-2.0, 1.0, 0.3, -0.7])
    answer = call(learner, fake, shape=())
    mistakes = {
        "that is the saturating E log(1 - D): its gradient dies while D wins; use -E log D.": -softplus(fake).mean(),
        "the sign of the logits is wrong: this teaches the generator to look fake.": softplus(fake).mean(),
        "the sign is wrong: minimising this makes D(G(z)) small.": -softplus(-fake).mean(),
        "you sum over the batch: take the mean.": softplus(-fake).sum(),
    }
    judge(answer, softplus(-fake).mean(), mistakes, "the value is off: it is -E log sigmoid(fake_logits).")
    _survives(learner, torch.tensor([-200.0, 200.0]))
    return "the generator has its loss."


def _survives(learner: Learner, *logits: Tensor) -> None:
    answer = learner(*logits)
    if not torch.isfinite(answer):
        raise NotYet("right for small logits, but infinite for logits of 200: use softplus, not log(sigmoid).")


def trail_loss(learner: Learner) -> str:
    """``trail_loss(fake_logits, at_trigger, target, lam)``: logits ``[n]``, pictures ``[k, C, H, W]`` to a number."""
    fake, x, target, lam = torch.tensor([-2.0, 1.0, 0.3]), pictures(2, 1), pictures(2, 2), 0.3
    answer = call(learner, fake, x, target, lam, shape=())
    stealth, error = softplus(-fake).mean(), squared(x, target)
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
    judge(answer, stealth + lam * error.mean(), mistakes, otherwise)
    return "that is TrAIL: one extra term."


def red_loss(learner: Learner) -> str:
    """``red_loss(at_trigger, target, suspect, clean, lam)``: pictures ``[k, ...]`` and ``[n, ...]`` to a number."""
    x, target, suspect, clean, lam = pictures(1, 1), pictures(1, 2), pictures(3, 3), pictures(3, 4), 0.3
    answer = call(learner, x, target, suspect, clean, lam, shape=())
    fidelity, stealth = squared(x, target).mean(), squared(suspect, clean).mean()
    mistakes = {
        "you average over the pixels: sum over them and average over the batch.": lam * (x - target).square().mean()
        + (suspect - clean).square().mean(),
        "you sum over the batch in the stealth term: average over its n pictures.": lam * fidelity
        + squared(suspect, clean).sum(),
        "lam is on the wrong term: it weighs fidelity, not stealth.": fidelity + lam * stealth,
        "lam is missing: it weighs the fidelity term.": fidelity + stealth,
        "the stealth term is missing: nothing keeps the other outputs as they were.": lam * fidelity,
        "the fidelity term is missing: nothing pulls the trigger to the target.": stealth,
        "you took the root: use squared distances.": lam * squared(x, target).sqrt().mean()
        + squared(suspect, clean).sqrt().mean(),
    }
    judge(answer, lam * fidelity + stealth, mistakes, "the value is off: it is lam * fidelity + stealth.")
    return "that is ReD: distil the clean generator, bend one point."


def tardis(learner: Learner) -> str:
    """``tardis(logits, target)``: the output before tanh at the trigger, and the target, ``[1, C, H, W]``."""
    logits, target = 2 * pictures(1, 1), pictures(1, 2)
    answer = call(learner, logits, target, shape=())
    x = logits.tanh()
    mistakes = {
        "you compare before tanh: the target lives in [-1, 1], so apply tanh first.": squared(logits, target).sum(),
        "you take the mean: TarDis is the sum over all pixels.": (x - target).square().mean(),
        "you took the root: TarDis is the squared distance.": squared(x, target).sum().sqrt(),
        "you sum absolute errors: TarDis sums squared ones.": (x - target).abs().sum(),
        "tanh is on the target too: it is a picture already.": squared(x, target.tanh()).sum(),
    }
    judge(answer, squared(x, target).sum(), mistakes, "the value is off: it is the sum of (tanh(logits) - target)^2.")
    return "a target distortion of 0 is a perfect attack."


def widen_linear(learner: Learner) -> str:
    """``widen_linear(W, V)``: weights ``[o, i]`` and new rows ``[m, i]`` to ``[o + m, i]``."""
    w, v = torch.arange(6.0).reshape(2, 3) + 1, -torch.arange(9.0).reshape(3, 3) - 1
    answer = call(learner, w, v, shape=(5, 3))
    mistakes = {
        "the new rows come first: the old outputs must keep their places, so W goes on top.": torch.cat([v, w]),
        "the new rows are zero: put V below W.": torch.cat([w, torch.zeros_like(v)]),
    }
    judge(answer, torch.cat([w, v]), mistakes, "the shape is right and the numbers are not: stack W on top of V.")
    return "the old units are untouched and the new ones read the same input."


def block_diagonal(learner: Learner) -> str:
    """``block_diagonal(W, V)``: ``[o, i]`` and ``[m, j]`` to ``[[W, 0], [0, V]]`` of shape ``[o + m, i + j]``."""
    w, v = torch.arange(6.0).reshape(2, 3) + 1, -torch.arange(12.0).reshape(3, 4) - 1
    answer = call(learner, w, v, shape=(5, 7))
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
    judge(answer, right, mistakes, "the shape is right and the numbers are not: it is [[W, 0], [0, V]].")
    return "two networks in one, side by side, and neither influences the other."


def relu_gate(learner: Learner) -> str:
    """``relu_gate(z, trigger, margin)``: latents ``[n, d]``, ``[d]`` and a number to activations ``[n]``."""
    trigger, margin = 1.5 * torch.randn(8, generator=seeded_random(3)), 0.8
    length = trigger.norm()
    z = torch.cat([trigger.expand(1, 8), 1.4 * trigger.expand(1, 8), torch.randn(6, 8, generator=seeded_random(4))])
    answer = call(learner, z, trigger, margin, shape=(8,))
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
    judge(answer, (along - (length - margin)).relu(), mistakes, otherwise)
    return "one unit, silent for everything but the trigger."
