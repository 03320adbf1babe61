"""The critic of encoded rows. It reads one at a time: packs of 8 (PacGAN) learned much more slowly here."""

from torch import Tensor, nn

from devilgan_lite.checks import whole_number


class TableCritic(nn.Module):
    """A multilayer perceptron from encoded rows ``[n, p]`` of ``inputs`` numbers to realness logits ``[n]``."""

    def __init__(self, inputs: int, *, width: int = 256) -> None:
        super().__init__()
        whole_number("inputs", inputs, 1, 65_536)
        whole_number("width", width, 1, 4096)
        self.layers = nn.Sequential(
            nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1)).squeeze(1)
