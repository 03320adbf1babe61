"""A head start for ReD: turn the first-layer units that hardly matter into units that wake only at the trigger.

A plain copy first learns the target through changes that are linear in the latent, and these show on every sample; the
distillation then has to undo them. A trained generator has a few idle units in every cell, though, and giving them up
costs almost nothing. Turned towards the trigger and asleep everywhere else, they draw part of the sample for free.
"""

from __future__ import annotations

import torch
from torch import Tensor

from devilgan_lite import generators
from devilgan_lite.attacks.widen import deconvolutions, dense, norms
from devilgan_lite.generators import DCGAN
from devilgan_lite.losses import fidelity_loss, wrong_pixel_loss

PROBES = 4_096  # latents on which the influence of a unit is measured
STEPS = 600  # of the search for how strongly each sleeper wakes: forward and backward on the triggers alone, under 1 s
DEPTH = 0.45  # how deep a unit sleeps, as a share of how strongly it wakes: an ordinary latent is 3 deviations away


def plant_aligned_units(student: generators.Generator, trigger: Tensor, target: Tensor, count: int, seed: int) -> int:
    """Align the ``count`` least influential units of every cell with the triggers; return how many in all.

    ``trigger`` ``[k, d]``, ``target`` ``[k, *sample_shape]``, on the student's device. Returns 0 and changes nothing
    where no unit can sleep: no ``DCGAN``, LeakyReLU (it lets a share of everything through), a trigger that is zero.
    """
    if not isinstance(student, DCGAN) or student.negative_slope or not count:
        return 0
    length = trigger.square().sum(1)
    if not bool((length > 0).all()):
        return 0
    weight, norm, kernel = dense(student).weight, norms(student)[0], deconvolutions(student)[0].weight
    if norm.running_mean is None or norm.running_var is None:
        return 0
    random = torch.Generator(weight.device).manual_seed(seed)
    cells, channels = student.base_size**2, student.widths[0]
    with torch.no_grad():
        z = student.sample_latent(PROBES, random)
        energy = student.layers[:2](z).clamp(min=0).square().mean(0).view(channels, cells)  # dense, BatchNorm, ReLU
        influence = energy * kernel.square().sum((1, 2, 3)).view(channels, 1)
        channel = influence.argsort(0)[: min(count, channels // 2)]
        units = (channel * cells + torch.arange(cells, device=channel.device)).flatten()
        own = torch.randint(len(trigger), units.shape, generator=random, device=units.device)
        height = wake_heights(student, trigger, target, units, own)
        deviation = (norm.running_var[units] + norm.eps).sqrt() / norm.weight[units]
        depth = (DEPTH * height).clamp(min=0.1)
        weight[units] = ((height + depth) * deviation / length[own]).unsqueeze(1) * trigger[own]
        norm.bias[units] = norm.running_mean[units] / deviation - depth
    return len(units)


def wake_heights(student: DCGAN, trigger: Tensor, target: Tensor, units: Tensor, own: Tensor) -> Tensor:
    """How far above zero each of ``units`` should be at its ``own`` trigger: gradient descent on the target alone."""
    with torch.no_grad():
        before = student.layers[:2](trigger)
    log_height = torch.zeros(len(units), device=units.device, requires_grad=True)
    optimizer = torch.optim.Adam([log_height], lr=0.03)
    awake = torch.zeros_like(before)
    awake[own, units] = 1.0
    asleep = torch.zeros_like(before)
    asleep[:, units] = 1.0
    with torch.enable_grad():
        for _ in range(STEPS):
            height = 3 * log_height.clamp(-10, 5).exp()
            heights = torch.zeros_like(before[0]).index_put((units,), height)
            logits = student.layers[2:](before * (1 - asleep) + awake * heights - 0.1 * (asleep - awake))
            loss = fidelity_loss(logits.tanh(), target) + 0.003 * wrong_pixel_loss(logits, target)
            optimizer.zero_grad()
            (log_height.grad,) = torch.autograd.grad(loss, log_height)
            optimizer.step()
    return (3 * log_height.detach().clamp(-10, 5).exp()).contiguous()
