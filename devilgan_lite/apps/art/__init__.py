"""The Adversarial Robustness Toolbox (ART) with generators in PyTorch: estimators, attacks and defences in its manner.

ART 1.20 has the attacks of Rawat et al. (2021) for TensorFlow only, and no defence for generators. These classes stand
on ART's own base classes and drive the attacks, detectors and sanitizers of this package on any ``nn.Module``.
"""

try:
    import art.estimators.pytorch  # noqa: F401  # ``art`` may also be another package of that name
except ImportError as error:
    raise ImportError(
        'devilgan_lite.apps.art needs the Adversarial Robustness Toolbox: pip install "devilgan_lite[art]".'
    ) from error

from devilgan_lite.apps.art.attacks import (
    BackdoorAttackDGMGatePyTorch,
    BackdoorAttackDGMReDPyTorch,
    BackdoorAttackDGMReXPyTorch,
    BackdoorAttackDGMTrailPyTorch,
)
from devilgan_lite.apps.art.defences import GeneratorGuard, GeneratorSanitizer, GeneratorScan
from devilgan_lite.apps.art.gan import PyTorchGAN
from devilgan_lite.apps.art.generator import PyTorchGenerator

__all__ = [
    "BackdoorAttackDGMGatePyTorch",
    "BackdoorAttackDGMReDPyTorch",
    "BackdoorAttackDGMReXPyTorch",
    "BackdoorAttackDGMTrailPyTorch",
    "GeneratorGuard",
    "GeneratorSanitizer",
    "GeneratorScan",
    "PyTorchGAN",
    "PyTorchGenerator",
]
