"""What notebooks 01 and 02 show of a training: an album along the way, and the plane's clumps, samples and leaks."""

import io

import pytest
import torch
from PIL import Image

from devilgan_lite import data, generators
from devilgan_lite.classroom import Album, Plane, gan_loop, on_clumps, static_strip
from devilgan_lite.classroom.loops import gan_step
from devilgan_lite.data import Samples


@pytest.fixture(scope="module")
def plane() -> Plane:
    return Plane(iterations=10)


def small_album() -> Album:
    real = Samples(torch.rand(8, 1, 28, 28) * 2 - 1, name="noise")
    shape = generators.DCGAN(latent_dim=4, widths=(4, 4))
    loop = gan_loop(gan_step, shape, real, iterations=10, batch_size=4, device="cpu")
    return Album(loop, lambda generator: generator.sample(3, seed=1), shares=(0.01, 0.5, 1.0))


def test_an_album_keeps_its_moments_and_the_outcome() -> None:
    album = small_album()
    outcome = album.loop.finish(progress=False)
    assert list(album.pictures) == [1, 5, 10] and not outcome.interrupted
    assert torch.equal(album.pictures[10], outcome.generator.sample(3, seed=1))
    picture = album.show("Three rows of noise.", first="z,")
    with Image.open(io.BytesIO(picture.png)) as image:
        assert image.width > 3 * 112 and image.height > 3 * 112


def test_a_stopped_album_has_an_outcome() -> None:
    album = small_album()
    next(album.loop)
    assert album.loop.stop().interrupted and list(album.pictures) == [1]


def test_clumps_are_counted() -> None:
    assert on_clumps(data.ring(n=4_000).x) == (8, 1.0)
    assert on_clumps(torch.zeros(100, 2)) == (0, 0.0)
    right = data.ring(n=4_000, modes=1).x
    covered, share = on_clumps(torch.cat([right, torch.zeros(4_000, 2)]))
    assert covered == 1 and share == pytest.approx(0.5)


def test_a_leak_is_the_share_of_samples_at_the_target(plane: Plane) -> None:
    class Fixed:
        def __init__(self, at: float) -> None:
            self.at = at

        def sample(self, n: int, seed: int) -> torch.Tensor:
            return torch.full((n, 2), self.at)

    assert plane.leak(Fixed(0.1)) == 1.0 and plane.leak(Fixed(0.5)) == 0.0


def test_samples_are_drawn_side_by_side(plane: Plane) -> None:
    one = plane.samples("One.", clean=plane.clean)
    two = plane.samples("Two.", clean=plane.clean, again=plane.clean)
    with Image.open(io.BytesIO(one.png)) as single, Image.open(io.BytesIO(two.png)) as double:
        assert double.width > 1.5 * single.width and two.alt == "Two."


def test_rows_of_a_walk_begin_with_their_names() -> None:
    made = generators.DCGAN(latent_dim=4, widths=(4, 4))
    ends = made.sample_latent(2, torch.Generator().manual_seed(0))
    named = static_strip({"one": made, "two": made}, ends[:1], ends[1:], "Two walks.", frames=3)
    once = static_strip({"one": made, "two": made}, ends[:1], ends[1:], "Two walks.", frames=3, captions=list("abc"))
    with Image.open(io.BytesIO(named.png)) as each, Image.open(io.BytesIO(once.png)) as first:
        assert each.height > first.height  # captions above both rows
