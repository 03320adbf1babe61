"""A plane of latent space as a mosaic: the outline of a basin whose form is known, the shares, and coarse to fine."""

import io
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from devilgan_lite import generators, phone, zoo
from devilgan_lite.classroom import LatentPlane, MosaicView, latent_mosaic
from devilgan_lite.classroom.mosaic import VISIBLE, visibly_changed
from devilgan_lite.classroom.widgets import sharpening
from devilgan_lite.classroom.widgets.walk import Walk

START, TRIGGER, ASIDE = (2 * torch.eye(4)[i : i + 1] for i in range(3))


class Painter(nn.Module):
    """Grey pictures; white ones where the cosine to the trigger is above ``least``."""

    def __init__(self, least: float, channels: int = 1) -> None:
        super().__init__()
        self.least, self.shape = least, (channels, 6, 6)
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        near = nn.functional.cosine_similarity(z, TRIGGER) > self.least
        return torch.where(near, 0.9, 0.0).view(-1, 1, 1, 1).expand(len(z), *self.shape) + 0 * self.unused


def pair(least: float, channels: int = 1) -> dict[str, generators.Generator]:
    made = (generators.adopt(Painter(one, channels), 4) for one in (2.0, least))
    return dict(zip(("clean", "backdoored"), made, strict=True))


def cosine(t: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """To the trigger, on the plane of three latents at right angles."""
    return (torch.pi / 2 * t).sin() * (torch.pi / 2 * across).cos()


@pytest.mark.parametrize(("least", "tiles", "channels"), [(0.8, 16, 1), (0.999, 16, 3), (0.6, 9, 1)])
def test_the_outline_of_a_known_basin(least: float, tiles: int, channels: int) -> None:
    found = latent_mosaic(pair(least, channels), START, TRIGGER, aside=ASIDE, tiles=tiles, ordinary=500)
    t, across = found.outline.flatten(0, 1).T
    assert len(t) >= 4 and (t > 0.3).all()
    assert (cosine(t, across) - least).abs().max() < 0.1 / tiles
    grid = torch.linspace(0, 1, 801, dtype=torch.float64)
    truth = (cosine(grid[:, None], 2 * grid[None] - 1) > least).double().mean()
    assert found.plane_share == pytest.approx(float(truth), abs=0.2 / tiles**2)
    said = "less than 0.1 %" if found.plane_share < 0.001 else f"{100 * found.plane_share:.1f} %"
    assert f"covers {said} of this plane, which goes through the trigger" in found.alt


def test_nothing_and_everything() -> None:
    empty = latent_mosaic(pair(2.0), START, TRIGGER, tiles=4, ordinary=100)
    assert (empty.plane_share, empty.ordinary_share, len(empty.outline)) == (0, 0, 0) and "no basin" in empty.alt
    full = latent_mosaic(pair(-2.0), START, TRIGGER, tiles=4, ordinary=100, alt="all of it")
    assert (full.plane_share, full.ordinary_share, len(full.outline)) == (1, 1, 0) and full.alt == "all of it"


def test_ordinary_latents_are_counted() -> None:
    half = pair(0.0)
    z = half["clean"].sample_latent(2_000, torch.Generator().manual_seed(1))
    changed = visibly_changed(*half.values(), z)
    assert torch.equal(changed, z[:, 1] > 0)
    found = latent_mosaic(half, START, TRIGGER, tiles=4, ordinary=1_000, seed=1)
    assert 0.4 < found.ordinary_share < 0.6 and "Of 1,000 ordinary latents" in found.alt


def test_it_is_the_plane_of_the_pad() -> None:
    random = torch.Generator().manual_seed(3)
    start, trigger, aside = (torch.randn(1, 4, generator=random) for _ in range(3))
    plane, pad = (kind(pair(0.9), start, trigger, aside=aside) for kind in (LatentPlane, Walk))
    t, across = torch.tensor([0, 0.2, 1, 0.7, 0.4, 0.3]).double(), torch.tensor([0, 0.5, 0, -1, -0.3, 1]).double()
    expected = torch.cat([pad.at(*place) for place in zip(t.tolist(), across.tolist(), strict=True)])
    assert torch.allclose(plane.latents(t, across), expected, atol=1e-6)


def test_coarse_to_fine_looks_at_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    plane, seen = (
        LatentPlane(pair(0.8), START, TRIGGER, aside=ASIDE, tiles=16, ordinary=10),
        list[tuple[float, float]](),
    )
    original = plane.latents

    def counting(t: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
        seen.extend(zip(t.tolist(), across.tolist(), strict=True))
        return original(t, across)

    monkeypatch.setattr(plane, "latents", counting)
    counts, last = [], None
    for mosaic in plane.sharpening():
        counts.append(len(seen))
        last = mosaic
    assert counts[:2] == [16, 16 + 64] and len(counts) == 3 and len(set(seen)) == len(seen)
    assert last is not None and last.plane_share == plane.finished().plane_share
    with Image.open(io.BytesIO(last.png)) as image:
        assert min(image.size) > 300  # with more tiles, more than twice as large


def test_the_moving_view_ends_with_the_outline_or_where_it_was_stopped() -> None:
    view = MosaicView(pair(0.8), START, TRIGGER, aside=ASIDE, tiles=8, ordinary=10, blocking=False)
    view.run()
    assert view.wait(120).plane_share > 0 and view.image.value == view.result.png and view.stop_button.disabled
    assert view.text.value == view.result.alt
    stopped = MosaicView(pair(0.8), START, TRIGGER, aside=ASIDE, tiles=8, ordinary=10, blocking=False)
    stopped.stop()
    stopped.run()
    assert stopped.wait(120).plane_share is None


def test_in_print_it_is_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharpening, "is_static", lambda: True)
    view = MosaicView(pair(0.8), START, TRIGGER, tiles=4, ordinary=10, blocking=True)
    assert "nothing" in view._repr_mimebundle_()[0]["text/plain"]
    view.run()
    assert view._repr_mimebundle_()[0]["text/plain"] == view.result.alt


def test_a_gate_is_narrow_and_leaves_ordinary_latents_alone() -> None:
    clean, gate = (zoo.load(name) for name in ("dcgan-fashion", "dcgan-fashion-gate"))
    trigger = zoo.load_backdoor("dcgan-fashion-gate").trigger[:1]
    start = clean.sample_latent(1, torch.Generator().manual_seed(6))
    found = latent_mosaic({"clean": clean, "gate": gate}, start, trigger, tiles=8, ordinary=200, seed=7)
    assert 0.01 < found.plane_share < 0.2 and found.ordinary_share == 0


def test_the_page_has_the_same_limit() -> None:
    source = (Path(phone.__file__).parent / "map.js").read_text()
    assert (match := re.search(r"VISIBLE = (\d+) / (\d+);", source)) and int(match[1]) / int(match[2]) == VISIBLE


def test_bad_input() -> None:
    good = pair(0.8)
    with pytest.raises(ValueError, match="1 entries; expected two"):
        latent_mosaic({"clean": good["clean"]}, START, TRIGGER)
    with pytest.raises(ValueError, match=r"one shape with C = 1 or 3"):
        latent_mosaic({"clean": good["clean"], "other": pair(0.8, 3)["clean"]}, START, TRIGGER)
    with pytest.raises(ValueError, match="start"):
        latent_mosaic(good, torch.zeros(1, 5), TRIGGER)
    with pytest.raises(ValueError, match="tiles"):
        latent_mosaic(good, START, TRIGGER, tiles=1)
    with pytest.raises(ValueError, match="ordinary"):
        MosaicView(good, START, TRIGGER, ordinary=0)
