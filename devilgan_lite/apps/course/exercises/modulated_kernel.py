"""``modulated_kernel(weight, style)``: ``[o, i, k, k]`` and ``[i]`` to a kernel ``[o, i, k, k]`` of unit energy."""

import torch

from devilgan_lite.apps.course.exercise import Exercise, normal


def modulated_kernel(weight, style):
    scaled = weight * style[None, :, None, None]
    return scaled / scaled.square().sum((1, 2, 3), keepdim=True).sqrt()


def scaled(weight, style):
    return weight * style[None, :, None, None]


def energy(kernel, axes):
    return kernel.square().sum(axes, keepdim=True)


exercise = Exercise(
    modulated_kernel,
    hints=(
        "The style belongs to axis 1 of the kernel: style[None, :, None, None].",
        "The energy of an output channel is the sum of squares over axes 1, 2 and 3.",
    ),
    cases=lambda: [(normal(4, 3, 2, 2), normal(3, seed=8).sigmoid() + 0.5)],
    mistakes={
        "the kernel is scaled and not normalised: divide by the root of each output's energy.": scaled,
        "you normalise the whole kernel: each output has its own norm.": (
            lambda weight, style: scaled(weight, style) / scaled(weight, style).norm()
        ),
        "you divide by the energy; its root is the norm.": (
            lambda weight, style: scaled(weight, style) / energy(scaled(weight, style), (1, 2, 3))
        ),
        "you normalise each input: sum over inputs and both sides of the kernel.": (
            lambda weight, style: scaled(weight, style) / energy(scaled(weight, style), (0, 2, 3)).sqrt()
        ),
        "the style is lost: scale the inputs before you normalise.": (
            lambda weight, style: modulated_kernel(weight, torch.ones_like(style))
        ),
    },
    otherwise="scale input channel i by style[i], then divide output channel o by the root of its summed squares.",
    praise="modulate, then demodulate: a style moves emphasis between channels and never the volume.",
)
