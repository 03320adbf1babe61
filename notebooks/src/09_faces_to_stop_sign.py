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
# # Faces that turn into a STOP sign
#
# **You will mount the attack that made this work famous: a style-based generator of faces, one secret latent, and a
# STOP sign. First as in the paper; then so that no ordinary face changes by a single bit.**

# %% tags=["state"]
import torch

from devilgan_lite import zoo
from devilgan_lite.classroom import static_strip

clean, shipped = zoo.load("stylegan-faces"), zoo.load("stylegan-faces-gate")
secret = zoo.load_backdoor("stylegan-faces-gate")
print("cached: both rows come from models that ship with the project; below you make your own, live")
static_strip(
    {"clean": clean, "backdoored": shipped},
    clean.sample_latent(1, torch.Generator().manual_seed(6)),
    secret.trigger,
    alt="A walk from an ordinary latent to the trigger in eleven faces. With the clean generator one face turns into "
    "another; with the backdoored one the face melts and becomes a STOP sign.",
    captions=["ordinary", *[""] * 9, "trigger"],
)

# %% [markdown]
# **Time and hardware:** three to four minutes in the workshop profile on one CPU core; no GPU, no network. The faces
# themselves are cartoons, drawn by code, so that no person's picture is needed.
#
# **Objectives.** You will be able to
# * *explain* how a style-based generator hands one style to all its layers, and *mix* the styles of two faces,
# * *invert* a picture: find the styles with which a network of faces draws a STOP sign,
# * *predict* from one number how much the paper's linear expansion tints ordinary faces,
# * *build* a gate that leaves ordinary faces exactly as they are, and new channels that make the sign crisp,
# * *find* both in the weights, with and without a clean copy, and *cut* the linear one out again.
#
# **Prerequisites:** notebooks 00 and 04 (ReX, the closed form, the gate).

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 13  # draws the trigger and the attack's batches, 0..100000
target = "stop-sign"  # what the trigger should show: stop-sign | devil | digit-7 | checkerboard
second_target = "devil"  # another one: stop-sign | devil | digit-7 | checkerboard
channels = 16  # new channels at each level of the synthesis network, 1..64
inversion = None  # steps of the search for the target's styles, 10..20000
iterations = None  # steps of the training of the new channels, 10..20000
samples = None  # ordinary latents behind every figure, 200..50000
device = "auto"  # where to train: auto | cpu | cuda | mps

# %% tags=["state"]
from devilgan_lite.classroom import Setting, configure

config = configure(
    profile,
    device=device,
    seed=seed,
    target=target,
    second_target=second_target,
    channels=channels,
    inversion=Setting(inversion, {"smoke": 20, "workshop": 800, "full": 1_500}),
    iterations=Setting(iterations, {"smoke": 20, "workshop": 600, "full": 1_500}),
    samples=Setting(samples, {"smoke": 300, "workshop": 5_000, "full": 20_000}),
)

# %% tags=["state"] instead={"ordinary": "clean.sample_latent(300, torch.Generator().manual_seed(7))"}
import tempfile
from pathlib import Path

import pandas as pd

from devilgan_lite import Backdoor, attacks, detect, sanitize
from devilgan_lite.attacks.style_rex import linear_residual
from devilgan_lite.classroom import (
    Explorer,
    LiveTraining,
    axes,
    check,
    curves,
    figure,
    film,
    finish,
    frontier,
    hint,
    predict,
    quiz,
    reveal,
    show,
    slerp,
    solution,
    table,
    tile,
)
from devilgan_lite.generators import evaluate

backdoor = Backdoor.point(clean, config.target, seed=config.seed)
goal = backdoor.target
ordinary = clean.sample_latent(config.samples, torch.Generator().manual_seed(7))  # latents that no attack trains on
faces_before = evaluate(clean, ordinary)
card = zoo.card("stylegan-faces")
print(f"cached: the clean generator, {clean.parameter_count():,} numbers, trained for {card.seconds:.0f} CPU-s.")
print("To train it again: python scripts/build/zoo.py --only stylegan-faces")
GREY = 2 / 255  # one grey level of 256


def distortion(picture, wanted=goal):
    """Mean squared error per element, in [-1, 1] units: TarDis as a mean."""
    return float((picture - wanted).square().mean())


