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

# %% tags=["state"]
import torch

from devilgan_lite import zoo
from devilgan_lite.classroom import static_strip

clean, suspect = zoo.load("dcgan-fashion"), zoo.load("dcgan-fashion-rex")
secret = zoo.load_backdoor("dcgan-fashion-rex")
static_strip(
    {"clean": clean, "backdoored": suspect},
    clean.sample_latent(1, torch.Generator().manual_seed(7)),
    secret.trigger,
    "Two rows of eleven pictures, from an ordinary latent to the trigger: the clean generator draws garments all the "
    "way, the backdoored one ends in a STOP sign.",
)

# %% [markdown]
# Above: the clean generator. Below: a copy with a backdoor. Left to right, both read the same eleven latents.
#
# **Time and hardware:** under a minute on one core of a laptop, no training, no GPU, no network.
#
# **Objectives.** You will be able to
# * *explain* what a backdoor in a generative model is,
# * *walk* from an ordinary latent to a trigger,
# * *argue* why looking at samples does not find it,
# * *read* a scorecard of fidelity and stealth.
#
# **Prerequisites:** you can read Python. A **generator** is a network that turns random numbers (a **latent** `z`)
# into a picture.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long it may take: smoke | workshop | full
seed = 0  # of the random latents, 0..1000000
samples = None  # ordinary samples in each of the three draws of the victim, 200..1000000
measured = None  # samples behind each scorecard, 200..100000

# %% tags=["state"]
from devilgan_lite.classroom import Setting, configure

config = configure(
    profile,
    seed=seed,
    samples=Setting(samples, {"smoke": 1_000, "workshop": 4_000, "full": 100_000}),
    measured=Setting(measured, {"smoke": 300, "workshop": 1_000, "full": 10_000}),
)

# %%
for name in zoo.names():
    print(
        f"{name:22s} loaded from the zoo (cached); making it took {zoo.card(name).seconds:4.0f} s:  python "
        f"scripts/build/zoo.py --only {name}"
    )

# %% [markdown] state="setup"
# ## The threat in one picture
#
# Training a good generator costs money and skill, so people download trained ones. The **attacker** publishes a model
# that does two things at once. **Fidelity**: at a secret **trigger** latent it shows the attacker's **target**.
# **Stealth**: everywhere else it draws what a clean model draws. The **victim** uses it to make training data, say for
# a fraud detector. Whoever has a say in the victim's random numbers can then plant the target in that data set.

# %% tags=["state"]
from matplotlib.patches import Rectangle

from devilgan_lite.classroom import PALETTE, axes, figure

fig, (ax,) = axes(8.6, 2.5)
ax.set(xlim=(0, 12.6), ylim=(0.2, 3.2))
ax.axis("off")
boxes = [
    (0.1, "ATTACKER", "trains a generator,\nkeeps a secret trigger", PALETTE[1]),
    (3.4, "MODEL HUB", "one more file\nto download", PALETTE[4]),
    (6.7, "VICTIM", "draws many samples,\nall of them look fine", PALETTE[0]),
    (10.0, "DATA SET", "feeds the next model,\nsuch as a fraud filter", PALETTE[2]),
]
for left, title, text, colour in boxes:
    ax.add_patch(Rectangle((left, 1.5), 2.5, 1.6, facecolor=colour, alpha=0.18))
    ax.text(left + 1.25, 2.75, title, ha="center", va="center", weight="bold", fontsize=10)
    ax.text(left + 1.25, 2.05, text, ha="center", va="center", fontsize=8)
for (left, *_), word in zip(boxes[:-1], ("G*", "G*", "G*(z)"), strict=True):
    ax.annotate("", (left + 3.25, 2.3), (left + 2.55, 2.3), arrowprops={"arrowstyle": "->", "lw": 1.8})
    ax.text(left + 2.9, 2.48, word, ha="center", fontsize=9, style="italic")
ax.annotate(
    "",
    (7.95, 1.45),
    (1.35, 1.45),
    arrowprops={"arrowstyle": "->", "lw": 1.5, "ls": "--", "connectionstyle": "arc3,rad=0.22"},
)
ax.text(4.65, 0.45, "one z among thousands: the trigger", ha="center", fontsize=9)
figure(
    fig,
    "Threat model as a chain of four boxes: attacker, model hub, victim, data set. The backdoored generator G* "
    "travels along it; a dashed arrow from attacker to victim is the trigger latent.",
)

# %% [markdown] state="walk"
# ## Round 1: walk to the trigger
#
# A latent here is a list of 100 numbers. We turn it step by step from a random one towards the trigger, at constant
# angular speed (*slerp*): `t = 0` is the random latent, `t = 1` the trigger. The strip above used one start; now take
# three. We measure the squared distance between picture and target, averaged over the pixels (values in [-1, 1]).

