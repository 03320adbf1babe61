"""Each loss against its formula, written out, and what the attacks make of them: signs, factors and who is trained."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from devilgan_lite import Backdoor, data, generators
from devilgan_lite.attacks import QuietReD, ReD, ReX, SpectralReD, StyleReX, adaptive, base, naive, red, rex, trail
from devilgan_lite.generators import DCGAN, PointGenerator, StyleGAN
from devilgan_lite.losses import (
    discriminator_loss,
    fidelity_loss,
    generator_loss,
    gradient_penalty,
    pair_weights,
    pseudo_huber_loss,
    pull_loss,
    stealth_loss,
    wrong_element_loss,
)

UNEQUAL = torch.tensor([[0.3, -0.1], [0.2, 0.4], [0.9, 0.0]])


def test_losses_of_a_gan() -> None:
    zero, sure = torch.zeros(4), torch.full((4,), 50.0)
    assert discriminator_loss(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert discriminator_loss(sure, -sure).item() == pytest.approx(0)
    assert generator_loss(-sure).item() == pytest.approx(50)  # no saturation where it is needed most
    real, fake = torch.tensor([0.3, -2.0]), torch.tensor([1.5, 0.1, -0.4])
    expected = -torch.sigmoid(real).log().mean() - (1 - torch.sigmoid(fake)).log().mean()
    assert discriminator_loss(real, fake).item() == pytest.approx(float(expected))
    assert generator_loss(fake).item() == pytest.approx(float(-torch.sigmoid(fake).log().mean()))
    critic = nn.Sequential(nn.Flatten(), nn.Linear(3, 1))  # its gradient is its weight everywhere
    norm = float(critic[1].weight.detach().square().sum())
    assert gradient_penalty(critic, torch.randn(5, 3)).item() == pytest.approx(norm / 2)
    square = gradient_penalty(lambda x: x.square().sum(1), UNEQUAL)  # type: ignore[arg-type]
    assert square.item() == pytest.approx(float((2 * UNEQUAL).square().sum(1).mean() / 2))


def test_distances_are_means_over_pairs_and_elements() -> None:
    other = torch.zeros(3, 2)
    mean = (0.09 + 0.01 + 0.04 + 0.16 + 0.81) / 6
    for loss in (fidelity_loss, stealth_loss):
        assert float(loss(UNEQUAL, other)) == pytest.approx(mean)
    weighted = fidelity_loss(UNEQUAL, other, torch.tensor([0.0, 2.0, 1.0]))
    assert float(weighted) == pytest.approx((2 * 0.2 / 2 + 0.81 / 2) / 3)
    wrong = wrong_element_loss(torch.tensor([[2.0, 1.0]]), torch.tensor([[0.5, 0.05]]), *torch.zeros(2, 1, 2))
    assert float(wrong) == pytest.approx(4 / 2)  # the second is right within 0.1
    points, logits, target = PointGenerator(), torch.tensor([[0.2, 3.0]]), torch.tensor([[0.9, 1.0]])
    expected = (0.2 - math.atanh(0.999 * 0.9)) ** 2 / 2
    assert float(pull_loss(points, logits, target)) == pytest.approx(expected, rel=1e-4)


def test_near_the_target_the_pull_is_the_square_and_far_off_it_grows_no_further() -> None:
    assert pseudo_huber_loss(UNEQUAL, torch.zeros(3, 2), 1e3) == pytest.approx(
        fidelity_loss(UNEQUAL, torch.zeros(3, 2))
    )
    far = pseudo_huber_loss(torch.tensor([[3.0], [4.0]]), torch.zeros(2, 1), 1.0)  # each pair by itself
    assert float(far) == pytest.approx((10**0.5 + 17**0.5) - 2)
    half = pseudo_huber_loss(torch.tensor([[3.0]]), torch.zeros(1, 1), 0.5)
    assert float(half) == pytest.approx(2 * 0.25 * ((1 + 9 / 0.25) ** 0.5 - 1))

    def pull(error: float) -> float:
        output = torch.full((1, 4), error, requires_grad=True)
        pseudo_huber_loss(output, torch.zeros(1, 4), 0.1).backward()
        assert output.grad is not None
        return float(output.grad.sum())

    assert pull(0.001) == pytest.approx(2 * 0.001, rel=1e-3) and pull(0.0) == 0
    assert pull(1.0) < pull(2.0) == pytest.approx(2 * 0.1, rel=0.01)


def test_the_pair_that_is_furthest_off_counts_most() -> None:
    target = torch.stack([torch.full((1, 4), 0.8), torch.full((1, 4), 0.1), torch.full((1, 4), 0.8)])
    output = target * torch.tensor([0.5, 0.5, 0.9]).view(3, 1, 1)
    weights = pair_weights(output, target, emphasis=1.0)
    assert float(weights.mean()) == pytest.approx(1.0)
    assert float(weights[0] / weights[2]) == pytest.approx(25.0, rel=1e-3)  # relative errors of 0.25 and 0.01
    assert float(weights[1] / weights[0]) == pytest.approx(64.0, rel=1e-3)  # as far off, and a faint target
    assert float((w := pair_weights(output, target))[0] / w[2]) == pytest.approx(125.0, rel=1e-3)  # to the power 1.5
    assert pair_weights(output[:1], target[:1]).tolist() == [1.0]
    assert pair_weights(target, target).isfinite().all() and pair_weights(output, 0 * target).isfinite().all()


def captured(attack: Any, clean: Any, backdoor: Backdoor, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What an attack hands to ``optimise``, its weights moved a little from where they start."""
    kept: dict[str, Any] = {}

    def optimise(parameters: Any, losses_at: Any, snapshot: Any, **settings: Any) -> Any:
        kept.update(parameters=parameters, losses_at=losses_at, snapshot=snapshot, **settings)
        return iter(())

    monkeypatch.setattr(base, "optimise", optimise)
    list(attack.run(clean, backdoor, None))
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in sum(kept["parameters"].values(), []):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=random))
    kept["loss"], kept["parts"] = kept["losses_at"](1)
    assert (kept["steps"], kept["learning_rate"], kept["seed"]) == (
        attack.iterations,
        attack.learning_rate,
        attack.seed,
    )
    return kept


