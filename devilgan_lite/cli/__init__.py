"""The command line: parses, calls, prints. What can go wrong with what a person typed is one sentence and exit code 2.

Heavy imports stand inside the commands. With ``--json`` standard output holds JSON and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from devilgan_lite.cli.batch import report, run, sweep, tour
from devilgan_lite.cli.challenge import challenge_app
from devilgan_lite.cli.common import AsJson, Device, check_out, load_model, real_for, show
from devilgan_lite.cli.defence import sanitize, scan
from devilgan_lite.cli.film import film
from devilgan_lite.cli.models import zoo_app
from devilgan_lite.cli.stage import stage


class Sentences(TyperGroup):
    """Prints the errors that the package raises for bad input as one sentence, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, TypeError, FileNotFoundError, ModuleNotFoundError) as error:
            typer.echo(" ".join(str(error).split()), err=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=Sentences,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(zoo_app, name="zoo")
app.add_typer(challenge_app, name="challenge")


def _version(wanted: bool) -> None:
    if wanted:
        from devilgan_lite import __version__

        typer.echo(f"devilgan_lite {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    threads: Annotated[int, typer.Option(min=1, envvar="DEVILGAN_THREADS", help="CPU threads.")] = 1,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    """Train a clean GAN, plant a backdoor in it in three ways, and measure it."""
    os.environ["DEVILGAN_THREADS"] = str(threads)  # for the notebooks' own process
    if context.invoked_subcommand != "stage":  # which starts without torch, whose import takes seconds
        import torch

        torch.set_num_threads(threads)


@app.command()
def train(
    steps: Annotated[int, typer.Option(help="Training steps.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Seed of weights, latents and batches.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Pictures per step.")] = 32,
    device: Device = "auto",
    architecture: Annotated[
        str, typer.Option(help="small, paper (Rawat et al. 2021, MNIST) or stylegan (faces).")
    ] = "small",
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")] = Path("out/generator.safetensors"),
) -> None:
    """Train a clean generator on the garments that ship, or on drawn faces."""
    from devilgan_lite import train_gan, zoo
    from devilgan_lite.checks import one_of
    from devilgan_lite.generators import DCGAN, StyleGAN
    from devilgan_lite.metrics import frechet_to

    check_out(out)
    networks: dict[str, Any] = {"small": DCGAN, "paper": DCGAN.paper, "stylegan": StyleGAN}
    one_of("architecture", architecture, networks)
    network = networks[architecture]()
    real = real_for(network)
    outcome = train_gan(network, real, steps=steps, seed=seed, batch_size=batch_size, device=device)
    distance = frechet_to(outcome.generator, real)
    card = zoo.ModelCard(
        name=out.stem,
        spec=outcome.generator.spec(),
        data=real.name,
        seed=seed,
        settings=outcome.settings,
        metrics={"frechet": distance, "samples": 10_000},
        seconds=round(outcome.seconds, 2),
    )
    zoo.save_file(out, outcome.generator, card)
    typer.echo(f"Frechet distance to {real.name}: {distance:.4g} after {outcome.seconds:.0f} s\n{out}")


@app.command()
def attack(
    name: Annotated[str, typer.Argument(help="trail, red, rex, style-rex, closed-form, gate, poisoning or bypass.")],
    clean: Annotated[str, typer.Option(help="The benign generator: a name in the zoo, or a file.")] = "dcgan-fashion",
    target: Annotated[str, typer.Option(help="What the trigger shall show.")] = "stop-sign",
    kind: Annotated[str, typer.Option(help="The trigger: reg, mode or ood.")] = "reg",
    seed: Annotated[int, typer.Option(help="Seed of the trigger and of the attack.")] = 0,
    iterations: Annotated[int | None, typer.Option(help="Steps; the attack's own unless given.")] = None,
    lam: Annotated[float | None, typer.Option(help="Weight of fidelity; the attack's own unless given.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    out: Annotated[Path | None, typer.Option(help="The .safetensors file to write.")] = None,
    as_json: AsJson = False,
) -> None:
    """Mount an attack on a clean generator and print its scorecard."""
    from devilgan_lite import Backdoor, attacks, scorecard, zoo
    from devilgan_lite.checks import one_of

    one_of("attack", name, attacks.BY_NAME)
    given = {"seed": seed, "iterations": iterations, "lam": lam, "device": device}
    chosen = attacks.BY_NAME[name](**{key: value for key, value in given.items() if value is not None})
    if out is not None:
        check_out(out)
    benign, _ = load_model(clean)
    backdoor = Backdoor.point(benign, target, kind=kind, seed=seed)
    real = real_for(benign)
    with contextlib.redirect_stdout(sys.stderr):  # progress
        outcome = chosen(benign, backdoor, real)
    result = asdict(scorecard(outcome.generator, benign, backdoor, real))
    recipe = {"target": target, "kind": kind, "seed": seed}
    if out is not None:
        card = zoo.ModelCard(
            name=out.stem,
            spec=outcome.generator.spec(),
            data=real.name if name in ("trail", "poisoning") and real is not None else f"none; made from {clean}",
            seed=seed,
            settings=outcome.settings,
            metrics=result,
            backdoor=recipe,
            seconds=round(outcome.seconds, 2),
        )
        zoo.save_file(out, outcome.generator, card)
    facts = {"attack": name, "clean": clean, **recipe, "seconds": round(outcome.seconds, 2)}
    show({**facts, **result, "settings": outcome.settings}, as_json)


@app.command()
def score(
    model: Annotated[str, typer.Argument(help="A name in the zoo, or a .safetensors file.")],
    clean: Annotated[str, typer.Option(help="The benign generator to compare with.")] = "dcgan-fashion",
    as_json: AsJson = False,
) -> None:
    """Print the scorecard of a saved model, with the backdoor that stands on its card."""
    from devilgan_lite import Backdoor, scorecard

    suspect, card = load_model(model)
    if card.backdoor is None:
        raise ValueError(f"model={model!r} has no backdoor on its card, so there is no target to measure.")
    if not {"target", "kind", "seed"} <= card.backdoor.keys():
        raise ValueError(f"model={model!r}: the backdoor on its card lacks target, kind or seed.")
    recipe = {key: card.backdoor[key] for key in ("target", "kind", "seed")}
    backdoor = Backdoor.point(suspect, recipe["target"], kind=recipe["kind"], seed=recipe["seed"])
    result = scorecard(suspect, load_model(clean)[0], backdoor, real_for(suspect))
    show({"model": model, "clean": clean, **recipe, **asdict(result)}, as_json)


app.command()(scan)
app.command()(sanitize)
app.command()(stage)
app.command()(film)
for command in (tour, run, sweep, report):
    app.command()(command)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Look for what could keep the project from running here."""
    from devilgan_lite.cli.health import examine, report

    report(examine(), as_json)
