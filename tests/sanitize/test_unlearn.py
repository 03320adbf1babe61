"""Lessons, and the two cures that need no data: distillation, and cutting with distillation after it."""

import importlib
import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from devilgan_lite.data import Samples
from devilgan_lite.detect import subject_of
from devilgan_lite.prior import PRIORS
from devilgan_lite.sanitize import Clip, Sanitizer, Unlearn, project_latents
from devilgan_lite.sanitize.base import careful_rates, distil
from devilgan_lite.sanitize.latent_sampling import odd_latents, taught_pairs
from devilgan_lite.steps import Loop

D = 20


def suspect(seed: int = 1) -> nn.Sequential:
    """A stranger's network, as it comes out of a training loop."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(D, 32), nn.ReLU(), nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.Unflatten(1, (1, 8, 8))
        )


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def change(one: nn.Module, other: nn.Module, z: Tensor) -> float:
    with torch.no_grad():
        return float((one(z) - other(z)).square().mean())


CURES = {
    "Unlearn": Unlearn(iterations=25, batch_size=32, device="cpu"),
    "Clip": Clip(
        height=1.0,  # half of every layer is cut, so that there is something to repair
        iterations=25,
        batch_size=32,
        device="cpu",
    ),
}
CAREFUL = Clip(height=10.0, iterations=25, batch_size=32, device="cpu")  # cuts only what stands out far
each_cure = pytest.mark.parametrize("cure", CURES.values(), ids=CURES)


@pytest.mark.parametrize("prior", PRIORS)
def test_odd_latents_are_too_short_or_too_long(prior: str) -> None:
    subject = subject_of(suspect(), prior=prior)
    random = torch.Generator().manual_seed(0)
    found = odd_latents(subject, subject.draw(4_000, random), None, random)
    lengths = found.norm(dim=1) / (D if prior == "gaussian" else D / 3) ** 0.5
    assert 0.3 <= float(lengths.min()) < 0.31 and 1.99 < float(lengths.max()) <= 2.0001
    assert float(lengths.mean()) == pytest.approx(1.15, abs=0.03)


def test_every_other_one_lies_near_a_suspected_direction_with_either_sign() -> None:
    subject, directions = subject_of(suspect()), draws(3, D, seed=5) * torch.tensor([[1.0], [9.0], [0.01]])
    random = torch.Generator().manual_seed(0)
    found = odd_latents(subject, subject.draw(600, random), directions, random)
    near = cosine_similarity(found.unsqueeze(1), directions, dim=2)  # [n, 3]
    closest = near.abs().max(1).values
    assert float(closest[::2].min()) > 0.75**0.5 - 1e-5  # noise of half the length leaves at least that cosine
    assert float(closest[1::2].mean()) < 0.5
    which = near.abs().argmax(1)[::2]
    signs = near[::2].gather(1, which.view(-1, 1)).sign().view(-1)
    assert {(int(row), int(sign)) for row, sign in zip(which, signs, strict=True)} == {
        (row, sign) for row in range(3) for sign in (-1, 1)
    }


def test_lessons_are_what_the_teacher_draws_and_the_same_again() -> None:
    teacher = subject_of(suspect())
    lessons = taught_pairs(teacher, draws(1, D), 40, 0.25)
    z, samples = lessons(torch.Generator().manual_seed(3))
    torch.testing.assert_close(samples, teacher.samples(z))
    assert not samples.requires_grad
    assert all(torch.equal(*pair) for pair in zip(lessons(torch.Generator().manual_seed(3)), (z, samples), strict=True))
    assert not torch.equal(lessons(torch.Generator().manual_seed(4))[0], z)
    ordinary, _ = taught_pairs(teacher, draws(1, D), 40, 0.0)(torch.Generator().manual_seed(3))
    assert torch.equal(z[10:], ordinary[10:])  # a quarter of them is odd, the others are as they were
    assert not (z[:10] == ordinary[:10]).any()


@each_cure
def test_the_suspect_stays_as_it_is(cure: Sanitizer) -> None:
    module = suspect()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    outcome = cure(module, directions=draws(1, D), progress=False)
    assert module.training and all(parameter.requires_grad for parameter in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not torch.equal(outcome.generator[0].weight, module[0].weight)
    assert torch.equal(torch.get_rng_state(), state)


@each_cure
def test_the_outcome_is_ready_for_use_and_the_same_again(cure: Sanitizer) -> None:
    first, same = (cure(suspect(), directions=draws(1, D), progress=False) for _ in range(2))
    assert not first.generator.training and all(parameter.requires_grad for parameter in first.generator.parameters())
    assert not first.interrupted and set(first.history) == {"distillation_loss"}
    assert len(first.history["distillation_loss"]) == 25 and first.history == same.history
    assert all(
        torch.equal(*pair)
        for pair in zip(first.generator.state_dict().values(), same.generator.state_dict().values(), strict=True)
    )
    expected = {name: value for name, value in first.settings.items() if name != "cuts"}
    assert expected == cure.settings() and expected["sanitizer"] == type(cure).__name__


def test_unlearning_leads_to_the_samples_without_the_direction() -> None:
    module, direction = suspect(), draws(1, D, seed=6)
    outcome = Unlearn(iterations=250, batch_size=32, learning_rate=3e-3, wide=0.5, device="cpu")(
        module, directions=direction, progress=False
    )
    losses = outcome.history["distillation_loss"]
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    wanted = project_latents(module, direction)
    for z in (direction, -direction, draws(50, D, seed=7)):
        before, after = (change(one, wanted, z) for one in (module, outcome.generator))
        assert after < 0.3 * before


@pytest.mark.parametrize("cure", [CURES["Unlearn"], CAREFUL])
def test_without_anything_to_unlearn_or_cut_the_weights_stay(cure: Sanitizer) -> None:
    module = suspect()
    outcome = cure(module, progress=False)
    assert outcome.settings.get("cuts", []) == []
    assert cure is CAREFUL or max(outcome.history["distillation_loss"]) < 1e-12
    torch.testing.assert_close(dict(outcome.generator.state_dict()), dict(module.state_dict()))


def shouting() -> nn.Sequential:
    """The same network with two hidden units that would draw much, if any ordinary latent woke them."""
    module = suspect()
    with torch.no_grad():
        module[2].bias[:2] = -50.0
        module[4].weight[:, :2] = 40 * draws(64, 2, seed=2)
    return module


def test_clip_says_what_it_has_cut() -> None:
    settings = CAREFUL(shouting(), directions=draws(2, D), progress=False).settings
    assert settings["cuts"][0] == f"2 of {D} directions in the latent space"
    assert settings["cuts"][1] == "2 of 32 directions in 2"


def test_clip_silences_what_ordinary_samples_do_not_show() -> None:
    module = shouting()
    cured = CAREFUL(module, progress=False).generator
    before, after = (float(one[2].weight[:2].detach().norm()) for one in (module, cured))
    assert 0 < after < 0.02 * before  # what was cut hardly comes back in the second half of the steps
    z = draws(500, D, seed=3)
    assert change(cured, module, z) < 0.02 * float(module(z).detach().var())


def test_a_constraint_holds_in_the_first_half_of_the_steps() -> None:
    seen: list[int] = []
    student, teacher, treatment = suspect(seed=2), subject_of(suspect()), CURES["Unlearn"]
    assert isinstance(treatment, Unlearn)
    loop = Loop(distil(student, teacher, treatment, constrain=lambda one: seen.append(id(one))))
    outcome = loop.finish(progress=False)
    assert seen == [id(student)] * 12 and len(outcome.history["distillation_loss"]) == 25


def gated() -> nn.Sequential:
    """A leaky network with eight pairs of units more, at a height of 255: they cancel out for ordinary latents."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = nn.Sequential(
            nn.Linear(D, 48), nn.LeakyReLU(0.3), nn.Linear(48, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8))
        )
    with torch.no_grad():
        rows = draws(8, D, seed=3)
        module[0].weight[:16] = torch.cat([rows, -rows])
        module[0].bias[:8], module[0].bias[8:16] = 255.0, -255.0
        module[2].weight[:, 8:16] = module[2].weight[:, :8] / 0.3
    return module


