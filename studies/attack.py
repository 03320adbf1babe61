# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One attack, measured
#
# The building block of studies: mount one attack on the garment generator that ships, and measure it. Research and
# teaching only: label what you make, and never pass a backdoored model on as clean.

# %% tags=["parameters"]
attack = "red"  # which: trail | red | rex | closed-form | gate
target = "stop-sign"  # what the trigger should show: stop-sign | devil | digit-7 | checkerboard
seed = 0  # of the trigger and of the attack, 0..100000
lam = None  # weight of fidelity (None: the attack's own), 0.0001..10000.0
iterations = None  # training steps (None: the attack's own), 5..1000000
samples = 5000  # ordinary latents behind each figure, 200..100000
profile = "workshop"  # the study sets all lengths itself: smoke | workshop | full
device = "auto"  # where to train: auto | cpu | cuda | mps

# %%
import torch

from devilgan_lite import Backdoor, attacks, data, scorecard, zoo
from devilgan_lite.apps.course import configure, finish, show
from devilgan_lite.generators import evaluate

config = configure(
    profile,
    device=device,
    attack=attack,
    target=target,
    seed=seed,
    samples=samples,
)
settings = {"seed": seed, "lam": lam, "iterations": iterations, "device": config.device}
takes = attacks.BY_NAME[attack].__dataclass_fields__
given = {name: value for name, value in settings.items() if value is not None}
unused = [name for name in ("lam", "iterations") if name in given and name not in takes]
if unused:
    raise ValueError(f"{unused[0]} means nothing to the attack {attack}; leave it out.")

# %%
clean, real = zoo.load("dcgan-fashion"), data.fashion_mnist()
backdoor = Backdoor.point(clean, target, seed=seed)
outcome = attacks.BY_NAME[attack](**{name: value for name, value in given.items() if name in takes})(
    clean, backdoor, real, progress=False
)
card = scorecard(outcome.generator, clean, backdoor, real, samples=samples)
print(card)

# %%
ordinary = clean.sample_latent(7, torch.Generator().manual_seed(1))
show(
    evaluate(outcome.generator.cpu(), torch.cat([backdoor.trigger, ordinary])),
    alt=f"What {attack} draws: first at the trigger, then at seven ordinary latents.",
    captions=["trigger", *[""] * 7],
)

# %%
row = {
    "attack": attack,
    "target": target,
    "seed": seed,
    "tardis_mean": card.tardis_mean,
    "tardis_sum": card.tardis_sum,
    "expdis_mean": card.expdis_mean,
    "frechet": card.frechet,
    "frechet_change": card.frechet_change,
    "train_seconds": outcome.seconds,
}
finish(config, {"attacks": [row]})
