"""Which layers a module has, found by watching one forward pass: any ``nn.Module`` from latents to pictures.

PyTorch tells a ``TorchFunctionMode`` about every operation, whether it comes from a layer object or from a function
call, so neither our classes nor ``Sequential`` are needed, and parallel branches and layers without names show up too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

LINEAR = {
    functional.linear: "linear",
    functional.conv1d: "convolution",
    functional.conv2d: "convolution",
    functional.conv3d: "convolution",
    functional.conv_transpose1d: "transposed convolution",
    functional.conv_transpose2d: "transposed convolution",
    functional.conv_transpose3d: "transposed convolution",
    torch.conv1d: "convolution",
    torch.conv2d: "convolution",
    torch.conv_transpose1d: "transposed convolution",
    torch.conv_transpose2d: "transposed convolution",
    torch.matmul: "linear",
    Tensor.matmul: "linear",
    Tensor.__matmul__: "linear",
    torch.mm: "linear",
    Tensor.mm: "linear",
}
# hidden activations that switch units on and off, with the slope on the off side (None: read from the call)
SWITCHES: dict[Callable[..., Any], float | None] = {
    functional.relu: 0.0,
    torch.relu: 0.0,
    torch.relu_: 0.0,
    Tensor.relu: 0.0,
    Tensor.relu_: 0.0,
    functional.relu6: 0.0,
    functional.leaky_relu: None,
    functional.elu: 0.0,
    functional.selu: 0.0,
    functional.gelu: 0.0,
    functional.silu: 0.0,
    functional.softplus: 0.0,
    functional.mish: 0.0,
}
CONDITIONS = {Tensor.__bool__, Tensor.item, Tensor.__float__, Tensor.__int__, Tensor.tolist, torch.where, Tensor.where}


@dataclass(frozen=True)
class Layer:
    """One linear operation: ``reads_latent`` says whether nothing but reshaping happened to its input before."""

    name: str
    kind: str
    inputs: int  # width of the space that it reads: features, or channels
    outputs: int
    weights: int
    reads_latent: bool


@dataclass(frozen=True)
class Switch:
    """One hidden activation, as called: the slope it gives to what is off, and the shape of one sample."""

    slope: float
    shape: tuple[int, ...]


@dataclass
class Watch(TorchFunctionMode):
    """Sees each operation of a forward pass. ``probes`` gets the input of every linear operation; ``before``, of every
    switch. With ``gates``, switches let gradients through at random instead of where their input is positive.
    """

    module: nn.Module
    gates: torch.Generator | None = None
    keep: bool = False
    layers: list[Layer] = field(default_factory=list)
    switches: list[Switch] = field(default_factory=list)
    probes: list[Tensor] = field(default_factory=list)
    results: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    before: list[Tensor] = field(default_factory=list)
    after: list[Tensor] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.names = {parameter.data_ptr(): name for name, parameter in self.module.named_parameters()}
        self.latent: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in LINEAR and isinstance(args[0], Tensor):
            return self._linear(func, args, kwargs)
        if func in SWITCHES:
            return self._switch(func, args, kwargs)
        if func in CONDITIONS:
            self.conditions.append(getattr(func, "__name__", str(func)))
        return func(*args, **kwargs)

    def _linear(self, func: Any, args: Any, kwargs: Any) -> Any:
        x, weight = args[0], args[1] if len(args) > 1 else kwargs.get("weight")
        if not isinstance(weight, Tensor):
            return func(*args, **kwargs)
        probe = x.clone() if torch.is_grad_enabled() and x.requires_grad else x
        self.probes.append(probe)
        result = func(probe, *args[1:], **kwargs)
        self.results.append(result)
        self.weights.append(weight)
        kind = LINEAR[func]
        space = x.shape[1] if kind != "linear" else x.shape[-1]
        outputs = result.shape[1] if kind != "linear" else result.shape[-1]
        name = self.names.get(weight.data_ptr(), "").removesuffix(".weight") or f"operation {len(self.layers) + 1}"
        reads_latent = not self.switches and not any(layer for layer in self.layers)
        self.layers.append(Layer(name, kind, space, outputs, weight.numel(), reads_latent))
        return result

    def _switch(self, func: Any, args: Any, kwargs: Any) -> Any:
        x = args[0]
        slope = SWITCHES[func]
        if slope is None:
            slope = float(args[1] if len(args) > 1 else kwargs.get("negative_slope", 0.01))
        self.switches.append(Switch(slope, tuple(x.shape[1:])))
        kwargs = {name: value for name, value in kwargs.items() if name != "inplace"}
        args = args[:2] if func is functional.leaky_relu else args[:1]
        result = func(*args, **kwargs)
        if self.gates is not None:
            on = torch.randint(0, 2, x.shape, generator=self.gates, device=x.device).to(x.dtype)
            result = result.detach() + (on + slope * (1 - on)) * (x - x.detach())
        if self.keep:
            self.before.append(x)
            self.after.append(result)
        return result


def sensitivities(
    module: nn.Module, z: Tensor, random: torch.Generator, *, at_random: bool
) -> tuple[Tensor, list[Tensor]]:
    """Gradients of a random projection of the output, with respect to ``z`` and to the input of each linear operation.

    ``E[g g^T]`` over projections is ``J^T J``. With ``at_random``, a toss of a coin decides whether a hidden unit is
    on, whatever ``z`` says: what the weights could do, instead of what they do.
    """
    z = z.clone().requires_grad_(True)
    with torch.enable_grad(), Watch(module, random if at_random else None) as watch:
        output = module(z)
    projection = torch.randn(output.shape, generator=random, device=output.device)
    wanted = [probe for probe in watch.probes if probe.requires_grad]
    gradients = torch.autograd.grad((output * projection).sum(), [z, *wanted], allow_unused=True)
    first = gradients[0] if gradients[0] is not None else torch.zeros_like(z)
    return first, [g if g is not None else torch.zeros_like(p) for g, p in zip(gradients[1:], wanted, strict=True)]
