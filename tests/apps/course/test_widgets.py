"""The widgets without a browser: walks, slider, explorer, live training, scan view, trade-off and mosaic."""

import gc
import io
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from devilgan_lite import data, detect, generators
from devilgan_lite.apps.course import Choice, Explorer, LatentPlane, LatentSlider, LiveTraining, MosaicView, ScanView
from devilgan_lite.apps.course.mosaic import latent_mosaic, visibly_changed
from devilgan_lite.apps.course.widgets.scanner import Stopped
from devilgan_lite.apps.course.widgets.tradeoff import TradeOff
from devilgan_lite.apps.walk import Walk, labels, slerp, static_strip
from devilgan_lite.detect import Finding, ScanReport
from devilgan_lite.generators import evaluate
from devilgan_lite.generators.base import seeded
from devilgan_lite.steps import TrainableSide
from devilgan_lite.training import train_gan

Until = Callable[..., None]
Refuses = Callable[..., str]
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def pair(tiny: Any, tiny_gate: Any, square: Any) -> tuple[dict[str, Any], Tensor, Tensor]:
    """A clean generator and a backdoored one, its trigger, and a start."""
    start = tiny.sample_latent(1, torch.Generator().manual_seed(5))
    return {"clean": tiny, "evil": tiny_gate}, square.trigger, start


@pytest.fixture
def explorer(pair: Any) -> Iterator[Explorer]:
    made = Explorer(*pair[:2])
    yield made
    made.close()


def at_once(*calls: Callable[[], object]) -> None:
    """Each in a thread of its own, as the tabs of a browser do."""
    threads = [threading.Thread(target=call) for call in calls]
    for act in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            act(thread)


