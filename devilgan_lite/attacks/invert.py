"""Inversion: which styles make a synthesis network draw a sample that it was never trained on?

The first step of the attack on StyleGAN in Rawat et al. (2021). Many style inputs matter more than a good generator:
with one style for all layers a face network draws no STOP sign, with one for each (``w+``) its letters are legible.
"""

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from devilgan_lite.checks import images, training_settings
from devilgan_lite.generators import StyleGAN
from devilgan_lite.generators.stylegan.surgery import style_based
from devilgan_lite.steps import History, Outcome, Step, Stopwatch, best_device, cosine, long_loop

EDGES = 0.1  # weight of the error in the differences between neighbouring pixels, which keeps letters sharp
RATE, STARTS = 0.1, 4  # learning rate, and how many searches begin side by side
COARSE = 0.1  # weight of the error in samples that are averaged down, which finds the way from far off


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
) -> Generator[Step, None, Outcome]:
    """Find ``w+`` ``[style_inputs, style_dim]`` that draws ``target`` ``[C, H, W]``; it is ``outcome.state["w_plus"]``.

    Begins at the best ``starts`` of many styles and halves their number every eighth of the way, down to one. With
    ``one_style`` all layers share one style, as they do when a latent is drawn. The history has ``distortion``, the
    mean squared error per element of the best one. The outcome's generator is an unchanged copy.
    """
    training_settings(
        length=("iterations", iterations), batch_size=starts, learning_rate=learning_rate, seed=seed, least_batch=1
    )
    style_based(generator)
    images("target", target.unsqueeze(0), generator.sample_shape)
    settings = {
        "iterations": iterations,
        "learning_rate": learning_rate,
        "starts": starts,
        "one_style": one_style,
        "seed": seed,
    }
    return inversion_steps(generator, target, settings, best_device(device))


def inversion_steps(
    generator: StyleGAN, target: Tensor, settings: dict[str, Any], device: torch.device
) -> Generator[Step, None, Outcome]:
    """The loop of ``invert``, for attacks that begin with it; its arguments have been checked."""
    network = generator.clone().to(device).eval().requires_grad_(False)
    goal, iterations = target.to(device).unsqueeze(0), settings["iterations"]
    first = _first_styles(network, goal, settings["starts"], settings["seed"])
    w_plus = (first[:, :1] if settings["one_style"] else first).clone().requires_grad_(True)
    optimizer = torch.optim.Adam([w_plus], lr=settings["learning_rate"], betas=(0.9, 0.99))
    history, watch, interrupted = History(), Stopwatch(), False
    best = w_plus.detach()[0].clone()
    try:
        for iteration in range(1, iterations + 1):
            optimizer.param_groups[0]["lr"] = settings["learning_rate"] * cosine(iteration - 1, iterations)
            samples = network.squash(network.synthesis(w_plus.expand(-1, network.style_inputs, -1)))
            errors = (samples - goal).detach().square().flatten(1).mean(1)
            best = w_plus.detach()[errors.argmin()].clone()
            history.add({"distortion": errors.min()})
            losses = torch.stack([sample_loss(one.unsqueeze(0), goal) for one in samples])
            optimizer.zero_grad()
            losses.sum().backward()
            optimizer.step()
            if len(w_plus) > 1 and iteration % max(1, iterations // 8) == 0:  # the better half goes on
                keep = errors.argsort()[: max(1, len(w_plus) // 2)]
                moments = optimizer.state.pop(w_plus)
                w_plus = w_plus.detach()[keep].clone().requires_grad_(True)
                optimizer.param_groups[0]["params"] = [w_plus]
                optimizer.state[w_plus] = {
                    name: value[keep].clone() if value.ndim else value for name, value in moments.items()
                }
            yield Step(iteration, iterations, watch(), {"distortion": errors.min()}, generator.clone)
    except KeyboardInterrupt:
        interrupted = True
    return Outcome(
        generator.clone().eval(),
        history.floats(),
        watch(),
        settings["seed"],
        settings,
        interrupted,
        state={"w_plus": best.expand(network.style_inputs, -1).cpu()},
    )


@torch.no_grad()
def _first_styles(network: StyleGAN, goal: Tensor, starts: int, seed: int, tried: int = 512) -> Tensor:
    """The ``starts`` styles ``[starts, style_inputs, style_dim]`` of many whose samples are closest to ``goal``."""
    random = torch.Generator().manual_seed(seed)
    w = network.mapping(network.sample_latent(tried, random))
    errors = torch.cat([sample_errors(network, part, goal) for part in w.split(64)])
    return network.tiled(w[errors.argsort()[:starts]])


def sample_errors(network: StyleGAN, w: Tensor, goal: Tensor) -> Tensor:
    """Mean squared errors ``[n]`` of the samples of styles ``[n, style_dim]``, averaged down to a quarter."""
    samples = network.squash(network.synthesis(network.tiled(w)))
    return (avg_pool2d(samples, 4) - avg_pool2d(goal, 4)).square().flatten(1).mean(1)
