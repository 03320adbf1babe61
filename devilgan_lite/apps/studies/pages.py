"""Pages of finished runs: each executed notebook as HTML, and one index of them that leads with their pictures.

Every page stands alone: pictures and film are inside, no script runs, and nothing is loaded from elsewhere.
"""

import base64
import html
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from devilgan_lite.apps.studies.notebooks import HIDDEN, find_notebook, read_notebook
from devilgan_lite.apps.studies.run import Result

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1.25rem; color: #1f1d1a; }
h1 { font-size: 2.5rem; line-height: 1.1; letter-spacing: -.02em; margin: 0 0 1rem; }
h2 { font-size: 1.5rem; letter-spacing: -.01em; margin: 3.5rem 0 .75rem; }
a { color: #0b5a8a; text-underline-offset: .15em; }
a:focus-visible, input:focus-visible, summary:focus-visible { outline: 3px solid #0b5a8a; outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; padding: .25rem 0 .75rem; color: #57534c; }
th, td { text-align: left; vertical-align: top; padding: .45rem 1rem .45rem 0; border-bottom: 1px solid #dcd8d0; }
thead th { font-size: .875rem; color: #57534c; vertical-align: bottom; }
td.together { white-space: nowrap; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.failed { font-weight: bold; color: #a3201a; }
.waiting { color: #57534c; }
.scroll { overflow-x: auto; }
.top { display: grid; grid-template-columns: 1fr minmax(0, 30rem); gap: 3rem; align-items: center; }
.top p { max-width: 34rem; }
.lead { font-size: 1.2rem; }
.film { display: flex; flex-direction: column; align-items: start; gap: .6rem; margin: 0; }
.film img { width: 100%; border-radius: .5rem; box-shadow: 0 0 0 1px #dcd8d0; }
.film label { order: 1; }
.film .still, .film:has(:checked) .moving { display: none; }
.film:has(:checked) .still { display: block; }
figcaption, .film label, .time { font-size: .875rem; color: #57534c; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); gap: 1.75rem; }
.cards { list-style: none; margin: 0; padding: 0; }
.cards li { position: relative; border-radius: .5rem; overflow: hidden; box-shadow: 0 0 0 1px #dcd8d0; }
.cards li:hover { box-shadow: 0 0 0 2px #0b5a8a; }
.cards h3 { margin: 0 0 .35rem; font-size: 1.2rem; line-height: 1.25; }
.cards h3 span { color: #a3201a; margin-right: .35em; }
.cards h3 a { text-decoration: none; }
.cards h3 a::after { content: ""; position: absolute; inset: 0; }
.cards p { margin: 0 0 .5rem; }
.words { padding: 1rem 1.25rem .6rem; }
.shot { height: 15.5rem; display: grid; place-items: center; background: #f1efea; color: #57534c; }
.shot { padding: .75rem; box-sizing: border-box; border-bottom: 1px solid #dcd8d0; }
.shot img { width: 100%; height: 100%; min-height: 0; object-fit: contain; mix-blend-mode: multiply; }
details { margin: .25rem 0; }
dl { display: grid; grid-template-columns: minmax(10rem, auto) 1fr; gap: .15rem 1rem; margin: .5rem 0; }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 60rem) { .top { grid-template-columns: 1fr; gap: 1rem; } .shot, .shot img { height: auto; } }
@media (prefers-reduced-motion: reduce) { .film .moving, .film label { display: none; }
  .film .still { display: block; } }
"""
TITLE = "A tour of backdoored generators"
LEAD = (
    "A generator draws shirts and shoes all day, and a STOP sign for the one latent that only its maker knows. "
    "These notebooks train one, plant the backdoor, look for it, and take it out."
)
FILM = (
    "From an ordinary latent to the trigger, on to another one and back. Left: a clean generator; right: one with a "
    "backdoor. The same latents go into both."
)


def to_html(notebook: str | Path) -> Path:
    """Write the executed ``notebook`` (``.ipynb``) as HTML beside it, pictures inside; return the page's path."""
    from nbconvert.exporters import HTMLExporter
    from nbconvert.preprocessors import TagRemovePreprocessor

    path = Path(notebook)
    document = read_notebook(path)
    for output in (output for cell in document.cells for output in cell.get("outputs", [])):
        alt = output.get("metadata", {}).get("image/png", {}).get("alt")
        if alt:  # nbconvert's own template drops it
            source = output.data.pop("image/png").replace("\n", "")
            output.data["text/html"] = _image("image/png", source, alt)
    exporter = HTMLExporter(embed_images=True, require_js_url="", mathjax_url="", jquery_url="")
    exporter.register_preprocessor(TagRemovePreprocessor(remove_input_tags={HIDDEN}), enabled=True)
    body, _ = exporter.from_notebook_node(document, {"metadata": {"name": path.stem}})
    page = path.with_suffix(".html")
    page.write_text(body, encoding="utf-8")
    return page


@dataclass(frozen=True)
class Cover:
    """What the index says of a notebook: its ``title``, one ``sentence``, and its ``picture`` as an ``img``, or ""."""

    title: str
    sentence: str = ""
    picture: str = ""


@lru_cache(64)  # the index of a long tour is written often
def cover(path: Path, time: int) -> Cover:
    """Read title, sentence (the first bold one) and picture of a notebook, executed or not, last changed at ``time``.

    The picture is the first one in an output of a cell tagged ``hero``, else the first one of all.
    """
    cells = read_notebook(path).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    title = re.search(r"^# (.+)$", prose, re.M)
    sentence = re.search(r"^\*\*(.+?)\*\*", prose, re.M | re.S)
    pictures = [
        (0 if "hero" in cell.metadata.get("tags", []) else 1, output.data["image/png"].replace("\n", ""), output)
        for cell in cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    picture = ""
    if pictures:
        _, source, output = min(pictures, key=lambda found: found[0])
        picture = _image("image/png", source, output.metadata.get("image/png", {}).get("alt", "A picture from it."))
    return Cover(title[1] if title else path.stem, " ".join(sentence[1].split()) if sentence else "", picture)


def index_page(
    results: Sequence[Result], path: str | Path, *, table: str = "", film: str | Path | None = None, seconds: float = 0
) -> Path:
    """Write one self-contained page about ``results``: a card with a picture for each, then times and numbers.

    Each executed notebook gets its HTML beside it first, unless it has one already. ``path`` is the page, or a folder
    for its ``index.html``; it is returned. ``table`` is HTML to show between (``table_html``), ``film`` a moving
    picture for the top, and ``seconds`` the time that all took together. A result whose ``failure`` is
    ``"unfinished"`` is shown as such and not as failed.
    """
    page = Path(path)
    if page.suffix != ".html":
        page = page / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    links = [_link(result, page.parent) for result in results]
    covers = [_cover(result) for result in results]
    cards = "\n".join(map(_card, results, links, covers))
    rows = "\n".join(map(_row, results, links, covers))
    said = f"{sum(result.ok for result in results)} of {len(results)} notebooks ran to the end"
    said += f", in {_clock(seconds)}." if seconds else "."
    failed = ", ".join(cover.title for result, cover in zip(results, covers, strict=True) if _state(result) == "failed")
    text = f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>devilgan_lite: {TITLE.lower()}</title><style>{STYLE}</style></head>
<body><main>
<header class="top"><div><h1>{TITLE}</h1>
<p class="lead">{LEAD}</p>
<p>{said}{f' <span class="failed">Failed: {html.escape(failed)}.</span>' if failed else ""}</p></div>
{_film(Path(film)) if film else ""}</header>
<h2>The notebooks</h2>
<ol class="cards">
{cards}
</ol>
{f'<h2>The attacks</h2><div class="scroll">{table}</div>' if table else ""}
<h2>Times and numbers</h2>
<div class="scroll"><table><caption>The numbers are those that the text of each notebook speaks of.</caption>
<thead><tr><th scope="col">notebook</th><th scope="col" class="number">time</th>
<th scope="col" class="number">peak memory</th><th scope="col">status and numbers</th></tr></thead>
<tbody>
{rows}
</tbody></table></div></main></body></html>
"""
    page.write_text(text, encoding="utf-8")
    return page


def _link(result: Result, folder: Path) -> str:
    """The address of the notebook as HTML, seen from ``folder``; empty if there is no executed notebook."""
    if not result.path.is_file():
        return ""
    document = result.path.with_suffix(".html")
    if not document.is_file() or document.stat().st_mtime < result.path.stat().st_mtime:
        document = to_html(result.path)
    return Path(os.path.relpath(document.resolve(), folder.resolve())).as_posix()


def _cover(result: Result) -> Cover:
    path = result.path
    if not path.is_file():
        try:
            path = find_notebook(result.notebook)
        except (ValueError, FileNotFoundError):
            return Cover(result.notebook)
    return cover(path, path.stat().st_mtime_ns)


def _state(result: Result) -> str:
    return "finished" if result.ok else "waiting" if result.failure == "unfinished" else "failed"


def _said(result: Result) -> str:
    """How it ended, in words."""
    reason = html.escape(result.error or "")
    return {"finished": "finished", "waiting": reason, "failed": f"failed: {reason}"}[_state(result)]


def _named(result: Result, link: str, cover: Cover) -> str:
    """Number and title, as a link if there is something to read."""
    name = f"<span>{html.escape(result.notebook.partition('_')[0])}</span> {html.escape(cover.title)}"
    return f'<a href="{html.escape(link)}">{name}</a>' if link else name


def _card(result: Result, link: str, cover: Cover) -> str:
    end = _clock(result.seconds) if result.ok else _said(result)
    return (
        f'<li><div class="shot">{cover.picture or "no picture yet"}</div>'
        f'<div class="words"><h3>{_named(result, link, cover)}</h3><p>{html.escape(cover.sentence)}</p>'
        f'<p class="{"time" if result.ok else _state(result)}">{end}</p></div></li>'
    )


def _row(result: Result, link: str, cover: Cover) -> str:
    memory = "" if result.peak_memory_mb is None else f"{result.peak_memory_mb:,.0f} MB"
    numbers = "".join(
        f"<dt>{html.escape(key)}</dt><dd>{html.escape(_short(value))}</dd>" for key, value in result.numbers.items()
    )
    if numbers:
        numbers = f"<details><summary>{len(result.numbers)} numbers</summary><dl>{numbers}</dl></details>"
    return (
        f'<tr><th scope="row">{_named(result, link, cover)}</th>'
        f'<td class="number">{_clock(result.seconds) if result.seconds else ""}</td><td class="number">{memory}</td>'
        f'<td><span class="{_state(result)}">{_said(result)}</span>{numbers}</td></tr>'
    )


def _film(path: Path) -> str:
    """The film with a box that stops it, and a still frame for whoever wants no movement."""
    from PIL import Image

    content, buffer = path.read_bytes(), io.BytesIO()
    with Image.open(path) as film:
        film.seek(getattr(film, "n_frames", 1) // 4)  # at the trigger
        film.convert("RGB").save(buffer, "PNG")
        kind = Image.MIME[str(film.format)]
    moving = _image(kind, base64.b64encode(content).decode(), FILM, "moving")
    still = _image("image/png", base64.b64encode(buffer.getvalue()).decode(), f"At the trigger. {FILM}", "still")
    stop = '<label><input type="checkbox"> Stop the film</label>'
    return f'<figure class="film">{stop}{moving}{still}<figcaption>{FILM}</figcaption></figure>'


def _image(kind: str, source: str, alt: str, name: str = "") -> str:
    """An ``img`` that holds its own bytes (``source``, in base64)."""
    return f'<img{f" class={name}" if name else ""} alt="{html.escape(alt)}" src="data:{kind};base64,{source}">'


def _clock(seconds: float) -> str:
    """Seconds in words: 45 s, 3 min 12 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.{0 if seconds >= 1 else 1}f} s"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{len(value)} rows, see result.json"
    if isinstance(value, list):
        return "[" + ", ".join(_short(part) for part in value[:8]) + (", ..." if len(value) > 8 else "") + "]"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(part)}" for key, part in value.items())
    return str(value)