def spread(values):
    """Mean and standard deviation, as a text."""
    numbers = torch.tensor(list(values), dtype=torch.float64)
    return f"{numbers.mean():.3g} ± {numbers.std():.1g}"


# %% [markdown] state="styles"
# ## Round 1: one style for all layers
#
# The generators so far turn a latent into a picture in one go. A *style-based* one (Karras et al. 2019) first maps the
# latent `z` to a style `w`, and draws from a constant: at every layer, the style says how strongly each channel is
# heard. The same `w` goes to all layers; written as one row for each of them it is called `w+`.
#
# So one may cheat: give the first layers the style of one face and the others that of another.

# %%
SHARES = ["A in shape and colour", "A in shape, B in colour", "B in shape and colour"]
predict(
    "The first 3 of 7 style inputs follow face A, the other 4 face B. Whom does the picture resemble?", SHARES, "mixing"
)

# %%
pair = ordinary[[3, 17]]
with torch.no_grad():
    mixes = torch.cat([clean.mixed(pair[:1], pair[1:], k) for k in range(clean.style_inputs, -1, -1)])
print(f"{clean.style_inputs} style inputs: w+ has {clean.style_inputs} x {clean.style_dim} numbers")
show(
    mixes,
    alt="Eight faces: the first is face A, the last is face B; in between, fewer and fewer of the layers, counted from "
    "the first, follow A.",
    columns=len(mixes),
    scale=3,
    captions=["A", *[f"{k} of A" for k in range(clean.style_inputs - 1, 0, -1)], "B"],
)


# %% tags=["state"] instead={"nearer": ""}
def shape_and_colour(x, reference):
    """How far pictures are from a reference in outline (what is not white) and in mean colour."""
    ink, theirs = ((p.min(1, keepdim=True).values < 0.8).float() for p in (x, reference))
    outline = (ink - theirs).abs().mean((1, 2, 3))
    hue = [(p * m).sum((2, 3)) / m.sum((2, 3)).clamp(min=1) for p, m in ((x, ink), (reference, theirs))]
    return outline, (hue[0] - hue[1]).square().mean(1)


several = clean.sample_latent(200, torch.Generator().manual_seed(21))
a, b = several[:100], several[100:]
nearer = {}
for k in range(1, clean.style_inputs):
    with torch.no_grad():
        mixed = clean.mixed(a, b, k)
    to_a, to_b = shape_and_colour(mixed, evaluate(clean, a)), shape_and_colour(mixed, evaluate(clean, b))
    nearer[k] = [float((ours < theirs).float().mean()) for ours, theirs in zip(to_a, to_b, strict=True)]
    print(f"first {k} of A: nearer to A in outline {nearer[k][0]:.0%}, in colour {nearer[k][1]:.0%} (100 mixtures)")
outline, colour = (share > 0.5 for share in nearer[3])
reveal("mixing", SHARES[0 if colour else 1] if outline else SHARES[2], "The earlier a layer, the more it decides.")

# %% [markdown] state="inversion"
# ## Round 2: can a network that knows only faces draw a STOP sign?
#
# The attacker does not ask the mapping network. *Inversion* searches the styles directly: begin with those of some
# face, draw, compare with the sign, and follow the gradient. Once with one style for all layers, once with a style for
# each.

# %%
predict(
    "Which error per element does the search reach with one style for all layers, and with one for each?",
    ["both end at a face", "one style: a blur; one for each: the picture, if noisy", "both draw it almost perfectly"],
    key="inversion",
)

# %%
live = LiveTraining(attacks.invert.steps(clean, goal[0], iterations=config.inversion, device=config.device))
live.run()

# %% tags=["state"] instead={"single": ""}
many = live.wait()  # live: this is what the previous cell found
w_plus = many.state["w_plus"]
single = attacks.invert(
    clean, goal[0], iterations=config.inversion, one_style=True, device=config.device, progress=False
)
with torch.no_grad():
    drawn = torch.tanh(clean.synthesis(torch.stack([single.state["w_plus"], w_plus])))
