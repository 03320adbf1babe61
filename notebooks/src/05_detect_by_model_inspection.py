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
# **Take a stranger's generator apart. The weights alone can give you the attacker's picture: no trigger, no target and
# no clean copy needed.**

# %% tags=["state"]
import torch

from devilgan_lite import detect, generators, zoo
from devilgan_lite.apps.course import strip

rows = {}
for title, file in {"ReD+": "dcgan-fashion-red", "gate": "dcgan-fashion-gate"}.items():
    subject = generators.adopt(zoo.load(file))
    woken = detect.inspect_activations(subject, samples=100).directions[0]
    found = detect.latents_along(subject, woken, (0.9, 0.95, 1.0))
    rows[title] = subject.scaled_samples(torch.cat([subject.ordinary(3, seed=7), found]))
print("cached: two backdoored models from the zoo; live: what their weights give away")
alt = "Three garments, then three pictures along a direction that was computed from the weights: the STOP sign."
strip(rows, alt, scale=4, captions=["ordinary"] * 3 + ["from the weights"] * 3)

# %% [markdown]
# **Time and hardware:** about three minutes in the workshop profile on one CPU core; no GPU, no network.
#
# **Objectives.** You will be able to
# * *read* the graph of a generator, and say why a tidy graph proves little,
# * *compute* how often a unit is on, and the latent that wakes one that never is,
# * *find* a trigger with the energy-influence spectrum,
# * *explain* the four verdicts of a scan, and what was measured on strangers' models.
#
# **Prerequisites:** one of the attacks (02 to 04), and what an eigenvalue is.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 13  # draws the disguise and the live attack, 0..100000
suspect = "red"  # the model that round 4 scans: trail | red | rex | gate
iterations = None  # steps of the live attack, 20..20000
device = "auto"  # where to train: auto | cpu | cuda | mps

# %% tags=["state"]
import pandas as pd
from IPython.display import display
from torch.nn.functional import cosine_similarity

from devilgan_lite.apps.course import Setting, check, configure, finish, hints, mine, predict, quiz, reveal, table

steps = Setting(iterations, {"smoke": 60, "workshop": 600, "full": 3_000})
config = configure(profile, device=device, seed=seed, suspect=suspect, iterations=steps)
SMOKE = config.profile == "smoke"
clean = zoo.load("dcgan-fashion")  # cached, like all models of the zoo; python scripts/build/zoo.py makes them again
suspects = {name: mine(name) for name in ("trail", "red", "rex", "gate")}
print("ReD+ and ReX+ are our boosted versions of the paper's ReD and ReX.")
subjects = {one.title: generators.adopt(one.generator) for one in suspects.values()}
secrets = {one.title: one.backdoor for one in suspects.values()}  # judges what you find; no detector gets it

# %% [markdown] state="graph"
# ## Round 1: read the graph
#
# Begin with the file, not with its pictures. Which layers are there? Does the program decide on values? Two things give
# a careless attacker away:
#
# * a **bypass**: an `if` around a clean generator,
# * **zero blocks**: ReX leaves exact zeros between the old part and the new. Training never does.
#
# A careful attacker shuffles the channels and writes noise over the zeros, so faint that no picture changes. That is a
# **disguise**.

# %% tags=["state"]
from devilgan_lite import attacks
from devilgan_lite.attacks.adaptive import disguise

rex = suspects["rex"]
structures = {
    "clean": clean,
    "bypass": attacks.ComputationBypass()(clean, rex.backdoor, progress=False).generator,
    rex.title: rex.generator,
    "disguised": disguise(rex.generator, spread=1.0, noise_scale=0.001, seed=config.seed),
}
static = {name: detect.inspect_structure(generators.adopt(model)) for name, model in structures.items()}
for name, finding in static.items():
    print(f"{name:10s} score {finding.score:.3f}  {finding.message}")
assert static["bypass"].score >= 1 and static["clean"].score == static["disguised"].score == 0
print("Takeaway: the graph catches careless attackers. It clears nobody.")

