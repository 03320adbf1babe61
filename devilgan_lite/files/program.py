"""``Program``: a network read out of a file as data, operation by operation.

What a file asks for is looked up by name in lists of operations that we wrote; nothing of it is executed. The reader of
a format walks through its graph with shapes only, and emits operations into a ``Trace``. Operations with weights become
layers (``nn.Linear``, ``nn.ConvTranspose2d``, ``nn.BatchNorm2d``, ...), so that attacks and cures find them.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from devilgan_lite.checks import MOST_LATENT, shown
from devilgan_lite.files.sniff import Refused, refusing

MOST_OPERATIONS = 20_000
MOST_NAME = 60  # characters of a layer's name
MOST_ELEMENTS = 10_000_000  # of one intermediate result, for each latent
MOST_AT_ONCE = 16  # latents that may each take as much memory as one may
MOST_NUMBERS = 100_000_000  # of the weights, and of everything that is computed from them
HALF = "the file asks for half precision; it was checked in single precision, in which some results differ"
CONVOLUTIONS = {getattr(functional, f"conv{d}d"): getattr(nn, f"Conv{d}d") for d in (1, 2, 3)}
TRANSPOSED = {getattr(functional, f"conv_transpose{d}d"): getattr(nn, f"ConvTranspose{d}d") for d in (1, 2, 3)}
NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def check_latent(shape: Sequence[int]) -> None:
    """``Refused`` for a file whose network reads larger latents than any that are accepted."""
    if math.prod(shape) > MOST_LATENT:
        raise Refused(f"a latent has {math.prod(shape):,} numbers; at most {MOST_LATENT:,} are accepted.")


@dataclass(frozen=True)
class Value:
    """A value of the graph: its numbers, or a shape on ``meta`` where they are known only when the network runs."""

    name: str
    tensor: Tensor

    @property
    def live(self) -> bool:
        """Whether its numbers are known only when the network runs."""
        return self.tensor.is_meta

    def like(self, tensor: Tensor) -> "Value":
        """Another known value, made of this one."""
        return Value(self.name, tensor)


@dataclass(frozen=True)
class Count:
    """A setting that is ``slope`` times the number of latents, plus ``start``."""

    slope: int
    start: int


@dataclass(frozen=True)
class Operation:
    """One call ``function(*operands, **settings)`` of torch, with values among both, and the values that it makes."""

    function: Callable[..., Any]
    operands: tuple[Any, ...]
    settings: dict[str, Any]
    made: tuple[Value, ...] = ()

    @property
    def reads(self) -> list[Value]:
        """The values among the operands and settings."""
        values: list[Value] = []
        mapped((self.operands, self.settings), Value, values.append)
        return values

    def call(self, tensor: Callable[[Value], Tensor]) -> Any:
        """What it makes where ``tensor`` says what a value is."""
        return self.function(*mapped(self.operands, Value, tensor), **mapped(self.settings, Value, tensor))


def mapped(argument: Any, kinds: Any, change: Callable[[Any], Any]) -> Any:
    """``argument``, perhaps lists and dicts of arguments, with everything of these ``kinds`` changed."""
    if isinstance(argument, dict):
        return {key: mapped(value, kinds, change) for key, value in argument.items()}
    if isinstance(argument, (list, tuple)):
        return type(argument)(mapped(value, kinds, change) for value in argument)
    return change(argument) if isinstance(argument, kinds) else argument


@dataclass
class Trace:
    """The operations of one walk with ``batch`` latents of ``latent_shape``, from the value ``latent`` on.

    ``parameters`` are the names of the weights that are trained, where a format tells them from constants: what is
    computed of them stays an operation. ``room`` is how many more numbers may be computed in advance, ``largest`` how
    many the largest weight has. ``sized`` are the known values that were computed from shapes, and so may depend on
    ``batch``.
    """

    batch: int
    latent_shape: tuple[int, ...]
    parameters: frozenset[str] | None = None
    operations: list[Operation] = field(default_factory=list)
    room: int = MOST_NUMBERS
    count: int = 0
    largest: int = 0
    sized: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.latent = Value("0", torch.empty(self.batch, *self.latent_shape, device="meta"))

    def emit(self, function: Callable[..., Any], /, *operands: Any, **settings: Any) -> Any:
        """Compute what does not depend on the latents; note the operation, and its shape, where it does.

        It runs on ``meta`` first, where nothing is allocated, so that an absurd size is refused before it costs memory.
        """
        operation = Operation(function, operands, settings)
        given = operation.reads
        live = any(one.live or one.name in (self.parameters or ()) for one in given)
        with torch.device("meta"):
            shapes = operation.call(lambda one: one.tensor.to("meta"))
        made = tuple(shapes) if isinstance(shapes, (tuple, list)) else (shapes,)
        most = MOST_ELEMENTS * min(self.batch, MOST_AT_ONCE) if live else MOST_NUMBERS
        if live and self.parameters is not None:  # of the weights, too
            self.largest = max(self.largest, *(one.tensor.numel() for one in given if not one.live), 0)
            most = MOST_ELEMENTS * self.batch + self.largest
        for one in made:
            if one.numel() > most:
                raise Refused(f"a step makes {one.numel():,} numbers; at most {most:,} are accepted.")
        if not live:
            known = operation.call(lambda one: one.tensor)
            made = tuple(known) if isinstance(known, (tuple, list)) else (known,)
            stored = {one.tensor.untyped_storage().data_ptr() for one in given}
            self.room -= sum(one.numel() for one in made if one.untyped_storage().data_ptr() not in stored)
            if self.room < 0:
                raise Refused(f"the constants of the graph expand to more than {MOST_NUMBERS:,} numbers.")
        self.count += 1
        if self.count > 4 * MOST_OPERATIONS:
            raise Refused(
                f"the graph takes more than {4 * MOST_OPERATIONS:,} steps of torch; at most so many are read."
            )
        name = str(self.count) if live else next((one.name for one in given), "constant")
        values = tuple(Value(f"{name}.{i}" if live and i else name, one) for i, one in enumerate(made))
        if live:
            self.operations.append(replace(operation, made=values))
        return values if isinstance(shapes, (tuple, list)) else values[0]


@dataclass(frozen=True)
class Name:
    """The name of a value in a running program, or of the attribute that holds it."""

    text: str


@dataclass(frozen=True)
class Call:
    """An operation of a program: ``run`` is a function, or the name of a layer; ``finished`` is not read afterwards."""

    run: str | Callable[..., Any]
    operands: tuple[Any, ...]
    settings: dict[str, Any]
    makes: tuple[str, ...]
    finished: list[str]


class Program(nn.Module):
    """Latents ``[n, *latent_shape]`` to samples ``[n, *shape]`` by those of the ``operations`` that ``output`` needs.

    An operation with weights of its own becomes a layer. Other known values become parameters or buffers: as the
    ``parameters`` of the trace say, or parameters if they hold several float numbers where it says nothing. At most
    ``most`` numbers are stored.
    """

    def __init__(
        self, trace: Trace, operations: Sequence[Operation], output: Value, *, most: int = MOST_NUMBERS
    ) -> None:
        super().__init__()
        operations = _fused(_needed(operations, output), output)
        if len(operations) > MOST_OPERATIONS:
            raise Refused(f"the network has {len(operations):,} operations; at most {MOST_OPERATIONS:,} are read.")
        self.latent, self.output, self.latent_shape = trace.latent.name, output.name, trace.latent_shape
        self.calls: tuple[Call, ...] = ()
        uses = Counter(one.name for operation in operations for one in operation.reads if not one.live)
        tried = Counter[str]()
        kept: dict[int, str] = {}  # attributes by the identity of their tensors: several operations may read one
        calls, stored = [], 0
        needed, finished = {output.name}, list[list[str]]()
        for operation in reversed(operations):
            names = [one.name for one in (*operation.reads, *operation.made) if one.live]
            finished.append([name for name in names if name not in needed])
            needed.update(names)

        def named(one: Value) -> Name:
            return Name(one.name if one.live else kept[id(one.tensor)])

        for operation, names in zip(operations, reversed(finished), strict=True):
            constants = [one for one in operation.reads if not one.live]
            for one in constants:
                stored += 0 if id(one.tensor) in kept else one.tensor.numel()
                if stored > most:
                    raise Refused(f"the layers hold more than {most:,} numbers; at most so many are read.")
                several = one.tensor.is_floating_point() and one.tensor.numel() > 1 and trace.parameters is None
                if several and not torch.isfinite(one.tensor).all():
                    raise Refused(f"the weights {shown(one.name)} are not finite: the file is broken.")
            shared = trace.parameters is not None and any(uses[one.name] > 1 for one in constants)
            layer = None if shared else _layer(operation)
            makes = tuple(one.name for one in operation.made)
            if layer is not None:
                name = self._attribute(constants[0].name.removesuffix(".weight"), tried)
                self.add_module(name, layer)
                calls.append(Call(name, (named(operation.operands[0]),), {}, makes, names))
                continue
            for one in constants:
                if id(one.tensor) not in kept:
                    name = kept[id(one.tensor)] = self._attribute(one.name, tried)
                    trained = one.tensor.numel() > 1 if trace.parameters is None else one.name in trace.parameters
                    if trained and one.tensor.is_floating_point():
                        self.register_parameter(name, nn.Parameter(one.tensor.clone()))
                    else:
                        self.register_buffer(name, one.tensor.clone())
            operands, settings = mapped((operation.operands, operation.settings), Value, named)
            calls.append(Call(operation.function, operands, settings, makes, names))
        self.calls = tuple(calls)
        self.eval()

    def forward(self, z: Tensor) -> Tensor:
        values: dict[str, Any] = {self.latent: z}

        def held(one: Name | Count) -> Any:
            if isinstance(one, Count):
                return one.slope * z.shape[0] + one.start
            return values[one.text] if one.text in values else getattr(self, one.text)

        for call in self.calls:
            run = getattr(self, call.run) if isinstance(call.run, str) else call.run
            made = run(*mapped(call.operands, (Name, Count), held), **mapped(call.settings, (Name, Count), held))
            values.update(zip(call.makes, made if isinstance(made, (tuple, list)) else (made,), strict=True))
            for name in call.finished:
                values.pop(name, None)
        samples: Tensor = values[self.output]
        return samples

    def _attribute(self, name: str, tried: Counter[str]) -> str:
        """A free name for an attribute, from any text: letters, digits and ``_``. No value is called like one."""
        plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:MOST_NAME]
        plain = unique = plain if plain[:1].isalpha() else f"n_{plain}"
        while hasattr(self, unique):
            tried[plain] += 1
            unique = f"{plain}_{tried[plain]}"
        return unique


def _needed(operations: Sequence[Operation], output: Value) -> list[Operation]:
    needed, kept = {output.name}, []
    for operation in reversed(operations):
        if any(one.name in needed for one in operation.made):
            kept.append(operation)
            needed.update(one.name for one in operation.reads if one.live)
    return kept[::-1]


def _fused(operations: Sequence[Operation], output: Value) -> list[Operation]:
    """A bias that is added becomes its layer's, and ``x * sigmoid(x)`` a SiLU: as the network was written."""
    uses = Counter(one.name for operation in operations for one in operation.reads if one.live)
    uses[output.name] += 1
    makers: dict[str, int] = {}
    fused: list[Operation] = []
    for operation in operations:
        if operation.function in (torch.add, torch.mul):
            for one, other in permutations(operation.operands, 2):
                at = makers.get(one.name) if one is not None and one.live and uses[one.name] == 1 else None
                together = None if at is None or other is None else _together(fused[at], operation, other)
                if at is not None and together is not None:
                    fused[at] = replace(together, made=())  # a place that is empty now
                    operation = together
                    break
        makers.update(dict.fromkeys((one.name for one in operation.made), len(fused)))
        fused.append(operation)
    return [operation for operation in fused if operation.made]


