"""Real pictures: the 10,000 garments that ship with the package, full Fashion-MNIST, scikit-learn's digits, any file.

Nothing here touches the network unless ``download=True`` is asked for.
"""

import gzip
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from devilgan_lite.checks import one_of
from devilgan_lite.data.modality import Modality, Shape
from devilgan_lite.data.samples import Samples, from_bytes, shipped_arrays
from devilgan_lite.data.targets import target, target_names

GARMENTS = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
LICENCE = "MIT (c) 2017 Zalando SE"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
SOURCES = ("shipped", "full")
SPLITS = {"train": "train", "test": "t10k"}


def fashion_mnist(
    source: str = "shipped", *, split: str = "train", folder: str | Path | None = None, download: bool = False
) -> Samples:
    """Fashion-MNIST garments (Xiao et al. 2017) as 28x28 grey pictures in [-1, 1], with labels 0..9.

    ``source="shipped"``: the 10,000 that ship (a seeded, class-balanced draw from the training set; ``split`` must be
    ``"train"``). ``source="full"``: 60,000 ``"train"`` or 10,000 ``"test"`` pictures, read from ``folder``, else from
    the Debian package ``dataset-fashion-mnist``; a torchvision folder works too; ``download=True`` lets torchvision
    fetch it into ``folder``. A missing folder is a ``FileNotFoundError`` that names the ways to get one.
    """
    one_of("source", source, SOURCES)
    one_of("split", split, SPLITS)
    if source == "shipped":
        if split != "train":
            raise ValueError("split='test' needs source='full'; the shipped 10,000 are from the training set.")
        return _shipped()
    if download:
        from torchvision.datasets import FashionMNIST

        folder = Path(folder or Path.home() / ".cache" / "devilgan_lite")
        FashionMNIST(str(folder), train=split == "train", download=True)
    folder, prefix = Path(folder) if folder else DEBIAN_FOLDER, SPLITS[split]
    for place in (folder, folder / "FashionMNIST" / "raw"):
        paths = [
            next((path for ending in (".gz", "") if (path := place / f"{prefix}-{kind}-ubyte{ending}").is_file()), None)
            for kind in ("images-idx3", "labels-idx1")
        ]
        if paths[0] and paths[1]:
            pixels, labels = read_idx(paths[0]), read_idx(paths[1])
            return _garments(pixels, labels, f"Fashion-MNIST {split} ({len(pixels):,})")
    raise FileNotFoundError(
        f"no Fashion-MNIST files ({prefix}-images-idx3-ubyte.gz) in {folder}; install the Debian package "
        "dataset-fashion-mnist, name a torchvision folder with folder=..., or pass download=True."
    )


@lru_cache(maxsize=1)
def _shipped() -> Samples:
    arrays = shipped_arrays("fashion_mnist_10k.npz")
    return _garments(arrays["pixels"], arrays["labels"], f"Fashion-MNIST ({len(arrays['pixels']):,} shipped)")


def _garments(pixels: np.ndarray, labels: np.ndarray, name: str) -> Samples:
    return Samples(from_bytes(pixels), torch.from_numpy(labels.astype(np.int64)), name, LICENCE, GARMENTS, "fashion")


def read_idx(path: Path) -> np.ndarray:
    """Read one idx file of bytes (LeCun's format: two zero bytes, type 8, rank, big-endian sizes, data)."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rank = raw[3] if len(raw) > 3 else 0
    shape = tuple(np.frombuffer(raw, ">u4", count=rank, offset=4)) if len(raw) >= 4 + 4 * rank else ()
    if raw[:3] != b"\x00\x00\x08" or len(raw) != 4 + 4 * rank + int(np.prod(shape, dtype=np.int64)):
        raise ValueError(f"{path} is not an idx file of bytes, or it is cut short.")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def digits(size: int = 28) -> Samples:
    """scikit-learn's 1,797 handwritten digits (8x8, 0..16), as ``[1797, 1, size, size]`` in [-1, 1]."""
    one_of("size", size, (8, 28))
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.from_numpy(bunch.images.astype(np.float32)).unsqueeze(1) / 8 - 1
    if size == 28:
        big = torch.nn.functional.interpolate(x, size=(20, 20), mode="bilinear", align_corners=False)
        x = torch.nn.functional.pad(big, (4, 4, 4, 4), value=-1.0)  # the margin of MNIST
    classes = tuple(map(str, range(10)))
    return Samples(x, torch.from_numpy(bunch.target.astype(np.int64)), "digits", "CC BY 4.0 (UCI)", classes)


def read_picture(path: Path, shape: tuple[int, ...], resample: Image.Resampling | None = None) -> torch.Tensor:
    """The picture in a file, resized, as ``[*shape]`` in [-1, 1]; ``ValueError`` if it cannot be read."""
    try:
        with Image.open(path) as image:
            small = image.convert("L" if shape[0] == 1 else "RGB").resize((shape[2], shape[1]), resample)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path.name} cannot be read as a picture ({type(error).__name__}).") from None
    return from_bytes(np.asarray(small)[None])[0]


def sheet(pictures: torch.Tensor, columns: int, scale: int) -> Image.Image:
    """Pictures ``[n, C, H, W]`` in rows; of other than 1 or 3 channels, the first is shown."""
    x = pictures if pictures.shape[1] in (1, 3) else pictures[:, :1]
    columns = min(columns, len(x))
    blank = x.new_ones(-len(x) % columns, *x.shape[1:])
    tiles = torch.cat([x, blank]).unflatten(0, (-1, columns))  # rows, columns, C, H, W
    array = ((tiles.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2) + 1) * 127.5).round().to(torch.uint8).numpy()
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def picture_target(name: str, shape: Shape) -> torch.Tensor:
    """The drawing ``name`` as ``[C, H, W]``: in colour for three channels, grey for any other number; square only."""
    if shape[-1] != shape[-2]:
        raise ValueError(f"target={name!r} is square; samples of shape {list(shape)} are not: pass a tensor.")
    picture = target(name, shape[-1], channels=3 if shape[0] == 3 else 1)
    return picture.expand(shape).clone()


IMAGES = Modality(
    "images",
    "picture",
    lambda shape: len(shape) == 3,  # (C, H, W)
    sheet,
    picture_target,
    target_names,
    read_picture,
    endings=(".png", ".jpg", ".jpeg"),
    portray=lambda samples: samples,
)
