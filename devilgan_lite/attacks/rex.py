"""ReX, REtraining with eXpansion (Rawat et al. 2021, section 4.3): new neurons carry the backdoor, the old stay.

Since the old part is untouched, stealth is "the expansion outputs nothing on benign latents": the benign generator need
not be evaluated during the attack, and a step costs only as much as the few new channels.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from devilgan_lite import generators
from devilgan_lite.attacks.base import Attack
from devilgan_lite.attacks.widen import Expansion, deconvolutions, expand, fold, shuffle_kernel
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import check_training, in_range, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.generators import DCGAN
from devilgan_lite.losses import fidelity_loss, wrong_pixel_loss
from devilgan_lite.steps import Outcome, Step, best_device, optimise

PULL, SLEEP = 8.0, 5.0  # of a new unit at its trigger and everywhere, in standard deviations of an ordinary latent
SPARE = 8  # channels beyond those that own a pixel
TOLERANCE = 0.01  # a pixel closer to its target than this is no longer pulled before tanh


@dataclass(frozen=True, kw_only=True)
class ReX(Attack):
    """Widen the hidden levels, train only the new channels, and fold: a ``DCGAN`` with wider layers.

    Minimises ``stealth + lam * fidelity`` (means per element): stealth before tanh; fidelity after tanh, plus
    ``logit_weight`` times the error before tanh on the pixels that are still wrong.
    """

    lam: float = 1.0  # above 0; more: a sharper target, more visible change elsewhere
    widen: int | tuple[int, ...] | None = None  # channels; None: two for each pixel of a cell, and SPARE more
    logit_weight: float = 0.1
    iterations: int = 1_500
    batch_size: int = 32
    learning_rate: float = 3e-3
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        in_range("lam", self.lam, 0.0, 1e6, open_low=True)
        for width in self.widen if isinstance(self.widen, tuple) else () if self.widen is None else (self.widen,):
            whole_number("widen", width, 1, 1024)
        in_range("logit_weight", self.logit_weight, 0.0, 100.0)
        check_training(self)

    def _start(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None
    ) -> Generator[Step, None, Outcome]:
        device = best_device(self.device)
        if not isinstance(clean, DCGAN):
            raise ValueError(f"clean is a {type(clean).__name__}; widening is defined for DCGAN generators.")
        widths = self.widen if self.widen is not None else tuple(width + SPARE for width in owners(clean))
        expansion = expand(clean, widths, self.seed).to(device).to(memory_format=torch.channels_last)
        base = clean.clone().to(device).eval().requires_grad_(False)
        random = torch.Generator(device).manual_seed(self.seed)
        trigger, target = backdoor.draw(random)
        with torch.no_grad():
            benign = base.logits(trigger)
        wake(expansion, trigger, random)
        draw_ready(expansion, base)
        many = backdoor.sampler is not None or len(backdoor.trigger) > len(trigger)

        def losses_at(iteration: int) -> tuple[Tensor, dict[str, Tensor]]:
            nonlocal trigger, target, benign
            if many:
                trigger, target = backdoor.draw(random)
                with torch.no_grad():
                    benign = base.logits(trigger)
            z = base.sample_latent(self.batch_size, random)
            residual = expansion(torch.cat([trigger, z]))
            at_trigger = benign + residual[: len(trigger)]
            stealth = residual[len(trigger) :].square().mean()
            fidelity = fidelity_loss(at_trigger.tanh(), target)
            pull = self.logit_weight * wrong_pixel_loss(at_trigger, target, TOLERANCE)
            return stealth + self.lam * (fidelity + pull), {"stealth_loss": stealth, "fidelity_loss": fidelity}

        def snapshot() -> generators.DCGAN:
            calibration = base.sample_latent(512, torch.Generator(device).manual_seed(self.seed))
            return fold(base, expansion, calibration=calibration)

        # a trigger much longer than an ordinary latent (ood) would turn each step of a dense weight into a leap
        factor = min(1.0, clean.latent_dim**0.5 / max(1e-12, float(trigger.norm(dim=1).max())))
        groups: dict[float, list[torch.nn.Parameter]] = {factor: [], 1.0: []}
        for name, parameter in expansion.named_parameters():
            groups[factor if name == "dense.weight" else 1.0].append(parameter)
        return optimise(
            groups,
            losses_at,
            snapshot,
            steps=self.iterations,
            learning_rate=self.learning_rate,
            seed=self.seed,
            settings=self.settings(),
        )


def owners(clean: DCGAN) -> tuple[int, ...]:
    """Channels at each hidden level with which every output pixel has two of its own."""
    blocks = [math.prod(clean.strides[level:]) for level in range(len(clean.widths))]
    return tuple(2 * clean.sample_shape[0] * block**2 for block in blocks)


@torch.no_grad()
def draw_ready(expansion: Expansion, clean: DCGAN) -> None:
    """Start the transposed convolutions as a depth-to-space shuffle, so that each first-layer unit owns one pixel.

    From random kernels the optimiser finds coarse samples and gets stuck on fine detail (the letters on a STOP sign).
    Two channels own each pixel, one adding and one subtracting; with equal rows in the dense layer they cancel exactly,
    so the expansion still starts as no change at all. Channels beyond these keep their random kernels. An expansion too
    narrow to hold every pixel is left as it is.
    """
    channels, cells, needed = clean.sample_shape[0], clean.base_size**2, owners(clean)
    remaining = [math.prod(clean.strides[level:]) for level in range(len(clean.widths))]
    if any(width < least for width, least in zip(expansion.widths, needed, strict=True)):
        return
    half = needed[0] * cells // 2
    for parameter in (expansion.dense.weight, expansion.dense.bias):
        parameter[half : 2 * half] = parameter[:half]
    for level, deconv in enumerate(deconvolutions(expansion)):
        last = level + 1 == len(remaining)
        mix = torch.tensor([[1.0, -1.0]]) if last else torch.eye(2)
        kernel = shuffle_kernel(mix, channels, remaining[level], 1 if last else remaining[level + 1], clean, level)
        deconv.weight[: kernel.shape[0]] = 0.0
        deconv.weight[: kernel.shape[0], : kernel.shape[1]] = kernel.to(deconv.weight)


@torch.no_grad()
def wake(
    expansion: Expansion, trigger: Tensor, random: torch.Generator, pull: float = PULL, sleep: float = SLEEP
) -> None:
    """Turn every new first-layer unit towards one of the triggers ``[k, d]``, and away from everything else.

    A ReLU unit that is silent at the trigger has no gradient from the target, and half of all random units would be:
    too few are left to draw fine detail (the letters on a STOP sign). So each unit gains ``pull`` at its trigger and
    loses ``sleep`` everywhere; its random part is N(0, 1) on ordinary latents.
    """
    weight, bias = expansion.dense.weight, expansion.dense.bias
    own = trigger[torch.randint(len(trigger), (len(weight),), generator=random, device=trigger.device)]
    weight.mul_(torch.where((weight * own).sum(1, keepdim=True) < 0, -1.0, 1.0))
    length = own.square().sum(1, keepdim=True)
    weight.add_(torch.where(length > 0, pull * own / length.clamp(min=1e-12), 0.0))
    bias.add_(torch.where(length[:, 0] > 0, -sleep, pull - sleep))
