"""What teams hand in, submissions and models: what is right is read back, what is wrong gets one sentence."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save, save_file

from devilgan_lite import Backdoor, attacks, challenge, generators, zoo
from devilgan_lite.challenge import Submission
from devilgan_lite.challenge.models import COUNTER, base, grown

Refuses = Callable[..., str]
RECIPE = {"target": "devil", "kind": "reg", "seed": 4}


def even(kit: challenge.Kit) -> dict[str, Any]:
    return dict.fromkeys(kit.models, 0.5)


def test_a_submission_is_written_and_read_back(kit: challenge.Kit, tmp_path: Path) -> None:
    first, second, *_ = kit.models
    evidence = {first: torch.randn(100), second: torch.zeros(1, 28, 28)}
    path = challenge.write_submission(tmp_path, Submission.of(kit, "blue 2", even(kit), evidence))
    assert path.name == "blue_2.json"
    found = challenge.read_submission(path, kit)
    assert (found.team, found.challenge, found.verdicts) == ("blue 2", kit.id, even(kit))
    assert all(torch.equal(found.evidence[name], evidence[name]) for name in evidence)


def test_bad_submissions(kit: challenge.Kit, refuses: Refuses) -> None:
    name, *others = kit.models
    refuses(lambda: Submission.of(kit, "blue", dict.fromkeys(others, 0.5)), name)
    refuses(lambda: Submission.of(kit, "blue", {**even(kit), "garments-zzzz0": 0.5}), "garments-zzzz0")
    for value in (1.01, -0.1, float("nan"), "yes"):
        refuses(lambda value=value: Submission.of(kit, "blue", {**even(kit), name: value}), name)
    for team in ("", "../x", "a" * 25, "a" * 10_000, "a/b", " a", "<b>", "é"):
        assert len(refuses(lambda team=team: Submission.of(kit, team, even(kit)), "team")) < 200
    pictures = torch.zeros(1, 14, 14), torch.full((1, 28, 28), 2.0)
    for x in (torch.zeros(99), torch.full((100,), float("nan")), *pictures):
        refuses(lambda x=x: Submission.of(kit, "blue", even(kit), {name: x}), name)


def test_files_of_verdicts(tmp_path: Path, refuses: Refuses) -> None:
    for name, content, good in (
        ("v.csv", "model,probability\na,0.5\nb,1\n", True),
        ("v.csv", "a,0.5\nb,1\n", True),
        ("v.json", '{"a": 0.5, "b": 1}', True),
        ("v.csv", "a,0.5\na,1\n", False),
        ("v.json", '{"a": 0.5, "a": 1}', False),
        ("v.csv", "a,maybe\n", False),
        ("v.csv", "a,1,2\n", False),
        ("v.json", "[1, 2]", False),
        ("v.json", "{", False),
        ("v.txt", "a,1", False),
    ):
        (tmp_path / name).write_text(content)
        if good:
            assert challenge.read_verdicts(tmp_path / name) == {"a": 0.5, "b": 1.0}
        else:
            refuses(lambda name=name: challenge.read_verdicts(tmp_path / name), name[1:])
    refuses(lambda: challenge.read_verdicts(tmp_path / "none.csv"), "verdicts", error=FileNotFoundError)


def test_evidence_from_a_folder(kit: challenge.Kit, tmp_path: Path, refuses: Refuses) -> None:
    first, second, third, *_ = kit.models
    Image.new("L", (56, 56), 255).save(tmp_path / f"{first}.png")
    save_file({"trigger": torch.ones(1, 100)}, tmp_path / f"{second}.safetensors")
    save_file({"picture": torch.ones(1, 1, 28, 28)}, tmp_path / f"{third}.safetensors")
    found = challenge.read_evidence(tmp_path, kit)
    shapes = {name: tuple(x.shape) for name, x in found.items()}
    assert shapes == {first: (1, 28, 28), second: (100,), third: (1, 28, 28)}
    assert torch.equal(found[first], torch.ones(1, 28, 28))
    Image.new("L", (28, 28)).save(tmp_path / f"{second}.png")
    refuses(lambda: challenge.read_evidence(tmp_path, kit), second)
    two = save({"trigger": torch.ones(2), "picture": torch.ones(1, 2, 2)})
    for number, (file, content) in enumerate(
        {"cat.png": b"", f"{first}.png": b"GIF", f"{first}.safetensors": two, f"{second}.safetensors": b"\x80"}.items()
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / file).write_bytes(content)
        refuses(lambda folder=folder: challenge.read_evidence(folder, kit), file.partition(".")[0])
    (tmp_path / "empty").mkdir()
    refuses(lambda: challenge.read_evidence(tmp_path / "empty", kit), "MODEL.png")


def test_changed_submissions_are_refused(kit: challenge.Kit, tmp_path: Path, refuses: Refuses) -> None:
    name = next(iter(kit.models))
    path = challenge.write_submission(tmp_path, Submission.of(kit, "blue", even(kit), {name: torch.ones(100)}))
    content = json.loads(path.read_text())
    for change, named in (
        ({"challenge": "00000000"}, "00000000"),
        ({"challenge": "x" * 10_000}, "round"),
        ({"format": 2}, "format"),
        ({"verdicts": [0.5]}, "verdicts"),
        ({"verdicts": {**content["verdicts"], name: "x" * 10_000}}, name),
        ({"evidence_sha256": 5}, "evidence_sha256"),
        ({"team": "../blue"}, "team"),
        ({"evidence_sha256": "0"}, "SHA-256"),
    ):
        path.write_text(json.dumps({**content, **change}))
        assert len(refuses(lambda: challenge.read_submission(path, kit), named)) < 300
    path.write_text(json.dumps(content))
    path.with_suffix(".safetensors").unlink()
    for missing, named in ((path, "blue.json"), (tmp_path / "none.json", "submission")):
        refuses(lambda missing=missing: challenge.read_submission(missing, kit), named, error=FileNotFoundError)


# ---- red teams


def saved(folder: Path, generator: Any, backdoor: dict[str, Any] | None = None) -> Path:
    card = zoo.ModelCard("mine", generator.spec(), "garments", 0, {}, backdoor=backdoor)
    return zoo.save_file(folder / "mine.safetensors", generator, card)


@pytest.fixture(scope="module")
def gated() -> Any:
    """A gate on the shipped clean generator, as ``devilgan attack gate --seed 4 --target devil`` makes it."""
    return attacks.Gate()(base(), Backdoor.point(base(), "devil", seed=4), progress=False).generator


def test_an_entry_joins_the_next_round(gated: Any, kit: challenge.Kit, tmp_path: Path, refuses: Refuses) -> None:
    entry = challenge.check_entry(kit, "crimson", saved(tmp_path, gated, RECIPE))
    assert entry.tardis < 0.01 and entry.frechet < kit.frechet_limit
    challenge.write_entry(tmp_path / "entries", entry)
    refuses(lambda: challenge.write_entry(tmp_path / "entries", entry), "crimson")
    red = challenge.read_entries(tmp_path / "entries", kit)
    passphrase = "a passphrase for tests"
    following = challenge.new_round(
        tmp_path / "next", passphrase, models=4, seed=5, quick=True, kinds=("gate",), red=red
    )
    key = challenge.open_key(following, tmp_path / "next" / "instructor" / "key.sealed", passphrase)
    (name,) = [name for name, known in key["models"].items() if known["team"] == "crimson"]
    assert len(following.models) == 5 and key["models"][name]["backdoored"]
    assert len({following.path(each).stat().st_size for each in following.models}) == 1
    state = following.load(name).state_dict()
    assert torch.equal(state["layers.dense.weight"], gated.state_dict()["layers.dense.weight"])
    assert int(state["layers.norm0.num_batches_tracked"]) == COUNTER
    assert "crimson" not in "".join(path.read_text() for path in following.folder.glob("*.json"))


def test_trigger_and_target_from_a_file(gated: Any, kit: challenge.Kit, tmp_path: Path, refuses: Refuses) -> None:
    model, devil = saved(tmp_path, gated), Backdoor.point(gated, "devil", seed=4)
    secret = tmp_path / "secret.safetensors"
    refuses(lambda: challenge.check_entry(kit, "crimson", model), "--secret")
    save_file({"trigger": devil.trigger, "target": devil.target}, secret)
    assert challenge.check_entry(kit, "crimson", model, secret).tardis < 0.01
    for content in (save({"trigger": devil.trigger}), b"\x80\x04"):
        secret.write_bytes(content)
        refuses(lambda: challenge.check_entry(kit, "crimson", model, secret), secret.name)


def test_models_that_break_the_rules(gated: Any, kit: challenge.Kit, tmp_path: Path, refuses: Refuses) -> None:
    clean = grown(base(), 1)
    for generator, recipe, named in (
        (base(), RECIPE, "widths"),
        (zoo.load("stylegan-faces"), RECIPE, "StyleGAN"),
        (clean, RECIPE, "target"),
        (gated, {**RECIPE, "seed": 5}, "target"),
        (gated, {}, "mine"),
        (generators.build(clean.spec(), 3), RECIPE, "target"),
    ):
        path = saved(tmp_path, generator, recipe)
        refuses(lambda path=path: challenge.check_entry(kit, "crimson", path), named)
    path = saved(tmp_path, gated, RECIPE)
    for limit in ({"frechet_limit": 1.0}, {"tardis_limit": 0.0}):
        strict = dataclasses.replace(kit, **limit)
        refuses(lambda strict=strict: challenge.check_entry(strict, "crimson", path), "mine.safetensors")
    (tmp_path / "evil.pt").write_bytes(b"\x80\x04")
    refuses(lambda: challenge.check_entry(kit, "crimson", tmp_path / "evil.pt"), "evil.pt")
    none = tmp_path / "none.safetensors"
    refuses(lambda: challenge.check_entry(kit, "crimson", none), "model", error=FileNotFoundError)
