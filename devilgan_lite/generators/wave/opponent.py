"""The discriminator that a WaveGAN is trained against: it hears a clip as a wave and sees it as a spectrogram."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from devilgan_lite.data.audio import spectrograms

SHIFT = 2  # samples to either side
STRIDE, LEVELS = 4, 4
WINDOW = 256  # samples of a window of the spectrogram


class PhaseShuffle(nn.Module):
    """In training, shift signals ``[n, C, T]`` by -``shift`` to ``shift`` samples; what is missing is mirrored.

    Without it the discriminator judges by the phase of the tones that transposed convolutions leave (Donahue et al.
    2019). The shift comes from the number of calls, so that the same training draws the same ones.
    """

    calls: Tensor

    def __init__(self, shift: int = SHIFT, seed: int = 0) -> None:
        super().__init__()
        self.shift, self.seed = shift, seed
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        self.calls += 1
        random = torch.Generator().manual_seed(1_000_003 * self.seed + int(self.calls))
        by = int(torch.randint(-self.shift, self.shift + 1, (1,), generator=random))
        moved = pad(x, (max(by, 0), max(-by, 0)), mode="reflect")
        return moved[..., : x.shape[-1]] if by >= 0 else moved[..., -x.shape[-1] :]


class WaveDiscriminator(nn.Module):
    """Clips ``[n, C, T]`` of 16 samples or more to realness logits ``[n]``: what two networks say, added.

    On the wave: up to four 1-D convolutions with stride 4, phase shuffle between them, and a dense layer, as in
    WaveGAN. On the log spectrogram: up to three 2-D convolutions with stride 2 and a dense layer. The wave alone learns
    many times more slowly.
    """

    def __init__(self, sample_shape: tuple[int, int] = (1, 4096), *, width: int = 16, kernel_size: int = 8) -> None:
        super().__init__()
        channels, length = sample_shape
        self.window = min(WINDOW, 2 ** (length.bit_length() - 4))
        margin, layers = (kernel_size - STRIDE) // 2, list[nn.Module]()
        for level in range(LEVELS):
            if length < kernel_size:
                break
            outputs = width * 2**level
            if level:
                layers.append(PhaseShuffle(seed=level - 1))
            layers += [nn.Conv1d(channels, outputs, kernel_size, stride=STRIDE, padding=margin), nn.LeakyReLU(0.2)]
            channels, length = outputs, (length + 2 * margin - kernel_size) // STRIDE + 1
        self.wave = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * length, 1))
        channels, sides, layers = sample_shape[0], [self.window // 2, sample_shape[1] // (self.window // 2)], []
        for level in range(3):
            if min(sides) < 2:
                break
            outputs = width * 2**level
            layers += [nn.Conv2d(channels, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            channels, sides = outputs, [side // 2 for side in sides]
        self.spectrum = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], 1))

    def forward(self, x: Tensor) -> Tensor:
        power = spectrograms(x.flatten(0, 1), self.window, self.window // 2).unflatten(0, x.shape[:2])[..., :-1, :-1]
        said: Tensor = self.wave(x) + self.spectrum(torch.log10(power + 1e-4) / 2)
        return said.squeeze(1)
