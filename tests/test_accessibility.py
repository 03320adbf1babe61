"""For everybody: colours that stay apart, contrast, size, the keyboard. Pictures and headings: test_notebooks.py."""

import ast
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np

from devilgan_lite.apps.course import PALETTE
from devilgan_lite.apps.game import board
from devilgan_lite.apps.show.pairs import STYLE as PAPER
from devilgan_lite.apps.studies import pages, study_report
from devilgan_lite.report import html

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "devilgan_lite"
WIDGETS = {path.name: path.read_text(encoding="utf-8") for path in (PACKAGE / "apps/course/widgets").glob("*.*s")}
STAGE, PHONE = ((PACKAGE / f"apps/show/phone/{name}.css").read_text(encoding="utf-8") for name in ("stage", "page"))
# Machado, Oliveira and Fernandes, IEEE TVCG 2009: full loss of one kind of cone, on linear RGB
BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "all cones": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
}
APART = 15  # least distance in CIELAB between two colours of lines: six times what is just noticeable
XYZ = np.array([[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07217], [0.01933, 0.11919, 0.95030]])  # sRGB, D65
WORDS = {"black": "#000000", "white": "#ffffff"}
INLINE = re.findall(r'style="([^"]*)"', (PACKAGE / "apps/studies/study_report.py").read_text(encoding="utf-8"))
STYLES = {
    **{name: text for name, text in WIDGETS.items() if name.endswith(".css")},
    "stage": PAPER,
    "scoreboard": board.STYLE,
    "run pages": pages.STYLE,
    "study report": pages.STYLE + "".join(f"inline {{{rule}}}" for rule in INLINE),
    "scan report": html.page({"verdict": "clean"}).split("<style>")[1].split("</style>")[0],
}
WRITING = ("text", "annotate", "suptitle", "set_title", "set_xlabel", "set_ylabel")


