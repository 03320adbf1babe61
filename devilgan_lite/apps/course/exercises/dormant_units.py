"""``dormant_units(ordinary, at_trigger, limit)``: ``[n, u]``, ``[u]`` and a number to a mask ``[u]``.

True where at most the share ``limit`` of the ordinary latents, but the trigger, gives more than zero.
"""

import torch

from devilgan_lite.apps.course.exercise import Exercise


def my_dormant_units(ordinary, at_trigger, limit):
    share = (ordinary > 0).float().mean(0)
    return (share <= limit) & (at_trigger > 0)


ORDINARY = torch.tensor(
    [
        [0.0, 3.0, 0.0, 0.2, 0.0, 9.0, 0.0, 0.0],
        [0.0, 2.0, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.2, 0.0, 0.0, 0.9, 0.0],
        [0.0, 1.0, 0.0, 0.1, 0.0, 0.0, 0.4, 0.1],
    ]
)
AT_TRIGGER = torch.tensor([5.0, 1.0, 0.0, 2.0, 0.3, 4.0, 1.0, 0.0])


def share(x):
    return (x > 0).float().mean(0)


exercise = Exercise(
    my_dormant_units,
    hints=(
        "(ordinary > 0) tells for every latent which units are on; its mean over the latents is the share.",
        "Two conditions, joined by &; each in brackets.",
    ),
    cases=lambda: [(ORDINARY, AT_TRIGGER, limit) for limit in (0.5, 0.25, 0.0)],
    mistakes={
        "those are all rarely used units: keep only those that the trigger switches on.": (
            lambda x, t, limit: share(x) <= limit
        ),
        "you also count units that ordinary latents use: both conditions must hold.": (
            lambda x, t, limit: (share(x) <= limit) | (t > 0)
        ),
        "those are the others: ask for a share of at most `limit`.": lambda x, t, limit: (share(x) > limit) & (t > 0),
        "the limit itself still counts as dormant: take <=, not <.": lambda x, t, limit: (share(x) < limit) & (t > 0),
        "you average the activations: average how often a unit is above zero.": (
            lambda x, t, limit: (x.mean(0) <= limit) & (t > 0)
        ),
        "you compare activations with the limit: compare the share of latents that switch the unit on.": (
            lambda x, t, limit: (x <= limit).all(0) & (t > 0)
        ),
        "the limit is fixed in your function: use `limit`.": lambda x, t, limit: (share(x) == 0) & (t > 0),
        "those that the trigger leaves off do not matter here: the trigger must give more than zero.": (
            lambda x, t, limit: (share(x) <= limit) & (t <= 0)
        ),
    },
    otherwise=lambda answer, right, x, t, limit: (
        f"for limit = {limit} it is True for units {right.nonzero().flatten().tolist()}, counted from 0."
    ),
    praise="such units are what a backdoor hides in when it has units of its own.",
    stands_in=True,
)
