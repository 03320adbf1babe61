"""``Samples``: pictures, sounds, points or rows with labels, name and licence; and the arrays that ship."""

import hashlib
import io
import json
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from devilgan_lite.checks import images, whole_number
from devilgan_lite.shipped import data_folder


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
    """Bytes in 0..255, grey ``[N, H, W]`` or coloured ``[N, H, W, 3]``, to float32 ``[N, C, H, W]`` in [-1, 1]."""
    x = torch.from_numpy(pixels.astype(np.float32)) / 127.5 - 1
    return x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2).contiguous()


def shipped_arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays in the shipped file ``name``; ``ValueError`` unless it has the SHA-256 of ``checksums.json``."""
    content = (data_folder() / name).read_bytes()
    expected = json.loads((data_folder() / "checksums.json").read_text())[name]
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(f"{name} does not match its SHA-256 in checksums.json; restore it from the repository.")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)
