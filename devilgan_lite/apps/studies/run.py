"""Run a notebook from start to end unattended: check the parameters, execute, read the numbers back.

papermill executes; what it does not notice is caught here: misspelt and impossible parameters are refused before
anything is written, the kernel is this very Python, and a kernel that dies or takes too much memory is an error.
"""

import json
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from devilgan_lite.apps.parameters import check_values
from devilgan_lite.apps.studies.limits import MemoryLimit
from devilgan_lite.apps.studies.notebooks import PROJECT, find_notebook, notebook_parameters, read_notebook
from devilgan_lite.checks import in_range

KERNEL = "Python 3 (ipykernel)"


@dataclass(frozen=True)
class Result:
    """What a run left: the executed notebook at ``path``, its ``result.json`` as ``result``, and ``error`` or None.

    ``failure`` says which kind of error: ``"exception"`` (the notebook's own, which would come again), ``"time"``,
    ``"memory"`` or ``"kernel"``.
    """

    notebook: str
    path: Path
    seconds: float
    result: dict[str, Any] = field(default_factory=dict, repr=False)
    error: str | None = None
    failure: str | None = None

    @property
    def ok(self) -> bool:
        return self.error is None

    @property
    def numbers(self) -> dict[str, Any]:
        """The numbers that the notebook's text claims."""
        return self.result.get("numbers", {})

    @property
    def peak_memory_mb(self) -> float | None:
        """The largest memory of the kernel, as the notebook itself measured it."""
        return self.result.get("peak_memory_mb")


def run(
    notebook: int | str | Path,
    parameters: Mapping[str, Any] | None = None,
    out: str | Path = "out",
    timeout: float = 900,
    memory_mb: float | None = None,
) -> Result:
    """Execute ``notebook`` with ``parameters`` into ``out/NN_name/`` and return its ``Result``.

    A parameter that the notebook does not have, or a value that its parameters cell rules out, is a ``ValueError``
    before anything starts or is written. ``timeout`` is in seconds for the whole run, ``memory_mb`` what its kernel and
    its children may hold. Whatever goes wrong inside the notebook (an exception, a limit, a dead kernel) is one line in
    ``Result.error``. The folder then holds what was executed, ``result.json`` (the notebook's own, or the parameters
    and the error) and ``log.txt``. A ``profile`` given here wins over ``DEVILGAN_PROFILE``.
    """
    in_range("timeout", timeout, 1, 7 * 86_400)
    if memory_mb is not None:
        in_range("memory_mb", memory_mb, 50, 1e8)
    given = dict(parameters or {})
    path = find_notebook(notebook)
    name = path.stem
    check_values(notebook_parameters(path), given, name)
    document = read_notebook(path)

    folder = Path(out).resolve() / name
    folder.mkdir(parents=True, exist_ok=True)
    executed, numbers = folder / f"{name}.ipynb", folder / "result.json"
    for old in (executed, numbers, executed.with_suffix(".html"), folder / "log.txt"):
        old.unlink(missing_ok=True)
    environment = {"DEVILGAN_OUT": str(folder)}
    if "profile" in given:
        environment["DEVILGAN_PROFILE"] = ""
    start = time.perf_counter()
    error, failure = _execute(document, given, executed, environment, timeout, memory_mb)
    seconds = round(time.perf_counter() - start, 2)
    result: dict[str, Any] = {}
    if numbers.is_file():
        try:
            result = json.loads(numbers.read_text(encoding="utf-8"))
        except ValueError:
            error, failure = error or "result.json is not valid JSON.", failure or "exception"
    if error is not None:
        left = {"settings": given, "error": error, "failure": failure, "seconds": seconds}
        numbers.write_text(json.dumps({**result, **left}, indent=2, default=str) + "\n", encoding="utf-8")
    write_log(folder / "log.txt", executed, given, seconds, error)
    return Result(name, executed, seconds, result, error, failure)


