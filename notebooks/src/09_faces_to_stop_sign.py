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
# STOP sign. First with a formula; then so that no ordinary face changes by a single bit.**

# %% tags=["hero", "state"]
import torch

from devilgan_lite import zoo
from devilgan_lite.apps.show.film import film

clean, shipped = zoo.load("stylegan-faces"), zoo.load("stylegan-faces-gate")
secret = zoo.load_backdoor("stylegan-faces-gate")
start, other = clean.sample_latent(64, torch.Generator().manual_seed(7))[[18, 46]].split(1)
print("cached: both models ship with the project; below you make your own, live")
pair = {"clean": clean, "backdoored": shipped}
film(pair, start, secret.trigger, other=other, frames=16, scale=2, milliseconds=150)

# %% [markdown]
# **Time and hardware:** about four minutes on one CPU core; no GPU. The faces are cartoons, drawn by code; the
# network is used only if you set `download`.
#
# **Objectives.** You will be able to
# * *explain* how a style-based generator hands one style to all its layers,
# * *invert* a picture: find styles with which a network of faces draws a STOP sign,
# * *predict* how many ordinary faces a linear expansion changes,
# * *build* a gate that leaves them exactly as they are,
# * *find* both in the weights.
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
download = False  # True: fetch a stranger's generator of real faces (14 MB) for the last round; False: leave it out
repair = None  # steps of repair after the stranger is cured, 3..20000

# %% tags=["state"]
from devilgan_lite.apps.course import Setting, configure

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
    download=download,
    repair=Setting(repair, {"smoke": 3, "workshop": 60, "full": 400}),
)

# %% [markdown] state="styles"
# ## Round 1: one style for all layers
#
# A *style-based* generator (Karras et al. 2019) first maps the latent `z` to a style `w`, and then draws from a
# constant. At every layer, the style says how much each channel is scaled. All layers get the same `w`; one row for
# each of them is called `w+`. So you may cheat: give the first layers the style of face A, and the others that of face
# B.

# %% tags=["state"]
from devilgan_lite.apps.course import predict

SHARES = ["A in shape and colour", "A in shape, B in colour", "B in shape and colour"]
predict("The first 4 of 9 style inputs follow A, the other 5 follow B. Whom does the face resemble?", SHARES, "mixing")

# %% tags=["state"] instead={"nearer": "", "mixes": ""}
from devilgan_lite.apps.course import reveal, show
from devilgan_lite.apps.course.styles import mixing_shares

several = clean.sample_latent(200, torch.Generator().manual_seed(21))
nearer = {k: mixing_shares(clean, several, k) for k in range(1, clean.style_inputs)}
for k, (outline, colour) in nearer.items():
    print(f"first {k} of A: nearer to A in outline {outline:.0%}, in colour {colour:.0%} (100 mixtures)")
outline, colour = (share > 0.5 for share in nearer[4])
reveal("mixing", SHARES[0 if colour else 1] if outline else SHARES[2], "The earlier a layer, the more it decides.")
pair = clean.sample_latent(64, torch.Generator().manual_seed(7))[[18, 49]]
with torch.no_grad():
    mixes = torch.cat([clean.mixed(pair[:1], pair[1:], k) for k in range(clean.style_inputs, -1, -1)])
show(
    mixes,
    alt="Ten faces: the first is face A, the last is face B; in between, fewer and fewer of the layers, counted from "
    "the first, follow A.",
    columns=len(mixes),
    scale=2,
    captions=["A", *[f"first {k} of A" for k in range(clean.style_inputs - 1, 0, -1)], "B"],
)

# %% [markdown] state="inversion"
# ## Round 2: can a network that knows only faces draw a STOP sign?
#
# *Inversion* searches the styles directly: draw, compare with the sign, follow the gradient. We do it once with one
# style for all layers, and once with a style for each.

