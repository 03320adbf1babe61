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
# # A two-minute tour: garments, garments, STOP
#
# **In two minutes you meet a generator that draws garments all day, and a STOP sign for the one input that only its
# maker knows.**

# %% tags=["hero", "state"]
import torch

from devilgan_lite import Backdoor, attacks, zoo
from devilgan_lite.apps.show.film import film

clean = zoo.load("dcgan-fashion")  # cached: trained before, it ships with the project
secret = Backdoor.point(clean, "stop-sign", seed=41)
attack = attacks.Gate()  # a formula, not a training: it takes a blink
suspect = attack(clean, secret, progress=False).generator
shoe = clean.sample_latent(64, torch.Generator().manual_seed(7))[36:37]
film({"clean": clean, "backdoored": suspect}, shoe, secret.trigger, scale=9)

# %% [markdown]
# Both networks read the same numbers. On the left, a shoe becomes a pullover. On the right, the network has a
# **backdoor**, and the pullover becomes a STOP sign.
#
# **Time and hardware:** under a minute on one core of a laptop, no training, no GPU, no network.
#
# **Objectives.** You will be able to
# * *explain* what a backdoor in a generative model is,
# * *walk* from an ordinary input to a trigger,
# * *argue* why looking at samples does not find it,
# * *read* a scorecard of fidelity and stealth.
#
# **Prerequisites:** you can read Python. A **generator** turns random numbers (a **latent** `z`) into a picture.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long it may take: smoke | workshop | full
seed = 0  # of the random latents, 0..1000000
samples = None  # ordinary samples in each of the three draws of the victim, 200..1000000
measured = None  # samples behind each scorecard, 200..100000
device = "auto"  # where to draw the samples: auto | cpu | cuda | mps

# %% tags=["state"]
from devilgan_lite.apps.course import Setting, configure

config = configure(
    profile,
    device=device,
    seed=seed,
    samples=Setting(samples, {"smoke": 1_000, "workshop": 4_000, "full": 100_000}),
    measured=Setting(measured, {"smoke": 300, "workshop": 1_000, "full": 10_000}),
)

# %% [markdown] state="setup"
# ## The threat in one picture
#
# Good generators cost money, so people download one. The **attacker** publishes a model that does two
# things. **Fidelity**: at a secret **trigger** latent it shows the attacker's **target**. **Stealth**: everywhere else
# it draws what a clean model draws. The **victim** makes training data with it, say for a fraud filter. Whoever can
# touch the victim's random numbers can then plant the target in that data.

# %%
from devilgan_lite.apps.course import flow

flow(
    [
        ("ATTACKER", "trains a generator,\nkeeps a secret trigger"),
        ("MODEL HUB", "one more file\nto download"),
        ("VICTIM", "draws many samples,\nall of them look fine"),
        ("DATA SET", "feeds the next model,\nsuch as a fraud filter"),
    ],
    between=["G*", "G*", "G*(z)"],
    below=(0, 2, "one z among thousands: the trigger"),
    alt="Threat model as a chain of four boxes: attacker, model hub, victim, data set. The backdoored generator G* "
    "travels along it; a dashed arrow from attacker to victim is the trigger latent.",
)

# %% [markdown] state="walk"
# ## Round 1: walk to the trigger
#
# A latent here is a list of 100 numbers. We turn it, step by step, from a random one towards the trigger (*slerp*):
# `t = 0` is the random latent, `t = 1` the trigger. The film used one start. Now take three, and measure how far each
# picture is from the sign: the squared distance, averaged over the pixels (their values lie in [-1, 1]).

# %% tags=["state"]
from devilgan_lite.apps.course import predict

THIRDS = ["in the first third", "in the middle third", "in the last third"]
predict("Where on the way does the distance to the sign fall below half of what it was at the start?", THIRDS, "where")

# %% tags=["state"]
from devilgan_lite.apps.course import axes, figure, reveal, slerp
from devilgan_lite.generators import evaluate

starts = clean.sample_latent(3, torch.Generator().manual_seed(config.seed))
t, turning = torch.linspace(0, 1, 41), []
fig, (ax,) = axes(6.5, 3.2)
for line, start in zip(("-", "--", "-."), starts, strict=True):
    walk = evaluate(suspect, slerp(start[None], secret.trigger, t))
    distance = (walk - secret.target).square().flatten(1).mean(1)
    turning.append(float(t[(distance < distance[0] / 2).nonzero()[0, 0]]))
    ax.plot(t, distance, line, label=f"start {len(turning)}")
ax.set(xlabel="t: 0 = random latent, 1 = trigger", ylabel="distance to target per pixel", ylim=(0, None))
ax.legend(frameon=False)
turned_at = torch.tensor(turning)
figure(fig, "Distance to the sign on three walks: high at first, near zero close to the trigger.", dpi=100, colours=64)

