"""The stage in a real browser: every key, every size, a room that votes, a scan that runs beside."""

import contextlib
import inspect
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import serving
import torch

from devilgan_lite import Backdoor
from devilgan_lite.apps.show import commands
from devilgan_lite.apps.show import room as rooms
from devilgan_lite.apps.show.phone import Pages
from devilgan_lite.apps.show.votes import Votes
from devilgan_lite.generators import Generator, evaluate

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "instructor_guide.md").read_text(encoding="utf-8")
GARMENTS = ("dcgan-fashion", "dcgan-fashion-gate")
SIZES = [(3840, 2160), (390, 844)]  # and 1280x720 below
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
KEYS = (
    ("ArrowRight", (0.02, 0)), ("Shift+ArrowRight", (0.12, 0)), ("ArrowUp", (0.12, 0.02)),
    ("Shift+ArrowDown", (0.12, -0.08)), ("ArrowLeft", (0.1, -0.08)), ("Home", (0, 0)), ("End", (1, 0)),
    ("b", (0, 0)), ("End", (1, 0)), ("Backspace", (0, 0)), ("End", (1, 0)), ("PageUp", (0, 0)),
)  # fmt: skip
FOUND = {"question": "Does it lack anything?", "kind": "open", "answer": "No answer: too much.", "message": "m"}


@contextlib.contextmanager
def room(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str, Any]]:
    """The addresses of a stage and of its page for phones, and the server of the stage."""
    monkeypatch.setattr("devilgan_lite.apps.show.serving.own_address", lambda: "127.0.0.1")
    said = {"state": "failed", "seconds": 1, "findings": [FOUND], "suspect": "s", "report": None, "error": "Over."}
    votes, scan = Votes(), SimpleNamespace(start=lambda question: {"started": True}, state=lambda question: said)
    shared = rooms.shared(pages.phone(vote=True), serving.free_port(), votes)
    with shared as address, rooms.stage(pages, 0, scan, votes, address=address) as server:  # type: ignore[arg-type]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", address, server
        server.shutdown()


def opened(browser: Any, address: str, size: tuple[int, int] = (1280, 720), **settings: Any) -> serving.Visit:
    visit = serving.Visit(browser, address, size, **settings)
    visit.until("walk.frames > 0")
    return visit


def near(*values: float) -> Any:
    return pytest.approx(list(values), abs=1e-9)


