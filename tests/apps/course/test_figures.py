"""Pictures, figures, tables and players: the right size, the right pixels, the numbers in them, and alt text."""

import base64
import io
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

from devilgan_lite import Backdoor, attacks, data, zoo
from devilgan_lite.apps import pictures
from devilgan_lite.apps.course import Plane, cure_plots, flow, on_clumps, pipeline_plots
from devilgan_lite.apps.course.blocks import draw_blocks, untouched
from devilgan_lite.apps.course.measures import ANGLES, half_angles, share_left, speeds, widths
from devilgan_lite.apps.course.plane_views import latent_map, listening
from devilgan_lite.apps.course.sound import LEAST, listener, opinions, players
from devilgan_lite.apps.course.styles import mixing_shares, silent_rows
from devilgan_lite.apps.pictures import axes, curves, figure, frontier, points, show, spread, strip, table, tile
from devilgan_lite.attacks import expand, fold
from devilgan_lite.data.tables import Column, Table
from devilgan_lite.generators import DCGAN, PointGenerator, StyleGAN

Size = Callable[[bytes], tuple[int, int]]
Refuses = Callable[..., str]


def pixels(picture: pictures.Picture) -> np.ndarray:
    with Image.open(io.BytesIO(picture.png)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_tile_keeps_the_pixels_and_writes_captions_and_alt_text(refuses: Refuses) -> None:
    image = tile(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8), columns=2, scale=2)
    assert image.mode == "L" and image.getextrema() == (0, 255)
    assert image.getpixel((12, 12)) == 0 and image.getpixel((image.width - 12, 12)) == 255
    x = torch.rand(5, 3, 8, 8) * 2 - 1
    plain, headed, each = (tile(x, columns=3, scale=4, captions=names) for names in ("", "abc", "abcde"))
    assert plain.mode == "RGB" and plain.height < headed.height < each.height
    assert plain.width == headed.width == each.width
    for wrong in (torch.zeros(2, 2), torch.full((1, 1, 4, 4), 3.0), torch.zeros(1, 2, 4, 4)):
        refuses(lambda wrong=wrong: tile(wrong), "x")
    refuses(lambda: tile(x, columns=3, captions="ab"), "captions")
    picture = show(torch.zeros(1, 1, 8, 8), 'A "grey" square')
    shown, metadata = picture._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == shown["text/plain"] == 'A "grey" square' and shown["image/png"]
    assert 'alt="A &quot;grey&quot; square"' in picture.html()
    refuses(lambda: show(torch.zeros(1, 1, 8, 8), " "), "alt")


def test_rows_of_a_strip(size: Size) -> None:
    x = torch.linspace(-1, 1, 4).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    for rows, far in (([x, x.flip(0)], 2 / 3), ([x, x[:1].expand(4, -1, -1, -1)], 0.0)):
        picture = strip(rows, "Two rows", captions=[*["ordinary"] * 3, "the trigger"])
        assert picture._repr_mimebundle_()[1]["image/png"]["apart"] == pytest.approx(far, abs=1e-4)
    assert strip(x, "A walk", captions=["ordinary", "a", "b", "trigger"]).apart is None
    assert strip([x, x], "Two rows", captions=["ordinary", "ordinary", "a", "b"] * 2).apart is not None
    plain, labelled = strip([x, x], "rows", scale=4), strip({"one": x, "a long label": x}, "rows", scale=4)
    assert size(labelled.png)[0] > size(plain.png)[0] + 60 and size(labelled.png)[1] == size(plain.png)[1]


