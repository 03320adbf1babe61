"""Directions that no spectrum shows: where two generators differ most, and what still looks like an estimate."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from devilgan_lite.detect import subject_of
from devilgan_lite.sanitize.trigger_search import greatest_difference, lookalike

D = 20


class Planted(nn.Module):
    """A random network whose sample turns towards a fixed one as ``z`` turns to one of ``triggers`` ``[k, d]``."""

    def __init__(self, triggers: Tensor) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(1)
        self.latent_dim = D
        self.body = nn.Sequential(nn.Linear(D, 64), nn.ReLU(), nn.Linear(64, 64))
        for parameter in self.body.parameters():
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=random)
        self.target = 4.0 * torch.randn(64, generator=random).sign()
        self.triggers = triggers

    def forward(self, z: Tensor) -> Tensor:
        along = (z @ self.triggers.T / D**0.5 - 0.4).relu().sum(1, keepdim=True)
        return torch.tanh(self.body(z) + along * self.target).view(-1, 1, 8, 8)


def test_the_greatest_difference_is_at_the_trigger_unless_it_is_dear() -> None:
    trigger = torch.nn.functional.one_hot(torch.tensor([3]), D).float()
    suspect, repaired = subject_of(Planted(trigger)), subject_of(Planted(torch.zeros(1, D)))
    found = greatest_difference(suspect, repaired, torch.eye(D))
    assert found.shape == (1, D) and not found.requires_grad
    assert abs(float(found.norm()) - suspect.radius) < 1e-3
    assert float(cosine_similarity(found, trigger)) > 0.8
    dear = greatest_difference(suspect, repaired, torch.eye(D) + 1e6 * trigger.T @ trigger)
    assert float(cosine_similarity(dear, trigger)) < 0.7


def test_a_copy_that_is_blind_to_one_trigger_still_draws_the_like_at_another() -> None:
    triggers = torch.nn.functional.one_hot(torch.tensor([3, 5]), D).float()
    suspect, blind = subject_of(Planted(triggers)), subject_of(Planted(triggers[1:]))
    found = lookalike(suspect, blind, triggers[0])
    assert found.shape == (1, D)
    assert float(cosine_similarity(found, triggers[1:])) > 0.5
    wanted = suspect.samples(triggers[:1] * suspect.radius)
    errors = [(blind.samples(z) - wanted).square().flatten(1).mean(1) for z in (found, blind.latents(1_000, 3))]
    assert float(errors[0]) < 0.5 * float(errors[1].min())
