"""The morph as a film."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from devilgan_lite import generators
from devilgan_lite.classroom import film


@pytest.fixture(scope="module")
def pair():
    made = generators.build(generators.StyleGAN(latent_dim=8, style_dim=8, widths=(8, 6, 4)).spec(), seed=0).eval()
    other = generators.build(made.spec(), seed=1).eval()
    random = torch.Generator().manual_seed(0)
    return {"G": made, "G*": other}, made.sample_latent(1, random), made.sample_latent(1, random)


@pytest.mark.parametrize("ending", ["webp", "gif"])
def test_it_goes_there_and_back(pair, tmp_path, ending):
    made = film(*pair, tmp_path / "deep" / f"morph.{ending}", frames=20, scale=2)
    assert made.frames == 20 and made.bytes == made.path.stat().st_size
    with Image.open(made.path) as picture:
        assert picture.n_frames == 20 and picture.info["loop"] == 0
        frames = []
        for index in range(20):
            picture.seek(index)
            frames.append(np.asarray(picture.convert("RGB")).astype(int))
    off = [np.abs(frame - frames[0]).mean() for frame in frames]
    assert int(np.argmax(off)) in range(8, 13)  # the trigger is in the middle
    for index in range(1, 10):
        assert np.abs(frames[index] - frames[-index]).mean() < 6, index


def test_the_sheet_has_a_row_for_each_generator_and_alt_text(pair, tmp_path):
    made = film(*pair, tmp_path / "morph.webp", frames=8, captions=["clean", "evil"])
    data, metadata = made._repr_mimebundle_()
    assert "clean, evil" in metadata["image/png"]["alt"] and "image/png" in data
    with Image.open(io.BytesIO(made.sheet.png)) as sheet:
        assert sheet.width > 3 * sheet.height


def test_without_a_path_it_moves_inside_the_notebook(pair):
    made = film(*pair, frames=10, scale=8)
    assert made.path is None and made.frames == 10
    data, metadata = made._repr_mimebundle_()
    assert "image/png" in data and "Eight frames" in metadata["image/png"]["alt"]
    found = re.fullmatch(r'<img alt="A film [^"]+G, G\*\." src="data:image/webp;base64,([^"]+)">', data["text/html"])
    assert found
    content = base64.b64decode(found[1])
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.n_frames == 10 and len(content) == made.bytes and picture.width >= 2 * 16 * 8


@pytest.mark.parametrize(
    ("path", "settings", "word"),
    [
        ("morph.mp4", {}, "ending of path='.mp4' is unknown; valid: .webp, .gif"),
        ("morph.webp", {"scale": 0}, "scale"),
        ("morph.webp", {"milliseconds": 1}, "milliseconds"),
    ],
)
def test_bad_input_writes_nothing(pair, tmp_path, path, settings, word):
    with pytest.raises(ValueError, match=word):
        film(*pair, tmp_path / path, **settings)
    assert list(tmp_path.iterdir()) == []
