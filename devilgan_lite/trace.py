"""What a module computes, step by step, found by watching a forward pass: any ``nn.Module`` from latents to samples.

PyTorch tells a ``TorchFunctionMode`` about every operation, whether it comes from a layer object or from a function
call, so neither our classes nor ``Sequential`` are needed, and parallel branches and nameless layers show up too.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary


def _by_name(*names: str, places: tuple[Any, ...] = (torch, Tensor)) -> list[Any]:
    """Each operation in every place where PyTorch has it, as a function and as a method."""
    return [getattr(place, name) for place in places for name in names]


CONVOLVERS = (functional, torch)
LINEAR: dict[Any, str] = {
    **dict.fromkeys((functional.linear, *_by_name("matmul", "mm"), Tensor.__matmul__), "linear"),
    **dict.fromkeys(_by_name("conv1d", "conv2d", places=CONVOLVERS), "convolution"),
    **dict.fromkeys(_by_name("conv_transpose1d", "conv_transpose2d", places=CONVOLVERS), "transposed convolution"),
}
# hidden activations that switch units off, and the slope that they leave to what is off (None: read from the call)
ACTIVATIONS: dict[Any, float | None] = {
    **dict.fromkeys((functional.relu, functional.relu_, *_by_name("relu", "relu_")), 0.0),
    **dict.fromkeys((functional.relu6, functional.elu, functional.selu, functional.gelu, functional.silu), 0.0),
    **dict.fromkeys((functional.softplus, functional.mish, functional.hardswish, functional.celu), 0.0),
    **dict.fromkeys((functional.leaky_relu, functional.leaky_relu_, functional.prelu, torch.prelu), None),
}
CLAMPS = _by_name("clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_")
# the last of these squashes logits; each with what its input is divided by: 2 sigmoid(x) - 1 = tanh(x / 2)
SQUASHES: dict[Any, int] = dict.fromkeys(_by_name("tanh"), 1) | dict.fromkeys(_by_name("sigmoid"), 2)
SOFTMAXES = (functional.softmax, *_by_name("softmax"))
CHOICE, READ, COMPARISON = "a choice between values", "a value read out", "a comparison"
CONDITIONS: dict[Any, str] = {
    Tensor.__bool__: "a branch on a value",
    **dict.fromkeys((Tensor.item, Tensor.__float__, Tensor.__int__, Tensor.tolist, Tensor.numpy), READ),
    **dict.fromkeys(_by_name("where"), CHOICE),
    **dict.fromkeys((Tensor.__eq__, Tensor.__ne__), COMPARISON),
    # ``x > 0`` is reported as ``Tensor.gt``, not as ``Tensor.__gt__``
    **dict.fromkeys(_by_name("eq", "ne", "lt", "gt", "le", "ge", "isclose", "allclose", "equal"), COMPARISON),
}
IS_FINITE = _by_name("isfinite")
FINITE = [*IS_FINITE, *_by_name("isnan", "isinf")]
UNEQUAL = (*_by_name("ne"), Tensor.__ne__)  # of a tensor with itself: another way to ask whether it is finite


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
BeforeActivation = Callable[[Activation, Tensor], None]  # the activation and what goes in
OnActivation = Callable[[Activation, Tensor, Tensor], None]  # the activation, what goes in, what comes out


class OpTracer(TorchFunctionMode):
    """Sees each operation of the forward passes inside its ``with`` block.

    ``layers`` and ``activations`` list what was called, in order; ``conditions`` the operations with which a program
    reads values and decides. ``logits`` is what went into the last tanh, or half of what went into the last sigmoid.
    ``choosing`` are the positions of the layers between the last activation and a
    softmax after it, ``choices`` what went into such softmaxes. With ``gates``, activation derivatives are replaced by
    random Bernoulli masks, whatever the input is: what the weights could do, instead of what they do.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        on_linear: OnLinear | None = None,
        before_activation: BeforeActivation | None = None,
        on_activation: OnActivation | None = None,
        gates: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.names = {_address(parameter): name for name, parameter in module.named_parameters()}
        self.on_linear, self.on_activation, self.gates = on_linear, on_activation, gates
        self.before_activation = before_activation
        self.layers: list[Layer] = []
        self.activations: list[Activation] = []
        self.conditions: list[str] = []
        self.logits: Tensor | None = None
        self.choosing: set[int] = set()
        self.choices: list[Tensor] = []
        self._since = 0  # the first layer after the last activation

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in LINEAR:
            return self._linear(func, args, kwargs)
        if func in ACTIVATIONS or _is_relu(func, args, kwargs):
            return self._activation(func, args, kwargs)
        if func in CONDITIONS:
            self.conditions.append(CONDITIONS[func])
        elif func in SOFTMAXES:
            self.choosing = set(range(self._since, len(self.layers)))
            self.choices.append((args[0] if args else kwargs["input"]).clone())  # read by the softmax and nobody else
            args, kwargs = (self.choices[-1], *args[1:]), {key: kwargs[key] for key in kwargs if key != "input"}
        elif func in SQUASHES:
            self.logits = (args[0] if args else kwargs["input"]) / SQUASHES[func]
        return func(*args, **kwargs)

    def _linear(self, func: Any, args: Any, kwargs: Any) -> Any:
        x = args[0] if args else kwargs.get("input")
        weight = args[1] if len(args) > 1 else kwargs.get("weight", kwargs.get("mat2"))
        result = func(*args, **kwargs)
        if isinstance(x, Tensor) and isinstance(weight, Tensor):
            axis = -1 if LINEAR[func] == "linear" else 1
            name = self.names.get(_address(weight), f"operation {len(self.layers) + 1}").removesuffix(".weight")
            layer = Layer(name, LINEAR[func], x.shape[axis], result.shape[axis], weight.numel())
            self.layers.append(layer)
            if self.on_linear is not None:
                if LINEAR[func] == "linear" and func is not functional.linear and weight.ndim == 2:
                    weight = weight.T  # as a linear layer holds it: [outputs, inputs]
                self.on_linear(layer, x, weight, result)
                return result.clone()  # what was seen stays as it is if the module changes the result in place
        return result

    def _activation(self, func: Any, args: Any, kwargs: Any) -> Any:
        x = args[0] if args else kwargs["input"]
        activation = Activation(_slope(func, args, kwargs), tuple(x.shape[1:]))
        self.activations.append(activation)
        self._since, self.choosing, self.choices = len(self.layers), set(), []
        if self.before_activation is not None:
            self.before_activation(activation, x)
        if self.on_activation is None and self.gates is None:
            return func(*args, **kwargs)
        copy = x.clone()  # an activation that works in place changes this copy, and returns it
        result = func(copy, *args[1:], **{name: value for name, value in kwargs.items() if name != "input"})
        in_place = result is copy
        before = x.clone() if in_place else x
        if self.gates is not None:
            on = torch.randint(0, 2, x.shape, generator=self.gates, device=x.device).to(x.dtype)
            slopes = on + activation.slope * (1 - on)
            result = result.detach() + slopes * (before - before.detach())
        if self.on_activation is not None:
            self.on_activation(activation, before, result)
        return x.copy_(result) if in_place else result


