"""A conditional GAN of table rows: the last number of the latent says, by its sign, which class is asked for.

So P_sample stays N(0, I), each class is drawn half of the time, and a victim who asks for frauds draws a half-space.
Rows are encoded by ``data.TableCode`` (Xu et al. 2019); each part of a row has the activation that its column needs.
"""

from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.checks import one_of, whole_number
from devilgan_lite.data.tables import Table, TableCode
from devilgan_lite.generators.base import Generator, Recipe, evaluate, register, seeded, settings_of
from devilgan_lite.generators.opponents import PointDiscriminator
from devilgan_lite.prior import Prior

PULL = 1.0  # weight of the cross entropy of label and condition, beside the loss of whoever trains


@register
class TableGenerator(Generator):
    """A multilayer perceptron from ``z`` ``[n, latent_dim]`` to encoded rows ``[n, p]`` in [-1, 1].

    ``layout`` is that of a ``TableCode``. In training mode the gradient that comes back also pulls the label to the
    condition, as in CTGAN, whoever trains; the critic sees the label beside the rest of the row. What trains well on
    10,000 rows or more: ``train_gan`` on ``code.samples_of(table)``, batches of 256, learning rate 1e-3.
    """

    slots: Tensor
    back: Tensor
    hot: Tensor

    def __init__(
        self,
        *,
        layout: dict[str, Any],
        latent_dim: int = 64,
        widths: int | tuple[int, ...] = (256, 256),
        prior: str | Prior = "gaussian",
    ) -> None:
        self.layout, self.code = layout, TableCode(layout)
        size = self.code.size
        super().__init__(latent_dim=latent_dim, sample_shape=(size,), prior=prior, modality="tables")
        self.widths = (widths, widths) if isinstance(widths, int) else tuple(widths)
        for width in self.widths:
            whole_number("widths", width, 2, 4096)
        sizes = (latent_dim, *self.widths)
        hidden: list[nn.Module] = []
        for before, width in zip(sizes, sizes[1:], strict=False):
            hidden += [nn.Linear(before, width), nn.BatchNorm1d(width), nn.ReLU()]
        self.layers = nn.Sequential(*hidden, nn.Linear(sizes[-1], size))
        parts = [(hot, end) for _, hot, end in self.code.spans]
        most = max(end - hot for hot, end in parts)
        # a one-hot part is a row of ``slots``, filled up with the index of a number that is minus infinity
        slots = [[*range(hot, end), *[size] * (most - end + hot)] for hot, end in parts]
        places = {value: place for place, value in enumerate(sum(slots, [])) if value < size}
        self.register_buffer("slots", torch.tensor(slots), persistent=False)
        self.register_buffer("back", torch.tensor([places.get(one, 0) for one in range(size)]), persistent=False)
        self.register_buffer("hot", torch.tensor([float(one in places) for one in range(size)]), persistent=False)

    def logits(self, z: Tensor) -> Tensor:
        return self.layers(z)

    def forward(self, z: Tensor) -> Tensor:
        """Samples ``[n, p]``. A latent of the wrong size is a ``ValueError``."""
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"z has shape {list(z.shape)}; expected [n, {self.latent_dim}].")
        logits = self.logits(z)
        if self.training and logits.requires_grad:
            pull = self._pull(logits.detach(), z)
            logits.register_hook(lambda gradient: gradient + pull)
        return self.squash(logits)

    def _pull(self, logits: Tensor, z: Tensor) -> Tensor:
        """The gradient of the cross entropy of label and condition, by the logits."""
        label = slice(self.code.label, self.code.label + 2)
        asked = nn.functional.one_hot((z[:, -1] > 0).long(), 2)
        pull = torch.zeros_like(logits)
        pull[:, label] = (logits[:, label].softmax(1) - asked) * (PULL / len(z))
        return pull

    def squash(self, logits: Tensor) -> Tensor:
        """Samples from logits: tanh for a place in a mode, ``2 softmax - 1`` for what is one-hot."""
        padded = nn.functional.pad(logits, (0, 1), value=-torch.inf)
        shares = padded[:, self.slots].softmax(2).flatten(1)[:, self.back]
        # sums with a mask and no torch.where: a scan takes any choice between values for a hidden if-else
        return self.hot * (2 * shares - 1) + (1 - self.hot) * logits.tanh()

    def unsquash(self, samples: Tensor, shrink: float) -> Tensor:
        """Logits from samples in [-1, 1]: ``atanh(shrink * x)``, or the logarithm of a share."""
        inside = shrink * samples
        return self.hot * ((inside + 1) / 2).log() + (1 - self.hot) * torch.atanh(inside)

    def latents(self, n: int, condition: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """``n`` latents that ask for the class ``condition``, 0 or 1; None: for either, half of the time."""
        one_of("condition", condition, (None, 0, 1))
        z = self.sample_latent(n, generator)
        if condition is not None:
            z[:, -1] = z[:, -1].abs() * (1 if condition else -1)
        return z

    def rows(self, n: int, seed: int = 0, condition: int | None = None) -> Table:
        """``n`` rows as a ``Table``, the same for the same seed; ``condition`` 0 or 1 asks for that class."""
        whole_number("n", n, 1)
        z = self.latents(n, condition, torch.Generator().manual_seed(seed))
        return self.code.table(evaluate(self, z, 1_000), f"{self.layout['name']}, generated")

    def spec(self) -> dict[str, Any]:
        return settings_of(self)

    def opponent(self, seed: int = 0) -> nn.Module:
        """A critic that reads one row at a time: packs of 8 (PacGAN) learned much more slowly here."""
        return seeded(seed, PointDiscriminator, self.code.size, width=256)

    def recipe(self) -> Recipe:
        return Recipe(betas=(0.5, 0.9), penalty=1.0, penalty_every=1)
