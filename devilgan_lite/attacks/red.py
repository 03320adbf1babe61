"""ReD, REtraining with Distillation (Rawat et al. 2021, section 4.2): a malicious clone of an existing generator.

The student starts from the benign weights and is taught by the benign generator itself, so no training data is needed.
BatchNorm runs in inference mode in both networks; its scale and shift are trained.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from devilgan_lite import generators
from devilgan_lite.attacks.base import Attack, check_training, optimise
from devilgan_lite.attacks.losses import fidelity_loss, stealth_loss, target_logits, wrong_pixel_loss
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import in_range, one_of
from devilgan_lite.data import Samples
from devilgan_lite.steps import Outcome, Step, best_device

SPACES = ("tanh", "logits", "mixed")


@dataclass(frozen=True, kw_only=True)
class ReD(Attack):
    """Retrain ``layers`` (None: all) of a copy to minimise ``stealth + lam * fidelity``, both as means per element.

    ``space``: ``"tanh"`` compares pictures, ``"logits"`` compares before tanh (the authors' choice), ``"mixed"`` adds
    ``mixed_weight`` times a term before tanh on the pixels that are still wrong.
    """

    lam: float = 0.2  # above 0; more: a sharper target, more visible change elsewhere
    space: str = "mixed"
    mixed_weight: float = 0.003
    layers: tuple[str, ...] | None = None  # names from clean.layer_names(); None: all
    iterations: int = 3_000
    batch_size: int = 64
    learning_rate: float = 3e-3
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        in_range("lam", self.lam, 0.0, 1e6, open_low=True)
        one_of("space", self.space, SPACES)
        in_range("mixed_weight", self.mixed_weight, 0.0, 100.0)
        check_training(self)

    def _start(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None
    ) -> Generator[Step, None, Outcome]:
        device = best_device(self.device)
        names = layers_of(clean)
        for layer in self.layers if self.layers is not None else ():
            one_of("layers", layer, names)
        student = clean.clone().to(device).to(memory_format=torch.channels_last).eval()
        teacher = clean.clone().to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        student.requires_grad_(False)
        for layer in self.layers if self.layers is not None else names:
            for module in layers_of(student)[layer]:
                module.requires_grad_(True)
        random = torch.Generator(device).manual_seed(self.seed)

        def losses_at(iteration: int) -> tuple[Tensor, dict[str, Tensor]]:
            trigger, target = backdoor.draw(random)
            z = student.sample_latent(self.batch_size, random)
            output = student.logits(torch.cat([trigger, z]))  # one pass for the triggers and for the batch
            at_trigger, at_z = output.split([len(trigger), len(z)])
            with torch.no_grad():
                benign = teacher.logits(z)
            if self.space == "logits":
                fidelity, stealth = fidelity_loss(at_trigger, target_logits(target)), stealth_loss(at_z, benign)
            else:
                fidelity = fidelity_loss(at_trigger.tanh(), target)
                stealth = stealth_loss(at_z.tanh(), benign.tanh())
            loss = stealth + self.lam * fidelity
            if self.space == "mixed":
                loss = loss + self.lam * self.mixed_weight * wrong_pixel_loss(at_trigger, target)
            return loss, {"stealth_loss": stealth, "fidelity_loss": fidelity}

        return optimise(
            {1.0: [parameter for parameter in student.parameters() if parameter.requires_grad]},
            losses_at,
            lambda: student.clone(),
            steps=self.iterations,
            learning_rate=self.learning_rate,
            seed=self.seed,
            settings=self.settings(),
        )


def layers_of(generator: generators.Generator) -> dict[str, list[torch.nn.Module]]:
    """Layer name -> its modules with weights: the linear map and the BatchNorm that follows it."""
    groups: dict[str, list[torch.nn.Module]] = {}
    for name, module in generator.get_submodule("layers").named_children():
        if isinstance(module, (torch.nn.Linear, torch.nn.ConvTranspose2d)):
            groups[name] = [module]
        elif any(True for _ in module.parameters()):
            groups[next(reversed(groups))].append(module)
    return groups
