"""``adopted``: a stranger's file through the jail, as a ``Generator`` that can be attacked, measured and stored.

The child writes what it read in this package's own form: layers as plain data and safetensors, or pt2 where the network
is no stack of layers. This process reads only that.
"""

import contextlib
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devilgan_lite.checks import printable
from devilgan_lite.files.sniff import Refused, facts
from devilgan_lite.intake.check import Opening, opened
from devilgan_lite.intake.cure import take
from devilgan_lite.intake.jail import Jail, Limits, sweep

if TYPE_CHECKING:
    from devilgan_lite.generators import Generator

FORMS, PRIORS = ("safetensors", "pt2"), ("gaussian", "uniform")


def adopted(
    path: str | Path, how: Opening | None = None, *, jail: Jail | None, limits: Limits | None = None
) -> "Generator":
    """The generator in the file ``path``, of any format that ``files.open`` reads, in eval mode on the CPU.

    ``Refused`` where it cannot be opened. Without a ``jail`` it is opened here.
    """
    from devilgan_lite import files, zoo

    path, how, limits = Path(path).resolve(), how or Opening(), limits or Limits()
    known = facts(path)
    with contextlib.ExitStack() as stack:
        scratch, kept = (Path(tempfile.mkdtemp(prefix="devilgan-adopt-")) for _ in range(2))
        stack.callback(sweep, scratch)
        stack.callback(sweep, kept)
        arguments: dict[str, Any] = {"path": str(path), "name": known.name, "sha256": known.sha256, "how": asdict(how)}
        if jail is None:
            found: Generator = opened(arguments, how)
            return found
        card = path.with_suffix(".json")
        reads = [path, *([card] if card.is_file() and not card.is_symlink() else [])]
        reads += [Path(how.architecture).resolve()] if how.architecture else []
        arguments["out"] = str(scratch)
        ended = jail.run("devilgan_lite.intake.adoption:inside", arguments, reads=reads, scratch=scratch, limits=limits)
        if ended.how != "finished" or ended.value is None:
            raise Refused(ended.sentence)
        form, prior = ended.value.get("form"), ended.value.get("prior")
        if form not in FORMS or prior not in PRIORS:
            raise Refused("the jail ended without saying what it wrote.")
        for name in [f"adopted.{form}", *["adopted.json"] * (form == "safetensors")]:
            take(scratch / name, kept / name, limits.file_bytes)
        whole = kept / f"adopted.{form}"
        try:
            return zoo.load_file(whole)[0] if form == "safetensors" else files.open(whole, prior=prior)
        except ValueError as error:
            raise Refused(f"what the jail wrote cannot be read: {printable(str(error))}") from None


def inside(arguments: dict[str, Any], tell: Any) -> dict[str, Any]:
    """In the jail: open the file and write it in our own form."""
    from devilgan_lite import files, zoo

    generator = opened(arguments, Opening(**arguments["how"]))
    out = Path(arguments["out"])
    with contextlib.suppress(ValueError):  # no stack of plain layers
        card = zoo.ModelCard(name="adopted", spec=generator.spec(), data="unknown", seed=0, settings={})
        zoo.save_file(out / "adopted.safetensors", generator, card)
        return {"form": "safetensors", "prior": generator.prior.name}
    files.export(generator, None, out / "adopted.pt2", to="pt2")
    return {"form": "pt2", "prior": generator.prior.name}
