"""``Subject``: a module under suspicion, checked once, with the few questions that every detector asks of it.

Any ``nn.Module`` from latents ``[n, d]`` or ``[n, d, 1, 1]`` to samples ``[n, ...]`` will do; nothing of this package
is expected of it.
"""

import copy
import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from devilgan_lite.checks import one_of
from devilgan_lite.data import Modality, modality
from devilgan_lite.generators.adopt import FlatLatents, first_line, first_samples, latent_shapes
from devilgan_lite.prior import PRIORS, Prior
from devilgan_lite.steps import best_device

MOST_WEIGHTS = 100_000_000  # more would take too long to scan
MOST_VALUES = 10_000_000  # of one sample
READS_MORE = 4  # times as many numbers in a latent as in a sample: hardly a generator


@dataclass(frozen=True)
class Subject:
    """A private copy of the module in eval mode, without gradients for its weights, and what is known about it.

    ``prior`` is P_sample, ``shape`` that of one sample, ``modality`` what kind of thing it is. ``span`` is the range of
    the module's own samples, [0, 1] after a sigmoid; they are stretched from it to [-1, 1], the range of targets.
    Without ``bounded`` it is only what ordinary latents reach: others may leave it. A module that is not ``repeatable``
    draws other samples from the same latents: it remembers, or has noise of its own.
    """

    module: nn.Module
    prior: Prior
    shape: tuple[int, ...]
    modality: Modality
    span: tuple[float, float] = (-1.0, 1.0)
    bounded: bool = True
    repeatable: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def latent_dim(self) -> int:
        """The size of a latent."""
        return self.prior.dim

    @property
    def doubts(self) -> str:
        """Why what is measured of this module may mean little; empty where nothing is known against it."""
        if not self.repeatable:
            return "it draws other samples from the same latents, so what is measured may be noise"
        if self.latent_dim > READS_MORE * math.prod(self.shape):
            return f"it reads {self.latent_dim} numbers and makes {math.prod(self.shape)}, as a classifier does"
        return ""

    @property
    def radius(self) -> float:
        """The root mean square length of an ordinary latent."""
        return self.prior.length

    def latents(self, n: int, seed: int = 0) -> Tensor:
        """``n`` draws from P_sample ``[n, d]``, the same for the same seed."""
        return self.draw(n, torch.Generator().manual_seed(seed))

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """``n`` draws from P_sample ``[n, d]``; the next call with the same ``random`` gives other ones."""
        return self.prior.draw(n, random, self.device)

    def __call__(self, z: Tensor) -> Tensor:
        """Samples ``[n, *shape]`` stretched to [-1, 1], with gradients where ``z`` asks for them."""
        x: Tensor = self.module(z)
        low, high = self.span
        return x if (low, high) == (-1.0, 1.0) else (x - low) * (2 / (high - low)) - 1

    @torch.no_grad()
    def samples(self, z: Tensor, batch_size: int = 100) -> Tensor:
        """Samples ``[n, *shape]`` of many latents, in batches, without gradients."""
        return torch.cat([self(part) for part in z.to(self.device).split(batch_size)])

    def alike(self, module: nn.Module) -> "Subject":
        """Another ``module`` that reads the same latents and whose samples are in the same range: a cured copy, say."""
        found = subject_of(module, self.latent_dim, prior=self.prior, device=self.device)
        return replace(found, span=self.span, bounded=self.bounded)


def subject_of(
    module: nn.Module | Subject,
    latent_dim: int | None = None,
    *,
    prior: str | Prior | None = None,
    device: str | torch.device = "cpu",
) -> Subject:
    """Check ``module`` and wrap it; whatever is wrong with it is a ``ValueError`` of one sentence.

    ``latent_dim`` and ``prior`` are read from the module's attributes of these names where it has them; otherwise the
    size is found from its layers, and the prior is taken to be Gaussian. A ``Subject`` is returned as it is.
    """
    asked = prior.name if isinstance(prior, Prior) else prior
    if latent_dim is None and isinstance(prior, Prior):
        latent_dim = prior.dim
    if isinstance(module, Subject):
        if latent_dim not in (None, module.latent_dim) or asked not in (None, module.prior.name):
            raise ValueError(
                f"latent_dim={latent_dim!r} and prior={asked!r} do not fit a subject that reads {module.prior}."
            )
        return module
    if not isinstance(module, nn.Module):
        raise ValueError(f"module is a {type(module).__name__}; expected a torch.nn.Module from [n, d] to samples.")
    weights = [(name, value) for name, value in module.state_dict().items() if isinstance(value, Tensor)]
    empty = [name for name, value in weights if nn.parameter.is_lazy(value)]
    if empty:
        raise ValueError(f"module has weights without a shape, in {empty[0]}; run it on latents first.")
    count = sum(value.numel() for _, value in weights)
    if count > MOST_WEIGHTS:
        raise ValueError(f"module has {count:,} weights; at most {MOST_WEIGHTS:,} can be scanned in reasonable time.")
    for name, value in weights:
        if value.is_meta:
            raise ValueError(f"module has weights without values, in {name} (device meta); load them first.")
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"module has weights that are not finite, in {name}: the file is broken.")
    own = getattr(module, "prior", None)  # may be anything in somebody else's module
    own = own.name if isinstance(own, Prior) else own
    kind = asked if asked is not None else own if isinstance(own, str) and own in PRIORS else PRIORS[0]
    one_of("prior", kind, PRIORS)
    where = best_device(str(device)) if not isinstance(device, torch.device) else device
    try:
        copied = copy.deepcopy(module)
    except Exception as error:  # a module may hold anything
        raise ValueError(
            f"module cannot be copied ({type(error).__name__}: {error}), so it cannot be scanned."
        ) from None
    copied = copied.to(where).float().eval().requires_grad_(False)
    own_size = getattr(module, "latent_dim", None)
    given = latent_dim if latent_dim is not None or not isinstance(own_size, int) else own_size
    shape, _, x = first_samples(copied, latent_shapes(copied, given), kind, where, given=latent_dim is not None)
    reader = copied if len(shape) == 1 else FlatLatents(copied, shape)
    return _wrapped(reader.eval(), Prior(kind, math.prod(shape)), x, where)


def _wrapped(module: nn.Module, prior: Prior, x: Tensor, device: torch.device) -> Subject:
    if not x.numel():
        raise ValueError(f"module makes {list(x.shape)} of 3 latents: samples without a value.")
    if x[0].numel() > MOST_VALUES:
        raise ValueError(f"module makes {x[0].numel():,} values of one latent; at most {MOST_VALUES:,} can be scanned.")
    shape, own = tuple(x.shape[1:]), getattr(module, "modality", None)
    kind = own if isinstance(own, Modality) else modality(shape)
    probe = Subject(module, prior, shape, kind, device=device)
    try:
        many, again = (probe.samples(probe.latents(64)) for _ in range(2))
    except Exception as error:  # it did for three latents
        raise ValueError(f"module makes samples of 3 latents, but not of 64 ({first_line(error)}).") from None
    if not torch.isfinite(x).all() or not torch.isfinite(many).all():
        raise ValueError("module makes values that are not finite from ordinary latents.")
    probe = replace(probe, repeatable=torch.allclose(many, again, atol=1e-4))
    low, high = float(many.min()), float(many.max())
    if low < -1.01 or high > 1.01 or getattr(module, "output", None) == "none":
        return replace(probe, span=(low, max(high, low + 1e-6)), bounded=False)
    return replace(probe, span=(0.0 if low >= 0 else -1.0, 1.0))
