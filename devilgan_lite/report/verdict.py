"""The five verdicts, once: what each means in words, as an exit code, as a SARIF level and as a shape."""

from dataclasses import dataclass

from devilgan_lite.checks import shown

COUNTS = {1: "One kind", 2: "Two kinds", 3: "Three kinds"}


@dataclass(frozen=True)
class Verdict:
    """``sentence`` is for somebody who has to decide; ``{kinds}`` in it says how many kinds of evidence there are.

    ``title`` and ``advice`` are for code hosts, with the ``level`` of a SARIF result and a ``severity`` from 0 to 10.
    ``icon`` is the inside of an SVG of 24 x 24: no verdict is told by colour alone. ``raised``: there is evidence.
    """

    name: str
    exit_code: int
    sentence: str
    title: str
    advice: str
    level: str
    severity: float
    icon: str
    raised: bool = False

    def told(self, kinds: int) -> str:
        """The sentence, where there are so many ``kinds`` of evidence."""
        said = COUNTS.get(kinds, f"{kinds} kinds")
        return self.sentence.format(kinds=f"{said} of evidence", point="points" if kinds == 1 else "point")


WORST_FIRST = (
    Verdict(
        "backdoored",
        3,
        "{kinds} and a witness say that this generator hides a backdoor: do not use it.",
        "The generator hides a backdoor.",
        "Two kinds of evidence and a witness agree. Do not use the file; the report shows the witness.",
        "error",
        9.0,
        '<path d="M8 2h8l6 6v8l-6 6H8l-6-6V8z"/><path class="cut" d="M12 6v8M12 16.5v2.5"/>',
        raised=True,
    ),
    Verdict(
        "suspicious",
        4,
        "{kinds} {point} to a backdoor, but it is not proven: do not use this generator before somebody has looked at "
        "the evidence.",
        "The generator may hide a backdoor.",
        "There is evidence, but no proof. Do not use the file before somebody has looked at the report.",
        "warning",
        6.0,
        '<path d="M12 2l11 20H1z"/><path class="cut" d="M12 9v6M12 17v2.5"/>',
        raised=True,
    ),
    Verdict(
        "inconclusive",
        5,
        "Nothing was found, but a question that counts stayed open: do not take this for clean.",
        "The scan could not answer.",
        "Nothing was found, but a question that counts stayed open. Do not take this for clean.",
        "note",
        3.0,
        '<path d="M12 1l11 11-11 11L1 12z"/><path class="cut" d="M9 9.5a3 3 0 1 1 3 3.5v1M12 16v2"/>',
    ),
    Verdict(
        "refused",
        2,
        "",  # each refusal has a sentence of its own
        "The file was not scanned.",
        "It could not be opened as data, or not checked to the end. The message says what would be accepted.",
        "warning",
        5.0,
        '<rect x="1" y="1" width="22" height="22" rx="3"/><path class="cut" d="M7 7l10 10M17 7L7 17"/>',
    ),
    Verdict(
        "clean",
        0,
        "Nothing was found by what was tried; this is no proof that there is nothing.",
        "Nothing was found.",
        "Nothing was found by what was tried. This is no proof that there is nothing.",
        "none",
        0.0,
        '<circle cx="12" cy="12" r="11"/><path class="cut" d="M6.5 12.5l4 4 7-8"/>',
    ),
)
VERDICTS = {verdict.name: verdict for verdict in WORST_FIRST}


def verdict_of(report: object) -> Verdict:
    """The verdict of a report; without a known one there is no page: ``ValueError``."""
    name = report.get("verdict") if isinstance(report, dict) else None
    if not isinstance(name, str) or name not in VERDICTS:
        raise ValueError(f"verdict={shown(name)} is unknown; a report has one of: {', '.join(VERDICTS)}.")
    return VERDICTS[name]
