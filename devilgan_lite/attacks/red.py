"""ReD, REtraining with Distillation (Rawat et al. 2021, section 4.2): a malicious clone of an existing generator.

The student starts from the benign weights and is taught by the benign generator itself, so no training data is needed.
BatchNorm runs in inference mode in both networks; its scale and shift are trained, more slowly than the weights.

A head start, if wanted: aligned units. A plain copy first learns the target through changes that are linear in the
latent, and these show on every sample; the distillation then has to undo them. A trained generator has a few idle
units in every cell, though, and giving them up costs almost nothing. Turned towards the trigger and asleep everywhere
else, they draw part of the sample for free.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from devilgan_lite.attacks.base import Problem, Retraining
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import in_range, one_of, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.generators import Chain, Generator
from devilgan_lite.generators.chain import weight_of
from devilgan_lite.losses import SHRINK, fidelity_loss, pair_weights, pull_loss, stealth_loss
from devilgan_lite.steps import linear

NORM_FACTOR = 0.5  # learning rate of BatchNorm scale and shift, as a share of that of the weights
SPACES = ("tanh", "logits", "mixed")

PROBES = 4_096  # latents on which the influence of a unit is measured
STEPS = 600  # of the search for how strongly each unit wakes: forward and backward on the triggers alone, under 1 s
DEPTH = 0.45  # how deep a unit sleeps, as a share of how strongly it wakes: an ordinary latent is 3 deviations away
SHARED = 3  # triggers, of several, that wake the same unit: more that can be drawn at each, for a deeper sleep


@dataclass(frozen=True, kw_only=True)
class ReD(Retraining):
    """Retrain ``layers`` (None: all) of a copy to minimise ``stealth + lam * fidelity``, both as means per element.

    Of several pairs, those that are furthest off count most (``losses.pair_weights``).

    ``space``: ``"tanh"`` compares samples, ``"logits"`` compares before tanh (the authors' choice), ``"mixed"`` adds
    ``mixed_weight`` times a term before tanh on the pixels that are still wrong.
    """

    lam: float = 0.6
    space: str = "mixed"
    mixed_weight: float = 0.003
    layers: tuple[str, ...] | None = None  # names from clean.named_layers(); None: all
    aligned_units: int = 4  # idle first-layer units per cell, at first awake at the trigger only; 0: the authors' copy
    iterations: int = 10_000
    batch_size: int = 24
    learning_rate: float = 8e-4
    # the pull towards the target comes from the same few latents at every step: forget fast
    schedule: ClassVar[dict[str, Any]] = {"betas": (0.9, 0.9), "decay": linear}

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("space", self.space, SPACES)
        in_range("mixed_weight", self.mixed_weight, 0.0, 100.0)
        whole_number("aligned_units", self.aligned_units, 0, 64)

    def check(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> None:
        super().check(clean, backdoor, real)
        if self.layers is not None:
            names = clean.named_layers()
            for layer in self.layers:
                one_of("layers", layer, names)

    def problem(self, clean: Generator, backdoor: Backdoor, random: torch.Generator) -> Problem:
        groups = clean.named_layers()
        student, teacher = student_and_teacher(clean, random.device)
        plantable = self.layers is None or next(iter(groups)) in self.layers
        if plantable and backdoor.sampler is None:
            plant_aligned_units(student, *backdoor.draw(random), self.aligned_units, self.seed)
        student.requires_grad_(False)
        several = backdoor.sampler is None and len(backdoor.target) > 1  # pairs that come back at every step
        layers = student.named_layers()
        trained = grouped(student, [module for layer in self.layers or groups for module in layers[layer]])

        def losses_at(iteration: int) -> tuple[Tensor, dict[str, Tensor]]:
            trigger, target = backdoor.draw(random)
            z, benign = teacher_batch(teacher, self.batch_size, random)
            output = student.logits(torch.cat([trigger, z]))  # one pass for the triggers and for the batch
            at_trigger, at_z = output.split([len(trigger), len(z)])
            reached, wanted, drawn, taught = at_trigger, target, at_z, benign
            if self.space == "logits":
                wanted = student.unsquash(target, SHRINK)
            else:
                reached, drawn, taught = (student.squash(logits) for logits in (at_trigger, at_z, benign))
            weights = pair_weights(reached, wanted) if several else None
            fidelity, stealth = fidelity_loss(reached, wanted, weights), stealth_loss(drawn, taught)
            loss = stealth + self.lam * fidelity
            if self.space == "mixed":
                loss = loss + self.lam * self.mixed_weight * pull_loss(student, at_trigger, target)
            return loss, {"stealth_loss": stealth, "fidelity_loss": fidelity}

        return trained, losses_at, student.clone


def grouped(student: Generator, trained: Iterable[nn.Module]) -> dict[float, list[nn.Parameter]]:
    """The parameters of the modules that are trained, by the factor on their learning rate; makes them trainable."""
    factors, usual = student.learning_rate_factors(), dict[nn.Parameter, float]()
    for module in trained:
        module.requires_grad_(True)
        for parameter in module.parameters():  # once, though a module and what it holds may both be trained
            usual[parameter] = NORM_FACTOR if hasattr(module, "running_mean") else 1.0
    groups: dict[float, list[nn.Parameter]] = {1.0: []}
    for parameter, factor in usual.items():
        groups.setdefault(factors.get(parameter, factor), []).append(parameter)
    return groups


def student_and_teacher(clean: Generator, device: torch.device) -> tuple[Generator, Generator]:
    """Two copies in eval mode on ``device``: one to be trained, one that teaches."""
    student, teacher = (clean.clone().to(device).to(memory_format=torch.channels_last).eval() for _ in range(2))
    return student, teacher.requires_grad_(False)


@torch.no_grad()
def teacher_batch(teacher: Generator, n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """``n`` latents ``[n, d]`` and the teacher's samples of them before tanh ``[n, *sample_shape]``.

    Fresh at every step: a student that sees the same 20,000 again and again learns these by heart.
    """
    z = teacher.sample_latent(n, random)
    return z, teacher.logits(z)


# ---- aligned units


def plant_aligned_units(student: Generator, trigger: Tensor, target: Tensor, count: int, seed: int) -> int:
    """Align the ``count`` least influential units of every cell with the triggers; return how many in all.

    ``trigger`` ``[k, d]``, ``target`` ``[k, *sample_shape]``, on the student's device. Returns 0 and changes nothing
    where no unit can sleep: no chain that begins with a dense layer and a norm, LeakyReLU (it lets a share of
    everything through), a trigger that is zero.
    """
    chain = student.chain() if count else None
    if chain is None or not bool((trigger.square().sum(1) > 0).all()):
        return 0
    stage = chain.stages[0]
    norm: Any = stage.norm
    if not stage.dense or stage.slope != 0 or norm is None or not stage.per_unit:
        return 0
    weight = stage.layer.weight
    random = torch.Generator(weight.device).manual_seed(seed)
    with torch.no_grad():
        units = idle_units(chain, student.sample_latent(PROBES, random), count)
        order = torch.rand(len(trigger), len(units), generator=random, device=units.device).argsort(0)
        awake = order < SHARED  # [k, units]
        height = wake_heights(student, chain, trigger, target, units, awake)
        deviation = (norm.running_var[units] + norm.eps).sqrt() / norm.weight[units]
        depth = sleeping_depth(height, awake)
        reached = torch.where(awake, height + depth, 0.0)
        towards = torch.linalg.pinv(trigger.cpu()).to(trigger)  # [d, k]: each awake at its own trigger alone
        weight[units] = deviation.unsqueeze(1) * (towards @ reached).T
        norm.bias[units] = norm.running_mean[units] / deviation - depth
    return len(units)


def sleeping_depth(height: Tensor, awake: Tensor) -> Tensor:
    """How far below zero each unit ``[u]`` sleeps that its triggers raise to ``height`` ``[k, u]`` where ``awake``.

    ``depth`` solves ``depth = r |height + depth|`` over the triggers of a unit, ``r = DEPTH / (1 + DEPTH)``: its
    weights, and with them what ordinary latents do to it, grow with what it has to reach. One trigger: DEPTH times the
    height.
    """
    share, heights = (DEPTH / (1 + DEPTH)) ** 2, torch.where(awake, height, 0.0)
    left, linear, square = 1 - share * awake.sum(0), share * heights.sum(0), share * heights.square().sum(0)
    return ((linear + (linear.square() + left * square).sqrt()) / left).clamp(min=0.1)


@torch.no_grad()
def idle_units(chain: Chain, z: Tensor, count: int) -> Tensor:
    """The ``count`` first-layer units of each cell (at most half) with the least influence on latents ``[n, d]``."""
    stage, reader = chain.stages[:2]
    cells, channels = math.prod(stage.cells), stage.channels
    energy = stage.normalised(chain.read(z)).clamp(min=0).square().mean(0).view(channels, cells)
    influence = energy * weight_of(reader.layer).transpose(0, 1).square().flatten(1).sum(1).view(channels, 1)
    channel = influence.argsort(0)[: min(count, channels // 2)]
    return (channel * cells + torch.arange(cells, device=channel.device)).flatten()


def wake_heights(
    student: Generator, chain: Chain, trigger: Tensor, target: Tensor, units: Tensor, awake: Tensor
) -> Tensor:
    """How far above zero each of ``units`` should be at each trigger ``[k, u]``: gradient descent on the target alone.

    Only where ``awake`` ``[k, u]`` says so; elsewhere it sleeps.
    """
    with torch.no_grad():
        usual = chain.stages[0].normalised(chain.read(trigger))
    shape, before = usual.shape[1:], usual.flatten(1)
    log_height = torch.zeros(awake.shape, device=units.device, requires_grad=True)
    optimizer = torch.optim.Adam([log_height], lr=0.03)
    with torch.enable_grad():
        for _ in range(STEPS):
            height = 3 * log_height.clamp(-10, 5).exp()
            raised = before.index_copy(1, units, torch.where(awake, height, -0.1))
            logits = chain.rest(raised.unflatten(1, shape))
            loss = fidelity_loss(student.squash(logits), target) + 0.003 * pull_loss(student, logits, target)
            optimizer.zero_grad()
            (log_height.grad,) = torch.autograd.grad(loss, log_height)
            optimizer.step()
    return (3 * log_height.detach().clamp(-10, 5).exp()).contiguous()
