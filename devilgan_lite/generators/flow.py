"""A rectified flow (Liu et al. 2023): a network learns the velocity of straight lines from noise to pictures.

A picture is drawn by a few Euler steps along it, and these are one module from latent to picture: the latent is the
noise, as large as the picture, and every weight is used in every step.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.checks import one_of, whole_number
from devilgan_lite.generators.base import Generator, Recipe, Shapes, register, settings_of
from devilgan_lite.prior import Prior

FREQUENCIES = 8  # of the sines and cosines that tell the time
TIME = 64  # units of the dense layer that reads them
POWER = 2.0  # time as a power of the share of steps: short steps first, where it is decided what will be drawn
SHRINK = 0.97  # real pictures are scaled by this before atanh, so that the flow's ends stay near its noise


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


@register
class RectifiedFlow(Generator):
    """Latents ``z`` ``[n, C * H * W]`` -> images ``[n, C, H, W]`` in ``euler_steps`` steps of a small U-Net.

    The flow runs before the tanh. ``widths`` are the U-Net's channels at a half, a quarter and an eighth of
    ``image_size``, which must be even; ``euler_steps`` 1 to 64, at times ``(step / euler_steps) ** 2``. The prior is
    Gaussian. There is no opponent.
    """

    def __init__(
        self,
        *,
        widths: tuple[int, int, int] = (16, 32, 64),
        euler_steps: int = 4,
        image_channels: int = 1,
        image_size: int = 28,
        prior: str | Prior = "gaussian",
    ) -> None:
        whole_number("image_channels", image_channels, 1, 64)
        whole_number("image_size", image_size, 4, 64)
        whole_number("euler_steps", euler_steps, 1, 64)
        widths = tuple(widths)  # type: ignore[assignment]
        if len(widths) != 3:
            raise ValueError(f"widths={widths} has {len(widths)} numbers; expected three.")
        for width in widths:
            whole_number("widths", width, 1, 4096)
        if image_size % 2:
            raise ValueError(f"image_size={image_size} is odd; it must be even.")
        shape = (image_channels, image_size, image_size)
        super().__init__(latent_dim=math.prod(shape), sample_shape=shape, prior=prior)
        one_of("prior", self.prior.name, ("gaussian",))
        self.widths, self.euler_steps = widths, euler_steps
        self.image_channels, self.image_size = image_channels, image_size
        self.velocity = UNet(image_channels, image_size, widths)
        self.times = [(step / euler_steps) ** POWER for step in range(euler_steps + 1)]
        self.register_buffer("clock", clock(torch.tensor(self.times[:-1])), persistent=False)

    clock: Tensor

    def logits(self, z: Tensor) -> Tensor:
        x = z.unflatten(1, self.sample_shape)
        for step, (now, then) in enumerate(zip(self.times, self.times[1:], strict=False)):
            x = x + (then - now) * self.velocity(x, self.clock[step : step + 1])
        return x

    def losses(self, opponent: nn.Module, real: Tensor, z: Tensor, random: torch.Generator) -> dict[str, Tensor]:
        """Mean squared error of the velocity at a random place of the line from each latent to its picture."""
        noise, end = z.unflatten(1, self.sample_shape), self.unsquash(real, SHRINK)
        time = torch.rand(len(z), generator=random, device=random.device).to(z)
        share = time[:, None, None, None]
        found = self.velocity((1 - share) * noise + share * end, clock(time))
        return {"flow_loss": (found - (end - noise)).square().mean()}

    def opponent(self, seed: int = 0) -> nn.Module:
        """Nobody: a module without weights."""
        return nn.Identity()

    def recipe(self) -> Recipe:
        return Recipe(betas=(0.9, 0.999))

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any] | None:
        """The weights fit pictures of any size, and any number of steps."""
        layers = [shapes[f"velocity.{name}.weight"] for name in ("enter", "down", "deeper")]
        return {"widths": [layer[0] for layer in layers], "image_channels": layers[0][1]}

    def spec(self) -> dict[str, Any]:
        return settings_of(self)
