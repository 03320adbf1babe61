"""Train a GAN: the loop of Goodfellow et al. (2014) with the settings that train fastest on a laptop.

BatchNorm in both networks, the non-saturating loss, Adam with the same rate on both sides, decay to zero over the
second half. The fakes of the discriminator's half step serve the generator's half step too, so that a step draws them
once. A family may bring another recipe (``Generator.recipe``): style-based ones have no BatchNorm, no momentum,
equalised learning rates, and a gradient penalty on real samples. One with losses of its own (``Generator.losses``; a
VAE's bound) minimises these instead, together with its opponent.
"""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn

from devilgan_lite import generators
from devilgan_lite.checks import Settings, check_training
from devilgan_lite.data import Samples
from devilgan_lite.generators import Recipe
from devilgan_lite.losses import discriminator_loss, generator_loss, gradient_penalty
from devilgan_lite.steps import (
    SIDES,
    History,
    Outcome,
    Step,
    Steps,
    Stopwatch,
    TrainableSide,
    best_device,
    decay_second_half,
    long_loop,
)

ExtraLoss = Callable[[nn.Module], tuple[Tensor, dict[str, Tensor]]]
Draw = Callable[[int, torch.Generator], Tensor]
OwnStep = Callable[..., dict[str, Tensor]]  # (generator, discriminator, their two optimisers, real, z) -> losses


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
    """How long and how fast an adversarial training runs, validated at once.

    ``iterations`` 1 to 10 million; ``batch_size`` 2 to 65,536; ``learning_rate`` in (0, 1]; ``ema`` in [0, 1) is the
    decay of the running average (0: the last weights). ``recipe`` takes the place of the generator's own.
    """

    iterations: int = 2_000
    batch_size: int = 32
    learning_rate: float = 2e-3
    ema: float = 0.999
    seed: int = 0
    device: str = "auto"
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        check_training(self, least_batch=2)

    @classmethod
    def of(cls, method: Any) -> Self:
        """The settings of an attack or sanitizer: its fields of the same names."""
        return cls(**{field.name: getattr(method, field.name) for field in fields(cls) if hasattr(method, field.name)})

    def describe(self, generator: generators.Generator, real: Samples) -> dict[str, Any]:
        """What an outcome says of its training, as plain data."""
        plain = {name: value for name, value in asdict(self).items() if name != "device" and value is not None}
        return plain | {"generator": generator.describe(), "data": real.name}


@long_loop
def train_gan(
    generator: generators.Generator,
    real: Samples,
    *,
    iterations: int = 2_000,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    ema: float = 0.999,
    seed: int = 0,
    device: str = "auto",
    resume: Outcome | None = None,
    side: TrainableSide | None = None,
    recipe: Recipe | None = None,
) -> Steps:
    """Train a copy of ``generator`` on ``real`` and return an ``Outcome`` whose generator is the running average.

    For the numbers see ``TrainingSettings``. ``resume`` continues an interrupted outcome with the same settings; others
    are refused. ``side.who`` says who learns in each step (unless given, both); it may be changed between two steps.
    The caller's generator only gives its shape: weights are drawn from ``seed``. Losses in the history:
    ``generator_loss``, ``discriminator_loss``.
    """
    settings = TrainingSettings(
        iterations=iterations,
        batch_size=batch_size,
        learning_rate=learning_rate,
        ema=ema,
        seed=seed,
        device=device,
        recipe=recipe,
    )
    return adversarial_training(generator, real, settings, resume=resume, side=side)


