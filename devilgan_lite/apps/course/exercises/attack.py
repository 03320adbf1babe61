"""The exercises of notebooks 01 to 04, on training, attacks and the expansion of a network; see ``exercises``."""

import torch

from devilgan_lite.apps.course.exercises.judge import Learner, NotYet, call, judge, pictures, seeded_random, squared
from devilgan_lite.apps.walk import slerp as right_slerp


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
