"""The settings of a notebook: what the profile gives, what is refused, what is written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from devilgan_lite import zoo
from devilgan_lite.apps.course import Setting, configure, finish

STEPS = {"smoke": 40, "workshop": 900, "full": 20_000}
CELL = """\
profile = "smoke"  # how long it may take: smoke | workshop | full
seed = {seed}  # of everything, 0..10000
lam = {lam}  # weight, 0.0001..100.0
steps = {steps}  # of the training, 1..1000000
target = {target}  # what to show: stop-sign | devil
"""
GOOD = {"seed": "0", "lam": "0.1", "steps": "None", "target": "'devil'"}
CONFIGURE = """\
from devilgan_lite.apps.course import Setting, configure
config = configure(profile, device="cpu", seed=seed, lam=lam, steps=Setting(steps, {"smoke": 40}), target=target)
"""


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEVILGAN_PROFILE", "DEVILGAN_THREADS", "DEVILGAN_OUT"):
        monkeypatch.delenv(name, raising=False)


def test_the_profile_the_cell_and_the_environment_decide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refuses: Callable[..., str]
) -> None:
    def steps(profile: str, value: Any = None) -> Any:
        return configure(profile, device="cpu", steps=Setting(value, STEPS)).steps

    config = configure("smoke", device="cpu", seed=3, steps=Setting(None, STEPS))
    assert (config.steps, config.seed, config.profile, config.device, config.threads) == (40, 3, "smoke", "cpu", 1)
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("steps = 40", "seed = 3", "torch", "python", "threads 1", "device cpu"))
    assert [steps(name) for name in STEPS] == list(STEPS.values()) and steps("smoke", 7) == 7
    with pytest.raises(AttributeError, match="'steps'"):
        _ = config.step
    with pytest.raises(AttributeError):
        config.steps = 3
    for value in ("1", 2.5, True, [1]):  # without a parameters cell, the type of the default
        refuses(lambda value=value: steps("smoke", value), "steps=")
    refuses(lambda: configure("workshp"), "'workshop'")
    refuses(lambda: configure("smoke", device="gpu"), "device")
    refuses(lambda: configure("smoke", device="cpu", threads=3), "threads")
    monkeypatch.setenv("DEVILGAN_PROFILE", "smoke")
    assert steps("full") == 40 and "DEVILGAN_PROFILE='smoke'" in capsys.readouterr().out
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("DEVILGAN_THREADS", "2")
        assert configure("smoke", device="cpu").threads == torch.get_num_threads() == 2
        monkeypatch.setenv("DEVILGAN_THREADS", "many")
        refuses(lambda: configure("smoke", device="cpu"), "DEVILGAN_THREADS='many'")
    finally:
        torch.set_num_threads(before)


def test_what_the_parameters_cell_rules_out_is_refused(shell: Any, refuses: Callable[..., str]) -> None:
    def config(*cells: str) -> Any:
        del shell.user_ns["In"][1:]
        for cell in (*cells, CONFIGURE):
            shell.run_cell(cell, store_history=True).raise_error()
        return shell.user_ns["config"]

    assert config(CELL.format_map(GOOD)).steps == 40
    assert config(CELL.format_map(GOOD), "# Parameters\nsteps = 7").steps == 7  # what papermill adds
    refuses(lambda: config(CELL.format_map(GOOD), "# Parameters\nsteps = 0"), "steps=0")
    for name, value, *words in (
        ("steps", "0", "steps=0", "from 1 to 1000000"),
        ("steps", "2.5", "steps=2.5", "whole number"),
        ("seed", "10_001", "seed=10001", "from 0 to 10000"),
        ("seed", "None", "seed=None"),
        ("lam", "1e5", "lam=100000.0", "from 0.0001 to 100.0"),
        ("lam", "'0.1'", "lam='0.1'"),
        ("target", "'stop-sgn'", "target='stop-sgn'", "stop-sign, devil"),
        ("target", f"'{'x' * 10_000}'", "target='x"),
    ):
        assert len(refuses(lambda n=name, v=value: config(CELL.format_map(GOOD | {n: v})), *words)) < 400


def test_finish_writes_plain_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure("smoke", device="cpu", seed=0)
    zoo.load("dcgan-fashion")
    monkeypatch.setenv("DEVILGAN_OUT", str(tmp_path))
    finish(config, {"tardis": torch.tensor(0.5), "curve": torch.ones(2), "bad": float("nan")})
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["zoo"]["dcgan-fashion"] == zoo.card("dcgan-fashion").sha256
    assert written["numbers"] == {"tardis": 0.5, "curve": [1.0, 1.0], "bad": None}
    assert written["not_finite"] == ["numbers.bad"] and written["seed"] == 0 and written["seconds"] >= 0
    monkeypatch.delenv("DEVILGAN_OUT")
    capsys.readouterr()
    finish(config, {"tardis": 1})
    assert json.loads(capsys.readouterr().out)["numbers"] == {"tardis": 1}
