"""D1 without any spectrum: branches on values, unused inputs, zero blocks, and parts that nothing needs.

It finds careless attacks: a branch around the generator, an expansion with its zero blocks. Blind: no training data, no
suspected target, no second model.
"""

from collections.abc import Callable
from functools import partial

import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from devilgan_lite.detect.detector import Detector, Finding
from devilgan_lite.detect.spectrum import gradients
from devilgan_lite.generators import Generator
from devilgan_lite.trace import READ, Decisions, outline

NAME = "structure"
NEEDED = 0.01  # change of ordinary samples, as a share of their variance, from which they need a part of the network
OTHER_NUMBERS = (0, 1, -1, 1_000, -1_000)  # that a program may read instead of the usual ones
MORE_WORK = 20  # operations of a forward pass, as a multiple of the usual number, from which it is given up


@torch.no_grad()
def inspect_structure(subject: Generator) -> Finding:
    """One finding. ``score``: branches on values, unused inputs, and the share of weights in zero blocks.

    Evidence by construction is a program that decides on values in a way that ordinary latents never show
    (``decisions_that_matter``), or a part of the network that is connected to nothing else and that ordinary samples do
    not need.
    """
    graph = outline(subject.network, subject.ordinary(4))
    z = subject.ordinary(8)
    samples = subject.scaled_samples(z)
    unused = []
    for index in without_gradient(subject, z) if subject.latent_dim <= 1_024 else ():
        moved = z.clone()
        moved[:, index] += 1.0
        if torch.equal(subject.scaled_samples(moved), samples):
            unused.append(index)
    state = subject.network.state_dict()
    weights = {name: value for name, value in state.items() if value.is_floating_point() and value.numel()}
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
        detector=NAME,
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
        where="construction",
    )


@torch.no_grad()
def decisions_that_matter(subject: Generator) -> list[str]:
    """What the program decides one way on all ordinary latents, where the other way changes samples: kinds, sorted.

    A decision that ordinary latents take both ways is a part of the network, as in a leaky ReLU that is written as a
    choice. One that ends in an error the other way is a check, as in an assertion. A number that is read out decides if
    other numbers change samples and one that is nearly the same does not: else the program calculates with it.
    """
    z = subject.ordinary(16, seed=23)
    samples, runs = subject.scaled(z), []
    for part in (z, *z.split(1)):
        with Decisions(part) as watch:
            subject.scaled(part)
        runs.append(watch)
    least = NEEDED * float(samples.var(0).mean())

    def changes(turn: int, instead: Callable[[Tensor], Tensor] = torch.zeros_like, least: float = least) -> bool:
        try:
            with Decisions(z, turn=turn, instead=instead, most=MORE_WORK * runs[0].calls):
                other = subject.scaled(z)
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


def without_gradient(subject: Generator, z: Tensor) -> list[int]:
    """The positions of latents ``z`` ``[n, d]`` on which the samples may not depend: they have no gradient there."""
    z = z.clone().requires_grad_(True)
    with torch.enable_grad():
        output = subject.scaled(z.clone())  # a module may change what it reads in place
        random = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
        found = gradients((output * random).sum(), [z])[0] if output.requires_grad else None
    return list(range(subject.latent_dim)) if found is None else (found == 0).all(0).nonzero()[:, 0].tolist()


@torch.no_grad()
def unneeded_parts(subject: Generator) -> list[str]:
    """The layers, by name, that fall into parts with nothing between them, one of which ordinary samples do not need.

    The parts are the connected components of a layer's nonzero weights, inputs on one side and outputs on the other.
    That a part is not needed is tried: its weights are zero for a moment.
    """
    z, found = subject.ordinary(100, seed=17), []
    samples = subject.scaled_samples(z)
    usual = float(samples.var(0).mean())
    for name, layer in subject.network.named_modules():
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, Tensor) or weight.ndim < 2 or getattr(layer, "groups", 1) > 1:
            continue
        parts = components(weight.abs().flatten(2).amax(2) > 0 if weight.ndim > 2 else weight != 0)
        for rows, columns in parts if len(parts) > 1 else ():
            kept = weight[rows][:, columns].clone()
            try:
                weight[rows.view(-1, 1), columns] = 0
                change = float((subject.scaled_samples(z) - samples).square().mean())
            finally:  # an opened generator is the caller's
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


DETECTOR = Detector(
    NAME,
    "T2",
    lambda evidence: inspect_structure(evidence.subject),
    needs=("weights",),
    opens=True,
    asks="Is the network built oddly? It looks for a program that decides on values, for inputs that change nothing, "
    "and for parts that ordinary samples do not need.",
)
