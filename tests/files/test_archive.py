"""Archives of strangers: honest ones are read as ``zipfile`` reads them, each kind of hostile one is refused."""

import io
import stat
import struct
import zipfile

import pytest
import torch

from devilgan_lite.files.archive import checked
from devilgan_lite.files.sniff import Refused

MEMBERS = {"folder/a.txt": b"hello " * 50, "folder/b.bin": bytes(range(256)), "c": b""}


def archive(members=MEMBERS, method=zipfile.ZIP_STORED, edit=None):
    """The bytes of an archive of ``members``; ``edit`` may change each ``ZipInfo`` before it is written."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as zipped:
        for name, content in members.items() if isinstance(members, dict) else members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            if edit:
                edit(info)
            zipped.writestr(info, content)
    return made.getvalue()


def read_all(content, **limits):
    with checked(io.BytesIO(content), **limits) as opened:
        return {name: opened.read(name) for name in opened.sizes}


def places(content):
    """Where the local headers, the directory's entries and its end are."""
    with zipfile.ZipFile(io.BytesIO(content)) as zipped:
        local = [info.header_offset for info in zipped.infolist()]
    entry, entries = content.index(b"PK\1\2"), []
    while content[entry : entry + 4] == b"PK\1\2":
        entries.append(entry)
        entry += 46 + sum(struct.unpack_from("<3H", content, entry + 28))
    return local, entries, len(content) - 22


def changed(content, *edits):
    """``content`` with numbers written at places: ``(place, format, number)``."""
    made = bytearray(content)
    for place, kind, number in edits:
        struct.pack_into("<" + kind, made, place, number)
    return bytes(made)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_honest_archives_are_read(tmp_path, method):
    content = archive(method=method)
    assert read_all(content) == MEMBERS
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with checked(path) as opened:
        assert opened.sizes == {name: len(value) for name, value in MEMBERS.items()}


def test_what_pytorch_writes_is_read():
    made = io.BytesIO()
    torch.save({"weight": torch.arange(5.0)}, made)
    members = read_all(made.getvalue())
    with zipfile.ZipFile(made) as zipped:
        assert members == {name: zipped.read(name) for name in zipped.namelist()}


def test_streamed_members_and_folders_are_read():
    made = io.BytesIO()

    class Pipe(io.RawIOBase):  # without a way back, zipfile writes the sizes after each member
        def writable(self):
            return True

        def write(self, data):
            return made.write(data)

    with zipfile.ZipFile(Pipe(), "w") as zipped:
        zipped.writestr("folder/", "")
        zipped.writestr("folder/a", b"abc" * 100, zipfile.ZIP_DEFLATED)
    assert read_all(made.getvalue()) == {"folder/a": b"abc" * 100}


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/etc/passwd", "a\\b", "C:/x", "c:x", "a//b", "./a", "a/.", ".."]
    + ["x" * 201, "a\x1b[31m", "a\nb"],
)
def test_names_that_lead_elsewhere(name):
    with pytest.raises(Refused, match="called"):
        read_all(archive({"fine": b"1", name: b"2"}))


def test_a_name_with_nul():
    content = archive({"aXb": b"1"}).replace(b"aXb", b"a\0b")
    with pytest.raises(Refused, match="called"):
        read_all(content)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/"), ("a/b", "A/b")])
def test_a_name_twice(names):
    with pytest.raises(Refused, match="twice"):
        read_all(archive([(name, b"" if name.endswith("/") else b"1") for name in names]))


def test_a_bomb_is_not_unpacked():
    content = archive({"bomb": bytes(50 * 2**20)}, zipfile.ZIP_DEFLATED)
    assert len(content) < 60_000
    with pytest.raises(Refused, match="become 52,428,800"):
        read_all(content)


def test_too_much_in_all_and_in_one():
    content = archive({"a": bytes(600), "b": bytes(600)})
    with pytest.raises(Refused, match=r"1,200 bytes; at most 1,000"):
        read_all(content, most_bytes=1000)
    with checked(io.BytesIO(content)) as opened, pytest.raises(Refused, match="at most 599"):
        opened.read("a", 599)


def test_a_hundred_thousand_members():
    one = archive({"a": b""})
    entry = one[one.index(b"PK\1\2") : -22]
    count = 100_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, count * len(entry), 31, 0)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, count * len(entry), 31)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 31 + count * len(entry), 1)
    with pytest.raises(Refused, match="100,000 members"):
        read_all(one[:31] + entry * count + record + locator + end)
    lying = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 3, 3, count * len(entry), 31, 0)  # it says that there are three
    with pytest.raises(Refused, match="members"):
        read_all(one[:31] + entry * count + lying)


