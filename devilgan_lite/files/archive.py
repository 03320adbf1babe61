"""Zip archives of strangers (``torch.save`` files, ``.pt2``, ``.keras``): all is checked before a member is read.

What two readers of the same bytes could understand differently is refused: a member in two places, a name that differs
from its directory, or from another name in its capitals alone, bytes before or after the archive. Archives inside an
archive are bytes like any others.
"""

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from devilgan_lite.checks import printable, shown
from devilgan_lite.files.sniff import Refused

MOST_MEMBERS = 10_000
MOST_BYTES = 2 * 2**30  # of all members, uncompressed
MOST_DIRECTORY = 4 * 2**20
MOST_NAME = 200
MOST_RATIO = 100  # bytes that one compressed byte may become, in members of more than ...
SMALL = 2**20
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)  # what zipfile says


class Archive:
    """A checked archive: ``sizes`` maps the names of its members to their uncompressed bytes."""

    def __init__(self, opened: zipfile.ZipFile) -> None:
        self._zip = opened
        self.sizes = {info.filename: info.file_size for info in opened.infolist() if not info.is_dir()}

    def read(self, name: str, most: int = MOST_BYTES) -> bytes:
        """The content of the member ``name``: as long as it says, and of at most ``most`` bytes, or ``Refused``."""
        if name not in self.sizes:
            raise Refused(f"the archive has no member {_named(name)}.")
        if self.sizes[name] > most:
            raise Refused(f"{_named(name)} has {self.sizes[name]:,} bytes; at most {most:,} are read.")
        try:
            with self._zip.open(name) as member:
                content = member.read()
        except BROKEN:
            raise Refused(f"{_named(name)} is damaged: it cannot be unpacked, or its checksum is wrong.") from None
        if len(content) != self.sizes[name]:
            raise Refused(f"{_named(name)} has {len(content):,} bytes; the archive says {self.sizes[name]:,}.")
        return content


@contextmanager
def checked(
    source: Path | BinaryIO, *, most_bytes: int = MOST_BYTES, most_members: int = MOST_MEMBERS
) -> Iterator[Archive]:
    """Open a zip archive, a file or bytes in memory, after checking every member.

    Anything out of order is a ``Refused``: more than ``most_members``, or than ``most_bytes`` of them unpacked, too.
    """
    with open(source, "rb") if isinstance(source, Path) else nullcontext(source) as file:
        start, count = _directory(file, most_members)
        try:
            opened = zipfile.ZipFile(file)
        except BROKEN:
            raise Refused("the file is not a zip archive that can be read: its directory is damaged.") from None
        with opened:
            members = opened.infolist()
            if len(members) != count:
                raise Refused(f"the archive says that it has {count:,} members, but it lists {len(members):,}.")
            _check_members(members, most_bytes)
            _check_places(file, members, start)
            yield Archive(opened)


def _directory(file: BinaryIO, most_members: int) -> tuple[int, int]:
    """Where the directory of the archive starts, and how many it lists. It must be the last thing in the file."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 98))
    tail = file.read().rjust(98, b"\0")  # 56 + 20 bytes of an archive that may be large, and 22 of every archive
    signature, disk, other, here, count, length, start, comment = struct.unpack("<4s4H2LH", tail[76:])
    if signature != b"PK\5\6" or comment:
        raise Refused("the file is not a whole zip archive: it does not end where an archive ends.")
    end = size - 22
    if tail[56:60] == b"PK\6\7":
        end = size - 98
        words = struct.unpack("<4sQ2H2L4Q", tail[:56])
        place = struct.unpack("<4sLQL", tail[56:76])[2]
        for short, long in zip((here, count, length, start), words[6:], strict=True):
            if short not in (long, 0xFFFF, 0xFFFFFFFF):
                raise Refused("the archive's directory is described twice, in different ways.")
        if words[0] != b"PK\6\6" or place != end or words[4] or words[5]:
            raise Refused("the archive's directory is damaged.")
        here, count, length, start = words[6:]
    if disk or other or here != count:
        raise Refused("the archive has several parts; only archives in one file are read.")
    if count > most_members or length > MOST_DIRECTORY:
        raise Refused(f"the archive has {count:,} members; at most {most_members:,} are accepted.")
    if start + length != end or not count:
        raise Refused("the archive's directory is damaged: it is not where it should be, or it is empty.")
    return int(start), int(count)


def _check_members(members: list[zipfile.ZipInfo], most_bytes: int) -> None:
    """Refuse names that lead elsewhere, what is no ordinary file, encryption, and what unpacks to too much."""
    names: set[str] = set()
    for info in members:
        name = info.orig_filename
        parts = name.removesuffix("/").split("/")
        if len(name) > MOST_NAME or {"", ".", ".."} & set(parts) or not name.isprintable():
            raise Refused(f"the archive has a member called {_named(name)}; that is no plain relative name.")
        plain = name.removesuffix("/").casefold()  # PyTorch's own reader does not tell capitals from others
        if "\\" in name or re.match("[A-Za-z]:", name) or plain in names:
            raise Refused(f"the archive has a member called {_named(name)}, twice or with a path of another system.")
        names.add(plain)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (info.is_dir() and info.file_size):
            raise Refused(f"{_named(name)} is a link or a device; only ordinary files are accepted.")
        if info.flag_bits & 0x2061:  # encrypted, patched, strongly encrypted, or with a hidden directory
            raise Refused(f"{_named(name)} is encrypted; send the archive without a password.")
        stored, packed = info.compress_type == zipfile.ZIP_STORED, info.compress_size
        if not stored and info.compress_type != zipfile.ZIP_DEFLATED:
            raise Refused(f"{_named(name)} is compressed in a way that is not read; only stored and deflated are.")
        if (stored and packed != info.file_size) or (info.file_size > SMALL and info.file_size > MOST_RATIO * packed):
            raise Refused(
                f"{_named(name)} says that {packed:,} bytes become {info.file_size:,}, which is not accepted."
            )
    if (total := sum(info.file_size for info in members)) > most_bytes:
        raise Refused(f"the archive unpacks to {total:,} bytes; at most {most_bytes:,} are accepted.")


def _check_places(file: BinaryIO, members: list[zipfile.ZipInfo], directory: int) -> None:
    """Refuse members that overlap, that are not before the directory, or whose own header says something else."""
    end = 0
    for info in sorted(members, key=lambda info: info.header_offset):
        file.seek(info.header_offset)
        header = file.read(30)
        if len(header) < 30 or header[:4] != b"PK\3\4" or info.header_offset < end or (not end and info.header_offset):
            raise Refused(f"{_named(info.orig_filename)} is not where the archive says, or inside another member.")
        flags, method, _, _, _, packed, size, name, extra = struct.unpack("<6x2H2H3L2H", header)
        own = file.read(name)
        called = info.orig_filename.encode("utf-8" if flags & 0x800 else "cp437", "replace")
        sizes = {(info.compress_size, info.file_size), (0xFFFFFFFF, 0xFFFFFFFF)}  # the latter: they are in an extra
        if flags & 8:  # the sizes follow the member, because whoever wrote it did not know them before
            sizes.add((0, 0))
        told = (flags, method) == (info.flag_bits, info.compress_type) and (packed, size) in sizes
        if own != called or not told:
            raise Refused(f"{_named(info.orig_filename)} is described twice in the archive, in different ways.")
        end = info.header_offset + 30 + name + extra + info.compress_size
        if end > directory:
            raise Refused(f"{_named(info.orig_filename)} does not end where the archive says.")


def _named(name: str) -> str:
    return shown(printable(name))
