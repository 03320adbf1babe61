"""The exercises on style-based generators: the stub fails, the solution passes, each usual mistake has its sentence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from devilgan_lite.classroom import EXERCISES, NotYet, check


def scaled(weight: Tensor, style: Tensor) -> Tensor:
    return torch.einsum("oikl,i->oikl", weight, style)


def norms(kernel: Tensor) -> Tensor:
    return kernel.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


SOLUTIONS = {
    "tiled_styles": lambda w, shift, inputs: torch.stack([w + shift[k] for k in range(inputs)], dim=1),
    "modulated_kernel": lambda weight, style: scaled(weight, style) / norms(scaled(weight, style)),
    "two_kinks": lambda c, low, high: ((c - low) / (high - low)).clamp(0, 1),
}
MISTAKES = {
    "tiled_styles": [
        lambda w, shift, inputs: w[:, None].repeat(1, inputs, 1),
        lambda w, shift, inputs: shift.repeat(len(w), 1, 1),
        lambda w, shift, inputs: (w + shift.mean(0))[:, None].repeat(1, inputs, 1),
        lambda w, shift, inputs: w[:, None] - shift,
        lambda w, shift, inputs: w[:, None] * shift,
    ],
    "modulated_kernel": [
        scaled,
        lambda weight, style: scaled(weight, style) / scaled(weight, style).norm(),
        lambda weight, style: scaled(weight, style) / norms(scaled(weight, style)) ** 2,
        lambda weight, style: (
            scaled(weight, style) / scaled(weight, style).square().sum((0, 2, 3), keepdim=True).sqrt()
        ),
        lambda weight, style: weight / norms(weight),
        lambda weight, style: weight,
    ],
    "two_kinks": [
        lambda c, low, high: (c - low).relu() / (high - low),
        lambda c, low, high: (c - low).relu() - (c - high).relu(),
        lambda c, low, high: -((c - low) / (high - low)).clamp(0, 1),
        lambda c, low, high: (c > low).float(),
        lambda c, low, high: torch.sigmoid(c),
    ],
}


def test_every_exercise_is_covered() -> None:
    assert set(SOLUTIONS) == set(MISTAKES) <= set(EXERCISES)


@pytest.mark.parametrize("name", SOLUTIONS)
def test_the_stub_fails_and_the_solution_passes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check(name, lambda *given: None)
    assert "returns None" in capsys.readouterr().out
    assert check(name, SOLUTIONS[name])
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_have_their_own_sentences(name: str) -> None:
    sentences = []
    for mistake in MISTAKES[name]:
        with pytest.raises(NotYet) as reason:
            EXERCISES[name](mistake)
        sentences.append(str(reason.value))
    assert len(set(sentences)) == len(sentences)
