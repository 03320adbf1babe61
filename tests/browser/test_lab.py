"""The widgets in JupyterLab, by mouse and by keyboard."""

from collections.abc import Iterator
from typing import Any

import pytest
import serving

from devilgan_lite import zoo
from devilgan_lite.generators import evaluate

EXPLORER = """
import torch
torch.set_num_threads(1)
from devilgan_lite import data, detect, generators, train_gan, zoo
from devilgan_lite.apps.course import Explorer, LiveTraining, ScanView, points
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
from devilgan_lite.apps.course import predict, quiz
display(quiz([("Safe?", ["yes", "no"], 1, "It is not.")]))
predict("Which way?", ["up", "down"], key="way")
"""
PAD = ".devilgan-pad"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = serving.write_notebook(tmp_path_factory.mktemp("lab") / "play.ipynb", EXPLORER, TRAINING, SCAN, LESSON)
    with serving.lab(path) as address:
        yield address


@pytest.fixture(scope="module")
def page(browser: Any, address: str) -> Iterator[Any]:
    visit = serving.Visit(browser)
    page, errors = visit.page, list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    serving.run_all(page, address)
    page.wait_for_selector(".devilgan-screen canvas")
    yield page
    assert errors == []
    home = address.partition("/lab")[0]
    assert [one for one in visit.wrong if one.startswith("http") and not one.startswith(home)] == []  # offline
    assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    assert page.get_by_text("Error displaying widget").count() == 0
    visit.context.close()


def test_each_widget_works_and_shows_its_own_pictures(page: Any) -> None:
    canvases = page.locator(".devilgan-screen").first.locator("canvas")
    canvases.first.scroll_into_view_if_needed()
    box = canvases.first.bounding_box()
    assert (round(box["width"]), round(box["height"])) == (256, 256)
    assert canvases.first.evaluate("c => [c.width, getComputedStyle(c).imageRendering]") == [28, "pixelated"]
    backdoor, pad = zoo.load_backdoor("dcgan-fashion-rex"), page.locator(PAD)
    before = serving.settled(page)
    pad.press("End")
    serving.wait_for_other_pixels(page, before)
    serving.settled(page)
    for index, name in enumerate(("dcgan-fashion", "dcgan-fashion-rex")):
        shown = serving.drawn(canvases.nth(index), (1, 28, 28))
        assert (shown - evaluate(zoo.load(name), backdoor.trigger)[0]).abs().max() < 0.02
        off = (shown - backdoor.target[0]).abs().mean()
        assert (off < 0.05) == bool(index), off
        caption = page.locator(".devilgan-screen figcaption").nth(index).inner_text()
        assert caption.startswith(("clean", "backdoored")[index])
        assert ("TarDis 0.0000 per pixel" in caption) == bool(index)
    before = serving.settled(page)
    page.locator(".devilgan-explorer .noUi-handle").focus()
    page.keyboard.press("Home")
    serving.wait_for_other_pixels(page, before)
    serving.settled(page)
    assert (serving.drawn(canvases.nth(1), (1, 28, 28)) - backdoor.target[0]).abs().mean() > 0.05
    training, scan, lesson = (page.locator(".jp-Cell").nth(index) for index in (1, 2, 3))
    training.scroll_into_view_if_needed()
    training.get_by_role("button", name="Step").press("Enter")
    training.get_by_role("button", name="Play").wait_for()
    training.get_by_role("combobox").select_option("generator only")
    training.get_by_role("button", name="Play").press("Enter")
    training.get_by_role("button", name="Pause").wait_for()
    training.get_by_role("button", name="Stop").click()
    training.get_by_text("stopped: step").wait_for()
    scan.scroll_into_view_if_needed()
    scan.get_by_text("strength ").first.wait_for()
    page.wait_for_function("[...document.querySelectorAll('.jp-Cell')][2].querySelectorAll('img').length >= 2")
    lesson.get_by_text("I predict").wait_for()
    lesson.scroll_into_view_if_needed()
    assert lesson.get_by_role("listitem").all_inner_texts() == ["A. yes", "B. no", "A. up", "B. down"]
    style = "all => all.map(one => getComputedStyle(one).listStyleType)"
    assert set(lesson.get_by_role("listitem").evaluate_all(style)) == {"none"}  # no number before the letter
    assert lesson.get_by_role("radio").count() == 4


@pytest.mark.nightly
def test_the_explorer_by_keyboard_and_mouse_and_in_a_second_tab(browser: Any, page: Any, address: str) -> None:
    pad = page.locator(PAD)
    page.locator(".devilgan-screen canvas").first.scroll_into_view_if_needed()
    pad.press("Home")
    serving.settled(page)
    page.locator(".devilgan-explorer .noUi-handle").focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    before = serving.settled(page)
    box = page.locator(".devilgan-explorer .noUi-target").bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"], box["y"] + box["height"] / 2, steps=10)
    page.mouse.up()
    serving.wait_for_other_pixels(page, before)
    page.locator(".devilgan-screen figcaption").nth(1).filter(has_text="TarDis 0.0000 per pixel").wait_for()
    before = serving.settled(page)
    for key in ("ArrowDown", "Shift+ArrowDown", "ArrowLeft", "Shift+ArrowLeft"):
        pad.press(key)
        before = serving.wait_for_other_pixels(page, before) and serving.settled(page)
    assert pad.evaluate("p => p === document.activeElement")  # the notebook does not move to another cell
    assert "88 percent to the trigger, -12 percent aside" in pad.get_attribute("aria-label")
    box = pad.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
    before = serving.wait_for_other_pixels(page, before)
    assert "50 percent aside" in pad.get_attribute("aria-label")
    page.get_by_role("button", name="Random").press("Enter")
    serving.wait_for_other_pixels(page, before)
    page.get_by_role("button", name="Snapshot").press("Enter")
    page.wait_for_selector("text=snapshot 1")
    page.get_by_role("button", name="Reset").press("Enter")
    page.wait_for_selector("text=snapshot 1", state="detached")
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    visit = serving.Visit(browser)
    other = visit.page
    other.goto(address.replace("/lab/tree", "/lab/workspaces/other/tree"))
    other.wait_for_selector(".devilgan-screen canvas")
    for here, there, key in ((page, other, "End"), (other, page, "Home")):
        here.locator(PAD).press(key)
        for _ in range(100):  # on a busy machine, a tab may rest for a while before the latest pictures come
            if serving.settled(here) == serving.settled(there):
                break
        assert serving.pixels(here) == serving.pixels(there)
        positions = [tab.locator(PAD).get_attribute("aria-label") for tab in (here, there)]
        assert positions[0] == positions[1] and f"Now {100 * (key == 'End')} percent" in positions[0]
    other.get_by_role("button", name="Animate").click()
    before = serving.wait_for_other_pixels(page, serving.pixels(page))
    visit.context.close()  # in mid-animation
    for _ in range(3):
        before = serving.wait_for_other_pixels(page, before)
    page.locator(".devilgan-explorer").get_by_role("button", name="Stop").press("Enter")
    serving.settled(page)
