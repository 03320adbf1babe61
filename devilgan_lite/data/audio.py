"""Half seconds of sound ``[C, T]`` in [-1, 1]: drums and a piano, wav files in and out, and how they are drawn.

78 single strokes ship (Sonic Pi's samples, CC0) and 120 notes (Fluid R3, MIT); ``drums`` and ``piano`` make thousands
of clips of them by small changes. Wav files are read and written with SciPy.
"""

import io
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.io import wavfile
from torch import Tensor

from devilgan_lite.checks import cut, in_range, one_of, read_bytes, shown, whole_number
from devilgan_lite.data.images import sheet
from devilgan_lite.data.modality import Modality, Shape
from devilgan_lite.data.samples import Samples, shipped_arrays

RATE, CLIP = 8_000, 4_096  # samples a second, and in a clip: 0.512 s
DRUMS = ("kick", "snare", "tom", "cymbal", "tabla", "bell")
OCTAVES = ("C2 to B2", "C3 to B3", "C4 to B4", "C5 to B5", "C6 to B6")  # the piano's five, by the names of their keys
SPLITS = ("train", "held-out")
SPEED, LATEST, QUIETEST, LOUDEST = 0.06, 64, 0.5, 0.95  # changes: of speed, samples of delay, peaks
TUNING = 0.01  # change of the piano's speed: a sixth of a semitone
MOST_BYTES = 64 * 2**20  # of a wav file
SILENT = 1e-3  # a clip that stays below this, a thousandth of full scale, is silent
MOST_CLIPPED = 16  # samples at full scale, beyond which a recording is called clipped
WIDTH, WAVE, SPECTRUM, WINDOW = 64, 25, 32, 128  # pixels of a drawing, and samples of a window of its spectrogram


@dataclass(frozen=True)
class Recordings:
    """What ships of one instrument: a file, its licence, and its classes."""

    name: str
    classes: tuple[str, ...]
    licence: str

    @lru_cache(maxsize=2)  # noqa: B019 - two instruments, for good
    def load(self) -> tuple[Tensor, Tensor, Tensor, tuple[str, ...]]:
        """Clips ``[n, CLIP]`` with a peak of 1, labels ``[n]``, which are held out ``[n]``, and their names."""
        arrays = shipped_arrays(f"{self.name}.npz")
        clips = torch.from_numpy(arrays["clips"].astype(np.float32) / 32_767)
        labels, held_out = torch.from_numpy(arrays["labels"].astype(np.int64)), torch.from_numpy(arrays["held_out"])
        return clips, labels, held_out, tuple(map(str, arrays["names"]))


STROKES = Recordings("drums", DRUMS, "CC0 1.0")
KEYS = Recordings("piano", OCTAVES, "MIT")


def drums(n: int = 6_000, *, split: str = "train", speed: float = SPEED, seed: int = 0) -> Samples:
    """``n`` clips of drums ``[n, 1, 4096]`` in [-1, 1] at 8,000 samples a second, with labels 0..5 (``DRUMS``).

    Each is a recorded stroke of a class drawn at random, faster or slower by at most the share ``speed`` (0 to 0.5), up
    to 8 ms late, with a peak of 0.5 to 0.95. ``split="held-out"`` takes the 17 strokes that ``"train"`` never uses. The
    same ``seed`` gives the same clips.
    """
    return _checked(STROKES, n, split, speed, seed)


def piano(n: int = 6_000, *, split: str = "train", speed: float = TUNING, seed: int = 0) -> Samples:
    """``n`` clips of single notes of a piano ``[n, 1, 4096]``, as ``drums``, with labels 0..4 (``OCTAVES``).

    60 keys, each struck softly and hard, out of tune by at most the share ``speed`` (0 to 0.5; a semitone is 0.06).
    ``split="held-out"`` takes the 15 keys that ``"train"`` never uses.
    """
    return _checked(KEYS, n, split, speed, seed)


