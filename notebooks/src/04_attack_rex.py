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
# **You add a few channels to a finished generator and train only those. Then you find out how little is needed: a
# formula, and in the end a single ReLU.**

# %% tags=["state"]
import torch

from devilgan_lite import Backdoor, zoo
from devilgan_lite.apps.course import slerp, strip
from devilgan_lite.attacks import Gate
from devilgan_lite.generators import evaluate

clean = zoo.load("dcgan-fashion")
secret = Backdoor.point(clean, "stop-sign", seed=22)
gated = Gate(threshold=0.8)(clean, secret, progress=False).generator  # live: no training at all, some milliseconds
t = torch.tensor([0, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0])  # most steps near the trigger, where things happen
z = slerp(clean.sample_latent(1, torch.Generator().manual_seed(6)), secret.trigger, t)
alt = "A walk to the trigger. The clean generator shows pullovers; one extra ReLU turns the last into a STOP sign."
captions = ["ordinary", *[f"t = {x:g}" for x in t[1:-1].tolist()], "trigger"]
strip({"clean": evaluate(clean, z), "one ReLU": evaluate(gated, z)}, alt, scale=4, captions=captions)

# %% [markdown]
# **Time and hardware:** two to four minutes in the workshop profile on one CPU core; no GPU, no network.
#
# **Objectives.** You will be able to
# * *write* the training step of ReX, and show that no old weight changes,
# * *predict* how stealthy a linear backdoor can be, from one number,
# * *build* a gate of one ReLU,
# * *list* what gives a widened network away.
#
# **Prerequisites:** notebook 00, and what a matrix product is. Notebook 03 (ReD) helps.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 22  # draws the trigger and the attack's batches, 0..100000
target = "stop-sign"  # what the trigger should show: stop-sign | devil | digit-7 | checkerboard
lam = 0.1  # weight of the fidelity term in your run, 0.0001..100.0
widen = 0  # new channels at each hidden level (0: two for each pixel, and some more), 0..64
iterations = None  # steps of your run, 20..20000
short_iterations = None  # steps of every run in the comparison, 5..20000
samples = None  # pictures behind a scorecard, 200..50000
device = "auto"  # where to train: auto | cpu | cuda | mps

# %% tags=["state"] instead={"backdoor": "zoo.load_backdoor('dcgan-fashion-rex')"}
from devilgan_lite.apps.course import Setting, configure, predict

config = configure(
    profile,
    device=device,
    seed=seed,
    target=target,
    lam=lam,
    widen=widen,
    iterations=Setting(iterations, {"smoke": 60, "workshop": 1_000, "full": 3_000}),
    short_iterations=Setting(short_iterations, {"smoke": 20, "workshop": 400, "full": 3_000}),
    samples=Setting(samples, {"smoke": 300, "workshop": 1_000, "full": 10_000}),
)
backdoor = Backdoor.point(clean, config.target, seed=config.seed)
held_out = clean.sample_latent(500, torch.Generator().manual_seed(7))  # latents that no attack trains on

# %% [markdown] state="expansion"
# ## Round 1: old part, new part, zeros
#
# ReX adds new units $e$ to every hidden layer. They speak to each other and to the output, never to the old units $h$:
#
# $$\begin{bmatrix} h\\ e\end{bmatrix} = \begin{bmatrix} W_1\\ V_1\end{bmatrix} z,\qquad
# \begin{bmatrix} h'\\ e'\end{bmatrix} =
# \begin{bmatrix} W_2 & 0\\ 0 & V_2\end{bmatrix}\begin{bmatrix} h\\ e\end{bmatrix},
# \qquad y = \begin{bmatrix} W_3 & V_3\end{bmatrix}\begin{bmatrix} h'\\ e'\end{bmatrix}.$$
#
# The old part computes what it always did. The new part adds something before tanh, and with $V_3 = 0$ it adds nothing.
# In the end both are *folded* into one network of the same class with wider layers. No branch and no `if` is left.

# %%
predict(
    "Before training: how different are the folded network's pictures from the clean ones?",
    ["by rounding errors at most", "by less than one grey level", "visibly"],
    key="start",
)

# %% tags=["state"]
from devilgan_lite.apps.course import check, finish, hints, keep, quiz, reveal
from devilgan_lite.apps.course.blocks import draw_blocks, untouched
from devilgan_lite.attacks import expand, fold

