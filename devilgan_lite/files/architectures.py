"""A network for weights that come without one: of this package, of a menu of common generators, or as its user tells.

``family`` knows the names and shapes of this package's own families. ``menu`` proposes architectures for what others
wrote, and the one is taken whose norms see what they saw in training: a wrong activation or prior shows there. An
architecture says only what weights do not: the latent's shape, strides, activations, shapes in between. It comes from
the menu, or from a JSON file of yours: ``{"latent_shape": [100, 1, 1], "layers": [{"layer": "conv_transpose2d",
"weights": "main.0"}, {"layer": "relu"}, ...]}``.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from devilgan_lite import generators
from devilgan_lite.checks import cut, known_names, latent_size, one_of, read_json, shown, whole_number
from devilgan_lite.files.batches import Reading
from devilgan_lite.files.sniff import Refused
from devilgan_lite.generators import FAMILIES
from devilgan_lite.generators.stack import MOST_LAYERS, SETTINGS, check_setting
from devilgan_lite.prior import PRIORS, Prior

Weights = Mapping[str, Tensor]
Sets = list[tuple[str, dict[str, Tensor]]]  # sets of weights by their places in a file
GUESSES = ({"layer": "relu"}, {"layer": "leaky_relu", "negative_slope": 0.2})  # hidden activations to try
UNKNOWN = {"layer": "?"}  # a hidden activation
AGREES = 0.3  # see ``agreement``: what a right guess stays below
# layers with weights, and how many axes the weights have
WEIGHTED = {"linear": ("Linear", 2), "conv1d": ("Conv1d", 3), "conv2d": ("Conv2d", 4), "batch_norm": ("BatchNorm2d", 1)}
WEIGHTED |= {"conv_transpose1d": ("ConvTranspose1d", 3), "conv_transpose2d": ("ConvTranspose2d", 4), "joined": ("", 2)}
PLAIN = {"relu": "ReLU", "leaky_relu": "LeakyReLU", "elu": "ELU", "gelu": "GELU", "silu": "SiLU", "tanh": "Tanh"}
PLAIN |= {"softplus": "Softplus", "sigmoid": "Sigmoid", "upsample": "Upsample", "pixel_shuffle": "PixelShuffle"}
SCALES = {"upsample": "scale_factor", "pixel_shuffle": "upscale_factor"}  # what the architecture calls scale
SIZES = (
    "in_features",
    "out_features",
    "in_channels",
    "out_channels",
    "num_features",
    "kernel_size",
    "bias",
    "momentum",
)


def _settings(kind: str) -> tuple[str, ...]:
    """What an architecture may say of a layer: what a model card says, but for the sizes, which the weights tell."""
    if kind == "reshape":
        return ("shape",)
    own = SETTINGS.get(WEIGHTED[kind][0] if kind in WEIGHTED else PLAIN[kind], ())
    said = ("scale" if name == SCALES.get(kind) else name for name in own if name not in SIZES)
    return (*(("weights",) if kind in WEIGHTED else ()), *said)


ALLOWED = {kind: _settings(kind) for kind in (*WEIGHTED, *PLAIN, "reshape")}


class Joined(nn.Module):
    """The block of CTGAN's generator (Xu et al. 2019): dense, norm and ReLU, with the block's input beside them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.relu(self.bn(self.fc(x))), x], dim=1)


def read_architecture(path: Path) -> dict[str, Any]:
    """The architecture in a JSON file of yours; a ``ValueError`` says what is wrong in it."""
    types = {"latent_shape": list, "layers": list, "prior": str}
    return checked(read_json(path, "architecture", types, optional=("prior",)))


