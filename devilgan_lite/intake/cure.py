"""``cure``: a stranger's file through the jail, sanitized, and written as an ONNX or pt2 that anybody's code loads."""

import contextlib
import os
import shutil
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from devilgan_lite.checks import one_of, printable, whole_number
from devilgan_lite.files.sniff import Refused, facts
from devilgan_lite.intake.check import Opening, opened
from devilgan_lite.intake.jail import Jail, Limits, sweep

FORMATS = ("onnx", "pt2")


@dataclass(frozen=True, kw_only=True)
class Cure(Opening):
    """How a stranger is sanitized: as ``sanitize.auto``; ``always`` contains what no scan has found as well."""

    iterations: int = 1_500
    always: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("iterations", self.iterations, 1)


def cure(
    path: str | Path,
    out: Path,
    settings: Cure | None = None,
    *,
    jail: Jail | None,
    limits: Limits | None = None,
    device: str = "cpu",
) -> tuple[dict[str, Any], str]:
    """Sanitize the file ``path`` and write ``out`` (.onnx or .pt2) if anything was changed: plain data, and a text.

    ``Refused`` where the file cannot be opened, or sanitizing it did not end. Without a ``jail`` it runs here, on
    ``device``.
    """
    if jail is not None:
        jail.check_device(device)
    path, settings, limits = Path(path).resolve(), settings or Cure(), limits or Limits()
    form = out.suffix.removeprefix(".")
    one_of("ending of out", form, FORMATS)
    known = facts(path)
    with contextlib.ExitStack() as stack:
        scratch = Path(tempfile.mkdtemp(prefix="devilgan-cure-"))
        stack.callback(sweep, scratch)
        made = scratch / f"cured.{form}"
        arguments: dict[str, Any] = {"path": str(path), "name": known.name, "sha256": known.sha256, "out": str(made)}
        arguments["settings"] = asdict(settings)
        if jail is None:
            found = inside({**arguments, "device": device}, lambda event: None)
        else:
            reads = [path, *([Path(settings.architecture).resolve()] if settings.architecture else [])]
            ended = jail.run("devilgan_lite.intake.cure:inside", arguments, reads=reads, scratch=scratch, limits=limits)
            if ended.how != "finished" or ended.value is None:
                raise Refused(ended.sentence)
            found = ended.value
        text = "\n".join(map(printable, str(found.pop("text", "")).splitlines()))
        if found.get("changed"):
            take(made, out, limits.file_bytes)
            found["out"], text = str(out), f"{text}\n{out}"
    return found, text


def take(made: Path, out: Path, most: int) -> None:
    """Copy what a child wrote: one ordinary file of its own of at most ``most`` bytes, or ``Refused``."""
    with contextlib.ExitStack() as stack:
        try:
            number = os.open(made, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        except OSError:
            raise Refused("the jail ended without the file that it should have written.") from None
        stack.callback(os.close, number)
        state = os.fstat(number)
        if not stat.S_ISREG(state.st_mode) or state.st_nlink != 1 or state.st_size > most:
            raise Refused("the jail ended with something else than the file that it should have written.")
        out.parent.mkdir(parents=True, exist_ok=True)
        source = stack.enter_context(open(number, "rb", closefd=False))
        shutil.copyfileobj(source, stack.enter_context(open(out, "wb")))


def inside(arguments: dict[str, Any], tell: Any) -> dict[str, Any]:
    """In the jail: open, sanitize, and export what reads the same latents as before."""
    from devilgan_lite import files, sanitize

    settings = Cure(**arguments["settings"])
    stranger = opened(arguments, settings)
    outcome = sanitize.auto(
        stranger,
        always=settings.always,
        iterations=settings.iterations,
        seed=settings.seed,
        device=arguments.get("device", "cpu"),
        progress=False,
    )
    if outcome.changed:
        out = Path(arguments["out"])
        files.export(outcome.generator, None, out, to=out.suffix[1:])
    return {**outcome.to_dict(), "text": str(outcome)}
