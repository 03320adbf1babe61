"""``devilgan export``: a generator of this package as a file that other programs read."""

from pathlib import Path
from typing import Annotated

import typer

from devilgan_lite.checks import one_of, shown
from devilgan_lite.cli.common import check_out, load_model

FORMATS = ("onnx", "pt2", "safetensors")  # each is the ending of its files, too


def export(
    model: Annotated[str, typer.Argument(help="A name in the zoo, or a .safetensors file with its card.")],
    out: Annotated[Path, typer.Option(help="The file to write; it ends in .onnx, .pt2 or .safetensors.")],
    to: Annotated[
        str | None, typer.Option(help="onnx, pt2 (torch.export) or safetensors; default: the ending of --out.")
    ] = None,
) -> None:
    """Write a generator for other programs, and keep the file only if it makes the same samples."""
    if to is not None:
        one_of("to", to, FORMATS)
    check_out(out, ending=tuple(f".{name}" for name in FORMATS))
    if to not in (None, out.suffix[1:]):
        raise ValueError(f"to={to} and out={shown(str(out))} say different formats: leave --to out, or end in .{to}.")
    from devilgan_lite.files.exporting import export as write

    generator, card = load_model(model)
    write(generator, None, out, card=card)
    typer.echo(f"{out}: {out.stat().st_size:,} bytes; it makes the same samples as {model}.")
