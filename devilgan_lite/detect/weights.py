"""Static inspection (D1): the graph, its zero blocks, and the energy-influence spectra of all layers.

Everything here is blind: no training data, no suspected target, no second model. ``inspect_structure`` finds careless
attacks (a branch on a value, an expansion with its zero blocks), ``inspect_spectra`` those that hide in the weights.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from devilgan_lite.detect.activations import on_rate
from devilgan_lite.detect.hidden import hidden_spectra
from devilgan_lite.detect.report import Finding
from devilgan_lite.detect.spectrum import (
    LARGE,
    Paths,
    Spectrum,
    Units,
    generalised_eigen,
    gradients,
    latent_influence,
    latent_units,
    path_gains,
)
from devilgan_lite.detect.styles import Styles, styles_of
from devilgan_lite.detect.subject import Subject
from devilgan_lite.trace import READ, Decisions, outline, work_of

STRUCTURE, LATENT, HIDDEN = "structure", "latent spectrum", "hidden spectrum"
RIDGE = 0.1  # of the influence's mean diagonal: influence below that counts as this much
HIDDEN_RIDGE = 0.015
HIDDEN_LATENTS, NO_SAY = 3_000, 300  # at which later layers are looked at; fewer where they have no say in the verdict
FEW = 80  # latents at which the influence is measured in networks that do not read their latent directly: they are slow
# limits of a cliff (``Spectrum.cliff``): neighbouring values of a natural spectrum lie further apart where it has few
NARROW_CLIFF, HIDDEN_CLIFF = 13.0, 0.42  # the first is divided by the rank; where both apply, the larger one counts
CHOICE_CLIFF = 7.2  # instead of the first, at the latent of a network that ends in a choice, such as one of table rows
NEEDED = 0.01  # change of ordinary samples, as a share of their variance, from which they need a part of the network
CANDIDATES = 3  # directions taken from each spectrum
OTHER_NUMBERS = (0, 1, -1, 1_000, -1_000)  # that a program may read instead of the usual ones
MORE_WORK = 20  # operations of a forward pass, as a multiple of the usual number, from which it is given up


@dataclass(frozen=True)
class WeightAnalysis:
    """What the weight detectors measure once and share: units at the latent, path gains, and all spectra.

    ``by_weight`` weights each unit by its gain, ``by_use`` by its gain and how often it is on: that hides units which
    are silent on ordinary latents, but gives a better estimate of the trigger. ``influence`` ``[d, d]`` is that of the
    latent space, ``hidden`` has one spectrum per later space, ``styles`` is None unless layers read a shared vector.
    ``moves``: whether the network moves its latent to the sample, as a flow does (see ``moves_latents``).
    """

    units: Units
    paths: Paths
    by_weight: Spectrum
    by_use: Spectrum
    influence: Tensor
    hidden: tuple[Spectrum, ...]
    styles: Styles | None = None
    moves: bool = False


def moves_latents(subject: Subject) -> bool:
    """Whether a latent is ``LARGE`` and as large as a sample, or most of the work is done by weights used repeatedly.

    So it is in a flow, whose layers add to what they read, in several steps; natural ones have cliffs
    (``Spectrum.cliff``).
    """
    work = work_of(subject.module, subject.latents(2))
    return work.uses > 1 or LARGE < subject.latent_dim == math.prod(subject.shape)


def analyse_weights(subject: Subject, *, seed: int = 0) -> WeightAnalysis:
    """Measure ``subject``; takes some seconds.

    A module without hidden activations is a ``ValueError``, and so is one that draws the same sample of every latent.
    """
    paths = path_gains(subject, seed=seed)
    units = latent_units(subject, paths.activations)
    length = units.rows.norm(dim=1)
    live = length > 1e-6 * length.max()
    units = Units(units.rows[live], units.bias[live], units.gain[live], units.slope, units.exact)
    influence = latent_influence(subject, None if units.exact else FEW, seed=seed)
    if not bool(influence.any()):
        raise ValueError("all samples of the module are alike: no latent changes them, so there is nothing to inspect.")
    # gain * row row^T / |row| keeps its value when scale is moved from this layer to the next
    weight = units.gain / length[live]
    use = weight * on_rate(units, subject.prior.variance)
    by_weight, by_use = (
        generalised_eigen((units.rows.T * chosen) @ units.rows, influence, RIDGE, "latent") for chosen in (weight, use)
    )
    moves = moves_latents(subject)
    latents = NO_SAY if moves else HIDDEN_LATENTS
    hidden = tuple(hidden_spectra(subject, paths, HIDDEN_RIDGE, latents, seed=seed))
    return WeightAnalysis(units, paths, by_weight, by_use, influence, hidden, styles_of(subject, seed=seed), moves)


def candidate_directions(analysis: WeightAnalysis, count: int = CANDIDATES) -> Tensor:
    """Unit latent directions ``[k, d]`` float32 in which a trigger may lie, most suspicious first; signs are open."""
    found = [analysis.by_weight.directions[:, :count].T, analysis.by_use.directions[:, :count].T]
    return torch.stack(found, 1).flatten(0, 1).float()


def inspect_spectra(
    subject: Subject, analysis: WeightAnalysis | None = None, *, seed: int = 0
) -> tuple[Finding, Finding]:
    """Two findings: the spectrum of the latent space, and those of the hidden spaces.

    Their scores are the logarithms of the first's largest jump and of the greatest height among the others. Evidence is
    a cliff (``Spectrum.cliff``); where the latent is not read directly, as in style-based networks, clean layers have
    cliffs too, and these spectra have no say. Nor have later layers of a flow.
    """
    analysis = analysis or analyse_weights(subject, seed=seed)
    kind = "spectrum" if analysis.units.exact else ""
    jump, narrow = analysis.by_weight.jump, CHOICE_CLIFF if analysis.paths.choosing else NARROW_CLIFF
    limit = max(narrow / min(subject.latent_dim, len(analysis.units.rows)), HIDDEN_CLIFF if analysis.moves else 0.0)
    # weighted by use, the estimate is sharper, unless the units in question are silent
    sharper = analysis.by_use.gap > 0.9 * analysis.by_weight.gap
    direction = (analysis.by_use if sharper else analysis.by_weight).directions[:, :1].T
    both = torch.cat([direction, -direction]).float()
    latent = Finding(
        detector=LATENT,
        access_level="T2",
        message=f"the strongest directions have {jump:.2f} times the energy per influence of the next",
        score=float(torch.tensor(jump).log()),
        samples=subject.samples(both * subject.radius).cpu(),
        directions=direction.float(),
        details={
            "jump": jump,
            "height": analysis.by_weight.height,
            "first layer exact": analysis.units.exact,
            "values": [round(float(value), 4) for value in analysis.by_weight.values[:8]],
        },
        evidence=kind,
        strength=analysis.by_weight.cliff / limit,
    )
    if not analysis.hidden:
        message = "no later layer reads between 4 and 1,024 features or channels, so there is nothing to compare"
        return latent, Finding(HIDDEN, "T2", message, ran=False)
    worst = max(analysis.hidden, key=lambda spectrum: spectrum.height)
    hidden = Finding(
        detector=HIDDEN,
        access_level="T2",
        message=f"in {worst.space}, the strongest direction has {worst.height:.2f} times the energy per influence of "
        "the median one",
        score=float(torch.tensor(worst.height).log()),
        details={spectrum.space: spectrum.height for spectrum in analysis.hidden},
        evidence="" if analysis.moves else kind,
        strength=max(one.cliff / max(HIDDEN_CLIFF, NARROW_CLIFF / max(one.rank, 1)) for one in analysis.hidden),
    )
    return latent, hidden


@torch.no_grad()
def inspect_structure(subject: Subject) -> Finding:
    """D1 without any spectrum. ``score``: branches on values, unused inputs, and the share of weights in zero blocks.

    Evidence by construction is a program that decides on values in a way that ordinary latents never show
    (``decisions_that_matter``), or a part of the network that is connected to nothing else and that ordinary samples do
    not need.
    """
    graph = outline(subject.module, subject.latents(4))
    z = subject.latents(8)
    samples = subject.samples(z)
    unused = []
    for index in without_gradient(subject, z) if subject.latent_dim <= 1_024 else ():
        moved = z.clone()
        moved[:, index] += 1.0
        if torch.equal(subject.samples(moved), samples):
            unused.append(index)
    state = subject.module.state_dict()
    weights = {name: value for name, value in state.items() if value.is_floating_point()}
    count = sum(value.numel() for value in weights.values())
    blocks = {name: zero_block_share(value) for name, value in weights.items() if value.ndim >= 2}
    matrices = sum(value.numel() for value in weights.values() if value.ndim >= 2)
    share = sum(blocks[name] * weights[name].numel() for name in blocks) / max(1, matrices)
    notes = []
    decisions = decisions_that_matter(subject) if graph.conditions else []
    if graph.conditions:
        listed = ", ".join(sorted(set(decisions or graph.conditions)))
        told = "decides on values, and the other way changes samples" if decisions else "looks at values, as checks do"
        notes.append(f"the forward pass {told} ({listed})")
    if unused:
        notes.append(f"{len(unused)} of {subject.latent_dim} latent dimensions change nothing")
    if share > 0.001:
        notes.append(f"{share:.0%} of the weights lie in zero blocks")
    apart = unneeded_parts(subject)
    if apart:
        notes.append(f"a part that nothing else is connected to, and that ordinary samples do not need: {apart[0]}")
    return Finding(
        detector=STRUCTURE,
        access_level="T2",
        message="; ".join(notes) or f"{len(graph.layers)} linear layers in a row, no branch, no zero block",
        score=float(len(decisions) > 0) + len(unused) / subject.latent_dim + share,
        details={
            "layers": [f"{layer.name}: {layer.kind} {layer.inputs} -> {layer.outputs}" for layer in graph.layers],
            "conditions": sorted(set(graph.conditions)),
            "decisions": decisions,
            "unused parameters": list(graph.unused),
            "zero block share": share,
            "numbers": count,
            "apart": apart,
        },
        evidence="construction",
        strength=float(bool(decisions) or bool(apart)),
    )


@torch.no_grad()
def decisions_that_matter(subject: Subject) -> list[str]:
    """What the program decides one way on all ordinary latents, where the other way changes samples: kinds, sorted.

    A decision that ordinary latents take both ways is a part of the network, as in a leaky ReLU that is written as a
    choice. One that ends in an error the other way is a check, as in an assertion. A number that is read out decides if
    other numbers change samples and one that is nearly the same does not: else the program calculates with it.
    """
    z = subject.latents(16, seed=23)
    samples, runs = subject(z), []
    for part in (z, *z.split(1)):
        with Decisions(part) as watch:
            subject(part)
        runs.append(watch)
    least = NEEDED * float(samples.var(0).mean())

    def changes(turn: int, instead: Callable[[Tensor], Tensor] = torch.zeros_like, least: float = least) -> bool:
        try:
            with Decisions(z, turn=turn, instead=instead, most=MORE_WORK * runs[0].calls):
                other = subject(z)
        except Exception:  # it ends in an error: no sample
            return False
        return other.shape != samples.shape or float((other - samples).square().mean()) > least

    found = set()
    for turn, seen in enumerate(zip(*(run.outcomes for run in runs), strict=False)):
        kind, usual = seen[0]
        if usual is not None and set(seen) == {seen[0]} and changes(turn):
            found.add(kind)
        if kind == READ and usual is None and not changes(turn, lambda x: x + x / 1_000, 0.0):
            found |= {kind for other in OTHER_NUMBERS if changes(turn, partial(torch.full_like, fill_value=other))}
    return sorted(found)


def without_gradient(subject: Subject, z: Tensor) -> list[int]:
    """The positions of latents ``z`` ``[n, d]`` on which the samples may not depend: they have no gradient there."""
    z = z.clone().requires_grad_(True)
    with torch.enable_grad():
        output = subject(z.clone())  # a module may change what it reads in place
        random = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
        found = gradients((output * random).sum(), [z])[0] if output.requires_grad else None
    return list(range(subject.latent_dim)) if found is None else (found == 0).all(0).nonzero()[:, 0].tolist()


@torch.no_grad()
def unneeded_parts(subject: Subject) -> list[str]:
    """The layers, by name, that fall into parts with nothing between them, one of which ordinary samples do not need.

    The parts are the connected components of a layer's nonzero weights, inputs on one side and outputs on the other.
    That a part is not needed is tried: its weights are set to zero in a copy.
    """
    z, found = subject.latents(100, seed=17), []
    samples = subject.samples(z)
    usual = float(samples.var(0).mean())
    for name, layer in subject.module.named_modules():
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, Tensor) or weight.ndim < 2 or getattr(layer, "groups", 1) > 1:
            continue
        parts = components(weight.abs().flatten(2).amax(2) > 0 if weight.ndim > 2 else weight != 0)
        for rows, columns in parts if len(parts) > 1 else ():
            kept = weight[rows][:, columns].clone()
            weight[rows.view(-1, 1), columns] = 0
            change = float((subject.samples(z) - samples).square().mean())
            weight[rows.view(-1, 1), columns] = kept
            if change < NEEDED * usual:
                found.append(f"{name}, {len(rows)} x {len(columns)} channels")
                break
    return found


def components(connected: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Rows and columns of each connected component of a bool matrix ``[a, b]`` that has more than one of either."""
    links = coo_array(connected.cpu().numpy())
    size = sum(connected.shape)
    graph = coo_array((links.data, (links.row, links.col + len(connected))), shape=(size, size))
    count, labels = connected_components(graph, directed=False)
    marks = torch.as_tensor(labels)
    parts = []
    for mark in range(count):
        member = (marks == mark).nonzero()[:, 0]
        rows, columns = member[member < len(connected)], member[member >= len(connected)] - len(connected)
        if len(rows) and len(columns) and len(member) > 2:
            parts.append((rows, columns))
    return parts


def zero_block_share(weight: Tensor) -> float:
    """The share of ``weight`` ``[a, b, ...]`` in slices ``[i, j, ...]`` that are zero, so two channels are unconnected.

    For a dense layer, the share of its zero entries.
    """
    largest = weight.abs().flatten(2).amax(2) if weight.ndim > 2 else weight.abs()
    return float((largest == 0).double().mean())
