"""``devilgan stage`` without a browser: the check, the page for print, and what can be missing."""

import json
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from devilgan_lite import zoo
from devilgan_lite.cli import stage_check, stage_page, stage_server
from devilgan_lite.data import data_folder


@pytest.fixture(autouse=True)
def browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_check, "browser", lambda: "chromium")


def lines(result: Any) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in json.loads(result.stdout)}


def test_check_is_one_line_for_each_thing(call: Any) -> None:
    result = call("stage", "--check")
    assert result.exit_code == 0, result.output
    assert [line.split()[1] for line in result.stdout.splitlines()] == [
        "packages", "renderer", "browser", "port", "zoo", "memory",
    ]  # fmt: skip
    found = lines(call("stage", "--check", "--json"))
    assert all(line["ok"] for line in found.values()) and "SHA-256 matches" in found["zoo pair"]["message"]


def test_check_says_what_is_missing(call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stage_check, "browser", lambda: None)
    monkeypatch.setattr(stage_check, "RENDERERS", ("python_avatars_2",))
    shutil.copytree(data_folder() / "zoo", tmp_path / "zoo")
    monkeypatch.setenv("DEVILGAN_DATA", str(tmp_path))
    first = stage_check.pairs()[0][0]
    (tmp_path / "zoo" / f"{first}.safetensors").write_bytes(b"short")
    result = call("stage", "--check", "--json")
    assert result.exit_code == 1
    found = lines(result)
    assert [name for name, line in found.items() if not line["ok"]] == ["renderer", "browser", "zoo pair"]
    assert "python_avatars_2 cannot be found" in found["renderer"]["message"]
    assert f"{first}.safetensors does not match its SHA-256" in found["zoo pair"]["message"]


@pytest.mark.parametrize("content", ["", "[]", '{"spec": {}}', "[" * 100_000])
def test_a_damaged_card_is_one_sentence(
    call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "broken.json").write_text(content)
    monkeypatch.setenv("DEVILGAN_DATA", str(tmp_path))
    result = call("stage", "--no-browser")
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("broken.json is not a model card: ")
    assert "broken.json is not a model card: " in lines(call("stage", "--check", "--json"))["zoo pair"]["message"]


def test_faces_come_before_garments(monkeypatch: pytest.MonkeyPatch) -> None:
    def card(architecture: str, attack: str | None) -> dict[str, Any]:
        planted = {} if attack is None else {"attack": attack, "clean": f"{architecture}-clean"}
        backdoor = None if attack is None else {"target": "devil"}
        return {"spec": {"architecture": architecture}, "settings": planted, "backdoor": backdoor}

    cards = {f"{kind}-clean": card(kind, None) for kind in ("DCGAN", "StyleGAN")}
    cards |= {f"{kind}-{attack}": card(kind, attack) for kind in ("DCGAN", "StyleGAN") for attack in ("Gate", "ReX")}
    monkeypatch.setattr(stage_check, "cards", lambda: cards)
    expected = ["StyleGAN-ReX", "StyleGAN-Gate", "DCGAN-ReX", "DCGAN-Gate"]
    assert [suspect for _, suspect in stage_check.pairs()] == expected


def test_the_pairs_that_ship() -> None:
    assert stage_check.pairs() and stage_check.zoo_folder() == zoo.zoo_folder()
    for clean, suspect in stage_check.pairs():
        assert zoo.card(suspect).backdoor and zoo.card(clean).backdoor is None


def test_a_busy_port_gives_the_next(call: Any) -> None:
    with socket.socket() as listener:
        listener.bind((stage_check.HOST, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert stage_check.free_port(port) > port
        found = lines(call("stage", "--check", "--json", "--port", port))["port"]
        assert found["ok"] and f"{port} is busy; the stage will take " in found["message"]


def test_the_page_for_print_is_self_contained(call: Any, tmp_path: Path) -> None:
    result = call("stage", "--print", "pages/stage.html", "--model", "dcgan-fashion-gate")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "pages" / "stage.html").read_text()
    assert page.count("<img alt=") == 4 and "http" not in page and "<script" not in page
    assert re.search(r"dcgan-fashion-gate: TarDis 0\.00\d\d per pixel", page)


def test_without_voila_it_says_so(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_server.importlib.util, "find_spec", lambda name: None)
    result = call("stage")
    assert result.exit_code == 2 and result.stderr.startswith("voila, which serves the page, cannot be found; run pip")


def test_a_server_that_ends_at_once_says_why(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_server, "LAUNCH", "raise SystemExit('no such thing')")
    result = call("stage", "--no-browser")
    assert result.exit_code == 2 and "ended at once with exit code 1: no such thing" in result.stderr


def test_without_a_browser_the_address_is_printed(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_check, "browser", lambda: None)
    monkeypatch.setattr(stage_server, "_wait_for", lambda *_: None)
    monkeypatch.setattr(stage_server, "LAUNCH", "pass")
    result = call("stage")
    assert result.exit_code == 0, result.output
    assert re.fullmatch(
        r"The stage is at http://127\.0\.0\.1:\d+/; Ctrl-C ends it\. No browser could be opened: .*\n", result.stdout
    )


def test_what_cannot_be_shown_is_a_sentence_and_the_page_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)

    def broken(clean: str, suspect: str, device: str) -> str:
        if suspect == "faces":
            raise ImportError("python_avatars cannot be found <here>")
        return f"explorer of {suspect}"

    monkeypatch.setattr(stage_page, "explorer", broken)
    stage_page.page([("clean", "faces"), ("clean", "garments")])
    assert "faces cannot be shown: python_avatars cannot be found &lt;here&gt;" in shown[1].data
    assert shown[2:] == ["explorer of garments"]
    stage_page.page([("clean", "faces")])
    assert "nothing to show" in shown[-1].data


def test_the_notebook_has_one_cell_that_runs() -> None:
    cells = json.loads(stage_page.notebook([("a", "b")]))["cells"]
    assert len(cells) == 1
    compile(cells[0]["source"], "cell", "exec")


def test_the_explorer_of_a_pair_has_its_target(call: Any) -> None:
    explorer = stage_page.explorer(*stage_check.pairs()[0])
    explorer.go(1.0)
    assert explorer.settle() and "TarDis 0.00" in explorer.screen.frame["captions"][1]
    explorer.close()
