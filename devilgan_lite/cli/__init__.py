"""The command line: it parses, calls and prints. Whatever is wrong with the input is one sentence and exit code 2.

Heavy imports are inside the commands, so ``--help`` needs no torch. With ``--json`` standard output holds only JSON.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from devilgan_lite import environment, loading
from devilgan_lite.checks import one_of, shown
from devilgan_lite.cli import defence, models
from devilgan_lite.cli.common import (
    ENDINGS,
    AsJson,
    Device,
    SampleCount,
    applications,
    check_out,
    commands,
    real_for,
    save,
    show,
)
from devilgan_lite.loading import load

ATTACKS = (
    "trail, red, rex, style-rex, closed-form, gate, poisoning or bypass; of attackers who know the defences: "
    "quiet, spectral, knowing, narrow-rex or disguise (of ReX)."
)
app = commands("Train a clean GAN, plant a backdoor in it in three ways, find it, and remove it.")
app.add_typer(models.app, name="zoo")


def _version(wanted: bool) -> None:
    if wanted:
        from devilgan_lite import __version__

        typer.echo(f"devilgan_lite {__version__}")
        raise typer.Exit


@app.callback()
def main(
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, envvar="DEVILGAN_THREADS", help="CPU threads; default: OMP_NUM_THREADS, or 1; in notebooks 1."
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if threads is not None:
        os.environ["DEVILGAN_THREADS"] = str(threads)  # for the processes of notebooks
        os.environ["OMP_NUM_THREADS"] = str(threads)  # for torch, which a command imports later, if at all
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
    environment.set_defaults()


@app.command()
def train(
    iterations: Annotated[int, typer.Option("--iterations", "--steps", help="Training steps.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Seed of weights, latents and batches.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Samples per step.")] = 32,
    device: Device = "auto",
    architecture: Annotated[
        str, typer.Option(help="small, paper (Rawat et al. 2021, MNIST), vae, flow, stylegan (faces) or wave (drums).")
    ] = "small",
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")] = Path("out/generator.safetensors"),
) -> None:
    """Train a clean generator on the garments or the drums that ship, or on drawn faces."""
    from devilgan_lite import train_gan
    from devilgan_lite.generators import TRAINED
    from devilgan_lite.metrics import frechet_to

    check_out(out, "out", ".safetensors")
    one_of("architecture", architecture, TRAINED)
    network = TRAINED[architecture]()
    real = real_for(network)
    outcome = train_gan(network, real, iterations=iterations, seed=seed, batch_size=batch_size, device=device)
    distance = frechet_to(outcome.generator, real)
    save(out, outcome, real.name, {"frechet": distance, "samples": 10_000})
    typer.echo(f"Frechet distance to {real.name}: {distance:.4g} after {outcome.seconds:.0f} s\n{out}")


@app.command()
def attack(
    name: Annotated[str, typer.Argument(help=ATTACKS)],
    clean: Annotated[
        str, typer.Option(help="The benign generator: a name in the zoo, or a file of any format that scan reads.")
    ] = "dcgan-fashion",
    target: Annotated[
        str, typer.Option(help="The sample to produce at the trigger: a name, or a file (.png, .jpg; .wav for sound).")
    ] = "stop-sign",
    kind: Annotated[str, typer.Option(help="The trigger: reg, mode or ood.")] = "reg",
    seed: Annotated[int, typer.Option(help="Seed of the trigger and of the attack.")] = 0,
    iterations: Annotated[int | None, typer.Option(help="Steps; default: the attack's own.")] = None,
    lam: Annotated[float | None, typer.Option(help="Weight of fidelity; default: the attack's own.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples per step; default: the attack's own.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Default: the attack's own.")] = None,
    samples: SampleCount = None,
    latent_dim: defence.LatentSize = None,
    architecture: Annotated[Path | None, typer.Option(help=defence.ARCHITECTURE)] = None,
    device: Device = "auto",
    jail: defence.InJail = True,
    out: Annotated[
        Path | None, typer.Option(help="The file to write, with a card: .safetensors, or .onnx or .pt2.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Mount an attack on a clean generator and print its scorecard. The closed forms need no GPU and use none."""
    from devilgan_lite import Backdoor, attacks, scorecard

    one_of("attack", name, attacks.BY_NAME)
    given: dict[str, Any] = {"seed": seed, "iterations": iterations, "lam": lam}
    given |= {"batch_size": batch_size, "learning_rate": learning_rate}
    takes = {field.name for field in fields(attacks.BY_NAME[name])}
    if "device" in takes:
        given["device"] = device
    elif "attack" in takes:
        given["attack"] = attacks.ReX(seed=seed, device=device)
    chosen = attacks.BY_NAME[name](**{key: value for key, value in given.items() if value is not None})
    check_out(out, "out", *ENDINGS)
    benign = loading.open(clean, latent_dim, architecture=architecture, jailed=jail)
    if out is not None and out.suffix == ".safetensors":
        benign.spec()  # what cannot be stored like this says so before any work
    if len(benign.sample_shape) == 3 and benign.sample_shape[0] not in (1, 3):
        raise ValueError(
            f"clean={shown(clean)} makes pictures of {benign.sample_shape[0]} channels; the targets drawn here "
            "have 1 or 3: attack it in Python, with a tensor as the target."
        )
    wanted: Any = target
    if Path(target).suffix:
        wanted = benign.modality.read(Path(target), benign.sample_shape)
    backdoor = Backdoor.point(benign, wanted, kind=kind, seed=seed)
    real = real_for(benign)
    with contextlib.redirect_stdout(sys.stderr):  # progress
        outcome = chosen(benign, backdoor, real)
    many = samples or (10_000 if real is not None else 2_000)  # features need many
    result = asdict(scorecard(outcome.generator, benign, backdoor, real, samples=many))
    planted = {"target": target, "kind": kind, "seed": seed}
    if out is not None:
        made_from = f"none; made from {Path(clean).name}"
        data = real.name if chosen.uses_real and real is not None else made_from
        save(out, outcome, data, result, backdoor=planted)
    facts = {"attack": name, "clean": clean, **planted, "seconds": round(outcome.seconds, 2)}
    written = {} if out is None else {"out": str(out)}
    show({**facts, **result, **written, "settings": outcome.settings}, as_json)