def _together(maker: Operation, operation: Operation, other: Value) -> Operation | None:
    """``maker`` and the ``operation`` that adds ``other`` to its result, or multiplies it, as one operation."""
    if operation.function is torch.mul:
        same = maker.function is torch.sigmoid and other.live and maker.operands[0] is other
        return Operation(functional.silu, (other,), {}, operation.made) if same else None
    layer = maker.function is functional.linear or maker.function in CONVOLUTIONS | TRANSPOSED
    if not layer or other.live or maker.operands[2] is not None or maker.operands[1] is None or maker.operands[1].live:
        return None
    result = maker.made[0].tensor
    axis = result.ndim - 1 if maker.function is functional.linear else 1
    wide = (1,) * (result.ndim - other.tensor.ndim) + tuple(other.tensor.shape)
    if other.tensor.ndim > result.ndim or wide != (1,) * axis + (result.shape[axis],) + (1,) * (result.ndim - axis - 1):
        return None
    return replace(maker, operands=(*maker.operands[:2], other.like(other.tensor.reshape(-1))), made=operation.made)


def _layer(operation: Operation) -> nn.Module | None:
    """The layer that does what ``operation`` does; None if there is none, or if its weights are not known."""
    function, counts = operation.function, list[Count]()
    mapped(operation.settings, Count, counts.append)
    if function not in (functional.linear, functional.batch_norm, *CONVOLUTIONS, *TRANSPOSED) or counts:
        return None
    x, *rest = operation.operands
    weights = [None if one is None else one.tensor for one in rest]
    how, first = {**operation.settings, "device": "meta"}, weights[0]
    if not x.live or first is None or any(one is not None and one.is_meta for one in weights):
        return None
    layer: nn.Module
    if function is functional.linear:
        layer = nn.Linear(first.shape[1], first.shape[0], **how)
    elif function in CONVOLUTIONS:
        width = first.shape[1] * how.get("groups", 1)
        layer = CONVOLUTIONS[function](width, first.shape[0], tuple(first.shape[2:]), **how)
    elif function in TRANSPOSED:
        width = first.shape[1] * how.get("groups", 1)
        layer = TRANSPOSED[function](first.shape[0], width, tuple(first.shape[2:]), **how)
    elif function is functional.batch_norm and x.tensor.ndim in NORMS:
        layer = NORMS[x.tensor.ndim](first.numel(), affine=weights[2] is not None, **how)
        layer.num_batches_tracked = torch.tensor(0)
        layer.running_mean, layer.running_var = (one.clone() for one in weights[:2] if one is not None)
        weights = weights[2:]
    else:
        return None
    for name, weight in zip(("weight", "bias"), weights, strict=True):
        setattr(layer, name, None if weight is None else nn.Parameter(weight.clone()))
    return layer


def run_checked(program: nn.Module, latents: Tensor) -> Tensor:
    """What ``program`` makes of a few ``latents``; whatever goes wrong inside is a ``Refused`` that says what."""
    with torch.no_grad(), refusing("the network in the file does not compute"):
        made = program(latents)
    if not isinstance(made, Tensor):
        raise Refused(f"the network in the file makes a {type(made).__name__}; expected a tensor of samples.")
    return made