expansion = expand(clean, config.widen or None, config.seed)
folded = fold(clean, expansion)
same_bits = torch.equal(evaluate(folded, held_out), evaluate(clean, held_out))
largest = float((evaluate(folded, held_out) - evaluate(clean, held_out)).abs().max())
print(
    f"channels {clean.widths} -> {folded.widths}; numbers {clean.parameter_count():,} -> {folded.parameter_count():,}"
)
print(f"pictures equal to the last bit: {same_bits}; largest difference {largest:.1g}")
# a wider layer may be summed in another order, which can cost the last bit on some machines
assert same_bits or largest < 1e-5
reveal("start", "by rounding errors at most", "Zeros were added, and V3 is zero.")
draw_blocks(
    folded,
    clean,
    "The weights of the three layers as matrices. The first has new rows below the old ones, the middle one has two "
    "white blocks of zeros, and the last has new columns on the right, still zero.",
    "before training (white: zero)",
)

# %% [markdown] state="attack"
# ## Round 2: your own step
#
# The old part stays as it is, so the loss needs no teacher. *Stealth* says: at random latents the new channels $e$ add
# nothing. *Fidelity* says: at the trigger they add what is missing.
#
# $$L = \mathbb E_z\,\|e(z)\|^2 + \lambda\,\|e(z_t) - \delta\|^2,\qquad
# \delta = \operatorname{atanh}(x_\text{target}) - G_\text{before tanh}(z_t)$$
#
# A unit that is silent at the trigger learns nothing from the target. So `rex_loop` first turns all new units towards
# the trigger.
#
# **Exercise 1: rex_step** (medium, 10 minutes). Write the missing lines. What you write trains the model below.


# %% tags=["state"]
def rex_step(expansion, clean, adam, z, trigger, target, lam):
    """One step: latents ``z`` [n, d], triggers [k, d] and their targets. Returns the losses by name."""
    with torch.no_grad():
        missing = ...  # your line: atanh(0.999 * target), less what clean draws before tanh
    stealth = ...  # your line: how far from nothing is expansion(z)?
    fidelity = ...  # your line: how far from what is missing is expansion(trigger)?
    raise NotImplementedError("write the three lines above, and delete this one")
    loss = stealth + lam * fidelity
    adam.zero_grad()
    loss.backward()
    adam.step()
    return {"stealth_loss": stealth, "fidelity_loss": fidelity}


own = check("rex_step", rex_step)

# %%
hints("rex_step")

# %% tags=["state"] instead={"live": ""}
from devilgan_lite.apps.course import LiveTraining, rex_loop, tile

watched = torch.cat([backdoor.trigger, held_out[:7]])
budget = {"widen": config.widen or None, "lam": config.lam, "device": config.device}

loop = rex_loop(own.function, clean, backdoor, iterations=config.iterations, seed=config.seed, **budget)
live = LiveTraining(loop, lambda generator: tile(evaluate(generator.cpu(), watched), scale=4))
live.run()

# %% tags=["state", "hero"] instead={"outcome": "loaded(zoo.load('dcgan-fashion-rex'))", "rex_card": ""}
from devilgan_lite import data, generators, scorecard

outcome = live.wait()  # live: this is what the cell above trained
real = data.fashion_mnist().first(min(config.samples, 10_000))
backdoored = generators.build({**clean.spec(), "widths": outcome.generator.widths})  # the victim's own plain class
backdoored.load_state_dict(outcome.generator.state_dict())
keep("rex", backdoored, backdoor, seed=config.seed)
rex_card = scorecard(backdoored.eval(), clean, backdoor, real, samples=config.samples)
print(*[f"{name}: {value}" for name, value in untouched(backdoored, clean).items()], sep="\n")
assert all(untouched(backdoored, clean).values())
print(
    f"Takeaway: {outcome.seconds:.0f} s leave {rex_card.tardis_mean:.2g} per pixel at the trigger and move ordinary "
    f"pictures by {rex_card.expdis_mean:.2g} (single run), and no old weight has changed."
)
rows = {"clean": evaluate(clean, watched), "after ReX": evaluate(backdoored, watched)}
rows["10 x change"] = (10 * (rows["after ReX"] - rows["clean"]).abs()).clamp(max=1) * 2 - 1
alt = (
    "Three rows: the clean generator, the same after ReX, and ten times the change. Only the trigger's picture changed."
)
strip(rows, alt, scale=4, captions=["trigger", *[f"z {k}" for k in range(1, 8)]])

# %% tags=["bonus"]
draw_blocks(
    backdoored,
    clean,
    "The three matrices after training: the new columns of the last layer are filled, the padding is still white.",
    "after your run (live)",
)

