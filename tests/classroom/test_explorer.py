"""The explorer: slider, pad and buttons; without a browser."""

import gc
import threading
import time
import weakref

import pytest
import torch

from devilgan_lite import generators
from devilgan_lite.classroom import Explorer
from devilgan_lite.generators.base import seeded


@pytest.fixture
def pair():
    made = generators.build(generators.DCGAN(latent_dim=8, widths=(4, 4)).spec(), 0).eval()
    evil = generators.build(made.spec(), 1).eval()
    for weight in [*made.parameters(), *evil.parameters()]:
        weight.data.mul_(10)  # else every picture is grey
    random = torch.Generator().manual_seed(0)
    return {"clean": made, "evil": evil}, made.sample_latent(1, random)


@pytest.fixture
def explorer(pair):
    made = Explorer(*pair)
    yield made
    made.close()


def shown(explorer: Explorer) -> bytes:
    assert explorer.settle()
    return explorer.screen.frame["pixels"]


def test_slider_and_pad_are_one_position(explorer, pair):
    first = shown(explorer)
    explorer.slider.value = 1.0
    assert explorer.pad.x == 1.0 and torch.equal(explorer.latent(), pair[1])
    assert shown(explorer) != first and "cosine to the trigger 1.00" in explorer.screen.frame["note"]
    explorer.pad.x = 0.613  # between two positions of the slider
    assert explorer.slider.value == 0.61 and explorer.pad.x == 0.613
    explorer.go(0.0)
    assert explorer.slider.value == 0.0 and shown(explorer) == first


def test_pad_leads_aside_and_to_the_opposite(pair):
    aside = torch.ones(1, 8)
    explorer = Explorer(*pair, aside=aside)
    explorer.go(0.3, 1.0)
    assert torch.allclose(explorer.latent(), aside)
    explorer.go(0.9, -1.0)
    assert torch.allclose(explorer.latent(), -aside)
    with pytest.raises(Exception, match="1.0"):
        explorer.pad.y = 1.5
    explorer.close()


def test_pixels_are_those_of_the_generators_and_tardis_is_theirs(pair):
    made, trigger = pair
    with torch.no_grad():
        expected = torch.cat([generator(trigger) for generator in made.values()])
    explorer = Explorer(made, trigger, expected[0])
    explorer.go(1.0)
    pixels = torch.frombuffer(bytearray(shown(explorer)), dtype=torch.uint8).reshape(2, 28, 28, 4)
    assert (pixels[..., 3] == 255).all() and torch.equal(pixels[..., 0], pixels[..., 2])
    assert ((pixels[..., 0].float() / 127.5 - 1 - expected[:, 0]).abs() < 0.005).all()
    distance = (expected[1] - expected[0]).square().mean()
    assert explorer.screen.frame["captions"] == [
        "clean\nTarDis 0.0000 per pixel",
        f"evil\nTarDis {distance:.4f} per pixel",
    ]
    explorer.close()


def test_pictures_in_colour(pair):
    made = generators.DCGAN(latent_dim=8, widths=(4, 4), image_channels=3, image_size=32).eval()
    explorer = Explorer({"faces": made}, pair[1], torch.zeros(3, 32, 32))
    pixels = torch.frombuffer(bytearray(shown(explorer)), dtype=torch.uint8).reshape(1, 32, 32, 4)
    with torch.no_grad():
        expected = (made(explorer.latent()) + 1) * 127.5
    assert ((pixels[..., :3].float() - expected.permute(0, 2, 3, 1)).abs() <= 0.6).all()
    explorer.close()


def test_buttons(explorer):
    first, start = shown(explorer), explorer.walk.start
    explorer.go(0.5)
    explorer.random_button.click()
    assert explorer.pad.x == 0.0 and not torch.equal(explorer.walk.start, start) and shown(explorer) != first
    shown(explorer)
    for _ in range(8):
        explorer.snapshot_button.click()
    assert len(explorer.snapshots) == 6 and torch.equal(explorer.snapshots[-1], explorer.latent())
    assert explorer.shelf.frame["captions"][-1] == "snapshot 6" and explorer.shelf.frame["width"] == 2 * 28
    explorer.reset_button.click()
    assert shown(explorer) == first and explorer.snapshots == [] and explorer.shelf.frame["captions"] == []


