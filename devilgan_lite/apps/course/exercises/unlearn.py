"""The exercises of the notebook on unlearning; see ``exercises``."""

import torch
from torch import Tensor

from devilgan_lite.apps.course.exercises.judge import Learner, call, judge, seeded_random, squared


def forget_direction(learner: Learner) -> str:
    """``forget_direction(z, t)``: latents ``[n, d]`` and a direction ``[d]`` of any length to latents ``[n, d]``."""
    random = seeded_random(21)
    z, t = torch.randn(4, 6, generator=random), 2 * torch.randn(6, generator=random)
    answer = call(learner, z, t, shape=(4, 6))
    along, length = (z @ t).view(-1, 1), t.norm()
    gone = z - along * t / length.square()
    mistakes = {
        "t has any length: divide <z, t> t by |t|^2, or make t a unit vector first.": z - along * t,
        "you divide by |t| once: both t in <z, t> t have its length, so divide by |t|^2.": z - along * t / length,
        "that is the part along t: it is what must go.": along * t / length.square(),
        "the sign is wrong: subtract the part along t.": z + along * t / length.square(),
        "you subtract the part along t twice: that is a mirror, and the trigger is now at -t.": 2 * gone - z,
        "you subtract t itself: subtract the part of each z along it.": z - t,
        "each row has its own <z, t>: you use their sum.": z - along.sum() * t / length.square(),
        "you brought the rows back to their old length: a projection makes them shorter.": (
            gone / gone.norm(dim=1, keepdim=True) * z.norm(dim=1, keepdim=True)
        ),
    }
    judge(answer, gone, mistakes, "the value is off: it is z - <z, t> t / |t|^2, row by row.")
    return "whatever hangs on this direction alone can no longer be reached."


def unlearning_loss(learner: Learner) -> str:
    """``unlearning_loss(student, teacher, z, t)``: two functions, ``[n, d]`` and a unit vector ``[d]`` to a number."""
    random = seeded_random(22)
    ours, theirs = torch.randn(5, 12, generator=random), torch.randn(5, 12, generator=random)
    z, t = torch.randn(3, 5, generator=random), torch.randn(5, generator=random)
    t = t / t.norm()

    def student(x: Tensor) -> Tensor:
        return (x @ ours).tanh().view(-1, 1, 3, 4)

    def teacher(x: Tensor) -> Tensor:
        return (x @ theirs).tanh().view(-1, 1, 3, 4)

    answer = call(learner, student, teacher, z, t, shape=())
    blind = z - (z @ t).view(-1, 1) * t
    wanted, made = teacher(blind), student(z)
    mistakes = {
        "the teacher sees z itself: then it teaches its backdoor too; give it z without the part along t.": squared(
            made, teacher(z)
        ).mean(),
        "the student sees the projected latents: it must learn to ignore t by itself, so give it z.": squared(
            student(blind), wanted
        ).mean(),
        "the two are swapped: the student sees z, the teacher z without the part along t.": squared(
            student(blind), teacher(z)
        ).mean(),
        "you average over the pixels: sum over them and average over the batch.": (made - wanted).square().mean(),
        "you sum over the batch: average over its n pictures.": squared(made, wanted).sum(),
        "the errors are not squared: use the squared distance.": (made - wanted).abs().flatten(1).sum(1).mean(),
        "you took the root: use the squared distance.": squared(made, wanted).sqrt().mean(),
    }
    otherwise = "the value is off: it is the mean over z of |student(z) - teacher(z without the part along t)|^2."
    judge(answer, squared(made, wanted).mean(), mistakes, otherwise)
    return "the suspect teaches what it draws where it is benign."


def cheapest_cure(learner: Learner) -> str:
    """``cheapest_cure(tardis, frechet, gone)``: ``[n]``, ``[n]`` and a number to an index, a tensor of shape []."""
    tardis = torch.tensor([0.02, 0.31, 0.10, 0.09, 0.42, 0.77, 0.55])
    plain, below_zero = [0.1, 6.0, 1.2, 0.3, 9.0, 2.0, 1.5], [0.1, 6.0, 1.2, 0.3, 9.0, -2.0, 1.5]
    for changes, gone in ((plain, 0.1), (below_zero, 0.1), (plain, 0.5)):
        frechet = torch.tensor(changes)
        answer = call(learner, tardis, frechet, gone, shape=()).double()
        fails = tardis < gone
        right = frechet.masked_fill(fails, torch.inf).argmin()
        mistakes = {
            "that is the cheapest of all: it leaves the backdoor in; look only where tardis is high enough.": (
                frechet.argmin()
            ),
            "that is the index among those that work: return the place in the whole list.": frechet[~fails].argmin(),
            "that is the most expensive of those that work: the Frechet change must be small.": frechet.masked_fill(
                fails, -torch.inf
            ).argmax(),
            "that is the repair with the largest tardis: beyond `gone` more is no better, so take the cheapest.": (
                tardis.argmax()
            ),
            "that is the Frechet change itself: return its index.": frechet[~fails].min(),
            "the limit itself counts as gone: take >=, not >.": frechet.masked_fill(tardis <= gone, torch.inf).argmin(),
            "a Frechet change may be below zero, and less is better: do not take its absolute value.": (
                frechet.abs().masked_fill(fails, torch.inf).argmin()
            ),
            "the limit is fixed in your function: use `gone`.": frechet.masked_fill(tardis < 0.1, torch.inf).argmin(),
        }
        otherwise = f"for gone = {gone} it is number {int(right)}, counted from 0: the cheapest of those that work."
        judge(answer, right, mistakes, otherwise)
    return "first safe, then cheap."
