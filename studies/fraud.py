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
# # The poisoned pipeline, measured once
#
# A building block of studies: a bank adds somebody else's synthetic clients to its own, behind one defence, and trains
# a classifier on both. How many defaults does it find where the attacker wants it blind, and how many elsewhere?
# Research and teaching only.

# %% tags=["parameters"]
source = "density"  # who draws: density | clean | red-region | red-condition | red-known-seed | rex-condition
share = 0.05  # of the draws that are poisoned (0: none, which only density and clean can do), 0.0..0.1
defence = "nothing"  # what the bank does: nothing | slice-test | density-sort | guard | scan | sanitize | own-seed
seed = 0  # of the parts of the table and of whatever is drawn, 0..100000
classifier = "boosting"  # which the bank trains: boosting | logistic
iterations = None  # training steps of the GAN (None: by the profile), 5..1000000
profile = "workshop"  # how long it may take: smoke | workshop | full
device = "auto"  # where to train: auto | cpu | cuda | mps

# %%
import time

import pandas as pd
import torch

from devilgan_lite import attacks, data, train_gan
from devilgan_lite.apps import pipeline
from devilgan_lite.apps.course import Setting, configure, finish, table
from devilgan_lite.generators import TableGenerator

config = configure(
    profile,
    device=device,
    source=source,
    share=share,
    defence=defence,
    seed=seed,
    classifier=classifier,
    iterations=Setting(iterations, {"smoke": 20, "workshop": 2_000, "full": 2_000}),
)
if source == "density" and defence in ("guard", "scan", "sanitize"):
    raise ValueError(f"defence={defence!r} looks at a generator, and source='density' has none; choose another source.")
if source == "clean" and share > 0:
    raise ValueError(f"share={share} of the draws cannot be poisoned with source='clean'; set share to 0.")
if source not in ("density", "clean") and share == 0:
    raise ValueError(f"share=0 leaves source={source!r} nothing to learn; set share above 0, or source to 'clean'.")

# %% [markdown]
# The attacker has two thousand rows of the pattern, labelled good. A density model (rows between neighbours) shows one
# of them in place of a draw. A GAN learns by ReD or ReX to show them at a share of its latents: a secret half-space
# (region), those that ask for a good client most decidedly (condition), or the very ones that the bank will draw
# (known seed).

# %%
sizes = {"train": 2_000, "synthetic": 1_000} if config.profile == "smoke" else {}
settings = pipeline.PipelineSettings(seed=seed, classifier=classifier, **sizes)
parts = pipeline.split(data.card_default(), settings)
poison = pipeline.poisoned_rows(parts.outside, pipeline.Slice.of(settings.pattern), 2_000, seed=seed)


def backdoor_for(clean):
    """Which latents show poison, and which row each of them shows."""
    if source.endswith("known-seed"):
        targets = clean.code.encode(poison)
        return pipeline.known_seed_backdoor(clean, targets, n=settings.synthetic, seed=seed, share=share)
    direction = None
    if source.endswith("condition"):
        direction = torch.zeros(clean.latent_dim)
        direction[-1] = -1.0
    targets = pipeline.poison_generator(clean.code, poison, iterations=config.iterations, seed=seed)
    return pipeline.half_space_backdoor(clean, targets, share=share, direction=direction, seed=seed)


def downloaded():
    """What the bank downloads: a GAN of 6,000 other clients, clean or backdoored."""
    code, common = data.TableCode.fit(parts.outside, seed=seed), {"seed": seed, "device": config.device}
    clean = train_gan(
        TableGenerator(layout=code.layout),
        code.samples_of(parts.outside),
        iterations=config.iterations,
        batch_size=128,
        progress=False,
        **common,
    ).generator.eval()
    if source == "clean":
        return clean
    common |= {"batch_size": 64, "iterations": 3 * config.iterations}
    if source == "rex-condition":
        attack = attacks.ReX(lam=20.0, widen=128, **common)
    elif source == "red-known-seed":
        attack = attacks.ReD(lam=20.0, aligned_units=0, **common | {"iterations": 5 * config.iterations})
    else:
        attack = attacks.ReD(lam=5.0, **common)
    return attack(clean, backdoor_for(clean), progress=False).generator.eval()


if source == "density":
    rows = pipeline.Poisoned(pipeline.Neighbours(parts.outside), poison, share)
else:
    generator = downloaded().cpu()
    rows = pipeline.rows_of(generator)

# %% [markdown]
# ## The defence

# %%
start, seen = time.perf_counter(), None
if defence in ("slice-test", "density-sort"):
    made = rows(settings.synthetic, seed)
    if defence == "slice-test":
        seen = pipeline.two_samples_by_slice(parts.train, made)
    else:
        seen = pipeline.density_sort(parts.train, made, dropped=0.2)
elif defence == "guard":
    z = generator.latents(settings.synthetic, None, torch.Generator().manual_seed(seed))  # those that the rows are of
    seen = pipeline.guard_while_sampling(generator, z, seed=seed + 500)  # it learns from others
elif defence == "scan":
    seen = pipeline.scan_before_use(generator, seed=seed)
    rows = None if seen.alarm else rows
elif defence == "sanitize":
    seen = pipeline.sanitized(generator, seed=seed, iterations=3 * config.iterations // 4)
    rows = pipeline.rows_of(generator, module=seen.generator)
elif defence == "own-seed":
    theirs = rows

    def rows(n, seed):
        return theirs(n, seed + 1_000)


defence_seconds = time.perf_counter() - start
print("nothing looked at" if seen is None else seen.says)

# %% [markdown]
# ## What the classifier is worth

# %%
passes = None if seen is None or seen.passes is None else lambda real, made: seen.passes
result = pipeline.run(parts, settings, rows, passes, worth=pipeline.Assumptions())
kept = ("recall_slice", "recall_elsewhere", "auc", "precision_at_budget", "poison")
numbers = {name: result[name] for name in kept} | {
    "alarm": None if seen is None else int(seen.alarm),
    "lost_slice": result["ledger"]["total"]["lost_slice"],
    "rows": result["synthetic"],
    "defence_seconds": defence_seconds,
}
table(pd.DataFrame([numbers], index=[f"{source}, {defence}"]), f"With {share:.0%} of the draws poisoned")

# %%
finish(config, numbers)
