"""The population of strangers' generators: every family builds, and what is kept comes back as it was."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from devilgan_lite.generators import Adopted, Beside, evaluate

BENCH = Path(__file__).resolve().parents[1] / "scripts" / "bench"


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The bench, with an empty folder for its models."""
    monkeypatch.syspath_prepend(str(BENCH))
    bench: Any = importlib.import_module("foreign")
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    return bench


def test_every_family_builds_and_is_what_its_tables_say(foreign: Any) -> None:
    for name, family in foreign.FAMILIES.items():
        module = family.build().eval()
        network = foreign.adopted(family, module)
        assert network.latent_dim == family.latent_dim
        assert network.sample_shape in ((1, 28, 28), (3, 32, 32), (3, 64, 64))
        opponent = family.opponent()(torch.zeros(2, *network.sample_shape))
        assert opponent.shape == (2, 1 if family.recipe.loss != "elbo" else 2 * family.latent_dim)
        if name in foreign.DENSE:  # clean ones alone: no variants
            continue
        assert network.foldable() == (name in foreign.RESIZABLE)
        assert ("folded" in foreign.variants_of(name, 0)) <= (name in foreign.NORMED)
        layers = [type(layer) for layer in foreign.folded(module).modules()]
        before = [type(layer) for layer in family.build().modules()]
        assert (layers != before) == (name in foreign.NORMED)


@pytest.mark.parametrize("name", ["dcgan28", "style", "tutorial"])
def test_a_variant_and_a_gate_come_back_as_they_were(foreign: Any, name: str) -> None:
    family = foreign.FAMILIES[name]
    torch.manual_seed(5)
    module = family.build().eval()
    foreign.keep(foreign.Recipe(name, 0, "clean"), module, 0.0)
    base = foreign.adopted(family, module)
    z = base.sample_latent(20, torch.Generator().manual_seed(1))
    for kind in ("half", "folded", "gate"):
        recipe = foreign.Recipe(name, 0, kind)
        foreign.make(recipe)
        kept, card = foreign.load(recipe.path)
        assert card["backdoored"] == (kind == "gate") and card["part"] == "tune"
        network = kept if isinstance(kept, Beside) else foreign.adopted(family, kept)
        assert float((evaluate(network, z) - evaluate(base, z)).square().mean()) < 1e-6
        if kind != "gate":
            assert 0 <= card["expdis"] < 1e-6 and type(kept) is type(module)
            continue
        shown = evaluate(network, torch.tensor(card["trigger"]))
        goal = foreign.backdoor_of(recipe, base).target
        assert float((shown - goal).square().mean()) == pytest.approx(card["tardis"], abs=1e-6)
        assert card["tardis"] < 1e-3 and card["reached"]
        assert isinstance(kept, Beside) == (name not in foreign.RESIZABLE) and not isinstance(kept, Adopted)


def test_names_targets_and_turns(foreign: Any) -> None:
    assert not set(foreign.TARGETS["tune"]) & set(foreign.TARGETS["test"])
    found = foreign.recipes(list(foreign.FAMILIES), range(14), foreign.KINDS)
    assert len({recipe.name for recipe in found}) == len(found) == 14 * (9 * 8 + 6 * 3 + 3)
    attacked = [recipe for recipe in found if recipe.kind in foreign.ATTACKS]
    assert all(recipe.target in foreign.TARGETS[recipe.part] for recipe in attacked)
    share = sum(recipe.trigger_kind == "ood" for recipe in attacked) / len(attacked)
    assert 0.1 < share < 0.3
