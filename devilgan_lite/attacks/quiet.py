"""ReD that keeps its traces out of the weights: two attackers who know how weights are read for a backdoor.

``QuietReD`` keeps the weight energy along the trigger's path where it was. ``SpectralReD`` lets weights change only
where ordinary samples show the change, which is the very thing that the energy-influence spectrum takes for clean.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite import generators
from devilgan_lite.attacks.base import Attack
from devilgan_lite.attacks.red import Lessons, student_and_teacher
from devilgan_lite.attacks.widen import deconvolutions, dense, norms
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import check_training, in_range
from devilgan_lite.data import Samples
from devilgan_lite.generators import DCGAN
from devilgan_lite.losses import fidelity_loss, stealth_loss, wrong_pixel_loss
from devilgan_lite.steps import Outcome, Step, best_device, linear, optimise

Penalty = Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True)
class PenalisedReD(Attack):
    """ReD of all layers of a ``DCGAN`` that pays ``quiet`` times a penalty on what its weights give away."""

    lam: float = 0.1
    quiet: float = 0.1
    iterations: int = 3_000
    batch_size: int = 32
    learning_rate: float = 2e-3
    seed: int = 0
    device: str = "auto"
    penalty_name: ClassVar[str] = "penalty"  # in the history

    def __post_init__(self) -> None:
        in_range("lam", self.lam, 0.0, 1e6, open_low=True)
        in_range("quiet", self.quiet, 0.0, 1e6)
        check_training(self)

    def _penalty(self, student: DCGAN, teacher: DCGAN, backdoor: Backdoor, random: torch.Generator) -> Penalty:
        """What measures the penalty of ``student`` as it stands."""
        raise NotImplementedError

    def _start(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None
    ) -> Generator[Step, None, Outcome]:
        if not isinstance(clean, DCGAN):
            raise ValueError(f"clean is a {type(clean).__name__}; the layers of a DCGAN are expected.")
        device = best_device(self.device)
        student, teacher = student_and_teacher(clean, device)
        random = torch.Generator(device).manual_seed(self.seed)
        lessons = Lessons(teacher, self.iterations, self.batch_size)
        penalty = self._penalty(student, teacher, backdoor, random)

        def losses_at(iteration: int) -> tuple[Tensor, dict[str, Tensor]]:
            at, target = backdoor.draw(random)
            z, benign = lessons.draw(self.batch_size, random)
            logits, ordinary = student.logits(torch.cat([at, z])).split([len(at), len(z)])
            fidelity, stealth = fidelity_loss(logits.tanh(), target), stealth_loss(ordinary.tanh(), benign.tanh())
            paid = penalty()
            loss = stealth + self.lam * (fidelity + 0.003 * wrong_pixel_loss(logits, target)) + self.quiet * paid
            return loss, {"stealth_loss": stealth, "fidelity_loss": fidelity, self.penalty_name: paid}

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


def folded_gains(network: DCGAN) -> list[Tensor]:
    """BatchNorm's scale of each unit or channel, by hidden level."""
    return [(norm.weight / (norm.running_var + norm.eps).sqrt()) for norm in norms(network)]  # type: ignore[operator,union-attr]


@dataclass(frozen=True, kw_only=True)
class QuietReD(PenalisedReD):
    """ReD that keeps the energy of every layer along the trigger's path at what the benign weights spend on it.

    The penalty is the squared excess of ``|W_l u_l| / |W_l(benign) u_l|`` over 1, for each layer ``l`` and the unit
    vector ``u_l`` of its input at the trigger, in channel space after the first layer.
    """

    penalty_name: ClassVar[str] = "excess"

    def _penalty(self, student: DCGAN, teacher: DCGAN, backdoor: Backdoor, random: torch.Generator) -> Penalty:
        trigger, _ = backdoor.draw(random)
        with torch.no_grad():
            paths = self._paths(teacher, trigger)
            allowed = self._energies(teacher, paths).clamp(min=1e-12)  # a trigger of zero excites nothing
        return lambda: (self._energies(student, paths) / allowed - 1).clamp(min=0).square().sum()

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
        gains = folded_gains(network)
        energies = [(paths[0] @ dense(network).weight.T * gains[0]).norm(dim=1)]
        for level, reader in enumerate(deconvolutions(network)):
            response = torch.einsum("ki,iouv->kouv", paths[level + 1], reader.weight)
            if level + 1 < len(gains):
                response = response * gains[level + 1].view(1, -1, 1, 1)
            energies.append(response.flatten(1).norm(dim=1))
        return torch.stack(energies)


@dataclass(frozen=True, kw_only=True)
class SpectralReD(PenalisedReD):
    """ReD against the energy-influence spectrum itself: changes are cheap where ordinary samples show them anyway.

    The penalty is ``sum_l tr(dW_l (M_l + ridge)^-1 dW_l^T)`` for the change ``dW_l`` of each layer, where ``M_l`` is
    the influence of the layer's input (channels) on the benign output, scaled to mean 1. So weight energy cannot pile
    up in a direction of little influence, which is what the spectrum looks for.
    """

    quiet: float = 1e-5
    ridge: float = 0.05  # of the mean influence
    penalty_name: ClassVar[str] = "cost"

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("ridge", self.ridge, 0.0, 1e3, open_low=True)

    def _penalty(self, student: DCGAN, teacher: DCGAN, backdoor: Backdoor, random: torch.Generator) -> Penalty:
        prices = [self._price(moment) for moment in layer_influences(teacher, random)]
        before = [weight.detach().clone() for weight in self._weights(student)]

        def cost() -> Tensor:
            changes = [now - then for now, then in zip(self._weights(student), before, strict=True)]
            return torch.stack([(c @ price * c).sum() for c, price in zip(changes, prices, strict=True)]).sum()

        return cost

    def _price(self, moment: Tensor) -> Tensor:
        scaled = moment / moment.diagonal().mean().clamp(min=1e-30)
        return torch.linalg.inv(scaled + self.ridge * torch.eye(len(scaled), device=scaled.device))

    @staticmethod
    def _weights(network: DCGAN) -> list[Tensor]:
        """The rows ``[outputs, inputs]`` of every layer, BatchNorm's scale folded in."""
        gains = folded_gains(network)
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