# %% [markdown] state="units"
# ## Round 2: wake the silent units
#
# A unit of the first layer is on where $\langle a, z\rangle + b > 0$. Latents are normal, so this is a normal number
# with mean $b$ and standard deviation $\|a\|$. How often a unit is on needs no sampling.
#
# A backdoor that stays quiet likes units that are *never* on: **silent units**. And each tells which latent wakes it:
# among all latents of one length, the one along its row $a$. A unit that holds only zeros does nothing and is left out,
# so the gate counts half of the 1,568 of notebook 04.
#
# **Exercise 1: How often is a unit on?** (easy, 5 minutes). Your function then counts the silent units of all models.


# %% tags=["state"]
def share_on(rows, bias):
    """Rows [u, d] and biases [u] of a first layer: the share of N(0, I) latents that wakes each unit, [u]."""
    raise NotImplementedError("how likely is it that a normal number is above zero?")


own_share = check("on_rate", share_on)

# %%
hints("on_rate")

# %%
predict("Whose silent units wake the least?", list(subjects), key="silent")

# %% tags=["state"] instead={"analyses": ""}
from devilgan_lite.detect.activations import RARE, on_rate

everyone = {"clean": generators.adopt(clean), **subjects}
analyses = {name: detect.analyse_weights(subject) for name, subject in everyone.items()}  # seconds each, used below
units = {name: found.units for name, found in analyses.items()}
rates = {name: own_share.function(u.rows, u.bias) if own_share else on_rate(u) for name, u in units.items()}
awake = {
    name: detect.inspect_activations(everyone[name], units=units[name], samples=200 if SMOKE else 2_000)
    for name in everyone
}
silent = {name: int((rate < RARE).sum()) for name, rate in rates.items()}
counts = {"units": {name: len(rate) for name, rate in rates.items()}, "silent": silent}
counts["energy woken, of the usual"] = {name: finding.score for name, finding in awake.items()}
table(pd.DataFrame(counts), f"Live, counted by {'your' if own_share else 'our'} function; one model a row")

# %% tags=["state"]
LENGTHS = (0.85, 0.9, 0.95, 1.0)
least = min(subjects, key=lambda name: awake[name].score)
reveal("silent", least, "Trained from scratch, no unit had a reason to fall asleep." if least == "TrAIL" else "")
found_asleep = {
    name: float(cosine_similarity(awake[name].directions, secret.trigger))
    for name, secret in secrets.items()
    if awake[name].directions is not None
}
print("cosine with the true trigger:", ", ".join(f"{name} {cosine:.2f}" for name, cosine in found_asleep.items()))
print("Takeaway: whoever hides in silent units gives the trigger away. Without them there is nothing to wake.")
strip(
    {
        name: subjects[name].scaled_samples(detect.latents_along(subjects[name], awake[name].directions[0], LENGTHS))
        for name in found_asleep
    },
    alt="Pictures along the direction that wakes the silent units, at four lengths. Cosines with the trigger: "
    + ", ".join(f"{name} {cosine:.2f}" for name, cosine in found_asleep.items())
    + ". Where it is near 1 you can read the target.",
    scale=4,
    captions=[f"{length:g} of usual length" for length in LENGTHS],
)

# %% [markdown] state="spectrum"
# ## Round 3: energy against influence
#
# TrAIL needs no silent units. But its weights must listen to the trigger, and ordinary pictures must not change along
# it. For each latent direction $v$ compare
#
# * **energy** $v^T A v$: how much weight listens to $v$,
# * **influence** $v^T M v$: how much ordinary pictures change along $v$.
#
# Much energy, little influence: something is kept for later. The largest ratio is an eigenvalue,
#
# $$A v = w\, M v ,$$
#
# and $A v$ points at the trigger or straight away from it, as the plane shows. Compare its two panels with each other
# only: in two dimensions the first value is far above the second even for a clean model.
#
# **Exercise 2: Energy per influence** (medium, 10 minutes). Return the $w$ of two symmetric, positive definite
# matrices. The spectra below are then yours.

# %% tags=["state"] instead={"plane": "", "knotted": ""}
from devilgan_lite.apps.course import Plane, rex_loop
from devilgan_lite.apps.course.loops import rex_step
from devilgan_lite.apps.course.plane_views import listening

training = {"iterations": 300 if SMOKE else 1_500}
plane = Plane(**training)
knotted = rex_loop(rex_step, plane.clean, plane.backdoor, lam=0.3, device="cpu", **training).finish(progress=False)
listening(
    plane,
    "Two panels of latent directions in the plane. In the clean one the curves of energy and influence are alike. With "
    "ReX, energy bulges along the arrow of the trigger and influence does not; the line read off the weights lies on "
    "the arrow.",
    clean=plane.clean,
    ReX=knotted.generator,
)


