"""The feature networks behind every Frechet distance here: small classifiers of garments and of faces, 64 features.

Inception features need a download and mean little on small pictures. These networks were trained by
``scripts/build/features.py`` on all of Fashion-MNIST and on 20,000 cartoon faces of either size; their test accuracies
stand on their cards (``data/features.json``, ``data/face_features.json``, ``data/face_features_64.json``).
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from devilgan_lite.checks import one_of
from devilgan_lite.data import DATASETS, Samples, data_folder
from devilgan_lite.data.faces import ATTRIBUTES

FEATURES = 64
QUESTIONS = tuple(map(len, ATTRIBUTES.values()))


@dataclass(frozen=True)
class Network:
    """A feature network: the file that holds it, the shape that it reads, and how many answers each question has."""

    file: str
    shape: tuple[int, int, int]
    classes: tuple[int, ...]
    noun: str


# data set -> its feature network; a new one is trained by scripts and named by ``Samples.features``
NETWORKS = {
    "fashion": Network("features", (1, 28, 28), (10,), "garment"),
    "faces": Network("face_features", (3, 32, 32), QUESTIONS, "face"),
    "faces-64": Network("face_features_64", (3, 64, 64), QUESTIONS, "face"),
}


class FeatureNetwork(nn.Module):
    """Classifier: samples ``[n, *shape]`` in [-1, 1] to logits ``[n, sum(classes)]``.

    ``of`` names the data set, one of ``NETWORKS``. Garments have one question with 10 answers; faces have a question
    for each attribute, one after the other.
    """

    def __init__(self, of: str = "fashion") -> None:
        super().__init__()
        one_of("features", of, NETWORKS)
        self.shape = shape = NETWORKS[of].shape
        self.classes = NETWORKS[of].classes
        layers: list[nn.Module] = []
        channels, side = shape[:2]
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
        return self.trunk(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))


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
        raise ValueError(
            f"x has shape {list(x.shape)}; the features of {of} read [n, {', '.join(map(str, network.shape))}]."
        )
    parts = [network.features(part.cpu().float().to(memory_format=torch.channels_last)) for part in x.split(batch_size)]
    features = torch.cat(parts)
    return features.double(), network.head(features)[:, : network.classes[0]].argmax(dim=1)


def real_for(shape: tuple[int, ...]) -> Samples | None:
    """Real samples of the data set whose features read samples of ``shape``; None if there is none."""
    fits = (name for name in DATASETS if readable(name, tuple(shape)))
    return next((DATASETS[name]() for name in fits), None)