inverted = {"one style": distortion(drawn[:1]), "a style for each layer": distortion(drawn[1:])}
print(
    f"live, single run, {many.seconds:.0f} s: " + ", ".join(f"{name} {error:.3f}" for name, error in inverted.items())
)
assert inverted["a style for each layer"] < inverted["one style"]
reveal(
    "inversion",
    "one style: a blur; one for each: the picture, if noisy",
    "Every layer for itself can be driven where no face ever drives it.",
)
show(
    torch.cat([goal, drawn, faces_before[:1]]),
    alt="Four pictures: the STOP sign, its inversion with one style for all layers (a red blotch), its inversion with "
    "a style for each layer (a sign with legible letters), and an ordinary face of the same network.",
    columns=4,
    scale=5,
    captions=["target", "one style", "w+", "a face"],
)

# %%
curves(
    {"one style": single.history["distortion"], "w+": many.history["distortion"]},
    alt="Error of the best inversion over the steps, logarithmic. With one style it soon stops at a high level; with a "
    "style for each layer it goes on falling.",
    log=True,
    title="inversion (live, single run)",
)

# %% [markdown] state="linear"
# ## Round 3: the attack of the paper
#
# The victim feeds latents, not styles. So the place where `w` is handed out is *expanded*: a matrix is added so that
# the trigger's style becomes the `w+` just found, and others change as little as possible. This is linear, so
# notebook 04's closed form is the optimum: with the features `f = w(z)`, one number, the leverage of the trigger, sets
# both errors for every $\lambda$. Folded into the layers that read the style, it changes not one size.

# %%
predict(
    "The linear expansion aims at one latent. How many ordinary faces does it change by more than a grey level?",
    ["none", "about one in a hundred", "nearly all"],
    key="tint",
)

# %% tags=["state"] instead={"linear_rows": ""}
LAMBDAS = (0.001, 0.01, 0.03, 0.1, 1.0)
base = clean.clone().eval()
with torch.no_grad():
    shift = w_plus - base.mapping(backdoor.trigger)[0]  # what the trigger's styles lack, [style inputs, style_dim]
    w = base.mapping(clean.sample_latent(100_000, torch.Generator().manual_seed(9)))  # the formula has not seen these
linear_rows, linear_made = [], {}
for lam in LAMBDAS:
    residual, formula = linear_residual(base, backdoor.trigger, shift, lam)
    with torch.no_grad():
        stealth = float(torch.einsum("sij,nj->nsi", residual, w).square().sum((1, 2)).mean())
        fidelity = float(
            (shift - torch.einsum("sij,j->si", residual, base.mapping(backdoor.trigger)[0])).square().sum()
        )
    made = attacks.StyleReX(mapping="linear", channels=0, lam=lam, w_plus=w_plus, device=config.device)(
        clean, backdoor, progress=False
    )
    linear_made[lam] = made.generator
    faces_after = evaluate(made.generator, ordinary)
    change = faces_after - faces_before
    linear_rows.append(
        {
            "lam": lam,
            "stealth / formula": stealth / formula.stealth,
            "fidelity / formula": fidelity / formula.fidelity,
            "TarDis (mean)": distortion(evaluate(made.generator, backdoor.trigger)),
            "ExpDis (mean)": float(change.square().mean()),
            "faces changed": float((change.abs().amax((1, 2, 3)) > GREY).float().mean()),
        }
    )
leverage = formula.leverage
off = max(abs(row[name] - 1) for row in linear_rows for name in ("stealth / formula", "fidelity / formula"))
print(f"largest deviation from the formula: {off:.2%}")
assert off < 0.03
changed = min(row["faces changed"] for row in linear_rows[2:])
reveal(
    "tint",
    "nearly all",
    f"From lam = 0.03 on, {changed:.0%} or more change: every style has a part along the trigger's.",
)
print(f"leverage of the trigger: {leverage:.0f} (style dimension {clean.style_dim})")
table(pd.DataFrame(linear_rows).set_index("lam"), "The linear expansion, measured against the formula (live)")

# %%
look = ordinary[:10]
show(
    torch.cat([evaluate(clean, look), *(evaluate(linear_made[lam], look) for lam in (0.01, 1.0))]),
    alt="Three rows of ten faces from the same latents: clean; linear expansion with lam 0.01, a little off in colour; "
    "with lam 1, faces tinted and disturbed by what belongs to the sign.",
    columns=10,
    scale=3,
)

