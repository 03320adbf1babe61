"""What teams hand in, submissions and models: what is right is read back, what is wrong gets one sentence."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save, save_file

from devilgan_lite import Backdoor, attacks, generators, zoo
from devilgan_lite.apps import game
from devilgan_lite.apps.game import Submission
from devilgan_lite.apps.game import red as red_side
from devilgan_lite.apps.game.models import COUNTER, base, grown, shape
from devilgan_lite.generators import evaluate

Refuses = Callable[..., str]
RECIPE = {"target": "devil", "kind": "reg", "seed": 4}


def even(kit: game.Kit) -> dict[str, Any]:
    return dict.fromkeys(kit.models, 0.5)


def test_a_submission_is_checked_written_and_read_back(kit: game.Kit, tmp_path: Path, refuses: Refuses) -> None:
    first, second, *others = kit.models
    evidence = {first: torch.randn(100), second: torch.zeros(1, 28, 28)}
    path = game.write_submission(tmp_path, Submission.of(kit, "blue 2", even(kit), evidence))
    found = game.read_submission(path, kit)
    assert path.name == "blue 2.csv" and (found.team, found.verdicts) == ("blue 2", even(kit))
    assert all(torch.equal(found.evidence[name], evidence[name]) for name in evidence)

    rows: list[tuple[dict[str, Any], str]] = [
        ({"verdicts": dict.fromkeys(others, 0.5)}, first),
        ({"verdicts": {**even(kit), "garments-zzzz0": 0.5}}, "garments-zzzz0"),
    ]
    rows += [({"verdicts": {**even(kit), first: value}}, first) for value in (1.01, float("nan"), "yes")]
    rows += [({"team": team}, "team") for team in ("../x", "a" * 25, "a" * 10_000, " a", "<b>")]
    wrong = torch.zeros(99), torch.full((100,), float("nan")), torch.zeros(1, 14, 14), torch.full((1, 28, 28), 2.0)
    rows += [({"evidence": {first: x}}, first) for x in wrong]
    for change, named in rows:
        settings = {"team": "blue", "verdicts": even(kit), **change}
        assert len(refuses(lambda settings=settings: Submission.of(kit, **settings), named)) < 200

    good = path.read_text()
    for old, new in ((first, "x" * 10_000), ("0.5", "x" * 10_000), ("0.5", "7"), (f"{first},0.5", "")):
        path.write_text(good.replace(old, new, 1))
        assert len(refuses(lambda: game.read_submission(path, kit))) < 300
    path.write_text(good)
    path.with_suffix(".safetensors").write_bytes(b"\x80")
    refuses(lambda: game.read_submission(path, kit), "blue 2.safetensors")
    path.with_suffix(".safetensors").unlink()
    assert game.read_submission(path, kit).evidence == {}
    refuses(lambda: game.read_submission(path.rename(tmp_path / "a..b.csv"), kit), "team")
    refuses(lambda: game.read_submission(tmp_path / "none.csv", kit), "verdicts", error=FileNotFoundError)


def test_files_of_verdicts(tmp_path: Path, refuses: Refuses) -> None:
    good = "v.csv|model,probability\na,0.5\nb,1\n", "v.csv|a,0.5\nb,1\n"
    bad = "v.csv|a,0.5\na,1\n", "v.csv|a,maybe\n", "v.csv|a,1,2\n", "v.json|{", "v.txt|a,1"
    for text in (*good, *bad):
        name, _, content = text.partition("|")
        (tmp_path / name).write_text(content)
        if text in good:
            assert game.read_verdicts(tmp_path / name) == {"a": 0.5, "b": 1.0}
        else:
            refuses(lambda name=name: game.read_verdicts(tmp_path / name), name[1:])
    refuses(lambda: game.read_verdicts(tmp_path / "none.csv"), "verdicts", error=FileNotFoundError)


def test_evidence_from_a_folder(kit: game.Kit, tmp_path: Path, refuses: Refuses) -> None:
    first, second, third, *_ = kit.models
    Image.new("L", (56, 56), 255).save(tmp_path / f"{first}.png")
    save_file({"trigger": torch.ones(1, 100)}, tmp_path / f"{second}.safetensors")
    save_file({"picture": torch.ones(1, 1, 28, 28)}, tmp_path / f"{third}.safetensors")
    found = game.read_evidence(tmp_path, kit)
    shapes = {name: tuple(x.shape) for name, x in found.items()}
    assert shapes == {first: (1, 28, 28), second: (100,), third: (1, 28, 28)}
    assert torch.equal(found[first], torch.ones(1, 28, 28))
    Image.new("L", (28, 28)).save(tmp_path / f"{second}.png")
    refuses(lambda: game.read_evidence(tmp_path, kit), second)
    two = save({"trigger": torch.ones(2), "picture": torch.ones(1, 2, 2)})
    wrong = {"cat.png": b"", f"{first}.png": b"GIF", f"{first}.safetensors": two, f"{second}.safetensors": b"\x80"}
    for number, (file, content) in enumerate({**wrong, "empty": b""}.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / file).write_bytes(content)
        named = "MODEL.png" if file == "empty" else file.partition(".")[0]
        refuses(lambda folder=folder: game.read_evidence(folder, kit), named)


# ---- red teams


def saved(folder: Path, generator: Any, backdoor: dict[str, Any] | None = None) -> Path:
    card = zoo.ModelCard("mine", generator.spec(), "garments", 0, {}, backdoor=backdoor)
    return zoo.save_file(folder / "mine.safetensors", generator, card)


@pytest.fixture(autouse=True)
def fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(red_side, "SAMPLES", 500)


@pytest.fixture(scope="module")
def gated() -> Any:
    """A gate on the shipped clean generator, as ``devilgan attack gate --seed 4 --target devil`` makes it."""
    return attacks.Gate()(base(), Backdoor.point(base(), "devil", seed=4), progress=False).generator


def test_entries_and_your_own_models_join_the_next_round(
    gated: Any, kit: game.Kit, tmp_path: Path, refuses: Refuses
) -> None:
    entry = game.check_entry(kit, "crimson", saved(tmp_path, gated, RECIPE))
    assert entry.tardis < 0.01 and entry.frechet < kit.frechet_limit
    game.write_entry(tmp_path / "entries", entry)
    refuses(lambda: game.write_entry(tmp_path / "entries", entry), "crimson")
    red = game.read_entries(tmp_path / "entries", kit)
    for name in ("red", "gate"):
        suspect, backdoor = zoo.load(f"dcgan-fashion-{name}"), zoo.load_backdoor(f"dcgan-fashion-{name}")
        red.append(game.hidden(f"your {name}", suspect, backdoor, seed=2))
        assert red[-1].generator.spec() == shape()
        assert (evaluate(red[-1].generator, backdoor.trigger) - backdoor.target).square().mean() < 0.1, name
    rex = zoo.load("dcgan-fashion-rex")
    refuses(lambda: game.hidden("your rex", rex, zoo.load_backdoor("dcgan-fashion-rex")), "your rex", "widths")

    following = game.new_round(tmp_path / "next", models=4, seed=4, quick=True, kinds=("gate",), red=red)
    assert len(following.models) == 7 and following.entered == 3
    assert set(following.models).isdisjoint(kit.models)
    assert set(following.models.values()).isdisjoint(kit.models.values())
    found = game.read_answers(tmp_path / "next/instructor/answers.json", following)
    assert game.remade_answers(4, following, red) == found
    refuses(lambda: game.remade_answers(4, following), "red", "3")
    answers = found["models"]
    entered = {known["team"]: name for name, known in answers.items() if known["team"]}
    assert entered.keys() == {"crimson", "your red", "your gate"}
    assert all(answers[name]["backdoored"] for name in entered.values())
    assert len({following.path(each).stat().st_size for each in following.models}) == 1
    state = following.load(entered["crimson"]).state_dict()
    assert torch.equal(state["layers.dense.weight"], gated.state_dict()["layers.dense.weight"])
    assert int(state["layers.norm0.num_batches_tracked"]) == COUNTER
    assert "crimson" not in "".join(path.read_text() for path in following.folder.glob("*.json"))


def test_models_that_break_the_rules(gated: Any, kit: game.Kit, tmp_path: Path, refuses: Refuses) -> None:
    model, devil = saved(tmp_path, gated), Backdoor.point(gated, "devil", seed=4)
    secret, clean = tmp_path / "secret.safetensors", grown(base(), 1)
    refuses(lambda: game.check_entry(kit, "crimson", model), "--secret")
    save_file({"trigger": devil.trigger, "target": devil.target}, secret)
    assert game.check_entry(kit, "crimson", model, secret).tardis < 0.01
    for content in (save({"trigger": devil.trigger}), b"\x80\x04"):
        secret.write_bytes(content)
        refuses(lambda: game.check_entry(kit, "crimson", model, secret), secret.name)
    for generator, recipe, named in (
        (base(), RECIPE, "widths"),
        (zoo.load("stylegan-faces"), RECIPE, "StyleGAN"),
        (clean, RECIPE, "target"),
        (gated, {**RECIPE, "seed": 5}, "target"),
        (gated, {}, "mine"),
        (generators.build(clean.spec(), 3), RECIPE, "target"),
    ):
        saved(tmp_path, generator, recipe)
        refuses(lambda: game.check_entry(kit, "crimson", model), named)
    saved(tmp_path, gated, RECIPE)
    for limit in ({"frechet_limit": 1.0}, {"tardis_limit": 0.0}):
        strict = dataclasses.replace(kit, **limit)
        refuses(lambda strict=strict: game.check_entry(strict, "crimson", model), "mine.safetensors")
