"""Fine-tuning: go on with adversarial training on real samples, with a fresh critic.

The first of the two cures that Rawat et al. (2021) name. A fresh critic knows nothing and would wreck the generator, so
it is trained alone first, on the suspect's own samples. With ``wide`` latents the critic also judges what the suspect
makes of inputs that nobody samples, so that those give benign output too: unlearning with data.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from devilgan_lite.checks import check_training, in_range, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.generators import Generator
from devilgan_lite.sanitize.base import Sanitizer, odd_latents
from devilgan_lite.steps import Steps, best_device
from devilgan_lite.training import TrainingSettings, adversarial_training


@dataclass(frozen=True, kw_only=True)
class FineTune(Sanitizer):
    """Adversarial training of a ``Generator`` from where it stands; needs ``real`` samples.

    ``critic_first`` of the ``iterations`` steps train the critic alone; a share ``wide`` in [0, 0.9] of the latents
    has an odd length or lies about the suspected directions.
    """

    iterations: int = 1_200
    critic_first: int = 200
    batch_size: int = 32
    learning_rate: float = 2e-4
    wide: float = 0.0
    ema: float = 0.99
    seed: int = 0

    def __post_init__(self) -> None:
        check_training(self, least_batch=2)
        whole_number("critic_first", self.critic_first, 0, self.iterations - 1)
        in_range("wide", self.wide, 0.0, 0.9)

    def check(self, subject: Generator, real: Samples | None) -> None:
        if not subject.bounded:
            raise ValueError("suspect makes samples without a range, so a critic of real ones in [-1, 1] is no use.")
        if real is None:
            raise ValueError("fine-tuning needs real samples, such as data.fashion_mnist(); Clip and Unlearn do not.")

    def run(self, subject: Generator, real: Samples | None, directions: Tensor | None) -> Steps:
        odd, device = round(self.batch_size * self.wide), best_device(self.device)
        suspected = None if directions is None else directions.to(device)

        def draw(n: int, random: torch.Generator) -> Tensor:
            z = subject.prior.draw(n, random, device)
            return torch.cat([odd_latents(subject, z[:odd], suspected, random), z[odd:]]) if odd else z

        return adversarial_training(
            subject,
            cast(Samples, real),  # checked
            TrainingSettings.of(self),
            described=self.settings(),
            start=subject,
            critic_first=self.critic_first,
            draw=draw,
        )