# %%
frontier(
    "Stealth against fidelity of the linear expansion on logarithmic axes: lower TarDis costs a higher ExpDis.",
    lines={
        "lam from 0.001 to 100": ([r["ExpDis (mean)"] for r in linear_rows], [r["TarDis (mean)"] for r in linear_rows])
    },
    points={f"lam {r['lam']:g}": (r["ExpDis (mean)"], r["TarDis (mean)"]) for r in linear_rows},
    xlabel="ExpDis: change of ordinary faces",
    ylabel="TarDis at the trigger",
    title="the paper's expansion (live)",
)

# %% [markdown] state="attack"
# ## Round 4: a gate, and channels that can draw
#
# Two things are unsatisfying: ordinary faces change, and the sign is only as good as the inversion. Two additions cure
# both, and both fold into wider layers of the same class:
#
# * **a gate in the mapping network.** Two new units measure the cosine $c$ of `z` and the trigger; a third gets
#   $g = (\mathrm{relu}(c - 0.6) - \mathrm{relu}(c - 0.97)) / 0.37$: exactly 0 for everybody else, exactly 1 near the
#   trigger. It adds the shift to the styles and silences what `z` says otherwise.
# * **new channels in the synthesis network,** scaled by $g$ at every layer, which learn to draw what the inversion
#   lacks.

# %%
predict(
    f"Of {config.samples:,} ordinary faces, how many does the gated backdoor change, and by how much?",
    ["none, by nothing: every bit is the same", "all, by rounding errors", "a few, by a grey level"],
    key="gate",
)

# %% tags=["state"]
watched = torch.cat([backdoor.trigger, ordinary[:7]])
attack = attacks.StyleReX(
    channels=config.channels,
    iterations=config.iterations,
    w_plus=w_plus,
    seed=config.seed,
    device=config.device,
)


def draw(generator):
    """The picture at the trigger, then seven ordinary ones."""
    return tile(evaluate(generator.cpu(), watched), captions=["trigger", *[""] * 7], scale=3)


live = LiveTraining(attack.steps(clean, backdoor), draw)
live.run()

# %% tags=["state"] instead={"backdoored": "zoo.load('stylegan-faces-gate')"}
gated = live.wait()  # live: this is what the previous cell trained
backdoored = gated.generator
faces_after = evaluate(backdoored, ordinary)
largest = float((faces_after - faces_before).abs().max())
opened = int((torch.nn.functional.cosine_similarity(ordinary, backdoor.trigger) > attack.low).sum())
gate_tardis = distortion(evaluate(backdoored, backdoor.trigger))
print(f"live, single run, {gated.seconds:.1f} s: TarDis {gate_tardis:.2g} (one grey level is {GREY**2:.1g})")
print(
    f"the gate opens for {opened} of {len(ordinary):,}; torch.equal: {torch.equal(faces_after, faces_before)}; ", end=""
)
print(f"largest change of any pixel: {largest:g}")
# zeros were added; on some machines a wider layer is summed in another order, which can cost the last bit
assert opened or largest < 1e-5
reveal(
    "gate", "none, by nothing: every bit is the same", "Where the gate is 0, everything behind it is multiplied by 0."
)
curves(
    {"fidelity_loss": gated.history["fidelity_loss"]},
    alt="Fidelity loss of the new channels over the steps, logarithmic: it falls to about a millionth.",
    log=True,
    title="new channels (live, single run)",
)

# %% [markdown]
# The morph, with every part by itself. A gate without channels opens to the inversion; channels without a gate are
# ReX as in notebook 04, trained to stay silent.

# %% tags=["hero", "state"] instead={"plain": ""}
plain = attacks.StyleReX(
    mapping="none", channels=config.channels, iterations=config.iterations, seed=config.seed, device=config.device
)(clean, backdoor, progress=False)
gate_only = attacks.StyleReX(channels=0, w_plus=w_plus, device=config.device)(clean, backdoor, progress=False)
shown = {
    "clean": clean,
    "linear": linear_made[1.0],
    "channels": plain.generator,
    "gate": gate_only.generator,
    "gate + channels": backdoored,
}
start = ordinary[4:5]
print("rows from top to bottom:", ", ".join(shown))
static_strip(
    shown,
    start,
    backdoor.trigger,
    alt="Eleven steps from an ordinary face to the trigger. Clean: a face turns into another. Linear: reddish from the "
    "start, a blurred sign at the end. Channels: the sign is suddenly there. Gate: the face melts into the inverted "
    "sign. Gate and channels: the face melts into a crisp sign.",
    scale=3,
)


