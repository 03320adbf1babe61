"""A scan beside the stage: a child process with low priority that says what it finds, one line of JSON each."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from typing import Any
from urllib.parse import parse_qs

from devilgan_lite.apps.show.serving import Question
from devilgan_lite.checks import cut
from devilgan_lite.report import badge, strength_words

MOST_REASON = 120  # letters on the stage of why there is no answer; the whole message is a tooltip
PRIORITY = 10  # of a child: the browser, which draws, comes first


class LiveScan:
    """At most one scan of the backdoored ``suspect``, a name in the zoo or a file.

    It runs in a child process that ends with this one, or on ``close``.
    """

    def __init__(self, suspect: str, device: str = "cpu") -> None:
        self.suspect, self.command = suspect, [sys.executable, "-m", __name__, suspect, device]
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._clear()

    def _clear(self) -> None:
        self._findings: list[dict[str, Any]] = []
        self._report: dict[str, Any] | None = None
        self._state, self._error, self._began, self._took = "none", "", time.monotonic(), 0.0

    def start(self, question: Question) -> dict[str, Any]:
        """Begin, unless a scan is running or done: then that one is shown."""
        with self._lock:
            started = self._state in ("none", "failed")
            if started:
                self._clear()
                pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
                try:
                    self._child = subprocess.Popen(self.command, text=True, encoding="utf-8", **pipes)
                    threading.Thread(target=self._listen, args=(self._child,), daemon=True).start()
                    self._state = "running"
                except (OSError, RuntimeError) as error:  # no process, or no thread, is left
                    self.close()
                    self._state, self._error = "failed", f"The scan could not begin: {error}."
        return {"started": started}

    def state(self, question: Question) -> dict[str, Any]:
        """How far it is, with the findings from number ``since`` on."""
        since = parse_qs(question.query).get("since", ["0"])[-1]
        first = int(since) if since.isascii() and since.isdigit() and len(since) < 9 else 0
        with self._lock:
            seconds = time.monotonic() - self._began if self._state == "running" else self._took
            said = {"state": self._state, "seconds": round(seconds, 1), "findings": self._findings[first:]}
            return said | {"suspect": self.suspect, "report": self._report, "error": self._error}

    def close(self) -> None:
        """End the scan, if one is running."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def _listen(self, child: subprocess.Popen[str]) -> None:
        said: dict[str, Any] = {}
        try:
            for line in child.stdout or ():
                said = json.loads(line)
                if "finding" in said:
                    with self._lock:
                        self._findings.append(said["finding"])
        except ValueError:  # half a line: somebody ended the child while it wrote
            child.kill()
        code = child.wait()
        with self._lock:
            self._report, self._took = said.get("report"), time.monotonic() - self._began
            self._state = "failed" if self._report is None else "done"
            self._error = said.get("error") or ("" if self._report else f"The scan ended early, with exit code {code}.")


def scan(name: str, device: str, say: Any) -> None:
    """Scan the backdoored model ``name`` and ``say`` each finding and the report as plain data."""
    from devilgan_lite import detect, zoo
    from devilgan_lite.detect.report import picture
    from devilgan_lite.loading import card_of, open

    def tell(finding: detect.Finding) -> None:
        told = finding.to_dict()
        question = re.split(r"(?<=[?.]) ", told["asks"])[0]
        sample = None if finding.sample is None else picture(finding.sample.unsqueeze(0), scale=4)
        kind, words = answer(told, pictured=sample is not None)
        said = {"question": question, "kind": kind, "answer": words, "message": told["message"], "sample": sample}
        say({"finding": said})

    suspect, card = open(name, device=device), card_of(name)
    backdoor = card and zoo.backdoor_of(card, suspect)
    planted = picture(backdoor.target[:1], suspect.modality, 4) if backdoor else None
    report = detect.scan(suspect, on_finding=tell, device=device).to_dict(pictures=True)
    say({"report": {"planted": planted} | {part: report[part] for part in ("verdict", "sentence", "pictures")}})


def answer(told: dict[str, Any], pictured: bool) -> tuple[str, str]:
    """``yes``, ``no`` or ``open``, and the words for the stage; only a detector with a say can answer yes or no."""
    result = badge(told)[1]
    if result == "evidence":
        return "yes", f"Yes, {strength_words(told['strength'])}."
    if result == "below the limit":
        return "no", "No."
    if pictured:
        return "open", "See the picture."
    reason = "it has no say in the verdict" if result == "no say in the verdict" else told["message"]
    return "open", f"No answer: {cut(reason.rstrip('.') + '.', MOST_REASON)}"


def main() -> None:
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no finding

    def say(content: dict[str, Any]) -> None:
        print(json.dumps(content), file=lines, flush=True)

    def end_with_the_stage() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=end_with_the_stage, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(PRIORITY)
    try:
        scan(sys.argv[1], sys.argv[2], say)
    except Exception as error:  # whatever keeps a model from being scanned is a sentence on the stage
        say({"error": cut(" ".join(str(error).split()), 1_000) or type(error).__name__})


if __name__ == "__main__":
    main()