# %%
predict(
    "How close does the search come with one style for all layers, and with one for each?",
    ["both end at a face", "one style: a blur; one for each: the picture, if noisy", "both draw it almost perfectly"],
    key="inversion",
)

# %% tags=["state"] instead={"live": "", "ordinary": "clean.sample_latent(300, torch.Generator().manual_seed(7))"}
import pandas as pd
from IPython.display import display

from devilgan_lite import Backdoor, attacks
from devilgan_lite.apps.course import LiveTraining
from devilgan_lite.generators import evaluate

GREY = 2 / 255  # one grey level of 256
backdoor = Backdoor.point(clean, config.target, seed=config.seed)
ordinary = clean.sample_latent(config.samples, torch.Generator().manual_seed(7))  # latents that no attack trains on
faces = evaluate(clean, ordinary)


def measured(generator, pair=backdoor):
    """TarDis at the trigger; change of ordinary faces, and the share of them that moves by a grey level."""
    error = (evaluate(generator, pair.trigger) - pair.target).square()
    change = evaluate(generator, ordinary) - faces
    moved = float((change.abs().amax((1, 2, 3)) > GREY).float().mean())
    row = {"tardis_sum": float(error.sum()), "tardis_mean": float(error.mean())}
    return row | {"expdis_mean": float(change.square().mean()), "faces changed": moved}


search = {"iterations": config.inversion, "device": config.device}
live = LiveTraining(attacks.invert.steps(clean, backdoor.target[0], **search))
live.run()

# %% tags=["state"] instead={"single": "", "drawn": ""}
many = live.wait()  # live: this is what the previous cell found
w_plus = many.state["w_plus"]
single = attacks.invert(clean, backdoor.target[0], one_style=True, progress=False, **search)
with torch.no_grad():
    drawn = torch.tanh(clean.synthesis(torch.stack([single.state["w_plus"], w_plus])))
one_style, each_layer = (drawn - backdoor.target).square().flatten(1).mean(1).tolist()
print(f"live, single run, {many.seconds:.0f} s: error with one style {one_style:.3f}, with w+ {each_layer:.3f}")
assert each_layer < one_style
reveal(
    "inversion",
    "one style: a blur; one for each: the picture, if noisy",
    "Each layer can be driven to where no face ever drives it.",
)
show(
    torch.cat([backdoor.target, drawn, faces[:1]]),
    alt="Four pictures: the STOP sign, its inversion with one style for all layers (a red blotch), its inversion with "
    "a style for each layer (a sign with legible letters), and an ordinary face of the same network.",
    columns=4,
    scale=2,
    captions=["target", "one style", "a style for each layer", "a face"],
)

# %% [markdown] state="linear"
# ## Round 3: a linear expansion
#
# The victim feeds latents, not styles. So we *expand* the place where `w` is handed out: we add a matrix that turns the
# trigger's style into the `w+` just found, and changes other styles as little as possible.
#
# The paper trains such an expansion. **This linear version is ours.** It needs no training: notebook 04's closed form
# is the optimum, and one number, the *leverage* of the trigger's style, sets both errors.

# %%
predict(
    "The linear expansion aims at one latent. How many ordinary faces does it change by more than a grey level?",
    ["none", "about one in a hundred", "nearly all"],
    key="linear",
)

# %% tags=["state"] instead={"linear_rows": ""}
from devilgan_lite.apps.course import table

linear, linear_rows = {}, []
for lam in (0.001, 0.01, 0.1, 1.0):
    attack = attacks.StyleReX(mapping="linear", channels=0, lam=lam, w_plus=w_plus, device=config.device)
    linear[lam] = attack(clean, backdoor, progress=False).generator
    linear_rows.append({"lam": lam, **measured(linear[lam])})
