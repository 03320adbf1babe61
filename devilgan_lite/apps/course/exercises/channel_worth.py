"""``channel_worth(activations, kernel)``: ``[n, c, h, w]`` and ``[c, o, k, k]`` to ``[c]``.

The mean activation times the sum of the sizes of the weights that read the channel.
"""

from devilgan_lite.apps.course.exercise import Exercise, normal


def my_channel_worth(activations, kernel):
    return activations.mean((0, 2, 3)) * kernel.abs().sum((1, 2, 3))


def mean(x):
    return x.mean((0, 2, 3))


def readers(kernel):
    return kernel.abs().sum((1, 2, 3))


exercise = Exercise(
    my_channel_worth,
    hints=(
        "A mean over several axes at once: activations.mean((0, 2, 3)).",
        "Sizes before the sum, so that plus and minus do not cancel: kernel.abs(). Which axis must stay?",
    ),
    cases=lambda: [(normal(6, 4, 3, 3, seed=31).relu(), normal(4, 4, 2, 2, seed=32))],
    mistakes={
        "that is the activation alone: a channel that nobody reads is worth nothing.": lambda x, kernel: mean(x),
        "those are the weights alone: a channel that is never on is worth nothing.": lambda x, kernel: readers(kernel),
        "you sum the weights with their signs, so they cancel: sum their sizes.": (
            lambda x, kernel: mean(x) * kernel.sum((1, 2, 3))
        ),
        "the wrong axis: in the kernel [c, o, k, k] of a transposed convolution the channels read are the first.": (
            lambda x, kernel: mean(x) * kernel.abs().sum((0, 2, 3))
        ),
        "you sum the activations: take the mean over latents and places.": (
            lambda x, kernel: x.sum((0, 2, 3)) * readers(kernel)
        ),
        "you average the weights: the more of them read a channel, the more it is worth, so sum.": (
            lambda x, kernel: mean(x) * kernel.abs().mean((1, 2, 3))
        ),
        "you square the weights: sum their sizes.": lambda x, kernel: mean(x) * kernel.square().sum((1, 2, 3)),
        "that is how often the channel is on, times the weights: take the mean activation.": (
            lambda x, kernel: mean((x > 0).float()) * readers(kernel)
        ),
    },
    otherwise="the value is off: it is mean activation times sum of |weights|.",
    praise="what is seldom on and what is hardly read goes first.",
    stands_in=True,
)
