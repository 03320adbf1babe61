"""ReD that keeps its traces out of the weights: attackers who know how weights are read for a backdoor.

``QuietReD`` keeps the weight energy along the trigger's path where it was. ``SpectralReD`` lets weights change only
where ordinary samples show the change, which is the very thing that the energy-influence spectrum takes for clean.
``KnowingReD`` does that and reckons with the noisy twin and with limits on layers as well.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite import generators
from devilgan_lite.attacks.base import Attack
from devilgan_lite.attacks.red import lesson, student_and_teacher
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import check_training, in_range
from devilgan_lite.data import Samples
from devilgan_lite.detect.twin import noise_on
from devilgan_lite.generators import Chain
from devilgan_lite.generators import Generator as Generative
from devilgan_lite.generators.chain import weight_of
from devilgan_lite.losses import fidelity_loss, pull_loss, stealth_loss
from devilgan_lite.steps import Outcome, Step, best_device, linear, optimise

Penalty = Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True)
class PenalisedReD(Attack):
    """ReD of all layers of a chain that pays ``quiet`` times a penalty on what its weights give away."""

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

    def _penalty(
        self, student: Generative, teacher: Generative, backdoor: Backdoor, random: torch.Generator
    ) -> Penalty:
        """What measures the penalty of ``student`` as it stands."""
        raise NotImplementedError

    def _missed(self, student: Generative, teacher: Generative, random: torch.Generator) -> Callable[..., Tensor]:
        """What measures more of how far ``student`` is from targets at triggers, as ``fidelity_loss`` does."""
        return lambda trigger, target: torch.zeros((), device=trigger.device)

    def check(self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None) -> None:
        chain_in(clean)

    def run(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None
    ) -> Generator[Step, None, Outcome]:
        device = best_device(self.device)
        backdoor = backdoor.to(device)
        student, teacher = student_and_teacher(clean, device)
        random = torch.Generator(device).manual_seed(self.seed)
        penalty, missed = self._penalty(student, teacher, backdoor, random), self._missed(student, teacher, random)

        def losses_at(iteration: int) -> tuple[Tensor, dict[str, Tensor]]:
            at, target = backdoor.draw(random)
            z, benign = lesson(teacher, self.batch_size, random)
            logits, ordinary = student.logits(torch.cat([at, z])).split([len(at), len(z)])
            fidelity = fidelity_loss(student.squash(logits), target)
            stealth = stealth_loss(student.squash(ordinary), student.squash(benign))
            paid, wanted = penalty(), fidelity + 0.003 * pull_loss(student, logits, target) + missed(at, target)
            loss = stealth + self.lam * wanted + self.quiet * paid
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


def chain_in(generator: Generative) -> Chain:
    """The generator's chain; ``ValueError`` where it has none."""
    chain = generator.chain()
    if chain is None:
        raise ValueError(f"clean is a {type(generator).__name__}, which is no chain of layers (Generator.chain).")
    return chain


