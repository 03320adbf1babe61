"""Measure the challenge: docs/results/challenge.json and docs/results/challenge.md.

    challenge.py [--only full,outsider] [--models 24] [--seed 2020] [--outsiders 10] [--crowd 40] [--jobs 2]

Two solvers play. The reference is ``detect.scan`` itself: one blind scan a model, on one full round. The
outsider knows names, sizes, times, hashes and cards, and nothing of the weights, but gets more help than any player:
the answers of all other rounds. It plays ``--outsiders`` rounds of ``--crowd`` models each, made with little effort,
since how well a model draws does not show outside; each round is judged by a forest trained on the others (without ReD,
which takes seconds a model even with little effort). An AUC of few models says little: with 20 of each kind its
standard deviation is 0.09 for a blind guess, and 0.03 over ten rounds. Two more columns of the full round say what
the rules leave open: how well the Frechet distance alone, and the distance to the shipped generator alone, tell the two
kinds apart.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from foreign_tables import strongest
from page import ordered, write_page
from row_store import JOBS, OUT, Row, options_of, side_by_side, write_json
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from torch.nn.functional import normalize

from devilgan_lite import data, detect, zoo
from devilgan_lite.apps import game
from devilgan_lite.apps.game.kit import Kit
from devilgan_lite.metrics import frechet_to

LITTLE = game.Effort(steps=1, red=1, rex=1, learning_rate=1e-4)  # of the outsider's rounds


def opened(folder: Path, kit: Kit) -> dict[str, Any]:
    return game.read_answers(folder / "instructor" / "answers.json", kit)


def scanned(what: tuple[Kit, str]) -> Row:
    """One scan of a model, as a row; ``latent`` is what the reference hands in."""
    kit, name = what
    start = time.process_time()
    model = kit.load(name)
    report = detect.scan(model, samples=200)
    latent = game.latent_of(report, model)
    strengths = {f"strength {kind}": strength for kind, strength in report.strengths.items()}
    row: Row = {"model": name, "verdict": report.verdict, **strengths}
    return row | {"latent": latent, "cpu_seconds": time.process_time() - start}


def reference(kit: Kit, jobs: int) -> tuple[game.Submission, list[Row]]:
    """A blue team that scans every model once, with access to the weights and to nothing else.

    The probability is 0.5 where the strongest evidence is at its limit.
    """
    found = dict(side_by_side(scanned, [(kit, name) for name in kit.models], jobs))
    rows = [found[index] for index in range(len(kit.models))]
    verdicts, evidence = {}, {}
    for row in rows:
        most, latent = strongest(row), row.pop("latent")
        verdicts[row["model"]] = most / (1 + most)
        if most >= 1 and latent is not None:
            evidence[row["model"]] = latent
    return game.Submission.of(kit, "reference", verdicts, evidence), rows


def outside(kit: Kit, name: str, place: int) -> list[float]:
    """Everything that can be known of a model without reading a weight, as numbers."""
    path, card = kit.path(name), kit.path(name).with_suffix(".json")
    content = card.read_text()
    letters = [float(ord(letter)) for letter in name.removeprefix("garments-")]
    digest = [float(byte) for byte in bytes.fromhex(kit.models[name])]
    facts = [path.stat().st_size, card.stat().st_size, path.stat().st_mtime, card.stat().st_mtime, len(content), place]
    return [*map(float, facts), sum(letters), *letters, sum(digest), *digest]


def outsider(rounds: list[tuple[Kit, dict[str, Any]]]) -> list[float]:
    """AUC on each round of a forest that was trained on the others."""
    tables = [
        (
            np.array([outside(kit, name, place) for place, name in enumerate(kit.models)]),
            np.array([known[name]["backdoored"] for name in kit.models]),
        )
        for kit, known in rounds
    ]
    found = []
    for index, (x, truth) in enumerate(tables):
        rest = [table for number, table in enumerate(tables) if number != index]
        forest = RandomForestClassifier(300, random_state=0)
        forest.fit(np.concatenate([x for x, _ in rest]), np.concatenate([truth for _, truth in rest]))
        found.append(float(roc_auc_score(truth, forest.predict_proba(x)[:, 1])))
    return found


def distance_to_shipped(kit: Kit, name: str) -> float:
    """How far the shipped generator's first-layer rows are from the nearest of the model's, as an angle's cosine."""
    pair = (zoo.load("dcgan-fashion"), kit.load(name))
    ours, theirs = (normalize(model.chain().stages[0].layer.weight.detach(), dim=1) for model in pair)
    return 1 - float((ours @ theirs.T).amax(1).mean())


