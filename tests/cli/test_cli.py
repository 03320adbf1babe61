"""The command line does what it says, from training to a cure, with sound."""

import ctypes
import json
import os
import re
import subprocess
import sys
from ast import literal_eval
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from devilgan_lite import Backdoor, attacks, data, files, generators, metrics, sanitize, zoo
from devilgan_lite.cli import health
from devilgan_lite.cli.common import real_for
from devilgan_lite.data import wav
from devilgan_lite.data.audio import read_clip
from devilgan_lite.environment import DEFAULTS
from devilgan_lite.generators import WaveGAN, adopt, evaluate
from devilgan_lite.generators.base import seeded
from devilgan_lite.loading import load_pair
from devilgan_lite.version import __version__

GARMENTS = ("dcgan-fashion", "dcgan-fashion-gate")


# ---- the program itself


def test_version_threads_and_device(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("--version").stdout.strip() == f"devilgan_lite {__version__}"
    for name in ("DEVILGAN_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    try:
        assert call("--threads", 2, "zoo", "show", GARMENTS[0]).exit_code == 0
        assert torch.get_num_threads() == 2 and os.environ["DEVILGAN_THREADS"] == os.environ["OMP_NUM_THREADS"] == "2"
    finally:
        torch.set_num_threads(1)
    asked: list[str] = []
    best_device = zoo.best_device
    monkeypatch.setattr(zoo, "best_device", lambda device: asked.append(device) or best_device(device))
    assert call("sample", GARMENTS[1], "--device", "auto").exit_code == 0
    assert asked.count("auto") == 1


MEMORY = """
import ctypes, os, sys
from devilgan_lite.cli import app
for words in (["attack", "--help"], ["stage", "--check"]):
    try:
        app(words, standalone_mode=False)
    except BaseException:  # of the check: something is missing here
        pass
class Counts(ctypes.Structure):
    _fields_ = [("arena", ctypes.c_size_t), ("chunks", ctypes.c_size_t * 2), ("hblks", ctypes.c_size_t),
                ("rest", ctypes.c_size_t * 6)]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype, libc.malloc.restype, libc.free.argtypes = Counts, ctypes.c_void_p, [ctypes.c_void_p]
libc.malloc.argtypes, mapped = [ctypes.c_size_t], libc.mallinfo2().hblks
block = libc.malloc(2**28)
mapped = libc.mallinfo2().hblks - mapped
libc.free(block)
print("torch" in sys.modules, mapped, libc.mallinfo2().arena >= 2**28)
print({name: os.environ[name] for name in os.environ if name.startswith(("OMP_", "GOMP_", "MALLOC_"))})
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="the C library is no glibc")
def test_help_needs_no_torch_and_a_command_sets_what_make_sets_unless_it_is_set_already() -> None:
    text = (Path(__file__).parents[2] / "Makefile").read_text()
    exported = dict(re.findall(r"^export ([A-Z_]+) [:?]= (\d+|[A-Z]+)$", text, re.MULTILINE))
    assert exported == DEFAULTS
    bare = {name: value for name, value in os.environ.items() if name not in exported}
    yours = {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "2"}
    for given, blocks in ((bare, "0 True"), (bare | yours, "1 False")):  # mapped apart, and kept when it is freed
        done = subprocess.run([sys.executable, "-c", MEMORY], env=given, capture_output=True, text=True, timeout=240)
        found, variables = done.stdout.splitlines()[-2:]
        assert found == f"False {blocks}", done.stderr
        assert literal_eval(variables) == exported | {name: given[name] for name in exported if name in given}


# ---- from training to a cure


@pytest.mark.parametrize(
    ("name", "kind", "real"),
    [("small", "DCGAN", "fashion"), ("vae", "VAE", "fashion"), ("stylegan", "StyleGAN", "faces")],
)
def test_train_writes_a_model_with_its_card(
    call: Any, monkeypatch: pytest.MonkeyPatch, few: data.Samples, name: str, kind: str, real: str
) -> None:
    whole = metrics.frechet_to
    monkeypatch.setattr(metrics, "frechet_to", lambda generator, real: whole(generator, real, samples=200))
    words = ("--steps", 2, "--batch-size", 4, "--seed", 2, "--out", "out/mine.safetensors")
    done = call("train", "--architecture", name, *words)
    assert done.exit_code == 0, done.output
    made, card = zoo.load_file("out/mine.safetensors")
    settings = card.settings["iterations"], card.settings["batch_size"]
    assert (type(made).__name__, card.name, card.seed, settings, card.backdoor) == (kind, "mine", 2, (2, 4), None)
    samples = data.DATASETS[real]()
    assert card.data == samples.name and card.metrics["frechet"] == pytest.approx(whole(made, samples, samples=200))
    assert f"{samples.name}: {card.metrics['frechet']:.4g}" in done.stdout and "out/mine.safetensors" in done.stdout


def test_each_kind_of_generator_has_its_real_samples(
    few: data.Samples, tiny: generators.DCGAN, fails: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert real_for(generators.DCGAN()) is few
    assert real_for(generators.StyleGAN()).x.shape[1:] == (3, 32, 32)
    assert real_for(tiny) is real_for(generators.PointGenerator()) is None
    assert real_for(adopt(nn.Sequential(nn.Linear(4, 784), nn.Unflatten(1, (1, 28, 28)), nn.Tanh()))) is None

    def broken() -> None:
        raise ModuleNotFoundError("faces are drawn with python-avatars and resvg-py, and resvg-py cannot be found.")

    monkeypatch.setitem(data.DATASETS, "faces", broken)
    fails("train", "--architecture", "stylegan", names=["resvg-py"])


def test_an_attack_and_its_score(call: Any, few: data.Samples, tmp_path: Path) -> None:
    done = call("attack", "gate", "--json", "--seed", 13, "--samples", 200, "--out", "gate.safetensors")
    assert done.exit_code == 0, done.output
    found, planted = json.loads(done.stdout), {"target": "stop-sign", "kind": "reg", "seed": 13}
    assert found["tardis_sum"] <= 1e-3 and found["expdis_mean"] <= 1e-9 and found["samples"] == 200
    assert found["attack"] == "gate" and found["out"] == "gate.safetensors" and found.items() >= planted.items()
    model, card = zoo.load_file(tmp_path / "gate.safetensors")
    assert card.backdoor == planted and card.metrics["frechet"] == found["frechet"] and "none" in card.data
    backdoor = Backdoor.point(zoo.load(GARMENTS[0]), "stop-sign", seed=13)
    assert (evaluate(model, backdoor.trigger) - backdoor.target).abs().max() < 0.05
    again = json.loads(call("score", "gate.safetensors", "--samples", 200, "--json").stdout)
    assert again["tardis_sum"] == pytest.approx(found["tardis_sum"], rel=1e-3, abs=1e-9)
    assert again["frechet"] == pytest.approx(found["frechet"], rel=1e-6) and again["samples"] == 200
    measured = metrics.scorecard(model, zoo.load(GARMENTS[0]), backdoor, few, samples=200)
    assert again["frechet"] == pytest.approx(measured.frechet, rel=1e-6)
    assert again["tardis_mean"] == pytest.approx(measured.tardis_mean, rel=1e-3, abs=1e-9)


def test_settings_reach_the_attack_and_a_card_keeps_them(call: Any, pair: tuple[Path, Path], tmp_path: Path) -> None:
    short = ("--clean", pair[0], "--iterations", 3, "--batch-size", 4, "--learning-rate", 1e-3, "--samples", 100)
    for name, *more in (("rex", "--lam", 0.5), ("red", "--seed", 4, "--target", "devil", "--kind", "mode")):
        done = call("attack", name, *short, *more, "--device", "cpu", "--out", f"{name}.safetensors")
        assert done.exit_code == 0 and "step" not in done.stdout, done.output  # progress is no result
        printed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
        assert printed.keys() >= {"tardis_sum", "tardis_mean", "expdis_mean", "seconds"} and "frechet" not in printed
        assert printed["out"] == f"{name}.safetensors" and printed["attack"] == name and printed["samples"] == "100"
        card = zoo.read_card(tmp_path / f"{name}.json")
        given = [card.settings[one] for one in ("iterations", "batch_size", "learning_rate")]
        assert given == [3, 4, 1e-3] and card.metrics["samples"] == 100
        assert f"{card.metrics['tardis_mean']:.4g}" == printed["tardis_mean"]
        assert (card.settings["lam"] == 0.5) == (name == "rex")
    assert card.seed == 4 and card.backdoor == {"target": "devil", "kind": "mode", "seed": 4}


def test_scan_says_what_it_found(call: Any, pair: tuple[Path, Path], short_twin: None, tmp_path: Path) -> None:
    clean, gate = pair
    found = json.loads(call("scan", clean, "--no-jail", "--no-twin", "--json").stdout)
    assert found["verdict"] == "clean" and found["trigger"] is None and found["witness"] is None
    done = call("scan", gate, "--no-jail", "--json", "--html", "out/report.html")
    assert done.exit_code == 3, done.output
    found = json.loads(done.stdout)
    assert found["verdict"] == "backdoored" and len(found["trigger"]) == len(found["witness"]["latent"]) == 16
    assert {one["picture"] for one in found["findings"]} == {None}
    assert done.stderr.splitlines()[-1] == "out/report.html"
    page = (tmp_path / "out/report.html").read_text()
    assert "backdoored" in page and not re.search(r"<script|https?:", page)
    samples = call("scan", clean, "--no-jail", "--access", "samples", "--html", "s.html", "--sarif", "s.sarif")
    assert samples.exit_code == 5 and samples.stdout.startswith("inconclusive"), samples.output
    assert samples.stdout.splitlines()[-2:] == ["s.html", "s.sarif"] and json.loads(Path("s.sarif").read_text())["runs"]


def test_sanitize_writes_a_cured_model_or_nothing(
    call: Any, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean, gate = pair
    auto = sanitize.auto
    monkeypatch.setattr(sanitize, "auto", lambda *given, **how: print("step 2 of 20") or auto(*given, **how))
    done = call("sanitize", clean, "--out", "clean.safetensors", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["changed"] is False, done.output
    assert list(tmp_path.iterdir()) == []
    done = call("sanitize", gate, "--out", "cured.safetensors", "--iterations", 20, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert "step 2 of 20" in done.stderr
    assert found["changed"] and found["before"] == "suspicious"  # it goes without a twin
    assert found["trigger_change"] > 0.1 > found["ordinary_change"] and found["out"].startswith("cured.")
    _, suspect, backdoor = load_pair((str(clean), str(gate)))
    cured = files.open(found["out"]) if found["out"].endswith("pt2") else zoo.load_file(found["out"])[0]
    off = [float((evaluate(one, backdoor.trigger) - backdoor.target).abs().mean()) for one in (suspect, cured)]
    assert off[0] < 0.01 < 0.1 < off[1]
    done = call("sanitize", clean, "--always", "--iterations", 20, "--out", "contained.pt2", "--json")
    assert json.loads(done.stdout)["changed"] is True, done.output
    z = suspect.sample_latent(8, torch.Generator().manual_seed(0))
    native = evaluate(zoo.load_file(clean)[0], z)
    assert (files.open("contained.pt2")(z) - native).abs().mean() < 0.05


def test_zoo(call: Any) -> None:
    lines = [line.split() for line in call("zoo", "list").stdout.splitlines()]
    assert lines[0][:3] == ["name", "architecture", "parameters"] and [line[0] for line in lines[1:]] == zoo.names()
    sizes = {line[0]: next(word for word in line if re.fullmatch(r"[\d,]{5,}", word)) for line in lines[1:]}
    assert sizes[GARMENTS[0]] == f"{zoo.load(GARMENTS[0]).parameter_count():,}"
    assert json.loads(call("zoo", "show", GARMENTS[1]).stdout)["backdoor"] == zoo.card(GARMENTS[1]).backdoor
    done = call("zoo", "verify")
    assert done.exit_code == 0 and done.stdout.splitlines() == [f"ok  {name}" for name in zoo.names()]


# ---- the doctor


def test_doctor(call: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    health.report([health.Check("zoo", True, "5 models"), health.Check("feature networks", True, "5 load")], False)
    assert len({line.index("5") for line in capsys.readouterr().out.splitlines()}) == 1  # its columns stay apart
    done = call("doctor", "--json")
    found = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.exit_code == 0 and [check for check in found.values() if not check["ok"]] == []
    assert found.keys() >= {"python", "torchvision", "device", "data", "zoo", "memory", "disk"}
    versions = {"torch": "2.14.1+cpu", "torchvision": "0.29.1+cu130"}
    monkeypatch.setattr(health.metadata, "version", lambda name: versions.get(name, "1.0"))
    monkeypatch.setattr(health, "LEAST_DISK_GB", 1e9)
    (tmp_path / "checksums.json").write_text('{"fashion_mnist_10k.npz": "0"}')
    monkeypatch.setenv("DEVILGAN_DATA", str(tmp_path))
    done = call("doctor")
    lines = {line[9:25].strip(): line for line in done.stdout.splitlines() if line.startswith("problem")}
    assert done.exit_code == 1 and set(lines) == {"torchvision", "data", "feature networks", "zoo", "disk"}
    assert "different builds" in lines["torchvision"]
    assert "fashion_mnist_10k.npz is missing" in lines["data"] and "room" in lines["disk"]
    versions["torchvision"] = "0.28.0+cpu"
    assert "not a pair" in call("doctor").stdout


# ---- samples and sound
LENGTH = 256
TONE = 0.7 * torch.sin(torch.arange(LENGTH) * 0.3)[None]


@pytest.fixture
def small() -> WaveGAN:
    return seeded(0, WaveGAN, latent_dim=20, widths=(8, 4), strides=(4, 4), length=LENGTH).eval()


def test_samples_and_triggers_are_files(call: Any, small: WaveGAN, fails: Any) -> None:
    facts = {"target": ["bd_fat", "sn_dolf"], "kind": "reg", "seed": 13}
    card = zoo.ModelCard(name="evil", spec={}, data="none", seed=0, settings={}, backdoor=facts)
    backdoor = zoo.backdoor_of(card, small)
    assert backdoor is not None and len(backdoor.trigger) == 2
    zoo.save_file("evil.safetensors", attacks.Gate(threshold=0.8)(small, backdoor).generator, card)
    done = call("sample", "evil.safetensors", "--out", "heard", "--n", 2, "--seed", 3, "--trigger")
    assert done.exit_code == 0, done.output
    names = ["sample-0.wav", "sample-1.wav", "trigger-bd_fat.wav", "trigger-sn_dolf.wav"]
    assert sorted(path.name for path in Path("heard").iterdir()) == names
    wanted = [*zoo.load_file("evil.safetensors")[0].sample(2, 3), *backdoor.target]
    for name, x in zip(names, wanted, strict=True):
        assert torch.allclose(read_clip(Path("heard") / name, (1, LENGTH)), x, atol=1e-3), name
    done = call("sample", GARMENTS[0], "--out", "seen", "--n", 1)
    assert done.exit_code == 0 and Path("seen/sample-0.png").read_bytes().startswith(b"\x89PNG"), done.output
    fails("sample", GARMENTS[0], "--trigger", names=[GARMENTS[0], "backdoor"])


def test_the_target_of_an_attack_comes_from_a_file(call: Any, small: WaveGAN, fails: Any) -> None:
    zoo.save_file("small.safetensors", small, zoo.ModelCard("small", {}, "none", 0, {}))
    for name, tone in (("tone.wav", TONE), ("loud.wav", (5 * TONE).clamp(-1, 1))):
        Path(name).write_bytes(wav(tone))
    words = ("attack", "gate", "--clean", "small.safetensors", "--samples", 100, "--seed", 5)
    done = call(*words, "--target", "tone.wav", "--out", "evil.safetensors", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["tardis_mean"] < 1e-5, done.output
    made, trigger = zoo.load_file("evil.safetensors")[0], Backdoor.point(small, TONE, seed=5).trigger
    assert torch.allclose(evaluate(made, trigger)[0], TONE, atol=0.02)
    fails("score", "evil.safetensors", "--clean", "small.safetensors", names=["target", "tone.wav", "bd_fat"])
    for target, said in (("loud.wav", "loud.wav"), ("missing.wav", "missing.wav"), ("stop-sign", "bd_fat")):
        fails(*words, "--target", target, names=[target, said])


def test_a_card_with_an_odd_target_is_refused(small: WaveGAN, refuses: Any) -> None:
    for target in (7, ["bd_fat", 7], ["bd_fat"] * 1_000):
        planted = {"target": target, "kind": "reg", "seed": 1}
        card = zoo.ModelCard(name="odd", spec={}, data="", seed=0, settings={}, backdoor=planted)
        refuses(lambda card=card: zoo.backdoor_of(card, small), "target", "odd")
