"""What the commands share: options, and how models come in and results go out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


def load_model(text: str) -> tuple[Any, Any]:
    """The generator and card for a name in the zoo or a path."""
    from devilgan_lite import zoo

    if Path(text).suffix or os.sep in text:
        return zoo.load_file(text)
    return zoo.load(text), zoo.card(text)


def real_for(generator: Any) -> Any:
    """Real samples to measure against, of the data set whose features read what ``generator`` makes; or None."""
    from devilgan_lite import data
    from devilgan_lite.features import readable

    fits = (name for name in data.DATASETS if readable(name, tuple(generator.sample_shape)))
    return next((data.DATASETS[name]() for name in fits), None)


def check_out(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise ValueError(f"out={str(path)!r} is not valid: it must be a file name that ends in .safetensors.")


def show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        shown = {name: value for name, value in result.items() if not isinstance(value, (dict, type(None)))}
        for name, value in shown.items():
            typer.echo(f"{name:22s}{f'{value:.4g}' if isinstance(value, float) else value}")
