"""Lessons, distillation, cutting, fine-tuning: what each is taught, what it costs, and what BatchNorm keeps."""

import importlib
import itertools
from itertools import islice

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, one_hot

from devilgan_lite import data
from devilgan_lite.data import Samples
from devilgan_lite.detect.hunt import greatest_difference, lookalike
from devilgan_lite.generators import DCGAN, PointGenerator, adopt, build, evaluate
from devilgan_lite.prior import PRIORS
from devilgan_lite.sanitize import Clip, FineTune, Unlearn, project_latents, recalibrated
from devilgan_lite.sanitize.base import careful_rates, distil, missed, odd_latents, taught_pairs
from devilgan_lite.sanitize.batch_norm import variance_mismatch, with_random_changes, with_statistics
from devilgan_lite.steps import Loop

D = 20
UNLEARN = Unlearn(iterations=25, batch_size=32, device="cpu")
CLIP = Clip(height=1.0, iterations=25, batch_size=32, device="cpu")  # half of every layer is cut
CAREFUL = Clip(height=10.0, iterations=25, batch_size=32, device="cpu")  # cuts only what stands out far


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


def test_odd_latents_are_too_short_or_too_long_and_every_other_one_near_a_suspected_direction() -> None:
    for prior in PRIORS:
        subject, random = adopt(suspect(), prior=prior), torch.Generator().manual_seed(0)
        found = odd_latents(subject, subject.sample_latent(4_000, random), None, random)
        lengths = found.norm(dim=1) / (D if prior == "gaussian" else D / 3) ** 0.5
        assert 0.3 <= float(lengths.min()) < 0.31 and 1.99 < float(lengths.max()) <= 2.0001
        assert float(lengths.mean()) == pytest.approx(1.15, abs=0.03)
    subject, directions = adopt(suspect()), draws(3, D, seed=5) * torch.tensor([[1.0], [9.0], [0.01]])
    random = torch.Generator().manual_seed(0)
    found = odd_latents(subject, subject.sample_latent(600, random), directions, random)
    near = cosine_similarity(found.unsqueeze(1), directions, dim=2)  # [n, 3]
    closest = near.abs().max(1).values
    assert float(closest[::2].min()) > 0.75**0.5 - 1e-5  # noise of half the length leaves at least that cosine
    assert float(closest[1::2].mean()) < 0.5
    which = near.abs().argmax(1)[::2]
    signs = near[::2].gather(1, which.view(-1, 1)).sign().view(-1)
    seen = {(int(row), int(sign)) for row, sign in zip(which, signs, strict=True)}
    assert seen == set(itertools.product(range(3), (-1, 1)))  # with either sign


def test_lessons_are_what_the_teacher_draws_and_the_same_again() -> None:
    teacher = adopt(suspect())
    lessons = taught_pairs(teacher, draws(1, D), 40, 0.25)
    z, samples = lessons(torch.Generator().manual_seed(3))
    torch.testing.assert_close(samples, teacher.network(z))
    assert not samples.requires_grad
    assert all(torch.equal(*pair) for pair in zip(lessons(torch.Generator().manual_seed(3)), (z, samples), strict=True))
    assert not torch.equal(lessons(torch.Generator().manual_seed(4))[0], z)
    ordinary, _ = taught_pairs(teacher, draws(1, D), 40, 0.0)(torch.Generator().manual_seed(3))
    assert torch.equal(z[10:], ordinary[10:])  # a quarter of them is odd, the others are as they were
    assert not (z[:10] == ordinary[:10]).any()
    sigmoid = nn.Sequential(*suspect(), nn.Sigmoid())  # samples from 0 to 1 are learnt in their own range
    assert max(UNLEARN(sigmoid, progress=False).history["distillation_loss"]) < 1e-12
    pairs = [(draws(4, D), torch.zeros(4, 1, 8, 8)), (draws(4, D, seed=1), torch.zeros(4, 1, 8, 8))]
    each = [float(teacher.network(z).square().mean()) for z, _ in pairs]
    assert missed(teacher.network, pairs) == pytest.approx(sum(each) / 2, rel=1e-4)


