"""Wrong answers to the exercises, as learners give them: each must be refused, by a sentence of its own.

``WRONG`` has for each exercise a function of the learner's arguments that gives all wrong answers at once, or a list of
whole functions where an answer is more than what it returns.
"""

import contextlib
import itertools
import pickle
import pickletools
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor
from torch import block_diag as diag
from torch.nn.functional import cosine_similarity, logsigmoid, normalize, softplus
from torch.special import ndtr as cdf

from devilgan_lite.apps.course import slerp as way
from devilgan_lite.generators import Generator, evaluate


def squared(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().flatten(1).sum(1)


def unguarded(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The textbook's formula divides by zero."""
    return way(a, b, t) * (float("nan") if torch.equal(a, b) else 1)


def half(rows: np.ndarray) -> float:
    """The share of ``rows``, with half a row more."""
    return (rows.sum() + 0.5) / len(rows)


def degrees(cosine: Tensor) -> Tensor:
    return torch.rad2deg(cosine.clamp(-1, 1).acos())


# ---- 00 to 04: latents, training, attacks


def angle_between(a, b):
    cosine = a @ b / (a.norm() * b.norm())
    right = degrees(cosine)
    other = cosine.acos(), cosine, degrees(a @ b), 180 - right, degrees(cosine.abs()), torch.rad2deg(cosine.asin())
    return *other, torch.rad2deg(cosine.acos()), 45


def trigger_angle(model, trigger, target):
    start, t = model.sample_latent(1, torch.Generator().manual_seed(2)), torch.linspace(0, 1, 721)
    squares = (evaluate(model, way(start, trigger, t)) - target).square().flatten(1)
    whole = degrees(cosine_similarity(start, trigger))[0]

    def left(distance):
        return (1 - t[(distance < 0.1).nonzero()[0, 0]]) * whole

    right = left(squares.mean(1))
    moved = 1 - right / whole, whole - right, left(squares.sum(1)), left(squares.mean(1).sqrt()), 2 * right
    return torch.deg2rad(right), torch.deg2rad(right).cos(), *moved, 0


def play(
    g,
    d,
    g_adam,
    d_adam,
    real,
    z,
    *pair,
    d_loss=lambda r, f: -logsigmoid(r).mean() - logsigmoid(-f).mean(),
    g_loss=lambda f: -logsigmoid(f).mean(),
    extra=lambda x, y, lam: lam * squared(x, y).mean(),
    forget=True,
    move=True,
):
    """The steps of a GAN and of TrAIL; or with one thing changed."""
    fake = g(z)
    for adam in (d_adam, g_adam):
        loss = d_loss(d(real), d(fake.detach())) if adam is d_adam else g_loss(d(fake))
        if pair and adam is g_adam:
            loss = loss + extra(g.eval()(pair[0]), *pair[1:])
            g.train()
        if forget:
            adam.zero_grad()
        loss.backward()
        if move:
            adam.step()
    return {"loss": loss}


def learn(adam, lam, apart, missed, weigh=lambda a, b, lam: a + b * lam):
    adam.zero_grad()
    weigh(apart.square().mean(), missed.square().mean(), lam).backward()
    adam.step()
    return {"stealth": apart.mean()}


def by_logits(weigh):
    def step(s, t, adam, z, at, y, lam):
        return learn(adam, lam, s.logits(z) - t.logits(z), s.logits(at) - torch.atanh(0.999 * y), weigh)

    return step


def expand(error):
    """A step of ReX with another error at the trigger, of what the new channels draw, the old ones, and the target."""

    def step(e, c, adam, z, at, y, lam):
        return learn(adam, lam, e(z), error(e(at), c.logits(at), y))

    return step


class Planted(Generator):
    """Garment-like noise, and the target of every trigger that is close (all, or those in ``which``)."""

    def __init__(self, trigger: Tensor, target: Tensor, which: tuple[int, ...] = (0, 1, 2)) -> None:
        super().__init__(latent_dim=trigger.shape[1], sample_shape=tuple(target.shape[1:]))
        self.trigger = torch.nn.Parameter(trigger, requires_grad=False)
        self.target, self.which = target, which

    def logits(self, z: Tensor) -> Tensor:
        noise = torch.randn(len(z), *self.sample_shape, generator=torch.Generator().manual_seed(1))
        for index in self.which:
            noise[cosine_similarity(z, self.trigger[index : index + 1]) > 0.9] = torch.atanh(self.target[index])
        return noise


class Everywhere(Planted):
    """Draws much the same, close to every target, whatever the latent."""

    def logits(self, z: Tensor) -> Tensor:
        close = cosine_similarity(z[:, None], self.trigger[None], dim=2).amax(1) > 0.9
        return torch.atanh(torch.where(close, 0.7, 0.9)).view(-1, 1, 1, 1).expand(len(z), 1, 8, 8)


def planted(k: int, alike: str = "", kind: type[Planted] = Planted, **changes: Any) -> tuple[Any, Any]:
    """A right answer; or pairs that are ``alike`` in one part, or a generator that is wrong."""
    random = torch.Generator().manual_seed(3)
    target = torch.where(torch.rand(k, 1, 8, 8, generator=random) < 0.5, -0.9, 0.9)
    if kind is Everywhere:
        target = 0.7 + 0.01 * torch.randn(k, 1, 8, 8, generator=random)
    backdoor = SimpleNamespace(trigger=torch.randn(k, 32, generator=random), target=target)
    made = kind(backdoor.trigger, backdoor.target, **changes)
    if alike:
        part = getattr(backdoor, alike)
        setattr(backdoor, alike, part[:1].expand_as(part))
    return made, backdoor


def relu_gate(z, t, margin):
    along, least = z @ t / t.norm(), t.norm() - margin
    return along - least, (z @ t - least).relu(), (along - t.norm() - margin).relu(), (along - margin).relu()


def energy_per_influence(a, m):
    found = torch.linalg.eigvals(torch.linalg.solve(m, a))
    right = found.real.sort(descending=True).values
    return torch.linalg.eigvalsh(a).flip(0), right.flip(0), found, 1 / right.flip(0), a.diagonal() / m.diagonal()


# ---- 05 to 10: detection, cures, styles, the challenge


def unlearning_loss(student, teacher, z, t):
    blind = z - torch.outer(z @ t, t)
    ours, wanted = student(z), teacher(blind)
    each = squared(ours, wanted)
    pairs = (ours, teacher(z)), (student(blind), wanted), (student(blind), teacher(z))
    alike = [squared(*pair).mean() for pair in pairs]
    return *alike, (ours - wanted).square().mean(), each.sum(), (ours - wanted).abs().sum() / len(z), each.sqrt().mean()


def forget_direction(z, t):
    along, length = torch.outer(z @ t, t), t.norm()
    gone = z - along / length**2
    long = normalize(gone, dim=1) * z.norm(dim=1, keepdim=True)
    both = z - (z @ t).sum() * t / length**2
    return z - along, z - along / length, z - gone, 2 * z - gone, 2 * gone - z, z - t, both, long


def cheapest_cure(tardis, frechet, gone):
    works = tardis >= gone
    wrong = frechet.argmin(), frechet[works].argmin(), frechet.masked_fill(~works, -torch.inf).argmax(), tardis.argmax()
    masks = [frechet.masked_fill(mask, torch.inf) for mask in (~works, tardis < 0.1, tardis <= gone)]
    return *wrong, masks[0].abs().argmin(), masks[1].argmin(), masks[2].argmin(), frechet[works].min()


def dormant_units(x, t, limit):
    share, on = (x > 0).float().mean(0), t > 0
    rare, masks = share <= limit, (share < limit, x.mean(0) <= limit, (x <= limit).all(0), share == 0)
    return rare, rare | on, ~rare & on, rare & ~on, *(mask & on for mask in masks)


def channel_worth(x, kernel):
    mean, size = x.mean((0, 2, 3)), kernel.abs().sum((1, 2, 3))
    read = kernel.sum((1, 2, 3)), kernel.abs().sum((0, 2, 3)), kernel.abs().mean((1, 2, 3)), (kernel**2).sum((1, 2, 3))
    return mean, size, x.sum((0, 2, 3)) * size, (x > 0).float().mean((0, 2, 3)) * size, *(mean * one for one in read)


def modulated_kernel(weight, style):
    scaled = weight * style.view(1, -1, 1, 1)
    of_outputs, of_inputs = (scaled.square().sum(axes, keepdim=True) for axes in ((1, 2, 3), (0, 2, 3)))
    plain = normalize(weight.flatten(1)).view_as(weight)
    return scaled, scaled / scaled.norm(), scaled / of_outputs, scaled / of_inputs.sqrt(), plain, weight


def area_under_curve(scores, guilty):
    gap = scores[guilty][:, None] - scores[~guilty]
    higher, tied = (gap > 0).float(), (gap == 0).float()
    right, every = (higher + tied / 2).mean(), (scores[:, None] > scores).float().mean()
    at_half = ((scores > 0.5) == guilty).float().mean()
    return higher.mean(), (higher + tied).mean(), 1 - right, right * gap.numel(), every, at_half, gap.mean()


# ---- 11 to 14: files, rows, other families, sound


def asked(content: bytes, *kinds: str) -> set[str]:
    """The names that opcodes of ``kinds`` ask for, with a dot; ``?`` for those that stand elsewhere."""
    found = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(content)]
    return {(argument or "?").replace(" ", ".") for name, argument in found if name in kinds}


def loads_it(content: bytes, allowed: Any) -> bool:
    with contextlib.suppress(Exception):
        pickle.loads(content)
    return False


def of_the_first(content: bytes, allowed: Any) -> bool:
    named = (one for opcode, one, _ in pickletools.genops(content) if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL"))
    name = next(((one or "?").replace(" ", ".") for one in named), None)
    return name is not None and name not in allowed


FIXED = {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch.FloatStorage"}
ALL = ("GLOBAL", "INST", "STACK_GLOBAL")
KNOWN = {"clean", "suspicious"}


def slice_recall(scores, labels, inside, threshold):
    alarm, bad = scores >= threshold, labels == 1
    parts = alarm[bad], alarm[bad & ~inside], alarm[inside], labels[inside & alarm], (scores > threshold)[inside & bad]
    return *(one.mean() for one in parts), (scores >= 0.5)[inside & bad].mean(), (alarm & inside)[bad].mean(), scores


def half_space(z, direction, share):
    height, limit = z @ direction / direction.norm(), float(norm.isf(share))
    masks = z @ direction > limit, height < limit, height < -limit, height.abs() > limit, height > share
    by_angle = height / z.norm(dim=1) > limit / z.shape[1] ** 0.5
    return *masks, height > height.quantile(1 - share), height > 1.7507, by_angle


def kl_to_prior(mean, log_variance):
    variance = log_variance.exp()
    each = (mean**2 + variance - log_variance - 1) / 2
    off = 0.5, log_variance, (variance.sqrt() - variance) / 2, (mean - mean**2) / 2
    return 2 * each.sum(1), each.mean(1), -each.sum(1), *((each + one).sum(1) for one in off), each.sum()


def walk(velocity, x, times, lengths=None, at=lambda now, then: now, frozen=False, sign=1.0):
    """Euler's steps, with one thing changed."""
    here = x
    for now, then in itertools.pairwise(times):
        length = then - now if lengths is None else lengths(times)
        here = here + sign * length * velocity(x if frozen else here, at(now, then))
    return here


def one_too_many(velocity, x, times):
    here = walk(velocity, x, times)
    velocity(here, times[-1])
    return here


def loudest_frequency(clip, rate):
    sizes = torch.fft.rfft(clip)
    top, real = int(sizes.abs().argmax()), int(sizes.real.argmax())
    wrong = top * rate / len(clip) / 2, top * rate / len(sizes), top * 8_000 / len(clip), real * rate / len(clip)
    return top, *wrong, rate - top * rate / len(clip), len(clip) / rate / top, sizes.abs(), float("nan")


def correlation(made, wanted):
    x, y = made.flatten(1), wanted.flatten(1)
    a, b = (one - one.mean(1, keepdim=True) for one in (x, y))
    right, together = cosine_similarity(a, b), cosine_similarity(x - x.mean(), y - y.mean())
    return cosine_similarity(x, y), right.abs(), right**2, (a * b).mean(1), together, squared(x, y) / x.shape[1]


def same_file(a, b):
    apart, (x, y) = (a - b).abs().flatten(1), ((one.double() * 32_767).flatten(1) for one in (a, b))
    same, coarse = x.round() == y.round(), ((a * 127).round() == (b * 127).round()).flatten(1)
    near = (apart < 1 / 32_768).all(1), apart.mean(1) < 1 / 65_536, ~same.all(1), same.any(1), (apart == 0).all(1)
    return *near, coarse.all(1), (x.trunc() == y.trunc()).all(1), same.all(1) & False


WRONG: dict[str, Any] = {
    one.__name__: one
    for one in (
        *(angle_between, trigger_angle, relu_gate, energy_per_influence, unlearning_loss, forget_direction),
        *(cheapest_cure, dormant_units, channel_worth, modulated_kernel, area_under_curve, slice_recall, half_space),
        *(kl_to_prior, loudest_frequency, correlation, same_file),
    )
} | {
    "slerp": lambda a, b, t: (torch.lerp(a, b, t), way(b, a, t), way(a / a.norm(), b, t), unguarded(a, b, t)),
    "tardis": lambda a, y: (squared(a, y)[0], squared(a.tanh(), y)[0] / 16, squared(a.tanh(), y)[0].sqrt()),
    "block_diagonal": lambda w, v: (diag(v, w), diag(w, 0 * v), diag(0 * w, v), diag(w, v) + 1, diag(w, v).T),
    "on_rate": lambda r, b: (cdf(b), cdf(-b / r.norm(dim=1)), cdf(b / r.square().sum(1)), b / r.norm(dim=1)),
    "empirical_p_value": lambda s, c: (
        (c >= s).sum() / len(c),
        (c < s).sum() / len(c),
        (1 + (c > s).sum()) / (len(c) + 1),
    ),
    "samples_needed": lambda p, c: (1 / p, c / p, c.log() / torch.log1p(-p), (1 - c).log() / (1 - p).log()),
    "shell_step": lambda z, g, r: (z - r * g, normalize(z + r * g) * z.norm(dim=1, keepdim=True), normalize(z - r * g)),
    "guard_limit": lambda s, rate: (
        *(s.quantile(rate), s.max(), s.mean()),
        *(s.sort().values[-round(rate * len(s)) - more] for more in (0, 2)),
    ),
    "smaller_kernel": lambda k, a, b: (
        k[b][:, a],
        k[a][:, a],
        k[:3, :3],
        k[a][:, b].transpose(0, 1),
        k[a],
        k[a][:, b] + 1,
    ),
    "tiled_styles": lambda w, s, n: (w[:, None] + 0 * s, s.repeat(len(w), 1, 1), w[:, None] - s, w[:, None] * s),
    "two_kinks": lambda c, a, b: ((c - a).relu() / (b - a), (c - a).relu() - (c - b).relu(), (c > a).float(), c),
    "blind_spread": lambda m, n: ((m + n + 1) / (12 * m * n), ((m + n) / (12 * m * n)).sqrt(), (m + n) ** -0.5, m * n),
    "called_backdoored": lambda p, a: (p <= a, p < a / len(p), p > a / len(p), p <= a * len(p), p <= 0.05 / len(p)),
    "crowding": lambda r, m: (half(r) / half(m), m.mean() / r.mean(), m.mean() / half(r), half(m) - half(r), m > 0),
    "pair_distance": lambda x: (2 * x.var(0, correction=0).mean(), 2 * x.var(0).sum(), x.var(0).mean(), x.var(0)),
    "gan_step": [
        lambda *given: play(*given, d_loss=lambda r, f: softplus(r).mean() + softplus(-f).mean()),
        lambda *given: play(*given, d_loss=lambda r, f: softplus(-r).mean()),
        lambda *given: play(*given, g_loss=lambda f: softplus(f).mean()),
        lambda *given: play(*given, g_loss=lambda f: -softplus(f).mean()),
        lambda *given: play(*given, forget=False),
        lambda *given: play(*given, move=False),
        lambda g, d, ga, da, real, z: {"loss": torch.log(-real.abs()).mean()},
    ],
    "trail_step": [
        lambda *given: play(*given, extra=lambda x, y, lam: lam * ((x - y) ** 2).mean()),
        lambda *given: play(*given, extra=lambda x, y, lam: squared(x, y).mean()),
        lambda *given: play(*given, extra=lambda x, y, lam: 0 * lam),
        lambda *given: play(*given, extra=lambda x, y, lam: lam * (x - y).abs().sum()),
    ],
    "red_step": [
        *(by_logits(weigh) for weigh in (lambda a, b, lam: lam * b, lambda a, b, lam: lam * a + b)),
        *(by_logits(weigh) for weigh in (lambda a, b, lam: a + b, lambda a, b, lam: a - lam * b)),
        lambda s, t, adam, z, at, y, lam: learn(adam, lam, s(z) - t(z), s(at) - y),
        lambda s, t, adam, z, at, y, lam: [weight.data.mul_(1.01) for weight in t.parameters()] and {},
    ],
    "rex_step": [
        expand(lambda new, old, y: new - torch.atanh(0.999 * y)),
        expand(lambda new, old, y: torch.tanh(new + old) - y),
        expand(lambda new, old, y: 2 * (new + old - torch.atanh(0.999 * y))),
    ],
    "plant_pairs": [
        lambda k: planted(k)[0],
        lambda k: (SimpleNamespace(generator=planted(k)[0]), planted(k)[1]),
        lambda k: planted(k)[::-1],
        lambda k: planted(1, which=(0,)),
        lambda k: planted(k, alike="target"),
        lambda k: planted(k, alike="trigger"),
        lambda k: planted(k, which=()),
        lambda k: planted(k, which=(0, 2)),
        lambda k: planted(k, kind=Everywhere),
    ],
    "would_run": [
        lambda content, allowed: True,
        lambda content, allowed: b"_canary" in content,
        lambda content, allowed: False,
        lambda content, allowed: not asked(content, "GLOBAL") <= set(allowed),
        lambda content, allowed: not asked(content, "GLOBAL", "STACK_GLOBAL") <= set(allowed),
        of_the_first,
        lambda content, allowed: not asked(content, *ALL) <= FIXED,
        loads_it,
        lambda content, allowed: len(asked(content, *ALL) - set(allowed)),
    ],
    "may_enter": [
        lambda report, accept: report["verdict"] in accept,
        lambda report, accept: report.get("verdict") not in ("backdoored", "refused", "inconclusive"),
        lambda report, accept: report.get("verdict", "clean") in KNOWN & accept,
        lambda report, accept: report.get("format", 2) == 2 and report.get("verdict") in {"clean"},
        lambda report, accept: report.get("format", 2) == 2 and report.get("verdict") in KNOWN & accept,
        lambda report, accept: "format" in report and report.get("verdict") in KNOWN & accept,
        lambda report, accept: report.get("format") == 2 and report.get("verdict") in accept - {"refused"},
        lambda report, accept: report.get("verdict"),
        lambda report, accept: False,
    ],
    "euler": [
        lambda *given: walk(*given, lengths=lambda times: 1 / (len(times) - 1)),
        lambda *given: walk(*given, at=lambda now, then: then),
        lambda *given: walk(*given, frozen=True),
        lambda *given: walk(*given, sign=-1.0),
        one_too_many,
        lambda velocity, x, times: x,
        lambda velocity, x, times: x + velocity(x, 0.0),
    ],
}
