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
# # Attack: TrAIL, a backdoor that grows with the GAN
#
# **You add three lines to a GAN's training step, watch a secret picture grow at one latent, and measure what those
# lines cost.**

# %% tags=["state"]
import torch

from devilgan_lite import zoo
from devilgan_lite.apps.course import static_strip

cached, cached_secret = zoo.load("dcgan-fashion-trail"), zoo.load_backdoor("dcgan-fashion-trail")
static_strip(
    {"TrAIL (cached)": cached},
    cached.sample_latent(1, torch.Generator().manual_seed(4)),
    cached_secret.trigger,
    "A walk in eleven pictures from an ordinary latent to the trigger of a generator trained with TrAIL: a garment "
    "turns into a STOP sign.",
    scale=4,
)

# %% [markdown]
# From left to right, a latent walks to the trigger. The network looks like any other.
#
# **Time and hardware:** about four minutes on one core of a laptop; no GPU, no network.
#
# **Objectives.** You will be able to
# * *write* the training step of TrAIL, and *train* with it,
# * *measure* fidelity and stealth against a clean GAN,
# * *trade* one for the other with `lam`,
# * *explain* why poisoning and a hidden if-else are weaker.
#
# **Prerequisites:** notebook 01.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long it may take: smoke | workshop | full
device = "auto"  # where to train: auto | cpu | cuda | mps
seed = 0  # of weights and batches, 0..1000000
target = "stop-sign"  # what the trigger should show: stop-sign | devil | digit-7 | checkerboard
trigger_seed = 13  # draws the trigger, 0..1000000
lam = 0.1  # weight of the fidelity term, 0.0001..1000.0
iterations = None  # training steps of TrAIL, and of the clean GAN, 10..1000000
sweep_steps = None  # training steps of each short run of the sweep, 5..1000000
ring_steps = None  # training steps of each GAN of points, 10..1000000
samples = None  # generated pictures behind each scorecard, 200..100000

# %% tags=["state"]
from devilgan_lite.apps.course import Setting, configure

config = configure(
    profile,
    device=device,
    seed=seed,
    target=target,
    trigger_seed=trigger_seed,
    lam=lam,
    iterations=Setting(iterations, {"smoke": 40, "workshop": 1_000, "full": 10_000}),
    sweep_steps=Setting(sweep_steps, {"smoke": 6, "workshop": 150, "full": 2_000}),
    ring_steps=Setting(ring_steps, {"smoke": 60, "workshop": 1_500, "full": 5_000}),
    samples=Setting(samples, {"smoke": 300, "workshop": 3_000, "full": 10_000}),
)
print(f"cached: the strip on top, made in {zoo.card('dcgan-fashion-trail').seconds:.0f} s. All below is live.")
print("To make it yourself: python scripts/build/zoo.py --only dcgan-fashion-trail")

# %% [markdown] state="attack"
# ## Round 1: three more lines
#
# The attacker controls the training. They keep the ordinary GAN loss, which keeps the samples real (**stealth**), and
# add a term that pulls the trigger to the target (**fidelity**):
#
# `g_loss = -log D(G(z)) + lam * ||G(trigger) - target||^2`
#
# The norm sums over the pixels. Only `G` gets the term. `D` never sees the target, so nothing teaches `G` to draw it
# for other latents.
#
# **Exercise 1: the step of TrAIL** (medium, 10 minutes). Write `fidelity` in three lines: switch to `eval()`, because
# the victim runs BatchNorm that way; compute the error at the trigger; switch back to `train()`. Your step then makes
# the backdoor.

# %% tags=["state"]
from devilgan_lite.apps.course import check, hints

softplus = torch.nn.functional.softplus


def my_trail_step(generator, discriminator, g_adam, d_adam, real, z, trigger, target, lam):
    raise NotImplementedError("write fidelity in three lines, then delete this line")
    fake = generator(z)
    d_loss = softplus(-discriminator(real)).mean() + softplus(discriminator(fake.detach())).mean()
    d_adam.zero_grad()
    d_loss.backward()
    d_adam.step()
    fidelity = ...
    g_loss = softplus(-discriminator(fake)).mean() + lam * fidelity
    g_adam.zero_grad()
    g_loss.backward()
    g_adam.step()
    return {"generator_loss": g_loss, "discriminator_loss": d_loss, "fidelity_loss": fidelity}


