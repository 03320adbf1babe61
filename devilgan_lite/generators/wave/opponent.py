"""The discriminator that a WaveGAN is trained against: it sees a clip as a spectrogram."""

import torch
from torch import Tensor, nn

from devilgan_lite.data.audio import spectrograms

WINDOW, OVERLAP = 256, 4  # samples of a window of the spectrogram; how many windows hear each sample
LEVELS = 4
QUIET = 0.1  # power below which nothing is seen: recordings are silent after a stroke, and no network is quite


class WaveDiscriminator(nn.Module):
    """Clips ``[n, C, T]`` of 16 samples or more to realness logits ``[n]``, from their log spectrograms.

    Up to four strided convolutions without normalisation; the last layers also see how much the clips of a batch differ
    (Karras et al. 2018), so that a generator with few strokes is found out. A network on the wave itself (Donahue et
    al. 2019) learns more slowly here, also beside this one.
    """

    def __init__(self, sample_shape: tuple[int, int] = (1, 4096), *, width: int = 16) -> None:
        super().__init__()
        channels, length = sample_shape
        self.window = min(WINDOW, 2 ** (length.bit_length() - 4))
        self.hop = max(1, self.window // OVERLAP)
        sides, layers = [self.window // 2, length // self.hop], list[nn.Module]()
        for level in range(LEVELS):
            if min(sides) < 2:
                break
            outputs = width * 2 ** min(level, 2)
            layers += [nn.Conv2d(channels, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            channels, sides = outputs, [side // 2 for side in sides]
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Conv2d(channels + 1, channels, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(channels * sides[0] * sides[1], 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        power = spectrograms(x.flatten(0, 1), self.window, self.hop).unflatten(0, x.shape[:2])[..., :-1, :]
        seen = self.trunk(torch.log10(power[..., : x.shape[-1] // self.hop] + QUIET))
        spread = (seen.var(0, unbiased=False) + 1e-8).sqrt().mean()
        said: Tensor = self.head(torch.cat([seen, spread.expand(len(x), 1, *seen.shape[2:])], dim=1))
        return said.squeeze(1)
