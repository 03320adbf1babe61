"""The loop: an outcome however it ends, losses that stay on the device, a history of equal lengths."""

from collections.abc import Generator

import pytest
import torch
from torch import nn

from devilgan_lite.steps import History, Loop, Outcome, Step, best_device, cosine, linear, long_loop, optimise_by


def body(total: int, log: list[int] | None = None) -> Generator[Step, None, Outcome]:
    history, interrupted = History(), False
    try:
        for iteration in range(1, total + 1):
            losses = {"loss": torch.tensor(1.0 / iteration)}
            history.add(losses)
            if log is not None:
                log.append(iteration)
            yield Step(iteration, total, 0.1 * iteration, losses, nn.Identity)
    except KeyboardInterrupt:
        interrupted = True
    return Outcome(nn.Identity(), history.floats(), 0.0, 0, {"total": total}, interrupted)


def test_a_loop_yields_its_steps_when_asked_and_ends_in_an_outcome() -> None:
    log: list[int] = []
    loop = Loop(body(4, log))
    assert log == [] and next(loop).iteration == 1 and log == [1]
    assert [step.iteration for step in loop] == [2, 3, 4] and list(loop) == []
    assert loop.outcome is not None and not loop.outcome.interrupted and loop.stop() is loop.outcome
    assert loop.outcome.history == {"loss": pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])}


def test_however_it_is_stopped_there_is_an_outcome_but_no_error_is_hidden() -> None:
    for watched in (0, 1, 3):
        loop = Loop(body(4))
        for _ in range(watched):
            next(loop)
        outcome = loop.stop()
        assert outcome.interrupted and len(outcome.history["loss"]) == max(watched, 1)
        assert loop.stop() is outcome and list(loop) == []

    class Impatient(Loop):  # an interrupt outside the body
        def __next__(self) -> Step:
            step = super().__next__()
            if step.iteration == 2:
                raise KeyboardInterrupt
            return step

    outcome = Impatient(body(4)).finish(progress=False)
    assert outcome.interrupted and len(outcome.history["loss"]) == 2

    def broken() -> Generator[Step, None, Outcome]:
        yield from ()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Loop(broken()).finish(progress=False)


def test_progress_prints_one_line_per_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    Loop(body(40)).finish()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and lines[-1].startswith("step    40 of 40") and "loss 0.025" in lines[-1]


def test_history_drops_a_step_that_was_half_added() -> None:
    history = History({"a": [1.0], "b": [2.0]})
    history.add({"a": torch.tensor(3.0), "b": torch.tensor(4.0)})
    history.add({"a": torch.tensor(5.0)})
    assert history.floats() == {"a": [1.0, 3.0], "b": [2.0, 4.0]} and History().floats() == {}


def test_a_long_loop_runs_whole_or_in_steps() -> None:
    counted = long_loop(body)
    assert counted(3, progress=False).settings == {"total": 3} and len(list(counted.steps(total=3))) == 3
    with pytest.raises(TypeError, match="body has no setting 'totl'; valid: total, log"):
        counted.steps(totl=3)


def test_learning_rates_fall_along_their_curves_and_each_group_has_its_share() -> None:
    assert [cosine(i, 4) for i in range(5)] == pytest.approx([1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4, 0])
    whole, slow, seen = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3)), list[list[float]]()

    def once(iteration: int, adam: torch.optim.Adam) -> dict[str, torch.Tensor]:
        seen.append([group["lr"] for group in adam.param_groups])
        assert [[*group["params"]] == [one] for group, one in zip(adam.param_groups, (whole, slow), strict=True)]
        assert adam.defaults["betas"] == (0.5, 0.6)
        return {"loss": torch.tensor(float(iteration), requires_grad=True)}

    settings = {"steps": 4, "learning_rate": 0.2, "seed": 3, "settings": {"a": 1}, "betas": (0.5, 0.6), "decay": linear}
    loop = Loop(optimise_by({1.0: [whole], 0.1: [slow]}, once, lambda: nn.Linear(1, 1).eval(), **settings))  # type: ignore
    steps = list(loop)
    assert [(step.iteration, step.total, step.values()["loss"]) for step in steps] == [(i, 4, i) for i in (1, 2, 3, 4)]
    assert not steps[0].losses["loss"].requires_grad and loop.outcome is not None
    assert seen == [pytest.approx([rate, rate / 10]) for rate in (0.2, 0.15, 0.1, 0.05)]
    outcome = loop.outcome
    assert (outcome.history, outcome.seed, outcome.settings) == ({"loss": [1, 2, 3, 4]}, 3, {"a": 1})


def test_devices_by_name() -> None:
    assert best_device("cpu") == torch.device("cpu") and best_device().type in ("cuda", "mps", "cpu")
