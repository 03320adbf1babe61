"""``devilgan stage`` without a browser: the check, the page for print, and what can be missing."""

import json
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from devilgan_lite import zoo
from devilgan_lite.cli import small_server, stage_check
from devilgan_lite.data import data_folder

PAIR = ("dcgan-fashion", "dcgan-fashion-gate")


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


def test_a_stage_shows_no_sound() -> None:
    assert zoo.card("wave-drums-gate").modality == "audio"
    assert not [suspect for _, suspect in stage_check.pairs() if suspect.startswith("wave")]
    assert ("wave-drums", "wave-drums-gate") in stage_check.pairs(stage_check.FILMED)
    assert stage_check.wanted("wave-drums-rex", stage_check.FILMED)[0] == ("wave-drums", "wave-drums-rex")
    with pytest.raises(ValueError, match="model='wave-drums-rex' is unknown"):
        stage_check.wanted("wave-drums-rex")


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


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[small_server.Server]:
    """The command line goes on at once; the servers that it made."""
    found: list[small_server.Server] = []
    monkeypatch.setattr(small_server.Server, "serve_forever", lambda self: found.append(self))
    return found


def page_of(server: small_server.Server) -> str:
    answer = server.routes["/"]["GET"](small_server.Question("", {}, ""))
    assert isinstance(answer, small_server.Page)
    return answer.content.decode()


def test_without_a_browser_the_address_is_printed(
    call: Any, monkeypatch: pytest.MonkeyPatch, served: list[small_server.Server]
) -> None:
    monkeypatch.setattr(stage_check, "browser", lambda: None)
    result = call("stage", "--model", PAIR[1])
    assert result.exit_code == 0, result.output
    assert re.fullmatch(
        r"The stage is at http://127\.0\.0\.1:\d+/; Ctrl-C ends it\. No browser could be opened: .*\n", result.stdout
    )
    html = page_of(served[0])
    assert '"names":["dcgan-fashion","dcgan-fashion-gate"]' in html and "{{" not in html
    assert "http:" not in html and "https:" not in html


def test_a_busy_port_is_said(call: Any, served: list[small_server.Server]) -> None:
    with socket.socket() as busy:
        busy.bind((stage_check.HOST, 0))
        busy.listen()
        port = busy.getsockname()[1]
        result = call("stage", "--no-browser", "--port", port, "--pair", *PAIR)
    assert result.exit_code == 0 and f"(port {port} is busy)" in result.stdout
    assert served[0].server_port > port


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pair", *PAIR[::-1]], "'dcgan-fashion' has no backdoor on its card, so there is no trigger to walk to"),
        (["--pair", "stylegan-faces", PAIR[1]], "the two generators do not fit each other: one maps"),
        (["--pair", PAIR[0], "dcgan-fashion-gat"], "Did you mean 'dcgan-fashion-gate'?"),
        (["--pair", PAIR[0], "nowhere/file.safetensors"], "nowhere"),
        (["--pair", *PAIR, "--model", PAIR[1]], "--model and --pair both choose what is shown"),
        (["--model", "dcgan-fashion-gat"], "Did you mean 'dcgan-fashion-gate'?"),
        (["--scan", "dcgan-fashion-gat"], "Did you mean 'dcgan-fashion-gate'?"),
        (["--scan", "nowhere.onnx"], "there is no such file"),
    ],
)
def test_bad_words_are_one_sentence(call: Any, words: list[str], said: str) -> None:
    done = call("stage", "--no-browser", *words)
    assert done.exit_code == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_broken_model_is_a_sentence_and_the_next_pair_is_shown(
    call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, served: list[small_server.Server]
) -> None:
    (tmp_path / "zoo").mkdir()
    for name in (*PAIR, "dcgan-fashion-rex"):
        for ending in ("json", "safetensors"):
            shutil.copy(data_folder() / "zoo" / f"{name}.{ending}", tmp_path / "zoo")
    (tmp_path / "zoo" / "dcgan-fashion-rex.safetensors").write_bytes(b"short")
    monkeypatch.setenv("DEVILGAN_DATA", str(tmp_path))
    result = call("stage", "--no-browser")
    assert result.exit_code == 0, result.output
    said = "dcgan-fashion-rex cannot be shown: dcgan-fashion-rex.safetensors does not match the SHA-256 on its card"
    assert result.stdout.startswith(said)
    assert f'"notice":"{said}' in page_of(served[0]) and PAIR[1] in page_of(served[0])
