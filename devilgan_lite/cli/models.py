"""``devilgan zoo``, ``sample``, ``export`` and ``fetch``: what ships, and models as files that other programs open."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from devilgan_lite.checks import one_of, shown
from devilgan_lite.cli.common import ENDINGS, Device, check_out, commands, show

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
        texts = ["-" if figure is None else f"{figure:.4g}" for figure in figures]
        size = f"{generators.build(card.spec).parameter_count():,}"
        rows.append((name, f"{card.spec['architecture']} {shape}", size, card.data, *texts, card.licence))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command("show")
def zoo_show(name: Annotated[str, typer.Argument(help="A name in the zoo.")]) -> None:
    """Print the model card, as JSON."""
    from devilgan_lite import shipped

    show(asdict(shipped.card(name)), as_json=True)


@app.command("verify")
def zoo_verify() -> None:
    """Load every model: hash, shapes and finite weights must match its card."""
    from devilgan_lite import zoo

    for name in zoo.names():
        zoo.load(name)
        typer.echo(f"ok  {name}")


def sample(
    model: Annotated[str, typer.Argument(help="A name in the zoo, or a .safetensors file with its card.")],
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("out/samples"),
    n: Annotated[int, typer.Option("--n", min=1, max=10_000, help="How many.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of their latents.")] = 0,
    trigger: Annotated[bool, typer.Option(help="Also what the triggers of the backdoor on its card make.")] = False,
    device: Device = "cpu",
) -> None:
    """Write samples of a generator, a file each: sound as .wav, anything else as a drawing (.png)."""
    from devilgan_lite import zoo
    from devilgan_lite.generators import evaluate
    from devilgan_lite.loading import load

    check_out(out / "sample")
    generator, card = load(model, device)
    samples = {f"sample-{index}": x for index, x in enumerate(generator.sample(n, seed))}
    if trigger:
        backdoor = zoo.backdoor_of(card, generator)
        if backdoor is None:
            raise ValueError(f"model={shown(model)} has no backdoor on its card, so there is no trigger.")
        names = [f"trigger-{name}" for name in backdoor.name.split("+")]
        samples |= dict(zip(names, evaluate(generator, backdoor.trigger), strict=True))
    out.mkdir(parents=True, exist_ok=True)
    ending = generator.modality.endings[0]
    for name, x in samples.items():
        (out / f"{name}{ending}").write_bytes(generator.modality.file(x))
    typer.echo(f"{out}: {len(samples)} files of the kind {ending}, a {generator.modality.noun} each")


def export(
    model: Annotated[str, typer.Argument(help="A name in the zoo, or a .safetensors file with its card.")],
    out: Annotated[Path, typer.Option(help="The file to write; it ends in .onnx, .pt2 or .safetensors.")],
    to: Annotated[
        str | None, typer.Option(help="onnx, pt2 (torch.export) or safetensors; default: the ending of --out.")
    ] = None,
) -> None:
    """Write a generator for other programs, and keep the file only if it makes the same samples."""
    if to is not None:
        one_of("to", to, [ending[1:] for ending in ENDINGS])
    check_out(out, "out", *ENDINGS)
    if to not in (None, out.suffix[1:]):
        raise ValueError(f"to={to} and out={shown(str(out))} say different formats: leave --to out, or end in .{to}.")
    from devilgan_lite.files.exporting import export as write
    from devilgan_lite.loading import load

    generator, card = load(model)
    write(generator, None, out, card=card)
    typer.echo(f"{out}: {out.stat().st_size:,} bytes; it makes the same samples as {model}.")


def fetch(
    name: Annotated[str, typer.Argument(help="What to download: faces.")] = "faces",
    folder: Annotated[Path | None, typer.Option(help="Where to keep it; default: the cache.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that the download may take.")] = 120.0,
) -> None:
    """Download a stranger's generator (14 MB), check its digest, and say where it is. Nothing of it is run."""
    from devilgan_lite.files import fetch as downloads

    path = downloads.fetch(name, folder, timeout=timeout)
    typer.echo(f"{downloads.DOWNLOADS[name].about}\n{path}")
