"""The exercises of the notebook on a VAE and a flow: the KL term, Euler's steps, how alike pictures are."""

import torch
from torch import Tensor

from devilgan_lite.apps.course.exercises.judge import Learner, NotYet, attempt, call, judge, pictures, seeded_random


def kl_to_prior(learner: Learner) -> str:
    """``kl_to_prior(mean, log_variance)``: two tensors ``[n, d]`` to ``[n]``, in nats.

    The KL divergence of a Gaussian with independent coordinates from N(0, I), one for each row.
    """
    random = seeded_random()
    mean, log_variance = torch.randn(5, 3, generator=random), torch.randn(5, 3, generator=random)
    answer = call(learner, mean, log_variance, shape=(5,))
    variance = log_variance.exp()
    each = (mean.square() + variance - log_variance - 1) / 2
    mistakes = {
        "the factor of one half is missing.": 2 * each.sum(1),
        "you take the mean over the coordinates: their divergences add up.": each.mean(1),
        "the sign of the logarithm is wrong: a narrow posterior must cost, not pay.": (
            (mean.square() + variance + log_variance - 1) / 2
        ).sum(1),
        "the 1 is missing: at mean 0 and variance 1 the divergence must be 0.": (each + 0.5).sum(1),
        "log_variance is the logarithm already: take its exponential for the variance.": (
            (mean.square() + log_variance - log_variance.abs().log() - 1) / 2
        ).sum(1),
        "that is the standard deviation: the exponential of the log variance is the variance, with no half.": (
            (mean.square() + (log_variance / 2).exp() - log_variance - 1) / 2
        ).sum(1),
        "the mean must be squared.": ((mean + variance - log_variance - 1) / 2).sum(1),
        "that is minus the divergence: a divergence is never negative.": -each.sum(1),
    }
    judge(answer, each.sum(1), mistakes, "the value is off: for one coordinate it is (m^2 + v - log v - 1) / 2.")
    return "this is the price, in nats, of saying which latent a picture came from."


def euler(learner: Learner) -> str:
    """``euler(velocity, x, times)``: a function of ``(x, time)``, ``[n, d]`` and a list of rising times to ``[n, d]``.

    Where ``x`` is at the last time, if it starts at the first and each step goes as its start says.
    """
    x = torch.randn(4, 3, generator=seeded_random(3))
    for times in ([0.0, 0.25, 1.0], [0.0, 0.1, 0.3, 0.6, 1.0], [0.0, 1.0]):
        asked: list[float] = []

        def velocity(place: Tensor, time: float, asked: list[float] = asked) -> Tensor:
            asked.append(float(time))
            return 0.5 - place * (1 + 2 * time)

        def walked(mistake: str = "", of: list[float] = times) -> Tensor:
            place = x
            for now, then in zip(of, of[1:], strict=False):
                length = 1 / (len(of) - 1) if mistake == "even" else then - now
                at, time = x if mistake == "frozen" else place, then if mistake == "late" else now
                place = place + (-length if mistake == "back" else length) * (0.5 - at * (1 + 2 * time))
            return place

        answer = call(learner, velocity, x, times, shape=(4, 3))
        if len(asked) == len(times):
            raise NotYet("you ask for the velocity at the last time, too: there is no step after it.")
        mistakes = {
            "all your steps have the same length: each is as long as from its time to the next.": walked("even"),
            "you ask at the end of each step: its start decides.": walked("late"),
            "you ask at the first place each time: ask where x is now.": walked("frozen"),
            "you walked against the velocity: add, do not subtract.": walked("back"),
            "you return the first place: keep the new one after each step.": x,
        }
        judge(answer, walked(), mistakes, "a step adds (then - now) * velocity(x, now) to x.")
    return "this is how a flow draws, and how it is read below."


def pair_distance(learner: Learner) -> str:
    """``pair_distance(x)``: pictures ``[n, C, H, W]`` to one number.

    The squared distance per pixel between two different pictures, as a mean over all pairs.
    """
    x = pictures(6, 4)
    answer = torch.as_tensor(attempt(learner, x.clone()))
    if answer.shape != () or not answer.isfinite():
        raise NotYet("your function must return one finite number.")
    flat, n = x.flatten(1), len(x)
    squares = (flat[:, None] - flat[None]).square()
    right = squares.mean(2).sum() / (n * (n - 1))
    mistakes = {
        "a picture is no pair with itself: divide by n (n - 1), not by n squared.": squares.mean(),
        "that is a sum over pixels: take the mean.": squares.sum() / (n * (n - 1)),
        "that is the distance from the mean picture, half of what two pictures are apart.": right / 2,
        "the distance must be squared.": squares.sqrt().mean(2).sum() / (n * (n - 1)),
        "that is the root: leave the square.": right.sqrt(),
    }
    judge(answer, right, mistakes, "the value is off: compare each picture with each other one.")
    return "near 0, and all pictures are the same."
