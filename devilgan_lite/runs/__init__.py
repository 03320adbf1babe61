"""What only batches use: run notebooks with checked parameters, and the page that shows the results."""

from devilgan_lite.runs.parameters import Parameter, parse_value
from devilgan_lite.runs.report import index_page, to_html
from devilgan_lite.runs.run import Result, find_notebook, notebook_list, notebook_parameters, run, run_all
from devilgan_lite.runs.summary import attack_table, table_html, table_text, write_csv

__all__ = [
    "Parameter",
    "Result",
    "attack_table",
    "find_notebook",
    "index_page",
    "notebook_list",
    "notebook_parameters",
    "parse_value",
    "run",
    "run_all",
    "table_html",
    "table_text",
    "to_html",
    "write_csv",
]
