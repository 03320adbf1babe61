"""``smaller_kernel(kernel, before, after)``: ``[c, o, k, k]``, ``[p]`` and ``[q]`` to ``[p, q, k, k]``."""

import torch

from devilgan_lite.apps.course.exercise import Exercise, normal


def smaller_kernel(kernel, before, after):
    return kernel[before][:, after]


KERNEL = normal(5, 5, 2, 2, seed=32)

exercise = Exercise(
    smaller_kernel,
    hints=(
        "kernel[before, after] picks pairs, not rows and columns. Do it in two steps.",
        "kernel[before] keeps rows; on the result, [:, after] keeps columns.",
    ),
    cases=lambda: [
        (KERNEL, torch.tensor([0, 3, 4]), torch.tensor([1, 2, 4])),
        (KERNEL, torch.tensor([2]), torch.arange(5)),
    ],
    mistakes={
        "the axes are swapped: `before` picks along the first, `after` along the second.": (
            lambda kernel, before, after: kernel[:, before][after]
        ),
        "`before` was used for both axes.": lambda kernel, before, after: kernel[before][:, before],
        "`after` was used for both axes.": lambda kernel, before, after: kernel[after][:, after],
        "you took the first channels: take those that the lists name.": (
            lambda kernel, before, after: kernel[: len(before), : len(after)]
        ),
        "you swapped in and out in the result: keep the order [in, out, k, k].": (
            lambda kernel, before, after: kernel[before][:, after].transpose(0, 1)
        ),
        "you turned the kernel around: keep its last two axes as they are.": (
            lambda kernel, before, after: kernel[before][:, after].flip((2, 3))
        ),
        "that is zero: a kept weight keeps its value.": lambda kernel, before, after: 0 * kernel[before][:, after],
    },
    otherwise="the shape is right, but these are not the weights of the kept.",
    praise="the rest is really gone, and the file is smaller.",
)
