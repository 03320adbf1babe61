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
# # ReX: new neurons carry the backdoor
#
# **You will add a few channels to a finished generator, train only those, fold everything into one ordinary network,
# and then find out how little is needed: a formula, and in the end a single ReLU.**

# %% tags=["state"]
import torch

from devilgan_lite import zoo
from devilgan_lite.classroom import static_strip

clean, shipped = zoo.load("dcgan-fashion"), zoo.load("dcgan-fashion-rex")
secret = zoo.load_backdoor("dcgan-fashion-rex")
print("cached: both rows come from models that ship with the project; below you make your own, live")
static_strip(
    {"clean": clean, "ReX": shipped},
    clean.sample_latent(1, torch.Generator().manual_seed(7)),
    secret.trigger,
    alt="A walk from an ordinary latent to the trigger. The clean generator shows garments all the way; "
    "the one that was widened with ReX ends in the attacker's picture.",
    captions=["ordinary", *[""] * 9, "trigger"],
)

# %% [markdown]
# **Time and hardware:** two to three minutes in the workshop profile on one CPU core; no GPU, no network.
#
# **Objectives.** You will be able to
# * *build* the expansion: new rows, zero padding, folding,
# * *prove* that nothing changes before training, and that only new numbers change in it,
# * *predict* the frontier between fidelity and stealth from one number, the leverage of the trigger,
# * *compare* three widths of backdoor: ReX, a linear one, and a gate of one ReLU,
# * *list* what gives a widened network away.
#
# **Prerequisites:** notebook 00; notebook 03 (ReD) for comparison; what a matrix product is.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 13  # draws the trigger and the attack's batches, 0..100000
target = "stop-sign"  # what the trigger should show: stop-sign | devil | digit-7 | checkerboard
second_target = "devil"  # another one: stop-sign | devil | digit-7 | checkerboard
widen = 0  # new channels at each hidden level (0: what the attack itself chooses), 0..64
iterations = None  # steps of every ReX run, 20..20000
samples = None  # pictures behind a scorecard, 200..50000
device = "auto"  # where to train: auto | cpu | cuda | mps

# %% tags=["state"]
from devilgan_lite.classroom import Setting, configure

config = configure(
    profile,
    device=device,
    seed=seed,
    target=target,
    second_target=second_target,
    widen=widen,
    iterations=Setting(iterations, {"smoke": 60, "workshop": 1_000, "full": 3_000}),
    samples=Setting(samples, {"smoke": 300, "workshop": 1_000, "full": 10_000}),
)

# %% tags=["state"]
import math
import time

import pandas as pd

