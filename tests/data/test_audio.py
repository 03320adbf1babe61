"""Sound: the drums that ship, wav files in and out, and the sentences on those that are unfit."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from devilgan_lite import data
from devilgan_lite.data import audio
from devilgan_lite.data.audio import CLIP, RATE, read_clip

SHAPE = (1, CLIP)


def written(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    wavfile.write(path, rate, samples)
    return path


def tone(peak: float = 0.5, length: int = CLIP) -> np.ndarray:
    return (peak * np.sin(np.arange(length) * 0.3)).astype(np.float32)


def test_drums_are_clips_with_labels_and_repeat_by_seed() -> None:
    x = data.drums(200, seed=3)
    assert x.x.shape == (200, *SHAPE)
    assert x.labels is not None and set(x.labels.tolist()) == set(range(len(x.classes)))
    peaks = x.x.abs().amax((1, 2))
    assert peaks.min() >= 0.499 and peaks.max() <= 0.951
    assert torch.equal(x.x, audio._varied.__wrapped__(audio.STROKES, 200, "train", audio.SPEED, 3).x)
    assert not torch.equal(x.x, data.drums(200, seed=4).x)


def test_held_out_strokes_are_in_no_training_clip() -> None:
    strokes, labels, held_out, names = audio.STROKES.load()
    assert len(set(names)) == len(names) and 0 < held_out.sum() < len(names)
    for kind in range(len(data.DRUMS)):
        of = labels == kind
        assert (of & held_out).any() and (of & ~held_out).any()
    made = data.drums(300, speed=0.0)
    train = made.x.squeeze(1)
    spectra = torch.fft.rfft(torch.cat([train, strokes]), dim=1).abs()  # a delay changes these a little
    spectra = spectra / spectra.norm(dim=1, keepdim=True)
    likeness = spectra[:300] @ spectra[300:].T
    assert (likeness[:, ~held_out].max(1).values > 0.98).all()  # each comes from a stroke that is not held out
    assert not held_out[likeness.argmax(1)].any()
    assert made.labels is not None and torch.equal(labels[likeness.argmax(1)], made.labels)


def test_a_piano_plays_the_notes_that_its_keys_are_named_after() -> None:
    notes, labels, held_out, names = audio.KEYS.load()
    scale = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
    for clip, label, name in zip(notes, labels.tolist(), names, strict=True):
        key = name.split()[0]
        assert data.OCTAVES[label].startswith(f"C{key[-1]}")
        pitch = 440 * 2 ** (scale.index(key[:-1]) / 12 + int(key[-1]) - 4 - 9 / 12)
        loudest = float(torch.fft.rfft(clip * torch.hann_window(CLIP)).abs().argmax()) * RATE / CLIP
        overtone = round(loudest / pitch)
        assert overtone >= 1 and loudest == pytest.approx(overtone * pitch, rel=0.03, abs=2.0), name
    train = data.piano(500, speed=0.0)
    assert train.features == "piano" and train.licence == "MIT" and set(train.labels.tolist()) == set(range(5))
    keys = {name.split()[0] for name, held in zip(names, held_out.tolist(), strict=True) if held}
    assert len(keys) == 15 and not keys & {
        name.split()[0] for name, held in zip(names, held_out.tolist(), strict=True) if not held
    }


def test_speed_moves_a_tone_and_a_delay_comes_first() -> None:
    clips = torch.sin(torch.arange(CLIP) * 0.2)[None].repeat(2, 1)
    faster = audio.changed(clips, torch.tensor([[1.0], [1.25]]), torch.tensor([[10], [0]]))
    assert not faster[0, :10].any()
    assert torch.allclose(faster[0, 10:], clips[0, :-10], atol=1e-4)
    peaks = torch.fft.rfft(faster[:, :3_000]).abs().argmax(1)
    assert peaks[1] / peaks[0] == pytest.approx(1.25, rel=0.02)


def test_targets_are_held_out_strokes() -> None:
    assert len(data.AUDIO.targets()) >= 10
    name = data.AUDIO.targets()[0]
    whole, short, stereo = (data.AUDIO.target(name, shape) for shape in (SHAPE, (1, 1000), (2, 8192)))
    assert whole.shape == SHAPE and whole.abs().max() == pytest.approx(0.95, abs=1e-3)
    assert torch.equal(short, whole[:, :1000])
    assert torch.equal(stereo[1, :CLIP], whole[0]) and not stereo[:, CLIP:].any()
    with pytest.raises(ValueError, match="target='bd_808' is unknown; valid: bd_fat"):
        data.AUDIO.target("bd_808", SHAPE)


def test_a_shape_of_two_dimensions_is_sound() -> None:
    assert data.modality(SHAPE) is data.AUDIO
    assert data.modality((2,)) is data.POINTS and data.modality((1, 28, 28)) is data.IMAGES


def test_a_drawing_shows_the_wave_and_the_spectrum() -> None:
    silence, high = torch.zeros(1, CLIP), torch.sin(torch.arange(CLIP) * 2.8)[None]
    image = data.AUDIO.show(torch.stack([silence, high, high]), columns=2, scale=1)
    assert image.size == (2 * (audio.WIDTH + 2), 2 * (audio.WAVE + audio.SPECTRUM + 2))
    pixels = np.asarray(image)[: image.height // 2]
    left, right = pixels[:, : image.width // 2], pixels[:, image.width // 2 :]
    assert (left < 128).sum() == audio.WIDTH  # one line
    assert (right[: audio.WAVE] < 128).mean() > 0.9  # a loud tone fills the wave's height
    spectrum = right[1 + audio.WAVE : -1].mean(1)
    assert spectrum[:5].min() < spectrum[-10:].min() - 100  # and lies at the top of the spectrum
    alone = data.AUDIO.pictures(high[None])
    assert alone.shape == (1, 1, audio.WAVE + audio.SPECTRUM, audio.WIDTH) and alone.abs().max() <= 1


def test_what_has_no_picture_says_so() -> None:
    assert torch.equal(data.IMAGES.pictures(torch.zeros(2, 3, 4, 4)), torch.zeros(2, 3, 4, 4))
    for kind, samples in ((data.POINTS, torch.zeros(2, 2)), (data.IMAGES, torch.zeros(2, 5, 4, 4))):
        with pytest.raises(ValueError, match=r"have no picture \[1 or 3, height, width\]"):
            kind.pictures(samples)


@pytest.mark.parametrize("kind", ["int16", "int32", "uint8", "float32"])
def test_a_clip_comes_back_from_its_file(tmp_path: Path, kind: str) -> None:
    x = tone()
    stored = {
        "int16": (x * 32_767).astype(np.int16),
        "int32": (x * 2**31 * 0.999999).astype(np.int32),
        "uint8": np.round(x * 127 + 128).astype(np.uint8),
        "float32": x,
    }[kind]
    found = read_clip(written(tmp_path / "a.wav", stored), SHAPE)
    assert torch.allclose(found[0], torch.from_numpy(x), atol=0.01 if kind == "uint8" else 1e-4)


def test_wav_writes_16_bits_and_several_channels(tmp_path: Path) -> None:
    x = torch.stack([torch.from_numpy(tone(0.7)), torch.from_numpy(tone(0.2))])
    rate, found = wavfile.read(io.BytesIO(data.wav(x)))
    assert rate == RATE and found.dtype == np.int16 and found.shape == (CLIP, 2)
    (tmp_path / "a.wav").write_bytes(data.AUDIO.file(x))
    assert torch.allclose(read_clip(tmp_path / "a.wav", (2, CLIP)), x, atol=1e-4)
    with pytest.raises(ValueError, match="finite numbers"):
        data.wav(x / 0)


LOUD = np.clip(3 * tone(), -1, 1).astype(np.float32)
UNFIT = {
    "another rate": (tone(), 44_100, "44,100"),
    "stereo": (np.stack([tone(), tone()], 1), RATE, "2 channels"),
    "too long": (tone(length=5_000), RATE, "5,000"),
    "too short": (tone(length=100), RATE, "100"),
    "silence": (0 * tone(), RATE, "silent"),
    "clipped": (LOUD, RATE, "clipped"),
    "beyond full scale": (3 * tone(), RATE, "1.5"),
    "not a number": (np.where(np.arange(CLIP) == 7, np.nan, tone()).astype(np.float32), RATE, "finite"),
}


def test_an_unfit_file_is_one_sentence(tmp_path: Path, refuses: Any) -> None:
    for name, (samples, rate, words) in UNFIT.items():
        path = written(tmp_path / "unfit.wav", samples, rate)
        assert words in refuses(lambda path=path: read_clip(path, SHAPE), "unfit.wav"), name
    broken = tmp_path / "broken.wav"
    for content in (b"", b"RIFF", b"no wav at all" * 9, b"RIFF\x00\x00\x00\x00WAVEfmt "):
        broken.write_bytes(content)
        refuses(lambda: read_clip(broken, SHAPE), "broken.wav")
    refuses(lambda: read_clip(Path("missing.wav"), SHAPE), "missing.wav", error=FileNotFoundError)