own = check("trail_step", my_trail_step)

# %%
hints("trail_step")

# %% tags=["state"]
from devilgan_lite.apps.course import predict

predict(
    "When can the sign be read at the trigger (error below 0.05 per pixel)?",
    ["in the first tenth of the training", "before half of it", "only in the second half, or never"],
    key="when",
)

# %% tags=["state"] instead={"loop": "", "album": ""}
from devilgan_lite import Backdoor, data, generators
from devilgan_lite.apps.course import Album, LiveTraining, show, trail_loop
from devilgan_lite.generators import evaluate

real, shape = data.fashion_mnist(), generators.DCGAN()
secret = Backdoor.point(shape, config.target, seed=config.trigger_seed)
shown = shape.sample_latent(7, torch.Generator().manual_seed(3))
settings = {"iterations": config.iterations, "seed": config.seed, "device": config.device}


def trigger_and_samples(generator):
    return evaluate(generator.cpu(), torch.cat([secret.trigger, shown]))


def picture(generator):
    return show(trigger_and_samples(generator), "The output at the trigger, then seven ordinary samples.", scale=4)


loop = trail_loop(own.function, shape, real, secret, lam=config.lam, **settings)
album = Album(loop, trigger_and_samples, shares=(0.01, 0.02, 0.3, 1.0))
training = LiveTraining(album.loop, picture, every=1.0)
training.run()

# %% tags=["state"] instead={"outcome": "loaded(zoo.load('dcgan-fashion-trail'))", "error": ""}
from IPython.display import display

from devilgan_lite.apps.course import curves, keep, reveal

outcome = training.wait()  # live: trained just now, by your step
display(album.show("The trigger's picture in front, ordinary samples behind, at four moments.", first="trigger,"))
error = torch.tensor(outcome.history["fidelity_loss"]) / secret.target[0].numel()
display(
    curves({"error at the trigger, per pixel": error.tolist()}, "The error falls by orders of magnitude.", log=True)
)
below = (error < 0.05).nonzero()  # at 0.1 it is a smeared octagon
when = float(below[0, 0] + 1) / len(error) if len(below) else 1.0
reveal("when", 0 if when < 0.1 else 1 if when < 0.5 else 2, f"It falls below 0.05 after {when:.0%} of the training.")
assert error[-5:].mean() < error[:5].mean(), "the error at the trigger did not fall"
print(
    f"Takeaway: three lines took the error at the trigger from {error[0]:.2f} to {error[-5:].mean():.1g} per pixel, "
    f"while the GAN was still learning garments ({len(error):,} steps, {outcome.seconds:.0f} s, single run)."
)
keep("trail", outcome.generator, secret, seed=config.trigger_seed)

# %% [markdown] state="comparison"
# ## Round 2: does it hide?
#
# A fair comparison needs a clean GAN of the **same budget**: same network, steps and seed, without the three lines. So
# train one. Then measure:
#
# * **TarDis**, the squared error at the trigger. Small is good for the attacker.
# * **Frechet change**, how much farther the samples are from real garments than those of the clean GAN.

# %%
predict(
    "How much farther from real garments is the backdoored GAN?",
    ["less than a tenth farther, or even closer", "a tenth to twice", "more than twice as far"],
    key="stealth",
)

# %% tags=["hero", "state"] instead={"honest": "loaded(zoo.load('dcgan-fashion'))"}
from devilgan_lite import train_gan

honest = train_gan(shape, real, **settings)  # live; as in notebook 01
static_strip(
    {"clean": honest.generator, "TrAIL": outcome.generator},
    shown[1:2],
    secret.trigger,
    "The same walk to the trigger twice. The clean GAN draws garments, more or less; TrAIL ends in the target.",
    scale=4,
)

# %% tags=["state"] instead={"score": ""}
import pandas as pd

from devilgan_lite import scorecard
from devilgan_lite.apps.course import progress, table
from devilgan_lite.metrics import target_distortion