@app.command()
def score(
    model: Annotated[str, typer.Argument(help="A name in the zoo, or a .safetensors file.")],
    clean: Annotated[str, typer.Option(help="The benign generator to compare with.")] = "dcgan-fashion",
    samples: SampleCount = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Print the scorecard of a saved model for the backdoor on its card."""
    from devilgan_lite import scorecard, zoo

    suspect, card = load(model, device)
    backdoor = zoo.backdoor_of(card, suspect)
    if backdoor is None:
        raise ValueError(f"model={shown(model)} has no backdoor on its card, so there is no target to measure.")
    benign, _ = load(clean, device)
    result = scorecard(suspect, benign, backdoor, real_for(suspect), samples=samples or 10_000)
    planted = {"target": backdoor.name, "kind": backdoor.kind, "seed": backdoor.seed}
    show({"model": model, "clean": clean, **planted, **asdict(result)}, as_json)


COMMANDS: dict[str, Callable[..., None]] = {}  # of the core, then of the applications that are there
for command in (defence.scan, defence.sanitize, models.export, models.fetch, models.sample):
    COMMANDS[command.__name__] = command
for application in applications():
    COMMANDS |= {command.__name__: command for command in application.get("COMMANDS", ())}
    for group, its_commands in application.get("GROUPS", {}).items():
        app.add_typer(its_commands, name=group)
for command in COMMANDS.values():
    app.command()(command)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Look for what could keep the project from running here."""
    from devilgan_lite.cli import health

    health.report(health.project(), as_json)
