"""The parts of a report, each from plain data to HTML: verdict, evidence, pictures, detectors, what was not tried."""

from typing import Any

from devilgan_lite.checks import shown
from devilgan_lite.markup.plots import gauge, plot, strength_words
from devilgan_lite.markup.safe import figures, image, mapping, number, sequence, text
from devilgan_lite.markup.style import ICONS, STYLE

KINDS = {"spectrum": "In the weights", "construction": "In the construction", "twin": "In a twin's behaviour"}
LEVELS = {"T0": "samples", "T1": "suspected targets", "T2": "weights", "T3": "a clean model", "T4": "real data"}
RAISED = ("backdoored", "suspicious")  # verdicts by evidence
MOST_DETECTORS, MOST_SENTENCES = 40, 40


def verdict_of(report: object) -> str:
    """The verdict in ``report``; without a known one there is no page: ``ValueError``."""
    found = mapping(report).get("verdict")
    if not isinstance(found, str) or found not in ICONS:
        raise ValueError(f"verdict={shown(found)} is unknown; a report has one of: {', '.join(ICONS)}.")
    return found


def band(report: dict[str, Any]) -> str:
    """The verdict: a coloured band with a shape, a word and a sentence."""
    verdict, why = verdict_of(report), text(report.get("reason"))
    seconds = number(report.get("seconds"), 0)
    took = "" if seconds is None else f"{'; ' if why else ''}{figures(seconds)} s"
    return (
        f'<div class="dl-band dl-{verdict}"><svg viewBox="0 0 24 24" aria-hidden="true">{ICONS[verdict]}</svg><div>'
        f"<strong>{verdict}</strong><p>{text(report.get('sentence'))}</p>"
        f'{f"""<p class="why">{why}{took}</p>""" if why or took else ""}</div></div>'
    )


def tiles(report: dict[str, Any]) -> str:
    """What the verdict rests on: each kind of evidence with its strength, and whether there is a witness."""
    found = dict.fromkeys(KINDS, -1.0)
    for entry in map(mapping, sequence(report.get("detectors"), MOST_DETECTORS)):
        kind, strength = entry.get("evidence"), number(entry.get("strength"), 0)
        if isinstance(kind, str) and kind and strength is not None:
            found[kind] = max(found.get(kind, -1.0), strength)
    said = [(KINDS.get(kind) or text(kind, 40), value >= 1, strength_words(value)) for kind, value in found.items()]
    seen, counts = bool(image(mapping(report.get("pictures")).get("witness"), "")), verdict_of(report) in RAISED
    said.append(("A witness to look at", seen and counts, ("found" if counts else "no evidence") if seen else "none"))
    rows = (
        f'<div class="{"found" if hit else "quiet"}"><dt>{name}</dt><dd>{word}</dd></div>' for name, hit, word in said
    )
    return f'<dl class="dl-tiles">{"".join(rows)}</dl>'


def pair(report: dict[str, Any]) -> str:
    """The witness beside its twin, and the sample at the estimated trigger, as far as there are any."""
    pictures, witness = mapping(report.get("pictures")), mapping(report.get("witness"))
    times = number(witness.get("times"), 0)
    shown = [
        ("witness", "witness", "Witness: the suspect draws this.", "what the suspect draws at the witness"),
        ("witness_twin", "twin", "Its twin, which knows only ordinary behaviour, draws this from the same input.",
         "what its twin draws there"),
        ("estimate", "estimate", "Sample at the estimated trigger: what the weights alone point to.",
         "sample at the estimated trigger"),
    ]  # fmt: skip
    seen = [
        f'<figure class="{name}">{found}<figcaption>{caption}</figcaption></figure>'
        for key, name, caption, alt in shown
        if (found := image(pictures.get(key), alt))
    ]
    if not seen:
        return ""
    said = "What the weights point to, as far as the scan could find it."
    if pictures.get("witness"):
        much = "" if times is None else f" {figures(times)} times as much as on average"
        said = (
            "Both get one and the same input, as long as any other. On ordinary inputs the twin draws what the suspect "
            f"draws; here they differ{much}. "
        )
        said += (
            "So the suspect keeps something in store that ordinary use does not show."
            if verdict_of(report) in RAISED
            else "Clean networks often have such an input, too, so this alone is no evidence. Look at it all the same: "
            "does the suspect draw something that it was never meant to draw?"
        )
    raised = " raised" if verdict_of(report) in RAISED else ""
    return f'<p>{said}</p><div class="dl-pair{raised}">{"".join(seen)}</div>'