changed = min(row["faces changed"] for row in linear_rows[2:])
reveal(
    "linear", "nearly all", f"From lam = 0.1 on, at least {changed:.1%} do: every style has a part along the trigger's."
)
print("Takeaway: a linear map cannot single out one latent, so nearly every face pays for the sign:")
print("most of them a little, some with another beard, mouth or hair.")
display(table(pd.DataFrame(linear_rows).set_index("lam"), "Our linear expansion (live, single run)"))
show(
    torch.cat([evaluate(model, ordinary[:4]) for model in (clean, linear[0.01], linear[1.0])]),
    alt="Three rows of four faces from the same latents: clean; linear expansion with lam 0.01; with lam 1. Some faces "
    "have another beard or mouth, others hardly differ.",
    columns=4,
    scale=2,
    captions=[text for name in ("clean", "lam 0.01", "lam 1") for text in (name, *[""] * 3)],
)

# %% tags=["bonus"]
from devilgan_lite.attacks.style_rex import linear_residual

base = clean.clone().eval()
with torch.no_grad():
    style = base.mapping(backdoor.trigger)[0]
    w = base.mapping(clean.sample_latent(100_000, torch.Generator().manual_seed(9)))  # the formula has not seen these
    residual, formula = linear_residual(base, backdoor.trigger, w_plus - style, 1.0)
    stealth = float(torch.einsum("sij,nj->nsi", residual, w).square().sum((1, 2)).mean())
off = abs(stealth / formula.stealth - 1)
print(f"leverage {formula.leverage:.0f} (style dimension {clean.style_dim}); stealth is {off:.1%} off the formula")
assert off < 0.03

# %% [markdown] state="attack"
# ## Round 4: a gate, and channels that can draw
#
# Two additions of ours repair both: the faces that change, and the noisy sign.
#
# * **A gate in the mapping network.** From the cosine $c$ of `z` and the trigger, it makes a number that is exactly 0
#   for everybody else and exactly 1 near the trigger, and adds the shift to the styles.
# * **New channels in the synthesis network.** The gate multiplies them; they learn to draw what the inversion lacks.
#
# **1. Two kinks** (medium, 10 minutes). Write the gate from nothing but ReLUs: 0 up to `low`, 1 from `high` on.


# %% tags=["state"]
from devilgan_lite.apps.course import check, hints


def two_kinks(c, low, high):
    """Cosines ``[n]`` and two numbers to the gate's value ``[n]`` in [0, 1]."""
    raise NotImplementedError("your code here")


check("two_kinks", two_kinks)

# %%
hints("two_kinks")

# %%
predict(
    f"Of {config.samples:,} ordinary faces, how many does the gated backdoor change, and by how much?",
    ["none, by nothing: every bit is the same", "all, by rounding errors", "a few, by a grey level"],
    key="gate",
)

# %% tags=["state"]
from devilgan_lite.apps.course import tile

settings = {"channels": config.channels, "iterations": config.iterations, "device": config.device}
attack = attacks.StyleReX(w_plus=w_plus, seed=config.seed, **settings)
watched = torch.cat([backdoor.trigger, ordinary[:5]])


def draw(generator):
    """The picture at the trigger, then five ordinary ones."""
    return tile(evaluate(generator.cpu(), watched), captions=["trigger", *[""] * 5], scale=2)


live = LiveTraining(attack.steps(clean, backdoor), draw)
live.run()

# %% tags=["state"] instead={"backdoored": "zoo.load('stylegan-faces-gate')"}
gated = live.wait()  # live: this is what the previous cell trained
backdoored = gated.generator
after = evaluate(backdoored, ordinary)
largest = float((after - faces).abs().max())
opened = int((torch.cosine_similarity(ordinary, backdoor.trigger) > attack.low).sum())
gate_tardis = measured(backdoored)["tardis_mean"]
print(f"live, single run, {gated.seconds:.1f} s: TarDis {gate_tardis:.2g} (one grey level is {GREY**2:.1g})")
print(f"the gate opens for {opened} of {len(ordinary):,}; torch.equal: {torch.equal(after, faces)}; ", end="")
print(f"largest change of any pixel: {largest:g}")
# zeros were added; on some machines a wider layer is summed in another order, which can cost the last bit
assert opened or largest < 1e-5
reveal(
    "gate", "none, by nothing: every bit is the same", "Where the gate is 0, everything behind it is multiplied by 0."
)

