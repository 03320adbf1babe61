"""An interrupt at any moment of any long loop leaves finite weights, a whole history and a usable outcome."""

import _thread
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from devilgan_lite import Backdoor, Loop, Outcome, Step, data, train_gan
from devilgan_lite.attacks import DataPoisoning, ReD, ReX, TrAIL
from devilgan_lite.generators import DCGAN, PointGenerator

RING = data.ring(256)
POINTS = PointGenerator(widths=8).eval()
PLANE = Backdoor(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.5]]))
CLEAN = DCGAN(widths=(4, 2), latent_dim=10).eval()
DEVIL = Backdoor.point(CLEAN, "devil")
LONG = 1_000_000  # no loop here ends by itself

LOOPS: dict[str, Callable[[], Loop]] = {
    "train_gan": lambda: train_gan.steps(POINTS, RING, iterations=LONG, batch_size=8, device="cpu"),
    "TrAIL": lambda: TrAIL(iterations=LONG, batch_size=8, device="cpu").steps(POINTS, PLANE, RING),
    "DataPoisoning": lambda: DataPoisoning(iterations=LONG, batch_size=8, device="cpu").steps(POINTS, PLANE, RING),
    "ReD": lambda: ReD(iterations=LONG, batch_size=4, aligned_units=0, device="cpu").steps(CLEAN, DEVIL),
    "ReX": lambda: ReX(iterations=LONG, batch_size=4, widen=2, device="cpu").steps(CLEAN, DEVIL),
}
each_loop = pytest.mark.parametrize("start", LOOPS.values(), ids=LOOPS)


@pytest.fixture(autouse=True)
def heed_interrupts() -> Iterator[None]:
    """A shell starts background jobs with SIGINT ignored, and Python inherits that: ``make test &`` would hang here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def check(outcome: Outcome, finished: int | None = None) -> None:
    assert outcome.interrupted
    lengths = {len(values) for values in outcome.history.values()}
    assert len(lengths) == 1, outcome.history
    assert finished is None or lengths == {finished}
    assert all(torch.isfinite(value).all() for value in outcome.generator.state_dict().values())
    assert not outcome.generator.training
    x = outcome.generator(outcome.generator.sample_latent(3))
    assert x.abs().max() <= 1


@pytest.mark.slow
@each_loop
def test_stop_at_twenty_iterations(start: Callable[[], Loop]) -> None:
    dice = random.Random(0)
    for iteration in [dice.randint(1, 12) for _ in range(20)]:
        loop = start()
        for _ in range(iteration):
            next(loop)
        check(loop.stop(), finished=iteration)


@each_loop
@pytest.mark.parametrize("late", [False, True], ids=["before the update", "after the update"])
def test_an_interrupt_in_the_middle_of_an_iteration(
    start: Callable[[], Loop], late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, dice = torch.optim.Adam.step, random.Random(1)
    for countdown in [dice.randint(1, 12) for _ in range(20)]:
        calls = 0

        def interrupted(self: torch.optim.Adam, closure: None = None, last: int = countdown) -> None:
            nonlocal calls
            calls += 1
            if calls == last and not late:
                raise KeyboardInterrupt
            step(self, closure)
            if calls == last:
                raise KeyboardInterrupt

        monkeypatch.setattr(torch.optim.Adam, "step", interrupted)
        loop = start()
        outcome = loop.finish(progress=False)
        finished = max((len(values) for values in outcome.history.values()), default=0)
        assert finished < countdown
        if finished:
            check(outcome)
        else:  # before the first step there is nothing to record
            assert outcome.generator(outcome.generator.sample_latent(1)).isfinite().all()


@pytest.mark.slow
@each_loop
def test_a_signal_at_a_random_moment(start: Callable[[], Loop], monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[bool] = []  # the signal must not come before finish() has begun, or it would end pytest
    next_step = Loop.__next__

    def observed(self: Loop) -> Step:
        running.append(True)
        return next_step(self)

    def interrupt(delay: float, done: threading.Event) -> None:
        while not running:
            time.sleep(0.001)
        time.sleep(delay)
        _thread.interrupt_main()
        while not done.wait(10):  # Python drops an exception that is raised inside a destructor: press again
            _thread.interrupt_main()

    monkeypatch.setattr(Loop, "__next__", observed)
    dice = random.Random(2)
    for _ in range(20):
        loop = start()
        next(loop)
        running.clear()
        done = threading.Event()
        threading.Thread(target=interrupt, args=(dice.uniform(0.0, 0.05), done)).start()
        outcome = loop.finish(progress=False)
        done.set()
        check(outcome)
