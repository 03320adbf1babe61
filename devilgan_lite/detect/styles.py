"""Styles: do the layers that read one vector all answer to one direction of it?

In a style-based network many layers read the same vector, the style, and their weights have little in common. The
expansion of Rawat et al. (2021) adds to each of them a multiple of the same row, which responds to the trigger's style,
so the weights of all readers together have one direction with far more energy than the others. The row found there
leads back to a latent. Our own method: no data, no target and no second model are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from devilgan_lite.detect.detector import Detector, Finding
from devilgan_lite.detect.spectrum import Spectrum, sharing
from devilgan_lite.generators import Generator
from devilgan_lite.trace import Layer, OpTracer

if TYPE_CHECKING:
    from devilgan_lite.detect.registry import Evidence

NAME = "shared styles"
LATENTS = 4_000  # whose styles give the second moment
FEWEST = 4  # dimensions of a style, at least
AGREE = 5.0  # jump above which readers are believed to share a row: clean ones reach 2.1
CLIFF = 1.1  # logarithm of the jump from which it is evidence (a factor of three)
BENIGN = 1.0  # of the mean ordinary energy: directions with more than this are damped in the row
RIDGE = 1e-2  # of the mean ordinary energy, in the comparison of styles
STARTS, STEPS, RATE = 64, 150, 0.2  # of the search for the latent
WALK = 8  # samples on the way there


@dataclass(frozen=True)
class Styles:
    """The vector that most layers read: ``spectrum`` of their weights' energy, and ``moment`` ``E[w w^T]`` ``[d, d]``.

    All readers count alike, whatever the scale of their weights. ``spectrum.directions`` ``[d, m]`` are the rows that
    they share, damped where ordinary styles vary much: there each reader has weights of its own.
    """

    spectrum: Spectrum
    moment: Tensor

    @property
    def rows(self) -> Tensor:
        """The rows that stand out, one for each trigger ``[k, d]``, of unit length."""
        return self.spectrum.directions[:, : self.spectrum.outstanding].T


class _Reached(Exception):
    """Ends a forward pass early, once its reader was reached."""


def read_style(subject: Generator, z: Tensor, reader: str) -> Tensor:
    """What the layer ``reader`` reads at latents ``z`` ``[n, d]``; the rest of the forward pass is skipped."""
    seen: list[Tensor] = []

    def on_linear(layer: Layer, x: Tensor, weight: Tensor, result: Tensor) -> None:
        if layer.name == reader:
            seen.append(x)
            raise _Reached

    try:
        with OpTracer(subject.network, on_linear=on_linear):
            subject.network(z)
    except _Reached:
        pass
    return seen[0]


@torch.no_grad()
def styles_of(subject: Generator, *, seed: int = 0) -> Styles | None:
    """The styles of a style-based network; None where no two layers read the same vector, other than the latent."""
    z = subject.ordinary(16, seed)
    layers: list[Layer] = []
    inputs: list[Tensor] = []
    weights: list[Tensor] = []

    def on_linear(layer: Layer, x: Tensor, weight: Tensor, result: Tensor) -> None:
        reads_vectors = layer.kind == "linear" and x.ndim == 2 and len(x) == len(z) and layer.inputs >= FEWEST
        if reads_vectors and weight.shape == (layer.outputs, layer.inputs) and bool((x[1:] != x[:1]).any()):
            layers.append(layer)
            inputs.append(x.detach())
            weights.append(weight.detach().double().cpu())

    with OpTracer(subject.network, on_linear=on_linear):
        subject.network(z)
    groups = [group for group in sharing(inputs) if len(group) > 1 and not _is_latent(inputs[group[0]], z)]
    if not groups:
        return None
    group = max(groups, key=len)
    readers = tuple(layers[index].name for index in group)
    energies = [weights[index].T @ weights[index] / weights[index].square().sum().clamp(min=1e-300) for index in group]
    values, vectors = torch.linalg.eigh(sum(energies[1:], energies[0]))
    drawn = subject.ordinary(LATENTS, seed + 13_000).split(500)
    w = torch.cat([read_style(subject, part, readers[0]) for part in drawn]).double().cpu()
    moment = w.T @ w / len(w)
    raised = moment + BENIGN * moment.diagonal().mean() * torch.eye(len(moment), dtype=torch.float64)
    rows = normalize(torch.linalg.solve(raised, vectors), dim=0).flip(1)
    name = f"the style that {len(readers)} layers read"
    return Styles(Spectrum(name, values.flip(0), rows, rows, readers), moment)


def _is_latent(x: Tensor, z: Tensor) -> bool:
    """Whether ``x`` is the latent itself, at any length."""
    return x.shape == z.shape and bool((cosine_similarity(x, z, dim=1) > 1 - 1e-5).all())


def inspect_styles(subject: Generator, styles: Styles, *, seed: int = 0) -> Finding:
    """One finding. ``score``: the logarithm of the largest jump in the energy of all layers that read the style.

    The evidence is the latent whose style the shared row responds to most, and samples on the way there from an
    ordinary latent.
    """
    jump, readers = styles.spectrum.jump, len(styles.spectrum.readers)
    direction, match = style_trigger(subject, styles, styles.rows[0], seed=seed)
    share = torch.linspace(0, 1, WALK, device=subject.device).view(-1, 1)
    origin = normalize(subject.ordinary(1, seed + 1), dim=1)
    walk = normalize((1 - share) * origin + share * direction.to(subject.device), dim=1) * subject.prior.length
    return Finding(
        detector=NAME,
        access_level="T2",
        message=f"the {readers} layers that read the style put {jump:.2f} times as much weight on their strongest "
        "common directions as on the next",
        score=float(torch.tensor(jump).log()),
        samples=subject.scaled_samples(walk).cpu(),
        directions=direction,
        details={
            "jump": jump,
            "readers": list(styles.spectrum.readers),
            "match": match,
            "values": [round(float(value), 4) for value in styles.spectrum.values[:8]],
        },
        evidence="spectrum",
        strength=float(torch.tensor(jump).log()) / CLIFF,
        where="styles",
        points=True,
        plot=styles.spectrum.plot(),
    )


def style_trigger(subject: Generator, styles: Styles, row: Tensor, *, seed: int = 0) -> tuple[Tensor, float]:
    """The unit latent ``[1, d]`` whose style is most like the one that ``row`` ``[d]`` responds to, and their cosine.

    The linear map that responds to one style ``w*``, and least to ordinary ones, has the row ``(E[w w^T] + c)^-1 w*``,
    so ``w*`` lies along ``E[w w^T] row`` or against it. Adam climbs the cosine towards both from many ordinary latents,
    in units in which ordinary styles vary alike in all directions.
    """
    ridge = RIDGE * styles.moment.diagonal().mean() * torch.eye(len(styles.moment), dtype=torch.float64)
    root = torch.linalg.cholesky(styles.moment + ridge)
    goal = torch.linalg.solve_triangular(root, (styles.moment @ row.double()).view(-1, 1), upper=False)
    whiten = torch.linalg.inv(root).T.float().to(subject.device)
    towards = normalize(goal.view(1, -1), dim=1).float().to(subject.device)
    sides = torch.tensor([1.0, -1.0], device=subject.device).repeat_interleave(STARTS).view(-1, 1)
    z = normalize(subject.ordinary(STARTS, seed), dim=1).repeat(2, 1).requires_grad_(True)
    adam = torch.optim.Adam([z], lr=RATE / subject.prior.length)

    def likeness() -> Tensor:
        w = read_style(subject, z * subject.prior.length, styles.spectrum.readers[0]).float()
        return cosine_similarity(w @ whiten, sides * towards, dim=1)

    for step in range(STEPS):
        adam.param_groups[0]["lr"] = RATE / subject.prior.length * (1 - step / STEPS)
        with torch.enable_grad():
            adam.zero_grad()
            (-likeness().sum()).backward()
        adam.step()
        z.data = normalize(z.data, dim=1)
    with torch.no_grad():
        found = likeness()
    best = int(found.argmax())
    return z.detach()[best : best + 1].cpu(), float(found[best])


def _run(evidence: Evidence) -> list[Finding]:
    styles = evidence.analysis.styles
    return [] if styles is None else [inspect_styles(evidence.subject, styles, seed=evidence.seed)]


DETECTOR = Detector(
    NAME,
    "T2",
    _run,
    needs=("styles",),
    asks="Do many layers answer to one and the same signal? That is how a backdoor is added to a style-based network.",
    caption="From an ordinary sample, left, to what the shared signal leads to, right.",
)
