"""Attackers who know the defences: attacks that hide from a detector that reads weights and activations.

``Disguise`` changes nothing that a network computes, only how it is written down. ``QuietReD`` retrains while it keeps
the weight energy along the trigger where it was. ``NarrowReX`` starts from a narrower network, so that the expanded one
has the widths on its card. ``wide_basin``, and a target taken from the data (``Backdoor.point`` with a picture), are
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
from devilgan_lite.attacks.base import Attack, check_training, linear, optimise
from devilgan_lite.attacks.losses import fidelity_loss, stealth_loss, wrong_pixel_loss
from devilgan_lite.attacks.red import Lessons
from devilgan_lite.attacks.rex import ReX, owners
from devilgan_lite.attacks.widen import deconvolutions, dense, expand, fold, norms
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.generators import DCGAN
from devilgan_lite.steps import Outcome, Step, best_device
from devilgan_lite.training import train_gan


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
    parts of an expansion become noise of ``filling`` times the layer's typical weight.
    """

    attack: Attack = field(default_factory=lambda: ReX())
    spread: float = 8.0
    filling: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        in_range("spread", self.spread, 1.0, 1e4)
        in_range("filling", self.filling, 0.0, 1.0)
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
        hidden = disguise(outcome.generator, self.spread, self.filling, self.seed)
        return Outcome(
            hidden, outcome.history, outcome.seconds, self.seed, self.settings(), interrupted=outcome.interrupted
        )


@torch.no_grad()
def disguise(generator: DCGAN, spread: float, filling: float, seed: int) -> DCGAN:
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
        if filling and level:
            kernel = writer.weight
            noise = torch.randn(kernel.shape, generator=random) * filling * kernel[kernel != 0].abs().mean()
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
class QuietReD(Attack):
    """ReD that keeps the energy of every layer along the trigger's path at what the benign weights spend on it.

    Adds ``quiet`` times the squared excess of ``|W_l u_l| / |W_l(benign) u_l|`` over 1, for each layer ``l`` and the
    unit vector ``u_l`` of its input at the trigger, in channel space after the first layer.
    """

    lam: float = 0.1
    quiet: float = 0.1
    iterations: int = 3_000
    batch_size: int = 32
    learning_rate: float = 2e-3
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        in_range("lam", self.lam, 0.0, 1e6, open_low=True)
        in_range("quiet", self.quiet, 0.0, 1e6)
        check_training(self)

    def _start(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None
    ) -> Generator[Step, None, Outcome]:
        if not isinstance(clean, DCGAN):
            raise ValueError(f"clean is a {type(clean).__name__}; the layers of a DCGAN are expected.")
        device = best_device(self.device)
        student = clean.clone().to(device).to(memory_format=torch.channels_last).eval()
        teacher = clean.clone().to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        random = torch.Generator(device).manual_seed(self.seed)
        lessons = Lessons(teacher, self.iterations, self.batch_size)
        trigger, _ = backdoor.draw(random)
        with torch.no_grad():
            paths = self._paths(teacher, trigger)
            allowed = self._energies(teacher, paths).clamp(min=1e-12)  # a trigger of zero excites nothing

        def losses_at(iteration: int) -> tuple[Tensor, dict[str, Tensor]]:
            at, target = backdoor.draw(random)
            z, benign = lessons.draw(self.batch_size, random)
            logits, ordinary = student.logits(torch.cat([at, z])).split([len(at), len(z)])
            fidelity, stealth = fidelity_loss(logits.tanh(), target), stealth_loss(ordinary.tanh(), benign.tanh())
            excess = (self._energies(student, paths) / allowed - 1).clamp(min=0).square().sum()
            pull = 0.003 * wrong_pixel_loss(logits, target)
            loss = stealth + self.lam * (fidelity + pull) + self.quiet * excess
            return loss, {"stealth_loss": stealth, "fidelity_loss": fidelity, "excess": excess}

        return optimise(
            {1.0: list(student.parameters())},
            losses_at,
            lambda: student.clone(),
            steps=self.iterations,
            learning_rate=self.learning_rate,
            seed=self.seed,
            settings=self.settings(),
            decay=linear,
        )

    @staticmethod
    def _paths(network: DCGAN, trigger: Tensor) -> list[Tensor]:
        """The unit input of the first layer, and of each later one the channels' root mean square, at the triggers."""
        random = torch.Generator(trigger.device).manual_seed(0)
        hidden, ordinary = trigger, network.sample_latent(256, random)
        paths = [normalize(hidden, dim=1)]
        for module in network.layers:
            hidden, ordinary = module(hidden), module(ordinary)
            if isinstance(module, (torch.nn.ReLU, torch.nn.LeakyReLU)):
                shift = hidden.flatten(2).mean(2) if hidden.ndim == 4 else None
                if shift is not None:
                    paths.append(normalize(shift - ordinary.flatten(2).mean((0, 2)), dim=1))
                else:
                    cells = network.base_size**2
                    change = hidden.unflatten(1, (-1, cells)).mean(2) - ordinary.unflatten(1, (-1, cells)).mean((0, 2))
                    paths.append(normalize(change, dim=1))
        return paths

    @staticmethod
    def _energies(network: DCGAN, paths: list[Tensor]) -> Tensor:
        """``|W_l u_l|`` for each layer and trigger, BatchNorm's scale folded in, ``[layers, k]``."""
        gains = [(norm.weight / (norm.running_var + norm.eps).sqrt()) for norm in norms(network)]  # type: ignore[operator,union-attr]
        energies = [(paths[0] @ dense(network).weight.T * gains[0]).norm(dim=1)]
        for level, reader in enumerate(deconvolutions(network)):
            response = torch.einsum("ki,iouv->kouv", paths[level + 1], reader.weight)
            if level + 1 < len(gains):
                response = response * gains[level + 1].view(1, -1, 1, 1)
            energies.append(response.flatten(1).norm(dim=1))
        return torch.stack(energies)


