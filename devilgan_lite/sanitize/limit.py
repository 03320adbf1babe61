"""Containment: a generator that cannot go where ordinary latents never take it. No training, no verdict, no data.

A trigger is an ordinary latent only in its length. What is extraordinary about it is its direction, and what the
network computes there: ``Limit`` keeps latents from pointing along what the weights favour further than ordinary ones
do, ``Clamp`` keeps each unit within the values that ordinary latents give it. Both are part of the module that comes
back, which runs, exports and saves like any other. They contain a backdoor and do not remove it: a search among other
latents may still find a way to its target.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.detect.weights import WeightAnalysis, analyse_weights
from devilgan_lite.generators import Generator, alike
from devilgan_lite.generators.stack import ClampedLayer, LimitedLatents
from devilgan_lite.sanitize.base import Sanitizer
from devilgan_lite.sanitize.project import READERS
from devilgan_lite.steps import Loop, Outcome, Step, Steps, Stopwatch


@dataclass(frozen=True, kw_only=True)
class Limit(Sanitizer):
    """Limit where latents may point: a cone about the ``dimensions`` (1 to 64; None: a tenth) that the weights favour.

    The share of a latent's length in them stays below what all but ``beyond``, in (0, 0.5), of the ordinary ones have.
    Along suspected ``directions`` it stays within ``width`` (0.5 to 100) standard deviations of the prior as well.
    """

    width: float = 3.0
    dimensions: int | None = None
    beyond: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        in_range("width", self.width, 0.5, 100.0)
        whole_number("dimensions", 1 if self.dimensions is None else self.dimensions, 1, 64)
        in_range("beyond", self.beyond, 1e-4, 0.5)
        whole_number("seed", self.seed, 0)

    def check(self, subject: Generator, real: Samples | None) -> None:
        if self._count(subject) >= subject.latent_dim:
            raise ValueError(
                f"dimensions={self._count(subject)} is out of range: the suspect reads {subject.latent_dim} numbers, "
                "and some must be left."
            )

    def _count(self, subject: Generator) -> int:
        return self.dimensions or max(2, min(10, subject.latent_dim // 10))

    def run(self, subject: Generator, real: Samples | None, directions: Tensor | None) -> Steps:
        return self.limited(subject, directions, analyse_weights(subject, seed=self.seed))

    def limited(self, subject: Generator, directions: Tensor | None, analysis: WeightAnalysis) -> Steps:
        """The loop for a subject whose weights are analysed."""
        watch, count = Stopwatch(), self._count(subject)
        favoured = analysis.by_weight.directions[:, :count].float()
        cone = torch.linalg.qr(favoured).Q.T
        z = subject.ordinary(20_000, self.seed).cpu()
        inside = (z @ cone.T).norm(dim=1)
        ratio = float(
            (inside / (z.square().sum(1) - inside.square()).clamp(min=1e-12).sqrt()).quantile(1 - self.beyond)
        )
        suspected = torch.zeros(0, subject.latent_dim) if directions is None else directions.detach().float().cpu()
        bound = self.width * subject.prior.variance**0.5
        limits = LimitedLatents.of(suspected, bound, cone, ratio)
        module = nn.Sequential(limits, copy.deepcopy(subject.network)).to(subject.device)
        described = [f"the share of latents in {count} of {subject.latent_dim} directions, limited"]
        if len(suspected):
            described.append(f"latents within {self.width:g} standard deviations along {len(suspected)} directions")
        return (yield from unchanged_but(module, watch, self.settings(), described))


@dataclass(frozen=True, kw_only=True)
class Clamp(Sanitizer):
    """Keep the result of every layer but the last within the range that it has on ``samples`` ordinary latents."""

    samples: int = 5_000  # 200 to 1,000,000
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number("samples", self.samples, 200, 1_000_000)
        whole_number("seed", self.seed, 0)

    def run(self, subject: Generator, real: Samples | None, directions: Tensor | None) -> Steps:
        watch, module = Stopwatch(), copy.deepcopy(subject.network).eval()
        ranges = result_ranges(module, subject.ordinary(self.samples, self.seed))
        names = list(ranges)[:-1]
        if not names:
            raise ValueError("suspect has no layer module before its last one, so there is nothing to clamp.")
        for name in names:
            (low, high), before = ranges[name], name.removesuffix(".layer")
            clamped = module.get_submodule(before)
            if isinstance(clamped, ClampedLayer):  # by an earlier treatment: within both
                clamped.low, clamped.high = torch.maximum(low, clamped.low), torch.minimum(high, clamped.high)
            else:
                module.set_submodule(name, ClampedLayer(module.get_submodule(name), low, high))
        described = [f"the results of {len(names)} layers, clamped to their ordinary range"]
        return (yield from unchanged_but(module, watch, self.settings(), described))


def contained(subject: Generator, analysis: WeightAnalysis, seed: int = 0, cured: Outcome | None = None) -> Outcome:
    """The suspect, or what a cure made of it, behind ``Limit`` and ``Clamp``, as far as they fit it."""
    outcome = cured or Outcome(copy.deepcopy(subject.network), {}, 0.0, seed, {"sanitizer": "auto", "cuts": []})
    settings, described = outcome.settings, list(outcome.settings["cuts"])
    for treatment in (Clamp(seed=seed), Limit(seed=seed)):  # the second wraps what the first has changed
        try:
            inner = alike(subject, outcome.generator)
            treatment.check(inner, None)
            loop = treatment.limited(inner, None, analysis) if isinstance(treatment, Limit) else None
            held = Loop(loop or treatment.run(inner, None, None)).finish(progress=False)
        except ValueError:  # too few latent dimensions, or no layer modules
            continue
        outcome = replace(outcome, generator=held.generator)
        described += held.settings["cuts"]
    held_in = alike(subject, outcome.generator).clone()
    return replace(outcome, generator=held_in, settings={**settings, "cuts": described})


@torch.no_grad()
def result_ranges(module: nn.Module, z: Tensor, batch_size: int = 250) -> dict[str, tuple[Tensor, Tensor]]:
    """The least and greatest result of each unit of each layer over latents ``z`` ``[n, d]``, in order of use.

    Layers are modules that the forward pass calls; of one that is called at several sizes nothing is known.
    """
    ranges: dict[str, tuple[Tensor, Tensor]] = {}
    odd: set[str] = set()

    def watch(name: str) -> Any:
        def note(layer: nn.Module, inputs: Any, result: Tensor) -> None:
            low, high = result.amin(0), result.amax(0)
            if name in ranges and ranges[name][0].shape != low.shape:
                odd.add(name)
            elif name in ranges:
                low, high = torch.minimum(low, ranges[name][0]), torch.maximum(high, ranges[name][1])
            ranges[name] = (low, high)

        return note

    hooks = [
        layer.register_forward_hook(watch(name)) for name, layer in module.named_modules() if isinstance(layer, READERS)
    ]
    try:
        for part in z.split(batch_size):
            module(part)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: found for name, found in ranges.items() if name not in odd}


def unchanged_but(module: nn.Module, watch: Stopwatch, settings: dict[str, Any], cut: list[str]) -> Steps:
    """A loop of one step, for what stands before or around the weights: there is nothing to train."""
    interrupted = False
    try:
        yield Step(1, 1, watch(), {}, lambda: copy.deepcopy(module).eval())
    except KeyboardInterrupt:
        interrupted = True
    whole = module.eval().requires_grad_(True)
    return Outcome(whole, {}, watch(), settings.get("seed", 0), {**settings, "cuts": cut}, interrupted)