def test_members_that_overlap():
    content = archive({"a": b"1" * 100, "b": b"2" * 100})
    local, entries, _ = places(content)
    whole = local[1] + 131 - 31  # the first member, if it holds the second as well
    longer = [(place, "L", whole) for place in (local[0] + 18, local[0] + 22, entries[0] + 20, entries[0] + 24)]
    with pytest.raises(Refused, match="inside another"):
        read_all(changed(content, *longer))
    with pytest.raises(Refused):  # both entries mean the first member
        read_all(changed(content, (entries[1] + 42, "L", local[0])))
    with pytest.raises(Refused, match="not where"):
        read_all(changed(content, (entries[1] + 42, "L", 2**31)))


def test_a_name_that_differs_from_the_directory():
    content = archive({"abcdef": b"1"})
    with pytest.raises(Refused, match="different ways"):
        read_all(content.replace(b"abcdef", b"abcxyz", 1))


@pytest.mark.parametrize("place", [18, 22])
def test_sizes_that_differ_from_the_directory(place):
    content = archive({"a": b"1" * 100})
    with pytest.raises(Refused, match="different ways"):
        read_all(changed(content, (place, "L", 50)))


def test_sizes_that_lie_in_both_places():
    content = archive({"a": b"1" * 3000, "b": b""}, zipfile.ZIP_DEFLATED)
    local, entries, _ = places(content)
    for size in (10, 4000):
        lying = changed(content, (local[0] + 22, "L", size), (entries[0] + 24, "L", size))
        with pytest.raises(Refused, match="damaged|bytes"):
            read_all(lying)
    with pytest.raises(Refused):  # the last member reaches into the directory
        read_all(changed(content, (local[1] + 18, "L", 500), (entries[1] + 20, "L", 500)))


def test_a_checksum_that_is_wrong():
    content = archive({"a": b"1" * 100})
    with pytest.raises(Refused, match="checksum"):
        read_all(content.replace(b"1" * 100, b"1" * 99 + b"2"))


@pytest.mark.parametrize("bit", [0, 5, 6, 13])
def test_encryption(bit):
    content = archive({"a": b"1"})
    local, entries, _ = places(content)
    with pytest.raises(Refused, match="encrypted"):
        read_all(changed(content, (local[0] + 6, "H", 1 << bit), (entries[0] + 8, "H", 1 << bit)))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices(kind):
    def edit(info):
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16

    with pytest.raises(Refused, match="link or a device"):
        read_all(archive({"a": b"/etc/passwd"}, edit=edit))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions(method):
    with pytest.raises(Refused, match="compressed in a way"):
        read_all(archive(method=method))


def test_an_archive_in_an_archive_stays_bytes():
    inner = archive({"bomb": bytes(50 * 2**20)}, zipfile.ZIP_DEFLATED)
    assert read_all(archive({"inner.zip": inner})) == {"inner.zip": inner}


def test_bytes_around_an_archive():
    content = archive()
    for hostile in (b"#!/bin/sh\n" + content, content + b"x", content[:-1], content[30:], b"", b"PK\3\4", content * 2):
        with pytest.raises(Refused):
            read_all(hostile)


def test_a_comment_that_holds_another_end():
    content = archive()
    hidden = archive({"other": b"1"})
    with pytest.raises(Refused):
        read_all(changed(content, (len(content) - 2, "H", len(hidden))) + hidden)


def test_a_directory_that_is_described_twice():
    content = archive({"a": b"1"})
    _, entries, end = places(content)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, end - entries[0], entries[0])
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    with pytest.raises(Refused, match="twice"):
        read_all(content[:end] + record + locator + content[end:])


def test_every_byte_changed_is_read_or_refused(tmp_path):
    """No byte of an archive makes anything but a ``Refused``, and what is read is what ``zipfile`` reads."""
    content = archive({"ab": b"hello", "c": b"you" * 9}, zipfile.ZIP_DEFLATED)
    for place in range(len(content)):
        for value in (0, 1, 255, content[place] ^ 8):
            hostile = content[:place] + bytes([value]) + content[place + 1 :]
            try:
                members = read_all(hostile)
            except Refused as error:
                assert len(str(error)) <= 300 and str(error).isprintable()
                continue
            with zipfile.ZipFile(io.BytesIO(hostile)) as zipped:
                assert members == {name: zipped.read(name) for name in zipped.namelist()}


def test_a_member_that_is_not_there():
    with checked(io.BytesIO(archive())) as opened, pytest.raises(Refused, match="no member 'x'"):
        opened.read("x")
