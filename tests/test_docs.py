"""The documents keep their word: commands, Python and recipes run, the page for teams is true, pages.py sees faults.

What compares text with text is scripts/build/pages.py, which make test runs before these.
"""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional
from typer.main import get_command

from devilgan_lite import attacks, cli, files, generators, zoo
from devilgan_lite.apps import course
from devilgan_lite.cli import defence
from devilgan_lite.intake.jail import Ended, Limits
from devilgan_lite.report import VERDICTS, WORST_FIRST
from devilgan_lite.report.html import WALLS

ROOT = Path(__file__).resolve().parents[1]
PLACES = list(sys.path)
PAGES = runpy.run_path(str(ROOT / "scripts/build/pages.py"))
sys.path[:] = PLACES  # its neighbours have the names of other modules
SITE, BADGES, FENCES = PAGES["website"], PAGES["badge_block"], PAGES["fences"]
README, CONTRIBUTING, TEAMS = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md", "docs/check_a_model.md")
)

FAULTS = [  # a check, a file, what stands there, the fault, what is said of it
    ("links", "README.md", "](docs/limits.md)", "](docs/limit.md)", "docs/limit.md leads nowhere"),
    ("links", "README.md", "SECURITY.md#what-a-scan-can", "SECURITY.md#what-no-scan-can", "names no title"),
    ("numbers", "SECURITY.md", "the same, with ReX | ", "the same, with ReX | 1", "the rows say"),
    ("readme", "README.md", "`devilgan film | stage |", "`devilgan film |", "every subcommand"),
    ("commands", "README.md", "--dry-run", "--dry", "'--dry'"),
    ("commands", "README.md", "NAME=editions", "NAME=edition", "'edition'"),
    ("glossary", "docs/glossary.md", "| **shell** |", "| **zyzzyva** |", "nobody uses 'zyzzyva'"),
    ("english", "README.md", "Where there is a GPU", "Where there shall be a GPU", "no plain English"),
    ("decisions", "docs/decisions/07_red_learning_settings.md", "0.16 ± 0.06", "0.16 ± 0.07", "0.16 ± 0.07 stands in"),
    ("plans", "docs/instructor_guide.md", "| 10-22 |", "| 11-22 |", "has a gap"),
    ("quotes", "docs/instructor_guide.md", "TarDis fell from 740", "TarDis fell from 741", "not print 'TarDis"),
    ("tables", "docs/results/fraud.md", "\n", "\nIt is all right.\n", "docs/results/fraud.md is not what"),
    ("site", "docs/myst.yml", "- file: docs/limits.md", "- file: docs/limit.md", "docs/limits.md is missing"),
    ("metadata", "pyproject.toml", 'version = "0.2.0"', 'version = "7.3.0"', "CHANGELOG.md has the version"),
    ("files", "devilgan_lite/version.py", "\n", "\nassert True\n", "asserts"),
]  # fmt: skip


def test_faults_in_pages_are_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts/bench"))
    for other in set(PAGES["TABLES"]) - {"fraud_tables"}:  # all of them take a while
        monkeypatch.delitem(PAGES["TABLES"], other)
    assert {name for name, *_ in FAULTS} == set(PAGES["CHECKS"])
    for name, check in PAGES["CHECKS"].items():
        changed: dict[str, str] = {}
        faults = [fault for known, *fault in FAULTS if known == name]
        for file, old, new, _ in faults:
            text = changed.get(file) or (ROOT / file).read_text(encoding="utf-8")
            assert old in text, (file, old)
            changed[file] = text.replace(old, new, 1)
        found = list(check(PAGES["Pages"](changed)))
        assert [said for *_, said in faults if not any(said in problem for problem in found)] == [], found
        assert len(found) < 3 * len(faults) + 2, found  # and nothing else
    assert PAGES["main"](["english", "plans"]) == 0 and "2 checks" in capsys.readouterr().out
    assert PAGES["main"](["plan"]) == 2 and "'plan'" in capsys.readouterr().err