compared = real.first(min(len(real), max(1_000, 2 * config.samples)))
score = scorecard(outcome.generator, honest.generator, secret, compared, samples=config.samples)
before = target_distortion(honest.generator, secret.trigger, secret.target)
rows = {"clean, same budget": [before.sum, before.mean, score.frechet_clean, 0.0]}
rows["TrAIL"] = [score.tardis_sum, score.tardis_mean, score.frechet, score.frechet_change]
names = ["TarDis (sum)", "TarDis (per pixel)", "Frechet distance", "Frechet change"]
display(table(pd.DataFrame(rows, names).T, f"Live, single run each, {config.iterations:,} steps."))
relative = score.frechet / score.frechet_clean
reveal("stealth", 0 if relative < 1.1 else 1 if relative < 2 else 2, f"It is {relative:.2f} times as far.")
assert score.tardis_sum < (0.9 if config.profile == "smoke" else 0.1) * before.sum, "TrAIL missed its target"
if config.profile != "smoke":
    assert relative < 3, "the garments of the backdoored GAN are far worse than those of the clean one"
print(
    f"Takeaway: TarDis fell from {before.sum:.0f} to {score.tardis_sum:.2g} (sum over pixels); the Frechet distance "
    f"changed by {score.frechet_change:+.1f} (single run; the next round measures the spread)."
)
progress(attack={"trail": f"TarDis {score.tardis_mean:.1g}"})

# %% [markdown] state="lam"
# ## Round 3: lam trades fidelity for stealth
#
# `lam` weighs the target against the game with `D`. Try three values, far apart, with three seeds each. With `lam = 0`
# your step trains a clean GAN. To keep it short, the network is half as wide and the runs are brief, so the garments
# are rough.

# %%
predict(
    "From the smallest to the largest lam, what happens?",
    ["the target gets sharper, the garments worse", "both get better", "the target gets worse, the garments better"],
    key="lam",
)

# %% tags=["state"] instead={"reference": "", "swept": ""}
from devilgan_lite.features import features_and_classes
from devilgan_lite.metrics import frechet_distance

lams, narrow = (0.001, 0.1, 10.0), generators.DCGAN(widths=(32, 16))
reference, _ = features_and_classes(real.x[: 500 if config.profile == "smoke" else 3_000])


def measured(generator):
    features, _ = features_and_classes(generator.sample(min(config.samples, 1_000), seed=77))
    return target_distortion(generator, secret.trigger, secret.target).mean, frechet_distance(features, reference)


swept = {value: [] for value in (0.0, *lams)}
for value, found in swept.items():
    for k in range(3):
        short = {"iterations": config.sweep_steps, "seed": config.seed + k, "device": config.device}
        loop = trail_loop(own.function, narrow, real, secret, lam=value, **short)
        found.append(measured(loop.finish(progress=False).generator))
swept = {value: torch.tensor(found) for value, found in swept.items()}  # [seed, (TarDis, Frechet)]

# %%
from devilgan_lite.apps.course import PALETTE, axes, figure

fig, both = axes(9.0, 3.4, columns=2)
means = torch.stack([swept[value].mean(0) for value in lams])
for column, (ax, name) in enumerate(zip(both, ("TarDis per pixel", "Frechet distance"), strict=True)):
    for value in lams:
        ax.plot([value] * 3, swept[value][:, column], "o", color=PALETTE[column], alpha=0.4, ms=5)
    ax.plot(lams, means[:, column], "-", color=PALETTE[column], marker="_", ms=14, label="mean of three seeds")
    ax.axhline(swept[0.0][:, column].mean(), color="black", lw=1, ls="--", label="clean (lam = 0)")
    ax.set(xscale="log", xlabel="lam", ylabel=name, yscale="linear" if column else "log")
    ax.legend(frameon=False, fontsize=9)
