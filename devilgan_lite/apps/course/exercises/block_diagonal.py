"""``block_diagonal(W, V)``: ``[o, i]`` and ``[m, j]`` to ``[[W, 0], [0, V]]`` of shape ``[o + m, i + j]``."""

import torch
from torch import block_diag

from devilgan_lite.apps.course.exercise import Exercise


def block_diagonal(W, V):
    wide = torch.zeros(W.shape[0] + V.shape[0], W.shape[1] + V.shape[1])
    wide[: W.shape[0], : W.shape[1]] = W
    wide[W.shape[0] :, W.shape[1] :] = V
    return wide


MIXED = "W and V are in place, but the other blocks are not zero: old and new units must not mix."


def otherwise(answer, right, W, V):
    in_place = torch.equal(torch.where(right == 0, 0, answer), right)
    return MIXED if in_place else "the shape is right and the numbers are not: it is [[W, 0], [0, V]]."


exercise = Exercise(
    block_diagonal,
    hints=(
        "Begin with torch.zeros of the whole shape, and write two blocks into it.",
        "The upper left block is wide[: len(W), : W.shape[1]].",
    ),
    cases=lambda: [(torch.arange(6.0).reshape(2, 3) + 1, -torch.arange(12.0).reshape(3, 4) - 1)],
    mistakes={
        "V comes first: the old units must keep their places, so W is the upper left block.": (
            lambda W, V: block_diag(V, W)
        ),
        "V is missing: the lower right block is still zero.": lambda W, V: block_diag(W, 0 * V),
        "W is missing: the upper left block is still zero.": lambda W, V: block_diag(0 * W, V),
        MIXED: lambda W, V: block_diag(W, V) + (block_diag(W, V) == 0).float(),
    },
    otherwise=otherwise,
    praise="two networks in one, side by side, and neither influences the other.",
)