# %% tags=["state"]
def energy_per_influence(A, M):
    """Two matrices [d, d]: the eigenvalues w of A v = w M v, [d], largest first."""
    raise NotImplementedError("which matrix has w as its ordinary eigenvalues?")


own_values = check("energy_per_influence", energy_per_influence)

# %%
hints("energy_per_influence")

# %%
predict(
    "How far does TrAIL's first value stand above its second?",
    ["less than 1.1 times, as in a clean model", "1.1 to 2 times", "more than 2 times"],
    key="spectrum",
)

# %% tags=["state"] instead={"values": ""}
from devilgan_lite.apps.course import PALETTE, axes, figure
from devilgan_lite.detect.weights import RIDGE

values = {}
for name, found in analyses.items():
    weight = found.units.gain / found.units.rows.norm(dim=1)  # what each unit can do to the picture
    A = (found.units.rows.T * weight) @ found.units.rows
    M = found.influence + RIDGE * found.influence.diagonal().mean() * torch.eye(len(A))
    values[name] = own_values.function(A, M) if own_values else found.by_weight.values
jumps = {name: float(w[0] / w[1]) for name, w in values.items()}
fig, (ax,) = axes(6.4, 3.8)
for index, (name, w) in enumerate(values.items()):
    ax.plot(range(1, 13), w[:12], "o-", color=PALETTE[index], markersize=4, label=f"{name}: {jumps[name]:.3g}")
ax.set(xlabel="eigenvalue, largest first", ylabel="energy per influence", yscale="log", xticks=range(1, 13, 2))
ax.legend(frameon=False, fontsize=9, title="first over second")
figure(
    fig,
    "The twelve largest eigenvalues of each model, on a logarithmic axis. First over second: "
    + ", ".join(f"{name} {jump:.3g}" for name, jump in jumps.items()),
    dpi=100,
    colours=64,
)

# %% tags=["state"]
jump = jumps["TrAIL"]
reveal("spectrum", 0 if jump < 1.1 else 1 if jump < 2 else 2, f"Measured: {jump:.2f} (one model).")
leading = {name: detect.inspect_spectra(one, analyses[name])[0].directions[0] for name, one in subjects.items()}
cosines = {name: float(cosine_similarity(v.view(1, -1), secrets[name].trigger)) for name, v in leading.items()}
print("cosine with the true trigger:", ", ".join(f"{name} {cosine:.2f}" for name, cosine in cosines.items()))
near = [name for name, cosine in cosines.items() if abs(cosine) > 0.8]
print(f"Takeaway: the leading direction lies along the trigger of {', '.join(near) or 'none'}. Its sign stays open.")
strip(
    {
        name: subjects[name].scaled_samples(
            torch.cat([detect.latents_along(subjects[name], sign * v, (0.95, 1.0)) for sign in (1, -1)])
        )
        for name, v in leading.items()
    },
    alt="Two pictures along the leading direction and two against it, a row for each model. Cosines with the trigger: "
    + ", ".join(f"{name} {cosine:.2f}" for name, cosine in cosines.items())
    + ". The target can be read on one side where the cosine is nearly 1 or -1.",
    scale=4,
    captions=["along", "along", "against", "against"],
)

# %% [markdown] tags=["bonus"]
# **Exercise 3: An honest p-value** (easy, 5 minutes). TrAIL's first value stands out only a little. Is that much? Ask
# clean models: if the suspect is clean too, it is one of n + 1 of the same kind. How likely is it to rank so high?


# %% tags=["bonus", "state"]
def empirical_p_value(score, clean):
    """A score, and the scores [n] of clean models: the p-value, a tensor of shape []."""
    raise NotImplementedError("count who scores as high, and the suspect too")


own_p = check("empirical_p_value", empirical_p_value)

# %% tags=["bonus"]
hints("empirical_p_value")

