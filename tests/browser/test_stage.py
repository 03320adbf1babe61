"""The stage: a page without code, by mouse and by keyboard alone."""

from collections.abc import Iterator
from typing import Any

import pytest
import serving
from conftest import new_page


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving.stage() as address:
        yield address


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    page, errors = new_page(browser)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_selector(".devilgan-screen canvas")
    yield page
    assert errors == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []  # a hall has no internet
    assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    page.close()


def test_everything_by_keyboard(page: Any) -> None:
    before = serving.settled(page)
    serving.photograph(page, "stage_first")
    assert page.locator("pre, .jp-InputArea").count() == 0  # no code
    seen = []
    for _ in range(8):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.textContent || document.activeElement.className"))
        if "devilgan-pad" in page.evaluate("document.activeElement.className"):
            page.keyboard.press("End")
            before = serving.wait_for_other_pixels(page, before)
            serving.settled(page)
            serving.photograph(page, "stage_trigger")
            assert "TarDis 0.0" in page.locator(".devilgan-screen figcaption").nth(1).inner_text()
        elif "noUi-handle" in page.evaluate("document.activeElement.className"):
            before = serving.settled(page)
            page.keyboard.press("ArrowLeft")
            before = serving.wait_for_other_pixels(page, before)
            serving.photograph(page, "stage_slider_focus")
        elif seen[-1] == "Animate":
            page.keyboard.press("Space")
            for _ in range(3):
                before = serving.wait_for_other_pixels(page, before)
            page.get_by_role("button", name="Stop").press("Space")
            serving.settled(page)
            break
    text = " ".join(seen)
    assert all(name in text for name in ("Random", "Snapshot", "Reset", "Animate")), seen


def test_a_tab_closed_while_animating_leaves_the_next_one_alone(browser: Any, page: Any, address: str) -> None:
    other, errors = new_page(browser)
    other.goto(address)
    other.wait_for_selector(".devilgan-screen canvas")
    other.get_by_role("button", name="Animate").click()
    serving.wait_for_other_pixels(other, serving.pixels(other))
    other.close()
    assert errors == []
    before = serving.settled(page)
    page.locator(".devilgan-pad").press("End")
    serving.wait_for_other_pixels(page, before)
