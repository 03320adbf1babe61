"""``may_enter(report, accept)``: a report as a dictionary, and the verdicts that a team accepts, to True or False.

Only ``clean`` and ``suspicious`` can be accepted at all; a report that is not of format 2, or has no verdict, is none.
"""

from devilgan_lite.apps.course.exercise import Exercise, Told


def may_enter(report, accept):
    verdict = report.get("verdict")
    return report.get("format") == 2 and verdict in ("clean", "suspicious") and verdict in accept


CLEAN = "a clean report is accepted where clean is."
BACKDOORED = "a backdoored one must never enter."
STRICT = "suspicious is not in `accept` here: this team wants clean."
CAREFUL = "suspicious is in `accept` here: that is the team's choice."
REFUSED = "nothing is known of a refused file, whoever accepts it."
INCONCLUSIVE = "inconclusive means that a detector had no answer: fail closed."
NO_VERDICT = "a report without a verdict is no clean one."
NO_FORMAT = "a report without format 2 is none that you can read."
OTHER_FORMAT = "you do not know what clean means in format 3."
HARMLESS = "harmless is no verdict, whoever accepts it."


def cases():
    clean, careful, bold = {"clean"}, {"clean", "suspicious"}, {"clean", "suspicious", "refused", "inconclusive"}
    return [
        Told(CLEAN, ({"format": 2, "verdict": "clean"}, clean)),
        Told(BACKDOORED, ({"format": 2, "verdict": "backdoored"}, careful)),
        Told(STRICT, ({"format": 2, "verdict": "suspicious"}, clean)),
        Told(CAREFUL, ({"format": 2, "verdict": "suspicious"}, careful)),
        Told(REFUSED, ({"format": 2, "verdict": "refused"}, bold)),
        Told(INCONCLUSIVE, ({"format": 2, "verdict": "inconclusive"}, bold)),
        Told(NO_VERDICT, ({"format": 2}, clean)),
        Told(NO_FORMAT, ({"verdict": "clean"}, clean)),
        Told(OTHER_FORMAT, ({"format": 3, "verdict": "clean"}, clean)),
        Told(HARMLESS, ({"format": 2, "verdict": "harmless"}, {"harmless"})),
    ]


def rule(known=("clean", "suspicious"), of_format=(2,), missing=None, accepts=lambda accept: accept):
    """The rule with one thing changed."""
    return lambda report, accept: (
        report.get("format") in of_format
        and report.get("verdict", missing) in known
        and report.get("verdict", missing) in accepts(accept)
    )


exercise = Exercise(
    may_enter,
    hints=(
        "report.get('verdict') is None where there is none; report['verdict'] would stop your CI with an error.",
        "Three conditions joined by and: format, a verdict that can be accepted at all, a verdict that is accepted.",
    ),
    cases=cases,
    mistakes={
        CLEAN: lambda report, accept: False,
        BACKDOORED: lambda report, accept: report.get("format") == 2 and "verdict" in report,
        STRICT: rule(accepts=lambda accept: ("clean", "suspicious")),
        CAREFUL: rule(known=("clean",)),
        REFUSED: rule(known=("clean", "suspicious", "refused", "inconclusive")),
        INCONCLUSIVE: rule(known=("clean", "suspicious", "inconclusive")),
        NO_VERDICT: rule(missing="clean"),
        NO_FORMAT: rule(of_format=(2, None)),
        OTHER_FORMAT: rule(of_format=(2, 3)),
        HARMLESS: rule(known=("clean", "suspicious", "harmless")),
    },
    praise="whatever the rule does not know stays outside.",
)
