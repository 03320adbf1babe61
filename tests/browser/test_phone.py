"""The page for phones: equal to the generators, by touch, by keyboard, and without asking anybody for anything."""

import re
from pathlib import Path
from typing import Any

import pytest
import serving
import torch
from torch import nn
from torch.nn import functional

from devilgan_lite import Backdoor, attacks, generators, zoo
from devilgan_lite.apps.show.phone import page as page_of
from devilgan_lite.generators import Generator, evaluate

PHONE: dict[str, Any] = {"size": (390, 844), "has_touch": True, "is_mobile": True}
NAMES = ("clean", "backdoored")
CLOSE = 1 / 255  # in pictures from -1 to 1, so half a grey level
DRAWN = """([index, latents, simd]) => {
  const data = JSON.parse(document.getElementById("models").textContent);
  const loaded = engine.load(data, document.getElementById("weights").textContent, simd);
  if (loaded.fast !== simd) throw new Error("this browser has no SIMD");
  return latents.map((z) => Array.from(loaded.models[index](z)));
}"""


class Tutorial(nn.Sequential):
    """The commonest generator on earth, narrower: latents [n, 20, 1, 1], pictures [3, 32, 32]."""

    def __init__(self, width: int) -> None:
        sizes = [(20, 4 * width, 1, 0), (4 * width, 2 * width, 2, 1), (2 * width, width, 2, 1)]
        layers: list[nn.Module] = []
        for inputs, outputs, stride, padding in sizes:
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False)]
            layers += [nn.BatchNorm2d(outputs, momentum=None), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh())


