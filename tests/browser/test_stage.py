"""The stage in a real browser: every key, every size, a room that votes, a scan that runs beside."""

import inspect
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serving
from conftest import new_page

from devilgan_lite.cli import exhibit, phones, stage_server
from devilgan_lite.cli.stage_scan import LiveScan
from devilgan_lite.cli.votes import Votes

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "instructor_guide.md").read_text(encoding="utf-8")
PAIR = ("dcgan-fashion", "dcgan-fashion-gate")
SIZES = [(1280, 720), (1920, 1080), (3840, 2160), (390, 844)]
PIXELS = "[0, 1].map((i) => document.getElementById(`picture${i}`).toDataURL())"
AT = "[walk.t, walk.across]"
# what is shown and reaches out of the window, or out of what holds it
CUT_OFF = """[...document.querySelectorAll("body *")].filter((one) => {
  const box = one.getBoundingClientRect();
  if (!one.checkVisibility() || one.closest(".unseen, dialog:not([open]), #findings li") || !box.width) return false;
  const [left, top, right, bottom] = [box.left, box.top, box.right - innerWidth, box.bottom - innerHeight];
  const clipped = one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflowX === "hidden";
  return left < -1 || top < -1 || right > 1 || bottom > 1 || clipped;
}).map((one) => `${one.tagName} ${one.id} ${one.textContent.slice(0, 40)}`)"""
SCROLLS = (
    "[document.documentElement, document.body].some((e) => e.scrollWidth > innerWidth || e.scrollHeight > innerHeight)"
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving.stage("--pair", *PAIR) as address:
        yield address


def opened(browser: Any, address: str, size: tuple[int, int] = (1280, 720), **settings: Any) -> tuple[Any, list[str]]:
    """A page of the stage, and what went wrong in it: errors, messages, requests to elsewhere."""
    page, wrong = new_page(browser, viewport=dict(zip(("width", "height"), size, strict=True)), **settings)
    page.on("console", lambda message: wrong.append(message.text))
    page.on(
        "request", lambda request: None if request.url.startswith((address, "data:")) else wrong.append(request.url)
    )
    page.goto(address)
    serving.until(page, "walk.frames > 0")
    return page, wrong


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    page, wrong = opened(browser, address)
    yield page
    assert wrong == []
    page.close()


def press(page: Any, key: str) -> None:
    """Press a key, and wait for the frame that it changes."""
    page.keyboard.press(key)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def near(*values: float) -> Any:
    return pytest.approx(list(values), abs=1e-9)


def test_everything_by_keyboard(page: Any) -> None:
    first = page.evaluate(PIXELS)
    assert first[0] == first[1]  # the gate is shut: equal to the last bit
    for key, at in (
        ("ArrowRight", (0.02, 0)), ("Shift+ArrowRight", (0.12, 0)), ("ArrowUp", (0.12, 0.02)),
        ("Shift+ArrowDown", (0.12, -0.08)), ("ArrowLeft", (0.1, -0.08)), ("Home", (0, 0)), ("End", (1, 0)),
        ("b", (0, 0)), ("End", (1, 0)), ("Backspace", (0, 0)), ("End", (1, 0)), ("PageUp", (0, 0)),
    ):  # fmt: skip
        press(page, key)
        assert page.evaluate(AT) == near(*at), key
    press(page, "End")
    trigger = page.evaluate(PIXELS)
    assert trigger[0] != trigger[1] and "100 % of the way" in page.locator("#where").inner_text()
    serving.photograph(page, "stage_trigger")
    press(page, "n")
    assert page.evaluate(AT) == [0, 0] and page.evaluate(PIXELS)[0] != first[0]
    for key in (" ", "PageDown"):  # go and pause
        press(page, key)
        serving.until(page, f"walk.t > {0.02 if key == ' ' else 0.04}")
        press(page, key)
        stopped = page.evaluate(AT)
        page.wait_for_timeout(200)
        assert page.evaluate(AT) == stopped and 0 < stopped[0] < 1
    press(page, "m")
    assert page.locator("#map").is_visible() and page.get_by_role("button", name="Map").get_attribute("aria-pressed")
    serving.until(page, "document.getElementById('map-text').textContent.length > 10")
    press(page, "Escape")
    assert page.locator("#map").is_hidden()
    press(page, "q")
    page.get_by_text("Phones can join when the stage is started with --share.").wait_for()
    press(page, "Escape")
    assert page.locator("#notice").is_hidden()
    soft = page.evaluate("getComputedStyle(document.getElementById('picture0')).imageRendering")
    press(page, "p")
    assert page.evaluate("getComputedStyle(document.getElementById('picture0')).imageRendering") == "pixelated" != soft
    press(page, "p")
    for key, other in (("?", "Escape"), ("h", "h"), ("?", "?")):
        press(page, key)
        assert page.get_by_role("dialog").is_visible()
        press(page, "n")  # the keys of the stage rest meanwhile
        assert page.evaluate("walk.t") == stopped[0]
        press(page, other)
        assert page.get_by_role("dialog").is_hidden()
    press(page, "f")
    serving.until(page, "document.fullscreenElement !== null")
    press(page, "f")
    serving.until(page, "document.fullscreenElement === null")


def test_everything_by_tab_and_by_mouse(page: Any) -> None:
    seen = []
    for _ in range(9):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.dataset.do ?? document.activeElement.id"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert seen == ["way", "go", "back", "next", "map", "scan", "vote", "full", "help"]
    press(page, "Enter")
    page.get_by_role("dialog").get_by_role("button", name="Close").press("Space")
    assert page.get_by_role("dialog").is_hidden()
    page.get_by_role("button", name="Go").press("Space")
    serving.until(page, "walk.t > 0.01")
    page.get_by_role("button", name="Pause").press("Space")
    stopped = page.evaluate(AT)
    page.get_by_role("button", name="Map").click()
    assert page.evaluate("document.activeElement === document.body")  # Space is the stage's again, not the button's
    box = page.locator("#plane").bounding_box()
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])
    assert page.evaluate(AT) == pytest.approx([0.75, 0.5], abs=0.01) and page.evaluate(AT) != stopped
    mark = page.locator("#mark").bounding_box()
    assert mark["x"] + mark["width"] / 2 == pytest.approx(box["x"] + 0.75 * box["width"], abs=2)
    page.get_by_role("button", name="Map").click()
    box = page.locator("#way").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.evaluate(AT) == pytest.approx([0.5, 0], abs=0.02)
    page.get_by_role("img", name=re.compile("^backdoored: 50 % of the way")).wait_for()  # when it has been drawn
    serving.until(page, "document.getElementById('spoken').textContent.startsWith('50 % of the way')")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_nothing_is_cut_off(browser: Any, address: str, size: tuple[int, int]) -> None:
    page, wrong = opened(browser, address, size)

    def look(name: str) -> None:
        assert page.evaluate(CUT_OFF) == [], name
        assert not page.evaluate(SCROLLS), name
        serving.photograph(page, f"stage_{size[0]}_{name}")

    press(page, "End")
    look("trigger")
    boxes = [page.locator(f"#picture{i}").bounding_box() for i in (0, 1)]
    area = sum(box["width"] * box["height"] for box in boxes)
    assert area > (0.4 if size[0] < size[1] else 0.68) * size[0] * size[1]  # the pictures fill the screen
    press(page, "m")
    page.evaluate("to(0.83, 0.25)")
    serving.until(page, "document.getElementById('map-text').textContent.match(/8 ×|basin/)")
    look("map")
    press(page, "m")
    press(page, "?")
    look("keys")
    press(page, "?")
    press(page, "v")
    serving.until(page, "round.state === 'open'")
    for key in "1222":
        press(page, key)
    look("vote")
    press(page, "v")
    serving.until(page, "round.state === 'closed'")
    page.wait_for_timeout(700)
    look("answer")
    press(page, "v")
    serving.until(page, "round.state === 'none'")
    page.close()
    assert wrong == []


