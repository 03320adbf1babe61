"""``Program``: a network read out of a file as data, operation by operation.

What a file asks for is looked up by name in a list of operations that we wrote; nothing of it is executed. Layers
become modules (``nn.Linear``, ``nn.ConvTranspose2d``, ``nn.BatchNorm2d``, ...), so that attacks and cures find them.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.checks import MOST_LATENT
from devilgan_lite.files.sniff import Refused

MOST_OPERATIONS = 20_000
RESERVED = ("operations", "latent", "output", "latent_shape", "attributes", "read_last", "training")
HALF = "the file asks for half precision; it was checked in single precision, in which some results differ"
MOST_ELEMENTS = 10_000_000  # of one intermediate result, for each latent


def check_latent(shape: Sequence[int]) -> None:
    """``Refused`` for a file whose network reads larger latents than any that are accepted."""
    if math.prod(shape) > MOST_LATENT:
        raise Refused(f"a latent has {math.prod(shape):,} numbers; at most {MOST_LATENT:,} are accepted.")


@dataclass(frozen=True)
class Reading:
    """What a reader found: ``module`` maps latents ``[n, *latent_shape]`` to samples; ``notes`` are for the report."""

    module: nn.Module
    latent_shape: tuple[int, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """One step: ``run`` is the name of a module of the program, or a function; it gets the values called ``inputs``.

    A function returns a tensor, or a tuple of as many values as there are ``outputs``.
    """

    run: str | Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Program(nn.Module):
    """Latents ``[n, *latent_shape]`` to samples ``[n, *shape]`` by ``operations`` in order.

    ``modules`` and ``tensors`` are what the operations name: floating-point ``tensors`` that are ``trained`` become
    parameters, the others buffers. ``latent`` is the name of the input, ``output`` that of the result.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        *,
        modules: Mapping[str, nn.Module],
        tensors: Mapping[str, Tensor],
        trained: frozenset[str] = frozenset(),
        latent: str,
        output: str,
        latent_shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        if len(operations) > MOST_OPERATIONS:
            raise Refused(f"the network has {len(operations):,} operations; at most {MOST_OPERATIONS:,} are read.")
        self.operations, self.latent, self.output = tuple(operations), latent, output
        self.latent_shape = tuple(latent_shape)
        taken: dict[str, int] = {}
        self.attributes: dict[str, str] = {}  # name in the file -> name of the attribute that holds it
        for name, module in modules.items():
            self.attributes[name] = _attribute(name, taken)
            self.add_module(self.attributes[name], module)
        for name, tensor in tensors.items():
            self.attributes[name] = _attribute(name, taken)
            if name in trained and tensor.is_floating_point():
                self.register_parameter(self.attributes[name], nn.Parameter(tensor.clone()))
            else:
                self.register_buffer(self.attributes[name], tensor.clone())
        self.read_last = _read_last(self.operations, output)

    def forward(self, z: Tensor) -> Tensor:
        values: dict[str, Any] = {self.latent: z}
        for operation, finished in zip(self.operations, self.read_last, strict=True):
            run = operation.run
            if isinstance(run, str):
                run = getattr(self, self.attributes[run])
            given = [values[name] if name in values else self._constant(name) for name in operation.inputs]
            made = run(*given)
            if len(operation.outputs) == 1:
                values[operation.outputs[0]] = made
            else:
                values.update(zip(operation.outputs, made, strict=True))
            for name in finished:
                values.pop(name, None)
        made = values[self.output]
        return made

    def _constant(self, name: str) -> Any:
        return getattr(self, self.attributes[name])


def _attribute(name: str, taken: dict[str, int]) -> str:
    """A name for an attribute, from any text: letters, digits and ``_``, not yet ``taken``."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:60]
    if not plain[:1].isalpha() or hasattr(nn.Module, plain) or plain in RESERVED:
        plain = f"n_{plain}"
    taken[plain] = taken.get(plain, 0) + 1
    return plain if taken[plain] == 1 else _attribute(f"{plain}_{taken[plain]}", taken)


def _read_last(operations: Sequence[Operation], output: str) -> list[tuple[str, ...]]:
    """For each operation, the values that nothing reads after it: they are let go."""
    needed, finished = {output}, []
    for operation in reversed(operations):
        finished.append(
            tuple(dict.fromkeys(name for name in (*operation.inputs, *operation.outputs) if name not in needed))
        )
        needed.update(operation.inputs)
    return finished[::-1]


def run_checked(program: nn.Module, latents: Tensor) -> Tensor:
    """What ``program`` makes of a few ``latents``; whatever goes wrong inside is a ``Refused`` that says what."""
    try:
        with torch.no_grad():
            made = program(latents)
    except Refused:
        raise
    except Exception as error:  # the numbers in a file may contradict each other in any way
        first = next(iter(str(error).strip().splitlines()), "no message")
        raise Refused(f"the network in the file does not compute ({type(error).__name__}: {first[:120]}).") from None
    if not isinstance(made, Tensor):
        raise Refused(f"the network in the file makes a {type(made).__name__}; expected a tensor of samples.")
    return made


class InPieces(nn.Module):
    """Any number of latents through a ``module`` that reads exactly ``batch`` of them at a time."""

    def __init__(self, module: nn.Module, batch: int) -> None:
        super().__init__()
        self.module, self.batch = module, batch

    def forward(self, z: Tensor) -> Tensor:
        missing = -len(z) % self.batch
        filled = torch.cat([z, z[-1:].expand(missing, *z.shape[1:])]) if missing else z
        return torch.cat([self.module(piece) for piece in filled.split(self.batch)])[: len(z)]


def any_batch(
    frozen: nn.Module, rewritten: nn.Module | None, latent_shape: tuple[int, ...], batch: int
) -> tuple[nn.Module, str]:
    """A module for any number of latents, of a ``frozen`` one that reads exactly ``batch``, and a note for the report.

    That is ``rewritten``, if it makes the same of 8 random latents (within 1e-4 of the largest value) and of the first
    3 of them as ``frozen`` does in pieces; else ``frozen`` in pieces. Raises ``Refused`` if ``frozen`` does not run.
    """
    pieces = InPieces(frozen, batch).eval()
    latents = torch.randn(8, *latent_shape, generator=torch.Generator().manual_seed(0))
    expected = run_checked(pieces, latents)
    note = f"the file fixes the batch at {batch}"
    if rewritten is not None and all(_agrees(rewritten, latents[:n], expected[:n]) for n in (8, 3)):
        return rewritten.eval(), f"{note}; it was read for any number of latents, with the same results"
    return pieces, f"{note}; it runs in pieces of {batch}"


def _agrees(module: nn.Module, latents: Tensor, expected: Tensor) -> bool:
    try:
        made = run_checked(module, latents)
    except Refused:
        return False
    if made.shape != expected.shape or not made.numel():
        return False
    return bool((made.double() - expected.double()).abs().max() <= 1e-4 * expected.double().abs().max())