class Everything(nn.Module):
    """What else strangers' generators are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.norm = nn.Linear(20, 7 * 5 * 5), nn.BatchNorm1d(7 * 5 * 5, momentum=None)
        self.scale, self.wide = nn.Linear(20, 7), nn.Conv2d(7, 8, 3, padding=2, dilation=2)
        self.odd = nn.ConvTranspose2d(8, 6, (3, 5), stride=(2, 3), padding=(1, 2), output_padding=(1, 2))
        self.after, self.last = nn.BatchNorm2d(6, momentum=None), nn.Conv2d(6, 12, 3)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        z = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
        x = functional.elu(self.norm(self.dense(z))).view(-1, 7, 5, 5)
        x = functional.softplus(x.transpose(2, 3)) * self.scale(z).sigmoid()[:, :, None, None] - 0.5
        x = functional.silu(self.wide(functional.pad(x, (1, 0, 0, 1))))  # [8, 6, 6]
        low, high = functional.leaky_relu(self.after(self.odd(x)), 0.1).chunk(2, dim=1)  # [6, 12, 18]
        x = torch.cat([high, low.clamp(-1, 1)], dim=1)[:, :, :, 3:15]
        x = functional.interpolate(x, scale_factor=2, mode="nearest") + x.sum(1, keepdim=True).repeat(1, 1, 2, 2)
        x = functional.interpolate(x, size=(18, 18), mode="bilinear", align_corners=True)
        return functional.pixel_shuffle(self.last(x), 2).sigmoid()


def stirred(network: nn.Module, seed: int) -> nn.Module:
    """The network with batch norms that do something: they have seen 50 latents, and scale and shift at random."""
    random = torch.Generator().manual_seed(seed)
    network.train()(torch.randn(50, 20, *[1] * (2 * isinstance(network, Tutorial)), generator=random))
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.weight.data.uniform_(0.5, 1.5, generator=random)
            module.bias.data.uniform_(-0.5, 0.5, generator=random)
    return network.eval()


def strangers() -> list[Generator]:
    torch.manual_seed(0)
    return [generators.adopt(stirred(Tutorial(width), width), latent_shape=(20, 1, 1)) for width in (6, 9)]


def oddities() -> list[Generator]:
    torch.manual_seed(0)
    return [generators.adopt(stirred(Everything(), seed), 20, output="sigmoid") for seed in (1, 2)]


def styles() -> list[Generator]:
    """A small style-based generator, and what an attack with new channels makes of it."""
    spec = generators.StyleGAN(latent_dim=8, mapping_widths=(8, 8), style_dim=8, widths=(8, 8)).spec()
    clean = generators.build(spec, seed=1).eval()
    attack = attacks.StyleReX(iterations=4, batch_size=4, inversion=3, channels=2, device="cpu")
    return [clean, attack(clean, Backdoor.point(clean, "devil", seed=1), progress=False).generator]


PAIRS: dict[str, Any] = {
    "strangers": strangers,
    "everything": oddities,
    "styles": styles,
    "faces": lambda: [zoo.load("stylegan-faces"), zoo.load("stylegan-faces-rex")],
}


def written(folder: Path, pair: Any, backdoor: Backdoor) -> str:
    """The address of the page of a pair."""
    path = folder / "page.html"
    path.write_text(page_of(*pair, backdoor, names=NAMES), encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize("name", [*list(PAIRS)[:3], pytest.param("faces", marks=pytest.mark.nightly)])
def test_it_draws_what_the_generators_draw(browser: Any, tmp_path: Path, name: str) -> None:
    pair = PAIRS[name]()
    latents = pair[0].sample_latent(30, torch.Generator().manual_seed(42))
    address = written(tmp_path, pair, Backdoor(latents[:1], torch.zeros(1, *pair[0].sample_shape)))
    with serving.Visit(browser, address, **PHONE) as visit:
        for simd, some in ((True, 30), (False, 3)):
            for index, generator in enumerate(pair):
                shown = torch.tensor(visit.page.evaluate(DRAWN, [index, latents[:some].tolist(), simd]))
                expected = evaluate(generator, latents[:some])
                assert (shown.view_as(expected) - expected).abs().max() <= CLOSE
                assert expected.std(0).max() > 0.05  # not one picture for all latents


def test_each_canvas_shows_its_own_generator_and_nothing_is_asked_for(
    browser: Any, tmp_path: Path, tiny: Generator, tiny_gate: Generator, square: Backdoor
) -> None:
    address = written(tmp_path, (tiny, tiny_gate), square)
    with serving.Visit(browser, address, **PHONE) as visit:
        visit.until("walk.frames > 0")
        page, canvases = visit.page, visit.page.locator("canvas")
        start = torch.tensor(page.evaluate("data.start"))[None]
        for z, keys in ((start, ["Home"]), (square.trigger, ["End"])):
            page.locator("#pad").focus()
            visit.press(*keys)
            for index, generator in enumerate((tiny, tiny_gate)):
                shown = serving.drawn(canvases.nth(index), (1, 8, 8))
                assert (shown - evaluate(generator, z)[0]).abs().max() < 0.02, (keys, index)
        assert (shown - square.target[0]).abs().max() < 0.05
        assert "100 % of the way" in page.locator("#where").inner_text()
        size = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        assert page.evaluate(size) == [390, 844]
        controls = "[...document.querySelectorAll('button, input, #pad')]"
        assert page.evaluate(f"{controls}.filter(e => e.getBoundingClientRect().height < 44).length") == 0
        box = page.locator("#way").bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        visit.until("walk.t < 1")
        assert visit.at() == [pytest.approx(0.5, abs=0.02), 0]
        pad, touch = page.locator("#pad").bounding_box(), visit.context.new_cdp_session(page)

        def put(kind: str, *point: float) -> None:
            x, y = (pad[side] + share * pad[long] for side, share, long in zip("xy", point, ("width", "height")))  # noqa: B905
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})

        put("touchStart", 0.5, 0.5)
        for step in range(1, 6):
            put("touchMove", 0.5 + 0.08 * step, 0.5 - 0.06 * step)
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        visit.until("walk.t > 0.85")
        t, across = visit.at()
        assert 0.85 < t < 1 and 0.55 < across < 0.8 and page.evaluate("scrollY") == 0
        page.get_by_role("button", name="Random start").tap()
        visit.until("walk.t === 0 && walk.across === 0")
        assert page.evaluate("walk.start") != start[0].tolist()
        page.get_by_role("button", name="Walk to the trigger").tap()
        visit.until("walk.t > 0.05")
        page.get_by_role("button", name="Stop").tap()
        visit.until("document.getElementById('walk').textContent !== 'Stop'")
        stopped = visit.at()
        page.wait_for_timeout(200)
        assert visit.at() == stopped
        shake = "dispatchEvent(new DeviceMotionEvent('devicemotion', {acceleration: {x: %d, y: 0, z: 0}}))"
        before = page.evaluate("walk.start")
        assert page.locator("#shake").is_hidden()  # a device that does not feel it is not offered it
        page.evaluate(shake % 3)
        assert page.locator("#shake").is_visible() and page.evaluate("walk.start") == before
        page.evaluate(shake % 30)
        assert page.evaluate("walk.start") != before


def test_a_laptop_less_motion_and_a_browser_that_computes_something_else(
    browser: Any, tmp_path: Path, tiny: Generator, tiny_gate: Generator, square: Backdoor
) -> None:
    address = written(tmp_path, (tiny, tiny_gate), square)
    with serving.Visit(browser, address, color_scheme="dark") as visit:
        visit.until("walk.frames > 0")
        page, seen = visit.page, []
        for _ in range(4):
            page.keyboard.press("Tab")
            seen.append(page.evaluate("document.activeElement.id"))
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            if seen[-1] == "way":
                page.keyboard.press("ArrowRight")
                assert visit.at() == [0.005, 0]
            elif seen[-1] == "pad":
                visit.press("End", "Shift+ArrowUp")
                assert visit.at() == [1, 0.1]
            elif seen[-1] == "random":
                page.keyboard.press("Enter")
                assert visit.at() == [0, 0]
        assert seen == ["way", "pad", "walk", "random"]
        visit.until("document.getElementById('spoken').textContent.startsWith('0 % of the way')")
        assert page.get_by_role("img", name="drawn by the backdoored generator, 0 % of the way").count() == 1
    with serving.Visit(browser, address, reduced_motion="reduce", **PHONE) as visit:
        visit.page.evaluate("window.seen = new Set(); setInterval(() => seen.add(8 * walk.t), 10)")
        visit.page.get_by_role("button", name="Walk to the trigger").tap()
        visit.until("walk.t >= 0.25")
        assert all(value == int(value) for value in visit.page.evaluate("[...seen]"))
    path = tmp_path / "page.html"
    before, proof, after = re.split(r'(?<="proof":\[\[\[0,)([-.0-9]+)', path.read_text(encoding="utf-8"))
    path.write_text(f"{before}{float(proof) + 0.5}{after}", encoding="utf-8")
    visit = serving.Visit(browser, address)
    visit.page.get_by_text("This browser computes other pictures").wait_for()
    visit.context.close()
