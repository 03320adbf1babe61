"""Models by what a user calls them: a name in the zoo, or a file of any format. A stranger's file is read in a jail."""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

from devilgan_lite import shipped
from devilgan_lite.checks import cut, one_of, shown


def place(model: str) -> tuple[Path, bool]:
    """Where the model is, and whether it ships with this package; a missing file or an unknown name is an error."""
    if Path(model).suffix or os.sep in model or os.path.exists(model):
        if not os.path.exists(model):
            hint = "devilgan fetch faces downloads a stranger's generator and says where it is."
            raise FileNotFoundError(f"no model file {cut(model)}; {hint}")
        return Path(model), False
    one_of("name", model, shipped.names())
    return shipped.zoo_folder() / f"{model}.safetensors", True


def has_card(path: Path) -> bool:
    """Whether the file is one of this package's own kind, with the card beside it."""
    return path.suffix == ".safetensors" and path.with_suffix(".json").exists()


def load(model: str, device: str = "cpu") -> tuple[Any, shipped.ModelCard]:
    """The generator, on ``device``, and the card for a name in the zoo or a .safetensors file with its card."""
    from devilgan_lite import zoo

    path, ships = place(model)
    return (zoo.load(model, device), zoo.card(model)) if ships else zoo.load_file(path, device)


def card_of(model: str) -> shipped.ModelCard | None:
    """The card of a name in the zoo, or the one beside a file, with the ending .json; None without one.

    A file that is not the one on its card is a ``ValueError``.
    """
    path, ships = place(model)
    beside = path.with_suffix(".json")
    try:
        card = shipped.read_card(beside)
    except (FileNotFoundError, ValueError):
        if ships or has_card(path):
            raise
        return None  # a .json beside a stranger's file may be anything
    if card.sha256 != hashlib.sha256(path.read_bytes()).hexdigest():
        raise ValueError(f"{shown(path.name)} is not the file that {beside.name} describes: their SHA-256 differ.")
    return card


def open(  # noqa: A001
    model: Any,
    latent_dim: int | None = None,
    prior: str | None = None,
    *,
    architecture: Path | None = None,
    jailed: bool = True,
    device: str = "cpu",
) -> Any:
    """The ``Generator`` of a ``torch.nn.Module``, of a name in the zoo, or of a file of any format that is read.

    Scans, cures and attacks take it. A module and a stranger's file are checked and looked at once (see
    ``generators.adopt``), the file in a jail, unless it is not ``jailed``; what has a card of this package is read by
    its card. ``latent_dim`` and ``prior`` are needed where neither module nor file tells them, and ``architecture``, a
    JSON file, for weights that come without a network.
    """
    from devilgan_lite.generators import adopt
    from devilgan_lite.steps import best_device

    if not isinstance(model, (str, os.PathLike)):
        return adopt(model, latent_dim, prior=prior, device=device)
    path, ships = place(str(model))
    if ships or has_card(path):
        generator = load(str(model), device)[0]
        asked = {"latent_dim": latent_dim, "prior": prior, "architecture": architecture}
        told = {"latent_dim": generator.latent_dim, "prior": generator.prior.name}
        for name, value in asked.items():
            if value not in (None, told.get(name)):
                raise ValueError(f"{name}={shown(value)} does not fit {shown(path.name)}: its card says what it is.")
        return generator
    from devilgan_lite.intake import cure
    from devilgan_lite.intake.check import Opening
    from devilgan_lite.intake.jail import Jail

    card = card_of(str(model))
    if prior is None and card is not None:
        prior = card.spec.get("prior")
    described = None if architecture is None else str(architecture)
    with Jail() if jailed else contextlib.nullcontext() as walls:
        how = Opening(latent_dim=latent_dim, architecture=described, prior=prior)
        return adopt(cure.adopted(path, how, jail=walls)).to(best_device(device))


def load_pair(pair: tuple[str, str], device: str = "cpu") -> tuple[Any, Any, Any]:
    """The clean generator, the backdoored one and its backdoor, which the card of the second describes."""
    from devilgan_lite import zoo

    clean, suspect = (open(model, device=device) for model in pair)
    card = card_of(pair[1])
    backdoor = card and zoo.backdoor_of(card, suspect)
    if not backdoor:
        raise ValueError(
            f"{shown(pair[1])} has no backdoor on its card, so there is no trigger to walk to: "
            "--pair takes the clean model first, then the backdoored one."
        )
    return clean, suspect, backdoor
