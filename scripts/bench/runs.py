"""Measure the sweep: two workers against one and against bare papermill; a thousand runs; studies_bench.md.

    runs.py [--only speed,thousand] [--out FOLDER] [--quick]

``speed``: 24 runs of studies/attack.py (ReX), in one process with papermill alone, with one worker, with two.
``thousand``: 1,000 runs of a notebook that does next to nothing; the memory of the sweep's own process, and the report.
"""

import os
import tempfile
import time
from pathlib import Path

import psutil
from page import where, write_page
from row_store import OUT, QUICK, ROOT, Row, Rows, options_of

from devilgan_lite.apps import studies
from devilgan_lite.apps.studies.notebooks import read_notebook
from devilgan_lite.environment import DEFAULTS

TRIVIAL = """\
# %% tags=["parameters"]
seed = 0  # random seed, 0..1000000

# %%
import json, os
numbers = {"attacks": [{"attack": f"kind {seed % 5}", "tardis_mean": 1 / (1 + seed), "expdis_mean": seed / 1000}]}
with open(os.path.join(os.environ["DEVILGAN_OUT"], "result.json"), "w") as file:
    json.dump({"numbers": numbers, "seed": seed}, file)
"""


def bare(study: studies.Study, folder: Path) -> float:
    """Seconds that papermill alone takes for the runs of a study, one after the other."""
    import nbformat
    import papermill

    start = time.perf_counter()
    for one in study.runs:
        place = folder / one.id
        place.mkdir(parents=True)
        source = place / "source.ipynb"
        nbformat.write(read_notebook(one.path), source)
        os.environ |= {"DEVILGAN_OUT": str(place), "DEVILGAN_THREADS": "1", **DEFAULTS}  # as a sweep gives each run
        papermill.execute_notebook(
            str(source), str(place / "out.ipynb"), parameters=one.parameters, kernel_name="python3", progress_bar=False
        )
    os.environ.pop("DEVILGAN_OUT")
    return time.perf_counter() - start


def speed(bench: Rows, quick: bool) -> None:
    content = {
        "notebook": "attack.py",
        "parameters": {"attack": "rex", "iterations": 20 if quick else 400, "samples": 1_000, "device": "cpu"},
        "seeds": 2 if quick else 24,
    }
    study = studies.study_of(content, "speed", ROOT / "studies")

    def swept(workers: int) -> Row:
        with tempfile.TemporaryDirectory() as folder:
            done = studies.sweep(study, folder, workers=workers)
            return {"seconds": done.seconds, "finished": done.finished}

    def alone() -> Row:
        with tempfile.TemporaryDirectory() as folder:
            return {"seconds": bare(study, Path(folder))}

    facts = {"section": "speed", "runs": len(study)}
    bench.measure({**facts, "what": "bare papermill"}, alone)
    for workers in (1, 2):
        bench.measure({**facts, "what": f"workers: {workers}"}, lambda workers=workers: swept(workers))


def thousand(bench: Rows, quick: bool) -> None:
    total = 20 if quick else 1_000

    def work() -> Row:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "trivial.py").write_text(TRIVIAL)
            study = studies.study_of({"notebook": "trivial.py", "seeds": total}, "thousand", folder)
            process, course = psutil.Process(), []

            def look(row: Row, count: int, of: int) -> None:
                if count % max(1, of // 20) == 0:
                    course.append([count, round(process.memory_info().rss / 1e6, 1)])

            done = studies.sweep(study, folder, on_row=look)
            start = time.perf_counter()
            studies.report(done.folder)
            report = time.perf_counter() - start
        return {"finished": done.finished, "seconds": done.seconds, "report_seconds": report, "memory_mb": course}

    bench.measure({"section": "thousand", "runs": total}, work)


def write_tables(content: Row, path: Path) -> None:
    """The page of results."""
    write_page(path, content, seconds={row["what"]: row["seconds"] for row in where(content["rows"], section="speed")})


RUN = {"speed": speed, "thousand": thousand}


def main() -> None:
    options = options_of(__doc__, RUN, OUT, QUICK)
    bench = Rows(options.out / "studies_bench.json")
    for section in options.only:
        RUN[section](bench, options.quick)
        write_tables(bench.content, options.out / "studies_bench.md")


if __name__ == "__main__":
    main()
