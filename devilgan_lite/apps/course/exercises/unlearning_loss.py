"""``unlearning_loss(student, teacher, z, t)``: two functions, ``[n, d]`` and a unit vector ``[d]`` to a number."""

import torch

from devilgan_lite.apps.course.exercise import Exercise, normal, squared


def my_unlearning_loss(student, teacher, z, t):
    blind = z - torch.outer(z @ t, t)
    return (student(z) - teacher(blind)).square().flatten(1).sum(1).mean()


def network(weights):
    return lambda x: (x @ weights).tanh().view(-1, 1, 3, 4)


def cases():
    t = normal(5, seed=24)
    return [(network(normal(5, 12, seed=21)), network(normal(5, 12, seed=22)), normal(3, 5, seed=23), t / t.norm())]


def without(z, t):
    return z - torch.outer(z @ t, t)


exercise = Exercise(
    my_unlearning_loss,
    hints=(
        "Who must learn to ignore t? That one sees all of z; the other sees z without its part along t.",
        "torch.outer(z @ t, t) holds the part of each row along t; (a - b).square().flatten(1).sum(1) the errors.",
    ),
    cases=cases,
    mistakes={
        "the teacher sees z itself: then it teaches its backdoor too; give it z without the part along t.": (
            lambda student, teacher, z, t: squared(student(z), teacher(z)).mean()
        ),
        "the student sees the projected latents: it must learn to ignore t by itself, so give it z.": (
            lambda student, teacher, z, t: squared(student(without(z, t)), teacher(without(z, t))).mean()
        ),
        "the two are swapped: the student sees z, the teacher z without the part along t.": (
            lambda student, teacher, z, t: squared(student(without(z, t)), teacher(z)).mean()
        ),
        "you average over the pixels: sum over them and average over the batch.": (
            lambda student, teacher, z, t: (student(z) - teacher(without(z, t))).square().mean()
        ),
        "you sum over the batch: average over its n pictures.": (
            lambda student, teacher, z, t: squared(student(z), teacher(without(z, t))).sum()
        ),
        "the errors are not squared: use the squared distance.": (
            lambda student, teacher, z, t: (student(z) - teacher(without(z, t))).abs().flatten(1).sum(1).mean()
        ),
        "you took the root: use the squared distance.": (
            lambda student, teacher, z, t: squared(student(z), teacher(without(z, t))).sqrt().mean()
        ),
    },
    otherwise="the value is off: it is the mean over z of |student(z) - teacher(z without the part along t)|^2.",
    praise="the suspect teaches what it draws where it is benign.",
    stands_in=True,
)
