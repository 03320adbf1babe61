"""What the attacks share: settings in the constructor, data in the call, and the three loops in between.

An attack takes one step (``Attack.one_step``), retrains a copy or new parts (``Retraining``), or trains a GAN
(``GANAttack``).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import Settings, check_training, in_range, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.generators import Generator
from devilgan_lite.steps import Loop, Outcome, Step, Steps, Stopwatch, best_device, optimise
from devilgan_lite.training import ExtraLoss, TrainingSettings, adversarial_training

LossesAt = Callable[[int], tuple[Tensor, dict[str, Tensor]]]
# the parameters by the factor on their learning rate, the loss with its named parts, and the generator as it stands
Problem = tuple[dict[float, list[nn.Parameter]], LossesAt, Callable[[], Generator]]


@dataclass(frozen=True, kw_only=True)
class Attack(Settings):
    """``attack = ReX(lam=1.0); outcome = attack(clean, backdoor)``. The clean generator is never changed."""

    seed: int = 0
    uses_real: ClassVar[bool] = False  # whether it trains on real samples

    def __post_init__(self) -> None:
        whole_number("seed", self.seed, 0)

    def steps(self, clean: Generator, backdoor: Backdoor, real: Samples | None = None) -> Loop:
        """Check everything at once and return the loop, ready for its first ``Step``."""
        if not isinstance(clean, Generator):
            raise ValueError(f"clean is a {type(clean).__name__}; expected a devilgan_lite Generator.")
        backdoor.check(clean)
        self.check(clean, backdoor, real)
        return Loop(self.run(clean, backdoor, real))

    def __call__(
        self, clean: Generator, backdoor: Backdoor, real: Samples | None = None, *, progress: bool = True
    ) -> Outcome:
        """Mount the attack and return the ``Outcome``; ``real`` are samples for an attack that ``uses_real``."""
        return self.steps(clean, backdoor, real).finish(progress=progress)

    def settings(self) -> dict[str, Any]:
        """The hyper-parameters as plain data, with the attack's name."""
        return {"attack": type(self).__name__, **asdict(self)}

    def check(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> None:
        """Raise ``ValueError`` where this attack does not fit what it is given; before any work."""

    def run(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> Steps:
        """The loop itself; its arguments have been checked."""
        raise NotImplementedError

    def one_step(self, made: Generator, backdoor: Backdoor, watch: Stopwatch, interrupted: bool = False) -> Steps:
        """The loop of an attack without training: ``made`` on the CPU is what it leaves; ``watch`` has timed it."""
        history: dict[str, list[float]] = {"fidelity_loss": []}
        try:
            with torch.no_grad():
                fidelity = (made(backdoor.trigger) - backdoor.target).square().mean()
            history["fidelity_loss"].append(float(fidelity))
            if not interrupted:
                yield Step(1, 1, watch(), {"fidelity_loss": fidelity}, made.clone)
        except KeyboardInterrupt:
            interrupted = True
        return Outcome(made, history, watch(), self.seed, self.settings(), interrupted)


@dataclass(frozen=True, kw_only=True)
class Retraining(Attack):
    """An attack that minimises a loss over a copy of the clean generator, or over new parts beside it.

    A subclass says in ``problem`` what is trained and on which loss.
    """

    lam: float  # above 0; more: a sharper target, more visible change elsewhere
    iterations: int
    batch_size: int = 32
    learning_rate: float
    device: str = "auto"
    schedule: ClassVar[dict[str, Any]] = {}  # betas and decay, where they are not those of ``steps.optimise``

    def __post_init__(self) -> None:
        in_range("lam", self.lam, 0.0, 1e6, open_low=True)
        check_training(self)

    def check(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> None:
        best_device(self.device)

    def problem(self, clean: Generator, backdoor: Backdoor, random: torch.Generator) -> Problem:
        """What is minimised; ``backdoor`` and ``random`` are on the device that trains."""
        raise NotImplementedError

    def run(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> Steps:
        device = best_device(self.device)
        try:
            problem = self.problem(clean, backdoor.to(device), torch.Generator(device).manual_seed(self.seed))
        except KeyboardInterrupt:  # before the first step; what is half prepared is of no use
            return Outcome(clean.clone().cpu().eval(), {}, 0.0, self.seed, self.settings(), interrupted=True)
        outcome = yield from optimise(
            *problem,
            steps=self.iterations,
            learning_rate=self.learning_rate,
            seed=self.seed,
            settings=self.settings(),
            **self.schedule,
        )
        return outcome


@dataclass(frozen=True, kw_only=True)
class GANAttack(Attack):
    """An attack that trains a GAN from scratch on real samples."""

    iterations: int = 2_000
    batch_size: int = 32
    learning_rate: float = 2e-3
    ema: float = 0.999
    device: str = "auto"
    uses_real: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_training(self, least_batch=2)

    def train(self, clean: Generator, real: Samples, extra: ExtraLoss | None = None) -> Steps:
        """``training.adversarial_training`` with the settings of this attack."""
        return adversarial_training(clean, real, TrainingSettings.of(self), extra=extra, described=self.settings())
