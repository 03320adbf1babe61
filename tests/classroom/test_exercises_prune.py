"""The exercises on pruning: the stub fails, the solution passes, each usual mistake has its own sentence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from devilgan_lite.classroom import EXERCISES, NotYet, check


def share(x: Tensor) -> Tensor:
    """How often each unit is on."""
    return (x > 0).sum(0) / len(x)


def sizes(kernel: Tensor) -> Tensor:
    return kernel.abs().flatten(1).sum(1)


def means(x: Tensor) -> Tensor:
    return x.transpose(0, 1).flatten(1).mean(1)


SOLUTIONS = {
    "dormant_units": lambda x, t, limit: torch.logical_and(share(x) <= limit, t > 0),
    "channel_worth": lambda x, kernel: means(x) * sizes(kernel),
    "smaller_kernel": lambda kernel, before, after: kernel.index_select(0, before).index_select(1, after),
}
MISTAKES = {
    "dormant_units": [
        lambda x, t, limit: share(x) <= limit,
        lambda x, t, limit: (share(x) <= limit) | (t > 0),
        lambda x, t, limit: (share(x) > limit) & (t > 0),
        lambda x, t, limit: (share(x) < limit) & (t > 0),
        lambda x, t, limit: (x.mean(0) <= limit) & (t > 0),
        lambda x, t, limit: (x <= limit).all(0) & (t > 0),
        lambda x, t, limit: (x == 0).all(0) & (t > 0),
        lambda x, t, limit: (share(x) <= limit) & (t == 0),
        lambda x, t, limit: t > 9,
    ],
    "channel_worth": [
        lambda x, kernel: means(x),
        lambda x, kernel: sizes(kernel),
        lambda x, kernel: means(x) * kernel.flatten(1).sum(1),
        lambda x, kernel: means(x) * sizes(kernel.transpose(0, 1)),
        lambda x, kernel: x.sum((0, 2, 3)) * sizes(kernel),
        lambda x, kernel: means(x) * kernel.abs().mean((1, 2, 3)),
        lambda x, kernel: means(x) * kernel.square().sum((1, 2, 3)),
        lambda x, kernel: means((x > 0).float()) * sizes(kernel),
        lambda x, kernel: means(x) + sizes(kernel),
    ],
    "smaller_kernel": [
        lambda kernel, before, after: kernel[after][:, before],
        lambda kernel, before, after: kernel[before][:, before],
        lambda kernel, before, after: kernel[after][:, after],
        lambda kernel, before, after: kernel[: len(before), : len(after)],
        lambda kernel, before, after: kernel[before][:, after].transpose(0, 1),
        lambda kernel, before, after: kernel[before][:, after].flip((2, 3)),
        lambda kernel, before, after: torch.zeros(len(before), len(after), 2, 2),
        lambda kernel, before, after: kernel[before, after],
        lambda kernel, before, after: kernel[before],
        lambda kernel, before, after: kernel[before][:, after] + 1,
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


def test_one_length_only_is_found() -> None:
    with pytest.raises(NotYet, match="these are not the kept weights"):
        EXERCISES["smaller_kernel"](
            lambda kernel, before, after: kernel[before][:, after] * (1 if len(before) == len(after) else 2)
        )
