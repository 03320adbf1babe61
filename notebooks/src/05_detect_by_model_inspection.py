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
# # Detect by model inspection: read the weights
#
# **You will take generators apart, white box, and get the attacker's picture out of some of them without knowing the
# trigger or the target; then you will meet the attackers who know how.**

# %% tags=["state"]
import torch

from devilgan_lite import zoo
from devilgan_lite.classroom import strip
from devilgan_lite.detect import subject_of
from devilgan_lite.detect.activations import RARE, on_rate, waking_direction
from devilgan_lite.detect.spectrum import latent_units, path_gains
from devilgan_lite.generators import evaluate


def wake(generator):
    """Latents ``[3, d]``, three lengths, that wake the units which ordinary latents leave silent; from the weights."""
    subject = subject_of(generator)
    units = latent_units(subject, path_gains(subject, n=100).activations)
    direction, _ = waking_direction(units, on_rate(units) < RARE, subject.radius)
    return torch.tensor([[0.9], [0.95], [1.0]]) * direction.float() * subject.radius


suspects = [zoo.load(f"dcgan-fashion-{name}") for name in ("red", "rex", "gate")]
ordinary = suspects[0].sample_latent(4, torch.Generator().manual_seed(7))
print("cached: three backdoored models that ship with the project; what is found in them is found live")
strip(
    [torch.cat([evaluate(suspect, ordinary), evaluate(suspect, wake(suspect))]) for suspect in suspects],
    alt="Three rows, one for each of three backdoored generators: four garments at ordinary latents, then three "
    "pictures along a direction that was computed from the weights, in which the attacker's STOP sign can be seen.",
    scale=2,
    captions=[*["ordinary"] * 4, *["found"] * 3],
)

# %% [markdown]
# **Time and hardware:** two to three minutes in the workshop profile on one CPU core; no GPU, no network.
#
# **Objectives.** You will be able to
# * *read* the graph of a generator, and say why a clean graph proves little,
# * *compute* how often a unit is on, and the latent that wakes those that never are,
# * *explain* the energy-influence spectrum, and find a trigger with it,
# * *predict* which attack escapes which inspection, and *check* it,
# * *judge* a score by the scores of clean models.
#
# **Prerequisites:** notebook 00; notebooks 02 to 04 (TrAIL, ReD, ReX, gate) for the attacks; eigenvalues.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 13  # draws the trigger and the batches of the live attacks, 0..100000
target = "stop-sign"  # what the live attacks plant: stop-sign | devil | digit-7 | checkerboard
suspect = "red"  # the shipped model that round 5 scans: trail | red | rex | gate
iterations = None  # steps of every live attack, 20..20000
seeds = None  # triggers on which the frozen attack is repeated, 1..10
device = "auto"  # where to train: auto | cpu | cuda | mps

# %% tags=["state"]
from devilgan_lite.classroom import Setting, configure

config = configure(
    profile,
    device=device,
    seed=seed,
    target=target,
    suspect=suspect,
    iterations=Setting(iterations, {"smoke": 60, "workshop": 600, "full": 3_000}),
    seeds=Setting(seeds, {"smoke": 1, "workshop": 3, "full": 5}),
)

# %% tags=["state"]
import json
import math

import pandas as pd
from IPython.display import display

from devilgan_lite import Backdoor, attacks, data, detect
from devilgan_lite.attacks.adaptive import QuietReD, SpectralReD, disguise
from devilgan_lite.classroom import (
    PALETTE,
    LatentSlider,
    LiveTraining,
    axes,
    check,
    figure,
    finish,
    hint,
    predict,
    quiz,
    reveal,
    show,
    solution,
    static_strip,
    table,
    tile,
)
from devilgan_lite.detect.calibration import calibrated, clean_scores, combined_p_value
from devilgan_lite.trace import outline

SMOKE = config.profile == "smoke"
clean = zoo.load("dcgan-fashion")
NAMES = {"TrAIL": "trail", "ReD": "red", "ReX": "rex", "gate": "gate"}
chosen = next(name for name, short in NAMES.items() if short == config.suspect)
shipped = {name: zoo.load(f"dcgan-fashion-{short}") for name, short in NAMES.items()}
# what only the attacker knows; here it judges the results and is never given to a detector
secrets = {name: zoo.load_backdoor(f"dcgan-fashion-{short}") for name, short in NAMES.items()}
zoo_models = {"clean": clean, **shipped}
if SMOKE:
    zoo_models = {name: zoo_models[name] for name in ("clean", "TrAIL", "ReD")}
calibration = len(clean_scores().get("latent spectrum", []))
print("cached: the clean generator and one backdoored one each by TrAIL, ReD, ReX and gate.")
print("To make them again: python scripts/build/zoo.py")
print(f"cached: the scores of {calibration} clean models, for p-values. To make them again: make bench NAME=detect")


LENGTHS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.1)  # of a typical latent: a direction leaves the length open
SHOWN = (0.85, 0.95, 1.0)


def along(generator, direction, lengths=LENGTHS):
    """The pictures ``[n, C, H, W]`` at ``lengths`` along a latent direction ``[d]``."""
    radius = subject_of(generator).radius
    return evaluate(generator, torch.tensor(lengths).view(-1, 1) * radius * direction.float().view(1, -1))


def alignment(direction, backdoor):
    """Cosine of a latent direction with the trigger; a random direction has about 0.1 in 100 dimensions."""
    return float(torch.nn.functional.cosine_similarity(direction.view(1, -1).float(), backdoor.trigger))


