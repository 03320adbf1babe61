"""The bench of all attacks and cures: its quick path, what it keeps, and which rows meet the bars."""

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

BENCH = Path(__file__).resolve().parents[1] / "scripts" / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("robustness")


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("robustness_tables")


def row(attack: str = "ReD", seed: int = 0, **figures: float) -> dict[str, Any]:
    usual = {"tardis_sum": 0.2, "tardis_mean": 2e-4, "expdis_mean": 9e-4, "frechet_change": 0.4, "cpu_s": 50.0}
    usual["frechet_clean"] = 23.0
    identity = {"section": "attacks", "architecture": "small", "attack": attack, "target": "devil", "seed": seed}
    identity |= {"clean": "one", "samples": 500, "against": "garments", "settings": {"seed": seed, "lam": 0.27}}
    return {**identity, **usual, **figures}


def test_the_mean_over_the_seeds_is_judged_and_nothing_before_all_seeds(tables: Any) -> None:
    def verdict(attack: str, *some: dict[str, Any]) -> str:
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


def test_the_page_has_mean_spread_worst_and_verdict(tables: Any, tmp_path: Path) -> None:
    old = row(tardis_sum=99.0)
    old["settings"] = {"seed": 0, "lam": 5.0}  # an earlier recipe: kept in the file, not on the page
    rows = [
        old,
        *(row(seed=seed, tardis_sum=0.1) for seed in (0, 2, 3, 4)),
        row(seed=1, tardis_sum=0.3),
        row("Gate"),
        row("TrAIL", frechet_change=4.0),
    ]
    cured = {"section": "cures", "version": 6, "found": True, "tardis_mean": [1e-4, 0.3], "frechet_change": 0.2}
    rows += [{**row(), **cured}, {**row(seed=1), **cured, "tardis_mean": [1e-4, 0.05]}]
    rows += [
        {**row(seed=20, tardis_sum=one), "section": "search", "settings": {"seed": 20, "lam": one}}
        for one in (0.27, 0.1)
    ]
    rows[-1]["settings"]["space"] = "tanh"  # a setting that older rows do not have
    rows.append({**rows[-1], "target": "digit-7"})
    rows += [{**row(seed=seed, tardis_sum=0.5), "section": "earlier", "target": "sign"} for seed in (0, 3)]
    rows += [{**row(cpu_s=one), "section": "alone", "target": f"at {one:g}"} for one in (60.0, 61.0)]
    control = {"section": "control", "version": 6, "architecture": "small", "frechet_change": 0.0, "cpu_s": 9.0}
    rows += [{**control, "clean": name, "found": name == "zoo"} for name in ("zoo", "train_gan, 3 steps, seed 0")]
    tables.write_tables({"machine": "a machine", "rows": rows}, tmp_path / "page.md")
    lines = [line.strip("| ").split(" | ") for line in (tmp_path / "page.md").read_text("utf-8").splitlines()]
    by_name = {tuple(line[:3]): line for line in lines}
    red = next(line for line in lines if line[:3] == ["small", "ReD", "devil"])
    assert red[3] == "0.14 ± 0.089, worst 0.3" and red[-3:] == ["23", "5", "met"]
    trail = by_name["small", "TrAIL", "devil"]
    assert trail[4] == "-" and trail[-2:] == ["single run", "open"]
    assert by_name["small", "ReD", "at 60"][3:] == ["60.0", "60", "met"]
    assert by_name["small", "ReD", "at 61"][3:] == ["61.0", "60", "missed"]
    assert by_name["small", "Gate", "devil"][-1] == "-"
    assert by_name["small", "ReD", "devil"][3:6] == [
        "2 of 2 (100%)",
        "0.0001 -> 0.175 ± 0.18, worst 0.05",
        "1 of 2 (50%)",
    ]
    assert by_name["small", "as above", "1 of 1 (100%)"] and by_name["small", "of TrAIL's length", "0 of 1 (0%)"]
    searched = [line for line in lines if line[0] in ("0.1", "0.27")]
    assert [line[0] for line in searched] == ["0.1", "0.27"]  # the recipe that meets the bars comes first
    assert [line[1] for line in searched] == ["tanh", "None"] and searched[1][2] == "0.27 / -"
    assert by_name["small", "ReD", "sign"][3:] == ["`lam=0.27`", "0.5", "0.4", "3"]  # seed 3 is reported above
    assert [line[-2:] for line in searched] == [["met", "-"], ["missed: TarDis sum", "chosen"]]


