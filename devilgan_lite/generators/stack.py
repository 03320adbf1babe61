"""Stacks of PyTorch's own layers as plain data: what a model card says of a generator that somebody else built.

Only what is listed here is described, and only that is built: a card is read as data, whoever wrote it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from devilgan_lite.checks import in_range, known_names, one_of, shown, whole_number

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
    "Upsample": ("scale_factor", "mode"),
    "PixelShuffle": ("upscale_factor",),
}
WORDS = {"mode": ("nearest", "bilinear"), "approximate": ("none", "tanh")}
SWITCHES = ("bias",)
WIDTHS = ("in_features", "out_features", "in_channels", "out_channels", "num_features")
PLACES = ("dim", "start_dim", "end_dim")
MOST_LAYERS, MOST_WIDTH, MOST_STEP = 500, 2**20, 64


def described(module: nn.Module) -> list[dict[str, Any]] | None:
    """The layers of ``module`` as plain data, from which ``stack`` makes one of the same shape; None if it is no stack.

    It must be an ``nn.Sequential`` of the layers above, with nothing between them.
    """
    if type(module) is not nn.Sequential:
        return None
    found = []
    for layer in module:
        name = type(layer).__name__
        if type(layer) is not getattr(nn, name, None) or name not in SETTINGS:
            return None
        settings = {setting: getattr(layer, setting) for setting in SETTINGS[name]}
        if "bias" in settings:
            settings["bias"] = settings["bias"] is not None
        found.append({"layer": name, **{key: _plain(value) for key, value in settings.items()}})
    try:
        again = stack(found)  # what a layer has that is not listed, such as groups, shows in its text
    except (TypeError, ValueError):
        return None
    return found if str(again) == str(module) else None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def stack(layers: Sequence[Mapping[str, Any]]) -> nn.Sequential:
    """The ``nn.Sequential`` that ``layers`` describe, with fresh weights; ``ValueError`` says what is wrong in them."""
    if not 1 <= len(layers) <= MOST_LAYERS:
        raise ValueError(f"module has {len(layers)} layers; it must have 1 to {MOST_LAYERS}.")
    made: list[nn.Module] = []
    for entry in layers:
        if not isinstance(entry, Mapping):
            raise ValueError(f'a layer is {shown(entry)}; it must be an object such as {{"layer": "ReLU"}}.')
        settings = dict(entry)
        name = settings.pop("layer", None)
        one_of("layer", name, SETTINGS)
        known_names(name, settings, SETTINGS[name])
        for setting, value in settings.items():
            _check(setting, value)
        kept = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
        made.append(getattr(nn, name)(**kept))
    return nn.Sequential(*made)


def _check(setting: str, value: Any) -> None:
    if setting in SWITCHES:
        one_of(setting, value, (False, True))
    elif setting in WORDS:
        one_of(setting, value, WORDS[setting])
    elif setting in PLACES:
        whole_number(setting, value, -8, 8)
    elif setting in ("eps", "negative_slope", "alpha", "beta", "threshold", "momentum"):
        if value is not None or setting != "momentum":
            in_range(setting, value, 0.0, 1e3)
    else:
        most = MOST_WIDTH if setting in WIDTHS or setting == "unflattened_size" else MOST_STEP
        for number in value if isinstance(value, (list, tuple)) else (value,):
            whole = int(number) if isinstance(number, float) and number.is_integer() else number  # Upsample's factor
            whole_number(setting, whole, 0, most)
