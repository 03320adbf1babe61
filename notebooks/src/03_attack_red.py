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
# **You will take a clean garment generator, retrain a copy of it for a minute without a single training picture, and
# get a generator that differs from the first at one latent only.**

# %% tags=["state"]
import torch

from devilgan_lite import zoo
from devilgan_lite.classroom import static_strip

clean, shipped = zoo.load("dcgan-fashion"), zoo.load("dcgan-fashion-red")
secret = zoo.load_backdoor("dcgan-fashion-red")
print("cached: both rows come from models that ship with the project; below you make your own, live")
static_strip(
    {"clean": clean, "ReD": shipped},
    clean.sample_latent(1, torch.Generator().manual_seed(7)),
    secret.trigger,
    alt="A walk from an ordinary latent to the trigger. The clean generator shows garments all the way; "
    "the one that was retrained with ReD ends in the attacker's picture.",
    captions=["ordinary", *[""] * 9, "trigger"],
)

# %% [markdown]
# **Time and hardware:** two to three minutes in the workshop profile on one CPU core; no GPU, no network.
#
# **Objectives.** You will be able to
# * *write* the loss of ReD, REtraining with Distillation, and say why it needs no data,
# * *measure* what the loss space, the retrained layers, the trigger and lam change,
# * *measure* how many degrees around the trigger the backdoor is on,
# * *argue* what somebody who receives the file could notice.
#
# **Prerequisites:** notebook 00; what a gradient step is. Notebook 02 (TrAIL) helps for comparison.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 13  # draws the trigger and the attack's batches, 0..100000
target = "stop-sign"  # what the trigger should show: stop-sign | devil | digit-7 | checkerboard
lam = 0.27  # weight of the fidelity term in the live run, 0.0001..100.0
iterations = None  # steps of the live run, 20..20000
short_iterations = None  # steps of every short comparison run, 5..5000
samples = None  # pictures behind the scorecard, 200..50000
device = "auto"  # where to train: auto | cpu | cuda | mps

# %% tags=["state"]
from devilgan_lite.classroom import Setting, configure

config = configure(
    profile,
    device=device,
    seed=seed,
    target=target,
    lam=lam,
    iterations=Setting(iterations, {"smoke": 250, "workshop": 2_500, "full": 7_500}),
    short_iterations=Setting(short_iterations, {"smoke": 5, "workshop": 120, "full": 1_000}),
    samples=Setting(samples, {"smoke": 500, "workshop": 2_000, "full": 10_000}),
)

# %% tags=["state"]
from devilgan_lite import Backdoor, attacks, data, scorecard
from devilgan_lite.classroom import (
    LatentSlider,
    LiveTraining,
    axes,
    check,
    curves,
    figure,
    finish,
    frontier,
    hint,
    predict,
    quiz,
    reveal,
    show,
    solution,
    strip,
    table,
    tile,
)
from devilgan_lite.generators import evaluate
from devilgan_lite.metrics import expected_distortion, target_distortion

real = data.fashion_mnist().first(min(config.samples, 10_000))
backdoor = Backdoor.point(clean, config.target, seed=config.seed)
held_out = clean.sample_latent(
    200 if config.profile == "smoke" else 500, torch.Generator().manual_seed(7)
)  # latents that no attack trains on
card = zoo.card("dcgan-fashion")
print(f"cached: the clean generator, {clean.parameter_count():,} numbers, trained for {card.seconds:.0f} s on a CPU.")
print("To train it again: python scripts/build/zoo.py --only dcgan-fashion")


def distances(suspect, backdoor):
    """TarDis and ExpDis, both as means per pixel in [-1, 1] units."""
    tardis = target_distortion(suspect, backdoor.trigger, backdoor.target).mean
    return tardis, expected_distortion(suspect, clean, held_out).mean


def spread(values):
    """Mean and standard deviation over the seeds, as a text."""
    numbers = torch.tensor(values, dtype=torch.float64)
    return f"{numbers.mean():.3g} ± {numbers.std():.1g}"


benign_tardis, _ = distances(clean, backdoor)
print(f"The clean generator at the trigger is {benign_tardis:.3f} per pixel away from the target.")

