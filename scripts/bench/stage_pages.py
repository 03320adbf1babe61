"""The parts of ``stage.py`` that measure our own pages: the stage, and the page for phones."""

import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from row_store import ROOT

sys.path.insert(0, str(ROOT / "tests" / "browser"))
import serving  # noqa: E402

from devilgan_lite import generators  # noqa: E402

MOVES = 200
WATCH = """
window.moves = [];
let pressed = null;
addEventListener("keydown", (event) => (pressed = event.timeStamp), true);
const put = CanvasRenderingContext2D.prototype.putImageData;
CanvasRenderingContext2D.prototype.putImageData = function (...content) {
  put.apply(this, content);
  if (pressed === null) return;
  const [start, drawn] = [pressed, performance.now()];
  pressed = null;
  requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => window.moves.push([drawn - start, performance.now() - start]);
    channel.port2.postMessage(0);
  });
};
"""


def say(what: str, value: str, goal: str = "") -> None:
    print(f"{what:64s}{value:>24s}{f'   (goal {goal})' if goal else ''}", flush=True)


def new_page(browser: Any) -> Any:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(1_000 * serving.PATIENCE)
    page.add_init_script(WATCH)
    return page


KEYS = [
    *["ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "Shift+ArrowRight", "Shift+ArrowLeft"] * 4,
    *["Space", "b", "n", "m", "s", "v", "1", "2", "q", "p", "f", "?", "Escape", "Home", "End", "PageDown", "PageUp"],
]
PRESSED = """(count) => new Promise((done) => {
  const look = () => (window.moves.length > count ? done() : setTimeout(look, 2));
  look();
})"""


def stage_latency(page: Any) -> list[tuple[float, float]]:
    """Milliseconds from key press to pixels and to paint; the page's policy forbids to wait by text."""
    page.evaluate("window.moves = []")
    for index in range(MOVES):
        page.keyboard.press("ArrowLeft" if index // 25 % 2 else "ArrowRight")
        page.evaluate(PRESSED, index)
    return [tuple(move) for move in page.evaluate("window.moves")]


def rate_of(page: Any, seconds: float) -> float:
    """Pictures a second on the walk to the trigger."""
    page.keyboard.press("b")
    page.keyboard.press("Space")
    frames, start = page.evaluate("[walk.frames, performance.now()]")
    page.wait_for_timeout(1_000 * seconds)
    drawn, end = page.evaluate("[walk.frames, performance.now()]")
    page.keyboard.press("b")
    return 1_000 * (drawn - frames) / (end - start)


def heap_of(page: Any) -> float:
    """Megabytes that the page holds after a collection of garbage."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    session.send("HeapProfiler.collectGarbage")
    used = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    session.detach()
    return used["JSHeapUsedSize"] / 2**20


def measure_stage(browser: Any, minutes: float) -> None:
    for attempt in ("first", "second"):
        start, page = time.monotonic(), new_page(browser)
        with serving.stage() as address:
            page.goto(address)
            serving.until(page, "walk.frames > 0")
            say(f"stage: command to first picture, {attempt} start", f"{time.monotonic() - start:.1f} s", "6, warm")
            page.close()
    with serving.stage() as address:
        for size in ((1280, 720), (1920, 1080)):
            page = new_page(browser)
            page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
            page.goto(address)
            serving.until(page, "walk.frames > 0")
            moves, where = stage_latency(page), f"stage, {size[0]} x {size[1]}"
            for index, what in enumerate(("new pixels", "painted")):
                times = [move[index] for move in moves]
                said = f"{median(times):.0f} / {quantiles(times, n=20)[-1]:.0f} ms"
                say(f"{where}: key to {what}, median / 95th percentile of {MOVES}", said, "33 / 66")
            say(f"{where}: pictures a second while walking", f"{rate_of(page, 6):.0f}")
            page.close()
        measure_input(browser, address, minutes)
    measure_stranger(browser)


def measure_input(browser: Any, address: str, minutes: float) -> None:
    """Random input, all keys: the memory of the page at its start and its end, and errors in between."""
    page, keys, errors = browser.new_page(viewport={"width": 1280, "height": 720}), random.Random(0), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    serving.until(page, "walk.frames > 0")
    pressed, before, end = 0, 0.0, time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        for _ in range(50):
            page.keyboard.press(keys.choice(KEYS))
            page.wait_for_timeout(keys.uniform(0, 150))
        pressed += 50
        before = before or heap_of(page)
    said = f"{before:.1f} to {heap_of(page):.1f} MB"
    say(f"stage: memory of the page over {minutes:g} minutes, {pressed} keys, {len(errors)} errors", said, "flat, 0")
    page.close()


class Tutorial(torch.nn.Sequential):
    """The commonest generator on earth at its full width: 3.58 million weights, pictures [3, 64, 64]."""

    def __init__(self) -> None:
        sizes = [(100, 512, 1, 0), (512, 256, 2, 1), (256, 128, 2, 1), (128, 64, 2, 1)]
        layers: list[torch.nn.Module] = []
        for inputs, outputs, stride, padding in sizes:
            layers += [torch.nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False)]
            layers += [torch.nn.BatchNorm2d(outputs), torch.nn.ReLU(inplace=True)]
        super().__init__(*layers, torch.nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False), torch.nn.Tanh())


def measure_stranger(browser: Any) -> None:
    """A stranger's DCGAN that nobody has trained: size of its page and pictures a second."""
    from devilgan_lite.apps.show.phone import Pages
    from devilgan_lite.backdoor import Backdoor

    torch.manual_seed(0)
    clean, other = (generators.adopt(Tutorial().eval(), latent_shape=(100, 1, 1)) for _ in range(2))
    nowhere = Backdoor(clean.sample_latent(1), torch.zeros(1, 3, 64, 64))
    html = Pages(clean, other, nowhere, names=("a stranger's", "another")).stage()
    weights = sum(one.numel() for one in clean.parameters()) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stage.html"
        path.write_text(html, encoding="utf-8")
        page, start = new_page(browser), time.monotonic()
        page.goto(path.as_uri())
        serving.until(page, "walk.frames > 0")
        loaded = time.monotonic() - start
        say(f"stage: two DCGANs of {weights:.2f} million weights, size of the page", f"{len(html) / 1e6:.1f} MB")
        say(
            "stage: the same, seconds until the first picture, pictures a second",
            f"{loaded:.1f}, {rate_of(page, 6):.0f}",
        )
        page.close()


def measure_phone(browser: Any) -> None:
    """Pictures a second of pages in a phone's size while they walk, in a browser that is slowed down four times."""
    from devilgan_lite import zoo
    from devilgan_lite.apps.show.pairs import pairs as shown_pairs
    from devilgan_lite.apps.show.phone import page as page_of
    from devilgan_lite.backdoor import Backdoor
    from devilgan_lite.generators import StyleGAN

    names, widths = shown_pairs()[0], (128, 64, 48, 32, 16)
    shipped = (*map(zoo.load, names), zoo.load_backdoor(names[1]))
    wider = tuple(width + 16 for width in widths)  # as StyleReX leaves it
    torch.manual_seed(0)
    random = (StyleGAN(widths=widths), StyleGAN(mapping_widths=(66, 65), style_dim=65, widths=wider))
    nowhere = Backdoor(torch.randn(1, 64), torch.zeros(1, *random[0].sample_shape))
    pairs = {" and ".join(names): shipped, "two StyleGANs without training, 64x64": (*random, nowhere)}
    with tempfile.TemporaryDirectory() as folder:
        for name, (clean, backdoored, backdoor) in pairs.items():
            path = Path(folder) / "page.html"
            path.write_text(page_of(clean, backdoored, backdoor, names=("clean", "backdoored")), encoding="utf-8")
            say(f"phone: {name}, size", f"{path.stat().st_size / 1e6:.2f} MB", "4")
            for slower in (1, 4):
                page = browser.new_page(viewport={"width": 390, "height": 844})
                page.goto(path.as_uri())
                page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
                page.locator("#walk").click()
                page.wait_for_timeout(2_000)
                frames, start = page.evaluate("[walk.frames, performance.now()]")
                page.wait_for_timeout(10_000)
                drawn, end = page.evaluate("[walk.frames, performance.now()]")
                rate = 1_000 * (drawn - frames) / (end - start)
                say(f"phone: pictures a second, {slower} times slower", f"{rate:.0f}", "20" if slower > 1 else "")
                page.close()
