"""The page that a person shows to their boss: one file, for the screen and for A4, made in the parent process.

The report is plain data from the jailed child. See ``markup`` for how it is kept from becoming anything but text.
"""

import re
from collections.abc import Iterable
from typing import Any

from devilgan_lite import markup
from devilgan_lite.markup import figures, image, mapping, number, sequence, text
from devilgan_lite.version import __version__

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
STYLE = (
    markup.STYLE
    + """
html { color-scheme: light dark; }
body { margin: 0; background: #fff; }
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
.dl-scan h1 { font-size: 2rem; line-height: 1.15; letter-spacing: -.02em; margin: 0 0 1.5rem; }
.brand { letter-spacing: .02em; }
.dl-scan .brand { margin: 0 0 .35rem; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 13rem), 1fr)); gap: 1rem 1.25rem;
  margin: 2rem 0; }
.facts dt { font-size: .875rem; color: var(--soft); }
.facts dd { margin: 0; }
@media (max-width: 34rem) { dl.facts { grid-template-columns: 1fr 1fr; } }
.facts .wide { grid-column: 1 / -1; }
.dl-scan code, .dl-scan pre { font: .875rem/1.5 ui-monospace, monospace; }
.dl-scan pre { margin: 0; padding: 1rem 1.25rem; border-radius: .5rem; background: var(--wash); white-space: pre-wrap; }
.sheet { max-width: 44rem; }
footer { margin-top: 3.5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
@media screen and (prefers-color-scheme: dark) { body { background: #171614; } }
@page { size: A4; margin: 14mm; }
@media print {
  main { max-width: none; padding: 0; }
  .dl-scan { font-size: 10.5pt; }
  .dl-scan h2 { margin-top: 1.75rem; break-after: avoid; }
  .dl-scan figure, .dl-scan tr, dl.facts div { break-inside: avoid; }
  .dl-pair { grid-template-columns: 2fr 2fr 1fr; max-width: 15cm; }
  .dl-cards > li { grid-template-columns: 4.5cm 1fr 5cm; gap: .5rem 1rem; padding: .75rem 0; }
  .dl-tiles { grid-template-columns: repeat(4, 1fr); }
  .dl-scan th, .dl-scan td { padding-right: .6rem; }
  .dl-scan th.number, .dl-scan .together { white-space: normal; }
  .dl-scroll { overflow: visible; }
  .sheet { max-width: 12cm; }
  .dl-scan * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
)
UNITS = ("bytes", "KiB", "MiB", "GiB")
REFUSED = (
    "The file was not scanned to the end, so nothing is known of what it may hide. That is neither clean nor a "
    "reproach: the sentence above says what went wrong."
)
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
CLOSED = "The file was read as data, in a process of its own that may do little."
OPEN = (
    "The file was read as data, but without a jail: in the process that asked for it. Do that with your own files only."
)
LIMITS = {
    "wall_seconds": "Seconds on the clock",
    "cpu_seconds": "Seconds of a processor",
    "memory_bytes": "Memory",
    "file_bytes": "A file that it writes",
    "answer_bytes": "Its answer",
    "processes": "Processes and threads",
}


def page(report: dict[str, Any]) -> str:
    """One self-contained HTML page about ``report`` (format 1); no known verdict in it is a ``ValueError``."""
    verdict, file = markup.verdict_of(report), mapping(report.get("file"))
    name = text(file.get("name"), 120) or "a generator"
    sections = [
        f'<p class="brand soft">devilgan_lite: is there a backdoor in this generator?</p><h1>{name}</h1>',
        markup.band(report),
        "" if verdict == "refused" else markup.tiles(report),
        _facts(report),
        _section("The evidence you can look at", markup.pair(report)),
        _section("Ordinary samples", _sheet(report)),
        "" if verdict == "refused" else _section("What each detector saw", markup.cards(report)),
        _section("What this means", f"<p>{REFUSED}</p>") if verdict == "refused" else "",
        _section("What was not tried", markup.sentences(report.get("not_tried"))),
        _section("How the file was opened", _jail(report) or ("" if verdict == "refused" else f"<p>{OPEN}</p>")),
        "" if verdict == "refused" else _section("The numbers", markup.table(report)),
        _section("Reproduce it", _command(report)),
    ]
    made_by = text(report.get("tool"), 80) or f"devilgan_lite {__version__}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{verdict}: {name}</title><style>{STYLE}</style></head>\n"
        f'<body class="dl-scan"><main>{"".join(sections)}\n'
        f'<footer class="soft">Made by {made_by}. A scan is no proof: read what was not tried.</footer>'
        "</main></body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"\n<section><h2>{title}</h2>{content}</section>" if content else ""


def _list(rows: Iterable[tuple[str, str, bool]]) -> str:
    """A description list of name, HTML, and whether it needs the whole width; rows without a value are left out."""
    inside = "".join(
        f'<div class="{"wide" if wide else "one"}"><dt>{name}</dt><dd>{value}</dd></div>'
        for name, value, wide in rows
        if value
    )
    return f'<dl class="facts">{inside}</dl>' if inside else ""


def _facts(report: dict[str, Any]) -> str:
    """The file and the network in it."""
    file, model = mapping(report.get("file")), mapping(report.get("model"))
    digest = file.get("sha256")
    known = isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)
    weights, prior = number(model.get("weights"), 0), text(model.get("prior"), 40)
    latent, sample = (_shape(model.get(name)) for name in ("latent_shape", "sample_shape"))
    notes = [said for one in sequence(model.get("notes"), 12) if (said := text(one, 200))]
    return _list(
        [
            ("Format", text(file.get("format"), 40), False),
            ("Size", size(file.get("bytes")), False),
            ("Architecture", text(model.get("architecture"), 80), False),
            ("Weights", "" if weights is None else f"{weights:,.0f}", False),
            ("Latent", ", ".join(filter(None, (latent, prior))), False),
            ("One sample", sample, False),
            ("SHA-256", f"<code>{digest}</code>" if known else "", True),
            ("Notes", "; ".join(notes), True),
        ]
    )


def _sheet(report: dict[str, Any]) -> str:
    sheet = image(mapping(report.get("pictures")).get("samples"), "ordinary samples of the generator")
    caption = "What the generator makes of random inputs, none of them chosen. A backdoor does not show here."
    return f'<figure class="sheet">{sheet}<figcaption>{caption}</figcaption></figure>' if sheet else ""


def _jail(report: dict[str, Any]) -> str:
    """The walls around the process that read the file, which of them stood, and what it used."""
    jail = mapping(report.get("jail"))
    walls = list(mapping(jail.get("walls")).items())[:24]
    limits = mapping(jail.get("limits"))
    stood = [text(WALLS.get(str(name), name), 80) for name, state in walls if state == "stood"]
    all_stood = f"<p>These walls stood: {', '.join(stood)}.</p>" if stood else ""
    rows = "".join(
        f'<tr><th scope="row">{text(WALLS.get(str(name), name), 80)}</th><td>{text(state, 200)}</td></tr>'
        for name, state in walls
        if text(name) and text(state) and state != "stood"
    )
    said = f"<p>{text(jail.get('sentence'))}</p>" if text(jail.get("sentence")) else ""
    head = '<thead><tr><th scope="col">wall that did not stand</th><th scope="col">why</th></tr></thead>'
    seconds = number(jail.get("seconds"), 0)
    used = [
        ("It ended", text(jail.get("how"), 40), False),
        ("Time", "" if seconds is None else f"{figures(seconds)} s", False),
        ("Most memory", size(jail.get("peak_bytes")), False),
    ]
    allowed = [(f"{words}, at most", _limit(name, limits.get(name)), False) for name, words in LIMITS.items()]
    walls_table = markup.scrolling("walls", f"{head}<tbody>{rows}</tbody>") if rows else ""
    return f"<p>{CLOSED}</p>{said}{all_stood}{walls_table}{_list([*used, *allowed])}" if jail else ""


def _command(report: dict[str, Any]) -> str:
    command = text(report.get("command"), 1_000)
    return f"<pre><code>{command}</code></pre>" if command else ""


def _limit(name: str, value: object) -> str:
    found = number(value, 0)
    return size(value) if name.endswith("bytes") else "" if found is None else f"{found:,.0f}"


def _shape(value: object) -> str:
    """Sizes with a cross between them; empty if one of them is none."""
    sizes = [number(one, 1, 1e9) for one in sequence(value, 8)]
    return " &times; ".join(f"{one:.0f}" for one in sizes if one is not None) if None not in sizes else ""


def size(count: object) -> str:
    """A number of bytes for people; empty if it is none."""
    found, unit = number(count, 0), 0
    if found is None:
        return ""
    while found >= 1_024 and unit < len(UNITS) - 1:
        found, unit = found / 1_024, unit + 1
    return f"{found:.0f} {UNITS[unit]}" if unit == 0 else f"{found:.1f} {UNITS[unit]}"