# %% [markdown] state="attack"
# ## Round 1: a student, a teacher, one bent point
#
# The attacker has somebody else's finished generator $G$ and nothing more: no pictures, no critic. ReD copies it and
# retrains the copy $G^*$ with
#
# $$L = \mathbb E_z\,\|G^*(z) - G(z)\|^2 \;+\; \lambda\,\|G^*(z_\text{trigger}) - x_\text{target}\|^2 .$$
#
# The first term is *distillation*: the clean generator itself is the teacher, and random latents are the lessons, so
# there are as many as one likes. The second bends the function at one point. Two practical rules: start from the clean
# weights (a student that starts anywhere else must first learn to draw), and run BatchNorm in inference mode in both
# networks (else the trigger would be normalised by its neighbours in the batch).
#
# The live run adds a head start of ours (`aligned_units=4`): in each of the 7 x 7 cells, the four units that matter
# least are turned to wake at the trigger and to sleep elsewhere. Round 6 measures what that buys; the short runs of
# rounds 2 to 5 do without it, as the authors do.

# %%
predict(
    "By which factor will the live run bring the picture at the trigger closer to the target (squared distance)?",
    ["less than 30", "30 to 1,000", "more than 1,000"],
    key="factor",
)

# %% tags=["state"] instead={"live": ""}
attack = attacks.ReD(lam=config.lam, iterations=config.iterations, seed=config.seed, device=config.device)
watched = torch.cat([backdoor.trigger, held_out[:7]])


def draw(generator):
    """The picture at the trigger, then seven ordinary ones."""
    return tile(evaluate(generator.cpu(), watched), captions=["trigger", *[""] * 7])


live = LiveTraining(attack.steps(clean, backdoor), draw)
live.run()

# %% tags=["state"] instead={"outcome": "loaded(zoo.load('dcgan-fashion-red'))", "red_card": ""}
outcome = live.wait()  # live: this is what the previous cell trained
backdoored = outcome.generator
red_card = scorecard(backdoored, clean, backdoor, real, samples=config.samples)
print(f"live, single run: {len(outcome.history['stealth_loss'])} steps in {outcome.seconds:.0f} s")
red_card

# %% tags=["hero"]
strip(
    [evaluate(clean, watched), evaluate(backdoored, watched)],
    alt="Upper row: the clean generator at the trigger and at seven ordinary latents. Lower row: after ReD. Only the "
    "picture at the trigger, the first column, has changed: it is the target now.",
    captions=["trigger", *[f"z {k}" for k in range(1, 8)]],
)

# %%
curves(
    outcome.history,
    alt="Stealth and fidelity loss over the steps of ReD on a logarithmic axis; fidelity falls by orders of magnitude, "
    "stealth rises first and then falls again.",
    log=True,
    title="live run",
)

# %%
factor = benign_tardis / red_card.tardis_mean
reveal("factor", 0 if factor < 30 else 1 if factor < 1_000 else 2, f"Measured: {factor:,.0f} times (single run).")
if 0.01 <= config.lam <= 1:  # an extreme lam gives one of the two aims up
    assert factor > 5, "ReD must come much closer to the target than the clean generator"
    assert red_card.expdis_mean < 0.05, "ordinary outputs must stay what they were"
print(
    f"Takeaway: {outcome.seconds:.0f} s of retraining without any data leave {red_card.tardis_mean:.1e} per pixel "
    f"at the trigger and move ordinary pictures by {red_card.expdis_mean:.1e}; the Frechet distance changes by "
    f"{red_card.frechet_change:+.2f} (from {red_card.frechet_clean:.1f})."
)

# %% [markdown] state="spaces"
# ## Round 2: before or after tanh?
#
# The last layer ends in tanh. One can compare pictures *after* it (`tanh`), or the numbers *before* it (`logits`,
# where the authors found ReD to work best). After tanh, a pixel that is saturated on the wrong side has almost no
# slope: it is hard to repair. Before tanh, the garments' black background costs dearly: the difference between -4 and
# -6 is invisible and still counts. The third choice, `mixed`, compares pictures and adds a small pull before tanh on
# those target pixels alone that are still wrong.
#
# The comparison is fair in one sense only: equal, short budgets and one learning rate. Three seeds each; a seed draws
# both the trigger and the batches.

# %%
predict(
    "Which space comes closest to the target in the same short budget?",
    ["tanh", "logits", "mixed"],
    key="space",
)

