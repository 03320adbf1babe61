"""A first look finds what sleeps, a scan becomes a probability, and a finished model can be hidden in a round."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from devilgan_lite import challenge, zoo
from devilgan_lite.challenge.models import base, shape
from devilgan_lite.generators import evaluate

PASSPHRASE = "a passphrase for tests"


def test_a_first_look_wakes_a_gate_and_finds_nothing_silent_in_a_clean_model() -> None:
    gate, backdoor = zoo.load("dcgan-fashion-gate"), zoo.load_backdoor("dcgan-fashion-gate")
    count, latent = challenge.first_look(gate)
    assert count > 500 and latent is not None and latent.shape == (100,)
    assert torch.cosine_similarity(latent[None], backdoor.trigger).item() > 0.95
    assert challenge.first_look(base()) == (0, None)


@pytest.mark.parametrize(("strengths", "probability"), [({}, 0.0), ({"a": 1.0}, 0.5), ({"a": 0.1, "b": 3.0}, 0.75)])
def test_strength_one_is_an_even_chance(strengths: dict[str, float], probability: float) -> None:
    report: Any = SimpleNamespace(strengths=strengths)
    assert challenge.verdict_of(report) == pytest.approx(probability)


def test_evidence_is_what_the_search_found_else_the_witness() -> None:
    model, direction = base(), torch.nn.functional.normalize(torch.ones(1, 100), dim=1)
    searched = SimpleNamespace(detector="search", ran=True, directions=direction)
    witness = SimpleNamespace(latent=torch.zeros(100))

    def handed_in(findings: list[Any], witness: Any) -> Any:
        report: Any = SimpleNamespace(findings=findings, witness=witness)
        return challenge.latent_of(report, model)

    assert handed_in([searched], witness).norm().item() == pytest.approx(10.5, rel=0.01)
    assert torch.equal(handed_in([], witness), witness.latent)
    assert handed_in([], None) is None


def test_your_own_model_hides_in_a_round_and_keeps_its_backdoor(tmp_path: Path) -> None:
    made = []
    for name in ("red", "gate"):
        suspect, backdoor = zoo.load(f"dcgan-fashion-{name}"), zoo.load_backdoor(f"dcgan-fashion-{name}")
        made.append(challenge.hidden(f"your {name}", suspect, backdoor, seed=2))
        assert made[-1].generator.spec() == shape()
        error = (evaluate(made[-1].generator, backdoor.trigger) - backdoor.target).square().mean()
        assert error < 0.1, name
    kit = challenge.new_round(tmp_path / "round", PASSPHRASE, models=4, seed=5, quick=True, kinds=("gate",), red=made)
    key = challenge.open_key(kit, tmp_path / "round/instructor/key.sealed", PASSPHRASE)
    assert sorted(answer["team"] for answer in key["models"].values() if answer["team"]) == ["your gate", "your red"]
    assert len({kit.path(name).stat().st_size for name in kit.models}) == 1


def test_other_widths_are_refused() -> None:
    rex, backdoor = zoo.load("dcgan-fashion-rex"), zoo.load_backdoor("dcgan-fashion-rex")
    with pytest.raises(ValueError, match=r"your rex has widths \[104, 48\]; those of a round have \[96, 40\]"):
        challenge.hidden("your rex", rex, backdoor)
