"""Read a notebook's ``parameters`` cell without running it, and check values against it: the one place of its ranges.

A line of that cell is ``name = literal  # what it is, low..high`` for a number, ``# what it is: this | that`` for a
choice, or a comment without either for a free value. ``None`` as the literal means that the profile decides.
"""

import ast
import io
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from devilgan_lite.checks import nearest

_NUMBER = r"-?(?:0|[1-9][\d_]*)(?:\.\d+)?(?:[eE][-+]?\d+)?"
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
        several, _, words = self._rule()
        words = f"a list, each element {words}" if several else words
        return f"{words}, or None (the profile's value)" if self.default is None else words

    def check(self, value: Any) -> None:
        """Raise ``ValueError`` unless ``value`` is valid here."""
        from pydantic import Field, TypeAdapter, ValidationError

        if value is None and self.default is None:
            return
        several, kind, _ = self._rule()
        rule: Any = Annotated[list[kind], Field(strict=True, min_length=1)] if several else kind  # type: ignore[valid-type]
        try:
            TypeAdapter(rule).validate_python(list(value) if isinstance(value, tuple) else value)
        except ValidationError:
            hint = nearest(str(value), self.choices)
            raise ValueError(f"{self.name}={value!r:.80} is not valid: it must be {self.valid}.{hint}") from None

    def _rule(self) -> tuple[bool, Any, str]:
        """Whether it is a list; the type of a value, or of each element, for pydantic, and in words."""
        from pydantic import Field, StrictBool, StrictStr

        several = isinstance(self.default, (list, tuple))
        example = next(iter(self.default), None) if several else self.default
        if self.choices:
            return several, Literal[self.choices], f"one of {', '.join(self.choices)}"
        if self.low is None and isinstance(example, bool):
            return several, StrictBool, "True or False"
        if self.low is None and isinstance(example, str):
            return several, StrictStr, "a text"
        if self.low is None and example is None:
            return several, bool | int | float | str | list[Any] | dict[str, Any], "a literal"
        whole = all(isinstance(number, int) for number in ((example,) if self.low is None else (self.low, self.high)))
        limits = Field(strict=True, ge=self.low, le=self.high, allow_inf_nan=None if whole else False)
        between = "" if self.low is None else f" from {self.low} to {self.high}"
        return several, Annotated[int if whole else float, limits], f"a {'whole ' if whole else ''}number{between}"


def parse_cell(source: str, where: str = "the parameters cell") -> dict[str, Parameter]:
    """The parameters that a cell's ``source`` declares; a line that is no plain literal is a ``ValueError``."""
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    parameters: dict[str, Parameter] = {}
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
        parameters[target.id] = _with_comment(target.id, default, comments.get(node.end_lineno or node.lineno, ""))
    return parameters


def _with_comment(name: str, default: Any, comment: str) -> Parameter:
    if match := _RANGE.match(comment):
        return Parameter(name, default, match["what"].strip(), *map(ast.literal_eval, match.group("low", "high")))
    if match := _CHOICES.match(comment):
        choices = tuple(choice.strip().strip("\"'") for choice in match["choices"].split("|"))
        return Parameter(name, default, match["what"].strip(), choices=choices)
    return Parameter(name, default, comment)


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