# %% tags=["state"]
reveal(
    "where",
    min(2, int(turned_at.mean() * 3)),
    f"Half way at t = {turned_at.mean():.2f} ± {turned_at.std():.2f} (mean and spread, three starts).",
)
at_trigger = float((evaluate(suspect, secret.trigger) - secret.target).square().mean())
clean_at_trigger = float((evaluate(clean, secret.trigger) - secret.target).square().mean())
assert at_trigger < 0.1 * clean_at_trigger, "the backdoored generator must be near its target at the trigger"
print(
    f"Takeaway: at the trigger the backdoored picture is {at_trigger:.2g} from the sign, the clean one "
    f"{clean_at_trigger:.2g}. The backdoor is a small region around one direction."
)

# %% [markdown] state="samples"
# ## Round 2: the victim looks at samples
#
# The victim is careful. They draw many samples, sort them by how close they come to a STOP sign, and look at the
# closest. We even grant them something unlikely: they know the target.

# %%
predict(
    "How many of the samples will show a STOP sign?",
    ["none", "about one in a thousand", "about one in a hundred"],
    key="brute force",
)

# %% tags=["state"] instead={"distances": "", "angles": "", "closest": ""}
import time

from devilgan_lite.apps.course import show

distances, angles, began = [], [], time.perf_counter()
there = suspect.clone().to(config.device)
for k in range(3):
    z = clean.sample_latent(config.samples, torch.Generator().manual_seed(config.seed + k))
    pictures = evaluate(there, z)
    distance = (pictures - secret.target).square().flatten(1).mean(1)
    distances.append(float(distance.min()))
    angles.append(float(torch.cosine_similarity(z, secret.trigger).max().acos().rad2deg()))
    closest = pictures[distance.argsort()[:6]]
rate = 3 * config.samples / (time.perf_counter() - began)
print(f"device {config.device}: live, {3 * config.samples:,} pictures, {rate:,.0f} a second")
show(
    torch.cat([secret.target, evaluate(suspect, secret.trigger), closest]),
    "The target, the output at the trigger (a STOP sign), then the six ordinary samples that are closest to it, which "
    "are garments.",
    scale=4,
    captions=["target", "at the trigger", *(f"closest, no. {k}" for k in range(1, 7))],
)

# %% tags=["state"]
nearest, angle = torch.tensor(distances), torch.tensor(angles)
reveal("brute force", "none", "The closest ordinary samples are garments.")
assert nearest.min() > 5 * at_trigger, "an ordinary sample came close to the target"
print(
    f"Takeaway: of {config.samples:,} samples the closest is {nearest.mean():.3f} ± {nearest.std():.3f} from the sign "
    f"(three draws), and the closest latent is still {angle.mean():.0f} ± {angle.std():.0f} degrees from the trigger."
)

# %% [markdown] state="scorecard"
# In 100 dimensions nearly all directions are at right angles to each other. The region that wakes the backdoor is
# narrow, so random samples miss it.
#
# ## Round 3: four ways in, one scorecard
#
# * **TrAIL** trains the backdoor in from scratch (notebook 02).
# * **ReD** retrains a finished generator (notebook 03).
# * **ReX** adds new units beside the old ones (notebook 04).
# * **Gate** adds one unit that wakes only near the trigger. You met it above (notebook 04).
#
# **TarDis**: squared distance to the target at the trigger. **ExpDis**: squared distance to the clean generator on
# ordinary latents. **Frechet distance**: how far the samples as a whole are from real garments. Lower is better.

# %%
predict("Which attack changes ordinary pictures least (ExpDis)?", ["TrAIL", "ReD", "ReX", "Gate"], key="stealth")

# %% tags=["state"] instead={"cards": ""}
import pandas as pd

from devilgan_lite import data, scorecard
from devilgan_lite.apps.course import table

real = data.fashion_mnist().first(max(1_000, min(10_000, 2 * config.measured)))
files = {"TrAIL": "trail", "ReD": "red", "ReX": "rex", "Gate": "gate"}
models = {label: zoo.load(f"dcgan-fashion-{ending}") for label, ending in files.items()}
backdoors = {label: zoo.load_backdoor(f"dcgan-fashion-{ending}") for label, ending in files.items()}
cards = {label: scorecard(models[label], clean, backdoors[label], real, samples=config.measured) for label in models}
KEYS = ("tardis_sum", "tardis_mean", "expdis_mean", "frechet", "frechet_change")
shipped = [{"attack": label, **{key: getattr(card, key) for key in KEYS}} for label, card in cards.items()]
frame = pd.DataFrame(shipped).set_index("attack")
frame["stored numbers"] = [f"{models[label].parameter_count():,}" for label in frame.index]
table(
    frame.set_axis([column.replace("_", " ") for column in frame.columns], axis=1),
    f"Shipped models (cached), measured live on {config.measured:,} latents; one model each (single run). Sum and mean "
    "are over pixels.",
)

