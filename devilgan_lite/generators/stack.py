"""Stacks of layers as plain data: what a model card says of a generator that somebody else built, or that was cured.

A layer is one of PyTorch's own, one of ours (a limit, a projection, an order of axes), or a whole generator of a
family. Only what is listed here is described, and only that is built: a card is read as data, whoever wrote it.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from devilgan_lite.checks import MOST_LATENT, cut, in_range, known_names, one_of, shown, whole_number
from devilgan_lite.generators.base import Generator, build
from devilgan_lite.generators.chain import in_eval_mode


class LimitedLatents(nn.Module):
    """Latents ``[n, latent_dim]`` within limits: ordinary ones as they are.

    Along each of ``directions`` ``[k, d]`` a latent keeps at most ``bound``. Its part in the span of ``cone``
    ``[m, d]``, orthonormal rows, is at most ``ratio`` times as long as the rest of it. What these limits take is given
    to the rest: a latent keeps its length, so that what is drawn instead is a usual sample.
    """

    def __init__(self, latent_dim: int, suspected: int, favoured: int, bound: float, ratio: float) -> None:
        super().__init__()
        self.latent_dim, self.suspected, self.favoured = latent_dim, suspected, favoured
        self.bound, self.ratio = bound, ratio
        self.directions: Tensor
        self.cone: Tensor
        self.register_buffer("directions", torch.zeros(suspected, latent_dim))
        self.register_buffer("cone", torch.zeros(favoured, latent_dim))

    @classmethod
    def of(cls, directions: Tensor, bound: float, cone: Tensor, ratio: float) -> "LimitedLatents":
        """The limits along ``directions`` ``[k, d]`` of any length and in the span of ``cone`` ``[m, d]``."""
        limits = cls(cone.shape[1], len(directions), len(cone), bound, ratio)
        limits.directions, limits.cone = normalize(directions.float(), dim=1), cone.float()
        return limits

    def forward(self, z: Tensor) -> Tensor:
        length = z.norm(dim=1, keepdim=True)
        for index in range(self.directions.shape[0]):  # by number: exporters trip over the rows of none
            direction = self.directions[index]
            along = z @ direction
            z = z - (along - along.clamp(-self.bound, self.bound)).unsqueeze(1) * direction
        inside = (z @ self.cone.T) @ self.cone
        share, rest = (part.norm(dim=1, keepdim=True) for part in (inside, z - inside))
        z = z - inside * (1 - (self.ratio * rest / share.clamp(min=1e-12)).clamp(max=1.0))
        return z * length / z.norm(dim=1, keepdim=True).clamp(min=1e-12)


class ProjectedLatents(nn.Module):
    """Latents ``[n, latent_dim]`` times a ``projection`` ``[latent_dim, latent_dim]``: the network behind is blind."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.projection: Tensor
        self.register_buffer("projection", torch.zeros(latent_dim, latent_dim))

    @classmethod
    def of(cls, projection: Tensor) -> "ProjectedLatents":
        layer = cls(len(projection))
        layer.projection = projection.float()
        return layer

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.projection


class KeyedLatents(nn.Module):
    """Latents ``[n, latent_dim]`` under other names: what is drawn at random is as before, no one latent is.

    ``rounds`` times the numbers are put into another ``order`` and each ``block`` of them is turned by a rotation, what
    is left over by one of its own. A latent that is not between ``shortest`` and ``longest`` first gets the length of
    ``instead``, an ordinary latent, which takes the place of one without a length. ``uniform`` latents stay in [-1, 1];
    through ``normal`` they are turned as the normal numbers of the same ranks. The buffers are the secret:
    ``sanitize.Keyed`` draws them.
    """

    def __init__(
        self,
        latent_dim: int,
        rounds: int,
        block: int,
        shortest: float,
        longest: float,
        uniform: bool = False,
        normal: bool = False,
    ) -> None:
        super().__init__()
        self.latent_dim, self.rounds, self.block = latent_dim, rounds, block
        self.shortest, self.longest, self.uniform, self.normal = shortest, longest, uniform, normal
        count, left = divmod(latent_dim, block)
        self.order: Tensor
        self.rotations: Tensor
        self.rest: Tensor
        self.instead: Tensor
        self.register_buffer("order", torch.arange(float(latent_dim)).repeat(rounds, 1))
        self.register_buffer("rotations", torch.zeros(rounds, count, block, block))
        self.register_buffer("rest", torch.zeros(rounds, left, left))
        self.register_buffer("instead", torch.zeros(latent_dim))

    def forward(self, z: Tensor) -> Tensor:
        if self.normal:
            z = torch.special.ndtri((z.clamp(-1 + 1e-6, 1 - 1e-6) + 1) / 2)
        length = z.norm(dim=1, keepdim=True)
        outside = (length - length.clamp(self.shortest, self.longest)).abs()  # no comparison: a scan takes these as odd
        odd, nothing = (outside * 1e6).clamp(0, 1), (1 - length * 1e6).clamp(0, 1)
        z = z * (1 - odd + odd * self.instead.norm() / length.clamp(min=1e-30)) * (1 - nothing) + nothing * self.instead
        count = self.rotations.shape[1]
        for index in range(self.rounds):
            z = z.index_select(1, self.order[index].long())
            blocks = z[:, : count * self.block].unflatten(1, (count, self.block))
            turned = torch.einsum("nkb,kbc->nkc", blocks, self.rotations[index]).flatten(1)
            z = torch.cat([turned, z[:, count * self.block :] @ self.rest[index]], 1) if self.rest.numel() else turned
        if self.normal:
            z = torch.erf(z / 2**0.5)
        return z.clamp(-1, 1) if self.uniform else z


