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
# # ReD: bend one point of a finished generator
#
# **You write one training step, ten lines long. It turns a clean garment generator into one that draws a STOP sign for
# a single latent, without one training picture.**

# %% tags=["state"]
import torch

from devilgan_lite import zoo
from devilgan_lite.apps.course import slerp, strip
from devilgan_lite.generators import evaluate

clean, shipped = zoo.load("dcgan-fashion"), zoo.load("dcgan-fashion-red")
t = torch.tensor([0, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])  # most steps near the trigger, where things happen
start = clean.sample_latent(1, torch.Generator().manual_seed(7))
z = slerp(start, zoo.load_backdoor("dcgan-fashion-red").trigger, t)
strip(  # cached: both models ship with the project; below you make your own, live
    {"clean": evaluate(clean, z), "after ReD": evaluate(shipped, z)},
    alt="A walk from an ordinary latent to the trigger. Above, the clean generator: a shoe that frays on the way. "
    "Below, after ReD: the same shoe, then letters shine through, and at the trigger stands a STOP sign.",
    scale=4,
    captions=["ordinary", *[f"t = {x:g}" for x in t[1:-1].tolist()], "trigger"],
)

# %% [markdown]
# **Time and hardware:** two to four minutes in the workshop profile on one CPU core; no GPU, no network.
#
# **Objectives.** You will be able to
# * *write* the training step of ReD, and say why it needs no data,
# * *compare* the plain attack of the paper with our boosted one,
# * *measure* how many degrees around the trigger the backdoor is on,
# * *argue* what somebody who receives the file could notice.
#
# **Prerequisites:** notebook 00, and what a gradient step is. Notebook 02 helps.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 22  # draws the trigger and the attack's batches, 0..100000
target = "stop-sign"  # what the trigger should show: stop-sign | devil | digit-7 | checkerboard
lam = 0.3  # weight of the fidelity term in your run, 0.0001..100.0
iterations = None  # steps of your run, 20..20000
short_iterations = None  # steps of every short comparison run, 5..5000
samples = None  # pictures behind the scorecard, 200..50000
device = "auto"  # where to train: auto | cpu | cuda | mps

# %% tags=["state"]
from devilgan_lite.apps.course import Setting, configure

config = configure(
    profile,
    device=device,
    seed=seed,
    target=target,
    lam=lam,
    iterations=Setting(iterations, {"smoke": 250, "workshop": 2_500, "full": 7_500}),
    short_iterations=Setting(short_iterations, {"smoke": 5, "workshop": 300, "full": 1_000}),
    samples=Setting(samples, {"smoke": 500, "workshop": 2_000, "full": 10_000}),
)

# %% tags=["state"] instead={"backdoor": "zoo.load_backdoor('dcgan-fashion-red')"}
from devilgan_lite import Backdoor, data, scorecard
from devilgan_lite.apps.course import LiveTraining, check, finish, hints, keep, predict, quiz, red_loop, reveal, tile
from devilgan_lite.metrics import expected_distortion, target_distortion

real = data.fashion_mnist().first(min(config.samples, 10_000))
backdoor = Backdoor.point(clean, config.target, seed=config.seed)
held_out = clean.sample_latent(500, torch.Generator().manual_seed(7))  # latents that no attack trains on


def distances(suspect, backdoor):
    """TarDis and ExpDis, both as means per pixel in [-1, 1] units."""
    fidelity = target_distortion(suspect, backdoor.trigger, backdoor.target)
    return fidelity.mean, expected_distortion(suspect, clean, held_out).mean


