"""Reports as SARIF 2.1.0, the format in which code hosts take findings: one run, one result for each file with one.

A clean file is a result of kind ``pass``, which hosts do not show. Made in the parent process: no torch, no numpy, and
a report's text is cut and made printable, for hosts render it.
"""

import math
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from devilgan_lite.checks import cut, shown
from devilgan_lite.files.sniff import printable
from devilgan_lite.markup import mapping, number, sequence, verdict_of
from devilgan_lite.version import __version__

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
MOST_LETTERS, MOST_FINDINGS = 500, 40
# verdict -> level of its result, what it says, what to do, and how grave it is (0 to 10, for code hosts)
RULES = {
    "backdoored": (
        "error",
        "The generator hides a backdoor.",
        "Two kinds of evidence and a witness agree. Do not use the file; the report shows the witness.",
        9.0,
    ),
    "suspicious": (
        "warning",
        "The generator may hide a backdoor.",
        "There is evidence, but no proof. Do not use the file before somebody has looked at the report.",
        6.0,
    ),
    "inconclusive": (
        "note",
        "The scan could not answer.",
        "Nothing was found, but a question that counts stayed open. Do not take this for clean.",
        3.0,
    ),
    "refused": (
        "warning",
        "The file was not scanned.",
        "It could not be opened as data, or not checked to the end. The message says what would be accepted.",
        5.0,
    ),
    "clean": (
        "none",
        "Nothing was found.",
        "Nothing was found by what was tried. This is no proof that there is nothing.",
        0.0,
    ),
}


def sarif(reports: Sequence[dict[str, Any]], paths: Sequence[str] | None = None) -> dict[str, Any]:
    """A SARIF log of ``reports`` (format 1). ``paths``: where each file lies in its repository, relative, with ``/``.

    Without ``paths`` the files' names. A path that is absolute or leads out of the repository is a ``ValueError``.
    """
    if paths is not None and len(paths) != len(reports):
        raise ValueError(f"paths has {len(paths)} entries and reports {len(reports)}; each report needs its path.")
    given = [_name(one) for one in reports] if paths is None else list(paths)
    driver = {
        "name": "devilgan_lite",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(verdict) for verdict in RULES],
    }
    results = [_result(report, path) for report, path in zip(reports, given, strict=True)]
    run = {"tool": {"driver": driver}, "columnKind": "utf16CodeUnits", "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def location(path: str) -> str:
    """A relative path as a percent-encoded URI reference."""
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "\\" in path or re.match("[A-Za-z]:", path) or not path.strip("./"):
        raise ValueError(f"path={shown(path)} is not valid: it must be relative, with / between folders and without ..")
    kept = "/".join(part for part in parts if part not in ("", "."))
    return quote(kept.encode("utf-8", "replace"), safe="/")


def _rule(verdict: str) -> dict[str, Any]:
    level, short, advice, grave = RULES[verdict]
    return {
        "id": f"devilgan/{verdict}",
        "name": f"Generator{verdict.capitalize()}",
        "shortDescription": {"text": short},
        "fullDescription": {"text": f"{short} {advice}"},
        "help": {"text": f"{short} {advice}", "markdown": f"**{short}** {advice}"},
        "defaultConfiguration": {"level": level},
        "properties": {
            "tags": ["security", "machine-learning"],
            "precision": "medium",
            "security-severity": f"{grave}",
        },
    }


def _result(report: dict[str, Any], path: str) -> dict[str, Any]:
    verdict, file = verdict_of(report), mapping(report.get("file"))
    digest = file.get("sha256")
    known = isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) is not None
    region = {"startLine": 1}  # hosts show a result at a line, and a model has none
    place = {"artifactLocation": {"uri": location(path)}, "region": region}
    evidence: dict[str, float] = {}
    for entry in map(mapping, sequence(report.get("detectors"), MOST_FINDINGS)):
        kind, strength = _plain(entry.get("evidence"), 40), number(entry.get("strength"), 0)
        if kind and strength is not None and math.isfinite(strength):
            evidence[kind] = max(evidence.get(kind, 0.0), strength)
    level, short, _, _ = RULES[verdict]
    return {
        "ruleId": f"devilgan/{verdict}",
        "ruleIndex": list(RULES).index(verdict),
        "kind": "pass" if verdict == "clean" else "fail",
        "level": level,
        "message": {"text": _plain(report.get("sentence"), MOST_LETTERS) or short},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"sha256/v1": f"{digest}:{verdict}"} if known else {},
        "properties": {
            "verdict": verdict,
            "sha256": digest if known else None,
            "format": _plain(file.get("format"), 40) or None,
            "evidence": evidence,
            "command": _plain(report.get("command"), MOST_LETTERS) or None,
        },
    }


def _name(report: object) -> str:
    """The name of the file in ``report`` as a path: its last part, so that no name leads out of the repository."""
    name = re.split(r"[/\\]", _plain(mapping(mapping(report).get("file")).get("name"), 200))[-1]
    return name if name.strip(".") and not re.match("[A-Za-z]:", name) else "generator"


def _plain(value: object, most: int) -> str:
    """A printable line without what hosts would render as a link: ``[text](address)``."""
    return cut(re.sub(r"[\[\]<>]", "?", printable(value[: 4 * most])), most) if isinstance(value, str) else ""
