"""The settings of a notebook: what the profile gives, what is refused, what is written."""

from __future__ import annotations

import json

import pytest
import torch

from devilgan_lite.classroom import Setting, configure, finish

STEPS = {"smoke": 40, "workshop": 900, "full": 20_000}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("DEVILGAN_PROFILE", "DEVILGAN_THREADS", "DEVILGAN_OUT"):
        monkeypatch.delenv(name, raising=False)


def test_none_takes_the_value_of_the_profile(capsys):
    config = configure("smoke", device="cpu", seed=Setting(3, 0, 0, 10_000), steps=Setting(None, STEPS, 1, 1_000_000))
    assert (config.steps, config.seed, config.profile, config.device, config.threads) == (40, 3, "smoke", "cpu", 1)
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("steps = 40", "seed = 3", "torch", "python", "threads 1", "device cpu"))


def test_a_given_value_wins_over_the_profile():
    assert configure("smoke", device="cpu", steps=Setting(7, STEPS, 1, 1_000_000)).steps == 7


def test_the_environment_overrides_the_profile_and_says_so(monkeypatch, capsys):
    monkeypatch.setenv("DEVILGAN_PROFILE", "smoke")
    assert configure("full", device="cpu", steps=Setting(None, STEPS, 1, 1_000_000)).steps == 40
    assert "DEVILGAN_PROFILE='smoke'" in capsys.readouterr().out


def test_threads_come_from_the_environment(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("DEVILGAN_THREADS", "2")
    try:
        assert configure("smoke", device="cpu").threads == torch.get_num_threads() == 2
        monkeypatch.setenv("DEVILGAN_THREADS", "many")
        with pytest.raises(ValueError, match="DEVILGAN_THREADS='many'.*whole number"):
            configure("smoke", device="cpu")
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (Setting(0, STEPS, 1, 1_000_000), "x=0 is not valid: it must be a whole number from 1 to 1000000"),
        (Setting(2.5, STEPS, 1, 1_000_000), "x=2.5 is not valid: it must be a whole number"),
        (Setting(True, STEPS, 1, 1_000_000), "x=True"),
        (Setting(float("nan"), 0.1, 1e-4, 100.0), "x=nan is not valid: it must be a number from 0.0001 to 100.0"),
        (Setting("0.1", 0.1, 1e-4, 100.0), "x='0.1'"),
        (Setting("stop-sgn", choices=["stop-sign", "devil"]), "x='stop-sgn' is unknown.*Did you mean 'stop-sign'"),
        (Setting("1", choices=[1, 2]), "x='1' is unknown"),
        (Setting(None), "x=None is not valid"),
        (Setting([0.1, -1.0], [0.1], 0.0, 1.0), "x=-1.0"),
        (Setting(0.1, [0.1], 0.0, 1.0), "a list"),
    ],
)
def test_what_is_not_valid_is_refused_in_one_sentence(setting, message):
    with pytest.raises(ValueError, match=message) as refused:
        configure("smoke", device="cpu", x=setting)
    assert "\n" not in str(refused.value)


def test_an_unknown_profile_or_setting_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'workshop'"):
        configure("workshp")
    config = configure("smoke", device="cpu", steps=Setting(None, STEPS, 1, 1_000_000))
    with pytest.raises(AttributeError, match="Did you mean 'steps'"):
        _ = config.step
    with pytest.raises(AttributeError):
        config.steps = 3


def test_finish_writes_plain_numbers(monkeypatch, tmp_path, capsys):
    config = configure("smoke", device="cpu", seed=Setting(0, 0, 0, 10))
    monkeypatch.setenv("DEVILGAN_OUT", str(tmp_path))
    finish(config, {"tardis": torch.tensor(0.5), "curve": torch.ones(2), "bad": float("nan")})
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["numbers"] == {"tardis": 0.5, "curve": [1.0, 1.0], "bad": None}
    assert written["not_finite"] == ["numbers.bad"] and written["seed"] == 0 and written["seconds"] >= 0
    monkeypatch.delenv("DEVILGAN_OUT")
    capsys.readouterr()
    finish(config, {"tardis": 1})
    assert json.loads(capsys.readouterr().out)["numbers"] == {"tardis": 1}
