"""The commands of the studies: a tour with its film and its page, one run, and what the doctor looks for."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from devilgan_lite.apps import studies
from devilgan_lite.apps.studies import Result
from devilgan_lite.cli import COMMANDS, health

ROWS = [{"attack": "ReD", "seed": seed, "tardis_sum": 2.0 * seed, "frechet": None} for seed in (1, 2)]
NUMBERS = {"numbers": {"attacks": [*ROWS, {"attack": "Gate", "tardis_sum": 0.0}, {"lost": 1}]}}
NOTEBOOK = """\
# %% tags=["parameters"]
profile = "workshop"  # how long: smoke | workshop | full

# %%
import json, os
with open(os.path.join(os.environ["DEVILGAN_OUT"], "result.json"), "w") as file:
    json.dump({"numbers": {"profile": profile}}, file)
"""


@pytest.fixture
def notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with three notebooks; the second one takes an hour."""
    source = tmp_path / "notebooks/src"
    source.mkdir(parents=True)
    for name, last in (("00_good", ""), ("04_slow", "import time\ntime.sleep(3_600)\n"), ("10_later", "")):
        (source / f"{name}.py").write_text(NOTEBOOK + last)
    monkeypatch.setenv("DEVILGAN_NOTEBOOKS", str(source.parent))


def test_a_tour_shows_a_film_the_attacks_and_what_failed(
    call: Any, tmp_path: Path, notebooks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    results = [Result("00_good", Path(), 1.0, NUMBERS), Result("10_later", Path(), 1.0, error="cell 3: it broke")]
    monkeypatch.setattr(studies, "run_all", lambda *words, **named: given.append(words) or iter(results))
    (tmp_path / "out/tour").mkdir(parents=True)
    monkeypatch.setitem(COMMANDS, "film", lambda model, out, browser: Image.new("L", (8, 8)).save(out))
    done = call("tour", "--only", "10,00", "--profile", "smoke")
    assert done.exit_code == 1 and "cell 3: it broke" in done.stdout, done.output
    assert given == [(["00_good", "10_later"], {"profile": "smoke"}, Path("out/tour"))]
    assert all(said in done.stdout for said in ("3 ± 1.4", "2 runs", "single run"))
    page = (tmp_path / "out/tour/index.html").read_text()
    assert done.stdout.index("The first picture") < done.stdout.index("Now 2 notebooks")
    assert "data:image/webp" in page and "3 ± 1.4" in page
    assert "failed: cell 3: it broke" in page
    assert (tmp_path / "out/tour/table.csv").read_text().startswith("attack,runs,tardis_sum,tardis_sum_deviation,")
    entry = studies.attack_table(results)[0]
    assert (entry["runs"], entry["tardis_sum"], entry["frechet"]) == (2, 3.0, None)
    assert studies.attack_table(results[1:]) == [] and studies.table_html([]) == ""


def test_run_passes_what_was_given_and_prints_the_numbers(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    results = iter([Result("00", Path("x"), 1.0, {"numbers": {"a": 1}}), Result("01", Path("x"), 1.0, error="cell 3")])
    monkeypatch.setattr(studies, "run", lambda *words: given.append(words) or next(results))
    done = call("run", "0", "-p", "seed=7", "-p", "profile=smoke", "--out", "here", "--timeout", 9, "--memory", 8)
    assert done.exit_code == 0 and json.loads(done.stdout.partition("\n")[2]) == {"a": 1}, done.output
    assert given == [("0", {"seed": 7, "profile": "smoke"}, Path("here"), 9.0, 8.0)]
    done = call("run", "1")
    assert done.exit_code == 1 and "cell 3" in done.stderr


INTERRUPTED = """
import os
from devilgan_lite.cli import COMMANDS, app, health
def film(**words):
    raise ValueError("no pair.")
COMMANDS["film"], health.project, os.cpu_count = film, lambda **words: [], lambda: 1  # one notebook at a time
app()
"""


def test_an_interrupted_tour_leaves_a_page_and_starts_nothing_more(tmp_path: Path, notebooks: None) -> None:
    tour = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, "tour", "--profile", "smoke"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # what a terminal interrupts is the group
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # where the tests run in the background
    )
    assert tour.stdout is not None and tour.stderr is not None
    assert any(line.startswith("00_good") for line in tour.stdout)
    os.killpg(tour.pid, signal.SIGINT)
    assert "index.html" in tour.stdout.read() and "no film: no pair." in tour.stderr.read()
    assert tour.wait() == 1
    page = (tmp_path / "out/tour/index.html").read_text()
    assert "1 of 3 notebooks ran to the end" in page and page.count('<p class="waiting">interrupted</p>') == 2
    assert json.loads((tmp_path / "out/tour/00_good/result.json").read_text())["numbers"] == {"profile": "smoke"}
    assert not (tmp_path / "out/tour/10_later").exists()


def test_the_doctor_looks_for_notebooks_and_kernel(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = {check["name"]: check for check in json.loads(call("doctor", "--json").stdout)}
    assert checks["notebooks"]["ok"] and checks["kernel"]["ok"]
    version = health.metadata.version
    monkeypatch.setattr(health.metadata, "version", lambda name: "7.3.0" if name == "ipykernel" else version(name))
    checks = {check["name"]: check for check in json.loads(call("doctor", "--json").stdout)}
    assert not checks["kernel"]["ok"] and "ipykernel" in checks["kernel"]["message"]