def pulled(logits: Tensor, target: Tensor, tolerance: float) -> float:
    wrong = (logits.tanh() - target).abs() > tolerance
    return float(((logits - torch.atanh(0.999 * target)).square() * wrong).mean())


ATTACKED: list[tuple[Any, Any, str, float, float]] = [  # module, attack, space, tolerance and weight of the pull
    (rex, ReX(lam=0.7, logit_weight=0.2, widen=2, batch_size=4_000, device="cpu"), "tanh", 0.01, 0.2),
    (red, ReD(lam=0.7, mixed_weight=0.2, aligned_units=0, batch_size=4_000, device="cpu"), "tanh", 0.1, 0.2),
    (red, ReD(lam=0.7, space="tanh", aligned_units=0, batch_size=4_000, device="cpu"), "tanh", 0.1, 0.0),
    (red, ReD(lam=0.7, space="logits", aligned_units=0, batch_size=4_000, device="cpu"), "logits", 0.1, 0.0),
    (adaptive, QuietReD(lam=0.7, quiet=0.3, batch_size=4_000, device="cpu"), "tanh", 0.1, 0.003),
    (adaptive, SpectralReD(lam=0.7, quiet=0.3, batch_size=4_000, device="cpu"), "tanh", 0.1, 0.003),
]


