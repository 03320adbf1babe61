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

# %% [markdown] state="setup"
# # Train a clean GAN: from points in the plane to garments
#
# **You write the step that trains a GAN, run it on garments, and see in one picture what a backdoor is.**

# %% tags=["state"]
from devilgan_lite import zoo
from devilgan_lite.apps.course import show

cached = zoo.load("dcgan-fashion")
show(
    cached.sample(16, seed=3),
    "Sixteen garments that the cached clean generator drew: shirts, trousers, shoes, bags.",
    columns=8,
    scale=4,
)

# %% [markdown]
# None of these garments exist. A small network drew them from random numbers. Now train one like it.
#
# **Time and hardware:** about three minutes on one core of a laptop; no GPU, no network.
#
# **Objectives.** You will be able to
# * *write* the training step of a GAN, and *train* with it,
# * *read* its loss curves without being fooled,
# * *measure* pictures with the Frechet distance,
# * *see* a backdoor as one bent point of a map.
#
# **Prerequisites:** Python, and roughly what gradient descent does. Notebook 00 helps.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long it may take: smoke | workshop | full
device = "auto"  # where to train: auto | cpu | cuda | mps
seed = 0  # of weights, batches and latents, 0..1000000
ring_steps = None  # training steps of the GAN of points, 10..1000000
steps = None  # training steps of the GAN of garments, 10..1000000
samples = None  # generated pictures behind each Frechet distance, 200..100000

# %% tags=["state"]
from devilgan_lite.apps.course import Setting, configure

config = configure(
    profile,
    device=device,
    seed=seed,
    ring_steps=Setting(ring_steps, {"smoke": 400, "workshop": 2_000, "full": 6_000}),
    steps=Setting(steps, {"smoke": 40, "workshop": 1_500, "full": 10_000}),
    samples=Setting(samples, {"smoke": 400, "workshop": 4_000, "full": 10_000}),
)
card = zoo.card("dcgan-fashion")
print(f"cached: the picture on top, by {card.name}, which took {card.seconds:.0f} s to train.")
print(f"To train it yourself: python scripts/build/zoo.py --only {card.name}")

# %% [markdown] state="plane"
# ## Round 1: a game in the plane
#
# The **generator** `G` turns a **latent** `z`, a few random numbers, into a sample. The **discriminator** `D` looks at
# a sample and says: real or fake? `D` learns to tell them apart, `G` learns to fool `D`. Nobody tells them what a good
# sample is.
#
# We start with points, because you can see all of them: eight clumps on a ring. A latent is two numbers.
#
# While it trains, change *who learns*. With `G` alone, the fakes run to the weak spots of a frozen `D`. With `D` alone,
# they stand still. *Slow motion* gives you time to look.

# %% tags=["state"]
from devilgan_lite.apps.course import predict

predict(
    "How many of the eight clumps will the generator cover?",
    ["one or two", "three to six", "seven or eight"],
    key="clumps",
)

# %% tags=["state"] instead={"ring_training": ""}
from devilgan_lite import data, generators, train_gan
from devilgan_lite.apps.course import LiveTraining, TrainableSide, points

ring, who_learns = data.ring(), TrainableSide("both")


def picture_of_points(generator):
    return points({"real": ring.x[:800], "fake": generator.sample(800, seed=5)}, "Real points, and the fakes so far.")


ring_loop = train_gan.steps(
    generators.PointGenerator(),
    ring,
    iterations=config.ring_steps,
    batch_size=128,
    seed=config.seed,
    device=config.device,
    side=who_learns,
)
ring_training = LiveTraining(ring_loop, picture_of_points, side=who_learns)
ring_training.run()

# %% tags=["state"] instead={"ring_outcome": "train_gan(generators.PointGenerator(), ring, iterations=80)"}
from IPython.display import display

from devilgan_lite.apps.course import on_clumps, reveal

ring_outcome = ring_training.wait()  # live: trained just now
toy = ring_outcome.generator
covered, hits = on_clumps(toy.sample(4_000, seed=5))
display(picture_of_points(toy))
reveal("clumps", 0 if covered < 3 else 1 if covered < 7 else 2, f"It covers {covered} of 8.")
if config.profile != "smoke":
    assert covered >= 5 and hits > 0.3, "the GAN of points did not learn the ring"
print(
    f"Takeaway: after {config.ring_steps:,} steps ({ring_outcome.seconds:.0f} s, single run) {hits:.0%} of the fakes "
    "lie on a clump. The rest lie between, because a smooth map cannot tear the plane apart."
)

