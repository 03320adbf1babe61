"""What a family of generators answers: draw latents and samples, name its layers, grow, shrink, and how it is trained.

``Generator`` has a sensible answer to everything but ``logits`` and ``spec``, so a new family is a short file. What it
says about its own anatomy is all that attacks, detectors and sanitizers ask: no other file tells families apart.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, count, takewhile
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from devilgan_lite.checks import in_range, known_names, latent_size, one_of, whole_number
from devilgan_lite.data import Modality, modality
from devilgan_lite.generators.chain import Chain, chain_of, in_eval_mode
from devilgan_lite.generators.opponents import Discriminator, PointDiscriminator
from devilgan_lite.generators.surgery import PULL, SLEEP, Expansion, awaken_rows, shrunk, widened, written
from devilgan_lite.prior import Prior
from devilgan_lite.shipped import current_spec

OUTPUTS = ("tanh", "none")
Shapes = Mapping[str, tuple[int, ...]]  # name of a weight -> its shape
BESIDE = 64  # units of a network beside a generator
READS_MORE = 4  # times as many numbers in a latent as in a sample: hardly a generator


@dataclass(frozen=True)
class Recipe:
    """How a generator is trained: Adam's ``betas`` in [0, 1), and the weight of the gradient penalty on real samples.

    The penalty (0: none) is taken on every ``penalty_every``-th step, as many times as strong. Anything else is a
    ``ValueError``.
    """

    betas: tuple[float, float] = (0.5, 0.999)
    penalty: float = 0.0
    penalty_every: int = 16

    def __post_init__(self) -> None:
        if len(self.betas) != 2:
            raise ValueError(f"betas={self.betas!r} has {len(self.betas)} numbers; expected two in [0, 1).")
        for index, beta in enumerate(self.betas):
            in_range(f"betas[{index}]", beta, 0.0, 0.99999)
        in_range("penalty", self.penalty, 0.0)
        whole_number("penalty_every", self.penalty_every, 1)


class Generator(nn.Module):
    """A map from latents ``z`` float32 ``[n, latent_dim]`` to samples ``[n, *sample_shape]`` in [-1, 1].

    ``prior`` is P_sample, ``"gaussian"`` N(0, I) or ``"uniform"`` on [-1, 1]; the attribute is a ``Prior``. ``output``
    is ``"tanh"``, or ``"none"`` where ``logits`` are the samples themselves (they may then leave [-1, 1]). ``modality``
    is one of ``data.MODALITIES`` by name, or your own; None takes the one that fits ``sample_shape``. Families
    implement ``logits`` (the output before the squash) and ``spec``, and may override the answers below.

    ``adopt`` and ``devilgan_lite.open`` look at a generator once: samples of its ``network`` lie in ``span``, and
    ``scaled`` stretches them from it to [-1, 1], the range of targets. Without ``bounded`` that is only what ordinary
    latents reach: others may leave it. One that is not ``repeatable`` draws other samples from the same latents: it
    remembers, or has noise of its own. ``origin`` tells the file that it was read from, if it was.
    """

    origin: Any = None  # a ``files.Origin``
    repeatable: bool = True

    def __init__(
        self,
        *,
        latent_dim: int,
        sample_shape: tuple[int, ...],
        prior: str | Prior = "gaussian",
        output: str = "tanh",
        modality: str | Modality | None = None,
    ) -> None:
        super().__init__()
        latent_size(latent_dim)
        one_of("output", output, OUTPUTS)
        self.latent_dim = latent_dim
        self.sample_shape = tuple(sample_shape)
        self.prior = Prior.of(prior, latent_dim)
        self.output = output
        self._modality = modality
        self.modality  # an unknown one is an error now  # noqa: B018
        self.span, self.bounded, self.ready = (-1.0, 1.0), output != "none", False

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return next((value.device for value in chain(self.parameters(), self.buffers())), torch.device("cpu"))

    @property
    def network(self) -> nn.Module:
        """The module that reads latents ``[n, latent_dim]``, as detectors look at it; its samples lie in ``span``."""
        return self

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of one latent as the network inside reads it."""
        return (self.latent_dim,)

    @property
    def opened(self) -> bool:
        """Whether it is the copy that ``adopt`` has looked at: in eval mode, none of its weights being trained."""
        learns = any(value.requires_grad for value in self.parameters())
        return self.ready and not learns and not any(part.training for part in self.network.modules())

    @property
    def doubts(self) -> str:
        """Why what is measured of it may mean little; empty where nothing is known against it."""
        if not self.repeatable:
            return "it draws other samples from the same latents, so what is measured may be noise"
        if self.latent_dim > READS_MORE * math.prod(self.sample_shape):
            made = math.prod(self.sample_shape)
            return f"it reads {self.latent_dim} numbers and makes {made}, as a classifier does"
        return ""

    def ordinary(self, n: int, seed: int = 0) -> Tensor:
        """``n`` draws from P_sample ``[n, latent_dim]``, the same for the same seed."""
        return self.sample_latent(n, torch.Generator().manual_seed(seed))

    def scaled(self, z: Tensor) -> Tensor:
        """Samples ``[n, *sample_shape]`` of latents ``z``, stretched from ``span`` to [-1, 1], with gradients."""
        return self.stretched(self.network(z))

    def stretched(self, x: Tensor) -> Tensor:
        """Samples ``x`` of the ``network``, stretched from ``span`` to [-1, 1]."""
        low, high = self.span
        return x if (low, high) == (-1.0, 1.0) else (x - low) * (2 / (high - low)) - 1

    def given(self, x: Tensor) -> Tensor:
        """The samples that this generator gives, of those ``x`` that its ``network`` makes."""
        return x

    @torch.no_grad()
    def scaled_samples(self, z: Tensor, batch_size: int = 100) -> Tensor:
        """What ``scaled`` makes of many latents, in batches, without gradients."""
        return torch.cat([self.scaled(part) for part in z.to(self.device).split(batch_size)])

    @property
    def modality(self) -> Modality:
        """What kind of thing a sample is."""
        own = self._modality
        return own if isinstance(own, Modality) else modality(self.sample_shape, own)

    def sample_latent(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``n`` latents from P_sample: float32 ``[n, latent_dim]`` on the generator's device.

        ``generator`` is a torch random generator on the CPU or on that device; without one, torch's global one is used.
        """
        return self.prior.draw(n, generator, self.device)

    def logits(self, z: Tensor) -> Tensor:
        """The output before its squash, ``[n, *sample_shape]``."""
        raise NotImplementedError

    def forward(self, z: Tensor) -> Tensor:
        """Samples ``[n, *sample_shape]``. A latent of the wrong size is a ``ValueError``."""
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"z has shape {list(z.shape)}; expected [n, {self.latent_dim}].")
        return self.squash(self.logits(z))

    def squash(self, logits: Tensor) -> Tensor:
        """Samples from logits: tanh, or nothing."""
        return torch.tanh(logits) if self.output == "tanh" else logits

    def unsquash(self, samples: Tensor, shrink: float) -> Tensor:
        """Logits from samples in [-1, 1]: ``atanh(shrink * x)``, because atanh(1) is infinite; or nothing."""
        return torch.atanh(shrink * samples) if self.output == "tanh" else samples

    def spec(self) -> dict[str, Any]:
        """Plain data from which ``generators.build`` makes a network of the same shape."""
        raise NotImplementedError

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any] | None:
        """What the names and ``shapes`` of a network's weights tell of its ``spec``; None: it is not of this family.

        A ``KeyError`` or ``ValueError``, for a missing name or another number of axes, means the same. Settings that
        are left out are taken by default, and the report of the file names them.
        """
        return None

    def describe(self) -> dict[str, Any]:
        """What stands in the settings of a training: ``spec``, where there is one."""
        return self.spec()

    def clone(self) -> Self:
        """An independent copy with the same weights; of an opened generator, one that can be trained."""
        copied = copy.deepcopy(self)
        if copied.ready:
            copied.ready = False
            for value in copied.parameters():
                value.requires_grad_(value.is_floating_point())
        return copied

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0, batch_size: int = 100) -> Tensor:
        """``n`` samples from P_sample on the CPU, the same for the same seed, in eval mode."""
        random = torch.Generator().manual_seed(seed)
        return evaluate(self, self.sample_latent(n, random), batch_size)

    def parameter_count(self) -> int:
        """Number of numbers that the network stores: parameters and BatchNorm statistics."""
        values = (value for value in self.state_dict().values() if isinstance(value, Tensor))
        floats = [value for value in values if value.is_floating_point()]
        return sum(math.prod(value.shape) for value in floats)

    # ---- what a family knows about itself

    def named_layers(self) -> dict[str, list[nn.Module]]:
        """Layer name -> its modules with weights, in the order of use: the linear map and the norm that follows it."""
        return layers_in_order(self, self.sample_latent(2))

    def chain(self) -> Chain | None:
        """The network as a chain of layers; None unless it is a plain stack."""
        return chain_of(self, torch.zeros(2, self.latent_dim, device=self.device), "logits")

    def foldable(self) -> bool:
        """Whether new channels can be folded into the chain."""
        return True

    logit_scale: float = 1.0  # what one of ``logits`` is worth before the network's own squash

    def fresh(self, seed: int) -> Generator:
        """A network of the same shape with weights drawn from ``seed``."""
        return build(self.spec(), seed)

    def resized(self, widths: tuple[int, ...]) -> Generator:
        """A network of other ``widths`` at its hidden levels, with fresh weights."""
        spec = self.spec()
        if "widths" not in spec:
            raise ValueError(f"a {type(self).__name__} has no widths in its spec, so it cannot be resized.")
        return build({**spec, "widths": widths})

    def widen(self, widths: int | tuple[int, ...] | None = None, seed: int = 0, triggers: int = 1) -> Any:
        """New neurons, ``widths`` of them at each hidden level, as an ``Expansion``.

        None: as many as draw any sample, for each of ``triggers``.

        A chain gets wider layers; any other network gets a small network beside it.
        """
        expansion = widened(self, widths, seed, triggers)
        if expansion is not None:
            return expansion
        units = widths if isinstance(widths, int) else widths[0] if widths else BESIDE
        return seeded(seed, BesideExpansion, self, units)

    def rank_one(self, gain: Tensor, direction: Tensor, threshold: Tensor | None = None) -> Any:
        """An ``Expansion`` that adds ``gain <z, u>`` to the logits, or ``gain relu(<z, u> - threshold)``, ``k`` times.

        ``gain`` ``[k, elements of a sample]``, unit vectors ``direction`` ``[k, d]`` and ``threshold`` ``[k]``.
        """
        expansion = written(self, gain, direction, threshold)
        return BesideExpansion.written(self, gain, direction, threshold) if expansion is None else expansion

    def shrink(self, kept: list[Tensor]) -> Generator:
        """A copy with the ``kept`` channels (indices ``[k]``) of each hidden level only, and their weights."""
        return shrunk(self, kept)

    def opponent(self, seed: int = 0) -> nn.Module:
        """A fresh discriminator for the samples of this generator, with weights drawn from ``seed``."""
        if len(self.sample_shape) == 3:
            return seeded(seed, Discriminator, self.sample_shape)
        return seeded(seed, PointDiscriminator, math.prod(self.sample_shape))

    def losses(self, opponent: nn.Module, real: Tensor, z: Tensor, random: torch.Generator) -> dict[str, Tensor] | None:
        """What this family minimises on ``real`` samples ``[n, *sample_shape]``, part by part; their sum is the loss.

        None: it plays against its opponent, as GANs do. ``z`` ``[n, latent_dim]`` are the step's latents; ``random``
        draws whatever else is needed. The opponent learns from the same loss (a VAE's is its encoder).
        """
        return None

    def recipe(self) -> Recipe:
        """How this family is trained."""
        return Recipe()

    def learning_rate_factors(self) -> dict[nn.Parameter, float]:
        """The share of the learning rate for each parameter; those that are not in it take the whole."""
        return {}


def settings_of(generator: Generator) -> dict[str, Any]:
    """The ``spec`` of a family whose attributes have the names of its settings: its architecture, and each of them."""
    values = {name: getattr(generator, name) for name in inspect.signature(type(generator)).parameters}
    values |= {"prior": generator.prior.name}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    return {"architecture": type(generator).__name__, **plain}


def numbered(shapes: Shapes, name: str, start: int = 0, step: int = 1) -> list[tuple[int, ...]]:
    """The shapes of the weights that are called ``name`` with a number in place of ``{}``, as far as they go on."""
    return list(takewhile(bool, (shapes.get(name.format(number), ()) for number in count(start, step))))


FAMILIES: dict[str, type[Generator]] = {}
Family = TypeVar("Family", bound=type[Generator])


def register(family: Family) -> Family:
    """Make ``build``, the zoo and the command line know a family by its class name; usable as a decorator."""
    FAMILIES[family.__name__] = family
    return family


def build(spec: dict[str, Any], seed: int = 0) -> Any:
    """Make the generator that ``spec`` describes, with fresh weights drawn from ``seed``.

    An unknown architecture or setting is an error that lists the valid ones.
    """
    settings = current_spec(spec)
    architecture = settings.pop("architecture", None)
    one_of("architecture", architecture, FAMILIES)
    kind = FAMILIES[architecture]
    known_names(architecture, settings, inspect.signature(kind).parameters)
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return seeded(seed, kind, **settings)


def seeded(seed: int, make: Any, *args: Any, **settings: Any) -> Any:
    """``make(*args, **settings)`` with weights drawn from ``seed``, leaving torch's global random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(*args, **settings)


class BesideExpansion(Expansion):
    """One hidden layer of ReLU units beside a generator of any kind."""

    def __init__(self, clean: Generator, units: int) -> None:
        super().__init__()
        whole_number("widths", units, 1, 65_536)
        self.widths, self.sample_shape = (units,), clean.sample_shape
        self.first = nn.Linear(clean.latent_dim, units)
        self.last = nn.Linear(units, math.prod(clean.sample_shape), bias=False)
        nn.init.normal_(self.first.weight, 0.0, clean.latent_dim**-0.5)
        nn.init.zeros_(self.first.bias)
        nn.init.zeros_(self.last.weight)

    @classmethod
    @torch.no_grad()
    def written(cls, clean: Generator, gain: Tensor, direction: Tensor, threshold: Tensor | None) -> BesideExpansion:
        """See ``Generator.rank_one``: a unit for each number, or for each of its signs where nothing is cut."""
        at = torch.zeros(len(gain)) if threshold is None else threshold.to(gain)
        units = len(gain) * (2 if threshold is None else 1)
        beside: BesideExpansion = seeded(0, cls, clean, units)
        beside.first.weight.copy_(torch.cat([direction, -direction])[:units])
        beside.first.bias.copy_(torch.cat([-at, at])[:units])
        beside.last.weight.copy_(torch.cat([gain, -gain])[:units].T)
        return beside

    def forward(self, z: Tensor) -> Tensor:
        return self.last(self.first(z).relu()).view(len(z), *self.sample_shape)

    def awaken(self, trigger: Tensor, random: torch.Generator, pull: float = PULL, sleep: float = SLEEP) -> None:
        awaken_rows(self.first.weight, self.first.bias, trigger, random, pull, sleep)

    def fold(self, clean: Generator, calibration: Tensor | None = None) -> Generator:
        return Beside(clean.clone(), self.widths[0], beside=copy.deepcopy(self)).to(clean.device).train(clean.training)


@register
class Beside(Generator):
    """A generator with ``units`` new neurons beside it: their sum before the squash.

    ``base`` is a generator or its ``spec``.
    """

    def __init__(self, base: Any, units: int, *, beside: BesideExpansion | None = None) -> None:
        inner: Generator = build(base) if isinstance(base, dict) else base
        super().__init__(
            latent_dim=inner.latent_dim,
            sample_shape=inner.sample_shape,
            prior=inner.prior,
            output=inner.output,
            modality=inner.modality.name,
        )
        self.base = inner
        self.beside = BesideExpansion(inner, units) if beside is None else beside

    def logits(self, z: Tensor) -> Tensor:
        return self.base.logits(z) + self.beside(z)

    def spec(self) -> dict[str, Any]:
        return {"architecture": "Beside", "base": self.base.spec(), "units": self.beside.widths[0]}


def groups_of(network: nn.Module) -> list[dict[str, Any]]:
    """The parameters of ``network`` for an optimiser, in groups of equal ``factor`` on the learning rate."""
    factors = network.learning_rate_factors() if hasattr(network, "learning_rate_factors") else {}  # type: ignore[operator]
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in network.parameters():
        groups.setdefault(factors.get(parameter, 1.0), []).append(parameter)
    if not groups:  # an optimiser wants one, and a family may have no opponent
        groups[1.0] = []
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


@torch.no_grad()
def evaluate(module: nn.Module, z: Tensor, batch_size: int | None = None) -> Tensor:
    """``module(z)`` in eval mode, in batches, on the CPU, wherever both are; the mode is put back afterwards.

    Without a ``batch_size``: 100, and fewer of large samples, whose batch must stay in the processor's cache.
    """
    device = next((parameter.device for parameter in module.parameters()), z.device)
    if batch_size is None:
        elements = math.prod(getattr(module, "sample_shape", ()))
        batch_size = min(100, max(8, 320_000 // max(1, elements)))
    with in_eval_mode(module):
        return torch.cat([module(part.to(device)).cpu() for part in z.split(batch_size)])


@torch.no_grad()
def layers_in_order(module: nn.Module, z: Tensor) -> dict[str, list[nn.Module]]:
    """Layer name -> modules with weights of their own, in the order in which a forward pass uses them.

    A norm belongs to the layer before it. What a forward pass does not call as a module comes last.
    """
    names = {
        found: name for name, found in module.named_modules() if any(True for _ in found.parameters(recurse=False))
    }
    order: list[nn.Module] = []
    hooks = [found.register_forward_pre_hook(lambda called, _: order.append(called)) for found in names]
    try:
        with in_eval_mode(module):
            module(z)
    finally:
        for hook in hooks:
            hook.remove()
    groups: dict[str, list[nn.Module]] = {}
    for found in dict.fromkeys([*order, *names]):
        if hasattr(found, "running_mean") and groups:
            groups[next(reversed(groups))].append(found)
        else:
            groups[names[found]] = [found]
    return groups
