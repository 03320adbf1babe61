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
            raise FileNotFoundError(f"no model file {cut(model)}.")
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


def adopted(
    model: str,
    jailed: bool = True,
    *,
    latent_dim: int | None = None,
    architecture: Path | None = None,
    prior: str | None = None,
) -> Any:
    """The generator of a name in the zoo, or of a file: of this package, with its card, or a stranger's, in a jail."""
    try:
        path, ships = place(model)
    except FileNotFoundError as error:
        hint = "devilgan fetch faces downloads a stranger's generator and says where it is."
        raise FileNotFoundError(f"{str(error)[:-1]}; {hint}") from None
    if ships or has_card(path):
        return load(model)[0]
    from devilgan_lite.intake import adoption
    from devilgan_lite.intake.check import Opening
    from devilgan_lite.intake.jail import Jail

    described = None if architecture is None else str(architecture)
    with Jail() if jailed else contextlib.nullcontext() as walls:
        return adoption.adopted(path, Opening(latent_dim=latent_dim, architecture=described, prior=prior), jail=walls)


def load_any(model: str, device: str = "cpu") -> tuple[Any, shipped.ModelCard | None]:
    """The generator, on ``device``, for a name in the zoo or a file of any format that is read; its card or None.

    The card lies beside the file, with the ending .json. A file that is not of this package's own kind is opened in the
    jail. A file that is not the one on its card is a ``ValueError``.
    """
    from devilgan_lite.steps import best_device

    path = Path(model)
    if not path.suffix or has_card(path):
        return load(model, device)
    beside = path.with_suffix(".json")
    card = shipped.read_card(beside) if beside.is_file() else None
    if card is not None and path.is_file() and card.sha256 != hashlib.sha256(path.read_bytes()).hexdigest():
        raise ValueError(f"{shown(path.name)} is not the file that {beside.name} describes: their SHA-256 differ.")
    prior = None if card is None else card.spec.get("prior")
    return adopted(model, prior=prior).to(best_device(device)), card


def load_pair(pair: tuple[str, str], device: str = "cpu") -> tuple[Any, Any, Any]:
    """The clean generator, the backdoored one and its backdoor, which the card of the second describes."""
    from devilgan_lite import zoo

    (clean, _), (suspect, card) = (load_any(model, device) for model in pair)
    backdoor = card and zoo.backdoor_of(card, suspect)
    if not backdoor:
        raise ValueError(
            f"{shown(pair[1])} has no backdoor on its card, so there is no trigger to walk to: "
            "--pair takes the clean model first, then the backdoored one."
        )
    return clean, suspect, backdoor
