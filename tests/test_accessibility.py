"""For everybody: colours that stay apart, contrast, size, the keyboard. Pictures and headings: test_notebooks.py."""

import ast
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np

from devilgan_lite.challenge import board
from devilgan_lite.classroom import PALETTE
from devilgan_lite.cli import stage_page
from devilgan_lite.intake import page
from devilgan_lite.runs import pages, study_report

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "devilgan_lite"
WIDGETS = {path.name: path.read_text(encoding="utf-8") for path in (PACKAGE / "classroom/widgets").glob("*.*s")}

# Machado, Oliveira and Fernandes, IEEE TVCG 2009: full loss of one kind of cone, on linear RGB
BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "all cones": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
}
APART = 15  # least distance in CIELAB between two colours of lines: six times what is just noticeable
WORDS = {"black": "#000000", "white": "#ffffff"}


def linear(colour: str) -> np.ndarray:
    """Linear RGB in [0, 1] of ``#rgb``, ``#rrggbb`` or a word."""
    digits = WORDS.get(colour, colour).lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    values = np.array([int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of linear RGB."""
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = to_xyz @ rgb / (to_xyz @ np.ones(3))
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def least_distance(colours: tuple[str, ...], kind: str) -> float:
    """The least CIELAB distance between two of ``colours`` as somebody with ``kind`` sees them."""
    seen = [lab(np.clip(np.array(BLIND[kind]) @ linear(colour), 0, 1)) for colour in colours]
    return min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG, from 1 to 21."""
    lights = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour)) for colour in (one, other))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def colour_in(value: str) -> str | None:
    """The colour that a CSS value names, the fallback of a variable included; None if it names none."""
    found = re.search(r"#(?:[0-9a-f]{6}|[0-9a-f]{3})\b|\b(?:black|white)\b", value, re.I)
    return found[0].lower() if found else None


def text_colours(style: str) -> Iterator[tuple[str, str, str]]:
    """Selector, text colour and background (white if the rule has none) of every rule that colours text."""
    for selector, rule in re.findall(r"([^{}]+)\{([^{}]*)\}", re.sub(r"/\*.*?\*/", "", style, flags=re.S)):
        values = {key.strip(): value for key, _, value in (part.partition(":") for part in rule.split(";"))}
        colour = colour_in(values.get("color", ""))
        background = colour_in(values.get("background-color", values.get("background", "")))
        if colour:
            yield selector.strip(), colour, background or "#fff"


INLINE = re.findall(r'style="([^"]*)"', (PACKAGE / "runs/study_report.py").read_text(encoding="utf-8"))
STYLES = {
    **{name: text for name, text in WIDGETS.items() if name.endswith(".css")},
    "stage": stage_page.STYLE,
    "scoreboard": board.STYLE,
    "run pages": pages.STYLE,
    "study report": pages.STYLE + "".join(f"inline {{{rule}}}" for rule in INLINE),
    "scan report": page.STYLE,
}
WRITING = ("text", "annotate", "suptitle", "set_title", "set_xlabel", "set_ylabel")


