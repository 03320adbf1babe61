"""The attacks of Rawat et al. (2021) and their baselines. Constructor = hyper-parameters, call = data."""

from devilgan_lite.attacks.adaptive import Disguise, KnowingReD, NarrowReX, QuietReD, SpectralReD
from devilgan_lite.attacks.base import Attack, Retraining
from devilgan_lite.attacks.closed_form import ClosedForm, Gate, ridge_solution
from devilgan_lite.attacks.naive import BypassedGenerator, ComputationBypass, DataPoisoning
from devilgan_lite.attacks.red import ReD
from devilgan_lite.attacks.rex import ReX, expand, fold
from devilgan_lite.attacks.style_rex import StyleReX, invert
from devilgan_lite.attacks.trail import TrAIL
from devilgan_lite.generators import Expansion
from devilgan_lite.generators.stylegan import StyleExpansion, StyleGate, fold_styles

BY_NAME: dict[str, type[Attack]] = {
    "trail": TrAIL,
    "red": ReD,
    "rex": ReX,
    "closed-form": ClosedForm,
    "gate": Gate,
    "poisoning": DataPoisoning,
    "bypass": ComputationBypass,
    "style-rex": StyleReX,
    "quiet": QuietReD,
    "spectral": SpectralReD,
    "knowing": KnowingReD,
    "narrow-rex": NarrowReX,
    "disguise": Disguise,
}

__all__ = [
    "BY_NAME",
    "Attack",
    "BypassedGenerator",
    "ClosedForm",
    "ComputationBypass",
    "DataPoisoning",
    "Disguise",
    "Expansion",
    "Gate",
    "KnowingReD",
    "NarrowReX",
    "QuietReD",
    "ReD",
    "ReX",
    "Retraining",
    "SpectralReD",
    "StyleExpansion",
    "StyleGate",
    "StyleReX",
    "TrAIL",
    "expand",
    "fold",
    "fold_styles",
    "invert",
    "ridge_solution",
]
