"""Archives of strangers: honest ones are read as ``zipfile`` reads them, each kind of hostile one is refused."""

import io
import re
import stat
import struct
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from devilgan_lite.files.archive import checked
from devilgan_lite.files.sniff import Refused
from tests.files.networks import pickled, refused

MEMBERS = {"folder/a.txt": b"hello " * 50, "folder/b.bin": bytes(range(256)), "c" * 200: b""}
DEFLATED = zipfile.ZIP_DEFLATED


def archive(members: Any = MEMBERS, method: int = zipfile.ZIP_STORED) -> bytes:
    """The bytes of an archive of ``members``, a dict or pairs."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as zipped:
        for name, content in members.items() if isinstance(members, dict) else members:
            zipped.writestr(zipfile.ZipInfo(name), content, method)
    return made.getvalue()


def read_all(content: bytes, **limits: int) -> dict[str, bytes]:
    with checked(io.BytesIO(content), **limits) as opened:
        return {name: opened.read(name) for name in opened.sizes}


def look(content: bytes, **limits: int) -> dict[str, int]:
    """Open it and read no member: what is wrong is known before."""
    with checked(io.BytesIO(content), **limits) as opened:
        return opened.sizes


def by_zipfile(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def places(content: bytes) -> tuple[list[int], list[int]]:
    """Where the local headers and the directory's entries are."""
    local, entries = ([one.start() for one in re.finditer(mark, content)] for mark in (b"PK\3\4", b"PK\1\2"))
    return local, entries


def changed(content: bytes, *edits: tuple[int, str, int]) -> bytes:
    """``content`` with numbers written at places: ``(place, format, number)``."""
    made = bytearray(content)
    for place, kind, number in edits:
        struct.pack_into("<" + kind, made, place, number)
    return bytes(made)


class Pipe(io.BytesIO):
    """Without a way back, zipfile writes the sizes after each member."""

    def tell(self) -> int:
        raise OSError("this is a pipe")


def test_honest_archives_are_read(tmp_path: Path) -> None:
    for content in (archive(), archive(method=DEFLATED), pickled({"weight": torch.arange(5.0)})):
        assert read_all(content) == by_zipfile(content)
    (tmp_path / "a.zip").write_bytes(archive())
    with checked(tmp_path / "a.zip") as opened:
        assert opened.sizes == {name: len(value) for name, value in MEMBERS.items()}
        refused("no member", partial(opened.read, "x"), "'x'")
    with zipfile.ZipFile(pipe := Pipe(), "w") as zipped:
        zipped.writestr("folder/", "")
        zipped.writestr("folder/a", b"abc" * 100, DEFLATED)
    assert read_all(pipe.getvalue()) == {"folder/a": b"abc" * 100}
    inner = archive({"bomb": bytes(50 * 2**20)}, DEFLATED)  # an archive in an archive stays bytes
    assert read_all(archive({"inner.zip": inner})) == {"inner.zip": inner} and len(inner) < 60_000
    refused("a bomb", partial(look, inner), "'bomb'", "52,428,800")


def test_too_much_is_refused_before_it_is_unpacked() -> None:
    content = archive({"a": bytes(600), "b": bytes(600)})
    refused("in all", partial(look, content, most_bytes=1000), "1,200", "1,000")
    assert len(read_all(content, most_bytes=1200, most_members=2)) == 2
    refused("members", partial(look, content, most_members=1), "2", "1")
    with checked(io.BytesIO(content)) as opened:
        refused("in one", partial(opened.read, "a", 599), "'a'", "599")
        assert len(opened.read("a", 600)) == 600
    one, count = archive({"a": b""}), 100_000
    entry = one[one.index(b"PK\1\2") : -22]
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, count * len(entry), 31, 0)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, count * len(entry), 31)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 31 + count * len(entry), 1)
    refused("many members", partial(look, one[:31] + entry * count + record + locator + end), "100,000", "most 10,000")
    lying = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 3, 3, count * len(entry), 31, 0)  # it says that there are three
    refused("many members, not told", partial(look, one[:31] + entry * count + lying), "members")


