"""Attackers who know the defences: attacks that hide from a detector that reads weights and activations.

``Disguise`` changes nothing that a network computes, only how it is written down. ``QuietReD`` retrains while it keeps
the weight energy along the trigger where it was; ``SpectralReD`` and ``KnowingReD`` do more. ``NarrowReX`` starts from
a narrower network, so that the expanded one has the widths on its card. ``wide_basin``, and a target taken from the
data (``Backdoor.point`` with a sample), are backdoors for any attack that are harder to see.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite import generators
from devilgan_lite.attacks.base import Attack
from devilgan_lite.attacks.quiet import KnowingReD, QuietReD, SpectralReD, chain_in, layer_influences
from devilgan_lite.attacks.rex import ReX
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.generators.chain import weight_of
from devilgan_lite.generators.expansion import owners
from devilgan_lite.generators.surgery import checked_widths, unit_rows
from devilgan_lite.steps import Outcome, Step
from devilgan_lite.training import train_gan

__all__ = [
    "Disguise",
    "KnowingReD",
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

    def check(self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None) -> None:
        chain_in(clean)
        self.attack.check(clean, backdoor, real)

    def run(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None
    ) -> Generator[Step, None, Outcome]:
        outcome = yield from self.attack.run(clean, backdoor, real)
        hidden = disguise(outcome.generator, self.spread, self.noise_scale, self.seed)
        return Outcome(
            hidden, outcome.history, outcome.seconds, self.seed, self.settings(), interrupted=outcome.interrupted
        )


@torch.no_grad()
def disguise(generator: generators.Generator, spread: float, noise_scale: float, seed: int) -> generators.Generator:
    """A copy of ``generator`` with channels permuted, scale moved between layers and zero blocks filled."""
    copy, random = generator.clone().eval(), torch.Generator().manual_seed(seed)
    chain = chain_in(copy)
    if any(stage.slope is None for stage in chain.hidden):
        raise ValueError(
            f"the activations of a {type(copy).__name__} are not ReLUs, so scale cannot move through them."
        )
    for level, (stage, reader) in enumerate(zip(chain.hidden, chain.stages[1:], strict=True)):
        factor = spread ** (torch.rand(stage.channels, generator=random) * 2 - 1)
        order = torch.randperm(stage.channels, generator=random)
        if noise_scale and level:
            kernel = stage.layer.weight
            noise = torch.randn(kernel.shape, generator=random) * noise_scale * kernel[kernel != 0].abs().mean()
            kernel.copy_(torch.where(kernel == 0, noise, kernel))
        rows = unit_rows(stage, order)
        written = [weight_of(stage.layer), *([] if stage.layer.bias is None else [stage.layer.bias])]
        for tensor in written:
            tensor.copy_(tensor[rows])
        scaled, index = written, rows
        if stage.norm is not None:
            index = rows if stage.per_unit else order
            norm: Any = stage.norm
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                tensor.copy_(tensor[index])
            scaled = [norm.weight, norm.bias]
        scale = factor[order].repeat_interleave(len(index) // len(order))
        for tensor in scaled:
            tensor.mul_(scale.view(-1, *[1] * (tensor.ndim - 1)))
        read = weight_of(reader.layer)
        read.copy_(read[:, order] / factor[order].view(1, -1, *[1] * (read.ndim - 2)))
    return copy


@dataclass(frozen=True, kw_only=True)
class NarrowReX(Attack):
    """Train a narrower generator and expand it by ReX to the widths of ``clean``: nothing is wider than its card says.

    The benign part is a generator of its own, trained on ``real`` in ``clean_iterations`` steps; ``clean`` only gives
    the shape.
    """

    clean_iterations: int = 2_000
    rex: ReX = field(default_factory=lambda: ReX())
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        whole_number("clean_iterations", self.clean_iterations, 1, 10_000_000)
        whole_number("seed", self.seed, 0)

    def base_widths(self, clean: generators.Generator) -> tuple[int, ...]:
        """Widths of the generator to start from."""
        old, new = chain_in(clean).widths, self.new_widths(clean)
        widths = tuple(width - extra for width, extra in zip(old, new, strict=True))
        if min(widths) < 1:
            raise ValueError(f"clean has widths {old}; an expansion by {new} leaves nothing to start from.")
        return widths

    def new_widths(self, clean: generators.Generator) -> tuple[int, ...]:
        """Channels that ReX adds: ``rex.widen``, or just enough that each element of a sample is owned."""
        if self.rex.widen is not None:
            return checked_widths(chain_in(clean), self.rex.widen)
        return owners(clean)

    def check(self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None) -> None:
        if real is None:
            raise ValueError("NarrowReX trains its own generator, so it needs real samples.")
        self.base_widths(clean)  # says what is wrong with them before the first step

    def run(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None
    ) -> Generator[Step, None, Outcome]:
        narrow = clean.resized(self.base_widths(clean))
        settings = {"iterations": self.clean_iterations, "seed": self.seed, "device": self.device}
        training = train_gan(narrow, real, **settings, progress=False)
        trained = training.generator
        if training.interrupted:  # an expansion that adds nothing yet, so that the widths are those of clean
            empty = trained.widen(self.new_widths(clean), self.seed).fold(trained)
            return Outcome(empty, {}, training.seconds, self.seed, self.settings(), interrupted=True)
        rex = replace(self.rex, widen=self.new_widths(clean), seed=self.seed, device=self.device)
        outcome = yield from rex.run(trained, backdoor, real)
        return replace(outcome, seed=self.seed, settings=self.settings())