def colours_of_writing(source: str) -> list[str]:
    """The colours that a notebook's own figures give to text; what is no constant is read as it stands."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    written = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in WRITING]
    named = [keyword.value for call in written for keyword in call.keywords if keyword.arg in ("color", "c")]
    return [str(eval(ast.unparse(value), {"PALETTE": PALETTE})) for value in named]


def test_the_checks_can_fail() -> None:
    pair = ("#802000", "#206000")
    assert least_distance(pair, "all cones") >= APART > least_distance(pair, "deuteranopia")
    assert colours_of_writing('ax.text(0, 0, "x", color=PALETTE[1])') == [PALETTE[1]]
    assert contrast(PALETTE[1], "white") < 4.5 < contrast(PALETTE[0], "white")
    assert round(contrast("#000", "#fff")) == 21 and contrast("#777", "#fff") < 4.5 < contrast("#767676", "#fff")
    assert list(text_colours("a { color: var(--x, #999); background: #eee }")) == [("a", "#999", "#eee")]


def test_colours_stay_apart_and_text_can_be_read() -> None:
    for kind in BLIND:
        assert least_distance(PALETTE, kind) >= APART and least_distance(study_report.COLOURS, kind) >= APART
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


def test_text_on_paper_and_scoreboard_has_twenty_pixels() -> None:
    found = {}
    for name, style in (("paper", stage_page.STYLE), ("scoreboard", board.STYLE)):
        on_screen = re.sub(r"@media print \{(?:[^{}]*\{[^{}]*\})*\s*\}", "", style)
        for selector, rule in re.findall(r"([^{}]+)\{([^{}]*)\}", on_screen):
            sizes = re.findall(r"font(?:-size)?:[^;]*?(\d+(?:\.\d+)?)px", rule)
            found |= {f"{name} {selector.strip()}": float(size) for size in sizes}
    assert {"paper body", "paper h1"} <= set(found) and min(found.values()) >= 20, found


FOCUS = ("outline: none", "outline: 0")  # what takes the mark of the keyboard away


def test_the_stage_can_be_read_from_the_last_row() -> None:
    style = (PACKAGE / "phone/stage.css").read_text(encoding="utf-8")
    wide, high = re.findall(r"font-size: clamp\(16px, min\(([\d.]+)vw, ([\d.]+)vh\)", style)[0]
    assert min(12.80 * float(wide), 7.20 * float(high)) >= 20  # one rem on the smallest projector, in pixels
    rems = [float(size) for size in re.findall(r"font(?:-size)?:[^;]*?([\d.]+)rem", style)]
    assert len(rems) >= 10 and min(rems) >= 1
    theme = dict(re.findall(r"--(\w+): (#\w+)", re.findall(r":root \{([^}]*)\}", style)[0]))
    for rule in re.findall(r"[^{}]+\{([^{}]*)\}", style):  # the text of each rule on the ground of the same rule
        values = [re.search(rf"(?:^|[; ]){name}: ([^;]+)", rule) for name in ("color", "background")]
        if all(values):
            text, ground = (re.sub(r"var\(--(\w+)\)", lambda name: theme[name[1]], one[1]) for one in values if one)
            assert contrast(text, ground) >= 4.5, rule
    for text, ground in (("ink", "paper"), ("ink", "wash"), ("soft", "paper"), ("dot", "paper"), ("mark", "paper")):
        assert contrast(theme[text], theme[ground]) >= 4.5
    for bar in re.findall(r"\.tally b \{[^}]*background: (#\w+)", style):  # numbers stand on the bars
        assert contrast(theme["ink"], bar) >= 4.5
    assert contrast(theme["edge"], theme["paper"]) >= 3 and contrast(theme["edge"], theme["wash"]) >= 3
    assert ":focus-visible" in style and not any(one in style for one in FOCUS)
    assert "prefers-reduced-motion" in style


def test_the_page_for_phones_can_be_read_by_day_and_by_night() -> None:
    style = (PACKAGE / "phone/page.css").read_text(encoding="utf-8")
    themes = [dict(re.findall(r"--(\w+): (#\w+)", rule)) for rule in re.findall(r":root \{([^}]*)\}", style)]
    assert len(themes) == 2 and themes[0].keys() == themes[1].keys()
    text = [("ink", "paper"), ("soft", "paper"), ("soft", "wash")]  # a button has ink and paper the other way round
    shapes = [("edge", "paper"), ("edge", "wash"), ("mark", "paper"), ("dot", "wash")]
    for theme in themes:
        for pairs, least in ((text, 4.5), (shapes, 3)):
            assert [pair for pair in pairs if contrast(*(theme[name] for name in pair)) < least] == []
    assert ":focus-visible" in style and not any(one in style for one in FOCUS)


def test_widgets_work_without_a_mouse() -> None:
    keys = ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "role", "aria-")
    assert [key for key in keys if key not in WIDGETS["pad.js"]] == []
    assert re.search(r"tabIndex\s*=\s*0|tabindex", WIDGETS["pad.js"])
    style, scripts = WIDGETS["explorer.css"], "".join(text for name, text in WIDGETS.items() if name.endswith(".js"))
    assert style.count(":focus") >= 3 and not any(one in style for one in FOCUS)
    assert re.search(r"aria-label|role|alt", WIDGETS["screen.js"])
    assert not re.search(r"onclick|addEventListener\(\s*[\"'](?:dblclick|mouseover|mouseenter)", scripts)
