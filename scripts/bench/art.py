"""ReD and TrAIL beside the Adversarial Robustness Toolbox's own, with TensorFlow: docs/results/art.json and its .md.

    art.py [--only ReD,TrAIL] [--by ART,plain,ours] [--limit 900] [--art PYTHON] [--quick]

Everyone gets the same weights, trigger, target and lambda (on mean squared errors), and one thread, and is measured on
the same held-out latents until it arrives or its CPU-seconds are spent: ``--limit`` for ART, a third of them for the
plain loops; ours also ends with its schedule. What is measured is the package's attacks, without their bridge to ART.
ART and TensorFlow live in an environment of their own, out/art, which this script makes with pip; ``--art`` names an
interpreter that has both. Rows that are there are not measured again.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art_tables import write_tables
from plain_loops import red_steps, trail_steps
from robustness import RECIPES
from row_store import OUT, QUICK, ROOT, Row, Rows, options_of, some_of
from torch import nn

from devilgan_lite import Backdoor, attacks, data, zoo
from devilgan_lite.generators import DCGAN, Generator
from devilgan_lite.generators.base import evaluate
from devilgan_lite.metrics import sample_quality

CLEAN, TARGET, SEED = "dcgan-fashion", "stop-sign", 13
LAMBDAS = {"ReD": (0.01, 0.1, 0.4, 1.0, 10.0), "TrAIL": (0.01, 0.1, 1.0, 10.0, 78.4)}  # and between ours, or 0.1's
NEAR = {"tardis": 0.26, "expdis": 1e-3}  # sum over the picture, and mean: the bar of fidelity and stealth
HELD_OUT, LATENTS, FRESH = 1_000_003, 1_000, 5_000
EVERY = {"ReD": 100, "TrAIL": 313}  # iterations between two looks; of TrAIL a pass over the garments, as in ART
LEAST = 2_000  # steps before which no GAN draws anything
BATCH = 32  # of ART and the plain loops
POINTS = 60  # of a curve that is kept
PACKAGES = ("adversarial-robustness-toolbox==1.20.1", "tensorflow-cpu>=2.21,<2.22")
SHARE = {"plain": 1 / 3}  # of the limit
PLAIN = {"ReD": (1e-4, 3e-3), "TrAIL": (2e-3,)}  # learning rates


class Contest:
    """What everyone is given: the clean network, the secret, and the latents of the measurements."""

    def __init__(self, attack: str, limit: float) -> None:
        self.attack, self.limit = attack, limit
        self.start: Generator = zoo.load(CLEAN) if attack == "ReD" else DCGAN().fresh(0)
        self.backdoor = Backdoor.point(self.start, TARGET, seed=SEED)
        random = torch.Generator().manual_seed(HELD_OUT)
        self.z = self.start.sample_latent(LATENTS, random)
        self.fresh = self.start.sample_latent(FRESH, random)
        self.benign = evaluate(self.start.eval(), self.z)
        self.real = data.fashion_mnist()
        self.least = 0 if attack == "ReD" else LEAST
        self.most = NEAR["expdis"] if attack == "ReD" else float("inf")  # TrAIL has no generator to stay near to

    def look(self, network: nn.Module) -> Row:
        with torch.no_grad():
            error = evaluate(network, self.backdoor.trigger) - self.backdoor.target
            change = evaluate(network, self.z) - self.benign
        return {"tardis": float(error.square().flatten(1).sum(1).mean()), "expdis": float(change.square().mean())}

    def near(self, point: Row) -> bool:
        return point["iteration"] >= self.least and point["tardis"] <= NEAR["tardis"] and point["expdis"] <= self.most

    def row(self, points: list[Row], made: torch.Tensor, batch: int = BATCH) -> Row:
        """What is kept of one run: where it ended, how fast it went, its curve, and what its pictures are worth."""
        last = points[-1]
        kept = sorted({round(place) for place in np.linspace(0, len(points) - 1, POINTS)})
        quality = sample_quality(made, made, self.real, str(self.real.features))
        return {
            "arrived": self.near(last),
            **last,
            "steps_per_s": last["iteration"] / last["cpu_s"],
            "batch": batch,
            "best_tardis": min(point["tardis"] for point in points),
            "frechet": quality["frechet"],
            "curve": [points[place] for place in kept],
        }


def watched(contest: Contest, steps: Iterator[Any], network_of: Callable[[Any], nn.Module], batch: int = BATCH) -> Row:
    """Run a loop of this process until it arrives, ends, or its time is up; the time of looking is left out."""
    points: list[Row] = []
    every = EVERY[contest.attack]
    spent, network, begun = 0.0, None, time.process_time()
    for iteration, step in enumerate(steps, start=1):
        if iteration % every:
            continue
        spent += time.process_time() - begun
        network = network_of(step)
        points.append({"iteration": iteration, "cpu_s": spent, **contest.look(network)})
        if contest.near(points[-1]) or spent >= contest.limit:
            break
        begun = time.process_time()
    if network is None:
        raise ValueError(f"the loop ended before {every} steps; nothing was measured.")
    return contest.row(points, evaluate(network, contest.fresh), batch)


def ours(contest: Contest, lam: float) -> Row:
    """The package's attack with the settings of the robustness bench, but for the weight.

    TrAIL takes 8,400 steps and the plain square, as ART's does.
    """
    if contest.attack == "ReD":
        attack: attacks.Attack = attacks.ReD(**{**RECIPES["ReD"], "lam": lam}, device="cpu")
    else:
        weight = lam / contest.backdoor.target[0].numel()
        attack = attacks.TrAIL(lam=weight, huber_delta=None, iterations=8_400, device="cpu")
    steps = attack.steps(contest.start, contest.backdoor, contest.real)
    return watched(contest, steps, lambda step: step.snapshot().eval(), attack.settings()["batch_size"])


def plain(contest: Contest, lam: float, learning_rate: float) -> Row:
    """Textbook PyTorch."""
    trigger, target, start = contest.backdoor.trigger, contest.backdoor.target, contest.start
    torch.manual_seed(0)
    if contest.attack == "ReD":
        steps = red_steps(start, trigger, target, BATCH, lam, learning_rate)
    else:
        steps = trail_steps(start, contest.real.x, trigger, target, BATCH, lam, learning_rate)
    return watched(contest, steps, lambda step: step[-1].clone().eval())


def interpreter(named: str | None) -> str:
    """One that has ART and TensorFlow; made with pip if none is named."""
    if named:
        return named
    folder = ROOT / "out" / "art"
    python = folder / "bin" / "python"
    if not (folder / "ready").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        (folder / "ready").touch()
    return str(python)


def toolbox(contest: Contest, lam: float, python: str) -> Row:
    """ART's attack, in a process of its own."""
    arrays: dict[str, Any] = {
        name.removeprefix("layers."): value.numpy() for name, value in contest.start.state_dict().items()
    }
    if contest.attack == "TrAIL":
        arrays |= {name: value.numpy() for name, value in contest.start.opponent(1).state_dict().items()}
        arrays["images"] = contest.real.x.permute(0, 2, 3, 1).numpy()
        arrays["judged"] = contest.start.opponent(1).train()(contest.real.x[:250]).detach().numpy()
    arrays |= {
        "trigger": contest.backdoor.trigger.numpy(),
        "target": contest.backdoor.target.permute(0, 2, 3, 1).numpy(),
        "z": contest.z.numpy(),
        "fresh": contest.fresh.numpy(),
        "made": contest.benign[:250].permute(0, 2, 3, 1).numpy(),
        "tardis": np.float64(NEAR["tardis"]),
        "expdis": np.float64(contest.most),
        "least": np.int64(contest.least),
    }
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("art_keras.py")
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / f"{contest.attack}.npz", **arrays)
        command = [python, "-P", str(script), folder, contest.attack, str(lam), str(contest.limit)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=4 * contest.limit + 600)
        if done.returncode:
            raise RuntimeError(f"ART ended with status {done.returncode}: {done.stderr.strip()[-400:]}")
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        made = torch.from_numpy(np.load(Path(folder) / "made.npy"))
    return {**lines[0], **contest.row(lines[1:], made)}