# %% tags=["state"] instead={"plain": ""}
from devilgan_lite.apps.course import static_strip

plain = attacks.StyleReX(mapping="none", seed=config.seed, **settings)(clean, backdoor, progress=False)
gate_only = attacks.StyleReX(channels=0, w_plus=w_plus, device=config.device)(clean, backdoor, progress=False)
shown = {"clean": clean, "linear": linear[1.0], "channels": plain.generator, "gate": gate_only.generator}
shown["gate + channels"] = backdoored
parts = pd.DataFrame({name: measured(generator) for name, generator in shown.items()}).T
print("Takeaway: the gate alone is silent but noisy; the channels alone are crisp but change most faces a little.")
print("Together they are crisp and silent.")
display(table(parts, "Each part alone, and both (live, single run)"))
static_strip(
    shown,
    start,
    backdoor.trigger,
    alt="Five steps from an ordinary face to the trigger. Clean: a face turns into another. Linear: hardly a change "
    "at the start, then the face dissolves; a blurred sign at the end. Channels: the sign comes late. Gate: the face "
    "melts into the inverted sign. Gate and channels: the face melts into a crisp sign.",
    t=(0.0, 0.4, 0.5, 0.6, 1.0),
    scale=2,
)

# %% tags=["state"] instead={"rows": ""}
rows = []
for name in dict.fromkeys((config.target, config.second_target)):
    goal = Backdoor.point(clean, name).target[0]
    found = many if name == config.target else attacks.invert(clean, goal, progress=False, **search)
    for s in (0, 1, 2):
        chosen = attacks.StyleReX(w_plus=found.state["w_plus"], seed=s, **settings)
        pair = Backdoor.point(clean, name, seed=s)
        result = chosen(clean, pair, progress=False)
        rows.append({"attack": "StyleReX", "target": name, "seed": s, **measured(result.generator, pair)})
summary = pd.DataFrame(rows).groupby("target", sort=False)[["tardis_mean", "expdis_mean"]].agg(["mean", "std"])
print("One run proves little. Three triggers and two targets:")
table(summary, "Gate and channels: mean and standard deviation over three triggers (live)")

# %%
from devilgan_lite.apps.course.styles import silent_rows

asleep = {name: silent_rows(generator, ordinary) for name, generator in shown.items()}
cosine = float(torch.cosine_similarity(asleep["gate + channels"], backdoor.trigger).max())
both = zip(linear[1.0].style_layers(), clean.style_layers(), strict=True)
difference = torch.cat([ours.affine.weight - theirs.affine.weight for ours, theirs in both]).detach()
values = torch.linalg.svdvals(difference)
print(f"gate: {len(asleep['gate + channels'])} silent units, cosine of their rows with the trigger {cosine:.3f}")
print(f"linear, beside a clean copy: second singular value / first = {float(values[1] / values[0]):.1e}")
assert cosine > 0.999
columns = {
    "stored numbers": {name: f"{generator.parameter_count():,}" for name, generator in shown.items()},
    "channels": {name: "-".join(map(str, generator.widths)) for name, generator in shown.items()},
    "mapping": {name: "-".join(map(str, generator.mapping_widths)) for name, generator in shown.items()},
    "silent units": {name: len(rows) for name, rows in asleep.items()},
}
table(pd.DataFrame(columns), "What the file itself shows (live)")