def _address(tensor: Tensor) -> int:
    """Where the numbers of ``tensor`` are, which tells a weight even through a view of it."""
    try:
        return tensor.data_ptr()
    except RuntimeError:  # a tensor without numbers: somebody exports the module
        return id(tensor)


def _slope(func: Any, args: Any, kwargs: Any) -> float:
    """The slope that the call of an activation leaves to what is off; the mean, where each channel has its own."""
    slope = ACTIVATIONS.get(func, 0.0)
    if slope is not None:
        return slope
    given = args[1] if len(args) > 1 else kwargs.get("weight", kwargs.get("negative_slope", 0.01))
    return float(given.detach().mean()) if isinstance(given, Tensor) else float(given)


def _is_relu(func: Any, args: Any, kwargs: Any) -> bool:
    """``x.clamp(min=0)`` and ``nn.ReLU6``: the same as a ReLU, by other names (with an upper bound of 1, an output)."""
    if func in CLAMPS:
        bounds = [*args[1:], *(kwargs[name] for name in ("min", "max") if name in kwargs)]
        return len(bounds) == 1 and "max" not in kwargs and type(bounds[0]) in (int, float) and bool(bounds[0] == 0)
    if func is functional.hardtanh:
        low = args[1] if len(args) > 1 else kwargs.get("min_val", -1.0)
        high = args[2] if len(args) > 2 else kwargs.get("max_val", 1.0)
        return bool(low == 0 and high > 1)
    return False


@dataclass(frozen=True)
class Outline:
    """The graph of one forward pass: linear operations and activations in order, and the conditions it depends on."""

    layers: tuple[Layer, ...]
    activations: tuple[Activation, ...]
    conditions: tuple[str, ...]
    unused: tuple[str, ...]  # parameters that no output depends on


def outline(module: nn.Module, z: Tensor) -> Outline:
    """Trace one forward pass of ``module`` on latents ``z`` ``[n, ...]``, which leaves it as it was."""
    parameters = dict(module.named_parameters())
    trained = [parameter.requires_grad for parameter in parameters.values()]
    module.requires_grad_(True)
    try:
        with torch.enable_grad():
            with OpTracer(module) as tracer:
                output = module(z)
            gradients: Sequence[Tensor | None] = [None] * len(parameters)
            if output.requires_grad:
                gradients = torch.autograd.grad(output.sum(), list(parameters.values()), allow_unused=True)
        unused = [name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None]
    finally:
        for parameter, before in zip(parameters.values(), trained, strict=True):
            parameter.requires_grad_(before)
    return Outline(tuple(tracer.layers), tuple(tracer.activations), tuple(tracer.conditions), tuple(unused))


