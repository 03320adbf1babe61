"""A ``Program`` of the steps of an exported graph.

Parameters that one layer alone reads become part of that layer, as a module. A number of latents that was fixed when
the network was exported is set free, if that gives the same samples.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from devilgan_lite.checks import cut, shown
from devilgan_lite.files.aten_operations import FUNCTIONS, SIZES, layer
from devilgan_lite.files.program import (
    HALF,
    MOST_ELEMENTS,
    Operation,
    Program,
    Reading,
    any_batch,
    check_latent,
    run_checked,
)
from devilgan_lite.files.pt2_graph import (
    Step,
    Stored,
    Value,
    filled,
    inputs,
    needed_for,
    references,
    sentences,
    steps_of,
)
from devilgan_lite.files.sniff import Refused, printable

SCHEMA = 8
MOST_BATCH = 1024  # fixed in a file
LATENTS = "number of latents"  # the name of that value where a file fixes it
MADE, RESHAPED = ("expand", "full", "zeros", "ones"), ("view", "reshape", "_unsafe_view")
LAYERS = ("linear", *(f"conv{kind}{d}d" for kind in ("", "_transpose") for d in (1, 2, 3)), "convolution")
LAYERS += ("batch_norm", "_native_batch_norm_legit_no_training")


@dataclass(frozen=True)
class Call:
    """An operator with its arguments; the values that they refer to are given, in the order of ``names``."""

    step: Step
    names: tuple[str, ...]

    def __call__(self, *given: Any) -> Any:
        values = dict(zip(self.names, given, strict=True))
        function = SIZES[self.step.name[1:]] if self.step.name[0] == "." else FUNCTIONS[self.step.name]
        arguments = {name: filled(value, values) for name, value in self.step.arguments.items()}
        made = function(*arguments.values()) if self.step.name[0] == "." else function(**arguments)
        return made[0] if len(self.step.outputs) == 1 and isinstance(made, (tuple, list)) else made


def reading(program: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Reading:
    """The ``Reading`` of an exported ``program`` with its ``tensors``; ``Refused`` if it is no plain generator."""
    with sentences("graph"):
        version = program["schema_version"]["major"]
        if version != SCHEMA:
            raise Refused(f"the graph has schema {shown(version)}; version {SCHEMA} is read: PyTorch 2.9 writes it.")
        graph, signature = program["graph_module"]["graph"], program["graph_module"]["signature"]
        latent, named = inputs(signature["input_specs"], tensors)
        sizes = graph["tensor_values"][latent]["sizes"]
        batch = sizes[0].get("as_int")
        shape = tuple(one["as_int"] for one in sizes[1:])
        if not shape or any(type(size) is not int or size < 1 for size in shape):
            raise Refused(f"the network reads {shown(list(shape))}; expected latents [n, d] or [n, d, 1, 1].")
        check_latent(shape)
        if batch is not None and (type(batch) is not int or not 1 <= batch <= MOST_BATCH):
            raise Refused(
                f"the network reads {shown(batch)} latents at once; expected any number, or 1 to {MOST_BATCH}."
            )
        steps, output = steps_of(graph, signature, {latent, LATENTS, *named})
        ranks = {key: len(value["sizes"]) for key, value in graph["tensor_values"].items()}
        parameters = {one["parameter"]["arg"]["name"] for one in signature["input_specs"] if "parameter" in one}
        build = partial(_program, stored=named, parameters=parameters, ranks=ranks, latent=latent, shape=shape)
        made = build(steps, output)
        _check_sizes(made, batch or 2)
        notes = [f"exported by PyTorch {cut(printable(str(program.get('torch_version', '(unknown version)'))), 40)}"]
        notes += [HALF] if {value["dtype"] for value in graph["tensor_values"].values()} & {6, 13} else []
        module: nn.Module = made
        if batch is not None:
            module, note = any_batch(made, build(_freed(steps, latent, batch), output), shape, batch)
            notes.append(note)
    samples = run_checked(module.eval(), torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)))
    if samples.dtype != torch.float32 or samples.ndim < 2 or len(samples) != 3:
        made_of = f"{list(samples.shape)} of {samples.dtype}"
        raise Refused(f"the network makes {shown(made_of)} of 3 latents; expected 3 samples in float32.")
    return Reading(module, shape, tuple(notes))


def _freed(steps: list[Step], latent: str, batch: int) -> list[Step]:
    """The steps with the number of latents in place of ``batch``, where a size of something made of them starts so."""
    freed = [Step("sym_size", {"self": Value(latent), "dim": 0}, (LATENTS,))]
    depends = {latent}
    for step in steps:
        arguments = dict(step.arguments)
        if depends & set(references(arguments)):
            depends.update(step.outputs)
        if step.name in MADE or (step.name in RESHAPED and depends & set(step.outputs)):
            for name in ("size", "shape"):
                if name in arguments and arguments[name][:1] == [batch]:
                    arguments[name] = [Value(LATENTS), *arguments[name][1:]]
        freed.append(replace(step, arguments=arguments))
    return freed


def _linear(steps: list[Step], stored: Mapping[str, Stored]) -> list[Step]:
    """Products with a transposed weight, as decomposed graphs write them, as the dense layers that they were."""
    turned: dict[str, Value] = {}
    made = []
    for step in steps:
        given = step.arguments
        weight, bias = turned.get(getattr(given.get("mat2"), "name", "")), given.get("self")
        alone = isinstance(bias, Value) and bias.name in stored and stored[bias.name].tensor.ndim == 1
        swaps = step.name in ("t", "numpy_T") or (step.name == "permute" and given["dims"] == [1, 0])
        if swaps and isinstance(given["self"], Value) and given["self"].name in stored:
            turned[step.outputs[0]] = given["self"]
        elif weight and step.name == "mm":
            step = replace(step, name="linear", arguments={"input": given["self"], "weight": weight})
        elif weight and step.name == "addmm" and alone and len(given) == 3:
            step = replace(step, name="linear", arguments={"input": given["mat1"], "weight": weight, "bias": bias})
        made.append(step)
    return made


def _program(
    steps: list[Step],
    output: str,
    *,
    stored: Mapping[str, Stored],
    parameters: set[str],
    ranks: Mapping[str, int],
    latent: str,
    shape: tuple[int, ...],
) -> Program:
    """The program of the ``steps``; tensors that one layer reads are part of it, the others are the program's own."""
    steps = needed_for(_linear(steps, stored), output)
    uses = Counter(stored[name].name for step in steps for name in references(step.arguments) if name in stored)
    operations: list[Operation] = []
    modules: dict[str, nn.Module] = {}
    tensors: dict[str, Tensor] = {}
    for step in steps:
        given = {role: value for role, value in step.arguments.items() if role != "input" and value is not None}
        weights = {role: stored[value.name] for role, value in given.items() if getattr(value, "name", "") in stored}
        reads = step.arguments.get("input")
        if step.name in LAYERS and weights and isinstance(reads, Value) and reads.name not in stored:
            settings = {role: value for role, value in given.items() if role not in weights}
            if not any(references(settings)) and all(uses[one.name] == 1 for one in weights.values()):
                made = layer(
                    step.name, {role: one.tensor for role, one in weights.items()}, settings, ranks[reads.name]
                )
                if made is not None:
                    name = f"{next(iter(weights.values())).name.rpartition('.')[0]} {len(modules)}"
                    modules[name] = made
                    operations.append(Operation(name, (reads.name,), step.outputs[:1]))
                    continue
        names = tuple(dict.fromkeys(references(step.arguments)))
        kept = {name: f"{stored[name].name} " for name in names if name in stored}  # no name in a graph ends in a space
        tensors |= {kept[name]: stored[name].tensor for name in kept}
        operations.append(Operation(Call(step, names), tuple(kept.get(name, name) for name in names), step.outputs))
    trained = frozenset(f"{stored[name].name} " for name in parameters)
    return Program(
        operations, modules=modules, tensors=tensors, trained=trained, latent=latent, output=output, latent_shape=shape
    )


class _Sizes(TorchDispatchMode):
    """Refuses results of more than ``most`` numbers."""

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = most

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(one, Tensor) and one.numel() > self.most:
                raise Refused(
                    f"the network makes {one.numel():,} numbers in one step; at most {self.most:,} are accepted."
                )
        return made


def _check_sizes(program: Program, batch: int) -> None:
    """Refuse intermediate results that are too large. Only shapes are computed here."""
    kept = {name: value.to("meta") for name, value in (*program.named_parameters(), *program.named_buffers())}
    most = batch * MOST_ELEMENTS + max((value.numel() for value in kept.values()), default=0)
    with torch.no_grad(), torch.device("meta"), _Sizes(most):
        functional_call(program, kept, torch.zeros(batch, *program.latent_shape))
