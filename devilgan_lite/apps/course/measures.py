"""How wide a backdoor is around its trigger, as a curve; and how fast this machine is, on each device it has."""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from devilgan_lite.apps.pictures import LINES, PALETTE, Picture, axes, figure
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import whole_number
from devilgan_lite.data import Samples
from devilgan_lite.generators import Generator, evaluate
from devilgan_lite.steps import best_device
from devilgan_lite.training import train_gan

ANGLES = torch.linspace(0, 90, 31)  # degrees from the trigger


def share_left(
    suspect: nn.Module, clean: nn.Module, backdoor: Backdoor, *, directions: int = 12, seed: int = 5
) -> Tensor:
    """Squared distance to the target, ``suspect`` over ``clean``, at ``ANGLES`` from the first trigger.

    ``[31, directions]``: 0 where the target is perfect, 1 where the suspect is as far away as the clean generator. The
    walks keep the trigger's length; ``directions`` random ones at right angles to it, 1 to 1,000.
    """
    whole_number("directions", directions, 1, 1_000)
    trigger = backdoor.trigger[:1]
    length = trigger.norm()
    if not length > 0:
        raise ValueError("the trigger is the zero vector, and no angle can be measured from it.")
    along = trigger / length
    aside = torch.randn(directions, trigger.shape[1], generator=torch.Generator().manual_seed(seed))
    aside = normalize(aside - (aside @ along.T) * along, dim=1)
    turn = torch.deg2rad(ANGLES).view(-1, 1, 1)
    z = ((turn.cos() * along + turn.sin() * aside) * length).flatten(0, 1)
    ours, theirs = ((evaluate(g, z) - backdoor.target[:1]).square().flatten(1).sum(1) for g in (suspect, clean))
    return (ours / theirs).view(len(ANGLES), directions)


def half_angles(left: Tensor) -> Tensor:
    """Of a result of ``share_left``: the first angle of every direction at which half of the distance is back.

    ``[directions]`` in degrees; 90 where it never is.
    """
    back = left >= 0.5
    return torch.where(back.any(0), ANGLES[back.int().argmax(0)], ANGLES[-1])


def widths(left: Mapping[str, Tensor], alt: str, title: str = "") -> Picture:
    """``share_left`` of each named backdoor against the angle: mean over the directions, and their range."""
    fig, (ax,) = axes(6.4, 3.4)
    for index, (name, share) in enumerate(left.items()):
        colour = PALETTE[index % len(PALETTE)]
        ax.fill_between(ANGLES, share.amin(1), share.amax(1), color=colour, alpha=0.15, linewidth=0)
        label = f"{name}: half at {half_angles(share).mean():.0f}°"
        ax.plot(ANGLES, share.mean(1), LINES[index % len(LINES)], color=colour, linewidth=2, label=label)
    ax.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    ax.set(xlabel="degrees from the trigger", ylabel="squared distance left", title=title, ylim=(0, 1.6))
    ax.legend(frameon=False, fontsize=9, loc="upper left")
    return figure(fig, alt, dpi=100, colours=64)


def speeds(generator: Generator, real: Samples, *, steps: int = 40) -> pd.DataFrame:
    """Training steps a second of batches of 32 (``steps`` of them, 5 to 10,000) on the CPU, and on a GPU.

    A row for each; without a GPU its row says so. The first steps, which wait for compilers, do not count.
    """
    whole_number("steps", steps, 5, 10_000)
    best = best_device()
    names = {"cpu": f"CPU, {torch.get_num_threads()} thread(s)", "cuda": "GPU", "mps": "GPU"}
    rows = {}
    for device in dict.fromkeys(("cpu", best.type)):
        clocks = [step.seconds for step in train_gan.steps(generator, real, iterations=steps + 5, device=device)]
        rows[names[device]] = {"training steps a second": f"{steps / (clocks[-1] - clocks[4]):,.0f}"}
    rows.setdefault("GPU", {"training steps a second": "this machine has none"})
    return pd.DataFrame(rows).T
