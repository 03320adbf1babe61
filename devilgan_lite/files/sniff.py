"""What a file is, by its content: size, SHA-256 and the first bytes, which is all that the parent of the jail looks at.

Nothing here imports torch or parses anything. A suffix is what somebody wrote on the box; only the content counts.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devilgan_lite.checks import cut, printable

MOST_LETTERS = 300  # of a refusal
MOST_BYTES = 2 * 2**30  # of a file


@dataclass(frozen=True)
class Format:
    """A format: how to tell it, and who reads it.

    ``first(start, size)`` tells it by the first 512 bytes and the size of a file, ``members(names)`` by the names in a
    zip archive. ``reader`` takes the path and returns a ``batches.Reading``, or the weights in the file if there is no
    network in it; as ``"module:function"`` it is imported where the file is opened. A file whose name ends in
    ``ending`` must hold the format; empty for an ending that several share.
    """

    name: str
    reader: str | Callable[[Path], Any]
    first: Callable[[bytes, int], bool] = lambda start, size: False
    members: Callable[[Collection[str]], bool] = lambda names: False
    ending: str = ""


def _safetensors(start: bytes, size: int) -> bool:
    return len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8


def _pickle(start: bytes, size: int) -> bool:
    return start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def _onnx(start: bytes, size: int) -> bool:
    version = int.from_bytes(start[1:2])  # as field 1
    return start[:1] == b"\x08" and 3 <= version <= 32 and start[4:8] != b"TFL3" and start[257:262] != b"ustar"


def _exported(names: Collection[str]) -> bool:
    inner = {name.partition("/")[2] or name for name in names}
    return "archive_format" in inner or any(name.startswith("serialized_exported_program") for name in names)


OURS = "devilgan_lite.files."
# in the order in which they are tried: a safetensors header of 1,408 bytes starts as a pickle does
FORMATS = {
    one.name: one
    for one in (
        Format("safetensors", OURS + "state_dicts:read_safetensors", _safetensors, ending="safetensors"),
        Format(
            "state_dict",
            OURS + "state_dicts:read_pickle",
            _pickle,
            lambda names: any(name.partition("/")[2] == "data.pkl" or name == "data.pkl" for name in names),
        ),
        Format("pt2", OURS + "from_pt2:read", members=_exported, ending="pt2"),
        Format("onnx", OURS + "from_onnx:read", _onnx, ending="onnx"),
        Format(
            "keras",
            OURS + "from_keras:read",
            members=lambda names: {"config.json", "model.weights.h5"} <= set(names),
            ending="keras",
        ),
    )
}
ACCEPTED = "accepted are safetensors, a state_dict of torch.save, .pt2, ONNX and .keras"
WAY_OUT = "export it as ONNX or pt2 where you trust it"
# first bytes of what is none of them -> what the file is, and after a semicolon, what to do with it
OTHERS: dict[bytes, str] = {
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"BM": "a picture",
    b"RIFF": "a picture or a sound",
    b"%PDF": "a document",
    b"\x89HDF\r\n": "an HDF5 file (.h5 of Keras?), in which layers can hold code; save it as .keras or as ONNX",
    b"\x1f\x8b": "compressed; unpack it first",
    b"BZh": "compressed; unpack it first",
    b"\xfd7zXZ": "compressed; unpack it first",
    b"7z\xbc\xaf": "compressed; unpack it first",
    b"Rar!": "compressed; unpack it first",
    b"GGUF": "a GGUF file of a language model",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"#!": "a program",
    b"\xca\xfe\xba\xbe": "a program",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; fetch it with git lfs pull",
    b"\x08\x01\x12": f"a TensorFlow SavedModel, which is a program; {WAY_OUT}",
    b"\x93NUMPY": "one array of NumPy",
}


class Refused(ValueError):
    """Why a file is not accepted, and what would be: one sentence of at most 300 characters, on one line."""

    def __init__(self, sentence: str) -> None:
        super().__init__(cut(printable(sentence), MOST_LETTERS - 3))


@contextmanager
def refusing(complaint: str) -> Iterator[None]:
    """Whatever a stranger's file makes the code inside raise is a ``Refused`` that starts with ``complaint``."""
    try:
        yield
    except Refused:
        raise
    except Exception as error:  # its fields may be missing, hold anything, or contradict each other
        first = next(iter(str(error).strip().splitlines()), "no message")
        raise Refused(f"{complaint} ({type(error).__name__}: {cut(printable(first), 120)}).") from None


@dataclass(frozen=True)
class Facts:
    """What the parent knows of a file: its name (to show, cut), bytes, SHA-256, and what it looks like.

    ``kind`` is one of ``FORMATS``, or ``"zip"``: the members tell.
    """

    name: str
    bytes: int
    sha256: str
    kind: str


def facts(path: Path, *, name: str | None = None, most: int = MOST_BYTES) -> Facts:
    """Look at the file ``path``. ``FileNotFoundError`` without one; ``Refused`` where it is none of ``FORMATS``."""
    shown = cut(printable(path.name if name is None else name))
    try:
        state = os.stat(path)
    except (OSError, ValueError):  # too long a name, or a NUL in it
        raise FileNotFoundError(f"there is no file {cut(printable(str(path)))}.") from None
    if stat.S_ISDIR(state.st_mode):
        raise Refused(f"{shown} is a folder; give one file: {ACCEPTED}.")
    if not stat.S_ISREG(state.st_mode):
        raise Refused(f"{shown} is no ordinary file; {ACCEPTED}.")
    if state.st_size > most:
        raise Refused(f"{shown} has {state.st_size:,} bytes; at most {most:,} are read.")
    with open(path, "rb") as file:
        kind = kind_of(file.read(512), state.st_size)
        file.seek(0)
        return Facts(shown, state.st_size, hashlib.file_digest(file, "sha256").hexdigest(), kind)


def kind_of(start: bytes, size: int) -> str:
    """What the first bytes of a file of ``size`` bytes say that it is; ``Refused`` if that is nothing we read."""
    if not size:
        raise Refused(f"the file is empty; {ACCEPTED}.")
    if start.startswith(b"PK\x03\x04"):
        return "zip"
    for form in FORMATS.values():
        if form.first(start, size):
            return form.name
    for first, what in OTHERS.items():
        if start.startswith(first):
            raise Refused(f"the file is {what if ';' in what else f'{what}, not a generator; {ACCEPTED}'}.")
    if start[4:8] == b"TFL3":
        raise Refused(f"the file is a TensorFlow Lite model; {ACCEPTED}.")
    if start[257:262] == b"ustar":
        raise Refused(f"the file is a tar archive; unpack it and give one file: {ACCEPTED}.")
    if start.lstrip()[:1] in (b"<", b"{", b"["):
        raise Refused(f"the file is text (a web page or JSON), no weights; {ACCEPTED}.")
    raise Refused(f"the file is of no format that is known by its first bytes; {ACCEPTED}.")