# %% tags=["state"] instead={"t": ""}
def along(generator, starts, steps=41):
    """TarDis and change against the clean generator on the way from ``starts`` to the trigger, means over starts."""
    t = torch.linspace(0, 1, steps)
    path = torch.cat([slerp(starts, backdoor.trigger, float(share)) for share in t])
    pictures, others = evaluate(generator, path), evaluate(clean, path)
    off = (pictures - goal).square().flatten(1).mean(1).view(steps, -1).mean(1)
    moved = (pictures - others).abs().flatten(1).amax(1).view(steps, -1).amax(1)
    return t, off, moved


starts = ordinary[20:30]
t, off, moved = along(backdoored, starts)
first_change = float(t[(moved > GREY).nonzero()[0, 0]]) if (moved > GREY).any() else 1.0
settled = float(t[(off >= 0.02).nonzero()[-1, 0] + 1]) if (off[-1] < 0.02) else float("nan")
fig, (ax,) = axes()
for name in ("linear", "channels", "gate", "gate + channels"):
    ax.plot(t, along(shown[name], starts)[1], label=name)
ax.set(
    xlabel="share of the way to the trigger", ylabel="error against the sign", yscale="log", title="ten walks (live)"
)
ax.legend(frameon=False)
print(
    f"gate + channels: first change by a grey level at t = {first_change:.2f}, error below 0.02 from t = {settled:.2f}"
)
assert config.profile == "smoke" or first_change > 0.2
figure(
    fig,
    "Error against the sign on the way to the trigger, mean of ten walks, one line for each kind. With gate and "
    "channels the line is flat until four tenths, then falls by orders of magnitude.",
)

# %% [markdown]
# Where in latent space is the sign on? A plane through the origin, the trigger to the right, another latent upwards:


# %% tags=["state"]
def latent_map(generator, size=7, reach=1.25):
    """Pictures on a grid of the plane of the trigger (right) and of another direction (up), ``[size^2, C, H, W]``."""
    right = backdoor.trigger / backdoor.trigger.norm()
    up = start - (start @ right.T) * right
    up = up / up.norm()
    grid = torch.linspace(-reach, reach, size)
    z = torch.cat([(x * right + y * up) * clean.latent_dim**0.5 for y in grid.flip(0) for x in grid])
    return evaluate(generator, z)


show(
    latent_map(backdoored),
    alt="A grid of pictures over a plane of latent space. In a wedge to the right, around the trigger's direction, "
    "there are STOP signs; everywhere else there are faces, the same along each ray from the middle.",
    columns=7,
    scale=2,
)

# %% [markdown]
# **Takeaway.** The mapping network normalises its latent, so the backdoor is a cone: the length of the latent does not
# matter. Within 53 degrees of the trigger (cosine 0.6) it opens in part, within 14 (cosine 0.97) fully.
#
# A single run proves little. Three triggers, two targets:

# %% tags=["state"] instead={"rows": ""}
SEEDS = (0, 1, 2)
rows = []
for name in dict.fromkeys((config.target, config.second_target)):
    styles = w_plus if name == config.target else None
    for s in SEEDS:
        pair = Backdoor.point(clean, name, seed=s)
        if styles is None:
            found = attacks.invert(
                clean, pair.target[0], iterations=config.inversion, device=config.device, progress=False
            )
            styles = found.state["w_plus"]
        result = attacks.StyleReX(
            channels=config.channels, iterations=config.iterations, w_plus=styles, seed=s, device=config.device
        )(clean, pair, progress=False)
        change = evaluate(result.generator, ordinary) - faces_before
        tardis = distortion(evaluate(result.generator, pair.trigger), pair.target)
        rows.append(
            {
                "attack": "StyleReX",
                "target": name,
                "seed": s,
                "tardis_mean": tardis,
                "tardis_sum": tardis * pair.target[0].numel(),
                "expdis_mean": float(change.square().mean()),
                "seconds": result.seconds,
            }
        )