def _checked(source: Recordings, n: int, split: str, speed: float, seed: int) -> Samples:
    whole_number("n", n, 1, 1_000_000)
    one_of("split", split, SPLITS)
    in_range("speed", speed, 0.0, 0.5)
    whole_number("seed", seed, 0)
    return _varied(source, n, split, speed, seed)


@lru_cache(maxsize=2)
def _varied(source: Recordings, n: int, split: str, most: float, seed: int) -> Samples:
    clips, labels, held_out, _ = source.load()
    chosen = held_out if split == "held-out" else ~held_out
    clips, labels = clips[chosen], labels[chosen]
    random, kinds = torch.Generator().manual_seed(seed), len(source.classes)
    label = torch.randint(kinds, (n,), generator=random)
    share = torch.rand(n, generator=random)
    of = [torch.nonzero(labels == kind).squeeze(1) for kind in range(kinds)]
    origin = torch.stack([of[kind][int(at * len(of[kind]))] for kind, at in zip(label.tolist(), share, strict=True)])
    speed = 1 + most * (2 * torch.rand(n, 1, generator=random) - 1)
    delay = torch.randint(LATEST, (n, 1), generator=random)
    peak = QUIETEST + (LOUDEST - QUIETEST) * torch.rand(n, 1, generator=random)
    x = torch.empty(n, 1, CLIP)
    for part in torch.arange(n).split(200):  # in parts and in place: 6,000 clips are 100 MB
        clip = changed(clips[origin[part]], speed[part], delay[part])
        x[part, 0] = clip * peak[part] / clip.abs().amax(1, keepdim=True)
    return Samples(x, label, f"{source.name} {split} ({n:,})", source.licence, source.classes, source.name)


def changed(clips: Tensor, speed: Tensor, delay: Tensor) -> Tensor:
    """Clips ``[n, T]``, each as fast as ``speed`` ``[n, 1]`` says and ``delay`` ``[n, 1]`` samples late."""
    place = (torch.arange(clips.shape[1]) - delay) * speed
    below = place.floor().long()
    part = place - below
    padded = torch.nn.functional.pad(clips, (1, 2))  # silence before and after

    def at(index: Tensor) -> Tensor:
        return padded.gather(1, (index + 1).clamp(0, padded.shape[1] - 1))

    return at(below) * (1 - part) + at(below + 1) * part


def drum_names() -> list[str]:
    """The strokes that an attacker may want: those that are held out of ``drums``, by the names of Sonic Pi."""
    _, _, held_out, names = STROKES.load()
    return [name for name, held in zip(names, held_out.tolist(), strict=True) if held]


def drum_target(name: str, shape: Shape) -> Tensor:
    """The stroke ``name`` as ``[C, T]`` with a peak of 0.95: cut at the end or followed by silence; equal channels."""
    one_of("target", name, drum_names())
    clips, _, _, names = STROKES.load()
    clip = LOUDEST * clips[names.index(name)][: shape[1]]
    return torch.nn.functional.pad(clip, (0, shape[1] - len(clip))).expand(shape).clone()