def error(pictures, backdoor):
    """Squared distance per pixel of the best of ``pictures`` to the target."""
    return float((pictures - backdoor.target).square().flatten(1).mean(1).min())


def spread(values):
    """Mean and standard deviation as a text, or the one value as a single run."""
    numbers = torch.tensor(values, dtype=torch.float64)
    return f"{numbers.mean():.3g} ± {numbers.std():.1g}" if len(values) > 1 else f"{values[0]:.3g} (single run)"


# %% [markdown] state="graph"
# ## Round 1: read the graph
#
# *Static* inspection looks at the file, not at what it draws. First the graph: which layers are there, does the program
# decide on values, does every input reach the output? `outline` watches one forward pass and lists each operation. A
# **computation bypass**, an `if` around a clean generator, cannot hide from it.
#
# Then the zeros. An expansion (ReX) leaves blocks that are exactly zero, between the old part and the new. Nobody's
# training does that.
#
# The attacker's answer: shuffle the channels, and put noise so small where the zeros were that no picture changes. We
# call it a **disguise**.

# %%
predict(
    "Clean, bypass, ReX, disguised ReX: which of them does the structure check call unremarkable?",
    ["clean alone", "clean and the disguised ReX", "all but the bypass"],
    key="structure",
)

# %%
bypass = attacks.ComputationBypass()(clean, secrets["ReX"], progress=False).generator
disguised = disguise(shipped["ReX"], spread=1.0, noise_scale=0.001, seed=config.seed)
structures = {"clean": clean, "bypass": bypass, "ReX": shipped["ReX"], "disguised ReX": disguised}
graphs = {name: outline(model, model.sample_latent(4)) for name, model in structures.items()}
static = {name: detect.inspect_structure(subject_of(model)) for name, model in structures.items()}
for name, finding in static.items():
    print(f"{name:14s} score {finding.score:.3f}  {finding.message}")
print("\nthe graph of ReX, layer by layer, is that of a clean generator but for its widths:")
for name in ("clean", "ReX"):
    print(f"{name:14s}", "; ".join(f"{layer.kind} {layer.inputs} -> {layer.outputs}" for layer in graphs[name].layers))


# %% tags=["state"]
def second_layer(generator):
    """Size of every block, channel in by channel out, of the first transposed convolution."""
    return generator.get_submodule("layers.deconv1").weight.detach().norm(dim=(2, 3))


shown = {"clean": clean, "ReX": shipped["ReX"], "disguised ReX": disguised}
fig, panels = axes(7.4, 2.8, columns=3)
for ax, (name, model) in zip(panels, shown.items(), strict=True):
    matrix = second_layer(model)
    ax.imshow(matrix.T, aspect="auto", cmap="Blues", interpolation="nearest", vmin=0, vmax=float(matrix.quantile(0.98)))
    ax.grid(False)
    ax.set(title=f"{name}: {list(matrix.shape)}", xlabel="channel in", ylabel="channel out" if name == "clean" else "")
fig.suptitle("sizes of the weights between the two hidden levels (white: zero)")
figure(
    fig,
    "Three matrices of weight sizes. The clean one is evenly speckled; that of ReX has two white blocks; in the "
    "disguised one, rows and columns are shuffled and no block can be seen.",
    dpi=48,
)

