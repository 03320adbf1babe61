"""A menu of common generators, matched by the shapes of weights that come without a network.

``menu`` proposes architectures; ``best_of`` builds them and takes the one whose norms see what they saw in training: a
wrong activation or prior shows there. ``family`` knows the names and shapes of this package's own families.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite import generators
from devilgan_lite.checks import cut
from devilgan_lite.files.architectures import Weights, build
from devilgan_lite.files.sniff import Refused
from devilgan_lite.generators import FAMILIES
from devilgan_lite.prior import PRIORS, Prior

Groups = list[tuple[str, dict[str, Tensor]]]  # the weights by what they belong to
GUESSES = ({"layer": "relu"}, {"layer": "leaky_relu", "negative_slope": 0.2})  # hidden activations to try
UNKNOWN = {"layer": "?"}  # a hidden activation
AGREES = 0.3  # see ``agreement``: what a right guess stays below


@dataclass(frozen=True)
class Match:
    """An architecture of the menu that fits, and what it is called."""

    name: str
    architecture: dict[str, Any]


def menu(weights: Weights) -> list[Match]:
    """The architectures whose shapes fit ``weights``, most likely first; the activations are still guesses."""
    groups = _groups(weights)
    found = []
    for name, propose in MENU.items():
        proposed = propose(groups)
        for guess in GUESSES if proposed is not None and UNKNOWN in proposed["layers"] else ({},):
            if proposed is not None:
                layers = [guess if entry == UNKNOWN else entry for entry in proposed["layers"]]
                found.append(Match(name, {**proposed, "layers": layers}))
    return found


def _groups(weights: Weights) -> Groups:
    """The weights by what they belong to, in the natural order of the names: 2 comes before 10."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        prefix, _, last = name.rpartition(".")
        groups.setdefault(prefix, {})[last] = value
    return sorted(
        groups.items(), key=lambda item: [(int(p) if p.isdigit() else -1, p) for p in re.split(r"(\d+)", item[0])]
    )


def _is_norm(group: dict[str, Tensor]) -> bool:
    return "running_mean" in group


def _rank(group: dict[str, Tensor]) -> int:
    return group["weight"].ndim if "weight" in group else 0


def _norm(prefix: str) -> list[dict[str, Any]]:
    return [{"layer": "batch_norm", "weights": prefix}]


