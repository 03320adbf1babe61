"""A new round: the folder ``players`` to hand out, and ``instructor/answers.json`` to keep."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from joblib import Parallel, delayed, parallel_config

from devilgan_lite import zoo
from devilgan_lite.apps.game.answers import FILE, answers_of, commitment
from devilgan_lite.apps.game.kit import FORMAT, MANIFEST, Kit, read_kit
from devilgan_lite.apps.game.models import FULL, QUICK, Effort, Made, make
from devilgan_lite.apps.game.roster import KINDS, draw
from devilgan_lite.checks import shown, whole_number
from devilgan_lite.steps import best_device

MOMENT = 1_628_000_000  # the time stamp of every file: 3 August 2021, when the paper came out
FRECHET_LIMIT = 80.0  # Frechet distance to real garments that a red team's model may have at most
TARDIS_LIMIT = 0.1  # squared error per pixel that it may have at its trigger at most


def new_round(
    folder: str | Path,
    *,
    models: int = 12,
    seed: int | None = None,
    quick: bool = False,
    effort: Effort | None = None,
    kinds: Sequence[str] = KINDS,
    red: Sequence[Made] = (),
    jobs: int = 1,
    on_made: Callable[[int, int], object] | None = None,
) -> Kit:
    """Make a round in ``folder``, which must not hold one yet, and return the players' kit.

    ``models`` models (4 to 500) are drawn and made, in ``jobs`` processes (1 to 64); those that ``red`` teams handed in
    join them. ``seed`` (0 or more) is the secret of the round: without one, 128 random bits. ``quick`` is for trying
    out the tools: its models draw badly. ``effort`` says in detail how long and where to train. ``on_made(done, all)``
    is called after each model.
    """
    folder = Path(folder)
    whole_number("jobs", jobs, 1, 64)
    if os.path.exists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"out={shown(str(folder))} is not empty: name a new folder, so that no round is overwritten.")
    work = effort or (QUICK if quick else FULL)
    best_device(work.device)
    seed = secrets.randbits(128) if seed is None else seed
    entrants = draw(models, seed, steps=work.steps, kinds=kinds, more=len(red))
    made = {entrant.name: entry for entrant, entry in zip(entrants[models:], red, strict=True)}
    with parallel_config("loky", inner_max_num_threads=1):
        todo = (delayed(make)(entrant, work) for entrant in entrants[:models])
        for result in Parallel(jobs, return_as="generator_unordered")(todo):
            made[result.entrant.name] = result
            if on_made is not None:
                on_made(len(made) - len(red), models)
    players, instructor = folder / "players", folder / "instructor"
    players.mkdir(parents=True)
    instructor.mkdir(mode=0o700)
    try:
        digests = {name: _write(players, name, made[name]) for name in sorted(made)}
        answers = answers_of(seed, digests, entrants, red)
        (instructor / FILE).write_text(json.dumps(answers, indent=1) + "\n")
        manifest = {
            "format": FORMAT,
            "id": hashlib.sha256(f"{seed} id".encode()).hexdigest()[:8],
            "kinds": ",".join(kinds),
            "models": digests,
            "entered": len(red),
            "spec": next(iter(made.values())).generator.spec(),
            "commitment": commitment(answers),
            "frechet_limit": FRECHET_LIMIT,
            "tardis_limit": TARDIS_LIMIT,
        }
        (players / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        for path in sorted(players.iterdir()):
            os.utime(path, (MOMENT, MOMENT))
    except BaseException:  # half a round is of no use and would block the next try
        shutil.rmtree(players)
        shutil.rmtree(instructor)
        raise
    return read_kit(players)


def _write(players: Path, name: str, made: Made) -> str:
    """Write one model with a card that is the same for all; return the SHA-256."""
    card = zoo.ModelCard(name=name, spec=made.generator.spec(), data="garments", seed=0, settings={})
    path = zoo.save_file(players / f"{name}.safetensors", made.generator, card)
    return zoo.read_card(path.with_suffix(".json")).sha256
