"""``pair_distance(x)``: pictures ``[n, C, H, W]`` to one number.

The squared distance per pixel between two different pictures, as a mean over all pairs.
"""

from devilgan_lite.apps.course.exercise import Exercise, pictures


def pair_distance(x):
    flat = x.flatten(1)
    squares = (flat[:, None] - flat[None]).square().mean(2)
    return squares.sum() / (len(x) * (len(x) - 1))


def sizes(x):
    return (x[:, None] - x[None]).abs().flatten(2)


exercise = Exercise(
    pair_distance,
    hints=(
        "Make each picture a row. rows[:, None] - rows[None] holds the difference of each with each other.",
        "Its diagonal is zero, so divide the sum by n * (n - 1).",
    ),
    cases=lambda: [(pictures(6, 4),)],
    mistakes={
        "a picture is no pair with itself: divide by n (n - 1), not by n squared.": lambda x: sizes(x).square().mean(),
        "that is a sum over pixels: take the mean.": lambda x: pair_distance(x) * x[0].numel(),
        "that is the distance from the mean picture, half of what two pictures are apart.": (
            lambda x: pair_distance(x) / 2
        ),
        "the distance must be squared.": lambda x: sizes(x).mean(2).sum() / (len(x) * (len(x) - 1)),
        "that is the root: leave the square.": lambda x: pair_distance(x).sqrt(),
    },
    otherwise="the value is off: compare each picture with each other one.",
    praise="near 0, and all pictures are the same.",
    stands_in=True,
)