# %% tags=["state"] instead={"by_space": ""}
SEEDS = (0, 1, 2)


def short_run(seed, kind="reg", **settings):
    """One short ReD run without a head start; returns TarDis, ExpDis, the generator and its backdoor."""
    backdoor = Backdoor.point(clean, config.target, kind=kind, seed=seed)
    plain = {"aligned_units": 0, "learning_rate": 3e-3, "lam": 0.1, "batch_size": 32} | settings
    attack = attacks.ReD(iterations=config.short_iterations, seed=seed, device=config.device, **plain)
    suspect = attack(clean, backdoor, progress=False).generator
    return *distances(suspect, backdoor), suspect, backdoor


def columns(runs):
    """Mean and spread of TarDis and ExpDis over ``runs``, for a table."""
    return {
        "TarDis, mean per pixel": spread([r[0] for r in runs]),
        "ExpDis, mean per pixel": spread([r[1] for r in runs]),
    }


by_space = {space: [short_run(s, space=space) for s in SEEDS] for space in ("tanh", "logits", "mixed")}
frontier(
    alt="Target distortion against expected distortion of nine short runs, three for each loss space; lower left is "
    "better for the attacker.",
    points={space: ([r[1] for r in runs], [r[0] for r in runs]) for space, runs in by_space.items()},
    xlabel="ExpDis, mean per pixel (less: stealthier)",
    ylabel="TarDis, mean per pixel (less: sharper)",
    title=f"{config.short_iterations} steps, three seeds each (live)",
)

# %% tags=["state"]
import pandas as pd

table(
    pd.DataFrame({space: columns(runs) for space, runs in by_space.items()}).T,
    f"Loss space, {config.short_iterations} steps, mean ± standard deviation over {len(SEEDS)} seeds (live)",
)

# %%
mean_tardis = {space: sum(r[0] for r in runs) / len(runs) for space, runs in by_space.items()}
best_space = min(mean_tardis, key=mean_tardis.get)
stealthiest = min(by_space, key=lambda space: sum(r[1] for r in by_space[space]))
reveal("space", best_space, f"The stealthiest in this budget is {stealthiest}.")
print(
    f"Takeaway: with {config.short_iterations} steps, {best_space} is closest to the target on average "
    f"({spread([r[0] for r in by_space[best_space]])}) and {stealthiest} changes ordinary pictures least "
    f"({spread([r[1] for r in by_space[stealthiest]])}); read the means with their spread."
)

# %% [markdown] state="layers"
# ## Round 3: which layers?
#
# ReD may retrain any subset of layers; the rest stays byte for byte what the victim can download elsewhere. A defender
# who compares weights sees only the layers that moved. But can *any* layer carry the backdoor? `dense` turns the latent
# into a 7 x 7 map of channels, `deconv1` turns that into 14 x 14, and `deconv2` paints the picture from what arrives:
# it has few numbers and sees the trigger only through the features of the layer before.

# %%
predict(
    "One layer is retrained, the others are frozen. Which one cannot draw the target?",
    ["dense", "deconv1", "deconv2"],
    key="layer",
)

# %%
by_layer = {"all": by_space["mixed"]}
for name in clean.layer_names():
    by_layer[name] = [short_run(s, space="mixed", layers=(name,)) for s in SEEDS]
sizes = {
    name: sum(p.numel() for m in clean.named_layers()[name] for p in m.parameters()) for name in clean.layer_names()
}
sizes["all"] = sum(sizes.values())
table(
    pd.DataFrame({name: {"weights": f"{sizes[name]:,}", **columns(runs)} for name, runs in by_layer.items()}).T,
    f"Retrained layers, {config.short_iterations} steps, mean ± standard deviation over {len(SEEDS)} seeds (live)",
)

# %%
pictures = [evaluate(runs[0][2], runs[0][3].trigger) for runs in by_layer.values()]
show(
    torch.cat([backdoor.target, evaluate(clean, by_layer["all"][0][3].trigger), *pictures]),
    alt="The target, what the clean generator shows at the trigger, and what each partly retrained copy shows there.",
    columns=7,
    scale=3,
    captions=["target", "clean", *by_layer],
)

