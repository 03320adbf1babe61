"""``devilgan film``, ``stage`` and ``phone``: the walk to the trigger as a moving picture and as two kinds of page."""

import contextlib
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from devilgan_lite.cli.common import AsJson, Device, check_out

SEED = 6  # of a start whose picture is easy to tell from the target


def film(
    model: Annotated[str, typer.Argument(help="A backdoored model of the zoo; default: faces, else garments.")] = "",
    out: Annotated[Path, typer.Option(help="The .webp or .gif file to write.")] = Path("out/film.webp"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the latent that the walk starts from.")] = SEED,
    frames: Annotated[int, typer.Option(help="Number of pictures.")] = 60,
    device: Device = "cpu",
    browser: Annotated[bool, typer.Option(help="Open the film in a browser.")] = True,
) -> None:
    """Write the walk to the trigger and back as an endless film, clean and backdoored side by side, and open it."""
    from devilgan_lite.cli import stage_check

    check_out(out, ending="")
    clean, suspect = stage_check.wanted(model)[0]
    import torch

    from devilgan_lite import zoo
    from devilgan_lite.classroom.widgets.film import film as walk

    generators = {"clean": zoo.load(clean, device), "backdoored": zoo.load(suspect, device)}
    start = generators["clean"].sample_latent(1, torch.Generator().manual_seed(seed))
    made = walk(generators, start, zoo.load_backdoor(suspect).trigger[:1], out, frames=frames)
    typer.echo(f"{made.path}: {clean} and {suspect}, {made.frames} frames, {made.bytes / 1000:.0f} kB")
    if browser and not (stage_check.browser() and webbrowser.open(out.resolve().as_uri())):
        typer.echo("No browser could be opened: open the file yourself, with any program that shows moving pictures.")


def stage(
    model: Annotated[str, typer.Option(help="A backdoored model of the zoo; default: faces, else garments.")] = "",
    port: Annotated[int, typer.Option(min=1024, max=65_535, help="Where to serve; if busy, the next free one.")] = 8866,
    device: Device = "cpu",
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    printed: Annotated[Path | None, typer.Option("--print", help="Only write a page for print to this file.")] = None,
    share: Annotated[bool, typer.Option("--share", help="Offer the page for phones to this network, too.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say whether this machine is ready.")] = False,
    as_json: AsJson = False,
) -> None:
    """Serve the explorer as a page without code: clean and backdoored side by side. Ctrl-C ends it."""
    from devilgan_lite.cli import health, phones, stage_check, stage_page, stage_server

    if share and (check or printed):
        raise ValueError(
            "--share offers a page while the stage runs, which --check and --print do not do: leave one out."
        )
    if check:
        health.report(stage_check.examine(port), as_json)
        return
    check_out(printed, "print", "")
    pairs = stage_check.wanted(model)
    if printed is None:
        beside = port + 1 if port < 65_535 else port - stage_check.PORTS
        with phones.shared(pairs, beside) if share else contextlib.nullcontext("") as address:
            stage_server.serve(pairs, port, device, browser, address)
        return
    printed.parent.mkdir(parents=True, exist_ok=True)
    printed.write_text(stage_page.printable(*pairs[0], device), encoding="utf-8")
    typer.echo(printed)


def phone(
    pair: Annotated[
        tuple[str, str] | None,
        typer.Option(help="A clean model and its backdoored one: names in the zoo, or files; default: the best pair."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The .html file to write.")] = Path("out/phone.html"),
) -> None:
    """Write one page for phones that draws clean and backdoored by itself: from a stick, a mail, any web server."""
    from devilgan_lite.cli import phones, stage_check

    check_out(out, ending=".html")
    chosen = pair or stage_check.wanted("")[0]
    html = phones.built(chosen)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(html, encoding="utf-8")
    typer.echo(f"{out}: {' and '.join(chosen)}, {len(html.encode()) / 1e6:.1f} MB; open it in any browser.")
