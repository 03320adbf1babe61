"""``adopt``: any ``nn.Module`` from latents to samples becomes a ``Generator``, so that everything here works on it.

Nothing of this package is expected of it. It is copied, checked and looked at once; whatever comes after takes the
generator and does not look again. Its layers and its chain are found by tracing a forward pass; what comes before its
last tanh or sigmoid is read off there. What it computes is not changed.
"""

import copy
import inspect
import math
from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any, Self

import torch
from torch import Tensor, nn

from devilgan_lite.checks import MOST_LATENT, latent_size, one_of, shown
from devilgan_lite.data import Modality
from devilgan_lite.generators.base import Generator, layers_in_order, register, seeded
from devilgan_lite.generators.chain import Chain, chain_of
from devilgan_lite.generators.stack import ClampedLayer, check_stack, described, stack
from devilgan_lite.generators.surgery import resized
from devilgan_lite.prior import PRIORS, Prior
from devilgan_lite.steps import best_device
from devilgan_lite.trace import OpTracer

ENDS = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "none": (-math.inf, math.inf)}  # the range of samples
EDGE = 1 - 1e-6  # samples of a network without a tanh of its own are cut here before atanh
MOST_WEIGHTS = 100_000_000  # more would take too long to scan
MOST_VALUES = 10_000_000  # of one sample
LOOKED_AT = 64  # ordinary latents whose samples tell the range
BEYOND = 0.01  # by which samples may leave [-1, 1] before it counts as another range