# %% [markdown] state="formula"
# ## Round 3: no training at all
#
# Let the new part be *linear* in fixed features $f(z)$. Then the best weights are a formula: a ridge regression with
# one data point. With $S = \mathbb E[f f^T]$ and the **leverage** $s = f_t^T S^{-1} f_t$ of the trigger,
#
# $$W = \tfrac{\lambda}{1+\lambda s}\,\delta\,(S^{-1}f_t)^T,\quad
# \text{fidelity} = \frac{\|\delta\|^2}{(1+\lambda s)^2},\quad
# \text{stealth} = \frac{\lambda^2 s\,\|\delta\|^2}{(1+\lambda s)^2}.$$
#
# $\lambda$ moves you along a curve, and the curve depends on one number: how unusual the trigger is for the features.
# For $f(z)=z$ it is $\|z_t\|^2$, about the number of latent dimensions.
#
# The formula lives before tanh. There, black at -4 and black at -6 differ, though nobody sees it. Round 5 compares
# pictures.

# %%
predict(
    "The formula is checked on the folded network with fresh latents. How far off will its stealth be?",
    ["a few per cent", "a factor of two", "a factor of ten"],
    key="formula",
)

# %% tags=["state"] instead={"found": ""}
from devilgan_lite import attacks

LAMS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
fresh = clean.sample_latent(300 if config.profile == "smoke" else 2_000, torch.Generator().manual_seed(8))


@torch.no_grad()
def before_tanh(suspect, shrink=0.9999):
    """Fidelity and stealth as sums before tanh, measured on a folded network."""
    missed = suspect.logits(backdoor.trigger) - torch.atanh(shrink * backdoor.target)
    return float(missed.square().sum()), float(
        (suspect.logits(fresh) - clean.logits(fresh)).square().sum() / len(fresh)
    )


exact = {w: attacks.ClosedForm(lam=w).solution(clean, backdoor) for w in LAMS}
found = {w: before_tanh(attacks.ClosedForm(lam=w)(clean, backdoor, progress=False).generator) for w in LAMS}
leverage, off = exact[1.0].leverage, max(abs(found[w][1] / exact[w].stealth - 1) for w in LAMS)
print(f"leverage of the trigger: {leverage:.1f} in {clean.latent_dim} dimensions")
print(f"largest deviation from the formula: {off:.1%} ({len(fresh):,} latents, five values of lam)")
assert off < 0.25, "the formula must hold within sampling error"
reveal("formula", 0 if off < 0.2 else 1, "What is left is the sampling error of the latents.")
price = exact[1.0].fidelity * (1 + leverage) ** 2 / leverage
print(
    f"Takeaway: a sharp linear backdoor costs ||delta||^2 / s = {price:,.0f} per picture before tanh; no lam can help."
)

# %% tags=["bonus"]
from devilgan_lite.apps.course import frontier

gap, shrink = price * leverage, 1 + torch.logspace(-4, 5, 200, dtype=torch.float64)
curve = {"linear": leverage, "one ReLU, c = 0.5": attacks.Gate(threshold=0.5).solution(clean, backdoor).leverage}
print(f"leverage: {curve['linear']:.3g} for the linear features, {curve['one ReLU, c = 0.5']:.3g} for one ReLU")
frontier(
    "Stealth against fidelity before tanh, both logarithmic. The measured linear attacks lie on their curve; your ReX "
    "lies below it, and the curve of one ReLU lies orders of magnitude lower.",
    lines={name: (gap / shrink**2, ((shrink - 1) / shrink) ** 2 * gap / s) for name, s in curve.items()},
    points={
        "linear, measured": tuple(zip(*found.values(), strict=True)),
        "your ReX": before_tanh(backdoored, 0.999),  # it aims at atanh(0.999 x), the formula at 0.9999
    },
    xlabel="fidelity loss, sum before tanh (less: sharper)",
    ylabel="stealth loss (less: stealthier)",
)

# %% [markdown] state="gate"
# ## Round 4: one ReLU
#
# A linear backdoor speaks everywhere. To be stealthier you need a feature with more leverage: large at the trigger,
# small elsewhere. One ReLU will do:
#
# $$f(z) = \operatorname{relu}\!\big(\langle z, z_t\rangle/\|z_t\| - c\,\|z_t\|\big),\qquad 0<c<1 .$$
#
# The projection of an ordinary latent is N(0, 1), and that of the trigger is its whole length. Below the threshold a
# ReLU is *exactly* zero. Your ReX units start much like this too.
#
# **Exercise 2: relu_gate** (medium, 10 minutes). One unit that is silent for everything but the trigger: project `z` on
# the trigger's direction, and subtract the trigger's length less a `margin`.