def test_less_motion_goes_in_still_steps(browser: Any, address: str) -> None:
    page, wrong = opened(browser, address, reduced_motion="reduce")
    page.evaluate("window.seen = new Set(); setInterval(() => seen.add(8 * walk.t), 10)")
    press(page, " ")
    serving.until(page, "walk.t >= 0.25")
    assert all(value == int(value) for value in page.evaluate("[...seen]"))
    page.close()
    assert wrong == []


def test_hands_are_counted_by_keys_and_by_numbers(page: Any) -> None:
    press(page, "v")
    serving.until(page, "round.state === 'open'")
    assert [page.locator(f"#name{i}").inner_text() for i in (0, 1)] == ["A", "B"]
    assert "dcgan" not in page.locator("body").inner_text()  # names disappear
    before = page.evaluate("walk.start")
    serving.until(page, f"walk.start[0] !== {before[0]}")  # from one ordinary latent to the next
    assert page.evaluate(AT) == [0, 0]
    press(page, "ArrowRight")  # until the presenter moves
    assert page.evaluate("strolling") == 0
    press(page, "1")
    page.locator("#handsB").fill("12")
    page.locator("#handsB").press("b")  # typed into, not back to the start
    assert page.evaluate(AT) == [0.02, 0]
    page.locator("#handsB").press("Enter")
    serving.until(page, "round.state === 'closed'")
    told = [page.locator(f"#tally{i}").inner_text().strip() for i in (0, 1)]
    assert told == ["1 · 8 %", "12 · 92 %"]
    right = page.locator("figure.backdoored").inner_text()
    letter = "A" if right.startswith("A is backdoored") else "B"
    assert f"{letter} is the backdoored one." in page.locator("#question").inner_text()
    press(page, "Escape")
    serving.until(page, "round.state === 'none'")
    assert page.locator("#name1").inner_text() == "backdoored"
    press(page, "v")
    serving.until(page, "round.state === 'open'")
    press(page, "Escape")  # a round can be dropped
    serving.until(page, "round.state === 'none'")


