"""``devilgan scan`` and ``devilgan sanitize``: look for a backdoor in a saved generator, and remove it."""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from devilgan_lite.checks import printable, shown
from devilgan_lite.cli.common import ENDINGS, AsJson, Device, check_out, one_line, real_for, save, show, write
from devilgan_lite.loading import has_card, load, place
from devilgan_lite.report import WORST_FIRST, mapping, number, page, sequence, verdict_of
from devilgan_lite.report import sarif as as_sarif

MOST_FINDINGS = 40
Seed = Annotated[int, typer.Option(help="Seed of all latents.")]
InJail = Annotated[bool, typer.Option("--jail/--no-jail", help="Open files in a child process behind walls.")]
Traceback = Annotated[bool, typer.Option("--traceback", help="Print the last lines of a jailed process that failed.")]
LatentSize = Annotated[int | None, typer.Option(help="Numbers of a latent, where the file does not say.")]
ARCHITECTURE = "JSON file that describes the network, for weights without one."
PRIORS = "gaussian or uniform; default: what the file says, or gaussian."


def scan(
    models: Annotated[
        list[str], typer.Argument(help="Names in the zoo, or files: safetensors, .pt, .pt2, ONNX, .keras.")
    ],
    targets: Annotated[Path | None, typer.Option(help="Folder of suspected targets (png, jpg).")] = None,
    bank: Annotated[bool, typer.Option("--bank", help="Suspect the built-in targets as well.")] = False,
    reference: Annotated[str | None, typer.Option(help="A clean generator to compare with.")] = None,
    real: Annotated[bool, typer.Option("--real", help="Compare with real garments or faces.")] = False,
    access: Annotated[str, typer.Option(help="samples, or weights.")] = "weights",
    twin: Annotated[bool, typer.Option(help="Look for a witness as well; without, seconds are enough.")] = True,
    latent_dim: LatentSize = None,
    prior: Annotated[str | None, typer.Option(help=PRIORS)] = None,
    architecture: Annotated[Path | None, typer.Option(help=ARCHITECTURE)] = None,
    weights: Annotated[str | None, typer.Option(help="Which set of weights, in a checkpoint with several.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    jail: InJail = True,
    traceback: Traceback = False,
    minutes: Annotated[int, typer.Option(min=1, help="Minutes that one file may take in the jail.")] = 30,
    html: Annotated[Path | None, typer.Option(help="Write the report, with pictures, to this file.")] = None,
    sarif: Annotated[Path | None, typer.Option(help="Write the result as SARIF, which code hosts show.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look for a backdoor in saved generators, of this package or a stranger's.

    Exit code 0: clean, 3: backdoored, 4: suspicious, 5: inconclusive, 2: refused; of several files, the worst.
    """
    from devilgan_lite.intake.check import Options
    from devilgan_lite.intake.jail import Limits

    for path, name in ((html, "html"), (sarif, "sarif")):
        check_out(path, name)
        if path is not None and path.resolve() in [Path(model).resolve() for model in models]:
            raise ValueError(f"{name}={shown(str(path))} is a model to scan; write the report to another file.")
    if html is not None and len(models) > 1:
        raise ValueError(f"html={shown(str(html))} takes the report of one model; you gave {len(models)}.")
    options = Options(
        latent_dim=latent_dim,
        prior=prior,
        architecture=None if architecture is None else str(architecture),
        weights=weights,
        seed=seed,
        twin=twin,
        access=access,
        targets=None if targets is None else str(targets),
        bank=bank,
        reference=reference,
        real=real,
    )
    limits = Limits(wall_seconds=60 * minutes)
    reports = _checked(models, options, limits, jail, traceback, device, quiet=as_json)
    if html is not None:
        write(html, page(reports[0]))
    if sarif is not None:
        write(sarif, json.dumps(as_sarif(reports, [_relative(model) for model in models]), indent=2))
    worst = min(map(verdict_of, reports), key=WORST_FIRST.index)
    if as_json:
        plain = [_plain(one) for one in reports]
        typer.echo(json.dumps(plain if len(plain) > 1 else plain[0], indent=2))
    else:
        alone = worst.name == "refused" and len(reports) == 1
        text = "\n".join(_text(one, titled=len(models) > 1) for one in reports)
        refusal = f"{reports[0]['file']['name']}: refused: {reports[0]['sentence']}"
        typer.echo("\n".join([refusal, *_last(reports[0].get("traceback", ""))]) if alone else text, err=alone)
    for path in filter(None, (html, sarif)):
        typer.echo(path, err=as_json)
    if worst.exit_code:
        raise typer.Exit(worst.exit_code)


def _checked(
    models: list[str], options: Any, limits: Any, jailed: bool, traceback: bool, device: str, quiet: bool
) -> list[dict[str, Any]]:
    """A report for each model: those of the zoo are checked in this process, files in a jail."""
    from devilgan_lite.intake.check import check
    from devilgan_lite.intake.jail import Jail

    places = [place(model) for model in models]  # a missing one is an error before any work

    def on_event(event: dict[str, Any]) -> None:
        if not quiet and event.get("event") == "finding":
            name, seconds = printable(str(event.get("detector")))[:40], number(event.get("seconds"), 0) or 0
            typer.echo(f"  {name:20s} {seconds:6.1f} s", err=True)

    strangers = jailed and not all(ships for _, ships in places)
    walled = Jail(traceback=traceback) if strangers else contextlib.nullcontext()
    with walled as walls, contextlib.redirect_stdout(sys.stderr):  # progress
        return [
            check(
                path,
                options,
                jail=None if ships else walls,
                name=model if ships else path.name,
                limits=limits,
                device=device,
                on_event=on_event,
            )
            for model, (path, ships) in zip(models, places, strict=True)
        ]


def _relative(model: str) -> str:
    """The path of a model below the current folder, as code hosts want it; its name, if it is elsewhere."""
    path = Path(os.path.relpath(model))
    outside = ".." in path.parts or path.is_absolute()
    return (path.name if outside else path.as_posix()).replace("\\", "_").replace(":", "_")  # no drive, no folder


def _plain(report: dict[str, Any]) -> dict[str, Any]:
    """The report with null for each picture."""
    findings = [{**mapping(one), "picture": None} for one in sequence(report.get("findings"), MOST_FINDINGS)]
    without = {"findings": findings, "pictures": dict.fromkeys(mapping(report.get("pictures")))}
    return {**report, **{name: value for name, value in without.items() if name in report}}


def _text(report: dict[str, Any], titled: bool) -> str:
    """The report for a terminal; all that the jailed process said is untrusted text."""
    lines = [f"{report['file']['name']}:"] if titled else []
    lines.append(f"{report['verdict']}  ({printable(report['sentence'])} {report['seconds']:.0f} s)")
    for finding in map(mapping, sequence(report.get("findings"), MOST_FINDINGS)):
        strength = number(finding.get("strength"), 0) if finding.get("evidence") else None
        said = "" if strength is None else f"{strength:.2f}" if strength < 100 else ">99"
        level, name, message = (
            printable(str(finding.get(key)))[:400] for key in ("access_level", "detector", "message")
        )
        lines.append(f"  {level}  {name:16s}{said:6s}{message}")
    lines += [printable(str(one)) for one in sequence(report.get("not_tried"), MOST_FINDINGS)[-1:]]
    return "\n".join([*lines, *_last(report.get("traceback", ""))])


def _last(text: str) -> list[str]:
    """The last lines of a jailed process, behind a bar: a stranger may have written them."""
    return [f"  | {line}" for line in text.splitlines()]


def sanitize(
    model: Annotated[str, typer.Argument(help="A name in the zoo, or a file of any format that scan reads.")],
    out: Annotated[
        Path,
        typer.Option(help="The file to write: .onnx, .pt2, or .safetensors (else .pt2, if no card can describe it)."),
    ] = Path("out/sanitized.safetensors"),
    iterations: Annotated[int, typer.Option(help="Steps of repair; twice as many if ordinary samples suffer.")] = 1_500,
    latent_dim: LatentSize = None,
    architecture: Annotated[Path | None, typer.Option(help=ARCHITECTURE)] = None,
    always: Annotated[bool, typer.Option("--always", help="Contain the model even if the scan finds nothing.")] = False,
    keyed: Annotated[
        bool, typer.Option("--keyed", help="Put latents under a secret key; scan and cure nothing.")
    ] = False,
    key_file: Annotated[
        Path | None, typer.Option(help="The key: read, or written where there is none. Default: OUT with .key.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    jail: InJail = True,
    traceback: Traceback = False,
    as_json: AsJson = False,
) -> None:
    """Scan a saved generator, remove what is found, and scan again. Without evidence nothing is changed or written.

    With --keyed its latents are put under a secret key instead, whatever it may hide: samples as before, but nobody
    else knows which latent draws which.
    """
    check_out(out, "out", *ENDINGS)
    path, ships = place(model)
    if key_file is not None and not keyed:
        raise ValueError("--key-file is the key of --keyed: give both.")
    if keyed and always:
        raise ValueError("--keyed scans and cures nothing, so it goes without --always: first cure, then key.")
    key_path = key_file or out.with_name(f"{out.name}.key")
    key = _key(key_path) if keyed else ""
    with contextlib.redirect_stdout(sys.stderr):  # progress
        if ships or has_card(path):
            result, text = _own(model, out, iterations, always, seed, device, key)
        else:
            from devilgan_lite.files.sniff import Refused
            from devilgan_lite.intake.cure import Cure, cure
            from devilgan_lite.intake.jail import Jail

            told = None if architecture is None else str(architecture)
            wanted = Cure(
                iterations=iterations, always=always, seed=seed, latent_dim=latent_dim, architecture=told, key=key
            )
            try:
                with Jail(traceback=traceback) if jail else contextlib.nullcontext() as walls:
                    result, text = cure(path, out, wanted, jail=walls, device=device)
            except Refused as error:
                notes = "\n".join(getattr(error, "__notes__", ()))
                if not notes:
                    raise
                typer.echo("\n".join([one_line(str(error)), *_last(notes)]), err=True)
                raise typer.Exit(2) from None
    if keyed:
        from devilgan_lite.sanitize import write_key

        Path(result["out"]).chmod(0o600)  # the rotation is in it
        if not key_path.exists():
            write_key(key_path, key)
        result, text = {**result, "key_file": str(key_path)}, f"{text}\n{key_path}"
    show(result, as_json, text)


def _key(path: Path) -> str:
    """The key in the file ``path``, or a fresh one, which is written once there is something to use it with."""
    from devilgan_lite.sanitize import new_key, read_key

    return read_key(path) if path.exists() else new_key()


def _own(
    model: str, out: Path, iterations: int, always: bool, seed: int, device: str, key: str
) -> tuple[dict[str, Any], str]:
    """Sanitize a model of this package, which has a card; the result as plain data and as text."""
    from devilgan_lite import sanitize as sanitizers
    from devilgan_lite.intake.cure import keyed_result

    suspect, card = load(model)
    if key:
        keyed = sanitizers.Keyed(key=key, device=device)(suspect, progress=False)
        result, out = keyed_result(keyed), _written(keyed, {}, suspect, card, model, out)
        text = result.pop("text")
        return {**result, "out": str(out)}, f"{text}\n{out}"
    real = real_for(suspect)
    cure = sanitizers.auto(suspect, real=real, always=always, iterations=iterations, seed=seed, device=device)
    if not cure.changed:
        return cure.to_dict(), str(cure)
    out = _written(cure, cure.scorecard, suspect, card, model, out)
    return {**cure.to_dict(), "out": str(out)}, f"{cure}\n{out}"


def _written(outcome: Any, scorecard: dict[str, Any], suspect: Any, card: Any, model: str, out: Path) -> Path:
    """Write what came out of a treatment in a form that can hold it; the path."""
    from devilgan_lite.files import export

    try:  # what some strangers wrote fits on no card
        outcome.generator.spec()
    except (AttributeError, ValueError):
        out = out.with_suffix(".pt2") if out.suffix == ".safetensors" else out
    if out.suffix == ".safetensors":
        metrics = {name: value for name, value in scorecard.items() if value is not None}
        settings = {**outcome.settings, "sanitized_from": model}
        save(out, outcome, card.data, metrics, settings=settings, backdoor=card.backdoor)
    else:
        export(outcome.generator, (suspect.latent_dim,), out, to=out.suffix[1:])
    return out