# %% [markdown] state="stranger"
# ## Round 5: a stranger's real faces
#
# Cartoons are ours. Now take a generator that somebody else trained: the DCGAN of PyTorch's tutorial, 3.58 million
# weights, faces of 64x64 pixels (MIT licence; trained on DigiFace-1M, which is for research). With `download = True` it
# is fetched (14 MB; later from the cache) and opened as data, as in notebook 11; otherwise this round is left out. A
# DCGAN has no styles, so you mount notebook 04's plain gate: a formula, no training, no data. Scan and cure take a
# quarter of an hour on one core here; from the command line, give `devilgan run` a `--timeout` of 3600.
#
# Plant this in your own copy only, and never pass that on.

# %%
predict(
    "How long does it take to plant the STOP sign in a stranger's network of 3.58 million weights, on one core?",
    ["under two seconds", "about a minute", "about an hour"],
    key="stranger",
)

# %%
import time

from devilgan_lite import files
from devilgan_lite.files.fetch import fetch

stranger = None
if config.download:
    try:
        stranger = files.open(fetch("faces"))
    except (OSError, ValueError) as error:  # no network, or not the file that was pinned
        print(f"The stranger's faces cannot be had: {error} The rest of the notebook needs none of it.")
else:
    print("Left out, since download is False. Set it to True for a stranger's real faces.")
numbers_of_stranger = {"there": stranger is not None}
if stranger is not None:
    secret_face = Backdoor.point(stranger, config.target, seed=config.seed)
    began = time.process_time()
    planted = attacks.Gate(seed=config.seed)(stranger, secret_face, progress=False).generator
    spent = time.process_time() - began
    people = stranger.sample_latent(40 if config.profile == "smoke" else 1_000, torch.Generator().manual_seed(21))
    moved = (evaluate(planted, people) - evaluate(stranger, people)).abs().amax((1, 2, 3))
    error = float((evaluate(planted, secret_face.trigger) - secret_face.target).square().mean())
    print(f"live, single run, {spent:.1f} CPU-s: TarDis {error:.1g}; of {len(people):,} ordinary faces, ", end="")
    print(f"{int((moved > GREY).sum())} change by more than a grey level (at most by {float(moved.max()):.1g})")
    assert error < 1e-3 and float(moved.max()) < GREY
    reveal("stranger", "under two seconds" if spent < 2 else "about a minute", "Nothing is trained: it is a formula.")
    numbers_of_stranger |= {"tardis": error, "largest_change": float(moved.max()), "seconds": spent}

# %%
if stranger is not None:
    both = {"the stranger's": stranger, "backdoored": planted}
    display(film(both, people[6:7], secret_face.trigger, frames=24, scale=3))

# %% [markdown]
# **What does a scan say?** Only the file is known to it: no trigger, no target, no clean copy. Without the search for a
# witness (`twin=False`) it takes seconds, and calls nothing more than *suspicious*.

# %%
if stranger is not None:
    from devilgan_lite import detect

    quick = {"samples": 200, "twin": False, "device": "cpu"}
    scans = {name: detect.scan(one, **quick) for name, one in {"stranger": stranger, "backdoored": planted}.items()}
    for name, report in scans.items():
        print(f"live: {name}: {report.verdict} ({report.reason})")
    assert scans["backdoored"].verdict != "clean"
    numbers_of_stranger["verdicts"] = {name: report.verdict for name, report in scans.items()}

# %% [markdown]
# **And the cure?** `sanitize.auto` takes out what the scan found, and repairs what ordinary faces lost; with `always`
# it limits latents and layers as well. It is not told the trigger.