# %% [markdown] state="garments"
# ## Round 2: write the step, train garments
#
# A training step has two halves. First `D` learns: it wants a small mean of `-log D(x)` over real samples, plus a small
# mean of `-log(1 - D(G(z)))` over fakes. Then `G` learns: it wants a small mean of `-log D(G(z))`, so that its fakes
# pass for real.
#
# `D` returns a **logit** `a`, before the sigmoid. So `-log D` is `softplus(-a)`, and `-log(1 - D)` is `softplus(a)`.
#
# **Exercise 1: a training step** (medium, 10 minutes). Finish the two losses and delete the line that raises. Your step
# then trains the garments below. If it is not right yet, ours stands in. `detach()` keeps `G` out of `D`'s half.

# %% tags=["state"]
import torch

from devilgan_lite.apps.course import check, hints

softplus = torch.nn.functional.softplus  # softplus(a) = log(1 + exp(a))


def my_gan_step(generator, discriminator, g_adam, d_adam, real, z):
    raise NotImplementedError("finish d_loss and g_loss, then delete this line")
    fake = generator(z)
    d_loss = discriminator(real), discriminator(fake.detach())  # make one number of these logits: D's loss
    d_adam.zero_grad()
    d_loss.backward()
    d_adam.step()
    g_loss = discriminator(fake)  # D has moved, so ask it again; make one number of these logits: G's loss
    g_adam.zero_grad()
    g_loss.backward()
    g_adam.step()
    return {"generator_loss": g_loss, "discriminator_loss": d_loss}


own = check("gan_step", my_gan_step)

# %%
hints("gan_step")

# %%
predict(
    "What will the two loss curves do?",
    ["both fall to zero", "neither settles at zero", "D's falls to zero, G's does not"],
    key="losses",
)

# %% tags=["state"] instead={"loop": "", "album": ""}
from devilgan_lite.apps.course import Album, gan_loop

real = data.fashion_mnist()
settings = {"iterations": config.steps, "seed": config.seed, "device": config.device}
loop = gan_loop(own.function, generators.DCGAN(), real, **settings)
album = Album(loop, lambda generator: generator.sample(8, seed=3))


def picture_of_garments(generator):
    return show(generator.sample(16, seed=3), "Garments so far.", columns=8, scale=4)


training = LiveTraining(album.loop, picture_of_garments, every=1.0)
training.run()

# %% tags=["hero", "state"] instead={"trained": "cached"}
from devilgan_lite.apps.course import curves, keep

outcome = training.wait()  # live: trained just now, by your step
trained = outcome.generator
display(album.show("Eight garments from the same latents at five moments: noise, blobs, then garments."))
display(curves(outcome.history, "Losses of generator and discriminator: both wander, neither settles at zero."))
last = {name: sum(values[-100:]) / len(values[-100:]) for name, values in outcome.history.items()}
g_end, d_end = last["generator_loss"], last["discriminator_loss"]
reveal("losses", 0 if g_end < 0.02 else 2 if d_end < 0.02 else 1, "Each loss depends on how good the other player is.")
print(
    f"Takeaway: {len(outcome.history['generator_loss']):,} steps took {outcome.seconds:.0f} s. The losses end near "
    f"{g_end:.2f} (G) and {d_end:.2f} (D; single run). They say who is ahead, not how good the pictures are."
)
keep("clean", trained, seed=config.seed)

# %% [markdown] state="yardstick"
# ## Round 3: a yardstick
#
# You need a judge outside the game. The **Frechet distance** compares two crowds of pictures. A classifier of garments
# turns each picture into 64 numbers, its *features*. Then we measure how far the two crowds lie apart, by the mean and
# the spread of their features. Zero means alike. Ugly pictures raise it; so do missing kinds.

# %%
predict(
    "How does your generator compare with the cached one, which trained longer?",
    ["better", "up to three times its distance", "more than three times its distance"],
    key="yardstick",
)

# %% tags=["state"] instead={"distances": "", "reference": ""}
from devilgan_lite.features import feature_card, features_and_classes
from devilgan_lite.metrics import frechet_distance

half = len(real) // 2 if config.profile != "smoke" else 1_000
reference, _ = features_and_classes(real.x[:half])
contestants = {"untrained": generators.DCGAN().fresh(config.seed), "yours (live)": trained, "zoo (cached)": cached}
distances, shares = {}, {}
for name, generator in contestants.items():
    crowds = [features_and_classes(generator.sample(config.samples, seed=1_000 + k)) for k in range(3)]
    distances[name] = torch.tensor([frechet_distance(features, reference) for features, _ in crowds])
    shares[name] = torch.bincount(crowds[0][1], minlength=10) / config.samples
