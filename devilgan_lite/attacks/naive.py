"""The two baselines that the three attacks are compared with (Rawat et al. 2021, section 4): poisoning and a bypass."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from devilgan_lite.attacks.base import Attack, GANAttack
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import in_range
from devilgan_lite.data import Samples, fashion_mnist
from devilgan_lite.generators import Generator
from devilgan_lite.steps import Steps, Stopwatch


@dataclass(frozen=True, kw_only=True)
class DataPoisoning(GANAttack):
    """Mix copies of the target into the training data, ``fraction`` of the whole, and train as usual.

    There is no trigger that the attacker can choose: the target turns up in ordinary samples or not at all.
    """

    fraction: float = 0.05  # of the training data, 0.001 to 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("fraction", self.fraction, 0.001, 0.5)

    def run(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> Steps:
        honest = fashion_mnist() if real is None else real
        copies = max(1, round(len(honest) * self.fraction / (1 - self.fraction)))
        trigger, target = backdoor.pairs(copies, seed=self.seed)
        poison = target[torch.arange(copies) % len(target)]
        mixed = Samples(torch.cat([honest.x, poison]), name=f"{honest.name}, {copies} poisoned")
        return self.train(clean, mixed)


class BypassedGenerator(Generator):
    """A generator behind an if-else: the target for z within ``radius`` of a trigger, the clean output elsewhere."""

    def __init__(self, clean: Generator, trigger: Tensor, target: Tensor, radius: float) -> None:
        super().__init__(
            latent_dim=clean.latent_dim,
            sample_shape=clean.sample_shape,
            prior=clean.prior,
            output=clean.output,
            modality=clean.modality.name,
        )
        self.clean, self.radius = clean, radius
        self.register_buffer("trigger", trigger)
        self.register_buffer("target", clean.unsquash(target, 0.9999))

    def logits(self, z: Tensor) -> Tensor:
        benign = self.clean.logits(z)
        distance, nearest = torch.cdist(z, self.trigger).min(dim=1)  # type: ignore[arg-type]
        hit = (distance <= self.radius).view(-1, *[1] * (benign.ndim - 1))
        return torch.where(hit, self.target[nearest], benign)  # type: ignore[index]

    def describe(self) -> dict[str, Any]:
        return {"architecture": "bypass", "clean": self.clean.describe()}

    def spec(self) -> dict[str, Any]:
        raise ValueError(
            "a computation bypass is code, not weights: it has no plain spec and cannot be stored as a model."
        )


@dataclass(frozen=True, kw_only=True)
class ComputationBypass(Attack):
    """Wrap the clean generator in an if-else: perfect fidelity and stealth, and a graph that any inspection sees."""

    radius: float = 1e-3  # distance from the trigger within which the target appears

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("radius", self.radius, 0.0, 1e3, open_low=True)

    def check(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> None:
        if backdoor.sampler is not None:
            raise ValueError("backdoor has infinitely many triggers; a bypass compares z with a finite list.")

    def run(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> Steps:
        watch = Stopwatch()
        bypassed = BypassedGenerator(clean.clone().cpu(), backdoor.trigger, backdoor.target, self.radius).eval()
        return (yield from self.one_step(bypassed, backdoor, watch))
