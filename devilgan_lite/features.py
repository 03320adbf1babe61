"""The feature network behind every Frechet distance here: a small garment classifier and its 64 features.

Inception features need a download and mean little on 28x28 grey pictures. This network was trained on all of
Fashion-MNIST by ``scripts/train_features.py``; its test accuracy stands in ``data/features.json``.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from devilgan_lite.data import data_folder

FEATURES = 64


class FeatureNetwork(nn.Module):
    """Garment classifier: pictures ``[n, 1, 28, 28]`` in [-1, 1] to class logits ``[n, 10]``."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64 * 49, FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, 10)

    def features(self, x: Tensor) -> Tensor:
        """The 64 non-negative features ``[n, 64]``."""
        return self.trunk(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))


@lru_cache(maxsize=1)
def feature_network() -> FeatureNetwork:
    """The shipped network, frozen, in eval mode, on the CPU."""
    network = FeatureNetwork()
    network.load_state_dict(load_file(data_folder() / "features.safetensors"))
    # this layout and small batches are four times faster here than the defaults: a batch stays in the cache
    return network.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def feature_card() -> dict[str, Any]:
    """How the feature network was trained and how well it classifies."""
    return json.loads((data_folder() / "features.json").read_text())


@torch.no_grad()
def features_and_classes(x: Tensor, batch_size: int = 100) -> tuple[Tensor, Tensor]:
    """Features float64 ``[n, 64]`` and most likely class ``[n]`` of pictures ``[n, 1, 28, 28]`` in [-1, 1]."""
    network = feature_network()
    parts = [network.features(part.cpu().float().to(memory_format=torch.channels_last)) for part in x.split(batch_size)]
    features = torch.cat(parts)
    return features.double(), network.head(features).argmax(dim=1)