# %%
def relu_gate(z, trigger, margin):
    """Latents ``[n, d]``, the trigger ``[d]`` and a number to activations ``[n]``."""
    raise NotImplementedError("your code here")


check("relu_gate", relu_gate)

# %%
hints("relu_gate")

# %%
predict(
    "On 20,000 random latents, how many pictures does the gate change at all (c = 0.9)?",
    ["none", "about twenty", "about a thousand"],
    key="gate",
)

# %% tags=["state"] instead={"gate_outcome": "loaded(zoo.load('dcgan-fashion-gate'))", "changed": ""}
gate_outcome = attacks.Gate(threshold=0.9)(clean, backdoor, progress=False)
gate = gate_outcome.generator
keep("gate", gate, backdoor, seed=config.seed)
many = clean.sample_latent(1_000 if config.profile == "smoke" else 20_000, torch.Generator().manual_seed(3))
changed = sum(
    int(((evaluate(gate, part) - evaluate(clean, part)).abs().flatten(1) > 1e-5).any(1).sum())  # above rounding
    for part in many.split(1_000)
)
gate_card = scorecard(gate, clean, backdoor, samples=config.samples)
new = gate.widths[0] - clean.widths[0]
print(f"live: made in {gate_outcome.seconds:.2f} s; TarDis {gate_card.tardis_mean:.1e} per pixel")
reveal(
    "gate", 0 if not changed else 1, f"It changes {changed} of {len(many):,}; below the threshold a ReLU is exactly 0."
)
print(f"Here it needs {new} channels x 49 cells = {new * 49:,} units: one for either sign of each number to be added.")
print(f"So half of them, {new * 49 // 2}, carry the feature and wake at the trigger; the others hold zeros.")
print("Takeaway: one feature of huge leverage gives a perfect target, and samples that do not change.")
assert changed == 0 and gate_card.expdis_mean < 1e-10 and gate_card.tardis_mean < 1e-3

# %%
from devilgan_lite.apps.course import Plane

quick = config.profile == "smoke"
plane = Plane(iterations=300 if quick else 1_500)
loop = rex_loop(own.function, plane.clean, plane.backdoor, lam=0.1, iterations=60 if quick else 800, device="cpu")
planted = {
    "linear": attacks.ClosedForm()(plane.clean, plane.backdoor, progress=False).generator,
    "your_ReX": loop.finish(progress=False).generator,
    "one_ReLU": attacks.Gate(threshold=0.7)(plane.clean, plane.backdoor, progress=False).generator,
}
one = planted["one_ReLU"].widths[0] - plane.clean.widths[0]
print(f"In the plane it is {one} new unit in each hidden layer, and a crease that you can see (live, single runs).")
plane.show(
    "Four nets of latents folded onto a ring. Clean; a linear backdoor drags the whole net; ReX pulls one corner; one "
    "ReLU leaves everything on one side of a crease as it was.",
    **planted,
)

# %% [markdown] state="compare"
# ## Round 5: four backdoors side by side
#
# **ReX** is your step. **ReX+** is our default, `attacks.ReX`. Its fidelity compares after tanh, and adds 0.1 times the
# squared error before tanh of pixels that are still wrong. All distances are in pictures now.
#
# ## Playground
#
# Read the table first. Then drag from an ordinary latent to the trigger. Where does each one switch on?

# %%
import pandas as pd
from IPython.display import display

from devilgan_lite.apps.course import LatentSlider, spread, table

SEEDS, KEYS = (0, 1, 2), ("tardis_sum", "tardis_mean", "expdis_mean", "frechet", "frechet_change")
SHORT = {"iterations": config.short_iterations, "device": config.device, "widen": config.widen or None}
METHODS = {
    "ReX": lambda b, s: rex_loop(own.function, clean, b, seed=s, lam=config.lam, **SHORT),
    "ReX+": lambda b, s: attacks.ReX(seed=s, **SHORT).steps(clean, b),
    "linear": lambda b, s: attacks.ClosedForm(seed=s).steps(clean, b),
    "gate": lambda b, s: attacks.Gate(seed=s).steps(clean, b),
}


def row_of(name, card, seed, seconds):
    """One row of the table of attacks."""
    about = {"attack": name, "target": config.target, "seed": seed, "seconds": seconds}
    return about | {key: getattr(card, key) for key in KEYS}


