"""The files that ship with the package, if they are what their checksums say."""

import hashlib
import io
import json

import numpy as np

from devilgan_lite.shipped import data_folder


def shipped_arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays in the shipped file ``name``; ``ValueError`` unless it has the SHA-256 of ``checksums.json``."""
    content = (data_folder() / name).read_bytes()
    expected = json.loads((data_folder() / "checksums.json").read_text())[name]
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(f"{name} does not match its SHA-256 in checksums.json; restore it from the repository.")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)