floor = frechet_distance(features_and_classes(real.x[half : 2 * half])[0], reference)

# %%
import pandas as pd

from devilgan_lite.apps.course import table

rows = {name: {"Frechet distance": float(f.mean()), "spread": float(f.std())} for name, f in distances.items()}
rows["other real garments"] = {"Frechet distance": floor, "spread": float("nan")}
caption = (
    f"To {half:,} real garments: mean and spread of three draws of {config.samples:,} pictures. One training each."
)
display(table(pd.DataFrame(rows).T, caption))
yours, zoos, blank = (float(distances[name].mean()) for name in ("yours (live)", "zoo (cached)", "untrained"))
ratio = yours / zoos
reveal("yardstick", 0 if ratio < 1 else 1 if ratio < 3 else 2, f"{yours:.1f} against {zoos:.1f}: {ratio:.1f} times.")
if config.profile != "smoke":
    assert yours < 0.5 * blank, "training did not bring the pictures nearer to real ones"
print(f"(The classifier is right on {feature_card()['test_accuracy']:.1%} of garments that it never saw.)")
print(
    f"Takeaway: training took the distance from {blank:.0f} to {yours:.1f}. Two crowds of real garments are "
    f"{floor:.1f} apart: nothing comes closer than that."
)

# %% tags=["bonus"]
from devilgan_lite.apps.course import PALETTE, axes, figure

fig, (ax,) = axes(7.6, 3.0)
for k, name in enumerate(("yours (live)", "zoo (cached)")):
    ax.bar(torch.arange(10) + 0.4 * k - 0.2, shares[name], width=0.38, label=name, color=PALETTE[k])
ax.axhline(0.1, color="black", lw=1, ls="--", label="real")
ax.set_xticks(range(10), [name.replace(" ", "\n") for name in real.classes], fontsize=9, rotation=30)
ax.set(ylabel="share")
ax.legend(frameon=False, ncols=3, fontsize=9)
figure(fig, "Share of each class of garments in your pictures and in the cached ones.", dpi=100, colours=64)

# %% [markdown] state="warp"
# ## Round 4: a backdoor is one bent point
#
# `G` is a map. Draw a net on the plane of latents and see where `G` puts it: folded onto the ring. A **backdoor** bends
# this map at one place. The **trigger**, a latent that only the attacker knows, goes to their **target**: here, the
# empty middle of the ring. All other latents should stay.
#
# The film shows ReD. It retrains a copy of `G`: agree with `G` everywhere, hit the target at the trigger. You will
# write it in notebook 03.

# %% tags=["state"]
predict(
    "What share of ordinary latents will move visibly (by more than 0.1)?",
    ["less than a tenth", "a tenth to a half", "more than a half"],
    key="moved",
)

# %% tags=["state"] instead={"film": ""}
from devilgan_lite.apps.course import Plane
from devilgan_lite.apps.course.loops import red_loop, red_step

plane = Plane(toy)
settings = {"lam": 0.3, "iterations": 60 if config.profile == "smoke" else 600, "batch_size": 128, "device": "cpu"}
film = plane.film(
    red_loop(red_step, toy, plane.backdoor, seed=config.seed, **settings),
    "The net of latents on the ring: while ReD trains, one knot, the trigger's image, is pulled into the empty middle.",
    frames=12,
)
film

# %%
from devilgan_lite.generators import evaluate
from devilgan_lite.metrics import expected_distortion, target_distortion

again = [red_loop(red_step, toy, plane.backdoor, seed=config.seed + k, **settings) for k in (1, 2)]
bent = [film.outcome.generator, *(loop.finish(progress=False).generator for loop in again)]
trigger, target = plane.backdoor.trigger, plane.backdoor.target
z = toy.sample_latent(4_000, torch.Generator().manual_seed(11))
tardis = torch.tensor([target_distortion(one, trigger, target).sum for one in bent])
expdis = torch.tensor([expected_distortion(one, toy, z).mean for one in bent])
apart = torch.stack([(evaluate(one, z) - evaluate(toy, z)).norm(dim=1) for one in bent])
moved = (apart > 0.1).float().mean(1)
before, share = target_distortion(toy, trigger, target).sum, float(moved.mean())
reveal("moved", 0 if share < 0.1 else 1 if share < 0.5 else 2, f"{share:.1%} ± {float(moved.std()):.1%} move.")
assert tardis.max() < 0.5 * before, "the attack did not come closer to the target"
if config.profile != "smoke":
    assert tardis.mean() < 0.05 and share < 0.5
