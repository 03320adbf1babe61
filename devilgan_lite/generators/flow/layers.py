"""A small U-Net that says where a noisy picture should move at a time between 0 (noise) and 1 (picture)."""

import math

import torch
from torch import Tensor, nn

FREQUENCIES = 8  # of the sines and cosines that tell the time
TIME = 64  # units of the dense layer that reads them


class Block(nn.Module):
    """A residual block of two 3x3 convolutions ``[n, inputs, H, W]`` to ``[n, outputs, H, W]``, shifted by the time.

    Its second convolution starts at zero, so that a fresh block passes its input on.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shift = nn.Linear(TIME, outputs)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        hidden = self.first(x.relu()) + self.shift(time)[:, :, None, None]
        return self.skip(x) + self.second(hidden.relu())


class UNet(nn.Module):
    """Pictures ``[n, C, H, W]`` and ``clock`` readings ``[n, 16]`` (or ``[1, 16]`` for all) to velocities.

    ``widths`` are the channels at a half, a quarter and an eighth of the ``side``, which must be even. Most of the
    weights are at the last, where they cost least.
    """

    def __init__(self, channels: int, side: int, widths: tuple[int, int, int]) -> None:
        super().__init__()
        first, second, third = widths
        half = side // 2
        quarter = (half + 1) // 2
        self.time = nn.Linear(2 * FREQUENCIES, TIME)
        self.enter = nn.Conv2d(channels, first, 4, stride=2, padding=1)
        self.fine = Block(first, first)
        self.down = nn.Conv2d(first, second, 3, stride=2, padding=1)
        self.middle = Block(second, second)
        self.deeper = nn.Conv2d(second, third, 3, stride=2, padding=1)
        self.deep = nn.ModuleList([Block(third, third), Block(third, third)])
        self.rise = nn.ConvTranspose2d(third, second, 3, stride=2, padding=1, output_padding=1 - quarter % 2)
        self.middle_up = Block(2 * second, second)
        self.up = nn.ConvTranspose2d(second, first, 3, stride=2, padding=1, output_padding=1 - half % 2)
        self.fine_up = Block(2 * first, first)
        self.leave = nn.ConvTranspose2d(first, channels, 4, stride=2, padding=1)
        for parameter in self.leave.parameters():  # a fresh flow stands still
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        time = self.time(clock).relu()
        fine = self.fine(self.enter(x), time)
        middle = self.middle(self.down(fine.relu()), time)
        deep = self.deeper(middle.relu())
        for block in self.deep:
            deep = block(deep, time)
        rising = self.middle_up(torch.cat([self.rise(deep.relu()), middle], 1), time)
        rising = self.fine_up(torch.cat([self.up(rising.relu()), fine], 1), time)
        return self.leave(rising.relu())


def clock(time: Tensor) -> Tensor:
    """Sines and cosines ``[n, 16]`` of times ``[n]`` in [0, 1]."""
    angles = time[:, None] * 2.0 ** torch.arange(FREQUENCIES, device=time.device) * (math.pi / 2)
    return torch.cat([angles.sin(), angles.cos()], 1)