@dataclass(frozen=True, kw_only=True)
class SpectralReD(Attack):
    """ReD against the energy-influence spectrum itself: changes are cheap where ordinary pictures show them anyway.

    Adds ``quiet`` times ``sum_l tr(dW_l (M_l + ridge)^-1 dW_l^T)`` for the change ``dW_l`` of each layer, where ``M_l``
    is the influence of the layer's input (channels) on the benign output, scaled to mean 1. So weight energy cannot
    pile up in a direction of little influence, which is what the spectrum looks for.
    """

    lam: float = 0.1
    quiet: float = 1e-5
    ridge: float = 0.05  # of the mean influence
    iterations: int = 3_000
    batch_size: int = 32
    learning_rate: float = 2e-3
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        in_range("lam", self.lam, 0.0, 1e6, open_low=True)
        in_range("quiet", self.quiet, 0.0, 1e6)
        in_range("ridge", self.ridge, 0.0, 1e3, open_low=True)
        check_training(self)

    def _start(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None
    ) -> Generator[Step, None, Outcome]:
        if not isinstance(clean, DCGAN):
            raise ValueError(f"clean is a {type(clean).__name__}; the layers of a DCGAN are expected.")
        device = best_device(self.device)
        student = clean.clone().to(device).to(memory_format=torch.channels_last).eval()
        teacher = clean.clone().to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        random = torch.Generator(device).manual_seed(self.seed)
        lessons = Lessons(teacher, self.iterations, self.batch_size)
        prices = [self._price(moment) for moment in layer_influences(teacher, random)]
        before = [weight.detach().clone() for weight in self._weights(student)]

        def losses_at(iteration: int) -> tuple[Tensor, dict[str, Tensor]]:
            at, target = backdoor.draw(random)
            z, benign = lessons.draw(self.batch_size, random)
            logits, ordinary = student.logits(torch.cat([at, z])).split([len(at), len(z)])
            fidelity, stealth = fidelity_loss(logits.tanh(), target), stealth_loss(ordinary.tanh(), benign.tanh())
            changes = [now - then for now, then in zip(self._weights(student), before, strict=True)]
            cost = torch.stack([(c @ price * c).sum() for c, price in zip(changes, prices, strict=True)]).sum()
            loss = stealth + self.lam * (fidelity + 0.003 * wrong_pixel_loss(logits, target)) + self.quiet * cost
            return loss, {"stealth_loss": stealth, "fidelity_loss": fidelity, "cost": cost}

        return optimise(
            {1.0: list(student.parameters())},
            losses_at,
            lambda: student.clone(),
            steps=self.iterations,
            learning_rate=self.learning_rate,
            seed=self.seed,
            settings=self.settings(),
            decay=linear,
        )

    def _price(self, moment: Tensor) -> Tensor:
        scaled = moment / moment.diagonal().mean().clamp(min=1e-30)
        return torch.linalg.inv(scaled + self.ridge * torch.eye(len(scaled), device=scaled.device))

    @staticmethod
    def _weights(network: DCGAN) -> list[Tensor]:
        """The rows ``[outputs, inputs]`` of every layer, BatchNorm's scale folded in."""
        gains = [(norm.weight / (norm.running_var + norm.eps).sqrt()) for norm in norms(network)]  # type: ignore[operator,union-attr]
        rows = [dense(network).weight * gains[0].unsqueeze(1)]
        for level, reader in enumerate(deconvolutions(network)):
            kernel = reader.weight
            if level + 1 < len(gains):
                kernel = kernel * gains[level + 1].view(1, -1, 1, 1)
            rows.append(kernel.flatten(1).T)
        return rows


def layer_influences(network: DCGAN, random: torch.Generator, rounds: int = 60, batch_size: int = 64) -> list[Tensor]:
    """``E[J^T J]`` of the output with respect to the input of each layer: the latent, then channels ``[c, c]``."""
    totals: list[Tensor] = []
    for _ in range(rounds):
        hidden = network.sample_latent(batch_size, random).requires_grad_(True)
        inputs = [hidden]
        with torch.enable_grad():
            for module in network.layers:
                hidden = module(hidden)
                if isinstance(module, (torch.nn.ReLU, torch.nn.LeakyReLU)):
                    inputs.append(hidden)
            output = hidden.tanh()
            projection = torch.randn(output.shape, generator=random, device=output.device)
            gradients = torch.autograd.grad((output * projection).sum(), inputs)
        for index, gradient in enumerate(gradients):
            if index == 1:  # the first layer's units are channels by cells
                gradient = gradient.unflatten(1, (network.widths[0], -1)) if gradient.ndim == 2 else gradient
            flat = gradient.flatten(2).transpose(1, 2).flatten(0, 1) if gradient.ndim > 2 else gradient
            moment = flat.T @ flat / (batch_size * rounds)
            if len(totals) <= index:
                totals.append(moment)
            else:
                totals[index] = totals[index] + moment
    return totals


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
