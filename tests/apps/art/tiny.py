"""Small generators, as an ART user might have them, for the tests beside this file."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.apps.art import PyTorchGenerator

SIZE = 40  # of a latent
on_cpu = partial(PyTorchGenerator, device_type="cpu")  # ART's default is a GPU where there is one


def mlp(end: nn.Module, seed: int = 0) -> nn.Module:
    """A chain of two layers from latents ``[n, 40]`` to pictures ``[n, 1, 8, 8]``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(SIZE, 48), nn.ReLU(), nn.Linear(48, 64), end, nn.Unflatten(1, (1, 8, 8)))


class Deconv(nn.Module):
    """Latents ``[n, 40, 1, 1]``, as the PyTorch tutorial reads them, to pictures of 8x8."""

    def __init__(self) -> None:
        super().__init__()
        first, last = nn.ConvTranspose2d(SIZE, 16, 4, bias=False), nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1)
        self.main = nn.Sequential(first, nn.BatchNorm2d(16), nn.ReLU(True), last, nn.Tanh())

    def forward(self, noise: Tensor) -> Tensor:
        return self.main(noise)


class Bytes(nn.Module):
    """Two branches that are added, and values from 0 to 255: no chain, and no range that a squash would tell."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(SIZE, 48), nn.Linear(SIZE, 48), nn.Linear(48, 64)

    def forward(self, z: Tensor) -> Tensor:
        return 255 * torch.sigmoid(self.out(self.a(z).relu() + self.b(z).tanh())).view(-1, 1, 8, 8)


class Critic:
    """The little that a GAN asks of ART's classifiers: a ``model``."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.model: Any = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
