"""Pages of finished runs: each executed notebook as HTML, and one index of them with the key numbers."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devilgan_lite.runs.run import Result, read_notebook

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; padding: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .4rem .7rem; border-bottom: 1px solid #bbb; }
td.together { white-space: nowrap; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.failed { font-weight: bold; color: #a33200; }
"""


def to_html(notebook: str | Path) -> Path:
    """Write the executed ``notebook`` (``.ipynb``) as HTML beside it, pictures inside; return the page's path."""
    from nbconvert.exporters import HTMLExporter

    path = Path(notebook)
    document = read_notebook(path)
    for output in (output for cell in document.cells for output in cell.get("outputs", [])):
        alt = output.get("metadata", {}).get("image/png", {}).get("alt")
        if alt:  # nbconvert's own template drops it
            source = output.data.pop("image/png").replace("\n", "")
            output.data["text/html"] = f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{source}">'
    exporter = HTMLExporter(embed_images=True, require_js_url="", mathjax_url="", jquery_url="")
    body, _ = exporter.from_notebook_node(document, {"metadata": {"name": path.stem}})
    page = path.with_suffix(".html")
    page.write_text(body, encoding="utf-8")
    return page


def index_page(results: Sequence[Result], path: str | Path, *, table: str = "") -> Path:
    """Write one self-contained page that lists ``results`` with links, seconds, status and numbers; return its path.

    Each executed notebook gets its HTML beside it first, unless it has one already. ``path`` is the page, or a folder
    for its ``index.html``; ``table`` is HTML to show above the list (``table_html``).
    """
    page = Path(path)
    if page.suffix != ".html":
        page = page / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    rows = "\n".join(_row(result, page.parent) for result in results)
    good, seconds = sum(result.ok for result in results), sum(result.seconds for result in results)
    text = f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>devilgan_lite: notebook runs</title><style>{STYLE}</style></head>
<body><main><h1>Notebook runs</h1>
{table}
<table><caption>{good} of {len(results)} notebooks ran to the end, {seconds:.0f} s together.</caption>
<thead><tr><th scope="col">notebook</th><th scope="col">status</th><th scope="col">seconds</th>
<th scope="col">peak memory, MB</th><th scope="col">numbers</th></tr></thead>
<tbody>
{rows}
</tbody></table></main></body></html>
"""
    page.write_text(text, encoding="utf-8")
    return page


def _row(result: Result, folder: Path) -> str:
    name = html.escape(result.notebook)
    if result.path.is_file():
        document = result.path.with_suffix(".html")
        if not document.is_file():
            document = to_html(result.path)
        link = Path(os.path.relpath(document.resolve(), folder.resolve())).as_posix()
        name = f'<a href="{html.escape(link)}">{name}</a>'
    reason = html.escape(result.error or "")
    status = "<td>finished</td>" if result.ok else f'<td class="failed">failed: {reason}</td>'
    memory = "" if result.peak_memory_mb is None else f"{result.peak_memory_mb:.0f}"
    numbers = "<br>".join(f"{html.escape(key)}: {html.escape(_short(value))}" for key, value in result.numbers.items())
    return (
        f'<tr><th scope="row">{name}</th>{status}<td class="number">{result.seconds:.1f}</td>'
        f'<td class="number">{memory}</td><td>{numbers}</td></tr>'
    )


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