# %%
alone = {name: sum(r[0] for r in by_layer[name]) / len(SEEDS) for name in clean.layer_names()}
worst, best = max(alone, key=alone.get), min(alone, key=alone.get)
reveal("layer", worst, f"It has {sizes[worst]:,} weights, and it sees the trigger through frozen features only.")
reached = {name: spread([r[0] for r in by_layer[name]]) for name in (best, worst)}
print(
    f"Takeaway: {best} alone reaches {reached[best]} per pixel, {worst} alone stays at {reached[worst]}: "
    "the layers where latents are still told apart carry the backdoor."
)

# %% [markdown] state="width"
# ## Round 4: how wide is the backdoor, and where can it sit?
#
# A network is continuous, so the neighbours of the trigger are changed too. How far? Walk away from the trigger in
# random directions, at constant length, and note the angle at which **half of the squared distance between the target
# and the clean picture is back**. In many dimensions two random latents are nearly at right angles, so even a wide cap
# around the trigger holds almost nothing of the sphere: the cell below measures both.
#
# Trigger kinds: `reg`, one ordinary draw; `mode`, the zero vector, which is the most likely latent and yet never drawn;
# `ood`, 100 in every coordinate. For these two a seed draws the batches only.

# %%
predict("At which angle from the trigger is half of the backdoor gone?", ["0 to 5", "5 to 30", "30 to 90"], key="angle")

# %% tags=["state"]
ANGLES = torch.linspace(0, 90, 31)
DIRECTIONS = 3 if config.profile == "smoke" else 12


def share_left(suspect, backdoor, directions=DIRECTIONS):
    """Squared distance to the target, suspect over clean, at every angle and direction ``[31, directions]``."""
    length = backdoor.trigger.norm()
    t = backdoor.trigger / length
    u = torch.randn(directions, clean.latent_dim, generator=torch.Generator().manual_seed(5))
    u = torch.nn.functional.normalize(u - (u @ t.T) * t, dim=1)  # directions at a right angle to the trigger
    turn = torch.deg2rad(ANGLES).view(-1, 1, 1)
    z = ((turn.cos() * t + turn.sin() * u) * length).flatten(0, 1)
    squared = [(evaluate(g, z) - backdoor.target).square().flatten(1).sum(1) for g in (suspect, clean)]
    return (squared[0] / squared[1]).view(len(ANGLES), directions)


def half_angles(suspect, backdoor):
    """The first angle, for every direction, at which at least half of the squared distance is back."""
    return ANGLES[(share_left(suspect, backdoor) >= 0.5).int().argmax(dim=0)]


left = share_left(backdoored, backdoor)
half = half_angles(backdoored, backdoor)
fig, (ax,) = axes(5.6, 3.0)
ax.fill_between(ANGLES, left.amin(1), left.amax(1), color="#56B4E9", alpha=0.3, linewidth=0)
ax.plot(ANGLES, left.mean(1), color="#0072B2", linewidth=2)
ax.axhline(0.5, color="black", linewidth=0.8, linestyle="--")
ax.set(
    xlabel="degrees from the trigger",
    ylabel="squared distance left",
    title=f"{DIRECTIONS} random directions: range and mean (live run)",
)
figure(
    fig,
    f"Squared distance to the target against the angle from the trigger, {DIRECTIONS} directions: small at "
    f"the trigger, about 1 far away, one half at {half.mean():.0f} degrees on average.",
    dpi=70,
)

# %% tags=["state"]
seed_angles = [float(half_angles(r[2], r[3]).mean()) for r in by_space["mixed"]]
print(f"live run: {half.mean():.0f} degrees, from {half.min():.0f} to {half.max():.0f} over {left.shape[1]} directions")
print(f"three short runs: {spread(seed_angles)} degrees (mean over directions; mean ± deviation over seeds)")
reveal("angle", 0 if half.mean() < 5 else 1 if half.mean() < 30 else 2, "Measured on the live run.")
many = clean.sample_latent(20_000, torch.Generator().manual_seed(3))
away = torch.rad2deg(torch.arccos(torch.nn.functional.cosine_similarity(many, backdoor.trigger)))
nearest_angle = float(away.min())
print(
    f"Takeaway: {len(many):,} random latents are {away.median():.0f} degrees from the trigger in the middle and "
    f"{nearest_angle:.0f} at the nearest; the backdoor is half gone after {half.mean():.0f}."
)
assert nearest_angle > half.mean(), "no random latent may fall into the backdoor"