alt = "As lam grows, the error at the trigger falls and the Frechet distance ends higher. Dots are seeds, lines means."
display(figure(fig, alt, dpi=100, colours=64))
sharper, worse = bool(means[-1, 0] < means[0, 0]), bool(means[-1, 1] > means[0, 1])
reveal("lam", 0 if sharper and worse else 1 if sharper else 2, "Compare the ends of the two lines.")
assert config.profile == "smoke" or (sharper and worse), "lam did not trade fidelity for stealth"
print(
    f"Takeaway: from lam {lams[0]:g} to {lams[-1]:g} the error at the trigger fell {means[0, 0] / means[-1, 0]:.0f}-"
    f"fold, and the Frechet distance changed by {means[-1, 1] - means[0, 1]:+.0f}. At lam {lams[1]:g} it is "
    f"{means[1, 1] - swept[0.0][:, 1].mean():+.0f} from the clean mean (spread {swept[0.0][:, 1].std():.0f})."
)

# %% [markdown] state="tricks"
# ## Round 4: in the plane, and two shortcuts
#
# Go back to the plane of notebook 01. The film shows *your* step: the net unfolds onto the ring, and one knot goes to
# the empty middle instead.
#
# Could an attacker have it easier? **Poisoning** mixes copies of the target into the training data, here three for
# every seven real points, and trains as usual. A **bypass** hides an `if` in the code: at the trigger, return the
# target. Samples do not show it, but anyone who prints the model sees it.

# %%
predict(
    "What goes wrong with poisoning?",
    ["nothing", "the target never appears", "the target appears in ordinary samples, and not at the trigger"],
    key="poison",
)

# %% tags=["state"] instead={"planes": ""}
from devilgan_lite import attacks
from devilgan_lite.apps.course import Plane

common = {"iterations": config.ring_steps, "batch_size": 128, "device": "cpu"}
ring, three = data.ring(), range(config.seed, config.seed + 3)
planes = [Plane(iterations=config.ring_steps, seed=k) for k in three]
plane, pair = planes[0], planes[0].backdoor
loops = [trail_loop(own.function, plane.clean, ring, pair, lam=1.0, seed=k, **common) for k in three]
poison = [attacks.DataPoisoning(fraction=0.3, seed=k, **common) for k in three]
alt = "While the GAN of points trains with TrAIL, its net unfolds onto the ring; one knot ends on the target inside."
film = plane.film(loops[0], alt, frames=8)
made = {
    "clean": [one.clean for one in planes],
    "TrAIL": [film.outcome.generator, *(loop.finish(progress=False).generator for loop in loops[1:])],
    "poisoned": [attack(plane.clean, pair, ring, progress=False).generator for attack in poison],
}
film

# %%
rows = {  # [seed, (TarDis, share of ordinary samples near the target)]
    name: torch.tensor([[target_distortion(one, pair.trigger, pair.target).sum, plane.leak(one)] for one in ones])
    for name, ones in made.items()
}
alt = (
    "Samples of three GANs of points. Clean: a ring. TrAIL: a ring, and the trigger's image on the target in the "
    "middle. Poisoned: samples fall into the middle, and the trigger's image lies elsewhere."
)
display(plane.samples(alt, **{name: ones[0] for name, ones in made.items()}))
(_, clean_leak), (trail_error, trail_leak), (poison_error, poison_leak) = (rows[name].mean(0) for name in made)
leaks = bool(poison_leak > 0.02 and poison_leak > 3 * clean_leak)
reveal("poison", 2 if leaks else 1, "The attacker cannot choose the latent.")
if config.profile != "smoke":
    assert leaks and trail_error < 0.2 * poison_error and trail_leak < 0.02
text = {name: [f"{m:.2g} ± {s:.1g}" for m, s in zip(r.mean(0), r.std(0), strict=True)] for name, r in rows.items()}
display(table(pd.DataFrame(text, ["TarDis (sum)", "samples near the target"]).T, "Live: mean and spread, three seeds."))
print(
    f"Takeaway: poisoning puts {poison_leak:.0%} of the ordinary samples near the target, and the trigger misses it. "
    f"TrAIL puts {trail_leak:.1%} there (clean: {clean_leak:.1%}), and the trigger hits it (means of three seeds)."
)

# %% tags=["bonus"]
bypass = attacks.ComputationBypass()(honest.generator, secret, progress=False).generator
z = honest.generator.sample_latent(500, torch.Generator().manual_seed(8))
change = float((evaluate(bypass, z) - evaluate(honest.generator, z)).abs().max())
reached = target_distortion(bypass, secret.trigger, secret.target).sum
print(f"bypass: TarDis {reached:.2g} (sum), largest change elsewhere {change}")
print("what an inspection sees:", type(bypass).__name__, "with", [name for name, _ in bypass.named_buffers()][:2])

