"""Surgery on chains: resize a network's hidden levels, fold new channels into it, keep only some of the old ones.

The machinery of ReX and of pruning. Folding partitions each hidden level (old | new), and whatever would connect the
parts is zero (Rawat et al. 2021, section 4.3): the first layer is ``[W; V]``, a middle one ``[[W, 0], [0, V]]``, the
last ``[W  V]``. So the old part computes what it always did, and the new part adds a residual to the output before its
squash.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from devilgan_lite.checks import whole_number
from devilgan_lite.generators.chain import Chain, Layer, Stage, weight_of

if TYPE_CHECKING:
    from devilgan_lite.generators.base import Generator

NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


def new_layer(like: Layer, inputs: int, outputs: int, *, bias: bool) -> Layer:
    """A fresh layer of the same kind and geometry with other widths (features, or channels)."""
    if isinstance(like, nn.Linear):
        return nn.Linear(inputs, outputs, bias=bias)
    names = ["kernel_size", "stride", "padding", "dilation", "padding_mode"]
    if hasattr(like, "output_padding") and any(like.output_padding):
        names.append("output_padding")
    return type(like)(inputs, outputs, bias=bias, **{name: getattr(like, name) for name in names})


def resized(module: nn.Module, chain: Chain, widths: tuple[int, ...], shifts: bool = False) -> nn.Module:
    """A copy of ``module`` whose chain has other ``widths`` at its hidden levels; the resized weights are fresh.

    With ``shifts`` every hidden level can hold a shift of its own: a layer whose norm has none gets a bias.
    """
    copied, inputs = copy.deepcopy(module), None
    for stage, width in zip(chain.stages, (*widths, None), strict=True):
        old, cells = stage.layer, math.prod(stage.cells) if stage.dense else 1
        outputs = stage.units if width is None else width * cells
        reads = (old.in_features if stage.dense else old.in_channels) if inputs is None else inputs
        bias = old.bias is not None or (shifts and width is not None and (stage.norm is None or stage.dense))
        layer = new_layer(old, reads, outputs, bias=bias).to(old.weight)
        copied.set_submodule(stage.name, layer.train(old.training))
        if stage.norm is not None and width is not None:
            name = next(name for name, found in module.named_modules() if found is stage.norm)
            size = outputs if stage.per_unit else width
            fresh = type(stage.norm)(size, eps=stage.norm.eps, momentum=stage.norm.momentum).to(stage.norm.weight)
            copied.set_submodule(name, fresh.train(stage.norm.training))
        inputs = width
    for name, found in list(copied.named_modules()):
        if isinstance(found, nn.Unflatten) and chain.stages[0].cells == tuple(found.unflattened_size)[1:]:
            copied.set_submodule(name, nn.Unflatten(found.dim, (widths[0], *chain.stages[0].cells)))
    return copied


@torch.no_grad()
def fill(wide: Chain, old: Chain, new: list[Layer], moments: list[tuple[Tensor, Tensor]], scale: float = 1.0) -> None:
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
        weight[0 if last else outputs :, 0 if index == 0 else inputs :] = (
            theirs * scale if last and scale != 1 else theirs
        )
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
    if wide.num_batches_tracked is not None and old.num_batches_tracked is not None:
        wide.num_batches_tracked.copy_(old.num_batches_tracked)


def checked_widths(chain: Chain, widths: int | tuple[int, ...]) -> tuple[int, ...]:
    """One number for each hidden level of ``chain``, from one for all or from as many."""
    found = (widths,) * len(chain.hidden) if isinstance(widths, int) else tuple(widths)
    if len(found) != len(chain.hidden):
        raise ValueError(f"widths has {len(found)} entries; this generator has {len(chain.hidden)} hidden levels.")
    for width in found:
        whole_number("widths", width, 1, 65_536)
    return found


def unit_rows(stage: Stage, channels: Tensor) -> Tensor:
    """The rows of a stage's layer that write ``channels`` ``[k]``: the channels, or all their cells."""
    if not (stage.dense and stage.cells):
        return channels
    cells = math.prod(stage.cells)
    return (channels.view(-1, 1) * cells + torch.arange(cells, device=channels.device)).flatten()


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
        weight = weight_of(old.layer)
        if level:
            weight = weight[:, kept[level - 1]]
        if level < len(kept):
            rows = unit_rows(old, kept[level])
            weight = weight[rows]
            if old.norm is not None:
                index = rows if old.per_unit else kept[level]
                for name in NORM_PARTS:
                    getattr(new.norm, name).copy_(getattr(old.norm, name)[index])
                if new.norm.num_batches_tracked is not None and old.norm.num_batches_tracked is not None:
                    new.norm.num_batches_tracked.copy_(old.norm.num_batches_tracked)
        if old.layer.bias is not None:
            new.layer.bias.copy_(old.layer.bias[unit_rows(old, kept[level])] if level < len(kept) else old.layer.bias)
        weight_of(new.layer).copy_(weight)
    return small.eval()
