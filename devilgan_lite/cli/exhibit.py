"""``devilgan film``, ``stage`` and ``phone``: the walk to the trigger as a moving picture and as two kinds of page."""

import contextlib
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devilgan_lite.checks import one_of, shown
from devilgan_lite.cli.common import AsJson, Device, check_out, load_pair

if TYPE_CHECKING:
    from torch import Tensor

    from devilgan_lite.generators import Generator

SEED = 9  # of a start whose picture is easy to tell from the target
CANDIDATES = 256  # latents from which the ends of a film of garments are chosen: few samples are clear in a small GAN


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
    from devilgan_lite.cli import stage_check

    if model and pair:
        raise ValueError("a MODEL of the zoo and --pair both say what to show: leave one out.")
    check_out(out, ending="")
    chosen = pair or stage_check.wanted(model, stage_check.FILMED)[0]
    from devilgan_lite.classroom.widgets.film import film as walk

    clean, suspect, backdoor = load_pair(chosen, device)
    start, other = film_ends(clean, seed)
    generators = {"clean": clean, "backdoored": suspect}
    made = walk(generators, start, backdoor.trigger[:1], out, other=other, frames=frames)
    typer.echo(f"{made.path}: {' and '.join(chosen)}, {made.frames} frames, {made.bytes / 1000:.0f} kB")
    if browser and not (stage_check.browser() and webbrowser.open(out.resolve().as_uri())):
        typer.echo("No browser could be opened: open the file yourself, with any program that shows moving pictures.")


def film_ends(clean: "Generator", seed: int) -> tuple["Tensor", "Tensor"]:
    """The ordinary latents ``[1, d]`` at both ends of a film; of garments, two kinds that anybody recognises."""
    import torch

    from devilgan_lite import features
    from devilgan_lite.generators import evaluate

    random = torch.Generator().manual_seed(seed)
    if features.readable("fashion", clean.sample_shape):
        z = clean.sample_latent(CANDIDATES, random)
        order, classes = features.recognised(evaluate(clean, z))
        others = order[classes[order] != classes[order[:1]]]
        if len(others):
            return z[order[:1]], z[others[:1]]
    return clean.sample_latent(1, random), clean.sample_latent(1, random)


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
    from devilgan_lite.cli import health, phones, stage_check, stage_page, votes

    if share and (check or printed):
        raise ValueError(
            "--share offers a page while the stage runs, which --check and --print do not do: leave one out."
        )
    if model and pair:
        raise ValueError("--model and --pair both choose what is shown: leave one out.")
    if check:
        health.report(stage_check.examine(port), as_json)
        return
    check_out(printed, "print", "")
    pairs = [pair] if pair else stage_check.wanted(model)
    if printed is not None:
        printed.parent.mkdir(parents=True, exist_ok=True)
        printed.write_text(stage_page.printable(*pairs[0], device), encoding="utf-8")
        typer.echo(printed)
        return
    from devilgan_lite.cli import stage_scan, stage_server

    if not Path(scan).suffix:
        one_of("scan", scan, [suspect for _, suspect in stage_check.pairs()])
    elif not Path(scan).is_file():
        raise ValueError(f"--scan {shown(scan)} is not valid: there is no such file.")
    if share:
        phones.own_address()  # no network: said before any work
    pages, notice = phones.first_prepared(pairs)
    rounds = votes.Votes()
    with contextlib.ExitStack() as stack:
        address = ""
        if share:
            html, other = phones.for_phones(pages, [one for one in stage_check.pairs() if one != pages.names])
            notice = " ".join(filter(None, [notice, other]))
            beside = port + 1 if port < 65_535 else port - stage_check.PORTS
            address = stack.enter_context(phones.shared(html, beside, rounds))
        if notice:
            typer.echo(notice)
        live = stage_scan.LiveScan(scan, device)
        stage_server.serve(pages, port, live, browser, rounds, address=address, notice=notice)


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