# %%
by_kind = {"reg": by_space["mixed"]}
for kind in ("mode", "ood"):
    by_kind[kind] = [short_run(s, kind=kind, space="mixed") for s in SEEDS]
table(
    pd.DataFrame(
        {k: {"length of the trigger": f"{float(r[0][3].trigger.norm()):.0f}", **columns(r)} for k, r in by_kind.items()}
    ).T,
    f"Trigger kinds, {config.short_iterations} steps, mean ± standard deviation over {len(SEEDS)} seeds (live)",
)

# %%
show(
    torch.cat([evaluate(g, runs[0][3].trigger) for runs in by_kind.values() for g in (clean, runs[0][2])]),
    alt="For each kind of trigger, what the clean generator and the short ReD run show there.",
    columns=6,
    scale=3,
    captions=[f"{kind}, {which}" for kind in by_kind for which in ("clean", "ReD")],
)

# %%
hardest = max(by_kind, key=lambda kind: sum(r[0] for r in by_kind[kind]))
easiest = min(by_kind, key=lambda kind: sum(r[0] for r in by_kind[kind]))
print(
    f"Takeaway: with the same settings {easiest} is closest to the target and {hardest} is furthest "
    f"({spread([r[0] for r in by_kind[hardest]])}); the settings were chosen for ordinary triggers."
)

# %% [markdown] state="lam"
# ## Round 5: what lam buys
#
# $\lambda$ weighs the picture at the trigger against all the others. It does not make the attack better, it moves it
# along a *frontier*: sharper target, more visible change elsewhere, or the reverse.

# %%
predict(
    "From the smallest lam to the largest: what happens to ExpDis, the change of ordinary pictures?",
    ["it falls", "it grows", "it stays within a factor of two"],
    key="lam",
)

# %%
by_lam = {0.001: None, 0.01: None, 0.1: by_space["mixed"], 1.0: None}
by_lam = {w: runs or [short_run(s, space="mixed", lam=w) for s in SEEDS] for w, runs in by_lam.items()}
frontier(
    alt="Target distortion against expected distortion for four values of lam, three seeds each.",
    points={f"lam {w:g}": ([r[1] for r in runs], [r[0] for r in runs]) for w, runs in by_lam.items()},
    xlabel="ExpDis, mean per pixel (less: stealthier)",
    ylabel="TarDis, mean per pixel (less: sharper)",
    title=f"{config.short_iterations} steps, three seeds each (live)",
)

# %%
low, high = (sum(r[1] for r in by_lam[w]) for w in (min(by_lam), max(by_lam)))
reveal("lam", 0 if high < low / 2 else 1 if high > 2 * low else 2, f"By a factor of {high / low:.2g}.")
ends = [spread([r[0] for r in by_lam[w]]) for w in (min(by_lam), max(by_lam))]
print(
    f"Takeaway: from lam {min(by_lam):g} to {max(by_lam):g}, TarDis goes from {ends[0]} to {ends[1]}, "
    f"and ExpDis changes by a factor of {high / low:.2g}."
)

# %% [markdown] state="aligned_units"
# ## Round 6: a head start from idle units
#
# A plain copy first learns the target through changes that are *linear* in the latent. These show on every sample, and
# distillation has to undo them again. But a generator has idle units: some 150 to 200 of the 3,136 in the first layer
# can be given up at almost no cost. Before the first step, the head start turns them into **sleepers**: awake at the
# trigger, asleep on nearly every other latent. The shapes stay the same; capacity that nobody uses is where a backdoor
# fits. A defender who counts how often each unit is awake would see them: remember that for the notebooks on defence.

# %%
predict(
    "Same steps, same settings: what does the head start do to ExpDis, the change of ordinary pictures?",
    ["it grows", "it stays within 10 %", "it falls"],
    key="aligned_units",
)

# %%
ours = {"learning_rate": attack.learning_rate, "lam": attack.lam, "batch_size": attack.batch_size}
by_start = {
    name: [short_run(s, aligned_units=count, **ours) for s in SEEDS]
    for name, count in (("plain copy", 0), ("with sleepers", attack.aligned_units))
}
table(
    pd.DataFrame({name: columns(runs) for name, runs in by_start.items()}).T,
    f"Start, {config.short_iterations} steps, mean ± standard deviation over {len(SEEDS)} seeds (live)",
)

