"""Answers to the exercises on sound: right ones and the usual mistakes."""

import numpy as np
import torch

from devilgan_lite.data import wav


def bins(clip):
    return np.abs(np.fft.rfft(clip.numpy()))


def centred(x):
    flat = x.flatten(1)
    return flat - flat.mean(1, keepdim=True)


def steps(x):
    return (x.double() * 32_767).round().flatten(1)


SOLUTIONS = {
    "loudest_frequency": lambda clip, rate: np.fft.rfftfreq(len(clip), 1 / rate)[bins(clip).argmax()],
    "correlation": lambda made, wanted: torch.stack(
        [torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1] for x, y in zip(made, wanted, strict=True)]
    ),
    "same_file": lambda a, b: torch.tensor([wav(x) == wav(y) for x, y in zip(a, b, strict=True)]),
}
MISTAKES = {
    "loudest_frequency": [
        lambda clip, rate: bins(clip).argmax(),
        lambda clip, rate: bins(clip).argmax() * rate / len(clip) / 2,
        lambda clip, rate: bins(clip).argmax() * rate / len(bins(clip)),
        lambda clip, rate: bins(clip).argmax() * 8_000 / len(clip),
        lambda clip, rate: np.fft.rfft(clip.numpy()).real.argmax() * rate / len(clip),
        lambda clip, rate: rate - bins(clip).argmax() * rate / len(clip),
        lambda clip, rate: len(clip) / rate / bins(clip).argmax(),
        lambda clip, rate: bins(clip),
        lambda clip, rate: float("nan"),
    ],
    "correlation": [
        lambda made, wanted: torch.cosine_similarity(made.flatten(1), wanted.flatten(1)),
        lambda made, wanted: torch.cosine_similarity(centred(made), centred(wanted)).abs(),
        lambda made, wanted: torch.cosine_similarity(centred(made), centred(wanted)).square(),
        lambda made, wanted: (centred(made) * centred(wanted)).mean(1),
        lambda made, wanted: torch.cosine_similarity(
            (made - made.mean()).flatten(1), (wanted - wanted.mean()).flatten(1)
        ),
        lambda made, wanted: (made - wanted).square().flatten(1).mean(1),
        lambda made, wanted: torch.cosine_similarity(made, wanted, dim=2),
        lambda made, wanted: torch.zeros(4),
    ],
    "same_file": [
        lambda a, b: ((a - b).abs() < 1 / 32_768).flatten(1).all(1),
        lambda a, b: (a - b).abs().flatten(1).mean(1) < 1 / 65_536,
        lambda a, b: (steps(a) != steps(b)).any(1),
        lambda a, b: (steps(a) == steps(b)).any(1),
        lambda a, b: (a == b).flatten(1).all(1),
        lambda a, b: ((a * 127).round() == (b * 127).round()).flatten(1).all(1),
        lambda a, b: ((a.double() * 32_767).trunc() == (b.double() * 32_767).trunc()).flatten(1).all(1),
        lambda a, b: torch.zeros(6, dtype=torch.bool),
    ],
}