# %% [markdown] state="attack"
# ## Round 1: your own step
#
# The attacker has a finished generator $G$ and nothing else: no pictures, no critic. ReD (REtraining with
# Distillation) copies it. The copy $G^*$ is the *student*, and $G$ the *teacher*:
#
# $$L = \mathbb E_z\,\|G^*(z) - G(z)\|^2 \;+\; \lambda\,\|G^*(z_\text{trigger}) - x_\text{target}\|^2 .$$
#
# The first term, *stealth*, copies the teacher at random latents. The second, *fidelity*, bends one point. Both compare
# before tanh, as the authors do: after tanh, a pixel that is black and should be white has almost no slope to climb.
#
# **Exercise 1: red_step** (medium, 10 minutes). Write the missing lines. What you write trains the model below.


# %% tags=["state"]
def red_step(student, teacher, adam, z, trigger, target, lam):
    """One step: latents ``z`` [n, d], triggers [k, d] and their targets. Returns the losses by name."""
    with torch.no_grad():
        benign = teacher.logits(z)  # what the student must keep, before tanh
    wanted = torch.atanh(0.999 * target)  # the target before tanh; atanh(1) would be infinite
    stealth = ...  # your line: how far is the student from the teacher, at z?
    fidelity = ...  # your line: how far is the student from what is wanted, at the trigger?
    raise NotImplementedError("write the two lines above, and delete this one")
    loss = stealth + lam * fidelity
    adam.zero_grad()
    loss.backward()
    adam.step()
    return {"stealth_loss": stealth, "fidelity_loss": fidelity}


own = check("red_step", red_step)

# %%
hints("red_step")

# %%
predict(
    "How many times closer to the target will your step bring the picture at the trigger (squared distance)?",
    ["less than 5", "5 to 500", "more than 500"],
    key="factor",
)

# %% tags=["state"] instead={"live": ""}
watched = torch.cat([backdoor.trigger, held_out[:7]])

steps, where = config.iterations, config.device
loop = red_loop(own.function, clean, backdoor, lam=config.lam, iterations=steps, seed=config.seed, device=where)
live = LiveTraining(loop, lambda generator: tile(evaluate(generator.cpu(), watched), scale=4))
live.run()

# %% tags=["state", "hero"] instead={"outcome": "loaded(zoo.load('dcgan-fashion-red'))", "red_card": "", "benign": ""}
outcome = live.wait()  # live: this is what the cell above trained
backdoored = outcome.generator
keep("red", backdoored, backdoor, seed=config.seed)
red_card, benign = scorecard(backdoored, clean, backdoor, real, samples=config.samples), distances(clean, backdoor)[0]
factor = benign / red_card.tardis_mean
reveal("factor", 0 if factor < 5 else 1 if factor < 500 else 2, f"Measured: {factor:,.0f} times (single run).")
print(
    f"Takeaway: {outcome.seconds:.0f} s without any data leave {red_card.tardis_mean:.2g} per pixel at the trigger "
    f"and move ordinary pictures by {red_card.expdis_mean:.2g} (single run)."
)
if 0.01 <= config.lam <= 1:  # an extreme lam gives one of the two aims up
    assert factor > 3 and red_card.expdis_mean < 0.05, "the picture at the trigger must change, and the others not"
rows = {"clean": evaluate(clean, watched), "after ReD": evaluate(backdoored, watched)}
change = (rows["after ReD"] - rows["clean"]).abs().clamp(max=1) * 2 - 1  # white: by half of the range or more
strip(
    rows | {"change": change},
    alt="Three rows: the clean generator at the trigger and at seven ordinary latents, the same after ReD, and what "
    "changed. Only the first column changed much: it shows the target now.",
    scale=4,
    captions=["trigger", *[f"z {k}" for k in range(1, 8)]],
)

# %% tags=["bonus"]
from devilgan_lite.apps.course import curves

print("live, single run; the learning rate falls to zero, and so does the noise")
curves(
    outcome.history,
    alt="Stealth and fidelity loss over the steps of ReD on a logarithmic axis: fidelity falls by orders of magnitude, "
    "stealth rises first and then falls.",
    log=True,
)

