"""``devilgan challenge new | submit | score``: the red-team and blue-team game."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from devilgan_lite.cli.common import AsJson, Device, check_out, commands, show

app = commands("A game: blue teams judge models of unknown status, red teams make backdoored ones.")
Round = Annotated[Path, typer.Argument(help="The players' folder of the round.")]


@app.command()
def new(
    models: Annotated[int, typer.Option(help="Models to make, 4 to 500.")] = 12,
    seed: Annotated[
        int | None, typer.Option(help="Who knows it has the answers; default: a secret one, printed.")
    ] = None,
    out: Annotated[Path, typer.Option(help="A new folder: players/ to hand out, instructor/ to keep.")] = Path(
        "out/challenge"
    ),
    red: Annotated[Path | None, typer.Option(help="Folder of red teams' entries that join the round.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="For a trial: models in seconds that draw badly.")] = False,
    hard: Annotated[bool, typer.Option("--hard", help="With TrAIL too, which the scan misses.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Processes side by side.")] = min(2, os.cpu_count() or 1),
    device: Device = "cpu",
) -> None:
    """Make a round: models for the players with a commitment to the answers, and the answers to keep."""
    from devilgan_lite.apps import game

    check_out(out / "instructor" / "answers.json")
    entries = [] if red is None else game.read_entries(red)

    def on_made(done: int, of: int) -> None:
        typer.echo(f"{done} of {of} models", err=True)

    effort = replace(game.QUICK if quick else game.FULL, device=device)
    kinds = game.HARD if hard else game.KINDS
    kit = game.new_round(
        out, models=models, seed=seed, effort=effort, kinds=kinds, red=entries, jobs=jobs, on_made=on_made
    )
    typer.echo(f"round {kit.id}: {len(kit.models)} models")
    secret = json.loads((out / "instructor" / "answers.json").read_text())["seed"]
    typer.echo(f"hand out  {kit.folder}\nkeep      {out / 'instructor' / 'answers.json'}, or its seed: {secret}")


@app.command()
def submit(
    kit: Round,
    team: Annotated[str, typer.Option(help="Your team's name.")],
    verdicts: Annotated[
        Path | None, typer.Option(help='Blue: .csv of "model,probability"; 1 means backdoored.')
    ] = None,
    evidence: Annotated[
        Path | None, typer.Option(help="Blue: folder of MODEL.png and MODEL.safetensors (trigger or picture).")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Red: your model, .safetensors with its card.")] = None,
    secret: Annotated[
        Path | None, typer.Option(help="Red: .safetensors with trigger and target; default: the card.")
    ] = None,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("out/submissions"),
) -> None:
    """Check and write a team's answer: a blue team's verdict on every model, or a red team's own model."""
    from devilgan_lite.apps import game

    if (verdicts is None) == (model is None):
        raise ValueError("a blue team gives --verdicts and a red team gives --model: one of the two is needed.")
    found = game.read_kit(kit, device)
    if model is not None:
        entry = game.check_entry(found, team, model, secret)
        typer.echo(f"accepted: Frechet distance {entry.frechet:.1f}, TarDis {entry.tardis:.2g} per pixel")
        typer.echo(game.write_entry(out, entry))
        return
    recovered = None if evidence is None else game.read_evidence(evidence, found)
    submission = game.Submission.of(found, team, game.read_verdicts(verdicts or Path()), recovered)
    typer.echo(f"{len(submission.verdicts)} verdicts, {len(submission.evidence)} pieces of evidence")
    typer.echo(game.write_submission(out, submission))


@app.command()
def score(
    kit: Round,
    submissions: Annotated[Path, typer.Option(help="Folder of the blue teams' submissions.")],
    answers: Annotated[Path | None, typer.Option(help="The answers, instructor/answers.json.")] = None,
    seed: Annotated[int | None, typer.Option(help="The secret seed instead, if the answers are lost.")] = None,
    red: Annotated[Path | None, typer.Option(help="With --seed: the folder of entries that joined the round.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the scoreboard, a page for a projector, here.")] = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Check the answers against the commitment, score all submissions, and print the scoreboard."""
    from devilgan_lite.apps import game

    if (answers is None) == (seed is None):
        raise ValueError("--answers names the file of answers and --seed makes them again: one of the two is needed.")
    check_out(html, "html")
    found = game.read_kit(kit, device)
    if answers is not None:
        truth = game.read_answers(answers, found)
    else:
        truth = game.remade_answers(seed or 0, found, [] if red is None else game.read_entries(red))
    files = sorted(submissions.glob("*.csv")) if os.path.isdir(submissions) else []
    scores = game.score(found, truth, [game.read_submission(path, found) for path in files])
    if html is not None:
        game.write_page(html, scores, found)
    show(scores.to_dict(), as_json, game.text(scores))
    if html is not None:
        typer.echo(html, err=as_json)


GROUPS = {"challenge": app}
