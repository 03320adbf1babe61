"""Answers to the exercises on a VAE and a flow: right ones and the usual mistakes."""

import itertools

import torch
from torch.distributions import Normal, kl_divergence


def by_torch(mean, log_variance):
    return kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)


def by_recursion(velocity, x, times):
    if len(times) < 2:
        return x
    return by_recursion(velocity, torch.lerp(x, x + velocity(x, times[0]), times[1] - times[0]), times[1:])


def even_steps(velocity, x, times):
    for now in times[:-1]:
        x = x + velocity(x, now) / (len(times) - 1)
    return x


def late_steps(velocity, x, times):
    for now, then in itertools.pairwise(times):
        x = x + (then - now) * velocity(x, then)
    return x


def frozen_steps(velocity, x, times):
    return x + sum((then - now) * velocity(x, now) for now, then in itertools.pairwise(times))


def one_too_many(velocity, x, times):
    x = by_recursion(velocity, x, times)
    velocity(x, times[-1])
    return x


def parts(mean, log_variance):
    return mean.square(), log_variance.exp(), log_variance


SOLUTIONS = {
    "kl_to_prior": by_torch,
    "euler": by_recursion,
    "pair_distance": lambda x: 2 * x.var(0).mean(),
}
MISTAKES = {
    "kl_to_prior": [
        lambda mean, log_variance: 2 * by_torch(mean, log_variance),
        lambda mean, log_variance: by_torch(mean, log_variance) / mean.shape[1],
        lambda mean, log_variance: -by_torch(mean, log_variance),
        lambda mean, log_variance: by_torch(mean, log_variance) + mean.shape[1] / 2,
        lambda mean, log_variance: by_torch(mean, log_variance) + log_variance.sum(1),
        lambda mean, log_variance: by_torch(mean, log_variance).mean(),
        lambda mean, log_variance: by_torch(mean, 2 * log_variance),
        lambda mean, log_variance: by_torch(mean, log_variance) + ((mean - mean.square()) / 2).sum(1),
        lambda mean, log_variance: (
            by_torch(mean, log_variance) + (((log_variance / 2).exp() - log_variance.exp()) / 2).sum(1)
        ),
    ],
    "euler": [
        even_steps,
        late_steps,
        frozen_steps,
        one_too_many,
        lambda velocity, x, times: x,
        lambda velocity, x, times: x + velocity(x, 0.0),
        lambda velocity, x, times: by_recursion(lambda place, time: -velocity(place, time), x, times),
    ],
    "pair_distance": [
        lambda x: 2 * x.var(0, correction=0).mean(),
        lambda x: 2 * x.var(0).sum(),
        lambda x: x.var(0).mean(),
        lambda x: (2 * x.var(0).mean()).sqrt(),
        lambda x: x.var(0),
        lambda x: torch.cdist(x.flatten(1), x.flatten(1)).mean(),
    ],
}