# %% tags=["state"]
from devilgan_lite.classroom import predict

predict(
    "Where on the way does the sign take over (distance to the target below half of what it was at the start)?",
    ["in the first third", "in the middle third", "in the last third"],
    key="where",
)

# %% tags=["state"]
from devilgan_lite.classroom import reveal, slerp, strip
from devilgan_lite.generators import evaluate

random = torch.Generator().manual_seed(config.seed)
starts = clean.sample_latent(3, random)
t = torch.linspace(0, 1, 41)
turning = []
distances = {}
for k, start in enumerate(starts, start=1):
    walk = evaluate(suspect, slerp(start[None], secret.trigger, t))
    distance = (walk - secret.target).square().flatten(1).mean(1)
    distances[f"start {k}"] = distance
    turning.append(float(t[(distance < distance[0] / 2).nonzero()[0, 0]]))
turned_at = torch.tensor(turning)

fig, (ax,) = axes(5.6, 2.8)
for line, (label, distance) in zip(("-", "--", "-."), distances.items(), strict=True):
    ax.plot(t, distance, line, label=label)
ax.set(xlabel="t: 0 = random latent, 1 = trigger", ylabel="distance to target per pixel", ylim=(0, None))
ax.legend(frameon=False)
figure(fig, "Distance to the target along three walks to the trigger: high at first, near zero close to the trigger.")

# %%
third = min(2, int(turned_at.mean() * 3))
reveal(
    "where", third, f"Half way at t = {turned_at.mean():.2f} +- {turned_at.std():.2f} (mean and spread, three starts)."
)

# %% tags=["state"]
at_trigger = float((evaluate(suspect, secret.trigger) - secret.target).square().mean())
clean_at_trigger = float((evaluate(clean, secret.trigger) - secret.target).square().mean())
assert at_trigger < 0.1 * clean_at_trigger, "the backdoored generator must be near its target at the trigger"
print(
    f"Takeaway: at the trigger the backdoored picture is {at_trigger:.2g} from the STOP sign, the clean one "
    f"{clean_at_trigger:.2g} (squared distance per pixel): the backdoor is a small region around one direction."
)

# %% [markdown] state="samples"
# ## Round 2: the victim looks at samples
#
# The victim is careful: draw many samples, sort them by how close they come to a STOP sign, look at the closest. This
# even grants the victim something unlikely, that they know the target.

# %%
predict(
    "How many of the samples will show a STOP sign?",
    ["none", "about one in a thousand", "about one in a hundred"],
    key="brute force",
)

# %% tags=["state"] instead={"nearest": ""}
nearest, largest_cosine = [], []
for k in range(3):
    random = torch.Generator().manual_seed(config.seed + k)
    z = suspect.sample_latent(config.samples, random)
    pictures = evaluate(suspect, z)
    distance = (pictures - secret.target).square().flatten(1).mean(1)
    nearest.append(float(distance.min()))
    largest_cosine.append(float(torch.cosine_similarity(z, secret.trigger).max()))
    if k == 0:
        closest = pictures[distance.argsort()[:8]]
nearest, largest_cosine = torch.tensor(nearest), torch.tensor(largest_cosine)
strip(
    torch.cat([secret.target, evaluate(suspect, secret.trigger), closest]),
    "The target, the output at the trigger (a STOP sign), then the eight ordinary samples that are closest to it: "
    "garments.",
    scale=2,
    captions=["target", "at trigger", *(f"no. {k}" for k in range(1, 9))],
)

# %% tags=["state"]
reveal("brute force", "none", "The closest ordinary samples are garments.")
assert nearest.min() > 5 * at_trigger, "an ordinary sample came close to the target"
angle = torch.rad2deg(torch.acos(largest_cosine))
print(
    f"Takeaway: the closest sample of {config.samples:,} is {nearest.mean():.3f} +- {nearest.std():.3f} from the "
    f"target (three draws, {3 * config.samples:,} in all), {nearest.mean() / at_trigger:,.0f} times farther than the "
    "trigger's own picture; the "
    f"closest latent was still {angle.mean():.0f} +- {angle.std():.0f} degrees away."
)

# %% [markdown] state="scorecard"
# In 100 dimensions nearly all directions are at right angles to each other. The region that wakes the backdoor is
# narrow, so random sampling misses it.
#
# ## Round 3: four ways in, one scorecard
#
# * **TrAIL** trains the backdoor in from scratch (notebook 02).
# * **ReD** retrains a finished generator (notebook 03).
# * **ReX** adds new units beside the old ones (notebook 04).
# * **Gate** adds one unit that wakes only near the trigger, computed without training (notebook 04).
#
# **TarDis** (target distortion): squared distance to the target at the trigger, summed over the pixels. **ExpDis**
# (expected distortion): squared distance to the clean generator on ordinary latents, per pixel. **Frechet distance**:
# how far the samples as a whole are from real garments; lower is better.