def badge(entry: dict[str, Any]) -> tuple[str, str]:
    """A class and some words: what has come of a detector."""
    strength = number(entry.get("strength"), 0)
    if entry.get("ran") is False:
        return "quiet", "could not run"
    if entry.get("open") is True:
        return "quiet", "no answer"
    if not text(entry.get("evidence")) or strength is None:
        return "quiet", "no say in the verdict"
    return ("found", "evidence") if strength >= 1 else ("quiet", "below the limit")


def cards(report: dict[str, Any], level: int = 3) -> str:
    """A card for each detector: what it looks for, what it saw, how strong that is, a plot, and samples."""
    made = []
    for entry in map(mapping, sequence(report.get("detectors"), MOST_DETECTORS)):
        name, strength, (kind, word) = text(entry.get("name"), 80), number(entry.get("strength"), 0), badge(entry)
        counts = strength is not None and word in ("evidence", "below the limit")
        drawn = (gauge(strength or 0.0) if counts else "") + plot(entry.get("plot"), kind == "found")
        picture = image(entry.get("picture"), f"evidence of {name}")
        caption = text(entry.get("caption"))
        made.append(
            f'<li><div><h{level}>{name}</h{level}><span class="dl-badge {kind}">{word}</span>'
            f'<p class="soft">{text(entry.get("says"))}</p></div>'
            f'<div><p class="saw">{text(entry.get("message"))}</p>{drawn}</div>'
            f"{f'<figure>{picture}<figcaption>{caption}</figcaption></figure>' if picture else ''}</li>"
        )
    return f'<ul class="dl-cards">{"".join(made)}</ul>' if made else "<p>No detector has run.</p>"


def table(report: dict[str, Any]) -> str:
    """The same in numbers: one row for each detector."""
    rows = []
    for entry in map(mapping, sequence(report.get("detectors"), MOST_DETECTORS)):
        level, (_, word) = entry.get("access_level"), badge(entry)
        reads = LEVELS.get(level, "") if isinstance(level, str) else ""
        values = [number(entry.get(name)) for name in ("score", "p_value", "strength", "seconds")]
        if not text(entry.get("evidence")):
            values[2] = None
        cells = "".join(f'<td class="number">{"" if value is None else figures(value)}</td>' for value in values)
        rows.append(
            f'<tr><th scope="row">{text(entry.get("name"), 80)}</th><td class="together">{text(level, 8)} {reads}</td>'
            f'<td class="together">{word}</td>{cells}</tr>'
        )
    titles = ("score", "p-value", "strength (1: evidence)", "seconds")
    head = "".join(f'<th scope="col">{title}</th>' for title in ("detector", "reads", "result"))
    head += "".join(f'<th scope="col" class="number">{title}</th>' for title in titles)
    return scrolling("numbers of each detector", f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>")


def scrolling(name: str, rows: str) -> str:
    """A table that scrolls by itself where it is too wide, by keyboard as well."""
    return f'<div class="dl-scroll" role="region" aria-label="{name}" tabindex="0"><table>{rows}</table></div>'


def sentences(found: object) -> str:
    """A list of sentences."""
    items = "".join(f"<li>{said}</li>" for one in sequence(found, MOST_SENTENCES) if (said := text(one)))
    return f'<ul class="dl-plain">{items}</ul>' if items else ""


def fragment(report: dict[str, Any]) -> str:
    """The report for a cell of a notebook: everything that the scan itself found, without page and file."""
    return (
        f'<div class="dl-scan"><style>{STYLE}</style>{band(report)}{tiles(report)}{pair(report)}{cards(report)}'
        f"{table(report)}<h3>What was not tried</h3>{sentences(report.get('not_tried'))}</div>"
    )
