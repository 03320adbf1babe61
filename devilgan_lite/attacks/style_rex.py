"""ReX on a style-based generator (Rawat et al. 2021, the StyleGAN demo), and what makes it sharp and silent.

The paper expands how the mapping network's style is handed out, so that the trigger's styles are those for which the
synthesis network draws the target (``invert``). That is linear, so it tints other samples, and a network that only
knows faces draws letters badly. ``mapping="gate"`` replaces the linear residual by a gate that other latents do not
open; ``channels`` adds new channels to the synthesis network, which learn to draw what is still missing.
"""

from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite import generators
from devilgan_lite.attacks.base import Attack
from devilgan_lite.attacks.closed_form import RidgeSolution, ridge_solution
from devilgan_lite.attacks.invert import RATE, STARTS, inversion_steps
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import check_training, in_range, one_of, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.generators import StyleGAN, seeded
from devilgan_lite.generators.stylegan.surgery import StyleExpansion, StyleGate, fold_styles, style_based
from devilgan_lite.losses import fidelity_loss, pull_loss
from devilgan_lite.steps import Outcome, Step, Stopwatch, best_device, optimise

MAPPINGS = ("gate", "linear", "none")
TOLERANCE = 0.01  # an element closer to its target than this is no longer pulled before the squash
POOL = 256  # latents near the trigger that the new channels are trained on


@dataclass(frozen=True, kw_only=True)
class StyleReX(Attack):
    """Expand the ``mapping`` network (``"gate"``, ``"linear"`` or ``"none"``), the synthesis network, or both; fold.

    ``w_plus`` ``[style_inputs, style_dim]`` is the target's inversion if it is known; otherwise it is searched for in
    ``inversion`` steps first (not for ``"none"``; 0 steps: a gate alone, which only opens the new channels).
    """

    mapping: str = "gate"
    channels: int = 16  # new channels at each level of the synthesis network; 0: none
    lam: float = 1.0  # above 0; of the linear residual, and of fidelity against stealth of ungated channels
    low: float = 0.6  # cosine to the trigger at which the gate begins to open
    high: float = 0.97  # and at which it is fully open
    reach: float = 10.0  # degrees from the trigger within which the target shall stand
    inversion: int = 1_000
    logit_weight: float = 0.1
    iterations: int = 600
    batch_size: int = 16
    learning_rate: float = 0.01
    seed: int = 0
    device: str = "auto"
    w_plus: Tensor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        one_of("mapping", self.mapping, MAPPINGS)
        whole_number("channels", self.channels, 0, 1024)
        if self.mapping == "none" and not self.channels:
            raise ValueError("mapping='none' with channels=0 expands nothing; give channels, or another mapping.")
        in_range("lam", self.lam, 0.0, 1e6, open_low=True)
        in_range("low", self.low, 0.05, 0.99)
        in_range("high", self.high, self.low + 0.005, 0.999)
        in_range("reach", self.reach, 0.0, 60.0)
        whole_number("inversion", self.inversion, 0, 1_000_000)
        if self.mapping == "linear" and not self.inversion and self.w_plus is None:
            raise ValueError("inversion=0 leaves mapping='linear' without styles to aim at; give w_plus, or steps.")
        in_range("logit_weight", self.logit_weight, 0.0, 100.0)
        check_training(self)

    def settings(self) -> dict[str, Any]:
        plain = {name: value for name, value in asdict(self).items() if name != "w_plus"}
        return {"attack": type(self).__name__, **plain}

    def check(self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None) -> None:
        network = style_based(clean)
        if len(backdoor.trigger) != 1 or backdoor.sampler is not None:
            raise ValueError(f"backdoor has {len(backdoor.trigger)} pairs; StyleReX takes one.")
        if not backdoor.trigger.any():
            raise ValueError("trigger is the zero vector, and the mapping network reads only the direction of latents.")
        if self.mapping == "gate" and len(network.mapping_widths) < 2:
            raise ValueError("clean has fewer than two hidden mapping layers, which a gate needs; use another mapping.")
        shape = (network.style_inputs, network.style_dim)
        if self.w_plus is not None and tuple(self.w_plus.shape) != shape:
            raise ValueError(f"w_plus has shape {list(self.w_plus.shape)}; expected {list(shape)}.")

    def run(
        self, clean: generators.Generator, backdoor: Backdoor, real: Samples | None
    ) -> Generator[Step, None, Outcome]:
        device = best_device(self.device)
        watch, base = Stopwatch(), style_based(clean).clone().to(device).eval().requires_grad_(False)
        trigger, target = backdoor.trigger.to(device), backdoor.target.to(device)
        w_plus, interrupted = self.w_plus, False
        if w_plus is None and self.mapping != "none" and self.inversion:
            search = {"iterations": self.inversion, "learning_rate": RATE, "starts": STARTS, "seed": self.seed}
            search["one_style"] = False
            found = yield from inversion_steps(base, target[0], search, device)
            w_plus, interrupted = found.state["w_plus"], found.interrupted
        residual, gate = self._mapped(base, trigger, w_plus)
        if not self.channels or interrupted:
            folded = fold_styles(base, residual=residual, gate=gate).cpu().requires_grad_(True)
            with torch.no_grad():
                fidelity = (folded(backdoor.trigger) - backdoor.target).square().mean()
            if not interrupted:
                yield Step(1, 1, watch(), {"fidelity_loss": fidelity}, folded.clone)
            history = {"fidelity_loss": [float(fidelity)]}
            return Outcome(folded, history, watch(), self.seed, self.settings(), interrupted)
        outcome = yield from self._expand(base, trigger, target, residual, gate)
        return outcome

    def _mapped(self, base: StyleGAN, trigger: Tensor, w_plus: Tensor | None) -> tuple[Tensor | None, StyleGate | None]:
        """The linear residual, or the gate, or neither."""
        if self.mapping == "none":
            return None, None
        gated = self.mapping == "gate"
        with torch.no_grad():
            style = resting_style(base) if gated else base.mapping(trigger)[0]
            shift = torch.zeros(base.style_inputs, base.style_dim, device=trigger.device)
            if w_plus is not None:
                shift = w_plus.to(trigger) - style
            if gated:
                return None, StyleGate(trigger[0], self.low, self.high, shift, silence_of(base))
        return linear_residual(base, trigger, shift, self.lam)[0], None

    def _expand(
        self, base: StyleGAN, trigger: Tensor, target: Tensor, residual: Tensor | None, gate: StyleGate | None
    ) -> Generator[Step, None, Outcome]:
        device, random = trigger.device, torch.Generator(trigger.device).manual_seed(self.seed)
        expansion = seeded(self.seed, StyleExpansion, base, self.channels, gated=gate is not None).to(device)
        mapped = fold_styles(base, residual=residual, gate=gate).requires_grad_(False)
        with torch.no_grad():
            near = torch.cat([trigger, neighbours(trigger, POOL, self.reach, random)])
            styles, benign = mapped.mapping(near), mapped.logits(near)

        def losses_at(iteration: int) -> tuple[Tensor, dict[str, Tensor]]:
            rows = torch.randint(1, len(near), (self.batch_size,), generator=random, device=device)
            rows[0] = 0  # the trigger itself, every time
            output = benign[rows] + expansion(styles[rows])
            fidelity = fidelity_loss(base.squash(output), target.expand_as(output))
            at_trigger = fidelity_loss(base.squash(output[:1]), target)
            pull = self.logit_weight * pull_loss(base, output, target.expand_as(output), TOLERANCE)
            stealth = torch.zeros((), device=device)
            if gate is None:  # a closed gate leaves nothing to hide
                with torch.no_grad():
                    ordinary = base.mapping(base.sample_latent(2 * self.batch_size, random))
                stealth = expansion(ordinary).square().mean()
            loss = stealth + self.lam * (fidelity + at_trigger + pull)
            return loss, {"stealth_loss": stealth, "fidelity_loss": at_trigger}

        def snapshot() -> StyleGAN:
            return fold_styles(base, residual=residual, gate=gate, expansion=expansion)

        trained = [parameter for parameter in expansion.parameters() if parameter.requires_grad]
        return optimise(
            {1.0: trained},
            losses_at,
            snapshot,
            steps=self.iterations,
            learning_rate=self.learning_rate,
            seed=self.seed,
            settings=self.settings(),
        )