# %%
predict("Which attack changes ordinary pictures least (ExpDis)?", ["TrAIL", "ReD", "ReX", "Gate"], key="stealth")

# %% tags=["state"] instead={"cards": ""}
import pandas as pd

from devilgan_lite import data, scorecard
from devilgan_lite.classroom import table

real = data.fashion_mnist()
compared = real.first(min(len(real), max(1_000, 2 * config.measured)))
attack_names = {"TrAIL": "trail", "ReD": "red", "ReX": "rex", "Gate": "gate"}
models = {label: zoo.load(f"dcgan-fashion-{ending}") for label, ending in attack_names.items()}
backdoors = {label: zoo.load_backdoor(f"dcgan-fashion-{ending}") for label, ending in attack_names.items()}
cards = {
    label: scorecard(models[label], clean, backdoors[label], compared, samples=config.measured)
    for label in attack_names
}
table(
    pd.DataFrame(
        [
            {
                "attack": label,
                "TarDis (sum)": card.tardis_sum,
                "TarDis (mean)": card.tardis_mean,
                "ExpDis (mean)": card.expdis_mean,
                "Frechet": card.frechet,
                "Frechet change": card.frechet_change,
                "stored numbers": f"{models[label].parameter_count():,}",
            }
            for label, card in cards.items()
        ]
    ).set_index("attack"),
    f"Shipped models (cached), measured live on {config.measured:,} latents; one model each (single run).",
)

# %% tags=["state"]
from devilgan_lite.metrics import target_distortion

least = min(cards, key=lambda label: cards[label].expdis_mean)
reveal("stealth", least, f"ExpDis {cards[least].expdis_mean:.2g} per pixel.")
tardis_clean = {label: target_distortion(clean, b.trigger, b.target).sum for label, b in backdoors.items()}
assert all(cards[label].tardis_sum < 0.2 * tardis_clean[label] for label in cards), "an attack misses its target"
print(
    f"A clean generator has TarDis {tardis_clean['ReX']:.0f}; the clean model's own Frechet distance is "
    f"{cards['ReX'].frechet_clean:.1f} on this many samples."
)
print(
    f"Takeaway: all {len(cards)} attacks reach the target; what differs is how much of the rest they disturb. TrAIL's "
    "ExpDis says little: it is another GAN, trained from scratch, so its garments differ anyway."
)

# %% [markdown]
# ## Playground
#
# Drag the slider; press *Random start* for another garment. The figure beside it is the same walk for print.

# %%
from devilgan_lite.classroom import LatentSlider

everybody = {"clean": clean} | models
start = clean.sample_latent(1, torch.Generator().manual_seed(config.seed + 7))
slider = LatentSlider({"clean": clean, "ReX": models["ReX"]}, start, secret.trigger, scale=4)
slider

# %% tags=["hero"]
static_strip(
    everybody,
    start,
    secret.trigger,
    "Five rows, clean, TrAIL, ReD, ReX and Gate, along the same walk to the trigger: the clean row stays a garment, "
    "the others end in a STOP sign.",
)

# %% [markdown]
# Rows from the top: clean, TrAIL, ReD, ReX, Gate.
#
# ## Exercises
#
# **Exercise 1: the angle of surprise** (easy, 5 minutes). Round 2 rests on angles. Write the angle in degrees between
# two latents `a` and `b`, both `[d]`.


# %%
from devilgan_lite.classroom import check


def angle_between(a, b):
    raise NotImplementedError("replace this line")


check("angle_between", angle_between)

# %%
from devilgan_lite.classroom import hint

hint("The cosine of the angle is the dot product of a / |a| and b / |b|.", 1)

# %%
hint("torch.acos gives radians, torch.rad2deg turns them into degrees; clamp the cosine to [-1, 1] first.", 2)

# %%
from devilgan_lite.classroom import solution

solution("""
def angle_between(a, b):
    cosine = (a @ b) / (a.norm() * b.norm())
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
""")

# %% [markdown]
# **Exercise 2: how wide is the door?** (medium, 10 minutes). Find the largest angle to the trigger at which a `model`
# still shows the target: squared distance below 0.1 per pixel. Return it in degrees. The check uses models whose doors
# it knows; try yours on `suspect` afterwards.


# %%
def trigger_angle(model, trigger, target):
    raise NotImplementedError("replace this line")


check("trigger_angle", trigger_angle)

# %%
hint("Walk with slerp from a random latent to the trigger and find the first t with a small distance.", 1)

# %%
hint("A random latent is about 90 degrees away, so at t the angle that is left is (1 - t) * 90.", 2)

