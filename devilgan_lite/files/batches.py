"""Any number of latents: from the walks through a graph with 2 and with 3 of them, a program that takes any number.

What differs between the two walks depends on that number. Where it cannot be set free, as in a file that was exported
for a fixed number and has it everywhere, the program runs that many latents at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.files.program import MOST_NUMBERS, Count, Operation, Program, Trace, Value, run_checked
from devilgan_lite.files.sniff import Refused

MOST_BATCH = 1024  # fixed in a file
# the trace of a walk with so many latents, and the output. The second number is the one that the file was exported
# with: sizes equal to it are to be read as the first
Walk = Callable[[int, int | None], tuple[Trace, Value]]


@dataclass(frozen=True)
class Reading:
    """What a reader found: ``module`` maps latents ``[n, *latent_shape]`` to samples; ``notes`` are for the report.

    ``prior`` is None where the file does not tell it; ``architecture`` says how the network is known.
    """

    module: nn.Module
    latent_shape: tuple[int, ...]
    notes: tuple[str, ...] = ()
    prior: str | None = None
    architecture: str = ""


class _Mixed(Refused):
    """The network does not make one sample of each latent."""


def reading_of(
    walk: Walk, notes: list[str], *, frozen: int | None = None, declared: int | None = None, most: int = MOST_NUMBERS
) -> Reading:
    """The program for any number of latents, or where that cannot be, one that runs in pieces.

    ``frozen`` is the number that the file was exported with; ``declared`` is what its output says, for scripts that
    call the number free and have it in them all the same. At most ``most`` numbers are stored.
    """
    if frozen is None:
        try:
            program = _any_number(walk, None, most)
            return Reading(program, program.latent_shape, tuple(notes))
        except _Mixed:
            raise
        except Exception:  # the walk with one size says what is wrong
            pass
    size = frozen or declared or 1
    trace, output = _walked(walk, size, None)
    if frozen is None and size < len(output.tensor) <= MOST_BATCH:
        size = len(output.tensor)
        trace, output = _walked(walk, size, None)
    if output.tensor.shape[:1] != (size,):
        raise Refused(
            f"of {size} latents the network makes {list(output.tensor.shape)[:6]}; expected one sample of each."
        )
    pieces = InPieces(Program(trace, trace.operations, output, most=most), size)
    latents = torch.randn(8, *trace.latent_shape, generator=torch.Generator().manual_seed(0))
    expected = run_checked(pieces, latents)
    note = f"the file fixes the batch at {size} latent{'s' * (size > 1)}"
    try:
        program = _any_number(walk, size, most)
        if all(_agree(run_checked(program, latents[:n]), expected[:n]) for n in (8, 3)):
            note += "; it was rewritten for any number, with the same samples"
            return Reading(program, trace.latent_shape, (*notes, note))
    except Exception:  # the number is in the graph in a way that is not read
        pass
    return Reading(pieces, trace.latent_shape, (*notes, f"{note}, so it runs in pieces of {size}"))


def _agree(samples: Tensor, expected: Tensor) -> bool:
    """Whether the samples are the same within 1e-4 of the largest number."""
    if samples.shape != expected.shape or not samples.numel():
        return False
    return bool((samples.double() - expected.double()).abs().max() <= 1e-4 * expected.double().abs().max())


def _walked(walk: Walk, batch: int, frozen: int | None) -> tuple[Trace, Value]:
    with torch.no_grad():
        trace, output = walk(batch, frozen)
    if not output.live or not output.tensor.is_floating_point() or not output.tensor.ndim:
        raise Refused("the output does not depend on the latents, or is no float tensor; expected samples.")
    return trace, output


def _any_number(walk: Walk, frozen: int | None, most: int) -> Program:
    """The program for any number of latents; an error if the numbers in the graph hold for one size only."""
    (two, output), (three, larger) = _walked(walk, 2, frozen), _walked(walk, 3, frozen)
    if (len(output.tensor), len(larger.tensor)) != (2, 3):
        raise _Mixed("the network does not make one sample of each latent: it mixes them, or sorts them otherwise.")
    if frozen is None and _acts_by_batch(_walked(walk, 1, None)[0], two, three):
        raise _Mixed(
            "the network does not make one sample of each latent: what it makes of one depends on how many there are."
        )
    program = Program(two, _free(two, three), output, most=most)
    run_checked(program, torch.randn(3, *two.latent_shape))
    return program


def _acts_by_batch(one: Trace, two: Trace, three: Trace) -> bool:
    """Whether a number is another for 1, 2 and 3 latents but does not grow evenly: the graph decides by the batch."""
    for name, a in one.sized.items():
        b, c = two.sized[name], three.sized[name]
        if a.shape == b.shape == c.shape and not torch.equal(c.double() - b.double(), b.double() - a.double()):
            return True
    return False


def _free(first: Trace, second: Trace) -> list[Operation]:
    """The operations for any number of latents, from those with 2 and with 3; ``Refused`` if they differ otherwise."""
    free: list[Operation] = []
    if len(first.operations) != len(second.operations):
        raise _fixed()
    for one, other in zip(first.operations, second.operations, strict=True):
        if one.function is not other.function:
            raise _fixed()
        merged = _reshaped(one, other)
        if merged is None:
            operands = _merged(one.operands, other.operands, free)
            merged = replace(one, operands=operands, settings=_merged(one.settings, other.settings, free))
        free.append(merged)
    return free


def _fixed() -> Refused:
    return Refused("the graph depends on the number of latents in a way that is not read.")


def _equal(a: Value, b: Value) -> bool:
    x, y = a.tensor, b.tensor
    return x is y or (x.dtype == y.dtype and x.shape == y.shape and bool(((x == y) | ((x != x) & (y != y))).all()))


def _merged(two: Any, three: Any, free: list[Operation]) -> Any:
    """Operands or settings of a walk with 2 latents, with a ``Count`` where those of one with 3 have another number."""
    if isinstance(two, dict) and two.keys() == three.keys():
        return {key: _merged(value, three[key], free) for key, value in two.items()}
    if isinstance(two, (list, tuple)) and len(two) == len(three):
        return type(two)(_merged(*pair, free) for pair in zip(two, three, strict=True))
    if isinstance(two, Value) and isinstance(three, Value) and two.live == three.live:
        return two if two.live or _equal(two, three) else _repeated(two, three, free)
    if type(two) is type(three) is int:
        return two if two == three else Count(three - two, 3 * two - 2 * three)
    if two != three:
        raise _fixed()
    return two


def _repeated(a: Value, b: Value, free: list[Operation]) -> Value:
    """A constant with one row for each latent, all of them equal, as an operation that repeats the row."""
    if a.tensor.shape[:1] != (2,) or b.tensor.shape != (3, *a.tensor.shape[1:]):
        raise _fixed()
    row = a.tensor[:1]
    if not all(_equal(one.like(row.expand_as(one.tensor)), one) for one in (a, b)):
        raise _fixed()
    value = Value(f"rows {len(free)}", a.tensor.to("meta"))
    free.append(Operation(Tensor.expand, (a.like(row),), {"size": (Count(1, 0), *row.shape[1:])}, (value,)))
    return value


def _reshaped(operation: Operation, other: Operation) -> Operation | None:
    """A reshape without a number for the batch, and without one for the channels where it can be; None: it is none."""
    if operation.function is not torch.reshape:
        return None
    shape, larger = operation.settings["shape"], other.settings["shape"]
    differ = [i for i, pair in enumerate(zip(shape, larger, strict=True)) if len(set(pair)) > 1]
    x = operation.operands[0]
    if len(differ) != 1 or not x.live:
        return None
    if differ == [0] and x.tensor.shape[:1] == shape[:1] and 0 not in shape:
        if x.tensor.ndim == 2 and len(shape) > 2:
            return replace(operation, function=unflatten, settings={"sizes": (-1, *shape[2:])})
        if x.tensor.ndim > 2 and len(shape) == 2:
            return replace(operation, function=torch.flatten, settings={"start_dim": 1})
    return replace(operation, settings={"shape": tuple(-1 if i in differ else n for i, n in enumerate(shape))})


def unflatten(x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """``x`` ``[n, features]`` as ``[n, *sizes]``, in the way that ``generators.chain`` recognises."""
    return x.unflatten(1, sizes)


class InPieces(nn.Module):
    """Any number of latents through a ``module`` that reads exactly ``batch`` of them at a time."""

    def __init__(self, module: nn.Module, batch: int) -> None:
        super().__init__()
        self.module, self.batch = module, batch

    def forward(self, z: Tensor) -> Tensor:
        missing = -len(z) % self.batch
        filled = torch.cat([z, z[-1:].expand(missing, *z.shape[1:])]) if missing else z
        return torch.cat([self.module(piece) for piece in filled.split(self.batch)])[: len(z)]
