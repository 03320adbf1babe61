"""Attackers who know the defences: attacks that hide from a detector that reads weights and activations.

``QuietReD``, ``SpectralReD`` and ``KnowingReD`` retrain and keep their traces out of the weights: along the trigger's
path, in the energy-influence spectrum, and from the noisy twin and from limits on layers as well. ``Disguise`` changes
nothing that a network computes, only how it is written down. ``NarrowReX`` starts from a narrower network, so that the
expanded one has the widths on its card. ``wide_basin``, and a target taken from the data (``Backdoor.point`` with a
sample), are backdoors for any attack that are harder to see.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite.attacks.base import Attack, Problem, Retraining
from devilgan_lite.attacks.red import student_and_teacher, teacher_batch
from devilgan_lite.attacks.rex import ReX
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.detect.twin import noise_on
from devilgan_lite.generators import Chain, Generator
from devilgan_lite.generators.chain import weight_of
from devilgan_lite.generators.surgery import checked_widths, owners
from devilgan_lite.losses import fidelity_loss, pull_loss, stealth_loss
from devilgan_lite.steps import Outcome, Steps, linear
from devilgan_lite.training import train_gan

Penalty = Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True)
class PenalisedReD(Retraining):
    """ReD of all layers of a chain that pays ``quiet`` times a penalty on what its weights give away."""

    lam: float = 0.1
    quiet: float = 0.1
    iterations: int = 3_000
    learning_rate: float = 2e-3
    schedule: ClassVar[dict[str, Any]] = {"decay": linear}
    penalty_name: ClassVar[str] = "penalty"  # in the history

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("quiet", self.quiet, 0.0, 1e6)

    def _penalty(self, student: Generator, teacher: Generator, backdoor: Backdoor, random: torch.Generator) -> Penalty:
        """What measures the penalty of ``student`` as it stands."""
        raise NotImplementedError

    def _missed(self, student: Generator, teacher: Generator, random: torch.Generator) -> Callable[..., Tensor]:
        """What measures more of how far ``student`` is from targets at triggers, as ``fidelity_loss`` does."""
        return lambda trigger, target: torch.zeros((), device=trigger.device)

    def check(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> None:
        super().check(clean, backdoor, real)
        chain_in(clean)

    def problem(self, clean: Generator, backdoor: Backdoor, random: torch.Generator) -> Problem:
        student, teacher = student_and_teacher(clean, random.device)
        penalty, missed = self._penalty(student, teacher, backdoor, random), self._missed(student, teacher, random)

        def losses_at(iteration: int) -> tuple[Tensor, dict[str, Tensor]]:
            at, target = backdoor.draw(random)
            z, benign = teacher_batch(teacher, self.batch_size, random)
            logits, ordinary = student.logits(torch.cat([at, z])).split([len(at), len(z)])
            fidelity = fidelity_loss(student.squash(logits), target)
            stealth = stealth_loss(student.squash(ordinary), student.squash(benign))
            paid, wanted = penalty(), fidelity + 0.003 * pull_loss(student, logits, target) + missed(at, target)
            loss = stealth + self.lam * wanted + self.quiet * paid
            return loss, {"stealth_loss": stealth, "fidelity_loss": fidelity, self.penalty_name: paid}

        return {1.0: list(student.parameters())}, losses_at, student.clone


def chain_in(generator: Generator) -> Chain:
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

    def _penalty(self, student: Generator, teacher: Generator, backdoor: Backdoor, random: torch.Generator) -> Penalty:
        trigger, _ = backdoor.draw(random)
        chain, benign = chain_in(student), chain_in(teacher)
        with torch.no_grad():
            paths = self._paths(teacher, benign, trigger)
            allowed = self._energies(benign, paths).clamp(min=1e-12)  # a trigger of zero excites nothing
        return lambda: (self._energies(chain, paths) / allowed - 1).clamp(min=0).square().sum()

    @staticmethod
    def _paths(network: Generator, chain: Chain, trigger: Tensor) -> list[Tensor]:
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

    def _penalty(self, student: Generator, teacher: Generator, backdoor: Backdoor, random: torch.Generator) -> Penalty:
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

    def _missed(self, student: Generator, teacher: Generator, random: torch.Generator) -> Callable[..., Tensor]:
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
    network: Generator, random: torch.Generator, rounds: int = 60, batch_size: int = 64
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
        rows = [g.flatten(2).transpose(1, 2).flatten(0, 1) if g.ndim > 2 else g for g in gradients]
        moments = [row.T @ row / (batch_size * rounds) for row in rows]
        totals = [total + moment for total, moment in zip(totals, moments, strict=True)] if totals else moments
    return totals


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

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("spread", self.spread, 1.0, 1e4)
        in_range("noise_scale", self.noise_scale, 0.0, 1.0)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "attack": type(self).__name__, "disguised": self.attack.settings()}

    def check(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> None:
        chain_in(clean)
        self.attack.check(clean, backdoor, real)

    def run(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> Steps:
        outcome = yield from self.attack.run(clean, backdoor, real)
        hidden = disguise(outcome.generator, self.spread, self.noise_scale, self.seed)
        return replace(outcome, generator=hidden, seed=self.seed, settings=self.settings(), state={})


@torch.no_grad()
def disguise(generator: Generator, spread: float, noise_scale: float, seed: int) -> Generator:
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
        rows = stage.rows(order)
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
    device: str = "auto"
    uses_real: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("clean_iterations", self.clean_iterations, 1, 10_000_000)

    def base_widths(self, clean: Generator) -> tuple[int, ...]:
        """Widths of the generator to start from."""
        old, new = chain_in(clean).widths, self.new_widths(clean)
        widths = tuple(width - extra for width, extra in zip(old, new, strict=True))
        if min(widths) < 1:
            raise ValueError(f"clean has widths {old}; an expansion by {new} leaves nothing to start from.")
        return widths

    def new_widths(self, clean: Generator) -> tuple[int, ...]:
        """Channels that ReX adds: ``rex.widen``, or just enough that each element of a sample is owned."""
        if self.rex.widen is not None:
            return checked_widths(chain_in(clean), self.rex.widen)
        return owners(clean)

    def check(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> None:
        if real is None:
            raise ValueError("NarrowReX trains its own generator, so it needs real samples.")
        self.base_widths(clean)  # says what is wrong with them before the first step

    def run(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> Steps:
        narrow = clean.resized(self.base_widths(clean))
        settings = {"iterations": self.clean_iterations, "seed": self.seed, "device": self.device}
        rex = replace(self.rex, widen=self.new_widths(clean), seed=self.seed, device=self.device)
        outcome = train_gan(narrow, real, **settings, progress=False)
        if not outcome.interrupted:
            outcome = yield from rex.run(outcome.generator, backdoor, real)
        made, history = outcome.generator, outcome.history
        if made.spec() == narrow.spec():  # no step of ReX yet: an expansion that adds nothing, for the widths of clean
            made, history = made.widen(rex.widen, self.seed).fold(made), {}
        return Outcome(made, history, outcome.seconds, self.seed, self.settings(), outcome.interrupted)


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