def test_figures_are_small_and_the_same_every_time(size: Size, refuses: Refuses) -> None:
    history = {"generator_loss": np.linspace(2, 1, 300).tolist(), "discriminator_loss": [1.0] * 300}
    first, second = (curves(history, "Both losses", log=True) for _ in range(2))
    assert first.png == second.png
    fig, (ax, right) = axes(columns=2)
    ax.plot([0, 1], "o-"), right.plot([1, 0])
    full, few = figure(fig, "A line"), figure(fig, "A line", colours=16)
    assert len(few.png) < len(full.png) and few.alt == full.alt and size(few.png) == size(full.png)
    assert len(np.unique(pixels(few).reshape(-1, 3), axis=0)) <= 16
    cloud, row = torch.rand(50, 2), {"TarDis": 0.2, "best nearby": 0.1, "Frechet change": 0.5}
    pruned = {"magnitude": {0.0: row, 0.5: row}}
    for picture in (
        curves({"x": [1.0], "y": []}, "a figure"),
        points({"real": cloud, "fake": -cloud}, "a figure", marks={"target": torch.zeros(2)}),
        frontier("a figure", lines={"exact": ([1, 10], [10, 1])}, points={"ReX": (3, 3)}),
        cure_plots.path_figure({"a": {1: 0.1, 2: 0.0}}, "a figure", log=True),
        cure_plots.price_figure({"a": row, "b": row}, "a figure", cost=1.0, log_from=1.0),
        cure_plots.lines_figure([0, 1], {"a": [[0.1], [0.3]]}, "a figure", xlabel="x", ticks=["0", "1"]),
        cure_plots.pruning_figure({"A": pruned, "B": pruned}, "a figure", cost=1.0),
        widths({"cap": torch.rand(31, 3)}, "a figure"),
    ):
        assert picture.alt == "a figure" and min(size(picture.png)) > 200
    assert not hasattr(pictures, "plt") and "pyplot" not in vars(pictures)  # threads may draw

    def drawn(n: int) -> tuple[int, int]:
        return size(flow([("BOX", "two\nlines")] * n, ["G"] * (n - 1), (0, n - 1, "a way back"), "boxes").png)

    assert drawn(4)[0] > drawn(2)[0] > 300 and drawn(4)[1] == pytest.approx(drawn(2)[1], abs=20)
    for boxes, between in ((1, 0), (9, 8), (3, 3)):
        refuses(lambda b=boxes, n=between: flow([("A", "b")] * b, ["c"] * n, (0, 1, "d"), "e"), "boxes", "arrows")
    text = table(pd.DataFrame({"TarDis": [0.123456]}), "Attacks & costs").data
    assert "<caption>Attacks &amp; costs</caption>" in text and "0.123<" in text
    assert spread([1.0, 2.0, 3.0]) == "2 ± 1" and spread([0.25]) == "0.25 (single run)"


# ---- the poisoned pipeline


def test_a_tile_turns_red_when_its_figure_falls() -> None:
    where = {"a": [0.7, 0.69], "b": [0.4, 0.42]}
    wanted = [int(pipeline_plots.RED[k : k + 2], 16) for k in (1, 3, 5)]

    def red(watched: Any, values: list[float], note: str = "") -> int:
        picture = pipeline_plots.dashboard(watched, {"slice": values}, "four tiles.", note=note)
        assert picture.alt == ("four tiles. slice: single run; cached mean: 0.248." if note else "four tiles.")
        return int((np.abs(pixels(picture) - wanted).max(2) < 12).sum())

    assert red(where, [0.9, 0.86]) > 10_000 and red(where, [0.9, 0.1], "single run\ncached mean: 0.248") > 10_000
    assert red(where, [0.9, 0.88]) == red(where, [0.1, 0.9]) == red({"a": [0.1]}, [0.0]) == 0


