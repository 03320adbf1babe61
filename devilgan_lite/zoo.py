"""Trained models as files: safetensors weights with a JSON model card beside them. A checkpoint is data, never code.

A card or file that does not match (hash, shape, architecture, non-finite weights, absurd size) is refused with one
sentence. Pickles are never loaded.
"""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save

from devilgan_lite import generators
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import cut, one_of, read_bytes, shown
from devilgan_lite.shipped import ModelCard as ModelCard
from devilgan_lite.shipped import card as card
from devilgan_lite.shipped import names as names
from devilgan_lite.shipped import read_card as read_card
from devilgan_lite.shipped import zoo_folder as zoo_folder
from devilgan_lite.steps import best_device

MOST_BYTES = 256 * 2**20  # far above any model of this package
MOST_TARGETS = 256
loaded: dict[str, str] = {}  # name -> SHA-256 of each shipped model that this process has loaded


def load(name: str, device: str = "cpu") -> generators.Generator:
    """The shipped model ``name`` in eval mode on ``device``; an unknown name is an error that lists the valid ones."""
    one_of("name", name, names())
    generator, card = load_file(zoo_folder() / f"{name}.safetensors", device)
    loaded[name] = card.sha256
    return generator


def load_backdoor(name: str) -> Backdoor:
    """The trigger and target that belong to the shipped backdoored model ``name`` (what only its attacker knows)."""
    if backdoor := backdoor_of(card(name), load(name)):
        return backdoor
    raise ValueError(f"name={shown(name)} has no backdoor on its card; it is a clean model.")


def backdoor_of(card: ModelCard, generator: generators.Generator) -> Backdoor | None:
    """The backdoor of ``generator`` that its ``card`` describes; None without one.

    The card names its target (or a list of several, each with a trigger of its own), kind and seed.
    """
    if not card.backdoor:
        return None
    if not {"target", "kind", "seed"} <= card.backdoor.keys():
        raise ValueError(f"the backdoor on the card of {cut(card.name)} lacks target, kind or seed.")
    target, kind, seed = (card.backdoor[name] for name in ("target", "kind", "seed"))
    targets = target if isinstance(target, list) else [target]
    if len(targets) > MOST_TARGETS or not all(isinstance(name, str) for name in targets):
        raise ValueError(f"the target on the card of {cut(card.name)} is no name, nor a list of them.")
    return Backdoor.points(generator, targets, kind=kind, seed=seed)


def save_file(path: str | Path, generator: generators.Generator, card: ModelCard) -> Path:
    """Write ``path`` (ending in .safetensors) and the card beside it; returns the path."""
    path = _checked(Path(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().clone().contiguous() for name, value in generator.state_dict().items()}
    path.write_bytes(save(state))
    write_card(path, replace(card, spec=generator.spec(), modality=generator.modality.name))
    return path


def write_card(path: Path, card: ModelCard) -> None:
    """Write ``card``, with the hash of the file ``path``, beside it: whole, or not at all."""
    filled = asdict(card) | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    part = path.with_suffix(".json.part")
    part.write_text(json.dumps(filled, indent=2) + "\n")
    part.replace(path.with_suffix(".json"))


def load_file(path: str | Path, device: str = "cpu") -> tuple[generators.Generator, ModelCard]:
    """Read a model written by ``save_file``: the generator in eval mode on ``device``, and its card.

    ``ValueError`` or ``FileNotFoundError`` in one sentence if anything does not match; nothing in the file is executed.
    """
    where, path = best_device(device), _checked(Path(path))
    content = read_bytes(path, "model file", most=MOST_BYTES)
    card = read_card(path.with_suffix(".json"))
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise ValueError(f"{path.name} does not match the SHA-256 on its card: it was changed or cut short.")
    state = parsed(content, path.name)
    try:
        with torch.device("meta"):  # shapes without memory: a card may describe more than this machine holds
            described = generators.build(card.spec)
    except (RuntimeError, TypeError, ValueError) as error:
        said = str(error).partition("\n")[0]
        raise ValueError(f"{path.with_suffix('.json').name} describes no generator of this package: {said}") from None
    expected, actual = _shapes(described.state_dict()), _shapes(state)
    for name in sorted(expected.keys() | actual.keys()):
        if (shape := actual.get(name, "missing")) != (described_shape := expected.get(name, "none")):
            raise ValueError(f"{path.name}: tensor {name} is {shape}; its card says {described_shape}.")
    for name, value in sorted(state.items()):
        if not torch.isfinite(value).all():
            raise ValueError(f"{path.name}: tensor {name} has values that are not finite.")
    generator = generators.build(card.spec)
    generator.load_state_dict(state)
    return generator.eval().to(where), card


def parsed(content: bytes, name: str) -> dict[str, torch.Tensor]:
    """The tensors in the bytes of the safetensors file ``name``; ``ValueError`` if it is none."""
    try:
        return parse(content)
    except SafetensorError as error:
        raise ValueError(f"{name} is not a safetensors file ({error}).") from None


def _shapes(state: dict[str, torch.Tensor]) -> dict[str, str]:
    return {name: f"{list(value.shape)} of {str(value.dtype).removeprefix('torch.')}" for name, value in state.items()}


def _checked(path: Path) -> Path:
    if path.suffix != ".safetensors":
        raise ValueError(
            f"{cut(path.name)} is not accepted: models are .safetensors files, because other formats can execute code."
        )
    return path
