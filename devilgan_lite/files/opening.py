"""``files.open``: the one door for a stranger's file. It gives a ``Generator``, which tells its ``Origin``.

A file is read as data, but readers have bugs: what you do not trust goes through the jail first (``intake.check``).
"""

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from devilgan_lite import zoo
from devilgan_lite.checks import latent_size, one_of, shown
from devilgan_lite.files import architectures, state_dicts
from devilgan_lite.files.archive import Archive, checked
from devilgan_lite.files.batches import Reading
from devilgan_lite.files.program import run_checked
from devilgan_lite.files.sniff import ACCEPTED, FORMATS, WAY_OUT, Facts, Refused, facts
from devilgan_lite.generators import Adopted, Generator, adopt
from devilgan_lite.generators.base import READS_MORE
from devilgan_lite.generators.stack import ChannelsFirst
from devilgan_lite.prior import PRIORS, Prior


@dataclass(frozen=True)
class Origin:
    """Where a generator comes from: the file (``facts``), its ``format``, one of ``files.FORMATS``, how the network is
    known (``architecture``), and ``notes``, sentences for a report.
    """

    format: str
    architecture: str
    facts: Facts
    notes: tuple[str, ...] = ()


def open(  # noqa: A001
    path: str | Path,
    *,
    latent_dim: int | None = None,
    prior: str | None = None,
    architecture: Mapping[str, Any] | str | Path | None = None,
    weights: str | None = None,
    name: str | None = None,
) -> Generator:
    """The generator in a file of any of ``files.FORMATS``, told by its content, read as data; or ``Refused``.

    Its ``origin`` is an ``Origin``; its ``network`` makes what the network in the file does.

    ``latent_dim`` must be what the file says; it helps nowhere else. ``prior`` is ``"gaussian"`` or ``"uniform"``.
    ``architecture`` (data, or a JSON file) tells a network for weights that come without one; ``weights`` names a set
    of them in a checkpoint that holds several. ``name`` is shown instead of the file's own.
    """
    path = Path(path)
    if prior is not None:
        one_of("prior", prior, PRIORS)
    if latent_dim is not None:
        latent_size(latent_dim)
    if isinstance(architecture, (str, Path)):
        architecture = architectures.read_architecture(Path(architecture))
    elif architecture is not None:
        architecture = architectures.checked(architecture)
    known = facts(path, name=name)
    form, reading = _read(path, known, architecture, prior, weights)
    called = path.suffix.lower().removeprefix(".")
    if called != form and any(called == other.ending for other in FORMATS.values() if other.ending):
        raise Refused(
            f"the file is called .{called} but holds {form}: who goes by its name may read another model in it; "
            "rename it."
        )
    shape, prior = reading.latent_shape, reading.prior or prior or "gaussian"
    if latent_dim not in (None, math.prod(shape)):
        raise Refused(f"latent_dim={latent_dim} does not fit: the network reads latents {list(shape)}.")
    module, notes = _checked(reading.module.eval(), shape, prior)
    try:
        generator = adopt(module, latent_shape=shape, prior=prior)
    except ValueError as error:
        raise Refused(str(error)) from None
    generator.origin = Origin(form, reading.architecture, known, (*reading.notes, *notes))
    return generator


def _read(
    path: Path, known: Facts, architecture: Mapping[str, Any] | None, prior: str | None, weights: str | None
) -> tuple[str, Reading]:
    """The format of the file, and what is read in it."""
    card = path.with_suffix(".json")
    if known.kind == "safetensors" and path.suffix == ".safetensors" and card.exists() and architecture is None:
        try:
            generator, about = zoo.load_file(path)
        except ValueError as error:
            raise Refused(f"{error} If {shown(card.name)} beside it is not its card, move it away.") from None
        own = f"{about.spec['architecture']} of this package"
        told = f"{'a stack of layers' if isinstance(generator, Adopted) else own}, by the card beside it"
        return "safetensors", Reading(generator, (generator.latent_dim,), (), generator.prior.name, told)
    form = known.kind
    if form == "zip":
        with checked(path) as archive:
            form = _kind_of_archive(archive)
    reader = FORMATS[form].reader
    if isinstance(reader, str):
        module, _, function = reader.partition(":")
        reader = getattr(importlib.import_module(module), function)
    held = reader(path)
    if isinstance(held, Reading):
        return form, held
    every = list(state_dicts.candidates(held))
    sets = [one for one in every if weights in (None, one[0])]
    if not sets and weights is not None:
        valid = ", ".join(shown(name) for name, _ in every if name)
        raise Refused(f"weights={shown(weights)} is not in the file; valid: {valid or 'none'}.")
    if not sets:
        out = state_dicts.WAY_OUT
        raise Refused(f"it holds no weights of a network; accepted is a state_dict of a generator, else {out}.")
    return form, architectures.network_of(sets, architecture, prior)


def _kind_of_archive(archive: Archive) -> str:
    """``"state_dict"``, ``"pt2"`` or ``"keras"``, by the members; ``Refused`` says what else it is."""
    names = [name.partition("/")[2] or name for name in archive.sizes]
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise Refused(f"the file is TorchScript, which is a program; {WAY_OUT}.")
    found = [form.name for form in FORMATS.values() if form.members(archive.sizes.keys())]
    if len(found) > 1:
        raise Refused(f"the archive is {' and '.join(found)} at once, so each program reads another model in it.")
    if found:
        return found[0]
    endings = {name.rpartition(".")[2].lower() for name in names}
    what = "a zip archive"
    if endings & {"png", "jpg", "jpeg", "gif", "webp", "bmp"}:
        what = "a zip archive of pictures"
    elif endings == {"npy"}:
        what = "an archive of NumPy's arrays"
    elif "saved_model.pb" in " ".join(names):
        raise Refused(f"the file is a zipped SavedModel, which is a program; {WAY_OUT}.")
    raise Refused(f"the file is {what}, not a generator; {ACCEPTED}.")


def _checked(module: nn.Module, latent_shape: tuple[int, ...], prior: str) -> tuple[nn.Module, tuple[str, ...]]:
    """The module with channels first, and notes; ``Refused`` if it is no generator."""
    z = Prior.of(prior, math.prod(latent_shape)).draw(3, torch.Generator().manual_seed(0))
    samples = run_checked(module, z.reshape(3, *latent_shape))
    shape = tuple(samples.shape[1:])
    if samples.ndim < 2 or len(samples) != 3 or not samples.is_floating_point() or not samples.numel():
        raise Refused(f"the network makes {list(samples.shape)} of 3 latents; expected float samples [3, ...].")
    if math.prod(latent_shape) > READS_MORE * math.prod(shape):
        raise Refused(
            f"the network reads {list(latent_shape)} and makes {list(shape)}, as a classifier does; "
            "expected a generator, from latents to larger samples."
        )
    if len(shape) == 3 and shape[-1] in (1, 3) and shape[0] not in (1, 3):
        return nn.Sequential(module, ChannelsFirst()), ("its pictures have their channels last; they were moved",)
    return module, ()
