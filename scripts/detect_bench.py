"""Judge the detectors on models that they were not tuned on: docs/detection.json and docs/detection.md.

    detect_bench.py [--split test] [--calibrate] [--jobs 2] [--limit N]

Scans every model of out/population (made by population.py). ``--calibrate`` writes data/calibration.json from the
clean models of the tune half first. A model that has a row is not scanned again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import torch
from detect_tables import write_tables
from population import FOLDER, ROOT, Recipe, is_done, recipes
from safetensors.torch import load_file

from devilgan_lite import zoo
from devilgan_lite.detect import anatomy, inspect_activations, inspect_spectra, inspect_structure, subject_of
from devilgan_lite.detect.search import locate_trigger
from devilgan_lite.detect.weights import candidate_directions

ROWS = FOLDER / "scans"
CALIBRATION = ROOT / "data" / "calibration.json"
BLIND = ("structure", "latent spectrum", "hidden spectrum", "silent units")
Row = dict[str, Any]


def scan_one(recipe: Recipe) -> Row:
    """The scores of the blind detectors on one model, and how near the estimate comes to what the attacker knows."""
    generator, _ = zoo.load_file(FOLDER / f"{recipe.name}.safetensors")
    start, cpu = time.perf_counter(), time.process_time()
    subject = subject_of(generator)
    structure = inspect_structure(subject)
    parts = anatomy(subject)
    findings = [structure, *inspect_spectra(subject, parts)]
    findings.append(inspect_activations(subject, units=parts.units, directions=candidate_directions(parts)))
    found, trigger, pictures = locate_trigger(subject, parts, findings)
    row: Row = {
        "name": recipe.name,
        "kind": recipe.kind,
        "split": recipe.split,
        "adaptive": recipe.adaptive,
        "target": recipe.target,
        "scores": {finding.detector: finding.score for finding in findings},
        "source": found.details["source"],
        "seconds": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu,
    }
    if recipe.kind != "clean":
        secret = load_file(FOLDER / f"{recipe.name}.secret")
        cosines = torch.nn.functional.cosine_similarity(trigger.view(1, -1), secret["trigger"])
        errors = (pictures.unsqueeze(1) - secret["target"]).square().flatten(2).mean(2)
        row |= {"cosine": float(cosines.max()), "picture_error": float(errors[:8].min())}
        row["absolute_cosine"] = float(cosines.abs().max())
    return row


def rows(split: str) -> list[Row]:
    return [
        json.loads(path.read_text())
        for path in sorted(ROWS.glob("*.json"))
        if f'"split": "{split}"' in path.read_text()
    ]


def scan_all(names: list[str]) -> None:
    by_name = {recipe.name: recipe for recipe in recipes()}
    for name in names:
        row = scan_one(by_name[name])
        (ROWS / f"{name}.json").write_text(json.dumps(row, indent=1) + "\n")
        print(
            name,
            {key: round(value, 3) for key, value in row["scores"].items()},
            f"{row['cpu_s']:.0f} CPU-s",
            flush=True,
        )


def calibrate() -> None:
    """Write the scores of the clean models of the tune half."""
    clean = [row for row in rows("tune") if row["kind"] == "clean"]
    content = {
        "models": [row["name"] for row in clean],
        "made by": "scripts/detect_bench.py --calibrate",
        "scores": {detector: [round(row["scores"][detector], 6) for row in clean] for detector in BLIND},
    }
    CALIBRATION.write_text(json.dumps(content, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--split", default="tune,test", help="tune, test or both")
    parser.add_argument("--calibrate", action="store_true", help="write data/calibration.json from the tune half")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--names", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ROWS.mkdir(parents=True, exist_ok=True)
    if options.names:
        scan_all(options.names.split(","))
        return 0
    splits = tuple(options.split.split(","))
    wanted = [recipe for recipe in recipes(splits) if is_done(recipe)]
    missing = [recipe.name for recipe in recipes(splits) if not is_done(recipe)]
    if missing:
        print(f"{len(missing)} models are not made yet, such as {missing[0]}: run population.py", file=sys.stderr)
    todo = [recipe.name for recipe in wanted if not (ROWS / f"{recipe.name}.json").is_file()]
    workers = [
        subprocess.Popen([sys.executable, __file__, "--names", ",".join(todo[index :: options.jobs])])
        for index in range(options.jobs)
        if todo[index :: options.jobs]
    ]
    if any([worker.wait() for worker in workers]):
        return 1
    if options.calibrate:
        calibrate()
    everything = [row for split in ("tune", "test") for row in rows(split)]
    (ROOT / "docs" / "detection.json").write_text(json.dumps(everything, indent=1) + "\n")
    print(write_tables(everything, ROOT / "docs" / "detection.md"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
