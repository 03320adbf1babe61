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
from tests.test_accessibility import contrast

TAGS = """html head meta title style body main section header footer h1 h2 h3 p strong span div dl dt dd ul li
    figure img figcaption table thead tbody tr th td code pre svg path rect circle text"""
ATTRIBUTES = """lang charset http-equiv content name class alt src role aria-label aria-hidden tabindex scope viewbox
    d x y rx cx cy r width height text-anchor"""
PNG = "data:image/png;base64,"


class Reader(HTMLParser):
    """What a browser would see of a page; only harmless elements and attributes, and pictures that are inside it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.words = list[str](), list[str](), ""
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == [] and set(self.tags) <= set(TAGS.split()), set(self.tags)
        assert {name for _, name, _ in self.attributes} <= set(ATTRIBUTES.split())
        for tag, _, value in (one for one in self.attributes if one[1] == "src"):
            assert tag == "img" and value.startswith(PNG)
            assert base64.b64decode(value[len(PNG) :], validate=True).startswith(b"\x89PNG\r\n\x1a\n")
        assert text.count("<style>") == 1 and "<script" not in text.lower() and text.encode()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        self.open += [tag] if tag not in ("meta", "img") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += f" {data}"


def png(width: int = 4, height: int = 4) -> str:
    buffer = io.BytesIO()
    Image.new("L", (width, height), 7).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def report(verdict: str = "backdoored", **settings: Any) -> dict[str, Any]:
    twin = {"kind": "twin", "ordinary": [0.1, 0.5, 1.0, 3.0], "witness": 46.0, "limit": 27.1}
    spectrum = {"kind": "spectrum", "of": "latent", "values": [90.0, 9.0, 8.0, 7.0], "before": 1, "ratio": 10.0}
    units = {"kind": "units", "all": 64, "silent": 3, "wakeable": 2}
    entry = {"access_level": "T2", "says": "Looks.", "message": "saw", "caption": "Seen.", "ran": True, "seconds": 1.5}
    entry["picture"] = png()
    detectors: list[dict[str, Any]] = [
        {"name": "latent spectrum", "evidence": "spectrum", "strength": 12.0, "plot": spectrum},
        {"name": "noisy twin", "evidence": "twin", "strength": 0.25, "plot": twin},
        {"name": "sampling", "evidence": "", "strength": 0.0, "plot": None},
        {"name": "hidden spectrum", "ran": False, "open": True, "evidence": ""},
        {"name": "silent", "evidence": "construction", "strength": 1.0, "plot": units},
    ]
    file = {"name": "faces.onnx", "bytes": 2_500_000, "sha256": "ab" * 32, "format": "onnx"}
    model = {"architecture": "DCGAN", "weights": 541_968, "latent_shape": [100, 1, 1], "prior": "gaussian"}
    model |= {"sample_shape": [1, 28, 28], "notes": ["exported by pytorch"]}
    jail = {"how": "finished", "walls": {"network": "stood", "user": "not here"}, "peak_bytes": 2**30, "seconds": 3}
    jail["limits"] = {"memory_bytes": 8 * 2**30, "wall_seconds": 1800, "processes": 64}
    plain = {"format": 1, "tool": "devilgan_lite 0.2.0", "verdict": verdict, "sentence": "Do not use it.", "file": file}
    plain |= {"model": model, "detectors": [{**entry, **one} for one in detectors], "jail": jail, "seconds": 14.0}
    plain |= {"pictures": {name: png() for name in ("samples", "witness", "witness_twin", "estimate")}}
    plain |= {"witness": {"times": 46.0}, "not_tried": ["No clean model was given."]}
    return {**plain, "command": "devilgan scan faces.onnx --seed 0", **settings}


def test_a_page_has_everything_that_is_known_and_a_verdict() -> None:
    for verdict in ICONS:
        text = page(report(verdict))
        reader = Reader(text)
        file = ("Do not use it.", "faces.onnx", "ab" * 32, "2.4 MiB", "541,968", "100 × 1 × 1, gaussian", "1 × 28 × 28")
        jail = ("No clean model was given.", "devilgan scan faces.onnx", "not here", "1.0 GiB", "8.0 GiB", "1,800")
        assert [said for said in (*file, *jail) if said not in reader.words] == []
        assert f"<strong>{verdict}</strong>" in text and f'class="dl-band dl-{verdict}"' in text
        policy = next(value for tag, name, value in reader.attributes if name == "content" and "default-src" in value)
        assert "default-src 'none'" in policy and "img-src data:" in policy and "script" not in policy
        if verdict != "refused":
            described = [value for tag, name, value in reader.attributes if (tag, name) == ("img", "alt")]
            assert len(described) == reader.tags.count("img") == 4 + 5 and all(described)
            assert "12 times the limit" in reader.words
            for label in ("strength: 25% of the limit", "3 of 64 units are silent, 2 can be woken"):
                assert ("svg", "aria-label", label) in reader.attributes
    for other in ({}, {"verdict": "harmless"}, {"verdict": ["clean"]}, [], None):
        with pytest.raises(ValueError, match="is unknown; a report has one of"):
            page(other)  # type: ignore[arg-type]
    assert "without a jail" in Reader(page({"verdict": "clean"})).words


def test_only_a_small_png_becomes_a_picture() -> None:
    contents = [b"<svg onload=alert(1)>", b"\x89PNG\r\n\x1a\n", b"GIF8".ljust(12) + base64.b64decode(png())[12:]]
    contents.append(base64.b64decode(png(5_000, 1)))
    sources: list[object] = ["javascript:alert(1)", png() + '" onerror="alert(1)', png() + "\n", "A" * (9 * 2**20)]
    sources += ["é", 7, None, b"iVBORw0KGgo=", *(base64.b64encode(content).decode() for content in contents)]
    for source in sources:
        assert markup.image(source, "x") == ""
        hostile = page(report(pictures=dict.fromkeys(("samples", "witness", "estimate"), source)))
        assert Reader(hostile).tags.count("img") == 5
    assert markup.image(png(), "x").startswith(f'<img alt="x" src="{PNG}')


def test_numbers_are_numbers_and_text_is_one_visible_line() -> None:
    for other in (True, "1", float("nan"), float("inf"), -float("inf"), 10**400, None, [1], 1j):
        assert markup.number(other) is None
    assert markup.number(3) == 3.0 and markup.number(-1, 0) is None and markup.number(0.5, 0, 1) == 0.5
    sizes = {0: "0 bytes", 1_023: "1023 bytes", 2**20: "1.0 MiB", 5 * 2**40: "5120.0 GiB", "9": "", None: ""}
    assert {count: size(count) for count in sizes} == sizes and size(True) == ""
    shown = [markup.figures(value) for value in (0, 1e-5, 0.1234, 46.4, 2794.2)]
    assert shown == ["0", "1.0e-05", "0.123", "46.4", "2,794"]
    assert markup.text("a\n<b> & \"c\" 'd'") == "a &lt;b&gt; &amp; &quot;c&quot; &#x27;d&#x27;"
    assert markup.text("evil\u202egpj.exe\x00\ud800") == "evil\ufffdgpj.exe\ufffd\ufffd"
    assert len(markup.text("x" * 10**6)) < 700 and markup.text(7) == markup.text(None) == ""


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to each value in a report that is neither a dict nor a list."""
    if not isinstance(value, (dict, list)):
        yield path
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(inner, (*path, key))


