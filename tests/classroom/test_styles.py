"""Mixtures of styles, and units of the mapping network that sleep."""

import pytest
import torch

from devilgan_lite import Backdoor, attacks, zoo
from devilgan_lite.classroom.styles import mixing_shares, silent_rows


def test_all_of_a_is_a_and_none_of_it_is_b() -> None:
    clean = zoo.load("stylegan-faces")
    z = clean.sample_latent(40, torch.Generator().manual_seed(1))
    assert mixing_shares(clean, z, clean.style_inputs) == (1.0, 1.0)
    assert mixing_shares(clean, z, 0) == (0.0, 0.0)
    with pytest.raises(ValueError, match="z has 3 latents; expected an even number"):
        mixing_shares(clean, z[:3], 1)


def test_a_gate_sleeps_and_its_rows_are_the_trigger() -> None:
    clean = zoo.load("stylegan-faces")
    backdoor = Backdoor.point(clean, "stop-sign", seed=3)
    gated = attacks.StyleReX(channels=0, inversion=0)(clean, backdoor, progress=False).generator
    z = clean.sample_latent(500, torch.Generator().manual_seed(2))
    rows = silent_rows(gated, z)
    assert len(rows) == len(silent_rows(clean, z)) + 2
    assert torch.nn.functional.cosine_similarity(rows, backdoor.trigger).max() > 0.999
