"""What a module computes, step by step, found by watching a forward pass: any ``nn.Module`` from latents to samples.

PyTorch tells a ``TorchFunctionMode`` about every operation, whether it comes from a layer object or from a function
call, so neither our classes nor ``Sequential`` are needed, and parallel branches and nameless layers show up too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

LINEAR: dict[Any, str] = {
    functional.linear: "linear",
    torch.matmul: "linear",
    torch.mm: "linear",
    Tensor.matmul: "linear",
    Tensor.mm: "linear",
    Tensor.__matmul__: "linear",
    **dict.fromkeys((functional.conv1d, functional.conv2d, torch.conv1d, torch.conv2d), "convolution"),
    **dict.fromkeys(
        (
            functional.conv_transpose1d,
            functional.conv_transpose2d,
            torch.conv_transpose1d,
            torch.conv_transpose2d,
        ),
        "transposed convolution",
    ),
}
# hidden activations that switch units off, and the slope that they leave to what is off (None: read from the call)
ACTIVATIONS: dict[Any, float | None] = {
    **dict.fromkeys((functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), 0.0),
    **dict.fromkeys((functional.relu6, functional.elu, functional.selu, functional.gelu, functional.silu), 0.0),
    **dict.fromkeys((functional.softplus, functional.mish, functional.hardswish, functional.celu), 0.0),
    **dict.fromkeys((functional.leaky_relu, functional.leaky_relu_, functional.prelu, torch.prelu), None),
}
CLAMPS = tuple(
    getattr(place, name + ending)
    for place in (torch, Tensor)
    for name in ("clamp", "clip", "clamp_min")
    for ending in ("", "_")
)
SQUASHES = (torch.tanh, Tensor.tanh, torch.sigmoid, Tensor.sigmoid)
CONDITIONS: dict[Any, str] = {
    Tensor.__bool__: "a branch on a value",
    Tensor.item: "a value read out",
    Tensor.__float__: "a value read out",
    Tensor.__int__: "a value read out",
    Tensor.tolist: "a value read out",
    torch.where: "a choice between values",
    Tensor.where: "a choice between values",
    **dict.fromkeys(
        (Tensor.__eq__, Tensor.__ne__, torch.eq, torch.isclose, torch.allclose, torch.equal), "a comparison"
    ),
    # ``x > 0`` is reported as ``Tensor.gt``, not as ``Tensor.__gt__``
    **dict.fromkeys(
        (
            *(getattr(Tensor, name) for name in ("eq", "ne", "lt", "gt", "le", "ge", "isclose", "allclose", "equal")),
            *(getattr(torch, name) for name in ("ne", "lt", "gt", "le", "ge")),
        ),
        "a comparison",
    ),
}


@dataclass(frozen=True)
class Layer:
    """One linear operation: its name in the module, its kind, and the widths (features or channels) on both sides."""

    name: str
    kind: str
    inputs: int
    outputs: int
    weights: int


@dataclass(frozen=True)
class Activation:
    """One hidden activation: the slope that it leaves to what is off, and the shape of one sample of its input."""

    slope: float
    shape: tuple[int, ...]


OnLinear = Callable[[Layer, Tensor, Tensor, Tensor], None]  # the layer, its input, its weight, its result
OnActivation = Callable[[Activation, Tensor, Tensor], None]  # the activation, what goes in, what comes out


class OpTracer(TorchFunctionMode):
    """Sees each operation of the forward passes inside its ``with`` block.

    ``layers`` and ``activations`` list what was called, in order; ``conditions`` the operations with which a program
    reads values and decides. With ``gates``, activation derivatives are replaced by random Bernoulli
    masks, whatever the input is: what the weights could do, instead of what they do.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        on_linear: OnLinear | None = None,
        on_activation: OnActivation | None = None,
        gates: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.names = {parameter.data_ptr(): name for name, parameter in module.named_parameters()}
        self.on_linear, self.on_activation, self.gates = on_linear, on_activation, gates
        self.layers: list[Layer] = []
        self.activations: list[Activation] = []
        self.conditions: list[str] = []
        self.before_squash: Tensor | None = None  # what went into the last tanh or sigmoid

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in LINEAR:
            return self._linear(func, args, kwargs)
        if func in ACTIVATIONS or _is_relu(func, args, kwargs):
            return self._activation(func, args, kwargs)
        if func in SQUASHES and args:
            self.before_squash = args[0]
        if func in CONDITIONS:
            self.conditions.append(CONDITIONS[func])
        return func(*args, **kwargs)

    def _linear(self, func: Any, args: Any, kwargs: Any) -> Any:
        x = args[0] if args else kwargs.get("input")
        weight = args[1] if len(args) > 1 else kwargs.get("weight", kwargs.get("mat2"))
        result = func(*args, **kwargs)
        if isinstance(x, Tensor) and isinstance(weight, Tensor):
            axis = -1 if LINEAR[func] == "linear" else 1
            name = self.names.get(weight.data_ptr(), f"operation {len(self.layers) + 1}").removesuffix(".weight")
            layer = Layer(name, LINEAR[func], x.shape[axis], result.shape[axis], weight.numel())
            self.layers.append(layer)
            if self.on_linear is not None:
                if LINEAR[func] == "linear" and func is not functional.linear and weight.ndim == 2:
                    weight = weight.T  # as a linear layer holds it: [outputs, inputs]
                self.on_linear(layer, x, weight, result)
                return result.clone()  # what was seen stays as it is if the module changes the result in place
        return result

    def _activation(self, func: Any, args: Any, kwargs: Any) -> Any:
        x, rest = (args[0], args[1:]) if args else (kwargs["input"], ())
        kwargs = {name: value for name, value in kwargs.items() if name != "input"}
        in_place = bool(kwargs.pop("inplace", False)) or func.__name__.endswith("_") or any(v is True for v in rest)
        rest = tuple(value for value in rest if value is not True)
        slope = ACTIVATIONS.get(func, 0.0)
        if slope is None:
            given = rest[0] if rest else kwargs.get("weight", kwargs.get("negative_slope", 0.01))
            slope = float(given.detach().mean()) if isinstance(given, Tensor) else float(given)
        target, x = x, x.clone() if in_place else x  # what went in is still wanted
        result = func(x.clone() if in_place else x, *rest, **kwargs)
        activation = Activation(slope, tuple(x.shape[1:]))
        self.activations.append(activation)
        if self.gates is not None:
            on = torch.randint(0, 2, x.shape, generator=self.gates, device=x.device).to(x.dtype)
            result = result.detach() + (on + slope * (1 - on)) * (x - x.detach())
        if self.on_activation is not None:
            self.on_activation(activation, x, result)
        return target.copy_(result) if in_place else result


