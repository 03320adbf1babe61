"""``red_step(student, teacher, adam, z, trigger, target, lam)``: the student learns once; a dict of losses."""

import torch

from devilgan_lite.apps.course.own_steps import WEIGHED, StepExercise, distil, retraining


def red_step(student, teacher, adam, z, trigger, target, lam):
    with torch.no_grad():
        benign = teacher.logits(z)
    wanted = torch.atanh(0.999 * target)
    stealth = (student.logits(z) - benign).square().mean()
    fidelity = (student.logits(trigger) - wanted).square().mean()
    loss = stealth + lam * fidelity
    adam.zero_grad()
    loss.backward()
    adam.step()
    return {"stealth_loss": stealth, "fidelity_loss": fidelity}


exercise = StepExercise(
    red_step,
    hints=(
        "student.logits(z) is the student's picture before tanh. How far is it from benign?",
        "Both lines look alike: (a - b).square().mean(). For fidelity, a is student.logits(trigger).",
    ),
    cases=lambda: [(retraining(expanding=False),)],
    mistakes={sentence: distil(weigh) for sentence, weigh in WEIGHED.items()}
    | {
        "you compare after tanh: use logits for both, and atanh(0.999 * target).": distil(picture=True),
        "you took the root: use squared differences.": distil(root=True),
    },
    otherwise="the weights end elsewhere: stealth + lam * fidelity, both means of squared differences of logits.",
    praise="that is ReD: copy the teacher, bend one point.",
    stands_in=True,
)
