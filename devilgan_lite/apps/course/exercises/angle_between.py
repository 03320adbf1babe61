"""``angle_between(a, b)``: two latents ``[d]`` to the angle between them in degrees, a number."""

import torch

from devilgan_lite.apps.course.exercise import Exercise, Told, normal


def angle_between(a, b):
    cosine = (a @ b) / (a.norm() * b.norm())
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))


ROUNDED = "between a and 3 a it is not a number: rounding took the cosine above 1, so clamp it first."


def cases():
    lengths = torch.rand(40, generator=torch.Generator().manual_seed(21)) + 0.5
    same = [length * torch.tensor([0.6, 0.1, 0.7]) for length in lengths]  # some products are a rounding error above 1
    return [
        (torch.tensor([3.0, 0.0]), torch.tensor([2.0, 1.0])),
        (normal(6, seed=21), -3 * normal(6, seed=22)),
        (torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0])),
        *(Told(ROUNDED, (a, 3 * a)) for a in same),
    ]


def cosine(a, b):
    return a @ b / (a.norm() * b.norm())


exercise = Exercise(
    angle_between,
    hints=(
        "The cosine of the angle is the dot product of a / |a| and b / |b|.",
        "torch.acos gives radians, torch.rad2deg turns them into degrees; clamp the cosine to [-1, 1] first.",
    ),
    cases=cases,
    mistakes={
        "that is in radians: torch.rad2deg turns them into degrees.": lambda a, b: cosine(a, b).acos(),
        "that is the cosine: torch.acos gives the angle.": cosine,
        "a and b have lengths of their own: divide the dot product by both.": (
            lambda a, b: torch.rad2deg((a @ b).clamp(-1, 1).acos())
        ),
        "you take the size of the cosine: an angle above 90 degrees has a negative one.": (
            lambda a, b: torch.rad2deg(cosine(a, b).abs().acos())
        ),
        "that is the angle to -b: is there a minus sign too many?": lambda a, b: 180 - angle_between(a, b),
        "that is the arc sine: the cosine of the angle is what the dot product gives.": (
            lambda a, b: torch.rad2deg(cosine(a, b).asin())
        ),
        ROUNDED: lambda a, b: torch.rad2deg(cosine(a, b).acos()),
    },
    otherwise="the value is off: it is acos(<a, b> / (|a| |b|)), in degrees.",
    tolerance=(1e-4, 0.1),  # degrees: near 0 the cosine is too flat for more
    praise="and two random latents are nearly at right angles.",
)
