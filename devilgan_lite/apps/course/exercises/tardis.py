"""``tardis(logits, target)``: the output before tanh at the trigger and the target, ``[1, C, H, W]``, to a number."""

from devilgan_lite.apps.course.exercise import Exercise, pictures, squared


def tardis(logits, target):
    return (logits.tanh() - target).square().sum()


exercise = Exercise(
    tardis,
    hints=(
        "The target lives in [-1, 1], the logits do not: what is missing between them?",
        "Square the differences and add them up; do not average.",
    ),
    cases=lambda: [(2 * pictures(1, 1), pictures(1, 2))],
    mistakes={
        "you compare before tanh: the target lives in [-1, 1], so apply tanh first.": (
            lambda logits, target: squared(logits, target)
        ),
        "you take the mean: TarDis is the sum over all pixels.": (
            lambda logits, target: (logits.tanh() - target).square().mean()
        ),
        "you took the root: TarDis is the squared distance.": (
            lambda logits, target: squared(logits.tanh(), target).sqrt()
        ),
        "you sum absolute errors: TarDis sums squared ones.": (
            lambda logits, target: (logits.tanh() - target).abs().sum()
        ),
        "tanh is on the target too: it is a picture already.": (
            lambda logits, target: squared(logits.tanh(), target.tanh())
        ),
    },
    otherwise="the value is off: it is the sum of (tanh(logits) - target)^2.",
    praise="a target distortion of 0 is a perfect attack.",
)
