"""``devilgan serve``: the checking service, a page and an interface to which you give a downloaded generator."""

import os
from pathlib import Path
from typing import Annotated

import typer

from devilgan_lite.checks import shown

DATABASE = "SQLAlchemy URL, such as postgresql://user@host/name; default: a SQLite file in the folder."


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; another than this machine's needs --keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0: any free one.")] = 8765,
    folder: Annotated[Path, typer.Option(help="For uploads and the database.")] = Path("out/service"),
    database: Annotated[str, typer.Option(envvar="DEVILGAN_DATABASE", help=DATABASE, show_envvar=True)] = "",
    workers: Annotated[int, typer.Option(min=0, help="Checks side by side; 0: other servers do them.")] = os.cpu_count()
    or 1,
    keys: Annotated[Path | None, typer.Option(help="File of lines name:key; without it everybody here is one.")] = None,
    no_keys: Annotated[bool, typer.Option("--no-keys", help="Listen to other machines without keys.")] = False,
    name: Annotated[list[str] | None, typer.Option(help="Host name that is answered; repeat for several.")] = None,
    queue: Annotated[int, typer.Option(min=1, help="Files that may wait or run.")] = 100,
    upload_mb: Annotated[int, typer.Option(min=1, max=65_536, help="Largest file, in MiB.")] = 1024,
    days: Annotated[float, typer.Option(min=0.001, help="Days that reports are kept.")] = 30.0,
    check: Annotated[str, typer.Option(hidden=True, help="Module that checks, for tests.")] = "",
) -> None:
    """Serve a page that checks downloaded generators, each in a jail. Ctrl-C ends it."""
    from devilgan_lite.apps.service import settings as service

    local = host in service.LOCAL_HOSTS
    if not local and keys is None and not no_keys:
        raise ValueError(f"host={shown(host)} lets other machines in: give --keys FILE, or say --no-keys.")
    if not local and keys is None and not name:
        raise ValueError("--no-keys for other machines needs --name, the host name that browsers use for this one.")
    known = service.read_keys(keys) if keys else {}
    hosts = (*service.LOCAL_HOSTS, *(name or ())) if not known or name else ()  # a key is enough against foreign names
    settings = service.Settings(
        folder=folder,
        database=database,
        workers=workers,
        keys=known,
        hosts=hosts,
        queue=queue,
        queue_per_key=max(1, queue // 2) if known else queue,
        upload_bytes=upload_mb * service.MIB,
        days=days,
        check=check or service.CHECK,
    )
    from devilgan_lite.apps.service.server import run

    run(settings, host, port, lambda address: typer.echo(f"listening on {address}"))


COMMANDS = (serve,)
