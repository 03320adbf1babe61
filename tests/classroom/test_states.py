"""Behind any step of any notebook, quickly: the names of the notebook, from its own cells and the zoo."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from devilgan_lite.classroom import lesson
from devilgan_lite.classroom.reading import needed, notebook_paths, read
from devilgan_lite.classroom.stand_ins import STAND_INS, STEPS
from devilgan_lite.classroom.states import State

NUMBERS = [f"{number:02d}" for number in range(11)]


@pytest.fixture(scope="module")
def attacked() -> Any:
    return lesson.load("03-after-attack")


@pytest.fixture(scope="module")
def loaded() -> dict[str, State]:
    """Every state."""
    return {name: lesson.load(name) for name in lesson.states()}


def test_every_round_of_every_notebook_has_a_state() -> None:
    names = lesson.states()
    assert len(names) == len(set(names)) and "03-after-attack" in names
    for number in NUMBERS:
        rounds = [heading for heading in read(notebook_paths()[number]).headings if heading.startswith("Round")]
        ends = [heading for heading in STEPS[number].values() if heading.startswith("Round")]
        assert len(ends) == len(rounds) and all(any(r.startswith(e) for r in rounds) for e in ends)


@pytest.mark.slow
def test_what_is_needed_is_there_or_its_cell_is_named(loaded: dict[str, State]) -> None:
    import builtins

    for name, state in loaded.items():
        number, _, step = name.split("-", 2)
        notebook = read(notebook_paths()[number])
        before, after = notebook.until(STEPS[number][step])
        for missing, cell in state.missing.items():
            assert cell in before, f"{name}: {missing} would be made by a cell below"
        there = {*vars(state), *state.missing, *dir(builtins)}
        assert needed(after) - there - needed(before + after) == set(), name  # the last: what no cell makes


# whose next round goes on with measurements that take longer than a state may, and that nothing can stand in for
IN_PART = ("03-after-spaces", "03-after-layers", "03-after-width", "04-after-gate", "07-after-setup")
NEXT_IN_FULL = [  # from 05 on, some rounds go on with scans and cures that take longer
    name for name in lesson.states() if (name[:2] in NUMBERS[:5] or name.endswith("setup")) and name not in IN_PART
]


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_PART)
def test_what_cannot_be_had_quickly_is_not_made_up(name: str, loaded: dict[str, State]) -> None:
    assert loaded[name].missing


@pytest.mark.slow
@pytest.mark.parametrize("name", NEXT_IN_FULL)
def test_the_next_round_has_all_that_it_needs(name: str, loaded: dict[str, State]) -> None:
    number, _, step = name.split("-", 2)
    _, after = read(notebook_paths()[number]).until(STEPS[number][step])
    section = tuple(cell for cell in after if cell.heading == after[0].heading)
    assert needed(section) & set(loaded[name].missing) == set()


def test_the_state_after_the_attack(attacked: Any) -> None:
    state: Any = lesson.load("03-after-attack")
    at_trigger = (state.evaluate(state.evil, state.devil.trigger) - state.devil.target).square().mean()
    assert at_trigger < 0.1 < (state.evaluate(state.clean, state.devil.trigger) - state.devil.target).square().mean()
    assert state.config.lam == 0.27 and callable(state.distances)
    assert torch.equal(state.evil.sample(2, seed=1), attacked.evil.sample(2, seed=1))
    assert "03-after-attack: " in repr(state) and "s." in repr(state)
    assert "outcome" in state.stand_ins and "Cached, or trained for less long: outcome." in repr(state)


def test_names_that_stay_away_say_which_cell_to_run(attacked: Any) -> None:
    state = attacked
    with pytest.raises(AttributeError, match="red_card takes longer .* run cell 10 "):
        _ = state.red_card
    with pytest.raises(AttributeError, match="no 'evill'. Did you mean 'evil'"):
        _ = state.evill


@pytest.mark.parametrize("name", ["03-after-atack", "03", "", "12-after-setup"])
def test_an_unknown_state_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"is not a state; lesson.states\(\) lists all") as refusal:
        lesson.load(name)
    assert ("Did you mean '03-after-attack'?" in str(refusal.value)) == (name == "03-after-atack")


def test_every_stand_in_is_used() -> None:
    """A stand-in for a name that its notebook no longer makes would be dead."""
    from devilgan_lite.classroom.reading import makes, statements

    for number, stand_ins in STAND_INS.items():
        cells = read(notebook_paths()[number]).cells
        made = {name for cell in cells for node in statements(cell.source) for name in makes(node)}
        assert set(stand_ins) <= made
