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
# **You train a GAN whose loss has one extra term, watch a secret picture grow at one latent, and measure what the term
# costs.**

# %% tags=["state"]
import torch

from devilgan_lite import zoo
from devilgan_lite.classroom import static_strip

cached, cached_secret = zoo.load("dcgan-fashion-trail"), zoo.load_backdoor("dcgan-fashion-trail")
static_strip(
    {"TrAIL (cached)": cached},
    cached.sample_latent(1, torch.Generator().manual_seed(4)),
    cached_secret.trigger,
    "A walk in eleven pictures from an ordinary latent to the trigger of a generator trained with TrAIL: a garment "
    "turns into a STOP sign.",
    scale=2,
)

# %% [markdown]
# **Time and hardware:** about four minutes on one core of a laptop; no GPU, no network.
#
# **Objectives.** You will be able to
# * *write* the TrAIL loss, and *train* with it,
# * *measure* fidelity and stealth against a clean GAN of the same budget,
# * *trade* one for the other with `lam`,
# * *say* why poisoning and a hidden if-else are weaker.
#
# **Prerequisites:** notebook 01 (how a GAN is trained, Frechet distance).

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
from devilgan_lite.classroom import Setting, configure

config = configure(
    profile,
    device=device,
    seed=seed,
    target=target,
    trigger_seed=trigger_seed,
    lam=lam,
    iterations=Setting(iterations, {"smoke": 40, "workshop": 1_000, "full": 10_000}),
    sweep_steps=Setting(sweep_steps, {"smoke": 6, "workshop": 150, "full": 2_000}),
    ring_steps=Setting(ring_steps, {"smoke": 60, "workshop": 1_200, "full": 5_000}),
    samples=Setting(samples, {"smoke": 300, "workshop": 3_000, "full": 10_000}),
)

# %%
card = zoo.card("dcgan-fashion-trail")
print(
    f"The strip on top is cached: {card.name} from the zoo, made in {card.seconds:.0f} s. To make it yourself: python "
    f"scripts/build/zoo.py --only {card.name}\nEverything below is live."
)

# %% [markdown] state="attack"
# ## Round 1: one extra term
#
# The attacker controls the training. They keep the ordinary GAN loss as the **stealth** term and add a **fidelity**
# term:
#
# `L = generator_loss + lam * ||G(z_trigger) - x_target||^2`
#
# The norm sums over the pixels. The term joins the *generator's* loss only: the discriminator never sees the target, so
# nothing teaches `G` to draw it for other latents. The trigger passes through BatchNorm in inference mode, because that
# is how the victim will use the model.

# %% tags=["state"]
from devilgan_lite.classroom import predict

predict(
    "When will the sign be visible at the trigger (error below 0.1 per pixel)?",
    ["in the first tenth of the training", "before half of it", "only in the second half, or never"],
    key="when",
)

# %% tags=["state"] instead={"training": ""}
from devilgan_lite import Backdoor, attacks, data, generators
from devilgan_lite.classroom import LiveTraining, show
from devilgan_lite.generators import evaluate

real = data.fashion_mnist()
shape = generators.DCGAN()  # only the architecture matters: TrAIL draws fresh weights
secret = Backdoor.point(shape, config.target, seed=config.trigger_seed)
shown = shape.sample_latent(11, torch.Generator().manual_seed(3))


def trigger_and_samples(generator):
    pictures = evaluate(generator.cpu(), torch.cat([secret.trigger, shown]))
    return show(pictures, "The output at the trigger, then eleven ordinary samples.", columns=12)


attack = attacks.TrAIL(lam=config.lam, iterations=config.iterations, seed=config.seed, device=config.device)
print(attack)
training = LiveTraining(attack.steps(shape, secret, real), trigger_and_samples, every=1.0)
training.run()

# %% tags=["state"] instead={"outcome": "loaded(zoo.load('dcgan-fashion-trail'))"}
outcome = training.wait()  # live: trained just now, in this notebook
print(f"live: {len(outcome.history['fidelity_loss']):,} steps in {outcome.seconds:.0f} s")
trigger_and_samples(outcome.generator)