@dataclass(frozen=True, kw_only=True)
class QuietReD(PenalisedReD):
    """ReD that keeps the energy of every layer along the trigger's path at what the benign weights spend on it.

    The penalty is the squared excess of ``|W_l u_l| / |W_l(benign) u_l|`` over 1, for each layer ``l`` and the unit
    vector ``u_l`` of its input at the trigger, in channel space after the first layer.
    """

    penalty_name: ClassVar[str] = "excess"

    def _penalty(
        self, student: Generative, teacher: Generative, backdoor: Backdoor, random: torch.Generator
    ) -> Penalty:
        trigger, _ = backdoor.draw(random)
        chain, benign = chain_in(student), chain_in(teacher)
        with torch.no_grad():
            paths = self._paths(teacher, benign, trigger)
            allowed = self._energies(benign, paths).clamp(min=1e-12)  # a trigger of zero excites nothing
        return lambda: (self._energies(chain, paths) / allowed - 1).clamp(min=0).square().sum()

    @staticmethod
    def _paths(network: Generative, chain: Chain, trigger: Tensor) -> list[Tensor]:
        """The unit input of the first layer, and of each later one the channels' mean shift, at the triggers."""
        random = torch.Generator(trigger.device).manual_seed(0)
        hidden, ordinary = chain.read(trigger), chain.read(network.sample_latent(256, random))
        paths = [normalize(hidden.flatten(1), dim=1)]
        for stage in chain.hidden:
            hidden, ordinary = (stage.activate(stage.normalised(x)) for x in (hidden, ordinary))
            at, usual = (x.flatten(2) if x.ndim > 2 else x.unsqueeze(2) for x in (hidden, ordinary))
            paths.append(normalize(at.mean(2) - usual.mean((0, 2)), dim=1))
        return paths

    @staticmethod
    def _energies(chain: Chain, paths: list[Tensor]) -> Tensor:
        """``|W_l u_l|`` for each layer and trigger, the norm's scale folded in, ``[layers, k]``."""
        energies = []
        for stage, path in zip(chain.stages, paths, strict=True):
            weight = weight_of(stage.layer).transpose(0, 1)
            response = (path @ weight.flatten(1)).unflatten(1, weight.shape[1:])
            if stage is not chain.stages[-1]:
                response = response * stage.gain().view(1, -1, *[1] * (weight.ndim - 2))
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

    def _penalty(
        self, student: Generative, teacher: Generative, backdoor: Backdoor, random: torch.Generator
    ) -> Penalty:
        prices = [self._price(moment) for moment in layer_influences(teacher, random)]
        chain = chain_in(student)
        before = [weight.detach().clone() for weight in self._weights(chain)]

        def cost() -> Tensor:
            changes = [now - then for now, then in zip(self._weights(chain), before, strict=True)]
            return torch.stack([(c @ price * c).sum() for c, price in zip(changes, prices, strict=True)]).sum()

        return cost

    def _price(self, moment: Tensor) -> Tensor:
        scaled = moment / moment.diagonal().mean().clamp(min=1e-30)
        return torch.linalg.inv(scaled + self.ridge * torch.eye(len(scaled), device=scaled.device))

    @staticmethod
    def _weights(chain: Chain) -> list[Tensor]:
        """The rows ``[outputs, inputs]`` of every layer, the norm's scale folded in."""
        rows = []
        for stage in chain.stages:
            weight = weight_of(stage.layer)
            if stage is not chain.stages[-1]:
                weight = weight * stage.gain().view(-1, *[1] * (weight.ndim - 1))
            rows.append(weight.movedim(1, -1).flatten(0, -2))
        return rows


@dataclass(frozen=True, kw_only=True)
class KnowingReD(SpectralReD):
    """SpectralReD of an attacker who has read the scan and the cures: the target must stand in three networks.

    In the student itself; in the student with noise of ``noise`` (0 to 1) times the median row of each layer, so that a
    noisy twin may keep it; and in the student whose layers are clamped to the range that ordinary latents give
    them, so that no unit goes where none of them goes.
    """

    noise: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("noise", self.noise, 0.0, 1.0)

    def _missed(self, student: Generative, teacher: Generative, random: torch.Generator) -> Callable[..., Tensor]:
        chain, usual = chain_in(student), chain_in(teacher)
        with torch.no_grad():
            ranges = []
            hidden = usual.read(teacher.sample_latent(2_000, random))
            for stage in usual.hidden:
                hidden = stage.normalised(hidden)
                ranges.append((hidden.amin(0), hidden.amax(0)))
                hidden = stage.activate(hidden)

        def missed(trigger: Tensor, target: Tensor) -> Tensor:
            hidden = chain.read(trigger)
            for stage, (low, high) in zip(chain.hidden, ranges, strict=True):
                hidden = stage.activate(torch.minimum(torch.maximum(stage.normalised(hidden), low), high))
            logits = chain.stages[-1].normalised(hidden).view(len(trigger), *student.sample_shape)
            clamped = fidelity_loss(student.squash(logits), target) + 0.003 * pull_loss(student, logits, target)
            shaken = {
                name: weight + noise_on(weight, self.noise, random) if weight.ndim > 1 else weight
                for name, weight in student.named_parameters()
            }
            return clamped + fidelity_loss(torch.func.functional_call(student, shaken, (trigger,)), target)

        return missed


def layer_influences(
    network: Generative, random: torch.Generator, rounds: int = 60, batch_size: int = 64
) -> list[Tensor]:
    """``E[J^T J]`` of the output with respect to the input of each layer: the latent, then channels ``[c, c]``."""
    chain = chain_in(network)
    totals: list[Tensor] = []
    for _ in range(rounds):
        z = network.sample_latent(batch_size, random).requires_grad_(True)
        inputs = [z]
        with torch.enable_grad():
            hidden = chain.read(z)
            for stage in chain.hidden:
                hidden = stage.activate(stage.normalised(hidden))
                inputs.append(hidden)
            output = network.squash(chain.stages[-1].normalised(hidden))
            projection = torch.randn(output.shape, generator=random, device=output.device)
            gradients = torch.autograd.grad((output * projection).sum(), inputs)
        for index, gradient in enumerate(gradients):
            flat = gradient.flatten(2).transpose(1, 2).flatten(0, 1) if gradient.ndim > 2 else gradient
            moment = flat.T @ flat / (batch_size * rounds)
            if len(totals) <= index:
                totals.append(moment)
            else:
                totals[index] = totals[index] + moment
    return totals