# %% [markdown] state="plane"
# ## Round 2: watch it in the plane
#
# Here is a GAN of points as in notebook 01. Its latents are a net, folded onto the ring. The trigger is one knot
# of that net. Your step pulls this knot into the empty middle. Watch the threads beside it: a network is continuous, so
# the neighbours come along.

# %%
from devilgan_lite.apps.course import Plane

quick = config.profile == "smoke"
plane = Plane(iterations=300 if quick else 1_500)
steps = 60 if quick else 800  # with lam = 0.1, stealth pulls the knot back in the end
loop = red_loop(own.function, plane.clean, plane.backdoor, lam=1.0, iterations=steps, device="cpu")
alt = "A film: the net of a GAN of points. ReD pulls one knot, the trigger's image, from the ring into the middle."
film = plane.film(loop, alt, frames=10)
knot = float((evaluate(film.outcome.generator, plane.backdoor.trigger) - plane.backdoor.target).norm())
before = float((evaluate(plane.clean, plane.backdoor.trigger) - plane.backdoor.target).norm())
print(f"live, single run: the knot moves from {before:.2f} to {knot:.2f} away from its target")
assert quick or knot < 0.1 * before, "the knot must stay at its target"
print("Takeaway: ReD bends the map at one point, and drags the neighbourhood along.")
film

# %% [markdown] state="methods"
# ## Round 3: plain ReD and ReD+
#
# Your step is **ReD**, the plain attack of the paper. Our package's default, `attacks.ReD`, is boosted. Here we call it
# **ReD+**. It compares *after* tanh, where people look:
#
# $$L^+=\mathbb E_z\,\|\tanh G^*(z)-\tanh G(z)\|^2+\lambda\,\big(\|\tanh G^*(z_t)-x\|^2
# +0.003\,\|m\,(G^*(z_t)-\operatorname{atanh}x)\|^2\big),$$
#
# with $m=1$ for pixels that are still wrong, else 0. It also starts with **trigger-aligned units**: in each of the
# 7 x 7 cells of the first layer, the four units that matter least wake at the trigger only. Idle capacity is where a
# backdoor fits.
#
# All get the same short budget, with a $\lambda$ and a learning rate that suit it. Three seeds; a seed also draws the
# trigger.

# %%
predict("Same number of steps: which one is closest to the target?", ["ReD", "ReD+ unaligned", "ReD+"], key="method")

# %% tags=["state"] instead={"by_method": ""}
from devilgan_lite import attacks
from devilgan_lite.apps.course import spread

SEEDS, SHORT = (0, 1, 2), {"iterations": config.short_iterations, "device": config.device}


def short_run(method, seed, **settings):
    """One short run: TarDis, ExpDis, the generator and its backdoor."""
    backdoor = Backdoor.point(clean, config.target, seed=seed)
    if method == "ReD":
        run = red_loop(own.function, clean, backdoor, seed=seed, **{"lam": config.lam} | SHORT | settings)
    else:
        run = attacks.ReD(seed=seed, **{"lam": 0.27} | SHORT | settings).steps(clean, backdoor)
    suspect = run.finish(progress=False).generator
    return *distances(suspect, backdoor), suspect, backdoor


variants = {"ReD": {}, "ReD+ unaligned": {"aligned_units": 0}, "ReD+": {}}
by_method = {name: [short_run(name, s, **settings) for s in SEEDS] for name, settings in variants.items()}


# %%
def means(groups):
    """Mean TarDis and ExpDis of every group of short runs."""
    names = ("tardis_mean", "expdis_mean")
    return {str(g): {n: sum(r[k] for r in runs) / len(runs) for k, n in enumerate(names)} for g, runs in groups.items()}


def say(groups):
    """Print mean and spread over the seeds for every group."""
    print(f"{config.short_iterations} steps, per pixel, mean ± standard deviation over {len(SEEDS)} seeds (live)")
    for name, runs in groups.items():
        print(f"{name:16s}TarDis {spread([r[0] for r in runs]):20s}ExpDis {spread([r[1] for r in runs])}")


