"""The folder of a round: models of unknown status for the players, and the sealed key for the instructor.

``players/`` holds the models, cards that say nothing, and ``challenge.json`` with a commitment to the key;
``instructor/key.sealed`` is the key. In ``players/`` only the weights depend on what a model is: names are random,
files are equally long, cards are alike, time stamps are one constant, and files are written in the order of their
names.
"""

import base64
import hashlib
import json
import multiprocessing
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from devilgan_lite import zoo
from devilgan_lite.apps.game import seal
from devilgan_lite.apps.game.models import FULL, QUICK, Effort, Made, make, shape
from devilgan_lite.apps.game.roster import KINDS, Entrant, draw
from devilgan_lite.checks import cut, one_of, read_bytes, read_json, shown, whole_number
from devilgan_lite.generators import build
from devilgan_lite.steps import best_device

FORMAT = 1
MANIFEST = "challenge.json"
NAME = re.compile(r"garments-[a-z0-9]{5}")
MOMENT = 1_628_000_000  # the time stamp of every file: 3 August 2021, when the paper came out
FRECHET_LIMIT = 80.0  # Frechet distance to real garments that a red team's model may have at most
TARDIS_LIMIT = 0.1  # squared error per pixel that it may have at its trigger at most


@dataclass(frozen=True)
class Kit:
    """The players' side of a round: ``models`` maps names to the SHA-256 of the files; they load on ``device``."""

    folder: Path
    id: str
    seed: int
    models: dict[str, str]
    spec: dict[str, Any]
    commitment: str
    sealed_sha256: str
    frechet_limit: float
    tardis_limit: float
    device: str = "cpu"

    def path(self, name: str) -> Path:
        """The file of the model ``name``."""
        one_of("name", name, self.models)
        return self.folder / f"{name}.safetensors"

    def check(self, name: str) -> Path:
        """The file of the model ``name``; one that is missing or was changed is an error in one sentence."""
        path = self.path(name)
        content = read_bytes(path, "model file", most=zoo.MOST_BYTES, missing=": the kit is not complete")
        if hashlib.sha256(content).hexdigest() != self.models[name]:
            raise ValueError(f"{path.name} is not the model of this round: its SHA-256 differs from {MANIFEST}.")
        return path

    def load(self, name: str) -> Any:
        """The model ``name``, in eval mode, after its ``check``."""
        return zoo.load_file(self.check(name), self.device)[0]


def read_kit(folder: str | Path, device: str = "cpu") -> Kit:
    """Read the players' folder (or the folder that holds it); ``kit.load`` reads its models, onto ``device``."""
    folder = Path(folder)
    best_device(device)
    if not os.path.isfile(folder / MANIFEST) and os.path.isfile(folder / "players" / MANIFEST):
        folder = folder / "players"
    path = folder / MANIFEST
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{cut(str(folder))} is not the kit of a round: there is no {MANIFEST} in it.")
    types = {"format": int, **get_type_hints(Kit)}
    del types["folder"], types["device"]
    content = read_json(path, "description of a round", types, version=FORMAT)
    del content["format"]
    kit = Kit(folder=folder, device=device, **content)
    if not kit.models or not all(NAME.fullmatch(name) for name in kit.models):
        raise ValueError(f"{MANIFEST} is not a description of a round: it has no models, or a name that no round has.")
    if not {"architecture", "latent_dim", "image_channels", "image_size"} <= kit.spec.keys():
        raise ValueError(f"{MANIFEST} is not a description of a round: it does not say what its models are.")
    return kit


