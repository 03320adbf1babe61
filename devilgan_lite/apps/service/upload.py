"""An upload on its way to the disk: streamed in pieces, counted, hashed, and ended when it is too large or too slow.

The client's name of the file is text to show, never a path.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from devilgan_lite.checks import cut

MOST_NAME = 120
PIECE = 2**20  # bytes that are written and hashed at once, in another thread


class Rejected(Exception):
    """Why an upload is not taken: an HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


@dataclass(frozen=True)
class Received:
    """A file that has arrived: what the client calls it (for display), its size and its SHA-256."""

    name: str
    bytes: int
    sha256: str


def shown_name(name: str) -> str:
    """A client's file name for display: ? for what is not printable (or turns text around), cut at 120 characters."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in name[: 2 * MOST_NAME]).strip()
    return cut(plain, MOST_NAME - 3) or "file"


@dataclass
class _Form:
    """The part called ``file`` of a multipart form, piece by piece."""

    boundary: str
    name: str = ""
    wanted: bool = False  # whether the part that is read now is the file
    seen: bool = False
    ended: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    header: list[bytes] = field(default_factory=lambda: [b"", b""])
    pieces: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parser = MultipartParser(
            self.boundary,
            {
                "on_part_begin": self.headers.clear,
                "on_header_field": lambda data, start, end: self._more(0, data[start:end]),
                "on_header_value": lambda data, start, end: self._more(1, data[start:end]),
                "on_header_end": self._header_ends,
                "on_headers_finished": self._part_starts,
                "on_end": self._end,
                "on_part_data": lambda data, start, end: self.pieces.append(data[start:end]) if self.wanted else None,
            },
        )

    def take(self, chunk: bytes) -> bytes:
        """What ``chunk`` holds of the file."""
        try:
            self.parser.write(chunk)
        except FormParserError:
            raise Rejected(400, "The form cannot be read: it is no multipart/form-data as it says.") from None
        content = b"".join(self.pieces)
        self.pieces.clear()
        return content

    def _more(self, index: int, data: bytes) -> None:
        self.header[index] += data

    def _header_ends(self) -> None:
        name, value = (part.decode("utf-8", "replace") for part in self.header)
        self.headers[name.lower()], self.header = value, [b"", b""]

    def _end(self) -> None:
        self.ended = True

    def _part_starts(self) -> None:
        message = Message()
        message["content-disposition"] = re.sub(r"[\r\n]", " ", self.headers.get("content-disposition", ""))
        try:
            self.wanted = message.get_param("name", header="content-disposition") == "file"
            name = (message.get_filename("") or "") if self.wanted else ""
        except (LookupError, TypeError, ValueError):  # names in several pieces, or in odd encodings
            raise Rejected(400, "The form names its parts in a way that cannot be read.") from None
        if self.wanted:
            if self.seen:
                raise Rejected(400, "The form holds more than one file; upload one at a time.")
            self.seen, self.name = True, name


def _form_of(content_type: str) -> _Form | None:
    message = Message()
    message["content-type"] = re.sub(r"[\r\n]", " ", content_type)
    if message.get_content_type() != "multipart/form-data":
        return None
    try:
        boundary = message.get_param("boundary")
    except (LookupError, TypeError, ValueError):
        boundary = None
    if not isinstance(boundary, str) or not re.fullmatch(r"[ -~]{1,70}", boundary):
        raise Rejected(400, "The form has no valid boundary; send multipart/form-data with a part called file.")
    return _Form(boundary)


async def receive(
    chunks: AsyncIterator[bytes],
    path: Path,
    *,
    content_type: str,
    name: str,
    most: int,
    seconds: float,
    least_rate: float,
) -> Received:
    """Write the upload to ``path``, which must not exist; ``Rejected`` where it is not taken.

    ``content_type`` says whether it is a form with a part ``file`` or the bare bytes, called ``name`` (percent-encoded
    UTF-8). At most ``most`` bytes. After ``seconds`` of grace it must have kept ``least_rate`` bytes a second.
    """
    form = _form_of(content_type)
    digest, size, taken, started = hashlib.sha256(), 0, 0, time.monotonic()
    waiting = bytearray()
    with path.open("xb") as file:

        def write(content: bytes) -> None:
            file.write(content)
            digest.update(content)

        while True:
            patience = seconds + taken / least_rate - (time.monotonic() - started)
            try:
                chunk = await asyncio.wait_for(anext(chunks), max(patience, 0.001))
            except StopAsyncIteration:
                break
            except TimeoutError:
                slow = f"The upload is too slow: at least {least_rate / 1000:,.0f} kB a second are expected."
                raise Rejected(408, slow) from None
            taken += len(chunk)
            content = form.take(chunk) if form else chunk
            size += len(content)
            if size > most or taken > most + PIECE:
                raise Rejected(413, f"The file is too large: at most {most:,} bytes are accepted.")
            waiting += content
            if len(waiting) >= PIECE:
                await asyncio.to_thread(write, bytes(waiting))
                waiting.clear()
        write(bytes(waiting))
    if form and not form.ended:
        raise Rejected(400, "The form breaks off before its end; upload the file again.")
    if size == 0:
        raise Rejected(400, "The upload is empty; send the file itself, or a form with a part called file.")
    return Received(shown_name(form.name if form else unquote(name)), size, digest.hexdigest())
