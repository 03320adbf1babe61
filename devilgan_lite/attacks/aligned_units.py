"""A head start for ReD: turn the first-layer units that hardly matter into units that wake only at the trigger.

A plain copy first learns the target through changes that are linear in the latent, and these show on every sample; the
distillation then has to undo them. A trained generator has a few idle units in every cell, though, and giving them up
costs almost nothing. Turned towards the trigger and asleep everywhere else, they draw part of the sample for free.
"""

import math
from typing import Any

import torch
from torch import Tensor

from devilgan_lite import generators
from devilgan_lite.generators import Chain
from devilgan_lite.generators.chain import weight_of
from devilgan_lite.losses import fidelity_loss, pull_loss

PROBES = 4_096  # latents on which the influence of a unit is measured
STEPS = 600  # of the search for how strongly each unit wakes: forward and backward on the triggers alone, under 1 s
DEPTH = 0.45  # how deep a unit sleeps, as a share of how strongly it wakes: an ordinary latent is 3 deviations away
SHARED = 3  # triggers, of several, that wake the same unit: more that can be drawn at each, for a deeper sleep


def plant_aligned_units(student: generators.Generator, trigger: Tensor, target: Tensor, count: int, seed: int) -> int:
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
    student: generators.Generator, chain: Chain, trigger: Tensor, target: Tensor, units: Tensor, awake: Tensor
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
