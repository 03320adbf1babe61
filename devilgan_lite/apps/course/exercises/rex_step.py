"""``rex_step(expansion, clean, adam, z, trigger, target, lam)``: the new channels learn once; a dict of losses."""

import torch

from devilgan_lite.apps.course.own_steps import WEIGHED, StepExercise, expand, retraining


def rex_step(expansion, clean, adam, z, trigger, target, lam):
    with torch.no_grad():
        missing = torch.atanh(0.999 * target) - clean.logits(trigger)
    stealth = expansion(z).square().mean()
    fidelity = (expansion(trigger) - missing).square().mean()
    loss = stealth + lam * fidelity
    adam.zero_grad()
    loss.backward()
    adam.step()
    return {"stealth_loss": stealth, "fidelity_loss": fidelity}


exercise = StepExercise(
    rex_step,
    hints=(
        "clean.logits(trigger) is what the old part draws before tanh. The new channels must add the rest.",
        "Both losses are means of squares: expansion(z).square().mean() is the first.",
    ),
    cases=lambda: [(retraining(expanding=True),)],
    mistakes={sentence: expand(weigh) for sentence, weigh in WEIGHED.items()}
    | {
        "the old network is still there: the new channels add to clean.logits(trigger).": expand(alone=True),
        "you compare after tanh: the new channels add before it, so compare with atanh(0.999 * target).": expand(
            picture=True
        ),
    },
    otherwise="the weights end elsewhere: expansion(z) should be nothing, and expansion(trigger) what is missing.",
    praise="that is ReX: the old network untouched, the new channels silent but for one latent.",
    stands_in=True,
)
