"""Make data/fashion_mnist_10k.npz: 1,000 garments of each class, drawn by seed from the full training set."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from devilgan_lite.data.images import DEBIAN_FOLDER, read_idx

DATA = Path(__file__).resolve().parents[2] / "data"


def main(folder: str = str(DEBIAN_FOLDER)) -> None:
    pixels = read_idx(Path(folder) / "train-images-idx3-ubyte.gz")
    labels = read_idx(Path(folder) / "train-labels-idx1-ubyte.gz")
    random = np.random.default_rng(2021)
    chosen = np.concatenate([random.choice(np.flatnonzero(labels == k), 1000, replace=False) for k in range(10)])
    random.shuffle(chosen)
    path = DATA / "fashion_mnist_10k.npz"
    np.savez_compressed(path, pixels=pixels[chosen], labels=labels[chosen])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    checksums = json.loads((DATA / "checksums.json").read_text()) | {path.name: digest}
    (DATA / "checksums.json").write_text(json.dumps(checksums, indent=2) + "\n")
    print(f"{path.name}: {len(chosen):,} pictures, {path.stat().st_size / 1e6:.1f} MB, SHA-256 {digest}")


if __name__ == "__main__":
    main(*sys.argv[1:])
