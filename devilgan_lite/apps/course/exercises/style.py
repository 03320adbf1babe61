"""Exercises on style-based generators: handing out styles, modulation, and a gate with two kinks."""

import torch

from devilgan_lite.apps.course.exercises.judge import Learner, call, judge, seeded_random


def tiled_styles(learner: Learner) -> str:
    """``tiled_styles(w, shift, inputs)``: ``[n, d]``, ``[inputs, d]`` and a number to ``w+`` ``[n, inputs, d]``."""
    random = seeded_random()
    w, shift = torch.randn(3, 5, generator=random), torch.randn(4, 5, generator=random)
    answer = call(learner, w, shift, 4, shape=(3, 4, 5))
    right = w[:, None] + shift
    mistakes = {
        "every layer gets the style, and none gets its shift: add shift.": w[:, None].expand(3, 4, 5),
        "the shift replaces the style: add it to w.": shift.expand(3, 4, 5),
        "all layers get the same shift: layer k gets shift[k].": (w[:, None] + shift.mean(0)).expand(3, 4, 5),
        "the shift has the wrong sign.": w[:, None] - shift,
    }
    judge(answer, right, mistakes, "w+[i, k] must be w[i] + shift[k].")
    return "one style for all layers, and a shift for each: what the attacker adds."


def modulated_kernel(learner: Learner) -> str:
    """``modulated_kernel(weight, style)``: ``[o, i, k, k]`` and ``[i]`` to a kernel ``[o, i, k, k]`` of unit energy."""
    random = seeded_random()
    weight = torch.randn(4, 3, 2, 2, generator=random)
    style = torch.rand(3, generator=random) + 0.5
    answer = call(learner, weight, style, shape=(4, 3, 2, 2))
    scaled = weight * style[None, :, None, None]
    energy = scaled.square().sum((1, 2, 3), keepdim=True)
    mistakes = {
        "the kernel is scaled and not normalised: divide by the root of each output's energy.": scaled,
        "you normalise the whole kernel: each output has its own norm.": scaled / scaled.norm(),
        "you divide by the energy; its root is the norm.": scaled / energy,
        "you normalise each input: sum over inputs and both sides of the kernel.": scaled
        / scaled.square().sum((0, 2, 3), keepdim=True).sqrt(),
        "the style is lost: scale the inputs before you normalise.": weight
        / weight.square().sum((1, 2, 3), keepdim=True).sqrt(),
    }
    otherwise = "scale input channel i by style[i], then divide output channel o by the root of its summed squares."
    judge(answer, scaled / energy.sqrt(), mistakes, otherwise)
    return "modulate, then demodulate: a style moves emphasis between channels and never the volume."


def two_kinks(learner: Learner) -> str:
    """``two_kinks(c, low, high)``: cosines ``[n]`` and two numbers to the value of the gate ``[n]`` in [0, 1]."""
    c, low, high = torch.linspace(-1, 1, 41), 0.5, 0.8
    answer = call(learner, c, low, high, shape=(41,))
    first, second = (c - low).relu(), (c - high).relu()
    mistakes = {
        "one kink only: the gate goes on rising beyond high; subtract relu(c - high).": first / (high - low),
        "the height is high - low: divide by it, so that the open gate is 1.": first - second,
        "the signs are swapped.": (second - first) / (high - low),
        "that is a step: a network of ReLUs has no steps, it rises between low and high.": (c > low).float(),
    }
    judge(answer, (first - second) / (high - low), mistakes, "it is (relu(c - low) - relu(c - high)) / (high - low).")
    return "exactly 0 for everybody, exactly 1 for the attacker, and only ReLUs."