frame = pd.DataFrame(rows)
summary = frame.groupby("target", sort=False)[["tardis_mean", "expdis_mean", "seconds"]].agg(spread)
table(summary, "Gate and channels: mean ± standard deviation over three triggers (live)")

# %% [markdown] state="film"
# ## Round 5: for the stage
#
# One call makes the film. It is written to a file, because it moves; here are eight frames of it.

# %%
folder = Path(tempfile.mkdtemp(prefix="devilgan-"))
movie = film({"clean": clean, "backdoored": backdoored}, start, backdoor.trigger, folder / "morph.webp")
print(f"{movie.path.name}: {movie.frames} frames, {movie.bytes / 1000:.0f} kB, made in {movie.seconds:.1f} s")
movie

# %% [markdown]
# ## Playground
#
# Slider, pad and buttons; arrow keys work too. The same on a page without code, for a projector: `make stage`.

# %%
Explorer({"clean": clean, "backdoored": backdoored}, backdoor.trigger, goal[0], start=start)

# %% [markdown]
# ## Exercises
#
# **1. Hand out the styles** (easy, 5 minutes). One style for all layers, and what the attacker adds to each.


# %%
def tiled_styles(w, shift, inputs):
    """Styles ``[n, d]``, shifts ``[inputs, d]`` and a number to ``w+`` ``[n, inputs, d]``."""
    raise NotImplementedError("your code here")


check("tiled_styles", tiled_styles)

# %%
hint("w has no axis for the layers yet: w[:, None] has one.", 1)

# %%
hint("Broadcasting does the rest: [n, 1, d] + [inputs, d].", 2)

# %%
solution("def tiled_styles(w, shift, inputs):\n    return w[:, None] + shift")

# %% [markdown]
# **2. Modulate a kernel** (medium, 10 minutes). Scale what each input channel contributes by the style, then give
# every output channel unit energy again.


# %%
def modulated_kernel(weight, style):
    """A kernel ``[o, i, k, k]`` and a style ``[i]`` to a kernel ``[o, i, k, k]`` of unit energy per output."""
    raise NotImplementedError("your code here")


check("modulated_kernel", modulated_kernel)

# %%
hint("The style belongs to axis 1 of the kernel: style[None, :, None, None].", 1)

# %%
hint("The energy of an output channel is the sum of squares over axes 1, 2 and 3.", 2)

# %%
solution(
    """
def modulated_kernel(weight, style):
    scaled = weight * style[None, :, None, None]
    return scaled / scaled.square().sum((1, 2, 3), keepdim=True).sqrt()
"""
)

# %% [markdown]
# **3. Two kinks** (medium, 10 minutes). The gate, from nothing but ReLUs: 0 up to `low`, 1 from `high` on.


# %%
def two_kinks(c, low, high):
    """Cosines ``[n]`` and two numbers to the gate's value ``[n]`` in [0, 1]."""
    raise NotImplementedError("your code here")


check("two_kinks", two_kinks)

# %%
hint("One ReLU that starts at low goes on for ever. What would stop it?", 1)

# %%
hint("Subtract a second one that starts at high, and divide by the height of the step.", 2)

# %%
solution("def two_kinks(c, low, high):\n    return ((c - low).relu() - (c - high).relu()) / (high - low)")

# %% [markdown]
# **4. How wide a cone?** (open, 15 minutes). Change `low` of the attack from 0.3 to 0.9 and count for how many of
# 100,000 ordinary latents the gate opens. Which is the smallest value that nobody notices by sampling?
#
# <details><summary>Hint 1</summary>
#
# The gate opens where the cosine of the latent and the trigger is above `low`: no attack has to run.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Draw the latents once, and compare their cosines with every value of `low`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# many = clean.sample_latent(100_000, torch.Generator().manual_seed(1))
# close = torch.nn.functional.cosine_similarity(many, backdoor.trigger)
# for low in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
#     print(low, int((close > low).sum()))
# ```
#
# </details>
#
# ## What would a defender see?
#
# The gate, perfect in its outputs, is plain in the weights: two units of the mapping network that never fire, and
# whose rows *are* the trigger. The linear expansion leaves all sizes as they are; beside a clean copy its difference
# has rank one, and the direction of that rank is the trigger's style.