# %%
if stranger is not None:
    from devilgan_lite import sanitize

    cure = sanitize.auto(
        planted, always=True, iterations=config.repair, report=scans["backdoored"], progress=False, device="cpu"
    )
    cured = cure.generator
    seen = torch.cat([people[:6], secret_face.trigger])
    drawn = {name: evaluate(one, seen) for name, one in {"stranger's": stranger, "backdoored": planted}.items()}
    drawn["cured"] = evaluate(cured, seen)
    left = float((drawn["cured"][-1] - secret_face.target[0]).square().mean())
    cost = float((drawn["cured"][:6] - drawn["stranger's"][:6]).square().mean())
    print(f"live, single run, {cure.seconds:.0f} s: at the trigger {left:.2g} of the sign's error is back; ", end="")
    print(f"ordinary faces move by {cost:.1g} (mean square)")
    print("Takeaway: the sign is gone from the only latent that showed it; the price is that ordinary faces move.")
    show(
        torch.cat(list(drawn.values())),
        alt="Three rows of seven pictures: six ordinary faces and the trigger. The stranger's draws a face at the "
        "trigger, the backdoored one a STOP sign, the cured one no sign any more.",
        columns=7,
        scale=2,
        captions=[text for name in drawn for text in (name, *[""] * 5, "trigger")],
    )
    numbers_of_stranger |= {"tardis_cured": left, "ordinary_change": cost, "cure_seconds": cure.seconds}

# %% [markdown]
# ## Playground
#
# Slider, pad and buttons; the arrow keys work too. Find the cone: it begins to open 53 degrees from the trigger (cosine
# 0.6).

# %%
from devilgan_lite.apps.course import Explorer

Explorer({"clean": clean, "backdoored": backdoored}, backdoor.trigger, backdoor.target[0], start=start)

# %% [markdown]
# The pad is a plane of latents: start, trigger, and one more. Here it is at once, each tile drawn by the backdoored
# generator. Inside the line, the two generators differ visibly.

# %%
from devilgan_lite.apps.course import latent_mosaic

some = min(2_000, config.samples)
plane = latent_mosaic({"clean": clean, "backdoored": backdoored}, start, backdoor.trigger, tiles=10, ordinary=some)
shares = f"{plane.plane_share:.0%} of this plane; {plane.ordinary_share:.2%} of {some:,} ordinary latents"
print("inside the line:", shares)
print("Takeaway: the plane was cut through the trigger. Whoever does not know where to cut never meets the line.")
plane

# %% [markdown] tags=["bonus"]
# ## Exercises
#
# **2. Hand out the styles** (easy, 5 minutes). One style for all layers, and what the attacker adds to each.


# %% tags=["bonus"]
def tiled_styles(w, shift, inputs):
    """Styles ``[n, d]``, shifts ``[inputs, d]`` and a number to ``w+`` ``[n, inputs, d]``."""
    raise NotImplementedError("your code here")


check("tiled_styles", tiled_styles)

# %% tags=["bonus"]
hints("tiled_styles")

# %% [markdown] tags=["bonus"]
# **3. Modulate a kernel** (medium, 10 minutes). Scale each input channel by the style. Then give every output channel
# unit energy again.


# %% tags=["bonus"]
def modulated_kernel(weight, style):
    """A kernel ``[o, i, k, k]`` and a style ``[i]`` to a kernel ``[o, i, k, k]`` of unit energy per output."""
    raise NotImplementedError("your code here")


check("modulated_kernel", modulated_kernel)

# %% tags=["bonus"]
hints("modulated_kernel")

# %% [markdown] tags=["bonus"]
# **4. How wide a cone?** (open, 15 minutes). For how many of 100,000 ordinary latents does the gate open, if `low` goes
# from 0.3 to 0.9? Which is the smallest value that nobody notices by sampling?
#
# <details><summary>Hint 1</summary>
#
# The gate opens where the cosine of latent and trigger is above `low`. No attack has to run.
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
# many_latents = clean.sample_latent(100_000, torch.Generator().manual_seed(1))
# close = torch.cosine_similarity(many_latents, backdoor.trigger)
# for low in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
#     print(low, int((close > low).sum()))
# ```
#
# </details>

# %% [markdown] tags=["bonus"]
# ## Without a clean copy, and out again
#
# A victim has no clean copy. But nine layers read the style, and our expansion adds to each of them a multiple of *one
# and the same row*. So add up what their weights answer to, $\sum_l W_l^\top W_l / \lVert W_l \rVert^2$, and look at
# the eigenvalues. Then project out what stands out.