def new_round(
    folder: str | Path,
    passphrase: str,
    *,
    models: int = 12,
    seed: int = 0,
    quick: bool = False,
    effort: Effort | None = None,
    kinds: tuple[str, ...] = KINDS,
    red: list[Made] | None = None,
    jobs: int = 1,
    on_made: Callable[[int, int], object] | None = None,
) -> Kit:
    """Make a round in ``folder``, which must not hold one yet, and return the players' kit.

    ``models`` models (4 to 500) are drawn and made, in ``jobs`` processes (1 to 64); those that ``red`` teams handed in
    join them. ``quick`` is for trying out the tools: its models draw badly. ``effort`` says in detail how long and
    where to train. ``on_made(done, all)`` is called after each model.
    """
    folder = Path(folder)
    whole_number("jobs", jobs, 1, 64)
    seal.cryptography()  # if it is missing, say so before the models are made
    if os.path.exists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"out={shown(str(folder))} is not empty: name a new folder, so that no round is overwritten.")
    work = effort or (QUICK if quick else FULL)
    best_device(work.device)
    source, names = (seal.stream(passphrase, seed, purpose) for purpose in ("roles", "names"))
    entrants = draw(models, source, names, steps=work.steps, kinds=kinds, more=len(red or ()))
    made = {entrant.name: entry for entrant, entry in zip(entrants[models:], red or (), strict=True)}
    for count, result in enumerate(_made(entrants[:models], work, jobs), start=1):
        made[result.entrant.name] = result
        if on_made is not None:
            on_made(count, models)
    identity = f"{names.getrandbits(32):08x}"
    players, instructor = folder / "players", folder / "instructor"
    players.mkdir(parents=True)
    instructor.mkdir()
    try:
        hashes = {name: _write(players, name, made[name]) for name in sorted(made)}
        key = _key(identity, seed, hashes, made)
        sealed = seal.seal(key, passphrase)
        (instructor / "key.sealed").write_bytes(sealed)
        manifest = {
            "format": FORMAT,
            "id": identity,
            "seed": seed,
            "models": hashes,
            "spec": next(iter(made.values())).generator.spec(),
            "commitment": seal.commitment(key),
            "sealed_sha256": hashlib.sha256(sealed).hexdigest(),
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


def _key(identity: str, seed: int, hashes: dict[str, str], made: dict[str, Made]) -> dict[str, Any]:
    answers = {}
    for name, result in made.items():
        answers[name] = {
            "sha256": hashes[name],
            "backdoored": result.trigger is not None,
            "kind": result.entrant.kind,
            "target_name": "" if result.trigger is None else result.entrant.target,
            "team": result.team,
            "trigger": _packed(result.trigger),
            "target": _packed(result.target),
        }
    return {"id": identity, "seed": seed, "nonce": secrets.token_hex(32), "models": answers}


def _packed(x: Tensor | None) -> dict[str, Any] | None:
    if x is None:
        return None
    return {"shape": list(x.shape), "float32": base64.b64encode(x.detach().cpu().float().numpy().tobytes()).decode()}


def unpacked(packed: dict[str, Any]) -> Tensor:
    """The tensor that the key holds as ``packed``."""
    flat = np.frombuffer(base64.b64decode(packed["float32"]), dtype=np.float32)
    return torch.from_numpy(flat.copy()).reshape(packed["shape"])


def _made(entrants: list[Entrant], effort: Effort, jobs: int) -> Iterator[Made]:
    """The models, as they are finished."""
    if jobs == 1 or len(entrants) < 2:
        for entrant in entrants:
            yield make(entrant, effort)
        return
    fresh = multiprocessing.get_context("spawn")  # a forked torch may hang
    with ProcessPoolExecutor(jobs, mp_context=fresh, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = {pool.submit(_work, entrant, effort): entrant for entrant in entrants}
        spec = shape()
        try:
            for done in as_completed(waiting):
                state, secret = map(load, done.result())
                generator = build(spec)
                generator.load_state_dict(state)
                yield Made(waiting[done], generator.eval(), secret.get("trigger"), secret.get("target"))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _work(entrant: Entrant, effort: Effort) -> tuple[bytes, bytes]:
    """The weights and the secret of a model as bytes: tensors between processes would hold a file open each."""
    made = make(entrant, effort)
    state = {name: value.contiguous() for name, value in made.generator.state_dict().items()}
    secret = {} if made.trigger is None or made.target is None else {"trigger": made.trigger, "target": made.target}
    return save(state), save(secret)
