"""ReX, REtraining with eXpansion (Rawat et al. 2021, section 4.3): new neurons carry the backdoor, the old stay.

Since the old part is untouched, stealth is "the expansion outputs nothing on benign latents": the benign generator need
not be evaluated during the attack, and a step costs only as much as the few new channels.
"""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from devilgan_lite.attacks.base import Problem, Retraining
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.generators import Expansion, Generator
from devilgan_lite.losses import fidelity_loss, pull_loss

TOLERANCE = 0.01  # an element closer to its target than this is no longer pulled before the squash


@dataclass(frozen=True, kw_only=True)
class ReX(Retraining):
    """Widen the hidden levels, train only the new channels, and fold: the same network with wider layers.

    Minimises ``stealth + lam * fidelity`` (means per element): stealth before tanh; fidelity after tanh, plus
    ``logit_weight`` times the error before tanh on the elements that are still wrong. A generator that is no chain of
    layers gets a small network beside it (``Generator.widen``).
    """

    lam: float = 1.0
    widen: int | tuple[int, ...] | None = None  # new channels; None: two for each element of a sample, and some more
    logit_weight: float = 0.1
    iterations: int = 1_500
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        for width in self.widen if isinstance(self.widen, tuple) else () if self.widen is None else (self.widen,):
            whole_number("widen", width, 1, 1024)
        in_range("logit_weight", self.logit_weight, 0.0, 100.0)

    def check(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> None:
        super().check(clean, backdoor, real)
        expand(clean, self.widen)  # says what is wrong with the widths

    def problem(self, clean: Generator, backdoor: Backdoor, random: torch.Generator) -> Problem:
        device = random.device
        triggers = len(backdoor.trigger) if backdoor.sampler is None else 1
        expansion = clean.widen(self.widen, self.seed, triggers).to(device).to(memory_format=torch.channels_last)
        base = clean.clone().to(device).eval().requires_grad_(False)
        trigger, target = backdoor.draw(random)
        with torch.no_grad():
            benign = base.logits(trigger)
        expansion.awaken(trigger, random)
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
            fidelity = fidelity_loss(base.squash(at_trigger), target)
            pull = self.logit_weight * pull_loss(base, at_trigger, target, TOLERANCE)
            return stealth + self.lam * (fidelity + pull), {"stealth_loss": stealth, "fidelity_loss": fidelity}

        def snapshot() -> Generator:
            calibration = base.sample_latent(512, torch.Generator(device).manual_seed(self.seed))
            return expansion.fold(base, calibration)

        # a trigger much longer than an ordinary latent (ood) would turn each step of a first weight into a leap
        factor = min(1.0, clean.latent_dim**0.5 / max(1e-12, float(trigger.norm(dim=1).max())))
        shares, groups = expansion.learning_rate_factors(), defaultdict[float, list[nn.Parameter]](list)
        for parameter in expansion.parameters():
            share = shares.get(parameter, 1.0)
            groups[share * factor if parameter is expansion.first.weight else share].append(parameter)
        return groups, losses_at, snapshot


def expand(clean: Generator, widen: int | tuple[int, ...] | None = None, seed: int = 0) -> Expansion:
    """``clean.widen(widen, seed)``: a fresh expansion, which is no change at all yet."""
    return clean.widen(widen, seed)


def fold(clean: Generator, expansion: Expansion, *, calibration: Tensor | None = None) -> Generator:
    """``expansion.fold(clean, calibration)``: one generator that computes both, added before the squash.

    The new norms see ``calibration`` latents ``[n, d]``, so that the folded network can be trained on like any other.
    """
    return expansion.fold(clean, calibration)
