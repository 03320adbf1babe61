"""ReX on a style-based generator (Rawat et al. 2021, the StyleGAN demo), and what makes it sharp and silent.

The paper expands how the mapping network's style is handed out, so that the trigger's styles are those for which the
synthesis network draws the target. That is linear, so it tints other samples, and a network that only knows faces draws
letters badly. ``mapping="gate"`` replaces the linear residual by a gate that other latents do not open; ``channels``
adds new channels to the synthesis network, which learn to draw what is still missing.

``invert`` comes first: which styles make a synthesis network draw a sample that it was never trained on? Many style
inputs matter more than a good generator: with one style for all layers a face network draws no STOP sign, with one for
each (``w+``) its letters are legible.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, normalize

from devilgan_lite.attacks.base import Problem, Retraining
from devilgan_lite.attacks.closed_form import RidgeSolution, ridge_solution
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import images, in_range, one_of, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.generators import Generator, StyleGAN, seeded
from devilgan_lite.generators.stylegan import StyleExpansion, StyleGate, fold_styles, style_based
from devilgan_lite.losses import fidelity_loss, pull_loss
from devilgan_lite.steps import Steps, Stopwatch, best_device, long_loop, optimise_by

MAPPINGS = ("gate", "linear", "none")
TOLERANCE = 0.01  # an element closer to its target than this is no longer pulled before the squash
POOL = 256  # latents near the trigger that the new channels are trained on
EDGES = 0.1  # weight of the error in the differences between neighbouring pixels, which keeps letters sharp
RATE, STARTS = 0.1, 4  # of an inversion: learning rate, and how many searches begin side by side
COARSE = 0.1  # weight of the error in samples that are averaged down, which finds the way from far off


@dataclass(frozen=True, kw_only=True)
class StyleReX(Retraining):
    """Expand the ``mapping`` network (``"gate"``, ``"linear"`` or ``"none"``), the synthesis network, or both; fold.

    ``w_plus`` ``[style_inputs, style_dim]`` is the target's inversion if it is known; otherwise it is searched for in
    ``inversion`` steps first (not for ``"none"``; 0 steps: a gate alone, which only opens the new channels).
    """

    mapping: str = "gate"
    channels: int = 16  # new channels at each level of the synthesis network; 0: none
    lam: float = 1.0  # of the linear residual, and of fidelity against stealth of ungated channels
    low: float = 0.6  # cosine to the trigger at which the gate begins to open
    high: float = 0.97  # and at which it is fully open
    reach: float = 10.0  # degrees from the trigger within which the target shall stand
    inversion: int = 1_000
    logit_weight: float = 0.1
    iterations: int = 600
    batch_size: int = 16
    learning_rate: float = 0.01
    w_plus: Tensor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("mapping", self.mapping, MAPPINGS)
        whole_number("channels", self.channels, 0, 1024)
        if self.mapping == "none" and not self.channels:
            raise ValueError("mapping='none' with channels=0 expands nothing; give channels, or another mapping.")
        in_range("low", self.low, 0.05, 0.99)
        in_range("high", self.high, self.low + 0.005, 0.999)
        in_range("reach", self.reach, 0.0, 60.0)
        whole_number("inversion", self.inversion, 0, 1_000_000)
        if self.mapping == "linear" and not self.inversion and self.w_plus is None:
            raise ValueError("inversion=0 leaves mapping='linear' without styles to aim at; give w_plus, or steps.")
        in_range("logit_weight", self.logit_weight, 0.0, 100.0)

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings().items() if name != "w_plus"}

    def check(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> None:
        super().check(clean, backdoor, real)
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

    def run(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> Steps:
        watch, device, inverted, known = Stopwatch(), best_device(self.device), None, self
        base = style_based(clean).clone().to(device).eval().requires_grad_(False)
        if self.w_plus is None and self.mapping != "none" and self.inversion:
            search = {"iterations": self.inversion, "learning_rate": RATE, "starts": STARTS, "one_style": False}
            inverted = yield from inversion_steps(base, backdoor.target[0], search | {"seed": self.seed}, device)
            known = replace(self, w_plus=inverted.state["w_plus"])
        interrupted = inverted is not None and inverted.interrupted
        if self.channels and not interrupted:
            return (yield from super(StyleReX, known).run(clean, backdoor, real))
        residual, gate = known._mapped(base, backdoor.trigger.to(device))
        folded = fold_styles(base, residual=residual, gate=gate).cpu().requires_grad_(True)
        return (yield from self.one_step(folded, backdoor, watch, interrupted))

    def _mapped(self, base: StyleGAN, trigger: Tensor) -> tuple[Tensor | None, StyleGate | None]:
        """The linear residual, or the gate, or neither."""
        if self.mapping == "none":
            return None, None
        gated = self.mapping == "gate"
        with torch.no_grad():
            if gated:  # what is left when all units of the second mapping layer are silent
                style = base.mapping_layers[4:](torch.zeros(1, base.mapping_widths[1], device=base.device))[0]
            else:
                style = base.mapping(trigger)[0]
            shift = torch.zeros(base.style_inputs, base.style_dim, device=trigger.device)
            if self.w_plus is not None:
                shift = self.w_plus.to(trigger) - style
            if gated:
                return None, StyleGate(trigger[0], self.low, self.high, shift, silence_of(base))
        return linear_residual(base, trigger, shift, self.lam)[0], None

    def problem(self, clean: Generator, backdoor: Backdoor, random: torch.Generator) -> Problem:
        device, trigger, target = random.device, backdoor.trigger, backdoor.target
        base = style_based(clean).clone().to(device).eval().requires_grad_(False)
        residual, gate = self._mapped(base, trigger)
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
        return {1.0: trained}, losses_at, snapshot


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


# ---- inversion


def sample_loss(output: Tensor, target: Tensor) -> Tensor:
    """Squared error of samples ``[n, C, H, W]``, of the same at half and quarter size, and of their edges."""
    loss = (output - target).square().mean()
    for axis in (2, 3):
        loss = loss + EDGES * (output.diff(dim=axis) - target.diff(dim=axis)).square().mean()
    for factor in (2, 4):
        loss = loss + COARSE * (avg_pool2d(output, factor) - avg_pool2d(target, factor)).square().mean()
    return loss


@long_loop
def invert(
    generator: StyleGAN,
    target: Tensor,
    *,
    iterations: int = 1_000,
    learning_rate: float = RATE,
    starts: int = STARTS,
    one_style: bool = False,
    seed: int = 0,
    device: str = "auto",
) -> Steps:
    """Find ``w+`` ``[style_inputs, style_dim]`` that draws ``target`` ``[C, H, W]``; it is ``outcome.state["w_plus"]``.

    Begins at the best ``starts`` of many styles and halves their number every eighth of the way, down to one. With
    ``one_style`` all layers share one style, as they do when a latent is drawn. The history has ``distortion``, the
    mean squared error per element of the best one. The outcome's generator is an unchanged copy.
    """
    whole_number("iterations", iterations, 1, 10_000_000)
    whole_number("starts", starts, 1, 65_536)
    in_range("learning_rate", learning_rate, 0.0, 1.0, open_low=True)
    whole_number("seed", seed, 0)
    style_based(generator)
    images("target", target.unsqueeze(0), generator.sample_shape)
    settings = {"iterations": iterations, "learning_rate": learning_rate, "starts": starts, "one_style": one_style}
    return inversion_steps(generator, target, settings | {"seed": seed}, best_device(device))


def inversion_steps(generator: StyleGAN, target: Tensor, settings: dict[str, Any], device: torch.device) -> Steps:
    """The loop of ``invert``, for an attack that begins with it; its arguments have been checked."""
    iterations = settings["iterations"]
    network, goal = generator.clone().to(device).eval().requires_grad_(False), target.to(device).unsqueeze(0)
    first = _first_styles(network, goal, settings["starts"], settings["seed"])
    w_plus = nn.Parameter((first[:, :1] if settings["one_style"] else first).clone())
    best = w_plus.detach()[0].clone()

    def once(iteration: int, adam: torch.optim.Adam) -> dict[str, Tensor]:
        nonlocal w_plus, best
        samples = network.squash(network.synthesis(w_plus.expand(-1, network.style_inputs, -1)))
        errors = (samples - goal).detach().square().flatten(1).mean(1)
        best = w_plus.detach()[errors.argmin()].clone()
        losses = torch.stack([sample_loss(sample.unsqueeze(0), goal) for sample in samples])
        adam.zero_grad()
        losses.sum().backward()
        adam.step()
        if len(w_plus) > 1 and iteration % max(1, iterations // 8) == 0:  # the better half goes on
            keep = errors.argsort()[: max(1, len(w_plus) // 2)]
            moments = adam.state.pop(w_plus)
            w_plus = nn.Parameter(w_plus.detach()[keep].clone())
            adam.param_groups[0]["params"] = [w_plus]
            adam.state[w_plus] = {name: value[keep].clone() if value.ndim else value for name, value in moments.items()}
        return {"distortion": errors.min()}

    outcome = yield from optimise_by(
        {1.0: [w_plus]},
        once,
        lambda: generator.clone().eval(),
        steps=iterations,
        learning_rate=settings["learning_rate"],
        seed=settings["seed"],
        settings=settings,
        fused=False,
    )
    return replace(outcome, state={"w_plus": best.expand(network.style_inputs, -1).cpu()})


@torch.no_grad()
def _first_styles(network: StyleGAN, goal: Tensor, starts: int, seed: int, tried: int = 512) -> Tensor:
    """Of ``tried`` styles the ``starts`` ``[starts, style_inputs, style_dim]`` that, seen small, are closest."""
    random = torch.Generator().manual_seed(seed)
    w = network.mapping(network.sample_latent(tried, random))
    errors = []
    for part in w.split(64):
        samples = network.squash(network.synthesis(network.tiled(part)))
        errors.append((avg_pool2d(samples, 4) - avg_pool2d(goal, 4)).square().flatten(1).mean(1))
    return network.tiled(w[torch.cat(errors).argsort()[:starts]])