def linear(colour: str) -> np.ndarray:
    """Linear RGB in [0, 1] of ``#rgb``, ``#rrggbb`` or a word."""
    digits = WORDS.get(colour, colour).lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    values = np.array([int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of linear RGB."""
    xyz = XYZ @ rgb / (XYZ @ np.ones(3))
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def least_distance(colours: tuple[str, ...], kind: str) -> float:
    """The least CIELAB distance between two of ``colours`` as somebody with ``kind`` sees them."""
    seen = [lab(np.clip(np.array(BLIND[kind]) @ linear(colour), 0, 1)) for colour in colours]
    return min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG, from 1 to 21."""
    lights = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def rules(style: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Selector and values of every rule of a style sheet."""
    for selector, rule in re.findall(r"([^{}]+)\{([^{}]*)\}", re.sub(r"/\*.*?\*/", "", style, flags=re.S)):
        parts = (part.partition(":") for part in rule.split(";"))
        yield selector.strip(), {key.strip(): value.strip() for key, _, value in parts}


def text_colours(style: str, theme: dict[str, str] | None = None) -> Iterator[tuple[str, str, str]]:
    """Selector, text colour and ground (white if the rule has none) of every rule that colours text."""
    for selector, values in rules(style):
        found = []
        for value in (values.get("color", ""), values.get("background-color", values.get("background", ""))):
            named = re.sub(r"var\(--(\w+)\)", lambda name: (theme or {}).get(name[1], ""), value)
            colour = re.search(r"#(?:[0-9a-f]{6}|[0-9a-f]{3})\b|\b(?:black|white)\b", named, re.I)
            found.append(colour[0].lower() if colour else "")
        if found[0] and (found[1] or theme is None):
            yield selector, found[0], found[1] or "#fff"


def colours_of_writing(source: str) -> list[str]:
    """The colours that a notebook's own figures give to text; what is no constant is read as it stands."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    written = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in WRITING]
    named = [keyword.value for call in written for keyword in call.keywords if keyword.arg in ("color", "c")]
    return [str(eval(ast.unparse(value), {"PALETTE": PALETTE})) for value in named]


def test_colours_stay_apart_and_text_can_be_read() -> None:
    assert all(least_distance(colours, kind) >= APART for kind in BLIND for colours in (PALETTE, study_report.COLOURS))
    for name, style in STYLES.items():
        pairs = list(text_colours(style))
        assert pairs, f"{name} colours no text: is the check blind?"
        if name == "scoreboard":  # the first row has a ground of its own
            grounds = re.findall(r"background: (#[0-9a-f]{6})", board.STYLE)
            pairs = [(where, text, ground) for where, text, _ in pairs for ground in grounds]
        assert [one for one in pairs if contrast(one[1], one[2]) < 4.5] == [], name
    for path in (ROOT / "notebooks/src").glob("*.py"):
        colours = colours_of_writing(path.read_text(encoding="utf-8"))
        assert [colour for colour in colours if contrast(colour, "white") < 4.5] == [], path.name


def test_stage_and_phone_can_be_read_from_the_last_row_by_day_and_by_night() -> None:
    found = {}
    for name, style in (("paper", PAPER), ("scoreboard", board.STYLE)):
        for selector, values in rules(re.sub(r"@media print \{(?:[^{}]*\{[^{}]*\})*\s*\}", "", style)):
            for size in re.findall(r"([\d.]+)px", " ".join(values.get(key, "") for key in ("font", "font-size"))):
                found[f"{name} {selector}"] = float(size)
    assert {"paper body", "paper h1"} <= set(found) and min(found.values()) >= 20, found
    wide, high = re.findall(r"font-size: clamp\(16px, min\(([\d.]+)vw, ([\d.]+)vh\)", STAGE)[0]
    assert min(12.80 * float(wide), 7.20 * float(high)) >= 20  # one rem on the smallest projector, in pixels
    rems = [float(size) for size in re.findall(r"font(?:-size)?:[^;]*?([\d.]+)rem", STAGE)]
    assert len(rems) >= 10 and min(rems) >= 1
    stage, day, night = (
        dict(re.findall(r"--(\w+): (#\w+)", rule))
        for style in (STAGE, PHONE)
        for rule in re.findall(r":root \{([^}]*)\}", style)
    )
    bars = re.findall(r"\.tally b \{[^}]*background: (#\w+)", STAGE)  # numbers stand on them
    pairs = [(stage["ink"], bar) for bar in bars] + [one[1:] for one in text_colours(STAGE, stage)]
    assert bars and [pair for pair in pairs if contrast(*pair) < 4.5] == []
    text, shapes = "ink-paper soft-paper soft-wash", "edge-paper edge-wash mark-paper dot-wash"
    for theme, words, least in (
        (stage, "ink-paper ink-wash soft-paper dot-paper mark-paper", 4.5),
        (stage, "edge-paper edge-wash", 3),
        *((phone, *check) for phone in (day, night) for check in ((text, 4.5), (shapes, 3))),
    ):
        pairs = [tuple(theme[name] for name in word.split("-")) for word in words.split()]
        assert [pair for pair in pairs if contrast(*pair) < least] == []
    assert day.keys() == night.keys() and "prefers-reduced-motion" in STAGE


def test_everything_works_without_a_mouse() -> None:
    keys = ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "role", "aria-", "tabIndex = 0")
    assert [key for key in keys if key not in WIDGETS["pad.js"]] == [] and "aria-label" in WIDGETS["screen.js"]
    scripts = "".join(text for name, text in WIDGETS.items() if name.endswith(".js"))
    assert not re.search(r"onclick|addEventListener\(\s*[\"'](?:dblclick|mouseover|mouseenter)", scripts)
    for style in (WIDGETS["explorer.css"], STAGE, PHONE):  # where the keyboard is stays marked
        assert ":focus" in style and "outline: none" not in style and "outline: 0" not in style
