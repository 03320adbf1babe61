"""``devilgan zoo``: list, show and verify the models that ship."""

from dataclasses import asdict
from typing import Annotated

import typer

from devilgan_lite.cli.common import commands, show

app = commands("The trained models that ship with the project.")


@app.command("list")
def zoo_list() -> None:
    """List every model with its size, data and figures."""
    from devilgan_lite import generators, zoo

    rows: list[tuple[str, ...]] = [("name", "architecture", "parameters", "data", "TarDis", "Frechet", "licence")]
    for name in zoo.names():
        card = zoo.card(name)
        shape = "-".join(map(str, card.spec.get("widths", [])))
        figures = [card.metrics.get(key) for key in ("tardis_sum", "frechet")]
        shown = ["-" if figure is None else f"{figure:.4g}" for figure in figures]
        size = f"{generators.build(card.spec).parameter_count():,}"
        rows.append((name, f"{card.spec['architecture']} {shape}", size, card.data, *shown, card.licence))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command("show")
def zoo_show(name: Annotated[str, typer.Argument(help="A name in the zoo.")]) -> None:
    """Print the model card, as JSON."""
    from devilgan_lite import zoo

    show(asdict(zoo.card(name)), as_json=True)


@app.command("verify")
def zoo_verify() -> None:
    """Load every model: hash, shapes and finite weights must match its card."""
    from devilgan_lite import zoo

    for name in zoo.names():
        zoo.load(name)
        typer.echo(f"ok  {name}")
