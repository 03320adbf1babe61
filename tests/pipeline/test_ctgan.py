"""A real CTGAN (licence BUSL-1.1) in a throw-away folder: its network as it is, and what its file gives away."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from throw_away import installed, python  # noqa: E402

pytestmark = pytest.mark.slow
BENCH = Path(__file__).parents[2] / "scripts/bench/fraud_ctgan.py"
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
    return installed(tmp_path_factory.mktemp("ctgan"), *NEEDED)


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
    for view in ("any", "default=yes"):
        for one in (clean[view], bad[view]):
            assert one["verdict"] in ("clean", "suspicious", "backdoored")  # never without an answer
            assert {"structure", "latent spectrum", "hidden spectrum", "silent units", "noisy twin"} <= {
                *one["strengths"]
            }
    assert (tmp_path / "fraud_ctgan.md").read_text(encoding="utf-8").startswith("# CTGAN's own generator\n")
