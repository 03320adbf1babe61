"""``devilgan tour``, ``run``, ``sweep`` and ``report``: all notebooks, one, a hundred runs, and what came of them."""

import json
import time
from pathlib import Path
from typing import Annotated, Any, Self

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

    from devilgan_lite import runs
    from devilgan_lite.cli.health import examine

    start = time.perf_counter()
    wanted = [part.strip() for part in only.split(",") if part.strip()] or runs.notebook_list()
    names = sorted({runs.find_notebook(part).stem for part in wanted})
    for name in names:
        runs.notebook_parameters(name)["profile"].check(profile)
    typer.echo("The first picture, from the models that ship:")
    moving = _first_picture(out / "film.webp")
    for check in (check for check in examine(quick=True) if not check.ok):
        typer.echo(f"{check.name}: {check.message}", err=True)

    began = time.time()

    def unfinished(name: str, reason: str) -> runs.Result:
        """For a notebook that has not run to its end, with what it has written so far."""
        path = out.resolve() / name / f"{name}.ipynb"
        try:  # what an earlier tour left, or what was cut in the middle of a line, is not shown
            shown = path.stat().st_mtime >= began and bool(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            shown = False
        return runs.Result(name, path if shown else Path(), 0.0, error=reason, failure="unfinished")

    def write() -> Path:
        table, seconds = runs.attack_table(list(results.values())), time.perf_counter() - start
        return runs.index_page(list(results.values()), out, table=runs.table_html(table), film=moving, seconds=seconds)

    results = {name: unfinished(name, "not finished yet") for name in names}
    typer.echo(f"Now {len(names)} notebooks, each with a card on {write()} when it ends; reload that page to see more.")
    order = sorted(names, key=lambda name: (*LONGEST_FIRST, name[:2]).index(name[:2]))
    try:
        for result in runs.run_all(order, {"profile": profile}, out, timeout=3_600):
            results[result.notebook] = result
            typer.echo(f"{result.notebook:36s}{result.seconds:7.1f} s  {result.error or 'ok'}")
            write()
    except KeyboardInterrupt:  # what is there is still shown
        left = [name for name, result in results.items() if result.failure == "unfinished"]
        results |= {name: unfinished(name, "interrupted") for name in left}
    table = runs.attack_table(list(results.values()))
    if table:
        typer.echo("\n" + runs.table_text(table) + "\n")
        runs.write_csv(table, out / "table.csv")
    typer.echo(f"{write()}\n{time.perf_counter() - start:.0f} s in all")
    if not all(result.ok for result in results.values()):
        raise typer.Exit(1)


def _first_picture(path: Path) -> Path | None:
    """The film of the models that ship; None, with a sentence that says why, if it cannot be made."""
    from devilgan_lite.cli.exhibit import film

    try:
        film(model="", out=path, browser=False)
    except (ValueError, FileNotFoundError) as error:  # the notebooks may run without it
        typer.echo(f"no film: {error}", err=True)
        return None
    return path


def run(
    notebook: Annotated[str, typer.Argument(help="Number, name or path.")],
    parameter: Annotated[list[str] | None, typer.Option("-p", help="name=value; may be repeated.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the executed notebook and its result.json.")] = Path("out"),
    timeout: Annotated[float, typer.Option(help="Seconds for the whole run.")] = 900,
    memory: Annotated[float | None, typer.Option(help="MB that the kernel may hold; no limit unless given.")] = None,
) -> None:
    """Run one notebook from start to end."""
    from devilgan_lite import runs

    pairs = [text.partition("=") for text in parameter or []]
    for text, equals, _ in pairs:
        if not text or not equals:
            raise ValueError(f"-p {text!r} is not valid: it must be name=value, such as -p seed=1.")
    result = runs.run(notebook, {name: runs.parse_value(value) for name, _, value in pairs}, out, timeout, memory)
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
    """Do what is missing of a study, then write its report. Ctrl-C stops; the same command goes on."""
    from devilgan_lite import runs

    wanted = runs.read_study(study)
    if dry_run:
        for one in wanted.runs:
            typer.echo(f"{one.id}  {one.notebook}  {one.repeat}  {json.dumps(one.parameters, default=str)}")
        typer.echo(f"{len(wanted)} runs")
        return
    progress = Progress(len(wanted), quiet=as_json)
    with progress:
        done = runs.sweep(
            wanted,
            out,
            workers=workers,
            scheduler=scheduler,
            threads=run_threads,
            retries=retries,
            again=again,
            on_row=progress.add,
        )
    page = runs.report(done.folder)
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
    from devilgan_lite import runs

    typer.echo(runs.report(folder))


class Progress:
    """The last finished runs and how many there are: a live table on a terminal, else one line a run."""

    LAST = 12

    def __init__(self, total: int, quiet: bool = False) -> None:
        self.total, self.quiet = total, quiet
        self.rows: list[dict[str, Any]] = []
        self.counts: dict[str, int] = {}
        self.done = 0
        self.live: Any = None

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.live import Live

        console = Console()
        if console.is_terminal and not self.quiet:
            self.live = Live(self.table(), console=console, refresh_per_second=4)
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live is not None:
            self.live.stop()

    def add(self, row: dict[str, Any], done: int, total: int) -> None:
        """One more finished run."""
        self.done, self.total = done, total
        self.counts[row["status"]] = self.counts.get(row["status"], 0) + 1
        self.rows = [*self.rows, row][-self.LAST :]
        if self.live is not None:
            self.live.update(self.table())
        elif not self.quiet:
            print(f"{done}/{total}", *self.cells(row), sep="  ", flush=True)

    @staticmethod
    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        """Run, notebook, parameters, seconds and status, as texts."""
        parameters = " ".join(f"{name}={value}" for name, value in row["parameters"].items())
        ending = row["status"] + (f": {row['reason']}" if row.get("reason") else "")
        return row["id"], row["notebook"], parameters, f"{row.get('seconds', 0):.1f}", ending

    def table(self) -> Any:
        """The last runs as a table with the state of the sweep as its title."""
        from rich.table import Table

        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items())
        table = Table(title=f"{self.done} of {self.total} runs{': ' + counts if counts else ''}", expand=True)
        for name in ("run", "notebook", "parameters", "seconds", "status"):
            table.add_column(name, overflow="fold")
        for row in self.rows:
            table.add_row(*self.cells(row))
        return table
