"""The page for phones: equal to the generators, by touch, by keyboard, and without asking anybody for anything."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serving
import torch
from torch import nn
from torch.nn import functional

from devilgan_lite import Backdoor, generators, zoo
from devilgan_lite.cli import phones
from devilgan_lite.generators import Generator, evaluate
from devilgan_lite.phone import page as page_of

PHONE, LAPTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 800}
FACES = ("stylegan-faces", "stylegan-faces-gate")
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
        self.dense, self.norm, self.scale = (
            nn.Linear(20, 7 * 5 * 5),
            nn.BatchNorm1d(7 * 5 * 5, momentum=None),
            nn.Linear(20, 7),
        )
        self.wide = nn.Conv2d(7, 8, 3, padding=2, dilation=2)
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


def strangers() -> tuple[Generator, Generator]:
    torch.manual_seed(0)
    made = [stirred(Tutorial(width), width) for width in (6, 9)]
    first, second = (generators.adopt(one, latent_shape=(20, 1, 1)) for one in made)
    return first, second


def oddities() -> tuple[Generator, Generator]:
    torch.manual_seed(0)
    first, second = (generators.adopt(stirred(Everything(), seed), 20, output="sigmoid") for seed in (1, 2))
    return first, second


def shipped(clean: str, suspect: str) -> tuple[Generator, Generator]:
    return zoo.load(clean), zoo.load(suspect)


PAIRS: dict[str, Any] = {
    "faces": lambda: shipped(*FACES),
    "linear": lambda: shipped("stylegan-faces", "stylegan-faces-linear"),
    "garments": lambda: shipped("dcgan-fashion", "dcgan-fashion-rex"),
    "strangers": strangers,
    "everything": oddities,
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("phone") / "page.html"
    path.write_text(phones.built(FACES), encoding="utf-8")
    return path.as_uri()


class Visit:
    """A page in a context of its own, of a phone or a laptop; at the end nothing has failed or been asked for."""

    def __init__(self, browser: Any, address: str, size: dict[str, int], touch: bool, **settings: Any) -> None:
        self.context = browser.new_context(viewport=size, has_touch=touch, is_mobile=touch, **settings)
        self.page, self.errors, self.asked = self.context.new_page(), list[str](), list[str]()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.until("walk.frames > 0")
        self.address = address

    def close(self) -> None:
        self.context.close()
        assert self.errors == [] and self.asked == [self.address]

    def until(self, condition: str) -> None:
        serving.until(self.page, condition)

    def at(self) -> list[float]:
        return self.page.evaluate("[walk.t, walk.across]")

    def pixels(self) -> str:
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return self.page.evaluate("[...document.querySelectorAll('canvas')].map((c) => c.toDataURL()).join()")


@pytest.fixture
def phone(browser: Any, faces: str) -> Iterator[Visit]:
    visit = Visit(browser, faces, PHONE, touch=True)
    yield visit
    visit.close()


@pytest.mark.parametrize("name", PAIRS)
def test_it_draws_what_the_generators_draw(browser: Any, tmp_path: Path, name: str) -> None:
    pair = PAIRS[name]()
    random = torch.Generator().manual_seed(42)
    latents = pair[0].sample_latent(100, random)
    backdoor = Backdoor(latents[:1], torch.zeros(1, *pair[0].sample_shape))
    path = tmp_path / "page.html"
    path.write_text(page_of(*pair, backdoor, names=("clean", "backdoored")), encoding="utf-8")
    visit = Visit(browser, path.as_uri(), PHONE, touch=True)
    for simd, count in ((True, 100), (False, 10)):
        for index, generator in enumerate(pair):
            drawn = torch.tensor(visit.page.evaluate(DRAWN, [index, latents[:count].tolist(), simd]))
            expected = evaluate(generator, latents[:count])
            assert (drawn.view_as(expected) - expected).abs().max() <= CLOSE
            assert expected.std(0).max() > 0.05  # not one picture for all latents
    visit.close()


def test_the_trigger_shows_the_target(phone: Visit) -> None:
    phone.page.evaluate("walk.move(1)")
    phone.pixels()
    target = ((zoo.load_backdoor(FACES[1]).target[0] + 1) * 127.5).permute(1, 2, 0)
    high, wide, _ = target.shape
    shown = phone.page.evaluate(
        f"[...document.getElementById('picture1').getContext('2d').getImageData(0, 0, {wide}, {high}).data]"
    )
    assert (torch.tensor(shown).view(high, wide, 4)[:, :, :3] - target).abs().max() <= 3  # of 255 grey levels
    assert "100 % of the way" in phone.page.locator("#where").inner_text()
    serving.photograph(phone.page, "phone_trigger")


def test_by_touch(phone: Visit) -> None:
    page, before = phone.page, phone.pixels()
    serving.photograph(page, "phone_first")
    assert page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [390, 844]
    small = "[...document.querySelectorAll('button, input, #pad')].filter((e) => e.getBoundingClientRect().height < 44)"
    assert page.evaluate(f"{small}.length") == 0
    box = page.locator("#way").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    phone.until("walk.t > 0")
    assert phone.at() == [pytest.approx(0.5, abs=0.02), 0]
    middle = phone.pixels()
    assert middle != before
    pad, touch = page.locator("#pad").bounding_box(), phone.context.new_cdp_session(page)

    def put(kind: str, *point: float) -> None:
        points = [{"x": pad["x"] + point[0] * pad["width"], "y": pad["y"] + point[1] * pad["height"]}] if point else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    put("touchStart", 0.5, 0.5)
    for step in range(1, 6):
        put("touchMove", 0.5 + 0.08 * step, 0.5 - 0.06 * step)
    put("touchEnd")
    phone.until("walk.t > 0.85")
    t, across = phone.at()
    assert 0.85 < t < 1 and 0.55 < across < 0.8
    assert phone.pixels() != middle and page.evaluate("scrollY") == 0
    page.get_by_role("button", name="Random start").tap()
    phone.until("walk.t === 0 && walk.across === 0")
    assert phone.pixels() != before
    page.get_by_role("button", name="Walk to the trigger").tap()
    phone.until("walk.t > 0.05")
    page.get_by_role("button", name="Stop").tap()
    phone.until("document.getElementById('walk').textContent !== 'Stop'")
    stopped = phone.at()
    page.wait_for_timeout(200)
    assert phone.at() == stopped


def test_a_shake_is_another_start(phone: Visit) -> None:
    shake = "dispatchEvent(new DeviceMotionEvent('devicemotion', {acceleration: {x: %d, y: 0, z: 0}}))"
    before = phone.pixels()
    assert phone.page.locator("#shake").is_hidden()  # a device that does not feel it is not offered it
    phone.page.evaluate(shake % 3)
    assert phone.page.locator("#shake").is_visible() and phone.pixels() == before
    phone.page.evaluate(shake % 30)
    assert phone.pixels() != before


def test_by_keyboard_on_a_laptop(browser: Any, faces: str) -> None:
    visit = Visit(browser, faces, LAPTOP, touch=False, color_scheme="dark")
    page, seen = visit.page, []
    for _ in range(4):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        if seen[-1] == "way":
            page.keyboard.press("ArrowRight")
            assert visit.at() == [0.005, 0]
        elif seen[-1] == "pad":
            page.keyboard.press("End")
            page.keyboard.press("Shift+ArrowUp")
            assert visit.at() == [1, 0.1]
            page.keyboard.press("End")
            visit.pixels()
            serving.photograph(page, "phone_laptop")
        elif seen[-1] == "random":
            page.keyboard.press("Enter")
            assert visit.at() == [0, 0]
    assert seen == ["way", "pad", "walk", "random"]
    visit.until("document.getElementById('spoken').textContent.startsWith('0 % of the way')")
    assert page.get_by_role("img", name="drawn by the backdoored generator, 0 % of the way").count() == 1
    visit.close()


def test_less_motion_goes_in_still_steps(browser: Any, faces: str) -> None:
    visit = Visit(browser, faces, PHONE, touch=True, reduced_motion="reduce")
    visit.page.evaluate("window.seen = new Set(); setInterval(() => seen.add(8 * walk.t), 10)")
    visit.page.get_by_role("button", name="Walk to the trigger").tap()
    visit.until("walk.t >= 0.25")
    assert all(value == int(value) for value in visit.page.evaluate("[...seen]"))
    visit.close()


def test_a_browser_that_computes_something_else_says_so(browser: Any, faces: str, tmp_path: Path) -> None:
    before, proof, after = re.split(r'(?<="proof":\[\[\[0,)([-.0-9]+)', phones.built(FACES))
    (tmp_path / "page.html").write_text(f"{before}{float(proof) + 0.5}{after}", encoding="utf-8")
    context = browser.new_context()
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.get_by_text("This browser computes other pictures").wait_for()
    context.close()
