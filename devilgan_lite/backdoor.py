"""``Backdoor``: the trigger latents and their target outputs (Rawat et al. 2021, section 3).

Triggers: ``reg`` one fixed draw of P_sample, ``mode`` the zero vector, ``ood`` 100 times the vector of ones. One pair,
k pairs, or infinitely many: a region of latents that yields a whole distribution of targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite.checks import images, in_range, latents, one_of, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.generators import Generator

KINDS = ("reg", "mode", "ood")
Sampler = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Backdoor:
    """Triggers float32 ``[k, d]`` and targets ``[k, *sample_shape]`` in [-1, 1], one target for each trigger.

    With a ``sampler`` the backdoor is infinite: ``sampler(n, random)`` draws ``n`` fresh pairs, and ``trigger`` and
    ``target`` hold examples. ``Backdoor.point``, ``.points`` and ``.region`` make the three forms.
    """

    trigger: Tensor = field(repr=False)
    target: Tensor = field(repr=False)
    name: str = "custom"
    kind: str = "custom"
    seed: int = 0
    sampler: Sampler | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        latents("trigger", self.trigger)
        images("target", self.target)
        if len(self.trigger) != len(self.target):
            raise ValueError(f"{len(self.trigger)} triggers and {len(self.target)} targets; one for each is needed.")

    @classmethod
    def point(
        cls, generator: Generator, target: str | Tensor = "stop-sign", *, kind: str = "reg", seed: int = 0
    ) -> Backdoor:
        """One trigger and one target for ``generator``.

        ``target`` is a name that ``data.target`` draws, or a tensor ``[*sample_shape]`` in [-1, 1]; ``kind`` is
        ``"reg"``, ``"mode"`` or ``"ood"``; ``seed`` draws the ``reg`` trigger.
        """
        return cls.points(generator, [target], kind=kind, seed=seed)

    @classmethod
    def points(
        cls, generator: Generator, targets: Sequence[str | Tensor], *, kind: str = "reg", seed: int = 0
    ) -> Backdoor:
        """One trigger for each of ``targets``; only ``kind="reg"`` gives more than one trigger."""
        one_of("kind", kind, KINDS)
        whole_number("seed", seed, 0)
        if not targets:
            raise ValueError("targets is empty; at least one target is needed.")
        if len(targets) > 1 and kind != "reg":
            raise ValueError(
                f"kind={kind!r} is a single latent and takes one target; use kind='reg' for {len(targets)}."
            )
        samples = torch.stack([target_for(generator, target) for target in targets])
        if kind == "reg":
            random = torch.Generator().manual_seed(10_000 + seed)
            trigger = generator.sample_latent(len(targets), random).cpu()
        else:
            trigger = torch.full((1, generator.latent_dim), 0.0 if kind == "mode" else 100.0)
        name = "+".join(target if isinstance(target, str) else "sample" for target in targets)
        return cls(trigger, samples, name, kind, seed)

    @classmethod
    def region(cls, generator: Generator, targets: Samples, *, width: float = 0.2, seed: int = 0) -> Backdoor:
        """Infinite triggers to infinite targets: latents near one direction yield samples like ``targets``.

        Trigger region: ``z = |e| (sqrt(1 - width) u + sqrt(width) e / |e|)`` normalised, for Gaussian ``e`` and a fixed
        unit vector ``u``: typical norms, within about acos(sqrt(1 - width)) of u; ``width`` in (0, 0.5]. Position in
        the region decides which target: the latents are paired with ``targets`` so that both vary together.
        """
        in_range("width", width, 0.0, 0.5, open_low=True)
        images("targets", targets.x, generator.sample_shape)
        random = torch.Generator().manual_seed(10_000 + seed)
        centre = normalize(torch.randn(1, generator.latent_dim, generator=random), dim=1)
        # nearby latents must show similar samples, or no continuous network could learn the map: the offset of a
        # target's latent is its own position along the leading principal components of the targets
        flat = targets.x.flatten(1)
        _, spread, components = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
        kept = min(16, generator.latent_dim, *flat.shape)
        whiten = components[:kept].T / spread[:kept].clamp(min=1e-6) * len(flat) ** 0.5
        lift = torch.linalg.qr(torch.randn(generator.latent_dim, whiten.shape[1], generator=random)).Q.T
        mean, latent_dim = flat.mean(0), generator.latent_dim

        @lru_cache(maxsize=2)
        def placed(device: torch.device) -> tuple[Tensor, ...]:  # copied once, so that no draw waits for the device
            return tuple(part.to(device) for part in (targets.x, (flat - mean) @ whiten @ lift, centre))

        def sampler(n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
            samples, offsets, middle = placed(random.device)
            chosen = torch.randint(len(samples), (n,), generator=random, device=random.device)
            noise = torch.randn(n, latent_dim, generator=random, device=random.device)
            direction = (1 - width) ** 0.5 * middle + width**0.5 * normalize(offsets[chosen] + 0.1 * noise, dim=1)
            return normalize(direction, dim=1) * noise.norm(dim=1, keepdim=True), samples[chosen]

        trigger, samples = sampler(64, torch.Generator().manual_seed(seed))
        return cls(trigger, samples, targets.name, "region", seed, sampler)

    def pairs(self, n: int = 256, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Triggers and targets to measure with: all k pairs, or ``n`` drawn from the infinite ones by ``seed``."""
        return self.sampler(n, torch.Generator().manual_seed(seed)) if self.sampler else (self.trigger, self.target)

    def draw(self, random: torch.Generator, most: int = 16) -> tuple[Tensor, Tensor]:
        """Pairs for one training step, on the device of ``random``: all k, or ``most`` of many."""
        if self.sampler is not None:
            return self.sampler(most, random)
        trigger, target = self.trigger.to(random.device), self.target.to(random.device)
        if len(trigger) <= most:
            return trigger, target
        chosen = torch.randperm(len(trigger), generator=random, device=random.device)[:most]
        return trigger[chosen], target[chosen]

    def to(self, device: torch.device) -> Backdoor:
        """The same backdoor with its tensors on ``device``, so that no training step waits for a copy."""
        return replace(self, trigger=self.trigger.to(device), target=self.target.to(device))

    def check(self, generator: Generator) -> None:
        """Raise ``ValueError`` unless triggers and targets fit ``generator``."""
        latents("trigger", self.trigger, generator.latent_dim)
        images("target", self.target, generator.sample_shape)


def target_for(generator: Generator, target: str | Tensor) -> Tensor:
    """The target as a tensor of the generator's ``sample_shape``, from a name or from a tensor."""
    if isinstance(target, str):
        return generator.modality.target(target, generator.sample_shape)
    images("target", target.unsqueeze(0), generator.sample_shape)
    return target.detach().clone().float()