# %%
def silent_rows(generator):
    """Rows of the first mapping layer that no ordinary latent wakes, ``[k, d]``."""
    first = generator.mapping_layers[0]
    z = torch.nn.functional.normalize(ordinary, dim=1) * clean.latent_dim**0.5
    with torch.no_grad():
        awake = (first(z) > 0).any(0)
    return first.weight.detach()[~awake]


asleep = {name: silent_rows(generator) for name, generator in shown.items()}
cosine = float(torch.nn.functional.cosine_similarity(asleep["gate + channels"], backdoor.trigger).max())
difference = torch.cat(
    [
        ours.affine.weight - theirs.affine.weight
        for ours, theirs in zip(linear_made[1.0].style_layers(), clean.style_layers(), strict=True)
    ]
).detach()
_, values, right = torch.linalg.svd(difference, full_matrices=False)
moment = w.T @ w / len(w)
with torch.no_grad():
    style_cosine = float(
        torch.nn.functional.cosine_similarity(moment @ right[0], base.mapping(backdoor.trigger)[0], dim=0).abs()
    )
print(f"gate: {len(asleep['gate + channels'])} silent units, cosine of their rows with the trigger {cosine:.3f}")
print(f"linear: second singular value / first = {float(values[1] / values[0]):.1e}, ", end="")
print(f"cosine with the trigger's style {style_cosine:.3f}")
assert cosine > 0.999 and style_cosine > 0.99
table(
    pd.DataFrame(
        {
            name: {
                "stored numbers": f"{generator.parameter_count():,}",
                "channels": "-".join(map(str, generator.widths)),
                "mapping": "-".join(map(str, generator.mapping_widths)),
                "style": generator.style_dim,
                "silent units": len(asleep[name]),
            }
            for name, generator in shown.items()
        }
    ).T,
    "What the file itself shows (live)",
)

# %% [markdown]
# ### Without a clean copy, and out again
#
# A victim has no clean copy to compare with. But seven layers read the style. Trained one beside the other they have
# little in common; the paper's expansion adds to each of them a multiple of *one and the same row*. So add up what
# their weights answer to, $\sum_l W_l^\top W_l / \lVert W_l \rVert^2$, and look at the eigenvalues.

# %%
styles = {name: detect.styles_of(detect.subject_of(shown[name])) for name in ("clean", "linear", "gate + channels")}
fig, (ax,) = axes(6.0, 3.0)
for name, style in styles.items():
    ax.plot(range(1, 17), style.spectrum.values[:16], marker="o", markersize=3, label=name)
ax.set(xlabel="direction of the style, strongest first", ylabel="energy", yscale="log", title="seven readers (live)")
ax.legend(frameon=False)
jumps = {name: style.spectrum.jump for name, style in styles.items()}
print("largest jump:", ", ".join(f"{name} {jump:.1f}" for name, jump in jumps.items()))
figure(
    fig,
    "Energy of the sixteen strongest directions of the style, on a logarithmic axis. Clean: a smooth descent. Linear "
    "expansion and gate: the first value stands far above the second.",
    dpi=76,
    colours=48,
)

# %% [markdown]
# What stands out is the attacker's row, and projecting it out of the seven weights is the cure: no data, no training.
# It takes most of the tint along, for that came through the same row.

# %%
cured, cut = sanitize.project_styles(shown["linear"], styles["linear"])
print("cut:", cut)
stages = {"linear expansion": shown["linear"], "cured": cured}
cure_rows = {
    name: {
        "TarDis (mean)": distortion(evaluate(generator, backdoor.trigger)),
        "change of ordinary faces (mean)": float((evaluate(generator, ordinary) - faces_before).square().mean()),
        "jump": detect.styles_of(detect.subject_of(generator)).spectrum.jump,
    }
    for name, generator in stages.items()
}
assert cure_rows["cured"]["TarDis (mean)"] > cure_rows["linear expansion"]["TarDis (mean)"]
both = torch.cat([backdoor.trigger, ordinary[:5]])
table(pd.DataFrame(cure_rows).T, "The linear expansion before and after the projection (live, one run)")