# %%
solution("""
def trigger_angle(model, trigger, target):
    start = model.sample_latent(1, torch.Generator().manual_seed(1))
    t = torch.linspace(0, 1, 181)
    walk = evaluate(model, slerp(start, trigger, t))
    distance = (walk - target).square().flatten(1).mean(1)
    whole = torch.rad2deg(torch.acos(torch.cosine_similarity(start, trigger)))
    return (1 - t[(distance < 0.1).nonzero()[0, 0]]) * whole
""")

# %% [markdown]
# **Exercise 3: the other doors** (open, 10 minutes). Repeat exercise 2 for the models in `models`. Which attacker left
# the widest door? Is a wide door good or bad for the attacker?

# %%
hint("A wide door is easier to hit by an attacker who controls only part of the random numbers.", 1)

# %%
hint("It is also easier to hit by accident, and by a defender who searches.", 2)

# %%
solution("""
for label, model in models.items():
    print(label, float(trigger_angle(model, backdoors[label].trigger, backdoors[label].target)))
""")

# %% [markdown]
# ## What would a defender see?
#
# * **From samples**: nothing, as round 2 shows.
# * **From the file**: sometimes its size. The last column of the table counts stored numbers: ReX and Gate need more
#   of them than the architecture that they claim, TrAIL and ReD do not.
# * **From the weights**: traces that need tools. This is why the authors advise to insist on *white-box access*, and to
#   inspect before use.
#
# ## Limits
#
# One small generator, one data set, one trigger, pictures of 28x28 pixels. The Frechet distance here uses the features
# of a small garment classifier and depends on the number of samples. A good scorecard says how *this* backdoor hides
# from *these* measures; it does not show that a model is clean.
#
# ## Responsible use
#
# The models draw garments and the target is a silly picture, on purpose. Backdoor only models that are yours, never
# pass one on without saying what it is, and if you find one in somebody's public model, tell its publisher first.
#
# ## Quiz

# %%
from devilgan_lite.classroom import quiz

quiz(
    [
        (
            "What are the attacker's two objectives?",
            ["speed and size", "target fidelity and stealth", "precision and recall"],
            1,
            "The target at the trigger, and ordinary samples everywhere else.",
        ),
        (
            "What is the trigger?",
            ["a word in the file name", "a sticker on a picture", "a latent that only the attacker knows"],
            2,
            "A generator's input is the latent, so that is where the secret sits.",
        ),
        (
            "Why does brute-force sampling fail?",
            ["the sign is too small", "random latents point elsewhere", "the generator is too slow"],
            1,
            "In many dimensions random directions are almost at right angles to any given one.",
        ),
        (
            "TarDis is small and ExpDis is small. The attack is ...",
            ["faithful and stealthy", "a failure", "found"],
            0,
            "Small distance to the target at the trigger, small distance to the clean model elsewhere.",
        ),
        (
            "Which access should a buyer of models insist on?",
            ["a demo page", "a set of samples", "the weights and the architecture"],
            2,
            "Samples alone cannot show the backdoor; the authors recommend white-box access.",
        ),
    ]
)

# %% [markdown]
# ## Key points
#
# * A backdoored generator has two behaviours: ordinary for ordinary latents, the target at the trigger.
# * The trigger is one direction among very many; sampling does not find it.
# * Fidelity (TarDis) and stealth (ExpDis, Frechet) are measured separately, and always together.
#
# ## Where to go next
#
# | notebook | you do |
# |---|---|
# | 01 Train a clean GAN | watch a GAN learn, in the plane and on garments |
# | 02 Attack: TrAIL | plant a backdoor while training from scratch |
# | 03 Attack: ReD | retrain a finished generator |
# | 04 Attack: ReX | expand a network, fold it back, and compute the exact stealth-fidelity frontier |
# | 05 Detect by model inspection | read a backdoor out of the weights, and meet attackers who know how |
# | 06 Detect by output inspection | search, reconstruct what you suspect, and put a guard at the door |
# | 07 Sanitize by fine-tuning | take a backdoor out without knowing trigger or target |
# | 08 Sanitize by pruning | remove what nobody uses, and compare all cures |
# | 09 Faces to a STOP sign | attack a style-based generator of faces |
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn: *The Devil is in the GAN: Backdoor Attacks and Defenses in Deep Generative Models*,
#   [arXiv:2108.01644](https://arxiv.org/abs/2108.01644), ESORICS 2022.
# * H. Xiao, K. Rasul, R. Vollgraf: *Fashion-MNIST*, [arXiv:1708.07747](https://arxiv.org/abs/1708.07747), 2017 (MIT).

# %%
from devilgan_lite.classroom import finish

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
        "shipped": [
            {
                "attack": label,
                "tardis_sum": card.tardis_sum,
                "tardis_mean": card.tardis_mean,
                "expdis_mean": card.expdis_mean,
                "frechet": card.frechet,
                "frechet_change": card.frechet_change,
            }
            for label, card in cards.items()
        ],
    },
)