def _execute(
    document: Any,
    parameters: dict[str, Any],
    executed: Path,
    environment: dict[str, str],
    timeout: float,
    memory_mb: float | None,
) -> tuple[str | None, str | None]:
    """Run through papermill; None, or one line that says what went wrong, and its kind."""
    import nbformat
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    deadline = time.monotonic() + timeout
    error, failure = None, None
    with (
        tempfile.TemporaryDirectory() as temporary,
        _this_python(Path(temporary), environment),
        MemoryLimit(environment["DEVILGAN_OUT"], memory_mb) as limit,
    ):
        source = Path(temporary) / "notebook.ipynb"
        document.metadata["kernelspec"] = {"name": "python3", "display_name": KERNEL, "language": "python"}
        nbformat.write(document, source)
        try:
            papermill.execute_notebook(
                str(source),
                str(executed),
                parameters=parameters,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                cwd=str(executed.parent),
                start_timeout=min(60, max(10, int(timeout))),
                timeout_func=lambda cell: max(1, int(deadline - time.monotonic())),
            )
        except papermill.PapermillExecutionError as reason:
            error, failure = f"cell {reason.exec_count}: {reason.ename}: {_first_line(reason.evalue)}", "exception"
        except CellTimeoutError:
            error, failure = f"not finished after {timeout:g} s.", "time"
        except DeadKernelError:
            error, failure = "the kernel died.", "kernel"
        except Exception as reason:
            started = not str(reason).startswith(("Kernel died", "Kernel didn't respond"))  # a kernel that never did
            error, failure = f"{type(reason).__name__}: {_first_line(reason)}", "exception" if started else "kernel"
    if error is None and (cell := _unfinished_cell(executed)):
        error = f"the kernel died in code cell {cell}; out of memory is the usual reason."
        failure = "kernel"
    if limit.exceeded_mb is not None:
        error, failure = f"out of memory: {limit.exceeded_mb:,.0f} MB, more than {memory_mb:,.0f} MB.", "memory"
    if executed.is_file():
        _tidy(executed)
    return error, failure


def write_log(path: Path, executed: Path, parameters: Mapping[str, Any], seconds: float, error: str | None) -> None:
    """What a run printed, cell by cell, between its parameters and how it ended."""
    lines = [f"parameters: {json.dumps(dict(parameters), default=str)}"]
    cells = read_notebook(executed).cells if executed.is_file() else []
    for number, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), start=1):
        said = "".join(output.get("text", "") for output in cell.get("outputs", []) if output.output_type == "stream")
        if said.strip():
            lines += [f"cell {number}:", said.rstrip()]
    lines.append(f"{'failed: ' + error if error else 'finished'} after {seconds:.1f} s")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _tidy(executed: Path) -> None:
    """Take papermill's clock and temporary paths, and the state of widgets, out of the executed notebook."""
    import nbformat

    document = read_notebook(executed)
    for metadata in (document.metadata, *(cell.metadata for cell in document.cells)):
        for name in ("papermill", "execution", "widgets"):
            metadata.pop(name, None)
    nbformat.write(document, executed)


def _first_line(text: object) -> str:
    return (str(text).strip() or "no message").splitlines()[0]


def _unfinished_cell(executed: Path) -> int:
    """The number of the first code cell without an execution count (papermill calls those "completed"), or 0."""
    code = [cell for cell in read_notebook(executed).cells if cell.cell_type == "code" and cell.source.strip()]
    return next((index for index, cell in enumerate(code, start=1) if cell.execution_count is None), 0)


def run_all(
    notebooks: list[str], parameters: dict[str, Any], out: str | Path = "out", timeout: float = 900, workers: int = 0
) -> Iterator[Result]:
    """Run several notebooks with the same parameters, ``workers`` at a time (0: two where there are two cores).

    Yields each ``Result`` when its notebook has finished; every notebook has a process of its own. They start in the
    order of ``notebooks``. An interrupt ends those that run and starts no other.
    """
    some = workers or min(2, os.cpu_count() or 1)
    left, others = iter(notebooks), set(multiprocessing.active_children())
    with ProcessPoolExecutor(some, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(run, name, parameters, out, timeout) for name in islice(left, some)}
        try:
            while running:  # a pool that holds them all would go on with them after an interrupt
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(run, name, parameters, out, timeout) for name in islice(left, len(done))}
                yield from (job.result() for job in done)
        except BaseException:
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()  # nbclient keeps an interrupt to itself while a kernel starts; kernels end by themselves
            raise


@contextmanager
def _this_python(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Make ``python3`` the kernel of the running interpreter, with ``environment`` and this package importable."""
    spec_folder = folder / "jupyter" / "kernels" / "python3"
    spec_folder.mkdir(parents=True)
    paths = [str(PROJECT)] if "site-packages" not in PROJECT.parts else []
    paths += [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=CRITICAL"],
        "display_name": KERNEL,
        "language": "python",
        "env": {**environment, "PYTHONPATH": os.pathsep.join(paths)},
    }
    (spec_folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    before = os.environ.get("JUPYTER_PATH")
    loggers = [logging.getLogger(name) for name in ("papermill", "traitlets")]
    levels = [logger.level for logger in loggers]
    os.environ["JUPYTER_PATH"] = os.pathsep.join([str(folder / "jupyter"), *([before] if before else [])])
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if before is None:
            os.environ.pop("JUPYTER_PATH", None)
        else:
            os.environ["JUPYTER_PATH"] = before
