"""The report as HTML: a fragment for a notebook cell, and a page that a person shows to their boss, on screen or A4.

The report is plain data that a jailed process made, so every word in it may be an attacker's. The templates put each
value through one of the filters below: text is escaped, a number must be a number, a picture must be a PNG. No script,
no link, nothing is loaded.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from devilgan_lite.report.plots import gauge, plot, strength_words
from devilgan_lite.report.safe import figures, image, mapping, number, sequence, text
from devilgan_lite.report.verdict import verdict_of
from devilgan_lite.version import __version__

FOLDER = Path(__file__).parent
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
KINDS = {"spectrum": "In the weights", "construction": "In the construction", "twin": "In a twin's behaviour"}
READS = {"T0": "samples", "T1": "suspected targets", "T2": "weights", "T3": "a clean model", "T4": "real data"}
UNITS = ("bytes", "KiB", "MiB", "GiB")
WALLS = {  # what each wall of the jail means
    "network": "no network",
    "processes": "no other programs",
    "reading": "no file but this one and the libraries",
    "writing": "nothing written outside a scratch folder",
    "memory": "bounded memory",
    "cpu": "bounded time",
    "files": "bounded files",
    "privileges": "no privileges",
    "signals": "no sight of other processes",
}


def page(report: dict[str, Any]) -> str:
    """One self-contained HTML page about ``report`` (format 2); no known verdict in it is a ``ValueError``."""
    return _filled("page.html", report)


def fragment(report: dict[str, Any]) -> str:
    """The report for a cell of a notebook: everything that the scan itself found, without page and file."""
    return _filled("fragment.html", report)


def _filled(template: str, report: dict[str, Any]) -> str:
    made_by = f"devilgan_lite {__version__}"
    known = {"report": report, "verdict": verdict_of(report), "policy": POLICY, "made_by": made_by, "style": style()}
    return str(_templates().get_template(template).render(known))


@lru_cache(maxsize=1)
def style() -> str:
    """The style sheet, with colours for light and dark."""
    return (FOLDER / "report.css").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _templates() -> Any:
    from jinja2 import Environment, FileSystemLoader  # only a report as HTML needs it

    templates = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True)
    templates.filters |= {
        "text": lambda value, most=600: Markup(text(value, most)),
        "image": lambda source, alt: Markup(image(source, alt)),
        "plot": lambda numbers, evidence: Markup(plot(numbers, evidence)),
        "gauge": lambda strength: Markup(gauge(strength)),
        "number": number,
        "figures": figures,
        "mapping": mapping,
        "sequence": sequence,
        "entries": lambda pairs, most: list(pairs.items())[:most],
        "thousands": lambda value: "" if value is None else f"{value:,.0f}",
        "badge": badge,
        "evidence": evidence,
        "reads": lambda level: READS.get(level, ""),
        "wall": lambda name: Markup(text(WALLS.get(str(name), name), 80)),
        "size": size,
        "shape": shape,
        "digest": digest,
    }
    return templates


def badge(finding: dict[str, Any]) -> tuple[str, str]:
    """A class and some words: what has come of a detector."""
    strength = number(finding.get("strength"), 0)
    if finding.get("ran") is False:
        return "quiet", "could not run"
    if finding.get("open") is True:
        return "quiet", "no answer"
    if not text(finding.get("evidence")) or strength is None:
        return "quiet", "no say in the verdict"
    return ("found", "evidence") if strength >= 1 else ("quiet", "below the limit")


def evidence(report: dict[str, Any]) -> list[tuple[str, bool, str]]:
    """Each kind of evidence: its name in words, whether it counts, and how strong it is."""
    given = {str(kind): number(value, 0) for kind, value in list(mapping(report.get("evidence")).items())[:40]}
    strengths = {**dict.fromkeys(KINDS), **given}
    names = {kind: Markup(KINDS.get(kind) or text(kind, 40)) for kind in strengths}
    return [(names[kind], (value or 0) >= 1, strength_words(value)) for kind, value in strengths.items()]


def digest(value: object) -> str:
    """A SHA-256 as code; empty if it is none."""
    known = isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)
    return Markup(f"<code>{value}</code>") if known else ""


def shape(value: object) -> str:
    """Sizes with a cross between them; empty if one of them is none."""
    sizes = [number(one, 1, 1e9) for one in sequence(value, 8)]
    return "" if None in sizes else " \N{MULTIPLICATION SIGN} ".join(f"{one:.0f}" for one in sizes)


def size(count: object) -> str:
    """A number of bytes for people; empty if it is none."""
    value, unit = number(count, 0), 0
    if value is None:
        return ""
    while value >= 1_024 and unit < len(UNITS) - 1:
        value, unit = value / 1_024, unit + 1
    return f"{value:.0f} {UNITS[unit]}" if unit == 0 else f"{value:.1f} {UNITS[unit]}"