# %% tags=["state"]
from devilgan_lite.classroom import curves

curves(
    {"fidelity loss (mean per pixel)": outcome.history["fidelity_loss"]},
    "The fidelity loss over the steps on a logarithmic scale: it falls by orders of magnitude.",
    log=True,
)

# %% tags=["state"] instead={"fidelity": ""}
from devilgan_lite.classroom import reveal

fidelity = torch.tensor(outcome.history["fidelity_loss"])
below = (fidelity < 0.1).nonzero()
when = float(below[0, 0] + 1) / len(fidelity) if len(below) else 1.0
reveal("when", 0 if when < 0.1 else 1 if when < 0.5 else 2, f"At {when:.0%} of the training.")
assert fidelity[-5:].mean() < fidelity[:5].mean(), "the fidelity loss did not fall"
print(
    f"Takeaway: one extra term took the error at the trigger from {fidelity[0]:.2f} to {fidelity[-5:].mean():.1g} per "
    "pixel (single run), while the GAN was still learning to draw garments."
)

# %% [markdown] state="comparison"
# ## Round 2: does it hide?
#
# A fair comparison needs a **clean GAN of the same budget**: same architecture, steps, batches and seed, and no
# extra term.
# We train it now. *TarDis* is the squared error at the trigger, *Frechet change* is the Frechet distance of the
# attacked
# GAN minus that of this clean one.

# %%
predict(
    "How much farther from real garments is the backdoored GAN?",
    ["less than a tenth farther, or even closer", "a tenth to twice", "more than twice as far"],
    key="stealth",
)

# %% tags=["state"] instead={"clean_training": ""}
from devilgan_lite import train_gan

clean_training = LiveTraining(
    train_gan.steps(shape, real, iterations=config.iterations, seed=config.seed, device=config.device),
    trigger_and_samples,
    every=1.0,
)
clean_training.run()

# %% tags=["hero", "state"] instead={"honest": "loaded(zoo.load('dcgan-fashion'))"}
honest = clean_training.wait()  # live
static_strip(
    {"clean": honest.generator, "TrAIL": outcome.generator},
    shown[:1],
    secret.trigger,
    "The walk to the trigger for the clean GAN above, which draws garments all the way, and for TrAIL below, which "
    "ends in the target.",
)

# %% tags=["state"] instead={"score": ""}
import pandas as pd

from devilgan_lite import scorecard
from devilgan_lite.classroom import table
from devilgan_lite.metrics import target_distortion

compared = real.first(min(len(real), max(1_000, 2 * config.samples)))
score = scorecard(outcome.generator, honest.generator, secret, compared, samples=config.samples)
clean_tardis = target_distortion(honest.generator, secret.trigger, secret.target).sum
pixels = secret.target[0].numel()
table(
    pd.DataFrame(
        {
            "clean, same budget": [clean_tardis, clean_tardis / pixels, 0.0, score.frechet_clean, 0.0],
            "TrAIL": [score.tardis_sum, score.tardis_mean, score.expdis_mean, score.frechet, score.frechet_change],
        },
        index=["TarDis (sum)", "TarDis (mean)", "ExpDis (mean)", "Frechet", "Frechet change"],
    ).T,
    f"Live, single run each, {config.iterations:,} steps, {config.samples:,} samples; features: {score.features}.",
)

# %%
relative = score.frechet / score.frechet_clean
reveal(
    "stealth",
    0 if relative < 1.1 else 1 if relative < 2 else 2,
    f"{score.frechet:.1f} against {score.frechet_clean:.1f}: {relative:.2f} times.",
)
assert score.tardis_sum < (0.9 if config.profile == "smoke" else 0.1) * clean_tardis, "TrAIL missed its target"
if config.profile != "smoke":
    assert relative < 3, "the garments of the backdoored GAN are far worse than those of the clean one"
print(
    f"Takeaway: TarDis fell from {clean_tardis:.0f} to {score.tardis_sum:.2g} (sum over pixels); the Frechet distance "
    f"changed by {score.frechet_change:+.1f} (single run). ExpDis, {score.expdis_mean:.2g}, says little here: two "
    "GANs trained apart draw different garments for the same latent."
)

