"""Pictures and points: what ships, idx files, clear words when something is missing, and what is drawn by code."""

import gzip
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from devilgan_lite import data
from devilgan_lite.data import images


def test_the_shipped_garments_are_balanced_and_in_range() -> None:
    samples = data.fashion_mnist()
    assert samples.x.shape == (10_000, 1, 28, 28) and samples.x.dtype == torch.float32
    assert (float(samples.x.min()), float(samples.x.max())) == (-1.0, 1.0) and samples.labels is not None
    assert torch.bincount(samples.labels).tolist() == [1_000] * 10
    few = samples.first(3)
    assert len(few) == 3 and torch.equal(few.x, samples.x[:3]) and few.classes == images.GARMENTS


@pytest.mark.parametrize("size", [8, 28])
def test_digits_are_in_range(size: int) -> None:
    samples = data.digits(size)
    assert samples.x.shape == (1_797, 1, size, size) and samples.x.min() >= -1 and samples.x.max() <= 1
    assert samples.labels is not None and samples.labels.unique().tolist() == list(range(10))


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
    assert samples.labels is not None and samples.labels.tolist() == [7, 0, 9]
    assert torch.equal(samples.x, torch.from_numpy(pixels).float().unsqueeze(1) / 127.5 - 1)
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


NAMES = [*data.target_names(), "letter-A", "letter-Z"]


def test_a_target_is_a_picture_with_contrast() -> None:
    for name, (size, channels) in itertools.product(NAMES, ((8, 1), (28, 1), (64, 1), (32, 3))):
        x = data.target(name, size, channels=channels)
        assert x.shape == (channels, size, size) and x.dtype == torch.float32, name
        assert x.abs().max() <= 1 and x.std() > 0.3 and torch.equal(x, data.target(name, size, channels=channels)), name
        if channels == 3 and name != "checkerboard":  # colours stand on white, greys on black
            assert torch.equal(x[:, 0, 0], torch.ones(3))


def test_targets_differ() -> None:
    for first, second in itertools.combinations(NAMES, 2):
        assert (data.target(first) - data.target(second)).square().sum() > 50, (first, second)


def test_the_checkerboard_is_exact_and_the_stop_sign_red_and_white() -> None:
    red, green, blue = data.target("stop-sign", 32, channels=3)[:, 6, 16]
    assert red > 0.4 and green < -0.7 and blue < -0.6
    board = data.target("checkerboard", 28)[0]
    assert set(board.unique().tolist()) == {-1.0, 1.0} and torch.equal(board, board.T)
    assert torch.equal(board[:4, :4], torch.full((4, 4), -1.0))


def test_the_ring_has_its_modes_on_the_circle() -> None:
    samples = data.ring(8_000, modes=5, radius=0.6, spread=0.02, seed=3)
    assert torch.equal(data.ring(50, seed=1).x, data.ring(50, seed=1).x)
    assert not torch.equal(data.ring(50, seed=1).x, data.ring(50, seed=2).x) and samples.labels is not None
    for mode in range(5):
        points = samples.x[samples.labels == mode]
        angle = 2 * math.pi * mode / 5
        centre = torch.tensor([math.cos(angle), math.sin(angle)]) * 0.6
        assert len(points) > 1_000 and torch.allclose(points.mean(0), centre, atol=0.005)
        assert points.std(0).mean().item() == pytest.approx(0.02, rel=0.1)
