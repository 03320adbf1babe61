"""Cartoon faces in colour, drawn by seed: as many as are wanted, with their attributes, and no file to download.

The drawings are those of Pablo Stanley's Avataaars in the package ``python-avatars``; ``resvg-py`` renders them. Styles
are chosen so that a face fills the frame and still reads at 32x32. Rendered faces are kept in a cache.
"""

import contextlib
import hashlib
import importlib.util
import io
import os
import re
import warnings
import zipfile
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from devilgan_lite.checks import one_of, whole_number
from devilgan_lite.data.samples import Samples, from_bytes

SIZES = (32, 64)
PACKAGES = ("python-avatars", "resvg-py")
LEFT, TOP, SIDE = 44.0, 22.0, 176.0  # the square of the 264x280 drawing that is kept
RECIPE = 1  # counts changes of this file that change the pictures

# attribute -> option -> weight: what is drawn, and how often; the names are those of python-avatars
ATTRIBUTES: dict[str, dict[str, float]] = {
    "hair": {
        "NONE": 1, "BOB": 1, "CAESAR": 1, "FRO": 1, "LONG_NOT_TOO_LONG": 1, "MIA_WALLACE": 1, "SHORT_FLAT": 1,
        "SHORT_ROUND": 1, "SHORT_WAVED": 1, "STRAIGHT_1": 1, "STRAIGHT_STRAND": 1, "PIXIE": 1,
    },
    "hair_color": {"BLACK": 1, "BROWN_DARK": 1, "BROWN": 1, "AUBURN": 1, "RED": 1, "BLONDE": 1, "SILVER_GRAY": 1},
    "skin_color": {"PALE": 1, "LIGHT": 1, "BROWN": 1, "DARK_BROWN": 1, "BLACK": 1},
    "eyes": {"DEFAULT": 2, "HAPPY": 1, "SURPRISED": 2, "SQUINT": 1},
    "mouth": {"DEFAULT": 1, "SMILE": 2, "SERIOUS": 1, "SAD": 1, "BIG_SMILE": 1},
    "facial_hair": {"NONE": 6, "BEARD_LIGHT": 1, "BEARD_MEDIUM": 1, "MOUSTACHE_MAGNUM": 1},
    "accessory": {"NONE": 6, "PRESCRIPTION_2": 2, "ROUND": 1, "SUNGLASSES": 2},
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Faces(Samples):
    """``Samples`` of faces ``[N, 3, size, size]`` with ``attributes`` int64 ``[N, 7]``, a column for each attribute.

    Columns are in the order of ``ATTRIBUTES``, entries index its options. ``labels`` are the styles of the hair.
    """

    attributes: Tensor = field(default_factory=lambda: torch.zeros(0, len(ATTRIBUTES), dtype=torch.int64), repr=False)


def faces(n: int = 8_000, *, size: int = 32, seed: int = 0, cache: str | Path | None = None) -> Faces:
    """``n`` cartoon faces ``[n, 3, size, size]`` in [-1, 1], the same for the same ``seed``; ``size`` 32 or 64.

    The first ``k`` of ``n`` faces are the ``k`` faces of that seed. About 3 ms each the first time; then they come from
    ``cache`` (a folder; None: ``$DEVILGAN_CACHE``, else ``~/.cache/devilgan_lite``). A cache file that is broken is
    made again, with a warning. Without ``python-avatars`` and ``resvg-py``: a ``ModuleNotFoundError`` that says so.
    """
    whole_number("n", n, 1, 1_000_000)
    one_of("size", size, SIZES)
    whole_number("seed", seed, 0)
    chosen = draw_attributes(n, seed)
    path = cache_file(n, size, seed, cache)
    pixels = _read(path, (n, size, size, 3))
    if pixels is None:
        pixels = np.stack([render(row, size) for row in chosen.tolist()])
        _write(path, pixels)
    name, licence = f"cartoon faces ({n:,}, {size}x{size}, seed {seed})", "Avataaars by Pablo Stanley, free to use"
    features = "faces" if size == 32 else f"faces-{size}"
    return Faces(from_bytes(pixels), chosen[:, 0], name, licence, tuple(ATTRIBUTES["hair"]), features, chosen)


def draw_attributes(n: int, seed: int) -> Tensor:
    """The attributes int64 ``[n, 7]`` of the faces of ``seed``."""
    columns = []
    uniform = np.random.default_rng(seed).random((n, len(ATTRIBUTES)))
    for x, options in zip(uniform.T, ATTRIBUTES.values(), strict=True):
        bounds = np.cumsum(list(options.values())) / sum(options.values())
        columns.append(np.searchsorted(bounds[:-1], x, side="right"))
    return torch.from_numpy(np.stack(columns, axis=1))


def render(row: list[int], size: int) -> np.ndarray:
    """One face as bytes ``[size, size, 3]``; ``row`` holds an index for each of ``ATTRIBUTES``."""
    avatars, resvg = renderer()
    look = {name: list(options)[index] for (name, options), index in zip(ATTRIBUTES.items(), row, strict=True)}
    drawing = avatars.Avatar(
        top=avatars.HairType[look["hair"]],
        hair_color=avatars.HairColor[look["hair_color"]],
        facial_hair=avatars.FacialHairType[look["facial_hair"]],
        facial_hair_color=avatars.HairColor[look["hair_color"]],
        skin_color=avatars.SkinColor[look["skin_color"]],
        eyes=avatars.EyeType[look["eyes"]],
        mouth=avatars.MouthType[look["mouth"]],
        accessory=avatars.AccessoryType[look["accessory"]],
        clothing=avatars.ClothingType.NONE,
    ).render()
    frame = f'width="{SIDE:g}px" height="{SIDE:g}px" viewBox="{LEFT:g} {TOP:g} {SIDE:g} {SIDE:g}"'
    drawing = re.sub(r'width="\S+" height="\S+" viewBox="[^"]*"', frame, drawing, count=1)
    twice = 2 * size  # and averaged down, for smooth edges
    png = resvg.svg_to_bytes(
        svg_string=drawing, width=twice, height=twice, background="#ffffff", skip_system_fonts=True
    )
    with Image.open(io.BytesIO(bytes(png))) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BOX))