@dataclass(frozen=True)
class Work:
    """What one sample takes: ``multiplications`` in linear and convolution layers, and ``uses`` of the same weights.

    ``uses`` is the median over multiplications: 1 in a stack of layers, the number of steps in a flow.
    """

    multiplications: int
    uses: int


@torch.no_grad()
def work_of(module: nn.Module, z: Tensor) -> Work:
    """Count the work of one forward pass on latents ``z`` ``[n, ...]``."""
    seen: list[tuple[int, int]] = []

    def count(layer: Layer, x: Tensor, weight: Tensor, result: Tensor) -> None:
        if layer.kind == "linear":
            number = result[0].numel() * layer.inputs
        else:
            places = x if layer.kind == "transposed convolution" else result
            number = weight.numel() * places[0, 0].numel()
        seen.append((_address(weight), number))

    with OpTracer(module, on_linear=count) as tracer:
        module(z)
    times = Counter(address for address, _ in seen if address in tracer.names)  # others may lie where one lay before
    total, below = sum(number for _, number in seen), 0
    for uses, number in sorted((times.get(address, 1), number) for address, number in seen):
        below += number
        if 2 * below >= total:
            return Work(max(total, 1), uses)
    return Work(1, 1)


class Decisions(TorchFunctionMode):
    """Sees what a program decides by values that depend on the latents ``z``, inside its ``with`` block; can turn one.

    ``outcomes`` has one entry a decision, in order: its kind (of ``CONDITIONS``), and what came out: True, False, or
    None where both did or where numbers differed. What is calculated from truth values alone is a decision, too, with
    its one number. Decision number ``turn`` comes out the other way; if it reads numbers, it reads ``instead`` of them.
    A check that finds all values finite is no decision. More than ``most`` operations, as in a loop that a turned
    decision has made endless, are a ``RuntimeError``.
    """

    def __init__(
        self,
        z: Tensor,
        *,
        turn: int | None = None,
        instead: Callable[[Tensor], Tensor] = torch.zeros_like,
        most: float = float("inf"),
    ) -> None:
        super().__init__()
        self.outcomes: list[tuple[str, float | None]] = []
        self.turn, self.instead, self.most, self.calls = turn, instead, most, 0
        self._decides = WeakIdKeyDictionary()  # tensor that depends on the latents -> whether by more than being finite
        self._decides[z] = True
        self._truths = WeakIdKeyDictionary()  # those that are truth values, or were calculated from nothing else

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        self.calls += 1
        if self.calls > self.most:
            raise RuntimeError("the forward pass does not end")
        kind, place = CONDITIONS.get(func), int(func is Tensor.where)  # of the condition, among the arguments
        if kind == CHOICE and len(args) == place:
            args = (*args, kwargs.pop("condition"))
        seen = [tensor for tensor in _tensors((args, kwargs)) if tensor in self._decides]
        counted = kind is None and bool(seen) and all(tensor in self._truths for tensor in seen)
        asks = func in FINITE or (func in UNEQUAL and len(args) > 1 and args[0] is args[1])
        if asks or not (kind or counted) or not self._depends(args[place] if kind == CHOICE else seen):
            result = func(*args, **kwargs)
        else:
            turned = len(self.outcomes) == self.turn
            if turned and kind in (CHOICE, READ):
                other = torch.logical_not if args[place].dtype == torch.bool else self.instead
                args = (*args[:place], other(args[place]), *args[place + 1 :])
            result = func(*args, **kwargs)
            outcome = _one_outcome(args[place] if kind == CHOICE else result)
            self.outcomes.append((kind or COMPARISON, outcome))
            if turned and kind not in (CHOICE, READ):
                result = _other_way(result)
        fine = asks and _one_outcome(result) == (func in IS_FINITE)
        for tensor in _tensors((result, args[:1] if func is Tensor.__setitem__ else ())) if seen else ():
            self._decides[tensor] = self._depends(seen) and not fine
            if tensor.dtype == torch.bool or counted:
                self._truths[tensor] = True
        return result

    def _depends(self, tree: Any) -> bool:
        """Whether a tensor in ``tree`` depends on the latents by more than being finite."""
        return any(self._decides.get(tensor, False) for tensor in _tensors(tree))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _one_outcome(result: Any) -> float | None:
    """The truth value or number that came out everywhere; None where several did, or what is neither."""
    if not isinstance(result, Tensor):
        return result if isinstance(result, bool) else None
    values = result.unique().tolist()
    return values[0] if len(values) == 1 else None


def _other_way(result: Any) -> Any:
    """What a decision did not give: not True but False, not 0 but 1."""
    if not isinstance(result, Tensor):
        return not result
    return result.logical_not() if result.dtype == torch.bool else 1 - result
