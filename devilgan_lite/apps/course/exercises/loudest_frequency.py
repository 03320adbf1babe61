"""``loudest_frequency(clip, rate)``: ``[T]`` samples, ``rate`` of them a second, to a number of hertz.

The frequency of the strongest part of ``torch.fft.rfft(clip)``.
"""

import torch

from devilgan_lite.apps.course.exercise import Exercise


def loudest_frequency(clip, rate):
    return int(torch.fft.rfft(clip).abs().argmax()) * rate / len(clip)


def tones(length, cycles, quiet):
    time = torch.arange(length) / length
    loud = torch.cos(2 * torch.pi * cycles * time + 2.0)  # its real part is negative
    return loud + 0.6 * torch.cos(2 * torch.pi * quiet * time)


exercise = Exercise(
    loudest_frequency,
    hints=(
        "The place k in the spectrum belongs to k whole waves in the clip.",
        "k waves in len(clip) / rate seconds are k * rate / len(clip) waves a second.",
    ),
    cases=lambda: [
        (tones(1_000, 55, 120), 8_000),
        (tones(1_000, 55, 120), 11_025),
        (tones(600, 130, 20), 8_000),
    ],
    mistakes={
        "that is the number of the bin: a bin is `rate / len(clip)` hertz wide.": (
            lambda clip, rate: torch.fft.rfft(clip).abs().argmax()
        ),
        "that is half of it: the highest bin is at `rate / 2`, and there are `len(clip) / 2` of them.": (
            lambda clip, rate: loudest_frequency(clip, rate) / 2
        ),
        "you divide by the number of bins: rfft gives half as many as there are samples.": (
            lambda clip, rate: torch.fft.rfft(clip).abs().argmax() * rate / (len(clip) // 2 + 1)
        ),
        "the rate is fixed in your function: use `rate`.": lambda clip, rate: loudest_frequency(clip, 8_000),
        "that is the quieter tone: the spectrum is complex, so compare absolute values.": (
            lambda clip, rate: int(torch.fft.rfft(clip).real.argmax()) * rate / len(clip)
        ),
        "that is the mirror image above half the rate: take rfft, or the first half of fft.": (
            lambda clip, rate: rate - loudest_frequency(clip, rate)
        ),
        "that is its period, in seconds: frequency is one divided by it.": (
            lambda clip, rate: 1 / loudest_frequency(clip, rate)
        ),
    },
    otherwise=lambda answer, right, clip, rate: f"the louder tone is at {right:.0f} Hz.",
    praise="a spectrogram is this, for one short window after another.",
)