def test_a_page_that_is_loaded_again_goes_on_with_the_round(page: Any) -> None:
    for state in ("open", "closed"):
        press(page, "v")
        serving.until(page, f"round.state === '{state}'")
        number, order = page.evaluate("[round.round, walk.order]")
        page.reload()
        serving.until(page, f"round.state === '{state}'")
        assert page.evaluate("[round.round, walk.order]") == [number, order]
    press(page, "v")
    serving.until(page, "round.state === 'none'")


def test_three_phones_vote(browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phones, "own_address", lambda: "127.0.0.1")
    votes, pages = Votes(), phones.prepared(PAIR)
    code = phones.shared(pages.phone(vote=True), serving.free_port(), votes)
    with code as address, stage_server.stage(pages, 0, LiveScan(PAIR[1]), votes, address=address) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page, wrong = opened(browser, f"http://127.0.0.1:{server.server_port}/")
        assert page.locator("#address").is_hidden()
        press(page, "q")
        assert (
            page.locator("#address").inner_text() == address
            and page.locator("#code svg").bounding_box()["height"] > 400
        )
        serving.photograph(page, "stage_code")
        assert page.evaluate(CUT_OFF) == []
        press(page, "Escape")
        visits = [opened(browser, address, (390, 844), is_mobile=True, has_touch=True) for _ in range(3)]
        assert all(phone.locator("#vote").is_hidden() for phone, _ in visits)
        press(page, "v")
        for (phone, _), choice in zip(visits, "ABA", strict=True):
            phone.get_by_role("button", name=choice, exact=True).tap()
            phone.get_by_text(f"You chose {choice}. You can change it").wait_for()
        serving.photograph(visits[0][0], "phone_vote")
        visits[2][0].get_by_role("button", name="B", exact=True).tap()
        visits[2][0].get_by_text("You chose B.").wait_for()
        serving.until(page, "document.getElementById('question').textContent.includes('3 have voted')")
        assert "%" not in page.locator("#question").inner_text() and page.locator("#hands").is_hidden()
        serving.photograph(page, "stage_vote")
        press(page, "v")
        serving.until(page, "round.state === 'closed'")
        assert [page.locator(f"#tally{i}").inner_text().strip() for i in (0, 1)] == ["1 · 33 %", "2 · 67 %"]
        answer = page.evaluate("'AB'[walk.order.indexOf(1)]")
        for (phone, _), choice in zip(visits, "ABB", strict=True):
            phone.get_by_text(f"{answer} is the backdoored one.").wait_for()
            assert ("You found it" in phone.locator("#said").inner_text()) == (choice == answer)
        serving.photograph(visits[1][0], "phone_answer")
        visits[1][0].get_by_role("button", name="Back to the pictures").tap()
        press(page, "v")
        for phone, failed in visits:
            phone.locator("#vote").wait_for(state="hidden")
            assert failed == []
            phone.close()
        server.shutdown()
        press(page, "End")  # the server is gone; the page is not
        assert page.evaluate(AT) == [1, 0]
        server.server_close()
        press(page, "v")
        page.get_by_text("The stage's server has ended").wait_for()
        assert [text for text in wrong if "net::ERR_CONNECTION_REFUSED" not in text] == []
        page.close()


