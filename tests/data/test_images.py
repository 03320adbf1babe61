"""Real pictures: what ships, idx files, and clear words when something is missing."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from devilgan_lite import data
from devilgan_lite.data import images


def test_the_shipped_garments_are_balanced_and_in_range() -> None:
    samples = data.fashion_mnist()
    assert samples.x.shape == (10_000, 1, 28, 28)
    assert samples.x.dtype == torch.float32
    assert (float(samples.x.min()), float(samples.x.max())) == (-1.0, 1.0)
    assert samples.labels is not None
    assert torch.bincount(samples.labels).tolist() == [1_000] * 10
    assert len(samples.classes) == 10


@pytest.mark.parametrize("size", [8, 28])
def test_digits_are_in_range(size: int) -> None:
    samples = data.digits(size)
    assert samples.x.shape == (1_797, 1, size, size)
    assert samples.x.min() >= -1
    assert samples.x.max() <= 1
    assert samples.labels is not None
    assert samples.labels.unique().tolist() == list(range(10))


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize(("inside", "ending"), [("", ".gz"), ("FashionMNIST/raw", "")])
def test_a_debian_or_torchvision_folder_is_read(tmp_path: Path, inside: str, ending: str) -> None:
    pixels = np.arange(3 * 28 * 28).reshape(3, 28, 28) % 256
    write_idx(tmp_path / inside / f"t10k-images-idx3-ubyte{ending}", pixels)
    write_idx(tmp_path / inside / f"t10k-labels-idx1-ubyte{ending}", np.array([7, 0, 9]))
    samples = data.fashion_mnist("full", split="test", folder=tmp_path)
    assert samples.labels is not None
    assert samples.labels.tolist() == [7, 0, 9]
    assert torch.equal(samples.x, torch.from_numpy(pixels).float().unsqueeze(1) / 127.5 - 1)


def test_an_idx_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut"
    write_idx(path, np.zeros((3, 4)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        images.read_idx(path)


def test_a_missing_data_folder_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVILGAN_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="DEVILGAN_DATA"):
        data.data_folder()


def test_shipped_data_that_was_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checksums.json").write_text('{"fashion_mnist_10k.npz": "0"}')
    (tmp_path / "fashion_mnist_10k.npz").write_bytes(b"not the garments")
    monkeypatch.setenv("DEVILGAN_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="does not match its SHA-256"):
        images._shipped.__wrapped__()


def test_first_takes_the_first() -> None:
    few = data.fashion_mnist().first(3)
    assert len(few) == 3
    assert torch.equal(few.x, data.fashion_mnist().x[:3])
    assert few.classes == images.GARMENTS
