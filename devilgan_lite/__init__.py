"""devilgan_lite: train a clean GAN, plant a backdoor in it in three ways, and measure it, on a laptop, offline."""

from devilgan_lite import attacks, data, generators, metrics, zoo
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.metrics import Scorecard, scorecard
from devilgan_lite.steps import Loop, Outcome, Step
from devilgan_lite.training import train_gan

__version__ = "0.1.0"

__all__ = [
    "Backdoor",
    "Loop",
    "Outcome",
    "Scorecard",
    "Step",
    "attacks",
    "data",
    "generators",
    "metrics",
    "scorecard",
    "train_gan",
    "zoo",
]
