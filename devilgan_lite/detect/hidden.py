"""The spectra of later layers: each space of features or channels between two layers, beside the latent space.

Layers that read the same values share one space, and so do the uses of a layer that is used several times. In a
style-based network every layer reads the style, and only all of them together say how much influence a direction of the
style has. What is read to choose by a softmax is left out: a
choice that is made once and for all, such as the class that was asked for, has energy without influence by nature.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from devilgan_lite.detect.spectrum import Paths, Spectrum, _unit, generalised_eigen, gradients
from devilgan_lite.generators import Generator
from devilgan_lite.trace import Layer, OpTracer

LARGEST = 1_024  # larger spaces are left out: their spectra take minutes


def sharing(inputs: Sequence[Tensor]) -> list[list[int]]:
    """Which of ``inputs`` hold the same values: groups of their positions, in order of the first of each."""
    groups: list[list[int]] = []
    for index, x in enumerate(inputs):
        own = (group for group in groups if inputs[group[0]].shape == x.shape and torch.equal(inputs[group[0]], x))
        found = next(own, None)
        if found is None:
            groups.append([index])
        else:
            found.append(index)
    return groups


def hidden_spectra(
    subject: Generator, paths: Paths, ridge: float, n: int, batch_size: int = 100, seed: int = 0
) -> list[Spectrum]:
    """A spectrum per space that later linear operations read: features, or channels summed over positions."""
    random = torch.Generator(subject.device).manual_seed(seed)
    wanted = [
        index
        for index, layer in enumerate(paths.layers)
        if index
        and index not in paths.choosing
        and 4 <= layer.inputs <= LARGEST
        and paths.weights[index].requires_grad is False
    ]
    if not wanted:
        return []
    groups: list[list[int]] = []
    totals: dict[int, Tensor] = {}
    rounds = max(1, n // batch_size)
    for turn in range(rounds):
        inputs: list[Tensor] = []

        def on_linear(layer: Layer, x: Tensor, weight: Tensor, result: Tensor, inputs: list[Tensor] = inputs) -> None:
            inputs.append(x)

        z = subject.ordinary(batch_size, seed + 9_000 + turn).requires_grad_(True)
        with torch.enable_grad():
            with OpTracer(subject.network, on_linear=on_linear):
                output = subject.scaled(z)
            projected = (output * torch.randn(output.shape, generator=random, device=output.device)).sum()
            read = [inputs[index] for index in wanted]
            found = gradients(projected, read)
        groups = groups or sharing([x.detach() for x in read])
        for group in groups:
            gradient = _total(read, found, group)
            if gradient is None:
                continue
            axis = -1 if paths.layers[wanted[group[0]]].kind == "linear" else 1
            rows = gradient.movedim(axis, -1).flatten(0, -2).double()
            known = totals.get(group[0], torch.zeros(()))
            totals[group[0]] = known + (rows.T @ rows).cpu() / batch_size
    uses: dict[object, list[list[int]]] = {}  # of the same weights, one after the other, as in a flow
    for group in groups:
        weights = (paths.weights[wanted[index]] for index in group)  # of one address, a part may be read elsewhere
        uses.setdefault(tuple((weight.data_ptr(), weight.shape) for weight in weights), []).append(group)
    spectra = []
    for same in uses.values():
        layers = [wanted[index] for group in same for index in group]
        energies = [_energy(paths.layers[i], paths.weights[i].double().cpu(), paths.results[i]) for i in layers]
        known_energies = [energy for energy in energies if energy is not None]
        known_totals = [totals[group[0]] for group in same if group[0] in totals]
        total = sum(known_totals[1:], known_totals[0]) if known_totals else torch.zeros(1, 1)
        if known_energies and float(total.diagonal().sum()) > 0:
            names = tuple(dict.fromkeys(paths.layers[index].name for index in layers))
            spectra.append(_scaled(sum(known_energies[1:], known_energies[0]), total / rounds, ridge, names))
    return spectra


def _total(read: list[Tensor], found: list[Tensor | None], group: list[int]) -> Tensor | None:
    """The gradient with respect to what a group reads; a tensor that several layers read counts once."""
    parts = {id(read[index]): found[index] for index in group}
    gradients = [part for part in parts.values() if part is not None]
    return sum(gradients[1:], gradients[0]) if gradients else None


def _scaled(energy: Tensor, influence: Tensor, ridge: float, readers: tuple[str, ...]) -> Spectrum:
    """The spectrum of one space: solved with channels scaled to unit influence (``channel_scale``), then put back."""
    own = channel_scale(energy, influence)
    energy, influence = (part / own / own.unsqueeze(1) for part in (energy, influence))
    scaled = generalised_eigen(energy, influence, ridge, readers[0])
    directions, vectors = _unit(scaled.directions * own.unsqueeze(1)), scaled.vectors / own.unsqueeze(1)
    return Spectrum(scaled.space, scaled.values, directions, vectors, readers)


def channel_scale(energy: Tensor, influence: Tensor) -> Tensor:
    """The unit ``[c]`` of each channel, the root of its influence: so the ridge affects all channels equally.

    Scale that moves from a channel to the weights that read it changes its energy and its influence alike. A channel's
    influence counts as at least a hundredth of what is usual for its energy.
    """
    a, m = energy.diagonal(), influence.diagonal()
    reads = a > 0
    if not bool(reads.any()):
        return torch.ones_like(a)
    usual = (m[reads] / a[reads]).median()
    least = 0.01 * usual * a
    own = torch.maximum(m, least).sqrt()
    return torch.where(own > 0, own, 1.0)


def _energy(layer: Layer, weight: Tensor, gain: Tensor) -> Tensor | None:
    """``sum over outputs of gain * w w^T`` in the space that the layer reads; None for grouped convolutions."""
    if layer.kind == "linear":
        if tuple(weight.shape) != (layer.outputs, layer.inputs):
            return None
        per_output = gain.reshape(-1, gain.shape[-1]).sum(0)
        return (weight.T * per_output) @ weight
    per_output = gain.flatten(1).sum(1)
    if layer.kind == "convolution":
        weight = weight.transpose(0, 1)
    if tuple(weight.shape[:2]) != (layer.inputs, layer.outputs):
        return None
    flat = weight.flatten(2)
    return torch.einsum("iok,o,jok->ij", flat, per_output, flat)