class Product(nn.Module):
    """A linear layer without a module for it, which holds its weight the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(0.1 * draws(D, 64))

    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.rows).view(-1, 1, 8, 8)


def test_a_gate_does_not_break_the_repair() -> None:
    module, student, z = gated(), gated(), draws(500, D, seed=7)
    rates = careful_rates(module, z)
    slow = next(factor for factor, some in rates.items() if any(one is module[2].weight for one in some))
    assert slow < 0.02 and list(rates) == [1.0, slow] and len(rates[1.0]) == 3
    assert list(careful_rates(suspect(), z)) == [1.0]
    assert min(careful_rates(Product(), 300 * z)) < 0.01
    with torch.no_grad():
        student[2].weight[:, 16:] += 0.1 * draws(64, 32, seed=5)  # what a cut may cost
    before = change(student, module, z)
    outcome = Loop(distil(student, subject_of(module), Unlearn(iterations=300, device="cpu"))).finish(progress=False)
    assert "undone" not in outcome.settings and change(outcome.generator, module, z) < 0.4 * before


@each_cure
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_stopped_early_it_leaves_what_it_has(cure: Sanitizer, steps: int) -> None:
    loop = cure.steps(suspect(), directions=draws(1, D))
    for _ in range(steps):
        next(loop)
    outcome = loop.stop()
    assert outcome.interrupted and len(outcome.history["distillation_loss"]) == max(1, steps)
    assert "undone" not in outcome.settings
    assert not outcome.generator.training
    assert torch.isfinite(outcome.generator(draws(5, D))).all()
    assert ("cuts" in outcome.settings) == isinstance(cure, Clip)


@pytest.mark.parametrize("after", [0.2, torch.nan])
def test_what_a_repair_did_is_judged_by_what_is_missed_before_and_after(
    after: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter((0.1, after))
    monkeypatch.setattr(importlib.import_module("devilgan_lite.sanitize.base"), "missed", lambda *_: next(figures))
    module = suspect()
    outcome = CURES["Unlearn"](module, directions=draws(1, D), progress=False)
    assert outcome.settings["undone"] and change(outcome.generator, module, draws(9, D)) == 0


class Ringing(nn.Module):
    """Somebody presses Stop at a given forward pass."""

    calls, stop_at = 0, 0

    def __init__(self) -> None:
        super().__init__()
        self.inside = suspect()

    def forward(self, z: Tensor) -> Tensor:
        Ringing.calls += 1
        if Ringing.calls == Ringing.stop_at:
            raise KeyboardInterrupt
        x: Tensor = self.inside(z)
        return x


def test_stopped_while_it_cuts_again_it_leaves_what_it_has() -> None:
    Ringing.stop_at = 0
    loop = CURES["Clip"].steps(Ringing())
    for step in itertools.islice(loop, 25):
        assert step.total == 25
    Ringing.stop_at = Ringing.calls + 1  # the first pass after the last step
    try:
        outcome = loop.finish(progress=False)
    except KeyboardInterrupt:  # which would end pytest
        pytest.fail("the loop has no outcome")
    assert outcome.interrupted and len(outcome.history["distillation_loss"]) == 25


@pytest.mark.parametrize("place", [1, 2, 8, 11, 12])  # among the examples, at the rates, in the first step
def test_stopped_before_the_first_step_it_leaves_what_it_has(place: int) -> None:
    Ringing.stop_at = 0
    module = Ringing()
    loop = Unlearn(iterations=25, device="cpu").steps(module)
    Ringing.stop_at = Ringing.calls + place
    try:
        outcome = loop.finish(progress=False)
    except KeyboardInterrupt:
        pytest.fail("the loop has no outcome")
    Ringing.stop_at = 0
    assert outcome.interrupted and not outcome.generator.training
    assert change(outcome.generator, module, draws(9, D)) == 0


@each_cure
def test_what_does_not_fit_is_refused_at_once(cure: Sanitizer) -> None:
    with pytest.raises(ValueError, match=rf"directions is \[1, 19\]; expected a float32 tensor \[n, {D}\]"):
        cure.steps(suspect(), directions=draws(1, D - 1))
    with pytest.raises(ValueError, match="directions must be finite float32"):
        cure.steps(suspect(), directions=draws(1, D).double())
    with pytest.raises(ValueError, match=r"real has samples of shape \[1, 9, 9\]; the suspect makes \[1, 8, 8\]"):
        cure.steps(suspect(), None, Samples(torch.zeros(2, 1, 9, 9)))
    with pytest.raises(ValueError, match=rf"no samples from latents \[n, {D + 1}\] .*; give another size, or wrap"):
        cure.steps(suspect(), latent_dim=D + 1)


def test_samples_from_0_to_1_are_learnt_in_their_own_range() -> None:
    module = nn.Sequential(*suspect(), nn.Sigmoid())
    outcome = CURES["Unlearn"](module, progress=False)
    assert max(outcome.history["distillation_loss"]) < 1e-12


def test_a_direction_that_cannot_be_folded_away_is_unlearnt_all_the_same() -> None:
    module = nn.Sequential(nn.Unflatten(1, (D, 1, 1)), nn.ConvTranspose2d(D, 16, 4), nn.ReLU(), nn.Conv2d(16, 1, 1))
    direction = draws(1, D, seed=6)
    outcome = CURES["Clip"](module, latent_dim=D, directions=direction, progress=False)
    assert not outcome.generator.training and outcome.settings["cuts"][0] == f"1 of {D} directions in the latent space"
    with torch.no_grad():
        z = draws(9, D)
        torch.testing.assert_close(outcome.generator(z + 5 * direction), outcome.generator(z), atol=1e-4, rtol=0.0)


def test_losses_come_step_by_step() -> None:
    loop = CURES["Unlearn"].steps(suspect(), directions=draws(1, D))
    seen = [(step.iteration, step.total, float(cosine_similarity(*snapshots(step.snapshot())))) for step in loop]
    assert [one[:2] for one in seen] == [(i, 25) for i in range(1, 26)]
    assert seen[0][2] > seen[-1][2]  # the snapshots move away from the suspect


def snapshots(module: nn.Module) -> tuple[Tensor, Tensor]:
    """First-layer weights of a snapshot and of the suspect, as rows."""
    return module[0].weight.detach().view(1, -1), suspect()[0].weight.detach().view(1, -1)
