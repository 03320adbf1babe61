"""What every generator of this package can do: sample latents, draw before and after tanh, describe itself."""

from __future__ import annotations

import copy
import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from devilgan_lite.checks import whole_number
from devilgan_lite.deprecation import renamed_attribute
from devilgan_lite.prior import Prior


class Generator(nn.Module):
    """A map from latents ``z`` float32 ``[n, latent_dim]`` to samples ``[n, *sample_shape]`` in [-1, 1].

    ``prior`` is P_sample, ``"gaussian"`` N(0, I) or ``"uniform"`` on [-1, 1]; the attribute is a ``Prior``.
    Subclasses implement ``logits`` (the
    output before the final tanh) and ``spec``.
    """

    def __init__(self, *, latent_dim: int, sample_shape: tuple[int, ...], prior: str | Prior = "gaussian") -> None:
        super().__init__()
        whole_number("latent_dim", latent_dim, 1, 4096)
        self.latent_dim = latent_dim
        self.sample_shape = sample_shape
        self.prior = Prior.of(prior, latent_dim)

    latent = renamed_attribute("latent", "prior")

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return next(self.parameters()).device

    def sample_latent(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``n`` latents from P_sample: float32 ``[n, latent_dim]`` on the generator's device.

        ``generator`` is a torch random generator on the CPU or on that device; without one, torch's global one is used.
        """
        return self.prior.draw(n, generator, self.device)

    def logits(self, z: Tensor) -> Tensor:
        """The output before tanh, ``[n, *sample_shape]``."""
        raise NotImplementedError

    def forward(self, z: Tensor) -> Tensor:
        """Samples ``[n, *sample_shape]`` in [-1, 1]. A latent of the wrong size is a ``ValueError``."""
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"z has shape {list(z.shape)}; expected [n, {self.latent_dim}].")
        return torch.tanh(self.logits(z))

    def spec(self) -> dict[str, Any]:
        """Plain data from which ``generators.build`` makes a network of the same shape."""
        raise NotImplementedError

    def clone(self) -> Self:
        """An independent copy with the same weights."""
        return copy.deepcopy(self)

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0, batch_size: int = 100) -> Tensor:
        """``n`` samples from P_sample on the CPU, the same for the same seed, in eval mode."""
        random = torch.Generator().manual_seed(seed)
        return evaluate(self, self.sample_latent(n, random), batch_size)

    def parameter_count(self) -> int:
        """Number of numbers that the network stores: parameters and BatchNorm statistics."""
        floats = [value for value in self.state_dict().values() if value.is_floating_point()]
        return sum(math.prod(value.shape) for value in floats)


@torch.no_grad()
def evaluate(module: nn.Module, z: Tensor, batch_size: int = 100) -> Tensor:
    """``module(z)`` in eval mode, in batches, on the CPU, wherever both are; the mode is put back afterwards."""
    was_training = module.training
    device = next((parameter.device for parameter in module.parameters()), z.device)
    module.eval()
    try:
        return torch.cat([module(part.to(device)).cpu() for part in z.split(batch_size)])
    finally:
        module.train(was_training)