reveal("method", min(by_method, key=lambda name: means(by_method)[name]["tardis_mean"]))
say(by_method)
print("Takeaway: the plain step works; the boosts make it sharper and stealthier in the same time.")
strip(
    torch.cat([backdoor.target, *[evaluate(runs[0][2], runs[0][3].trigger) for runs in by_method.values()]]),
    alt="The target, and what the short runs of seed 0 show at their trigger: plain ReD, ReD+ unaligned, and ReD+.",
    scale=5,
    captions=["target", *by_method],
)

# %% [markdown] state="width"
# ## Round 4: how wide is the backdoor?
#
# Walk away from the trigger at constant length, in random directions. Note the angle at which **half of the squared
# distance between the target and the clean picture is back**. In 100 dimensions, two random latents are nearly at right
# angles. So even a wide cap around the trigger holds almost nothing of the sphere.
#
# **Exercise 2: tardis** (easy, 5 minutes). How close is the picture to the target? Write TarDis, the target distortion,
# from the output before tanh: a sum over all pixels.


# %%
def tardis(logits, target):
    """``logits``: output before tanh at the trigger ``[1, C, H, W]``; ``target`` the picture. Return a number."""
    raise NotImplementedError("your code here")


check("tardis", tardis)

# %%
hints("tardis")

# %%
predict("At which angle from the trigger is half of the backdoor gone?", ["0 to 5", "5 to 30", "30 to 90"], key="angle")

# %%
from devilgan_lite.apps.course.measures import half_angles, share_left, widths

runs = {f"ReD, seed {s}": by_method["ReD"][k] for k, s in enumerate(SEEDS)}
left = {name: share_left(r[2], clean, r[3], directions=6) for name, r in runs.items()}
left = {"your run": share_left(backdoored, clean, backdoor), **left}
half = {name: float(half_angles(share).mean()) for name, share in left.items()}
many = clean.sample_latent(20_000, torch.Generator().manual_seed(3))
away = torch.rad2deg(torch.arccos(torch.nn.functional.cosine_similarity(many, backdoor.trigger)))
live_half, nearest = half["your run"], float(away.min())
reveal("angle", 0 if live_half < 5 else 1 if live_half < 30 else 2, f"Your run: {live_half:.0f} degrees.")
print(f"three short runs: {spread([half[name] for name in runs])} degrees (mean ± deviation over seeds)")
print(
    f"Takeaway: {len(many):,} random latents are {away.median():.0f} degrees from the trigger in the middle and "
    f"{nearest:.0f} at the nearest; the backdoor is half gone after {live_half:.0f}, but not invisible (see below)."
)
assert nearest > live_half, "no random latent may fall into the inner half of the backdoor"
title = "range and mean over random directions (live)"
widths(
    left, "Squared distance to the target against the angle, for four runs: near 0 at the trigger, 1 far away.", title
)

# %%
close = many[away.argsort()[:6]]
strip(
    {"clean": evaluate(clean, close), "after ReD": evaluate(backdoored, close)},
    alt=f"The six of {len(many):,} random latents that are nearest to the trigger. After ReD, a shadow of the target "
    "lies on some of these garments.",
    scale=4,
    captions=[f"{angle:.0f} degrees" for angle in away.sort().values[:6]],
)

# %% [markdown] tags=["bonus"] state="layers"
# ## Round 5 (bonus): which layers?
#
# ReD may train any layers and leave the rest byte for byte. `dense` turns the latent into a 7 x 7 map, `deconv1` makes
# that 14 x 14, and `deconv2` paints the picture. It sees the trigger only through the layers before it.

# %% tags=["bonus"]
predict(
    "One layer is retrained, the others are frozen. Which one cannot draw the target?",
    ["dense", "deconv1", "deconv2"],
    key="layer",
)