@register
class Adopted(Generator):
    """A stranger's ``module`` as a ``Generator``: ``[n, latent_dim]`` in, samples in [-1, 1] out; see ``adopt``.

    Samples of a module that ends in a sigmoid are brought to [-1, 1]; ``module`` itself still makes [0, 1]. A stack of
    PyTorch's own layers can be stored with a card: there, ``module`` is a list of them (see ``stack``).
    """

    def __init__(
        self,
        module: nn.Module | Sequence[Mapping[str, Any]],
        latent_shape: tuple[int, ...],
        sample_shape: tuple[int, ...],
        prior: str | Prior,
        ends: str,
        modality: str | Modality | None,
    ) -> None:
        if not isinstance(module, nn.Module):
            check_stack(module, latent_shape, sample_shape)  # before anything is as large as a card says
        super().__init__(
            latent_dim=math.prod(latent_shape),
            sample_shape=sample_shape,
            prior=prior,
            modality=modality,
        )
        self.end_in(ends)
        self.module = module if isinstance(module, nn.Module) else stack(module)
        self._latent_shape = latent_shape
        flat = self.module if len(latent_shape) == 1 else nn.Sequential(nn.Unflatten(1, latent_shape), self.module)
        self._network = (flat,)  # in a tuple, or its weights would be listed twice
        self.squashes_last = True  # False: something follows its last tanh or sigmoid, so logits are computed backwards

    @property
    def network(self) -> nn.Module:
        return self._network[0]

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return self._latent_shape

    def forward(self, z: Tensor) -> Tensor:
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"z has shape {list(z.shape)}; expected [n, {self.latent_dim}].")
        return self.given(self.network(z))

    def given(self, x: Tensor) -> Tensor:
        return self.stretched(x) if self.ends == "sigmoid" else x

    def train(self, mode: bool = True) -> Self:
        self._network[0].train(mode)  # which is in a tuple
        return super().train(mode)

    def logits(self, z: Tensor) -> Tensor:
        z = z.reshape(len(z), *self.latent_shape)
        if self.ends == "none":
            return self.module(z)
        with OpTracer(self.module) as tracer:
            samples = self.module(z)
        if self.squashes_last and tracer.logits is not None and tracer.logits.numel() == samples.numel():
            return tracer.logits.reshape(samples.shape)
        return torch.atanh((samples * 2 - 1 if self.ends == "sigmoid" else samples).clamp(-EDGE, EDGE))

    def end_in(self, ends: str) -> None:
        """Take it that samples end in one of ``ENDS``. 2 sigmoid(2 x) - 1 = tanh(x), so logits of the two differ."""
        one_of("ends", ends, ENDS)
        self.ends, self.output, self.bounded = ends, "none" if ends == "none" else "tanh", ends != "none"
        self.span, self.logit_scale = ((0.0, 1.0), 2.0) if ends == "sigmoid" else ((-1.0, 1.0), 1.0)

    def spec(self) -> dict[str, Any]:
        layers = described(self.module, self.latent_shape)
        if layers is None:
            raise ValueError(
                f"an adopted {type(self.module).__name__} is somebody else's code: it has no plain spec and cannot be "
                "stored as .safetensors; files.export stores it as .onnx or .pt2."
            )
        return {
            "architecture": "Adopted",
            "module": layers,
            "latent_shape": list(self.latent_shape),
            "sample_shape": list(self.sample_shape),
            "prior": self.prior.name,
            "ends": self.ends,
            "modality": self._modality.name if isinstance(self._modality, Modality) else self._modality,
        }

    def describe(self) -> dict[str, Any]:
        name = type(self.module).__name__
        return {"architecture": f"adopted {name}", "latent_dim": self.latent_dim, "prior": self.prior.name}

    def named_layers(self) -> dict[str, list[nn.Module]]:
        found = layers_in_order(self, self.sample_latent(2))
        return {name.removeprefix("module."): modules for name, modules in found.items()}

    def chain(self) -> Chain | None:
        z = torch.zeros(2, *self.latent_shape, device=self.device)
        return chain_of(self.module, z)

    def foldable(self) -> bool:
        """Whether a resized copy runs: not if its code has the widths in it as numbers."""
        chain = self.chain()
        if chain is None or chain.squash != self.ends.replace("none", ""):
            return False
        try:
            wider = self.resized(tuple(width + 1 for width in chain.widths))
            return wider.chain() is not None and wider.sample(2).shape[1:] == self.sample_shape
        except Exception:  # whatever a stranger's forward raises
            return False

    def resized(self, widths: tuple[int, ...]) -> Generator:
        chain = self.chain()
        if chain is None:
            raise ValueError(f"an adopted {type(self.module).__name__} is no chain of layers, so it cannot be resized.")
        grows = any(new > old for new, old in zip(widths, chain.widths, strict=True))
        return self._with(resized(self.module, chain, widths, shifts=grows))

    def fresh(self, seed: int) -> Generator:
        """The same module with every layer's own initialisation drawn from ``seed``."""

        def reset() -> nn.Module:
            copied = copy.deepcopy(self.module)
            for layer in copied.modules():
                if hasattr(layer, "reset_parameters"):
                    layer.reset_parameters()  # type: ignore[operator]
            return copied

        return self._with(seeded(seed, reset))

    def _with(self, module: nn.Module) -> Generator:
        adopted = Adopted(module, self.latent_shape, self.sample_shape, self.prior, self.ends, self._modality)
        adopted.squashes_last, adopted.span, adopted.bounded = self.squashes_last, self.span, self.bounded
        return adopted.train(self.training)


