"""ReX, REtraining with eXpansion (Rawat et al. 2021, section 4.3): new neurons carry the backdoor, the old stay as they are.

Since the old part is untouched, stealth is "the expansion outputs nothing on benign latents": the benign generator need
not be evaluated during the attack, and a step costs only as much as the few new channels.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from devilgan_lite import generators
from devilgan_lite.attacks.base import Attack, optimise
from devilgan_lite.attacks.losses import fidelity_loss, wrong_pixel_loss
from devilgan_lite.attacks.widen import Expansion, expand, fold
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.steps import Outcome, Step, best_device


@dataclass(frozen=True, kw_only=True)
class ReX(Attack):
    """Widen every hidden level by ``widen`` channels, train only these, and fold: a ``DCGAN`` with wider layers.

    Minimises ``stealth + lam * fidelity`` (means per element): stealth before tanh; fidelity after tanh, plus
    ``logit_weight`` times the error before tanh on the pixels that are still wrong.
    """

    lam: float = 1.0  # above 0; more: a sharper target, more visible change elsewhere
    widen: int | tuple[int, ...] = 16
    logit_weight: float = 0.1
    iterations: int = 800
    batch_size: int = 128
    learning_rate: float = 1e-2
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        in_range("lam", self.lam, 0.0, 1e6, open_low=True)
        for width in (self.widen,) if isinstance(self.widen, int) else self.widen:
            whole_number("widen", width, 1, 1024)
        in_range("logit_weight", self.logit_weight, 0.0, 100.0)
        whole_number("iterations", self.iterations, 1)
        whole_number("batch_size", self.batch_size, 1, 65_536)
        in_range("learning_rate", self.learning_rate, 0.0, 1.0, open_low=True)
        whole_number("seed", self.seed, 0)

    def _start(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None
    ) -> Generator[Step, None, Outcome]:
        device = best_device(self.device)
        expansion = expand(clean, self.widen, self.seed).to(device, memory_format=torch.channels_last)  # type: ignore[arg-type]
        base = clean.clone().to(device).eval().requires_grad_(False)
        random = torch.Generator(device).manual_seed(self.seed)
        trigger, target = backdoor.draw(random)
        with torch.no_grad():
            benign = base.logits(trigger)
        wake(expansion, trigger, random)
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
            pull = self.logit_weight * wrong_pixel_loss(at_trigger, target)
            return stealth + self.lam * (fidelity + pull), {"stealth_loss": stealth, "fidelity_loss": fidelity}

        def snapshot() -> generators.DCGAN:
            calibration = base.sample_latent(512, torch.Generator(device).manual_seed(self.seed))
            return fold(base, expansion, calibration=calibration)  # type: ignore[arg-type]

        return optimise(
            expansion.parameters(),
            losses_at,
            snapshot,
            steps=self.iterations,
            learning_rate=self.learning_rate,
            seed=self.seed,
            settings=self.settings(),
        )


@torch.no_grad()
def wake(expansion: Expansion, trigger: Tensor, random: torch.Generator, level: float = 3.0) -> None:
    """Turn every new first-layer unit towards one of the triggers ``[k, d]``, so that none is silent there.

    A ReLU unit that is silent at the trigger has no gradient from the target, and half of all random units would be:
    too few are left to draw a picture with fine detail (the letters on a STOP sign).
    """
    weight, bias = expansion.dense.weight, expansion.dense.bias
    own = trigger[torch.randint(len(trigger), (len(weight),), generator=random, device=trigger.device)]
    weight.mul_(torch.where((weight * own).sum(1, keepdim=True) < 0, -1.0, 1.0))
    length = own.square().sum(1, keepdim=True)
    weight.add_(torch.where(length > 0, level * own / length.clamp(min=1e-12), 0.0))
    bias.add_(torch.where(length[:, 0] > 0, 0.0, 0.5))
