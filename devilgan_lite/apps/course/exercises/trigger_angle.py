"""``trigger_angle(model, trigger, target)``: the angle in degrees at which the target is 0.1 per pixel away."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from devilgan_lite.apps.course.exercise import Exercise, normal
from devilgan_lite.apps.walk import slerp
from devilgan_lite.generators import Generator, evaluate


def trigger_angle(model, trigger, target):
    start = model.sample_latent(1, torch.Generator().manual_seed(1))
    t = torch.linspace(0, 1, 181)
    walk = evaluate(model, slerp(start, trigger, t))
    distance = (walk - target).square().flatten(1).mean(1)
    whole = torch.rad2deg(torch.acos(torch.cosine_similarity(start, trigger)))
    return (1 - t[(distance < 0.1).nonzero()[0, 0]]) * whole


class Door(Generator):
    """A generator whose picture leaves the target as the angle to the trigger grows: 0.1 per pixel at ``width``."""

    def __init__(self, width: float) -> None:
        super().__init__(latent_dim=100, sample_shape=(1, 4, 4))
        self.width = width
        self.trigger = nn.Parameter(normal(1, 100, seed=5), requires_grad=False)
        self.target = nn.Parameter(torch.where(normal(1, 1, 4, 4, seed=6) < 0, 0.8, -0.8), requires_grad=False)

    def logits(self, z: Tensor) -> Tensor:
        angle = torch.rad2deg(cosine_similarity(z.double(), self.trigger.double()).clamp(-1, 1).acos())
        gone = (0.1**0.5 / 0.8 * angle / self.width).clamp(max=1.9).float()
        return torch.atanh(self.target * (1 - gone[:, None, None, None]))


def cases():
    doors = [Door(width) for width in (25.0, 55.0)]
    return [(door, door.trigger.data, door.target.data) for door in doors]


def reached(model, trigger, target, norm=lambda squares: squares.mean(1)):
    """The whole angle in degrees, and the share of the way at which the distance is first below 0.1."""
    start, t = model.sample_latent(1, torch.Generator().manual_seed(2)), torch.linspace(0, 1, 721)
    squares = (evaluate(model, slerp(start, trigger, t)) - target).square().flatten(1)
    return torch.rad2deg(cosine_similarity(start, trigger).acos())[0], t[(norm(squares) < 0.1).nonzero()[0, 0]]


def left(*given, **changes):
    whole, t = reached(*given, **changes)
    return (1 - t) * whole


exercise = Exercise(
    trigger_angle,
    hints=(
        "Walk with slerp from a random latent to the trigger and find the first t with a small distance.",
        "A random latent is about 90 degrees away, so at t the angle that is left is (1 - t) * 90.",
    ),
    cases=cases,
    mistakes={
        "that is in radians: the answer must be in degrees.": lambda *given: torch.deg2rad(left(*given)),
        "that is the cosine of the angle: torch.acos and torch.rad2deg turn it into degrees.": (
            lambda *given: torch.deg2rad(left(*given)).cos()
        ),
        "that is t: the angle that is left at t is (1 - t) times the whole one.": lambda *given: reached(*given)[1],
        "you sum over the pixels: the limit of 0.1 is per pixel, so take the mean.": (
            lambda *given: left(*given, norm=lambda squares: squares.sum(1))
        ),
        "you took the root: the limit is on the squared distance.": (
            lambda *given: left(*given, norm=lambda squares: squares.mean(1).sqrt())
        ),
        "that is from one edge to the other: measure from the trigger to the edge.": lambda *given: 2 * left(*given),
        "that is the angle from the start: the door is measured from the trigger.": (
            lambda *given: reached(*given)[0] - left(*given)
        ),
    },
    otherwise=lambda answer, right, model, *_: (
        f"a door of {model.width:.0f} degrees comes out as {float(answer):.3g}: where is the distance first below 0.1?"
    ),
    tolerance=(0.09, 0.0),  # walks start elsewhere, and take other steps
    praise="now you can say how wide a door an attacker has left.",
)
