"""From steps to a ``Program``: what depends on the number of latents is made to fit any, and layers become modules."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from devilgan_lite.checks import shown
from devilgan_lite.files.onnx_operators import Value
from devilgan_lite.files.onnx_operators.shapes import expanded
from devilgan_lite.files.program import MOST_ELEMENTS, MOST_OPERATIONS, Operation, Program
from devilgan_lite.files.sniff import Refused

MOST_NAME = 40  # characters of a layer's name
MOST_AT_ONCE = 16  # latents that may each take as much memory as one may
MOST_NUMBERS = 100_000_000  # of the weights, and of everything that is computed from them
CONVOLUTIONS = {getattr(functional, f"conv{d}d"): getattr(nn, f"Conv{d}d") for d in (1, 2, 3)}
TRANSPOSED = {getattr(functional, f"conv_transpose{d}d"): getattr(nn, f"ConvTranspose{d}d") for d in (1, 2, 3)}
NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


@dataclass(frozen=True)
class Step:
    """One call ``function(*operands, **settings)`` of torch, and the values that it makes."""

    function: Callable[..., Any]
    operands: tuple[Value | None, ...]
    settings: dict[str, Any]
    made: tuple[Value, ...]

    def call(self, *tensors: Tensor) -> Any:
        """Run it on the operands that are there."""
        rest = iter(tensors)
        return self.function(*(None if one is None else next(rest) for one in self.operands), **self.settings)


@dataclass
class Steps:
    """The steps of one walk with ``batch`` latents; ``room`` is how many more numbers may be computed in advance.

    ``sized`` are the known values that were computed from shapes, and so may depend on ``batch``.
    """

    batch: int
    done: list[Step] = field(default_factory=list)
    room: int = MOST_NUMBERS
    count: int = 0
    sized: dict[str, Tensor] = field(default_factory=dict)

    def emit(self, function: Callable[..., Any], *operands: Value | None, **settings: Any) -> Any:
        """Compute what does not depend on the latents; note the step, and its shape, where it does.

        It runs on ``meta`` first, where nothing is allocated, so that an absurd size is refused before it costs memory.
        """
        given = [one for one in operands if one is not None]
        live = any(one.live for one in given)
        step = Step(function, operands, settings, ())
        shapes = step.call(*(one.tensor.to("meta") for one in given))
        made = shapes if isinstance(shapes, tuple) else (shapes,)
        most = MOST_ELEMENTS * min(self.batch, MOST_AT_ONCE) if live else MOST_NUMBERS
        for one in made:
            if one.numel() > most:
                raise Refused(f"a step makes {one.numel():,} numbers; at most {most:,} are accepted.")
        if not live:
            shapes = step.call(*(one.tensor for one in given))
            made = shapes if isinstance(shapes, tuple) else (shapes,)
            stored = {one.tensor.untyped_storage().data_ptr() for one in given}
            self.room -= sum(one.numel() for one in made if one.untyped_storage().data_ptr() not in stored)
            if self.room < 0:
                raise Refused(f"the constants of the graph expand to more than {MOST_NUMBERS:,} numbers.")
        self.count += 1
        if self.count > 4 * MOST_OPERATIONS:
            raise Refused(
                f"the graph takes more than {4 * MOST_OPERATIONS:,} steps of torch; at most so many are read."
            )
        name = f"v{self.count}" if live else next((one.name for one in given), "constant")
        values = tuple(Value(f"{name}.{i}" if live and i else name, one) for i, one in enumerate(made))
        if live:
            self.done.append(replace(step, made=values))
        return values if isinstance(shapes, tuple) else values[0]


def acts_by_batch(one: Steps, two: Steps, three: Steps) -> bool:
    """Whether a number is another for 1, 2 and 3 latents but does not grow evenly: the graph decides by the batch."""
    for name, a in one.sized.items():
        b, c = two.sized[name], three.sized[name]
        if a.shape == b.shape == c.shape and not torch.equal(c.double() - b.double(), b.double() - a.double()):
            return True
    return False


def batch_free(first: Steps, second: Steps, latent: Value) -> list[Step]:
    """The steps for any number of latents, from those with 2 and with 3; ``Refused`` if they differ in another way."""
    found: list[Step] = []
    if len(first.done) != len(second.done):
        raise _fixed()
    for one, other in zip(first.done, second.done, strict=True):
        if one.function is not other.function or len(one.operands) != len(other.operands):
            raise _fixed()
        operands = []
        for a, b in zip(one.operands, other.operands, strict=True):
            known = a is not None and b is not None and not a.live and not b.live
            operands.append(_repeated(a, b, latent, found) if a and b and known and not _equal(a, b) else a)
        found.append(_flexible(replace(one, operands=tuple(operands)), other))
    return found


def _fixed() -> Refused:
    return Refused("the graph depends on the number of latents in a way that is not read.")


def _equal(a: Value, b: Value) -> bool:
    x, y = a.tensor, b.tensor
    return x is y or (x.dtype == y.dtype and x.shape == y.shape and bool(((x == y) | ((x != x) & (y != y))).all()))


def _repeated(a: Value, b: Value, latent: Value, found: list[Step]) -> Value:
    """A constant with one row for each latent, all of them equal, as a step that repeats the row."""
    if a.tensor.shape[:1] != (2,) or b.tensor.shape != (3, *a.tensor.shape[1:]):
        raise _fixed()
    row = a.tensor[:1]
    if not all(_equal(one.like(row.expand_as(one.tensor)), one) for one in (a, b)):
        raise _fixed()
    value = Value(f"rows{len(found)}", a.tensor.to("meta"))
    found.append(Step(repeated, (a.like(row), latent), {}, (value,)))
    return value


def _flexible(step: Step, other: Step) -> Step:
    """The step without a number for the batch; a reshape without one for the channels either, where that can be."""
    if step.function is torch.reshape:
        (x, *_), shape, larger = step.operands, step.settings["shape"], other.settings["shape"]
        if (
            x is None
            or len(shape) != len(larger)
            or (differ := [i for i, size in enumerate(shape) if size != larger[i]])[1:]
        ):
            raise _fixed()
        if differ == [0] and x.tensor.shape[:1] == shape[:1] and 0 not in shape:
            if x.tensor.ndim == 2 and len(shape) > 2:
                return replace(step, function=unflatten, settings={"sizes": (-1, *shape[2:])})
            if x.tensor.ndim > 2 and len(shape) == 2:
                return replace(step, function=torch.flatten, settings={"start_dim": 1})
        return replace(step, settings={"shape": tuple(-1 if i in differ else size for i, size in enumerate(shape))})
    if step.function is expanded and step.settings != other.settings:
        (x, *_), size = step.operands, step.settings["size"]
        if (
            x is not None
            and size[1:] == other.settings["size"][1:]
            and x.tensor.ndim == len(size)
            and x.tensor.shape[0] == size[0]
        ):
            return replace(step, settings={"size": (-1, *size[1:])})
    if step.settings != other.settings:
        raise _fixed()
    return step


def repeated(row: Tensor, z: Tensor) -> Tensor:
    """``row`` ``[1, ...]`` once for each of the latents ``z``."""
    return row.expand(z.shape[0], *row.shape[1:])


def unflatten(x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """``x`` ``[n, features]`` as ``[n, *sizes]``."""
    return x.unflatten(1, sizes)


def program_of(steps: list[Step], latent: Value, output: Value) -> Program:
    """The ``steps`` that ``output`` needs, as a ``Program`` in eval mode."""
    steps = _fused(_needed(steps, output), output)
    modules: dict[str, nn.Module] = {}
    tensors: dict[str, Tensor] = {}
    names: dict[int, str] = {}  # of tensors, by their identity: several steps may read one
    operations, stored = [], 0
    taken, tried = {latent.name, *(one.name for step in steps for one in step.made)}, Counter[str]()

    def free(name: str) -> str:
        base = name = name[:MOST_NAME]
        while name in taken:
            tried[base] += 1
            name = f"{base} {tried[base]}"
        taken.add(name)
        return name

    for step in steps:
        constants = [one for one in step.operands if one is not None and not one.live]
        for one in constants:
            stored += 0 if id(one.tensor) in names else one.tensor.numel()
            if stored > MOST_NUMBERS:
                raise Refused(f"the layers hold more than {MOST_NUMBERS:,} numbers; at most so many are read.")
            if one.tensor.is_floating_point() and one.tensor.numel() > 1 and not torch.isfinite(one.tensor).all():
                raise Refused(f"the weights {shown(one.name)} are not finite: the file is broken.")
        made = tuple(one.name for one in step.made)
        if (module := _module(step)) is not None:
            name = free(constants[0].name.removesuffix(".weight"))
            modules[name] = module
            operations.append(Operation(name, tuple(one.name for one in step.operands if one and one.live), made))
            continue
        for one in constants:
            if id(one.tensor) not in names:
                names[id(one.tensor)] = free(one.name)
                tensors[names[id(one.tensor)]] = one.tensor
        read = tuple(one.name if one.live else names[id(one.tensor)] for one in step.operands if one is not None)
        operations.append(Operation(partial(step.function, **step.settings), read, made))
    trained = frozenset(name for name, tensor in tensors.items() if tensor.numel() > 1)
    return Program(
        operations,
        modules=modules,
        tensors=tensors,
        trained=trained,
        latent=latent.name,
        output=output.name,
        latent_shape=tuple(latent.tensor.shape[1:]),
    ).eval()


def _needed(steps: list[Step], output: Value) -> list[Step]:
    needed, kept = {output.name}, []
    for step in reversed(steps):
        if any(one.name in needed for one in step.made):
            kept.append(step)
            needed.update(one.name for one in step.operands if one is not None and one.live)
    return kept[::-1]


def _fused(steps: list[Step], output: Value) -> list[Step]:
    """A bias that is added becomes its layer's, and ``x * sigmoid(x)`` a SiLU: as the network was written."""
    uses = Counter([one.name for step in steps for one in step.operands if one is not None and one.live])
    uses[output.name] += 1
    makers: dict[str, int] = {}
    fused: list[Step] = []
    for step in steps:
        if step.function in (torch.add, torch.mul):
            for one, other in permutations(step.operands, 2):
                at = makers.get(one.name) if one is not None and one.live and uses[one.name] == 1 else None
                together = None if at is None or other is None else _together(fused[at], step, other)
                if at is not None and together is not None:
                    fused[at] = replace(together, made=())  # a place that is empty now
                    step = together
                    break
        makers.update(dict.fromkeys((one.name for one in step.made), len(fused)))
        fused.append(step)
    return [step for step in fused if step.made]


