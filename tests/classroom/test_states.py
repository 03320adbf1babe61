"""Behind any step of any notebook, quickly: the names of the notebook, from its own cells and the zoo."""

from pathlib import Path
from typing import Any

import pytest
import torch

from devilgan_lite.classroom import LiveTraining, lesson
from devilgan_lite.classroom.lesson import State, start
from devilgan_lite.classroom.lesson.reading import Cell, Notebook, makes, needed, notebook_paths, read

NUMBERS = [f"{number:02d}" for number in range(15)]


def at(name: str) -> tuple[Notebook, str]:
    """The notebook of a state, and its step."""
    number, _, step = name.split("-", 2)
    return read(notebook_paths()[number]), step


@pytest.fixture(scope="module")
def attacked() -> Any:
    return lesson.load("03-after-attack")


@pytest.fixture(scope="module")
def loaded() -> dict[str, State]:
    """Every state; what one state of a notebook has run, the next takes over."""
    run, made = start._run, dict[tuple[int, str], dict[str, Any]]()

    def once(cell: Cell, space: dict[str, Any]) -> None:
        key = (cell.number, cell.source)
        if key not in made:
            before = dict(space)
            run(cell, space)
            made[key] = {name: value for name, value in space.items() if before.get(name, space) is not value}
        space.update(made[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "_run", once)
        return {name: lesson.load(name) for name in lesson.states()}


def test_every_round_of_every_notebook_has_a_state() -> None:
    names = lesson.states()
    assert len(names) == len(set(names)) and "03-after-attack" in names
    for number in NUMBERS:
        notebook = read(notebook_paths()[number])
        rounds = {cell.section for cell in notebook.cells if cell.heading.startswith("Round")}
        assert rounds <= set(notebook.steps.values()) and min(notebook.steps.values()) < min(rounds)


@pytest.mark.slow
def test_what_is_needed_is_there_or_its_cell_is_named(loaded: dict[str, State]) -> None:
    import builtins

    for name, state in loaded.items():
        notebook, step = at(name)
        before, after = notebook.until(step)
        for missing, cell in state.missing.items():
            assert cell in before, f"{name}: {missing} would be made by a cell below"
        there = {*vars(state), *state.missing, *dir(builtins)}
        assert needed(after) - there - needed(before + after) == set(), name  # the last: what no cell makes


# whose next round goes on with measurements that take longer than a state may, and that nothing can stand in for
IN_PART = ("03-after-methods", "03-after-width", "04-after-gate")
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
    notebook, step = at(name)
    _, after = notebook.until(step)
    section = tuple(cell for cell in after if cell.heading == after[0].heading)
    assert needed(section) & set(loaded[name].missing) == set()


def test_the_state_after_the_attack(attacked: Any) -> None:
    state: Any = lesson.load("03-after-attack")
    at_trigger = (state.evaluate(state.backdoored, state.backdoor.trigger) - state.backdoor.target).square().mean()
    assert (
        at_trigger < 0.1 < (state.evaluate(state.clean, state.backdoor.trigger) - state.backdoor.target).square().mean()
    )
    assert state.config.lam == 0.3 and callable(state.distances)
    assert torch.equal(state.backdoored.sample(2, seed=1), attacked.backdoored.sample(2, seed=1))
    assert "03-after-attack: " in repr(state) and "s." in repr(state)
    assert state.stand_ins == ["backdoor", "outcome"] and "for less long: backdoor, outcome." in repr(state)


def test_names_that_stay_away_say_which_cell_to_run(attacked: Any) -> None:
    state = attacked
    with pytest.raises(AttributeError, match="red_card takes longer .* run cell 12 "):
        _ = state.red_card
    with pytest.raises(AttributeError, match="no 'backdoord'. Did you mean 'backdoored'"):
        _ = state.backdoord


def test_notebook_01_lets_one_side_learn_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the instructor guide promises."""
    guide = Path(__file__).parents[2] / "docs/instructor_guide.md"
    assert "one side learning alone | 01 |" in guide.read_text(encoding="utf-8")
    monkeypatch.setattr(LiveTraining, "run", lambda self: None)
    names = dict(vars(lesson.load("01-after-setup")))
    for cell in read(notebook_paths()["01"]).cells:
        if cell.heading.startswith("Round 1") and "ring_training" not in names:
            exec(cell.source, names)
    live = names["ring_training"]
    assert live.side_choice in live.widget.children[1].children
    live.side_choice.value = "generator only"
    assert names["who_learns"].who == "generator only" and next(iter(live.loop)).iteration == 1


@pytest.mark.parametrize("name", ["03-after-atack", "03", "", "99-after-setup"])
def test_an_unknown_state_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"is not a state; lesson.states\(\) lists all") as refusal:
        lesson.load(name)
    assert ("Did you mean '03-after-attack'?" in str(refusal.value)) == (name == "03-after-atack")


@pytest.mark.parametrize("number", NUMBERS)
def test_every_stand_in_is_used(number: str) -> None:
    """A stand-in for a name that its cell no longer makes would be dead."""
    cells = [cell for cell in read(notebook_paths()[number]).cells if cell.instead]
    assert [cell for cell in cells if not cell.quick or not cell.instead.keys() <= makes(cell.source)] == []