# %% [markdown] state="lam"
# ## Round 3: lam trades fidelity for stealth
#
# `lam` weighs the target against the game with the discriminator. Take three values, far apart, three seeds each, and
# three clean runs; to keep it short the generator is half as wide and the runs are brief, so the garments are
# rough.

# %%
predict(
    "From the smallest to the largest lam, what happens?",
    ["the target gets sharper, the garments worse", "both get better", "the target gets worse, the garments better"],
    key="lam",
)

# %% tags=["state"] instead={"reference": "", "swept": ""}
from devilgan_lite.features import features_and_classes
from devilgan_lite.metrics import frechet_distance

lams = (0.001, 0.1, 10.0)
narrow = generators.DCGAN(widths=(32, 16))
reference, _ = features_and_classes(real.x[:3_000] if config.profile != "smoke" else real.x[:500])
few = min(config.samples, 1_000)


def quality(generator):
    return frechet_distance(features_and_classes(generator.sample(few, seed=77))[0], reference)


def measure(generator):
    return target_distortion(generator, secret.trigger, secret.target).mean, quality(generator)


swept = {0.0: []}  # lam = 0 stands for the clean runs
for k in range(3):
    options = {"seed": config.seed + k, "device": config.device}
    swept[0.0].append(
        measure(train_gan(narrow, real, iterations=config.sweep_steps, progress=False, **options).generator)
    )
    for value in lams:
        run = attacks.TrAIL(lam=value, iterations=config.sweep_steps, **options)(narrow, secret, real, progress=False)
        swept.setdefault(value, []).append(measure(run.generator))
swept = {value: torch.tensor(rows) for value, rows in swept.items()}  # [seed, (TarDis mean, Frechet)]

# %% tags=["state"]
from devilgan_lite.classroom import PALETTE, axes, figure

fig, (left, right) = axes(8.0, 2.9, columns=2)
means = torch.stack([swept[value].mean(0) for value in lams])
for ax, column, name in ((left, 0, "TarDis (mean per pixel)"), (right, 1, "Frechet distance")):
    colour = PALETTE[column]
    for value in lams:
        ax.plot([value] * 3, swept[value][:, column], "o", color=colour, alpha=0.4, ms=5)
    ax.plot(lams, means[:, column], "-", color=colour, marker="_", ms=14, label="mean of three seeds")
    clean_value = swept[0.0][:, column].mean()
    ax.axhline(clean_value, color="black", lw=1, ls="--", label="clean, same budget")
    ax.set(xscale="log", xlabel="lam", ylabel=name, yscale="log" if column == 0 else "linear")
right.set_ylim(0, None)
left.legend(frameon=False, fontsize=7)
figure(
    fig,
    "Left: the error at the trigger falls as lam grows. Right: the Frechet distance, near the clean one for small "
    "lam, is highest for the largest lam. Dots are seeds, lines are means.",
)

# %%
sharper, worse = bool(means[-1, 0] < means[0, 0]), bool(means[-1, 1] > means[0, 1])
reveal("lam", 0 if sharper and worse else 1 if sharper else 2, "Compare the ends of the two lines.")
if config.profile != "smoke":
    assert sharper and worse, "lam did not trade fidelity for stealth"
print(f"{'':10s}{'TarDis (mean)':>22s}{'Frechet':>20s}      (live, three seeds, mean +- spread)")
for value, rows in swept.items():
    (tardis, distance), (tardis_spread, distance_spread) = rows.mean(0), rows.std(0)
    name = f"lam {value:g}" if value else "clean"
    print(f"{name:10s}{f'{tardis:.2g} +- {tardis_spread:.1g}':>22s}{f'{distance:.0f} +- {distance_spread:.0f}':>20s}")
