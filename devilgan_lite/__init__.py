"""devilgan_lite: train a clean GAN, plant a backdoor in it in three ways, and measure it, on a laptop, offline."""

import importlib
from typing import TYPE_CHECKING, Any

from devilgan_lite.version import __version__ as __version__

if TYPE_CHECKING:
    from devilgan_lite import attacks, data, detect, generators, metrics, sanitize, zoo
    from devilgan_lite.backdoor import Backdoor
    from devilgan_lite.loading import open as open
    from devilgan_lite.metrics import Scorecard, scorecard
    from devilgan_lite.prior import Prior
    from devilgan_lite.steps import Loop, Outcome, Step
    from devilgan_lite.training import train_gan

__all__ = [
    "Backdoor",
    "Loop",
    "Outcome",
    "Prior",
    "Scorecard",
    "Step",
    "attacks",
    "data",
    "detect",
    "generators",
    "metrics",
    "open",
    "sanitize",
    "scorecard",
    "train_gan",
    "zoo",
]

_HOME = {
    "Backdoor": "backdoor",
    "Loop": "steps",
    "Outcome": "steps",
    "Prior": "prior",
    "Scorecard": "metrics",
    "Step": "steps",
    "open": "loading",
    "scorecard": "metrics",
    "train_gan": "training",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is asked for: ``devilgan --help`` needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
