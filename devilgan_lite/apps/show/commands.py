"""``devilgan film``, ``stage`` and ``phone``: the walk to the trigger as a moving picture and as two kinds of page."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from devilgan_lite import shipped
from devilgan_lite.checks import one_of, shown
from devilgan_lite.cli import health
from devilgan_lite.cli.common import AsJson, Device, check_out, write

RENDERERS = ("python_avatars", "resvg_py")
SEED = 9  # of a start whose picture is easy to tell from the target


def film(
    model: Annotated[str, typer.Argument(help="A backdoored model of the zoo; default: faces, else garments.")] = "",
    pair: Annotated[
        tuple[str, str] | None,
        typer.Option(help="A clean model and its backdoored one, instead of MODEL: names in the zoo, or files."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The .webp, .gif or .mp4 file to write.")] = Path("out/film.webp"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the latents from which both ends are taken.")] = SEED,
    frames: Annotated[int | None, typer.Option(help="Number of pictures; default: what suits the file.")] = None,
    device: Device = "cpu",
    browser: Annotated[bool, typer.Option(help="Open the film in a browser.")] = True,
) -> None:
    """Write the walk to the trigger, on and back as an endless film, clean and backdoored side by side, and open it."""
    from devilgan_lite.apps.show import pairs, serving

    if model and pair:
        raise ValueError("a MODEL of the zoo and --pair both say what to show: leave one out.")
    check_out(out)
    chosen = pair or pairs.wanted(model, pairs.FILMED)[0]
    from devilgan_lite.apps.show.film import film as walk
    from devilgan_lite.loading import load_pair

    clean, suspect, backdoor = load_pair(chosen, device)
    start, other = pairs.film_ends(clean, seed)
    generators = {"clean": clean, "backdoored": suspect}
    made = walk(generators, start, backdoor.trigger[:1], out, other=other, frames=frames)
    typer.echo(f"{made.path}: {' and '.join(chosen)}, {made.frames} frames, {made.bytes / 1000:.0f} kB")
    if browser and not (serving.browser() and webbrowser.open(out.resolve().as_uri())):
        typer.echo("No browser could be opened: open the file yourself, with any program that shows moving pictures.")


def stage(
    model: Annotated[str, typer.Option(help="A backdoored model of the zoo; default: faces, else garments.")] = "",
    pair: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Instead of --model, a clean model and its backdoored one: names in the zoo, or files."),
    ] = None,
    scan: Annotated[
        str, typer.Option(help="The backdoored model that key S scans, in the zoo or a file; faces take minutes.")
    ] = "dcgan-fashion-gate",
    port: Annotated[int, typer.Option(min=1024, max=65_535, help="Where to serve; if busy, the next free one.")] = 8866,
    device: Device = "cpu",
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    printed: Annotated[Path | None, typer.Option("--print", help="Only write a page for print to this file.")] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Offer a page for phones, with votes, to this network.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say whether this machine is ready.")] = False,
    as_json: AsJson = False,
) -> None:
    """Serve the page for a room: both pictures large, map, live scan, votes; ? shows its keys. Ctrl-C ends it."""
    from devilgan_lite.apps.show import pairs

    if share and (check or printed):
        raise ValueError(
            "--share offers a page while the stage runs, which --check and --print do not do: leave one out."
        )
    if model and pair:
        raise ValueError("--model and --pair both choose what is shown: leave one out.")
    if check:
        health.report(ready(port), as_json)
        return
    check_out(printed, "print")
    choices = [pair] if pair else pairs.wanted(model)
    if printed is not None:
        write(printed, pairs.printable(*choices[0], device))
        typer.echo(printed)
        return
    if not Path(scan).suffix:
        one_of("scan", scan, [suspect for _, suspect in pairs.pairs()])
    elif not Path(scan).is_file():
        raise ValueError(f"--scan {shown(scan)} is not valid: there is no such file.")
    from devilgan_lite.apps.show import live_scan, room

    room.show(choices, live_scan.LiveScan(scan, device), port, share=share, browser=browser)


def phone(
    pair: Annotated[
        tuple[str, str] | None,
        typer.Option(help="A clean model and its backdoored one: names in the zoo, or files; default: the best pair."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The .html file to write.")] = Path("out/phone.html"),
) -> None:
    """Write one page for phones that draws clean and backdoored by itself: from a stick, a mail, any web server."""
    from devilgan_lite.apps.show import pairs

    check_out(out, "out", ".html")
    chosen = pair or pairs.wanted("")[0]
    html = pairs.prepared(chosen).phone()
    write(out, html)
    typer.echo(f"{out}: {' and '.join(chosen)}, {len(html.encode()) / 1e6:.1f} MB; open it in any browser.")


def ready(port: int) -> list[health.Check]:
    """What the stage needs, in the order in which to mend it. No torch is imported, so the answer takes a second."""
    return health.carried_out(
        {
            "packages": lambda: health.installed(("torch", "safetensors")),
            "renderer": lambda: health.installed(RENDERERS, "; only drawing new faces needs it"),
            "browser": _browser,
            "port": lambda: _port(port),
            "zoo pair": _pair,
            "memory": health.memory,
        }
    )


def _browser() -> str:
    from devilgan_lite.apps.show import serving

    name = serving.browser()
    if name is None:
        raise health.Problem("none was found; install one, or open the stage by its address.")
    return name


def _port(port: int) -> str:
    from devilgan_lite.apps.show import serving

    free = serving.free_port(port)
    return f"{free} is free" if free == port else f"{port} is busy; the stage will take {free}"


def _pair() -> str:
    from devilgan_lite.apps.show import pairs

    if not (choices := pairs.pairs()):
        raise health.Problem(f"data/zoo has no backdoored model with its clean one; {health.RESTORE}/zoo.")
    for name in choices[0]:
        health.compare(shipped.zoo_folder() / f"{name}.safetensors", pairs.cards()[name].sha256)
    return f"{' and '.join(choices[0])}: SHA-256 matches"


COMMANDS = (stage, film, phone)
