"""The feature networks behind every Frechet distance here: small classifiers with 64 features each.

Inception features need a download and mean little on small pictures. These networks were trained by
``scripts/build/features.py`` on all of Fashion-MNIST, on 20,000 cartoon faces of either size and on clips of drums and
of a piano; their test accuracies stand on their cards (``data/*features*.json``). Sound is seen as a picture: its
log-mel spectrum.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from devilgan_lite.checks import one_of
from devilgan_lite.data import DATASETS, DRUMS, Samples, data_folder
from devilgan_lite.data.audio import CLIP, OCTAVES, RATE, spectrograms
from devilgan_lite.data.faces import ATTRIBUTES

FEATURES = 64
FLOOR = 0.3  # power in a band below which it counts as silence
QUESTIONS = tuple(map(len, ATTRIBUTES.values()))


class LogMel(nn.Module):
    """Clips ``[n, 1, T]`` to pictures ``[n, 1, bands, frames]``: decibels in bands as wide as ears tell them apart.

    50 decibels fill [-1, 1]; what is quieter, such as a faint hum, is -1. Bands are triangles, evenly spaced on the mel
    scale (2595 log10(1 + f / 700)) from 0 to half the rate.
    """

    bands: Tensor

    def __init__(self, bands: int = 32, window: int = 512, hop: int = 128, rate: int = RATE) -> None:
        super().__init__()
        self.window, self.hop = window, hop
        top = 2595 * math.log10(1 + rate / 2 / 700)
        corners = 700 * (10 ** (torch.linspace(0, top, bands + 2) / 2595) - 1)
        up, down = corners[:-2, None], corners[2:, None]
        peak, frequency = corners[1:-1, None], torch.linspace(0, rate / 2, window // 2 + 1)
        weights = torch.minimum((frequency - up) / (peak - up), (down - frequency) / (down - peak)).clamp(min=0)
        self.register_buffer("bands", weights, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        power = torch.matmul(self.bands, spectrograms(x[:, 0], self.window, self.hop)[..., :-1])
        decibels = 10 * torch.log10(power + FLOOR)  # -5 to about 45
        return ((decibels - 20) / 25).unsqueeze(1)


@dataclass(frozen=True)
class Network:
    """A feature network: the file that holds it, the shape that it reads, and how many answers each question has.

    ``front`` makes the part that turns samples into pictures ``picture``, where they are none.
    """

    file: str
    shape: tuple[int, ...]
    classes: tuple[int, ...]
    noun: str
    front: Callable[[], nn.Module] = nn.Identity
    picture: tuple[int, int, int] | None = None


# data set -> its feature network; a new one is trained by scripts and named by ``Samples.features``
NETWORKS = {
    "fashion": Network("features", (1, 28, 28), (10,), "garment"),
    "faces": Network("face_features", (3, 32, 32), QUESTIONS, "face"),
    "faces-64": Network("face_features_64", (3, 64, 64), QUESTIONS, "face"),
    "drums": Network("drum_features", (1, CLIP), (len(DRUMS),), "drum", LogMel, (1, 32, 32)),
    "piano": Network("piano_features", (1, CLIP), (len(OCTAVES),), "note", LogMel, (1, 32, 32)),
}


class FeatureNetwork(nn.Module):
    """Classifier: samples ``[n, *shape]`` in [-1, 1] to logits ``[n, sum(classes)]``.

    ``of`` names the data set, one of ``NETWORKS``. Garments, drums and notes have one question, with 10, 6 and 5
    answers; faces have a question for each attribute, one after the other.
    """

    def __init__(self, of: str = "fashion") -> None:
        super().__init__()
        one_of("features", of, NETWORKS)
        network = NETWORKS[of]
        self.shape, self.classes, self.front = network.shape, network.classes, network.front()
        layers: list[nn.Module] = []
        channels, side = (network.picture or network.shape)[:2]
        while side > 8:  # 28 or 32 pixels: twice, 64: three times
            width = 64 if layers else 32
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels, side = width, side // 2
        cells = side * side
        self.trunk = nn.Sequential(
            *layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(channels * cells, FEATURES), nn.ReLU()
        )
        self.head = nn.Linear(FEATURES, sum(self.classes))

    def features(self, x: Tensor) -> Tensor:
        """The 64 non-negative features ``[n, 64]``."""
        return self.trunk(self.front(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def in_layout(x: Tensor) -> Tensor:
    """A batch in the memory layout that is fastest here: pictures with their channels last, the rest as it is."""
    return x.to(memory_format=torch.channels_last) if x.ndim == 4 else x


def readable(of: str | None, shape: tuple[int, ...]) -> bool:
    """Whether there is a feature network for the data set ``of``, and it reads samples of ``shape``."""
    return of in NETWORKS and NETWORKS[of].shape == tuple(shape)


@lru_cache(maxsize=len(NETWORKS))
def feature_network(of: str = "fashion") -> FeatureNetwork:
    """The shipped network of the data set ``of``, frozen, in eval mode, on the CPU."""
    network = FeatureNetwork(of)
    network.load_state_dict(load_file(data_folder() / f"{NETWORKS[of].file}.safetensors"))
    # this layout and small batches are four times faster here than the defaults: a batch stays in the cache
    return network.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def feature_card(of: str = "fashion") -> dict[str, Any]:
    """How the feature network was trained and how well it classifies (``test_accuracy``; of faces, the mean)."""
    one_of("features", of, NETWORKS)
    return json.loads((data_folder() / f"{NETWORKS[of].file}.json").read_text())


@torch.no_grad()
def features_and_classes(x: Tensor, batch_size: int = 100, *, of: str = "fashion") -> tuple[Tensor, Tensor]:
    """Features float64 ``[n, 64]`` and most likely class ``[n]`` of samples ``[n, *shape]`` of the data set ``of``.

    The class of a face is its hair, the first of the attributes. Samples of another shape are a ``ValueError``.
    """
    network = feature_network(of)
    if tuple(x.shape[1:]) != network.shape:
        expected = ", ".join(map(str, network.shape))
        raise ValueError(f"x has shape {list(x.shape)}; the features of {of} read [n, {expected}].")
    features = torch.cat([network.features(in_layout(part.cpu().float())) for part in x.split(batch_size)])
    return features.double(), network.head(features)[:, : network.classes[0]].argmax(dim=1)


def real_for(shape: tuple[int, ...]) -> Samples | None:
    """Real samples of the data set whose features read samples of ``shape``; None if there is none."""
    fits = (name for name in DATASETS if readable(name, tuple(shape)))
    return next((DATASETS[name]() for name in fits), None)
