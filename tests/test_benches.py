"""The benches of strangers' generators and of all attacks: what they build and keep, and which rows meet the bars."""

import importlib
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from devilgan_lite.generators import Adopted, Beside, evaluate

BENCH = Path(__file__).resolve().parents[1] / "scripts" / "bench"
Row = dict[str, Any]


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
        assert ("folded" in foreign.variants_of(name, 0)) <= (name in foreign.NORMED)
        layers, before = ([type(layer) for layer in one.modules()] for one in (foreign.folded(module), family.build()))
        assert (layers != before) == (name in foreign.NORMED)
    assert not set(foreign.TARGETS["tune"]) & set(foreign.TARGETS["test"])
    found = foreign.recipes(list(foreign.FAMILIES), range(14), foreign.KINDS)
    assert len({recipe.name for recipe in found}) == len(found) == 14 * (9 * 8 + 6 * 3 + 3)
    attacked = [recipe for recipe in found if recipe.kind in foreign.ATTACKS]
    assert all(recipe.target in foreign.TARGETS[recipe.part] for recipe in attacked)
    assert 0.1 < sum(recipe.trigger_kind == "ood" for recipe in attacked) / len(attacked) < 0.3


@pytest.mark.parametrize(
    "name", ["dcgan28", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("style", "tutorial"))]
)
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


def row(attack: str = "ReD", seed: int = 0, **figures: Any) -> Row:
    """A row of the bench of all attacks."""
    usual = {"tardis_sum": 0.2, "tardis_mean": 2e-4, "expdis_mean": 9e-4, "frechet_change": 0.4, "cpu_s": 50.0}
    identity = {"section": "attacks", "architecture": "small", "attack": attack, "target": "devil", "seed": seed}
    identity |= {"clean": "one", "samples": 500, "against": "garments", "settings": {"seed": seed, "lam": 0.27}}
    return {**identity, **usual, "frechet_clean": 23.0, **figures}


def test_the_mean_over_the_seeds_is_judged_and_nothing_before_all_seeds(load: Any) -> None:
    tables = load("robustness_tables")

    def verdict(attack: str, *some: Row) -> str:
        return str(tables.verdict(attack, [*some, *[some[0]] * (5 - len(some))]))

    assert verdict("ReD", row()) == "met" and tables.verdict("ReD", [row()] * 4) == "open"
    assert verdict("ReD", row(tardis_sum=0.02), row(tardis_sum=1.22)) == "met"  # 0.26 is still met
    assert verdict("ReD", row(tardis_sum=0.02), row(tardis_sum=1.23)) == "missed: TarDis sum"
    bad = [row(expdis_mean=2e-3, cpu_s=80.0), row(cpu_s=41.0)]
    assert verdict("ReD", *bad) == "missed: ExpDis mean"
    assert tables.strain("ReD", bad) == pytest.approx(1.45)
    assert verdict("ReD", row(frechet_change=float("nan"))) == "missed: Frechet change"
    assert verdict("TrAIL", row("TrAIL", frechet_change=3.0)) == "met"
    assert verdict("TrAIL", row("TrAIL", tardis_sum=9.0, frechet_change=3.1)).endswith("TarDis sum, Frechet change")
    assert tables.verdict("Gate", [row("Gate", tardis_sum=9.0)]) == "-"


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["ReX", "Gate"])
def test_an_attack_is_kept_and_not_mounted_twice(
    name: str, load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, cases, rows = load("robustness"), load("robustness_cases"), load("attack_rows")
    attack = bench.attack_of(name, 3, True, bench.RECIPES[name])
    case = cases.Case(tmp_path, True, "attacks", "small", attack, "digit-7")
    found = bench.work(case)
    assert case.path.is_file() and case.identity["seed"] == 3 and case.identity["clean"].startswith("dcgan-fashion ")
    assert (found["tardis_sum"] < 1e-4) == (name == "Gate") and found["frechet"] > 0 and found["cpu_s"] > 0
    assert cases.zoo.backdoor_of(cases.zoo.read_card(case.path.with_suffix(".json")), cases.clean_of(case)).seed == 3
    monkeypatch.setattr(cases, "mounted", lambda *_: pytest.fail("it is there already"))
    assert bench.work(case) == pytest.approx(found)
    other = bench.attack_of(name, 4, True, {})
    assert cases.Case(tmp_path, True, "attacks", "small", other, "digit-7").path != case.path
    with pytest.raises(KeyboardInterrupt):  # a stopped attack is no row
        rows.whole(rows.Outcome(None, {}, 0.0, 0, {}, interrupted=True))


def test_recipes_are_searched_on_seeds_of_their_own(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = load("robustness")
    options = bench.argparse.Namespace(quick=False, seeds=list(bench.REPORT_SEEDS), only=["attacks", "cures"])
    options.attacks, options.architectures = list(bench.ATTACKS), ["small"]
    searched, reported = list(bench.searched(options, tmp_path)), list(bench.reported(options, tmp_path))
    assert {case.attack.seed for case in searched} == {20, 21, 22}
    assert {case.attack.seed for case in reported} == {3, 4, 5, 6, 7}
    control = [case for case in reported if case.section == "control"]
    options.only = ["alone", "attacks"]
    cases = bench.reported(options, tmp_path)
    alone = [(case.section, case.attack.settings()["attack"], case.attack.seed) for case in cases]
    assert [one for one in alone if one[0] == "alone"] == [("alone", "ReD", 3)] * 4
    assert {seed for section, _, seed in alone if section == "attacks"} == {3, 4, 5, 6, 7}
    assert [case.clean is None for case in control].count(True) == 1 and len(control) == 1 + 5  # the zoo's, TrAIL's
    assert len(reported) == 2 * 4 * 4 * 5 + len(control)
    grids = [(targets, *grid.values()) for targets, grid in bench.GRID.values()]
    assert len(searched) == 3 * sum(math.prod(map(len, grid)) for grid in grids)
    assert {case.target for case in searched} == {"stop-sign", "checkerboard"}
    assert all(c.clean.settings.iterations == c.attack.iterations for c in searched if hasattr(c.attack, "ema"))
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
    assert "| small | TrAIL | stop-sign |" in (tmp_path / "robustness.md").read_text(encoding="utf-8")
    assert "first 1 clean networks" in said[0].stdout and "first 1 clean networks" not in said[1].stdout


LONG = """
import os, time, row_store

def work(argument):
    print(os.getpid(), flush=True)
    time.sleep(3_600)

if __name__ == "__main__":
    list(row_store.side_by_side(work, [0, 1], 1))
"""


@pytest.mark.nightly
@pytest.mark.skipif(os.name == "nt", reason="no signals")
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_no_process_outlives_its_bench(how: str, tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text(LONG, encoding="utf-8")
    paths = os.pathsep.join([str(BENCH), os.environ["PYTHONPATH"]])
    how_to: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    how_to["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # where the tests run in the background
    command = [sys.executable, str(tmp_path / "long.py")]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, **how_to) as bench:
        worker = psutil.Process(int(bench.stdout.readline()))
        bench.kill() if how == "killed" else bench.send_signal(signal.SIGINT)
        gone, _ = psutil.wait_procs([worker], timeout=60)
        if not gone:  # or the end of this block would wait for ever
            bench.kill()
            worker.kill()
        left, said = bench.communicate()
    assert gone
    assert left == "" and ("KeyboardInterrupt" in said) == (how == "stopped")  # no other argument was begun
