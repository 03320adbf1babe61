"""``devilgan tour``, ``run``, ``sweep`` and ``report``: all notebooks, one, a hundred runs, and what came of them."""

import json
import time
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from devilgan_lite.cli.common import AsJson

LONGEST_FIRST = ("08", "06", "07", "05", "09", "02", "03")  # so that no core waits for one of them at the end


def tour(
    out: Annotated[Path, typer.Option(help="Folder for the film, the notebooks and the index page.")] = Path(
        "out/tour"
    ),
    profile: Annotated[str, typer.Option(help="smoke, workshop or full.")] = "workshop",
    only: Annotated[str, typer.Option(help="Numbers of the notebooks to run, such as 00,03; all unless given.")] = "",
) -> None:
    """Make a film, run the notebooks, two at a time where there are two cores, and show all of it on one page."""
    import bs4  # noqa: F401  # of the pages: whole, before Ctrl-C can cut the import in two

    from devilgan_lite.apps import studies
    from devilgan_lite.cli import COMMANDS, health

    start = time.perf_counter()
    wanted = [part.strip() for part in only.split(",") if part.strip()] or studies.notebook_list()
    names = sorted({studies.find_notebook(part).stem for part in wanted})
    for name in names:
        studies.notebook_parameters(name)["profile"].check(profile)
    moving: Path | None = None
    if "film" in COMMANDS:
        typer.echo("The first picture, from the models that ship:")
        try:
            COMMANDS["film"](model="", out=out / "film.webp", browser=False)
            moving = out / "film.webp"
        except (ValueError, FileNotFoundError) as error:  # the notebooks may run without it
            typer.echo(f"no film: {error}", err=True)
    for check in health.project(quick=True):
        if not check.ok:
            typer.echo(f"{check.name}: {check.message}", err=True)

    began = time.time()

    def unfinished(name: str, reason: str) -> studies.Result:
        """For a notebook that has not run to its end, with what it has written so far."""
        path = out.resolve() / name / f"{name}.ipynb"
        try:  # what an earlier tour left, or what was cut in the middle of a line, is not shown
            shown = path.stat().st_mtime >= began and bool(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            shown = False
        return studies.Result(name, path if shown else Path(), 0.0, error=reason, failure="unfinished")

    def write() -> Path:
        table, seconds = studies.attack_table(list(results.values())), time.perf_counter() - start
        return studies.index_page(
            list(results.values()), out, table=studies.table_html(table), film=moving, seconds=seconds
        )

    results = {name: unfinished(name, "not finished yet") for name in names}
    typer.echo(f"Now {len(names)} notebooks, each with a card on {write()} when it ends; reload that page to see more.")
    order = sorted(names, key=lambda name: (*LONGEST_FIRST, name[:2]).index(name[:2]))
    try:
        for result in studies.run_all(order, {"profile": profile}, out, timeout=3_600):
            results[result.notebook] = result
            typer.echo(f"{result.notebook:36s}{result.seconds:7.1f} s  {result.error or 'ok'}")
            write()
    except KeyboardInterrupt:  # what is there is still shown
        left = [name for name, result in results.items() if result.failure == "unfinished"]
        results |= {name: unfinished(name, "interrupted") for name in left}
    table = studies.attack_table(list(results.values()))
    if table:
        typer.echo("\n" + studies.table_text(table) + "\n")
        studies.write_csv(table, out / "table.csv")
    typer.echo(f"{write()}\n{time.perf_counter() - start:.0f} s in all")
    if not all(result.ok for result in results.values()):
        raise typer.Exit(1)


def run(
    notebook: Annotated[str, typer.Argument(help="Number, name or path.")],
    parameter: Annotated[list[str] | None, typer.Option("-p", help="name=value; may be repeated.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the executed notebook and its result.json.")] = Path("out"),
    timeout: Annotated[float, typer.Option(help="Seconds for the whole run.")] = 900,
    memory: Annotated[float | None, typer.Option(help="MB that the kernel may hold; no limit unless given.")] = None,
) -> None:
    """Run one notebook from start to end."""
    from devilgan_lite.apps import studies

    pairs = [text.partition("=") for text in parameter or []]
    for text, equals, _ in pairs:
        if not text or not equals:
            raise ValueError(f"-p {text!r} is not valid: it must be name=value, such as -p seed=1.")
    result = studies.run(notebook, {name: studies.parse_value(value) for name, _, value in pairs}, out, timeout, memory)
    typer.echo(f"{result.path}  {result.seconds:.1f} s")
    if not result.ok:
        typer.echo(f"failed: {result.error}", err=True)
        raise typer.Exit(1)
    typer.echo(json.dumps(result.numbers, indent=2))


def sweep(
    study: Annotated[Path, typer.Argument(help="A YAML file, such as studies/lam_frontier.yml.")],
    out: Annotated[Path, typer.Option(help="The study goes into a folder of its name in this one.")] = Path(
        "out/studies"
    ),
    workers: Annotated[int, typer.Option(help="Processes of this machine; 0: two where there are two cores.")] = 0,
    scheduler: Annotated[str | None, typer.Option(help="Address of a dask scheduler to use instead.")] = None,
    run_threads: Annotated[int, typer.Option(help="CPU threads of each run.")] = 1,
    retries: Annotated[int, typer.Option(help="How often a run is tried again whose kernel or worker died.")] = 1,
    again: Annotated[bool, typer.Option("--again", help="Try failed runs of an earlier sweep again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the study, list its runs and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the remaining runs of a study, then write its report. Ctrl-C stops; the same command resumes."""
    from devilgan_lite.apps import studies

    planned = studies.read_study(study)
    if dry_run:
        for one in planned.runs:
            typer.echo(f"{one.id}  {one.notebook}  {one.repeat}  {json.dumps(one.parameters, default=str)}")
        typer.echo(f"{len(planned)} runs")
        return
    from tqdm import tqdm

    counts = Counter[str]()
    with tqdm(total=len(planned), unit="run", disable=as_json or None) as bar:  # only on a terminal

        def on_row(row: dict[str, Any], ended: int, total: int) -> None:
            """A line for a run that has ended, and the bar below it with how many there are of each status."""
            parameters = " ".join(f"{name}={value}" for name, value in row["parameters"].items())
            status = row["status"] + (f": {row['reason']}" if row.get("reason") else "")
            cells = (row["id"], row["notebook"], parameters, f"{row.get('seconds', 0):.1f}", status)
            if not as_json:
                with bar.external_write_mode():
                    typer.echo("  ".join((f"{ended}/{total}", *cells)))
            counts[row["status"]] += 1
            bar.n = ended
            bar.set_postfix(counts)

        done = studies.sweep(
            planned,
            out,
            workers=workers,
            scheduler=scheduler,
            threads=run_threads,
            retries=retries,
            again=again,
            on_row=on_row,
        )
    page = studies.report(done.folder)
    facts = {"total": done.total, "found": done.found, "finished": done.finished, "failed": done.failed}
    if as_json:
        result = {**facts, "seconds": round(done.seconds, 2), "interrupted": done.interrupted, "report": str(page)}
        typer.echo(json.dumps(result, indent=2))
    else:
        words = ", ".join(f"{count} {name}" for name, count in facts.items())
        typer.echo(f"{words}, {done.seconds:.0f} s\n{page}")
    if done.interrupted:
        typer.echo("interrupted: what has finished is kept; the same command goes on.", err=True)
        raise typer.Exit(130)
    if any(row["status"] == "failed" for row in done.rows):
        raise typer.Exit(1)


def report(
    folder: Annotated[Path, typer.Argument(help="The folder of a study, such as out/studies/lam_frontier.")],
) -> None:
    """Write table.csv, table.parquet, averages.csv and index.html of a study."""
    from devilgan_lite.apps import studies

    typer.echo(studies.report(folder))


def _notebooks() -> str:
    from devilgan_lite.apps import studies
    from devilgan_lite.cli.health import Problem

    names = studies.notebook_list()
    if not names:
        raise Problem("none were found; restore the project's notebooks/ folder, or set DEVILGAN_NOTEBOOKS.")
    return ", ".join(names)


def _kernel() -> str:
    from devilgan_lite.cli.health import Problem, installed

    versions = installed(("ipykernel", "papermill", "nbclient", "jupytext", "nbconvert", "ipywidgets"))
    version = metadata.version("ipykernel")
    if version.startswith("7.3"):
        raise Problem(f"ipykernel {version} runs widget callbacks on another thread; pip install 'ipykernel!=7.3.*'.")
    return versions


COMMANDS = (tour, run, sweep, report)
HEALTH = {"notebooks": _notebooks, "kernel": _kernel}  # lines of devilgan doctor