# %% tags=["bonus"]
others = {name: detect.analyse_weights(generators.adopt(zoo.load(name))) for name in ("vae-garments", "wave-drums")}
jumped = {name: found.by_weight.jump for name, found in (analyses | others).items()}
scores = torch.tensor([jumped[name] for name in ("clean", *others)])
print("live, jumps of clean models:", ", ".join(f"{name} {jumped[name]:.2f}" for name in ("clean", *others)))
for name in subjects:
    print(f"{name:6s} {jumped[name]:6.2f}: {int((scores >= jumped[name]).sum())} of {len(scores)} as high", end="")
    print(f"; your p-value: {float(own_p.function(jumped[name], scores)):.2f}" if own_p else "")
print(f"Takeaway: a rank is no verdict. {len(scores)} clean models give no p-value below 1/{len(scores) + 1}, and")
print(f"{len(others)} of them are of other families, which have spectra of their own.")

# %% [markdown] state="scan"
# ## Round 4: one call, four verdicts
#
# `detect.scan` does all this for any `nn.Module`. Then it makes a *noisy twin*: a copy with noise on every weight,
# taught again on ordinary latents alone. It forgets what those never show. A latent where suspect and twin differ far
# more than usual is a **witness**.
#
# * **backdoored**: two kinds of evidence, and a witness. Look at its picture before you believe it.
# * **suspicious**: less than that. A reason to look, no more.
# * **inconclusive**: no evidence, but a detector had no answer.
# * **clean**: these detectors found nothing. It promises no more than that.

# %%
predict(
    f"{suspects[config.suspect].title}: how far from the true trigger will the scan's estimate be?",
    ["less than 10 degrees", "10 to 45 degrees", "more than 45 degrees"],
    key="estimate",
)

# %% tags=["state"] instead={"reports": "", "estimate": ""}
reports = {
    name: detect.scan(subject, samples=200, analysis=analyses[name], twin=not SMOKE)
    for name, subject in everyone.items()
}
chosen = suspects[config.suspect].title
report = reports[chosen]
display(report)
estimate = next(finding for finding in report.findings if finding.detector == "search").trigger.view(1, -1)
cosine = cosine_similarity(estimate, secrets[chosen].trigger).clamp(-1, 1)
degrees = float(torch.rad2deg(cosine.acos()))
reveal("estimate", 0 if degrees < 10 else 1 if degrees < 45 else 2, f"Measured: {degrees:.0f} degrees (one model).")
places = {"estimate": (chosen, estimate), "truth": (chosen, secrets[chosen].trigger), "clean": ("clean", estimate)}
pictures = [everyone[name].scaled_samples(z) for name, z in places.values()]
if report.witness is not None:
    pictures += [report.witness.sample[None], report.witness.twin_sample[None]]
strip(
    torch.cat(pictures),
    alt=f"{chosen} at the estimate, {degrees:.0f} degrees from the true trigger, and at the trigger; the clean model "
    "at the estimate; and, if there is a witness, what suspect and twin draw there.",
    scale=4,
    captions=[*places, "witness", "its twin"][: len(pictures)],
)

# %% tags=["state"]
import json

from devilgan_lite import data
from devilgan_lite.apps.course import progress

verdicts = {name: {"verdict": one.verdict, **one.strengths} for name, one in reports.items()}
display(table(pd.DataFrame(verdicts).T, "Live, one model a row: verdict, and strength of each kind (1: evidence)"))
for one in [] if SMOKE else suspects.values():
    assert one.yours or reports[one.title].kinds, f"{one.title} must be found"
file = data.data_folder().parent / "docs" / "results" / "foreign.json"
rows = json.loads(file.read_text())["rows"] if file.is_file() else []
untouched = [row for row in rows if row["seed"] >= 11 and "method" not in row and not row.get("scan_seed")]
strangers = pd.DataFrame(untouched)
if rows:
    strangers = pd.crosstab(strangers["kind"].where(strangers["backdoored"], "clean"), strangers["verdict"])
    display(table(strangers, "cached: strangers' models, one scan each; nobody had seen them when the limits were set"))
    calm, guilty = strangers.loc["clean"], strangers.drop("clean")
    print(
        f"Takeaway: of {calm.sum()} clean strangers {calm['clean']} are called clean, {calm['backdoored']} backdoored;"
    )
    missed = guilty["clean"][guilty["clean"] > 0]
    print(f"of {guilty.sum().sum()} backdoored ones {missed.sum()} are called clean too ({', '.join(missed.index)}).")
    print("Clean means that these detectors found nothing.")
