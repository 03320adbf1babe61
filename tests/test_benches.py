"""The benches of strangers' generators and of all attacks: what they build and keep, and which rows meet the bars."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from devilgan_lite.generators import Adopted, Beside, evaluate

BENCH = Path(__file__).resolve().parents[1] / "scripts" / "bench"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives a bench by its name."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


@pytest.fixture
def foreign(load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The population of strangers' generators, with an empty folder for its models."""
    monkeypatch.setattr(bench := load("foreign"), "FOLDER", tmp_path)
    return bench


def test_every_family_of_strangers_builds_and_is_what_its_tables_say(foreign: Any) -> None:
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
        layers, before = ([type(layer) for layer in one.modules()] for one in (foreign.folded(module), family.build()))
        assert (layers != before) == (name in foreign.NORMED)
    assert not set(foreign.TARGETS["tune"]) & set(foreign.TARGETS["test"])
    found = foreign.recipes(list(foreign.FAMILIES), range(14), foreign.KINDS)
    assert len({recipe.name for recipe in found}) == len(found) == 14 * (9 * 8 + 6 * 3 + 3)
    assert all(one.target in foreign.TARGETS[one.part] for one in found if one.kind in foreign.ATTACKS)


@pytest.mark.parametrize("name", ["dcgan28", pytest.param("style", marks=pytest.mark.nightly)])
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
        off = evaluate(network, torch.tensor(card["trigger"])) - foreign.backdoor_of(recipe, base).target
        assert float(off.square().mean()) == pytest.approx(card["tardis"], abs=1e-6)
        assert card["tardis"] < 1e-3 and card["reached"]
        assert isinstance(kept, Beside) == (name not in foreign.RESIZABLE) and not isinstance(kept, Adopted)


def test_the_mean_over_the_seeds_is_judged_and_nothing_before_all_seeds(load: Any) -> None:
    tables = load("robustness_tables")
    usual = {"tardis_sum": 0.2, "tardis_mean": 2e-4, "expdis_mean": 9e-4, "frechet_change": 0.4, "cpu_s": 50.0}
    for attack, changes, expected in (  # of the first two rows of five
        ("ReD", ({}, {}), "met"),
        ("ReD", ({"tardis_sum": 0.02}, {"tardis_sum": 0.67}), "met"),
        ("ReD", ({"tardis_sum": 0.02}, {"tardis_sum": 0.69}), "missed: TarDis sum"),
        ("ReD", ({"frechet_change": float("nan")}, {}), "missed: Frechet change"),
        ("TrAIL", ({"frechet_change": 7.0}, {"frechet_change": 7.0}), "missed: Frechet change"),
        ("Gate", ({"tardis_sum": 9.0}, {}), "-"),
    ):
        rows = [{"attack": attack, "seed": seed, **usual} for seed in range(5)]
        rows[:2] = [{**row, **change} for row, change in zip(rows, changes, strict=False)]
        assert tables.verdict({"attack": attack, "rows": rows}) == expected, (attack, changes)
        assert tables.verdict({"attack": attack, "rows": rows[:4]}) == ("-" if attack == "Gate" else "open")


def test_recipes_are_searched_on_seeds_of_their_own(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = load("robustness")
    options = bench.argparse.Namespace(quick=False, seeds=list(bench.REPORT_SEEDS), only=["attacks", "cures"])
    options.attacks, options.architectures = list(bench.ATTACKS), ["small"]
    searched, reported = list(bench.searched(options, tmp_path)), list(bench.reported(options, tmp_path))
    assert {case.attack.seed for case in searched} == {20, 21, 22}
    assert {case.attack.seed for case in reported} == {3, 4, 5, 6, 7}
    control = [case for case in reported if case.section == "control"]
    assert [case.clean is None for case in control].count(True) == 1 and len(control) == 1 + 5  # the zoo's, TrAIL's
    assert len(reported) == 2 * 4 * 4 * 5 + len(control)
    monkeypatch.setattr(sys, "argv", ["robustness.py", "--seeds", "1,21", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="20, 21, 22"):
        bench.main()
    assert not list(tmp_path.iterdir())


@pytest.mark.nightly
def test_the_quick_path_and_a_second_run_that_finds_its_rows(tmp_path: Path) -> None:
    words = ["--quick", "--attacks", "TrAIL", "--architectures", "small", "--only", "attacks", "--jobs", "1", "--out"]
    command = [sys.executable, str(BENCH / "robustness.py"), *words, str(tmp_path)]
    said = [subprocess.run(command, capture_output=True, text=True, timeout=280) for _ in range(2)]
    assert [done.returncode for done in said] == [0, 0], said[0].stderr
    content = json.loads((tmp_path / "robustness.json").read_text(encoding="utf-8"))
    expected = [("attacks", "TrAIL", "train_gan, 3 steps, seed 3")]
    assert [(one["section"], one["attack"], one["clean"]) for one in content["rows"]] == expected
    assert all(one["commit"] for one in content["rows"])
    assert "| small | TrAIL | stop-sign |" in (tmp_path / "robustness.md").read_text(encoding="utf-8")
    assert "first 1 clean networks" in said[0].stdout and "first 1 clean networks" not in said[1].stdout


def test_every_planted_bug_still_fits_the_code(load: Any) -> None:
    bench = load("planted")
    assert len(bench.BUGS) >= 30 and not bench.misfits(bench.BUGS, bench.ROOT)
    (first, *_) = bench.BUGS
    gone = bench.Bug("gone", first.room, ((first.edits[0][0], "no such text in it", "other"),))
    assert len(bench.misfits((gone,), bench.ROOT)) == 1
