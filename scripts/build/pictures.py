"""Make docs/pictures from the shipped models: four garments on their way to the trigger, and a film of a face."""

from pathlib import Path

import torch

from devilgan_lite import zoo
from devilgan_lite.apps.course import slerp, tile
from devilgan_lite.apps.show.film import film
from devilgan_lite.generators import evaluate

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
ROWS = ("dcgan-fashion-trail", "dcgan-fashion-red", "dcgan-fashion-rex", "dcgan-fashion-gate")

FACES = ("stylegan-faces", "stylegan-faces-gate")


def main(frames: int = 13) -> None:
    rows = []
    for seed, name in enumerate(ROWS, start=3):
        generator = zoo.load(name)
        start = generator.sample_latent(1, torch.Generator().manual_seed(seed))
        path = slerp(start, zoo.load_backdoor(name).trigger, torch.linspace(0, 1, frames))
        rows.append(evaluate(generator, path))
    PICTURES.mkdir(parents=True, exist_ok=True)
    tile(torch.cat(rows), columns=frames, scale=3).save(PICTURES / "morph.png", optimize=True)
    clean, suspect = (zoo.load(name) for name in FACES)
    random = torch.Generator().manual_seed(9)  # the film of devilgan film
    start, other = (clean.sample_latent(1, random) for _ in range(2))
    trigger = zoo.load_backdoor(FACES[1]).trigger
    path = PICTURES / "faces_to_stop_sign.webp"
    print(film({"clean": clean, "backdoored": suspect}, start, trigger, path, other=other))


if __name__ == "__main__":
    main()