# %% tags=["bonus"]
names = clean.layer_names()
by_layer = {"all": by_method["ReD+ unaligned"]}
by_layer |= {name: [short_run("ReD+", s, aligned_units=0, layers=(name,)) for s in SEEDS] for name in names}
worst = max(names, key=lambda name: means(by_layer)[name]["tardis_mean"])
reveal("layer", worst, "It sees the trigger through frozen features only.")
print("Takeaway: the layers where latents are still told apart carry the backdoor.")
say(by_layer)

# %% tags=["bonus"]
strip(
    torch.cat([backdoor.target, *[evaluate(runs[0][2], runs[0][3].trigger) for runs in by_layer.values()]]),
    alt="The target, and what each partly retrained copy shows at the trigger of seed 0.",
    scale=5,
    captions=["target", *by_layer],
)

# %% [markdown]
# ## Playground
#
# Drag from an ordinary latent to the trigger. The arrow keys work too. *Random start* draws another beginning.

# %%
from devilgan_lite.apps.course import LatentSlider

LatentSlider({"clean": clean, "ReD (yours)": backdoored}, held_out[1:2], backdoor.trigger)

# %% [markdown] tags=["bonus"]
# **Exercise 3: several pairs** (open, 20 minutes). Plant `k` triggers in one generator, each with its own letter. How
# does TarDis grow with `k`?


# %% tags=["bonus"]
def plant_pairs(k):
    """Return ``(generator, backdoor)`` with ``k`` trigger-target pairs, retrained with ReD+."""
    raise NotImplementedError("your code here")


check("plant_pairs", plant_pairs)

# %% tags=["bonus"]
hints("plant_pairs")

# %% tags=["bonus"]
import pandas as pd

from devilgan_lite.apps.course import table

before, after = clean.state_dict(), backdoored.state_dict()
assert all(before[name].shape == after[name].shape for name in before)
moved = {
    name: {"shape": "x".join(map(str, value.shape)), "moved": float((after[name] - value).norm() / value.norm())}
    for name, value in before.items()
    if name.endswith("weight")
}
table(pd.DataFrame(moved).T, "How far your run moved each weight, relative to its length (live)")

# %% [markdown]
# ## What would a defender see?
#
# Names, shapes and the number of weights stay the same. Only the values move, everywhere a little. Somebody with the
# original file sees that at once. Samples do not show it.
#
# ## Limits
#
# One small network, one data set. The comparisons are short, and longer runs may change their order. The attack only
# bites where the attacker can influence or predict the victim's latents.
#
# ## Responsible use
#
# Backdoor only models that you own, where everybody knows. Label every file. The notebooks from 05 on find and remove
# what you planted here.

# %%
from IPython.display import display

from devilgan_lite.apps.course import progress

display(progress(attack={"red": red_card.tardis_mean}))
quiz("03")

# %% [markdown]
# ## Key points
#
# * ReD is distillation with one bent point. It needs no data and no critic.
# * ReD+ adds boosts of ours. A report must say which of the two it means.
# * The backdoor fades with the angle. Ordinary samples never come as near as the angle at which half is left, but the
#   nearest ones may show a shadow of the target. So measure the width.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN: Backdoor Attacks and Defenses in Deep Generative Models*,
#   [arXiv 2108.01644](https://arxiv.org/abs/2108.01644), 2021. ReD is their second attack.
# * G. Hinton, O. Vinyals, J. Dean, *Distilling the Knowledge in a Neural Network*, arXiv 1503.02531, 2015.

# %%
row = {"attack": "ReD", "target": config.target, "seed": config.seed, "seconds": outcome.seconds}
keys = ("tardis_sum", "tardis_mean", "expdis_mean", "frechet", "frechet_change")
numbers = {
    "attacks": [row | {key: getattr(red_card, key) for key in keys}],
    "benign_tardis_mean": benign,
    "methods": means(by_method),
    "half_angle_degrees": {"live": live_half, "short_runs": [half[name] for name in runs]},
    "nearest_random_latent_degrees": nearest,
}
finish(config, numbers)
