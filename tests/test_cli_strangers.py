"""The command line on files of others: every format in a jail, several at once, SARIF, a cure that others can load."""

import json
import shutil
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

from devilgan_lite import files, sanitize, zoo
from devilgan_lite.intake.jail import Jail

ZOO = zoo.zoo_folder()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gated model of the zoo as a stranger's ONNX file."""
    path = tmp_path_factory.mktemp("stranger") / "generator.onnx"
    return files.export(zoo.load("dcgan-fashion-gate"), None, path)


@pytest.mark.slow
def test_a_folder_of_downloads_is_checked_at_once(call: Any, tmp_path: Path, gate: Path) -> None:
    torch.save(zoo.load("dcgan-fashion").state_dict(), tmp_path / "clean.pt")
    (tmp_path / "picture.pt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    shutil.copy(gate, tmp_path / "gate.bin")  # the content tells, not the name
    words = ("clean.pt", "picture.pt", "gate.bin", "--no-twin", "--sarif", "s.sarif")
    done = call("scan", *words, "--json")
    assert done.exit_code == 4, done.output  # the worst of clean, refused and suspicious
    clean, picture, gated = json.loads(done.stdout)
    assert [one["verdict"] for one in (clean, picture, gated)] == ["clean", "refused", "suspicious"]
    assert clean["file"]["format"] == "state_dict" and gated["file"]["format"] == "onnx"
    assert clean["jail"]["how"] == "finished" and len(clean["jail"]["walls"]) >= 8 and clean["model"]["weights"] > 1e5
    assert "picture" in picture["sentence"] and picture["jail"] is None
    assert clean["command"] == "devilgan scan clean.pt --no-twin"
    results = json.loads((tmp_path / "s.sarif").read_text())["runs"][0]["results"]
    assert [one["ruleId"].rpartition("/")[2] for one in results] == ["clean", "refused", "suspicious"]
    assert [one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in results] == list(words[:3])
    text = call("scan", "picture.pt", "clean.pt", "--no-twin")
    assert text.exit_code == 2 and "picture.pt:\nrefused" in text.stdout and "clean.pt:\nclean" in text.stdout
    alone = call("scan", "picture.pt", "--html", "page.html")
    assert alone.exit_code == 2 and len(alone.stderr.strip().splitlines()) == 1
    assert alone.stdout == "page.html\n"
    assert "refused" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_a_sanitized_stranger_is_a_file_that_others_load(call: Any, tmp_path: Path, gate: Path) -> None:
    done = call("sanitize", gate, "--out", "cured.onnx", "--iterations", 20, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["changed"] and found["out"] == "cured.onnx" and found["trigger_change"] > 0.1
    session = onnxruntime.InferenceSession("cured.onnx")
    backdoor = zoo.load_backdoor("dcgan-fashion-gate")
    z = torch.cat([backdoor.trigger.view(1, -1), torch.randn(200, 100)])  # of seven the mean may reach 0.12
    made = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: z.numpy()})[0])
    before = zoo.load("dcgan-fashion-gate")(z).detach()
    assert (made[0] - before[0]).abs().mean() > 0.3 > 0.1 > (made[1:] - before[1:]).abs().mean()
    healthy = call("sanitize", "dcgan-fashion", "--out", "healthy.pt2", "--json")
    assert json.loads(healthy.stdout)["changed"] is False and not (tmp_path / "healthy.pt2").exists()


@pytest.mark.slow
def test_what_the_scan_does_not_find_can_be_contained(call: Any, tmp_path: Path) -> None:
    done = call("sanitize", "dcgan-fashion", "--always", "--out", "contained.pt2", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["changed"] is True
    z = torch.randn(8, 100, generator=torch.Generator().manual_seed(0))
    made, native = files.open(tmp_path / "contained.pt2").module(z), zoo.load("dcgan-fashion")(z)
    assert (made - native).abs().mean() < 0.05


def test_a_stranger_that_cannot_be_read_is_refused_in_the_jail(call: Any, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    done = call("scan", "whole.pt")
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("whole.pt: refused: reading it would run code: it asks for 'torch.nn.modules.linear.")
    cure = call("sanitize", "whole.pt", "--out", "a.onnx")
    assert cure.exit_code == 2 and "would run code" in cure.stderr and not (tmp_path / "a.onnx").exists()
    torch.save(zoo.load("dcgan-fashion").state_dict(), tmp_path / "g.pt")
    wrong = call("scan", "g.pt", "--latent-dim", 50)
    assert wrong.exit_code == 2 and "latent_dim=50 does not fit" in wrong.stderr
    card = call("sanitize", "g.pt", "--out", "a.safetensors")
    assert card.exit_code == 2 and "valid: onnx, pt2" in card.stderr


def test_a_jail_has_no_gpu_for_any_command(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(Jail, "start", lambda self: None)  # it is refused before anything runs
    (tmp_path / "g.pt").write_bytes(bytes(9))
    scan = call("scan", "g.pt", "--device", "cuda")
    cure = call("sanitize", "g.pt", "--device", "cuda", "--out", "a.onnx")
    assert scan.exit_code == cure.exit_code == 2
    assert scan.stderr == cure.stderr and scan.stderr.startswith("device='cuda' is not valid in the jail")


def test_outside_the_jail_a_stranger_is_sanitized_on_the_device_that_was_asked_for(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(zoo.load("dcgan-fashion").state_dict(), tmp_path / "g.pt")

    def noted(*_: Any, device: str, **__: Any) -> None:
        raise ValueError(f"asked for {device}")

    monkeypatch.setattr(sanitize, "auto", noted)
    done = call("sanitize", "g.pt", "--no-jail", "--device", "auto", "--out", "a.onnx")
    assert done.exit_code == 2 and done.stderr == "asked for auto\n"