def test_months_columns_and_defences() -> None:
    pictures = pipeline_plots.month_bars([1.0, 0.0], [4.0, 2.0], height=8)
    assert pictures.shape == (2, 1, 8, 10) and pictures.max() == 1
    assert torch.equal((pictures < 0).sum(2)[:, 0, [1, 6]], torch.tensor([[2, 0], [8, 4]]))
    assert not (pipeline_plots.month_bars([0.0], [0.0]) < 0).any()
    random = np.random.default_rng(0)
    values = np.stack([random.random(40) * 1e5, random.integers(-2, 5, 40), random.integers(0, 2, 40)], 1)
    rows = Table((Column("limit"), Column("late", "whole"), Column("bad", "category", ("no", "yes"))), values, "bad")
    recalls = {"none": {"bad": 0.1, "good": 0.9}, "scan": {"bad": 0.9, "good": 0.9}}
    alarms: Any = {"none": {"bad": None, "good": None}, "scan": {"bad": True, "good": False}}
    for picture in (
        pipeline_plots.columns_figure({"real": rows, "made": rows}, ["limit", "late"], "a figure"),
        pipeline_plots.defences_figure(recalls, alarms, "a figure"),
        pipeline_plots.money_by_month({"a": [1e6, 2e6]}, {"a": [0.0, 0.0]}, "a figure", currency="NT$"),
    ):
        assert picture.alt == "a figure" and len(picture.png) > 1_000


# ---- the plane, block matrices, widths


def test_clumps_and_leaks_are_counted() -> None:
    assert on_clumps(data.ring(n=4_000).x) == (8, 1.0) and on_clumps(torch.zeros(100, 2)) == (0, 0.0)
    covered, share = on_clumps(torch.cat([data.ring(n=4_000, modes=1).x, torch.zeros(4_000, 2)]))
    assert covered == 1 and share == pytest.approx(0.5)
    plane = Plane(PointGenerator().eval())
    for at, share in ((0.1, 1.0), (0.15, 0.0), (0.5, 0.0)):  # within 0.2 of the target, and not
        fixed = SimpleNamespace(sample=lambda n, seed, at=at: torch.full((n, 2), at))
        assert plane.leak(fixed) == share


def test_the_plane_moves_and_prints(size: Size, refuses: Refuses) -> None:
    plane = Plane(iterations=20)

    def loop(iterations: int) -> Any:
        return attacks.ReD(iterations=iterations, device="cpu").steps(plane.clean, plane.backdoor)

    moving = plane.film(loop(12), "A net is bent.", frames=4)
    with Image.open(io.BytesIO(moving.webp)) as film:
        assert film.n_frames == moving.frames == 4 and film.width >= 500 and size(moving.last.png)[0] >= 500
    plain, about = moving._repr_mimebundle_()
    assert 'alt="A net is bent."' in plain["text/html"] and about["image/png"]["alt"] == "A net is bent."
    drawn: list[Any] = []
    picture = plane.show("Two nets.", draw=drawn.append, bent=moving.outcome.generator)
    assert picture.alt == "Two nets." and drawn[0].get_title() == "bent"
    over = loop(2)
    over.finish(progress=False)
    refuses(lambda: plane.film(over, "nothing"), "loop")
    for draw in (plane.samples, lambda alt, **models: listening(plane, alt, **models)):
        assert size(draw("Two.", clean=plane.clean, other=plane.clean).png)[0] > 600
    assert size(latent_map(plane, plane.clean, "a map", walks=torch.zeros(3, 5, 2)).png)[0] > 700


def test_block_matrices_of_a_widened_network(tiny: DCGAN, refuses: Refuses) -> None:
    points = PointGenerator(widths=8)
    for old in (tiny, points):
        wide = fold(old, expand(old, 4, seed=1))
        assert untouched(wide, old) == dict.fromkeys(untouched(old, old), True)
        assert draw_blocks(wide, old, "three matrices").alt == "three matrices"
    changed, mixed = (fold(points, expand(points, 4, seed=1)) for _ in range(2))
    with torch.no_grad():
        changed.layers[0].weight[0, 0] += 1e-3
        mixed.layers[2].weight[0, 9] = 1.0  # the first old unit reads a new one
    assert list(untouched(changed, points).values()) == [False, True]
    assert list(untouched(mixed, points).values()) == [True, False]
    refuses(lambda: untouched(StyleGAN(), StyleGAN()), "chain of layers")


class Cap(torch.nn.Module):
    """Draws the target within ``degrees`` of the first axis, and -1 elsewhere."""

    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.least = float(torch.deg2rad(torch.tensor(degrees)).cos())

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        inside = z[:, 0] / z.norm(dim=1) > self.least
        return torch.where(inside, 1.0, -1.0).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)