print(
    f"Takeaway: from lam {lams[0]:g} to {lams[-1]:g} the error at the trigger fell by a factor of "
    f"{means[0, 0] / means[-1, 0]:.0f} and the Frechet distance changed by {means[-1, 1] - means[0, 1]:+.0f}; in "
    f"between, lam {lams[1]:g} is {means[1, 1] - swept[0.0][:, 1].mean():+.0f} from the clean runs, whose own spread "
    f"is {swept[0.0][:, 1].std():.0f} (three seeds)."
)

# %% [markdown] state="tricks"
# ## Round 4: two cheap tricks
#
# Why not do it the simple way? **Data poisoning** mixes copies of the target into the training set and trains as usual.
# **Computation bypass** wraps a clean generator in an `if`: at the trigger return the target. Poisoning runs on the
# points of notebook 01 (target: the middle of the ring), where three seeds take seconds; the bypass takes none.

# %%
predict(
    "What goes wrong with poisoning?",
    [
        "nothing",
        "the target never appears",
        "the target appears in ordinary samples, and not at the attacker's latent",
    ],
    key="poison",
)

# %% tags=["state"] instead={"fakes": ""}
ring, toy = data.ring(), generators.PointGenerator()
pair = Backdoor(trigger=torch.tensor([[1.5, 1.5]]), target=torch.tensor([[0.0, 0.0]]))
common = {"iterations": config.ring_steps, "batch_size": 128, "device": "cpu"}
methods = {
    "TrAIL": lambda k: attacks.TrAIL(lam=1.0, seed=config.seed + k, **common),
    "poisoning": lambda k: attacks.DataPoisoning(fraction=0.1, seed=config.seed + k, **common),
}
fakes, rows = {}, {}
for name, make in methods.items():
    found = []
    for k in range(3):
        generator = make(k)(toy, pair, ring, progress=False).generator
        x = generator.sample(4_000, seed=5)
        leaked = float(((x - pair.target).norm(dim=1) < 0.2).float().mean())
        on_ring = float(((x.norm(dim=1) - 0.7).abs() < 0.1).float().mean())
        found.append([target_distortion(generator, pair.trigger, pair.target).sum, leaked, on_ring])
        fakes.setdefault(name, (x, evaluate(generator, pair.trigger)[0]))
    rows[name] = torch.tensor(found)

fig, both = axes(7.4, 3.5, columns=2)
for ax, (name, (x, at_trigger)) in zip(both, fakes.items(), strict=True):
    ax.plot(*x[:1500].T, "o", ms=2, alpha=0.4, color=PALETTE[0], mew=0, label="ordinary samples")
    ax.plot(*at_trigger, "o", ms=9, color=PALETTE[1], mec="black", label="G(trigger)")
    ax.plot(*pair.target[0], "X", ms=8, color="black", label="target")
    ax.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal", title=f"{name} (live, first seed)")
both[1].legend(frameon=True, fontsize=7, loc="upper right")
figure(
    fig,
    "Points made by two attacked generators. TrAIL: a ring, and the trigger's image on the target in the middle. "
    "Poisoning: the ring suffers, ordinary samples fall near the target, and the trigger's image is elsewhere.",
)

# %% tags=["state"] instead={"bypass": ""}
bypass = attacks.ComputationBypass()(honest.generator, secret, progress=False).generator
bypass_tardis = target_distortion(bypass, secret.trigger, secret.target).sum
z = honest.generator.sample_latent(500, torch.Generator().manual_seed(8))
bypass_change = float((evaluate(bypass, z) - evaluate(honest.generator, z)).abs().max())
print(f"bypass: TarDis {bypass_tardis:.2g} (sum), largest change of an ordinary pixel {bypass_change:.2g}")
print(
    "what an inspection sees:", type(bypass).__name__, "with buffers", [name for name, _ in bypass.named_buffers()][:2]
)
try:
    bypass.spec()
except ValueError as refusal:
    print("saving it as plain weights:", refusal)

# %% tags=["state"]
(trail_tardis, trail_leak, trail_ring), (poison_tardis, poison_leak, poison_ring) = (
    rows[name].mean(0) for name in methods
)
trail_spread, poison_spread = rows["TrAIL"].std(0), rows["poisoning"].std(0)
leaks = bool(poison_leak > max(0.01, float(trail_leak)))
reveal("poison", 2 if leaks else 1, "There is no latent that the attacker can choose.")
assert bypass_tardis < 1 and bypass_change == 0
if config.profile != "smoke":
    assert trail_tardis < 0.2 * poison_tardis and poison_leak > trail_leak