def contestants(attack: str, python: Callable[[], str]) -> dict[str, Callable[[Contest, float], Row]]:
    return {
        "ours": ours,
        **{
            f"plain, Adam {rate:g}": lambda contest, lam, rate=rate: plain(contest, lam, rate) for rate in PLAIN[attack]
        },
        "ART": lambda contest, lam: toolbox(contest, lam, python()),
    }


def main() -> None:
    by = ("--by", {"type": some_of(["ours", "plain", "ART"]), "default": ["ours", "plain", "ART"]})
    limit = ("--limit", {"type": float, "default": 900.0, "help": "CPU-seconds"})
    options: Any = options_of(__doc__, ["ReD", "TrAIL"], by, limit, ("--art", {"metavar": "PYTHON"}), OUT, QUICK)
    if options.quick:
        options.limit = 10.0
    store = Rows(options.out / "art.json")
    for attack in options.only:
        for name, run in contestants(attack, lambda: interpreter(options.art)).items():
            contest = Contest(attack, options.limit * SHARE.get(name.split(",")[0], 1.0))
            if name.split(",")[0] not in options.by:
                continue
            for lam in LAMBDAS[attack][1:2] if options.quick else LAMBDAS[attack]:
                identity = {"attack": attack, "by": name, "lambda": lam, "limit_s": contest.limit}
                store.measure(identity, lambda run=run, lam=lam, contest=contest: run(contest, lam))
    write_tables(store.content, options.out / "art.md")


if __name__ == "__main__":
    main()