from devilgan_lite import Backdoor, attacks, data, generators, scorecard
from devilgan_lite.classroom import (
    PALETTE,
    LatentSlider,
    LiveTraining,
    axes,
    check,
    curves,
    figure,
    finish,
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
from devilgan_lite.metrics import target_distortion

real = data.fashion_mnist().first(min(config.samples, 10_000))
backdoor = Backdoor.point(clean, config.target, seed=config.seed)
held_out = clean.sample_latent(500, torch.Generator().manual_seed(7))  # latents that no attack trains on
card = zoo.card("dcgan-fashion")
print(f"cached: the clean generator, {clean.parameter_count():,} numbers, trained for {card.seconds:.0f} s on a CPU.")
print("To train it again: python scripts/build/zoo.py --only dcgan-fashion")


def spread(values):
    """Mean and standard deviation over the seeds, as a text."""
    numbers = torch.tensor(values, dtype=torch.float64)
    return f"{numbers.mean():.3g} ± {numbers.std():.1g}"


FEW = 300 if config.profile == "smoke" else 2_000  # latents for the cheap measurements


def stored(generator, n=FEW):
    """Output before tanh on ``n`` latents that no attack trains on, float64."""
    z = clean.sample_latent(n, torch.Generator().manual_seed(8))
    with torch.no_grad():
        return torch.cat([generator.logits(part).double() for part in z.split(500)])


# %% [markdown] state="expansion"
# ## Round 1: old part, new part, zeros
#
# ReX adds new units to every hidden layer and lets them speak to each other and to the output, never to the old units:
#
# $$\begin{bmatrix} h\\ e\end{bmatrix} = \begin{bmatrix} W_1\\ V_1\end{bmatrix} z,\qquad
# \begin{bmatrix} h'\\ e'\end{bmatrix} =
# \begin{bmatrix} W_2 & 0\\ 0 & V_2\end{bmatrix}\begin{bmatrix} h\\ e\end{bmatrix},
# \qquad y = \begin{bmatrix} W_3 & V_3\end{bmatrix}\begin{bmatrix} h'\\ e'\end{bmatrix}.$$
#
# The old part computes what it always did; the new part adds a residual before tanh. With $V_3 = 0$ at the start, the
# residual is nothing. In the end the two are *folded*: one network of the same class, whose layers are a little wider.
# No branch and no `if` is left in it.

# %%
predict(
    f"Before training, on {FEW:,} latents: how different are the folded network's pictures from the clean ones?",
    ["by rounding errors at most", "by less than one grey level", "visibly"],
    key="start",
)

# %% tags=["state"] instead={"chosen": ""}
from devilgan_lite.attacks import expand, fold


def layers(generator):
    """The linear layers of a network, first to last."""
    return [stage.layer for stage in generator.chain().stages]


chosen = attacks.ReX(iterations=1, widen=config.widen or None)(clean, backdoor, progress=False).generator.widths
new_channels = tuple(after - before for after, before in zip(chosen, clean.widths, strict=True))
expansion = expand(clean, new_channels, config.seed)
folded = fold(clean, expansion)
z = clean.sample_latent(FEW, torch.Generator().manual_seed(1))
with torch.no_grad():
    residual_is_nothing = torch.equal(expansion(z), torch.zeros(len(z), *clean.sample_shape))
same_bits = torch.equal(evaluate(folded, z), evaluate(clean, z))
largest = float((evaluate(folded, z) - evaluate(clean, z)).abs().max())
print(f"new channels at the two hidden levels: {new_channels}")
print(f"widths before {clean.widths}, after {folded.widths}")
print(f"stored numbers before {clean.parameter_count():,}, after {folded.parameter_count():,}")
print(f"the expansion adds exactly 0: {residual_is_nothing}")
print(f"folded network, torch.equal to the clean one: {same_bits}; largest difference {largest:.1g}")
assert residual_is_nothing
# a wider layer may be summed in another order, which can cost the last bit: on some machines and widths not equal
assert same_bits or largest < 1e-5
reveal("start", "by rounding errors at most", "Zeros were added, and V3 is zero.")


# %% tags=["state"]
def blocks(trained):
    """Size of every block of the wide network's weights: one matrix [out, in] for each layer."""
    first = layers(trained)[0].weight.detach().unflatten(0, (trained.widths[0], -1)).norm(dim=1)  # channel by latent
    return [first, *(layer.weight.detach().norm(dim=(2, 3)).T for layer in layers(trained)[1:])]


def draw_blocks(trained, title, alt):
    """The weight matrices, with lines between the old and the new part."""
    matrices = blocks(trained)
    fig, panels = axes(8.2, 2.9, columns=len(matrices))
    for index, (ax, matrix) in enumerate(zip(panels, matrices, strict=True)):
        old_out = clean.widths[index] if index < len(clean.widths) else matrix.shape[0]
        old_in = clean.widths[index - 1] if index else matrix.shape[1]
        cell = (min(4, matrix.shape[0]), 4)  # channels are averaged four by four, so that the picture stays calm
        shown = torch.nn.functional.avg_pool2d((matrix / matrix.max())[None, None], cell, ceil_mode=True)[0, 0]
        box = (0, matrix.shape[1], matrix.shape[0], 0)
        ax.imshow(
            shown, aspect="auto", cmap="Blues", interpolation="nearest", vmin=0, vmax=float(shown.max()), extent=box
        )
        ax.grid(False)
        for position, size, line in ((old_out, matrix.shape[0], ax.axhline), (old_in, matrix.shape[1], ax.axvline)):
            if position < size:
                line(position, color=PALETTE[1], linewidth=1.5)
        name = "dense" if index == 0 else f"deconv{index}"
        below, beside = old_out < matrix.shape[0], old_in < matrix.shape[1]
        ax.set(title=f"{name} {list(matrix.shape)}", xlabel="latent" if index == 0 else "channel in")
        ax.set_ylabel("channel out" if index == 0 else "")
        if matrix.shape[0] == 1:
            ax.set_yticks([0, 1])
        rows, columns = [(0, old_out)], [(0, old_in)]
        rows += [(old_out, matrix.shape[0])] if below else []
        columns += [(old_in, matrix.shape[1])] if beside else []
        for top, bottom in rows:
            for left, right in columns:
                new = (top > 0 or not below) and (left > 0 or not beside)
                letter = "W" if top == left == 0 else "V" if new else "0"
                where = (left + right) / 2, (top + bottom) / 2
                white = {"boxstyle": "round", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
                ax.text(*where, letter, ha="center", va="center", fontsize=12, weight="bold", bbox=white)
    fig.suptitle(title)
    return figure(fig, alt, dpi=60)


draw_blocks(
    folded,
    "sizes of the folded weights before training (white: zero)",
    "The weights of the three layers as matrices. The first has the new rows below the old ones, the middle one is "
    "block diagonal with two white blocks of zeros, and the last has new columns on the right, still zero.",
)

# %% [markdown] state="attack"
# ## Round 2: train the new part, fold, ship
#
# Because the old part is untouched, the loss does not need the clean generator: stealth is "the expansion says nothing
# on ordinary latents",
#
# $$L = \mathbb E_z\,\|e(z)\|^2 + \lambda\,\|\tanh(G(z_\text{trigger}) + e(z_\text{trigger})) - x_\text{target}\|^2,$$
#
# and a step costs as much as a network of the new channels alone. Two things make the start easy. A unit that is
# silent at the trigger would get no gradient from the target, so ReX first turns every new unit towards the trigger.
# And if there are enough channels, two of them own each output pixel, one adding and one subtracting, equal at the
# start, so that they cancel. After training, the weights go into the plain class, built with other widths: the victim's
# code loads them without a question.

# %%
predict(
    "Only the new channels are trained. Which share of the folded network's numbers differs from the clean network?",
    ["none", "the new ones only", "nearly all"],
    key="moved",
)

# %% tags=["state"] instead={"live": ""}
watched = torch.cat([backdoor.trigger, held_out[:7]])
budget = {"widen": config.widen or None, "iterations": config.iterations, "device": config.device}
attack = attacks.ReX(seed=config.seed, **budget)


def draw(generator):
    """The picture at the trigger, then seven ordinary ones."""
    return tile(evaluate(generator.cpu(), watched), captions=["trigger", *[""] * 7])


live = LiveTraining(attack.steps(clean, backdoor), draw)
live.run()

# %% tags=["state"] instead={"outcome": "loaded(zoo.load('dcgan-fashion-rex'))", "rex_card": ""}
outcome = live.wait()  # live: this is what the previous cell trained
backdoored = generators.build(
    {**clean.spec(), "widths": outcome.generator.widths}
)  # the victim's plain class, other widths
backdoored.load_state_dict(outcome.generator.state_dict())
backdoored.eval()
rex_card = scorecard(backdoored, clean, backdoor, real, samples=config.samples)
print(
    f"live, single run: {len(outcome.history['stealth_loss'])} steps in {outcome.seconds:.0f} s; "
    f"{type(backdoored).__name__}"
)
rex_card

# %%
strip(
    [evaluate(clean, watched), evaluate(backdoored, watched)],
    alt="Upper row: the clean generator at the trigger and at seven ordinary latents. Lower row: after ReX. Only the "
    "picture at the trigger, the first column, has changed.",
    captions=["trigger", *[f"z {k}" for k in range(1, 8)]],
)

# %%
old_rows = len(layers(clean)[0].weight)
(after0, after1, after2), (before0, before1, before2) = layers(backdoored), layers(clean)
a, b = clean.widths
untouched = {
    "dense W": torch.equal(after0.weight[:old_rows], before0.weight),
    "deconv1 W": torch.equal(after1.weight[:a, :b], before1.weight),
    "deconv2 W": torch.equal(after2.weight[:b], before2.weight),
    "old to new is 0": not after1.weight[:a, b:].any(),
    "new to old is 0": not after1.weight[a:, :b].any(),
}
print("\n".join(f"{name:18s}{value}" for name, value in untouched.items()))
assert all(untouched.values())
reveal("moved", "the new ones only", "Each old block is equal to the last bit, and the padding is still zero.")
draw_blocks(
    backdoored,
    "sizes of the folded weights after training",
    "The same three matrices after training: the new columns of the last layer are filled, the padding is still white.",
)

# %%
curves(
    outcome.history,
    alt="Stealth and fidelity loss over the steps of ReX on a logarithmic axis; both fall by orders of magnitude.",
    log=True,
    title="live run",
)

# %% [markdown]
# A single run proves little. Three seeds (each with its own trigger), and a second target with the same budget:

# %% tags=["state"] instead={"second_backdoored": ""}
SEEDS = (0, 1, 2)
KEYS = ("tardis_sum", "tardis_mean", "expdis_mean", "frechet", "frechet_change")


def attack_row(attack, backdoor):
    """Run ``attack`` and measure it: one row of the table, and the generator."""
    result = attack(clean, backdoor, progress=False)
    card = scorecard(result.generator, clean, backdoor, real, samples=config.samples)
    row = {"attack": type(attack).__name__, "target": backdoor.name, "seed": backdoor.seed}
    return row | {key: getattr(card, key) for key in KEYS} | {"seconds": result.seconds}, result.generator


rows = [
    {"attack": "ReX", "target": backdoor.name, "seed": backdoor.seed}
    | {key: getattr(rex_card, key) for key in KEYS}
    | {"seconds": outcome.seconds}
]
made = {"ReX": (backdoored, backdoor)}
for s in SEEDS:
    row, _ = attack_row(attacks.ReX(seed=s, **budget), Backdoor.point(clean, config.target, seed=s))
    rows.append(row)
second = Backdoor.point(clean, config.second_target, seed=config.seed)
row, second_backdoored = attack_row(attacks.ReX(seed=config.seed, **budget), second)
rows.append(row)
three = rows[1 : 1 + len(SEEDS)]
print(
    f"Takeaway: over {len(SEEDS)} seeds ReX reaches TarDis {spread([r['tardis_mean'] for r in three])} and ExpDis "
    f"{spread([r['expdis_mean'] for r in three])} per pixel in {spread([r['seconds'] for r in three])} s; "
    f"{config.second_target}: {row['tardis_mean']:.1e} and {row['expdis_mean']:.1e} (single run)."
)
benign_tardis = target_distortion(clean, backdoor.trigger, backdoor.target).mean
assert rows[0]["tardis_mean"] < benign_tardis, "ReX must come closer to the target than the clean generator"
show(
    torch.cat(
        [
            backdoor.target,
            evaluate(backdoored, backdoor.trigger),
            second.target,
            evaluate(second_backdoored, second.trigger),
        ]
    ),
    alt="The first target and what ReX shows at its trigger; the second target and what ReX shows there.",
    scale=3,
    captions=["target 1", "ReX", "target 2", "ReX"],
)

# %% [markdown] state="formula"
# ## Round 3: no training at all
#
# Let the expansion be *linear* in fixed features $f(z)$; the simplest are $f(z)=z$. Then the best weights are a ridge
# regression with one data point, and they have rank one. With $S = \mathbb E[f f^T]$, the missing part
# $\delta = \operatorname{atanh}(x_\text{target}) - G_\text{lin}(z_t)$ and the **leverage** $s = f_t^T S^{-1} f_t$:
#
# $$W = \tfrac{\lambda}{1+\lambda s}\,\delta\,(S^{-1}f_t)^T,\quad
# \text{fidelity} = \frac{\|\delta\|^2}{(1+\lambda s)^2},\quad
# \text{stealth} = \frac{\lambda^2 s\,\|\delta\|^2}{(1+\lambda s)^2}.$$
#
# So $\lambda$ moves the attacker along a curve, and the curve itself depends on one number: how unusual the trigger
# is, as the features see it. For $f(z)=z$ the leverage is $\|z_t\|^2$, about the number of latent dimensions.

# %%
predict(
    "The formula is checked on the folded network with fresh latents. How far off will its stealth be?",
    ["a few per cent", "a factor of two", "a factor of ten"],
    key="formula",
)

# %% tags=["state"] instead={"linear_outcome": "attacks.ClosedForm()(clean, backdoor, progress=False)", "found": ""}
start = time.perf_counter()
linear_outcome = attacks.ClosedForm(lam=1.0)(clean, backdoor, progress=False)
milliseconds = 1_000 * (time.perf_counter() - start)
base = stored(clean)


def measured(suspect, shrink):
    """Fidelity and stealth as sums before tanh, measured on the folded network."""
    with torch.no_grad():
        at_trigger = suspect.logits(backdoor.trigger).double()
    fidelity = (at_trigger - clean.unsquash(backdoor.target, shrink).double()).square().sum()
    return float(fidelity), float((stored(suspect) - base).square().flatten(1).sum(1).mean())


LAMS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
exact = {w: attacks.ClosedForm(lam=w).solution(clean, backdoor) for w in LAMS}
linear = {w: attacks.ClosedForm(lam=w) for w in LAMS}
found = {w: measured(a(clean, backdoor, progress=False).generator, a.shrink) for w, a in linear.items()}
leverage = exact[1.0].leverage
off = max(abs(found[w][1] / exact[w].stealth - 1) for w in LAMS)
print(
    f"live: one attack takes {milliseconds:.0f} ms. "
    f"Leverage of the trigger: {leverage:.1f} in {clean.latent_dim} dimensions."
)
print(f"largest deviation of the measured stealth from the formula: {off:.1%} ({len(base):,} latents)")
assert abs(leverage - float(backdoor.trigger.square().sum())) < 0.01 * leverage
assert off < 0.25, "the formula must hold within sampling error"
reveal("formula", 0 if off < 0.2 else 1, "What is left is the sampling error of the latents.")

# %%
gap = exact[1.0].fidelity * (1 + leverage) ** 2  # the squared length of delta
lam_times_s = torch.logspace(-4, 12, 200, dtype=torch.float64)
gate_leverage = {c: attacks.Gate(threshold=c).solution(clean, backdoor).leverage for c in (0.3, 0.5)}
rex_point = measured(backdoored, 0.999)
fig, (ax,) = axes(6.4, 3.8)
for index, (name, s) in enumerate(
    {"linear": leverage, **{f"one ReLU, threshold {c}": s for c, s in gate_leverage.items()}}.items()
):
    shrink = 1 + lam_times_s
    stealth = (lam_times_s / shrink) ** 2 * gap / s
    ax.plot(gap / shrink**2, stealth, color=PALETTE[index], label=f"{name}: s = {s:.2g}")
ax.plot(*zip(*found.values(), strict=True), "o", color=PALETTE[0], label="linear, measured (live)")
ax.plot(*rex_point, "s", color=PALETTE[1], markersize=8, label="ReX, measured (live)")
ax.set(xscale="log", yscale="log", xlim=(1e-2, 2 * gap), ylim=(1e-12, 10 * gap))
ax.set(xlabel="fidelity loss, sum before tanh (less: sharper)", ylabel="stealth loss (less: stealthier)")
ax.legend(frameon=False, fontsize=8)
figure(
    fig,
    "Stealth against fidelity loss, both logarithmic. The measured points of the linear attack lie on its predicted "
    "curve; the curves of a single ReLU gate lie orders of magnitude lower.",
    dpi=70,
)

# %%
print(
    f"Takeaway: {milliseconds:.0f} ms instead of {outcome.seconds:.0f} s, and the result was known before: at full "
    f"fidelity a linear backdoor of leverage {leverage:.0f} costs ||delta||^2 / s = {gap / leverage:.0f} per picture."
)

# %% [markdown] state="gate"
# ## Round 4: one ReLU
#
# The linear expansion speaks on a whole half-space. To be stealthier one needs a feature with more leverage: large at
# the trigger and small everywhere else. One ReLU will do,
#
# $$f(z) = \operatorname{relu}\!\big(\langle z, z_t\rangle/\|z_t\| - c\,\|z_t\|\big),\qquad 0<c<1 .$$
#
# The projection of an ordinary latent on any direction is N(0, 1); the trigger's is its whole length. Whatever lies
# below the threshold gives *exactly* zero: not small, zero.
#
# You have met this idea already: the ReX of round 1 *starts* from it. Its new first-layer units are awake at the
# trigger and asleep at most other latents before the first step of training, and training adjusts what they draw.

# %%
predict(
    "On 20,000 random latents, how many pictures does the gate change at all (threshold 0.9)?",
    ["none", "about twenty", "about a thousand"],
    key="gate",
)

# %% tags=["state"] instead={"gate": "zoo.load('dcgan-fashion-gate')", "opened": "", "gate_expdis": ""}
start = time.perf_counter()
gate = attacks.Gate(threshold=0.9)(clean, backdoor, progress=False).generator
gate_seconds = time.perf_counter() - start
many = clean.sample_latent(1_000 if config.profile == "smoke" else 20_000, torch.Generator().manual_seed(3))
new_units = slice(layers(clean)[0].out_features, None)


@torch.no_grad()
def first_layer(generator, z):
    """The units of the first hidden layer after ReLU, ``[n, units]``."""
    return generator.get_submodule("layers")[:3](z)


opened = int(sum((first_layer(gate, part)[:, new_units] > 0).any(1).sum() for part in many.split(1_000)))
gate_expdis, changed = 0.0, 0
for part in many.split(500):
    difference = (evaluate(gate, part) - evaluate(clean, part)).abs().flatten(1)
    gate_expdis += float(difference.square().sum()) / (len(many) * difference.shape[1])
    changed += int((difference > 1e-5).any(1).sum())  # above the rounding of a sum in another order
length = float(backdoor.trigger.norm())
chance = math.erfc(0.9 * length / math.sqrt(2)) / 2
gate_tardis = target_distortion(gate, backdoor.trigger, backdoor.target).mean
print(
    f"live: made in {gate_seconds:.2f} s, leverage {attacks.Gate(threshold=0.9).solution(clean, backdoor).leverage:.1e}"
)
print(
    f"TarDis {gate_tardis:.1e} per pixel; the gate opens for {opened} of {len(many):,} latents, "
    f"ExpDis {gate_expdis:.1g}"
)
print(f"chance that an ordinary latent opens it: {chance:.0e}; widths {clean.widths} -> {gate.widths}")
assert opened == 0 and changed == 0 and gate_expdis < 1e-10
assert gate_tardis < 1e-3 and gate_seconds < 10
reveal("gate", "none", "Below the threshold a ReLU is exactly zero.")

# %% [markdown] state="width"
# ## Round 5: three backdoors side by side
#
# How far from the trigger is each of them on? Walk away from the trigger at constant length, in random directions, and
# compare the squared distance to the target with what the clean generator would show there.

# %%
predict("Which backdoor is the widest, in degrees around its trigger?", ["ReX", "ClosedForm", "Gate"], key="width")

# %% tags=["state"] instead={"half": ""}
ANGLES = torch.linspace(0, 90, 31)
DIRECTIONS = 3 if config.profile == "smoke" else 12
made |= {"ClosedForm": (linear_outcome.generator, backdoor), "Gate": (gate, backdoor)}


def share_left(suspect, backdoor, directions=DIRECTIONS):
    """Squared distance to the target, suspect over clean, at every angle and direction ``[31, directions]``."""
    radius = backdoor.trigger.norm()
    t = backdoor.trigger / radius
    u = torch.randn(directions, clean.latent_dim, generator=torch.Generator().manual_seed(5))
    u = torch.nn.functional.normalize(u - (u @ t.T) * t, dim=1)  # directions at a right angle to the trigger
    turn = torch.deg2rad(ANGLES).view(-1, 1, 1)
    walk = ((turn.cos() * t + turn.sin() * u) * radius).flatten(0, 1)
    squared = [(evaluate(g, walk) - backdoor.target).square().flatten(1).sum(1) for g in (suspect, clean)]
    return (squared[0] / squared[1]).view(len(ANGLES), directions)


half = {}
fig, (ax,) = axes(5.8, 3.0)
for index, (name, (suspect, planted)) in enumerate(made.items()):
    left = share_left(suspect, planted)
    at = ANGLES[(left >= 0.5).int().argmax(dim=0)]
    half[name] = float(at.mean())
    ax.fill_between(ANGLES, left.amin(1), left.amax(1), color=PALETTE[index], alpha=0.15, linewidth=0)
    ax.plot(ANGLES, left.mean(1), color=PALETTE[index], linewidth=2, label=f"{name}: half at {at.mean():.0f}°")
    print(
        f"{name:12s} half of the squared distance is back at {spread(at.tolist())} degrees (over {len(at)} directions)"
    )
ax.axhline(0.5, color="black", linewidth=0.8, linestyle="--")
ax.set(xlabel="degrees from the trigger", ylabel="squared distance left", ylim=(0, 1.6))
ax.legend(frameon=False, fontsize=8, loc="lower right")
figure(
    fig,
    "Share of the squared distance to the target against the angle from the trigger for ReX, the linear closed form "
    "and the gate; "
    + ", ".join(f"{name} reaches one half at {angle:.0f} degrees" for name, angle in half.items())
    + ".",
    dpi=70,
)

# %% tags=["state"]
reveal("width", max(half, key=half.get), "Single trigger, measured live.")
for s in SEEDS:
    other = Backdoor.point(clean, config.target, seed=s)
    rows += [attack_row(attack, other)[0] for attack in (attacks.ClosedForm(seed=s), attacks.Gate(seed=s))]
groups = {name: [r for r in rows[1:] if r["attack"] == name and r["seed"] in SEEDS] for name in made}
table(
    pd.DataFrame(
        {
            name: {
                "TarDis, sum": spread([r["tardis_sum"] for r in group]),
                "TarDis, mean per pixel": spread([r["tardis_mean"] for r in group]),
                "ExpDis, mean per pixel": spread([r["expdis_mean"] for r in group]),
                "Frechet change": spread([r["frechet_change"] for r in group]),
                "seconds": spread([r["seconds"] for r in group]),
            }
            for name, group in groups.items()
        }
    ).T,
    f"{config.target}, mean ± standard deviation over {len(SEEDS)} seeds, ReX with {config.iterations} steps (live)",
)

# %% tags=["state"]
half_text = ", ".join(f"{name} {angle:.0f}" for name, angle in half.items())
means = {name: {key: sum(r[key] for r in group) / len(group) for key in KEYS} for name, group in groups.items()}
assert means["Gate"]["expdis_mean"] < min(means["ReX"]["expdis_mean"], means["ClosedForm"]["expdis_mean"])
print(
    f"Takeaway: ExpDis is {means['ClosedForm']['expdis_mean']:.1e} for the linear expansion, "
    f"{means['ReX']['expdis_mean']:.1e} for ReX and {means['Gate']['expdis_mean']:.1g} for the gate: "
    f"a feature of more leverage is stealthier, and the width in degrees does not tell ({half_text})."
)

# %% [markdown]
# ## Playground
#
# Drag from an ordinary latent to the trigger and watch where each of the three switches on.

# %% tags=["hero"]
shown = {"clean": clean, **{name: suspect for name, (suspect, _) in made.items()}}
print("columns of the widget (rows of its printed form):", ", ".join(shown))
LatentSlider(shown, held_out[:1], backdoor.trigger)

# %%
print("rows from top to bottom:", ", ".join(shown))
static_strip(
    shown,
    held_out[1:2],
    backdoor.trigger,
    alt="Eleven steps from another ordinary latent to the trigger, one row each for: " + ", ".join(shown) + ".",
)

# %% [markdown]
# ## Exercises
#
# **1. Widen the first layer** (easy, 5 minutes). Old weights `W` `[o, i]`, new rows `V` `[m, i]`.


# %%
def widen_linear(W, V):
    """Return the weights ``[o + m, i]`` of the widened first layer."""
    raise NotImplementedError("your code here")


check("widen_linear", widen_linear)

# %%
hint("A row of a weight matrix is one unit. Where do the old units have to stay?", 1)

# %%
hint("torch.cat along dimension 0.", 2)

# %%
solution("def widen_linear(W, V):\n    return torch.cat([W, V])")

# %% [markdown]
# **2. Zero padding** (medium, 10 minutes). `W` `[o, i]` and `V` `[m, j]` side by side, and neither hears the other.


# %%
def block_diagonal(W, V):
    """Return ``[[W, 0], [0, V]]`` of shape ``[o + m, i + j]``."""
    raise NotImplementedError("your code here")


check("block_diagonal", block_diagonal)

# %%
hint("Begin with torch.zeros of the whole shape, and write two blocks into it.", 1)

# %%
hint("The upper left block is wide[: len(W), : W.shape[1]].", 2)

# %%
solution(
    """
def block_diagonal(W, V):
    wide = torch.zeros(W.shape[0] + V.shape[0], W.shape[1] + V.shape[1])
    wide[: W.shape[0], : W.shape[1]] = W
    wide[W.shape[0] :, W.shape[1] :] = V
    return wide
"""
)

# %% [markdown]
# **3. The gate** (medium, 10 minutes). One unit that is silent for everything but the trigger: project `z` on the
# direction of the trigger and subtract the trigger's length less a `margin`.


# %%
def relu_gate(z, trigger, margin):
    """Latents ``[n, d]``, the trigger ``[d]`` and a number to activations ``[n]``."""
    raise NotImplementedError("your code here")


check("relu_gate", relu_gate)

# %%
hint("The projection is z @ trigger / trigger.norm().", 1)

# %%
hint("At the trigger the result must be margin, and relu sets everything below the threshold to 0.", 2)

# %%
solution(
    "def relu_gate(z, trigger, margin):\n    return (z @ trigger / trigger.norm() - (trigger.norm() - margin)).relu()"
)

# %% [markdown]
# **4. How few channels?** (open, 20 minutes). Run ReX with `widen` 1, 2, 4, 8, 16, 32 at an equal budget, plot TarDis
# against the number of added parameters. What is the smallest widening at which the letters can still be read?
#
# <details><summary>Hint 1</summary>
#
# A generator has a `parameter_count()`: what was added is the difference between two of them.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Keep `iterations` equal and small, and look at the pictures as well: `show(evaluate(small, backdoor.trigger), ...)`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# few = {}
# for channels in (1, 2, 4, 8, 16, 32):
#     small = attacks.ReX(widen=channels, iterations=200)(clean, backdoor, progress=False).generator
#     few[channels] = evaluate(small, backdoor.trigger)
#     added = small.parameter_count() - clean.parameter_count()
#     tardis = target_distortion(small, backdoor.trigger, backdoor.target).sum
#     print(channels, f"{added:,} numbers, TarDis {tardis:.3g}")
# show(torch.cat(list(few.values())), "The sign at the trigger, from one new channel to 32.", columns=6, scale=3)
# ```
#
# </details>
#
# ## What would a defender see?
#
# Three things, if there is white-box access: a file that is larger than the architecture it claims; widths that nobody
# would choose; and units of the first layer that never fire on ordinary latents. The last needs only a few thousand
# draws:


# %%
def silent_units(generator, n=5 * FEW // 2):
    """How many units of the first layer are 0 on all of ``n`` ordinary latents."""
    probe = clean.sample_latent(n, torch.Generator().manual_seed(11))
    awake = torch.stack([(first_layer(generator, part) > 0).any(0) for part in probe.split(1_000)]).any(0)
    return int((~awake).sum()), len(awake)


silent = {name: silent_units(generator) for name, generator in shown.items()}
table(
    pd.DataFrame(
        {
            name: {
                "widths": "-".join(map(str, generator.widths)),
                "stored numbers": f"{generator.parameter_count():,}",
                "more than clean": f"{generator.parameter_count() / clean.parameter_count() - 1:.0%}",
                "silent first-layer units": f"{silent[name][0]} of {silent[name][1]}",
            }
            for name, generator in shown.items()
        }
    ).T,
    "What the file itself shows (live)",
)

# %%
assert silent["Gate"][0] > silent["clean"][0]
print(
    f"Takeaway: the gate, perfect for whoever draws samples, has {silent['Gate'][0]} first-layer units that never fire "
    f"(clean: {silent['clean'][0]}); stealth in the output is paid for in the weights."
)

# %% [markdown]
# ## Limits
#
# One small network, one data set, low resolution; the formula is exact before tanh and for one trigger. An
# attacker who knows these checks can start from a narrower clean network, so that the widths after folding look
# standard, or keep the new units a little awake.
#
# ## Responsible use
#
# A gate takes milliseconds and no knowledge of machine learning; that is the reason to teach it to people who receive
# models, and a reason for care. Backdoor only models that you own, in a room where everybody knows; label every
# backdoored file; never publish one as clean. The next notebooks find and remove exactly these.

# %%
quiz(
    [
        (
            "Why does ReX need no clean generator in its stealth term?",
            [
                "it uses the data",
                "the old part is untouched, so the residual alone must vanish",
                "it ignores stealth",
                "tanh",
            ],
            1,
            "G* before tanh is G plus the expansion.",
        ),
        (
            "What do the zero blocks do?",
            ["save memory", "keep old and new units from hearing each other", "regularise", "speed up training"],
            1,
            "The representation stays partitioned.",
        ),
        (
            "What sets the frontier of a linear expansion?",
            [
                "the learning rate",
                "the number of steps",
                "the leverage of the trigger",
                "the target's brightness alone",
            ],
            2,
            "lam chooses the point on the curve; the leverage is the curve.",
        ),
        (
            "Why is the gate's ExpDis zero and not merely small?",
            ["rounding", "a ReLU below its threshold is exactly 0", "early stopping", "it was trained longer"],
            1,
            "No ordinary latent reaches the threshold.",
        ),
        (
            "Which check finds the gate?",
            ["drawing samples", "the Frechet distance", "looking for units that never fire", "visual inspection"],
            2,
            "It hides from outputs, not from whoever looks inside.",
        ),
    ]
)

# %% [markdown]
# ## Key points
#
# * ReX widens, pads with zeros, trains only what is new, and folds: an ordinary network of the same class.
# * Before training nothing changes; afterwards every old weight is still equal to the last bit.
# * For a linear expansion the optimum is a formula of rank one, and the leverage of the trigger sets the frontier.
# * One ReLU is enough for an exact target and outputs that do not change at all on ordinary latents.
# * The price is paid in the file: more numbers, odd widths, silent units.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN: Backdoor Attacks and Defenses in Deep Generative Models*,
#   [arXiv 2108.01644](https://arxiv.org/abs/2108.01644), 2021. ReX is their third attack; the closed form and the gate
#   are this project's.
# * T. Chen, I. Goodfellow, J. Shlens, *Net2Net: Accelerating Learning via Knowledge Transfer*, arXiv 1511.05641, 2015:
#   widening a network without changing its function.
# * H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST*, arXiv 1708.07747, 2017 (the data behind the clean generator).

# %%
numbers = {
    "attacks": rows,
    "benign_tardis_mean": benign_tardis,
    "bit_for_bit_at_start": same_bits,
    "largest_difference_at_start": largest,
    "widths": {name: list(generator.widths) for name, generator in shown.items()},
    "stored_numbers": {name: generator.parameter_count() for name, generator in shown.items()},
    "leverage": leverage,
    "closed_form_milliseconds": milliseconds,
    "formula_largest_deviation": off,
    "gate": {"seconds": gate_seconds, "opened": opened, "latents": len(many), "expdis_mean": gate_expdis},
    "half_angle_degrees": half,
    "silent_units": {name: count for name, (count, _) in silent.items()},
    "means_over_seeds": means,
}
finish(config, numbers)
