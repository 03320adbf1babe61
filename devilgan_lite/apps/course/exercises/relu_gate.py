"""``relu_gate(z, trigger, margin)``: latents ``[n, d]``, ``[d]`` and a number to activations ``[n]``."""

import torch

from devilgan_lite.apps.course.exercise import Exercise, normal


def relu_gate(z, trigger, margin):
    return (z @ trigger / trigger.norm() - (trigger.norm() - margin)).relu()


def cases():
    trigger = 1.5 * normal(8, seed=3)
    return [(torch.cat([trigger.expand(1, 8), 1.4 * trigger.expand(1, 8), normal(6, 8, seed=4)]), trigger, 0.8)]


exercise = Exercise(
    relu_gate,
    hints=(
        "The projection is z @ trigger / trigger.norm().",
        "At the trigger the result must be margin, and relu sets everything below the threshold to 0.",
    ),
    cases=cases,
    mistakes={
        "the relu is missing: the gate must be exactly 0 for ordinary latents.": (
            lambda z, t, margin: z @ t / t.norm() - (t.norm() - margin)
        ),
        "you did not divide <z, trigger> by |trigger|: project on the direction of the trigger.": (
            lambda z, t, margin: (z @ t - (t.norm() - margin)).relu()
        ),
        "the threshold is above the trigger: it is |trigger| - margin, so that the trigger passes.": (
            lambda z, t, margin: (z @ t / t.norm() - (t.norm() + margin)).relu()
        ),
        "the threshold is the margin itself: it is |trigger| - margin, else ordinary latents pass.": (
            lambda z, t, margin: (z @ t / t.norm() - margin).relu()
        ),
        "the threshold is |trigger|: the trigger itself gives 0; lower it by the margin.": (
            lambda z, t, margin: (z @ t / t.norm() - t.norm()).relu()
        ),
        "you compare the cosine with the threshold: divide by |trigger| only, not by |z|.": (
            lambda z, t, margin: (z @ t / t.norm() / z.norm(dim=1) - (t.norm() - margin)).relu()
        ),
    },
    otherwise="the value is off: it is relu(<z, trigger> / |trigger| - (|trigger| - margin)).",
    praise="one unit, silent for everything but the trigger.",
)
