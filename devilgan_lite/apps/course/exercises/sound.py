"""The exercises of the notebook on sound: the loudest frequency, correlation with a stroke, and files of 16 bits."""

from typing import Any

import torch
from torch import Tensor

from devilgan_lite.apps.course.exercises.judge import Learner, NotYet, attempt, call, judge, seeded_random


def _hertz(learner: Learner, clip: Tensor, rate: int) -> Tensor:
    """What the learner's function returns for a copy of ``clip``, which must be one finite number."""
    answer: Any = attempt(learner, clip.clone(), rate)
    try:
        number = float(answer)
    except (TypeError, ValueError):
        raise NotYet(f"your function returns a {type(answer).__name__}; it must return one number.") from None
    if number != number or abs(number) == float("inf"):
        raise NotYet(f"your function returns {number}: frequencies are finite.")
    return torch.tensor(number)


def loudest_frequency(learner: Learner) -> str:
    """``loudest_frequency(clip, rate)``: ``[T]`` samples, ``rate`` of them a second, to a number of hertz.

    The frequency of the strongest part of ``torch.fft.rfft(clip)``.
    """
    for length, rate, cycles, quiet in ((1_000, 8_000, 55, 120), (1_000, 11_025, 55, 120), (600, 8_000, 130, 20)):
        time = torch.arange(length) / length
        loud = torch.cos(2 * torch.pi * cycles * time + 2.0)  # its real part is negative
        clip = loud + 0.6 * torch.cos(2 * torch.pi * quiet * time)
        bins = length // 2 + 1
        hertz = {
            "that is the number of the bin: a bin is `rate / len(clip)` hertz wide.": cycles,
            "that is half of it: the highest bin is at `rate / 2`, and there are `len(clip) / 2` of them.": (
                cycles * rate / length / 2
            ),
            "you divide by the number of bins: rfft gives half as many as there are samples.": cycles * rate / bins,
            "the rate is fixed in your function: use `rate`.": cycles * 8_000 / length,
            "that is the quieter tone: the spectrum is complex, so compare absolute values.": quiet * rate / length,
            "that is the mirror image above half the rate: take rfft, or the first half of fft.": (
                (length - cycles) * rate / length
            ),
            "that is its period, in seconds: frequency is one divided by it.": length / rate / cycles,
        }
        right = cycles * rate / length
        mistakes = {sentence: torch.tensor(float(wrong)) for sentence, wrong in hertz.items()}
        judge(_hertz(learner, clip, rate), torch.tensor(right), mistakes, f"the louder tone is at {right:.0f} Hz.")
    return "a spectrogram is this, for one short window after another."


def _pearson(x: Tensor, y: Tensor, centred: bool = True) -> Tensor:
    a, b = ((one - one.mean(1, keepdim=True) if centred else one) for one in (x.flatten(1), y.flatten(1)))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def correlation(learner: Learner) -> str:
    """``correlation(made, wanted)``: two sets of clips ``[n, C, T]`` to Pearson's correlation ``[n]``, pair by pair."""
    noise = torch.randn(4, 2, 50, generator=seeded_random())
    wanted = torch.randn(4, 2, 50, generator=seeded_random(8)) + 0.7
    made = torch.tensor([0.5, -0.5, 1.0, 0.1])[:, None, None] * wanted + 0.3 * noise + 0.4
    answer = call(learner, made, wanted, shape=(4,))
    right = _pearson(made, wanted)
    a, b = made.flatten(1), wanted.flatten(1)
    product = (a - a.mean(1, keepdim=True)) * (b - b.mean(1, keepdim=True))
    mistakes = {
        "take the mean of each clip away first: an offset is not heard.": _pearson(made, wanted, centred=False),
        "that is the absolute value: the second pair is of opposite sign.": right.abs(),
        "that is its square.": right.square(),
        "that is the covariance: divide by both standard deviations.": product.mean(1),
        "that is the covariance, divided by n - 1: divide it by both standard deviations.": product.sum(1) / 99,
        "you took the mean of all clips together: each clip has its own.": _pearson(
            made - made.mean(), wanted - wanted.mean(), centred=False
        ),
        "that is the squared distance: correlation does not care how loud a clip is.": (a - b).square().mean(1),
        "you took the channels for pairs: a clip `[C, T]` is one long vector.": torch.stack(
            [_pearson(x, y).mean() for x, y in zip(made, wanted, strict=True)]
        ),
    }
    judge(answer, right, mistakes, f"of the first pair it is {right[0]:.3f}.")
    return "1 is the stroke itself, at any loudness; 0 has nothing of it."


def same_file(learner: Learner) -> str:
    """``same_file(a, b)``: two sets of clips ``[n, C, T]`` in [-1, 1] to a mask ``[n]``.

    True where both have the same samples once each is rounded to one of the 16-bit steps of ``1 / 32767``.
    """
    step = 1 / 32_767
    a = torch.randint(-30_000, 30_000, (6, 1, 40), generator=seeded_random()).float()
    a[1] = a[1].abs() + 0.2
    a, shift = a * step, torch.zeros(6, 1, 40)
    shift[1] = 0.2 * step  # every sample moves, and no file changes
    shift[2, 0, 7] = step  # one sample is another step
    shift[3] = 0.6 * step  # less than a step, and yet over the border
    shift[4] = -0.3 * step
    shift[5, :, :20] = 3e-3
    b = a + shift
    answer = call(learner, a, b, shape=(6,))
    apart = (b - a).abs().flatten(1)

    def steps(x: Tensor) -> Tensor:
        return (x.double() * 32_767).round().flatten(1)

    right = (steps(a) == steps(b)).all(1)
    mistakes = {
        "a change of less than a step can still cross the border between two: round both, then compare.": (
            apart.amax(1) < 0.99 * step
        ),
        "one other sample makes another file: all must be equal, not their mean.": apart.mean(1) < 0.5 * step,
        "that is the reverse: True means that the files are the same.": ~right,
        "one equal sample is not enough: all must be.": (steps(a) == steps(b)).any(1),
        "the clips are equal only if no sample moves; files of 16 bits round.": (apart == 0).all(1),
        "those are steps of 8 bits: take 32,767 and not 127.": (
            (a * 127).round().flatten(1) == (b * 127).round().flatten(1)
        ).all(1),
        "you cut the fraction off: round to the nearest step.": (
            (a.double() * 32_767).trunc().flatten(1) == (b.double() * 32_767).trunc().flatten(1)
        ).all(1),
    }
    judge(answer.double(), right.double(), {text: wrong.double() for text, wrong in mistakes.items()}, _which(right))
    return "what survives rounding is all that a listener can get from the file."


def _which(right: Tensor) -> str:
    return f"of these six pairs it is true for numbers {', '.join(str(i) for i in right.nonzero().flatten().tolist())}."
