"""Block matrices of widened networks: what is old stays, what is between is zero, and a change of either is found."""

import pytest
import torch

from devilgan_lite import generators
from devilgan_lite.attacks import expand, fold
from devilgan_lite.classroom.blocks import draw_blocks, untouched


@pytest.mark.parametrize("old", [generators.DCGAN(), generators.PointGenerator(widths=8)], ids=["DCGAN", "points"])
def test_a_folded_expansion_leaves_the_old_part_alone(old: generators.Generator) -> None:
    wide = fold(old, expand(old, 4, seed=1))
    assert untouched(wide, old) == dict.fromkeys(untouched(old, old), True)
    assert draw_blocks(wide, old, "three matrices").png.startswith(b"\x89PNG")
    assert draw_blocks(old, old, "three matrices").alt == "three matrices"


def test_what_was_touched_is_found() -> None:
    old = generators.PointGenerator(widths=8)
    changed, mixed = (fold(old, expand(old, 4, seed=1)) for _ in range(2))
    with torch.no_grad():
        changed.layers[0].weight[0, 0] += 1e-3
        mixed.layers[2].weight[0, 9] = 1.0  # the first old unit reads a new one
    assert list(untouched(changed, old).values()) == [False, True]
    assert list(untouched(mixed, old).values()) == [True, False]


def test_a_network_without_layers_in_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="no chain of layers"):
        untouched(generators.StyleGAN(), generators.StyleGAN())
