"""How quick explorer, trainer, stage and page for phones are: one line a number. ``make bench NAME=stage``; needs a
chromium browser.

Latencies are taken inside the browser: from the time stamp of the key press to the new pixels on the canvas, and to
the end of the frame that paints them.
"""

import contextlib
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from row_store import ROOT, options_of
from stage_pages import MOVES, measure_phone, measure_stage, new_page, say

sys.path.insert(0, str(ROOT / "tests" / "browser"))
import serving  # noqa: E402

from devilgan_lite import data, generators, train_gan  # noqa: E402
from devilgan_lite.apps.course import LiveTraining, points, tile  # noqa: E402
from devilgan_lite.features import features_and_classes  # noqa: E402
from devilgan_lite.metrics import frechet_distance  # noqa: E402

CELL = """
import torch
torch.set_num_threads(1)
from devilgan_lite import zoo
from devilgan_lite.apps.course import Explorer
from devilgan_lite.apps.show import pairs
names = pairs.pairs()[0]
backdoor = zoo.load_backdoor(names[1])
Explorer({name: zoo.load(name) for name in names}, backdoor.trigger[:1], target=backdoor.target[:1], size=365)
"""
TRAINING = """
from devilgan_lite import data, generators, train_gan
from devilgan_lite.apps.course import LiveTraining, tile
loop = train_gan.steps(generators.DCGAN(), data.fashion_mnist(), iterations=1_000_000, device="cpu")
live = LiveTraining(loop, lambda generator: tile(generator.sample(24)))
live.run()
"""


def latency(page: Any, selector: str) -> list[tuple[float, float]]:
    """Milliseconds from key press to pixels and to paint, for ``MOVES`` moves there and back."""
    page.locator(selector).first.focus()
    serving.settled(page)
    page.evaluate("window.moves = []")
    for index in range(MOVES):
        page.keyboard.press("ArrowLeft" if index // 25 % 2 else "ArrowRight")  # never up to the end
        page.wait_for_function(f"window.moves.length > {index}", timeout=10_000, polling=5)
    return [tuple(move) for move in page.evaluate("window.moves")]


def tell_latency(where: str, page: Any, goal: str) -> None:
    for name, selector in (("slider", ".devilgan-explorer .noUi-handle"), ("pad", ".devilgan-pad")):
        moves = latency(page, selector)
        for index, what in enumerate(("new pixels", "painted")):
            times = [move[index] for move in moves]
            said = f"{median(times):.0f} / {quantiles(times, n=20)[-1]:.0f} ms"
            say(f"{where}, {name}: key to {what}, median / 95th percentile of {MOVES}", said, goal)


def measure_lab(browser: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = serving.write_notebook(Path(folder) / "bench.ipynb", CELL)
        with serving.lab(path) as address:
            page = new_page(browser)
            serving.run_all(page, address)
            page.wait_for_selector(".devilgan-screen canvas", timeout=60_000)
            tell_latency("JupyterLab", page, "33 / 66")
            page.close()
        path = serving.write_notebook(Path(folder) / "train.ipynb", TRAINING)
        with serving.lab(path) as address:
            page = new_page(browser)
            serving.run_all(page, address)
            page.get_by_text("generator loss").wait_for(timeout=60_000)
            page.wait_for_timeout(3_000)
            start = time.monotonic()
            page.get_by_role("button", name="Stop", exact=True).click()
            page.get_by_text("stopped: step").wait_for()
            say("JupyterLab: Stop pressed to training ended and shown", f"{time.monotonic() - start:.2f} s", "1")
            page.close()


def measure_trainer() -> None:
    """Processor time of the same steps with and without the widget, alternating; and what the ring learns in 5 s."""
    ring, garments = data.ring(), data.fashion_mnist()

    def ring_loop(steps: int) -> Any:
        return train_gan.steps(generators.PointGenerator(), ring, iterations=steps, batch_size=128, device="cpu")

    def plane(generator: Any) -> Any:
        return points({"real": ring.x[:500], "made": generator.sample(500)}, "a ring")

    def garment_loop(steps: int) -> Any:
        return train_gan.steps(generators.DCGAN(), garments, iterations=steps, device="cpu")

    def album(generator: Any) -> Any:
        return tile(generator.sample(24))

    for name, loop, draw, steps in (("ring", ring_loop, plane, 6_000), ("garments", garment_loop, album, 400)):
        spent = {False: 0.0, True: 0.0}
        draw(loop(20).finish(progress=False).generator)  # imports are paid once
        for live in (False, True) * 2:
            job = LiveTraining(loop(steps), draw, blocking=False) if live else None
            start = time.process_time()
            if job is None:
                loop(steps).finish(progress=False)
            else:
                with contextlib.redirect_stdout(io.StringIO()):
                    job.wait()
            spent[live] += time.process_time() - start
        cost = spent[True] / spent[False] - 1
        say(f"trainer: processor time of {2 * steps} steps of {name}, live over plain", f"{cost:+.1%}", "15 %")
    job = LiveTraining(ring_loop(1_000_000), plane, blocking=False)
    with contextlib.redirect_stdout(io.StringIO()):
        job.run()
    time.sleep(5)
    job.stop()
    made = job.wait().generator.sample(2_000)
    centres = torch.stack([ring.x[ring.labels == k].mean(0) for k in range(8)])
    near = torch.cdist(made, centres).min(1)
    on = near.values < 0.12
    said = f"{int(near.indices[on].unique().numel())} of 8, {float(on.float().mean()):.0%}"
    say("trainer: modes of the ring that are hit after 5 s, share of points", said)
    real = features_and_classes(garments.x)[0]
    untrained = frechet_distance(features_and_classes(generators.DCGAN().sample(5_000))[0], real)
    job = LiveTraining(garment_loop(1_000_000), album, blocking=False)
    with contextlib.redirect_stdout(io.StringIO()):
        job.run()
    time.sleep(40)
    job.stop()
    outcome = job.wait()
    after = frechet_distance(features_and_classes(outcome.generator.sample(5_000))[0], real)
    steps = len(next(iter(outcome.history.values())))
    say(f"trainer: Frechet distance of garments after 40 s, {steps} steps", f"{after:.0f} (untrained: {untrained:.0f})")
    serving.PICTURES.mkdir(parents=True, exist_ok=True)
    album(outcome.generator).save(serving.PICTURES / "garments_after_40_s.png")


def measure_check() -> None:
    start = time.monotonic()
    code = "from devilgan_lite.cli import app; app()"
    subprocess.run([sys.executable, "-c", code, "stage", "--check"], cwd=ROOT, stdout=subprocess.DEVNULL)
    say("devilgan stage --check", f"{time.monotonic() - start:.1f} s", "3")


def main() -> None:
    minutes = ("--minutes", {"type": float, "default": 1.0, "help": "of random input, while memory is watched"})
    options = options_of(__doc__, ("check", "trainer", "lab", "stage", "phone"), minutes)
    if "check" in options.only:
        measure_check()
    if "trainer" in options.only:
        measure_trainer()
    if not {"lab", "stage", "phone"} & set(options.only):
        return
    if serving.CHROMIUM is None:
        sys.exit("no chromium browser was found: the rest is not measured.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, serving.chromium(playwright) as browser:
        if "lab" in options.only:
            measure_lab(browser)
        if "stage" in options.only:
            measure_stage(browser, options.minutes)
        if "phone" in options.only:
            measure_phone(browser)


if __name__ == "__main__":
    main()
