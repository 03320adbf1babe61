"""The scoreboard as one page for a projector: large dark letters on white, pictures included, no script, no links."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from devilgan_lite.challenge.kit import Kit
from devilgan_lite.challenge.scoring import Answer, Scores, picture_of
from devilgan_lite.detect.report import image_tag

# contrast on white: text 17:1, grey 7:1, red and green at least 7:1; words repeat what colours say
STYLE = """
body { font: 28px/1.35 system-ui, "Segoe UI", sans-serif; margin: 0; padding: 1.2rem 3vw; color: #1a1a1a;
  background: #ffffff; }
h1 { font-size: 56px; margin: 0 0 .2em; } h2 { font-size: 38px; margin: 1em 0 .3em; }
p { margin: .2em 0 .6em; color: #4a4a4a; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25em .6em; border-bottom: 2px solid #bbbbbb; font-weight: normal; }
thead th { color: #4a4a4a; font-size: 24px; vertical-align: bottom; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
tbody tr.first th, tbody tr.first td { font-weight: bold; background: #e8f1f8; }
.models { display: grid; grid-template-columns: repeat(auto-fill, minmax(13.5em, 1fr)); gap: .6em; padding: 0;
  list-style: none; }
.models li { border: 3px solid #bbbbbb; border-radius: 10px; padding: .4em .6em; display: flex; gap: .6em; }
.models li.guilty { border-color: #8a1c00; }
.models img { width: 112px; height: 112px; image-rendering: pixelated; flex: none; }
.models b { display: block; white-space: nowrap; } .models small { font-size: 22px; display: block; }
.guilty .status { color: #8a1c00; } .clean .status { color: #0b5345; }
@media print { .models li, tr { break-inside: avoid; } }
"""


def page(scores: Scores, kit: Kit) -> str:
    """The scoreboard as HTML."""
    teams = len(scores.blue)
    guilty = sum(answer.backdoored for answer in scores.answers)
    rows = "\n".join(
        f"<tr{' class=first' if place == 1 else ''}><td class=number>{place}</td>"
        f"<th scope=row>{html.escape(team.team)}</th><td class=number>{team.points:.1f}</td>"
        f"<td class=number>{team.right:g} of {len(scores.answers)}</td><td class=number>{team.found} of {guilty}</td>"
        f"<td class=number>{team.false_alarms}</td><td class=number>{team.recovered:.1f}</td>"
        f"<td class=number>{team.auc:.2f}</td></tr>"
        for place, team in enumerate(scores.blue, start=1)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Scoreboard of round {html.escape(scores.challenge)}</title><style>{STYLE}</style></head>
<body><main><h1>Scoreboard</h1>
<p>Round {html.escape(scores.challenge)}: {len(scores.answers)} models, {guilty} with a backdoor.
One point for a right verdict, up to one for a recovered backdoor.</p>
<h2>Blue teams</h2>
<table><thead><tr><th scope=col class=number>place</th><th scope=col>team</th><th scope=col class=number>points</th>
<th scope=col class=number>right</th><th scope=col class=number>found</th>
<th scope=col class=number>false alarms</th><th scope=col class=number>recovered</th>
<th scope=col class=number>AUC</th></tr></thead>
<tbody>
{rows}
</tbody></table>
{_red(scores)}
<h2>What they were</h2>
<ul class="models">
{"".join(_model(answer, kit, teams) for answer in scores.answers)}
</ul></main></body></html>
"""


def write_page(path: str | Path, scores: Scores, kit: Kit) -> Path:
    """Write the scoreboard to ``path``; return it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(scores, kit), encoding="utf-8")
    return path


def _red(scores: Scores) -> str:
    if not scores.red:
        return ""
    rows = "\n".join(
        f"<tr{' class=first' if place == 0 else ''}><th scope=row>{html.escape(team.team)}</th>"
        f"<td>{html.escape(team.model)}</td><td class=number>{team.undetected} of {team.teams}</td></tr>"
        for place, team in enumerate(scores.red)
    )
    return f"""<h2>Red teams</h2>
<table><thead><tr><th scope=col>team</th><th scope=col>its model</th>
<th scope=col class=number>blue teams that missed it</th></tr></thead>
<tbody>
{rows}
</tbody></table>"""


def _model(answer: Answer, kit: Kit, teams: int) -> str:
    shown = picture_of(kit, answer)
    name, called = html.escape(answer.name), f"called backdoored by {answer.caught_by} of {teams}"
    if shown is None:
        pictures, status, kind = "", "clean", "clean"
    else:
        alt = f"What {answer.name} shows at its trigger: {answer.target_name}."
        pictures = image_tag(shown.unsqueeze(0), alt, scale=1)
        by = f"red team {answer.team}" if answer.team else answer.kind
        status, kind = f"backdoored: {by}", "guilty"
    return (
        f'<li class="{kind}">{pictures}<div><b>{name}</b><span class="status">{html.escape(status)}</span>'
        f"<small>{called}</small></div></li>\n"
    )


def text(scores: Scores) -> str:
    """The scoreboard for a terminal."""
    lines = [f"{'team':26s}{'points':>7s}{'right':>7s}{'found':>7s}{'alarms':>8s}{'AUC':>7s}"]
    lines += [
        f"{team.team:26s}{team.points:7.1f}{team.right:7g}{team.found:7d}{team.false_alarms:8d}{team.auc:7.2f}"
        for team in scores.blue
    ]
    lines += [f"red {team.team:22s} missed by {team.undetected} of {team.teams}" for team in scores.red]
    return "\n".join(lines)


def to_rows(scores: Scores) -> Sequence[dict[str, object]]:
    """One dictionary for each blue team, for a table in a notebook."""
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