def _picture(size: int) -> list[int] | None:
    """The shape of a picture of ``size`` numbers: square, in grey or colour, from 8x8 on."""
    for channels in (1, 3):
        side = math.isqrt(size // channels)
        if side >= 8 and channels * side * side == size:
            return [channels, side, side]
    return None


def transposed_stack(groups: Groups) -> dict[str, Any] | None:
    """Transposed convolutions with norms between, from a latent or a dense layer (Radford et al. 2016).

    4x4 kernels make 4x4 of a latent, or double what is there; 3x3 and 5x5 double, too.
    """
    layers: list[dict[str, Any]] = []
    channels, latent, dense = 0, None, 0
    for index, (prefix, group) in enumerate(groups):
        rank, weight = _rank(group), group.get("weight")
        if weight is None:
            return None
        if _is_norm(group):
            if not layers or layers[-1]["layer"] == "?" or len(weight) not in (channels, dense):
                return None
            reshape = layers.pop() if layers[-1]["layer"] == "reshape" else None
            before = reshape is not None and len(weight) == dense and dense != channels
            layers += [*(_norm(prefix) if before else []), *([reshape] if reshape else [])]
            layers += [] if before else _norm(prefix)
        elif rank == 2 and index == 0:
            latent, dense = [weight.shape[1]], len(weight)
            reader = next((g["weight"] for _, g in groups if _rank(g) == 4), None)
            if reader is None or dense % len(reader) or math.isqrt(dense // len(reader)) ** 2 * len(reader) != dense:
                return None
            channels, side = len(reader), math.isqrt(dense // len(reader))
            layers += [{"layer": "linear", "weights": prefix}, {"layer": "reshape", "shape": [channels, side, side]}]
            continue
        elif rank == 4 and weight.shape[2] == weight.shape[3] and weight.shape[2] in (3, 4, 5):
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
    if latent is None or channels not in (1, 3) or "?" not in [entry["layer"] for entry in layers]:
        return None
    return {"latent_shape": latent, "layers": [*layers, {"layer": "tanh"}]}


def dense_stack(groups: Groups) -> dict[str, Any] | None:
    """Dense layers, with norms or without: what many tutorials call a vanilla GAN."""
    layers: list[dict[str, Any]] = []
    width = 0
    for prefix, group in groups:
        weight = group.get("weight")
        if weight is None or (_is_norm(group) and len(weight) != width):
            return None
        if _is_norm(group):
            layers += _norm(prefix)
        elif weight.ndim == 2 and width in (0, weight.shape[1]):
            layers += [UNKNOWN] if layers else []
            layers.append({"layer": "linear", "weights": prefix})
            width = len(weight)
        else:
            return None
    shape = _picture(width)
    if len(layers) < 3 or layers[-1]["layer"] != "linear":
        return None
    first = groups[0][1]["weight"]
    end = [{"layer": "reshape", "shape": shape}] if shape else []
    return {"latent_shape": [first.shape[1]], "layers": [*layers, {"layer": "tanh"}, *end]}


def upsampling_stack(groups: Groups) -> dict[str, Any] | None:
    """A dense layer, a norm, and two rounds of upsampling, 3x3 convolution and norm: the DCGAN of PyTorch-GAN."""
    kinds = ["norm" if _is_norm(group) else _rank(group) for _, group in groups]
    order = sorted(range(len(groups)), key=lambda index: kinds[index] != 2)  # the dense layer comes first
    if [kinds[index] for index in order] != [2, "norm", 4, "norm", 4, "norm", 4]:
        return None
    (dense, first), *rest = [groups[index] for index in order]
    channels = len(rest[0][1]["weight"])
    side = math.isqrt(len(first["weight"]) // max(channels, 1))
    if channels * side * side != len(first["weight"]) or any(
        tuple(g["weight"].shape[2:]) not in ((), (3, 3)) for _, g in rest
    ):
        return None
    upsample, names = {"layer": "upsample", "scale": 2}, [prefix for prefix, _ in rest]
    convolutions = [{"layer": "conv2d", "weights": name, "padding": 1} for name in names[1::2]]
    norms = [{"layer": "batch_norm", "weights": name, "eps": 0.8} for name in names[2::2]]
    layers = [
        {"layer": "linear", "weights": dense},
        {"layer": "reshape", "shape": [channels, side, side]},
        *_norm(names[0]),
        *[upsample, convolutions[0], norms[0], UNKNOWN],
        *[upsample, convolutions[1], norms[1], UNKNOWN],
        *[convolutions[2], {"layer": "tanh"}],
    ]
    return {"latent_shape": [first["weight"].shape[1]], "layers": layers}


def joined_stack(groups: Groups) -> dict[str, Any] | None:
    """The generator of CTGAN: blocks ``fc`` and ``bn`` that pass on their input, and a dense layer; no bounds."""
    blocks = list(dict.fromkeys(prefix.removesuffix(".fc") for prefix, _ in groups if prefix.endswith(".fc")))
    by_name = dict(groups)
    last = [prefix for prefix, group in groups if _rank(group) == 2 and not prefix.endswith(".fc")]
    if (
        not blocks
        or len(last) != 1
        or len(groups) != 2 * len(blocks) + 1
        or any(f"{b}.bn" not in by_name for b in blocks)
    ):
        return None
    latent = by_name[f"{blocks[0]}.fc"]["weight"].shape[1]
    layers = [*({"layer": "joined", "weights": block} for block in blocks), {"layer": "linear", "weights": last[0]}]
    return {"latent_shape": [latent], "layers": layers}


MENU: dict[str, Callable[[Groups], dict[str, Any] | None]] = {
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


def best_of(matches: list[Match], weights: Weights, prior: str | None) -> tuple[nn.Sequential, Match, str, str]:
    """The network, its match, the prior and a note: of what fits, what its norms agree with most."""
    tried = []
    for match in matches:
        network = build(match.architecture, weights)
        shape = tuple(match.architecture["latent_shape"])
        for kind in PRIORS if prior is None else (prior,):
            try:
                tried.append((agreement(network, shape, kind), network, match, kind))
            except RuntimeError as error:
                raise Refused(f"the weights look like {match.name}, but do not compute: {cut(str(error))}") from None
    if tried[0][0] is None:
        note = "activations and prior are not in the file, and without norms nothing tells them: they are assumed"
        return *tried[0][1:], note
    found = min(tried, key=lambda one: one[0] if one[0] is not None else math.inf)
    value = found[0] if found[0] is not None else math.inf
    note = (
        f"activation and prior are those that the norms agree with (off by {100 * value:.0f} %); a forger can arrange"
    )
    note += " that, so give --architecture if you know the network"
    if value > AGREES:
        note = f"no activation and prior that we know fit what the norms saw in training ({100 * value:.0f} % off)"
    return *found[1:], note
