"""Read a notebook's ``parameters`` cell without running it, and check values against it before a kernel starts.

A line of that cell is ``name = literal  # what it is, low..high`` for a number, ``# what it is: this | that`` for a
choice, or a comment without either for a free value. ``None`` as the literal means that the profile decides.
"""

from __future__ import annotations

import ast
import io
import math
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from devilgan_lite.checks import nearest

_NUMBER = r"-?\d[\d_]*(?:\.\d+)?(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"^(?P<what>.*?),?\s*(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})\s*$")
_CHOICES = re.compile(r"^(?P<what>.*):\s*(?P<choices>[^:|]+(?:\|[^:|]+)+)$")


@dataclass(frozen=True)
class Parameter:
    """One line of the parameters cell: its default and what its comment says is valid."""

    name: str
    default: Any
    what: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def valid(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            words = f"one of {', '.join(self.choices)}"
        elif isinstance(self.default, bool):
            words = "True or False"
        elif self.low is not None:
            words = f"a {'whole ' if self._whole else ''}number from {self.low} to {self.high}"
        elif isinstance(self.default, (int, float)):
            words = "a whole number" if self._whole else "a number"
        elif isinstance(self.default, str):
            words = "a text"
        else:
            words = "a literal"
        if isinstance(self.default, (list, tuple)):
            return f"a list, each element {words}"
        return f"{words}, or None (the profile's value)" if self.default is None else words

    @property
    def _whole(self) -> bool:
        example = self.default[0] if isinstance(self.default, (list, tuple)) and self.default else self.default
        numbers = [number for number in (example, self.low, self.high) if number is not None]
        return bool(numbers) and all(isinstance(number, int) for number in numbers)

    def check(self, value: Any) -> None:
        """Raise ``ValueError`` unless ``value`` is valid here."""
        several = isinstance(self.default, (list, tuple))
        if value is None:
            fits = self.default is None
        elif several:
            example = self.default[0] if self.default else None
            fits = isinstance(value, (list, tuple)) and bool(value) and all(self._fits(v, example) for v in value)
        else:
            fits = self._fits(value, self.default)
        if not fits:
            hint = nearest(str(value), self.choices)
            raise ValueError(f"{self.name}={value!r} is not valid: it must be {self.valid}.{hint}")

    def _fits(self, value: Any, example: Any) -> bool:
        if self.choices:
            return str(value) in self.choices and (not isinstance(example, str) or isinstance(value, str))
        if isinstance(example, bool):
            return isinstance(value, bool)
        if isinstance(example, str):
            return isinstance(value, str)
        if isinstance(example, (int, float)) or self.low is not None:
            number = isinstance(value, int if self._whole else (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value):
                return False
            return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
        return isinstance(value, (bool, int, float, str, list, tuple, dict))


def parse_cell(source: str, where: str = "the parameters cell") -> dict[str, Parameter]:
    """The parameters that a cell's ``source`` declares; a line that is no plain literal is a ``ValueError``."""
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found: dict[str, Parameter] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        if not isinstance(node, ast.Assign) or not isinstance(target, ast.Name):
            raise ValueError(f"{where}, line {node.lineno}: only lines of the form name = literal can stand there.")
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            raise ValueError(f"{where}, line {node.lineno}: the value of {target.id} is not a plain literal.") from None
        found[target.id] = _with_comment(target.id, default, comments.get(node.end_lineno or node.lineno, ""))
    return found


def _with_comment(name: str, default: Any, comment: str) -> Parameter:
    if match := _RANGE.match(comment):
        return Parameter(name, default, match["what"].strip(), _number(match["low"]), _number(match["high"]))
    if match := _CHOICES.match(comment):
        choices = tuple(choice.strip().strip("\"'") for choice in match["choices"].split("|"))
        return Parameter(name, default, match["what"].strip(), choices=choices)
    return Parameter(name, default, comment)


def _number(text: str) -> float:
    return float(text) if re.search(r"[.eE]", text) else int(text)


def parse_value(text: str) -> Any:
    """A value from a command line: a Python literal where it is one (``40``, ``None``, ``[1, 2]``), else text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)


def check_values(parameters: Mapping[str, Parameter], values: Mapping[str, Any], notebook: str) -> None:
    """Raise ``ValueError`` for the first of ``values`` that ``notebook`` does not know or does not accept."""
    for name, value in values.items():
        if name not in parameters:
            valid = ", ".join(parameters) or "none"
            raise ValueError(f"{notebook} has no parameter {name!r}; valid: {valid}.{nearest(name, parameters)}")
        parameters[name].check(value)