def test_no_single_value_becomes_markup() -> None:
    whole, evils = report(), ('<script>alert(1)</script>"><img src=x>', "' onload='x")
    found = [path for path in leaves(whole) if path != ("verdict",)]
    assert len(found) > 60
    for number, (*way, last) in enumerate(found):
        inner = hostile = copy.deepcopy(whole)
        for key in way:
            inner = inner[key]
        inner[last] = evils[number % 2] + evils[1 - number % 2]
        Reader(page(hostile))
        Reader(markup.fragment(hostile))
    for evil in evils:
        Reader(page({**whole, "jail": {"walls": {evil: evil}, "limits": {evil: evil}}}))


WORDS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='x",
    "</style><b>",
    "\ud800",
    "\u202e",
]
HOSTILE = st.sampled_from(
    [*WORDS, "]]>", "<!--", "&#x3c;b&#x3e;", "10**9", png(), "evidence", "twin", "spectrum", "T2"]
)
VALUE = st.recursive(
    HOSTILE | st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HOSTILE | st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NUMBERS = dict.fromkeys(("values", "ordinary"), st.lists(st.floats(0, 1e9) | VALUE, max_size=50))
COUNTS = ("before", "ratio", "witness", "limit", "all", "silent", "wakeable")
NUMBERS |= dict.fromkeys(COUNTS, st.integers(0, 50) | st.floats() | VALUE)
PLOT = st.fixed_dictionaries({"kind": st.sampled_from(["twin", "spectrum", "units"]) | VALUE, "of": VALUE, **NUMBERS})
KEYS = sorted({key for path in leaves(report()) for key in path if isinstance(key, str)} | {"score", "p_value"})
PART = st.dictionaries(st.sampled_from(KEYS), VALUE, max_size=12) | VALUE
ENTRY = st.fixed_dictionaries({"name": VALUE, "plot": PLOT, "strength": st.floats(0, 1e12) | VALUE, "evidence": VALUE})
PARTS = st.dictionaries(st.sampled_from(sorted(report())), PART, max_size=12)


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.nightly)])
def test_nothing_in_a_report_becomes_markup(count: int) -> None:
    @settings(max_examples=count, deadline=None)
    @given(verdict=st.sampled_from(sorted(ICONS)), parts=PARTS, entries=st.lists(ENTRY | PART, max_size=4))
    def only_words(verdict: str, parts: dict[str, Any], entries: list[Any]) -> None:
        hostile = {**parts, "detectors": entries, "verdict": verdict}
        for text in (page(hostile), markup.fragment(hostile)):
            drawn = ("x", "y", "width", "height", "cx", "d")
            found = " ".join(value for _, name, value in Reader(text).attributes if name in drawn)
            assert not re.search("nan|inf|-[0-9]+e", found)

    only_words()


def test_the_colours_can_be_read_in_light_and_dark() -> None:
    assert "@import" not in STYLE and "url(" not in STYLE
    light, dark = (dict(re.findall(r"--(\w+): (#\w+)", part)) for part in STYLE.split("prefers-color-scheme: dark"))
    assert set(light) == set(dark) == {"ink", "soft", "line", "paper", "wash", "mark", "alarm", "faint"}
    for colours in (light, dark):
        for name in ("ink", "soft", "alarm", "mark"):
            assert min(contrast(colours[name], colours[ground]) for ground in ("paper", "wash")) >= 4.5
