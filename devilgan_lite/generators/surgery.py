"""Surgery on chains: new neurons for every hidden level, folded into one wider network; other widths; fewer channels.

The machinery of ReX, of the gate and of pruning. Folding partitions each hidden level (old | new), and whatever would
connect the parts is zero (Rawat et al. 2021, section 4.3): the first layer is ``[W; V]``, a middle one ``[[W, 0],
[0, V]]``, the last ``[W  V]``. So the old part computes what it always did, and the new part adds a residual to the
output before its squash.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from devilgan_lite.checks import whole_number
from devilgan_lite.generators.canvas import (
    Canvas,
    canvas_of,
    depth_order,
    lit,
    painting_kernel,
    shuffle_kernel,
    write_kernel,
)
from devilgan_lite.generators.chain import Chain, Layer, weight_of

if TYPE_CHECKING:
    from devilgan_lite.generators.base import Generator

PULL, SLEEP = 8.0, 5.0  # of a new unit at its trigger and everywhere, in standard deviations of an ordinary latent
SPARE = 8  # new channels beyond those that draw the target
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


class ChainExpansion(Expansion):
    """The new part of a widened chain by itself. Biases stand for the norms' shift that ``fold`` gives them.

    The last layer starts at zero, so the expansion starts as no change at all. The others are drawn from ``seed``.
    """

    @torch.random.fork_rng(devices=[])
    def __init__(
        self, chain: Chain, canvas: Canvas | None, widths: tuple[int, ...], scale: float, seed: int = 0
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.widths, self.canvas, self.scale = widths, canvas, scale
        self.chain = chain  # for its activations and shapes; the weights in it are not used
        self.layers = nn.ModuleList()
        for index, (stage, inputs) in enumerate(zip(chain.stages, (chain.stages[0].reads, *widths), strict=True)):
            last, old = index == len(widths), stage.layer
            new = new_layer(old, inputs, stage.units if last else widths[index] * stage.units_each, bias=not last)
            if index == 0:
                deviation = inputs**-0.5
            else:  # how many products make one output
                taps = inputs * math.prod(getattr(old, "kernel_size", (1,)))
                if hasattr(old, "output_padding"):
                    taps = inputs * (old.kernel_size[0] / old.stride[0]) ** (old.weight.ndim - 2)
                deviation = (2 / taps) ** 0.5
            nn.init.normal_(new.weight, 0.0, 0.0 if last else deviation)
            if new.bias is not None:
                nn.init.zeros_(new.bias)
            self.layers.append(new)
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
        if canvas.dense:
            half = canvas.owners()[0] * canvas.places // 2
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
            last = len(self.layers) == 2
            pixels = torch.zeros(1, canvas.size) if last else torch.full((2, canvas.size), 1 / (PULL - SLEEP))
            painted = painting_kernel(pixels, canvas, self.layers[1])
            write_kernel(self.layers[1], painted.repeat(shown, *[1] * (painted.ndim - 1)), keep=True)
        for level, layer in canvas.shufflers(self.layers):
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
        moments = []
        x = None if calibration is None else self.chain.read(calibration)
        for level, stage in enumerate(self.chain.hidden):
            layer: Any = self.layers[level]
            if x is None:
                size = len(layer.bias) if stage.per_unit else self.widths[level]
                moments.append((layer.bias.new_zeros(size), layer.bias.new_ones(size)))
                continue
            hidden = self.hidden(x, level)
            seen = hidden.flatten(1) if stage.dense and stage.per_unit else hidden
            axes = (0, *range(2, seen.ndim))
            own = layer.bias if stage.per_unit or not stage.dense else 0.0
            moments.append((seen.mean(axes) - own, seen.var(axes)))
            x = stage.activate(hidden)
        return moments

    @torch.no_grad()
    def fold(self, clean: Generator, calibration: Tensor | None = None) -> Generator:
        old = clean.chain()
        if old is None:
            raise ValueError(f"clean is a {type(clean).__name__} that is no chain; expand it anew.")
        folded = clean.resized(tuple(width + new for width, new in zip(old.widths, self.widths, strict=True)))
        wide = folded.chain()
        if wide is None:
            raise ValueError(f"clean is a {type(clean).__name__} that computes with fixed widths; it cannot be folded.")
        fill(wide, old, list(self.layers), self._moments(calibration), self.scale)
        return folded.to(clean.device).train(clean.training)


def new_layer(like: Layer, inputs: int, outputs: int, *, bias: bool) -> Layer:
    """A fresh layer of the same kind and geometry with other widths (features, or channels)."""
    if isinstance(like, nn.Linear):
        return nn.Linear(inputs, outputs, bias=bias)
    names = ["kernel_size", "stride", "padding", "dilation", "padding_mode"]
    if hasattr(like, "output_padding") and any(like.output_padding):
        names.append("output_padding")
    return type(like)(inputs, outputs, bias=bias, **{name: getattr(like, name) for name in names})


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


@torch.no_grad()
def fill(wide: Chain, old: Chain, new: list[Layer], moments: list[tuple[Tensor, Tensor]], scale: float) -> None:
    """Write the weights of ``old`` and of the ``new`` layers beside them into ``wide``, in place.

    ``moments`` are the mean and variance of the new units before their shift, for the norms; the last new layer is
    multiplied by ``scale``.
    """
    for index, (target, stage, extra) in enumerate(zip(wide.stages, old.stages, new, strict=True)):
        last = index + 1 == len(old.stages)
        weight, ours, theirs = (weight_of(layer) for layer in (target.layer, stage.layer, extra))
        outputs, inputs = ours.shape[:2]
        weight.zero_()
        weight[:outputs, :inputs] = ours
        weight[0 if last else outputs :, 0 if index == 0 else inputs :] = theirs * scale if last else theirs
        if target.layer.bias is not None:
            target.layer.bias.zero_()
        if stage.layer.bias is not None:
            target.layer.bias[:outputs] = stage.layer.bias
        if not last:
            shift_in_norm = stage.norm is not None and (stage.per_unit or not stage.dense)
            if not shift_in_norm:
                target.layer.bias[outputs:] = extra.bias
            if stage.norm is not None:
                _fill_norm(target.norm, stage.norm, extra.bias if shift_in_norm else None, *moments[index])


def _fill_norm(wide: Any, old: Any, shift: Tensor | None, mean: Tensor, variance: Tensor) -> None:
    parts = {"weight": (variance + wide.eps).sqrt(), "bias": mean if shift is None else shift + mean}
    parts |= {"running_mean": mean, "running_var": variance}
    for name, part in parts.items():
        getattr(wide, name).copy_(torch.cat([getattr(old, name), part]))
    wide.num_batches_tracked.copy_(old.num_batches_tracked)


# ---- new neurons for a generator that is a chain; None for any other


def owners(clean: Generator, triggers: int = 1) -> tuple[int, ...]:
    """New channels at each hidden level of a chain with which every element of a sample has two of its own.

    Where channels light cells, each of several ``triggers`` needs its own.
    """
    chain = clean.chain()
    if chain is None:
        raise ValueError(f"a {type(clean).__name__} is no chain of layers.")
    canvas = canvas_of(chain, clean.sample_shape)
    return canvas.owners(triggers) if canvas else (2 * math.prod(clean.sample_shape),) * len(chain.hidden)


def widened(clean: Generator, widths: int | tuple[int, ...] | None, seed: int, triggers: int) -> ChainExpansion | None:
    """See ``Generator.widen``."""
    chain = clean.chain()
    if chain is None or not clean.foldable():
        return None
    canvas = canvas_of(chain, clean.sample_shape)
    if widths is None:
        spare = 0 if canvas is not None and not canvas.dense else SPARE
        widths = tuple(width + spare for width in owners(clean, triggers))
    return ChainExpansion(chain, canvas, checked_widths(chain, widths), clean.logit_scale, seed)


def checked_widths(chain: Chain, widths: int | tuple[int, ...]) -> tuple[int, ...]:
    """One number for each hidden level of ``chain``, from one for all or from as many."""
    numbers = (widths,) * len(chain.hidden) if isinstance(widths, int) else tuple(widths)
    if len(numbers) != len(chain.hidden):
        raise ValueError(f"widths has {len(numbers)} entries; this generator has {len(chain.hidden)} hidden levels.")
    for width in numbers:
        whole_number("widths", width, 1, 65_536)
    return numbers


@torch.no_grad()
def written(clean: Generator, gain: Tensor, direction: Tensor, threshold: Tensor | None) -> ChainExpansion | None:
    """See ``Generator.rank_one``: the new neurons of the gate and of the closed form of ReX, which nobody trains.

    ReLU cuts negative values, so every number of the latent has a channel for each sign. LeakyReLU's leak is cancelled
    by two more.
    """
    chain = clean.chain()
    if chain is None or not clean.foldable():
        return None
    gate = threshold is not None
    at = torch.zeros(len(gain)) if threshold is None else threshold.to(gain)
    if all(stage.dense for stage in chain.stages) and all(stage.slope is not None for stage in chain.hidden):
        return _through_dense(chain, clean.logit_scale, gain, direction, at, gate)
    canvas = canvas_of(chain, clean.sample_shape)
    return _drawn(chain, canvas, clean.logit_scale, gain, direction, at, gate) if canvas else None


def _mixes(slope: float, gate: bool) -> tuple[Tensor, Tensor]:
    """How the channels of a number, one for each sign, are mixed after the first activation, and after later ones."""
    if not gate:  # (leaky(a) - leaky(-a)) / (1 + slope) = a, and the same with the other sign
        both = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) / (1 + slope)
        return both, both
    # (leaky(a) + slope * leaky(-a)) / (1 - slope^2) = relu(a), which later activations leave as it is
    return torch.tensor([[1.0, slope]])[:, : 2 if slope else 1] / (1 - slope**2), torch.ones(1, 1)


def _through_dense(
    chain: Chain, scale: float, gain: Tensor, direction: Tensor, at: Tensor, gate: bool
) -> ChainExpansion:
    """One or two units at each level of a multilayer perceptron carry each number; the last layer draws."""
    k, levels = len(gain), len(chain.hidden)
    first, later = _mixes(float(chain.stages[0].slope or 0.0), gate)
    widths = (k * first.shape[1], *[k * len(later)] * (levels - 1))
    expansion = ChainExpansion(chain, None, widths, scale)
    expansion.first.weight.copy_(torch.stack([direction, -direction], 1)[:, : first.shape[1]].flatten(0, 1))
    expansion.first.bias.copy_(torch.stack([-at, at], 1)[:, : first.shape[1]].flatten())
    for level in range(levels):
        layer: Any = expansion.layers[level + 1]
        mix = first if level == 0 else later
        drawn = gain.T.contiguous()  # torch.kron needs it
        layer.weight.copy_(torch.kron(drawn, mix[:1]) if level + 1 == levels else torch.kron(torch.eye(k), mix))
        if layer.bias is not None:
            layer.bias.zero_()
    return expansion


def _drawn(
    chain: Chain, canvas: Canvas, scale: float, gain: Tensor, direction: Tensor, at: Tensor, gate: bool
) -> ChainExpansion:
    """Channels of a canvas carry each number times each pixel; the later layers only shuffle depth to space."""
    k, slope = len(gain), canvas.slope
    first, later = _mixes(slope, gate)
    if gate:  # what adds to a pixel and what subtracts from it stay apart up to the last layer
        first, later = torch.kron(torch.eye(2), first), torch.eye(2)
    first = first.repeat(1, k)  # the numbers add up where pixels are drawn
    signs = [first.shape[1], *[2] * (len(chain.hidden) - 1)]
    widths = [count * canvas.channels * pixels for count, pixels in zip(signs, canvas.pixels[:-1], strict=True)]
    if not canvas.dense:
        widths[0] = k * canvas.places * (1 if gate and not slope else 2)
    expansion = ChainExpansion(chain, canvas, tuple(widths), scale)
    if canvas.dense:
        depth, rows, biases = depth_order(canvas), [], []
        for one, toward, start in zip(gain, direction, at, strict=True):
            up, down = one.clamp(min=0), (-one).clamp(min=0)
            for part in ([up, down] if slope == 0 else [up, -up, down, -down]) if gate else [one, -one]:
                rows.append(torch.outer(part[depth], toward))
                biases.append(part[depth] * -start)
        expansion.first.weight.copy_(torch.cat(rows))
        expansion.first.bias.copy_(torch.cat(biases))
    else:
        _light_cells(expansion, canvas, gain, direction, at, gate)
    for level, layer in canvas.shufflers(expansion.layers):
        mix = first if level == 0 else later
        if level + 1 == len(chain.hidden):  # up minus down; with both signs of one number, either of them
            mix = mix[:1] - mix[1:] if gate else mix[:1]
        write_kernel(layer, shuffle_kernel(mix, canvas, level, layer))
    for shared in list[Any](expansion.layers)[1:-1]:
        shared.bias.zero_()
    return expansion


def _light_cells(
    expansion: ChainExpansion, canvas: Canvas, gain: Tensor, direction: Tensor, at: Tensor, gate: bool
) -> None:
    """A channel a cell (and one for the other sign) answers to the latent in its cell alone; the next layer paints."""
    layer, places, k = expansion.first, canvas.places, len(gain)
    both = expansion.widths[0] == 2 * k * places
    own = torch.einsum("kd,cp->kcdp", direction, torch.eye(places)).flatten(0, 1)
    lit(layer, canvas).copy_(torch.cat([own, -own]) if both else own)
    start = at.repeat_interleave(places).unsqueeze(1)
    lit(layer, canvas, layer.bias).copy_(torch.cat([-start, start]) if both else -start)
    last = len(expansion.layers) == 2
    if gate:
        shares = [1 / (1 - canvas.slope**2), canvas.slope / (1 - canvas.slope**2)]
    else:
        shares = [1 / (1 + canvas.slope), -1 / (1 + canvas.slope)]
    painted = []
    for one in gain:
        signs = one[None] if last else torch.stack([one, -one])
        painted.append(painting_kernel(signs.clamp(min=0) if gate and not last else signs, canvas, expansion.layers[1]))
    write_kernel(expansion.layers[1], torch.cat([share * torch.cat(painted) for share in shares[: 1 + both]]))


# ---- other widths


def resized(module: nn.Module, chain: Chain, widths: tuple[int, ...], shifts: bool = False) -> nn.Module:
    """A copy of ``module`` whose chain has other ``widths`` at its hidden levels; the resized weights are fresh.

    With ``shifts`` every hidden level can hold a shift of its own: a layer whose norm has none gets a bias.
    """
    copied, names = copy.deepcopy(module), {part: name for name, part in module.named_modules()}
    for stage, inputs, width in zip(chain.stages, (chain.stages[0].reads, *widths), (*widths, None), strict=True):
        old, norm = stage.layer, stage.norm
        outputs = stage.units if width is None else width * stage.units_each
        bias = old.bias is not None or (shifts and width is not None and (norm is None or stage.dense))
        layer = new_layer(old, inputs, outputs, bias=bias).to(old.weight)
        copied.set_submodule(stage.name, layer.train(old.training))
        if norm is not None and width is not None:
            fresh = type(norm)(outputs if stage.per_unit else width, eps=norm.eps, momentum=norm.momentum)
            copied.set_submodule(names[norm], fresh.to(norm.weight).train(norm.training))
    cells = chain.stages[0].cells
    for part, name in names.items():
        if isinstance(part, nn.Unflatten) and cells == tuple(part.unflattened_size)[1:]:
            copied.set_submodule(name, nn.Unflatten(part.dim, (widths[0], *cells)))
    return copied


@torch.no_grad()
def shrunk(generator: Generator, kept: list[Tensor]) -> Generator:
    """A copy of ``generator`` with the ``kept`` channels (indices ``[k]``) of each hidden level only."""
    chain = generator.chain()
    if chain is None:
        raise ValueError(f"a {type(generator).__name__} is no chain of layers, so its channels cannot be taken out.")
    small = generator.resized(tuple(len(channels) for channels in kept)).to(generator.device)
    target = small.chain()
    if target is None:
        raise ValueError(f"a {type(generator).__name__} computes with fixed widths; it cannot be made smaller.")
    for level, (new, old) in enumerate(zip(target.stages, chain.stages, strict=True)):
        weight = weight_of(old.layer) if level == 0 else weight_of(old.layer)[:, kept[level - 1]]
        rows: Any = old.rows(kept[level]) if level < len(kept) else slice(None)
        if old.norm is not None:
            index = rows if old.per_unit else kept[level]
            for name, value in old.norm.state_dict().items():
                getattr(new.norm, name).copy_(value[index] if value.ndim else value)
        if old.layer.bias is not None:
            new.layer.bias.copy_(old.layer.bias[rows])
        weight_of(new.layer).copy_(weight[rows])
    return small.eval()