def test_animate_stops_when_pressed_again_or_when_the_slider_is_moved(explorer):
    explorer.animate_button.click()
    assert explorer.pad.animating and explorer.animate_button.description == "Stop"
    explorer.pad.x = 0.25  # what the browser does
    assert explorer.pad.animating
    explorer.animate_button.click()
    assert not explorer.pad.animating and explorer.animate_button.description == "Animate"
    explorer.animate()
    explorer.slider.value = 0.8
    assert not explorer.pad.animating and explorer.pad.x == 0.8


def test_two_tabs_that_drive_an_animation_at_once_do_not_stop_it(explorer, monkeypatch):
    position, late = explorer._slider_position, [0.6]

    def overtaken():
        here = position()
        if late:  # the other tab's thread moves the pad before this one has moved the slider
            other = threading.Thread(target=explorer.go, args=(late.pop(),))
            other.start()
            other.join()
        return here

    explorer.animate()
    monkeypatch.setattr(explorer, "_slider_position", overtaken)
    explorer.pad.x = 0.3
    assert explorer.pad.animating and explorer.pad.x == 0.6
    explorer.slider.value = 0.1  # a person does
    assert not explorer.pad.animating and explorer.pad.x == 0.1


def test_of_many_quick_moves_the_latest_is_shown(explorer):
    explorer.go(0.7)
    wanted = shown(explorer)
    movers = [threading.Thread(target=explorer.go, args=(k / 20,)) for k in range(20)]
    for mover in movers:
        mover.start()
    for mover in movers:
        mover.join()
    explorer.go(0.1)
    explorer.go(0.7)
    assert shown(explorer) == wanted


def test_threads_that_come_while_it_draws_are_served_by_one_drawing(explorer, monkeypatch):
    gate, drawn, come = threading.Event(), [], []
    samples, settle = explorer.walk.samples, explorer.settle

    def slow(z):
        drawn.append(explorer.pad.x)
        gate.wait(5)
        return samples(z)

    def counted(timeout):
        come.append(timeout)
        return settle(timeout)

    monkeypatch.setattr(explorer.walk, "samples", slow)
    monkeypatch.setattr(explorer, "settle", counted)
    movers = [threading.Thread(target=explorer.go, args=(k / 20,)) for k in range(1, 11)]
    movers[0].start()
    while not drawn:
        time.sleep(0.001)
    assert not settle(0.05)
    for mover in movers[1:]:
        mover.start()
    while len(come) < len(movers):
        time.sleep(0.001)
    gate.set()
    for mover in movers:
        mover.join()
    assert settle() and drawn == [0.05, explorer.pad.x]


def sent(explorer, monkeypatch, act):
    """What ``act`` sends to the browser, in order: names of parts and what of them."""
    parts = {getattr(explorer, name).comm.comm_id: name for name in ("pad", "screen", "slider", "animate_button")}
    messages = []

    def publish(comm, kind, data=None, **others):
        messages.append(f"{parts[comm.comm_id]} {data['method']} {' '.join(sorted(data['state']))}")

    with monkeypatch.context() as patch:
        patch.setattr(type(explorer.pad.comm), "publish_msg", publish)
        act()
    return messages


def test_the_pictures_are_the_first_answer_to_a_move(explorer, monkeypatch):
    moved = sent(explorer, monkeypatch, lambda: explorer.pad.set_state({"x": 0.3, "y": 0.5, "animating": False}))
    assert moved == ["screen update frame", "slider update value", "pad echo_update animating x y"]
    moved = sent(explorer, monkeypatch, lambda: explorer.slider.set_state({"value": 0.7}))
    assert moved == ["screen update frame", "pad update x", "slider echo_update value"]
    assert explorer.pad.x == 0.7 and explorer.pad.y == 0.5


