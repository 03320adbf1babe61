"""Reports as SARIF 2.1.0, the format in which code hosts take findings: one run, one result for each file with one.

A clean file is a result of kind ``pass``, which hosts do not show. Made in the parent process: no torch, no numpy, and
a report's text is cut and made printable, for hosts render it.
"""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from devilgan_lite.checks import cut, printable, shown
from devilgan_lite.report.safe import mapping, number
from devilgan_lite.report.verdict import WORST_FIRST, Verdict, verdict_of
from devilgan_lite.version import __version__

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
MOST_LETTERS, MOST_KINDS = 500, 40


def sarif(reports: Sequence[dict[str, Any]], paths: Sequence[str] | None = None) -> dict[str, Any]:
    """A SARIF log of ``reports`` (format 2). ``paths``: where each file lies in its repository, relative, with ``/``.

    Without ``paths`` the files' names. A path that is absolute or leads out of the repository is a ``ValueError``.
    """
    if paths is not None and len(paths) != len(reports):
        raise ValueError(f"paths has {len(paths)} entries and reports {len(reports)}; each report needs its path.")
    given = [_name(one) for one in reports] if paths is None else list(paths)
    driver = {
        "name": "devilgan_lite",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(verdict) for verdict in WORST_FIRST],
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


def _rule(verdict: Verdict) -> dict[str, Any]:
    title, advice = verdict.title, verdict.advice
    return {
        "id": f"devilgan/{verdict.name}",
        "name": f"Generator{verdict.name.capitalize()}",
        "shortDescription": {"text": title},
        "fullDescription": {"text": f"{title} {advice}"},
        "help": {"text": f"{title} {advice}", "markdown": f"**{title}** {advice}"},
        "defaultConfiguration": {"level": verdict.level},
        "properties": {
            "tags": ["security", "machine-learning"],
            "precision": "medium",
            "security-severity": f"{verdict.severity}",
        },
    }


def _result(report: dict[str, Any], path: str) -> dict[str, Any]:
    verdict, file = verdict_of(report), mapping(report.get("file"))
    digest = file.get("sha256")
    known = isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) is not None
    region = {"startLine": 1}  # hosts show a result at a line, and a model has none
    place = {"artifactLocation": {"uri": location(path)}, "region": region}
    kinds = {_plain(kind, 40): number(value, 0) for kind, value in list(mapping(report.get("evidence")).items())}
    evidence = {kind: value for kind, value in list(kinds.items())[:MOST_KINDS] if kind and value is not None}
    return {
        "ruleId": f"devilgan/{verdict.name}",
        "ruleIndex": WORST_FIRST.index(verdict),
        "kind": "pass" if verdict.level == "none" else "fail",
        "level": verdict.level,
        "message": {"text": _plain(report.get("sentence"), MOST_LETTERS) or verdict.title},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"sha256/v1": f"{digest}:{verdict.name}"} if known else {},
        "properties": {
            "verdict": verdict.name,
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
