"""Submissions: what is complete is written and read back; whatever is wrong gets one sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save, save_file

from devilgan_lite import challenge
from devilgan_lite.challenge import Submission


def even(kit: challenge.Kit) -> dict[str, float]:
    return dict.fromkeys(kit.models, 0.5)


def test_round_trip(kit: challenge.Kit, tmp_path: Path) -> None:
    first, second, *_ = kit.models
    evidence = {first: torch.randn(100), second: torch.zeros(1, 28, 28)}
    submission = Submission.of(kit, "blue 2", even(kit), evidence)
    path = challenge.write_submission(tmp_path, submission)
    assert path.name == "blue_2.json"
    found = challenge.read_submission(path, kit)
    assert (found.team, found.challenge, found.verdicts) == ("blue 2", kit.id, even(kit))
    assert all(torch.equal(found.evidence[name], evidence[name]) for name in evidence)


BAD: dict[str, tuple[Callable[[list[str]], dict[str, float]], str]] = {
    "missing": (lambda names: dict.fromkeys(names[1:], 0.5), "1 of 6 models have no verdict"),
    "unknown": (lambda names: {**dict.fromkeys(names, 0.5), "garments-zzzz0": 0.5}, "is no model of round"),
    "above one": (lambda names: {**dict.fromkeys(names, 0.5), names[0]: 1.01}, r"must be a number in \[0.0, 1.0\]"),
    "below zero": (lambda names: {**dict.fromkeys(names, 0.5), names[0]: -0.1}, "is out of range"),
    "not a number": (lambda names: {**dict.fromkeys(names, 0.5), names[0]: float("nan")}, "is out of range"),
    "a word": (lambda names: {**dict.fromkeys(names, 0.5), names[0]: "yes"}, "is out of range"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("case", BAD)
def test_bad_verdicts(case: str, kit: challenge.Kit) -> None:
    make, words = BAD[case]
    with pytest.raises(ValueError, match=words) as error:
        Submission.of(kit, "blue", make(list(kit.models)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("team", ["", "../x", "a" * 25, "a" * 10_000, "a/b", " a", "<b>", "é"])
def test_bad_team(team: str, kit: challenge.Kit) -> None:
    with pytest.raises(ValueError, match="1 to 24 letters") as error:
        Submission.of(kit, team, even(kit))
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(99), r"expected a float32 tensor \[n, 100\]"),
        (torch.full((100,), float("nan")), "must be finite"),
        (torch.zeros(1, 14, 14), "has shape"),
        (torch.full((1, 28, 28), 2.0), "values from 2 to 2"),
    ],
)
def test_bad_evidence(x: torch.Tensor, words: str, kit: challenge.Kit) -> None:
    with pytest.raises(ValueError, match=words):
        Submission.of(kit, "blue", even(kit), {next(iter(kit.models)): x})


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("v.csv", "model,probability\na,0.5\nb,1\n", None),
        ("v.csv", "a,0.5\nb,1\n", None),
        ("v.json", '{"a": 0.5, "b": 1}', None),
        ("v.csv", "a,0.5\na,1\n", "two verdicts on the same model"),
        ("v.json", '{"a": 0.5, "a": 1}', "two verdicts on the same model"),
        ("v.csv", "a,maybe\n", "does not hold verdicts"),
        ("v.csv", "a,1,2\n", "does not hold verdicts"),
        ("v.json", "[1, 2]", "does not hold verdicts"),
        ("v.json", "{", "does not hold verdicts"),
        ("v.txt", "a,1", "valid: .json, .csv"),
    ],
)
def test_files_of_verdicts(name: str, content: str, words: str | None, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    if words is None:
        assert challenge.read_verdicts(tmp_path / name) == {"a": 0.5, "b": 1.0}
        return
    with pytest.raises(ValueError, match=words):
        challenge.read_verdicts(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no file of verdicts"):
        challenge.read_verdicts(tmp_path / "none.csv")


def test_evidence_from_a_folder(kit: challenge.Kit, tmp_path: Path) -> None:
    first, second, third, *_ = kit.models
    Image.new("L", (56, 56), 255).save(tmp_path / f"{first}.png")
    save_file({"trigger": torch.ones(1, 100)}, tmp_path / f"{second}.safetensors")
    save_file({"picture": torch.ones(1, 1, 28, 28)}, tmp_path / f"{third}.safetensors")
    found = challenge.read_evidence(tmp_path, kit)
    assert {name: tuple(x.shape) for name, x in found.items()} == {
        first: (1, 28, 28),
        second: (100,),
        third: (1, 28, 28),
    }
    assert torch.equal(found[first], torch.ones(1, 28, 28))
    Image.new("L", (28, 28)).save(tmp_path / f"{second}.png")
    with pytest.raises(ValueError, match="more than one piece of evidence"):
        challenge.read_evidence(tmp_path, kit)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("cat.png", b"", "the model of evidence='cat' is unknown"),
        ("MODEL.png", b"GIF", "cannot be read as a picture"),
        ("MODEL.safetensors", save({"trigger": torch.ones(2), "picture": torch.ones(1, 2, 2)}), "must hold one tensor"),
        ("MODEL.safetensors", b"\x80\x04pickle", "is not a safetensors file"),
        ("MODEL.txt", b"", "there is no MODEL.png"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_evidence_in_a_folder(file: str, content: bytes, words: str, kit: challenge.Kit, tmp_path: Path) -> None:
    (tmp_path / file.replace("MODEL", next(iter(kit.models)))).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        challenge.read_evidence(tmp_path, kit)


def test_changed_submissions_are_refused(kit: challenge.Kit, tmp_path: Path) -> None:
    name = next(iter(kit.models))
    path = challenge.write_submission(tmp_path, Submission.of(kit, "blue", even(kit), {name: torch.ones(100)}))
    content = json.loads(path.read_text())
    for change, words in (
        ({"challenge": "00000000"}, "is for round '00000000'"),
        ({"format": 2}, "blue.json is not a submission: its format is 2; this version reads format 1"),
        ({"verdicts": [0.5]}, r"is not a submission: verdicts=\[0.5\] is not valid: expected dict"),
        ({"verdicts": {**content["verdicts"], name: "x" * 10_000}}, "='x{79}... is out of range"),
        ({"challenge": "x" * 10_000}, "is for round 'x{79}...; this is"),
        ({"evidence_sha256": 5}, r"expected str \| None"),
        ({"team": "../blue"}, "1 to 24 letters"),
        ({"evidence_sha256": "0"}, "does not match the SHA-256"),
    ):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(ValueError, match=words) as error:
            challenge.read_submission(path, kit)
        assert len(str(error.value)) < 300
    path.write_text(json.dumps(content))
    path.with_suffix(".safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="it must be beside it"):
        challenge.read_submission(path, kit)
    with pytest.raises(FileNotFoundError, match="no submission"):
        challenge.read_submission(tmp_path / "none.json", kit)
