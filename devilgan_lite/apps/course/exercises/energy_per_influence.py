"""``energy_per_influence(A, M)``: two symmetric ``[d, d]`` to ``w`` of ``A v = w M v``, largest first, ``[d]``."""

import torch

from devilgan_lite.apps.course.exercise import Exercise, normal


def energy_per_influence(A, M):
    inverse = torch.linalg.inv(torch.linalg.cholesky(M))
    return torch.linalg.eigvalsh(inverse @ A @ inverse.T).flip(0)


COMPLEX = "the values are complex: they are real in truth; take .real, or solve with Cholesky and eigvalsh."
UNSORTED = "the values are right and not sorted: the most suspicious one comes first."


def cases():
    a, m = (normal(5, 9, seed=seed).double() for seed in (12, 13))
    return [(a @ a.T, m @ m.T)]


def values(matrix):
    return torch.linalg.eigvals(matrix).real.sort(descending=True).values


def otherwise(answer, right, *given):
    if answer.is_complex():
        return COMPLEX
    in_order = answer.double().sort(descending=True).values
    off = "the values are off: they are the eigenvalues of M^-1 A."
    return UNSORTED if torch.allclose(in_order, right, rtol=1e-4) else off


exercise = Exercise(
    energy_per_influence,
    hints=(
        "With M = L L^T (Cholesky), w are the ordinary eigenvalues of L^-1 A L^-T, which is symmetric.",
        "torch.linalg.eigvalsh sorts upwards: flip(0) turns it round.",
    ),
    cases=cases,
    mistakes={
        COMPLEX: lambda a, m: torch.linalg.eigvals(torch.linalg.solve(m, a)),
        UNSORTED: lambda a, m: energy_per_influence(a, m).roll(1),
        "the order is ascending: the most suspicious value comes first.": lambda a, m: energy_per_influence(a, m).flip(
            0
        ),
        "that is the spectrum of A alone: divide by the influence M.": lambda a, m: values(a),
        "that is the spectrum of A M: influence must divide, not multiply.": lambda a, m: values(a @ m),
        "energy and influence are swapped: A is above, M is below.": lambda a, m: values(torch.linalg.solve(a, m)),
        "you divide diagonal by diagonal: directions matter, so solve M^-1 A.": (
            lambda a, m: a.diagonal() / m.diagonal()
        ),
    },
    otherwise=otherwise,
    praise="that is the spectrum which finds TrAIL.",
)
