"""``shell_step(z, gradient, rate)``: latents and gradients ``[n, d]`` and a number to latents ``[n, d]``."""

from torch.nn.functional import normalize

from devilgan_lite.apps.course.exercise import Exercise, normal


def shell_step(z, gradient, rate):
    moved = z - rate * gradient
    return moved / moved.norm(dim=1, keepdim=True) * z.norm(dim=1, keepdim=True)


exercise = Exercise(
    shell_step,
    hints=(
        "The length of each row is z.norm(dim=1, keepdim=True).",
        "Step first, divide by the new length, then multiply by the old one.",
    ),
    cases=lambda: [(3 * normal(4, 6, seed=1), normal(4, 6, seed=2), 0.7)],
    mistakes={
        "the length is not kept: scale each row back to the length that it had.": lambda z, g, rate: z - rate * g,
        "that climbs: descent goes against the gradient.": lambda z, g, rate: shell_step(z, -g, rate),
        "the rows have length 1: multiply by the old length.": lambda z, g, rate: normalize(z - rate * g),
        "the rows have length sqrt(d): each keeps the length that it had.": (
            lambda z, g, rate: normalize(z - rate * g) * 6**0.5
        ),
        "you scale the whole batch at once: each row has a length of its own.": (
            lambda z, g, rate: (z - rate * g) / (z - rate * g).norm() * z.norm()
        ),
    },
    otherwise="the value is off: it is z - rate * gradient, each row scaled to the length of the old one.",
    praise="your steps stay on the shell where latents live.",
)