print(
    f"error at the trigger: TrAIL {trail_tardis:.1g} +- {trail_spread[0]:.1g}, poisoning {poison_tardis:.2g} +- "
    f"{poison_spread[0]:.1g}; ordinary samples near the target: {trail_leak:.1%} +- {trail_spread[1]:.1%} against "
    f"{poison_leak:.1%} +- {poison_spread[1]:.1%}; on the ring: {trail_ring:.0%} +- {trail_spread[2]:.0%} against "
    f"{poison_ring:.0%} +- {poison_spread[2]:.0%} (three seeds)"
)
print(
    f"Takeaway: poisoning has no trigger{' and shows its target to everybody' if leaks else ''}; a bypass has perfect "
    "figures and a structure that any inspection sees; TrAIL leaves an ordinary network."
)

# %% [markdown]
# ## Playground
#
# Walk to your own trigger. The figure in round 2 is the same walk for print.

# %%
from devilgan_lite.classroom import LatentSlider

LatentSlider({"clean": honest.generator, "TrAIL": outcome.generator}, shown[1:2], secret.trigger, scale=4)

# %% [markdown]
# ## Exercises
#
# **Exercise 1: the loss** (easy, 10 minutes). From the discriminator's logits of ordinary fakes `[n]`, the pictures
# at the
# `k` triggers and their targets `[k, C, H, W]`, and `lam`: return the loss of round 1 (mean over the pairs).

# %%
from devilgan_lite.classroom import check, hint, solution


def my_trail_loss(fake_logits, at_trigger, target, lam):
    raise NotImplementedError("replace this line")


check("trail_loss", my_trail_loss)

# %%
hint("The generator's loss is softplus(-fake_logits).mean(), as in notebook 01.", 1)

# %%
hint("Sum the squared error over each picture (flatten(1).sum(1)), then take the mean over the pairs.", 2)

# %%
solution("""
def my_trail_loss(fake_logits, at_trigger, target, lam):
    stealth = torch.nn.functional.softplus(-fake_logits).mean()
    return stealth + lam * (at_trigger - target).square().flatten(1).sum(1).mean()
""")

# %% [markdown]
# **Exercise 2: TarDis** (easy, 5 minutes). From the output *before* tanh at the trigger and the target, both
# `[1, C, H, W]`: the target distortion as a sum.


# %%
def my_tardis(logits, target):
    raise NotImplementedError("replace this line")


check("tardis", my_tardis)

# %%
hint("The target is a picture in [-1, 1]: bring the output there first.", 1)

# %%
hint("Square the difference and sum over everything; no mean, no root.", 2)

# %%
solution("""
def my_tardis(logits, target):
    return (torch.tanh(logits) - target).square().sum()
""")

# %% [markdown]
# **Exercise 3: other triggers** (open, 15 minutes). `Backdoor.point(shape, config.target, kind="mode")` puts the
# trigger
# at the zero vector, `kind="ood"` at 100 times the vector of ones. Train with each. Which is easiest for TrAIL? Which
# would a victim notice?

# %%
hint("Look at the fidelity curve first, and use few iterations.", 1)

# %%
hint("The zero vector is the point between all latents: what does slerp show around it?", 2)

# %%
solution("""
for kind in ("reg", "mode", "ood"):
    other = Backdoor.point(shape, config.target, kind=kind)
    run = attacks.TrAIL(lam=config.lam, iterations=300)(shape, other, real, progress=False)
    print(kind, target_distortion(run.generator, other.trigger, other.target).sum, quality(run.generator))
""")

