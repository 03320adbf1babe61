"""``devilgan scan`` and ``devilgan sanitize``: look for a backdoor in a saved generator, and remove it."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from devilgan_lite.cli.common import AsJson, Device, check_out, load_model, real_for, save, show

EXIT_CODES = {"backdoored": 3, "suspicious": 4, "inconclusive": 5}


def scan(
    model: Annotated[str, typer.Argument(help="A name in the zoo, or a .safetensors file with its card.")],
    targets: Annotated[Path | None, typer.Option(help="Folder of suspected targets (png, jpg).")] = None,
    bank: Annotated[bool, typer.Option("--bank", help="Suspect the built-in targets as well.")] = False,
    reference: Annotated[str | None, typer.Option(help="A clean generator to compare with.")] = None,
    real: Annotated[bool, typer.Option("--real", help="Compare with real garments or faces.")] = False,
    access: Annotated[str, typer.Option(help="samples, or weights.")] = "weights",
    twin: Annotated[bool, typer.Option(help="Look for a witness as well; without, seconds are enough.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of all latents.")] = 0,
    device: Device = "cpu",
    html: Annotated[Path | None, typer.Option(help="Write the report, with pictures, to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look for a backdoor in a saved generator. Exit code 0: clean, 3: backdoored, 4: suspicious, 5: inconclusive."""
    from devilgan_lite import detect

    check_out(html, "html", "")
    suspect, _ = load_model(model)
    benign = None if reference is None else load_model(reference)[0]
    pictures = None if targets is None else detect.samples_in(targets, suspect.sample_shape)[0]
    report = detect.scan(
        suspect,
        real=real_for(suspect) if real else None,
        reference=benign,
        targets=pictures,
        suspect_bank=bank,
        access=access,
        seed=seed,
        device=device,
        twin=twin,
    )
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        title = f"<title>Scan of {type(suspect).__name__}</title>"
        page = f'<!doctype html><html lang="en"><meta charset="utf-8">{title}<body>{report.to_html()}</body></html>'
        html.write_text(page, encoding="utf-8")
    typer.echo(report.to_json() if as_json else str(report))
    if report.verdict != "clean":
        raise typer.Exit(EXIT_CODES[report.verdict])


def sanitize(
    model: Annotated[str, typer.Argument(help="A name in the zoo, or a .safetensors file with its card.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")] = Path("out/sanitized.safetensors"),
    iterations: Annotated[int, typer.Option(help="Steps of repair; twice as many if ordinary samples suffer.")] = 1_500,
    seed: Annotated[int, typer.Option(help="Seed of all latents.")] = 0,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Scan a saved generator, remove what is found, and scan again. Without evidence nothing is changed or written."""
    from devilgan_lite import sanitize as sanitizers

    check_out(out)
    suspect, card = load_model(model)
    real = real_for(suspect)
    with contextlib.redirect_stdout(sys.stderr):  # progress
        cure = sanitizers.auto(suspect, real=real, iterations=iterations, seed=seed, device=device)
    result = {"changed": cure.changed, "seconds": round(cure.seconds, 2), "cuts": cure.settings["cuts"]}
    result |= {"before": cure.before.verdict if cure.before else None, **cure.scorecard}
    if cure.after is not None:
        result |= {"after": cure.after.verdict, "out": str(out)}
        settings = {**cure.settings, "sanitized_from": model}
        metrics = {name: value for name, value in cure.scorecard.items() if value is not None}
        save(out, cure, card.data, metrics, settings=settings, backdoor=card.backdoor)
    show(result, as_json, f"{cure}\n{out if cure.changed else ''}".rstrip())
