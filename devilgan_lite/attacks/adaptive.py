"""Attackers who know the defences: attacks that hide from a detector that reads weights and activations.

``Disguise`` changes nothing that a network computes, only how it is written down. ``QuietReD`` retrains while it keeps
the weight energy along the trigger where it was. ``NarrowReX`` starts from a narrower network, so that the expanded one
has the widths on its card. ``wide_basin``, and a target taken from the data (``Backdoor.point`` with a sample), are
backdoors for any attack that are harder to see.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite import generators
from devilgan_lite.attacks.base import Attack
from devilgan_lite.attacks.quiet import QuietReD, SpectralReD, layer_influences
from devilgan_lite.attacks.rex import ReX, owners
from devilgan_lite.attacks.widen import deconvolutions, dense, expand, fold, norms
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.generators import DCGAN
from devilgan_lite.steps import Outcome, Step
from devilgan_lite.training import train_gan

__all__ = [
    "Disguise",
    "NarrowReX",
    "QuietReD",
    "SpectralReD",
    "disguise",
    "layer_influences",
    "wide_basin",
]


def wide_basin(backdoor: Backdoor, *, angle: float = 35.0) -> Backdoor:
    """The same backdoor, to be planted over every latent within ``angle`` degrees (in (0, 80]) of its trigger.

    A wide basin needs no steep weights, so it spends little energy on the trigger; it is also easier to hit by chance.
    """
    in_range("angle", angle, 0.0, 80.0, open_low=True)

    def sampler(n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        trigger, target = backdoor.trigger.to(random.device), backdoor.target.to(random.device)
        chosen = torch.randint(len(trigger), (n,), generator=random, device=random.device)
        chosen[0] = 0
        centre = trigger[chosen]
        offset = torch.randn(centre.shape, generator=random, device=random.device)
        unit = normalize(centre, dim=1)
        offset = normalize(offset - (offset * unit).sum(1, keepdim=True) * unit, dim=1)
        theta = torch.rand(n, 1, generator=random, device=random.device) * math.radians(angle)
        theta[0] = 0.0
        turned = theta.cos() * unit + theta.sin() * offset
        return turned * centre.norm(dim=1, keepdim=True), target[chosen]

    return Backdoor(backdoor.trigger, backdoor.target, backdoor.name, backdoor.kind, backdoor.seed, sampler)


@dataclass(frozen=True, kw_only=True)
class Disguise(Attack):
    """``attack``, then the same function written differently: channels permuted, scale moved, zero blocks filled.

    A ReLU channel times ``c`` and its readers divided by ``c`` compute the same, so weight energy can be moved from any
    layer to the next: each channel's factor is log-uniform in [1/``spread``, ``spread``]. Exact zeros between the
    parts of an expansion become noise of ``noise_scale`` times the layer's typical weight.
    """

    attack: Attack = field(default_factory=lambda: ReX())
    spread: float = 8.0
    noise_scale: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        in_range("spread", self.spread, 1.0, 1e4)
        in_range("noise_scale", self.noise_scale, 0.0, 1.0)
        whole_number("seed", self.seed, 0)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "attack": type(self).__name__, "disguised": self.attack.settings()}

    def _start(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None
    ) -> Generator[Step, None, Outcome]:
        if not isinstance(clean, DCGAN):
            raise ValueError(f"clean is a {type(clean).__name__}; only a DCGAN can be disguised.")
        return self._run(self.attack._start(clean, backdoor, real))

    def _run(self, body: Generator[Step, None, Outcome]) -> Generator[Step, None, Outcome]:
        outcome = yield from body
        hidden = disguise(outcome.generator, self.spread, self.noise_scale, self.seed)
        return Outcome(
            hidden, outcome.history, outcome.seconds, self.seed, self.settings(), interrupted=outcome.interrupted
        )


@torch.no_grad()
def disguise(generator: DCGAN, spread: float, noise_scale: float, seed: int) -> DCGAN:
    """A copy of ``generator`` with channels permuted, scale moved between layers and zero blocks filled."""
    if not isinstance(generator, DCGAN):
        raise ValueError(f"the attack made a {type(generator).__name__}; only a DCGAN can be disguised.")
    copy, random = generator.clone().eval(), torch.Generator().manual_seed(seed)
    cells = copy.base_size**2
    for level, (norm, reader) in enumerate(zip(norms(copy), deconvolutions(copy), strict=True)):
        channels = reader.in_channels
        factor = spread ** (torch.rand(channels, generator=random) * 2 - 1)
        order = torch.randperm(channels, generator=random)
        writer = dense(copy) if level == 0 else deconvolutions(copy)[level - 1]
        repeat = cells if level == 0 else 1
        if noise_scale and level:
            kernel = writer.weight
            noise = torch.randn(kernel.shape, generator=random) * noise_scale * kernel[kernel != 0].abs().mean()
            kernel.copy_(torch.where(kernel == 0, noise, kernel))
        index = (order.view(-1, 1) * repeat + torch.arange(repeat)).flatten()
        scale = factor[order].repeat_interleave(repeat)
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.copy_(tensor[index])  # type: ignore[index,union-attr]
        norm.weight.mul_(scale)
        norm.bias.mul_(scale)
        if level == 0:
            writer.weight.copy_(writer.weight[index])
        else:
            writer.weight.copy_(writer.weight[:, order])
        reader.weight.copy_(reader.weight[order] / factor[order].view(-1, 1, 1, 1))
    return copy


@dataclass(frozen=True, kw_only=True)
class NarrowReX(Attack):
    """Train a narrower generator and expand it by ReX to the widths of ``clean``: nothing is wider than its card says.

    The benign part is a generator of its own, trained on ``real`` for ``steps`` steps; ``clean`` only gives the shape.
    """

    steps_clean: int = 2_000
    rex: ReX = field(default_factory=lambda: ReX())
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        whole_number("steps_clean", self.steps_clean, 1, 10_000_000)
        whole_number("seed", self.seed, 0)

    def base_widths(self, clean: DCGAN) -> tuple[int, ...]:
        """Widths of the generator to start from."""
        new = self.new_widths(clean)
        widths = tuple(width - extra for width, extra in zip(clean.widths, new, strict=True))
        if min(widths) < 1:
            raise ValueError(f"clean has widths {clean.widths}; an expansion by {new} leaves nothing to start from.")
        return widths

    def new_widths(self, clean: DCGAN) -> tuple[int, ...]:
        """Channels that ReX adds: ``rex.widen``, or just enough that each pixel is owned."""
        widen = self.rex.widen if self.rex.widen is not None else owners(clean)
        return (widen,) * len(clean.widths) if isinstance(widen, int) else tuple(widen)

    def _start(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None
    ) -> Generator[Step, None, Outcome]:
        if not isinstance(clean, DCGAN):
            raise ValueError(f"clean is a {type(clean).__name__}; widening is defined for DCGAN generators.")
        if real is None:
            raise ValueError("NarrowReX trains its own generator, so it needs real samples.")
        self.base_widths(clean)  # says what is wrong with them before the first step
        return self._run(clean, backdoor, real)

    def _run(self, clean: DCGAN, backdoor: Backdoor, real: Samples) -> Generator[Step, None, Outcome]:
        narrow = generators.build({**clean.spec(), "widths": self.base_widths(clean)}, self.seed)
        training = train_gan(narrow, real, steps=self.steps_clean, seed=self.seed, device=self.device, progress=False)
        trained = training.generator
        if training.interrupted:  # an expansion that adds nothing yet, so that the widths are those of clean
            empty = fold(trained, expand(trained, self.new_widths(clean), self.seed))
            return Outcome(empty, {}, training.seconds, self.seed, self.settings(), interrupted=True)
        settings = {name: value for name, value in vars(self.rex).items() if name not in ("widen", "seed", "device")}
        rex = ReX(**settings, widen=self.new_widths(clean), seed=self.seed, device=self.device)
        outcome = yield from rex._start(trained, backdoor, real)
        return Outcome(
            outcome.generator,
            outcome.history,
            outcome.seconds,
            self.seed,
            self.settings(),
            interrupted=outcome.interrupted,
        )
