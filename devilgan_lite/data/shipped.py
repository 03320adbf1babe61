"""Where the files that ship with the package are, and that they are what their checksums say."""

import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np


def data_folder() -> Path:
    """The folder of what ships: ``$DEVILGAN_DATA``, else the copy in an installed wheel, else the repository's."""
    package = Path(__file__).resolve().parents[1]
    copy, own = package / "_data", package.parent / "data"
    folder = Path(os.environ.get("DEVILGAN_DATA") or (copy if copy.is_dir() else own))
    if not folder.is_dir():
        raise FileNotFoundError(f"data folder {folder} is missing; set DEVILGAN_DATA to the project's data/ folder.")
    return folder


def shipped_arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays in the shipped file ``name``; ``ValueError`` unless it has the SHA-256 of ``checksums.json``."""
    content = (data_folder() / name).read_bytes()
    expected = json.loads((data_folder() / "checksums.json").read_text())[name]
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(f"{name} does not match its SHA-256 in checksums.json; restore it from the repository.")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)