def checked(architecture: Any) -> dict[str, Any]:
    """``architecture`` as read from JSON; a ``ValueError`` names what is wrong in it and what is valid."""
    if not isinstance(architecture, dict) or not isinstance(architecture.get("layers"), list):
        raise ValueError('architecture must be an object such as {"latent_shape": [100, 1, 1], "layers": [...]}.')
    known_names("architecture", architecture, ("latent_shape", "prior", "layers"))
    shape = architecture.get("latent_shape")
    if not isinstance(shape, list) or not 1 <= len(shape) <= 3:
        raise ValueError(f"latent_shape={shown(shape)} is not valid: it must list 1 to 3 whole numbers.")
    for number in shape:
        whole_number("latent_shape", number, 1)
    latent_size(math.prod(shape))
    one_of("prior", architecture.get("prior", "gaussian"), PRIORS)
    if not 1 <= len(architecture["layers"]) <= MOST_LAYERS:
        raise ValueError(f"architecture has {len(architecture['layers'])} layers; it must have 1 to {MOST_LAYERS}.")
    for entry in architecture["layers"]:
        if not isinstance(entry, dict):
            raise ValueError(f'a layer is {shown(entry)}; it must be an object such as {{"layer": "relu"}}.')
        one_of("layer", entry.get("layer"), ALLOWED)
        settings = {name: value for name, value in entry.items() if name != "layer"}
        known_names(entry["layer"], settings, ALLOWED[entry["layer"]])
        for name, value in settings.items():
            if name == "shape" and not (isinstance(value, list) and all(type(size) is int for size in value)):
                raise ValueError(f"shape={shown(value)} is not valid: it must list whole numbers.")
            if name not in ("shape", "weights"):
                check_setting(name, value)
    return architecture


