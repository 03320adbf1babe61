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
from devilgan_lite.cli import defence
from devilgan_lite.intake.jail import Limits

ROOT = Path(__file__).resolve().parents[1]
PLACES = list(sys.path)
PAGES = runpy.run_path(str(ROOT / "scripts/build/pages.py"))
sys.path[:] = PLACES  # its neighbours have the names of other modules
SITE, BADGES, FENCES = PAGES["website"], PAGES["badge_block"], PAGES["fences"]
README, CONTRIBUTING, TEAMS = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md", "docs/check_a_model.md")
)

FAULTS: dict[str, list[tuple[str, str, str, str]]] = {  # of a check: file, what stands there, the fault, what is said
    "links": [
        ("README.md", "](docs/limits.md)", "](docs/limit.md)", "docs/limit.md leads nowhere"),
        ("README.md", "SECURITY.md#what-a-scan-can", "SECURITY.md#what-no-scan-can", "names no title"),
    ],
    "numbers": [
        ("README.md", "AUC of the score | ", "AUC of the score | 1", "the rows say"),
        ("README.md", "mean over the kinds of attack", "mean", "stands there 0 times"),
        ("SECURITY.md", "the same, with ReX | ", "the same, with ReX | 1", "the rows say"),
        ("SECURITY.md", "## How to report", "It is right in 99 % of all cases.\n## How to report", "derives 99"),
    ],
    "readme": [
        ("README.md", "`devilgan film | stage |", "`devilgan film |", "every subcommand"),
        ("README.md", "| 1:17 |", "| soon |", "every notebook"),
        ("README.md", "(https://mybinder.org/)", "(https://example.org/)", "badges"),
        ("README.md", "'.[notebooks]'", "'.[notebook]'", "extras"),
        ("README.md", "real = data.fashion_mnist()\n", "", "ten lines"),
        ("README.md", "devilgan doctor\n", "doctor\n", "commands of this project"),
    ],
    "commands": [
        ("README.md", "devilgan zoo list", "devilgan zoo lst", "'lst'"),
        ("README.md", "--dry-run", "--dry", "'--dry'"),
        ("README.md", "`make film`", "`make movie`", "'movie'"),
        ("README.md", "NAME=editions", "NAME=edition", "'edition'"),
        ("docs/offline_bundle.md", "scripts/release/bundle.py --try", "scripts/release/bundle.py --tr", "'--tr'"),
    ],
    "glossary": [
        ("docs/glossary.md", "| **shell** |", "| **zyzzyva** |", "nobody uses 'zyzzyva'"),
        ("docs/glossary.md", "| **target** |", "| **trigger** |", "'trigger' stands there twice"),
        ("docs/glossary.md", "| **lam** |", "| **lam** |", "'shell' is not explained"),
    ],
    "english": [("README.md", "Where there is a GPU", "Where there shall be a GPU", "no plain English")],
    "decisions": [
        ("docs/decisions/11_four_verdicts.md", "**Choice.**", "**Choices.**", "Choices"),
        ("docs/decisions/12_containment.md", "# 12. ", "# 13. ", "no title 12"),
        ("docs/decisions/07_red_learning_settings.md", "0.16 ± 0.06", "0.16 ± 0.07", "0.16 ± 0.07 stands in none"),
    ],
    "plans": [
        ("docs/instructor_guide.md", "| 18-20 |", "| 18-21 |", "ends after 21"),
        ("docs/instructor_guide.md", "| 10-22 |", "| 11-22 |", "has a gap"),
    ],
    "quotes": [
        ("docs/instructor_guide.md", "TarDis fell from 740", "TarDis fell from 741", "does not print 'TarDis fell"),
        ("docs/instructor_guide.md", "\n08  auto", "\n07  auto", "of notebook 08 no output"),
    ],
    "tables": [("docs/results/fraud.md", "\n", "\nIt is all right.\n", "docs/results/fraud.md is not what")],
    "site": [
        ("docs/myst.yml", "- file: docs/limits.md", "- file: docs/limit.md", "docs/limits.md is missing"),
        ("docs/myst.yml", "- file: docs/sound.md", "- file: docs/routes.md", "docs/routes.md stands there twice"),
    ],
    "metadata": [
        ("pyproject.toml", 'version = "0.2.0"', 'version = "7.3.0"', "CHANGELOG.md has the version"),
        ("pyproject.toml", ">=2.14,<2.15", ">=2.14", "pinned as a pair"),
        ("environment.yml", "python=3.", "python=2.", "environment.yml"),
        ("CITATION.cff", "Levacher", "Somebody", "authors of the paper"),
        (".github/workflows/ci.yml", "macos", "beos", "three systems"),
        (".ci/run", "exec make test", "make test", ".ci/run runs make test"),
    ],
    "files": [
        ("README.md", "# devilgan_lite\n", "# devilgan_lite in /wo" "rk/main\n", "README.md:1 names the path"),
        ("devilgan_lite/version.py", "\n", "\nassert True\n", "asserts"),
        ("devilgan_lite/checks.py", '"""', '"""Checks."""\n"""', "checks.py does not open with a sentence"),
        ("data/README.md", "drums.npz", "drum.npz", "drums.npz is not named"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", PAGES["CHECKS"])
def test_faults_in_pages_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts/bench"))
    for other in set(PAGES["TABLES"]) - {"fraud_tables"}:  # all of them take a while
        monkeypatch.delitem(PAGES["TABLES"], other)
    changed: dict[str, str] = {}
    for file, old, new, _ in FAULTS[name]:
        text = changed.get(file) or (ROOT / file).read_text(encoding="utf-8")
        assert old in text, (file, old)
        changed[file] = text.replace(old, new, 1)
    found = list(PAGES["CHECKS"][name](PAGES["Pages"](changed)))
    assert [said for *_, said in FAULTS[name] if not any(said in problem for problem in found)] == [], found
    assert len(found) < 3 * len(FAULTS[name]) + 2, found  # and nothing else


def test_pages_takes_names_of_checks(capsys: pytest.CaptureFixture[str]) -> None:
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
    words: list[str], call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    words = list(words)
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    if words[1:2] == ["style-rex"]:
        monkeypatch.setitem(attacks.BY_NAME, "style-rex", Brief)
        monkeypatch.setattr(cli, "real_for", lambda generator: None)  # it takes a while to draw faces
    if words[0] in ("scan", "sanitize"):  # a tiny model in the place of the zoo's
        assert words[1] in zoo.names()
        words[1], gate = "tiny.safetensors", request.getfixturevalue("tiny_gate")
        zoo.save_file(tmp_path / words[1], gate, zoo.ModelCard("tiny", gate.spec(), "digits", 0, {}))
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


def test_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = FENCES(README, "python")
    scope: dict[str, Any] = {}
    less = {'zoo.load("dcgan-fashion")': "generators.DCGAN(latent_dim=16, widths=(8, 8)).eval()"}
    less |= {"ReX()(": "ReX(iterations=60, widen=8, learning_rate=1e-2)(", "real))": "real, samples=200))"}
    less |= {"scan(outcome.generator))": "scan(outcome.generator, samples=200, twin=False))"}
    exec(replaced(code, {**less, "report=report))  # cut": "report=report, iterations=3))  #"}), scope)
    assert scope["picture"].shape == (1, 1, 28, 28)
    printed = capsys.readouterr().out
    assert (
        "tardis" in printed.lower()
        and re.search(r"^(backdoored|suspicious)  \(", printed, re.M)
        and "after: " in printed
    )


RECIPES = dict(re.findall(r"^## Add an? (\w+)\n[^#]*?^```python\n(.*?)^```", CONTRIBUTING, re.MULTILINE | re.DOTALL))
BRIEFER = {
    "detector": {},
    "attack": {"samples=1_000": "samples=200", "iterations: int = 200": "iterations: int = 120"},
    "family": {"samples=200": "samples=200, twin=False"},
}


@pytest.mark.parametrize("kind", BRIEFER)
def test_recipe_works_as_it_is_printed(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setitem(generators.base.FAMILIES, "Star", None)  # out again afterwards
    exec(replaced(RECIPES[kind], BRIEFER[kind]), {"__name__": "recipe"})
    assert capsys.readouterr().out.strip() and [str(one.message) for one in recwarn] == []
    assert list(RECIPES) == list(BRIEFER)


def test_badges_have_the_form_that_the_services_want(
    monkeypatch: pytest.MonkeyPatch, refuses: Callable[..., str]
) -> None:
    notebook = r"(.+\.ipynb)"
    for name in (None, "some-one/a.repo"):
        found = re.findall(r"\[!\[([^\]]+)\]\(([^)]+)\)\]\(([^)]+)\)", BADGES.badges(name))
        assert [alt for alt, _, _ in found] == ["Open in Colab", "Launch Binder"]
        assert all((ROOT / picture).is_file() for _, picture, _ in found)
        addresses = [address for _, _, address in found]
        if name is None:
            assert addresses == ["https://colab.research.google.com/github/", "https://mybinder.org/"]
            continue
        forms = (rf"https://colab\.research\.google\.com/github/{name}/blob/main/{notebook}",
                 rf"https://mybinder\.org/v2/gh/{name}/main\?urlpath=lab/tree/{notebook}")  # fmt: skip
        for form, address in zip(forms, addresses, strict=True):
            match = re.fullmatch(form, address)
            assert match and (ROOT / match[1]).is_file()
        assert f"git clone https://github.com/{name} " in BADGES.badges(name)
    for address in ("https://gitlab.com/a/b", "github.com/a/b", "https://github.com/a"):
        monkeypatch.setattr("tomllib.loads", lambda text, at=address: {"project": {"urls": {"Repository": at}}})
        refuses(BADGES.repository, "repository=", address)


def test_the_sources_of_the_site_are_copies_with_names_of_their_own(tmp_path: Path, capsys: Any) -> None:
    SITE.copy_sources(tmp_path / "sources")
    pages = list(SITE.pages(SITE.configuration(None)["project"]["toc"]))
    assert [page for page in pages if not (tmp_path / "sources" / page).is_file()] == []
    documents = [json.loads(path.read_text("utf-8")) for path in tmp_path.glob("sources/notebooks/*.ipynb")]
    names = [cell["id"] for document in documents for cell in document["cells"]]
    assert len(names) == len(set(names))
    quiz = (tmp_path / "sources/notebooks/00_two_minute_tour.ipynb").read_text(encoding="utf-8")
    assert quiz.count("<li>A. ") >= 5 and "<ol type=" not in quiz  # the theme would number the answers
    assert not list(tmp_path.rglob("*.safetensors"))
    assert SITE.configuration(None)["site"]["template"] == "book-theme"
    assert SITE.configuration(tmp_path)["site"]["template"] == str(tmp_path.resolve())
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["website.py", "--theme", str(tmp_path)])
        SITE.main()
    assert ended.value.code == 2 and "template.yml" in capsys.readouterr().err


@pytest.mark.nightly
@pytest.mark.skipif(shutil.which("node") is None or find_spec("mystmd_py") is None, reason="no Node.js or no mystmd")
def test_mystmd_reads_every_page_and_follows_every_reference(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/release/website.py"), "--check", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=dict(os.environ))
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "⛔" not in said and "⚠" not in said, said[-3000:]
    built = yaml.safe_load((tmp_path / "sources/_build/site/config.json").read_text(encoding="utf-8"))
    pages = list(SITE.pages(SITE.configuration(None)["project"]["toc"]))
    assert len(built["projects"][0]["pages"]) >= len(pages) - 1


# docs/check_a_model.md, the page for teams


def rows(head: str) -> list[list[str]]:
    """The cells of the table whose first line begins with ``| head |``."""
    table = TEAMS.split(f"\n| {head} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in row.strip("| ").split(" | ")] for row in table]


def test_tables_for_teams_are_what_the_code_says() -> None:
    assert {verdict: int(code) for code, verdict, _ in rows("exit code")} == defence.EXIT_CODES
    assert ", ".join(defence.EXIT_CODES) in " ".join(TEAMS.split())  # from the worst to the best
    assert sorted(row[0] for row in rows("format")) == sorted(files.FORMATS)
    walls = {row[0]: row[1] for row in rows("wall")}
    assert Limits().memory_bytes == 8 * 2**30 and "8 GiB" in walls["memory"]
    assert Limits().cpu_seconds == 3_600 and "an hour" in walls["cpu"]


def test_the_network_for_teams_is_read_and_its_report_has_the_keys_of_the_page(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert stranger.prior == "uniform" and stranger.sample_shape == (3, 16, 16)

    reports: list[dict[str, Any]] = []
    plain = defence._plain
    monkeypatch.setattr(defence, "_plain", lambda report: reports.append(report) or plain(report))
    jailed = sys.platform != "win32"
    words = ["scan", weights, "--architecture", described, "--no-twin", "--json", *([] if jailed else ["--no-jail"])]
    printed = json.loads(call(*words).stdout)
    (report,), said = reports, {row[0]: row[1] for row in rows("key")}
    assert set(said) == set(report) and report["verdict"] != "refused" and json.loads(json.dumps(report)) == report
    assert set(said) <= set(printed) and set(report) <= set(printed)
    assert all(printed[key] == report[key] for key in ("file", "model", "sentence", "not_tried", "settings"))
    assert set(printed["scan"]) == set(report["scan"]) <= set(printed)
    assert [one["name"] for one in printed["detectors"]] == [one["name"] for one in report["detectors"]]
    assert set(printed["pictures"]) == set(report["pictures"]) and any(report["pictures"].values())
    assert not any([*printed["pictures"].values(), *(one["picture"] for one in printed["detectors"])])
    assert not jailed or set(printed["jail"]["walls"]) == {row[0] for row in rows("wall")}
    for key in ("file", "model", "pictures", *(["jail"] if jailed else [])):
        named = set(re.findall(r"`(\w+)`", f"`{said[key]}`"))
        assert named and named <= set(printed[key]), key

    hostile = {"verdict": "clean", "seconds": 1.0, "scan": 7, "witness": "x", "detectors": [1], "pictures": []}
    assert json.loads(json.dumps(plain(hostile)))["verdict"] == "clean"
    assert plain({"verdict": "refused", "scan": {"verdict": "clean"}})["verdict"] == "refused"


def test_the_hook_and_the_recipe_for_teams_scan_the_same_files() -> None:
    def options_of(words: list[str]) -> list[str]:
        """The options among the words of a ``devilgan scan``, each known to it."""
        parameters = get_command(cli.app).commands["scan"].params  # type: ignore[attr-defined]
        known = {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)}
        given = [word for word in words if word.startswith("--")]
        assert set(given) <= known
        return given

    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    used, recipe = map(yaml.safe_load, FENCES(TEAMS, "yaml"))
    assert {"repo", "rev", "hooks"} == set(used["repos"][0])
    assert used["repos"][0]["hooks"][0]["id"] == hook["id"] == "devilgan-scan" and hook["require_serial"] is True
    program, command, *words = shlex.split(hook["entry"])
    assert (program, command) == ("devilgan", "scan") and options_of(words[:-1]) == ["--no-twin"]
    assert words[-1] == "--"  # a file may be called --html=x.onnx
    for name in ("a.safetensors", "b/c.pt", "d.pth", "e.pt2", "f.onnx", "g.keras", "h.BIN", "i.ckpt"):
        assert re.search(hook["files"], name)
    assert not re.search(hook["files"], "notes.pt.md")

    assert recipe["permissions"]["security-events"] == "write"
    steps = recipe["jobs"]["scan"]["steps"]
    assert all(("run" in step) != ("uses" in step) for step in steps)
    scan = next(step["run"] for step in steps if step.get("name") == "scan")
    endings = re.search(r"endings=\((.+)\)", scan)[1].split()  # type: ignore[index]
    assert sorted(endings) == sorted(re.search(r"\((\w+\|.+)\)", hook["files"])[1].split("|"))  # type: ignore[index]
    words = shlex.split(scan.split("|| ")[1])
    assert words[:2] == ["devilgan", "scan"] and options_of(words[: words.index("--")]) == ["--minutes", "--sarif"]
    assert words[words.index("--") + 1 :] == ["${models[@]}"]
    shown = next(step for step in steps if "upload-sarif" in step.get("uses", ""))
    assert shown["with"]["sarif_file"] == words[words.index("--sarif") + 1] and "always()" in shown["if"]