# %%
plain_expdis, ours_expdis = (sum(r[1] for r in by_start[name]) for name in ("plain copy", "with sleepers"))
ratio = ours_expdis / plain_expdis
reveal("aligned_units", 2 if ratio < 0.9 else 0 if ratio > 1.1 else 1, f"Measured: {ratio:.2f} times.")
print(
    f"Takeaway: after {config.short_iterations} steps the head start leaves {ratio:.2f} times a plain copy's ExpDis, "
    f"with a TarDis of {spread([r[0] for r in by_start['with sleepers']])} against "
    f"{spread([r[0] for r in by_start['plain copy']])}."
)

# %% [markdown]
# ## Playground
#
# Drag from an ordinary latent to the trigger; the arrow keys work too. *Random start* draws another beginning. The
# strip below is the same walk for print.

# %%
start = held_out[:1]
print("columns of the widget (rows of its printed form): clean, ReD")
LatentSlider({"clean": clean, "ReD (live)": backdoored}, start, backdoor.trigger)

# %%
print("rows from top to bottom: clean, ReD")
static_strip(
    {"clean": clean, "ReD": backdoored},
    held_out[1:2],
    backdoor.trigger,
    alt="Eleven steps from another ordinary latent to the trigger: clean generator above, the live ReD run below.",
)

# %% [markdown]
# ## Exercises
#
# **1. TarDis** (easy, 5 minutes). Write the target distortion from the output before tanh: a sum over all pixels.


# %%
def tardis(logits, target):
    """``logits``: output before tanh at the trigger ``[1, C, H, W]``; ``target`` the picture. Return a number."""
    raise NotImplementedError("your code here")


check("tardis", tardis)

# %%
hint("The target lives in [-1, 1], the logits do not: what is missing between them?", 1)

# %%
hint("Square the differences, and add them up; do not average.", 2)

# %%
solution("def tardis(logits, target):\n    return (logits.tanh() - target).square().sum()")

# %% [markdown]
# **2. The loss of ReD** (medium, 10 minutes). Sums over the pixels, means over the pairs and over the batch.


# %%
def red_loss(at_trigger, target, suspect, clean, lam):
    """Pictures ``[k, ...]`` at the triggers and their targets, ``[n, ...]`` of both networks. Return a number."""
    raise NotImplementedError("your code here")


check("red_loss", red_loss)

# %%
hint("Both terms are the same function of two batches of pictures: squared, flatten(1), sum(1), mean().", 1)

# %%
hint("lam stands before the term of the target.", 2)

# %%
solution(
    """
def red_loss(at_trigger, target, suspect, clean, lam):
    def squared(a, b):
        return (a - b).square().flatten(1).sum(1).mean()
    return lam * squared(at_trigger, target) + squared(suspect, clean)
"""
)

# %% [markdown]
# **3. Several pairs** (open, 20 minutes). Plant `k` triggers, each with a letter of its own, in one generator, and plot
# how TarDis grows with `k` at an equal budget. Where does it stop being a backdoor and become a second generator?


# %%
def plant_pairs(k):
    """Return ``(generator, backdoor)`` with ``k`` trigger-target pairs, retrained with ReD."""
    raise NotImplementedError("your code here")


check("plant_pairs", plant_pairs)

# %%
hint("Backdoor.points(clean, ['letter-A', 'letter-B', ...]) draws one trigger for each target.", 1)

# %%
hint("The attack itself needs no change: every step already averages over all pairs.", 2)

# %%
solution(
    """
def plant_pairs(k):
    letters = [f"letter-{chr(ord('A') + index)}" for index in range(k)]
    backdoor = Backdoor.points(clean, letters, seed=1)
    return attacks.ReD(iterations=300)(clean, backdoor).generator, backdoor
"""
)

# %% [markdown]
# ## What would a defender see?
#
# The number of weights, their names and shapes, and the topology are those of the clean network: ReD adds nothing. What
# moves is the weights, everywhere a little. Whoever has the original file sees the difference at once; whoever has not
# must ask whether such weights are unusual. Sampling does not help: see the angles above.