# With less to do where a command would take minutes. ``make tour`` and ``make test`` are run by people and by .ci/run.
LESS = {
    "attack": ["--iterations", "2", "--samples", "100"],
    "sanitize": ["--iterations", "2"],
    "run": ["-p", "profile=smoke"],
    "film": ["--frames", "8", "--no-browser"],
    "scan": ["--no-twin", "--no-jail"],
}
SHOWN = [shlex.split(line, comments=True) for code in FENCES(README, "bash") for line in code.splitlines() if line]
ALLOWED = {"scan": {4}, "stage": {0, 1}}  # 4: suspicious; 1: no browser


class Brief(attacks.StyleReX):
    """Hardly looks for the styles of its target."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"inversion": 2, **settings})


@pytest.mark.parametrize("words", [words[1:] for words in SHOWN if words[0] != "make"], ids=" ".join)
def test_command_of_the_readme_runs(
    words: list[str], call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_gate: Any
) -> None:
    words = list(words)
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    monkeypatch.setitem(attacks.BY_NAME, "style-rex", Brief)
    if words[1:2] == ["style-rex"]:
        monkeypatch.setattr(cli, "real_for", lambda generator: None)  # it takes a while to draw faces
    if words[0] in ("scan", "sanitize", "export"):  # a tiny model in the place of the zoo's
        assert words[1] in zoo.names()
        words[1] = "tiny.safetensors"
        zoo.save_file(tmp_path / words[1], tiny_gate, zoo.ModelCard("tiny", tiny_gate.spec(), "digits", 0, {}))
    if words[0] == "run":  # tests of notebooks run the real ones
        monkeypatch.setenv("DEVILGAN_NOTEBOOKS", str(tmp_path / "notebooks"))
        (tmp_path / "notebooks/src").mkdir(parents=True)
        (tmp_path / "notebooks/src/00_tour.py").write_text('# %% tags=["parameters"]\nprofile = "full"  # any\n')
    done = call(*words, *LESS.get(words[0], []))
    assert done.exit_code in ALLOWED.get(words[0], {0}), done.output
    assert done.stdout.strip() and "Traceback" not in done.output
    options = zip(words, words[1:], strict=False)
    assert all((tmp_path / value).exists() for flag, value in options if flag in ("--out", "--html", "--sarif"))


def replaced(code: str, less: dict[str, str]) -> str:
    """``code`` with less to do; what is replaced must stand there."""
    for much, little in less.items():
        assert much in code, much
        code = code.replace(much, little)
    return code


@pytest.mark.usefixtures("short_twin")
def test_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = FENCES(README, "python")
    scope: dict[str, Any] = {}
    less = {'zoo.load("dcgan-fashion")': "generators.DCGAN(latent_dim=16, widths=(8, 8)).eval()"}
    less |= {"ReX()(": "ReX(iterations=60, widen=8, learning_rate=1e-2)(", "real))": "real, samples=200))"}
    less |= {"scan(outcome.generator))": "scan(outcome.generator, samples=200, twin=False))"}
    exec(replaced(code, {**less, "report=report))  # cut": "report=report, iterations=3))  #"}), scope)
    printed = capsys.readouterr().out
    assert scope["picture"].shape == (1, 1, 28, 28) and "tardis" in printed.lower() and "after: " in printed
    assert re.search(r"^(backdoored|suspicious)  \(", printed, re.M)


RECIPES = dict(re.findall(r"^## Add an? (\w+)\n[^#]*?^```python\n(.*?)^```", CONTRIBUTING, re.MULTILINE | re.DOTALL))
BRIEFER = {
    "detector": {},
    "attack": {"samples=1_000": "samples=200", "iterations: int = 200": "iterations: int = 120"},
    "family": {"samples=200": "samples=200, twin=False"},
    "modality": {"samples=200": "samples=200, twin=False"},
    "format": {"samples=200": "samples=200, twin=False"},
    "exercise": {},
}


@pytest.mark.parametrize("kind", BRIEFER)
def test_recipe_works_as_it_is_printed(
    kind: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(generators.base.FAMILIES, "Star", None)  # out again afterwards
    monkeypatch.setitem(files.FORMATS, "npz", None)
    del files.FORMATS["npz"]
    monkeypatch.setitem(course.EXERCISES, "on_the_shell", None)
    del course.EXERCISES["on_the_shell"]
    monkeypatch.chdir(tmp_path)
    exec(replaced(RECIPES[kind], BRIEFER[kind]), {"__name__": "recipe"})
    assert capsys.readouterr().out.strip() and [str(one.message) for one in recwarn] == []
    assert list(RECIPES) == list(BRIEFER)


def test_badges_name_the_repository(monkeypatch: pytest.MonkeyPatch, refuses: Callable[..., str]) -> None:
    block, first = BADGES.badges("some-one/a.repo"), "notebooks/00_two_minute_tour.ipynb"
    assert f"https://colab.research.google.com/github/some-one/a.repo/blob/main/{first})" in block
    assert f"https://mybinder.org/v2/gh/some-one/a.repo/main?urlpath=lab/tree/{first})" in block
    assert "git clone https://github.com/some-one/a.repo " in block and (ROOT / first).is_file()
    address = "https://gitlab.com/a/b"
    monkeypatch.setattr("tomllib.loads", lambda text: {"project": {"urls": {"Repository": address}}})
    refuses(BADGES.repository, "repository=", address)


@pytest.mark.skipif(shutil.which("node") is None or find_spec("mystmd_py") is None, reason="no Node.js or no mystmd")
@pytest.mark.nightly
def test_mystmd_reads_every_page_and_follows_every_reference(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/release/website.py"), "--check", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=dict(os.environ))
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "⛔" not in said and "⚠" not in said, said[-3000:]
    built = yaml.safe_load((tmp_path / "sources/_build/site/config.json").read_text(encoding="utf-8"))
    assert len(built["projects"][0]["pages"]) >= len([*SITE.pages(SITE.configuration(None)["project"]["toc"])]) - 1


def test_the_sources_of_the_site_are_copies_with_names_of_their_own(tmp_path: Path) -> None:
    SITE.copy_sources(tmp_path)
    pages = list(SITE.pages(SITE.configuration(None)["project"]["toc"]))
    assert [page for page in pages if not (tmp_path / page).is_file()] == [] == list(tmp_path.rglob("*.safetensors"))
    documents = [json.loads(path.read_text("utf-8")) for path in tmp_path.glob("notebooks/*.ipynb")]
    names = [cell["id"] for document in documents for cell in document["cells"]]
    assert len(names) == len(set(names)) > 100
    assert SITE.configuration(tmp_path)["site"]["template"] == str(tmp_path.resolve())


# docs/check_a_model.md, the page for teams


def rows(head: str) -> list[list[str]]:
    """The cells of the table whose first line begins with ``| head |``."""
    table = TEAMS.split(f"\n| {head} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in row.strip("| ").split(" | ")] for row in table]


def test_the_page_for_teams_has_the_network_tables_and_keys_of_the_code(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {verdict: int(code) for code, verdict, _ in rows("exit code")} == {
        one.name: one.exit_code for one in WORST_FIRST
    }
    assert ", ".join(VERDICTS) in " ".join(TEAMS.split())  # from the worst to the best
    assert sorted(row[0] for row in rows("format")) == sorted(files.FORMATS)
    walls = {row[0]: row[1] for row in rows("wall")}
    assert set(walls) == set(WALLS) and "8 GiB" in walls["memory"] and "an hour" in walls["cpu"]
    assert (Limits().memory_bytes, Limits().cpu_seconds) == (8 * 2**30, 3_600)

    space: dict[str, Any] = {"nn": nn, "torch": torch, "functional": functional}
    exec(FENCES(TEAMS, "python")[0], space)
    torch.manual_seed(3)
    module, weights, described = space["Painter"]().eval(), tmp_path / "weights.pt", tmp_path / "network.json"
    torch.save(module.state_dict(), weights)
    described.write_text(FENCES(TEAMS, "json")[0], encoding="utf-8")
    with pytest.raises(files.Refused, match="--architecture"):
        files.open(weights)
    stranger = files.open(weights, architecture=described)
    z = torch.rand(5, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(stranger.module(z), module(z), atol=1e-6)
    assert stranger.prior.name == "uniform" and stranger.sample_shape == (3, 16, 16)

    reports: list[dict[str, Any]] = []
    plain = defence._plain
    monkeypatch.setattr(defence, "_plain", lambda report: reports.append(report) or plain(report))
    words = ["scan", weights, "--architecture", described, "--no-twin", "--json", "--no-jail"]
    printed = json.loads(call(*words).stdout)
    (report,), said = reports, {row[0]: row[1] for row in rows("key")}
    assert set(said) == set(report) and report["verdict"] != "refused" and json.loads(json.dumps(report)) == report
    assert set(report) == set(printed)
    assert all(printed[key] == report[key] for key in ("file", "model", "sentence", "not_tried", "settings"))
    assert [one["detector"] for one in printed["findings"]] == [one["detector"] for one in report["findings"]]
    assert set(printed["pictures"]) == set(report["pictures"]) and any(report["pictures"].values())
    assert not any([*printed["pictures"].values(), *(one["picture"] for one in printed["findings"])])
    keys = {key: set(printed[key]) for key in ("file", "model", "pictures")}
    for key, known in {**keys, "jail": {"limits", *(one.name for one in fields(Ended))}}.items():
        named = set(re.findall(r"`(\w+)`", f"`{said[key]}`"))
        assert named and named <= known, key

    hostile = {"verdict": "clean", "seconds": 1.0, "witness": "x", "findings": [1], "pictures": []}
    assert json.loads(json.dumps(plain(hostile)))["verdict"] == "clean"


def test_the_python_of_the_page_for_teams_runs(tiny_gate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files.export(tiny_gate, None, "strange.pt2")
    space: dict[str, Any] = {}
    less = {"scan(suspect)": "scan(suspect, samples=200, twin=False)", "always=True": "always=True, iterations=3"}
    exec(replaced(FENCES(TEAMS, "python")[1], less), space)
    assert space["report"].kinds and "<img" in Path("report.html").read_text(encoding="utf-8")
    assert files.open("cured.pt2").sample(2).shape == tiny_gate.sample(2).shape


def test_the_hook_and_the_recipe_for_teams_scan_the_same_files() -> None:
    parameters = get_command(cli.app).commands["scan"].params  # type: ignore[attr-defined]
    known = {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)}
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    used, recipe = map(yaml.safe_load, FENCES(TEAMS, "yaml"))
    assert used["repos"][0]["hooks"][0]["id"] == hook["id"] == "devilgan-scan" and hook["require_serial"] is True
    entry = shlex.split(hook["entry"])
    assert entry == ["devilgan", "scan", "--no-twin", "--"]  # a file may be called --html=x.onnx
    for name, taken in (("a.safetensors", True), ("b/c.pt2", True), ("h.BIN", True), ("notes.pt.md", False)):
        assert bool(re.search(hook["files"], name)) == taken

    steps = recipe["jobs"]["scan"]["steps"]
    scan = next(step["run"] for step in steps if step.get("name") == "scan")
    endings = re.search(r"endings=\((.+)\)", scan)[1].split()  # type: ignore[index]
    assert sorted(endings) == sorted(re.search(r"\((\w+\|.+)\)", hook["files"])[1].split("|"))  # type: ignore[index]
    words = shlex.split(scan.split("|| ")[1])
    assert words[:2] == ["devilgan", "scan"] and words[-2:] == ["--", "${models[@]}"]
    assert {word for word in (*entry, *words) if word.startswith("--")} - {"--"} <= known
    shown = next(step for step in steps if "upload-sarif" in step.get("uses", ""))
    assert shown["with"]["sarif_file"] == words[words.index("--sarif") + 1] and "always()" in shown["if"]
    assert recipe["permissions"]["security-events"] == "write"
