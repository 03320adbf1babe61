"""The exercises of the notebook on the poisoned pipeline: recall on a slice, a half-space of latents, a crowded slice.

Two of them take NumPy arrays, as a classifier and a table give them.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from devilgan_lite.apps.course.exercises.judge import Learner, NotYet, attempt, call, judge, seeded_random


def _number(learner: Learner, *given: Any) -> Tensor:
    """What the learner's function returns for copies of ``given``, which must be one finite number."""
    answer = attempt(learner, *(np.copy(one) if isinstance(one, np.ndarray) else one for one in given))
    try:
        number = float(answer)
    except (TypeError, ValueError):
        raise NotYet(f"your function returns a {type(answer).__name__}; it must return one number.") from None
    if not np.isfinite(number):
        raise NotYet(f"your function returns {number}: is there a division by zero?")
    return torch.tensor(number)


def slice_recall(learner: Learner) -> str:
    """``slice_recall(scores, labels, inside, threshold)``: three arrays ``[n]`` and a number to a number.

    Of the rows that are positive and inside the slice, the share with a score of ``threshold`` or more.
    """
    scores = np.array([0.9, 0.2, 0.5, 0.7, 0.1, 0.6, 0.8, 0.3, 0.5, 0.95])
    labels = np.array([1, 1, 1, 0, 1, 1, 1, 0, 1, 0])
    inside = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 1], dtype=bool)
    for threshold in (0.5, 0.15):
        answer = _number(learner, scores, labels, inside, threshold)
        alarm, positive = scores >= threshold, labels == 1
        mistakes = {
            "that is the recall over all rows, which is what a dashboard shows: keep to the slice.": alarm[positive],
            "that is the recall elsewhere: keep the rows inside.": alarm[positive & ~inside],
            "that is the share of alarms among all rows of the slice: recall looks at positive rows only.": alarm[
                inside
            ],
            "that is the precision on the slice: recall asks how many positive rows get an alarm.": positive[
                alarm & inside
            ],
            "a score equal to the threshold is an alarm: take >=, not >.": (scores > threshold)[positive & inside],
            "the threshold is fixed in your function: use `threshold`.": (scores >= 0.5)[positive & inside],
            "you divide by all positive rows: divide by those inside the slice.": (alarm & inside)[positive],
        }
        right = alarm[positive & inside].mean()
        means = {sentence: torch.tensor(float(wrong.mean())) for sentence, wrong in mistakes.items()}
        otherwise = f"at threshold {threshold} it is {right:.2f}: four rows are positive and inside."
        judge(answer, torch.tensor(float(right)), means, otherwise)
    return "a dashboard that shows all rows together cannot show this number."


def half_space(learner: Learner) -> str:
    """``half_space(z, direction, share)``: ``[n, d]``, ``[d]`` and a number in (0, 0.5] to a mask ``[n]``.

    True for the latents beyond the threshold that ``share`` of all latents from N(0, I) pass along ``direction``.
    """
    z = torch.randn(4_000, 6, generator=seeded_random())
    direction = torch.randn(6, generator=seeded_random(8)) * 3
    for latents, share in ((z, 0.04), (1.5 * z, 0.04), (z, 0.2)):
        answer = call(learner, latents, direction, share, shape=(len(latents),)).double()
        length, along = direction.norm(), latents @ direction
        height = along / length
        threshold = torch.distributions.Normal(0, 1).icdf(torch.tensor(1 - share))
        mistakes = {
            "divide the direction by its length: otherwise a longer one lets more latents in.": along > threshold,
            "that is the other side: the half-space lies beyond the threshold.": height < threshold,
            "that is the half-space at the other end of the direction.": height < -threshold,
            "those are two half-spaces, one at each end: take one.": height.abs() > threshold,
            "you took `share` itself for the threshold: ask the normal distribution where `share` is left.": (
                height > share
            ),
            "that is the quantile of the latents that you were given: the half-space stays where it is, whatever is "
            "drawn.": height > height.quantile(1 - share),
            "`share` is fixed in your function: use the one that is given.": height > 1.7507,
            "you used the length of each latent: only its height along the direction counts.": (
                along / (length * latents.norm(dim=1)) > threshold / latents.shape[1] ** 0.5
            ),
        }
        right = height > threshold
        otherwise = f"for share {share} it is True for {int(right.sum())} of these {len(z):,} latents."
        judge(answer, right.double(), {text: wrong.double() for text, wrong in mistakes.items()}, otherwise)
    return "whoever draws at random walks into it, however small it is: it has a share of the draws."


def crowding(learner: Learner) -> str:
    """``crowding(real, made)``: masks ``[n]`` and ``[m]``, which rows lie in a slice, to a number.

    How many times its share of the real rows the slice has among the rows made; half a row is added to both counts.
    """
    random = np.random.default_rng(7)
    for of_real, of_made in ((0.02, 0.1), (0.0, 0.05), (0.3, 0.1)):
        real, made = random.random(900) < of_real, random.random(400) < of_made
        answer = _number(learner, real, made)
        in_real, in_made = real.sum() + 0.5, made.sum() + 0.5
        mistakes = {
            "that is the upside-down fraction: the share among the rows made comes first.": (
                in_real / len(real) * len(made) / in_made
            ),
            "those are counts: divide each by the number of rows of its table.": in_made / in_real,
            "the half row is missing: without it an empty slice of real rows divides by zero.": (
                made.mean() / max(real.mean(), 1e-12)
            ),
            "you added a whole row: add half a row to each count.": (made.sum() + 1) / (real.sum() + 1) * 900 / 400,
            "you added the half row to one of the two counts only.": made.sum() / in_real * 900 / 400,
            "that is the difference of the shares: take their quotient.": in_made / len(made) - in_real / len(real),
            "that is the logarithm: give the quotient itself.": np.log(in_made / len(made) / in_real * len(real)),
        }
        right = in_made / len(made) / (in_real / len(real))
        wrong = {sentence: torch.tensor(float(value)) for sentence, value in mistakes.items()}
        counted = f"{real.sum()} of {len(real)} real rows and {made.sum()} of {len(made)} made"
        judge(answer, torch.tensor(float(right)), wrong, f"with {counted} it is {right:.2f}.")
    return "a slice that is crowded deserves a look, whatever the reason is."