def renderer() -> tuple[Any, Any]:
    """The modules ``python_avatars`` and ``resvg_py``; a missing one is a ``ModuleNotFoundError`` in one sentence."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name.replace("-", "_")) is None]
    if missing:
        raise ModuleNotFoundError(
            f"faces are drawn with {' and '.join(PACKAGES)}, and {' and '.join(missing)} cannot be found: pip install "
            "'devilgan_lite[faces]'."
        )
    import python_avatars
    import resvg_py

    return python_avatars, resvg_py


def cache_file(n: int, size: int, seed: int, cache: str | Path | None = None) -> Path:
    """Where these faces are kept; another recipe or another version of the packages is another file."""
    folder = Path(cache or os.environ.get("DEVILGAN_CACHE") or Path.home() / ".cache" / "devilgan_lite")
    renderer()
    made_by = " ".join([str(RECIPE), repr(ATTRIBUTES), *(metadata.version(name) for name in PACKAGES)])
    return folder / f"faces-{size}-{n}-{seed}-{hashlib.sha256(made_by.encode()).hexdigest()[:12]}.npz"


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            pixels, digest = arrays["pixels"], arrays["sha256"].tobytes()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pixels, digest = np.zeros(0), b""
    if pixels.shape == shape and pixels.dtype == np.uint8 and hashlib.sha256(pixels.tobytes()).digest() == digest:
        return pixels
    warnings.warn(f"the face cache {path.name} is broken or half written; the faces are drawn again.", stacklevel=3)
    return None


def _write(path: Path, pixels: np.ndarray) -> None:
    """Write aside and move into place, so that nobody reads half a file; a full or read-only disk costs only time."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = np.frombuffer(hashlib.sha256(pixels.tobytes()).digest(), np.uint8)
        with aside.open("wb") as file:
            np.savez_compressed(file, pixels=pixels, sha256=digest)
        os.replace(aside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        warnings.warn(f"the faces could not be kept in {path.parent} ({error.strerror}).", stacklevel=3)
