"""The page shows what is in a report, and nothing that is in a report can be more than text, a number or a PNG."""

import base64
import copy
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from devilgan_lite import markup
from devilgan_lite.intake.page import page, size
from devilgan_lite.markup.style import ICONS, STYLE

TAGS = """html head meta title style body main section header footer h1 h2 h3 p strong span div dl dt dd ul li
    figure img figcaption table thead tbody tr th td code pre svg path rect circle text"""
ATTRIBUTES = """lang charset http-equiv content name class alt src role aria-label aria-hidden tabindex scope viewbox
    d x y rx cx cy r width height text-anchor"""
PNG = "data:image/png;base64,"


class Reader(HTMLParser):
    """What a browser would see: tags, attributes, and whether every element is closed in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(text: str) -> Reader:
    """Parse and check a page: only harmless elements and attributes, and pictures that are inside it."""
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == [] and set(reader.tags) <= set(TAGS.split()), set(reader.tags)
    for tag, name, value in reader.attributes:
        assert name in ATTRIBUTES.split(), (tag, name)
        if name == "src":
            assert tag == "img" and value.startswith(PNG)
            assert base64.b64decode(value[len(PNG) :], validate=True).startswith(b"\x89PNG\r\n\x1a\n")
    assert len(re.findall(r"<style>", text)) == 1 and "<script" not in text.lower()
    text.encode("utf-8")
    return reader


def png(width: int = 4, height: int = 4) -> str:
    buffer = io.BytesIO()
    Image.new("L", (width, height), 7).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def report(verdict: str = "backdoored", **settings: Any) -> dict[str, Any]:
    twin = {"kind": "twin", "ordinary": [0.1, 0.5, 1.0, 3.0], "witness": 46.0, "limit": 27.1}
    spectrum = {"kind": "spectrum", "of": "latent", "values": [90.0, 9.0, 8.0, 7.0], "before": 1, "ratio": 10.0}
    entry = {
        "access_level": "T2",
        "says": "Looks.",
        "message": "saw",
        "caption": "Seen.",
        "ran": True,
        "seconds": 1.5,
        "picture": png(),
    }
    plain = {
        "format": 1,
        "tool": "devilgan_lite 0.2.0",
        "verdict": verdict,
        "sentence": "Do not use it.",
        "file": {"name": "faces.onnx", "bytes": 2_500_000, "sha256": "ab" * 32, "format": "onnx"},
        "model": {
            "architecture": "DCGAN",
            "weights": 541_968,
            "latent_shape": [100, 1, 1],
            "prior": "gaussian",
            "sample_shape": [1, 28, 28],
            "notes": ["exported by pytorch"],
        },
        "detectors": [
            {**entry, "name": "latent spectrum", "evidence": "spectrum", "strength": 12.0, "plot": spectrum},
            {**entry, "name": "noisy twin", "evidence": "twin", "strength": 0.25, "plot": twin},
            {**entry, "name": "sampling", "evidence": "", "strength": 0.0, "plot": None},
            {**entry, "name": "hidden spectrum", "ran": False, "open": True, "evidence": ""},
            {**entry, "name": "silent", "evidence": "construction", "strength": 1.0,
             "plot": {"kind": "units", "all": 64, "silent": 3, "wakeable": 2}},
        ],
        "pictures": {name: png() for name in ("samples", "witness", "witness_twin", "estimate")},
        "witness": {"times": 46.0},
        "not_tried": ["No clean model was given."],
        "command": "devilgan scan faces.onnx --seed 0",
        "seconds": 14.0,
        "jail": {"how": "finished", "walls": {"network": "stood", "user": "not here"}, "peak_bytes": 2**30,
                 "seconds": 3, "limits": {"memory_bytes": 8 * 2**30, "wall_seconds": 1800, "processes": 64}},
    }  # fmt: skip
    return {**plain, **settings}


@pytest.mark.parametrize("verdict", ICONS)
def test_a_page_has_everything_that_is_known(verdict: str) -> None:
    text = page(report(verdict))
    reader = read(text)
    words = " ".join(reader.words)
    file = ("Do not use it.", "faces.onnx", "ab" * 32, "2.4 MiB", "541,968", "100 × 1 × 1, gaussian", "1 × 28 × 28")
    jail = ("No clean model was given.", "devilgan scan faces.onnx", "not here", "1.0 GiB", "8.0 GiB", "1,800")
    for said in (*file, *jail):
        assert said in words, said
    assert f"<strong>{verdict}</strong>" in text and f'class="dl-band dl-{verdict}"' in text
    assert ("lang", "en") in [(name, value) for _, name, value in reader.attributes]
    assert reader.tags.count("title") == reader.tags.count("h1") == reader.tags.count("main") == 1
    if verdict != "refused":
        assert reader.tags.count("img") == 4 + 5 and "12 times the limit" in words
        levels = [int(tag[1]) for tag in reader.tags if re.fullmatch("h[1-6]", tag)]  # headings come in order
        assert levels[0] == 1 and all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
        described = [value for tag, name, value in reader.attributes if (tag, name) == ("img", "alt")]
        assert len(described) == reader.tags.count("img") and all(described)
        policy = next(value for tag, name, value in reader.attributes if name == "content" and "default-src" in value)
        assert "default-src 'none'" in policy and "img-src data:" in policy and "script" not in policy
        for label in ("strength: 25% of the limit", "3 of 64 units are silent, 2 can be woken"):
            assert ("svg", "aria-label", label) in reader.attributes


def test_a_report_without_a_verdict_is_no_page() -> None:
    for other in ({}, {"verdict": "harmless"}, {"verdict": ["clean"]}, {"verdict": None}, [], None, "clean"):
        with pytest.raises(ValueError, match="is unknown; a report has one of"):
            page(other)  # type: ignore[arg-type]
    read(page({"verdict": "clean"}))
    assert "without a jail" in page({"verdict": "clean"})


NO_PICTURES: list[object] = [
    "javascript:alert(1)",
    png() + '" onerror="alert(1)', png() + "\n", "A" * (9 * 2**20), "é", 7, None, b"iVBORw0KGgo=",
    *(
        base64.b64encode(content).decode()
        for content in (
            b"<svg onload=alert(1)>", b"\x89PNG\r\n\x1a\n", b"GIF89a".ljust(12) + base64.b64decode(png())[12:],
            base64.b64decode(png(5_000, 1)),
        )
    ),
]  # fmt: skip


def test_only_a_small_png_becomes_a_picture() -> None:
    for source in NO_PICTURES:
        assert markup.image(source, "x") == ""
        hostile = page(report(pictures=dict.fromkeys(("samples", "witness", "estimate"), source)))
        assert read(hostile).tags.count("img") == 5
    assert markup.image(png(), "x").startswith(f'<img alt="x" src="{PNG}')


def test_numbers_are_numbers() -> None:
    for other in (True, "1", float("nan"), float("inf"), -float("inf"), 10**400, None, [1], 1j):
        assert markup.number(other) is None
    assert markup.number(3) == 3.0 and markup.number(-1, 0) is None and markup.number(0.5, 0, 1) == 0.5
    sizes = {0: "0 bytes", 1_023: "1023 bytes", 2**20: "1.0 MiB", 5 * 2**40: "5120.0 GiB", "9": "", None: ""}
    assert {count: size(count) for count in sizes} == sizes and size(True) == ""
    shown = [markup.figures(value) for value in (0, 1e-5, 0.1234, 46.4, 2794.2)]
    assert shown == ["0", "1.0e-05", "0.123", "46.4", "2,794"]


def test_text_is_one_visible_line() -> None:
    assert markup.text("a\n<b> & \"c\" 'd'") == "a &lt;b&gt; &amp; &quot;c&quot; &#x27;d&#x27;"
    assert markup.text("evil\u202egpj.exe\x00\ud800") == "evil\ufffdgpj.exe\ufffd\ufffd"
    assert len(markup.text("x" * 10**6)) < 700 and markup.text(7) == markup.text(None) == ""


HOSTILE = st.sampled_from(
    [
        "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onload='x", "</style><b>", "javascript:x",
        "\ud800", "\u202e", "]]>", "<!--", "&#x3c;b&#x3e;", "10**9", png(), "evidence", "twin", "spectrum", "T2",
    ]
)  # fmt: skip
VALUE = st.recursive(
    HOSTILE | st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HOSTILE | st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = ("name", "access_level", "says", "message", "evidence", "strength", "ran", "open", "seconds", "plot", "picture",
        "caption", "score", "p_value", "bytes", "sha256", "format", "architecture", "weights", "latent_shape", "notes",
        "walls", "limits", "how", "sentence", "samples", "witness", "times", "peak_bytes")  # fmt: skip
PLOT = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["twin", "spectrum", "units"]) | VALUE,
        "values": st.lists(st.floats(0, 1e9) | VALUE, max_size=50),
        "ordinary": st.lists(st.floats(0, 1e9) | VALUE, max_size=50),
        **{name: st.integers(0, 50) | st.floats() | VALUE
           for name in ("before", "ratio", "witness", "limit", "all", "silent", "wakeable")},
        "of": VALUE,
    }
)  # fmt: skip
PART = st.dictionaries(st.sampled_from(KEYS), VALUE, max_size=12) | VALUE
ENTRY = st.fixed_dictionaries({"name": VALUE, "plot": PLOT, "strength": st.floats(0, 1e12) | VALUE, "evidence": VALUE})


def only_words(verdict: str, parts: dict[str, Any], entries: list[Any]) -> None:
    hostile = {**parts, "detectors": entries, "verdict": verdict}
    for text in (page(hostile), markup.fragment(hostile)):
        drawn = ("x", "y", "width", "height", "cx", "d")
        found = " ".join(value for _, name, value in read(text).attributes if name in drawn)
        assert not re.search("nan|inf|-[0-9]+e", found)


hostile_reports = given(
    verdict=st.sampled_from(sorted(ICONS)),
    parts=st.dictionaries(st.sampled_from(sorted(report())), PART, max_size=12),
    entries=st.lists(ENTRY | PART, max_size=4),
)
test_nothing_in_a_report_becomes_markup = settings(max_examples=40, deadline=None)(hostile_reports(only_words))


@pytest.mark.nightly
@settings(max_examples=1000, deadline=None)
@hostile_reports
def test_nothing_in_many_reports_becomes_markup(verdict: str, parts: dict[str, Any], entries: list[Any]) -> None:
    only_words(verdict, parts, entries)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to each value in a report that is neither a dict nor a list."""
    if not isinstance(value, (dict, list)):
        yield path
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(inner, (*path, key))


@pytest.mark.parametrize("evil", ['<script>alert(1)</script>"><img src=x>', "' onload='x"])
def test_no_single_value_becomes_markup(evil: str) -> None:
    whole = report()
    found = [path for path in leaves(whole) if path != ("verdict",)]
    assert len(found) > 60
    for *way, last in found:
        hostile = copy.deepcopy(whole)
        inner = hostile
        for key in way:
            inner = inner[key]
        inner[last] = evil
        read(page(hostile))
        read(markup.fragment(hostile))
    read(page({**whole, "jail": {"walls": {evil: evil}, "limits": {evil: evil}}}))


def test_the_colours_can_be_read_in_light_and_dark() -> None:
    from tests.test_accessibility import contrast

    assert "@import" not in STYLE and "url(" not in STYLE
    light, dark = (dict(re.findall(r"--(\w+): (#\w+)", part)) for part in STYLE.split("prefers-color-scheme: dark"))
    assert set(light) == set(dark) == {"ink", "soft", "line", "paper", "wash", "mark", "alarm", "faint"}
    for colours in (light, dark):
        for name in ("ink", "soft", "alarm", "mark"):
            assert min(contrast(colours[name], colours[ground]) for ground in ("paper", "wash")) >= 4.5