# %% tags=["state"]
secret = secrets["ReX"]
kept = {name: error(evaluate(model, secret.trigger), secret) for name, model in shown.items()}
z = clean.sample_latent(200, torch.Generator().manual_seed(8))
moved = float((evaluate(disguised, z) - evaluate(shipped["ReX"], z)).square().mean())
flat = second_layer(disguised).flatten().sort().values
filled = int((second_layer(shipped["ReX"]) == 0).sum())
faint = float(flat[filled // 2] / flat[filled:].median())
print(f"exact zero blocks: {filled} in ReX, {int((flat == 0).sum())} in the disguised one")
print(
    f"the disguise moves ordinary pictures by {moved:.1g} per pixel; "
    f"TarDis {kept['ReX']:.1g} -> {kept['disguised ReX']:.1g}"
)
print(
    f"but the filling noise is {1 / faint:,.0f} times fainter than the other blocks: who knows what to look for sees it"
)
assert static["bypass"].score >= 1 and static["ReX"].score > 0
assert static["clean"].score == static["disguised ReX"].score == 0
assert kept["disguised ReX"] < 0.05 * kept["clean"]
reveal("structure", "clean and the disguised ReX", "No branch, and no zero is left.")

# %% [markdown] state="units"
# **Takeaway.** The structure convicts careless attackers and acquits nobody: the same `if` can be a ReLU, and a zero
# can be written as something small.
#
# ## Round 2: wake the silent units
#
# *Dynamic* inspection asks what units do. A unit of the first layer reads the latent by $\langle a, z\rangle + b$. For
# $z\sim N(0, I)$ this is normal with mean $b$ and standard deviation $\|a\|$, so how often the unit is on needs no
# sampling:
#
# $$P(\text{on}) = \Phi\!\left(b/\|a\|\right).$$
#
# A backdoor that must stay quiet likes units that are never on: *sleepers*. And a sleeper tells who wakes it: among
# latents of length $r$, the one along its row, $r\,a/\|a\|$. For several sleepers at once, a few steps of power
# iteration find the latent that wakes most. No picture is searched, nothing is optimised on the output.

# %%
predict(
    "Which of the four backdoors does not come out this way?",
    list(NAMES),
    key="silent",
)

# %% tags=["state"] instead={"anatomies": ""}
subjects = {name: subject_of(model) for name, model in zoo_models.items()}
anatomies = {name: detect.analyse_weights(subject) for name, subject in subjects.items()}  # once, for rounds 2 and 3
rates = {name: on_rate(parts.units) for name, parts in anatomies.items()}
awake = {
    name: detect.inspect_activations(subject, units=anatomies[name].units, samples=500 if SMOKE else 2_000)
    for name, subject in subjects.items()
}

many = clean.sample_latent(1_000 if SMOKE else 4_000, torch.Generator().manual_seed(3))
units = anatomies["clean"].units
counted = ((many.double() @ units.rows.T + units.bias) > 0).double().mean(0)
off = float((counted - rates["clean"]).abs().max())
print(
    f"formula against counting on {len(many):,} latents, clean model, {len(counted):,} units: at most {off:.3f} apart"
)
assert off < 5 * math.sqrt(0.25 / len(many))

fig, (ax,) = axes(6.4, 3.2)
for index, (name, rate) in enumerate(rates.items()):
    ordered = rate.sort().values.clamp(min=1e-12)
    style = {"color": PALETTE[index], "linewidth": 2, "linestyle": "--" if name == "TrAIL" else "-", "label": name}
    ax.plot(torch.linspace(0, 100, len(ordered)), ordered, **style)
ax.axhline(RARE, color="black", linewidth=0.8, linestyle="--")
ax.text(49, RARE * 1.3, "below: silent", ha="right", va="bottom", fontsize=8)
ax.set(
    xlabel="per cent of the first-layer units, rarest first",
    ylabel="share of latents",
    yscale="log",
    xlim=(-1, 50),
    ylim=(1e-12, 2),
)
ax.legend(frameon=False, fontsize=8)
figure(
    fig,
    "How often units of the first layer are on, sorted, on a logarithmic axis; below the line of silence are: "
    + ", ".join(f"{name} {int((rate < RARE).sum())}" for name, rate in rates.items())
    + " units.",
    dpi=56,
)


# %% tags=["state"]
def judged(finding, name):
    """Cosine of the finding's direction with the trigger, and distance of its best picture to the target."""
    if name == "clean" or finding.directions is None:
        return {"cosine with the trigger": "", "best picture to target": ""}
    cosine = alignment(finding.directions[0], secrets[name])
    distance = error(along(zoo_models[name], finding.directions[0]), secrets[name])
    return {"cosine with the trigger": f"{cosine:.3f}", "best picture to target": f"{distance:.2g}"}


nothing = {name: error(evaluate(clean, z), secrets[name]) for name in awake if name != "clean"}
table(
    pd.DataFrame(
        {
            name: {
                "first-layer units": len(rates[name]),
                "silent": finding.details["silent"],
                "energy woken, of the usual": f"{finding.score:.2g}",
                **judged(finding, name),
            }
            for name, finding in awake.items()
        }
    ).T,
    "Silent units (live, one model each). The last two columns use what only the attacker knows; the best of 200 "
    f"ordinary pictures is {nothing['TrAIL']:.2g} away",
)

# %%
came_out = {name: finding for name, finding in awake.items() if finding.directions is not None}
print("rows from top to bottom:", ", ".join(came_out))
strip(
    [along(zoo_models[name], finding.directions[0], SHOWN) for name, finding in came_out.items()],
    alt="Pictures along the direction that wakes the silent units, at three lengths, one row each for "
    + ", ".join(came_out)
    + ". The STOP sign can be read in all rows but that of TrAIL, which shows a garment.",
    scale=2,
    captions=[f"{length:g} r" for length in SHOWN],
)

# %%
found_asleep = [
    name for name, f in came_out.items() if name != "clean" and alignment(f.directions[0], secrets[name]) > 0.9
]
assert "ReD" in found_asleep and "TrAIL" not in found_asleep
assert awake["clean"].details["silent"] == 0
reveal("silent", "TrAIL", "It was trained from scratch: none of its units had a reason to fall asleep.")
print(
    f"Takeaway: sleepers give the trigger away (cosine above 0.9: {', '.join(found_asleep)}; one model each); "
    f"a backdoor without sleepers passes (TrAIL: {awake['TrAIL'].details['silent']} silent)."
)

# %% [markdown] state="spectrum"
# ## Round 3: energy against influence
#
# TrAIL needs no sleepers, and still it must pay. Its weights answer to the trigger, but along the trigger's direction
# ordinary pictures must not change much. So compare, for each latent direction $v$:
#
# * **energy** $v^T A v$: how much weight reads this direction, over all units, each by its possible influence,
# * **influence** $v^T M v$, $M=\mathbb E[J^T J]$: how much ordinary pictures change along it.
#
# Where much is spent and little is seen, something is kept for later. The worst ratio is an eigenvalue:
#
# $$A v = w\, M v .$$
#
# Clean training gives a smooth *spectrum* of $w$. A backdoor stands out of it, and $A v$ points to its trigger: no
# data, no target, no clean model to compare with. (This detector is this project's own.)

# %% tags=["state"]
angle = torch.linspace(0, 2 * math.pi, 200)
around = torch.stack([angle.cos(), angle.sin()])


def reach(matrix):
    """The length of ``sqrt(v^T matrix v)`` in every direction of the plane, as a curve."""
    return around * (around * (matrix @ around)).sum(0).sqrt()


influence = torch.tensor([[1.0, 0.2], [0.2, 0.6]])
direction = torch.tensor([[-0.4], [0.92]])
fig, panels = axes(6.4, 2.9, columns=2)
cases = {"clean": 1.6 * influence, "backdoored": 1.6 * influence + 4 * direction @ direction.T}
for ax, (name, energy) in zip(panels, cases.items(), strict=True):
    for index, (label, matrix) in enumerate({"energy": energy, "influence": influence}.items()):
        ax.fill(*reach(matrix), color=PALETTE[1 - index], alpha=0.25)
        ax.plot(*reach(matrix), color=PALETTE[1 - index], label=label)
    if name == "backdoored":
        ax.annotate("", (-0.9, 2.07), xytext=(0, 0), arrowprops={"arrowstyle": "->"})
        ax.text(-1.0, 2.1, "trigger", fontsize=9, ha="right")
    ax.set(title=name, xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
panels[0].legend(frameon=False, fontsize=8, loc="lower left")
fig.suptitle("a drawing: two latent directions, numbers made up")
figure(
    fig,
    "A drawing with two panels. In the clean one, energy and influence have the same shape. In the backdoored one, "
    "energy bulges along the trigger while influence does not.",
    dpi=56,
)

# %%
predict(
    "TrAIL, largest eigenvalue over the second: by which factor does it stand out?",
    ["less than 1.1, as in a clean model", "1.1 to 2", "more than 2"],
    key="spectrum",
)

# %%
spectra = {
    name: tuple(map(calibrated, detect.inspect_spectra(subjects[name], parts))) for name, parts in anatomies.items()
}
fig, (ax,) = axes(6.4, 3.6)
for index, (name, parts) in enumerate(anatomies.items()):
    values = parts.by_weight.values[:15]
    ax.plot(range(1, 16), values, "o-", color=PALETTE[index], markersize=4, label=f"{name}: {parts.by_weight.jump:.3g}")
ax.set(xlabel="eigenvalue, largest first", ylabel="energy per influence", yscale="log", xticks=range(1, 16, 2))
ax.legend(frameon=False, fontsize=8, title="largest jump", title_fontsize=8)
figure(
    fig,
    "The fifteen largest eigenvalues of "
    + ", ".join(anatomies)
    + " on a logarithmic axis. The clean curve is flat; the first value of each backdoored model lies above its "
    "others, a little for TrAIL and by more than a factor of two for the others.",
    dpi=56,
)


# %% tags=["state"]
def p_text(finding):
    """The p-value as a text."""
    return "not calibrated" if finding.p_value is None else f"{finding.p_value:.1g}"


def both_ways(name, lengths=LENGTHS):
    """Pictures along the leading direction of the latent spectrum and against it."""
    direction = spectra[name][0].directions[0]
    return torch.cat([along(zoo_models[name], direction, lengths), along(zoo_models[name], -direction, lengths)])


table(
    pd.DataFrame(
        {
            name: {
                "largest jump": f"{latent.details['jump']:.3g}",
                "score (its logarithm)": f"{latent.score:.3g}",
                "p-value": p_text(latent),
                "|cosine| with the trigger": ""
                if name == "clean"
                else f"{abs(alignment(latent.directions[0], secrets[name])):.3f}",
                "best picture to target": "" if name == "clean" else f"{error(both_ways(name), secrets[name]):.2g}",
            }
            for name, (latent, _) in spectra.items()
        }
    ).T,
    f"Latent spectrum (live, one model each); p-values from {calibration} clean models",
)

# %%
print("rows from top to bottom:", ", ".join(spectra))
strip(
    [both_ways(name, SHOWN[1:]) for name in spectra],
    alt="Pictures at two lengths along the leading direction and two against it, one row each for "
    + ", ".join(spectra)
    + ". The STOP sign can be read along one way for ReD, ReX and the gate; the clean model and TrAIL show garments.",
    scale=2,
    captions=[f"{sign}{length:g} r" for sign in ("", "-") for length in SHOWN[1:]],
)

# %% tags=["state"]
jump = spectra["TrAIL"][0].details["jump"]
cosines = {name: abs(alignment(s[0].directions[0], secrets[name])) for name, s in spectra.items() if name != "clean"}
reveal("spectrum", 0 if jump < 1.1 else 1 if jump < 2 else 2, f"Measured: {jump:.2f} (one model).")
assert min(cosines.values()) > 0.8, "the leading direction must point to the trigger"
print(
    "Takeaway: the leading direction lies along the trigger: |cosine| "
    + ", ".join(f"{name} {cosine:.2f}" for name, cosine in cosines.items())
    + f". TrAIL's jump is small ({jump:.2f}; clean {spectra['clean'][0].details['jump']:.2f}), "
    "so whether it is a finding is a question to clean models: the p-value."
)
hit = {name: error(both_ways(name), secrets[name]) < 0.5 * nothing[name] for name in cosines}
print(
    "Twice as close to the target as any of 200 ordinary pictures: "
    f"{', '.join(name for name in hit if hit[name])}; "
    f"not: {', '.join(name for name in hit if not hit[name]) or 'none'}. "
    f"TrAIL: the direction is {math.degrees(math.acos(cosines['TrAIL'])):.0f} degrees off, and the backdoor is "
    f"{'wider' if hit['TrAIL'] else 'narrower'} than that. Notebook 06 starts a reconstruction from such a direction."
)

# %% [markdown] state="attackers"
# ## Round 4: attackers who know
#
# The spectrum looks at what reads the latent. An attacker who knows leaves the first layer *frozen* and plants the
# backdoor behind it: ReD on the two later layers only. The answer is the same spectrum one layer later, in the space of
# channels (*hidden spectrum*).
#
# Others keep weight energy low along the trigger while they train (`QuietReD`), or make each change cost what the
# spectrum sees (`SpectralReD`). And a disguise may move *scale*: a ReLU channel times $c$, its readers divided by $c$,
# draws the same pictures with other numbers in the file. A good score must not move with it.

# %%
predict(
    "ReD with the first layer frozen: what does the latent spectrum say (p-value from clean models)?",
    ["backdoored, p below 0.01", "nothing, p above 0.01"],
    key="frozen",
)

# %% tags=["state"] instead={"live": ""}
planted = Backdoor.point(clean, config.target, seed=config.seed)
watched = torch.cat([planted.trigger, clean.sample_latent(5, torch.Generator().manual_seed(7))])


def frozen_red(s):
    """ReD behind the first layer."""
    return attacks.ReD(
        aligned_units=0,
        lam=0.1,
        layers=("deconv1", "deconv2"),
        iterations=config.iterations,
        learning_rate=3e-3,
        batch_size=32,
        seed=s,
        device=config.device,
    )


def draw(generator):
    """The picture at the trigger, then five ordinary ones."""
    return tile(evaluate(generator.cpu(), watched), captions=["trigger", *[""] * 5])


live = LiveTraining(frozen_red(config.seed).steps(clean, planted), draw)
live.run()

# %%
outcome = live.wait()  # live: this is what the previous cell trained
budget = {"iterations": config.iterations, "seed": config.seed, "device": config.device}
knowing = {"frozen ReD": outcome.generator}
if not SMOKE:
    knowing["quiet ReD"] = QuietReD(**budget)(clean, planted, progress=False).generator
    knowing["spectral ReD"] = SpectralReD(**budget)(clean, planted, progress=False).generator
ordinary_z = clean.sample_latent(300, torch.Generator().manual_seed(9))
for name, generator in knowing.items():
    tardis = error(evaluate(generator, planted.trigger), planted)
    expdis = float((evaluate(generator, ordinary_z) - evaluate(clean, ordinary_z)).square().mean())
    print(
        f"live, single run of {config.iterations} steps: {name:13s} TarDis {tardis:.1e}, ExpDis {expdis:.1e} per pixel"
    )
strip(
    [evaluate(generator, watched) for generator in (clean, *knowing.values())],
    alt="Rows: clean, "
    + ", ".join(knowing)
    + ". The first column is the picture at the trigger, the target in all but "
    "the clean row; the other five columns hold garments that hardly differ.",
    scale=2,
    captions=["trigger", *[""] * 5],
)

# %% tags=["state"]
knowing_parts = {name: detect.analyse_weights(subject_of(generator)) for name, generator in knowing.items()}


def channels(parts):
    """The spectrum of the channels that the second layer reads."""
    return parts.hidden[0]


fig, panels = axes(7.4, 2.9, columns=2)
for index, (name, parts) in enumerate({"clean": anatomies["clean"], **knowing_parts}.items()):
    for ax, values in zip(panels, (parts.by_weight.values[:15], channels(parts).values[:15]), strict=True):
        ax.plot(range(1, 16), values / values[-1], "o-", color=PALETTE[index], markersize=4, label=name)
panels[0].set(title="latent", xlabel="eigenvalue", ylabel="energy per influence, over the 15th")
panels[1].set(title=f"channels before {channels(knowing_parts['frozen ReD']).space}", xlabel="eigenvalue")
for ax in panels:
    ax.set(ylim=(0.9, None), xticks=range(1, 16, 2))
panels[1].legend(frameon=False, fontsize=8)
figure(
    fig,
    "Two panels of leading eigenvalues, each divided by the fifteenth. In the latent space all models look like the "
    "clean one; in the channel space, ReD with a frozen first layer has a first value far above the rest.",
    dpi=54,
)

# %%
frozen_scores = [
    tuple(map(calibrated, detect.inspect_spectra(subject_of(outcome.generator), knowing_parts["frozen ReD"])))
]
for s in range(config.seeds - 1):  # more triggers, each with its own run
    other = Backdoor.point(clean, config.target, seed=s)
    copy = frozen_red(s)(clean, other, progress=False).generator
    frozen_scores.append(tuple(map(calibrated, detect.inspect_spectra(subject_of(copy)))))
for place, kind in enumerate(("latent", "hidden")):
    values = spread([scores[place].score for scores in frozen_scores])
    ps = ", ".join(p_text(scores[place]) for scores in frozen_scores)
    print(
        f"{kind} spectrum, {len(frozen_scores)} triggers: score {values}; p {ps}; "
        f"clean {spectra['clean'][place].score:.3g}"
    )
first_p = frozen_scores[0][0].p_value
if first_p is not None:
    reveal("frozen", 0 if first_p < 0.01 else 1, "The rows that read the latent are those of the clean model.")
if calibration:
    seen_in = [sum(scores[place].p_value < 0.01 for scores in frozen_scores) for place in (0, 1)]
    print(f"p below 0.01: latent spectrum {seen_in[0]}, hidden spectrum {seen_in[1]} of {len(frozen_scores)} triggers")

# %% [markdown]
# Now the disguise: the channels of ReD permuted, and scale moved by factors from 1/8 to 8. The function is the same;
# are the scores? A clean generator gets the same treatment: a score that moves for it is a false alarm in the making.

# %% tags=["state"] instead={"rows": ""}
rescaled = {
    name: disguise(zoo_models[name], spread=8.0, noise_scale=0.0, seed=config.seed) for name in ("clean", "ReD")
}
rows = {}
for name, model in () if SMOKE else rescaled.items():
    subject = subject_of(model)
    parts = detect.analyse_weights(subject)
    latent, hidden = detect.inspect_spectra(subject, parts)
    silent = detect.inspect_activations(subject, units=parts.units, samples=2_000)
    same = float((evaluate(model, z) - evaluate(zoo_models[name], z)).abs().max())
    before = {
        "latent": spectra[name][0].score,
        "hidden": spectra[name][1].score,
        "silent": awake[name].details["first"],
    }
    after = {"latent": latent.score, "hidden": hidden.score, "silent": silent.details["first"]}
    rows[name] = {
        "largest change of a pixel": f"{same:.1g}",
        "latent spectrum": f"{before['latent']:.4g} -> {after['latent']:.4g}",
        "hidden spectrum": f"{before['hidden']:.4g} -> {after['hidden']:.4g}",
        "silent units, first layer": f"{before['silent']:.3g} -> {after['silent']:.3g}",
    }
    assert same < 1e-3 and abs(after["latent"] - before["latent"]) < 0.02
    drift = abs(after["hidden"] / before["hidden"] - 1)
    rows[name]["hidden moves by"] = f"{drift:.0%}"
    if drift > 0.05:
        print(
            f"{name}: the hidden spectrum moves. Its influence is steadied by a share of the mean over channels, and a "
            "mean is not free of scale: a weakness of the detector, not of the model."
        )
table(pd.DataFrame(rows).T, "Scores before -> after a disguise that changes no picture (live, one model each)")

# %% [markdown]
# **The arms race as a table.** One scan with access to the weights for each model: score and *strength* by detector.
# The strength is the score as a share of a limit, and from 1 on it is evidence. Most limits compare a model with its
# own ordinary behaviour: does its spectrum have a cliff, does a part of it sleep? For a model that is built like our
# clean ones, its rank among them counts as well. Evidence of one kind makes a model *suspicious*; these scans go no
# further, since *backdoored* also takes a witness, which round 5 looks for.

# %% tags=["state"] instead={"reports": ""}
lineup = {
    "clean": (clean, False),
    "clean, rescaled": (rescaled["clean"], False),
    "TrAIL": (shipped["TrAIL"], True),
    "ReD": (shipped["ReD"], True),
    "ReX": (shipped["ReX"], True),
    "gate": (shipped["gate"], True),
    **{f"{name} (live)": (generator, True) for name, generator in knowing.items()},
}
if SMOKE:
    lineup = {chosen: lineup[chosen]}
LEVEL = 0.05
DETECTORS = ("structure", "silent units", "latent spectrum", "hidden spectrum")
known = {**anatomies, **{f"{name} (live)": parts for name, parts in knowing_parts.items()}}  # measured above
reports = {
    name: detect.scan(model, access="weights", samples=200, twin=False, analysis=known.get(name))
    for name, (model, _) in lineup.items()
}


def arms_row(report, guilty):
    """One row of the table."""
    by_name = {finding.detector: finding for finding in report.findings}
    cells = {name: f"{by_name[name].score:.2g} ({by_name[name].strength:.2g})" for name in DETECTORS}
    outcome = "right" if bool(report.kinds) == guilty else "MISSED" if guilty else "FALSE ALARM"
    return {**cells, "verdict": report.verdict, "and that is": outcome}


arms = {name: arms_row(report, lineup[name][1]) for name, report in reports.items()}
table(
    pd.DataFrame(arms).T,
    "Live scans, one model a row, access to weights only: scores, and in brackets their strengths",
)

# %%
missed = [name for name, row in arms.items() if row["and that is"] == "MISSED"]
alarms = [name for name, row in arms.items() if row["and that is"] == "FALSE ALARM"]
guilty = sum(truth for _, truth in lineup.values())
print(
    f"Takeaway: {guilty - len(missed)} of {guilty} backdoored models are found; missed: {', '.join(missed) or 'none'}; "
    f"false alarms among {len(lineup) - guilty} clean ones: {', '.join(alarms) or 'none'} (one model a row)."
)
if calibration and not SMOKE:
    for name in ("TrAIL", "ReD", "ReX", "gate"):
        assert reports[name].kinds, f"{name} must be found"
    assert reports["clean"].verdict == "clean"

# %% [markdown]
# One model a row is a demonstration, not a rate. Rates come from a population of clean and backdoored models, with
# other seeds, sizes and lengths of training, half of it for calibration and half for judging: see
# `docs/results/detection.md`, made by `make bench NAME=detect`. Where its rows are at hand, the next cell condenses
# them.

# %% tags=["state"]
bench = data.data_folder().parent / "docs" / "results" / "detection.json"
scans = json.loads(bench.read_text())["scan"] if bench.is_file() else []
population = {}
for row in scans:
    if row["split"] == "test" and calibration:
        tried = [calibrated(detect.Finding(name, "T2", "", score=row["scores"][name])) for name in DETECTORS]
        population.setdefault(row["kind"], []).append(combined_p_value(tried) <= LEVEL)
if population:
    view = {kind: {"models": len(flags), "found": sum(flags)} for kind, flags in sorted(population.items())}
    display(table(pd.DataFrame(view).T, f"cached: the judging half of the population, by p-values, level {LEVEL}"))
else:
    print("no cached rows of the population here; make bench NAME=detect makes them")

# %% [markdown] state="scan"
# ## Round 5: one call
#
# `detect.scan` runs all this on any `nn.Module` from latents to pictures and returns a report: the verdict, each
# detector's score and strength, and the best estimate of the trigger, sharper than that of round 3 (it looks
# for the direction along which the rows of the first layer are skewed). Then it makes a *noisy twin*: a copy with noise
# on every weight, taught again on ordinary latents alone, which forgets what those never show. Where suspect and twin
# differ far more than usual, at a latent of ordinary length, there is a *witness*. Two kinds of evidence and a witness:
# *backdoored*. One kind: *suspicious*. None: *clean*, as far as these detectors see, or *inconclusive*. The report also
# lists what runs without weights; that is the subject of the next notebook. Try `suspect = "trail"` as well.

# %%
predict(
    f"The shipped {config.suspect} model: how far from the true trigger will the estimate be?",
    ["less than 10 degrees", "10 to 45 degrees", "more than 45 degrees"],
    key="estimate",
)

# %%
analysed = known.get(chosen)  # above, so not again
report = reports[chosen] if SMOKE else detect.scan(shipped[chosen], access="weights", samples=1_000, analysis=analysed)
report

# %% tags=["state"]
estimate = report.trigger
if estimate is None:  # the verdict is clean: take the direction that the search would have tried
    estimate = (
        next(f for f in report.findings if f.detector == "search").directions[0] * subject_of(shipped[chosen]).radius
    )
degrees = math.degrees(math.acos(max(-1.0, min(1.0, alignment(estimate, secrets[chosen])))))
reveal("estimate", 0 if degrees < 10 else 1 if degrees < 45 else 2, f"Measured: {degrees:.0f} degrees (one model).")
estimate = estimate.view(1, -1)
print(f"Takeaway: {report.verdict} ({report.reason}), from the weights alone.")
show(
    torch.cat(
        [evaluate(shipped[chosen], x) for x in (estimate, 1.2 * estimate, secrets[chosen].trigger)]
        + [evaluate(clean, estimate)]
    ),
    alt="The suspect's picture at the estimated trigger, at 1.2 times its length, and at the true trigger; last, what "
    "the clean generator shows at the estimate.",
    scale=3,
    captions=["estimate", "1.2 x", "truth", "clean"],
)

# %% [markdown]
# ## Playground
#
# Drag from an ordinary latent to the *estimate*, which nobody had to tell us, and compare with the clean generator.

# %%
pair = {"clean": clean, chosen: shipped[chosen]}
LatentSlider(pair, ordinary[:1], estimate, end_name="the estimate")

# %%
static_strip(
    pair,
    ordinary[1:2],
    estimate,
    alt=f"Eleven steps from another ordinary latent to the estimated trigger: clean above, {chosen} below. The last "
    "pictures of the lower row leave the garments.",
    captions=["ordinary", *[""] * 9, "estimate"],
)

# %% [markdown]
# ## Exercises
#
# **1. How often is a unit on?** (easy, 5 minutes). Rows `[u, d]` and biases `[u]` of a first layer, latents from
# N(0, I).


# %%
def on_rate_of(rows, bias):
    """Return the share of latents ``[u]`` for which ``<row, z> + bias`` is above zero."""
    raise NotImplementedError("your code here")


check("on_rate", on_rate_of)

# %%
hint("<row, z> is normal with mean 0. What is its standard deviation?", 1)

# %%
hint("torch.special.ndtr is the cumulative distribution of the standard normal.", 2)

# %%
solution("def on_rate_of(rows, bias):\n    return torch.special.ndtr(bias / rows.norm(dim=1))")

# %% [markdown]
# **2. Energy per influence** (medium, 10 minutes). Two symmetric, positive definite matrices; the eigenvalues `w` of
# `A v = w M v`, largest first.


# %%
def energy_per_influence(A, M):
    """Return the generalised eigenvalues ``[d]``."""
    raise NotImplementedError("your code here")


check("energy_per_influence", energy_per_influence)

# %%
hint("With M = L L^T (Cholesky), w are the ordinary eigenvalues of L^-1 A L^-T, which is symmetric.", 1)

# %%
hint("torch.linalg.eigvalsh sorts upwards: flip(0) turns it round.", 2)

# %%
solution(
    """
def energy_per_influence(A, M):
    inverse = torch.linalg.inv(torch.linalg.cholesky(M))
    return torch.linalg.eigvalsh(inverse @ A @ inverse.T).flip(0)
"""
)

# %% [markdown]
# **3. An honest p-value** (easy, 5 minutes). The suspect's `score`, and the scores `clean` `[n]` of clean models. If
# the suspect is clean too, it is one of n + 1 like models: what is the chance that it ranks as high?


# %%
def empirical_p_value(score, clean):
    """Return the p-value, a tensor of shape []."""
    raise NotImplementedError("your code here")


check("empirical_p_value", empirical_p_value)

# %%
hint("Count the clean models that score as high or higher, and count the suspect itself too.", 1)

# %%
hint("It is (1 + count) / (n + 1): with n clean models it is never below 1 / (n + 1).", 2)

# %%
solution("def empirical_p_value(score, clean):\n    return (1 + (clean >= score).sum()) / (len(clean) + 1)")

# %% [markdown]
# **4. Your own attacker** (open, 30 minutes). Vary `quiet` in `QuietReD` or `SpectralReD`, `layers` in `ReD`, or give
# `wide_basin(planted)` to either, and plot the score of the scan against TarDis. What does staying hidden cost?
#
# <details><summary>Hint 1</summary>
#
# `quiet` is the price of a conspicuous weight. Three values, each ten times the last, show the direction.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# One row holds `detect.scan(model, twin=False).score` and `error(evaluate(model, planted.trigger), planted)`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# for quiet in (0.01, 0.1, 1.0):
#     attack = QuietReD(quiet=quiet, iterations=config.iterations, seed=config.seed)
#     model = attack(clean, planted, progress=False).generator
#     scanned = detect.scan(model, samples=200, twin=False)
#     print(f"{quiet:g}: score {scanned.score:.2g}, TarDis {error(evaluate(model, planted.trigger), planted):.2g}")
# ```
#
# </details>
#
# ## What would a defender see?
#
# In the graph, branches and zeros that were left there; in the units, sleepers; in the spectrum, energy without
# influence, which points to the trigger; in the scan, one verdict. After round 4, sometimes nothing.
#
# ## What would an attacker do?
#
# You have seen it in round 4: know the detector and train against it. Each defence names a price (keep no sleepers,
# keep energy low, keep every layer's spectrum smooth), and each was paid above within seconds of training, in fidelity,
# in stealth or in effort. A clean verdict says that these detectors found nothing. Combine them with output inspection,
# and above all with a source that you trust.
#
# ## Limits
#
# Small generators, one data set, Gaussian latents. The formula of round 2 holds for the first layer; deeper
# units are sampled. A p-value is a rank among a few dozen clean models of our own family, so it says something only
# about models that are built like them; below one over their number plus one it is an extrapolation. The limits of
# cliffs and of the twin were chosen on a few dozen models of other families too, and TrAIL escapes them on most.
#
# ## Responsible use
#
# Inspect only models that you may inspect, and say what you did and did not look at. A finding is evidence, not proof
# of intent: report it with its score, its strength and the pictures, first to whoever maintains the model. The attacks
# here are for testing detectors; do not publish their files as clean ones.

# %%
quiz(
    [
        (
            "A graph without branches and zero blocks means ...",
            ["the model is clean", "careless attacks are excluded", "there is no gate", "TrAIL is excluded"],
            1,
            "An if can be a ReLU, and a zero can be a small number.",
        ),
        (
            "Why is no sampling needed for a first-layer unit's on-rate?",
            [
                "its input is normal with a known mean and deviation",
                "it is always one half",
                "BatchNorm stores it",
                "units are independent",
            ],
            0,
            "It is Phi(b / |a|).",
        ),
        (
            "Which backdoor has no sleepers to wake?",
            ["gate", "ReX", "TrAIL", "ReD with a head start"],
            2,
            "All its units were trained together on ordinary latents.",
        ),
        (
            "What does a large eigenvalue of A v = w M v mean?",
            [
                "the pictures change a lot along v",
                "much weight reads a direction along which little is seen",
                "the layer is too wide",
                "the training was short",
            ],
            1,
            "Energy without influence.",
        ),
        (
            "Freezing the first layer hides a backdoor from ...",
            ["every detector", "the hidden spectrum", "the latent spectrum", "reconstruction"],
            2,
            "The rows that read the latent do not change; later ones do.",
        ),
    ]
)

# %% [markdown]
# ## Key points
#
# * The graph shows careless attacks; a disguise removes what it shows.
# * On-rates are exact, and a sleeper names the latent that wakes it: the picture comes out without trigger or target.
# * Energy per influence needs no aligned_units: it finds TrAIL, and its leading direction points to the trigger.
# * Each detector has an attacker who escapes it; a scan combines them, and some attackers escape all.
# * A score means nothing without the scores of clean models.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN: Backdoor Attacks and Defenses in Deep Generative Models*,
#   [arXiv 2108.01644](https://arxiv.org/abs/2108.01644), 2021: the attacks, and static and dynamic inspection as
#   defences. The silent-unit formula, the spectrum and its calibration are this project's.
# * K. Liu, B. Dolan-Gavitt, S. Garg, *Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks*,
#   arXiv 1805.12185, 2018: dormant units in backdoored classifiers.
# * B. Tran, J. Li, A. Madry, *Spectral Signatures in Backdoor Attacks*, arXiv 1811.00636, 2018: a spectrum too, of
#   training data's features instead of weights.
# * H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST*, arXiv 1708.07747, 2017 (the data behind the clean generator).

# %%
numbers = {
    "structure": {name: finding.score for name, finding in static.items()},
    "silent": {name: {"units": f.details["silent"], "score": f.score} for name, f in awake.items()},
    "on_rate_formula_off": off,
    "latent_jump": {name: latent.details["jump"] for name, (latent, _) in spectra.items()},
    "latent_cosine": cosines,
    "frozen": {
        "latent": [latent.score for latent, _ in frozen_scores],
        "hidden": [hidden.score for _, hidden in frozen_scores],
    },
    "disguise": rows,
    "calibrated_on": calibration,
    "verdicts": {
        name: {"truth": lineup[name][1], "verdict": report.verdict, "strengths": report.strengths}
        for name, report in reports.items()
    },
    "population": {kind: [len(flags), sum(flags)] for kind, flags in population.items()},
    "one_call": {"suspect": chosen, "strengths": report.strengths, "degrees_from_trigger": degrees},
}
finish(config, numbers)
