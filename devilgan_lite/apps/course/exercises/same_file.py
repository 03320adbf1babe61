"""``same_file(a, b)``: two sets of clips ``[n, C, T]`` in [-1, 1] to a mask ``[n]``.

True where both have the same samples once each is rounded to one of the 16-bit steps of ``1 / 32767``.
"""

import torch

from devilgan_lite.apps.course.exercise import Exercise


def same_file(a, b):
    def rounded(x):
        return (x.clamp(-1, 1) * 32_767).round()

    return (rounded(a) == rounded(b)).flatten(1).all(1)


STEP = 1 / 32_767


def cases():
    a = torch.randint(-30_000, 30_000, (6, 1, 40), generator=torch.Generator().manual_seed(7)).float()
    a[1] = a[1].abs() + 0.2
    a, shift = a * STEP, torch.zeros(6, 1, 40)
    shift[1] = 0.2 * STEP  # every sample moves, and no file changes
    shift[2, 0, 7] = STEP  # one sample is another step
    shift[3] = 0.6 * STEP  # less than a step, and yet over the border
    shift[4] = -0.3 * STEP
    shift[5, :, :20] = 3e-3
    return [(a, a + shift)]


def steps(x, size=32_767):
    return x.flatten(1).double() * size


exercise = Exercise(
    same_file,
    hints=(
        "A difference below one step can still be rounded to two different steps: round first, then compare.",
        "(x == y) is [n, C, T]; .flatten(1).all(1) asks whether a whole clip is equal.",
    ),
    cases=cases,
    mistakes={
        "a change of less than a step can still cross the border between two: round both, then compare.": (
            lambda a, b: (a - b).abs().flatten(1).amax(1) < 0.99 * STEP
        ),
        "one other sample makes another file: all must be equal, not their mean.": (
            lambda a, b: (a - b).abs().flatten(1).mean(1) < 0.5 * STEP
        ),
        "that is the reverse: True means that the files are the same.": lambda a, b: ~same_file(a, b),
        "one equal sample is not enough: all must be.": lambda a, b: (steps(a).round() == steps(b).round()).any(1),
        "the clips are equal only if no sample moves; files of 16 bits round.": lambda a, b: (a == b).flatten(1).all(1),
        "those are steps of 8 bits: take 32,767 and not 127.": (
            lambda a, b: (steps(a, 127).round() == steps(b, 127).round()).all(1)
        ),
        "you cut the fraction off: round to the nearest step.": (
            lambda a, b: (steps(a).trunc() == steps(b).trunc()).all(1)
        ),
    },
    otherwise=lambda answer, right, a, b: (
        f"of these six pairs it is true for numbers {', '.join(map(str, right.nonzero().flatten().tolist()))}."
    ),
    praise="what survives rounding is all that a listener can get from the file.",
)
