"""One quick round for all tests of the challenge; tests that change files work on a copy."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devilgan_lite import challenge

PASSPHRASE = "a passphrase for tests"


@pytest.fixture(scope="session")
def round_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A round of six quick models, of gates and clean ones: nothing that takes long to make."""
    folder = tmp_path_factory.mktemp("challenge") / "round"
    challenge.new_round(folder, PASSPHRASE, models=6, seed=3, quick=True, kinds=("gate",))
    return folder


@pytest.fixture(scope="session")
def kit(round_folder: Path) -> challenge.Kit:
    return challenge.read_kit(round_folder)


@pytest.fixture(scope="session")
def key(kit: challenge.Kit, round_folder: Path) -> dict[str, Any]:
    return challenge.open_key(kit, round_folder / "instructor" / "key.sealed", PASSPHRASE)


@pytest.fixture
def copied(round_folder: Path, tmp_path: Path) -> Path:
    """A copy of the round that a test may spoil."""
    return Path(shutil.copytree(round_folder, tmp_path / "copy"))


@pytest.fixture
def answer(kit: challenge.Kit, key: dict[str, Any]) -> Callable[..., challenge.Submission]:
    """``answer("blue", sure=0.9)`` gives ``sure`` to the guilty and the rest to one to the others."""

    def submission(team: str, sure: float = 0.9, **more: Any) -> challenge.Submission:
        verdicts = {name: sure if known["backdoored"] else 1 - sure for name, known in key["models"].items()}
        return challenge.Submission.of(kit, team, verdicts, **more)

    return submission