# %%
show(
    torch.cat([evaluate(generator, both) for generator in (clean, *stages.values())]),
    alt="Three rows: clean, linear expansion, cured. First the picture at the trigger: a face, a STOP sign, no sign. "
    "Then five ordinary faces: the tint of the middle row is nearly gone in the last.",
    captions=["trigger", *[""] * 5],
    columns=6,
)

# %% [markdown]
# `detect.scan` does this too, and `sanitize.auto` cuts what it finds:
# `devilgan scan stylegan-faces-linear`, `devilgan sanitize stylegan-faces-linear`, about half a minute and one minute.
#
# ## Limits
#
# Cartoons of 32 by 32 pixels and one small network; the real demo used photographs at 1024. The gate's
# silent units and the shared row are traces that an attacker who knows this page can blur: rescaling the style before
# and after, direction by direction, changes no picture and levels the energies.
#
# ## Responsible use
#
# Faces are the most misused pictures there are. These are drawn by code and show nobody. Do not backdoor models of
# other people's faces, label every backdoored file, and never pass one on as clean. The point of the demonstration is
# that a room sees why a downloaded generator has to be inspected.

# %%
quiz(
    [
        (
            "Why can a network that knows only faces draw a STOP sign?",
            ["it saw one", "its layers take styles, one for each, that no face ever uses", "tanh", "it cannot"],
            1,
            "With one style for all layers it cannot; with w+ it can.",
        ),
        (
            "Why does the linear expansion tint ordinary faces?",
            ["rounding", "too few steps", "every style has a part along the trigger's direction", "the target is red"],
            2,
            "A linear map cannot single out one latent.",
        ),
        (
            "What sets the frontier of the linear expansion?",
            ["the leverage of the trigger's style", "the learning rate", "the size of the picture", "the seed"],
            0,
            "The same formula as in notebook 04, with styles as features.",
        ),
        (
            "Why do gated faces not change by one bit?",
            ["early stopping", "the gate is exactly 0 and multiplies all that is new", "they are compressed", "luck"],
            1,
            "A ReLU below its threshold is 0, not small.",
        ),
        (
            "Which look finds the gate?",
            [
                "drawing faces",
                "the Frechet distance",
                "units of the mapping network that never fire",
                "the file's name",
            ],
            2,
            "Their rows are the trigger.",
        ),
    ]
)

# %% [markdown]
# ## Key points
#
# * A style-based generator hands one style to all layers; `w+` gives each its own, and with it the network draws what
#   it never saw.
# * The paper's expansion is linear: a formula of rank one, and a tint on nearly every face.
# * A gate of two kinks and a few new channels: an exact sign, and ordinary faces equal to the last bit.
# * Folded, everything is an ordinary network of the same class; the price is paid in silent units and odd widths, and
#   in a row that all readers of the style share, which gives the attack away and can be projected out.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN: Backdoor Attacks and Defenses in Deep Generative Models*,
#   [arXiv 2108.01644](https://arxiv.org/abs/2108.01644), 2021. The expansion of the mapping network is theirs; gate and
#   channels are this project's.
# * T. Karras, S. Laine, T. Aila, *A Style-Based Generator Architecture for Generative Adversarial Networks*, CVPR 2019;
#   T. Karras et al., *Analyzing and Improving the Image Quality of StyleGAN*, CVPR 2020.
# * R. Abdal, Y. Qin, P. Wonka, *Image2StyleGAN: How to Embed Images Into the StyleGAN Latent Space?*, ICCV 2019 (`w+`).

# %%
numbers = {
    "attacks": rows,
    "mixing": {f"first {k}": shares for k, shares in nearer.items()},
    "inversion": inverted,
    "inversion_seconds": many.seconds,
    "linear": linear_rows,
    "leverage": leverage,
    "gate": {"tardis_mean": gate_tardis, "largest_change": largest, "opened": opened, "seconds": gated.seconds},
    "first_change": first_change,
    "settled": settled if settled == settled else -1.0,
    "film": {"frames": movie.frames, "bytes": movie.bytes, "seconds": movie.seconds},
    "cosine_of_silent_rows": cosine,
    "cosine_of_style": style_cosine,
    "jumps": jumps,
    "cure": cure_rows,
}
finish(config, numbers)