def adopt(
    module: nn.Module,
    latent_dim: int | None = None,
    latent_shape: tuple[int, ...] | None = None,
    prior: str | Prior | None = None,
    output: str | None = None,
    *,
    modality: str | Modality | None = None,
    device: str | torch.device | None = None,
) -> Generator:
    """A private copy of ``module`` as a ``Generator``, checked, in eval mode, its weights not being trained.

    ``latent_shape`` is the shape of one latent as the module reads it (None: ``(latent_dim,)``, or else ``(latent_dim,
    1, 1)``, whichever works); without ``latent_dim`` it is read from the first layers. ``prior`` is ``"gaussian"`` or
    ``"uniform"``. Both are read from the module's attributes of these names where it has them. ``output`` says how
    samples end: ``"tanh"`` in [-1, 1], ``"sigmoid"`` in [0, 1], ``"none"`` unbounded; None reads it off some samples.
    ``device`` is where the copy lives, by default where the module does. What is wrong with a module is a
    ``ValueError`` of one sentence. A generator that is ``opened`` already comes back as it is.
    """
    asked = prior.name if isinstance(prior, Prior) else prior
    if isinstance(prior, Prior) and latent_dim is None and latent_shape is None:
        latent_dim = prior.dim
    if asked is not None:
        one_of("prior", asked, PRIORS)
    if output is not None:
        one_of("output", output, ENDS)
    if latent_shape is not None:
        latent_shape = tuple(latent_shape)
        if latent_dim not in (None, math.prod(latent_shape)):
            raise ValueError(
                f"latent_shape={latent_shape} has {math.prod(latent_shape)} numbers; latent_dim={latent_dim}."
            )
        latent_size(math.prod(latent_shape))
    if isinstance(module, Generator):
        if latent_dim not in (None, module.latent_dim) or (module.opened and asked not in (None, module.prior.name)):
            raise ValueError(f"latent_dim={latent_dim!r} and prior={asked!r} do not fit a {module.prior}.")
        if module.opened and device in (None, module.device, str(module.device)):
            return module
    copied, guess = _copied(module, device), output is None and not isinstance(module, Generator)
    if not isinstance(copied, Generator):
        copied = _wrapped(copied, latent_dim, latent_shape, asked, output, modality)
    elif asked is not None:
        copied.prior = Prior(asked, copied.latent_dim)
    return _looked_at(copied, output, guess)


def _copied(module: nn.Module, device: str | torch.device | None) -> nn.Module:
    """A copy in eval mode on ``device``, whose weights have values, in float32, and are not trained."""
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
    if device is None:
        where = next((value.device for _, value in weights), torch.device("cpu"))
    else:
        where = device if isinstance(device, torch.device) else best_device(device)
    try:
        copied = copy.deepcopy(module)
    except Exception as error:  # a module may hold anything
        raise ValueError(
            f"module cannot be copied ({type(error).__name__}: {error}), so it cannot be scanned."
        ) from None
    return copied.to(where).float().eval().requires_grad_(False)


def _wrapped(
    module: nn.Module,
    latent_dim: int | None,
    latent_shape: tuple[int, ...] | None,
    prior: str | None,
    output: str | None,
    modality: str | Modality | None,
) -> Adopted:
    """The module of a stranger as an ``Adopted``; its attributes may be anything."""
    own = getattr(module, "prior", None)
    own = own.name if isinstance(own, Prior) else own
    kind = prior or (own if isinstance(own, str) and own in PRIORS else PRIORS[0])
    size, own_kind = getattr(module, "latent_dim", None), getattr(module, "modality", None)
    given = latent_dim is not None or latent_shape is not None
    own_size = size if isinstance(size, int) and not isinstance(size, bool) and not given else latent_dim
    shapes = latent_shapes(module, own_size) if latent_shape is None else [latent_shape]
    tensors = (value for value in module.state_dict().values() if isinstance(value, Tensor))
    where = next((value.device for value in tensors), torch.device("cpu"))
    shape, _, x = first_samples(module, shapes, kind, where, given=given)
    if not x.numel():
        raise ValueError(f"module makes {list(x.shape)} of 3 latents: samples without a value.")
    if x[0].numel() > MOST_VALUES:
        raise ValueError(f"module makes {x[0].numel():,} values of one latent; at most {MOST_VALUES:,} can be scanned.")
    if modality is None and isinstance(own_kind, Modality):
        modality = own_kind
    ends = output or ("none" if getattr(module, "output", None) == "none" else "tanh")
    return Adopted(module, shape, tuple(x.shape[1:]), Prior(kind, math.prod(shape)), ends, modality).eval()


