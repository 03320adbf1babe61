"""``slerp(a, b, t)``: latents ``[1, d]`` and a number, to the latent at t of the way on the bow, ``[1, d]``."""

import torch

from devilgan_lite.apps.course.exercise import Exercise, Told, normal
from devilgan_lite.apps.walk import slerp


def my_slerp(a, b, t):
    length_a, length_b = a.norm(), b.norm()
    u, v = a / length_a, b / length_b
    w = torch.acos((u * v).sum().clamp(-1, 1))
    if w < 1e-3:
        return (1 - t) * a + t * b
    direction = (torch.sin((1 - t) * w) * u + torch.sin(t * w) * v) / torch.sin(w)
    return direction * ((1 - t) * length_a + t * length_b)


A, B = normal(1, 6), 2 * normal(1, 6, seed=8)
SAME = "between a and itself the result must stay a: sin(angle) is 0 there, so guard the division."

exercise = Exercise(
    my_slerp,
    hints=(
        "With unit vectors u and v at angle w, the direction is (sin((1 - t) w) u + sin(t w) v) / sin(w).",
        "When a and b point the same way, sin(w) is 0: return (1 - t) a + t b, which divides by nothing.",
    ),
    cases=lambda: [*((A, B, t) for t in (0.3, 0.0, 1.0)), Told(SAME, (A, A, 0.5))],
    mistakes={
        "that is the straight line (1 - t) a + t b: it cuts through the ball; turn the direction instead.": (
            lambda a, b, t: torch.lerp(a, b, t)
        ),
        "the ends are swapped: t = 0 must give a and t = 1 must give b.": lambda a, b, t: slerp(b, a, t),
        "the direction is right and the length is 1: multiply it by (1 - t) |a| + t |b|.": (
            lambda a, b, t: slerp(a / a.norm(), b / b.norm(), t)
        ),
        "the direction is right and the length stays |a|: let it go linearly from |a| to |b|.": (
            lambda a, b, t: slerp(a, b / b.norm() * a.norm(), t)
        ),
        SAME: lambda a, b, t: slerp(a, b, t) * (float("nan") if torch.equal(a, b) else 1),
    },
    otherwise=lambda answer, right, a, b, t: (
        f"at t = {t} the result is off: is the angle that between a/|a| and b/|b|?"
    ),
    praise="your path keeps to the shell where latents live.",
)