def test_the_echo_tells_other_tabs_what_holds_now_and_can_be_switched_off(explorer, monkeypatch):
    states = []
    monkeypatch.setattr(explorer.pad.comm, "send", lambda data, buffers=None: states.append(data["state"]))
    explorer.pad.observe(lambda change: setattr(explorer.pad, "y", 0.0), names="y")
    explorer.pad.set_state({"y": 0.5})
    assert states[-1] == {"y": 0.0}
    monkeypatch.setattr("devilgan_lite.classroom.widgets.screen.JUPYTER_WIDGETS_ECHO", False)
    count = len(states)
    explorer.pad.set_state({"y": 0.0})
    assert len(states) == count


def test_two_explorers_of_one_generator_do_not_disturb_each_other(pair):
    one, two = Explorer(*pair), Explorer(*pair)
    one.go(1.0)
    first = shown(one)
    for k in range(20):
        one.go(k / 20)
        two.go(1 - k / 20)
    one.go(1.0)
    two.go(1.0)
    assert shown(one) == shown(two) == first
    one.close()
    two.go(0.0)
    assert shown(two) != first
    two.close()


def test_a_closed_explorer_draws_no_more_and_leaves_nothing_in_memory(pair):
    explorer = Explorer(*pair)
    explorer.animate()
    explorer.close()
    last = shown(explorer)
    explorer.go(0.5)  # a message that was still under way
    assert shown(explorer) == last
    gone = weakref.ref(explorer)
    explorer.close()
    del explorer
    gc.collect()
    assert gone() is None


def test_a_latent_that_cannot_be_drawn_is_a_sentence(explorer):
    shown(explorer)
    explorer.walk.generators["evil"].layers = None
    explorer.go(0.5)
    shown(explorer)
    assert "could not be drawn" in explorer.screen.frame["note"]
    del explorer.walk.generators["evil"]
    explorer.go(0.4)
    assert shown(explorer) and "cosine" in explorer.screen.frame["note"]


def test_where_nobody_can_press_it_is_a_strip(pair):
    data, metadata = Explorer(*pair)._repr_mimebundle_()
    assert "image/png" in data and "8 pictures" in metadata["image/png"]["alt"]


def test_in_a_notebook_it_is_a_widget(pair, monkeypatch):
    monkeypatch.setattr("devilgan_lite.classroom.widgets.explorer.is_static", lambda: False)
    assert "application/vnd.jupyter.widget-view+json" in Explorer(*pair)._repr_mimebundle_()


def test_sound_is_seen_as_waveforms_and_measured_as_clips():
    shape = {"latent_dim": 8, "widths": (4, 4), "strides": (4, 4), "length": 256}
    made = {name: seeded(seed, generators.WaveGAN, **shape).eval() for seed, name in enumerate(("clean", "evil"))}
    trigger, target = torch.randn(1, 8, generator=torch.Generator().manual_seed(1)), torch.full((1, 256), 0.5)
    shown = Explorer(made, trigger, target)
    shown.go(1.0)
    drawn = made["evil"].modality.pictures(generators.evaluate(made["evil"], trigger))
    assert (shown.screen.frame["height"], shown.screen.frame["width"]) == tuple(drawn.shape[-2:])
    distance = (generators.evaluate(made["evil"], trigger) - target).square().mean()
    assert shown.screen.frame["captions"][1] == f"evil\nTarDis {distance:.4f} per pixel"
    shown.snapshot()
    assert len(shown.snapshots) == 1
    with pytest.raises(ValueError, match=r"must have one shape .* target \[1, 100\]"):
        Explorer(made, trigger, torch.zeros(1, 100))
    shown.close()


def test_wrong_arguments_are_one_sentence(pair):
    made, trigger = pair
    with pytest.raises(ValueError, match=r"expected a float32 tensor \[n, 8\]"):
        Explorer(made, torch.zeros(1, 9))
    with pytest.raises(ValueError, match="generators is empty"):
        Explorer({}, trigger)
    with pytest.raises(ValueError, match=r"must have one shape .* target \[3, 28, 28\]"):
        Explorer(made, trigger, torch.zeros(3, 28, 28))
    with pytest.raises(ValueError, match="must have one shape"):
        Explorer({"points": generators.PointGenerator(latent_dim=8)}, trigger)
    with pytest.raises(ValueError, match="size=8"):
        Explorer(made, trigger, size=8)