def test_a_scan_is_asked_for_again_after_an_error(page: Any) -> None:
    failed = '{"state": "failed", "seconds": 1, "findings": [], "report": null, "error": "The scan ended early."}'
    answers = iter(["half an answer", failed])
    page.route(
        "**/scan*",
        lambda route: route.fulfill(
            content_type="application/json",
            body='{"started": true}' if route.request.method == "POST" else next(answers),
        ),
    )
    press(page, "s")
    page.locator("#notice").wait_for()
    press(page, "s")
    press(page, "s")
    page.locator("#verdict").get_by_text("The scan ended early.").wait_for()


def test_a_finding_is_shown_in_the_words_of_the_server(page: Any) -> None:
    found = {"question": "Does it lack anything?", "kind": "open", "answer": "No answer: too much.", "message": "m"}
    state = {"state": "failed", "seconds": 1, "findings": [found], "suspect": "s", "report": None, "error": "Over."}
    page.route(
        "**/scan*",
        lambda route: route.fulfill(
            content_type="application/json",
            body='{"started": true}' if route.request.method == "POST" else json.dumps(state),
        ),
    )
    press(page, "s")
    item = page.locator("#findings li")
    item.wait_for()
    assert item.inner_text() == "Does it lack anything? No answer: too much."
    assert item.get_attribute("class") == "open" and item.get_attribute("title") == "m"


def test_a_scan_runs_beside_and_reaches_the_verdict_that_the_guide_promises(page: Any) -> None:
    assert inspect.signature(exhibit.stage).parameters["scan"].default == PAIR[1]  # whatever pair is shown
    press(page, "s")
    page.get_by_role("heading", name=f"Scanning {PAIR[1]}").wait_for()
    serving.photograph(page, "stage_scan_begun")
    press(page, "End")  # the page stays quick
    assert page.evaluate(AT) == [1, 0]
    press(page, "s")
    assert page.locator("#scan").is_hidden()
    press(page, "s")  # the same scan, not another one
    page.get_by_text("Is the network built oddly?").wait_for()
    page.get_by_role("img", name="what the scan found").wait_for()
    page.get_by_role("heading", name=f"Scanned {PAIR[1]}").wait_for(timeout=3_000 * serving.PATIENCE)  # it is niced
    expected = re.search(r'after key `S`: "([^"]+)"', GUIDE)
    assert expected and page.locator("#verdict").inner_text() == " ".join(expected[1].split())
    assert page.get_by_role("img", name="what the attacker planted").is_visible()
    findings = page.locator("#findings li").all_inner_texts()
    assert len(set(findings)) == len(findings) >= 6  # each once
    assert page.evaluate(CUT_OFF) == []
    serving.photograph(page, "stage_scan_done")