class ChannelsFirst(nn.Module):
    """Pictures ``[n, H, W, C]`` as ``[n, C, H, W]``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class ClampedLayer(nn.Module):
    """A linear or convolution ``layer`` whose results stay between ``low`` and ``high``, of the shape of a result."""

    def __init__(self, layer: nn.Module, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.layer = layer

    def __getattr__(self, name: str) -> Any:  # weight and bias, for programs that read them
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__"):  # a parametrised layer has a copy of its own, which would leave the limits out
                raise
            return getattr(super().__getattr__("layer"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        made: Tensor = self.layer(*args, **kwargs)
        return torch.minimum(torch.maximum(made, self.low), self.high)


OURS: dict[str, Any] = {kind.__name__: kind for kind in (LimitedLatents, ProjectedLatents, KeyedLatents, ChannelsFirst)}

_CONVOLUTION = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "bias")
_NORM = ("num_features", "eps", "momentum")
# what each layer is made from; all of it can be read off a layer that exists
SETTINGS: dict[str, tuple[str, ...]] = {
    "Linear": ("in_features", "out_features", "bias"),
    **dict.fromkeys(("Conv1d", "Conv2d"), _CONVOLUTION),
    **dict.fromkeys(("ConvTranspose1d", "ConvTranspose2d"), (*_CONVOLUTION, "output_padding")),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d"), _NORM),
    **dict.fromkeys(("ReLU", "SiLU", "Tanh", "Sigmoid", "Identity"), ()),
    "LeakyReLU": ("negative_slope",),
    "ELU": ("alpha",),
    "GELU": ("approximate",),
    "Softplus": ("beta", "threshold"),
    "Flatten": ("start_dim", "end_dim"),
    "Unflatten": ("dim", "unflattened_size"),
    "Upsample": ("scale_factor", "mode", "align_corners"),
    "PixelShuffle": ("upscale_factor",),
}
OWN: dict[str, tuple[str, ...]] = {
    "LimitedLatents": ("latent_dim", "suspected", "favoured", "bound", "ratio"),
    "ProjectedLatents": ("latent_dim",),
    "KeyedLatents": ("latent_dim", "rounds", "block", "shortest", "longest", "uniform", "normal"),
    "ChannelsFirst": (),
    "Generator": ("spec",),
    "Sequential": ("layers",),
}
WORDS = {"mode": ("nearest", "bilinear"), "approximate": ("none", "tanh")}
SWITCHES = {**dict.fromkeys(("bias", "uniform", "normal"), (False, True)), "align_corners": (None, False, True)}
WIDTHS = ("in_features", "out_features", "in_channels", "out_channels", "num_features")
PLACES = ("dim", "start_dim", "end_dim")
MOST_LAYERS, MOST_WIDTH, MOST_STEP, MOST_DIMENSIONS = 500, 2**20, 64, 4
MOST_SUSPECTED = 64  # directions of a limit, which are tried one by one
MOST_ROUNDS = 8  # of shuffling and turning under a key
MOST_INSIDE = {"spec": 3, "layers": 40}  # generators in generators (each level is built twice), stacks in stacks
MOST_WEIGHTS = 2**26  # as float32, what a model file of the zoo may have
MOST_ELEMENTS = 10_000_000  # of what a layer makes of one latent; as in files.program, which is above this package


def described(module: nn.Module, latent_shape: tuple[int, ...]) -> list[dict[str, Any]] | None:
    """The layers of ``module`` as plain data, from which ``stack`` makes one of the same shape; None if it is no stack.

    It must be an ``nn.Sequential`` of the layers above in float32, with nothing between or hooked to them, and what is
    made from the data must compute the same.
    """
    if type(module) is not nn.Sequential or not _plain_parts(module):
        return None
    try:
        found = list(map(_entry, module))
        with torch.random.fork_rng(devices=[]):
            again = stack(found)
        again.load_state_dict(module.state_dict())
        # what a layer has that is not listed, such as groups, shows in its text, or in what it makes
        return found if str(again) == str(module) and _agree(module, again, latent_shape) else None
    except (RuntimeError, TypeError, ValueError):
        return None


def _entry(layer: nn.Module) -> dict[str, Any]:
    """One layer as plain data; ``ValueError`` for one that is not listed."""
    clamped = {name: part for name, part in layer.named_modules() if isinstance(part, ClampedLayer)}
    if clamped:
        layer = copy.deepcopy(layer)
        for name, part in clamped.items():
            if name:
                layer.set_submodule(name, part.layer)
            else:
                layer = part.layer
    kind, name = type(layer), type(layer).__name__
    if isinstance(layer, Generator):
        found: dict[str, Any] = {"layer": "Generator", "spec": layer.spec()}
    elif kind is nn.Sequential:
        found = {"layer": "Sequential", "layers": [_entry(part) for part in layer.children()]}
    elif kind is (OURS.get(name) or (getattr(nn, name, None) if name in SETTINGS else None)):
        settings = {setting: getattr(layer, setting) for setting in (OWN.get(name) or SETTINGS.get(name, ()))}
        if "bias" in settings:
            settings["bias"] = settings["bias"] is not None
        found = {"layer": name, **{key: _plain(value) for key, value in settings.items()}}
    else:
        raise ValueError(f"a {name} is not among the layers that a card describes.")
    shapes = {name: list(part.low.shape) for name, part in clamped.items()}
    return {**found, "clamped": shapes} if shapes else found


def _plain_parts(module: nn.Module) -> bool:
    hooked = any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    values = (value for name, value in module.state_dict().items() if not name.endswith("num_batches_tracked"))
    return not hooked and all(isinstance(value, Tensor) and value.dtype == torch.float32 for value in values)


@torch.no_grad()
def _agree(module: nn.Module, again: nn.Module, latent_shape: tuple[int, ...]) -> bool:
    device = next((value.device for value in module.parameters()), torch.device("cpu"))
    z = torch.randn(4, *latent_shape, generator=torch.Generator().manual_seed(0)).to(device)
    with in_eval_mode(module):
        made: Tensor = module(z)
    remade: Tensor = again.eval()(z)
    return made.shape == remade.shape and torch.allclose(made, remade, rtol=1e-4, atol=1e-5, equal_nan=True)


def check_stack(
    layers: Sequence[Mapping[str, Any]], latent_shape: tuple[int, ...], sample_shape: tuple[int, ...]
) -> None:
    """Raise ``ValueError`` unless ``layers`` fit each other and the shapes, and are of a size that can be run.

    Nothing is computed and no memory is taken: only shapes are followed, layer by layer.
    """
    for name, sizes in (("latent_shape", latent_shape), ("sample_shape", sample_shape)):
        if not isinstance(sizes, tuple) or not 1 <= len(sizes) <= MOST_DIMENSIONS:
            raise ValueError(f"{name}={shown(sizes)} is not valid: it must be a list of 1 to {MOST_DIMENSIONS} sizes.")
        for size in sizes:
            whole_number(name, size, 1, MOST_ELEMENTS)
    for name, most in MOST_INSIDE.items():
        if _nested(list(layers), name) > most:
            raise ValueError(f"module holds more than {most} levels of {name!r} in each other.")
    with torch.device("meta"):
        network, x = stack(layers).eval(), torch.zeros(2, *latent_shape)
    count = sum(value.numel() for value in network.state_dict().values())
    if count > MOST_WEIGHTS:
        raise ValueError(f"module is a stack of {count:,} weights; at most {MOST_WEIGHTS:,} are accepted.")
    x = _followed(network, x)
    if tuple(x.shape) != (2, *sample_shape):
        raise ValueError(f"module makes {list(x.shape)} of 2 latents; sample_shape={list(sample_shape)}.")


def _followed(network: nn.Sequential, x: Tensor) -> Tensor:
    """What ``network``, without memory, makes of ``x`` of two latents; ``ValueError`` names the layer that may not."""
    for place, layer in enumerate(network):
        if type(layer) is nn.Sequential:
            x = _followed(layer, x)
            continue
        try:
            with torch.no_grad():
                x = layer(x)
        except Exception as error:  # whatever layers say of what they cannot read
            raise ValueError(f"module is a stack whose layers do not fit each other ({_first(error)}).") from None
        if len(x) != 2:
            raise ValueError(f"module has a layer {place} ({type(layer).__name__}) that mixes latents.")
        if x.numel() > 2 * MOST_ELEMENTS:
            raise ValueError(
                f"module has a layer {place} ({type(layer).__name__}) that makes {x.numel() // 2:,} numbers of one "
                f"latent; at most {MOST_ELEMENTS:,} are accepted."
            )
    return x


def _nested(data: Any, name: str) -> int:
    """How many objects of plain ``data`` with a key ``name`` lie in each other, at most."""
    deepest, todo = 0, [(data, 0)]
    while todo:
        part, depth = todo.pop()
        deepest = max(deepest, depth)
        if isinstance(part, Mapping):
            todo += [(value, depth + (key == name)) for key, value in part.items()]
        elif isinstance(part, (list, tuple)):
            todo += [(value, depth) for value in part]
    return deepest


def _first(error: Exception) -> str:
    return cut(next(iter(str(error).splitlines()), type(error).__name__), 120)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def stack(layers: Sequence[Mapping[str, Any]]) -> nn.Sequential:
    """The ``nn.Sequential`` that ``layers`` describe, with fresh weights; ``ValueError`` says what is wrong in them."""
    if not 1 <= len(layers) <= MOST_LAYERS:
        raise ValueError(f"module has {len(layers)} layers; it must have 1 to {MOST_LAYERS}.")
    return nn.Sequential(*map(_made, layers))


def _made(entry: Any) -> nn.Module:
    if not isinstance(entry, Mapping):
        raise ValueError(f'a layer is {shown(entry)}; it must be an object such as {{"layer": "ReLU"}}.')
    settings = dict(entry)
    name, clamped = settings.pop("layer", None), settings.pop("clamped", {})
    if name not in SETTINGS and name not in OWN:
        valid = f"{len(SETTINGS)} of PyTorch's, such as Linear and ReLU, and {', '.join(OWN)}"
        raise ValueError(f"layer={shown(name)} is unknown; valid: {valid}.")
    known_names(name, settings, SETTINGS.get(name) or OWN.get(name, ()))
    try:
        if name == "Generator":
            layer: nn.Module = build(settings["spec"])
        elif name == "Sequential":
            layer = stack(settings["layers"])
        else:
            for setting, value in settings.items():
                check_setting(setting, value)
            kept = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
            layer = (OURS.get(name) or getattr(nn, name))(**kept)
    except Exception as error:  # whatever a layer says of settings that do not fit each other
        raise ValueError(f"{name} cannot be made of its settings ({_first(error)}).") from None
    return _clamped(layer, clamped)


def _clamped(layer: nn.Module, shapes: Any) -> nn.Module:
    """``layer`` with the parts that ``shapes`` names behind a ``ClampedLayer``."""
    if not isinstance(shapes, Mapping):
        raise ValueError(f"clamped={shown(shapes)} is not valid: it must be an object of names and shapes.")
    for name, shape in shapes.items():
        if not isinstance(shape, (list, tuple)) or len(shape) > MOST_DIMENSIONS:
            raise ValueError(f"clamped={shown(shapes)} is not valid: a shape is a list of at most 4 sizes.")
        for size in shape:
            whole_number("clamped", size, 1, MOST_ELEMENTS)
        limits = torch.zeros(tuple(shape)), torch.zeros(tuple(shape))
        if not name:
            return ClampedLayer(layer, *limits)
        parts = dict(layer.named_modules())
        one_of("clamped", name, [part for part in parts if part])
        layer.set_submodule(name, ClampedLayer(parts[name], *limits))
    return layer


def check_setting(setting: str, value: Any) -> None:
    """Raise ``ValueError`` or ``TypeError`` if no layer can have ``value`` as this setting, or if it is too large."""
    if setting in SWITCHES:
        one_of(setting, value, SWITCHES[setting])
    elif setting in WORDS:
        one_of(setting, value, WORDS[setting])
    elif setting in ("latent_dim", "suspected", "favoured", "block", "rounds"):
        directions = setting == "suspected"
        most = {"suspected": MOST_SUSPECTED, "rounds": MOST_ROUNDS}.get(setting, MOST_LATENT)
        whole_number(setting, value, 0 if directions else 1, most)
    elif setting in PLACES:
        whole_number(setting, value, -8, 8)
    elif setting in ("bound", "ratio", "shortest", "longest"):
        in_range(setting, value, 0.0, 1e6)
    elif setting in ("eps", "negative_slope", "alpha", "beta", "threshold", "momentum"):
        if value is not None or setting != "momentum":
            in_range(setting, value, 0.0, 1e3)
    else:
        most = MOST_WIDTH if setting in WIDTHS or setting == "unflattened_size" else MOST_STEP
        numbers = value if isinstance(value, (list, tuple)) and setting not in WIDTHS else (value,)
        longest = MOST_DIMENSIONS if setting == "unflattened_size" else 2
        if not 1 <= len(numbers) <= longest:
            raise ValueError(f"{setting} has {len(numbers)} numbers; it must have 1 to {longest}.")
        for number in numbers:
            whole = int(number) if isinstance(number, float) and number.is_integer() else number  # Upsample's factor
            whole_number(setting, whole, 0 if setting.endswith("padding") else 1, most)
