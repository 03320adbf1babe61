"""What the attacks share: hyper-parameters in the constructor, data in the call, a loop of steps in between."""

from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import Any

from devilgan_lite import generators
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import Settings
from devilgan_lite.data import Samples
from devilgan_lite.steps import Loop, Outcome, Step


@dataclass(frozen=True, kw_only=True)
class Attack(Settings):
    """``attack = ReX(lam=1.0); outcome = attack(clean, backdoor)``. The clean generator is never changed."""

    def steps(self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None = None) -> Loop:
        """Check everything at once and return the loop, ready for its first ``Step``."""
        if not isinstance(clean, generators.Generator):
            raise ValueError(f"clean is a {type(clean).__name__}; expected a devilgan_lite Generator.")
        backdoor.check(clean)
        self.check(clean, backdoor, real)
        return Loop(self.run(clean, backdoor, real))

    def __call__(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None = None, *, progress: bool = True
    ) -> Outcome:
        """Mount the attack and return the ``Outcome``; only TrAIL and data poisoning use ``real``."""
        return self.steps(clean, backdoor, real).finish(progress=progress)

    def settings(self) -> dict[str, Any]:
        """The hyper-parameters as plain data, with the attack's name."""
        return {"attack": type(self).__name__, **asdict(self)}

    def check(self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None) -> None:
        """Raise ``ValueError`` where this attack does not fit what it is given; before any work."""

    def run(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None
    ) -> Generator[Step, None, Outcome]:
        """The loop itself; its arguments have been checked."""
        raise NotImplementedError
