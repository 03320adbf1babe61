"""One quick round for all tests of the challenge."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devilgan_lite.apps import game

PASSPHRASE = "a passphrase for tests"


@pytest.fixture(scope="session")
def round_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A round of six quick models, of gates and clean ones: nothing that takes long to make. Do not change it."""
    folder = tmp_path_factory.mktemp("challenge") / "round"
    game.new_round(folder, PASSPHRASE, models=6, seed=3, quick=True, kinds=("gate",))
    return folder


@pytest.fixture(scope="session")
def kit(round_folder: Path) -> game.Kit:
    return game.read_kit(round_folder)


@pytest.fixture(scope="session")
def opened() -> Callable[..., dict[str, Any]]:
    """``opened(kit)`` is the key of a round, with the passphrase of all rounds here unless another is given."""
    return lambda kit, passphrase=PASSPHRASE: game.open_key(
        kit, kit.folder.parent / "instructor" / "key.sealed", passphrase
    )


@pytest.fixture(scope="session")
def key(kit: game.Kit, opened: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return opened(kit)