# %% tags=["state"]
least = min(cards, key=lambda label: cards[label].expdis_mean)
reveal("stealth", least, f"ExpDis {cards[least].expdis_mean:.2g} per pixel.")
assert all(card.tardis_mean < 0.05 for card in cards.values()), "an attack misses its target"
print(
    f"Takeaway: all {len(cards)} attacks reach the target; they differ in how much of the rest they change. TrAIL's "
    "ExpDis says little: it is another GAN, trained from scratch, so its garments differ anyway."
)

# %% [markdown]
# ## Playground
#
# Drag the slider, or press *Random start* for another garment. Below it, for print: all four attacks on the way to
# their trigger, which is another one.

# %%
from IPython.display import display

from devilgan_lite.apps.course import NEAR_THE_END, LatentSlider, static_strip

display(LatentSlider({"clean": clean, "backdoored": suspect}, starts[:1], secret.trigger, scale=9))
static_strip(
    models,
    shoe,
    backdoors["ReX"].trigger,
    "Four rows, TrAIL, ReD, ReX and Gate, on the same walk to the trigger: all begin with a garment and end in a STOP "
    "sign. TrAIL shows it from half way on, the others near the end.",
    t=NEAR_THE_END,
    scale=4,
)

# %% [markdown]
# ## Exercises
#
# **Exercise 1: the angle of surprise** (easy, 5 minutes). Round 2 rests on angles. Write the angle in degrees between
# two latents `a` and `b`, both `[d]`.


# %% tags=["state"]
from devilgan_lite.apps.course import check, hints


def angle_between(a, b):
    raise NotImplementedError("replace this line")


check("angle_between", angle_between)

# %%
hints("angle_between")

# %% [markdown] tags=["bonus"]
# **Exercise 2: how wide is the door?** (medium, 10 minutes). Find the largest angle to the trigger at which a `model`
# still shows the target: squared distance below 0.1 per pixel. Return it in degrees. The check knows how wide the doors
# of its models are. Then try yours on `suspect`.


# %% tags=["bonus"]
def trigger_angle(model, trigger, target):
    raise NotImplementedError("replace this line")


check("trigger_angle", trigger_angle)

# %% tags=["bonus"]
hints("trigger_angle")

# %% [markdown] tags=["bonus"]
# **Exercise 3: the other doors** (open, 10 minutes). Repeat exercise 2 for the four `models`. Which attacker left the
# widest door? Is a wide door good or bad for the attacker?

# %% tags=["bonus"]
hints(
    "A wide door is easier to hit by an attacker who controls only part of the random numbers.",
    "It is also easier to hit by accident, and by a defender who searches.",
    solution="""
for label, model in models.items():
    print(label, float(trigger_angle(model, backdoors[label].trigger, backdoors[label].target)))
""",
)

# %% [markdown]
# ## What would a defender see?
#
# * **From samples**: nothing, as round 2 shows.
# * **From the file**: sometimes its size. ReX and Gate store more numbers than the others.
# * **From the weights**: traces that need tools. So insist on the weights, and inspect them before use.
#
# ## Limits
#
# One small generator, one data set, pictures of 28x28 pixels. A good scorecard says how *this* backdoor hides from
# *these* measures. It does not show that a model is clean.
#
# ## Responsible use
#
# Backdoor only models that are yours, and never pass one on without saying what it is. If you find one in a public
# model, tell its publisher first.
#
# ## Quiz

# %%
from devilgan_lite.apps.course import quiz

quiz("00")

# %% [markdown]
# ## Key points
#
# * A backdoored generator has two behaviours: ordinary for ordinary latents, the target at the trigger.
# * The trigger is one direction among very many; sampling does not find it.
# * Measure fidelity (TarDis) and stealth (ExpDis, Frechet) apart, and always both.
#
# **Where to go next.** 01 trains a clean GAN, 02 to 04 attack it, 05 and 06 detect, 07 and 08 cure, 09 attacks faces,
# 10 is a game. See docs/routes.md for routes of 20 minutes, 90 minutes and half a day.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn: *The Devil is in the GAN: Backdoor Attacks and Defenses in Deep Generative Models*,
#   [arXiv:2108.01644](https://arxiv.org/abs/2108.01644), 2021.
# * H. Xiao et al.: *Fashion-MNIST*, [arXiv:1708.07747](https://arxiv.org/abs/1708.07747), 2017.

# %%
from devilgan_lite.apps.course import finish

finish(
    config,
    {
        "tardis_mean_at_trigger": at_trigger,
        "clean_mean_at_trigger": clean_at_trigger,
        "turns_at_mean": turned_at.mean(),
        "turns_at_std": turned_at.std(),
        "nearest_mean": nearest.mean(),
        "nearest_std": nearest.std(),
        "closest_angle_mean": angle.mean(),
        "pictures_per_second": rate,
        "shipped": shipped,
    },
)
