"""One quick round for all tests of the challenge."""

from pathlib import Path
from typing import Any

import pytest

from devilgan_lite.apps import game


@pytest.fixture(scope="session")
def round_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A round of six quick models, of gates and clean ones: nothing that takes long to make. Do not change it."""
    folder = tmp_path_factory.mktemp("challenge") / "round"
    game.new_round(folder, models=6, seed=3, quick=True, kinds=("gate",))
    return folder


@pytest.fixture(scope="session")
def kit(round_folder: Path) -> game.Kit:
    return game.read_kit(round_folder)


@pytest.fixture(scope="session")
def answers(kit: game.Kit, round_folder: Path) -> dict[str, Any]:
    return game.read_answers(round_folder / "instructor/answers.json", kit)