def test_the_stage_shows_the_right_pictures_and_a_vote_finds_the_backdoored_one(
    browser: Any, tiny: Generator, tiny_gate: Generator, square: Backdoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = Pages(tiny, tiny_gate, square, names=GARMENTS)
    z = square.trigger
    wanted = [evaluate(one, z)[0] for one in (tiny, tiny_gate)]
    phone_like: dict[str, Any] = {"size": (390, 844), "is_mobile": True, "has_touch": True}
    with room(pages, monkeypatch) as (address, for_phones, server), opened(browser, address) as visit:
        page, canvases = visit.page, visit.page.locator("#pictures canvas")

        def backdoored() -> list[bool]:
            """Of each canvas, whether it shows the target rather than what the clean generator makes."""
            shown = [serving.drawn(canvases.nth(index), (1, 8, 8)) for index in (0, 1)]
            return [bool((one - wanted[1]).abs().mean() < (one - wanted[0]).abs().mean()) for one in shown]

        assert torch.equal(*(serving.drawn(canvases.nth(index), (1, 8, 8)) for index in (0, 1)))  # the gate is shut
        for key, at in KEYS:
            visit.press(key)
            assert visit.at() == near(*at), key
        visit.press("End")
        assert backdoored() == [False, True] and "100 % of the way" in page.locator("#where").inner_text()
        assert [page.locator(f"#name{index}").inner_text() for index in (0, 1)] == ["clean", "backdoored"]
        assert [page.locator(f"#model{index}").inner_text() for index in (0, 1)] == list(GARMENTS)
        assert page.evaluate(CUT_OFF) == [] and not page.evaluate(SCROLLS)
        before = page.evaluate("walk.start")
        visit.press("n")
        assert visit.at() == [0, 0] and page.evaluate("walk.start") != before
        visit.press("m")
        visit.until("/8 ×|basin|differ/.test(document.getElementById('map-text').textContent)")
        visit.press("m", "s")
        item = page.locator("#findings li")
        item.wait_for()
        page.locator("#verdict").get_by_text("Over.").wait_for()
        assert item.inner_text() == "Does it lack anything? No answer: too much."
        assert item.get_attribute("class") == "open" and item.get_attribute("title") == "m"
        visit.press("s", "q")
        assert page.locator("#address").inner_text() == for_phones
        visit.press("Escape")
        with opened(browser, for_phones, **phone_like) as first, opened(browser, for_phones, **phone_like) as second:
            told = set()
            for number in range(1, 13):  # until both orders have been drawn
                visit.press("v")
                visit.until("round.state === 'open'")
                assert [page.locator(f"#name{index}").inner_text() for index in (0, 1)] == ["A", "B"]
                assert "dcgan" not in page.locator("body").inner_text()  # names disappear
                visit.press("End")
                right = "AB"[backdoored().index(True)]
                assert sorted(backdoored()) == [False, True]
                if number == 1:
                    for phone, choice in ((first, right), (second, "AB"[right == "A"])):
                        phone.page.get_by_role("button", name=choice, exact=True).tap()
                        phone.page.get_by_text(f"You chose {choice}. You can change it").wait_for()
                    visit.until("document.getElementById('question').textContent.includes('2 have voted')")
                    assert "%" not in page.locator("#question").inner_text() and page.locator("#hands").is_hidden()
                visit.press("v")
                visit.until("round.state === 'closed'")
                assert page.locator("figure.backdoored").inner_text().startswith(f"{right} is backdoored")
                assert f"{right} is the backdoored one." in page.locator("#question").inner_text()
                if number == 1:
                    tallies = [page.locator(f"#tally{index}").inner_text().strip() for index in (0, 1)]
                    assert tallies == ["1 · 50 %", "1 · 50 %"]
                    for phone, found in ((first, True), (second, False)):
                        phone.page.get_by_text(f"{right} is the backdoored one. 1 of 2 phones said so.").wait_for()
                        assert ("You found it" in phone.page.locator("#said").inner_text()) == found
                visit.press("v")
                visit.until("round.state === 'none'")
                told.add(right)
                if told == {"A", "B"}:
                    break
            assert told == {"A", "B"}
            first.page.locator("#vote").wait_for(state="hidden")
        server.shutdown()
        server.server_close()  # the server is gone; the page is not
        visit.press("End")
        assert visit.at() == [1, 0] and backdoored() == [False, True]
        visit.press("v")
        page.get_by_text("The stage's server has ended").wait_for()
        visit.wrong[:] = [text for text in visit.wrong if "net::ERR_CONNECTION_REFUSED" not in text]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving.stage("--pair", *GARMENTS) as address:
        yield address


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[serving.Visit]:
    with opened(browser, address) as visit:
        yield visit


def test_everything_by_keyboard(visit: serving.Visit) -> None:
    page, press = visit.page, visit.press
    for key in (" ", "PageDown"):  # go and pause
        press(key)
        visit.until(f"walk.t > {0.02 if key == ' ' else 0.04}")
        press(key)
        stopped = visit.at()
        page.wait_for_timeout(200)
        assert visit.at() == stopped and 0 < stopped[0] < 1
    press("m")
    assert page.locator("#map").is_visible() and page.get_by_role("button", name="Map").get_attribute("aria-pressed")
    visit.until("document.getElementById('map-text').textContent.length > 10")
    press("Escape")
    assert page.locator("#map").is_hidden()
    press("q")
    page.get_by_text("Phones can join when the stage is started with --share.").wait_for()
    press("Escape")
    assert page.locator("#notice").is_hidden()
    soft = page.evaluate("getComputedStyle(document.getElementById('picture0')).imageRendering")
    press("p")
    assert page.evaluate("getComputedStyle(document.getElementById('picture0')).imageRendering") == "pixelated" != soft
    press("p")
    for key, other in (("?", "Escape"), ("h", "h"), ("?", "?")):
        press(key)
        assert page.get_by_role("dialog").is_visible()
        press("n")  # the keys of the stage rest meanwhile
        assert page.evaluate("walk.t") == stopped[0]
        press(other)
        assert page.get_by_role("dialog").is_hidden()
    press("f")
    visit.until("document.fullscreenElement !== null")
    press("f")
    visit.until("document.fullscreenElement === null")


@pytest.mark.nightly
def test_everything_by_tab_and_by_mouse(visit: serving.Visit) -> None:
    page, seen = visit.page, []
    for _ in range(9):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.dataset.do ?? document.activeElement.id"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert seen == ["way", "go", "back", "next", "map", "scan", "vote", "full", "help"]
    visit.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Close").press("Space")
    assert page.get_by_role("dialog").is_hidden()
    page.get_by_role("button", name="Go").press("Space")
    visit.until("walk.t > 0.01")
    page.get_by_role("button", name="Pause").press("Space")
    stopped = visit.at()
    page.get_by_role("button", name="Map").click()
    assert page.evaluate("document.activeElement === document.body")  # Space is the stage's again, not the button's
    box = page.locator("#plane").bounding_box()
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])
    assert visit.at() == pytest.approx([0.75, 0.5], abs=0.01) and visit.at() != stopped
    mark = page.locator("#mark").bounding_box()
    assert mark["x"] + mark["width"] / 2 == pytest.approx(box["x"] + 0.75 * box["width"], abs=2)
    page.get_by_role("button", name="Map").click()
    box = page.locator("#way").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert visit.at() == pytest.approx([0.5, 0], abs=0.02)
    page.get_by_role("img", name=re.compile("^backdoored: 50 % of the way")).wait_for()  # when it has been drawn
    visit.until("document.getElementById('spoken').textContent.startsWith('50 % of the way')")


