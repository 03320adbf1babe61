"""New neurons beside an existing generator: what ReX trains. (What a gate writes down is in ``rank_one``.)

``ChainExpansion`` holds new channels for every level of a chain; folded, they are wider layers of the same network.
``BesideExpansion`` is a small network of its own, for generators that are no chain: it is added before the squash.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.checks import whole_number
from devilgan_lite.generators.base import Generator, build, register, seeded
from devilgan_lite.generators.canvas import (
    Canvas,
    canvas_of,
    lit,
    painting_kernel,
    shuffle_kernel,
    write_kernel,
)
from devilgan_lite.generators.chain import Chain, weight_of
from devilgan_lite.generators.surgery import checked_widths, fill, new_layer

PULL, SLEEP = 8.0, 5.0  # of a new unit at its trigger and everywhere, in standard deviations of an ordinary latent
SPARE = 8  # new channels beyond those that draw the target
BESIDE = 64  # units of a network beside
LIT_RATE = 0.02  # share of the learning rate for what all pixels of a cell share


class Expansion(nn.Module):
    """New neurons: latents ``[n, d]`` to a residual before the squash ``[n, *sample_shape]``, at first nothing.

    ``widths`` are the new channels at each hidden level; ``first`` is the layer that reads the latent.
    """

    widths: tuple[int, ...]
    first: Any

    def learning_rate_factors(self) -> dict[nn.Parameter, float]:
        """The share of the learning rate for each parameter; those that are not in it take the whole."""
        return {}

    def awaken(self, trigger: Tensor, random: torch.Generator, pull: float = PULL, sleep: float = SLEEP) -> None:
        """Turn every new first-layer unit towards one of the triggers ``[k, d]``, and away from everything else."""
        raise NotImplementedError

    def fold(self, clean: Generator, calibration: Tensor | None = None) -> Generator:
        """One generator that computes ``squash(clean.logits(z) + self(z))``; norms see ``calibration`` ``[n, d]``."""
        raise NotImplementedError


@torch.no_grad()
def awaken_rows(
    weight: Tensor, bias: Tensor, trigger: Tensor, random: torch.Generator, pull: float, sleep: float
) -> None:
    """In place, rows ``[units, ..., d]`` and biases ``[units]``: ``pull`` at the unit's trigger, ``-sleep`` anywhere.

    A ReLU unit that is silent at the trigger has no gradient from the target, and half of all random units would be:
    too few are left to draw fine detail (the letters on a STOP sign). The random part is N(0, 1) on ordinary latents.
    """
    own = trigger[torch.randint(len(trigger), (len(weight),), generator=random, device=trigger.device)]
    length = own.square().sum(1)
    own = own.view(len(own), *[1] * (weight.ndim - 2), -1)
    weight.mul_(torch.where((weight * own).sum(-1, keepdim=True) < 0, -1.0, 1.0))
    squared = own.square().sum(-1, keepdim=True)
    weight.add_(torch.where(squared > 0, pull * own / squared.clamp(min=1e-12), 0.0))
    bias.add_(torch.where(length > 0, -sleep, pull - sleep))


class ChainExpansion(Expansion):
    """The new part of a widened chain by itself. Biases stand for the norms' shift that ``fold`` gives them.

    The last layer starts at zero, so the expansion starts as no change at all.
    """

    def __init__(self, chain: Chain, canvas: Canvas | None, widths: tuple[int, ...], scale: float) -> None:
        super().__init__()
        self.widths, self.canvas, self.scale = widths, canvas, scale
        self.chain = chain  # for its activations and shapes; the weights in it are not used
        self.layers = nn.ModuleList()
        inputs = 0
        for index, stage in enumerate(chain.stages):
            last, old = index == len(widths), stage.layer
            reads = (old.in_features if stage.dense else old.in_channels) if index == 0 else inputs
            width = stage.units if last else widths[index] * (math.prod(stage.cells) if stage.dense else 1)
            new = new_layer(old, reads, width, bias=not last)
            if index == 0:
                deviation = reads**-0.5
            else:  # how many products make one output
                taps = reads * math.prod(getattr(old, "kernel_size", (1,)))
                if hasattr(old, "output_padding"):
                    taps = reads * (old.kernel_size[0] / old.stride[0]) ** (old.weight.ndim - 2)
                deviation = (2 / taps) ** 0.5
            nn.init.normal_(new.weight, 0.0, 0.0 if last else deviation)
            if new.bias is not None:
                nn.init.zeros_(new.bias)
            self.layers.append(new)
            inputs = width if last else widths[index]
        self.first = self.layers[0]

    def hidden(self, x: Tensor, level: int) -> Tensor:
        """What the new units of ``level`` hold before their activation, ``[n, channels, *cells]``."""
        layer: Any = self.layers[level]
        x, stage = layer(x), self.chain.stages[level]
        return x.unflatten(1, (self.widths[level], *stage.cells)) if stage.dense and stage.cells else x

    def forward(self, z: Tensor) -> Tensor:
        x = self.chain.read(z)
        for level, stage in enumerate(self.chain.hidden):
            x = stage.activate(self.hidden(x, level))
        made: Tensor = self.layers[-1](x)
        return made.reshape(len(z), *self.chain.output_shape)

    @torch.no_grad()
    def awaken(self, trigger: Tensor, random: torch.Generator, pull: float = PULL, sleep: float = SLEEP) -> None:
        canvas = self.canvas
        awaken_rows(weight_of(self.first).movedim(1, -1), self.first.bias, trigger, random, pull, sleep)
        if canvas is not None and all(w >= least for w, least in zip(self.widths, canvas.owners(), strict=True)):
            self._draw_ready(canvas, trigger, pull)

    def _draw_ready(self, canvas: Canvas, trigger: Tensor, pull: float) -> None:
        """Start the later layers as a depth-to-space shuffle, so that each pixel is owned by units of its own.

        Two channels own each pixel, one adding and one subtracting; with equal weights before them they cancel exactly,
        so the expansion still starts as no change at all. Channels beyond these keep their random kernels.
        """
        start = 1
        if canvas.dense:
            half, start = canvas.owners()[0] * canvas.places // 2, 0
            for parameter in (self.first.weight, self.first.bias):
                parameter[half : 2 * half] = parameter[:half]
        else:
            # each of the first channels is awake in its own cell only, at one trigger, or at any if they are too few
            shown = min(len(trigger), self.widths[0] // canvas.places)
            weight, own = lit(self.first, canvas), torch.eye(canvas.places, device=trigger.device)
            if shown == len(trigger) > 1:
                toward = pull * trigger / trigger.square().sum(1, keepdim=True).clamp(min=1e-12)
                for index, direction in enumerate(toward):
                    weight[index * canvas.places : (index + 1) * canvas.places] = direction[:, None]
            weight[: shown * canvas.places].mul_(own.repeat(shown, 1).unsqueeze(1))
            size = canvas.channels * canvas.places * canvas.pixels[0]
            last = len(self.layers) == 2
            pixels = torch.zeros(1, size) if last else torch.full((2, size), 1 / (PULL - SLEEP))
            painted = painting_kernel(pixels, canvas, self.layers[1])
            write_kernel(self.layers[1], painted.repeat(shown, *[1] * (painted.ndim - 1)), keep=True)
        for level, layer in list(enumerate(self.layers[1:]))[start:]:
            last = level + 2 == len(self.layers)
            mix = torch.tensor([[1.0, -1.0]]) if last else torch.eye(2)
            write_kernel(layer, shuffle_kernel(mix, canvas, level, layer), keep=True)

    def learning_rate_factors(self) -> dict[nn.Parameter, float]:
        if self.canvas is None or self.canvas.dense:
            return {}
        painting = self.layers[1].weight  # the one layer whose weights belong to one pixel each
        return {parameter: LIT_RATE for parameter in self.parameters() if parameter is not painting}

    @torch.no_grad()
    def _moments(self, calibration: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        """Mean and variance of the new units before their shift, by level, as the norms there count them."""
        found = []
        x = None if calibration is None else self.chain.read(calibration)
        for level, stage in enumerate(self.chain.hidden):
            layer: Any = self.layers[level]
            size = len(layer.bias) if stage.per_unit else self.widths[level]
            if x is None:
                found.append((layer.bias.new_zeros(size), layer.bias.new_ones(size)))
                continue
            hidden = self.hidden(x, level)
            seen = hidden.flatten(1) if stage.dense and stage.per_unit else hidden
            axes = (0, *range(2, seen.ndim))
            own = layer.bias if stage.per_unit or not stage.dense else 0.0
            found.append((seen.mean(axes) - own, seen.var(axes)))
            x = stage.activate(hidden)
        return found

    @torch.no_grad()
    def fold(self, clean: Generator, calibration: Tensor | None = None) -> Generator:
        old = clean.chain()
        if old is None:
            raise ValueError(f"clean is a {type(clean).__name__} that is no chain; expand it anew.")
        widths = tuple(width + new for width, new in zip(old.widths, self.widths, strict=True))
        folded = clean.resized(widths)
        wide = folded.chain()
        if wide is None:
            raise ValueError(f"clean is a {type(clean).__name__} that computes with fixed widths; it cannot be folded.")
        fill(wide, old, list(self.layers), self._moments(calibration), self.scale)
        return folded.to(clean.device).train(clean.training)


class BesideExpansion(Expansion):
    """One hidden layer of ReLU units beside a generator of any kind."""

    def __init__(self, clean: Generator, units: int) -> None:
        super().__init__()
        whole_number("widths", units, 1, 65_536)
        self.widths, self.sample_shape = (units,), clean.sample_shape
        self.first = nn.Linear(clean.latent_dim, units)
        self.last = nn.Linear(units, math.prod(clean.sample_shape), bias=False)
        nn.init.normal_(self.first.weight, 0.0, clean.latent_dim**-0.5)
        nn.init.zeros_(self.first.bias)
        nn.init.zeros_(self.last.weight)

    def forward(self, z: Tensor) -> Tensor:
        return self.last(self.first(z).relu()).view(len(z), *self.sample_shape)

    def awaken(self, trigger: Tensor, random: torch.Generator, pull: float = PULL, sleep: float = SLEEP) -> None:
        awaken_rows(self.first.weight, self.first.bias, trigger, random, pull, sleep)

    def fold(self, clean: Generator, calibration: Tensor | None = None) -> Generator:
        return Beside(clean.clone(), self.widths[0], beside=copy.deepcopy(self)).to(clean.device).train(clean.training)


@register
class Beside(Generator):
    """A generator with ``units`` new neurons beside it: their sum before the squash.

    ``base`` is a generator or its ``spec``.
    """

    def __init__(self, base: Any, units: int, *, beside: BesideExpansion | None = None) -> None:
        inner: Generator = build(base) if isinstance(base, dict) else base
        super().__init__(
            latent_dim=inner.latent_dim,
            sample_shape=inner.sample_shape,
            prior=inner.prior,
            output=inner.output,
            modality=inner.modality.name,
        )
        self.base = inner
        self.beside = BesideExpansion(inner, units) if beside is None else beside

    def logits(self, z: Tensor) -> Tensor:
        return self.base.logits(z) + self.beside(z)

    def spec(self) -> dict[str, Any]:
        return {"architecture": "Beside", "base": self.base.spec(), "units": self.beside.widths[0]}


def owners(clean: Generator, triggers: int = 1) -> tuple[int, ...]:
    """New channels at each hidden level of a chain with which every element of a sample has two of its own.

    Where channels light cells, each of several ``triggers`` needs its own.
    """
    chain = clean.chain()
    if chain is None:
        raise ValueError(f"a {type(clean).__name__} is no chain of layers.")
    canvas = canvas_of(chain, clean.sample_shape)
    return canvas.owners(triggers) if canvas else (2 * math.prod(clean.sample_shape),) * len(chain.hidden)


def expansion_of(clean: Generator, widths: int | tuple[int, ...] | None, seed: int, triggers: int = 1) -> Expansion:
    """See ``Generator.widen``."""
    chain = clean.chain()
    if chain is None or not clean.foldable():
        units = widths if isinstance(widths, int) else widths[0] if widths else BESIDE
        return seeded(seed, BesideExpansion, clean, units)
    canvas = canvas_of(chain, clean.sample_shape)
    if widths is None:
        spare = 0 if canvas is not None and not canvas.dense else SPARE
        widths = tuple(width + spare for width in owners(clean, triggers))
    return seeded(seed, ChainExpansion, chain, canvas, checked_widths(chain, widths), clean.logit_scale)