def _is_relu(func: Any, args: Any, kwargs: Any) -> bool:
    """``x.clamp(min=0)`` and ``nn.ReLU6``: the same as a ReLU, by other names (with an upper bound of 1, an output)."""
    if func in CLAMPS:
        bounds = [*args[1:], *(kwargs[name] for name in ("min", "max") if name in kwargs)]
        return len(bounds) == 1 and "max" not in kwargs and _is_number(bounds[0]) and bounds[0] == 0
    if func is functional.hardtanh:
        low = args[1] if len(args) > 1 else kwargs.get("min_val", -1.0)
        high = args[2] if len(args) > 2 else kwargs.get("max_val", 1.0)
        return low == 0 and high > 1
    return False


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True)
class Outline:
    """The graph of one forward pass: linear operations and activations in order, and the conditions it depends on."""

    layers: tuple[Layer, ...]
    activations: tuple[Activation, ...]
    conditions: tuple[str, ...]
    unused: tuple[str, ...]  # parameters that no output depends on


def outline(module: nn.Module, z: Tensor) -> Outline:
    """Trace one forward pass of ``module`` on latents ``z`` ``[n, ...]``; its weights have no gradient afterwards."""
    parameters = dict(module.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            with OpTracer(module) as watch:
                output = module(z)
            values = list(parameters.values())
            found: list[Tensor | None] = [None] * len(values)
            if output.requires_grad:
                found = list(torch.autograd.grad(output.sum(), values, allow_unused=True))
        unused = [name for name, gradient in zip(parameters, found, strict=True) if gradient is None]
    finally:
        module.requires_grad_(False)
    return Outline(tuple(watch.layers), tuple(watch.activations), tuple(watch.conditions), tuple(unused))
