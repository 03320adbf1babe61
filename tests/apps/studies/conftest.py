"""A notebook that takes a second, in a folder with studies of it."""

from pathlib import Path

import pytest

TINY = """\
# %% [markdown]
# # A tiny notebook

# %% tags=["parameters"]
seed = 0  # random seed, 0..10000
lam = 0.1  # weight of fidelity, 0.0001..100.0
steps = None  # iterations (None: from the profile), 1..1_000_000
target = "stop-sign"  # the attacker's picture: stop-sign | devil | digit-7
lams = [0.1, 1.0]  # the weights to compare, 0.0001..100
live = True  # whether to train in front of you
note = "none"  # anything
mode = "fine"  # what to do: fine | raise | die | die once | sleep | eat
seconds = 0.0  # how long it takes, 0.0..100.0

# %%
import json, os, random, sys, time

if mode == "raise":
    raise ZeroDivisionError("the learner divided by zero")
if mode == "die":
    os._exit(1)
if mode == "eat":
    hog = bytearray(400_000_000)
time.sleep(60 if mode in ("sleep", "eat") else seconds)

# %%
random.seed(seed)
row = {"attack": "ReD", "seed": seed, "lam": lam, "tardis_mean": lam * random.random(), "expdis_mean": random.random()}
print("seed", seed, "done, malloc", os.environ.get("MALLOC_TRIM_THRESHOLD_", "as usual"))
numbers = {"attacks": [row], "seed": seed, "steps": steps, "python": sys.executable, "where": os.getcwd()}
with open(os.path.join(os.environ["DEVILGAN_OUT"], "result.json"), "w") as file:
    json.dump({"numbers": numbers, "peak_memory_mb": 12.5, "seed": seed}, file)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with ``tiny.py``, for studies to be written into."""
    (tmp_path / "tiny.py").write_text(TINY)
    return tmp_path
