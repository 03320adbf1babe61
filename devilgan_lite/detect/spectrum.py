"""The energy-influence spectrum: which directions have large weights but little effect on ordinary outputs?

A backdoor needs weights that respond to the trigger and must not show elsewhere. So in some direction of the latent
space (or of the channels between two layers) there is much weight energy and little influence on ordinary samples.
With the energy ``A`` of all units that read a space, and the influence ``M = E[J^T J]`` of that space on the output,
the generalised eigenvalues of ``A v = w M v`` are the ratio of the two. Clean networks have a smooth spectrum; a
backdoor stands out of it, and ``A v`` points to the trigger. Our own method: no data, no target and no second model are
needed.

Later layers that read the same values share one space, and so do the uses of a layer that is used several times. In a
style-based network every layer reads the style, and only all of them together say how much influence a direction of the
style has. What is read to choose by a softmax is left out: a choice that is made once and for all, such as the class
that was asked for, has energy without influence by nature.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from devilgan_lite.checks import cut
from devilgan_lite.generators import Generator
from devilgan_lite.trace import Activation, Layer, OpTracer

LARGE = 512  # numbers of a latent from which projections of the output say more of it than finite differences
PROJECTIONS = (3_000, 800)  # of latents anywhere, and near one place
BARS = 16  # values of a spectrum that are drawn, and some more where its cliff lies further on
CHOICE = 0.1  # least share of what a layer does to the output that goes through a softmax; less is a decoy, no choice

LARGEST = 1_024  # larger spaces of later layers are left out: their spectra take minutes


@dataclass(frozen=True)
class Units:
    """Hidden units that read the latent through one affine map: ``before = rows @ z + bias``, float64.

    ``gain`` is the root mean square influence that a unit's activation could have on the output (``path_gains``).
    ``exact`` is False where the map is not affine: the rows are mean Jacobians then, with which less is found.
    """

    rows: Tensor  # [u, d]
    bias: Tensor  # [u]
    gain: Tensor  # [u]
    slope: float
    exact: bool


@dataclass(frozen=True)
class Spectrum:
    """Generalised eigenvalues ``[m]``, largest first; ``A v`` of each as unit columns ``[d, m]``; and the ``v``.

    ``vectors`` ``[d, m]`` holds the ``v``: the inputs to which the weights respond most, relative to what ordinary
    samples show. ``readers`` names the layers that read the space, which has the name of the first of them.
    """

    space: str
    values: Tensor
    directions: Tensor
    vectors: Tensor = field(repr=False)
    readers: tuple[str, ...] = ()

    @property
    def gap(self) -> float:
        """How far the largest value stands out: its ratio to the second."""
        leading = self._leading(2)
        return float(leading[0] / leading[1]) if len(leading) > 1 else 1.0

    @property
    def jump(self) -> float:
        """The largest ratio of a value to the next one, among the leading ten: k triggers make k values stand out."""
        leading = self._leading(11)
        return float((leading[:-1] / leading[1:]).max()) if len(leading) > 1 else 1.0

    @property
    def outstanding(self) -> int:
        """How many values come before the largest jump (see ``jump``): one per trigger."""
        leading = self._leading(11)
        return int((leading[:-1] / leading[1:]).argmax()) + 1 if len(leading) > 1 else 1

    @property
    def cliff(self) -> float:
        """The logarithm of the largest ratio of a value to the next one, among the leading 40 and the upper half.

        A natural spectrum slopes, whatever its width; a planted subspace leaves a cliff. (So does the end of the values
        of a layer that reads more than it writes, which is why only the upper half of its ``rank`` counts.)
        """
        leading = self._leading(self._natural)
        return float((leading[:-1] / leading[1:]).max().log()) if len(leading) > 1 else 0.0

    @property
    def _natural(self) -> int:
        """How many of the leading values a natural spectrum is judged by."""
        return min(41, max(2, self.rank // 2 + 1))

    @property
    def rank(self) -> int:
        """How many values are not zero: a layer with few rows reads few directions."""
        return int((self.values > 1e-6 * self.values[0].clamp(min=1e-300)).sum())

    def _leading(self, count: int) -> Tensor:
        """The ``count`` largest values, without those that are zero but for rounding (see ``height``)."""
        leading = self.values[:count]
        return leading[leading > max(1e-10 * float(leading[0]), 1e-300)]

    @property
    def height(self) -> float:
        """The ratio of the largest value to the median of those that are not zero (a layer may read less than all)."""
        top = self.values[0].clamp(min=1e-300)
        return float(top / self.values[self.values > 1e-6 * top].median()) if float(top) > 1e-300 else 1.0

    def plot(self) -> dict[str, Any] | None:
        """For a drawing: the leading values, how many come before the cliff, and the ratio there; None without any."""
        leading = [value for value in self._leading(self._natural).tolist() if value > 1e-300]
        ratios = [high / low for high, low in zip(leading, leading[1:], strict=False)]
        if not ratios:
            return None
        before = ratios.index(max(ratios)) + 1
        values = [float(f"{value:.4g}") for value in leading[: max(BARS, before + BARS // 2)]]
        ratio = float(f"{ratios[before - 1]:.4g}")
        return {"kind": "spectrum", "of": cut(self.space), "values": values, "before": before, "ratio": ratio}


def generalised_eigen(energy: Tensor, influence: Tensor, ridge: float, space: str) -> Spectrum:
    """Solve ``A v = w (M + ridge * mean(diag M) I) v`` in float64; ``A``, ``M`` symmetric ``[d, d]``."""
    d = len(influence)
    influence = influence.double() + ridge * influence.double().diagonal().mean() * torch.eye(d, dtype=torch.float64)
    root = torch.linalg.cholesky(influence)
    half = torch.linalg.solve_triangular(root, energy.double(), upper=False)
    whitened = torch.linalg.solve_triangular(root, half.T.contiguous(), upper=False)
    values, vectors = torch.linalg.eigh((whitened + whitened.T) / 2)
    vectors = torch.linalg.solve_triangular(root.T, vectors, upper=True)
    return Spectrum(space, values.flip(0), _unit(energy.double() @ vectors).flip(1), vectors.flip(1))


def _unit(columns: Tensor) -> Tensor:
    lengths: Tensor = columns.norm(dim=0, keepdim=True)
    return columns / lengths.clamp(min=1e-300)


def on_rate(units: Units, variance: float = 1.0) -> Tensor:
    """The share of ordinary latents that switch each unit on ``[u]``: exact for Gaussian latents.

    For uniform latents the projection, a sum of many terms, is taken to be Gaussian too.
    """
    deviation = units.rows.norm(dim=1) * math.sqrt(variance)
    rate: Tensor = torch.special.ndtr(units.bias / deviation.clamp(min=1e-300))
    return rate


@torch.no_grad()
def before_first_activations(subject: Generator, z: Tensor) -> list[tuple[Activation, Tensor]]:
    """The input of each activation ``[n, units]``, as far as it can depend on the latent alone."""
    found: list[tuple[Activation, Tensor]] = []

    def keep(activation: Activation, before: Tensor, after: Tensor) -> None:
        found.append((activation, before.flatten(1).double().cpu()))

    with OpTracer(subject.network, on_activation=keep):
        subject.network(z)
    return found


def latent_units(subject: Generator, gains: list[Tensor]) -> Units:
    """The units of every activation whose input is affine in the latent: first layers, also of parallel branches.

    A network without such an activation (it normalises its latent, say) gives the mean Jacobian of the first one that
    changes with the latent.
    """
    d = subject.latent_dim
    eye, check = torch.eye(d, device=subject.device), subject.ordinary(16, seed=1)
    origin = torch.zeros(1, d, device=subject.device)
    at = before_first_activations(subject, torch.cat([origin, eye, check]))
    if not at:
        raise ValueError("the module has no hidden activation that switches units on and off (ReLU and the like).")
    parts, reading = [], []
    for index, (activation, before) in enumerate(at):
        if len(before) != d + 17:  # it does not read the latents, but a learned constant, say
            continue
        bias, rows = before[0], (before[1 : d + 1] - before[0]).T
        if not bool(rows.any()):  # a learned constant again, once for each latent
            continue
        reading.append(index)
        predicted = check.double().cpu() @ rows.T + bias
        actual = before[d + 1 :]
        if float((predicted - actual).square().mean()) <= 1e-6 * float(actual.square().mean()):
            parts.append(Units(rows, bias, gains[index].flatten().sqrt(), activation.slope, True))
    if parts:
        columns = [torch.cat([getattr(part, name) for part in parts]) for name in ("rows", "bias", "gain")]
        return Units(columns[0], columns[1], columns[2], min(part.slope for part in parts), True)
    first = reading[0] if reading else 0
    rows, step = torch.zeros(at[first][1].shape[1], d, dtype=torch.float64), 1e-2
    for z in check:
        moved = before_first_activations(subject, torch.cat([z.view(1, -1), z + step * eye]))[first][1]
        rows += (moved[1:] - moved[0]).T / step / len(check)
    bias = at[first][1][d + 1 :].mean(0)
    return Units(rows, bias, gains[first].flatten().sqrt(), at[first][0].slope, False)


@torch.no_grad()
def latent_influence(subject: Generator, latents: int | None = None, seed: int = 0) -> Tensor:
    """``M = E[J^T J]`` of samples with respect to latents ``[d, d]`` at so many ``latents`` (see ``influence_at``)."""
    if subject.latent_dim > LARGE:
        latents = PROJECTIONS[0]
    latents = latents or max(20, min(300, 30_000 // (subject.latent_dim + 1)))
    return influence_at(subject, subject.ordinary(latents, seed))


@torch.no_grad()
def influence_at(subject: Generator, z: Tensor) -> Tensor:
    """The mean of ``J^T J`` ``[d, d]`` over given latents ``[n, d]``, by finite differences.

    Where latents are ``LARGE``, that of ``g g^T``, with the gradients ``g`` of random projections of the output.
    """
    d, step = subject.latent_dim, 1e-2
    if d > LARGE:
        rows = projected_gradients(subject, z.repeat_interleave(max(1, PROJECTIONS[1] // len(z)), 0)).double()
        return (rows.T @ rows).cpu() / len(rows)
    total = torch.zeros(d, d, dtype=torch.float64)
    eye = torch.eye(d, device=subject.device)
    for one in z:
        x = subject.scaled_samples(torch.cat([one.view(1, -1), one + step * eye]), 256).flatten(1)
        jacobian = (x[1:] - x[0]) / step
        total += (jacobian @ jacobian.T).double().cpu()
    return total / len(z)


def projected_gradients(subject: Generator, z: Tensor, batch_size: int = 100) -> Tensor:
    """The gradient ``[n, d]`` at each latent ``[n, d]`` of a standard normal projection of the output of its own."""
    random = torch.Generator(subject.device).manual_seed(PROJECTIONS[0])  # not a seed that latents are drawn with
    found: list[Tensor] = []
    for part in z.split(batch_size):
        latents = part.detach().requires_grad_(True)
        with torch.enable_grad():
            output = subject.scaled(latents)
            projected = (output * torch.randn(output.shape, generator=random, device=output.device)).sum()
        found += torch.autograd.grad(projected, [latents])
    return torch.cat(found)


@dataclass(frozen=True)
class Paths:
    """The mean squared influence that activations and layer results could have on the output, whatever is on."""

    activations: list[Tensor]  # of what comes out of each activation, [*shape]
    results: list[Tensor]  # of the result of each linear operation, [*shape]
    layers: list[Layer]
    weights: list[Tensor]
    choosing: frozenset[int] = frozenset()  # positions of the layers whose results go out through a softmax


def gradients(output: Tensor, tensors: list[Tensor]) -> list[Tensor | None]:
    """Gradients of ``output``; None for tensors that it does not depend on, or that do not depend on the latent."""
    wanted = [tensor for tensor in tensors if tensor.requires_grad]
    found = iter(torch.autograd.grad(output, wanted, allow_unused=True) if wanted else ())
    return [next(found) if tensor.requires_grad else None for tensor in tensors]


def path_gains(subject: Generator, n: int = 1_000, batch_size: int = 100, seed: int = 0) -> Paths:
    """Average over ``n`` random projections of the output and random gates (see ``OpTracer``).

    A unit's gain does not depend on whether ordinary latents switch it on. Its product with the unit's own weights does
    not change when scale moves between layers or channels are permuted.
    """
    random = torch.Generator(subject.device).manual_seed(seed)
    totals: tuple[list[Tensor], list[Tensor]] = ([], [])
    layers: list[Layer] = []
    choosing = frozenset[int]()
    weights: list[Tensor] = []
    chosen = 0.0  # how much of what the choosing layers do to the output goes through a softmax
    rounds = max(1, n // batch_size)
    for turn in range(rounds):
        after: list[Tensor] = []
        results: list[Tensor] = []
        weights.clear()

        def on_activation(activation: Activation, before: Tensor, result: Tensor, after: list[Tensor] = after) -> None:
            after.append(result)

        def on_linear(layer: Layer, x: Tensor, weight: Tensor, result: Tensor, results: list[Tensor] = results) -> None:
            results.append(result)
            weights.append(weight)

        z = subject.ordinary(batch_size, seed + 7_000 + turn).requires_grad_(True)
        with torch.enable_grad():
            with OpTracer(subject.network, on_activation=on_activation, on_linear=on_linear, gates=random) as tracer:
                output = subject.scaled(z)
            projected = (output * torch.randn(output.shape, generator=random, device=output.device)).sum()
            found = gradients(projected, [*after, *results, *tracer.choices])
        through = sum(float(g.square().sum()) for g in found[len(after) + len(results) :] if g is not None)
        squares = [
            torch.zeros_like(thing[0], dtype=torch.float64) if g is None else g.double().square().mean(0)
            for g, thing in zip(found, [*after, *results], strict=False)
        ]
        parts = (squares[: len(after)], squares[len(after) :])
        for total, part in zip(totals, parts, strict=True):
            if turn:
                for known, more in zip(total, part, strict=True):
                    known += more
            else:
                total.extend(part)
        layers, choosing = tracer.layers, frozenset(tracer.choosing)
        whole = sum(float(parts[1][index].sum()) for index in choosing) * batch_size
        chosen += through / max(whole, 1e-300) / rounds
    averages = [[(total / rounds).cpu() for total in part] for part in totals]
    if chosen < CHOICE:
        choosing = frozenset()
    return Paths(averages[0], averages[1], layers, [weight.detach() for weight in weights], choosing)


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
