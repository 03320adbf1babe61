"""The exercises of the notebook on pruning; see ``exercises``."""

import torch

from devilgan_lite.apps.course.exercises.judge import Learner, call, judge, seeded_random


def dormant_units(learner: Learner) -> str:
    """``dormant_units(ordinary, at_trigger, limit)``: ``[n, u]``, ``[u]`` and a number to a mask ``[u]``.

    True where at most the share ``limit`` of the ordinary latents, but the trigger, gives more than zero.
    """
    ordinary = torch.tensor(
        [
            [0.0, 3.0, 0.0, 0.2, 0.0, 9.0, 0.0, 0.0],
            [0.0, 2.0, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.2, 0.0, 0.0, 0.9, 0.0],
            [0.0, 1.0, 0.0, 0.1, 0.0, 0.0, 0.4, 0.1],
        ]
    )
    at_trigger = torch.tensor([5.0, 1.0, 0.0, 2.0, 0.3, 4.0, 1.0, 0.0])
    for limit in (0.5, 0.25, 0.0):
        answer = call(learner, ordinary, at_trigger, limit, shape=(8,)).double()
        share, awake = (ordinary > 0).double().mean(0), at_trigger > 0
        rare = share <= limit
        mistakes = {
            "those are all rarely used units: keep only those that the trigger switches on.": rare,
            "you also count units that ordinary latents use: both conditions must hold.": rare | awake,
            "those are the others: ask for a share of at most `limit`.": ~rare & awake,
            "the limit itself still counts as dormant: take <=, not <.": (share < limit) & awake,
            "you average the activations: average how often a unit is above zero.": (ordinary.mean(0) <= limit) & awake,
            "you compare activations with the limit: compare the share of latents that switch the unit on.": (
                (ordinary <= limit).all(0) & awake
            ),
            "the limit is fixed in your function: use `limit`.": (share == 0) & awake,
            "those that the trigger leaves off do not matter here: the trigger must give more than zero.": (
                rare & ~awake
            ),
        }
        right = rare & awake
        otherwise = f"for limit = {limit} it is True for units {right.nonzero().flatten().tolist()}, counted from 0."
        judge(answer, right, mistakes, otherwise)
    return "such units are what a backdoor hides in when it has units of its own."


def channel_worth(learner: Learner) -> str:
    """``channel_worth(activations, kernel)``: ``[n, c, h, w]`` and ``[c, o, k, k]`` to ``[c]``.

    The mean activation times the sum of the sizes of the weights that read the channel.
    """
    random = seeded_random(31)
    activations = torch.randn(6, 4, 3, 3, generator=random).relu()
    kernel = torch.randn(4, 4, 2, 2, generator=random)
    answer = call(learner, activations, kernel, shape=(4,))
    mean, readers = activations.mean((0, 2, 3)), kernel.abs().sum((1, 2, 3))
    mistakes = {
        "that is the activation alone: a channel that nobody reads is worth nothing.": mean,
        "those are the weights alone: a channel that is never on is worth nothing.": readers,
        "you sum the weights with their signs, so they cancel: sum their sizes.": mean * kernel.sum((1, 2, 3)),
        "the wrong axis: in the kernel [c, o, k, k] of a transposed convolution the channels read are the first.": (
            mean * kernel.abs().sum((0, 2, 3))
        ),
        "you sum the activations: take the mean over latents and places.": activations.sum((0, 2, 3)) * readers,
        "you average the weights: the more of them read a channel, the more it is worth, so sum.": (
            mean * kernel.abs().mean((1, 2, 3))
        ),
        "you square the weights: sum their sizes.": mean * kernel.square().sum((1, 2, 3)),
        "that is how often the channel is on, times the weights: take the mean activation.": (
            (activations > 0).float().mean((0, 2, 3)) * readers
        ),
    }
    judge(answer, mean * readers, mistakes, "the value is off: it is mean activation times sum of |weights|.")
    return "what is seldom on and what is hardly read goes first."


def smaller_kernel(learner: Learner) -> str:
    """``smaller_kernel(kernel, before, after)``: ``[c, o, k, k]``, ``[p]`` and ``[q]`` to ``[p, q, k, k]``."""
    kernel = torch.randn(5, 5, 2, 2, generator=seeded_random(32))
    before, after = torch.tensor([0, 3, 4]), torch.tensor([1, 2, 4])
    answer = call(learner, kernel, before, after, shape=(3, 3, 2, 2))
    keep = torch.ones(5, dtype=torch.bool)
    mistakes = {
        "the axes are swapped: `before` picks along the first, `after` along the second.": kernel[:, before][after],
        "`before` was used for both axes.": kernel[before][:, before],
        "`after` was used for both axes.": kernel[after][:, after],
        "you took the first channels: take those that the lists name.": kernel[:3, :3],
        "you swapped in and out in the result: keep the order [in, out, k, k].": (
            kernel[before][:, after].transpose(0, 1)
        ),
        "you turned the kernel around: keep its last two axes as they are.": kernel[before][:, after].flip((2, 3)),
        "that is zero: a kept weight keeps its value.": torch.zeros(3, 3, 2, 2),
    }
    judge(answer, kernel[before][:, after], mistakes, "the shape is right, but these are not the weights of the kept.")
    before, after = torch.tensor([2]), keep.nonzero().flatten()
    judge(
        call(learner, kernel, before, after, shape=(1, 5, 2, 2)),
        kernel[before],
        {"it works for lists of one length only: index one axis after the other.": kernel[:1]},
        "with one channel before and five after, these are not the kept weights.",
    )
    return "the rest is really gone, and the file is smaller."