@torch.no_grad()
def _looked_at(generator: Generator, output: str | None, guess: bool) -> Generator:
    """The generator with what samples of ordinary latents tell: whether they come again, and in which range they lie.

    ``guess``: how they end was said by nobody. Else it holds, unless samples leave [-1, 1] all the same.
    """
    z = generator.ordinary(LOOKED_AT)
    try:
        many, again = (generator.network(z) for _ in range(2))
    except Exception as error:  # it did for three latents
        raise ValueError(f"module makes samples of 3 latents, but not of 64 ({first_line(error)}).") from None
    if not torch.isfinite(many).all():
        raise ValueError("module makes values that are not finite from ordinary latents.")
    generator.repeatable, generator.ready = torch.allclose(many, again, atol=1e-4), True
    low, high = float(many.min()), float(many.max())
    if isinstance(generator, Adopted) and output is None and generator.ends != "none":
        unbounded = low < -1 - BEYOND or high > 1 + BEYOND
        if guess or unbounded:
            generator.end_in("none" if unbounded else "sigmoid" if low >= 0 else "tanh")
    elif output is not None:
        least, most = ENDS[output]
        if not (low >= least - 1e-4 and high <= most + 1e-4):
            wanted = f"[{least:g}, {most:g}]"
            raise ValueError(
                f"module makes values from {low:.3g} to {high:.3g}; output={output!r} means {wanted}: choose from "
                f"{', '.join(ENDS)}."
            )
    if not generator.bounded:
        generator.span = (low, max(high, low + 1e-6))
    if isinstance(generator, Adopted) and generator.ends != "none":
        generator.squashes_last = _squashes_last(
            generator.module, z.reshape(-1, *generator.latent_shape)[:3], generator.ends
        )
    return generator


def alike(generator: Generator, network: nn.Module) -> Generator:
    """A copy of ``network``, which reads and makes what the opened ``generator`` does, opened too: a cured copy, say.

    Where the generator reads latents of a shape of their own, so does what comes back.
    """
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    clamped = any(isinstance(part, ClampedLayer) for part in copied.modules())
    if clamped and isinstance(copied, Generator) and not isinstance(copied, Adopted):
        copied = nn.Sequential(copied)  # the spec of a family says nothing of clamps
    if not isinstance(copied, Generator):
        ends = generator.ends if isinstance(generator, Adopted) else generator.output
        inner = _shaped(copied, generator.latent_shape)
        copied = Adopted(
            inner, generator.latent_shape, generator.sample_shape, generator.prior, ends, generator._modality
        )
        copied.squashes_last = not isinstance(generator, Adopted) or generator.squashes_last
    copied.prior, copied.span, copied.bounded = generator.prior, generator.span, generator.bounded
    copied.repeatable, copied.ready = generator.repeatable, True
    return copied.eval()