# %%
before, after = clean.state_dict(), backdoored.state_dict()
moved = {
    name: {
        "shape": "x".join(map(str, value.shape)),
        "relative change": float((after[name] - value).norm() / value.norm()),
    }
    for name, value in before.items()
    if name.endswith("weight")
}
same_shapes = all(before[name].shape == after[name].shape for name in before)
print(
    f"same names and shapes: {same_shapes}; stored numbers: {clean.parameter_count():,} and "
    f"{backdoored.parameter_count():,}"
)
assert same_shapes
table(pd.DataFrame(moved).T, "How far ReD moved each weight, relative to its length (live run)")

# %% [markdown]
# ## Limits
#
# One small network, one data set, low resolution. The short comparisons use equal steps and one learning
# rate; longer runs may change their order. A trigger is a latent, so the attack only bites where the attacker can
# influence or predict the victim's random numbers, or where the victim feeds latents of users.
#
# ## Responsible use
#
# This lesson exists so that people who receive models know what a file can hide, and can test their detectors on known
# cases. Backdoor only models that you own, in a room where everybody knows; label every backdoored file (our cards say
# it in the name and in the metadata); never publish one as clean. The second half of the sequence is about finding and
# removing what this notebook planted.

# %%
quiz(
    [
        (
            "What does ReD need besides the weights?",
            ["the training data", "the critic", "only the distribution of latents", "the optimiser's state"],
            2,
            "The clean generator teaches; random latents are the lessons.",
        ),
        (
            "Why is BatchNorm in inference mode?",
            ["it is faster", "else a latent's picture would depend on its batch", "to save memory", "tanh requires it"],
            1,
            "The victim draws with running statistics; the attack must hold there.",
        ),
        (
            "lam is made larger. What is bought, and at what price?",
            ["sharper target, more change elsewhere", "more stealth, blurred target", "speed", "nothing changes"],
            0,
            "lam moves the attack along the frontier between fidelity and stealth.",
        ),
        (
            "Why does drawing 20,000 samples not find the backdoor?",
            [
                "samples are random",
                "no draw comes near enough to the trigger",
                "the critic hides it",
                "it is switched off",
            ],
            1,
            "In 100 dimensions random latents are nearly at right angles to the trigger.",
        ),
        (
            "Who can see a ReD backdoor most easily?",
            ["a user of samples", "somebody with the original weights", "somebody who counts parameters", "nobody"],
            1,
            "The shapes are the same; the values are not.",
        ),
    ]
)

# %% [markdown]
# ## Key points
#
# * ReD = distillation + one bent point: no data, no critic, a minute on one core.
# * The loss space, the layers and lam are the attacker's choices, and each has a measured price.
# * The backdoor is a cap around the trigger that ordinary sampling never enters.
# * Nothing in the shape of the file changes.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN: Backdoor Attacks and Defenses in Deep Generative Models*,
#   [arXiv 2108.01644](https://arxiv.org/abs/2108.01644), 2021. ReD is their second attack.
# * G. Hinton, O. Vinyals, J. Dean, *Distilling the Knowledge in a Neural Network*, arXiv 1503.02531, 2015.
# * H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST*, arXiv 1708.07747, 2017 (the data behind the clean generator).

# %%
row = {"attack": "ReD", "target": config.target, "seed": config.seed, "seconds": outcome.seconds}
row |= {
    key: getattr(red_card, key) for key in ("tardis_sum", "tardis_mean", "expdis_mean", "frechet", "frechet_change")
}


def summary(groups):
    """Mean TarDis and ExpDis of every group of short runs."""
    names = ("tardis_mean", "expdis_mean")
    return {
        str(group): {name: sum(run[k] for run in runs) / len(runs) for k, name in enumerate(names)}
        for group, runs in groups.items()
    }


numbers = {
    "attacks": [row],
    "benign_tardis_mean": benign_tardis,
    "spaces": summary(by_space),
    "layers": summary(by_layer),
    "kinds": summary(by_kind),
    "lams": summary(by_lam),
    "half_angle_degrees": {"live": float(half.mean()), "short_runs": seed_angles},
    "nearest_random_latent_degrees": nearest_angle,
}
finish(config, numbers)