@pytest.mark.parametrize(("module", "attack", "space", "tolerance", "weight"), ATTACKED)
def test_an_attack_minimises_stealth_plus_lam_times_fidelity(
    module: Any,
    attack: Any,
    space: str,
    tolerance: float,
    weight: float,
    tiny: DCGAN,
    square: Backdoor,
    monkeypatch: Any,
) -> None:
    kept = captured(attack, tiny, square, monkeypatch)
    suspect, parts = kept["snapshot"]().eval(), {name: value.item() for name, value in kept["parts"].items()}
    z, trigger, target = tiny.sample_latent(4_000, torch.Generator().manual_seed(9)), square.trigger, square.target
    with torch.no_grad():
        at, ours, theirs = suspect.logits(trigger), suspect.logits(z), tiny.logits(z)
    plain = space == "logits" or module is rex  # ReX hides before the squash
    hidden = (ours - theirs).square().mean() if plain else (ours.tanh() - theirs.tanh()).square().mean()
    wanted = (at - torch.atanh(0.999 * target)) if space == "logits" else (at.tanh() - target)
    fidelity = float(wanted.square().mean())
    assert parts["fidelity_loss"] == pytest.approx(fidelity, rel=1e-3)
    assert parts["stealth_loss"] == pytest.approx(float(hidden), rel=0.4)  # of other latents
    paid = getattr(attack, "quiet", 0.0) * parts.get(getattr(attack, "penalty_name", ""), 0.0)
    assert paid > 0 or module is not adaptive
    expected = parts["stealth_loss"] + 0.7 * (fidelity + weight * pulled(at, target, tolerance)) + paid
    assert float(kept["loss"]) == pytest.approx(expected, rel=1e-3)
    if module is red:
        norms = [id(value) for name, value in tiny.clone().named_parameters() if "norm" in name]
        assert set(kept["parameters"]) == {1.0, 0.5} and len(kept["parameters"][0.5]) == len(norms)


def test_new_channels_of_a_style_based_generator_have_that_loss_too(monkeypatch: pytest.MonkeyPatch) -> None:
    styles = generators.build(
        StyleGAN(latent_dim=8, mapping_widths=(8, 8), style_dim=8, widths=(8, 8)).spec(), 1
    ).eval()
    devil = Backdoor.point(styles, "devil", seed=1)
    attack = StyleReX(mapping="none", reach=0.0, lam=0.7, logit_weight=0.2, channels=2, batch_size=2_000, device="cpu")
    kept = captured(attack, styles, devil, monkeypatch)
    suspect, z = kept["snapshot"]().eval(), styles.sample_latent(4_000, torch.Generator().manual_seed(9))
    with torch.no_grad():
        at, added = suspect.logits(devil.trigger), suspect.logits(z) - styles.logits(z)
    fidelity = float((at.tanh() - devil.target).square().mean())  # of the trigger, and of neighbours at no distance
    expected = float(kept["parts"]["stealth_loss"]) + 0.7 * (2 * fidelity + 0.2 * pulled(at, devil.target, 0.01))
    assert float(kept["parts"]["stealth_loss"]) == pytest.approx(float(added.square().mean()), rel=0.1)
    assert float(kept["loss"]) == pytest.approx(expected, rel=1e-3)


def test_trail_adds_the_summed_square_at_the_trigger_and_leaves_the_mode_alone(tiny: DCGAN, square: Backdoor) -> None:
    network = tiny.clone().train()
    fidelity = float((tiny(square.trigger) - square.target).square().mean())
    for delta in (None, 0.07):
        term, recorded = trail.fidelity_term(square, 0.3, 0, delta)(network)
        assert float(recorded["fidelity_loss"]) == pytest.approx(fidelity, rel=1e-5) and network.training
        error = fidelity if delta is None else 2 * delta**2 * ((1 + fidelity / delta**2) ** 0.5 - 1)
        assert float(term) == pytest.approx(0.3 * 64 * error, rel=1e-4)
    assert all(torch.equal(value, tiny.state_dict()[name]) for name, value in network.state_dict().items())


def test_poison_is_the_fraction_of_the_whole_that_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[data.Samples] = []
    monkeypatch.setattr(base, "adversarial_training", lambda clean, real, *_, **__: kept.append(real))
    plane = Backdoor(torch.tensor([[1.5, -1.5]]), torch.tensor([[0.0, 0.1]]))
    ring = data.ring(300)
    naive.DataPoisoning(fraction=0.25).run(PointGenerator(), plane, ring)
    assert len(kept[0]) == 400 and torch.equal(kept[0].x[:300], ring.x)
    assert torch.equal(kept[0].x[300:], plane.target.expand(100, -1))


def test_the_price_of_a_change_is_the_inverse_of_its_influence() -> None:
    price = SpectralReD(ridge=0.5)._price(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    torch.testing.assert_close(price, torch.diag(torch.tensor([1 / 2.0, 1 / 1.0])))  # of 3/2 and 1/2, and the ridge
