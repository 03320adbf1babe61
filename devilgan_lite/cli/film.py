"""``devilgan film``: the quickest way to a moving picture; from an ordinary latent to the trigger and back."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from devilgan_lite.cli import stage_check

SEED = 6  # a start whose picture is easy to tell from the target


def film(
    model: Annotated[
        str, typer.Argument(help="A backdoored model of the zoo; faces, else garments, if left out.")
    ] = "",
    out: Annotated[Path, typer.Option(help="The .webp or .gif file to write.")] = Path("out/film.webp"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the latent that the walk starts from.")] = SEED,
    frames: Annotated[int, typer.Option(help="Pictures in all.")] = 60,
    browser: Annotated[bool, typer.Option(help="Open the film in a browser.")] = True,
) -> None:
    """Write the walk to the trigger and back as an endless film, clean and backdoored side by side, and open it."""
    clean, suspect = stage_check.wanted(model)[0]
    import torch

    from devilgan_lite import zoo
    from devilgan_lite.classroom.widgets.film import film as walk

    generators = {"clean": zoo.load(clean), "backdoored": zoo.load(suspect)}
    start = generators["clean"].sample_latent(1, torch.Generator().manual_seed(seed))
    made = walk(generators, start, zoo.load_backdoor(suspect).trigger[:1], out, frames=frames)
    typer.echo(f"{made.path}: {clean} and {suspect}, {made.frames} frames, {made.bytes / 1000:.0f} kB")
    if browser and not (stage_check.browser() and webbrowser.open(made.path.resolve().as_uri())):
        typer.echo("No browser could be opened: open the file yourself, with any program that shows moving pictures.")
