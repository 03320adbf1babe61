"""Run notebooks with checked parameters, once or as a study, and write the page that shows the results."""

from typing import TYPE_CHECKING, Any

from devilgan_lite.apps.parameters import Parameter, parse_value
from devilgan_lite.apps.studies.notebooks import (
    PROJECT,
    find_notebook,
    notebook_folder,
    notebook_list,
    notebook_parameters,
)
from devilgan_lite.apps.studies.pages import index_page, to_html
from devilgan_lite.apps.studies.run import Result, run, run_all
from devilgan_lite.apps.studies.store import Store
from devilgan_lite.apps.studies.study import Run, Study, read_study, study_of
from devilgan_lite.apps.studies.summary import attack_table, table_html, table_text, write_csv
from devilgan_lite.apps.studies.sweep import Sweep, sweep

if TYPE_CHECKING:
    from devilgan_lite.apps.studies.study_report import report

__all__ = [
    "PROJECT",
    "Parameter",
    "Result",
    "Run",
    "Store",
    "Study",
    "Sweep",
    "attack_table",
    "find_notebook",
    "index_page",
    "notebook_folder",
    "notebook_list",
    "notebook_parameters",
    "parse_value",
    "read_study",
    "report",
    "run",
    "run_all",
    "study_of",
    "sweep",
    "table_html",
    "table_text",
    "to_html",
    "write_csv",
]


def __getattr__(name: str) -> Any:
    """Import ``report``, and pandas with it, when it is asked for."""
    if name != "report":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from devilgan_lite.apps.studies.study_report import report

    return report
