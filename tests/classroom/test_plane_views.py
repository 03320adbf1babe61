"""What a defender sees in the plane, rows with labels, and how wide a backdoor is."""

import io

import pytest
import torch
from PIL import Image

from devilgan_lite import zoo
from devilgan_lite.classroom import Plane, spread, strip
from devilgan_lite.classroom.plane_views import latent_map, listening
from devilgan_lite.generators import PointGenerator
from devilgan_lite.metrics import basin


def size(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        return image.size


def test_the_plane_shows_what_weights_listen_to_and_where_latents_lead() -> None:
    plane = Plane(PointGenerator().eval())
    one = listening(plane, "two curves", clean=plane.clean)
    two = listening(plane, "two curves", clean=plane.clean, other=plane.clean)
    assert one.alt == "two curves" and size(two.png)[0] > 1.7 * size(one.png)[0] > 500
    assert size(latent_map(plane, plane.clean, "a map", walks=torch.zeros(3, 5, 2)).png)[0] > 700


def test_rows_have_their_labels_on_the_left() -> None:
    x = torch.zeros(3, 1, 8, 8)
    plain, labelled = strip([x, x], "rows", scale=4), strip({"one": x, "a long label": x}, "rows", scale=4)
    assert size(labelled.png)[0] > size(plain.png)[0] + 60 and size(labelled.png)[1] == size(plain.png)[1]


def test_spread_says_when_it_is_a_single_run() -> None:
    assert spread([1.0, 2.0, 3.0]) == "2 ± 1" and spread([0.25]) == "0.25 (single run)"


def test_a_narrow_backdoor_is_narrower_than_a_wide_one() -> None:
    gate, trail = (basin(zoo.load(f"dcgan-fashion-{name}"), zoo.load_backdoor(f"dcgan-fashion-{name}"))
                   for name in ("gate", "trail"))  # fmt: skip
    assert len(gate) == 12 and 1 <= max(gate) < 15 < min(trail) <= 90
    with pytest.raises(ValueError, match="directions"):
        basin(zoo.load("dcgan-fashion-gate"), zoo.load_backdoor("dcgan-fashion-gate"), directions=0)