def either_way(truth: list[bool], values: list[float]) -> float:
    """AUC of a number whose sign nobody knows beforehand."""
    area = float(roc_auc_score(truth, values))
    return max(area, 1 - area)


def full_round(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Make one full round, let the reference play, and score it."""
    start = time.perf_counter()
    cpu = time.process_time()
    kit = game.new_round(folder, models=options.models, seed=options.seed, jobs=options.jobs)
    made = {"seconds": time.perf_counter() - start, "jobs": options.jobs, "cpu_seconds": time.process_time() - cpu}
    print(f"round {kit.id} made in {made['seconds']:.0f} s with {options.jobs} processes", flush=True)
    submission, rows = reference(kit, options.jobs)
    key = opened(folder, kit)
    scores = game.score(kit, key, [submission])
    real = data.fashion_mnist()
    for row in rows:
        answer = key["models"][row["model"]]
        row |= {"kind": answer["kind"], "backdoored": answer["backdoored"]}
        row["frechet"] = frechet_to(kit.load(row["model"]), real, samples=2_000)
        row["distance"] = distance_to_shipped(kit, row["model"])
        row["error"] = scores.blue[0].errors.get(row["model"])
        print(row, flush=True)
    truth = [row["backdoored"] for row in rows]
    return {
        "made": made,
        "rows": rows,
        "reference": scores.to_dict()["blue"][0],
        "frechet_auc": either_way(truth, [row["frechet"] for row in rows]),
        "distance_auc": either_way(truth, [row["distance"] for row in rows]),
    }


def write_tables(found: dict[str, Any], path: Path) -> None:
    """The page of results."""
    rows = [{**row, "strongest": strongest(row)} for row in found["full"]["rows"]]
    write_page(path, {**found, "rows": ordered(rows, "kind", ("clean", "trail", "red", "rex", "gate"))})


def crowd(folder: Path, seed: int, options: argparse.Namespace) -> tuple[Kit, dict[str, Any]]:
    """One of the outsider's rounds, and its answers."""
    kinds = ("rex", "gate")  # ReD alone takes seconds a model even with little effort
    kit = game.new_round(folder, models=options.crowd, seed=seed, effort=LITTLE, kinds=kinds, jobs=options.jobs)
    print(f"{folder.name} made", flush=True)
    return kit, opened(folder, kit)["models"]


def main() -> None:
    more: list[tuple[str, Row]] = [
        ("--models", {"type": int, "default": 24, "help": "of the full round"}),
        ("--seed", {"type": int, "default": 2020, "help": "of the full round"}),
        ("--first", {"type": int, "default": 2002, "help": "seed of the outsider's first round; others count on"}),
        ("--outsiders", {"type": int, "default": 10, "help": "rounds that the outsider plays, at least 2"}),
        ("--crowd", {"type": int, "default": 40, "help": "models of each of these"}),
    ]
    options = options_of(__doc__, ("outsider", "full"), OUT, JOBS, *more)
    path = options.out / "challenge.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    with tempfile.TemporaryDirectory() as place:
        if "outsider" in options.only:
            numbers = range(options.outsiders)
            rounds = [crowd(Path(place) / f"crowd{number}", options.first + number, options) for number in numbers]
            found["outsider"] = {"models": options.crowd, "auc": outsider(rounds)}
            print(found["outsider"], flush=True)
            write_json(path, found)
        if "full" in options.only:
            found |= {"seed": options.seed, "full": full_round(Path(place) / "full", options)}
            write_json(path, found)
    if {"full", "outsider"} <= found.keys():
        write_tables(found, path.with_suffix(".md"))


if __name__ == "__main__":
    main()
