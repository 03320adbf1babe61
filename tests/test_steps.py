"""The loop: an outcome however it ends, losses that stay on the device, a history of equal lengths."""

from collections.abc import Generator

import pytest
import torch
from torch import nn

from devilgan_lite.steps import History, Loop, Outcome, Step, long_loop


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


def test_a_loop_yields_its_steps_and_ends_in_an_outcome() -> None:
    loop = Loop(body(4))
    assert [step.iteration for step in loop] == [1, 2, 3, 4]
    assert loop.outcome is not None
    assert not loop.outcome.interrupted
    assert loop.outcome.history == {"loss": pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])}
    assert list(loop) == []
    assert loop.stop() is loop.outcome


@pytest.mark.parametrize("watched", [0, 1, 3])
def test_a_stopped_loop_has_an_outcome(watched: int) -> None:
    loop = Loop(body(4))
    for _ in range(watched):
        next(loop)
    outcome = loop.stop()
    assert outcome.interrupted
    assert len(outcome.history["loss"]) == max(watched, 1)
    assert loop.stop() is outcome
    assert list(loop) == []


def test_a_loop_does_nothing_until_it_is_asked() -> None:
    log: list[int] = []
    loop = Loop(body(4, log))
    assert log == []
    next(loop)
    assert log == [1]


def test_an_interrupt_outside_the_body_ends_in_an_outcome() -> None:
    loop = Loop(body(4))
    original = loop.__next__

    class Impatient(Loop):
        def __next__(self) -> Step:
            step = original()
            if step.iteration == 2:
                raise KeyboardInterrupt
            return step

    impatient = Impatient(loop._body)
    outcome = impatient.finish(progress=False)
    assert outcome.interrupted
    assert len(outcome.history["loss"]) == 2


def test_an_error_in_the_body_is_not_hidden() -> None:
    def broken() -> Generator[Step, None, Outcome]:
        yield from ()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Loop(broken()).finish(progress=False)


def test_progress_prints_one_line_per_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    Loop(body(40)).finish()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith("step    40 of 40")
    assert "loss 0.025" in lines[-1]


def test_history_drops_a_step_that_was_half_added() -> None:
    history = History({"a": [1.0], "b": [2.0]})
    history.add({"a": torch.tensor(3.0), "b": torch.tensor(4.0)})
    history.add({"a": torch.tensor(5.0)})
    assert history.floats() == {"a": [1.0, 3.0], "b": [2.0, 4.0]}
    assert History().floats() == {}


def test_a_long_loop_runs_whole_or_in_steps() -> None:
    counted = long_loop(body)
    assert counted(3, progress=False).settings == {"total": 3}
    assert len(list(counted.steps(total=3))) == 3
    with pytest.raises(TypeError, match="body has no setting 'totl'; valid: total, log"):
        counted.steps(totl=3)