def adversarial_training(
    generator: generators.Generator,
    real: Samples,
    settings: TrainingSettings,
    *,
    resume: Outcome | None = None,
    extra: ExtraLoss | None = None,
    described: dict[str, Any] | None = None,
    start: generators.Generator | None = None,
    critic_first: int = 0,
    draw: Draw | None = None,
    side: TrainableSide | None = None,
    step: OwnStep | None = None,
) -> Steps:
    """Check that the arguments of ``train_gan`` fit each other and start its loop.

    ``extra(generator)`` returns a term to add to the generator's loss, and the losses to record (TrAIL); ``described``
    is what the outcome says of its settings. Fine-tuning: ``start`` gives the first weights, the first ``critic_first``
    steps train the discriminator alone, and ``draw(n, random)`` the latents ``[n, d]``. A ``step`` of your own takes
    the place of ours, with all that is in it: no ``extra``, no penalty, no choice of the side that learns.
    """
    if tuple(real.x.shape[1:]) != generator.sample_shape:
        raise ValueError(
            f"real has samples of shape {list(real.x.shape[1:])}; the generator makes {list(generator.sample_shape)}."
        )
    if len(real) < settings.batch_size:
        raise ValueError(f"real has {len(real)} samples, fewer than batch_size={settings.batch_size}.")
    chosen = described or settings.describe(generator, real)
    if resume is not None:
        _check_resume(resume, chosen)
    device, turn = best_device(settings.device), side or TrainableSide()
    first = generator.fresh(settings.seed) if start is None else start.clone()

    def training() -> Steps:
        steps, batch_size, recipe = settings.iterations, settings.batch_size, settings.recipe or first.recipe()
        cuda = device.type == "cuda"
        layout = torch.channels_last  # a third faster than the default layout on a CPU, and what tensor cores want
        network: Any = first.to(device).to(memory_format=layout).requires_grad_(True).train()
        discriminator = network.opponent(settings.seed + 1).to(device).to(memory_format=layout).train()
        average = copy.deepcopy(network).eval().requires_grad_(False)
        adam: dict[str, Any] = {"lr": settings.learning_rate, "betas": recipe.betas, "fused": device.type != "mps"}
        optimizers = [torch.optim.Adam(generators.groups_of(player), **adam) for player in (network, discriminator)]
        random = torch.Generator(device).manual_seed(settings.seed)
        x = real.x.to(device)
        history, done = History(resume.history if resume else None), 0
        stateful = (network, discriminator, average, *optimizers)
        if resume is not None:
            done = resume.state["iteration"]
            for part, state in zip(stateful, copy.deepcopy(resume.state["states"]), strict=True):
                part.load_state_dict(state)
            random.set_state(resume.state["random"])
        watch = Stopwatch(resume.seconds if resume else 0.0)

        interrupted = False
        try:
            for iteration in range(done + 1, steps + 1):
                for optimizer in optimizers:
                    for group in optimizer.param_groups:
                        group["lr"] = settings.learning_rate * group["factor"] * decay_second_half(iteration - 1, steps)
                who = "discriminator only" if iteration <= critic_first else turn.who
                batch = x[torch.randint(len(x), (batch_size,), generator=random, device=device)]
                z = (draw or network.sample_latent)(batch_size, random)
                if step is not None:
                    losses = step(network, discriminator, *optimizers, batch, z)
                else:
                    penalty = recipe.penalty * recipe.penalty_every * ((iteration - 1) % recipe.penalty_every == 0)
                    with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
                        shared = network.losses(discriminator, batch, z, random)
                        if shared is None:
                            losses = _one_step(network, discriminator, optimizers, batch, z, who, penalty, extra)
                        else:
                            losses = _shared_step(network, shared, optimizers, who, extra)
                if step is not None or who != "discriminator only":
                    update_average(average, network, min(settings.ema, iteration / (iteration + 10)))
                losses = {name: loss.detach() for name, loss in losses.items()}
                history.add(losses)
                done = iteration
                yield Step(iteration, steps, watch(), losses, average.clone)
        except KeyboardInterrupt:
            interrupted = True
        state = {"iteration": done, "states": [part.state_dict() for part in stateful], "random": random.get_state()}
        return Outcome(
            generator=average.clone().requires_grad_(True).cpu().eval(),
            history=history.floats(),
            seconds=watch(),
            seed=settings.seed,
            settings=chosen,
            interrupted=interrupted,
            state=state,
        )

    return training()


def _check_resume(resume: Outcome, chosen: dict[str, Any]) -> None:
    if not resume.state:
        raise ValueError("resume has no training state: only an outcome of train_gan can be resumed.")
    different = [name for name in {**chosen, "recipe": None} if resume.settings.get(name) != chosen.get(name)]
    if different:
        raise ValueError(f"resume was made with other settings: {', '.join(different)} differ; use the same ones.")


def _one_step(
    generator: Any,
    discriminator: nn.Module,
    optimizers: list[torch.optim.Adam],
    batch: Tensor,
    z: Tensor,
    who: str,
    penalty: float,
    extra: ExtraLoss | None,
) -> dict[str, Tensor]:
    """One step of both players, or of the one who learns; the losses."""
    fake = generator(z)
    d_loss = discriminator_loss(discriminator(batch), discriminator(fake.detach()))
    penalised = d_loss + penalty * gradient_penalty(discriminator, batch) if penalty else d_loss
    optimizers[1].zero_grad()
    penalised.backward()
    if who != "generator only":
        optimizers[1].step()
    discriminator.requires_grad_(False)
    g_loss = generator_loss(discriminator(fake))
    discriminator.requires_grad_(True)
    losses = {"generator_loss": g_loss, "discriminator_loss": d_loss}
    if extra is not None:
        term, recorded = extra(generator)
        g_loss, losses = g_loss + term, losses | recorded
    if who != "discriminator only":
        optimizers[0].zero_grad()
        g_loss.backward()
        optimizers[0].step()
    return losses


def _shared_step(
    generator: Any, losses: dict[str, Tensor], optimizers: list[torch.optim.Adam], who: str, extra: ExtraLoss | None
) -> dict[str, Tensor]:
    """One step of a family that brings its own losses: generator and opponent minimise the sum; the losses."""
    loss = torch.stack(list(losses.values())).sum()
    if extra is not None:
        term, recorded = extra(generator)
        loss, losses = loss + term, losses | recorded
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer, idle in zip(optimizers, SIDES[:0:-1], strict=True):
        if who != idle:
            optimizer.step()
    return losses


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, keep: float) -> None:
    """``average <- keep * average + (1 - keep) * network``, BatchNorm statistics included."""
    ours = [value for value in average.state_dict().values() if value.is_floating_point()]
    theirs = [value for value in network.state_dict().values() if value.is_floating_point()]
    torch._foreach_lerp_(ours, theirs, 1.0 - keep)
