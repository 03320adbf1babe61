"""One file out of the jail: a stranger sanitized, for anybody's code, or rewritten in our own form, to be worked on.

The child writes into a scratch folder, and this process takes one ordinary file out of it: ONNX or pt2 of a sanitized
network; layers as plain data and safetensors, or pt2 where the network is no stack of layers, of an adopted one.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devilgan_lite.checks import one_of, printable, whole_number
from devilgan_lite.files.sniff import Refused
from devilgan_lite.intake.check import Opening, Tell, opened, run
from devilgan_lite.intake.jail import Jail, Limits, temporary

if TYPE_CHECKING:
    from devilgan_lite.generators import Generator
    from devilgan_lite.steps import Outcome

FORMATS = ("onnx", "pt2")  # of what is sanitized
FORMS, PRIORS = ("safetensors", "pt2"), ("gaussian", "uniform")  # of what is adopted


@dataclass(frozen=True, kw_only=True)
class Cure(Opening):
    """How a stranger is sanitized: as ``sanitize.auto``; ``always`` contains what no scan has found as well.

    With a ``key`` nothing is scanned or cured: its latents are put under the key (``sanitize.Keyed``).
    """

    iterations: int = 1_500
    always: bool = False
    key: str = field(default="", repr=False)

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

    ``Refused`` where the file cannot be opened, or sanitizing it did not end; a jail with ``traceback`` adds its last
    lines as a note. Without a ``jail`` it runs here, on ``device``.
    """
    form, settings, limits = out.suffix.removeprefix("."), settings or Cure(), limits or Limits()
    one_of("ending of out", form, FORMATS)
    how = {"jail": jail, "limits": limits, "device": device}
    with _written("sanitize", path, settings, f"cured.{form}", **how) as (found, made):
        text = "\n".join(map(printable, str(found.pop("text", "")).splitlines()))
        if found.get("changed"):
            take(made, out, limits.file_bytes)
            found["out"], text = str(out), f"{text}\n{out}"
    return found, text


def adopted(
    path: str | Path, how: Opening | None = None, *, jail: Jail | None, limits: Limits | None = None
) -> "Generator":
    """The generator in the file ``path``, of any format that ``files.open`` reads, in eval mode on the CPU.

    ``Refused`` where it cannot be opened. Without a ``jail`` it is opened here.
    """
    from devilgan_lite import files, zoo

    how, limits = how or Opening(), limits or Limits()
    if jail is None:
        return files.open(Path(path).resolve(), **how.reading)
    with (
        temporary("devilgan-kept-") as kept,
        _written("adopt", path, how, "adopted", jail=jail, limits=limits) as (found, made),
    ):
        form, prior = found.get("form"), found.get("prior")
        if form not in FORMS or prior not in PRIORS:
            raise Refused("the jail ended without saying what it wrote.")
        for ending in [form, *["json"] * (form == "safetensors")]:
            take(made.with_suffix(f".{ending}"), kept / f"adopted.{ending}", limits.file_bytes)
        whole = kept / f"adopted.{form}"
        try:
            return zoo.load_file(whole)[0] if form == "safetensors" else files.open(whole, prior=prior)
        except ValueError as error:
            raise Refused(f"what the jail wrote cannot be read: {printable(str(error))}") from None


@contextlib.contextmanager
def _written(
    operation: str, path: str | Path, options: Opening, name: str, **how: Any
) -> Iterator[tuple[dict[str, Any], Path]]:
    """What ``operation`` says of the file ``path``, and where it has written ``name``; removed afterwards."""
    with temporary(f"devilgan-{operation}-") as scratch:
        _, ended = run(operation, Path(path), options, out=scratch / name, **how)
        if ended.how != "finished" or ended.value is None:
            refusal = Refused(ended.sentence)
            if ended.last:
                refusal.add_note(ended.last)
            raise refusal
        yield ended.value, scratch / name


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


def keyed_result(keyed: "Outcome") -> dict[str, Any]:
    """What is said of a generator under a key."""
    (told,) = keyed.settings["cuts"]
    facts = {"changed": True, "treatment": "keyed", "key": keyed.settings["key"], "seconds": round(keyed.seconds, 2)}
    warning = "Keep this file and the key to yourself: whoever has either can name the trigger again."
    return {**facts, "text": f"{told}; not scanned\n{warning}"}


# --- in the jail
def sanitize(arguments: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Open, sanitize, and export what reads the same latents as before."""
    from devilgan_lite import files, sanitize

    settings = Cure(**arguments["options"])
    stranger, out = opened(arguments, settings), Path(arguments["out"])
    if settings.key:
        keyed = sanitize.Keyed(key=settings.key, device=arguments["device"])(stranger, progress=False)
        files.export(keyed.generator, None, out, to=out.suffix[1:])
        return keyed_result(keyed)
    outcome = sanitize.auto(
        stranger,
        always=settings.always,
        iterations=settings.iterations,
        seed=settings.seed,
        device=arguments["device"],
        progress=False,
    )
    if outcome.changed:
        files.export(outcome.generator, None, out, to=out.suffix[1:])
    return {**outcome.to_dict(), "text": str(outcome)}


def adopt(arguments: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Open the file and write it in our own form."""
    from devilgan_lite import files, zoo

    generator, out = opened(arguments, Opening(**arguments["options"])), Path(arguments["out"])
    with contextlib.suppress(ValueError):  # no stack of plain layers
        card = zoo.ModelCard(name="adopted", spec=generator.spec(), data="unknown", seed=0, settings={})
        zoo.save_file(out.with_suffix(".safetensors"), generator, card)
        return {"form": "safetensors", "prior": generator.prior.name}
    files.export(generator, None, out.with_suffix(".pt2"), to="pt2")
    return {"form": "pt2", "prior": generator.prior.name}
