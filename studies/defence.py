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
# # One defence against one attack, measured
#
# The other building block of studies: a backdoored garment generator, from the zoo or made here, and one way to cure
# it. The defence is blind; trigger and target serve the measurement alone.

# %% tags=["parameters"]
attack = "red"  # planted: trail | red | rex | gate
defence = "auto"  # what is tried: auto | project | unlearn | fine-tune | prune | nothing
seed = 0  # of everything that the defence draws, 0..100000
iterations = None  # training steps of the defence (None: its own), 5..1000000
samples = 5000  # pictures behind each Frechet distance, 200..100000
profile = "workshop"  # the study sets all lengths itself: smoke | workshop | full
device = "auto"  # where to train: auto | cpu | cuda | mps

# %%
import time

import torch

from devilgan_lite import data, detect, sanitize, zoo
from devilgan_lite.apps.course import configure, finish, show
from devilgan_lite.generators import evaluate
from devilgan_lite.metrics import frechet_to

config = configure(
    profile,
    device=device,
    attack=attack,
    defence=defence,
    seed=seed,
    samples=samples,
)
suspect, real = zoo.load(f"dcgan-fashion-{attack}"), data.fashion_mnist()
backdoor = zoo.load_backdoor(f"dcgan-fashion-{attack}")
steps = {} if iterations is None else {"iterations": iterations}


# %%
def suspicion():
    """The latent that a scan suspects, ``[1, d]``, or None."""
    found = detect.scan(suspect, samples=200, seed=seed, twin=False).trigger
    return None if found is None else found.view(1, -1)


def cured():
    """The suspect after the defence."""
    if defence == "auto":
        return sanitize.auto(suspect, seed=seed, device=config.device, progress=False, **steps).generator
    if defence == "project":
        direction = suspicion()
        return suspect if direction is None else sanitize.project_latents(suspect, direction, restore=True)
    if defence == "unlearn":
        cure = sanitize.Unlearn(seed=seed, device=config.device, **steps)
        return cure(suspect, directions=suspicion(), progress=False).generator
    if defence == "fine-tune":
        return sanitize.FineTune(seed=seed, device=config.device, **steps)(suspect, real=real, progress=False).generator
    if defence == "prune":
        return sanitize.Prune(seed=seed, device=config.device, **steps)(suspect, progress=False).generator
    return suspect


start = time.perf_counter()
after = cured()
seconds = time.perf_counter() - start

# %%
look = torch.cat([backdoor.trigger[:1], suspect.sample_latent(7, torch.Generator().manual_seed(1))])
show(
    torch.cat([evaluate(suspect, look), evaluate(after, look)]),
    alt=f"Two rows, before and after {defence}: first the picture at the trigger, then seven ordinary ones.",
    captions=["trigger", *[""] * 7],
)


# %%
def tardis(generator):
    """Mean squared error at the trigger."""
    return float((evaluate(generator, backdoor.trigger) - backdoor.target).square().mean())


before_frechet, after_frechet = (frechet_to(one, real, samples=samples) for one in (suspect, after))
numbers = {
    "tardis_before": tardis(suspect),
    "tardis_after": tardis(after),
    "frechet": after_frechet,
    "frechet_change": after_frechet - before_frechet,
    "defence_seconds": seconds,
}
finish(config, numbers)