ODD = ("../evil", "/etc/passwd", "a\\b", "C:/x", "c:x", "a//b", "./a", "a/.", "x" * 201, "a\x1b[31m")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_and_kinds_that_no_honest_archive_has() -> None:
    for name in ODD:
        refused(name, partial(look, archive({"fine": b"1", name: b"2"})), "called")
    refused("a NUL", partial(look, archive({"aXb": b"1"}).replace(b"aXb", b"a\0b")), "called")
    for name, content in (("a", b"1"), ("a/", b""), ("A", b"1")):
        refused(name, partial(look, archive([("a", b"1"), (name, content)])), "twice")
    refused("bzip2", partial(look, archive(method=zipfile.ZIP_BZIP2)), "compressed")
    content = archive({"a": b"/etc/passwd"})
    local, entries = places(content)
    for kind in (stat.S_IFLNK, stat.S_IFIFO):
        refused(kind, partial(look, changed(content, (entries[0] + 38, "L", (kind | 0o777) << 16))), "'a'", "link")
    for bit in (0, 5, 6, 13):
        hostile = changed(content, (local[0] + 6, "H", 1 << bit), (entries[0] + 8, "H", 1 << bit))
        refused(bit, partial(look, hostile), "encrypted")


def test_what_two_readers_could_understand_differently_is_refused() -> None:
    content = archive({"a": b"1" * 100, "b": b"2" * 100})
    (local, entries), end = places(content), len(content) - 22
    both = local[1] + 131 - 31  # the first member, if it holds the second as well
    longer = [(place, "L", both) for place in (local[0] + 18, local[0] + 22, entries[0] + 20, entries[0] + 24)]
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 3, 3, end - entries[0], entries[0])
    hidden = archive({"other": b"1"})
    rows = {
        "inside": changed(content, *longer),
        "": changed(content, (entries[1] + 42, "L", local[0])),  # both entries mean the first member
        "where": changed(content, (entries[1] + 42, "L", 2**31)),
        "'a' ways": changed(content, (18, "L", 50)),
        "'a' ways.": changed(content, (22, "L", 50)),
        "'abc'": archive({"abc": b"1"}).replace(b"abc", b"xyz", 1),
        "twice": content[:end] + record + struct.pack("<4sLQL", b"PK\6\7", 0, end, 1) + content[end:],
        "directory": changed(content, (len(content) - 2, "H", len(hidden))) + hidden,  # one in a comment
    }
    for names, hostile in rows.items():
        refused(names, partial(look, hostile), *names.split())
    refused("checksum", partial(read_all, content.replace(b"1" * 100, b"1" * 99 + b"2")), "checksum")
    for around in (b"#!/bin/sh\n" + content, content + b"x", content[:-1], content[30:], b"", b"PK\3\4", content * 2):
        refused(around[:9], partial(look, around))
    content = archive({"a": b"1" * 3000, "b": b""}, DEFLATED)
    local, entries = places(content)
    for size in (10, 4000):  # in both places
        hostile = changed(content, (local[0] + 22, "L", size), (entries[0] + 24, "L", size))
        refused(size, partial(read_all, hostile), "'a'")
    # the last member reaches into the directory
    refused("last", partial(look, changed(content, (local[1] + 18, "L", 500), (entries[1] + 20, "L", 500))), "'b'")


def test_every_byte_changed_is_read_or_refused() -> None:
    """No byte of an archive makes anything but a ``Refused``, and what is read is what ``zipfile`` reads."""
    content = archive({"ab": b"hello", "c": b"you" * 9}, DEFLATED)
    for place in range(len(content)):
        for value in {0, 1, 255, content[place] ^ 8}:
            hostile = content[:place] + bytes([value]) + content[place + 1 :]
            try:
                members = read_all(hostile)
            except Refused as error:
                assert len(str(error)) <= 300 and str(error).isprintable()
            else:
                assert members == by_zipfile(hostile)
