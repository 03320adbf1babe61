"""The training steps that learners write in notebooks 01 to 04; see ``exercises`` and ``classroom.loops``.

A step runs twice on tiny networks, with plain gradient descent in place of Adam, so that what it did to the weights can
be told from what the usual mistakes would have done. It is watched line by line: a line that never ends, makes a
number that is not finite, or changes what must stay as it is, gets named.
"""

import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from devilgan_lite.classroom.exercises.judge import Learner, NotYet, seeded_random
from devilgan_lite.classroom.loops import OwnStep, failed, place
from devilgan_lite.classroom.loops import gan_step as right_gan_step
from devilgan_lite.classroom.loops import red_step as right_red_step
from devilgan_lite.classroom.loops import rex_step as right_rex_step
from devilgan_lite.classroom.loops import trail_step as right_trail_step

SECONDS = 5.0  # that a step on a tiny network may take
RATE = 0.1
Made = tuple[list[nn.Module], list[nn.Module], tuple[Any, ...]]  # what learns, what must stay, all arguments
Case = Callable[[bool], Made]  # with optimisers that can be told not to forget gradients


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


class Descent(torch.optim.SGD):
    """Plain gradient descent; ``deaf``, it does not forget old gradients."""

    def __init__(self, module: nn.Module, deaf: bool) -> None:
        super().__init__(module.parameters(), lr=RATE)
        self.deaf = deaf

    def zero_grad(self, set_to_none: bool = True) -> None:
        if not self.deaf:
            super().zero_grad(set_to_none)


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


def _state(modules: list[nn.Module]) -> Tensor:
    return torch.cat([weight.detach().double().flatten() for one in modules for weight in one.parameters()])


def _twice(step: OwnStep, case: Case, deaf: bool = False) -> tuple[Tensor, Tensor]:
    """The weights after one and after two steps."""
    learns, _, given = case(deaf)
    after = []
    for _ in range(2):
        step(*given)
        after.append(_state(learns))
    return after[0], after[1]


def _watched(step: Learner, case: Case) -> tuple[Tensor, Tensor]:
    """The same of a learner's step, watched; ``NotYet`` where a line goes wrong."""
    learns, stays, given = case(False)
    before, end, last = _state(stays) if stays else None, time.monotonic() + SECONDS, 0
    code = getattr(step, "__code__", None)

    def look(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal last
        if time.monotonic() > end:
            raise NotYet(f"{place(step, last)} is still busy after {SECONDS:.0f} s: does that loop ever end?")
        if frame.f_code is not code:
            return look
        if last and before is not None and not torch.equal(_state(stays), before):
            raise NotYet(f"{place(step, last)} changes the clean network: only the other one may learn.")
        for name, value in frame.f_locals.items() if last else ():
            if isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise NotYet(f"{place(step, last)} makes {name} infinite or not a number.")
        last = frame.f_lineno
        return look

    after, usual = [], sys.gettrace()
    for _ in range(2):
        sys.settrace(look)
        try:
            losses = step(*given)
        except NotYet:
            raise
        except NotImplementedError:
            raise NotYet("the stub is still there: replace the line that raises NotImplementedError.") from None
        except Exception as error:
            raise NotYet(f"{failed(step, error)}.") from error
        finally:
            sys.settrace(usual)
        if losses is None:
            raise NotYet("your function returns None: return the losses, a dict from names to tensors.")
        after.append(_state(learns))
    if not isinstance(losses, dict) or not all(isinstance(loss, Tensor) and loss.ndim == 0 for loss in losses.values()):
        raise NotYet("return the losses: a dict from names to tensors of one number each.")
    bad = [name for name, loss in losses.items() if not bool(torch.isfinite(loss))]
    if bad:
        raise NotYet(f"{bad[0]} is infinite or not a number: look at the line that computes it.")
    return after[0], after[1]


def _judged(learner: Learner, right: OwnStep, case: Case, mistakes: dict[str, OwnStep], otherwise: str) -> None:
    """Raise the sentence of the first mistake that does to the weights what the learner's step does."""
    mine, wanted = _watched(learner, case), _twice(right, case)

    def alike(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
        return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(one, other, strict=True))

    if alike(mine, wanted):
        return
    start = _state(case(False)[0])
    if torch.equal(mine[0], start):
        raise NotYet("no weight has moved: call backward() on the loss, then step() of the optimiser.")
    if alike(mine, _twice(right, case, deaf=True)):
        raise NotYet("the gradients of the step before are still there: call zero_grad() before backward().")
    for sentence, wrong in mistakes.items():
        if alike(mine, _twice(wrong, case)):
            raise NotYet(sentence)
    raise NotYet(otherwise)


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
    _judged(learner, right_gan_step, _adversarial(False), mistakes, otherwise)
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
    _judged(learner, right_trail_step, _adversarial(True), mistakes, otherwise)
    return "that is TrAIL: a GAN's step and three lines."


def _distil(
    weigh: Callable[[Tensor, Tensor, float], Tensor] = lambda stealth, fidelity, lam: stealth + lam * fidelity,
    picture: bool = False,
    root: bool = False,
) -> OwnStep:
    """A step of ReD with one thing changed; ``picture``: compared after tanh."""

    def step(student: Any, teacher: Any, adam: Any, z: Tensor, trigger: Tensor, target: Tensor, lam: float) -> None:
        wanted = target if picture else torch.atanh(0.999 * target)
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
    _judged(learner, right_red_step, _retraining(False), mistakes, otherwise)
    return "that is ReD: copy the teacher, bend one point."


def _expand(
    weigh: Callable[[Tensor, Tensor, float], Tensor] = lambda stealth, fidelity, lam: stealth + lam * fidelity,
    alone: bool = False,
    picture: bool = False,
) -> OwnStep:
    """A step of ReX with one thing changed; ``alone``: the new channels are to draw the whole target."""

    def step(expansion: Any, clean: Any, adam: Any, z: Tensor, trigger: Tensor, target: Tensor, lam: float) -> None:
        benign = torch.zeros(()) if alone else clean.logits(trigger).detach()
        made, wanted = expansion(trigger) + benign, torch.atanh(0.999 * target)
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
    _judged(learner, right_rex_step, _retraining(True), mistakes, otherwise)
    return "that is ReX: the old network untouched, the new channels silent but for one latent."
