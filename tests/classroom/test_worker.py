"""A thread that keeps up with the latest wish, and ends by itself."""

import threading
import time

from devilgan_lite.classroom.widgets import worker
from devilgan_lite.classroom.widgets.worker import Latest


def test_the_latest_wish_wins():
    gate, done = threading.Event(), []

    def work(wish: int) -> None:
        gate.wait(5)
        done.append(wish)

    latest = Latest(work, "test")
    for wish in range(100):
        latest.put(wish)
        time.sleep(0.001)
    gate.set()
    assert latest.settle() and done[-1] == 99 and len(done) <= 3


def test_an_error_is_kept_and_the_next_wish_is_granted(capfd):
    done = []
    latest = Latest(lambda wish: done.append(1 / wish), "test")
    latest.put(0)
    assert latest.settle() and isinstance(latest.error, ZeroDivisionError)
    latest.put(2)
    assert latest.settle() and done == [0.5]
    assert capfd.readouterr() == ("", "")


def test_an_idle_thread_ends_and_starts_again(monkeypatch):
    monkeypatch.setattr(worker, "IDLE", 0.05)
    done: list[int] = []
    latest = Latest(done.append, "test")
    latest.put(1)
    time.sleep(0.3)
    assert latest._thread is None
    latest.put(2)
    assert latest.settle() and done == [1, 2]


def test_settle_gives_up_in_time():
    latest = Latest(lambda wish: time.sleep(0.3), "test")
    latest.put(1)
    assert not latest.settle(0.05)
    latest.close()
    assert latest.settle()