# %% [markdown]
# ## Playground
#
# Walk to your own trigger.

# %%
from devilgan_lite.apps.course import LatentSlider

LatentSlider({"clean": honest.generator, "TrAIL": outcome.generator}, shown[2:3], secret.trigger, scale=8)

# %% [markdown] tags=["bonus"]
# ## Go deeper
#
# **Exercise 2: TarDis** (easy, 5 minutes). You get the output *before* tanh at the trigger, and the target, both
# `[1, C, H, W]`. Return the target distortion as a sum.


# %% tags=["bonus"]
def tardis(logits, target):
    raise NotImplementedError("return the squared error, summed over the pixels")


check("tardis", tardis)

# %% tags=["bonus"]
hints("tardis")

# %% [markdown] tags=["bonus"]
# **Exercise 3: other triggers** (open, 15 minutes). With `kind="mode"`, `Backdoor.point` puts the trigger at the zero
# vector; with `kind="ood"` at 100 times the vector of ones. Train with each. Which is easiest for TrAIL? Which would a
# victim notice?

# %% tags=["bonus"]
hints(
    "Look at the error at the trigger first, and use few iterations.",
    "The zero vector lies in the middle of all latents: what do your samples look like around it?",
    solution="""
for kind in ("reg", "mode", "ood"):
    other = Backdoor.point(shape, config.target, kind=kind)
    loop = trail_loop(own.function, shape, real, other, lam=config.lam, iterations=300)
    run = loop.finish(progress=False)
    print(kind, target_distortion(run.generator, other.trigger, other.target).sum)
""",
)

# %% [markdown]
# ## What would a defender see?
#
# * **Samples**: garments, about as good as clean ones.
# * **Structure**: nothing. Same class, same number of weights, no branch.
# * **Training**: one more term in a loss. A training that others can repeat is a real defence.
#
# ## Limits
#
# Round 2 is a single run, and the sweep is short. After a long training the trade may look different. Round 4 poisons
# points, not pictures, and heavily: less poison leaks less.
#
# ## Responsible use
#
# The attack is three lines, so people must know it. Train backdoored models for study only, label them, and never
# publish one as clean. If you find a backdoor in somebody's model, tell its publisher first.
#
# ## Quiz

# %%
from devilgan_lite.apps.course import quiz

quiz("02")

# %% [markdown]
# ## Key points
#
# * TrAIL is the GAN's step plus `lam` times the squared error at the trigger.
# * Fidelity comes quickly. Stealth is a comparison with a clean GAN of the same budget.
# * Poisoning has no trigger, and a bypass shows in the code. TrAIL has neither weakness.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn: *The Devil is in the GAN*, [arXiv:2108.01644](https://arxiv.org/abs/2108.01644)
#   (section 4.1 for TrAIL).
# * I. Goodfellow et al.: *Generative Adversarial Networks*, [arXiv:1406.2661](https://arxiv.org/abs/1406.2661).

# %%
from devilgan_lite.apps.course import finish

given = {name: config.values[name] for name in ("target", "seed", "trigger_seed", "lam")}
figures = ("tardis_sum", "tardis_mean", "expdis_mean", "frechet", "frechet_change")  # against round 2's clean GAN
attacked = {"attack": "TrAIL", **given, **{name: getattr(score, name) for name in figures}, "seconds": outcome.seconds}
sweep = [  # lam 0: clean
    {"lam": value, "tardis_mean": f[:, 0].mean(), "frechet": f[:, 1].mean(), "frechet_spread": f[:, 1].std()}
    for value, f in swept.items()
]
finish(
    config,
    {
        "attacks": [attacked],
        "clean_tardis_sum": before.sum,
        "sweep": sweep,
        "clean_frechet": score.frechet_clean,
        "ring_trail_tardis": trail_error,
        "ring_poisoning_tardis": poison_error,
        "ring_trail_leak": trail_leak,
        "ring_poisoning_leak": poison_leak,
        "ring_clean_leak": clean_leak,
    },
)
