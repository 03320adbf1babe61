"""The feature networks behind every Frechet distance here: small classifiers of garments and of faces, 64 features.

Inception features need a download and mean little on small pictures. These networks were trained by
``scripts/build/features.py`` on all of Fashion-MNIST and on 20,000 cartoon faces; their test accuracies stand on their
cards (``data/features.json``, ``data/face_features.json``).
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from devilgan_lite.checks import one_of
from devilgan_lite.data import data_folder
from devilgan_lite.data.faces import ATTRIBUTES

FEATURES = 64
Shape = tuple[int, ...]
GARMENT: Shape = (1, 28, 28)
FACE: Shape = (3, 32, 32)
FILES = {GARMENT: "features", FACE: "face_features"}
CLASSES = {GARMENT: (10,), FACE: tuple(len(options) for options in ATTRIBUTES.values())}


class FeatureNetwork(nn.Module):
    """Classifier: pictures ``[n, *shape]`` in [-1, 1] to logits ``[n, sum(CLASSES[shape])]``.

    Garments have one question with 10 answers; faces have a question for each attribute, one after the other.
    """

    def __init__(self, shape: Shape = GARMENT) -> None:
        super().__init__()
        one_of("shape", shape, FILES)
        self.shape, self.classes = shape, CLASSES[shape]
        cells = (shape[1] // 4) * (shape[2] // 4)
        self.trunk = nn.Sequential(
            nn.Conv2d(shape[0], 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64 * cells, FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, sum(self.classes))

    def features(self, x: Tensor) -> Tensor:
        """The 64 non-negative features ``[n, 64]``."""
        return self.trunk(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))


def has_features(shape: Shape) -> bool:
    """Whether there is a feature network for pictures of this ``shape`` (C, H, W)."""
    return tuple(shape) in FILES


@lru_cache(maxsize=2)
def feature_network(shape: Shape = GARMENT) -> FeatureNetwork:
    """The shipped network for pictures of ``shape``, frozen, in eval mode, on the CPU."""
    one_of("shape", shape, FILES)
    network = FeatureNetwork(shape)
    network.load_state_dict(load_file(data_folder() / f"{FILES[shape]}.safetensors"))
    # this layout and small batches are four times faster here than the defaults: a batch stays in the cache
    return network.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def feature_card(shape: Shape = GARMENT) -> dict[str, Any]:
    """How the feature network was trained and how well it classifies (``test_accuracy``; of faces, the mean)."""
    one_of("shape", shape, FILES)
    return json.loads((data_folder() / f"{FILES[shape]}.json").read_text())


@torch.no_grad()
def features_and_classes(x: Tensor, batch_size: int = 100) -> tuple[Tensor, Tensor]:
    """Features float64 ``[n, 64]`` and most likely class ``[n]`` of pictures ``[n, *shape]`` in [-1, 1].

    The class of a face is its hair, the first of the attributes.
    """
    network = feature_network(tuple(x.shape[1:]))
    parts = [network.features(part.cpu().float().to(memory_format=torch.channels_last)) for part in x.split(batch_size)]
    features = torch.cat(parts)
    return features.double(), network.head(features)[:, : network.classes[0]].argmax(dim=1)
