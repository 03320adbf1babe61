"""``kl_to_prior(mean, log_variance)``: two tensors ``[n, d]`` to ``[n]``, in nats.

The KL divergence of a Gaussian with independent coordinates from N(0, I), one for each row.
"""

from devilgan_lite.apps.course.exercise import Exercise, normal


def kl_to_prior(mean, log_variance):
    return (mean.square() + log_variance.exp() - log_variance - 1).sum(1) / 2


exercise = Exercise(
    kl_to_prior,
    hints=(
        "v is log_variance.exp(), and log v is log_variance itself.",
        "Sum over the coordinates, .sum(1): independent coordinates add their divergences.",
    ),
    cases=lambda: [(normal(5, 3), normal(5, 3, seed=8))],
    mistakes={
        "the factor of one half is missing.": lambda mean, log: 2 * kl_to_prior(mean, log),
        "you take the mean over the coordinates: their divergences add up.": (
            lambda mean, log: kl_to_prior(mean, log) / mean.shape[1]
        ),
        "the sign of the logarithm is wrong: a narrow posterior must cost, not pay.": (
            lambda mean, log: (mean.square() + log.exp() + log - 1).sum(1) / 2
        ),
        "the 1 is missing: at mean 0 and variance 1 the divergence must be 0.": (
            lambda mean, log: (mean.square() + log.exp() - log).sum(1) / 2
        ),
        "log_variance is the logarithm already: take its exponential for the variance.": (
            lambda mean, log: (mean.square() + log - log.abs().log() - 1).sum(1) / 2
        ),
        "that is the standard deviation: the exponential of the log variance is the variance, with no half.": (
            lambda mean, log: (mean.square() + (log / 2).exp() - log - 1).sum(1) / 2
        ),
        "the mean must be squared.": lambda mean, log: (mean + log.exp() - log - 1).sum(1) / 2,
        "that is minus the divergence: a divergence is never negative.": lambda mean, log: -kl_to_prior(mean, log),
    },
    otherwise="the value is off: for one coordinate it is (m^2 + v - log v - 1) / 2.",
    praise="this is the price, in nats, of saying which latent a picture came from.",
)
