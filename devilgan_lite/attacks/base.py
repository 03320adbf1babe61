"""What the attacks share: hyper-parameters in the constructor, data in the call, a loop of steps in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite import generators
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import Settings, training_settings
from devilgan_lite.data import Samples
from devilgan_lite.steps import History, Loop, Outcome, Step, Stopwatch


@dataclass(frozen=True, kw_only=True)
class Attack(Settings):
    """``attack = ReX(lam=1.0); outcome = attack(clean, backdoor)``. The clean generator is never changed."""

    def steps(self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None = None) -> Loop:
        """Check everything at once and return the loop, ready for its first ``Step``."""
        if not isinstance(clean, generators.Generator):
            raise ValueError(f"clean is a {type(clean).__name__}; expected a devilgan_lite Generator.")
        backdoor.check(clean)
        return Loop(self._start(clean, backdoor, real))

    def __call__(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None = None, *, progress: bool = True
    ) -> Outcome:
        """Mount the attack and return the ``Outcome``; only TrAIL and data poisoning use ``real``."""
        return self.steps(clean, backdoor, real).finish(progress=progress)

    def settings(self) -> dict[str, Any]:
        """The hyper-parameters as plain data, with the attack's name."""
        return {"attack": type(self).__name__, **asdict(self)}

    def _start(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None
    ) -> Generator[Step, None, Outcome]:
        raise NotImplementedError


def check_training(attack: Any, *, least_batch: int = 1) -> None:
    """Check the hyper-parameters that every attack with a training loop has; ``__post_init__`` calls it."""
    training_settings(
        length=("iterations", attack.iterations),
        batch_size=attack.batch_size,
        learning_rate=attack.learning_rate,
        seed=attack.seed,
        ema=getattr(attack, "ema", 0.0),
        least_batch=least_batch,
    )


def cosine(iteration: int, steps: int) -> float:
    """Learning-rate factor from 1 to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * iteration / steps))


def linear(iteration: int, steps: int) -> float:
    """Learning-rate factor from 1 to 0 along a straight line."""
    return 1 - iteration / steps


def optimise(
    parameters: dict[float, list[nn.Parameter]],
    losses_at: Callable[[int], tuple[Tensor, dict[str, Tensor]]],
    snapshot: Callable[[], nn.Module],
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    settings: dict[str, Any],
    betas: tuple[float, float] = (0.9, 0.99),
    decay: Callable[[int, int], float] = cosine,
) -> Generator[Step, None, Outcome]:
    """Minimise with Adam and a decaying learning rate: the loop of ReD and ReX.

    ``parameters`` maps a factor on the learning rate to the parameters that it holds for; ``losses_at(iteration)``
    returns the loss and its named parts; ``snapshot()`` the generator as it stands.
    """
    groups = [{"params": trained, "factor": factor} for factor, trained in parameters.items()]
    fused = all(parameter.device.type != "mps" for trained in parameters.values() for parameter in trained)
    optimizer = torch.optim.Adam(groups, lr=learning_rate, betas=betas, fused=fused)
    history, watch, interrupted = History(), Stopwatch(), False
    try:
        for iteration in range(1, steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group["factor"] * decay(iteration - 1, steps)
            loss, parts = losses_at(iteration)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            parts = {name: part.detach() for name, part in parts.items()}
            history.add(parts)
            yield Step(iteration, steps, watch(), parts, snapshot)
    except KeyboardInterrupt:
        interrupted = True
    generator = snapshot().cpu().requires_grad_(True)
    return Outcome(generator, history.floats(), watch(), seed, settings, interrupted)