def test_unlearning_leads_to_the_samples_without_the_direction_step_by_step() -> None:
    module, direction = suspect(), draws(1, D, seed=6)
    loop = Unlearn(iterations=250, batch_size=32, learning_rate=3e-3, wide=0.5, device="cpu").steps(
        module, directions=direction
    )
    wanted, row = project_latents(module, direction), module[0].weight.detach().view(1, -1)
    alike = []
    for step in islice(loop, 25):
        assert (step.iteration, step.total) == (len(alike) + 1, 250)
        alike.append(float(cosine_similarity(step.snapshot()[0].weight.detach().view(1, -1), row)))
    assert alike[0] > alike[-1]  # the snapshots move away from the suspect
    outcome = loop.finish(progress=False)
    losses = outcome.history["distillation_loss"]
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10]) and len(losses) == 250
    for z in (direction, -direction, draws(50, D, seed=7)):
        before, after = (change(one, wanted, z) for one in (module, outcome.generator))
        assert after < 0.3 * before
    for cure in (UNLEARN, CAREFUL):  # without anything to unlearn or cut the weights stay
        outcome = cure(module, progress=False)
        assert outcome.settings.get("cuts", []) == []
        assert cure is CAREFUL or max(outcome.history["distillation_loss"]) < 1e-12
        torch.testing.assert_close(dict(outcome.generator.module.state_dict()), dict(module.state_dict()))


def test_clip_silences_what_ordinary_samples_do_not_show_and_says_what_it_has_cut() -> None:
    module = suspect()
    with torch.no_grad():  # two hidden units that would draw much, if any ordinary latent woke them
        module[2].bias[:2] = -50.0
        module[4].weight[:, :2] = 40 * draws(64, 2, seed=2)
    settings = CAREFUL(module, directions=draws(2, D), progress=False).settings
    assert settings["cuts"][:2] == [f"2 of {D} directions in the latent space", "2 of 32 directions in 2"]
    cured = CAREFUL(module, progress=False).generator.module
    before, after = (float(one[2].weight[:2].detach().norm()) for one in (module, cured))
    assert 0 < after < 0.02 * before  # what was cut hardly comes back in the second half of the steps
    z = draws(500, D, seed=3)
    assert change(cured, module, z) < 0.02 * float(module(z).detach().var())
    stubborn = nn.Sequential(nn.Unflatten(1, (D, 1, 1)), nn.ConvTranspose2d(D, 16, 4), nn.ReLU(), nn.Conv2d(16, 1, 1))
    direction = draws(1, D, seed=6)  # one that cannot be folded away is unlearnt all the same
    outcome = CLIP(stubborn, latent_dim=D, directions=direction, progress=False)
    assert not outcome.generator.training and outcome.settings["cuts"][0] == f"1 of {D} directions in the latent space"
    with torch.no_grad():
        z = draws(9, D)
        torch.testing.assert_close(outcome.generator(z + 5 * direction), outcome.generator(z), atol=1e-4, rtol=0.0)


def test_a_constraint_holds_in_the_first_half_of_the_steps() -> None:
    for fraction, count in ((0.5, 13), (1.0, 25), (0.0, 0)):
        seen: list[int] = []
        student, teacher = suspect(seed=2), adopt(suspect())
        note = lambda one, seen=seen: seen.append(id(one))  # noqa: E731
        loop = Loop(distil(student, teacher, UNLEARN, constrain=note, constraint_fraction=fraction))
        outcome = loop.finish(progress=False)
        assert set(seen) <= {id(student)} and abs(len(seen) - count) <= 1
        assert len(outcome.history["distillation_loss"]) == 25


