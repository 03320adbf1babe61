"""The widgets in JupyterLab, by mouse and by keyboard."""

from collections.abc import Iterator
from typing import Any

import pytest
import serving
from conftest import new_page

EXPLORER = """
import torch
torch.set_num_threads(1)
from devilgan_lite import data, detect, generators, train_gan, zoo
from devilgan_lite.classroom import Explorer, LiveTraining, ScanView, points
from devilgan_lite.steps import TrainableSide

secret = zoo.load_backdoor("dcgan-fashion-rex")
pair = {"clean": zoo.load("dcgan-fashion"), "backdoored": zoo.load("dcgan-fashion-rex")}
Explorer(pair, secret.trigger, secret.target)
"""
TRAINING = """
real, turn = data.ring(), TrainableSide()
def draw(generator):
    return points({"real": real.x[:500], "made": generator.sample(500)}, "points of a ring")
loop = train_gan.steps(generators.PointGenerator(), real, iterations=1_000_000, batch_size=128, side=turn, device="cpu")
live = LiveTraining(loop, draw, side=turn)
live.run()
"""
SCAN = """
small = generators.DCGAN(latent_dim=8, widths=(4, 4)).eval()
view = ScanView(lambda progress: detect.scan(small, samples=200, on_finding=progress))
view.run()
"""
LESSON = """
from devilgan_lite.classroom import predict, quiz
display(quiz([("Safe?", ["yes", "no"], 1, "It is not.")]))
predict("Which way?", ["up", "down"], key="way")
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = serving.write_notebook(tmp_path_factory.mktemp("lab") / "play.ipynb", EXPLORER, TRAINING, SCAN, LESSON)
    with serving.lab(path) as address:
        yield address


@pytest.fixture(scope="module")
def page(browser: Any, address: str) -> Iterator[Any]:
    page, errors = new_page(browser)
    serving.run_all(page, address)
    page.wait_for_selector(".devilgan-screen canvas")
    yield page
    assert errors == []
    assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    assert page.get_by_text("Error displaying widget").count() == 0
    page.close()


def test_first_picture_is_large_and_sharp(page: Any) -> None:
    canvas = page.locator(".devilgan-screen canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert (round(box["width"]), round(box["height"])) == (256, 256)
    assert canvas.evaluate("c => [c.width, getComputedStyle(c).imageRendering]") == [28, "pixelated"]
    serving.photograph(page, "lab_explorer")


def test_slider_by_keyboard_and_mouse(page: Any) -> None:
    handle, before = page.locator(".devilgan-explorer .noUi-handle"), serving.settled(page)
    handle.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    moved = serving.wait_for_other_pixels(page, before)
    moved = serving.settled(page)
    box = page.locator(".devilgan-explorer .noUi-target").bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"], box["y"] + box["height"] / 2, steps=10)
    page.mouse.up()
    serving.wait_for_other_pixels(page, moved)
    page.locator(".devilgan-screen figcaption").nth(1).filter(has_text="TarDis 0.0000 per pixel").wait_for()
    serving.photograph(page, "lab_trigger")


def test_pad_by_keyboard_stays_in_its_cell(page: Any) -> None:
    pad, before = page.locator(".devilgan-pad"), serving.settled(page)
    pad.focus()
    for key in ("ArrowDown", "Shift+ArrowDown", "ArrowLeft", "Shift+ArrowLeft"):
        page.keyboard.press(key)
        serving.wait_for_other_pixels(page, before)
        before = serving.settled(page)
    assert pad.evaluate("p => p === document.activeElement")
    assert "88 percent to the trigger, -12 percent aside" in pad.get_attribute("aria-label")
    serving.photograph(page, "lab_pad")


def test_pad_by_mouse(page: Any) -> None:
    box, before = page.locator(".devilgan-pad").bounding_box(), serving.settled(page)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
    serving.wait_for_other_pixels(page, before)
    assert "50 percent aside" in page.locator(".devilgan-pad").get_attribute("aria-label")


def test_animate_runs_and_stops(page: Any) -> None:
    before = serving.settled(page)
    page.get_by_role("button", name="Animate").press("Enter")
    for _ in range(3):
        before = serving.wait_for_other_pixels(page, before)
    page.locator(".devilgan-explorer").get_by_role("button", name="Stop").press("Enter")
    serving.settled(page)


def test_random_snapshot_and_reset(page: Any) -> None:
    before = serving.settled(page)
    page.get_by_role("button", name="Random").press("Enter")
    serving.wait_for_other_pixels(page, before)
    page.get_by_role("button", name="Snapshot").press("Enter")
    page.wait_for_selector("text=snapshot 1")
    serving.photograph(page, "lab_snapshot")
    page.get_by_role("button", name="Reset").press("Enter")
    page.wait_for_selector("text=snapshot 1", state="detached")


def test_trainer_steps_and_stops(page: Any) -> None:
    view = page.locator(".jp-Cell").nth(1)
    view.scroll_into_view_if_needed()
    page.wait_for_timeout(5_000)  # the ring is learnt by then
    serving.photograph(page, "lab_training")
    view.get_by_role("button", name="Step").press("Enter")
    view.get_by_role("button", name="Play").wait_for()
    view.get_by_role("combobox").select_option("generator only")
    view.get_by_role("button", name="Play").press("Enter")
    view.get_by_role("button", name="Pause").wait_for()
    view.get_by_role("button", name="Stop").click()
    view.get_by_text("stopped: step").wait_for()
    serving.photograph(page, "lab_stopped")


def test_scan_shows_bars_and_pictures(page: Any) -> None:
    view = page.locator(".jp-Cell").nth(2)
    view.scroll_into_view_if_needed()
    view.get_by_text("strength ").first.wait_for()
    page.wait_for_function("[...document.querySelectorAll('.jp-Cell')][2].querySelectorAll('img').length >= 2")
    serving.photograph(page, "lab_scan")


def test_options_have_the_letters_of_their_buttons(page: Any) -> None:
    view = page.locator(".jp-Cell").nth(3)
    view.get_by_text("I predict").wait_for()
    view.scroll_into_view_if_needed()
    serving.photograph(page, "lab_lesson")
    assert view.get_by_role("listitem").all_inner_texts() == ["A. yes", "B. no", "A. up", "B. down"]
    style = "all => all.map(one => getComputedStyle(one).listStyleType)"
    assert set(view.get_by_role("listitem").evaluate_all(style)) == {"none"}  # no number before the letter
    assert view.get_by_role("radio").count() == 4


def test_two_tabs_on_one_kernel_show_the_same(browser: Any, page: Any, address: str) -> None:
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    other, errors = new_page(browser)
    other.goto(address.replace("/lab/tree", "/lab/workspaces/other/tree"))
    other.wait_for_selector(".devilgan-screen canvas")
    page.locator(".devilgan-pad").press("Home")
    wait_until_both_agree(page, other)
    for here, there, key in ((page, other, "End"), (other, page, "Home")):
        before = serving.pixels(there)
        here.locator(".devilgan-pad").press(key)
        serving.wait_for_other_pixels(there, before)
        wait_until_both_agree(here, there)
        positions = [tab.locator(".devilgan-pad").get_attribute("aria-label") for tab in (here, there)]
        assert positions[0] == positions[1] and f"Now {100 * (key == 'End')} percent" in positions[0]
    other.get_by_role("button", name="Animate").click()
    before = serving.wait_for_other_pixels(page, serving.pixels(page))
    other.close()  # in mid-animation
    for _ in range(3):
        before = serving.wait_for_other_pixels(page, before)
    page.locator(".devilgan-explorer").get_by_role("button", name="Stop").click()
    serving.settled(page)
    assert errors == []


def wait_until_both_agree(page: Any, other: Any) -> None:
    """On a busy machine, a tab may rest for a while before the latest pictures come."""
    for _ in range(100):
        if serving.settled(page) == serving.settled(other):
            return
    raise AssertionError("the tabs do not show the same pictures")
