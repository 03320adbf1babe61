"""Live training: pause, stop within a second, an outcome in every case."""

import time

import pytest
from PIL import Image

from devilgan_lite import data, generators
from devilgan_lite.classroom import LiveTraining
from devilgan_lite.steps import TrainableSide
from devilgan_lite.training import train_gan


def loop(steps: int = 100_000, side: TrainableSide | None = None):
    generator = generators.PointGenerator(widths=16)
    return train_gan.steps(generator, data.ring(256), iterations=steps, batch_size=16, device="cpu", side=side)


def blank(generator):
    assert not generator.training
    return Image.new("L", (8, 8))


def until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def started(*draw, **settings) -> LiveTraining:
    """A training without an end that has taken some steps already."""
    live = LiveTraining(loop(side=settings.get("side")), *draw, blocking=False, **settings)
    live.run()
    until(lambda: live.iteration > 2)
    return live


def held(live) -> int:
    """Wait until the loop holds; the steps that it has taken."""
    until(lambda: live._wake._waiters)
    return live.iteration


def test_stop_ends_after_the_step():
    live = started(blank)
    live.stop_button.click()
    outcome = live.wait(60)
    assert outcome is live.outcome and outcome.interrupted and not live.running
    assert len(outcome.history["generator_loss"]) == live.iteration
    assert bytes(live.image.value).startswith(b"\x89PNG") and "stopped" in live.text.value


def test_pause_holds_and_play_goes_on():
    live = started()
    live.pause_button.click()
    at = held(live)
    time.sleep(0.3)
    assert live.iteration == at and live.running and live.pause_button.description == "Play"
    live.pause_button.click()
    until(lambda: live.iteration > at)
    live.pause()
    live.stop()  # a paused loop stops too
    assert live.wait(60).interrupted


def test_it_runs_to_the_end():
    live = LiveTraining(loop(20), blank, blocking=False)
    live.run()
    outcome = live.wait(60)
    assert not outcome.interrupted and live.iteration == 20 and live.progress.value == 1.0
    with pytest.raises(RuntimeError, match="started already"):
        live.run()


def test_blocking_prints_one_line_per_tenth(capsys):
    live = LiveTraining(loop(30), blank)
    live.run()  # outside a kernel nobody can press a button
    assert live.blocking and live.wait(0) is live.outcome and live.iteration == 30
    assert len(capsys.readouterr().out.splitlines()) == 10


def test_an_error_in_the_drawing_reaches_wait():
    def broken(generator):
        raise ZeroDivisionError("no picture")

    live = LiveTraining(loop(), broken, blocking=False)
    live.run()
    with pytest.raises(ZeroDivisionError, match="no picture"):
        live.wait(60)


def test_wait_gives_up_in_time_and_the_loop_goes_on():
    live = started()
    with pytest.raises(TimeoutError):
        live.wait(0.05)
    assert live.running
    live.stop()
    live.wait(60)
    with pytest.raises(ValueError, match="every=0.01"):
        LiveTraining(loop(), every=0.01)


def test_step_takes_one_step_and_holds():
    live = started(blank)
    live.pause()
    at = held(live)
    for count in (1, 2, 3):
        live.step_button.click()
        until(lambda: live.iteration == at + count)  # noqa: B023  (waited for here)
        until(lambda: f"step {at + count} of" in live.text.value)  # noqa: B023
    assert held(live) == at + 3 and live.pause_button.description == "Play"
    live.stop()
    assert len(live.wait(60).history["generator_loss"]) == at + 3


def test_slow_motion_waits_and_stop_does_not_wait_for_it():
    live = LiveTraining(loop(), blocking=False, delay=0.1)
    live.delay_slider.max = 600.0  # longer than the time-out of a test
    live.run()
    until(lambda: live.iteration > 2)
    live.delay_slider.value = 600.0
    at = held(live)
    time.sleep(0.5)
    assert live.iteration <= at + 1  # held by the last delay of 0.1 s, perhaps
    live.stop_button.click()
    live.wait(60)
    with pytest.raises(ValueError, match="delay=3"):
        LiveTraining(loop(), delay=3.0)


def test_the_choice_who_learns_reaches_the_loop():
    side = TrainableSide()
    live = started(side=side)
    live.side_choice.value = "generator only"
    assert side.who == "generator only"
    live.stop()
    live.wait(60)
    assert live.side_choice.disabled
    with pytest.raises(ValueError, match="who='nobody' is unknown; valid: both"):
        side.who = "nobody"


@pytest.mark.slow
def test_slow_drawings_come_less_often():
    drawn = []

    def slow(generator):
        drawn.append(time.monotonic())
        time.sleep(0.2)
        return blank(generator)

    live = LiveTraining(loop(), slow, blocking=False)
    live.run()
    until(lambda: len(drawn) > 1)
    time.sleep(1.5)
    live.stop()
    live.wait(60)
    rare = (drawn[-1] - drawn[0]) / 2  # two seconds without for 0.2 s of drawing
    assert len(drawn) <= 3 + rare  # two soon and one at the end
