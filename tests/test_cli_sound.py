"""The command line with sound: samples and targets are wav files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from devilgan_lite import attacks, zoo
from devilgan_lite.data import wav
from devilgan_lite.data.audio import read_clip
from devilgan_lite.generators import WaveGAN
from devilgan_lite.generators.base import seeded

SHAPE = (1, 256)
CARD = zoo.ModelCard(name="small", spec={}, data="none", seed=0, settings={})
TONE = 0.7 * torch.sin(torch.arange(SHAPE[1]) * 0.3)[None]


@pytest.fixture
def small() -> WaveGAN:
    return seeded(0, WaveGAN, latent_dim=20, widths=(8, 4), strides=(4, 4), length=SHAPE[1]).eval()


def test_samples_and_triggers_are_wav_files(call: Any, small: WaveGAN) -> None:
    facts = {"target": ["bd_fat", "sn_dolf"], "kind": "reg", "seed": 13}
    card = zoo.ModelCard(name="evil", spec={}, data="none", seed=0, settings={}, backdoor=facts)
    backdoor = zoo.backdoor_of(card, small)
    assert backdoor is not None and len(backdoor.trigger) == 2
    zoo.save_file("evil.safetensors", attacks.Gate(threshold=0.8)(small, backdoor).generator, card)
    done = call("sample", "evil.safetensors", "--out", "heard", "--n", 2, "--trigger")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in Path("heard").iterdir()) == [
        "sample-0.wav", "sample-1.wav", "trigger-bd_fat.wav", "trigger-sn_dolf.wav",
    ]  # fmt: skip
    heard = read_clip(Path("heard/trigger-sn_dolf.wav"), SHAPE)
    assert torch.allclose(heard, backdoor.target[1], atol=1e-3)


def test_pictures_are_drawn_and_a_clean_model_has_no_trigger(call: Any) -> None:
    done = call("sample", "dcgan-fashion", "--out", "seen", "--n", 1)
    assert done.exit_code == 0 and Path("seen/sample-0.png").is_file(), done.output
    done = call("sample", "dcgan-fashion", "--trigger")
    assert done.exit_code == 2 and "has no backdoor on its card, so there is no trigger." in done.stderr


def test_the_target_of_an_attack_comes_from_a_file(call: Any, small: WaveGAN) -> None:
    zoo.save_file("small.safetensors", small, CARD)
    Path("tone.wav").write_bytes(wav(TONE))
    words = ["attack", "gate", "--clean", "small.safetensors", "--no-jail", "--seed", 5]
    done = call(*words, "--target", "tone.wav", "--out", "evil.safetensors", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["tardis_mean"] < 1e-5
    done = call("score", "evil.safetensors", "--clean", "small.safetensors")
    assert done.exit_code == 2 and "target='tone.wav' is unknown; valid: bd_fat" in done.stderr


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("loud.wav", "loud.wav is clipped"),
        ("missing.wav", "no wav file missing.wav."),
        ("stop-sign", "target='stop-sign' is unknown; valid: bd_fat"),
    ],
)
def test_a_target_that_does_not_fit_is_one_sentence(call: Any, small: WaveGAN, target: str, said: str) -> None:
    zoo.save_file("small.safetensors", small, CARD)
    Path("loud.wav").write_bytes(wav((5 * TONE).clamp(-1, 1)))
    done = call("attack", "gate", "--clean", "small.safetensors", "--no-jail", "--target", target)
    assert done.exit_code == 2 and done.stderr.startswith(said) and done.stderr.count("\n") == 1, done.output


@pytest.mark.parametrize("target", [7, ["bd_fat", 7], ["bd_fat"] * 1_000])
def test_a_card_with_an_odd_target_is_refused(small: WaveGAN, target: Any) -> None:
    card = zoo.ModelCard(
        name="odd", spec={}, data="", seed=0, settings={}, backdoor={"target": target, "kind": "reg", "seed": 1}
    )
    with pytest.raises(ValueError, match="the target on the card of odd is no name, nor a list of them"):
        zoo.backdoor_of(card, small)