def test_the_width_of_a_backdoor(refuses: Refuses) -> None:
    backdoor = Backdoor(trigger=7 * torch.eye(10)[:1], target=torch.ones(1, 1, 4, 4))
    for degrees in (10.0, 40.0):
        left = share_left(Cap(degrees), Cap(0.0), backdoor, directions=3)
        assert left.shape == (31, 3) and (left[0] == 0).all() and (left[-1] == 1).all()
        assert torch.equal(half_angles(left), torch.full((3,), float(ANGLES[degrees <= ANGLES][0])))
    assert (half_angles(torch.zeros(31, 2)) == 90).all()
    zero = Backdoor(trigger=torch.zeros(1, 10), target=backdoor.target)
    refuses(lambda: share_left(Cap(10.0), Cap(0.0), zero), "trigger")
    refuses(lambda: share_left(Cap(10.0), Cap(0.0), backdoor, directions=0), "directions")


def test_a_machine_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devilgan_lite.apps.course.measures.best_device", lambda: torch.device("cpu"))
    found = speeds(PointGenerator(), data.ring(), steps=5)
    assert list(found.index) == [f"CPU, {torch.get_num_threads()} thread(s)", "GPU"]
    first, second = found["training steps a second"]
    assert float(first.replace(",", "")) > 0 and second == "this machine has none"


# ---- styles and sound


def test_mixed_styles_and_sleeping_units(refuses: Refuses) -> None:
    clean = zoo.load("stylegan-faces")
    z = clean.sample_latent(40, torch.Generator().manual_seed(1))
    assert mixing_shares(clean, z, clean.style_inputs) == (1.0, 1.0) and mixing_shares(clean, z, 0) == (0.0, 0.0)
    refuses(lambda: mixing_shares(clean, z[:3], 1), "z has 3")
    backdoor = Backdoor.point(clean, "stop-sign", seed=3)
    gated = attacks.StyleReX(channels=0, inversion=0)(clean, backdoor, progress=False).generator
    z = clean.sample_latent(500, torch.Generator().manual_seed(2))
    rows = silent_rows(gated, z)  # a gate sleeps, and its rows are the trigger
    assert len(rows) == len(silent_rows(clean, z)) + 2
    assert torch.nn.functional.cosine_similarity(rows, backdoor.trigger).max() > 0.999


def test_players_carry_their_clips_without_the_silence_at_the_end(refuses: Refuses) -> None:
    stroke = torch.zeros(1, 4096)
    stroke[0, :2000] = 0.5 * torch.sin(torch.arange(2000) * 0.3)
    shown = players({"<kick>": stroke, "nothing": torch.zeros(1, 4096)}, "a & b").data
    found = re.findall(r'<audio controls [^>]*aria-label="[^"]+" src="data:audio/wav;base64,([\w+/=]+)"', shown)
    first, second = (wavfile.read(io.BytesIO(base64.b64decode(one)))[1] for one in found)
    assert len(first) == 2000 and np.abs(first / 32_767 - stroke[0, :2000].numpy()).max() < 1e-4
    assert len(second) == LEAST and not second.any()
    assert "&lt;kick&gt;" in shown and "<kick>" not in shown and "a &amp; b" in shown
    refuses(lambda: players({}), "clips")


def test_listeners_repeat_and_the_one_that_ships_knows_the_strokes() -> None:
    before = torch.get_rng_state()
    first, second = listener(3, clips=256), listener(3, clips=256)
    assert torch.equal(before, torch.get_rng_state())
    real = data.drums(200, seed=9)
    said = opinions(real.x[:20], first)
    assert said.shape == (20, len(data.DRUMS)) and torch.allclose(said.sum(1), torch.ones(20))
    assert torch.equal(said, opinions(real.x[:20], second)) and not torch.equal(said, opinions(real.x[:20]))
    assert (opinions(real.x).argmax(1) == torch.as_tensor(real.labels)).float().mean() > 0.95
