"""The exercises of the notebooks on detection; see ``exercises``."""

import torch
from torch import Tensor

from devilgan_lite.apps.course.exercises.judge import Learner, NotYet, call, judge, seeded_random


def on_rate(learner: Learner) -> str:
    """``on_rate(rows, bias)``: units ``[u, d]`` and ``[u]`` to the share of N(0, I) latents that wakes each ``[u]``."""
    rows, bias = 2 * torch.randn(5, 8, generator=seeded_random(11)), torch.tensor([0.0, 1.0, -2.0, -9.0, 3.0])
    answer = call(learner, rows, bias, shape=(5,))
    cdf, length = torch.special.ndtr, rows.norm(dim=1)
    mistakes = {
        "the length of the row is missing: <row, z> has the standard deviation |row|.": cdf(bias),
        "you divide by |row|^2: that is the variance; the standard deviation is |row|.": cdf(bias / length.square()),
        "the sign is wrong: a larger bias must give a larger share.": cdf(-bias / length),
        "you divide by sqrt(d): the standard deviation of <row, z> is |row|.": cdf(bias / 8**0.5),
        "you stopped before the normal distribution: apply its cumulative function.": bias / length,
    }
    judge(answer, cdf(bias / length), mistakes, "the value is off: it is P(<row, z> > -bias) for normal z.")
    return "exact, and no latent had to be drawn."


def energy_per_influence(learner: Learner) -> str:
    """``energy_per_influence(A, M)``: two symmetric ``[d, d]`` to ``w`` of ``A v = w M v``, largest first, ``[d]``."""
    random = seeded_random(12)
    root_a, root_m = torch.randn(5, 9, generator=random).double(), torch.randn(5, 9, generator=random).double()
    a, m = root_a @ root_a.T, root_m @ root_m.T
    answer = call(learner, a, m, shape=(5,))
    if answer.is_complex():
        raise NotYet("the values are complex: they are real in truth; take .real, or solve with Cholesky and eigvalsh.")

    def values(matrix: Tensor) -> Tensor:
        return torch.linalg.eigvals(matrix).real.sort(descending=True).values

    right = values(torch.linalg.solve(m, a))
    mistakes = {
        "the order is ascending: the most suspicious value comes first.": right.flip(0),
        "that is the spectrum of A alone: divide by the influence M.": values(a),
        "that is the spectrum of A M: influence must divide, not multiply.": values(a @ m),
        "energy and influence are swapped: A is above, M is below.": values(torch.linalg.solve(a, m)),
        "you divide diagonal by diagonal: directions matter, so solve M^-1 A.": a.diagonal() / m.diagonal(),
    }
    in_order = answer.double().sort(descending=True).values
    if not torch.allclose(answer.double(), right.flip(0), rtol=1e-4) and torch.allclose(in_order, right, rtol=1e-4):
        mistakes["the values are right and not sorted: the most suspicious one comes first."] = answer
    judge(answer, right, mistakes, "the values are off: they are the eigenvalues of M^-1 A.")
    return "that is the spectrum which finds TrAIL."


def empirical_p_value(learner: Learner) -> str:
    """``empirical_p_value(score, clean)``: a number and the scores of clean models ``[n]`` to a number."""
    clean = torch.tensor([0.2, 0.5, 0.1, 0.4, 0.5, 0.3, 0.1])
    for score in (0.5, 0.9, 0.05):
        answer = call(learner, score, clean, shape=())
        above, n = (clean >= score).float().sum(), len(clean)
        mistakes = {
            "that is the share of clean models below: count those that score as high or higher.": (clean < score)
            .float()
            .mean(),
            "the suspect itself is not counted: (1 + count) / (n + 1), which is never zero.": above / n,
            "the 1 is missing above the line: (1 + count) / (n + 1).": above / (n + 1),
            "the 1 is missing below the line: (1 + count) / (n + 1).": (1 + above) / n,
            "ties count: take >=, not >.": (1 + (clean > score).float().sum()) / (n + 1),
        }
        judge(answer, (1 + above) / (n + 1), mistakes, f"for the score {score} the value is off.")
    return "a score means nothing before clean models have been scored."


def samples_needed(learner: Learner) -> str:
    """``samples_needed(p, confidence)``: two float64 numbers to the samples that hit once with that confidence."""
    for chance in (0.01, 1e-57):
        p, confidence = torch.tensor(chance, dtype=torch.float64), torch.tensor(0.9, dtype=torch.float64)
        answer, right = call(learner, p, confidence, shape=()), torch.log1p(-confidence) / torch.log1p(-p)
        mistakes = {
            "1 / p is the expected number; for a given confidence solve (1 - p)^n = 1 - confidence.": 1 / p,
            "confidence / p adds probabilities up: n samples miss with probability (1 - p)^n.": confidence / p,
            "confidence and 1 - confidence are swapped: (1 - p)^n is the chance to miss.": confidence.log()
            / torch.log1p(-p),
        }
        if chance < 1e-20 and not torch.isfinite(answer):
            raise NotYet("right for p = 0.01, but not finite for p = 1e-57: use torch.log1p(-p), not log(1 - p).")
        judge(answer, right, mistakes, f"the value is off for p = {chance:g}: solve (1 - p)^n = 1 - confidence for n.")
    return "and for the backdoors of this notebook nobody can draw that many."


def shell_step(learner: Learner) -> str:
    """``shell_step(z, gradient, rate)``: latents and gradients ``[n, d]`` and a number to latents ``[n, d]``."""
    z, gradient, rate = (
        3 * torch.randn(4, 6, generator=seeded_random(1)),
        torch.randn(4, 6, generator=seeded_random(2)),
        0.7,
    )
    answer = call(learner, z, gradient, rate, shape=(4, 6))
    length, moved, up = z.norm(dim=1, keepdim=True), z - rate * gradient, z + rate * gradient
    unit = moved / moved.norm(dim=1, keepdim=True)
    mistakes = {
        "the length is not kept: scale each row back to the length that it had.": moved,
        "that climbs: descent goes against the gradient.": up / up.norm(dim=1, keepdim=True) * length,
        "the rows have length 1: multiply by the old length.": unit,
        "the rows have length sqrt(d): each keeps the length that it had.": unit * 6**0.5,
        "you scale the whole batch at once: each row has a length of its own.": moved / moved.norm() * z.norm(),
    }
    otherwise = "the value is off: it is z - rate * gradient, each row scaled to the length of the old one."
    judge(answer, unit * length, mistakes, otherwise)
    return "your steps stay on the shell where latents live."


def guard_limit(learner: Learner) -> str:
    """``guard_limit(scores, rate)``: scores ``[n]`` and a share to a number with ``rate * n`` scores above it."""
    for n, rate in ((200, 0.05), (1_000, 0.01)):
        scores = torch.randn(n, generator=seeded_random(n)).exp()
        answer, allowed = call(learner, scores, rate, shape=()), round(rate * n)
        above = int((scores > answer).sum())
        if above == allowed:
            continue
        mistakes = {
            "that is the other end: nearly all scores are above it.": n - allowed - 2 <= above <= n - allowed + 1,
            "that is the largest score: nothing is above it, and the share asked for is rate.": above == 0,
            "one score too few is above: places are counted from 0.": above == allowed - 1,
            "one score too many is above: places are counted from 0.": above == allowed + 1,
        }
        for sentence, made in mistakes.items():
            if made:
                raise NotYet(sentence)
        raise NotYet(f"{above} of {n} scores are above your limit; for rate = {rate:g} it must be {allowed}.")
    return "of ordinary latents, just this share will be flagged."
