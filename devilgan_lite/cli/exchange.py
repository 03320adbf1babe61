"""``devilgan export``: a generator of this package as a file that other programs read."""

from pathlib import Path
from typing import Annotated

import typer

from devilgan_lite.checks import one_of
from devilgan_lite.cli.common import check_out, load_model


def export(
    model: Annotated[str, typer.Argument(help="A name in the zoo, or a .safetensors file with its card.")],
    out: Annotated[Path, typer.Option(help="The file to write; it ends in .onnx, .pt2 or .safetensors.")],
    to: Annotated[str, typer.Option(help="onnx, pt2 (torch.export) or safetensors.")] = "onnx",
) -> None:
    """Write a generator for other programs, and keep the file only if it makes the same samples."""
    one_of("to", to, ("onnx", "pt2", "safetensors"))
    check_out(out, ending=f".{to}")
    from devilgan_lite.files.exporting import export as write

    generator, card = load_model(model)
    write(generator, None, out, to, card=card)
    typer.echo(f"{out}: {out.stat().st_size:,} bytes; it makes the same samples as {model}.")