@pytest.mark.parametrize("name", ["ReX", "Gate"])
def test_an_attack_is_kept_and_not_mounted_twice(
    name: str, bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = importlib.import_module("robustness_cases")
    attack = bench.attack_of(name, 3, True, bench.RECIPES[name])
    case = cases.Case(tmp_path, True, "attacks", "small", attack, "digit-7")
    found = bench.work(case)
    assert case.path.is_file() and case.identity["seed"] == 3 and case.identity["clean"].startswith("dcgan-fashion ")
    assert (found["tardis_sum"] < 1e-4) == (name == "Gate") and found["frechet"] > 0 and found["cpu_s"] > 0
    assert cases.zoo.backdoor_of(cases.zoo.read_card(case.path.with_suffix(".json")), cases.clean_of(case)).seed == 3
    monkeypatch.setattr(cases, "mounted", lambda *_: pytest.fail("it is there already"))
    assert bench.work(case) == pytest.approx(found)
    other = bench.attack_of(name, 3, True, {"lam": 0.5})
    assert cases.Case(tmp_path, True, "attacks", "small", other, "digit-7").path != case.path


def test_a_stopped_attack_is_no_row(bench: Any) -> None:
    rows = importlib.import_module("attack_rows")
    outcome = rows.Outcome(None, {}, 0.0, 0, {}, interrupted=True)
    with pytest.raises(KeyboardInterrupt):
        rows.whole(outcome)


def test_recipes_are_searched_on_seeds_of_their_own(bench: Any, tmp_path: Path) -> None:
    options = bench.argparse.Namespace(
        quick=False,
        seeds=list(bench.REPORT_SEEDS),
        only=["attacks", "cures"],
        attacks=list(bench.ATTACKS),
        architectures=["small"],
    )
    searched, reported = list(bench.searched(options, tmp_path)), list(bench.reported(options, tmp_path))
    seeds = [{case.attack.seed for case in some} for some in (searched, reported)]
    assert seeds[0] == {20, 21, 22} and seeds[1] == {3, 4, 5, 6, 7}
    control = [case for case in reported if case.section == "control"]
    options.only = ["alone", "attacks"]
    alone = [
        (case.section, case.attack.settings()["attack"], case.attack.seed) for case in bench.reported(options, tmp_path)
    ]
    assert [one for one in alone if one[0] == "alone"] == [("alone", "ReD", 3)] * 4
    assert {seed for section, _, seed in alone if section == "attacks"} == {3, 4, 5, 6, 7}
    assert [case.clean is None for case in control].count(True) == 1 and len(control) == 1 + 5  # the zoo's, TrAIL's
    assert len(reported) == 2 * 4 * 4 * 5 + len(control)
    grids = [(targets, *grid.values()) for targets, grid in bench.GRID.values()]
    assert len(searched) == 3 * sum(math.prod(map(len, grid)) for grid in grids)
    assert {case.target for case in searched} == {"stop-sign", "checkerboard"}
    assert all(
        case.clean.settings.iterations == case.attack.iterations for case in searched if hasattr(case.attack, "ema")
    )


def test_seeds_of_the_search_are_refused(bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["robustness.py", "--seeds", "1,21", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"recipes are chosen on \(20, 21, 22\); report on others"):
        bench.main()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_quick_path_and_a_second_run_that_finds_its_rows(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(BENCH / "robustness.py"),
        "--quick",
        "--attacks",
        "TrAIL",
        "--architectures",
        "small",
    ]
    command += ["--only", "attacks", "--jobs", "1", "--out", str(tmp_path)]
    said = [subprocess.run(command, capture_output=True, text=True, timeout=280) for _ in range(2)]
    assert [done.returncode for done in said] == [0, 0], said[0].stderr
    content = json.loads((tmp_path / "robustness.json").read_text(encoding="utf-8"))
    assert [(one["section"], one["attack"], one["clean"]) for one in content["rows"]] == [
        ("attacks", "TrAIL", "train_gan, 3 steps, seed 3")
    ]
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


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no signals")
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_no_process_outlives_its_bench(how: str, tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text(LONG, encoding="utf-8")
    paths = os.pathsep.join([str(BENCH), os.environ["PYTHONPATH"]])
    command = [sys.executable, str(tmp_path / "long.py")]
    how_to: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    how_to["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # where the tests run in the background
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