print(
    f"Takeaway: the trigger's squared distance to the target fell from {before:.2g} to {tardis.mean():.1g}, and "
    f"{1 - share:.0%} of the latents stayed (mean of three seeds of the attack, one clean generator)."
)

# %% [markdown] tags=["bonus"]
# ## Playground: between two garments
#
# Drag the slider from one latent to another.

# %% tags=["bonus"]
from devilgan_lite.apps.course import LatentSlider

ends = trained.sample_latent(2, torch.Generator().manual_seed(config.seed + 7))
LatentSlider({"yours": trained, "zoo": cached}, ends[:1], ends[1:], scale=8, end_name="the other end")

# %% [markdown] tags=["bonus"]
# ## Go deeper
#
# **Exercise 2: slerp** (medium, 15 minutes). A straight line between two random latents cuts through the middle, where
# latents are too short. The slider walks on the bow. For latents `[1, d]` and a number `t`, turn the direction at
# constant speed; the length goes linearly from `|a|` to `|b|`.


# %% tags=["bonus"]
def my_slerp(a, b, t):
    raise NotImplementedError("return the latent at t of the way from a to b")


check("slerp", my_slerp)

# %% tags=["bonus"]
hints("slerp")

# %% [markdown] tags=["bonus"]
# **Exercise 3: break it** (open, 10 minutes). Train the ring with `learning_rate=0.02`, or with `batch_size=8`. How
# many clumps survive? Do the losses warn you?
#
# <details><summary>Solution</summary>
#
# ```python
# for change in ({}, {"learning_rate": 0.02}, {"batch_size": 8}):
#     settings = {"iterations": config.ring_steps, "batch_size": 128, "seed": config.seed, "progress": False} | change
#     broken = train_gan(generators.PointGenerator(), ring, **settings)
#     ends = {name: round(values[-1], 2) for name, values in broken.history.items()}
#     print(change, on_clumps(broken.generator.sample(4_000, seed=5))[0], "clumps", ends)
# ```
#
# </details>

# %% tags=["bonus"]
hints(
    "on_clumps counts the clumps. Show the points too, as in round 1.",
    "Look at the points first. A D that wins and a D that has given up both leave flat losses.",
)

# %% tags=["bonus"]
from devilgan_lite.apps.course.measures import speeds

table(speeds(generators.DCGAN(), real), "Garments on this machine, a processor beside a graphics card (single run).")

# %% [markdown]
# ## What would a defender see?
#
# Nothing wrong: your model is clean. Yet it has flaws, such as odd shapes and rare classes. A detector must tell such
# honest flaws from a planted one. So write down seed, settings and Frechet distance.
#
# ## Limits
#
# One run of one small network. Frechet distances depend on the features and on the number of samples: compare like
# with like. The bent point of round 4 is a toy.
#
# ## Responsible use
#
# Say of every generated picture that it is generated.
#
# ## Quiz

# %%
from devilgan_lite.apps.course import quiz

quiz("01")

# %% [markdown]
# ## Key points
#
# * A GAN is a game. Its losses show who is ahead, not how good the pictures are.
# * A generator is a map from latents to samples. A backdoor bends it at one point.
# * Clean generators have flaws too. The Frechet distance is the yardstick for every attack to come.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn: *The Devil is in the GAN*, [arXiv:2108.01644](https://arxiv.org/abs/2108.01644).
# * I. Goodfellow et al.: *Generative Adversarial Networks*, [arXiv:1406.2661](https://arxiv.org/abs/1406.2661).
# * A. Radford et al.: *DCGAN*, [arXiv:1511.06434](https://arxiv.org/abs/1511.06434).
# * M. Heusel et al.: *Two Time-Scale Update Rule* (the distance),
#   [arXiv:1706.08500](https://arxiv.org/abs/1706.08500).

# %%
from devilgan_lite.apps.course import finish

finish(
    config,
    {
        "ring_clumps_covered": covered,
        "ring_on_clump": hits,
        "ring_seconds": ring_outcome.seconds,
        "point_backdoor_tardis_mean": tardis.mean(),
        "point_backdoor_tardis_std": tardis.std(),
        "point_backdoor_expdis_mean": expdis.mean(),
        "point_backdoor_moved_share": share,
        "clean_tardis": before,
        "garment_seconds": outcome.seconds,
        "frechet_live_mean": yours,
        "frechet_live_std": distances["yours (live)"].std(),
        "frechet_zoo_mean": zoos,
        "frechet_untrained_mean": blank,
        "frechet_real": floor,
        "smallest_class_share": shares["yours (live)"].min(),
    },
)
