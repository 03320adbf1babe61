"""From a stranger's bytes to a report and to a cure: in the jail, with its walls, and never a traceback."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from devilgan_lite.files.sniff import Refused
from devilgan_lite.generators import Generator
from devilgan_lite.intake import check as module
from devilgan_lite.intake.check import Options, check
from devilgan_lite.intake.cure import Cure, cure, take
from devilgan_lite.intake.jail import IMPORTS, Ended, Jail, Limits

QUICK = Options(twin=False)


@pytest.fixture(scope="module")
def jail() -> Iterator[Jail]:
    if sys.platform != "linux":
        pytest.skip("the walls are Linux's")
    with Jail(imports=(*IMPORTS, "torch._dynamo")) as opened:  # which each child would import else
        yield opened


@pytest.fixture(scope="module")
def weights(tiny: Generator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "g.pt"
    torch.save(tiny.state_dict(), path)
    return path


def test_a_file_becomes_a_report_inside_as_outside(jail: Jail, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(weights.parent)
    events: list[dict[str, Any]] = []
    options = Options(twin=False, bank=True, reference=weights.name)  # read in the jail, from another folder
    report = check(weights, options, jail=jail, name="<b>x.pt", on_event=events.append)
    assert report["verdict"] == "clean" and report["format"] == module.FORMAT
    assert report["file"]["bytes"] == weights.stat().st_size and len(report["file"]["sha256"]) == 64
    assert report["file"]["name"] == "<b>x.pt" and report["file"]["format"] == "state_dict"
    assert report["model"]["latent_shape"] == [16] and report["model"]["sample_shape"] == [1, 8, 8]
    assert report["jail"]["how"] == "finished"
    assert {"cpu", "files", "memory", "network", "reading", "writing"} <= report["jail"]["walls"].keys()
    findings = report["findings"]
    found = [finding["detector"] for finding in findings]
    assert [event.get("detector", event["event"]) for event in events] == ["opened", *found]
    assert {"reference", "reconstruction"} <= set(found) and len(found) >= 7
    json.dumps(report, allow_nan=False)
    outside = check(weights, replace(options, bank=False), jail=None)
    assert outside["jail"] is None and outside["verdict"] == report["verdict"]
    both = [finding for finding in findings if finding["detector"] != "reconstruction"]
    for one, other in zip(both, outside["findings"], strict=True):
        assert one["message"] == other["message"] or one["score"] == pytest.approx(other["score"], rel=1e-3)


def test_what_cannot_be_opened_or_changes_or_takes_too_much_gets_a_report_too(
    jail: Jail, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save(nn.Linear(2, 2), tmp_path / "code.pt")
    torch.save(nn.Sequential(nn.Linear(784, 9), nn.ReLU(), nn.Linear(9, 10)).state_dict(), tmp_path / "c.pt")
    nan = torch.load(weights)
    nan["layers.dense.weight"][0, 0] = float("nan")
    torch.save(nan, tmp_path / "nan.pt")
    for name, words in {"empty.pt": "empty", "code.pt": "code", "c.pt": "classifier", "nan.pt": "finite"}.items():
        report = check(tmp_path / name, QUICK, jail=jail)
        assert report["verdict"] == "refused" and words in report["sentence"], report["sentence"]
        assert len(report["sentence"]) <= 300 and "findings" not in report
    with pytest.raises(FileNotFoundError):
        check(tmp_path / "nowhere.pt", jail=jail)
    slow = check(weights, Options(), jail=jail, limits=Limits(wall_seconds=1.0))
    assert slow["verdict"] == "refused" and slow["jail"]["how"] == "killed" and "1 s" in slow["sentence"]
    assert check(weights, Options(), jail=jail, cancelled=lambda: True)["jail"]["how"] == "cancelled"
    real = module.facts  # a file that changes meanwhile
    monkeypatch.setattr(module, "facts", lambda *args, **named: replace(real(*args, **named), sha256="0" * 64))
    assert "changed" in check(weights, QUICK, jail=jail)["sentence"]


def test_what_a_child_says_is_no_report_by_itself_and_a_card_that_is_a_link_opens_no_other_file(
    jail: Jail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "g.safetensors"
    file.write_bytes((10).to_bytes(8, "little") + b"{" + bytes(20))
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "g.json").symlink_to("secret")

    def says(**value: Any) -> dict[str, Any]:
        given: list[Path] = []
        run = lambda *_, reads, **how: given.extend(reads) or Ended("finished", value=value)  # noqa: E731
        monkeypatch.setattr(Jail, "run", run)
        report = check(file, QUICK, jail=jail)
        assert given == [file]
        return report

    for wrong in ({}, {"verdict": "fine", "sentence": ""}, {"verdict": "clean"}):
        assert says(**wrong)["verdict"] == "refused"
    made = says(verdict="clean", sentence="", file={"sha256": "0"}, tool="mine", settings={}, jail={}, extra=1)
    assert made["file"]["name"] == file.name and made["tool"].startswith("devilgan_lite") and "extra" not in made
    assert made["jail"]["how"] == "finished" and made["settings"]["twin"] is False


def test_the_last_lines_of_a_process_that_failed_come_home_where_they_are_asked_for(
    call: Any, jail: Jail, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))  # where the zygote finds ``attempts``
    for words, start in (("scan", f"{weights.name}: refused: "), ("sanitize --out a.onnx", "")):
        monkeypatch.setitem(module.OPERATIONS, words.split()[0], "attempts:complain")
        quiet, loud = (call(*words.split(), weights, *more) for more in ((), ("--traceback",)))
        assert quiet.exit_code == loud.exit_code == 2
        (sentence,), (first, *rest) = quiet.stderr.splitlines(), loud.stderr.splitlines()
        assert first == sentence and sentence.startswith(f"{start}RuntimeError: no? yyy")
        assert rest[0] == r"  | \x1b[2J\u202e    could not\r" and rest[-1] == rf"  | RuntimeError: no\x07 {'y' * 500}."
        assert loud.stderr.replace("\n", "").isprintable() and all(line.startswith("  | ") for line in rest)
    quiet, loud = (json.loads(call("scan", weights, "--json", *more).stdout) for more in ((), ("--traceback",)))
    assert "could not" in loud["traceback"] and quiet.keys() == loud.keys() - {"traceback"}


def test_options_say_what_differs_and_a_command_can_be_pasted_into_a_shell(
    tmp_path: Path, weights: Path, refuses: Callable[..., str]
) -> None:
    for name in ("a; touch x #.pt", "-o $(id).pt"):
        (tmp_path / name).write_bytes(b"")
        command = check(tmp_path / name, Options(targets="a b"), jail=None)["command"]
        words = shlex.split(command)
        assert words[:2] == ["devilgan", "scan"] and words[3:] == ["--targets", "a b"]
        assert words[2].removeprefix("./") == name and not words[2].startswith("-")
    options = Options(seed=3, twin=False, bank=True, reference="dcgan-fashion", latent_dim=100)
    assert options.words() == "--latent-dim 100 --seed 3 --no-twin --bank --reference dcgan-fashion"
    assert Options().words() == "" and Options().places == {}
    assert Options(reference=str(weights)).places == {"reference": str(weights)}
    for wrong in ({"seed": -1}, {"access": "all"}, {"prior": "x"}, {"latent_dim": 0}):
        refuses(lambda wrong=wrong: Options(**wrong), next(iter(wrong)))
    refuses(lambda: Options(sed=1), "Options has no setting 'sed'", error=TypeError)  # type: ignore[call-arg]


def test_a_cure_takes_only_an_ordinary_file_out_of_the_jail_and_is_refused_for_what_cannot_be_opened(
    jail: Jail, weights: Path, tmp_path: Path, refuses: Callable[..., str]
) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to("secret")
    (tmp_path / "folder").mkdir()
    (tmp_path / "other").write_text("x")
    (tmp_path / "hard").hardlink_to(tmp_path / "other")
    os.mkfifo(tmp_path / "pipe")
    for name, most in (*((name, 2**20) for name in ("link", "folder", "hard", "pipe", "nothing")), ("secret", 5)):
        with pytest.raises(Refused, match="jail"):
            take(tmp_path / name, tmp_path / "out", most)
        assert not (tmp_path / "out").exists()
    take(tmp_path / "secret", tmp_path / "out", 6)
    assert (tmp_path / "out").read_text() == "secret"

    torch.save(nn.Linear(2, 2), tmp_path / "code.pt")
    refuses(lambda: cure(tmp_path / "code.pt", tmp_path / "out.onnx", jail=jail), "code", error=Refused)
    refuses(lambda: cure(weights, tmp_path / "out.pt", jail=jail), "onnx, pt2")
    refuses(lambda: Cure(iterations=0), "iterations=0")
    found, text = cure(weights, tmp_path / "out.pt2", Cure(iterations=5), jail=jail)
    assert found["changed"] is False and text and not (tmp_path / "out.pt2").exists()
