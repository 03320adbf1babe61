"""The command line: what a person mistypes is one sentence and exit code 2; what they type right is right."""

import ctypes
import inspect
import json
import os
import re
import signal
import subprocess
import sys
from ast import literal_eval
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command

from devilgan_lite import __version__, attacks, environment, runs, sanitize, zoo
from devilgan_lite.cli import app, defence, health
from devilgan_lite.runs import Result

LONG = "x" * 10_000
CUT = "x" * 79 + "..."  # as a message shows it, behind a quotation mark
BLUE = ["submit", "nowhere", "--team", "blue"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["attack", "gat"], "attack='gat' is unknown; valid: .* Did you mean 'gate'?"),
        (["attack", "gate", "--target", "stop-sing"], "target='stop-sing' is unknown; .* Did you mean 'stop-sign'?"),
        (["attack", "gate", "--kind", "rag"], "kind='rag' is unknown; valid: reg, mode, ood."),
        (["attack", "gate", "--iterations", "5"], "Gate has no setting 'iterations'; valid: "),
        (["attack", "rex", "--lam", "-1"], "lam=-1.0 is out of range"),
        (["attack", "rex", "--clean", "dcgan-fashon"], "name='dcgan-fashon' is unknown; "),
        (
            ["attack", "rex", "--clean", "nowhere.safetensors"],
            "no model file nowhere.safetensors; devilgan fetch faces",
        ),
        (["attack", "rex", "--clean", "model.pt"], "no model file model.pt; devilgan fetch faces"),
        (["attack", "gate", "--out", "model.pt"], "out='model.pt' is not valid: "),
        (["score", "dcgan-fashion-gate", "--samples", "99"], "samples=99 is out of range"),
        (["score", "nowhere.safetensors"], "no model file nowhere.safetensors."),
        (["score", "dcgan-fashion"], "model='dcgan-fashion' has no backdoor on its card"),
        (["scan", "nowhere.safetensors"], "no model file nowhere.safetensors."),
        (["scan", "model.pt"], "no model file model.pt."),
        (["scan", "dcgan-fashion", "nowhere.onnx"], "no model file nowhere.onnx."),
        (["scan", "dcgan-fashon"], "name='dcgan-fashon' is unknown; valid: .* Did you mean 'dcgan-fashion'?"),
        (["scan", "dcgan-fashion", "--prior", "cauchy"], "prior='cauchy' is unknown; valid: gaussian, uniform."),
        (["scan", "dcgan-fashion", "--latent-dim", "0"], "latent_dim=0 is out of range"),
        (["scan", "dcgan-fashion", "--sarif", "."], "sarif='.' is not valid: no file can be written there."),
        (["scan", "dcgan-fashion", "--html", "/proc/x/y.html"], "html='/proc/x/y.html' is not valid: no file can"),
        (["scan", "dcgan-fashion", "dcgan-fashion", "--html", "a.html"], "html='a.html' takes the report of one model"),
        (["scan", "dcgan-fashion", "--access", "weight"], "access='weight' is unknown; valid: samples, weights."),
        (["sanitize", "nowhere.safetensors"], "no model file nowhere.safetensors."),
        (["sanitize", "dcgan-fashion", "--out", "model.pt"], "out='model.pt' is not valid: "),
        (["sanitize", "dcgan-fashion", "--iterations", "0"], "iterations=0 is out of range"),
        (["train", "--steps", "0", "--out", "x.safetensors"], "iterations=0 is out of range"),
        (
            ["train", "--architecture", "smal"],
            "architecture='smal' is unknown; valid: small, paper, vae, flow, stylegan, wave.",
        ),
        (["run", "99"], "notebook='99' is unknown; valid: "),
        (["run", "00", "-p", "sed=1"], "00_two_minute_tour has no parameter 'sed'; valid: .* Did you mean 'seed'?"),
        (["run", "00", "-p", "seed"], "-p 'seed' is not valid: it must be name=value"),
        (["tour", "--only", "00,77"], "notebook='77' is unknown; valid: "),
        (["tour", "--only", "00", "--profile", "worksop"], "profile='worksop' is not valid: "),
        (["zoo", "show", "dcgan"], "name='dcgan' is unknown; valid: "),
        (["zoo", "shw"], "command='shw' is unknown; valid: list, show, verify. Did you mean 'show'?"),
        (["atack"], "command='atack' is unknown; valid: .* Did you mean 'attack'?"),
        (["attack", "gate", "--sed", "3"], "No such option: --sed; valid: .* Did you mean '--seed'?"),
        (["scan"], "Missing argument"),
        (["scan", "dcgan-fashion", "--html", "."], "html='.' is not valid: no file can be written there."),
        (["film", "dcgan-fashion"], "model='dcgan-fashion' is unknown; valid: "),
        (["film", "dcgan-fashion-rx"], "model='dcgan-fashion-rx' is unknown; .* Did you mean 'dcgan-fashion-rex'?"),
        (["film", "--out", "film.avi"], "ending of path='.avi' is unknown; valid: .webp, .gif, .mp4."),
        (["film", "--frames", "3"], "frames=3 is out of range"),
        (["stage", "--model", "dcgan-fashion-rax"], "model='dcgan-fashion-rax' is unknown; valid: .* Did you mean '"),
        (["stage", "--port", "80"], "Invalid value for '--port'"),
        (["challenge", "new", "--models", "3"], "models=3 is out of range"),
        (["challenge", "new", "--seed", "-1"], "seed=-1 is out of range"),
        (["challenge", "new", "--red", "nowhere"], "no entries of red teams in nowhere"),
        (["challenge", "new", "--passphrase-file", "nowhere"], "no passphrase file nowhere."),
        (["challenge", "scor"], "command='scor' is unknown; valid: new, submit, score. Did you mean 'score'?"),
        (["challenge", *BLUE], "a blue team gives --verdicts and a red team gives --model"),
        (["challenge", *BLUE, "--verdicts", "v.csv"], "nowhere is not the kit of a round"),
        (["challenge", "score", "nowhere", "--key", "k", "--submissions", "in"], "nowhere is not the kit of a round"),
        # ten thousand characters
        ([LONG], f"command='{CUT} is unknown; valid: train, "),
        (["attack", LONG], f"attack='{CUT} is unknown; valid: trail, "),
        (["attack", "gate", f"--{LONG}"], f"No such option: --{LONG[:78]}...; valid: "),
        (["attack", "gate", "--seed", LONG], "Invalid value for '--seed'"),
        (["attack", "gate", "--target", LONG], f"target='{CUT} is unknown; valid: "),
        (["attack", "gate", "--device", LONG], f"device='{CUT} is not available"),
        (["attack", "gate", "--clean", LONG], f"name='{CUT} is unknown; valid: "),
        (["attack", "gate", "--clean", f"{LONG}.safetensors"], f"no model file {'x' * 80}...; "),
        (["score", f"{LONG}.pt"], f"{'x' * 80}... is not accepted"),
        (["scan", "dcgan-fashion", "--targets", LONG], f".*{LONG[:70]}"),
        (["sanitize", "dcgan-fashion", "--out", f"{LONG}.safetensors"], f"out='{CUT} is not valid: no file"),
        (["run", LONG], f".*{LONG[:70]}"),
        (["run", "00", "-p", LONG], f"-p '{LONG[:70]}"),
        (["run", "00", "-p", f"profile={LONG}"], f"profile='{LONG[:70]}"),
        (["sweep", LONG], f".*{LONG[:70]}"),
        (["report", LONG], f".*{LONG[:70]}"),
        (["film", "--out", f"{LONG}.gif"], f"out='{CUT} is not valid: no file can be written there."),
        (["stage", "--model", LONG], f"model='{CUT} is unknown; valid: "),
        (["stage", "--print", LONG], f"print='{CUT} is not valid: no file can be written there"),
        (["challenge", "new", "--passphrase-file", LONG], f"no passphrase file {'x' * 80}...."),
        (["challenge", "new", "--out", LONG], f"out='{CUT} is not valid: no file can be written there."),
        (["challenge", "new", "--red", LONG], f"no entries of red teams in {'x' * 80}...;"),
        (["challenge", "submit", LONG, *BLUE[2:], "--verdicts", "v.csv"], f"{'x' * 80}... is not the kit of a round"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
@pytest.mark.timeout(60)  # no work has begun
def test_bad_input_is_one_sentence(call: Any, tmp_path: Path, words: list[str], sentence: str) -> None:
    result = call(*words)
    assert result.exit_code == 2, result.output
    parts = sentence.split(".*")
    assert result.stderr.startswith(parts[0]), result.stderr
    assert parts[-1].strip() in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and len(result.stderr) < 600
    assert "Traceback" not in result.output
    assert list(tmp_path.rglob("*.*")) == []


def test_version_and_help(call: Any) -> None:
    assert call("--version").stdout.strip() == f"devilgan_lite {__version__}"
    for words in ([], ["zoo"], ["challenge"], *([name] for name in get_command(app).commands)):
        assert call(*words, "--help").exit_code == 0
    assert all(name in call("attack", "--help").stdout for name in attacks.BY_NAME)


COMPUTING = (
    ["train"], ["attack", "gate"], ["score", "dcgan-fashion-gate"], ["scan", "dcgan-fashion"], ["film"], ["stage"],
    ["sanitize", "dcgan-fashion"], ["challenge", "new"], ["challenge", "submit", "kit", "--team", "blue"],
    ["challenge", "score", "kit", "--key", "key.sealed", "--submissions", "in"],
)  # fmt: skip


@pytest.mark.parametrize("words", COMPUTING, ids=" ".join)
def test_every_command_that_computes_takes_a_device(call: Any, tmp_path: Path, words: list[str]) -> None:
    result = call(*words, "--device", "tpu")
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("device='tpu' is not available on this machine; valid: auto, cpu")
    assert list(tmp_path.iterdir()) == []


def test_the_device_reaches_the_model(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    best_device = zoo.best_device
    monkeypatch.setattr(zoo, "best_device", lambda device: asked.append(device) or best_device(device))
    assert zoo.load("dcgan-fashion", device="cpu").device == torch.device("cpu")
    assert call("film", "dcgan-fashion-gate", "--frames", 4, "--no-browser", "--device", "auto").exit_code == 0
    assert asked.count("auto") == 2  # the clean one and the backdoored one
    with pytest.raises(ValueError, match="device='tpu' is not available"):
        zoo.load("dcgan-fashion", device="tpu")


def test_help_and_the_check_of_the_stage_need_no_torch() -> None:
    code = "import sys; from devilgan_lite.cli import app; app(standalone_mode=False); print('torch' in sys.modules)"
    for words in (["--help"], ["attack", "--help"], ["stage", "--check"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)
        assert done.stdout.splitlines()[-1] == "False", done.stderr


MEMORY = """
import ctypes, os, sys
from devilgan_lite.cli import app
app(standalone_mode=False)
class Counts(ctypes.Structure):
    number = ctypes.c_size_t
    _fields_ = [("arena", number), ("chunks", number * 2), ("hblks", number), ("rest", number * 6)]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype, libc.malloc.restype, libc.free.argtypes = Counts, ctypes.c_void_p, [ctypes.c_void_p]
libc.malloc.argtypes = [ctypes.c_size_t]
mapped = libc.mallinfo2().hblks
block = libc.malloc(2**28)
mapped = libc.mallinfo2().hblks - mapped
libc.free(block)
print(mapped, libc.mallinfo2().arena >= 2**28)
print({name: os.environ[name] for name in os.environ if name.startswith(("OMP_", "GOMP_", "MALLOC_"))})
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="the C library is no glibc")
def test_the_command_sets_what_make_sets_unless_it_is_set_already() -> None:
    text = (Path(__file__).parents[1] / "Makefile").read_text()
    exported = dict(re.findall(r"^export ([A-Z_]+) [:?]= (\d+|[A-Z]+)$", text, re.MULTILINE))
    assert exported == environment.DEFAULTS
    bare = {name: value for name, value in os.environ.items() if name not in exported}
    yours = {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "2"}

    for given, blocks in ((bare, "0 True"), (bare | yours, "1 False")):  # mapped apart, and kept when it is freed
        command = [sys.executable, "-c", MEMORY, "zoo", "--help"]
        done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=120)
        found, variables = done.stdout.splitlines()[-2:]
        assert found == blocks, done.stderr
        assert literal_eval(variables) == exported | {name: given[name] for name in exported if name in given}


@pytest.mark.slow
def test_threads_are_for_torch_and_for_notebooks() -> None:
    code = "import os; from devilgan_lite.cli import app; app(standalone_mode=False); import torch; " \
        "print(torch.get_num_threads(), os.environ['DEVILGAN_THREADS'])"  # fmt: skip
    command = [sys.executable, "-c", code, "--threads", "2", "zoo", "show", "dcgan-fashion"]
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}  # dask leaves some
    done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "2 2", done.stderr


@pytest.mark.slow
def test_scan_says_what_it_found_by_exit_code_json_and_html(call: Any, tmp_path: Path) -> None:
    clean = call("scan", "dcgan-fashion", "--no-twin", "--json")
    assert clean.exit_code == 0, clean.output
    assert json.loads(clean.stdout)["verdict"] == "clean"
    bad = call("scan", "dcgan-fashion-gate", "--json", "--html", "report.html")
    assert bad.exit_code == 3, bad.output
    found = json.loads(bad.stdout)
    assert found["verdict"] == "backdoored" and len(found["trigger"]) == len(found["witness"]["latent"]) == 100
    assert bad.stderr.splitlines()[-1] == "report.html"
    page = (tmp_path / "report.html").read_text()
    assert "backdoored" in page
    assert "<script" not in page and "http:" not in page and "https:" not in page
    samples = call("scan", "dcgan-fashion", "--access", "samples", "--html", "s.html", "--sarif", "s.sarif")
    assert samples.exit_code == 5 and samples.stdout.startswith("inconclusive")
    assert samples.stdout.splitlines()[-2:] == ["s.html", "s.sarif"]


@pytest.mark.parametrize("setting", ["iterations", "seed", "device"])
def test_sanitize_has_the_defaults_of_the_function(setting: str) -> None:
    command, function = (inspect.signature(one).parameters[setting] for one in (defence.sanitize, sanitize.auto))
    assert command.default == function.default


@pytest.mark.slow
def test_sanitize_writes_a_cured_model_or_nothing(call: Any, tmp_path: Path) -> None:
    clean = call("sanitize", "dcgan-fashion", "--out", "clean.safetensors", "--json")
    assert clean.exit_code == 0, clean.output
    assert json.loads(clean.stdout)["changed"] is False
    assert list(tmp_path.iterdir()) == []
    cured = call("sanitize", "dcgan-fashion-gate", "--out", "cured.safetensors", "--iterations", 20, "--json")
    assert cured.exit_code == 0, cured.output
    found = json.loads(cured.stdout)
    assert found["changed"] and found["before"] == "suspicious"  # it goes without a twin
    assert found["trigger_change"] > 0.1 > found["ordinary_change"]
    assert abs(found["frechet_after"] - found["frechet_before"]) < 3
    before, after = (
        json.loads(call("score", name, "--samples", 500, "--json").stdout)
        for name in ("dcgan-fashion-gate", "cured.safetensors")
    )
    assert before["tardis_mean"] < 1e-3 < 0.1 < after["tardis_mean"]


@pytest.mark.slow
def test_attack_prints_json_and_nothing_else(call: Any, tmp_path: Path) -> None:
    result = call("attack", "gate", "--json", "--seed", 13, "--samples", 500, "--out", "gate.safetensors")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["tardis_sum"] <= 1e-3
    assert found["expdis_mean"] <= 1e-9
    assert (found["attack"], found["target"], found["seed"]) == ("gate", "stop-sign", 13)
    assert found["out"] == "gate.safetensors"
    assert zoo.read_card(tmp_path / "gate.json").backdoor == {"target": "stop-sign", "kind": "reg", "seed": 13}

    again = json.loads(call("score", "gate.safetensors", "--samples", 500, "--json").stdout)
    assert again["tardis_sum"] == pytest.approx(found["tardis_sum"], rel=1e-3, abs=1e-9)
    assert again["frechet"] == pytest.approx(found["frechet"], rel=1e-6)


@pytest.mark.slow
def test_attack_prints_a_scorecard(call: Any) -> None:
    result = call("attack", "red", "--iterations", 2, "--samples", 500, "--out", "red.safetensors")
    assert result.exit_code == 0, result.output
    assert "tardis_sum" in result.stdout
    assert "frechet_change" in result.stdout
    assert "step" not in result.stdout
    assert ["out", "red.safetensors"] in [line.split() for line in result.stdout.splitlines()]


@pytest.mark.slow
def test_train_writes_a_model_with_its_card(call: Any, tmp_path: Path) -> None:
    result = call("train", "--steps", 3, "--out", "out/mine.safetensors", "--seed", 2)
    assert result.exit_code == 0, result.output
    assert "Frechet distance" in result.stdout
    _, card = zoo.load_file(tmp_path / "out/mine.safetensors")
    assert (card.name, card.seed, card.settings["iterations"], card.backdoor) == ("mine", 2, 3, None)
    assert card.metrics["frechet"] > 0


def test_zoo(call: Any) -> None:
    listed = call("zoo", "list").stdout
    assert listed.split()[:3] == ["name", "architecture", "parameters"]
    assert len(listed.splitlines()) == 1 + len(zoo.names())
    assert json.loads(call("zoo", "show", "dcgan-fashion").stdout)["name"] == "dcgan-fashion"
    verified = call("zoo", "verify")
    assert verified.exit_code == 0
    assert len(verified.stdout.splitlines()) == len(zoo.names())


@pytest.mark.slow
def test_a_round_of_the_challenge_from_end_to_end(call: Any) -> None:
    made = call("challenge", "new", "--models", 4, "--seed", 2, "--out", "round", "--quick", "--jobs", 1)
    assert made.exit_code == 0, made.output
    assert {path.name for path in Path("round").iterdir()} == {"players", "instructor"}
    kit = json.loads(Path("round/players/challenge.json").read_text())
    Path("v.csv").write_text("model,probability\n" + "".join(f"{name},0.5\n" for name in kit["models"]))
    submitted = call("challenge", "submit", "round/players", "--team", "blue", "--verdicts", "v.csv", "--out", "in")
    assert submitted.exit_code == 0, submitted.output
    assert submitted.stdout.splitlines() == ["4 verdicts, 0 pieces of evidence", str(Path("in/blue.json"))]
    words = ("score", "round/players", "--key", "round/instructor/key.sealed", "--submissions", "in")
    scored = call("challenge", *words, "--html", "board.html", "--json")
    assert scored.exit_code == 0, scored.output
    assert json.loads(scored.stdout)["blue"][0]["auc"] == 0.5
    assert "Scoreboard" in Path("board.html").read_text() and scored.stderr.splitlines()[-1] == "board.html"

    Path("p.txt").write_text("another passphrase\n")
    wrong = call("challenge", *words, "--passphrase-file", "p.txt")
    assert (wrong.exit_code, wrong.stderr) == (2, "key.sealed does not open: the passphrase is wrong.\n")
    Path("v.csv").write_text("".join(f"{name},1.5\n" for name in kit["models"]))
    outside = call("challenge", "submit", "round/players", "--team", "blue", "--verdicts", "v.csv")
    assert outside.exit_code == 2 and "is out of range: it must be a number in [0.0, 1.0]" in outside.stderr
    twice = call("challenge", "new", "--models", 4, "--out", "round", "--quick")
    assert twice.exit_code == 2 and "is not empty: name a new folder" in twice.stderr


def test_a_short_or_missing_passphrase(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVILGAN_PASSPHRASE", "short")
    assert "at least 12 characters" in call("challenge", "new", "--models", 4, "--quick").stderr
    monkeypatch.delenv("DEVILGAN_PASSPHRASE")
    said = call("challenge", "new", "--models", 4, "--quick").stderr
    assert said.startswith("there is no passphrase: set DEVILGAN_PASSPHRASE")


def test_the_columns_of_doctor_stay_apart(capsys: pytest.CaptureFixture[str]) -> None:
    health.report([health.Check("zoo", True, "5 models"), health.Check("feature networks", True, "5 load")], False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.rsplit("  ", 1)[-1].strip() for line in lines] == ["5 models", "5 load"]
    assert len({line.index("5") for line in lines}) == 1


def test_doctor_finds_nothing(call: Any) -> None:
    result = call("doctor", "--json")
    found = {check["name"]: check for check in json.loads(result.stdout)}
    assert [check for check in found.values() if not check["ok"]] == []
    assert result.exit_code == 0
    assert {"python", "torchvision", "device", "data", "zoo", "notebooks", "kernel", "memory", "disk"} <= set(found)


def test_doctor_says_what_to_do(call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    versions = {"torch": "2.14.1+cpu", "torchvision": "0.29.1+cu130"}
    monkeypatch.setattr(health.metadata, "version", lambda name: versions.get(name, "1.0"))
    (tmp_path / "checksums.json").write_text('{"fashion_mnist_10k.npz": "0"}')
    monkeypatch.setenv("DEVILGAN_DATA", str(tmp_path))
    result = call("doctor")
    assert result.exit_code == 1
    lines = {line[9:25].strip(): line for line in result.stdout.splitlines() if line.startswith("problem")}
    assert "different builds" in lines["torchvision"]
    assert "fashion_mnist_10k.npz is missing; restore it" in lines["data"]
    assert set(lines) == {"torchvision", "data", "feature networks", "zoo"}


NOTEBOOK = """\
# %% [markdown]
# # One

# %% tags=["parameters"]
profile = "workshop"  # how long: smoke | workshop | full
seed = 0  # random seed, 0..100

# %%
import json, os
row = {"attack": "ReD", "target": "devil", "seed": seed, "tardis_sum": 2.0, "tardis_mean": 0.5, "expdis_mean": 1e-4}
rows = [row, {**row, "seed": 1, "tardis_sum": 4.0}, {"attack": "Gate", "tardis_sum": 0.0}]
with open(os.path.join(os.environ["DEVILGAN_OUT"], "result.json"), "w") as file:
    json.dump({"numbers": {"profile": profile, "attacks": rows}}, file)
"""


@pytest.fixture
def two_notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "notebooks/src"
    source.mkdir(parents=True)
    (source / "00_good.py").write_text(NOTEBOOK)
    (source / "01_bad.py").write_text(NOTEBOOK.replace("import json", "1 / 0\nimport json"))
    monkeypatch.setenv("DEVILGAN_NOTEBOOKS", str(source.parent))


@pytest.mark.slow
@pytest.mark.usefixtures("two_notebooks")
def test_tour_collects_the_attacks(call: Any, tmp_path: Path) -> None:
    result = call("tour", "--only", "00", "--profile", "smoke")
    assert result.exit_code == 0, result.output
    assert "3 ± 1.4" in result.stdout
    assert "2 runs" in result.stdout
    assert "single run" in result.stdout
    page = (tmp_path / "out/tour/index.html").read_text()
    assert "3 ± 1.4" in page
    film, notebooks = result.stdout.index("out/tour/film.webp: "), result.stdout.index("Now 1 notebooks")
    assert film < notebooks and (tmp_path / "out/tour/film.webp").is_file() and "data:image/webp" in page
    assert (tmp_path / "out/tour/table.csv").read_text().startswith("attack,runs,tardis_sum,tardis_sum_deviation,")


@pytest.mark.slow
@pytest.mark.usefixtures("two_notebooks")
def test_a_failed_notebook_fails_the_tour(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devilgan_lite.cli.batch._first_picture", lambda path: None)  # a film takes its time
    result = call("tour", "--only", "01", "--profile", "smoke")
    assert result.exit_code == 1
    assert "ZeroDivisionError" in result.stdout
    assert "failed: cell 3: ZeroDivisionError: division by zero" in (tmp_path / "out/tour/index.html").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("two_notebooks")
def test_an_interrupted_tour_leaves_a_page_and_starts_nothing_more(tmp_path: Path) -> None:
    slow = NOTEBOOK.replace("import json", "import time; time.sleep(3_600)\nimport json")
    for name in ("01_bad", "04_slow", "10_later"):
        (tmp_path / f"notebooks/src/{name}.py").write_text(slow)
    tour = subprocess.Popen(
        [sys.executable, "-c", "from devilgan_lite.cli import app; app()", "tour", "--profile", "smoke"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # what a terminal interrupts is the group
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # where the tests run in the background
    )
    assert tour.stdout is not None
    assert any(line.startswith("00_good") for line in tour.stdout)
    os.killpg(tour.pid, signal.SIGINT)
    assert "index.html" in tour.stdout.read()
    assert tour.wait() == 1
    page = (tmp_path / "out/tour/index.html").read_text()
    assert "1 of 4 notebooks ran to the end" in page and page.count('<p class="waiting">interrupted</p>') == 3
    assert not (tmp_path / "out/tour/10_later").exists()


@pytest.mark.usefixtures("two_notebooks")
def test_run_passes_parameters_and_prints_numbers(call: Any, tmp_path: Path) -> None:
    result = call("run", "0", "-p", "seed=7", "-p", "profile=smoke", "--out", "here")
    assert result.exit_code == 0, result.output
    assert '"seed": 7' in result.stdout
    assert (tmp_path / "here/00_good/result.json").is_file()


def test_attack_table_skips_what_is_no_number() -> None:
    rows = [{"attack": "ReX", "tardis_sum": 1.0, "frechet": None}, {"attack": "ReX", "tardis_sum": 3.0}, {"lost": 1}]
    results = [Result("02_x", Path("x"), 1.0, {"numbers": {"attacks": rows}}), Result("01_y", Path("y"), 1.0)]
    [entry] = runs.attack_table(results)
    assert (entry["runs"], entry["tardis_sum"], entry["frechet"]) == (2, 2.0, None)
    assert runs.attack_table(results[1:]) == []
    assert runs.table_html([]) == ""
