"""The scoreboard as one page for a projector: large dark letters on white, pictures included, no script, no links."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devilgan_lite.apps.game.kit import Kit
from devilgan_lite.apps.game.scoring import Answer, Scores
from devilgan_lite.data import IMAGES
from devilgan_lite.data.modality import image_element, png
from devilgan_lite.generators import evaluate

# contrast on white: text 17:1, grey 7:1, red and green at least 7:1; words repeat what colours say
STYLE = """
body { font: 28px/1.35 system-ui, "Segoe UI", sans-serif; margin: 0; padding: 1.2rem 3vw; color: #1a1a1a;
  background: #ffffff; }
h1 { font-size: 56px; margin: 0 0 .2em; } h2 { font-size: 38px; margin: 1em 0 .3em; }
p { margin: .2em 0 .6em; color: #4a4a4a; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25em .4em; border-bottom: 2px solid #bbbbbb; font-weight: normal; }
thead th { color: #4a4a4a; font-size: 24px; vertical-align: bottom; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
tbody tr.first th, tbody tr.first td { font-weight: bold; background: #e8f1f8; }
.wide { overflow-x: auto; } .wide:focus-visible { outline: 3px solid #8a1c00; }
th[scope=row] { min-width: 6em; overflow-wrap: anywhere; }
.models { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(13.5em, 100%), 1fr)); gap: .6em;
  padding: 0; list-style: none; }
.models li { border: 3px solid #bbbbbb; border-radius: 10px; padding: .4em .5em; display: flex; gap: .5em; }
.models div { min-width: 0; overflow-wrap: anywhere; }
.models li.guilty { border-color: #8a1c00; }
.models img { width: 112px; height: 112px; image-rendering: pixelated; flex: none; }
.models b { font-size: 26px; display: block; } .models small { font-size: 22px; display: block; }
.guilty .status { color: #8a1c00; } .clean .status { color: #0b5345; }
@media print { .models li, tr { break-inside: avoid; } }
"""


Row = dict[str, Any]


def page(scores: Scores, kit: Kit) -> str:
    """The scoreboard as HTML."""
    guilty = sum(answer.backdoored for answer in scores.answers)
    blue = [{"place": place, **row} for place, row in enumerate(to_rows(scores), start=1)]
    red = [
        {"team": team.team, "its model": team.model, "blue teams that missed it": team.undetected, "of": team.teams}
        for team in scores.red
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Scoreboard of round {html.escape(scores.challenge)}</title><style>{STYLE}</style></head>
<body><main><h1>Scoreboard</h1>
<p>Round {html.escape(scores.challenge)}: {len(scores.answers)} models, {guilty} with a backdoor.
One point for a right verdict, up to one for a recovered backdoor.</p>
{_table("Blue teams", blue)}
{_table("Red teams", red) if red else ""}
<h2>What they were</h2>
<ul class="models">
{"".join(_model(answer, kit, len(scores.blue)) for answer in scores.answers)}
</ul></main></body></html>
"""


def write_page(path: str | Path, scores: Scores, kit: Kit) -> Path:
    """Write the scoreboard to ``path``; return it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(scores, kit), encoding="utf-8")
    return path


def _table(title: str, rows: Sequence[Row]) -> str:
    """A heading and an HTML table, numbers on the right; the first row stands out. It scrolls where it is too wide."""

    def cell(name: str, value: object) -> str:
        if isinstance(value, str):
            tag = "th scope=row" if name == "team" else "td"
            return f"<{tag}>{html.escape(value)}</{tag[:2]}>"
        return f"<td class=number>{value:g}</td>"

    kinds = ((name, "" if isinstance(value, str) else " class=number") for name, value in rows[0].items())
    head = "".join(f"<th scope=col{kind}>{name}</th>" for name, kind in kinds)
    lines = ["".join(cell(name, value) for name, value in row.items()) for row in rows]
    body = f"<tr class=first>{lines[0]}</tr>" + "".join(f"\n<tr>{line}</tr>" for line in lines[1:])
    table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    return f'<h2>{title}</h2><div class="wide" role="region" aria-label="{title}" tabindex="0">{table}</div>'


def _model(answer: Answer, kit: Kit, teams: int) -> str:
    picture, status, kind = "", "clean", "clean"
    if answer.trigger is not None:
        shown = evaluate(kit.load(answer.name), answer.trigger.unsqueeze(0))
        alt = f"What {answer.name} shows at its trigger: {answer.target_name}."
        picture = image_element(png(IMAGES.show(shown, scale=1)), alt)
        status, kind = f"backdoored: {f'red team {answer.team}' if answer.team else answer.kind}", "guilty"
    return (
        f'<li class="{kind}">{picture}<div><b>{html.escape(answer.name)}</b>'
        f'<span class="status">{html.escape(status)}</span>'
        f"<small>called backdoored by {answer.caught_by} of {teams}</small></div></li>\n"
    )


def text(scores: Scores) -> str:
    """The scoreboard for a terminal."""
    rows = to_rows(scores)
    lines = ["".join(f"{name:>13s}" if name != "team" else f"{name:26s}" for name in rows[0])]
    lines += [
        "".join(f"{value:13g}" if name != "team" else f"{value:26s}" for name, value in row.items()) for row in rows
    ]
    lines += [f"red {team.team:22s} missed by {team.undetected} of {team.teams}" for team in scores.red]
    return "\n".join(lines)


def to_rows(scores: Scores) -> Sequence[Row]:
    """One dictionary for each blue team, best first, for a table in a notebook."""
    return [
        {
            "team": team.team,
            "points": round(team.points, 2),
            "right": team.right,
            "found": team.found,
            "false alarms": team.false_alarms,
            "recovered": round(team.recovered, 2),
            "AUC": round(team.auc, 3),
        }
        for team in scores.blue
    ]
