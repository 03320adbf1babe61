"""``export``: a generator as a file that others can use: ONNX, ``torch.export`` or safetensors.

Exporters make mistakes without a word (one drops the ``+ 1e-8`` of ``rsqrt(x + 1e-8)``, and the picture is NaN). So a
file is kept only if it is read back, by our reader and by the usual one, and makes the same samples.
"""

import contextlib
import copy
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite import zoo
from devilgan_lite.checks import cut, one_of, shown
from devilgan_lite.files import from_pt2
from devilgan_lite.files.program import Program
from devilgan_lite.generators import Adopted, Generator

Check = Callable[[str, Callable[[Tensor], Any]], None]  # of what reads the file: its name, and what it makes of latents
ENDINGS = {"onnx": ".onnx", "pt2": ".pt2", "safetensors": ".safetensors"}
LATENTS = 64  # on which a file must make the same samples
# largest difference between two samples; one grey level is 8e-3. Rounding in float32 alone makes 9e-5 in a network
# whose large weights cancel (the zoo's stylegan-faces-linear, against float64)
TOLERANCE = 3e-4


def export(
    module: nn.Module,
    latent_shape: tuple[int, ...] | None,
    path: str | Path,
    to: str | None = None,
    *,
    card: zoo.ModelCard | None = None,
) -> Path:
    """Write ``module``, which maps latents ``[n, *latent_shape]`` to samples, for any n, to ``path``; returns it.

    ``to`` is ``"onnx"``, ``"pt2"`` or ``"safetensors"`` (a ``Generator`` with a spec, and a ``card`` beside it); by
    default the ending of ``path`` says it. An ``Adopted`` generator is written as the module that was adopted. A
    ``Generator`` needs no ``latent_shape``. Nothing is written, and ``ValueError`` says why, unless what is read back
    makes the same of 64 latents and of one, within 3e-4.
    """
    path = Path(path)
    name, to = ("the ending of path", path.suffix[1:]) if to is None else ("to", to)
    one_of(name, to, ENDINGS)
    if path.suffix != ENDINGS[to]:
        raise ValueError(f"path={shown(str(path))} is not valid: a file for to={to!r} ends in {ENDINGS[to]}.")
    if isinstance(module, Adopted) and to != "safetensors":
        latent_shape = module.latent_shape
        module = module.module
    if isinstance(module, Generator):
        latent_shape = (module.latent_dim,)
    if latent_shape is None:
        raise ValueError(f"latent_shape is missing: a {type(module).__name__} does not say what it reads.")
    module = copy.deepcopy(module).cpu().eval()
    latents = torch.randn(LATENTS, *latent_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module(latents)
    if not torch.isfinite(expected).all():
        raise ValueError("the module makes samples that are not finite; it is not exported.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        made, check = Path(folder) / path.name, partial(_compare, latents, expected)
        if to == "safetensors":
            _write_safetensors(module, card, made, check)
        else:
            network, graph = _free(module, latents)
            for node in graph.graph.nodes:
                node.meta.pop("stack_trace", None)  # paths of this machine are nobody's business
            if to == "pt2":
                _write_pt2(graph, made, check)
            else:
                _write_onnx(network, graph, latents[:2], made, check)
        for part in Path(folder).iterdir():  # a card lies beside its weights
            os.replace(part, path.parent / part.name)
    return path


def _write_safetensors(module: nn.Module, card: zoo.ModelCard | None, path: Path, check: Check) -> None:
    if not isinstance(module, Generator):
        raise ValueError("to='safetensors' is for a Generator, whose spec goes on the card; take 'onnx' or 'pt2'.")
    zoo.save_file(path, module, card or zoo.ModelCard(path.stem, module.spec(), data="unknown", seed=0, settings={}))
    check("the written file", zoo.load_file(path)[0])


def _write_pt2(exported: torch.export.ExportedProgram, path: Path, check: Check) -> None:
    with _quiet("torch.export.save"):
        torch.export.save(exported, path)
        loaded = torch.export.load(path).module()  # our own file
    check("torch.export.load", loaded)
    check("the reader of devilgan_lite", from_pt2.read(path).module)


def _write_onnx(
    network: nn.Module, exported: torch.export.ExportedProgram, latents: Tensor, path: Path, check: Check
) -> None:
    """By the exporter for graphs; where its file makes something else, by the older one, which watches a forward."""
    import onnx  # noqa: F401
    import onnxscript  # noqa: F401

    from devilgan_lite.files import from_onnx

    names: dict[str, Any] = {"input_names": ["latent"], "output_names": ["sample"], "external_data": False}
    axes = {"latent": {0: "n"}, "sample": {0: "n"}}
    ways: tuple[Callable[[], Any], ...] = (
        lambda: torch.onnx.export(exported, (), path, optimize=False, verbose=False, **names),
        lambda: torch.onnx.export(
            network, (latents,), path, opset_version=18, dynamic_axes=axes, dynamo=False, **names
        ),
    )
    for way in ways:
        try:
            with _quiet("torch.onnx.export"):
                way()
            check("onnxruntime", partial(_runtime, path))
            check("the reader of devilgan_lite", from_onnx.read(path).module)
            return
        except ValueError:
            if way is ways[-1]:
                raise


def _runtime(path: Path, z: Tensor) -> Tensor:
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    with _quiet("onnxruntime"):
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(None, {"latent": z.numpy()})[0])


def _free(module: nn.Module, latents: Tensor) -> tuple[nn.Module, torch.export.ExportedProgram]:
    """``module``, or a network that does the same, and its graph for any number of latents.

    Code such as ``x.expand(len(z), 4)`` fixes that number in a graph; our reader sets it free.
    """
    any_number = ({0: torch.export.Dim("n", min=1)},)
    with contextlib.suppress(ValueError), _quiet("torch.export"):
        return module, torch.export.export(module, (latents[:2],), dynamic_shapes=any_number)
    with _quiet("torch.export"), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fixed.pt2"
        torch.export.save(torch.export.export(module, (latents[:2],)), path)
        program = from_pt2.read(path).module
        if not isinstance(program, Program):
            raise ValueError("the module makes samples of one number of latents only")
        return program, torch.export.export(program, (latents[:2],), dynamic_shapes=any_number)


@contextlib.contextmanager
def _quiet(what: str) -> Iterator[None]:
    """Exporters print, warn and log, and raise anything; inside, they are silent, and fail with a ``ValueError``."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "no message")
        raise ValueError(f"{what} failed ({type(error).__name__}: {cut(first, 160)}).") from error
    finally:
        logging.disable(before)


def _compare(latents: Tensor, expected: Tensor, who: str, made: Callable[[Tensor], Any]) -> None:
    """Raise ``ValueError`` unless ``made`` makes ``expected`` of all ``latents``, and the first of it of the first."""
    for count in (len(latents), 1):
        with torch.no_grad():
            samples = made(latents[:count])
        if not isinstance(samples, Tensor) or samples.shape != expected[:count].shape:
            found = list(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
            raise ValueError(f"{who} makes {found} of {count} latents; expected {list(expected[:count].shape)}.")
        difference = float((samples - expected[:count]).abs().max())
        if not difference <= TOLERANCE:
            raise ValueError(f"{who} makes samples that differ by {difference:.2g}; at most {TOLERANCE:g} is accepted.")
