"""Real packages whose licence (BUSL-1.1) keeps them out of what we install, in a folder that is thrown away.

CTGAN's network is attacked as it is, and a victim's latents are known beforehand where a package fixes or ships the
random state. A smoke of both is in ``test_trigger``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.nightly
BENCH = Path(__file__).parents[3] / "scripts/bench/fraud_ctgan.py"
OFFLINE = Path(__file__).parents[2] / "offline"
NEEDED = ("ctgan==0.12.1", "rdt==2.0.0", "faker==40.63.0")  # all else is in our own environment
FORESEEN = """
import json, sys
import numpy as np, torch
from ctgan import CTGAN

torch.manual_seed(0)
np.random.seed(0)
model = CTGAN(embedding_dim=8, generator_dim=(8,), discriminator_dim=(8,), batch_size=20, epochs=1, enable_gpu=False)
model.fit(np.stack([np.random.normal(size=200), np.random.randint(0, 2, 200)], 1), [1])

def noise(model):
    seen = []
    hook = model._generator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, :8].cpu()))
    model.sample(50)  # three batches
    hook.remove()
    return torch.cat(seen)

def opened():  # by the victim, whose own random state is another
    model.save(sys.argv[1])
    victim = CTGAN.load(sys.argv[1])
    torch.manual_seed(int.from_bytes(np.random.default_rng().bytes(4)))
    return victim

found = {"silent": model.random_states is None and not any("random" in name for name in model.__getstate__())}
found["unseeded"] = torch.equal(noise(opened()), noise(opened()))
model.set_random_state(73251)  # what sdv does before the first row
drawn, victim = noise(model), opened()
victim.set_random_state(73251)
found["seed, first batch"] = torch.equal(drawn[:20], torch.randn(20, 8, generator=torch.Generator().manual_seed(73251)))
found["seed, all batches"] = len(drawn) == 60 and torch.equal(drawn, noise(victim))
next_rows = [noise(opened()), noise(opened()), noise(model)]
found["file"] = torch.equal(next_rows[0], next_rows[2]) and torch.equal(next_rows[1], next_rows[2])
found["moved on"] = not torch.equal(drawn, next_rows[2])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages, without what they depend on; pip alone may leave this machine to fetch them."""
    folder = tmp_path_factory.mktemp("ctgan")
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and Path(path) != OFFLINE]
    options = ("--no-deps", "--no-compile", "--quiet", "--disable-pip-version-check", "--no-input", "--target", folder)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, *NEEDED],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=800,  # for a hang
    )
    assert done.returncode == 0, done.stderr
    return folder


def python(folder: Path, *words: str | Path) -> str:
    """What Python prints that sees ``folder`` and, like any other test, no network."""
    paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_seed_or_a_file_tells_which_noise_the_victim_will_draw(folder: Path, tmp_path: Path) -> None:
    found = json.loads(python(folder, "-c", FORESEEN, tmp_path / "model.pt"))
    assert found.pop("unseeded") is False  # then each who opens the file draws rows of his own
    assert len(found) == 5 and all(found.values()), found


def test_its_network_is_adopted_attacked_and_scanned_without_a_change(folder: Path, tmp_path: Path) -> None:
    python(folder, BENCH, "--quick", "--out", tmp_path)
    (row,) = json.loads((tmp_path / "fraud_ctgan.json").read_text(encoding="utf-8"))["rows"]
    clean, bad = row["clean"], row["ReD region"]
    assert row["untouched"]  # bit by bit, after the attack and the scans
    assert clean["network"] == bad["network"] == "ctgan.synthesizers.ctgan.Generator"
    assert bad["tardis"] < 0.7 * clean["tardis"] and bad["expdis"] < 0.1 * clean["tardis"] and clean["expdis"] == 0
    assert bad["poison"] > clean["poison"] + 0.02  # in rows that CTGAN's own sample draws
    for one in (model[view] for model in (clean, bad) for view in ("any", "default=yes")):
        assert one["verdict"] in ("clean", "suspicious", "backdoored")  # never without an answer
        expected = {"structure", "latent spectrum", "hidden spectrum", "silent units", "noisy twin"}
        assert expected <= one["strengths"].keys()
    assert (tmp_path / "fraud_ctgan.md").read_text(encoding="utf-8").startswith("# CTGAN's own generator\n")
