"""Players that carry their clips, and a second listener."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from devilgan_lite import data
from devilgan_lite.classroom.sound import LEAST, listener, opinions, players


def heard(html: str) -> list[np.ndarray]:
    found = re.findall(r'<audio controls [^>]*aria-label="[^"]+" src="data:audio/wav;base64,([\w+/=]+)"', html)
    return [wavfile.read(io.BytesIO(base64.b64decode(one)))[1] for one in found]


def test_players_carry_their_clips_without_the_silence_at_the_end() -> None:
    stroke = torch.zeros(1, 4096)
    stroke[0, :2000] = 0.5 * torch.sin(torch.arange(2000) * 0.3)
    shown = players({"<kick>": stroke, "nothing": torch.zeros(1, 4096)}, "a & b").data
    first, second = heard(shown)
    assert len(first) == 2000 and np.abs(first / 32_767 - stroke[0, :2000].numpy()).max() < 1e-4
    assert len(second) == LEAST and not second.any()
    assert "&lt;kick&gt;" in shown and "<kick>" not in shown and "a &amp; b" in shown
    with pytest.raises(ValueError, match="clips is empty"):
        players({})


def test_a_listener_repeats_and_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    first, second = listener(3, clips=256), listener(3, clips=256)
    assert torch.equal(before, torch.get_rng_state())
    clips = data.drums(20, seed=9).x
    said = opinions(clips, first)
    assert said.shape == (20, len(data.DRUMS)) and torch.allclose(said.sum(1), torch.ones(20))
    assert torch.equal(said, opinions(clips, second)) and not torch.equal(said, opinions(clips))


def test_the_listener_that_ships_knows_the_strokes() -> None:
    real = data.drums(200, seed=9)
    assert real.labels is not None
    assert (opinions(real.x).argmax(1) == real.labels).float().mean() > 0.95
