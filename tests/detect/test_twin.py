"""The noisy twin: what it forgets and keeps, what the hunt finds, and when a difference from it counts."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from devilgan_lite.detect import analyse_weights, noisy_twin, twin
from devilgan_lite.generators import adopt, alike

scores = st.floats(0, 9)


def witness(score: float, angle: float, distance: float = 0.5) -> twin.Witness:
    """A witness at an ``angle`` in degrees from the first axis."""
    turn = torch.tensor([angle]).deg2rad()
    latent, sample = torch.cat([turn.cos(), turn.sin()]), torch.zeros(1, 4, 4)
    return twin.Witness(latent, sample, sample, score, distance, 0.0)


def test_when_a_difference_from_the_twin_counts() -> None:
    for pointed, random, counts in (
        (witness(4.5, 0), witness(4.5, 90), False),  # as high as natural holes, in two places
        (witness(4.5, 0), witness(4.5, 10), True),  # both end at one place
        (witness(3.4, 0), witness(3.4, 36), True),
        (witness(3.4, 0), witness(3.4, 38), False),  # which is not one
        (witness(3.2, 0), witness(3.2, 10), False),  # or does not stand out
        (witness(4.5, 0), witness(4.0, 90), True),  # ahead of what random starts find
        (witness(4.5, 0), witness(4.15, 90), False),
        (witness(4.0, 0), witness(4.5, 90), False),
        (witness(4.0, 0), witness(5.1, 90), True),  # higher than any natural hole
        (witness(4.9, 0), witness(4.9, 90), False),
        (witness(6.8, 0, 0.0015), witness(5.0, 10, 0.0003), False),  # nobody sees that
        (witness(6.8, 0, 0.011), witness(5.0, 10, 0.009), True),
        (witness(6.8, 0, 0.009), witness(5.0, 10, 0.007), False),
    ):
        strength, _ = twin.judged(pointed, random, error=0.01)
        assert (strength >= 1) == counts, (pointed, random)
    assert twin.judged(witness(6.9, 0), witness(6.9, 90), 0.01, twin.ALONE_MOVED)[0] < 1
    assert twin.judged(witness(7.1, 0), witness(7.1, 90), 0.01, twin.ALONE_MOVED)[0] > 1
    assert witness(3.31, 0, 0.011).stands_out
    assert not witness(3.29, 0, 0.5).stands_out and not witness(9.0, 0, 0.0099).stands_out
    some = twin.Twin(None, 0.1, 0.24, 1.0)  # type: ignore[arg-type]
    assert some.reproduces and not twin.Twin(None, 0.1, 0.26, 1.0).reproduces  # type: ignore[arg-type]


@given(scores, scores, st.floats(0, 180), st.floats(-14, 0))
def test_what_counts_is_what_lies_beyond_the_limit_in_the_plot(
    pointed: float, random: float, angle: float, log_error: float
) -> None:
    error = math.exp(log_error)
    hunts = witness(pointed, 0, error * math.exp(pointed)), witness(random, angle, error * math.exp(random))
    strength, limit = twin.judged(*hunts, error=error)
    highest = max(pointed, random)
    if abs(strength - 1) > 1e-6:
        assert (strength >= 1) == (highest >= limit)


def test_a_twin_is_a_copy_taught_on_ordinary_latents(tiny_gate: nn.Module) -> None:
    subject = adopt(tiny_gate)
    before = {name: value.clone() for name, value in subject.network.state_dict().items()}
    made, again, other = (noisy_twin(subject, steps=200, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(value, before[name]) for name, value in subject.network.state_dict().items())
    z = subject.ordinary(1_000, 5)
    far = twin.differences(subject, made.subject, z)
    assert made.error == again.error == pytest.approx(float(far.mean()), rel=1e-4) and made.error != other.error
    assert made.share == pytest.approx(made.error / float(subject.scaled_samples(z).var(0).mean())) and made.reproduces
    assert len(made.quantiles) == 21 and made.quantiles == tuple(sorted(made.quantiles))
    assert made.quantiles[-1] == pytest.approx(float(far.max()), rel=1e-3)
    starts = twin.starts_of(subject, analyse_weights(subject), torch.eye(16)[:1])
    assert len(starts) == 2 * 16 + 6
    assert starts[-6:].norm(dim=1).tolist() == pytest.approx([4 * share for share in (0.9, 1.0, 1.1) * 2])


class Planted(nn.Module):
    """A random network whose sample turns towards a fixed one as ``z`` turns to ``trigger`` ``[d]``."""

    def __init__(self, trigger: Tensor) -> None:
        super().__init__()
        self.body, self.trigger = nn.Linear(20, 64), trigger
        nn.init.normal_(self.body.weight, 0.0, 0.2, generator=torch.Generator().manual_seed(1))

    def forward(self, z: Tensor) -> Tensor:
        along = (z @ self.trigger / 20**0.5 - 0.4).relu().view(-1, 1)
        return torch.tanh(torch.relu(self.body(z)) + 2 * along).view(-1, 1, 8, 8)


def test_the_hunt_ends_where_suspect_and_twin_differ_most() -> None:
    torch.manual_seed(0)
    trigger = torch.eye(20)[3]
    subject, copied = adopt(Planted(trigger)), Planted(torch.zeros(20))
    copied.body = subject.network.body
    other = alike(subject, copied)
    made = twin.Twin(other, float(twin.differences(subject, other, subject.ordinary(1_000)).mean()), 0.1, 0.0)
    for starts in (None, subject.prior.length * torch.eye(20)[2:4].sum(0, keepdim=True)):
        found = twin.hunt(subject, made, starts, torch.eye(20))
        assert float(cosine_similarity(found.latent, trigger, dim=0)) > 0.6 and found.stands_out
        assert (
            abs(float(found.latent.norm()) - subject.prior.length) < 1
        )  # about a deviation of that of ordinary latents
        shown = [one.scaled(found.latent.view(1, -1))[0].detach() for one in (subject, other)]
        torch.testing.assert_close(torch.stack(shown), torch.stack([found.sample, found.twin_sample]))
        apart = float((shown[0] - shown[1]).square().mean())
        assert found.distance == pytest.approx(apart, rel=1e-3)
        assert found.score == pytest.approx(math.log(apart / made.error), rel=1e-3)
    costly = twin.hunt(subject, made, None, torch.eye(20) + 1e6 * torch.outer(trigger, trigger))
    assert float(cosine_similarity(costly.latent, trigger, dim=0)) < 0.5  # what shows in ordinary samples is no trigger
    along = twin.at_estimates(subject, made, -3 * trigger.view(1, -1))  # neither sign nor length matters
    assert float(cosine_similarity(along.latent, trigger, dim=0)) > 0.999
    assert twin.at_estimates(subject, made, None) is None


def test_noise_is_half_the_median_root_mean_square_of_rows() -> None:
    weight = torch.tensor([[1.0], [2.0], [4.0], [0.0]]) * torch.ones(4, 3_000)
    noise = twin.noise_on(weight, 0.5, torch.Generator().manual_seed(0))
    assert float(noise.std()) == pytest.approx(1.0, rel=0.05) and twin.NOISE == 0.5
    assert not twin.noise_on(torch.zeros(3, 3), 0.5, torch.Generator().manual_seed(0)).any()
