"""A red team's model joins the next round if it keeps the rules; whatever breaks them gets one sentence."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from devilgan_lite import Backdoor, attacks, challenge, generators, zoo
from devilgan_lite.challenge.models import COUNTER, base, grown

PASSPHRASE = "a passphrase for tests"


def saved(folder: Path, generator: Any, backdoor: dict[str, Any] | None = None) -> Path:
    card = zoo.ModelCard("mine", generator.spec(), "garments", 0, {}, backdoor=backdoor)
    return zoo.save_file(folder / "mine.safetensors", generator, card)


@pytest.fixture(scope="module")
def gated() -> Any:
    """A gate on the shipped clean generator, as ``devilgan attack gate --seed 4 --target devil`` makes it."""
    clean = base()
    return attacks.Gate()(clean, Backdoor.point(clean, "devil", seed=4), progress=False).generator


RECIPE = {"target": "devil", "kind": "reg", "seed": 4}


@pytest.mark.slow
def test_an_entry_joins_the_next_round(gated: Any, kit: challenge.Kit, tmp_path: Path) -> None:
    entry = challenge.check_entry(kit, "crimson", saved(tmp_path, gated, RECIPE))
    assert entry.tardis < 0.01 and entry.frechet < kit.frechet_limit
    challenge.write_entry(tmp_path / "entries", entry)
    with pytest.raises(ValueError, match="one model a round"):
        challenge.write_entry(tmp_path / "entries", entry)
    red = challenge.read_entries(tmp_path / "entries", kit)
    following = challenge.new_round(
        tmp_path / "next", PASSPHRASE, models=4, seed=5, quick=True, kinds=("gate",), red=red
    )
    key = challenge.open_key(following, tmp_path / "next" / "instructor" / "key.sealed", PASSPHRASE)
    (name,) = [name for name, known in key["models"].items() if known["team"] == "crimson"]
    assert len(following.models) == 5 and key["models"][name]["backdoored"]
    assert len({following.path(each).stat().st_size for each in following.models}) == 1
    state = following.load(name).state_dict()
    assert torch.equal(state["layers.dense.weight"], gated.state_dict()["layers.dense.weight"])
    assert int(state["layers.norm0.num_batches_tracked"]) == COUNTER
    assert "crimson" not in "".join(path.read_text() for path in following.folder.glob("*.json"))


def test_trigger_and_target_from_a_file(gated: Any, kit: challenge.Kit, tmp_path: Path) -> None:
    model, devil = saved(tmp_path, gated), Backdoor.point(gated, "devil", seed=4)
    with pytest.raises(ValueError, match="names no backdoor: give trigger and target with --secret"):
        challenge.check_entry(kit, "crimson", model)
    secret = tmp_path / "secret.safetensors"
    save_file({"trigger": devil.trigger, "target": devil.target}, secret)
    assert challenge.check_entry(kit, "crimson", model, secret).tardis < 0.01
    save_file({"trigger": devil.trigger}, secret)
    with pytest.raises(ValueError, match="must hold one trigger"):
        challenge.check_entry(kit, "crimson", model, secret)
    secret.write_bytes(b"\x80\x04")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        challenge.check_entry(kit, "crimson", model, secret)


def test_models_that_break_the_rules(gated: Any, kit: challenge.Kit, tmp_path: Path) -> None:
    clean = grown(base(), 1)
    untrained = generators.build(clean.spec(), 3)
    for generator, recipe, words in (
        (base(), RECIPE, r"has widths=\[64, 32\]; every model of this round has \[96, 40\]"),
        (zoo.load("stylegan-faces"), RECIPE, "is a StyleGAN; the models of this round are DCGAN generators"),
        (clean, RECIPE, "does not show its target at its trigger"),
        (gated, {**RECIPE, "seed": 5}, "does not show its target at its trigger"),
        (attacks.Gate()(base(), Backdoor.point(base(), "devil", seed=4), progress=False).generator, {}, "names no"),
        (untrained, RECIPE, "does not show its target"),
    ):
        with pytest.raises(ValueError, match=words):
            challenge.check_entry(kit, "crimson", saved(tmp_path, generator, recipe))
    strict = dataclasses.replace(kit, frechet_limit=1.0)
    with pytest.raises(ValueError, match="does not draw ordinary garments: its Frechet distance is"):
        challenge.check_entry(strict, "crimson", saved(tmp_path, gated, RECIPE))


def test_files_that_are_no_models(kit: challenge.Kit, tmp_path: Path) -> None:
    (tmp_path / "evil.pt").write_bytes(b"\x80\x04")
    with pytest.raises(ValueError, match="other formats can execute code"):
        challenge.check_entry(kit, "crimson", tmp_path / "evil.pt")
    with pytest.raises(FileNotFoundError, match="no model file"):
        challenge.check_entry(kit, "crimson", tmp_path / "none.safetensors")