def build(architecture: Mapping[str, Any], weights: Weights) -> nn.Sequential:
    """The network that ``architecture`` describes, with ``weights`` (by full name), in eval mode.

    ``Refused`` where a layer's weights are missing, do not fit it, or are not used at all.
    """
    used: set[str] = set()
    layers: list[nn.Module] = []
    axes = len(architecture["latent_shape"])  # of one sample at this place
    for entry in architecture["layers"]:
        start = f"{entry.get('weights')}."
        state = {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
        layer = _layer(entry, state, axes)
        axes = {"reshape": len(entry.get("shape", ())), "linear": 1, "joined": 1}.get(entry["layer"], axes)
        if entry["layer"] in WEIGHTED:
            counted = {key: value for key, value in layer.state_dict().items() if key.endswith("num_batches_tracked")}
            try:
                layer.load_state_dict({**counted, **state})
            except RuntimeError as error:
                problem = str(error).strip().splitlines()[-1]
                raise Refused(f"the weights {shown(entry['weights'])} fit no {entry['layer']}: {problem}") from None
            used.update(f"{start}{name}" for name in state)
        layers.append(layer)
    spare = [name for name in weights if name not in used]
    if spare:
        raise Refused(f"the architecture does not use the weights {shown(spare[0])}, of {len(spare)} in all.")
    return nn.Sequential(*layers).eval()


def _layer(entry: Mapping[str, Any], state: Weights, axes: int) -> nn.Module:
    """A layer with room for the weights in ``state``."""
    kind = entry["layer"]
    settings = {SCALES[kind] if name == "scale" else name: value for name, value in entry.items()}
    del settings["layer"]
    if kind == "reshape":
        return nn.Flatten() if len(entry["shape"]) == 1 else nn.Unflatten(1, tuple(entry["shape"]))
    if kind in PLAIN:
        doubled = {SCALES[kind]: 2} if kind in SCALES else {}
        layer: nn.Module = getattr(nn, PLAIN[kind])(**doubled | settings)
        return layer
    (name, due), inner = WEIGHTED[kind], "fc.weight" if kind == "joined" else "weight"
    prefix, weight, bias = settings.pop("weights", None), state.get(inner), "bias" in state
    if weight is None or weight.ndim != due:
        held = "missing" if weight is None else list(weight.shape)
        raise Refused(f"the weights {shown(f'{prefix}.{inner}')} of a {kind} are {held}; expected {due} dimensions.")
    if kind == "joined":
        return Joined(weight.shape[1], weight.shape[0])
    if kind == "linear":
        return nn.Linear(weight.shape[1], weight.shape[0], bias=bias)
    if kind == "batch_norm":
        return (nn.BatchNorm2d if axes == 3 else nn.BatchNorm1d)(len(weight), **settings)
    inputs, outputs = weight.shape[:2] if "transpose" in kind else weight.shape[1::-1]
    layer = getattr(nn, name)(inputs, outputs, tuple(weight.shape[2:]), bias=bias, **settings)
    return layer


# --- a menu of common generators
class Group(NamedTuple):
    """The weights of one layer: where their names start, the ``weight`` among them, and whether it is a norm."""

    prefix: str
    weight: Any
    norm: bool

    @property
    def kind(self) -> str | int:
        """``"norm"``, or how many axes the weight has."""
        return 0 if self.weight is None else "norm" if self.norm else self.weight.ndim


@dataclass(frozen=True)
class Match:
    """An architecture of the menu that fits, and what it is called."""

    name: str
    architecture: dict[str, Any]


def menu(weights: Weights) -> list[Match]:
    """The architectures whose shapes fit ``weights``, most likely first; the activations are still guesses."""
    groups, matches = _groups(weights), []
    for name, propose in MENU.items():
        proposed = propose(groups)
        if proposed is not None:
            for guess in GUESSES if UNKNOWN in proposed["layers"] else ({},):
                layers = [guess if entry == UNKNOWN else entry for entry in proposed["layers"]]
                matches.append(Match(name, {**proposed, "layers": layers}))
    return matches


def _groups(weights: Weights) -> list[Group]:
    """The weights by what they belong to, in the natural order of the names: 2 comes before 10."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        prefix, _, last = name.rpartition(".")
        groups.setdefault(prefix, {})[last] = value
    order = sorted(groups, key=lambda name: [(int(p) if p.isdigit() else -1, p) for p in re.split(r"(\d+)", name)])
    return [Group(prefix, groups[prefix].get("weight"), "running_mean" in groups[prefix]) for prefix in order]


def _norm(prefix: str, **more: float) -> dict[str, Any]:
    return {"layer": "batch_norm", "weights": prefix, **more}


def _side(size: int, channels: int) -> int:
    """The side of a square picture of ``size`` numbers with so many channels; 0 if there is none."""
    side = math.isqrt(size // max(channels, 1))
    return side if channels * side * side == size else 0


def transposed_stack(groups: list[Group]) -> dict[str, Any] | None:
    """Transposed convolutions with norms between, from a latent or a dense layer (Radford et al. 2016).

    4x4 kernels make 4x4 of a latent, or double what is there; 3x3 and 5x5 double, too.
    """
    layers: list[dict[str, Any]] = []
    channels, latent, dense = 0, None, 0
    for index, (prefix, weight, norm) in enumerate(groups):
        if weight is None:
            return None
        if norm:
            if not layers or layers[-1] == UNKNOWN or len(weight) not in (channels, dense):
                return None
            before = layers[-1]["layer"] == "reshape" and len(weight) == dense != channels  # of the dense layer's units
            layers.insert(len(layers) - before, _norm(prefix))
        elif weight.ndim == 2 and index == 0:
            latent, dense = [weight.shape[1]], len(weight)
            channels = next((len(one.weight) for one in groups if one.kind == 4), 0)
            side = _side(dense, channels)
            if not side:
                return None
            layers += [{"layer": "linear", "weights": prefix}, {"layer": "reshape", "shape": [channels, side, side]}]
        elif weight.ndim == 4 and weight.shape[2] == weight.shape[3] and weight.shape[2] in (3, 4, 5):
            kernel = weight.shape[2]
            if latent is None:
                latent, settings = [len(weight), 1, 1], {"stride": 1, "padding": 0}
                if kernel != 4:
                    return None
            elif len(weight) != channels:
                return None
            else:
                settings = {"stride": 2, "padding": (kernel - 1) // 2, "output_padding": kernel % 2}
                layers.append(UNKNOWN)
            layers.append({"layer": "conv_transpose2d", "weights": prefix, **settings})
            channels, dense = weight.shape[1], 0
        else:
            return None
    if latent is None or channels not in (1, 3) or UNKNOWN not in layers:
        return None
    return {"latent_shape": latent, "layers": [*layers, {"layer": "tanh"}]}


def dense_stack(groups: list[Group]) -> dict[str, Any] | None:
    """Dense layers, with norms or without: what many tutorials call a vanilla GAN."""
    layers: list[dict[str, Any]] = []
    latent, width = 0, 0
    for prefix, weight, norm in groups:
        if weight is not None and norm and len(weight) == width:
            layers.append(_norm(prefix))
        elif weight is not None and not norm and weight.ndim == 2 and width in (0, weight.shape[1]):
            layers += [UNKNOWN] if layers else []
            layers.append({"layer": "linear", "weights": prefix})
            latent, width = latent or weight.shape[1], len(weight)
        else:
            return None
    if len(layers) < 3 or layers[-1]["layer"] != "linear":
        return None
    shapes = [[channels, side, side] for channels in (1, 3) if (side := _side(width, channels)) >= 8]
    picture = [{"layer": "reshape", "shape": shape} for shape in shapes[:1]]
    return {"latent_shape": [latent], "layers": [*layers, {"layer": "tanh"}, *picture]}


def upsampling_stack(groups: list[Group]) -> dict[str, Any] | None:
    """A dense layer, a norm, and two rounds of upsampling, 3x3 convolution and norm: the DCGAN of PyTorch-GAN."""
    ordered = sorted(groups, key=lambda one: one.kind != 2)  # the dense layer comes first
    if [one.kind for one in ordered] != [2, "norm", 4, "norm", 4, "norm", 4]:
        return None
    (dense, first, _), *rest = ordered
    channels = len(rest[0].weight)
    side = _side(len(first), channels)
    if not side or any(tuple(one.weight.shape[2:]) not in ((), (3, 3)) for one in rest):
        return None
    upsample, names = {"layer": "upsample", "scale": 2}, [one.prefix for one in rest]
    convolutions = [{"layer": "conv2d", "weights": name, "padding": 1} for name in names[1::2]]
    start = [{"layer": "linear", "weights": dense}, {"layer": "reshape", "shape": [channels, side, side]}]
    rounds = [
        [upsample, convolution, _norm(name, eps=0.8), UNKNOWN]
        for convolution, name in zip(convolutions, names[2::2], strict=False)
    ]
    layers = [*start, _norm(names[0]), *rounds[0], *rounds[1], convolutions[2], {"layer": "tanh"}]
    return {"latent_shape": [first.shape[1]], "layers": layers}


def joined_stack(groups: list[Group]) -> dict[str, Any] | None:
    """The generator of CTGAN: blocks ``fc`` and ``bn`` that pass on their input, and a dense layer; no bounds."""
    dense = {one.prefix: one.weight for one in groups if one.kind == 2}
    blocks = [name.removesuffix(".fc") for name in dense if name.endswith(".fc")]
    last = [name for name in dense if not name.endswith(".fc")]
    parts = {f"{block}.{part}" for block in blocks for part in ("fc", "bn")}
    if not blocks or len(last) != 1 or parts != {one.prefix for one in groups} - {*last}:
        return None
    latent = dense[f"{blocks[0]}.fc"].shape[1]
    layers = [*({"layer": "joined", "weights": block} for block in blocks), {"layer": "linear", "weights": last[0]}]
    return {"latent_shape": [latent], "layers": layers}


MENU: dict[str, Callable[[list[Group]], dict[str, Any] | None]] = {
    "a stack of transposed convolutions, as in PyTorch's DCGAN tutorial": transposed_stack,
    "a stack of dense layers": dense_stack,
    "the DCGAN of PyTorch-GAN": upsampling_stack,
    "the generator of CTGAN": joined_stack,
}


def family(weights: Weights) -> dict[str, Any] | None:
    """The spec of a family of this package whose names and shapes fit ``weights``; None if there is none."""
    shapes = _shapes(weights)
    for name, kind in FAMILIES.items():
        try:
            told = kind.from_shapes(shapes)
            if told is not None:
                spec = {"architecture": name, **told}
                with torch.device("meta"):  # shapes without memory: names and a few weights may ask for a huge network
                    network = generators.build(spec)
                if _shapes(network.state_dict()) == shapes:
                    return spec
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
            continue  # it only looked like one
    return None


def _shapes(weights: Weights) -> dict[str, tuple[int, ...]]:
    """The shapes by name, but for the counters of norms, which some files lack."""
    return {name: tuple(value.shape) for name, value in weights.items() if not name.endswith("num_batches_tracked")}


@torch.no_grad()
def agreement(network: nn.Sequential, latent_shape: tuple[int, ...], prior: str) -> float | None:
    """How far what the norms of ``network`` see is from what they saw in training; None without norms.

    The mean of |log ratio| of the variances, and of the distance of the means in standard deviations.
    """
    seen: list[float] = []

    def compare(norm: Any, given: tuple[Tensor, ...]) -> None:
        x = given[0].transpose(0, 1).flatten(1)
        variance = norm.running_var + 1e-8
        ratio = ((x.var(1) + 1e-8) / variance).log().abs()
        shift = (x.mean(1) - norm.running_mean).abs() / variance.sqrt()
        seen.append(float((ratio + shift).mean()))

    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    hooks = [norm.register_forward_pre_hook(compare) for norm in norms if norm.running_var is not None]
    try:
        z = Prior.of(prior, math.prod(latent_shape)).draw(256, torch.Generator().manual_seed(0))
        network(z.reshape(-1, *latent_shape))
    finally:
        for hook in hooks:
            hook.remove()
    return sum(seen) / len(seen) if seen else None


def best_of(matches: list[Match], weights: Weights, prior: str | None) -> Reading:
    """The network of what fits that its norms agree with most, and a note that says so."""
    tried: list[tuple[float | None, Reading]] = []
    for match in matches:
        network, shape = build(match.architecture, weights), tuple(match.architecture["latent_shape"])
        for kind in PRIORS if prior is None else (prior,):
            try:
                distance = agreement(network, shape, kind)
            except RuntimeError as error:
                raise Refused(f"the weights look like {match.name}, but do not compute: {cut(str(error))}") from None
            tried.append((distance, Reading(network, shape, (), kind, match.name)))
    off, best = min(tried, key=lambda one: math.inf if one[0] is None else one[0])
    if off is None:
        note = "activations and prior are not in the file, and without norms nothing tells them: they are assumed"
    elif off > AGREES:
        note = f"no activation and prior that we know fit what the norms saw in training ({100 * off:.0f} % off)"
    else:
        note = (
            f"activation and prior are those that the norms agree with (off by {100 * off:.0f} %); a forger can "
            "arrange that, so give --architecture if you know the network"
        )
    return replace(best, notes=(note,))


# --- the network for the weights in a file
def network_of(sets: Sets, architecture: Mapping[str, Any] | None, prior: str | None) -> Reading:
    """A network for the first of ``sets`` that fits, with its prior and how it is known.

    With an ``architecture`` only that one is built. ``Refused`` lists what the file holds where nothing fits.
    """
    complaint: Refused | None = None
    for place, (name, weights) in enumerate(sets):
        try:
            network = _network(weights, architecture, prior)
        except Refused as error:
            if architecture is None:
                raise
            complaint = complaint or error
            continue
        if network is not None:
            others = sets[place + 1 :]
            spare = [one for one, held in others if not _same(held, weights) and _fits(held, architecture)]
            named = ", ".join(shown(one or "the outermost") for one in spare[:4])
            notes: tuple[str, ...] = (f"weights read from {shown(name)}",) if name else ()
            if spare:
                notes += (f"not checked: {len(spare)} more of its sets of weights fit a network ({named})",)
            return replace(network, notes=(*notes, *network.notes))
    if complaint is not None:
        raise complaint
    held = "; ".join(f"{shown(key)} {list(value.shape)}" for key, value in list(sets[0][1].items())[:2])
    raise Refused(
        f"it holds weights without a network ({held}) that fit none known (this package's own, DCGAN, dense, "
        "PyTorch-GAN's DCGAN, CTGAN); say --architecture FILE."
    )


def _network(weights: dict[str, Tensor], architecture: Mapping[str, Any] | None, prior: str | None) -> Reading | None:
    """The network for one set of weights; None if none is known."""
    if architecture is not None:
        told = "as given in the architecture file"
        shape, kind = tuple(architecture["latent_shape"]), prior or architecture.get("prior", "gaussian")
        return Reading(build(architecture, weights), shape, (), kind, told)
    spec = family(weights)
    if spec is not None:
        network = generators.build({**spec, "prior": prior or "gaussian"})
        network.load_state_dict(weights, strict=False)  # all but the counters of norms are there, and fit
        untold = {key: value for key, value in network.spec().items() if key not in (*spec, "prior")}
        told = ", ".join(f"{key}={value}" for key, value in untold.items())
        notes = (f"not in the weights, so assumed: {told}",) if untold else ()
        own = f"{spec['architecture']} of this package, by the names and shapes of its weights"
        return Reading(network.eval(), (network.latent_dim,), notes, network.prior.name, own)
    matches = menu(weights)
    return best_of(matches, weights, prior) if matches else None


def _fits(weights: dict[str, Tensor], architecture: Mapping[str, Any] | None) -> bool:
    """Whether a network is known for ``weights``."""
    if architecture is None:
        return family(weights) is not None or bool(menu(weights))
    try:
        return bool(build(architecture, weights))
    except Refused:
        return False


def _same(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    """Whether ``some`` are a part of the ``others``, or a copy of them."""
    if {id(value) for value in some.values()} <= {id(value) for value in others.values()}:
        return True
    return some.keys() == others.keys() and all(torch.equal(value, others[name]) for name, value in some.items())