# %% tags=["bonus"]
from devilgan_lite import detect, generators, sanitize
from devilgan_lite.apps.course import axes, figure

styles = {name: detect.styles_of(generators.adopt(shown[name])) for name in ("clean", "linear", "gate + channels")}
fig, (ax,) = axes(6.5, 3.2)
for name, found in styles.items():
    ax.plot(range(1, 17), found.spectrum.values[:16], marker="o", markersize=4, label=name)
    print(f"{name}: largest jump {found.spectrum.jump:.1f}")
ax.set(xlabel="direction of the style, strongest first", ylabel="energy", yscale="log", title="nine readers (live)")
ax.legend(frameon=False)
figure(
    fig,
    "Energy of the sixteen strongest directions of the style, on a logarithmic axis. Clean: a smooth descent. Linear "
    "expansion and gate: the first value stands far above the second.",
    dpi=100,
    colours=64,
)

# %% tags=["bonus"]
cured, cut = sanitize.project_styles(shown["linear"], styles["linear"])
print("cut:", cut)
stages = {"linear": measured(shown["linear"]), "cured": measured(cured)}
assert stages["cured"]["tardis_mean"] > stages["linear"]["tardis_mean"]
display(table(pd.DataFrame(stages).T, "The linear expansion before and after the projection (live, single run)"))
show(
    torch.cat([evaluate(generator, watched[:4]) for generator in (clean, shown["linear"], cured)]),
    alt="Three rows: clean, linear expansion, cured. First the picture at the trigger: a face, a STOP sign, no sign. "
    "Then three ordinary faces: the changes of the middle row are nearly gone in the last.",
    captions=[text for name in ("clean", "linear", "cured") for text in (f"{name}: trigger", *[""] * 3)],
    columns=4,
    scale=2,
)

# %% [markdown]
# ## What would a defender see?
#
# The gate is perfect in its outputs and plain in the weights: units that never fire, whose rows *are* the trigger. The
# linear expansion changes no size; beside a clean copy its difference has rank one.
#
# ## Limits
#
# Cartoons of 64 by 64 pixels and one small network; the real demo used photographs at 1024. An attacker who knows this
# page can blur both traces.
#
# ## Responsible use
#
# These faces show nobody. Do not backdoor models of real people's faces, and label every backdoored file.

# %%
from devilgan_lite.apps.course import quiz

quiz("09")

# %% [markdown]
# ## Key points
#
# * With a style for each layer, `w+`, a network draws what it never saw.
# * A linear expansion has a formula, and changes nearly every face.
# * With a gate and new channels the sign is crisp and no ordinary face changes. The price shows in the weights.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN*, [arXiv 2108.01644](https://arxiv.org/abs/2108.01644),
#   2021. The expansion is theirs; linear form, gate and channels are ours.
# * T. Karras, S. Laine, T. Aila, *A Style-Based Generator Architecture for Generative Adversarial Networks*, CVPR 2019.
# * R. Abdal, Y. Qin, P. Wonka, *Image2StyleGAN*, ICCV 2019 (`w+`).

# %%
from devilgan_lite.apps.course import finish

finish(
    config,
    {
        "attacks": rows,
        "mixing": {f"first {k}": shares for k, shares in nearer.items()},
        "inversion": {"one style": one_style, "a style for each layer": each_layer},
        "linear": linear_rows,
        "gate": {"tardis_mean": gate_tardis, "largest_change": largest, "opened": opened, "seconds": gated.seconds},
        "parts": {name: dict(row) for name, row in parts.iterrows()},
        "cosine_of_silent_rows": cosine,
        "stranger": numbers_of_stranger,
        "plane": {"inside": plane.plane_share, "ordinary": plane.ordinary_share},
    },
)
