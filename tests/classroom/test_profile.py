"""The settings of a notebook: what the profile gives, what is refused, what is written."""

import json

import pytest
import torch

from devilgan_lite import zoo
from devilgan_lite.classroom import Setting, configure, finish

STEPS = {"smoke": 40, "workshop": 900, "full": 20_000}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("DEVILGAN_PROFILE", "DEVILGAN_THREADS", "DEVILGAN_OUT"):
        monkeypatch.delenv(name, raising=False)


def test_none_takes_the_value_of_the_profile(capsys):
    config = configure("smoke", device="cpu", seed=3, steps=Setting(None, STEPS))
    assert (config.steps, config.seed, config.profile, config.device, config.threads) == (40, 3, "smoke", "cpu", 1)
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("steps = 40", "seed = 3", "torch", "python", "threads 1", "device cpu"))


def test_a_given_value_wins_over_the_profile():
    assert configure("smoke", device="cpu", steps=Setting(7, STEPS)).steps == 7


def test_the_environment_overrides_the_profile_and_says_so(monkeypatch, capsys):
    monkeypatch.setenv("DEVILGAN_PROFILE", "smoke")
    assert configure("full", device="cpu", steps=Setting(None, STEPS)).steps == 40
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


CELL = """\
profile = "smoke"  # how long it may take: smoke | workshop | full
seed = {seed}  # of everything, 0..10000
lam = {lam}  # weight, 0.0001..100.0
steps = {steps}  # of the training, 1..1000000
target = {target}  # what to show: stop-sign | devil
"""
GOOD = {"seed": "0", "lam": "0.1", "steps": "None", "target": "'devil'"}
CONFIGURE = """\
from devilgan_lite.classroom import Setting, configure
config = configure(profile, device="cpu", seed=seed, lam=lam, steps=Setting(steps, {"smoke": 40}), target=target)
"""


@pytest.fixture
def notebook(monkeypatch, tmp_path):
    """A shell in which cells are run; an error in one is raised."""
    from IPython.core.interactiveshell import InteractiveShell

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(colors="nocolor")
    yield lambda *cells: [shell.run_cell(cell, store_history=True).raise_error() for cell in cells] and shell.user_ns
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": "0"}, "steps=0 is not valid: it must be a whole number from 1 to 1000000"),
        ({"steps": "2.5"}, "steps=2.5 is not valid: it must be a whole number"),
        ({"steps": "True"}, "steps=True"),
        ({"seed": "10_001"}, "seed=10001 is not valid: it must be a whole number from 0 to 10000"),
        ({"seed": "None"}, "seed=None is not valid"),
        ({"lam": "1e5"}, "lam=100000.0 is not valid: it must be a number from 0.0001 to 100.0"),
        ({"lam": "'0.1'"}, "lam='0.1'"),
        ({"target": "'stop-sgn'"}, "target='stop-sgn' is not valid: .* stop-sign, devil.*Did you mean 'stop-sign'"),
        ({"target": f"'{'x' * 10_000}'"}, "target='x{79} is not valid"),
    ],
)
def test_what_the_parameters_cell_rules_out_is_refused_in_one_sentence(notebook, changed, message):
    with pytest.raises(ValueError, match=message) as refused:
        notebook(CELL.format_map(GOOD | changed), CONFIGURE)
    assert "\n" not in str(refused.value)


def test_a_cell_that_papermill_adds_is_checked_as_well(notebook):
    assert notebook(CELL.format_map(GOOD), "# Parameters\nsteps = 7", CONFIGURE)["config"].steps == 7
    with pytest.raises(ValueError, match="steps=0 is not valid"):
        notebook(CELL.format_map(GOOD), "# Parameters\nsteps = 0", CONFIGURE)


def test_without_a_cell_the_type_of_the_default_is_checked():
    for value in ("1", 2.5, True, [1]):
        with pytest.raises(ValueError, match="steps=.* is not valid: it must be a whole number"):
            configure("smoke", device="cpu", steps=Setting(value, STEPS))


def test_an_unknown_profile_or_setting_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'workshop'"):
        configure("workshp")
    config = configure("smoke", device="cpu", steps=Setting(None, STEPS))
    with pytest.raises(AttributeError, match="Did you mean 'steps'"):
        _ = config.step
    with pytest.raises(AttributeError):
        config.steps = 3


def test_finish_writes_plain_numbers(monkeypatch, tmp_path, capsys):
    config = configure("smoke", device="cpu", seed=0)
    monkeypatch.setenv("DEVILGAN_OUT", str(tmp_path))
    zoo.load("dcgan-fashion")
    finish(config, {"tardis": torch.tensor(0.5), "curve": torch.ones(2), "bad": float("nan")})
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["zoo"]["dcgan-fashion"] == zoo.card("dcgan-fashion").sha256
    assert written["numbers"] == {"tardis": 0.5, "curve": [1.0, 1.0], "bad": None}
    assert written["not_finite"] == ["numbers.bad"] and written["seed"] == 0 and written["seconds"] >= 0
    monkeypatch.delenv("DEVILGAN_OUT")
    capsys.readouterr()
    finish(config, {"tardis": 1})
    assert json.loads(capsys.readouterr().out)["numbers"] == {"tardis": 1}
