"""The page and the SARIF log of a report: what is in it, and nothing that is more than text, a number or a PNG."""

import base64
import contextlib
import io
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from devilgan_lite import report as markup
from devilgan_lite.report import VERDICTS, page, sarif
from devilgan_lite.report.html import size, style
from devilgan_lite.report.sarif import location
from tests.test_accessibility import contrast

TAGS = """html head meta title style body main section header footer h1 h2 h3 p strong span div dl dt dd ul li
    figure img figcaption table thead tbody tr th td code pre svg path rect circle text"""
ATTRIBUTES = """lang charset http-equiv content name class alt src role aria-label aria-hidden tabindex scope viewbox
    d x y rx cx cy r width height text-anchor"""
PNG = "data:image/png;base64,"
DIGEST = "ab" * 32


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
    entry = {"access_level": "T2", "asks": "Looks.", "message": "saw", "caption": "Seen.", "ran": True, "seconds": 1.5}
    entry |= {"picture": png(), "score": 1.5}
    rows: list[dict[str, Any]] = [
        {"detector": "hidden spectrum", "ran": False, "open": True, "evidence": "spectrum", "strength": 2.0},
        {"detector": "latent spectrum", "evidence": "spectrum", "strength": 12.0, "plot": spectrum},
        {"detector": "noisy twin", "evidence": "twin", "strength": 0.25, "plot": twin},
        {"detector": "sampling", "evidence": "", "strength": 9.0, "plot": None},
        {"detector": "silent", "evidence": "construction", "strength": 1.0, "plot": units},
    ]
    limits = {"memory_bytes": 8 * 2**30, "wall_seconds": 1800, "processes": 64}
    walls = {"network": "stood", "user": "not here"}
    return {
        **{"format": 2, "tool": "devilgan_lite 0.2.0", "verdict": verdict, "sentence": "Do not use it."},
        "file": {"name": "faces.onnx", "bytes": 2_500_000, "sha256": DIGEST, "format": "onnx"},
        "model": {
            **{"architecture": "DCGAN", "weights": 541_968, "latent_shape": [100, 1, 1], "prior": "gaussian"},
            **{"sample_shape": [1, 28, 28], "notes": ["exported by pytorch"]},
        },
        "findings": [{**entry, **row} for row in rows],
        "evidence": {"spectrum": 12.0, "twin": 0.25, "construction": 1.0},
        "jail": {"how": "finished", "walls": walls, "limits": limits, "peak_bytes": 2**30, "seconds": 3},
        "pictures": {name: png() for name in ("samples", "witness", "witness_twin", "estimate")},
        **{"witness": {"times": 46.0}, "not_tried": ["No clean model was given."], "seconds": 14.0},
        **{"command": "devilgan scan faces.onnx --seed 0", **settings},
    }


def logged(*reports: dict[str, Any], paths: list[str] | None = None) -> list[dict[str, Any]]:
    """The results of a SARIF log, which has what the specification and code hosts require; all of it is JSON."""
    log = sarif(reports, paths)
    assert json.loads(json.dumps(log, allow_nan=False)) == log
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    ids = [rule["id"] for rule in driver["rules"]]
    assert driver["name"] and driver["version"] and len(set(ids)) == len(ids)
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"] and rule["fullDescription"]["text"] and rule["help"]["text"]
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
        assert 0 <= float(rule["properties"]["security-severity"]) <= 10
    for result in run["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"] and 0 < len(result["message"]["text"]) <= 1_000
        assert result["kind"] in ("pass", "fail") and (result["kind"] == "fail" or result["level"] == "none")
        assert result["level"] == driver["rules"][result["ruleIndex"]]["defaultConfiguration"]["level"]
        assert uri_of(result).isascii() and not set(uri_of(result)) & set(' <>"\\^`{|}:?#')
        assert uri_of(result) and not uri_of(result).startswith("/")
        assert result["locations"][0]["physicalLocation"]["region"]["startLine"] == 1
        assert all(isinstance(value, str) for value in result["partialFingerprints"].values())
    return list(run["results"])


def uri_of(result: dict[str, Any]) -> str:
    (place,) = result["locations"]
    return str(place["physicalLocation"]["artifactLocation"]["uri"])


def test_a_page_has_everything_that_is_known_and_a_verdict() -> None:
    for verdict in VERDICTS:
        text = page(report(verdict))
        reader = Reader(text)
        file = ("Do not use it.", "faces.onnx", DIGEST, "2.4 MiB", "541,968", "100 × 1 × 1, gaussian", "1 × 28 × 28")
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


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Each value in a report with the path to it, and those that hold them."""
    yield path, value
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ()):
        yield from places(inner, (*path, key))


def changed(whole: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of a report with another value there."""
    if not path:
        return value
    made = whole.copy()
    made[path[0]] = changed(whole[path[0]], path[1:], value)
    return made