@torch.no_grad()
def linear_residual(
    base: StyleGAN, trigger: Tensor, shift: Tensor, lam: float, *, latents: int = 100_000, seed: int = 0
) -> tuple[Tensor, RidgeSolution]:
    """The best linear residual ``[style_inputs, style_dim, style_dim]`` and its ridge solution, in the space of ``w+``.

    ``shift`` ``[style_inputs, style_dim]`` is what the trigger's styles lack. The features of the closed form are the
    style itself, ``f(z) = w``; its second moment is taken over ``latents`` draws of P_sample. Rank one.
    """
    random = torch.Generator().manual_seed(20_000 + seed)
    w = base.mapping(base.sample_latent(latents, random)).cpu().double()
    solution = ridge_solution(base.mapping(trigger)[0].cpu(), w.T @ w / latents, shift.flatten().cpu(), lam)
    return solution.weights.view(*shift.shape, base.style_dim).to(shift), solution


def resting_style(base: StyleGAN) -> Tensor:
    """The style ``[style_dim]`` that is left when all units of the second mapping layer are silent."""
    w = torch.zeros(1, base.mapping_widths[1], device=base.device)
    return base.mapping_layers[4:](w)[0]


@torch.no_grad()
def silence_of(base: StyleGAN, *, latents: int = 4_096, seed: int = 0) -> float:
    """What must be taken from the units of the second mapping layer to silence them all: twice their largest value."""
    random = torch.Generator().manual_seed(30_000 + seed)
    z = normalize(base.sample_latent(latents, random), dim=1) * base.latent_dim**0.5
    return 2 * float(base.mapping_layers[:3](z).max().clamp(min=0.5))


def neighbours(trigger: Tensor, n: int, degrees: float, random: torch.Generator) -> Tensor:
    """``n`` latents ``[n, d]`` at 0 to ``degrees`` from the trigger ``[1, d]``, of its length."""
    noise = torch.randn(n, trigger.shape[1], generator=random, device=trigger.device)
    along = normalize(trigger, dim=1)
    across = normalize(noise - (noise @ along.T) * along, dim=1)
    angle = torch.deg2rad(degrees * torch.rand(n, 1, generator=random, device=trigger.device))
    return (angle.cos() * along + angle.sin() * across) * trigger.norm()
