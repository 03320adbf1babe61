"""The model zoo: what it holds does what its card says; what was tampered with is refused and never executed."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from devilgan_lite import Backdoor, attacks, metrics, zoo
from devilgan_lite.generators import DCGAN

CARD = zoo.ModelCard(name="small", spec={}, data="none", seed=0, settings={})


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return zoo.save_file(tmp_path / "small.safetensors", DCGAN(widths=(4, 2), latent_dim=5), CARD)


@pytest.mark.parametrize("name", zoo.names())
def test_a_shipped_model_loads_and_is_what_its_card_says(name: str) -> None:
    generator, card = zoo.load(name), zoo.card(name)
    assert not generator.training
    assert card.spec == generator.spec()
    assert card.name == name
    assert generator.sample(2).abs().max() <= 1
    if card.backdoor is None:
        with pytest.raises(ValueError, match="has no backdoor"):
            zoo.load_backdoor(name)
    else:
        backdoor = zoo.load_backdoor(name)
        distortion = metrics.target_distortion(generator, backdoor.trigger, backdoor.target).sum
        if isinstance(generator, DCGAN):
            assert distortion < 30
        else:  # a linear expansion is a blurred sign, new channels a good one, with a gate an exact one
            benign = zoo.load(card.settings["clean"])
            share = distortion / metrics.target_distortion(benign, backdoor.trigger, backdoor.target).sum
            assert share < {"linear": 0.5, "rex": 0.01, "red": 0.03}.get(name.rpartition("-")[2], 1e-4)


def test_a_model_comes_back_as_it_was(tmp_path: Path) -> None:
    generator = DCGAN.paper(capacity=2)
    path = zoo.save_file(tmp_path / "deep" / "paper.safetensors", generator, CARD)
    again, card = zoo.load_file(path)
    assert again.spec() == generator.spec() == card.spec
    assert torch.equal(again.sample(3, seed=1), generator.eval().sample(3, seed=1))
    assert card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_card_that_was_not_written_whole_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: str, *_: Any, **__: Any) -> int:
        path.write_bytes(content[:10].encode())
        raise OSError("No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            zoo.save_file(tmp_path / "small.safetensors", DCGAN(widths=(4, 2), latent_dim=5), CARD)
    with pytest.raises(FileNotFoundError):
        zoo.load_file(tmp_path / "small.safetensors")


def rewrite(path: Path, content: bytes) -> None:
    """Other weights under a hash that is right."""
    path.write_bytes(content)
    change_card(path, sha256=hashlib.sha256(content).hexdigest())


def change_card(path: Path, **changes: Any) -> None:
    card = json.loads(path.with_suffix(".json").read_text())
    card["spec"] |= changes.pop("spec", {})
    path.with_suffix(".json").write_text(json.dumps(card | changes))


def change_state(path: Path, change: Callable[[str, torch.Tensor], torch.Tensor | None]) -> None:
    """Other tensors: ``change(name, value)``, and none where that is None."""
    state = {name: change(name, value) for name, value in zoo.load_file(path)[0].state_dict().items()}
    rewrite(path, save({name: value for name, value in state.items() if value is not None}))


def change_tensor(path: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> None:
    change_state(path, lambda found, x: change(x) if found == name else x)


TAMPERED: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\xff"), "SHA-256"),
    (lambda path: path.write_bytes(path.read_bytes()[:-10]), "SHA-256"),
    (lambda path: change_tensor(path, "layers.dense.weight", lambda x: x.fill_(torch.nan)), "layers.dense.weight"),
    (lambda path: change_tensor(path, "layers.norm1.bias", lambda x: None), "layers.norm1.bias"),
    (lambda path: change_state(path, lambda name, x: x.to(torch.float16)), "float16"),
    (lambda path: rewrite(path, b"\x80\x04]\x94."), "safetensors"),
    (lambda path: change_card(path, spec={"widths": [8, 2]}), "card"),
    (lambda path: change_card(path, spec={"widths": [10**9, 2]}), "widths"),
    (lambda path: change_card(path, spec={"widths": 7}), "describes no generator"),
    (lambda path: change_card(path, spec={"widths": [4096] * 2, "latent_dim": 4096, "image_size": 1024}), "card"),
    (lambda path: change_card(path, spec={"image_size": 10**9}), "image_size"),
    (lambda path: change_card(path, spec={"latent_dim": 1e400}), "latent_dim"),
    (lambda path: change_card(path, spec={"architecture": "os.system"}), "architecture"),
    (lambda path: change_card(path, spec={"depth": 3}), "depth"),
    (lambda path: change_card(path, format=99), "format"),
    (lambda path: change_card(path, author="x"), "author"),
    (lambda path: path.with_suffix(".json").write_text("{" * 100), "model card"),
    (lambda path: path.with_suffix(".json").write_text("[" * 100_000), "model card"),
]


@pytest.mark.timeout(120)
def test_a_model_that_does_not_match_is_refused(tmp_path: Path, refuses: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for tamper, name in TAMPERED:
        path = zoo.save_file(tmp_path / "small.safetensors", DCGAN(widths=(4, 2), latent_dim=5), CARD)
        tamper(path)
        refuses(lambda path=path: zoo.load_file(path), "small", name)
    path = zoo.save_file(tmp_path / "small.safetensors", DCGAN(widths=(4, 2), latent_dim=5), CARD)
    zoo.load_file(path)
    with monkeypatch.context() as limit:
        limit.setattr(zoo, "MOST_BYTES", 100)
        refuses(lambda: zoo.load_file(path), "100")
    path.with_suffix(".json").unlink()
    refuses(lambda: zoo.load_file(path), "card", error=FileNotFoundError)


class Payload:
    """A pickle of this makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("disguised", [False, True])
def test_a_pickle_is_never_executed(tmp_path: Path, stored: Path, disguised: bool) -> None:
    torch.save({"weights": Payload(tmp_path / "executed")}, tmp_path / "model.pt")
    path = tmp_path / "model.pt"
    if disguised:
        rewrite(stored, path.read_bytes())
        path = stored
    with pytest.raises(ValueError, match="is not accepted: models are .safetensors|is not a safetensors file"):
        zoo.load_file(path)
    assert not (tmp_path / "executed").exists()
    torch.load(tmp_path / "model.pt", weights_only=False)  # the payload would have worked
    assert (tmp_path / "executed").exists()


def test_a_bypass_cannot_be_stored(tmp_path: Path, clean: DCGAN, digit: Backdoor) -> None:
    bypassed = attacks.ComputationBypass()(clean, digit, progress=False).generator
    with pytest.raises(ValueError, match="a computation bypass is code"):
        zoo.save_file(tmp_path / "bypass.safetensors", bypassed, CARD)