def harmless(hostile: dict[str, Any]) -> None:
    for text in (page(hostile), markup.fragment(hostile)):
        drawn = [one for _, name, one in Reader(text).attributes if name in ("x", "y", "width", "height", "cx", "d")]
        assert not re.search("nan|inf|-[0-9]+e", " ".join(drawn))
    log = json.dumps(logged(hostile))
    assert "](" not in log and "\\ud800" not in log


PLACES = {path: value for path, value in places(report()) if path not in ((), ("verdict",))}
EVILS = '<script>alert(1)</script>"><img src=x>', "' onload='x"


def test_no_single_value_becomes_markup() -> None:
    assert len(PLACES) > 100
    for number, (path, value) in enumerate(PLACES.items()):
        harmless(changed(report(), path, EVILS[number % 2] + EVILS[1 - number % 2]))
        for other in (0, 4, -1, 1e308, float("nan")) if isinstance(value, (int, float)) else ():
            harmless(changed(report(), path, other))
    for evil in EVILS:
        harmless(report(jail={"walls": {evil: evil}, "limits": {evil: evil}}))


WORDS = [*EVILS, "</style><b>", "\ud800[x](http://y)", "\u202e", "]]>", "<!--", "&#x3c;b&#x3e;", "10**9", png()]
HOSTILE = st.sampled_from([*WORDS, "evidence", "twin", "spectrum", "units", "T2"])
NUMBER = st.none() | st.booleans() | st.floats() | st.integers() | st.just(10**400) | st.integers(0, 50)
VALUE = st.recursive(
    HOSTILE | NUMBER | st.text(max_size=20) | st.lists(st.floats(0, 1e9), max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HOSTILE | st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
PLACE = st.sampled_from([path for path in PLACES if "plot" in path]) | st.sampled_from(list(PLACES))


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.nightly)])
def test_nothing_in_a_report_becomes_markup(count: int) -> None:
    @settings(max_examples=count, deadline=None)
    @given(st.sampled_from(sorted(VERDICTS)), st.lists(st.tuples(PLACE, VALUE), max_size=24))
    def only_words(verdict: str, changes: list[tuple[tuple[Any, ...], Any]]) -> None:
        hostile = report(verdict)
        for path, value in changes:
            with contextlib.suppress(AttributeError, LookupError, TypeError):  # what held it has changed before
                hostile = changed(hostile, path, value)
        harmless(hostile)

    only_words()


def test_the_colours_can_be_read_in_light_and_dark() -> None:
    assert "@import" not in style() and "url(" not in style()
    light, dark = (dict(re.findall(r"--(\w+): (#\w+)", part)) for part in style().split("prefers-color-scheme: dark"))
    assert set(light) == set(dark) == {"ink", "soft", "line", "paper", "wash", "mark", "alarm", "faint"}
    for colours in (light, dark):
        for name in ("ink", "soft", "alarm", "mark"):
            assert min(contrast(colours[name], colours[ground]) for ground in ("paper", "wash")) >= 4.5


def test_every_verdict_is_a_sarif_result_of_its_level_that_names_its_file_and_why() -> None:
    results = logged(*map(report, VERDICTS))
    levels = {result["properties"]["verdict"]: (result["kind"], result["level"]) for result in results}
    fails = {"backdoored": "error", "suspicious": "warning", "inconclusive": "note", "refused": "warning"}
    assert levels == {**{name: ("fail", level) for name, level in fails.items()}, "clean": ("pass", "none")}
    assert logged() == []
    (result,) = logged(report(), paths=["models/männer 50%.onnx"])
    assert uri_of(result) == "models/m%C3%A4nner%2050%25.onnx" and unquote(uri_of(result)) == "models/männer 50%.onnx"
    assert result["message"]["text"] == "Do not use it."
    assert result["partialFingerprints"] == {"sha256/v1": f"{DIGEST}:backdoored"}
    assert result["properties"]["evidence"] == {"spectrum": 12.0, "twin": 0.25, "construction": 1.0}
    assert result["properties"]["sha256"] == DIGEST and result["properties"]["format"] == "onnx"


def test_a_path_stays_in_its_repository_and_each_report_has_one(refuses: Callable[..., str]) -> None:
    for path in ("", ".", "/etc/passwd", "a/../../x", "C:/x.onnx", "a\\b.onnx"):
        refuses(lambda path=path: location(path), "path")
    refuses(lambda: sarif([report(), report()], ["a"]), "paths", "1", "2")
    refuses(lambda: sarif([report("harmless")]), "'harmless'")
    (result,) = logged(report(file={"name": "../../etc/[x](http://y).onnx"}))
    assert uri_of(result) == "y%29.onnx"
    assert location("http://x/y") == "http%3A/x/y"  # a folder of this name