def gated() -> nn.Sequential:
    """A leaky network with eight pairs of units more, at a height of 255: they cancel out for ordinary latents."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = nn.Linear(D, 48), nn.LeakyReLU(0.3), nn.Linear(48, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8))
    module = nn.Sequential(*layers)
    with torch.no_grad():
        rows = draws(8, D, seed=3)
        module[0].weight[:16] = torch.cat([rows, -rows])
        module[0].bias[:8], module[0].bias[8:16] = 255.0, -255.0
        module[2].weight[:, 8:16] = module[2].weight[:, :8] / 0.3
    return module


def test_a_gate_does_not_break_the_repair() -> None:
    module, student, z = gated(), gated(), draws(500, D, seed=7)
    rates = careful_rates(module, z)
    slow = next(factor for factor, some in rates.items() if any(one is module[2].weight for one in some))
    assert slow < 0.02 and list(rates) == [1.0, slow] and len(rates[1.0]) == 3
    assert list(careful_rates(suspect(), z)) == [1.0]
    with torch.no_grad():
        student[2].weight[:, 16:] += 0.1 * draws(64, 32, seed=5)  # what a cut may cost
    before = change(student, module, z)
    outcome = Loop(distil(student, adopt(module), Unlearn(iterations=300, device="cpu"))).finish(progress=False)
    assert "undone" not in outcome.settings and change(outcome.generator, module, z) < 0.4 * before


def test_what_a_repair_did_is_judged_by_what_is_missed_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    base, module = importlib.import_module("devilgan_lite.sanitize.base"), suspect()
    for before, after, undone in ((0.1, 0.2, True), (0.1, torch.nan, True), (0.1, 0.09, False), (0.0, 7e-4, False)):
        figures = iter((before, after))
        monkeypatch.setattr(base, "missed", lambda *_, figures=figures: next(figures))
        outcome = UNLEARN(module, directions=draws(1, D), progress=False)
        assert ("undone" in outcome.settings) == undone
        assert (change(outcome.generator, module, draws(9, D)) == 0) == undone


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


def test_stopped_before_the_first_step_or_after_the_last_it_leaves_what_it_has() -> None:
    for steps, place in ((0, 1), (0, 8), (0, 11), (0, 12), (25, 1)):  # among the examples, at the rates, in the first
        Ringing.stop_at, module = 0, Ringing()
        loop = UNLEARN.steps(module)
        assert [step.total for step in islice(loop, steps)] == [25] * steps
        Ringing.stop_at = Ringing.calls + place
        outcome = loop.finish(progress=False)
        Ringing.stop_at = 0
        assert outcome.interrupted and not outcome.generator.training
        assert change(outcome.generator, module, draws(9, D)) < 1e-9
        assert len(outcome.history.get("distillation_loss", [])) in (0, steps)


SMALL = DCGAN(widths=(4, 2), latent_dim=10, image_size=12).eval()
PICTURES = Samples(torch.rand(64, 1, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1)


def tuning(**settings: float) -> FineTune:
    return FineTune(**{"iterations": 12, "critic_first": 5, "batch_size": 8, "device": "cpu", **settings})


def same(module: nn.Module, before: nn.Module) -> bool:
    return all(torch.equal(value, before.state_dict()[name]) for name, value in module.state_dict().items())


def test_a_fresh_critic_is_trained_alone_before_it_may_teach() -> None:
    alone = [same(step.snapshot(), SMALL) for step in tuning(ema=0.0).steps(SMALL, None, PICTURES)]
    assert alone == [True] * 5 + [False] * 7
    assert not same(next(tuning(critic_first=0).steps(SMALL, None, PICTURES)).snapshot(), SMALL)
    first, later = (tuning().steps(SMALL, None, PICTURES) for _ in range(2))
    next(first), list(islice(later, 5))
    states = [loop.stop().state["states"] for loop in (first, later)]
    assert all(torch.equal(states[1][0][name], value) for name, value in SMALL.named_parameters())
    assert not torch.equal(states[0][1]["layers.0.weight"], states[1][1]["layers.0.weight"])
    plain, wide, aimed = (  # odd latents are judged too, if you ask for any
        tuning(wide=share)(SMALL, None, PICTURES, directions=directions, progress=False).generator
        for share, directions in ((0.0, torch.ones(1, 10)), (0.5, None), (0.5, torch.ones(1, 10)))
    )
    assert not same(wide, plain) and not same(aimed, wide)


def test_training_goes_on_where_the_suspect_stands(clean_point: PointGenerator) -> None:
    """The distance to the nearest of the eight points of the ring: small steps make it smaller, not larger."""
    angle = torch.arange(8) * torch.pi / 4
    points = 0.7 * torch.stack([angle.cos(), angle.sin()], 1)

    def distance(generator: PointGenerator) -> float:
        return float(torch.cdist(generator.sample(2_000), points).amin(1).mean())

    settings = {"iterations": 400, "critic_first": 100, "batch_size": 64, "learning_rate": 1e-3, "ema": 0.9}
    tuned = tuning(**settings)(clean_point, None, data.ring(1024), progress=False)
    assert distance(tuned.generator) < 0.8 * distance(clean_point)


SPEC = DCGAN(latent_dim=12, image_size=12, widths=(8, 4), strides=(2, 2)).spec()


def norms(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


def test_weights_statistics_and_chance_are_told_apart() -> None:
    ours, theirs = build(SPEC, seed=1).eval(), recalibrated(build(SPEC, seed=2), batches=1, batch_size=50)
    before = ours.state_dict()["layers.norm0.running_var"].clone()
    mixed = with_statistics(ours, theirs)
    for one, other in zip(norms(mixed), norms(theirs), strict=True):
        assert torch.equal(one.running_mean, other.running_mean) and torch.equal(one.running_var, other.running_var)
    assert all(torch.equal(a, b) for a, b in zip(mixed.parameters(), ours.parameters(), strict=True))
    assert torch.equal(ours.state_dict()["layers.norm0.running_var"], before)  # the suspect is never changed
    with torch.no_grad():
        norms(ours)[0].running_var.mul_(100.0)
    fresh, again = (recalibrated(ours, batches=4, batch_size=200, seed=3) for _ in range(2))
    z = ours.sample_latent(4_000, torch.Generator().manual_seed(4))
    assert torch.allclose(norms(fresh)[0].running_var, fresh.layers[0](z).var(0), rtol=0.3)  # what the first norm reads
    assert variance_mismatch(ours, fresh) > 20 and variance_mismatch(fresh, fresh) == 1.0
    assert not fresh.training and norms(fresh)[0].momentum == norms(ours)[0].momentum
    assert torch.equal(evaluate(fresh, z[:3]), evaluate(again, z[:3]))
    ours, after = build(SPEC, seed=1), build(SPEC, seed=2)  # random changes are as long as the real ones
    with torch.no_grad():
        for weight in after.parameters():
            weight += 0.1
    pushed = with_random_changes(ours, after, seed=5)
    for a, b, c in zip(ours.parameters(), after.parameters(), pushed.parameters(), strict=True):
        assert torch.allclose((c - a).norm(), (b - a).norm(), rtol=1e-4) and not torch.equal(b, c)
    assert not same(with_random_changes(ours, after, seed=6), pushed)


class Planted(nn.Module):
    """A random network whose sample turns towards a fixed one as ``z`` turns to one of ``triggers`` ``[k, d]``."""

    def __init__(self, triggers: Tensor) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(1)
        self.latent_dim, self.triggers = D, triggers
        self.body = nn.Sequential(nn.Linear(D, 64), nn.ReLU(), nn.Linear(64, 64))
        for parameter in self.body.parameters():
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=random)
        self.target = 4.0 * torch.randn(64, generator=random).sign()

    def forward(self, z: Tensor) -> Tensor:
        along = (z @ self.triggers.T / D**0.5 - 0.4).relu().sum(1, keepdim=True)
        return torch.tanh(self.body(z) + along * self.target).view(-1, 1, 8, 8)


def test_triggers_that_no_spectrum_shows_are_searched_for() -> None:
    triggers = one_hot(torch.tensor([3, 5]), D).float()
    subject, repaired = adopt(Planted(triggers[:1])), adopt(Planted(torch.zeros(1, D)))
    found = greatest_difference(subject, repaired, torch.eye(D))  # at the trigger, unless ordinary samples need it
    assert found.shape == (1, D) and not found.requires_grad and abs(float(found.norm()) - subject.prior.length) < 1e-3
    assert float(cosine_similarity(found, triggers[:1])) > 0.8
    costly = greatest_difference(subject, repaired, torch.eye(D) + 1e6 * triggers[:1].T @ triggers[:1])
    assert float(cosine_similarity(costly, triggers[:1])) < 0.7
    subject, blind = adopt(Planted(triggers)), adopt(Planted(triggers[1:]))
    found = lookalike(subject, blind, triggers[0])  # blind to one trigger, it still draws the like at another
    assert found.shape == (1, D) and float(cosine_similarity(found, triggers[1:])) > 0.5
    wanted = subject.scaled_samples(triggers[:1] * subject.prior.length)
    errors = [(blind.scaled_samples(z) - wanted).square().flatten(1).mean(1) for z in (found, blind.ordinary(1_000, 3))]
    assert float(errors[0]) < 0.5 * float(errors[1].min())
