"""The family of tables: rows of numbers and categories, and the class that is asked for."""

from devilgan_lite.generators.table.network import TableGenerator
from devilgan_lite.generators.table.opponent import TableCritic

__all__ = ["TableCritic", "TableGenerator"]