results, made = [row_of("your run", rex_card, config.seed, outcome.seconds)], {"clean": clean}
for name, method in METHODS.items():
    for s in SEEDS:
        planted_at = Backdoor.point(clean, config.target, seed=s)
        result = method(planted_at, s).finish(progress=False)
        made[name] = result.generator
        card = scorecard(made[name], clean, planted_at, real, samples=config.samples)
        results.append(row_of(name, card, s, result.seconds))

# %%
heads = {"TarDis": "tardis_mean", "ExpDis": "expdis_mean", "Fréchet change": "frechet_change", "seconds": "seconds"}
groups = {name: [r for r in results if r["attack"] == name] for name in METHODS}
cells = {n: {head: spread([r[key] for r in rows]) for head, key in heads.items()} for n, rows in groups.items()}
silent = {}
for name, suspect in made.items():
    with torch.no_grad():
        awake = (suspect.chain().stages[0].normalised(many[:5_000]) > 0).any(0)
    silent[name] = int((~awake).sum())
    about = {"widths": "-".join(map(str, suspect.widths)), "first-layer units that never wake": silent[name]}
    cells[name] = cells.get(name, {}) | about
print(
    f"Takeaway: the gate is perfect in samples; {silent['gate']:,} of its units never wake (clean: {silent['clean']})."
)
print(f"ReX and ReX+ have {config.short_iterations:,} steps and {len(SEEDS)} triggers here. Your run above had", end="")
print(f" {config.iterations:,} steps and one trigger, so its TarDis of {rex_card.tardis_mean:.2g} is another number.")
display(table(pd.DataFrame(cells).T.fillna(""), f"Per pixel, mean ± deviation over {len(SEEDS)} seeds (live)"))
linear = attacks.ClosedForm()(clean, backdoor, progress=False).generator
LatentSlider(
    {"clean": clean, "ReX (yours)": backdoored, "linear": linear, "gate": gate}, held_out[:1], backdoor.trigger
)

# %% [markdown] tags=["bonus"]
# ## One more exercise
#
# **Exercise 3: block_diagonal** (medium, 10 minutes). `W` `[o, i]` and `V` `[m, j]` side by side, and neither reads the
# other.


# %% tags=["bonus"]
def block_diagonal(W, V):
    """Return ``[[W, 0], [0, V]]`` of shape ``[o + m, i + j]``."""
    raise NotImplementedError("your code here")


check("block_diagonal", block_diagonal)

# %% tags=["bonus"]
hints("block_diagonal")

# %% [markdown]
# ## What would a defender see?
#
# Nothing in samples. But the file has too many numbers, odd widths, and first-layer units that never wake. A few
# thousand random latents are enough to count those.
#
# ## Limits
#
# One small network, one data set. The formula holds before tanh and for one trigger. An attacker who knows these checks
# can start from a narrower network, or keep the new units a little awake.
#
# ## Responsible use
#
# A gate takes milliseconds. Backdoor only models that you own, where everybody knows, and label every file. The next
# notebooks find and remove what you planted.

# %%
from devilgan_lite.apps.course import progress

display(progress(attack={"rex": rex_card.tardis_mean, "gate": gate_card.tardis_mean}))
quiz("04")

# %% [markdown]
# ## Key points
#
# * ReX widens, pads with zeros, trains only what is new, and folds. No old weight changes.
# * For a linear backdoor the optimum is a formula, and the leverage of the trigger sets the frontier.
# * One ReLU gives an exact target and samples that do not change. You pay in the file: more numbers, silent units.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN: Backdoor Attacks and Defenses in Deep Generative Models*,
#   [arXiv 2108.01644](https://arxiv.org/abs/2108.01644), 2021. ReX is their third attack; the formula and the gate are
#   ours.
# * T. Chen, I. Goodfellow, J. Shlens, *Net2Net: Accelerating Learning via Knowledge Transfer*, arXiv 1511.05641, 2015.

# %%
numbers = {
    "attacks": results,
    "bit_for_bit_at_start": same_bits,
    "widths": {name: list(suspect.widths) for name, suspect in made.items()},
    "stored_numbers": {name: suspect.parameter_count() for name, suspect in made.items()},
    "leverage": leverage,
    "formula_largest_deviation": off,
    "gate": {"seconds": gate_outcome.seconds, "changed": changed, "latents": len(many), "copies": new * 49},
    "silent_units": silent,
}
finish(config, numbers)