def _together(maker: Step, step: Step, other: Value) -> Step | None:
    """``maker`` and the ``step`` that adds ``other`` to its result, or multiplies it, as one step."""
    if step.function is torch.mul:
        same = maker.function is torch.sigmoid and other.live and maker.operands[0] is other
        return Step(functional.silu, (other,), {}, step.made) if same else None
    layer = maker.function is functional.linear or maker.function in CONVOLUTIONS | TRANSPOSED
    if not layer or other.live or maker.operands[2] is not None or maker.operands[1] is None or maker.operands[1].live:
        return None
    result = maker.made[0].tensor
    axis = result.ndim - 1 if maker.function is functional.linear else 1
    wide = (1,) * (result.ndim - other.tensor.ndim) + tuple(other.tensor.shape)
    if other.tensor.ndim > result.ndim or wide != (1,) * axis + (result.shape[axis],) + (1,) * (result.ndim - axis - 1):
        return None
    return replace(maker, operands=(*maker.operands[:2], other.like(other.tensor.reshape(-1))), made=step.made)


def _module(step: Step) -> nn.Module | None:
    """The step as a layer with weights of its own; None if it is none, or if its weights depend on the latents."""
    x, *rest = step.operands
    weights = [None if one is None else one.tensor for one in rest]
    if x is None or not x.live or not weights or any(one is not None and one.is_meta for one in weights):
        return None
    names, how, first = ("weight", "bias"), {**step.settings, "device": "meta"}, weights[0]
    if first is None:
        return None
    module: nn.Module
    if step.function is functional.linear:
        module = nn.Linear(first.shape[1], first.shape[0], **how)
    elif step.function in CONVOLUTIONS:
        width = first.shape[1] * step.settings["groups"]
        module = CONVOLUTIONS[step.function](width, first.shape[0], tuple(first.shape[2:]), **how)
    elif step.function in TRANSPOSED:
        width = first.shape[1] * step.settings["groups"]
        module = TRANSPOSED[step.function](first.shape[0], width, tuple(first.shape[2:]), **how)
    elif step.function is functional.batch_norm and x.tensor.ndim in NORMS:
        module = NORMS[x.tensor.ndim](first.numel(), **how)
        module.num_batches_tracked = torch.tensor(0)
        module.running_mean, module.running_var = (one.clone() for one in weights[:2] if one is not None)
        weights = weights[2:]
    else:
        return None
    for name, weight in zip(names, weights, strict=True):
        setattr(module, name, None if weight is None else nn.Parameter(weight.clone()))
    return module
