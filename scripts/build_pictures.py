"""Make docs/pictures/morph.png from the shipped models: four garments on their way to the trigger."""

from __future__ import annotations

from pathlib import Path

import torch

from devilgan_lite import zoo
from devilgan_lite.classroom import slerp
from devilgan_lite.classroom.plots import tile
from devilgan_lite.generators import evaluate

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
ROWS = ("dcgan-fashion-trail", "dcgan-fashion-red", "dcgan-fashion-rex", "dcgan-fashion-gate")


def main(frames: int = 13) -> None:
    rows = []
    for seed, name in enumerate(ROWS, start=3):
        generator = zoo.load(name)
        start = generator.sample_latent(1, torch.Generator().manual_seed(seed))
        path = slerp(start, zoo.load_backdoor(name).trigger, torch.linspace(0, 1, frames))
        rows.append(evaluate(generator, path))
    PICTURES.mkdir(parents=True, exist_ok=True)
    tile(torch.cat(rows), columns=frames, scale=3).save(PICTURES / "morph.png", optimize=True)


if __name__ == "__main__":
    main()
