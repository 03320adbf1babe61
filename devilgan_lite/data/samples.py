"""``Samples``: pictures (or points) with their labels, name and licence."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from devilgan_lite.checks import images, whole_number


@dataclass(frozen=True, eq=False)
class Samples:
    """``x`` float32 ``[N, C, H, W]`` (or ``[N, 2]``) in [-1, 1]; ``labels`` int64 ``[N]`` or None."""

    x: Tensor = field(repr=False)
    labels: Tensor | None = field(default=None, repr=False)
    name: str = "samples"
    licence: str = "unknown"
    classes: tuple[str, ...] = ()
    features: str | None = None  # the feature network of this data set (features.NETWORKS), if there is one

    def __post_init__(self) -> None:
        images("x", self.x)
        if self.labels is not None and self.labels.shape != (len(self.x),):
            raise ValueError(f"labels has shape {list(self.labels.shape)}; expected [{len(self.x)}].")

    def __len__(self) -> int:
        return len(self.x)

    def first(self, n: int) -> "Samples":
        """The first ``n`` samples, 1 <= n <= len."""
        whole_number("n", n, 1, len(self))
        labels = None if self.labels is None else self.labels[:n]
        return Samples(self.x[:n], labels, self.name, self.licence, self.classes, self.features)


def from_bytes(pixels: np.ndarray) -> Tensor:
    """Grey bytes ``[N, H, W]`` in 0..255 to float32 ``[N, 1, H, W]`` in [-1, 1]."""
    return torch.from_numpy(pixels.astype(np.float32)).unsqueeze(1) / 127.5 - 1