def _shaped(network: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """``network``, which reads latents ``[n, d]``, for latents ``[n, *shape]``."""
    if len(shape) == 1:
        return network
    layers = list(network) if type(network) is nn.Sequential else [network]
    first = layers[0]
    if isinstance(first, nn.Unflatten) and first.dim == 1 and tuple(first.unflattened_size) == shape:
        layers = layers[1:]
    else:
        layers = [nn.Flatten(), *layers]
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def _squashes_last(module: nn.Module, z: Tensor, output: str) -> bool:
    """Whether the last tanh or sigmoid is the last thing that ``module`` does; True if it has none."""
    with OpTracer(module) as tracer:
        samples = module(z)
    if tracer.logits is None or tracer.logits.numel() != samples.numel():
        return True
    squashed = torch.tanh(tracer.logits).reshape(samples.shape)  # 2 sigmoid(x) - 1 = tanh(x / 2)
    return bool(torch.allclose(squashed, samples * 2 - 1 if output == "sigmoid" else samples, atol=1e-3))


def first_sizes(module: nn.Module) -> list[int]:
    """Latent sizes to try: what the first layers read."""
    sizes: list[int] = []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            sizes.append(layer.in_features)
        elif isinstance(layer, (nn.ConvTranspose2d, nn.Conv2d, nn.ConvTranspose1d, nn.Conv1d)):
            sizes.append(layer.in_channels)
    return list(dict.fromkeys(sizes))[:4]


def latent_shapes(module: nn.Module, latent_dim: int | None) -> list[tuple[int, ...]]:
    """The shapes of one latent to try: flat, or with two axes of 1; without a ``latent_dim`` by ``first_sizes``."""
    if latent_dim is not None:
        latent_size(latent_dim)
    sizes = [latent_dim] if latent_dim is not None else first_sizes(module)
    return [shape for size in sizes for shape in ((size,), (size, 1, 1))]


def first_samples(
    module: nn.Module, shapes: Sequence[tuple[int, ...]], prior: str | Prior, device: torch.device, *, given: bool
) -> tuple[tuple[int, ...], Tensor, Tensor]:
    """The first of the latent ``shapes`` that ``module`` reads, three latents of it, and their samples.

    What is wrong with the module is a ``ValueError`` of one sentence; unless a size was ``given``, it asks for one.
    """
    complaints = []  # one per shape; the first is about the layer that most likely reads the latent
    for shape in shapes:
        if math.prod(shape) > MOST_LATENT:
            continue
        z = Prior.of(prior, math.prod(shape)).draw(3, torch.Generator().manual_seed(0), device).reshape(3, *shape)
        try:
            with torch.no_grad():
                samples = module(z)
        except Exception as error:  # whatever a stranger's forward raises
            complaints.append(first_line(error))
            continue
        if not _are_samples(samples):
            raise ValueError(
                f"module makes {_summary(samples)} of 3 latents; expected a float tensor [3, ...] of samples"
                f"{_way_out(samples)}."
            )
        return shape, z, samples
    if more := _other_arguments(module):
        raise ValueError(
            f"the forward of module also needs {', '.join(map(shown, more))}; wrap it in a module whose forward takes "
            "latents alone."
        )
    sizes = list(dict.fromkeys(map(math.prod, shapes)))
    if sizes:
        latent_size(sizes[0])
    asked = f"[n, {', '.join(map(str, shapes[0]))}]" if given else f"of the sizes {sizes}" if sizes else ""
    way_out = "give another size, or wrap it in a module that takes such latents"
    advice = way_out if given else "give latent_dim, the size of its latents"
    complaint = complaints[0] if complaints else "it has no linear or convolution layer"
    raise ValueError(f"module makes no samples from {f'latents {asked}'.strip()} ({complaint}); {advice}.")


def first_line(error: Exception) -> str:
    """The kind of an ``error`` and the first line of what it says, in whole words."""
    said = str(error).strip().splitlines()[:1] or ["no message"]
    return f"{type(error).__name__}: {shorten(said[0].rstrip('.'), 200, placeholder=' ...')}"


def _are_samples(made: object) -> bool:
    return isinstance(made, Tensor) and made.ndim >= 2 and len(made) == 3 and made.is_floating_point()


def _parts(made: object) -> dict[Any, object]:
    """What a tuple, list or dictionary holds, by place or name."""
    return dict(made) if isinstance(made, Mapping) else dict(enumerate(made)) if isinstance(made, (tuple, list)) else {}


def _summary(made: object) -> str:
    """What a module made, for a message: type and shape of a tensor, or of the first parts of something else."""

    def of_one(part: object) -> str:
        if isinstance(part, Tensor):
            return f"{str(part.dtype).removeprefix('torch.')} {list(part.shape)}"
        return type(part).__name__

    held = ", ".join(map(of_one, list(_parts(made).values())[:4]))
    return of_one(made) + (f" ({held})" if held else "")


def _way_out(made: object) -> str:
    """What could be returned in place of ``made``, if anything."""
    if isinstance(made, Tensor) and not made.is_floating_point():
        return ": wrap it in a module that returns floats"
    fitting = [name for name, part in _parts(made).items() if _are_samples(part)]
    return f": wrap it in a module that returns part {shown(fitting[0])} alone" if fitting else ""


def _other_arguments(module: nn.Module) -> list[str]:
    """The arguments without a default that the forward of ``module`` takes after the latents."""
    try:
        taken = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):  # compiled code has no signature
        return []
    others = [one for one in taken if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)][1:]
    others += [one for one in taken if one.kind == one.KEYWORD_ONLY]
    return [one.name for one in others if one.default is one.empty]