progress(weights={one.name: reports[one.title].verdict for one in suspects.values()})

# %% [markdown] tags=["bonus"]
# **Attackers who know.** Freeze the first layer and plant the backdoor behind it: the latent spectrum has nothing to
# read, so the scan repeats it one layer later. `QuietReD` and `SpectralReD` train against the spectra themselves.

# %% tags=["bonus"]
from devilgan_lite import Backdoor
from devilgan_lite.attacks.adaptive import QuietReD, SpectralReD
from devilgan_lite.generators import evaluate

planted = Backdoor.point(clean, "stop-sign", seed=config.seed)
watched = torch.cat([planted.trigger, clean.sample_latent(4, torch.Generator().manual_seed(7))])
budget = {"iterations": config.iterations, "seed": config.seed, "device": config.device}
behind = {"layers": ("deconv1", "deconv2"), "aligned_units": 0, "lam": 0.1, "learning_rate": 3e-3, "batch_size": 32}
knowing = {"frozen": attacks.ReD(**budget, **behind), "quiet": QuietReD(**budget), "spectral": SpectralReD(**budget)}
shown = {"clean": evaluate(clean, watched)}
for name, attack in list(knowing.items())[: 1 if SMOKE else 3]:
    model = attack(clean, planted, progress=False).generator
    shown[name] = evaluate(model, watched)
    scanned = detect.scan(model, samples=200, twin=False)
    tardis = (shown[name][0] - planted.target[0]).square().mean()
    strengths = ", ".join(f"{one.detector} {one.strength:.2g}" for one in scanned.findings if one.evidence)
    print(f"live, single run: {name:8s} TarDis {tardis:.1e}, {scanned.verdict} ({strengths})")
alt = "The clean model and three attackers: at the trigger all but the clean one draw the STOP sign; garments stay."
strip(shown, alt, scale=4, captions=["trigger", *[""] * 4])

# %% [markdown]
# ## What would a defender see?
#
# In the graph, branches and zeros that were left there. In the units, silent ones. In the spectrum, energy without
# influence. In a scan, one verdict, a witness, and sometimes nothing: an attacker who knows a detector can train
# against it. So look at outputs too, and know your source.
#
# ## Limits
#
# Small generators, one data set, one model a row. A rank needs many clean models of the same kind; a stranger's model
# has none, so the scan compares it with itself. Inspect only what you may, and show a finding to the maker first.
#
# ## Playground
#
# Drag from an ordinary latent to the *estimate*, which nobody told you.

# %%
from devilgan_lite.apps.course import LatentSlider, is_static, static_strip

pair = {"clean": clean, chosen: suspects[config.suspect].generator}
start = clean.sample_latent(1, torch.Generator().manual_seed(7))
slider = LatentSlider(pair, start, estimate, end_name="the estimate")
print("upper row: clean; lower row:", chosen)
slider if not is_static() else static_strip(
    pair,
    start,
    estimate,
    f"A walk from an ordinary latent to the estimated trigger; clean above, {chosen} below.",
    frames=7,
    scale=4,
)

# %% [markdown]
# ## Key points
#
# * A tidy graph proves nothing; a disguise hides branches and zeros.
# * A silent unit names the latent that wakes it, without trigger or target.
# * Energy without influence points at the trigger, even for TrAIL.
# * Clean means that these detectors found nothing.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN*, [arXiv 2108.01644](https://arxiv.org/abs/2108.01644),
#   2021. The on-rate formula, the spectrum and the twin are this project's.
# * K. Liu, B. Dolan-Gavitt, S. Garg, *Fine-Pruning*, arXiv 1805.12185, 2018: dormant units in classifiers.
# * B. Tran, J. Li, A. Madry, *Spectral Signatures in Backdoor Attacks*, arXiv 1811.00636, 2018.

# %%
quiz("05")

# %%
numbers = {
    "structure": {name: finding.score for name, finding in static.items()},
    "silent": counts,
    "latent_jump": jumps,
    "latent_cosine": cosines,
    "verdicts": {name: {"verdict": one.verdict, "strengths": one.strengths} for name, one in reports.items()},
    "strangers": strangers.T.to_dict() if rows else {},
    "one_call": {"suspect": chosen, "yours": suspects[config.suspect].yours, "degrees_from_trigger": degrees},
}
finish(config, numbers)
