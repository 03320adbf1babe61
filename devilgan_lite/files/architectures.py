"""A network from an architecture that is plain data, for weights that come without one.

It says only what weights do not: the latent's shape, strides, activations, shapes in between; sizes are read from the
weights. It comes from ``menu``, or from a JSON file of yours: ``{"latent_shape": [100, 1, 1], "layers": [{"layer":
"conv_transpose2d", "weights": "main.0"}, {"layer": "relu"}, ...]}``.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.checks import in_range, known_names, latent_size, one_of, shown, whole_number
from devilgan_lite.files.sniff import Refused
from devilgan_lite.prior import PRIORS

Weights = Mapping[str, Tensor]
ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
CONVOLUTIONS: dict[str, Any] = {
    "conv1d": nn.Conv1d,
    "conv2d": nn.Conv2d,
    "conv_transpose1d": nn.ConvTranspose1d,
    "conv_transpose2d": nn.ConvTranspose2d,
}
# what each layer may say; sizes come from its weights
SETTINGS: dict[str, tuple[str, ...]] = {
    "linear": ("weights",),
    **dict.fromkeys(CONVOLUTIONS, ("weights", "stride", "padding", "output_padding", "dilation")),
    "batch_norm": ("weights", "eps"),
    "joined": ("weights",),
    **dict.fromkeys(ACTIVATIONS, ()),
    "leaky_relu": ("negative_slope",),
    "reshape": ("shape",),
    "upsample": ("scale", "mode"),
    "pixel_shuffle": ("scale",),
}


class Joined(nn.Module):
    """The block of CTGAN's generator (Xu et al. 2019): dense, norm and ReLU, with the block's input beside them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.relu(self.bn(self.fc(x))), x], dim=1)


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
    if not 1 <= len(architecture["layers"]) <= 500:
        raise ValueError(f"architecture has {len(architecture['layers'])} layers; it must have 1 to 500.")
    for entry in architecture["layers"]:
        if not isinstance(entry, dict):
            raise ValueError(f'a layer is {shown(entry)}; it must be an object such as {{"layer": "relu"}}.')
        one_of("layer", entry.get("layer"), SETTINGS)
        known_names(entry["layer"], (name for name in entry if name != "layer"), SETTINGS[entry["layer"]])
        for name in ("stride", "padding", "output_padding", "dilation", "scale"):
            if name in entry:
                whole_number(name, entry[name], 0, 64)
        for name in ("eps", "negative_slope"):
            if name in entry:
                in_range(name, entry[name], 0.0, 1.0)
        if "shape" in entry and not (isinstance(entry["shape"], list) and all(type(n) is int for n in entry["shape"])):
            raise ValueError(f"shape={shown(entry['shape'])} is not valid: it must list whole numbers.")
        if "mode" in entry:
            one_of("mode", entry["mode"], ("nearest", "bilinear"))
    return architecture


def build(architecture: Mapping[str, Any], weights: Weights) -> nn.Sequential:
    """The network that ``architecture`` describes, with ``weights`` (by full name), in eval mode.

    ``Refused`` where a layer's weights are missing, do not fit it, or are not used at all.
    """
    used: set[str] = set()
    layers: list[nn.Module] = []
    axes = len(architecture["latent_shape"])  # of one sample at this place
    for entry in architecture["layers"]:
        layer = _layer(entry, weights, axes)
        axes = {"reshape": len(entry.get("shape", ())), "linear": 1, "joined": 1}.get(entry["layer"], axes)
        if "weights" in entry:
            state = _below(entry["weights"], weights)
            counted = {
                name: value for name, value in layer.state_dict().items() if name.endswith("num_batches_tracked")
            }
            try:
                layer.load_state_dict({**counted, **state})
            except RuntimeError as error:
                problem = str(error).strip().splitlines()[-1]
                raise Refused(f"the weights {shown(entry['weights'])} fit no {entry['layer']}: {problem}") from None
            used.update(f"{entry['weights']}.{name}" for name in state)
        layers.append(layer)
    spare = [name for name in weights if name not in used]
    if spare:
        raise Refused(f"the architecture does not use the weights {shown(spare[0])}, of {len(spare)} in all.")
    return nn.Sequential(*layers).eval()


def _below(prefix: str, weights: Weights) -> dict[str, Tensor]:
    return {name[len(prefix) + 1 :]: value for name, value in weights.items() if name.startswith(f"{prefix}.")}


def _layer(entry: Mapping[str, Any], weights: Weights, axes: int) -> nn.Module:
    kind = entry["layer"]
    settings = {name: value for name, value in entry.items() if name not in ("layer", "weights")}
    if kind in ACTIVATIONS:
        return ACTIVATIONS[kind](**settings)
    if kind == "reshape":
        return nn.Flatten() if len(entry["shape"]) == 1 else nn.Unflatten(1, tuple(entry["shape"]))
    if kind == "upsample":
        return nn.Upsample(scale_factor=entry.get("scale", 2), mode=entry.get("mode", "nearest"))
    if kind == "pixel_shuffle":
        return nn.PixelShuffle(entry.get("scale", 2))
    prefix = entry.get("weights")
    inner = "fc.weight" if kind == "joined" else "weight"
    weight = weights.get(f"{prefix}.{inner}")
    wanted = {"batch_norm": 1, "linear": 2, "joined": 2, "conv1d": 3, "conv_transpose1d": 3}.get(kind, 4)
    if weight is None or weight.ndim != wanted:
        found = "missing" if weight is None else list(weight.shape)
        raise Refused(
            f"the weights {shown(f'{prefix}.{inner}')} of a {kind} are {found}; expected {wanted} dimensions."
        )
    bias = f"{prefix}.bias" in weights
    if kind == "joined":
        return Joined(weight.shape[1], weight.shape[0])
    if kind == "linear":
        return nn.Linear(weight.shape[1], weight.shape[0], bias=bias)
    if kind == "batch_norm":
        return (nn.BatchNorm2d if axes == 3 else nn.BatchNorm1d)(len(weight), **settings)
    inputs, outputs = weight.shape[:2] if "transpose" in kind else weight.shape[1::-1]
    return CONVOLUTIONS[kind](inputs, outputs, tuple(weight.shape[2:]), bias=bias, **settings)