@pytest.mark.nightly
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_nothing_is_cut_off(browser: Any, address: str, size: tuple[int, int]) -> None:
    with opened(browser, address, size) as visit:

        def look(name: str) -> None:
            assert visit.page.evaluate(CUT_OFF) == [], name
            assert not visit.page.evaluate(SCROLLS), name

        visit.press("End")
        look("trigger")
        boxes = [visit.page.locator(f"#picture{i}").bounding_box() for i in (0, 1)]
        area = sum(box["width"] * box["height"] for box in boxes)
        assert area > (0.4 if size[0] < size[1] else 0.68) * size[0] * size[1]  # the pictures fill the screen
        visit.press("m")
        visit.page.evaluate("to(0.83, 0.25)")
        visit.until("document.getElementById('map-text').textContent.match(/8 ×|basin/)")
        look("map")
        visit.press("m", "?")
        look("keys")
        visit.press("?", "v")
        visit.until("round.state === 'open'")
        visit.press(*"1222")
        look("vote")
        visit.press("v")
        visit.until("round.state === 'closed'")
        visit.page.wait_for_timeout(700)
        look("answer")
        visit.press("v")
        visit.until("round.state === 'none'")


@pytest.mark.nightly
def test_hands_are_counted_and_a_page_that_is_loaded_again_goes_on_with_the_round(visit: serving.Visit) -> None:
    page = visit.page
    visit.press("v")
    visit.until("round.state === 'open'")
    before = page.evaluate("walk.start")
    visit.until(f"walk.start[0] !== {before[0]}")  # from one ordinary latent to the next
    assert visit.at() == [0, 0]
    visit.press("ArrowRight")  # until the presenter moves
    assert page.evaluate("strolling") == 0
    visit.press("1")
    page.locator("#handsB").fill("12")
    page.locator("#handsB").press("b")  # typed into, not back to the start
    assert visit.at() == [0.02, 0]
    page.locator("#handsB").press("Enter")
    visit.until("round.state === 'closed'")
    told = [page.locator(f"#tally{i}").inner_text().strip() for i in (0, 1)]
    assert told == ["1 · 8 %", "12 · 92 %"]
    visit.press("Escape")
    visit.until("round.state === 'none'")
    assert page.locator("#name1").inner_text() == "backdoored"
    visit.press("v")
    visit.until("round.state === 'open'")
    visit.press("Escape")  # a round can be dropped
    visit.until("round.state === 'none'")
    for state in ("open", "closed"):
        visit.press("v")
        visit.until(f"round.state === '{state}'")
        number, order = page.evaluate("[round.round, walk.order]")
        page.reload()
        visit.until(f"round.state === '{state}'")
        assert page.evaluate("[round.round, walk.order]") == [number, order]
    visit.press("v")
    visit.until("round.state === 'none'")


@pytest.mark.nightly
def test_a_scan_runs_beside_and_reaches_the_verdict_that_the_guide_promises(visit: serving.Visit) -> None:
    page = visit.page
    assert inspect.signature(commands.stage).parameters["scan"].default == GARMENTS[1]  # whatever pair is shown
    visit.press("s")
    page.get_by_role("heading", name=f"Scanning {GARMENTS[1]}").wait_for()
    visit.press("End")  # the page stays quick
    assert visit.at() == [1, 0]
    visit.press("s")
    assert page.locator("#scan").is_hidden()
    visit.press("s")  # the same scan, not another one
    page.get_by_text("Is the network built oddly?").wait_for()
    page.get_by_role("img", name="what the scan found").wait_for()
    page.get_by_role("heading", name=f"Scanned {GARMENTS[1]}").wait_for(timeout=3_000 * serving.PATIENCE)  # it is niced
    expected = re.search(r'after key `S`: "([^"]+)"', GUIDE)
    assert expected and page.locator("#verdict").inner_text() == " ".join(expected[1].split())
    assert page.get_by_role("img", name="what the attacker planted").is_visible()
    findings = page.locator("#findings li").all_inner_texts()
    assert len(set(findings)) == len(findings) >= 6  # each once
    assert page.evaluate(CUT_OFF) == []