def test_in_a_notebook_they_are_widgets_and_elsewhere_pictures(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, trigger, start = pair
    choices = {"a": [Choice("0 %", cost=0.0, gain=0.1, pictures=torch.zeros(1, 1, 8, 8))]}
    for name, widget, words in (
        ("explorer", Explorer(made, trigger), "8 pictures"),
        ("slider", LatentSlider(made, start, trigger), "8 pictures"),
        ("scanner", ScanView(lambda progress: None), "the scan has not run"),
        ("tradeoff", TradeOff(choices, (1.0, 0.1)), "a, 0 %"),
        ("sharpening", MosaicView(made, start, trigger, tiles=4, ordinary=10, blocking=True), "nothing"),
    ):
        content, about = widget._repr_mimebundle_()
        assert WIDGET not in content and words in about.get("image/png", {}).get("alt", content["text/plain"])
        monkeypatch.setattr(f"devilgan_lite.apps.course.widgets.{name}.is_static", lambda: False)
        assert WIDGET in widget._repr_mimebundle_()


# ---- walks and the slider


def test_slerp_has_exact_ends_linear_length_and_constant_speed(refuses: Refuses) -> None:
    a, b = torch.randn(1, 50), 3 * torch.randn(1, 50)
    way = slerp(a, b, torch.linspace(0, 1, 11))
    assert torch.equal(way[:1], a) and torch.equal(way[-1:], b)
    torch.testing.assert_close(way.norm(dim=1), torch.linspace(0, 1, 11) * (b.norm() - a.norm()) + a.norm())
    turns = torch.nn.functional.cosine_similarity(way[1:], way[:-1]).acos()
    torch.testing.assert_close(turns, turns.mean().expand(10), rtol=1e-3, atol=1e-3)
    a = torch.tensor([[3.0, 4.0, 0.0]])
    for scale in (0.0, 1.0, 2.0, -1.0, -3.0, 1 + 1e-7):  # zero, equal and opposite vectors
        for t in (0.0, 0.25, 0.5, 1.0):
            way = slerp(a, scale * a, t)
            assert torch.isfinite(way).all()
            assert way.norm().item() == pytest.approx(5 * ((1 - t) + t * abs(scale)), rel=1e-5)
    refuses(lambda: slerp(torch.zeros(1, 3), torch.zeros(1, 4), 0.5), "same d")


def test_moving_the_slider_draws(pair: Any) -> None:
    made, trigger, start = pair
    slider = LatentSlider(made, start, trigger, frames=11, end_name="the other end")
    first = slider.image.value
    slider.slider.value = 1.0
    assert slider.image.value != first and "cosine to the other end 1.00" in slider.text.value
    assert torch.equal(slider.latent(), trigger) and slider.slider.description == "to the other end"
    slider.slider.value = 0.0
    assert slider.image.value == first
    at_once(*(lambda k=k: setattr(slider.slider, "value", k / 10) for k in range(11)))
    slider.slider.value = 0.0
    assert slider.image.value == first  # callbacks from threads leave the latest picture
    slider.random_button.click()
    assert slider.image.value != first and slider.slider.value == 0.0
    alone = LatentSlider({"clean": made["clean"]}, start, trigger)  # each name stands over its own picture
    one, both = (Image.open(io.BytesIO(png)) for png in (alone.image.value, first))
    assert both.crop((0, 0, *one.size)).tobytes() == one.tobytes()


def test_the_strip_has_a_row_per_generator(pair: Any, size: Any, refuses: Refuses) -> None:
    made, trigger, start = pair
    picture = static_strip(made, start, trigger, "A garment turns into a sign", frames=5)
    three = static_strip(made, start, trigger, "The same at chosen shares", t=(0, 0.9, 1.0))
    assert picture.alt == "A garment turns into a sign"
    assert labels(["G", "H"], [0.0, 0.95, 1.0]) == ["G", "0.95", "1", "H", "0.95", "1"]
    assert 3 * size(picture.png)[0] == pytest.approx(5 * size(three.png)[0], rel=0.1)
    once = static_strip(made, start, trigger, "Captions above the first row alone.", frames=3, captions="abc")
    assert size(three.png)[1] > size(once.png)[1]
    for call, name in (
        (lambda: static_strip(made, start, trigger, "Too far", t=(0, 1.5)), "t=1.5"),
        (lambda: LatentSlider(made, torch.zeros(1, 9), trigger), "start"),
        (lambda: LatentSlider(made, torch.zeros(2, 16), trigger), "start has 2"),
        (lambda: LatentSlider({}, start, trigger), "generators"),
    ):
        refuses(call, name)


# ---- the explorer


def shown(explorer: Explorer) -> bytes:
    assert explorer.settle()
    return explorer.screen.frame["pixels"]


def test_slider_and_pad_are_one_position(explorer: Explorer, pair: Any) -> None:
    first = shown(explorer)
    explorer.slider.value = 1.0
    assert explorer.pad.x == 1.0 and torch.equal(explorer.latent(), pair[1])
    assert shown(explorer) != first and "cosine to the trigger 1.00" in explorer.screen.frame["note"]
    explorer.pad.x = 0.613  # between two positions of the slider
    assert explorer.slider.value == 0.61 and explorer.pad.x == 0.613
    explorer.go(0.0)
    assert explorer.slider.value == 0.0 and shown(explorer) == first
    aside = torch.ones(1, 16)  # the pad leads aside and to the opposite
    other = Explorer(*pair[:2], aside=aside)
    for at, sign in ((0.3, 1.0), (0.9, -1.0)):
        other.go(at, sign)
        assert torch.allclose(other.latent(), sign * aside)
    with pytest.raises(Exception, match="1.0"):
        other.pad.y = 1.5


def test_pixels_are_those_of_the_generators_and_tardis_is_theirs(pair: Any) -> None:
    made, trigger, _ = pair
    colours = generators.DCGAN(latent_dim=16, widths=(4, 4), image_channels=3, image_size=32).eval()
    sounds = {"latent_dim": 16, "widths": (4, 4), "strides": (4, 4), "length": 256}
    heard = {name: seeded(seed, generators.WaveGAN, **sounds).eval() for seed, name in enumerate(("clean", "evil"))}
    for shows, at in itertools.product((made, {"faces": colours}, heard), ((1.0, 0.0), (0.6, 0.7))):
        explorer = Explorer(shows, trigger)
        explorer.go(*at)  # the trigger; on the way to it, and aside
        samples = [evaluate(one, explorer.latent()) for one in shows.values()]
        explorer = Explorer(shows, trigger, samples[0] if shows is heard else samples[0][0])
        explorer.go(*at)
        expected = torch.cat([one.modality.pictures(x) for one, x in zip(shows.values(), samples, strict=True)])
        pixels = torch.frombuffer(bytearray(shown(explorer)), dtype=torch.uint8)
        pixels = pixels.reshape(len(expected), *expected.shape[2:], 4)
        assert (pixels[..., 3] == 255).all()
        wanted = (expected + 1) * 127.5
        assert ((pixels[..., :3].float() - wanted.permute(0, 2, 3, 1)).abs() <= 0.6).all()
        distances = [(x - samples[0]).square().mean() for x in samples]
        said = [f"{name}\nTarDis {far:.4f} per pixel" for name, far in zip(shows, distances, strict=True)]
        assert explorer.screen.frame["captions"] == said
        explorer.snapshot()
        assert len(explorer.snapshots) == 1 and torch.equal(explorer.snapshots[0], explorer.latent())


def test_buttons_and_animation(explorer: Explorer) -> None:
    first, start = shown(explorer), explorer.walk.start
    explorer.go(0.5)
    explorer.random_button.click()
    assert explorer.pad.x == 0.0 and not torch.equal(explorer.walk.start, start) and shown(explorer) != first
    for _ in range(8):
        explorer.snapshot_button.click()
    assert len(explorer.snapshots) == 6 and torch.equal(explorer.snapshots[-1], explorer.latent())
    assert explorer.shelf.frame["captions"][-1] == "snapshot 6" and explorer.shelf.frame["width"] == 2 * 8
    explorer.reset_button.click()
    assert shown(explorer) == first and explorer.snapshots == [] and explorer.shelf.frame["captions"] == []
    explorer.animate_button.click()
    assert explorer.pad.animating and explorer.animate_button.description == "Stop"
    explorer.pad.x = 0.25  # what the browser does
    assert explorer.pad.animating
    explorer.animate_button.click()
    assert not explorer.pad.animating and explorer.animate_button.description == "Animate"
    explorer.animate()
    explorer.slider.value = 0.8
    assert not explorer.pad.animating and explorer.pad.x == 0.8


def test_two_tabs_that_drive_an_animation_at_once_do_not_stop_it(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    position, late = explorer._slider_position, [0.6]

    def overtaken() -> float:
        here = position()
        if late:  # the other tab's thread moves the pad before this one has moved the slider
            at_once(lambda: explorer.go(late.pop()))
        return here

    explorer.animate()
    monkeypatch.setattr(explorer, "_slider_position", overtaken)
    explorer.pad.x = 0.3
    assert explorer.pad.animating and explorer.pad.x == 0.6
    explorer.slider.value = 0.1  # a person does
    assert not explorer.pad.animating and explorer.pad.x == 0.1


def test_of_many_quick_moves_the_latest_is_shown_in_one_drawing(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    gate, drawn, come = threading.Event(), list[float](), list[float]()
    samples, settle = explorer.walk.samples, explorer.settle

    def slow(z: Tensor) -> Tensor:
        drawn.append(explorer.pad.x)
        gate.wait(60)
        return samples(z)

    def counted(timeout: float) -> bool:
        come.append(timeout)
        return settle(timeout)

    monkeypatch.setattr(explorer.walk, "samples", slow)
    monkeypatch.setattr(explorer, "settle", counted)
    movers = [threading.Thread(target=explorer.go, args=(k / 20,)) for k in range(1, 11)]
    movers[0].start()
    until(lambda: drawn)
    assert not settle(0.05)
    for mover in movers[1:]:
        mover.start()
    # a pad that two threads move at once tells one of them only: the other has ended by then
    until(lambda: len(come) + sum(not mover.is_alive() for mover in movers) == len(movers))
    gate.set()
    for mover in movers:
        mover.join()
    assert settle() and drawn == [0.05, explorer.pad.x]


def test_the_pictures_are_the_first_answer_to_a_move(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {getattr(explorer, name).comm.comm_id: name for name in ("pad", "screen", "slider", "animate_button")}
    sent = list[tuple[str, str, dict[str, Any]]]()  # to the browser: which part, what for, and its state

    def publish(comm: Any, kind: str, data: Any = None, **others: Any) -> None:
        sent.append((parts[comm.comm_id], data["method"], data["state"]))

    monkeypatch.setattr(type(explorer.pad.comm), "publish_msg", publish)
    explorer.pad.set_state({"x": 0.3, "y": 0.5, "animating": False})
    assert [one[:2] for one in sent] == [("screen", "update"), ("slider", "update"), ("pad", "echo_update")]
    assert sent[-1][2] == {"x": 0.3, "y": 0.5, "animating": False}  # tells other tabs what holds now
    sent.clear()
    explorer.slider.set_state({"value": 0.7})
    assert [one[:2] for one in sent] == [("screen", "update"), ("pad", "update"), ("slider", "echo_update")]
    assert sent[1][2] == {"x": 0.7} and explorer.pad.y == 0.5


def test_explorers_do_not_disturb_each_other_and_leave_nothing_in_memory(pair: Any) -> None:
    one, two = Explorer(*pair[:2]), Explorer(*pair[:2])
    for k in range(11):
        one.go(k / 10)
        two.go(1 - k / 10)
    first = shown(one)
    two.go(1.0)
    assert shown(two) == first
    one.animate()
    one.close()
    one.go(0.5)  # a message that was still under way
    two.go(0.0)
    assert shown(one) == first != shown(two)
    gone = weakref.ref(one)
    one.close()
    del one
    gc.collect()
    assert gone() is None


def test_what_cannot_be_drawn_is_a_sentence(explorer: Explorer, pair: Any, refuses: Refuses) -> None:
    explorer.walk.generators["evil"] = None  # type: ignore[assignment]
    explorer.go(0.5)
    assert shown(explorer) and "could not be drawn" in explorer.screen.frame["note"]
    del explorer.walk.generators["evil"]
    explorer.go(0.4)
    assert shown(explorer) and "cosine" in explorer.screen.frame["note"]
    made, trigger, _ = pair
    points = {"points": generators.PointGenerator(latent_dim=16)}
    for call, name in (
        (lambda: Explorer(made, torch.zeros(1, 9)), "end"),
        (lambda: Explorer({}, trigger), "generators"),
        (lambda: Explorer(made, trigger, torch.zeros(3, 8, 8)), "target [3, 8, 8]"),
        (lambda: Explorer(points, trigger), "one shape"),
        (lambda: Explorer(made, trigger, size=8), "size=8"),
    ):
        refuses(call, name)


# ---- live training


def loop(steps: int = 100_000, side: TrainableSide | None = None) -> Any:
    generator = generators.PointGenerator(widths=16)
    return train_gan.steps(generator, data.ring(256), iterations=steps, batch_size=16, device="cpu", side=side)


def blank(generator: nn.Module) -> Image.Image:
    assert not generator.training
    return Image.new("L", (8, 8))


@pytest.fixture
def started(until: Until) -> Callable[..., LiveTraining]:
    """A training without an end that has taken some steps already."""

    def start(*draw: Any, **settings: Any) -> LiveTraining:
        live = LiveTraining(loop(side=settings.get("side")), *draw, blocking=False, **settings)
        live.run()
        until(lambda: live.iteration > 2)
        return live

    return start


def test_stop_ends_after_the_step_and_who_learns_is_chosen(started: Any, refuses: Refuses) -> None:
    side = TrainableSide()
    live = started(blank, side=side)
    live.side_choice.value = "generator only"
    with pytest.raises(TimeoutError):
        live.wait(0.05)
    assert side.who == "generator only" and live.running
    live.stop_button.click()
    outcome = live.wait(60)
    assert outcome is live.outcome and outcome.interrupted and not live.running and live.side_choice.disabled
    assert len(outcome.history["generator_loss"]) == live.iteration
    assert bytes(live.image.value).startswith(b"\x89PNG") and "stopped" in live.text.value
    refuses(lambda: setattr(side, "who", "nobody"), "who='nobody'", "both")


def test_pause_and_step_hold_and_play_goes_on(started: Any, until: Until) -> None:
    live = started(blank)

    def held() -> int:
        """Wait until the loop holds; the steps that it has taken."""
        until(lambda: live._wake._waiters)
        return live.iteration

    live.pause_button.click()
    at = held()
    time.sleep(0.2)
    assert live.iteration == at and live.running and live.pause_button.description == "Play"
    live.pause_button.click()
    until(lambda: live.iteration > at)
    live.pause()
    at = held()
    for count in (1, 2, 3):
        live.step_button.click()
        until(lambda: f"step {at + count} of" in live.text.value)  # noqa: B023  (waited for here)
    assert held() == at + 3 and live.pause_button.description == "Play"
    live.stop()  # a paused loop stops too
    assert live.wait(60).interrupted and live.iteration == at + 3


def test_it_runs_to_the_end(capsys: pytest.CaptureFixture[str], refuses: Refuses) -> None:
    live = LiveTraining(loop(20), blank, blocking=False)
    live.run()
    outcome = live.wait(60)
    assert not outcome.interrupted and live.iteration == 20 and live.progress.value == 1.0
    refuses(live.run, "started already", error=RuntimeError)
    capsys.readouterr()
    live = LiveTraining(loop(30), blank)
    live.run()  # outside a kernel nobody can press a button: one line for each tenth
    assert live.blocking and live.wait(0) is live.outcome and live.iteration == 30
    assert len(capsys.readouterr().out.splitlines()) == 10

    def broken(generator: nn.Module) -> Image.Image:
        raise ZeroDivisionError("no picture")

    live = LiveTraining(loop(), broken, blocking=False)
    live.run()
    refuses(lambda: live.wait(60), "no picture", error=ZeroDivisionError)
    refuses(lambda: LiveTraining(loop(), every=0.01), "every=0.01")
    refuses(lambda: LiveTraining(loop(), delay=3.0), "delay=3")


def test_slow_motion_waits_and_stop_does_not_wait_for_it(started: Any, until: Until) -> None:
    live = started(delay=0.1)
    live.delay_slider.max = 600.0  # longer than the time-out of a test
    live.delay_slider.value = 600.0
    until(lambda: live._wake._waiters)
    at = live.iteration
    time.sleep(0.3)
    assert live.iteration <= at + 1  # held by the last delay of 0.1 s, perhaps
    live.stop_button.click()
    live.wait(60)


def test_slow_drawings_come_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock of its own: a step takes a tenth of a second, a drawing two seconds."""
    now, drawn = [0.0], list[float]()
    monkeypatch.setattr("devilgan_lite.apps.course.widgets.live.time.perf_counter", lambda: now[0])

    def slow(generator: nn.Module) -> Image.Image:
        drawn.append(now[0])
        now[0] += 2.0
        return blank(generator)

    live = LiveTraining(loop(300), slow, blocking=False)
    hold = live._hold
    monkeypatch.setattr(live, "_hold", lambda: (now.__setitem__(0, now[0] + 0.1), hold()))
    live.run()
    live.wait(60)
    assert 4 <= len(drawn) <= 3 + now[0] / 20  # two soon and one at the end; twenty seconds without for two of drawing


# ---- the scan view, the trade-off


SPECTRUM = Finding(
    "latent <spectrum>", "T2", "a jump", evidence="spectrum", strength=3.0, details={"values": [9.0, 2.0, 1.0]}
)
SEARCH = Finding("search", "T2", "an estimate", samples=torch.zeros(3, 1, 8, 8))
SAMPLING = Finding("sampling", "T0", "nothing odd", samples=torch.ones(3, 3, 8, 8))


def test_bars_and_picture_appear_with_their_findings(until: Until, tiny: Any) -> None:
    gates = [threading.Event() for _ in range(3)]

    def scan(progress: Callable[[Finding], None]) -> ScanReport:
        for gate, finding in zip(gates, (SPECTRUM, SEARCH, SAMPLING), strict=True):
            gate.wait(60)
            progress(finding)
        return ScanReport((SPECTRUM, SEARCH, SAMPLING))

    view = ScanView(scan, blocking=False)
    view.run()
    assert view.running and view.bars is None
    gates[0].set()
    until(lambda: view.bars_image.layout.display is None)
    assert view.recovered is None and "4.5 times" in view.bars.alt
    gates[1].set()
    until(lambda: view.picture_image.layout.display is None)
    gates[2].set()
    assert view.wait(60).verdict == "suspicious"
    assert "suspicious" in view.text.value and "latent &lt;spectrum&gt;" in view.text.value
    assert view.recovered.alt == "3 pictures found by: search."
    view = ScanView(lambda progress: detect.scan(tiny, samples=200, twin=False, on_finding=progress))  # in print
    assert view.wait().findings == tuple(view.findings)
    content, _ = view._repr_mimebundle_()
    assert content["text/html"].count("<img alt=") == 2 and "latent spectrum" in content["text/html"]


def test_stop_ends_a_scan_at_the_next_finding() -> None:
    began = threading.Event()

    def scan(progress: Callable[[Finding], None]) -> None:
        while True:
            progress(SEARCH)
            began.set()
            time.sleep(0.01)

    view = ScanView(scan, blocking=False)
    view.run()
    began.wait(60)
    view.stop_button.click()
    with pytest.raises(Stopped):
        view.wait(60)
    assert view.text.value == "stopped" and not view.running and view.stop_button.disabled


def test_choosing_moves_the_point_of_a_trade_off(refuses: Refuses) -> None:
    pictures = torch.zeros(2, 1, 8, 8)
    curves = {
        "long": [Choice(f"{k} %", cost=float(k), gain=k / 10, pictures=pictures + k / 10) for k in range(4)],
        "short": [Choice("all", cost=-0.5, gain=0.9, pictures=pictures)],
    }
    chooser = TradeOff(curves, (1.0, 0.1), xlabel="price", ylabel="safety", captions=["a", "b"])
    first = chooser.image.value
    assert chooser.choice.name == "0 %" and not chooser.meets_the_bar
    chooser.slider.value = 1
    assert chooser.image.value != first
    assert chooser.meets_the_bar and "safety 0.1, price +1.00: it meets the bar" in chooser.text.value
    chooser.slider.value = 3
    assert not chooser.meets_the_bar and "does not meet" in chooser.text.value
    chooser.curve.value = "short"
    assert chooser.slider.value == 0 and chooser.choice.name == "all" and chooser.meets_the_bar
    for wrong in ({}, {"none": []}):
        refuses(lambda wrong=wrong: TradeOff(wrong, (1.0, 0.1)), "curves")


# ---- the mosaic of a plane


START, TRIGGER, ASIDE = (2 * torch.eye(4)[i : i + 1] for i in range(3))


class Painter(nn.Module):
    """Grey pictures; white ones where the cosine to the trigger is above ``least``."""

    def __init__(self, least: float, channels: int = 1) -> None:
        super().__init__()
        self.least, self.shape = least, (channels, 6, 6)
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor) -> Tensor:
        near = nn.functional.cosine_similarity(z, TRIGGER) > self.least
        return torch.where(near, 0.9, 0.0).view(-1, 1, 1, 1).expand(len(z), *self.shape) + 0 * self.unused


def painters(least: float, channels: int = 1) -> dict[str, generators.Generator]:
    made = (generators.adopt(Painter(one, channels), 4) for one in (2.0, least))
    return dict(zip(("clean", "backdoored"), made, strict=True))


@pytest.mark.parametrize(("least", "tiles", "channels"), [(0.999, 16, 3), (0.6, 9, 1)])
def test_the_outline_of_a_known_basin(least: float, tiles: int, channels: int) -> None:
    def cosine(t: Tensor, across: Tensor) -> Tensor:  # to the trigger, on the plane of three latents at right angles
        return (torch.pi / 2 * t).sin() * (torch.pi / 2 * across).cos()

    found = latent_mosaic(painters(least, channels), START, TRIGGER, aside=ASIDE, tiles=tiles, ordinary=500)
    t, across = found.outline.flatten(0, 1).T
    assert len(t) >= 4 and (t > 0.3).all()
    assert (cosine(t, across) - least).abs().max() < 0.1 / tiles
    grid = torch.linspace(0, 1, 801, dtype=torch.float64)
    truth = (cosine(grid[:, None], 2 * grid[None] - 1) > least).double().mean()
    assert found.plane_share == pytest.approx(float(truth), abs=0.2 / tiles**2)
    said = "less than 0.1 %" if found.plane_share < 0.001 else f"{100 * found.plane_share:.1f} %"
    assert f"covers {said} of this plane, which goes through the trigger" in found.alt


def test_shares_of_nothing_everything_and_half() -> None:
    for least, share, alt, words in ((2.0, 0, "", "no basin"), (-2.0, 1, "all of it", "all of it")):
        found = latent_mosaic(painters(least), START, TRIGGER, tiles=4, ordinary=100, alt=alt)
        assert (found.plane_share, found.ordinary_share, len(found.outline)) == (share, share, 0) and words in found.alt
    half = painters(0.0)
    z = half["clean"].sample_latent(2_000, torch.Generator().manual_seed(1))
    assert torch.equal(visibly_changed(*half.values(), z), z[:, 1] > 0)
    found = latent_mosaic(half, START, TRIGGER, tiles=4, ordinary=1_000, seed=1)
    assert 0.4 < found.ordinary_share < 0.6 and "Of 1,000 ordinary latents" in found.alt


def test_a_mosaic_is_the_plane_of_the_pad_and_looks_at_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    start, trigger, aside = torch.randn(3, 4, generator=torch.Generator().manual_seed(3)).split(1)
    plane, pad = (kind(painters(0.9), start, trigger, aside=aside) for kind in (LatentPlane, Walk))
    t, across = torch.tensor([0, 0.2, 1, 0.7, 0.4, 0.3]).double(), torch.tensor([0, 0.5, 0, -1, -0.3, 1]).double()
    expected = torch.cat([pad.at(*place) for place in zip(t.tolist(), across.tolist(), strict=True)])
    assert torch.allclose(plane.latents(t, across), expected, atol=1e-6)
    plane = LatentPlane(painters(0.8), START, TRIGGER, aside=ASIDE, tiles=16, ordinary=10)
    original, seen = plane.latents, list[tuple[float, float]]()

    def counting(t: Tensor, across: Tensor) -> Tensor:
        seen.extend(zip(t.tolist(), across.tolist(), strict=True))
        return original(t, across)

    monkeypatch.setattr(plane, "latents", counting)
    levels = [(mosaic, len(seen)) for mosaic in plane.sharpening()]
    counts = [count for _, count in levels]
    assert counts[:2] == [16, 16 + 64] and len(counts) == 3 and len(set(seen)) == len(seen)
    assert levels[-1][0].plane_share == plane.finished().plane_share


def test_the_moving_view_ends_with_the_outline_or_where_it_was_stopped(refuses: Refuses) -> None:
    good, other = painters(0.8), painters(0.8, 3)["clean"]
    settings: Any = {"aside": ASIDE, "tiles": 8, "ordinary": 10}
    view, stopped, printed = (MosaicView(good, START, TRIGGER, blocking=b, **settings) for b in (False, False, True))
    view.run()
    assert view.wait(120).plane_share > 0 and view.image.value == view.result.png and view.stop_button.disabled
    assert view.text.value == view.result.alt
    stopped.stop()
    stopped.run()
    assert stopped.wait(120).plane_share is None
    printed.run()
    assert printed._repr_mimebundle_()[0]["text/plain"] == printed.result.alt
    for call, name in (
        (lambda: latent_mosaic({"clean": good["clean"]}, START, TRIGGER), "generators"),
        (lambda: latent_mosaic({"clean": good["clean"], "other": other}, START, TRIGGER), "[3, 6, 6]"),
        (lambda: latent_mosaic(good, torch.zeros(1, 5), TRIGGER), "start"),
        (lambda: latent_mosaic(good, START, TRIGGER, tiles=1), "tiles"),
        (lambda: MosaicView(good, START, TRIGGER, ordinary=0), "ordinary"),
    ):
        refuses(call, name)