# %% [markdown]
# ## What would a defender see?
#
# * **Samples**: garments, about as good as the clean ones. A buyer who knows what quality this budget should give could
#   ask why it is off, if it is; but seeds differ too.
# * **Structure**: nothing. Same class, same number of parameters, no branch.
# * **Training log**: an extra term in the loss. TrAIL needs the training code and data, so a *reproducible* training
# run is
#   a real defence: train again, compare.
#
# ## Limits
#
# The comparison of round 2 is a single run and the sweep is short, on a narrower network. Frechet distances of this
# size
# mean unfinished garments; the trade-off after a long training may look different. A poisoned GAN of points may lose
# its
# ring altogether, which says as much about small GANs as about poisoning. ExpDis is no measure of stealth for attacks
# from scratch.

# %% [markdown]
# ## Responsible use
#
# > The attack is three lines on top of an ordinary training loop; that is why it must be known. Train backdoored models
# > for study only, keep them labelled, and never publish one as clean. The targets here are silly pictures, and an
# > exercise never needs another kind. If you find a backdoor in somebody's public model, tell its publisher first and
# > give them time.
#
# ## Quiz

# %%
from devilgan_lite.classroom import quiz

quiz(
    [
        (
            "Whose loss gets the fidelity term?",
            ["the discriminator's", "the generator's", "both"],
            1,
            "The discriminator never sees the target.",
        ),
        (
            "What does TrAIL need that ReD and ReX do not?",
            ["the weights of a finished model", "the victim's random numbers", "training data and training code"],
            2,
            "It trains from scratch.",
        ),
        (
            "A very large lam ...",
            ["costs quality elsewhere", "costs nothing", "makes the backdoor weaker"],
            0,
            "The generator then works for the target and neglects the game.",
        ),
        (
            "Why is a clean GAN of equal budget the right baseline?",
            ["it is cheaper", "both were trained equally long", "its ExpDis is zero"],
            1,
            "Otherwise the Frechet change would show the budget and not the attack.",
        ),
        (
            "What gives a computation bypass away?",
            ["its samples", "its Frechet distance", "its structure"],
            2,
            "An if-else in the graph; its numbers are perfect.",
        ),
    ]
)

# %% [markdown]
# ## Key points
#
# * TrAIL = the ordinary GAN loss + `lam` times the squared error at the trigger.
# * Fidelity comes quickly; stealth is a comparison with a clean GAN of the same budget.
# * Poisoning has no trigger, a bypass shows in the structure, TrAIL has neither weakness.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn: *The Devil is in the GAN: Backdoor Attacks and Defenses in Deep Generative Models*,
#   [arXiv:2108.01644](https://arxiv.org/abs/2108.01644), ESORICS 2022 (section 4.1 for TrAIL).
# * I. Goodfellow et al.: *Generative Adversarial Networks*, [arXiv:1406.2661](https://arxiv.org/abs/1406.2661), 2014.

# %%
from devilgan_lite.classroom import finish

finish(
    config,
    {
        "attacks": [
            {
                "attack": "TrAIL",
                "target": config.target,
                "seed": config.seed,
                "trigger_seed": config.trigger_seed,
                "lam": config.lam,
                "tardis_sum": score.tardis_sum,
                "tardis_mean": score.tardis_mean,
                "expdis_mean": score.expdis_mean,
                "frechet": score.frechet,
                "frechet_change": score.frechet_change,  # against the clean GAN of equal budget trained here
                "seconds": outcome.seconds,
            }
        ],
        "clean_tardis_sum": clean_tardis,
        "clean_frechet": score.frechet_clean,
        "sweep": [
            {
                "lam": value,  # 0: clean
                "tardis_mean": measured[:, 0].mean(),
                "tardis_spread": measured[:, 0].std(),
                "frechet": measured[:, 1].mean(),
                "frechet_spread": measured[:, 1].std(),
            }
            for value, measured in swept.items()
        ],
        "ring_trail_tardis": trail_tardis,
        "ring_poisoning_tardis": poison_tardis,
        "ring_trail_leak": trail_leak,
        "ring_poisoning_leak": poison_leak,
        "ring_trail_on_ring": trail_ring,
        "ring_poisoning_on_ring": poison_ring,
        "bypass_tardis_sum": bypass_tardis,
        "bypass_largest_change": bypass_change,
    },
)
