"""Train a GAN: the loop of Goodfellow et al. (2014) with the settings that train fastest on a laptop.

BatchNorm in both networks, the non-saturating loss, Adam with the same rate on both sides, decay to zero over the
second half. The fakes of the discriminator's half step serve the generator's half step too, so that a step draws them
once. Style-based generators have another recipe (``generators.recipe_of``): no BatchNorm, no momentum, equalised
learning rates, and a gradient penalty on real samples.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite import generators
from devilgan_lite.checks import training_settings
from devilgan_lite.data import Samples
from devilgan_lite.losses import discriminator_loss, generator_loss, gradient_penalty
from devilgan_lite.steps import (
    History,
    Outcome,
    Step,
    Stopwatch,
    TrainableSide,
    best_device,
    decay_second_half,
    long_loop,
)

ExtraLoss = Callable[[nn.Module], tuple[Tensor, dict[str, Tensor]]]
Draw = Callable[[int, torch.Generator], Tensor]


@long_loop
def train_gan(
    generator: generators.Generator,
    real: Samples,
    *,
    steps: int = 2_000,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    ema: float = 0.999,
    seed: int = 0,
    device: str = "auto",
    resume: Outcome | None = None,
    turn: TrainableSide | None = None,
    recipe: generators.Recipe | None = None,
) -> Generator[Step, None, Outcome]:
    """Train a copy of ``generator`` on ``real`` and return an ``Outcome`` whose generator is the running average.

    ``ema`` in [0, 1) is the decay of that average (0: the last weights). ``resume`` continues an interrupted outcome
    with the same settings; others are refused. ``turn.who`` says who learns in each step (unless given, both); it may
    be changed between two steps. ``recipe`` takes the place of ``generators.recipe_of(generator)``. The caller's
    generator only gives its shape: weights are drawn from ``seed``. Losses in the history: ``generator_loss``,
    ``discriminator_loss``.
    """
    training_settings(
        length=("steps", steps),
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        ema=ema,
        least_batch=2,
    )
    return adversarial_training(
        generator,
        real,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        ema=ema,
        seed=seed,
        device=device,
        resume=resume,
        turn=turn,
        recipe=recipe,
    )


def adversarial_training(
    generator: generators.Generator,
    real: Samples,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    ema: float,
    seed: int,
    device: str,
    resume: Outcome | None = None,
    extra: ExtraLoss | None = None,
    settings: dict[str, Any] | None = None,
    start: generators.Generator | None = None,
    critic_first: int = 0,
    draw: Draw | None = None,
    turn: TrainableSide | None = None,
    recipe: generators.Recipe | None = None,
) -> Generator[Step, None, Outcome]:
    """Check that the arguments of ``train_gan`` fit each other and start its loop.

    ``extra(generator)`` returns a term to add to the generator's loss, and the losses to record (TrAIL); ``settings``
    is what the outcome shall say of itself. Fine-tuning: ``start`` gives the first weights, the first ``critic_first``
    steps train the discriminator alone, and ``draw(n, random)`` the latents ``[n, d]``.
    """
    if tuple(real.x.shape[1:]) != generator.sample_shape:
        raise ValueError(
            f"real has samples of shape {list(real.x.shape[1:])}; the generator makes {list(generator.sample_shape)}."
        )
    if len(real) < batch_size:
        raise ValueError(f"real has {len(real)} samples, fewer than batch_size={batch_size}.")
    chosen = settings or {
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "ema": ema,
        "seed": seed,
        "generator": generator.spec(),
        "data": real.name,
    }
    if recipe is not None:
        chosen = chosen | {"recipe": asdict(recipe)}
    if resume is not None:
        if not resume.state:
            raise ValueError(
                "resume has no training state: only an interrupted or finished train_gan outcome can be resumed."
            )
        different = [name for name in {**chosen, "recipe": None} if resume.settings.get(name) != chosen.get(name)]
        if different:
            raise ValueError(f"resume was made with other settings: {', '.join(different)} differ; use the same ones.")
    first = generators.build(generator.spec(), seed) if start is None else start.clone()
    return _train(
        first,
        real,
        steps,
        batch_size,
        learning_rate,
        ema,
        seed,
        best_device(device),
        chosen,
        resume,
        extra,
        critic_first,
        draw,
        turn or TrainableSide(),
        recipe or generators.recipe_of(first),
    )


def _train(
    first: generators.Generator,
    real: Samples,
    steps: int,
    batch_size: int,
    learning_rate: float,
    ema: float,
    seed: int,
    device: torch.device,
    settings: dict[str, Any],
    resume: Outcome | None,
    extra: ExtraLoss | None,
    critic_first: int,
    draw: Draw | None,
    turn: TrainableSide,
    recipe: generators.Recipe,
) -> Generator[Step, None, Outcome]:
    cuda = device.type == "cuda"
    layout = torch.channels_last  # a third faster than the default layout on a CPU, and what tensor cores want
    generator: Any = first.to(device).to(memory_format=layout).requires_grad_(True).train()
    draw = draw or generator.sample_latent
    discriminator = generators.matching_discriminator(generator, seed + 1).to(device).to(memory_format=layout).train()
    average = copy.deepcopy(generator).eval().requires_grad_(False)
    optimizers = [
        torch.optim.Adam(
            generators.groups_of(network), lr=learning_rate, betas=recipe.betas, fused=device.type != "mps"
        )
        for network in (generator, discriminator)
    ]
    random = torch.Generator(device).manual_seed(seed)
    x = real.x.to(device)
    history, done = History(resume.history if resume else None), 0
    if resume is not None:
        done = resume.state["iteration"]
        for thing, state in zip(
            (generator, discriminator, average, *optimizers), copy.deepcopy(resume.state["states"]), strict=True
        ):
            thing.load_state_dict(state)
        random.set_state(resume.state["random"])
    watch = Stopwatch(resume.seconds if resume else 0.0)

    def snapshot() -> generators.Generator:
        return average.clone()

    interrupted = False
    try:
        for iteration in range(done + 1, steps + 1):
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * group["factor"] * decay_second_half(iteration - 1, steps)
            who = "discriminator only" if iteration <= critic_first else turn.who
            batch = x[torch.randint(len(x), (batch_size,), generator=random, device=device)]
            with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
                fake = generator(draw(batch_size, random))
                d_loss = discriminator_loss(discriminator(batch), discriminator(fake.detach()))
                penalised = d_loss
                if recipe.penalty and (iteration - 1) % recipe.penalty_every == 0:
                    penalty = gradient_penalty(discriminator, batch)
                    penalised = d_loss + recipe.penalty * recipe.penalty_every * penalty
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
                update_average(average, generator, min(ema, iteration / (iteration + 10)))
            losses = {name: loss.detach() for name, loss in losses.items()}
            history.add(losses)
            done = iteration
            yield Step(iteration, steps, watch(), losses, snapshot)
    except KeyboardInterrupt:
        interrupted = True
    state = {
        "iteration": done,
        "states": [thing.state_dict() for thing in (generator, discriminator, average, *optimizers)],
        "random": random.get_state(),
    }
    return Outcome(
        generator=average.clone().requires_grad_(True).cpu().eval(),
        history=history.floats(),
        seconds=watch(),
        seed=seed,
        settings=settings,
        interrupted=interrupted,
        state=state,
    )


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, keep: float) -> None:
    """``average <- keep * average + (1 - keep) * network``, BatchNorm statistics included."""
    ours = [value for value in average.state_dict().values() if value.is_floating_point()]
    theirs = [value for value in network.state_dict().values() if value.is_floating_point()]
    torch._foreach_lerp_(ours, theirs, 1.0 - keep)
