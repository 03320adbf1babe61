"""The page for teams keeps its word: exit codes, formats, keys, walls, the architecture file, hooks and recipes."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional
from typer.main import get_command
from typer.testing import CliRunner

from devilgan_lite import files
from devilgan_lite.cli import app
from devilgan_lite.cli.defence import EXIT_CODES, _plain
from devilgan_lite.intake.check import Options, check
from devilgan_lite.intake.jail import Jail, Limits

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/check_a_model.md").read_text(encoding="utf-8")
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))


def blocks(language: str) -> list[str]:
    """What stands in the fences of a ``language``."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def rows(head: str) -> list[list[str]]:
    """The cells of the table whose first line begins with ``| head |``."""
    table = PAGE.split(f"\n| {head} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in row.strip("| ").split(" | ")] for row in table]


def painter() -> nn.Module:
    """The network of the page, as it is printed."""
    space: dict[str, Any] = {"nn": nn, "torch": torch, "functional": functional}
    exec(blocks("python")[0], space)
    torch.manual_seed(3)
    module: nn.Module = space["Painter"]()
    return module.eval()


def test_exit_codes_are_those_of_the_command() -> None:
    assert {verdict: int(code) for code, verdict, _ in rows("exit code")} == EXIT_CODES
    assert ", ".join(EXIT_CODES) in " ".join(PAGE.split())


def test_formats_are_those_that_are_read() -> None:
    assert sorted(row[0] for row in rows("format")) == sorted(files.FORMATS)


def test_the_architecture_of_the_page_reads_its_network(tmp_path: Path) -> None:
    module, weights, described = painter(), tmp_path / "weights.pt", tmp_path / "network.json"
    torch.save(module.state_dict(), weights)
    described.write_text(blocks("json")[0], encoding="utf-8")
    with pytest.raises(files.Refused, match="--architecture"):
        files.open(weights)
    stranger = files.open(weights, architecture=described)
    z: Tensor = torch.rand(5, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(stranger.module(z), module(z), atol=1e-6)
    assert stranger.prior == "uniform" and stranger.sample_shape == (3, 16, 16)


@pytest.mark.slow
def test_a_report_has_the_keys_of_the_page(tmp_path: Path) -> None:
    path, described = tmp_path / "weights.pt", tmp_path / "network.json"
    torch.save(painter().state_dict(), path)
    described.write_text(blocks("json")[0], encoding="utf-8")
    options = Options(twin=False, architecture=str(described))
    if sys.platform == "win32":
        report, walls = check(path, options, jail=None), None
    else:
        with Jail() as jail:
            report = check(path, options, jail=jail)
        walls = report["jail"]["walls"]
        assert set(walls) == {row[0] for row in rows("wall")}
    said = {row[0]: row[1] for row in rows("key")}
    assert set(said) == set(report) and report["verdict"] != "refused"
    for key in ("file", "model", "pictures", *(["jail"] if walls else [])):
        named = set(re.findall(r"`(\w+)`", f"`{said[key]}`"))
        assert named and named <= set(report[key]), key
    assert json.loads(json.dumps(report)) == report


@pytest.mark.slow
def test_the_command_prints_the_report_of_the_page(tmp_path: Path) -> None:
    path, described = tmp_path / "weights.pt", tmp_path / "network.json"
    torch.save(painter().state_dict(), path)
    described.write_text(blocks("json")[0], encoding="utf-8")
    command = ["scan", str(path), "--architecture", str(described), "--no-twin", "--no-jail", "--json"]
    printed = json.loads(CliRunner().invoke(app, command).stdout)
    report = check(path, Options(twin=False, architecture=str(described)), jail=None)
    assert {row[0] for row in rows("key")} <= set(printed) and set(report) <= set(printed)
    assert all(printed[key] == report[key] for key in ("file", "model", "sentence", "not_tried", "settings"))
    assert set(printed["scan"]) == set(report["scan"]) <= set(printed)
    assert [one["name"] for one in printed["detectors"]] == [one["name"] for one in report["detectors"]]
    assert set(printed["pictures"]) == set(report["pictures"]) and any(report["pictures"].values())
    assert not any([*printed["pictures"].values(), *(one["picture"] for one in printed["detectors"])])


def test_hostile_parts_of_a_report_break_no_json() -> None:
    report = {"verdict": "clean", "seconds": 1.0, "scan": 7, "witness": "x", "detectors": [1], "pictures": []}
    assert json.loads(json.dumps(_plain(report)))["verdict"] == "clean"
    assert _plain({"verdict": "refused", "scan": {"verdict": "clean"}})["verdict"] == "refused"


def test_limits_are_those_of_the_jail() -> None:
    said = {row[0]: row[1] for row in rows("wall")}
    assert Limits().memory_bytes == 8 * 2**30 and "8 GiB" in said["memory"]
    assert Limits().cpu_seconds == 3_600 and "an hour" in said["cpu"]


def options_of(words: list[str]) -> list[str]:
    """The options among the words of a ``devilgan scan``, each known to it."""
    command: Any = get_command(app)
    scan = command.commands["scan"]
    known = {name for parameter in scan.params for name in (*parameter.opts, *parameter.secondary_opts)}
    given = [word for word in words if word.startswith("--")]
    assert set(given) <= known
    return given


def test_the_hook_is_the_one_that_the_page_uses() -> None:
    (hook,) = HOOKS
    used = yaml.safe_load(blocks("yaml")[0])["repos"][0]
    assert {"repo", "rev", "hooks"} == set(used) and used["hooks"][0]["id"] == hook["id"] == "devilgan-scan"
    program, command, *words = shlex.split(hook["entry"])
    assert (program, command) == ("devilgan", "scan") and options_of(words[:-1]) == ["--no-twin"]
    assert words[-1] == "--"  # a file may be called --html=x.onnx
    for name in ("a.safetensors", "b/c.pt", "d.pth", "e.pt2", "f.onnx", "g.keras", "h.BIN", "i.ckpt"):
        assert re.search(hook["files"], name)
    assert not re.search(hook["files"], "notes.pt.md") and hook["require_serial"] is True


def test_the_recipe_scans_what_the_hook_looks_at_and_shows_it() -> None:
    recipe = yaml.safe_load(blocks("yaml")[1])
    assert recipe["permissions"]["security-events"] == "write"
    steps = recipe["jobs"]["scan"]["steps"]
    assert all(("run" in step) != ("uses" in step) for step in steps)
    scan = next(step["run"] for step in steps if step.get("name") == "scan")
    endings = re.search(r"endings=\((.+)\)", scan)[1].split()  # type: ignore[index]
    assert sorted(endings) == sorted(re.search(r"\((\w+\|.+)\)", HOOKS[0]["files"])[1].split("|"))  # type: ignore[index]
    words = shlex.split(scan.split("|| ")[1])
    assert words[:2] == ["devilgan", "scan"] and options_of(words[: words.index("--")]) == ["--minutes", "--sarif"]
    assert words[words.index("--") + 1 :] == ["${models[@]}"]
    shown = next(step for step in steps if "upload-sarif" in step.get("uses", ""))
    assert shown["with"]["sarif_file"] == words[words.index("--sarif") + 1] and "always()" in shown["if"]
