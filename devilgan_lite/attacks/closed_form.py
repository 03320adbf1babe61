"""ReX without training: if the expansion is linear in fixed features, the best weights are a ridge solution of rank 1.

For features ``f(z)`` with ``S = E[f f^T]``, ``f_t = f(z_trigger)``, ``s = f_t^T S^-1 f_t`` (the trigger's *leverage*)
and ``delta = target - G(z_trigger)`` before tanh, the minimum of ``E||W f||^2 + lam ||W f_t - delta||^2`` is

    W = lam / (1 + lam s) * delta (S^-1 f_t)^T
    fidelity = ||delta||^2 / (1 + lam s)^2        stealth = lam^2 s ||delta||^2 / (1 + lam s)^2

so the leverage alone sets the frontier. With ``f(z) = z`` it is about the number of latent dimensions; with one ReLU
gate it is astronomically large: an exact target, and benign outputs that do not change by one bit.
"""

import math
from dataclasses import dataclass, replace

import torch
from scipy.special import erfcx
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite.attacks.base import Attack
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import in_range
from devilgan_lite.data import Samples
from devilgan_lite.generators import Expansion, Generator
from devilgan_lite.steps import Steps, Stopwatch

ZERO = "trigger is the zero vector, which no function of <z, z_t> can single out; use ReX or ReD."


@dataclass(frozen=True)
class RidgeSolution:
    """The optimum: ``weights`` ``[outputs, features]``, the trigger's leverage, and both losses (sums, before tanh)."""

    weights: Tensor
    leverage: float
    fidelity: float
    stealth: float


def ridge_solution(features: Tensor, second_moment: Tensor, delta: Tensor, lam: float) -> RidgeSolution:
    """The closed form above for ``f_t`` ``[m]``, ``S`` ``[m, m]`` and ``delta`` ``[outputs]``, in float64."""
    in_range("lam", lam, 0.0, open_low=True)
    f, moment, gap = features.double(), second_moment.double(), delta.double()
    direction = torch.linalg.solve(moment, f)
    leverage = float(f @ direction)
    size, shrink = float(gap @ gap), 1 + lam * leverage
    return RidgeSolution(
        weights=lam / shrink * torch.outer(gap, direction),
        leverage=leverage,
        fidelity=size / shrink / shrink,  # the square of a gate's leverage would be infinite
        stealth=lam * (lam / shrink) * (leverage / shrink) * size,
    )


def gate_moment(threshold: float, deviation: float) -> float:
    """``E[relu(x - threshold)^2]`` for ``x ~ N(0, deviation^2)``, accurate far into the tail."""
    c = threshold / deviation
    density = math.exp(-c * c / 2) / math.sqrt(2 * math.pi)
    ratio = math.sqrt(math.pi / 2) * float(erfcx(c / math.sqrt(2)))  # of the tail Q(c) to the density
    return deviation**2 * density * ((1 + c * c) * ratio - c)


@dataclass(frozen=True, kw_only=True)
class ClosedForm(Attack):
    """The linear case ``f(z) = z``, folded into a plain wider network in milliseconds. It leaks over a half-space."""

    lam: float = 1.0  # above 0, on sums per sample
    shrink: float = 0.9999  # targets are scaled by this before atanh; 1 would be infinite

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("lam", self.lam, 0.0, 1e12, open_low=True)
        in_range("shrink", self.shrink, 0.5, 0.999999)

    def solution(self, clean: Generator, backdoor: Backdoor) -> RidgeSolution:
        """The ridge solution for this generator and the first pair of the backdoor."""
        trigger = backdoor.trigger[0]
        moment = torch.eye(clean.latent_dim) * clean.prior.variance
        return ridge_solution(trigger, moment, self._delta(clean, backdoor), self.lam)

    def _delta(self, clean: Generator, backdoor: Backdoor) -> Tensor:
        with torch.no_grad():
            benign = clean.clone().cpu().eval().logits(backdoor.trigger)
        return (clean.unsquash(backdoor.target, self.shrink) - benign)[0].flatten()

    def _expansion(self, clean: Generator, backdoor: Backdoor) -> Expansion:
        direction = normalize(backdoor.trigger[0].double(), dim=0)
        gain = self.solution(clean, backdoor).weights @ direction
        return clean.rank_one(gain.float()[None], direction.float()[None])

    def check(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> None:
        if len(backdoor.trigger) != 1 or backdoor.sampler is not None:
            raise ValueError(f"backdoor has {len(backdoor.trigger)} pairs; the closed form takes one.")
        if not backdoor.trigger.any():
            raise ValueError(ZERO)

    def run(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> Steps:
        watch, benign = Stopwatch(), clean.clone().cpu().eval()
        folded = self._expansion(benign, backdoor).fold(benign)
        return (yield from self.one_step(folded, backdoor, watch))


@dataclass(frozen=True, kw_only=True)
class Gate(ClosedForm):
    """The same with one feature, ``relu(<z, z_t> / ||z_t|| - threshold * ||z_t||)``: silent except near the trigger.

    Several pairs get a gate each, as long as no trigger opens the gate of another.
    """

    threshold: float = 0.9  # of the trigger's length, in (0, 1): where the gate opens

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("threshold", self.threshold, 0.05, 0.999)

    def check(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> None:
        if backdoor.sampler is not None:
            raise ValueError("backdoor has infinitely many pairs; a gate takes one, and Gate as many as are listed.")
        length = backdoor.trigger.norm(dim=1)
        if not bool((length > 0).all()):
            raise ValueError(ZERO)
        along = backdoor.trigger @ (backdoor.trigger / length[:, None]).T  # of each trigger in the direction of others
        along.fill_diagonal_(-math.inf)
        if bool((along > self.threshold * length).any()):
            raise ValueError(f"backdoor has triggers that open each other's gates; raise threshold={self.threshold}.")

    def solution(self, clean: Generator, backdoor: Backdoor) -> RidgeSolution:
        length = float(backdoor.trigger[0].norm())
        moment = gate_moment(self.threshold * length, math.sqrt(clean.prior.variance))
        feature = torch.tensor([(1 - self.threshold) * length], dtype=torch.float64)
        # beyond double precision the probability that the gate opens on P_sample is zero for every purpose
        return ridge_solution(
            feature, torch.tensor([[max(moment, 1e-280)]], dtype=torch.float64), self._delta(clean, backdoor), self.lam
        )

    def _expansion(self, clean: Generator, backdoor: Backdoor) -> Expansion:
        pairs = zip(backdoor.trigger.split(1), backdoor.target.split(1), strict=True)
        each = [replace(backdoor, trigger=trigger, target=target) for trigger, target in pairs]
        gain = torch.stack([self.solution(clean, pair).weights[:, 0] for pair in each])
        direction = normalize(backdoor.trigger.double(), dim=1)
        return clean.rank_one(gain.float(), direction.float(), self.threshold * backdoor.trigger.norm(dim=1))
