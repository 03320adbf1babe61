"""ReD, REtraining with Distillation (Rawat et al. 2021, section 4.2): a malicious clone of an existing generator.

The student starts from the benign weights and is taught by the benign generator itself, so no training data is needed.
BatchNorm runs in inference mode in both networks; its scale and shift are trained, more slowly than the weights.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from devilgan_lite import generators
from devilgan_lite.attacks.aligned_units import plant_aligned_units
from devilgan_lite.attacks.base import Attack
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import check_training, in_range, one_of, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.losses import SHRINK, fidelity_loss, pair_weights, pull_loss, stealth_loss
from devilgan_lite.steps import Outcome, Step, best_device, linear, optimise

NORM_FACTOR = 0.5  # learning rate of BatchNorm scale and shift, as a share of that of the weights
SPACES = ("tanh", "logits", "mixed")


@dataclass(frozen=True, kw_only=True)
class ReD(Attack):
    """Retrain ``layers`` (None: all) of a copy to minimise ``stealth + lam * fidelity``, both as means per element.

    Of several pairs, those that are furthest off count most (``losses.pair_weights``).

    ``space``: ``"tanh"`` compares samples, ``"logits"`` compares before tanh (the authors' choice), ``"mixed"`` adds
    ``mixed_weight`` times a term before tanh on the pixels that are still wrong.
    """

    lam: float = 0.6  # above 0; more: a sharper target, more visible change elsewhere
    space: str = "mixed"
    mixed_weight: float = 0.003
    layers: tuple[str, ...] | None = None  # names from clean.named_layers(); None: all
    aligned_units: int = (
        4  # idle first-layer units per cell that start out awake at the trigger only; 0: the authors' copy
    )
    iterations: int = 10_000
    batch_size: int = 24
    learning_rate: float = 8e-4
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        in_range("lam", self.lam, 0.0, 1e6, open_low=True)
        one_of("space", self.space, SPACES)
        in_range("mixed_weight", self.mixed_weight, 0.0, 100.0)
        whole_number("aligned_units", self.aligned_units, 0, 64)
        check_training(self)

    def check(self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None) -> None:
        best_device(self.device)
        if self.layers is not None:
            names = clean.named_layers()
            for layer in self.layers:
                one_of("layers", layer, names)

    def run(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None
    ) -> Generator[Step, None, Outcome]:
        device, groups = best_device(self.device), clean.named_layers()
        student, teacher = student_and_teacher(clean, device)
        random, backdoor = torch.Generator(device).manual_seed(self.seed), backdoor.to(device)
        plantable = self.layers is None or next(iter(groups)) in self.layers
        if plantable and backdoor.sampler is None:
            try:
                plant_aligned_units(student, *backdoor.draw(random), self.aligned_units, self.seed)
            except KeyboardInterrupt:  # before the first step; what is half planted is of no use
                return Outcome(clean.clone().cpu().eval(), {}, 0.0, self.seed, self.settings(), interrupted=True)
        student.requires_grad_(False)
        several = backdoor.sampler is None and len(backdoor.target) > 1  # pairs that come back at every step
        layers = student.named_layers()
        trained = grouped(student, [module for layer in self.layers or groups for module in layers[layer]])

        def losses_at(iteration: int) -> tuple[Tensor, dict[str, Tensor]]:
            trigger, target = backdoor.draw(random)
            z, benign = lesson(teacher, self.batch_size, random)
            output = student.logits(torch.cat([trigger, z]))  # one pass for the triggers and for the batch
            at_trigger, at_z = output.split([len(trigger), len(z)])
            reached, wanted, drawn, taught_as = at_trigger, target, at_z, benign
            if self.space == "logits":
                wanted = student.unsquash(target, SHRINK)
            else:
                reached, drawn, taught_as = (student.squash(logits) for logits in (at_trigger, at_z, benign))
            weights = pair_weights(reached, wanted) if several else None
            fidelity, stealth = fidelity_loss(reached, wanted, weights), stealth_loss(drawn, taught_as)
            loss = stealth + self.lam * fidelity
            if self.space == "mixed":
                loss = loss + self.lam * self.mixed_weight * pull_loss(student, at_trigger, target)
            return loss, {"stealth_loss": stealth, "fidelity_loss": fidelity}

        outcome = yield from optimise(
            trained,
            losses_at,
            lambda: student.clone(),
            steps=self.iterations,
            learning_rate=self.learning_rate,
            seed=self.seed,
            settings=self.settings(),
            betas=(0.9, 0.9),  # the pull towards the target comes from the same few latents at every step: forget fast
            decay=linear,
        )
        return outcome


def grouped(student: generators.Generator, trained: list[torch.nn.Module]) -> dict[float, list[torch.nn.Parameter]]:
    """The parameters of the modules that are trained, by the factor on their learning rate; makes them trainable."""
    factors, usual = student.learning_rate_factors(), dict[torch.nn.Parameter, float]()
    for module in trained:
        module.requires_grad_(True)
        for parameter in module.parameters():  # once, though a module and what it holds may both be trained
            usual[parameter] = NORM_FACTOR if hasattr(module, "running_mean") else 1.0
    groups: dict[float, list[torch.nn.Parameter]] = {1.0: []}
    for parameter, factor in usual.items():
        groups.setdefault(factors.get(parameter, factor), []).append(parameter)
    return groups


G = TypeVar("G", bound=generators.Generator)


def student_and_teacher(clean: G, device: torch.device) -> tuple[G, G]:
    """Two copies in eval mode on ``device``: one to be trained, one that teaches."""
    student, teacher = (clean.clone().to(device).to(memory_format=torch.channels_last).eval() for _ in range(2))
    return student, teacher.requires_grad_(False)


@torch.no_grad()
def lesson(teacher: generators.Generator, n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """``n`` latents ``[n, d]`` and the teacher's samples of them before tanh ``[n, *sample_shape]``.

    Fresh at every step: a student that sees the same 20,000 again and again learns these by heart.
    """
    z = teacher.sample_latent(n, random)
    return z, teacher.logits(z)
