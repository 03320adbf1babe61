"""A network as a chain: each layer reads what the one before it wrote, with a norm and an activation in between.

Most generators are chains (a DCGAN, an MLP, the PyTorch tutorial's network), whoever wrote them, and so are most parts
of others. ``chain_of`` finds the chain with ``torch.fx``, from layer objects and function calls alike. Only plain
stacks are chains: no additions, no concatenations, no branches on values. Widening, pruning and rewriting speak to the
chain, not to a family.
"""

import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.functional import leaky_relu

Layer = Any  # nn.Linear, nn.Conv1d to 3d, nn.ConvTranspose1d to 3d
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
SQUASHES = {nn.Tanh: "tanh", torch.tanh: "tanh", functional.tanh: "tanh", "tanh": "tanh"}
SQUASHES |= {nn.Sigmoid: "sigmoid", torch.sigmoid: "sigmoid", functional.sigmoid: "sigmoid", "sigmoid": "sigmoid"}
# activations that work on each value by itself; the slope below zero of those of the ReLU kind, None for the others
POINTWISE: dict[Any, float | None] = {
    **dict.fromkeys((nn.ReLU, functional.relu, torch.relu, "relu", "relu_"), 0.0),
    **dict.fromkeys((nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.ReLU6, nn.Hardswish)),
    **dict.fromkeys((functional.elu, functional.selu, functional.celu, functional.gelu, functional.silu)),
    **dict.fromkeys((functional.mish, functional.softplus, functional.relu6, functional.hardswish)),
    **dict.fromkeys(SQUASHES),
}
LEAKY = (nn.LeakyReLU, functional.leaky_relu)
RESHAPES: tuple[Any, ...] = (nn.Flatten, nn.Unflatten, torch.flatten, torch.reshape, torch.unsqueeze, torch.squeeze)
RESHAPES += ("view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "contiguous")
SPATIAL: tuple[Any, ...] = (nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, functional.interpolate)
SPATIAL += (nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, functional.pad)
IDLE = (nn.Identity, nn.Dropout, nn.Dropout2d)  # in inference
SIZES = ("size", "dim", getattr, operator.getitem)


@dataclass(frozen=True)
class Stage:
    """One layer of a chain and what follows it up to the next: ``norm``, activation, upsampling.

    ``slope`` is that of a ReLU (0) or LeakyReLU, None for other activations. ``cells`` are the positions to which the
    outputs of a dense layer are reshaped, or those that a convolution of a 1x1 latent makes.
    """

    name: str
    layer: Layer
    norm: Any = None  # nn.BatchNorm1d to 3d
    slope: float | None = None
    activation: Callable[[Tensor], Tensor] | None = None
    cells: tuple[int, ...] = ()
    after: tuple[Callable[[Tensor], Tensor], ...] = ()

    @property
    def dense(self) -> bool:
        """Whether each unit has weights of its own."""
        return isinstance(self.layer, nn.Linear)

    @property
    def units(self) -> int:
        """Outputs of the layer: features, or channels."""
        return self.layer.out_features if self.dense else self.layer.out_channels

    @property
    def reads(self) -> int:
        """Inputs of the layer: features, or channels."""
        return self.layer.in_features if self.dense else self.layer.in_channels

    @property
    def units_each(self) -> int:
        """Units of one channel: its cells in a dense layer, otherwise one."""
        return math.prod(self.cells) if self.dense else 1

    @property
    def channels(self) -> int:
        """Channels that the next layer reads."""
        return self.units // self.units_each

    @property
    def per_unit(self) -> bool:
        """Whether the norm has a number for each unit (else one for each channel)."""
        return self.norm is None or bool(self.norm.num_features == self.units)

    def rows(self, channels: Tensor) -> Tensor:
        """The rows of the layer that write ``channels`` ``[k]``: ``[k * units_each]``."""
        cells = torch.arange(self.units_each, device=channels.device)
        return (channels.view(-1, 1) * self.units_each + cells).flatten()

    def activate(self, x: Tensor) -> Tensor:
        """The activation of ``x``, and upsampling, of any number of channels."""
        if self.slope is not None:
            x = leaky_relu(x, self.slope)
        elif self.activation is not None:
            x = self.activation(x)
        for step in self.after:
            x = step(x)
        return x

    def normalised(self, x: Tensor) -> Tensor:
        """The layer's outputs after its norm, as ``[n, channels, *cells]`` (or ``[n, features]``)."""
        x = self.layer(x)
        if self.norm is not None and self.per_unit:
            x = self.norm(x)
        if self.dense and self.cells:
            x = x.unflatten(1, (self.channels, *self.cells))
        return x if self.norm is None or self.per_unit else self.norm(x)

    def gain(self) -> Tensor:
        """The scale that the norm gives to each unit ``[units]``, its channel's where it has one for each channel."""
        if self.norm is None:
            return self.layer.weight.new_ones(self.units)
        scale = self.norm.weight / (self.norm.running_var + self.norm.eps).sqrt()
        return scale.repeat_interleave(self.units // len(scale))


@dataclass(frozen=True)
class Chain:
    """``stages`` first to last, the shape of one latent, and the squash: ``"tanh"``, ``"sigmoid"`` or ``""``."""

    stages: tuple[Stage, ...]
    latent_shape: tuple[int, ...]
    squash: str = ""
    output_shape: tuple[int, ...] = field(default=())

    @property
    def hidden(self) -> tuple[Stage, ...]:
        """All stages but the last."""
        return self.stages[:-1]

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each hidden level."""
        return tuple(stage.channels for stage in self.hidden)

    def read(self, z: Tensor) -> Tensor:
        """Latents ``[n, d]`` as the first layer reads them."""
        return z.reshape(len(z), *self.latent_shape)

    def rest(self, x: Tensor) -> Tensor:
        """The output before its squash, from what goes into the first activation ``[n, channels, *cells]``."""
        x = self.stages[0].activate(x)
        for stage in self.stages[1:-1]:
            x = stage.activate(stage.normalised(x))
        return self.stages[-1].normalised(x).reshape(len(x), *self.output_shape)


def weight_of(layer: Layer, weight: Tensor | None = None) -> Tensor:
    """The weight of a layer, or one like it, as ``[outputs, inputs, ...]`` (a view)."""
    weight = layer.weight if weight is None else weight
    return weight.transpose(0, 1) if isinstance(layer, TRANSPOSED) else weight


class _Shapes(fx.Interpreter):
    """Runs a traced network and notes the shape of one sample of each result."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["shape"] = tuple(result.shape[1:])
        return result


@contextmanager
def in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Inside, ``module`` is in eval mode, so that looking at it changes no statistics; each part's mode is put back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def chain_of(module: nn.Module, z: Tensor, method: str = "forward") -> Chain | None:
    """The chain of ``module``'s ``method``, traced on latents ``z`` ``[n, ...]``; None if it is no chain."""
    tracer = fx.Tracer()
    tracer.traced_func_name = method
    try:
        graph = tracer.trace(module)
        traced = fx.GraphModule(tracer.root, graph)
        with torch.no_grad(), in_eval_mode(module):
            _Shapes(traced).run(z)
    except Exception:  # somebody's program may do anything; then it is no chain
        return None
    return _read(traced, tuple(z.shape[1:]))


def _read(traced: fx.GraphModule, latent_shape: tuple[int, ...]) -> Chain | None:
    stages: list[dict[str, Any]] = []
    squash, current, shape = "", None, latent_shape
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            current = node if current is None else current
            continue
        if node.target in SIZES:
            continue
        inputs = [other for other in node.all_input_nodes if "shape" in other.meta]
        if inputs != [current]:
            return None
        if node.op == "output":
            break
        if "shape" not in node.meta:
            return None
        before, shape = shape, node.meta["shape"]
        thing = traced.get_submodule(node.target) if node.op == "call_module" else node.target
        kind = type(thing) if node.op == "call_module" else thing
        call = _call(node, thing)
        stage = stages[-1] if stages else None
        if kind in LAYERS:
            if getattr(thing, "groups", 1) != 1 or (stage and "activation" not in stage) or squash:
                return None
            cells = shape[1:] if not stages and kind is not nn.Linear else ()
            stages.append({"name": node.target, "layer": thing, "cells": cells})
        elif stage is None:
            if kind not in RESHAPES:
                return None
            latent_shape = shape
        elif kind in NORMS:
            if "norm" in stage or "activation" in stage or not (thing.affine and thing.track_running_stats):
                return None
            stage["norm"] = thing
        elif kind in LEAKY or kind in POINTWISE:
            if "activation" in stage:
                return None
            stage["activation"], stage["slope"] = call, _slope(node, thing, kind)
            squash = SQUASHES.get(kind, "")
        elif kind in SPATIAL and "activation" in stage:
            stage["after"] = (*stage.get("after", ()), call)
        elif kind in RESHAPES:
            if isinstance(stage["layer"], nn.Linear) and len(before) == 1 and not stage["cells"]:
                stage["cells"] = shape[1:]
            elif math.prod(before) != math.prod(shape) or (before != shape and len(shape) <= len(before)):
                return None
        elif kind not in IDLE:
            return None
        current = node
    return _finished(stages, latent_shape, squash, shape)


def _finished(
    stages: list[dict[str, Any]], latent: tuple[int, ...], squash: str, shape: tuple[int, ...]
) -> Chain | None:
    """The chain of ``stages``, if each fits the next: the last has no norm, hidden dense outputs split into cells."""
    if len(stages) < 2 or "norm" in stages[-1] or ("activation" in stages[-1] and not squash):
        return None
    last = {name: stages[-1][name] for name in ("name", "layer")}
    found = tuple(Stage(**stage) for stage in [*stages[:-1], last])
    for stage, reader in zip(found, found[1:], strict=False):
        sizes = (stage.units, stage.channels)
        if reader.reads != stage.channels or (stage.norm is not None and stage.norm.num_features not in sizes):
            return None
    return Chain(found, latent, squash, shape)


def _call(node: fx.Node, thing: Any) -> Callable[[Tensor], Tensor]:
    """What the node does to its one input."""
    if node.op == "call_module":
        return thing
    rest, named = (
        node.args[1:],
        {name: value for name, value in node.kwargs.items() if name not in ("input", "inplace")},
    )
    if node.op == "call_method":
        return lambda x: getattr(x, thing)(*rest, **named)
    return lambda x: thing(x, *rest, **named)


def _slope(node: fx.Node, thing: Any, kind: Any) -> float | None:
    if kind is nn.LeakyReLU:
        return float(thing.negative_slope)
    if kind is functional.leaky_relu:
        given: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("negative_slope", 0.01)
        return float(given)
    return POINTWISE[kind]
