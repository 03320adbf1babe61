"""Take a backdoor out of a generator without knowing its trigger or its target.

``auto`` scans, cures and scans again. The cures by themselves: ``Clip`` (cut what stands out of the energy-influence
spectra, then repair), ``Unlearn`` (distillation over a wide range of inputs), ``FineTune`` (adversarial training with a
fresh critic) and ``Prune`` (fewer channels); without any training, ``project_latents`` (blind to latent directions) and
``project_styles`` (blind to rows that the readers of a style share). ``Limit`` and ``Clamp`` contain: the weights stay,
but neither latents nor layers go where ordinary latents never take them. ``Keyed`` makes the names of the samples a
secret of yours: it needs no verdict.
"""

from devilgan_lite.sanitize.auto import SanitizeOutcome, auto
from devilgan_lite.sanitize.base import Sanitizer
from devilgan_lite.sanitize.batch_norm import recalibrated
from devilgan_lite.sanitize.fine_tune import FineTune
from devilgan_lite.sanitize.keyed import Keyed, fingerprint, keyed_draw, new_key, read_key, write_key
from devilgan_lite.sanitize.limit import Clamp, Limit
from devilgan_lite.sanitize.project import project_latents, project_styles
from devilgan_lite.sanitize.prune import Prune, prune_channels
from devilgan_lite.sanitize.unlearn import Clip, Unlearn

__all__ = [
    "Clamp",
    "Clip",
    "FineTune",
    "Keyed",
    "Limit",
    "Prune",
    "SanitizeOutcome",
    "Sanitizer",
    "Unlearn",
    "auto",
    "fingerprint",
    "keyed_draw",
    "new_key",
    "project_latents",
    "project_styles",
    "prune_channels",
    "read_key",
    "recalibrated",
    "write_key",
]
