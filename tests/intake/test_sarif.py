"""SARIF of reports: what code hosts ask for, one result for each file, and nothing of a stranger's that runs."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from hypothesis import given, settings
from hypothesis import strategies as st

from devilgan_lite.intake.sarif import RULES, location, sarif

DIGEST = "ab" * 32


def report(verdict: str = "backdoored", **settings: Any) -> dict[str, Any]:
    seen = [("spectrum", 2.0), ("spectrum", 3.5), ("twin", 0.5), ("", 9.0)]
    plain = {"format": 1, "verdict": verdict, "sentence": "Do not use it.", "command": "devilgan scan faces.onnx"}
    plain["file"] = {"name": "faces.onnx", "bytes": 10, "sha256": DIGEST, "format": "onnx"}
    return {**plain, "detectors": [{"evidence": kind, "strength": strength} for kind, strength in seen], **settings}


def checked(log: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of a log that has what the specification and code hosts require; all of it is JSON."""
    assert json.loads(json.dumps(log, allow_nan=False)) == log
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    ids = [rule["id"] for rule in driver["rules"]]
    assert driver["name"] and driver["version"] and len(set(ids)) == len(ids)
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"] and rule["fullDescription"]["text"] and rule["help"]["text"]
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
        assert 0 <= float(rule["properties"]["security-severity"]) <= 10
    for result in run["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"] and 0 < len(result["message"]["text"]) <= 1_000
        assert result["kind"] in ("pass", "fail") and (result["kind"] == "fail" or result["level"] == "none")
        assert result["level"] == driver["rules"][result["ruleIndex"]]["defaultConfiguration"]["level"]
        (place,) = result["locations"]
        uri = place["physicalLocation"]["artifactLocation"]["uri"]
        assert uri and uri.isascii() and not set(uri) & set(' <>"\\^`{|}:?#') and not uri.startswith("/")
        assert place["physicalLocation"]["region"]["startLine"] == 1
        assert all(isinstance(value, str) for value in result["partialFingerprints"].values())
    return list(run["results"])


def test_every_verdict_is_a_result_of_its_level_that_names_its_file_and_why() -> None:
    results = checked(sarif([report(verdict) for verdict in RULES]))
    levels = {result["properties"]["verdict"]: (result["kind"], result["level"]) for result in results}
    fails = {"backdoored": "error", "suspicious": "warning", "inconclusive": "note", "refused": "warning"}
    assert levels == {**{name: ("fail", level) for name, level in fails.items()}, "clean": ("pass", "none")}
    assert checked(sarif([])) == []
    (result,) = checked(sarif([report()], ["models/männer 50%.onnx"]))
    uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == "models/m%C3%A4nner%2050%25.onnx" and unquote(uri) == "models/männer 50%.onnx"
    assert result["message"]["text"] == "Do not use it."
    assert result["partialFingerprints"] == {"sha256/v1": f"{DIGEST}:backdoored"}
    assert result["properties"]["evidence"] == {"spectrum": 3.5, "twin": 0.5}
    assert result["properties"]["sha256"] == DIGEST and result["properties"]["format"] == "onnx"


def test_a_path_stays_in_its_repository_and_each_report_has_one(refuses: Callable[..., str]) -> None:
    for path in ("", ".", "/etc/passwd", "a/../../x", "C:/x.onnx", "a\\b.onnx"):
        refuses(lambda path=path: location(path), "path")
    refuses(lambda: sarif([report(), report()], ["a"]), "paths", "1", "2")
    refuses(lambda: sarif([report("harmless")]), "'harmless'")
    (result,) = checked(sarif([report(file={"name": "../../etc/[x](http://y).onnx"})]))
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "y%29.onnx"
    assert location("http://x/y") == "http%3A/x/y"  # a folder of this name


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.just("\ud800[x](http://y)"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(data=st.fixed_dictionaries({name: JSON for name in ("file", "sentence", "command", "detectors")}), name=JSON)
def test_whatever_a_report_holds_it_is_a_log(data: dict[str, Any], name: Any) -> None:
    entries = [data["detectors"], {"evidence": name, "strength": data["file"]}]
    hostile = {**report(), **data, "detectors": entries, "file": {"name": name, "sha256": name, "format": name}}
    (result,) = checked(sarif([hostile]))
    assert "](" not in json.dumps(result) and "\\ud800" not in json.dumps(result)


def test_the_parent_needs_no_torch() -> None:
    modules = "devilgan_lite.intake.sarif, devilgan_lite.intake.page, devilgan_lite.intake.jail"
    code = f"import sys, {modules}; from devilgan_lite.files import Refused, Facts;"
    code += "print([name for name in ('torch', 'numpy', 'onnx', 'PIL') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "[]"