def read_clip(path: Path, shape: Shape, rate: int = RATE) -> Tensor:
    """The sound in a wav file as ``[C, T]`` in [-1, 1], just as it is; ``ValueError`` in one sentence if it is unfit.

    Unfit: not a wav file, another ``rate`` (samples a second), other channels or another length than ``shape``, numbers
    that are not finite or beyond full scale, silence, and recordings that are clipped.
    """
    name, content = cut(path.name), read_bytes(path, "wav file", most=MOST_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of parts of the file that hold no sound
            recorded_rate, data = wavfile.read(io.BytesIO(content))
    except Exception as error:  # SciPy's reader raises whatever a broken header leads to
        raise ValueError(f"{name} cannot be read as a wav file ({type(error).__name__}).") from None
    channels, length = data.shape[1] if data.ndim == 2 else 1, len(data)
    if recorded_rate != rate:
        raise ValueError(f"{name} has {recorded_rate:,} samples a second; {rate:,} are needed: convert it first.")
    if channels != shape[0]:
        raise ValueError(f"{name} has {channels} channels; {shape[0]} are needed: mix or split it first.")
    if length != shape[1]:
        raise ValueError(f"{name} is {length:,} samples long; {shape[1]:,} are needed: cut it or add silence.")
    clip = torch.from_numpy(_floats(data).reshape(length, channels).T.copy())
    if not torch.isfinite(clip).all():
        raise ValueError(f"{name} has samples that are not finite numbers.")
    peak = float(clip.abs().max())
    if peak > 1.0:
        raise ValueError(f"{name} has samples up to {peak:.3g}; full scale is 1: make it quieter.")
    if peak < SILENT:
        raise ValueError(f"{name} is silent: its loudest sample is {peak:.2g} of full scale.")
    clipped = int((clip.abs() >= 0.9999).sum())
    if clipped > MOST_CLIPPED:
        raise ValueError(f"{name} is clipped: {clipped} samples are at full scale; record it at a lower level.")
    return clip


def _floats(data: np.ndarray) -> np.ndarray:
    """What a wav file holds, as float32 with full scale at 1; 8 bits have their zero at 128."""
    if data.dtype.kind == "f":
        return data.astype(np.float32)
    if data.dtype == np.uint8:
        return (data.astype(np.float32) - 128) / 128
    return (data / -float(np.iinfo(data.dtype).min)).astype(np.float32)


def wav(clip: Tensor, rate: int = RATE) -> bytes:
    """A clip ``[C, T]`` in [-1, 1] as the bytes of a wav file of 16 bits."""
    if clip.ndim != 2 or not torch.isfinite(clip).all():
        raise ValueError(f"clip={shown(clip)} is not valid: it must be finite numbers [C, T].")
    buffer = io.BytesIO()
    samples = (clip.detach().cpu().clamp(-1, 1) * 32_767).round().to(torch.int16)
    wavfile.write(buffer, rate, samples.T.contiguous().numpy())
    return buffer.getvalue()


def spectrograms(clips: Tensor, window: int = WINDOW, hop: int | None = None) -> Tensor:
    """How loud each frequency is over time: power ``[n, window / 2 + 1, frames]`` of ``clips`` ``[n, T]``."""
    shape = torch.hann_window(window, device=clips.device)
    spectra = torch.stft(clips, window, hop or window // 4, window=shape, return_complex=True, pad_mode="constant")
    return spectra.real.square() + spectra.imag.square()


def sound_sheet(samples: Tensor, columns: int, scale: int) -> Image.Image:
    """The ``portraits`` of clips ``[n, C, T]`` in rows, with white margins."""
    return sheet(torch.nn.functional.pad(portraits(samples), (1, 1, 1, 1), value=1.0), columns, scale)


def portraits(samples: Tensor) -> Tensor:
    """Grey pictures ``[n, 1, WAVE + SPECTRUM, WIDTH]`` in [-1, 1] of the first channels of clips ``[n, C, T]``.

    The waveform, and below it the spectrogram (dark is loud): frequencies from 0 at the bottom to half the rate at the
    top, loudness over 60 decibels.
    """
    clips, rows = samples[:, 0], torch.linspace(1, -1, WAVE)[:, None]
    parts = torch.nn.functional.adaptive_max_pool1d(torch.stack([clips, -clips], 1), WIDTH)[:, :, None]
    wave = 1 - 1.7 * ((rows <= parts[:, 0] + 1 / WAVE) & (rows >= -parts[:, 1] - 1 / WAVE)).float()
    power = spectrograms(clips, min(WINDOW, 2 * (clips.shape[1] // 2)))
    loud = torch.nn.functional.adaptive_avg_pool2d(power, (SPECTRUM, WIDTH)).flip(1)
    decibels = 10 * torch.log10(loud / 100.0 + 1e-12)  # 100: a loud tone
    return torch.cat([wave, 1 - 2 * (decibels / 60 + 1).clamp(0, 1)], 1)[:, None]


AUDIO = Modality(
    "audio",
    "clip",
    lambda shape: len(shape) == 2,  # (C, T)
    sound_sheet,
    drum_target,
    drum_names,
    read_clip,
    encode=wav,
    endings=(".wav",),
    portray=portraits,
)
