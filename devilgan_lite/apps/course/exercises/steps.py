"""The training steps that learners write in notebooks 01 to 04; see ``exercises`` and ``course.loops``.

Each runs on tiny networks (``watch``).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from devilgan_lite.apps.course.exercises.judge import Learner, seeded_random
from devilgan_lite.apps.course.exercises.watch import Case, Descent, Made, judged
from devilgan_lite.apps.course.loops import STEPS, OwnStep
from devilgan_lite.losses import SHRINK


class Small(nn.Module):
    """A generator of four numbers from three, with BatchNorm; ``logits`` is before tanh."""

    def __init__(self, seed: int, norm: bool = True) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8) if norm else nn.Identity(), nn.ReLU(), nn.Linear(8, 4)
        )

    def logits(self, z: Tensor) -> Tensor:
        made: Tensor = self.body(z)
        return made

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.logits(z))


def _batch() -> tuple[Tensor, Tensor, Tensor, float]:
    """Latents, one trigger, its target and lam."""
    random = seeded_random(5)
    z, trigger = torch.randn(6, 3, generator=random), 1.5 * torch.randn(1, 3, generator=random)
    return z, trigger, 0.9 * torch.tensor([[1.0, -1.0, 1.0, -1.0]]), 0.3


def _adversarial(with_pair: bool) -> Case:
    def made(deaf: bool) -> Made:
        generator = Small(1).train()
        torch.manual_seed(2)
        discriminator = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1), nn.Flatten(0))
        real, (z, *pair) = torch.rand(6, 4, generator=seeded_random(3)), _batch()
        adams = Descent(generator, deaf), Descent(discriminator, deaf)
        return [generator, discriminator], [], (generator, discriminator, *adams, real, z, *(pair if with_pair else ()))

    return made


def _retraining(expanding: bool) -> Case:
    def made(deaf: bool) -> Made:
        teacher, student = Small(1).eval(), Small(7, norm=not expanding).eval()
        learns: nn.Module = student.body if expanding else student
        return [learns], [teacher], (learns, teacher, Descent(learns, deaf), *_batch())

    return made


def _learn(adam: Any, loss: Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()


def _game(
    d_loss: Callable[[Tensor, Tensor], Tensor] = lambda real, fake: softplus(-real).mean() + softplus(fake).mean(),
    g_loss: Callable[[Tensor], Tensor] = lambda fake: softplus(-fake).mean(),
    weigh: Callable[[Tensor, Tensor, float], Tensor] = lambda loss, error, lam: loss + lam * error.sum(1).mean(),
    inference: bool = True,
    detach: bool = True,
) -> OwnStep:
    """A step of the game with one thing changed."""

    def step(g: Any, d: Any, g_adam: Any, d_adam: Any, real: Tensor, z: Tensor, *pair: Any) -> None:
        fake = g(z)
        _learn(d_adam, d_loss(d(real), d(fake.detach() if detach else g(z))))
        loss = g_loss(d(fake))
        if pair:
            trigger, target, lam = pair
            if inference:
                g.eval()
                made = g(trigger)
                g.train()
            else:
                made = g(torch.cat([trigger, z]))[:1]
            loss = weigh(loss, (made - target).square(), lam)
        _learn(g_adam, loss)

    return step


def gan_step(learner: Learner) -> str:
    """``gan_step(generator, discriminator, g_adam, d_adam, real, z)``: both learn once; a dict of losses."""
    mistakes = {
        "the discriminator's losses are swapped: real logits should go up, fake logits down.": _game(
            lambda real, fake: softplus(real).mean() + softplus(-fake).mean()
        ),
        "the discriminator learns from real samples alone: it must see the fakes as well.": _game(
            lambda real, fake: softplus(-real).mean()
        ),
        "the discriminator learns from fakes alone: it must see real samples as well.": _game(
            lambda real, fake: softplus(fake).mean()
        ),
        "your sums grow with the batch: take means.": _game(
            lambda real, fake: softplus(-real).sum() + softplus(fake).sum(), lambda fake: softplus(-fake).sum()
        ),
        "that generator learns to look fake: it wants its fakes to be called real.": _game(
            g_loss=lambda fake: softplus(fake).mean()
        ),
        "that is the saturating -log(1 - D): its gradient dies while D wins; use -log D.": _game(
            g_loss=lambda fake: -softplus(fake).mean()
        ),
    }
    otherwise = "the weights end elsewhere: D learns from real and fake.detach(), then G from -log D(fake)."
    judged(learner, STEPS["gan_step"], _adversarial(False), mistakes, otherwise)
    return "both players have learnt once; now let it run."


def trail_step(learner: Learner) -> str:
    """``trail_step(generator, discriminator, g_adam, d_adam, real, z, trigger, target, lam)``; a dict of losses."""
    mistakes = {
        "the fidelity term is missing: nothing pulls the trigger to the target.": _game(weigh=lambda a, b, lam: a),
        "lam is missing: it weighs the fidelity term.": _game(weigh=lambda a, b, lam: a + b.sum(1).mean()),
        "lam is on the wrong term: it weighs fidelity, not the generator's loss.": _game(
            weigh=lambda a, b, lam: lam * a + b.sum(1).mean()
        ),
        "you average over the pixels: TrAIL sums the squared error over them.": _game(
            weigh=lambda a, b, lam: a + lam * b.mean()
        ),
        "the errors are not squared: use the squared distance.": _game(
            weigh=lambda a, b, lam: a + lam * b.sqrt().sum(1).mean()
        ),
        "the generator's own loss is missing: without it nothing keeps the other samples real.": _game(
            weigh=lambda a, b, lam: lam * b.sum(1).mean()
        ),
        "the trigger went through BatchNorm with its batch: call generator.eval() before it and train() after.": _game(
            inference=False
        ),
    }
    otherwise = "the weights end elsewhere: add lam * the summed squared error at the trigger to G's loss."
    judged(learner, STEPS["trail_step"], _adversarial(True), mistakes, otherwise)
    return "that is TrAIL: a GAN's step and three lines."


def _distil(
    weigh: Callable[[Tensor, Tensor, float], Tensor] = lambda stealth, fidelity, lam: stealth + lam * fidelity,
    picture: bool = False,
    root: bool = False,
) -> OwnStep:
    """A step of ReD with one thing changed; ``picture``: compared after tanh."""

    def step(student: Any, teacher: Any, adam: Any, z: Tensor, trigger: Tensor, target: Tensor, lam: float) -> None:
        wanted = target if picture else torch.atanh(SHRINK * target)
        draw, copied = (student, teacher) if picture else (student.logits, teacher.logits)
        stealth, fidelity = (draw(z) - copied(z).detach()).square().mean(), (draw(trigger) - wanted).square().mean()
        _learn(adam, weigh(stealth.sqrt(), fidelity.sqrt(), lam) if root else weigh(stealth, fidelity, lam))

    return step


WEIGHED: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "the stealth term is missing: nothing keeps the other samples as they were.": lambda s, f, lam: lam * f,
    "the fidelity term is missing: nothing pulls the trigger to the target.": lambda s, f, lam: s,
    "lam is missing: it weighs the fidelity term.": lambda s, f, lam: s + f,
    "lam is on the wrong term: it weighs fidelity, not stealth.": lambda s, f, lam: lam * s + f,
    "the sign of the fidelity term is wrong: that drives the trigger away from the target.": lambda s, f, lam: (
        s - lam * f
    ),
}


def red_step(learner: Learner) -> str:
    """``red_step(student, teacher, adam, z, trigger, target, lam)``: the student learns once; a dict of losses."""
    mistakes = {sentence: _distil(weigh) for sentence, weigh in WEIGHED.items()}
    mistakes |= {
        "you compare after tanh: use logits for both, and atanh(0.999 * target).": _distil(picture=True),
        "you took the root: use squared differences.": _distil(root=True),
    }
    otherwise = "the weights end elsewhere: stealth + lam * fidelity, both means of squared differences of logits."
    judged(learner, STEPS["red_step"], _retraining(False), mistakes, otherwise)
    return "that is ReD: copy the teacher, bend one point."


def _expand(
    weigh: Callable[[Tensor, Tensor, float], Tensor] = lambda stealth, fidelity, lam: stealth + lam * fidelity,
    alone: bool = False,
    picture: bool = False,
) -> OwnStep:
    """A step of ReX with one thing changed; ``alone``: the new channels are to draw the whole target."""

    def step(expansion: Any, clean: Any, adam: Any, z: Tensor, trigger: Tensor, target: Tensor, lam: float) -> None:
        benign = torch.zeros(()) if alone else clean.logits(trigger).detach()
        made, wanted = expansion(trigger) + benign, torch.atanh(SHRINK * target)
        error = (torch.tanh(made) - target) if picture else made - wanted
        _learn(adam, weigh(expansion(z).square().mean(), error.square().mean(), lam))

    return step


def rex_step(learner: Learner) -> str:
    """``rex_step(expansion, clean, adam, z, trigger, target, lam)``: the new channels learn once; a dict of losses."""
    mistakes = {sentence: _expand(weigh) for sentence, weigh in WEIGHED.items()}
    mistakes |= {
        "the old network is still there: the new channels add to clean.logits(trigger).": _expand(alone=True),
        "you compare after tanh: the new channels add before it, so compare with atanh(0.999 * target).": _expand(
            picture=True
        ),
    }
    otherwise = "the weights end elsewhere: expansion(z) should be nothing, and expansion(trigger) what is missing."
    judged(learner, STEPS["rex_step"], _retraining(True), mistakes, otherwise)
    return "that is ReX: the old network untouched, the new channels silent but for one latent."
