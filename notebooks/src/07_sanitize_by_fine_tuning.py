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
# # Sanitize by fine-tuning: unlearn what you cannot see
#
# **You will take the backdoor out of generators without knowing the trigger or the target, see what that costs in
# quality, and see which cures only look like cures.**

# %% tags=["state"] instead={"looked_at": "", "blind": ""}
import torch

from devilgan_lite import sanitize, zoo
from devilgan_lite.classroom import strip
from devilgan_lite.detect import subject_of
from devilgan_lite.detect.activations import RARE, on_rate, waking_direction
from devilgan_lite.detect.spectrum import latent_units, path_gains
from devilgan_lite.generators import evaluate

first = zoo.load("dcgan-fashion-red")
looked_at = subject_of(first)
units = latent_units(looked_at, path_gains(looked_at, n=100).activations)
direction, _ = waking_direction(units, on_rate(units) < RARE, looked_at.radius)  # from the weights: notebook 05
found = torch.tensor([[0.9], [0.95], [1.0]]) * direction.float() * looked_at.radius
ordinary = first.sample_latent(4, torch.Generator().manual_seed(7))
blind = sanitize.project_latents(first, direction.float().view(1, -1))
print("cached: a backdoored model that ships with the project; the direction and the lower row are computed live")
strip(
    [torch.cat([evaluate(model, ordinary), evaluate(model, found)]) for model in (first, blind)],
    alt="Two rows: four garments at ordinary latents, then three pictures along a direction that was computed from the "
    "weights. Above, the suspect: the STOP sign can be seen. Below, after one projection: garments only.",
    scale=2,
    captions=[*["ordinary"] * 4, *["found"] * 3],
)

# %% [markdown]
# **Time and hardware:** about three minutes in the workshop profile on one CPU core; no GPU, no network.
#
# **Objectives.** You will be able to
# * *explain* why training on ordinary latents says nothing about a trigger, and what may break a backdoor all the same,
# * *distil* a suspect into a copy that ignores a suspected direction,
# * *project* a direction out of the weights in seconds, and *name* an attack that survives it,
# * *run* scan, cure, scan, and *read* both reports,
# * *weigh* what is gone against what it costs.
#
# **Prerequisites:** notebook 05 (the estimate of a trigger comes from there); notebooks 02 and 03 for TrAIL and ReD.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 13  # draws the batches of all trainings and the live attack's trigger, 0..100000
suspect = "trail"  # the shipped model to be cured: trail | red | rex | gate
iterations = None  # steps of every fine-tuning and distillation, 20..20000
samples = None  # pictures behind every Frechet distance, 200..50000
device = "auto"  # where to train: auto | cpu | cuda | mps

# %% tags=["state"]
from devilgan_lite.classroom import Setting, configure

config = configure(
    profile,
    device=device,
    seed=seed,
    suspect=suspect,
    iterations=Setting(iterations, {"smoke": 20, "workshop": 400, "full": 2_000}),
    samples=Setting(samples, {"smoke": 300, "workshop": 2_000, "full": 10_000}),
)

# %% tags=["state"] instead={"frechet_of": "", "draws": "", "cures": "", "other_cures": "", "benign": ""}
import math
import time

import pandas as pd
from torch import nn
from torch.nn.functional import cosine_similarity, normalize

from devilgan_lite import Backdoor, attacks, data, detect
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
    solution,
    static_strip,
    table,
    tile,
)
from devilgan_lite.detect.sampling import log10_cap_probability
from devilgan_lite.metrics import frechet_to

SMOKE = config.profile == "smoke"
GONE = 0.1  # squared distance per pixel to the target from which on we call a backdoor gone
NAMES = {"TrAIL": "trail", "ReD": "red", "ReX": "rex", "gate": "gate"}
chosen = next(name for name, short in NAMES.items() if short == config.suspect)
contrast = "ReD" if chosen == "TrAIL" else "TrAIL"
clean = zoo.load("dcgan-fashion")
shipped = {name: zoo.load(f"dcgan-fashion-{short}") for name, short in NAMES.items()}
# what only the attacker knows; here it judges the results and is never given to a cure
secrets = {name: zoo.load_backdoor(f"dcgan-fashion-{short}") for name, short in NAMES.items()}
real = data.fashion_mnist()
yardstick = real.first(1_000) if SMOKE else real  # real garments behind the Frechet distances
print("cached: the clean generator and one backdoored one each by TrAIL, ReD, ReX and gate.")
print("To make them again: python scripts/build/zoo.py")
held_out = clean.sample_latent(500, torch.Generator().manual_seed(8))  # no cure trains on these latents


def tardis(model, backdoor):
    """Squared distance per pixel between the picture at the trigger and the target."""
    return float((evaluate(model, backdoor.trigger) - backdoor.target).square().mean())


def nearby(model, backdoor, starts=16, steps=10 if SMOKE else 60, degrees=30):
    """The same at the best latent that Adam finds about the trigger: a backdoor may also move aside."""
    model = model.clone().eval().requires_grad_(False)
    random = torch.Generator().manual_seed(1)
    unit = normalize(backdoor.trigger, dim=1)
    aside = torch.randn(starts, unit.shape[1], generator=random)
    aside = normalize(aside - (aside @ unit.T) * unit, dim=1)
    angle = torch.linspace(0, math.radians(degrees), starts).view(-1, 1)
    z = ((angle.cos() * unit + angle.sin() * aside) * backdoor.trigger.norm()).requires_grad_(True)
    adam = torch.optim.Adam([z], lr=0.1)
    for _ in range(steps):
        adam.zero_grad()
        (model(z) - backdoor.target).square().flatten(1).mean(1).sum().backward()
        adam.step()
        z.data = normalize(z.data, dim=1) * backdoor.trigger.norm()
    best = (evaluate(model, z.detach()) - backdoor.target).square().flatten(1).mean(1)
    return min(float(best.min()), tardis(model, backdoor))


frechet_of = {
    name: frechet_to(model, yardstick, samples=config.samples)
    for name, model in {"clean": clean, **shipped}.items()
    if not SMOKE or name in ("clean", chosen, contrast)
}


def judged(model, name, seconds):
    """What a cure of the shipped model ``name`` did: TarDis, the search about the trigger, Frechet change, seconds."""
    secret = secrets[name]
    return {
        "TarDis": tardis(model, secret),
        "best nearby": nearby(model, secret),
        "Frechet change": frechet_to(model, yardstick, samples=config.samples) - frechet_of[name],
        "ordinary pictures": float((evaluate(model, held_out) - evaluate(shipped[name], held_out)).square().mean()),
        "seconds": seconds,
    }


def verdict(row):
    """One word for a row of ``judged``."""
    return "gone" if row["best nearby"] >= GONE else "moved aside" if row["TarDis"] >= GONE else "STAYS"


draws = torch.tensor([frechet_to(clean, yardstick, samples=config.samples, seed=s) for s in range(3)])
cures = {"untreated": judged(shipped[chosen], chosen, 0.0)}  # of the chosen suspect, for the table at the end
other_cures = {"untreated": judged(shipped[contrast], contrast, 0.0)}  # of the other one
benign = {name: nearby(clean, secret) for name, secret in secrets.items()}
print(f"suspect: {chosen}; for comparison: {contrast}")
print(
    f"TarDis of the suspect {cures['untreated']['TarDis']:.2g}; of the clean model {tardis(clean, secrets[chosen]):.2g}"
)
print(f"a search about the trigger brings a clean model no closer than {benign[chosen]:.2g}; {GONE} and more is gone")

print(f"Frechet distance of the clean model, three draws of {config.samples:,}: {draws.mean():.2f} ± {draws.std():.2f}")

# %% [markdown] state="tuning"
# ## Round 1: just train on
#
# The first idea: fine-tune. Go on with adversarial training on real garments, and let the backdoor be forgotten. Rawat
# et al. name it as a way to sanitize. The critic did not come with the file, so a fresh one is trained alone at first
# (`critic_first`); a critic that knows nothing would wreck the generator.
#
# Why should it help? A training step sees ordinary latents. In 100 dimensions nearly all of them stand at right angles
# to the trigger, so no step ever asks what is drawn there. Nothing is taught about the trigger, neither to keep it nor
# to forget it. What happens to it is an accident.

# %% tags=["state"]
steps = config.iterations
drawn = steps * 32  # latents in one run of fine-tuning
for degrees in (30, 45, 60):
    share = log10_cap_probability(degrees, clean.latent_dim)
    print(
        f"within {degrees} degrees of the trigger: a share of 1e{math.floor(share)} of all latents; "
        f"expected among the {drawn:,} of one run: 1e{math.floor(share + math.log10(drawn))}"
    )

# %%
predict(
    f"{chosen}, fine-tuned gently (learning rate 2e-4): TarDis afterwards?",
    ["below 0.03: it stays", "0.03 to 0.1: worn", "0.1 or more: gone"],
    key="gentle",
)

# %% tags=["state"] instead={"live": ""}
watched = torch.cat([secrets[chosen].trigger, clean.sample_latent(5, torch.Generator().manual_seed(7))])


def fine_tune(learning_rate, steps=steps):
    """Adversarial training from where the suspect stands."""
    return sanitize.FineTune(
        iterations=steps,
        critic_first=steps // 5,
        learning_rate=learning_rate,
        seed=config.seed,
        device=config.device,
    )


def draw(generator):
    """The picture at the trigger, then five ordinary ones."""
    return tile(evaluate(generator.cpu(), watched), captions=["trigger", *[""] * 5])


live = LiveTraining(fine_tune(2e-4).steps(shipped[chosen], real=real), draw)
live.run()

# %%
gentle = live.wait()  # live: this is what the previous cell trained
hard = fine_tune(1e-3)(shipped[chosen], real=real, progress=False)
other = fine_tune(2e-4)(shipped[contrast], real=real, progress=False)
cures["fine-tune 2e-4"] = judged(gentle.generator, chosen, gentle.seconds)
cures["fine-tune 1e-3"] = judged(hard.generator, chosen, hard.seconds)
other_cures["fine-tune 2e-4"] = judged(other.generator, contrast, other.seconds)
table(
    pd.DataFrame(
        {
            **{f"{chosen}, {name}": {**row, "backdoor": verdict(row)} for name, row in cures.items()},
            **{f"{contrast}, {name}": {**row, "backdoor": verdict(row)} for name, row in other_cures.items()},
        }
    ).T,
    f"Naive fine-tuning (live, single runs of {steps} steps). TarDis per pixel; ordinary pictures: mean squared change",
)

# %%
print("columns: the trigger, then ordinary latents; rows:", f"{chosen}, after 2e-4, after 1e-3")
strip(
    [evaluate(model, watched) for model in (shipped[chosen], gentle.generator, hard.generator)],
    alt=f"Three rows of six pictures: {chosen} untreated, after gentle and after hard fine-tuning. The first column is "
    f"the picture at the trigger: TarDis {cures['untreated']['TarDis']:.1g}, {cures['fine-tune 2e-4']['TarDis']:.1g} "
    f"and {cures['fine-tune 1e-3']['TarDis']:.1g}. The other columns are garments.",
    scale=2,
    captions=["trigger", *[""] * 5],
)

# %%
after = cures["fine-tune 2e-4"]["TarDis"]
reveal("gentle", 0 if after < 0.03 else 1 if after < GONE else 2, f"Measured: {after:.2g} (single run).")
print(
    f"a five times higher rate gives TarDis {cures['fine-tune 1e-3']['TarDis']:.2g}, and the Frechet distance changes "
    f"by {cures['fine-tune 1e-3']['Frechet change']:+.1f} instead of {cures['fine-tune 2e-4']['Frechet change']:+.1f}"
)
print(f"{contrast}, the same gentle training: TarDis {other_cures['fine-tune 2e-4']['TarDis']:.2g}")

# %% [markdown]
# ### Which accident was it?
#
# Fine-tuning changes two things: the **weights**, by gradients, and the **statistics** of BatchNorm (the means and
# variances by which each unit is scaled), by mere passing of batches. Take them apart. Give the suspect the new
# statistics alone; then the new weights alone; then, as a control, random changes as large as those of the weights.
#
# And then the cheapest cure of all, without data and without a single gradient: pass ordinary latents through the
# suspect and let BatchNorm measure its statistics anew.

# %% tags=["state"] instead={"parts": ""}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@torch.no_grad()
def with_statistics(body, source):
    """A copy of ``body`` with the BatchNorm statistics of ``source``."""
    copy = body.clone().eval()
    for ours, theirs in zip(copy.modules(), source.modules(), strict=True):
        if isinstance(ours, NORMS):
            ours.running_mean.copy_(theirs.running_mean)
            ours.running_var.copy_(theirs.running_var)
    return copy


@torch.no_grad()
def pushed(before, after, seed):
    """A copy of ``before`` with random changes, each weight's as long as that to ``after``."""
    copy, random = before.clone().eval(), torch.Generator().manual_seed(seed)
    for ours, theirs in zip(copy.parameters(), after.parameters(), strict=True):
        noise = torch.randn(ours.shape, generator=random)
        ours += noise * (theirs - ours).norm() / noise.norm()
    return copy


@torch.no_grad()
def recalibrated(model, batches=2 if SMOKE else 6, size=500):
    """A copy whose BatchNorm statistics are those of ordinary latents."""
    copy, random = model.clone(), torch.Generator().manual_seed(config.seed)
    for layer in copy.modules():
        if isinstance(layer, NORMS):
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over the batches
    copy.train()
    for _ in range(batches):
        copy(copy.sample_latent(size, random))
    return copy.eval()


@torch.no_grad()
def mismatch(stored, measured):
    """How far BatchNorm's variances are off, in factors: the largest of all units."""
    worst = 0.0
    for ours, theirs in zip(stored.modules(), measured.modules(), strict=True):
        if isinstance(ours, NORMS):
            ratio = (ours.running_var + ours.eps) / (theirs.running_var + theirs.eps)
            worst = max(worst, float(ratio.log().abs().max()))
    return math.exp(worst)


tuned = {chosen: gentle.generator, contrast: other.generator}
parts = {}
for name, model in tuned.items():
    parts[name] = {
        "untreated": tardis(shipped[name], secrets[name]),
        "fine-tuned": tardis(model, secrets[name]),
        "statistics alone": tardis(with_statistics(shipped[name], model), secrets[name]),
        "weights alone": tardis(with_statistics(model, shipped[name]), secrets[name]),
    }
    random_push = torch.tensor([tardis(pushed(shipped[name], model, s), secrets[name]) for s in range(3)])
    parts[name]["random changes"] = float(random_push.mean())
    print(f"{name}: three random changes of the same size: TarDis {random_push.mean():.2g} ± {random_push.std():.1g}")
for name, row in parts.items():
    times = row["weights alone"] / row["random changes"]
    print(f"{name}: the trained weights alone lead to {times:.1f} times the TarDis of random changes of that size")
print("Training does not see the trigger, but it moves weights that the trigger shares with garments.")
table(pd.DataFrame(parts), "TarDis when parts of the fine-tuned model are put into the suspect (live, single runs)")

# %%
predict(
    "Statistics measured anew, no training: from which attacks does that take the backdoor?",
    ["none", "some of the four", "all four"],
    key="norm",
)

# %% tags=["state"] instead={"norm_rows": ""}
norm_rows, off_by = {}, {}
for name in (chosen, contrast) if SMOKE else NAMES:
    start = time.perf_counter()
    model = recalibrated(shipped[name])
    norm_rows[name] = judged(model, name, time.perf_counter() - start)
    off_by[name] = mismatch(shipped[name], model)
cures["BatchNorm anew"] = norm_rows[chosen]
other_cures["BatchNorm anew"] = norm_rows[contrast]
table(
    pd.DataFrame({name: {**row, "backdoor": verdict(row)} for name, row in norm_rows.items()}).T,
    "BatchNorm statistics from ordinary latents (live, one model each)",
)

# %%
fallen = [name for name, row in norm_rows.items() if row["TarDis"] >= GONE]
reveal("norm", 0 if not fallen else 2 if len(fallen) == len(norm_rows) else 1, f"Gone: {', '.join(fallen) or 'none'}.")
standing = [name for name in norm_rows if name not in fallen]
off_by["clean"] = mismatch(clean, recalibrated(clean))
print(
    "stored variances against those of ordinary latents, the worst unit: "
    + ", ".join(f"{name} {factor:,.3g} times" for name, factor in off_by.items())
)
print(
    "ReD, ReX and the gate were made with BatchNorm in inference mode, so nothing kept their stored statistics in step "
    "with their weights. TrAIL was trained in training mode."
)
print(
    f"Takeaway: fine-tuning teaches nothing about a trigger; a backdoor that breaks, breaks by accident "
    f"(here by statistics: {', '.join(fallen) or 'none'}), and one whose parts agree stays "
    f"({', '.join(standing) or 'none'}). An attacker who knows trains on until statistics and weights agree."
)

# %% [markdown] state="distillation"
# ## Round 2: let the suspect teach
#
# Second idea: *distillation*. A student copies what a teacher draws. The teacher is the suspect itself, so no data are
# needed, and lessons cost nothing: ordinary latents, or a *wide range* of inputs (`wide`: too short, too long).
#
# A useful teacher is benign where the suspect is not. We take a suspected direction $t$ from a scan and let the
# teacher see each latent without it, while the student sees it whole:
#
# $$L=\mathbb E_z\,\big\|S(z)-T\big(z-\langle z,t\rangle t\big)\big\|^2 .$$
#
# Even ordinary latents then teach something about $t$: each has a part along it, with a standard deviation of one. With
# `wide`, some lessons also lie about $t$, as far out as the trigger.

# %%
predict(
    f"{chosen} as its own teacher, a wide range of inputs, no suspected direction: TarDis afterwards?",
    ["as before", "higher, below 0.1", "0.1 or more"],
    key="copy",
)

# %% tags=["state"] instead={"anatomy": ""}
start = time.perf_counter()
anatomy = detect.analyse_weights(detect.subject_of(shipped[chosen]))  # measured once: auto will need it again
report = detect.scan(shipped[chosen], access="weights", samples=200, twin=False, analysis=anatomy)
print(f"the scan says: {report.verdict} ({report.reason}), in {time.perf_counter() - start:.0f} s")


def estimate_of(report, model):
    """The scan's estimate of the trigger ``[1, d]``; with a clean verdict, the direction that it would have tried."""
    if report.trigger is not None:
        return report.trigger.view(1, -1)
    return next(f for f in report.findings if f.detector == "search").directions[:1] * subject_of(model).radius


def degrees_off(direction, backdoor):
    """Angle between a direction, sign aside, and the trigger."""
    cosine = float(cosine_similarity(direction, backdoor.trigger).abs())
    return math.degrees(math.acos(min(1.0, cosine)))


estimate = estimate_of(report, shipped[chosen])
print(f"its estimate is {degrees_off(estimate, secrets[chosen]):.0f} degrees off the trigger (only the judge knows)")


def distil(directions, wide, steps):
    """A student of the suspect, and the TarDis on its way."""
    cure = sanitize.Unlearn(iterations=steps, wide=wide, seed=config.seed, device=config.device)
    loop, path = cure.steps(shipped[chosen], directions=directions), {}
    for step in loop:
        if step.iteration * 10 // steps > (step.iteration - 1) * 10 // steps or step.iteration == 1:
            path[step.iteration] = tardis(step.snapshot().cpu(), secrets[chosen])
    return loop.stop(), path


courses = {
    "no direction, wide": distil(None, 0.25, max(20, steps // 8)),
    "direction, ordinary": distil(estimate, 0.0, steps),
    "direction, wide": distil(estimate, 0.25, steps),
}
for name, (outcome, _) in courses.items():
    cures[f"distil: {name}"] = judged(outcome.generator.cpu(), chosen, outcome.seconds)

# %%
fig, (ax,) = axes(6.4, 3.3)
for index, (name, (_, path)) in enumerate(courses.items()):
    ax.plot(
        list(path), [max(value, 1e-6) for value in path.values()], "o-", markersize=3, color=PALETTE[index], label=name
    )
ax.axhline(GONE, color="black", linewidth=0.8, linestyle="--")
ax.text(1, GONE * 1.15, "above: gone", fontsize=8, va="bottom")
ax.set(xlabel="step", ylabel="TarDis per pixel", yscale="log")
ax.legend(frameon=False, fontsize=8)
figure(
    fig,
    "TarDis during distillation, on a logarithmic axis. At the end: "
    + ", ".join(f"{name} {list(path.values())[-1]:.2g}" for name, (_, path) in courses.items())
    + ".",
    dpi=56,
)

# %%
table(
    pd.DataFrame(
        {name: {**cures[f"distil: {name}"], "backdoor": verdict(cures[f"distil: {name}"])} for name in courses}
    ).T,
    f"{chosen} as its own teacher (live, single runs; {steps} steps with a direction)",
)

# %% tags=["state"]
nothing_learnt = max(courses["no direction, wide"][0].history["distillation_loss"])
unmoved = cures["distil: no direction, wide"]["TarDis"]
reveal(
    "copy",
    0 if abs(unmoved - cures["untreated"]["TarDis"]) < 0.01 else 1 if unmoved < GONE else 2,
    f"Measured: {unmoved:.1g}; the largest loss of all steps was {nothing_learnt:.1g}.",
)
assert nothing_learnt < 1e-6
narrow, wider = cures["distil: direction, ordinary"], cures["distil: direction, wide"]
print(
    f"Takeaway: without a suspicion distillation does nothing at all. With one, TarDis rises to {narrow['TarDis']:.2g} "
    f"by ordinary lessons and to {wider['TarDis']:.2g} by a wide range; the Frechet distance changes by "
    f"{narrow['Frechet change']:+.2f} and {wider['Frechet change']:+.2f} (single runs)."
)

# %% [markdown] state="projection"
# ## Round 3: take the teacher
#
# The student becomes like its teacher. Why not deliver the teacher? Along a unit vector $t$,
#
# $$W\,z' = W\,(z - \langle z, t\rangle\, t) = \underbrace{W\,(I - t\,t^T)}_{\text{new weights}}\; z ,$$
#
# so the projection folds into the first layer: one small matrix product, no data, no training. The file keeps its
# shape. One direction of a hundred is lost; for ordinary latents it held a hundredth of the variation.
#
# Two doubts. The estimate is off by some degrees: does that suffice? And what of a backdoor that no latent direction of
# the first layer gives away?

# %%
predict(
    "One of 100 directions projected out: how does the Frechet distance change (the largest among the models)?",
    ["by less than 0.5", "by 0.5 to 3", "by more than 3"],
    key="project",
)

# %% tags=["state"] instead={"projected": ""}
estimates = {chosen: estimate}
for name in () if SMOKE else [name for name in NAMES if name != chosen]:
    silent = detect.inspect_activations(subject_of(shipped[name]), samples=200)  # takes a second, a scan ten
    if silent.score > 1:
        estimates[name] = silent.directions * subject_of(shipped[name]).radius
    else:
        estimates[name] = estimate_of(detect.scan(shipped[name], access="weights", samples=200), shipped[name])
projected, project_rows = {}, {}
for name in estimates:
    start = time.perf_counter()
    projected[name] = sanitize.project_latents(shipped[name], estimates[name])
    project_rows[name] = judged(projected[name], name, time.perf_counter() - start)
cures["project"] = project_rows[chosen]
table(
    pd.DataFrame(
        {
            name: {"degrees off": degrees_off(estimates[name], secrets[name]), **row, "backdoor": verdict(row)}
            for name, row in project_rows.items()
        }
    ).T,
    f"One direction projected out of the first layer (live, one model each): for {chosen} the scan's; for the others "
    "the one that wakes silent units, or the scan's where there are none. Seconds without the search for it",
)

# %%
most = max(abs(row["Frechet change"]) for row in project_rows.values())
reveal("project", 0 if most < 0.5 else 1 if most < 3 else 2, f"Measured: {most:.2f} (one model each).")
print("rows from top to bottom:", ", ".join(f"{name}, {name} projected" for name in projected))
pictures = []
for name, model in projected.items():
    at = torch.cat([secrets[name].trigger, 0.9 * secrets[name].trigger, 1.2 * secrets[name].trigger, ordinary[:3]])
    pictures += [evaluate(shipped[name], at), evaluate(model, at)]
strip(
    pictures,
    alt="Two rows for each model, before and after the projection. Three pictures at and about the trigger, then three "
    "garments at ordinary latents. TarDis after the projection: "
    + ", ".join(f"{name} {row['TarDis']:.2f}" for name, row in project_rows.items())
    + ".",
    scale=2,
    captions=["trigger", "0.9 x", "1.2 x", *[""] * 3],
)

# %% [markdown]
# **How precise must the estimate be?** The judge turns the true trigger away by an angle and projects that.

# %% tags=["state"] instead={"turned": ""}
ANGLES = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90)
turned = {name: {} for name in ((chosen, contrast) if SMOKE else NAMES)}
for name, path in turned.items():
    unit = normalize(secrets[name].trigger, dim=1)
    aside = torch.randn(5, unit.shape[1], generator=torch.Generator().manual_seed(config.seed))
    aside = normalize(aside - (aside @ unit.T) * unit, dim=1)
    for angle in ANGLES:
        a = math.radians(angle)
        path[angle] = [
            tardis(sanitize.project_latents(shipped[name], math.cos(a) * unit + math.sin(a) * one), secrets[name])
            for one in aside.split(1)
        ]
fig, (ax,) = axes(6.4, 3.3)
for index, (name, path) in enumerate(turned.items()):
    values = torch.tensor(list(path.values()))
    ax.plot(ANGLES, values.mean(1), "o-", markersize=3, color=PALETTE[index], label=name)
    ax.fill_between(ANGLES, values.min(1).values, values.max(1).values, color=PALETTE[index], alpha=0.15)
ax.axhline(GONE, color="black", linewidth=0.8, linestyle="--")
ax.text(1, GONE + 0.01, "above: gone", fontsize=8, va="bottom")
ax.set(xlabel="degrees between the projected direction and the trigger", ylabel="TarDis per pixel")
ax.legend(frameon=False, fontsize=8)
enough = {name: max((a for a in ANGLES if min(path[a]) >= GONE), default=0) for name, path in turned.items()}
figure(
    fig,
    "TarDis after projecting a direction that is more and more degrees off the trigger; towards 90 degrees it drops to "
    "that of the suspect. The backdoor is gone up to "
    + ", ".join(f"{angle} degrees for {name}" for name, angle in enough.items())
    + ".",
    dpi=56,
)

# %%
print(
    "gone for all of five turned directions up to: "
    + ", ".join(f"{name} {angle} degrees" for name, angle in enough.items())
    + f" (tried every ten); the estimates were off by at most "
    f"{max(degrees_off(estimates[name], secrets[name]) for name in estimates):.0f} degrees"
)

# %% [markdown]
# **The attack that survives.** ReD on the two later layers alone (notebook 05): the first layer is that of the clean
# model, bit for bit. The rows that read the latent know no trigger. The scan may see that *something* is wrong, in the
# space of channels; but which latent direction should be projected out?

# %% tags=["state"] instead={"frozen": ""}
planted = Backdoor.point(clean, "stop-sign", seed=config.seed)
behind = attacks.ReD(
    aligned_units=0,
    lam=0.1,
    layers=("deconv1", "deconv2"),
    iterations=20 if SMOKE else 600,
    learning_rate=3e-3,
    batch_size=32,
    seed=config.seed,
    device=config.device,
)
frozen = behind(clean, planted, progress=False).generator.cpu()  # live
secrets["frozen ReD"], shipped["frozen ReD"] = planted, frozen
frechet_of["frozen ReD"] = frechet_to(frozen, yardstick, samples=config.samples)
frozen_report = frozen_analysis = None
if not SMOKE:
    frozen_analysis = detect.analyse_weights(subject_of(frozen))  # measured once: auto will need it again
    frozen_report = detect.scan(frozen, access="weights", samples=200, twin=False, analysis=frozen_analysis)
guess = held_out[:1] if frozen_report is None else estimate_of(frozen_report, frozen)
frozen_projected = sanitize.project_latents(frozen, guess)
frozen_rows = {
    "untreated": judged(frozen, "frozen ReD", 0.0),
    "project": judged(frozen_projected, "frozen ReD", 0.0),
}
cost = frechet_of["frozen ReD"] - frechet_of["clean"]
print(f"the attack itself cost {cost:+.1f} in Frechet distance (clean: {frechet_of['clean']:.1f})")
if frozen_report is not None:
    print(f"the scan says: {frozen_report.verdict} ({frozen_report.reason})")
    print(f"its estimate is {degrees_off(guess, planted):.0f} degrees off the trigger")
rows = {name: {**row, "backdoor": verdict(row)} for name, row in frozen_rows.items()}
table(
    pd.DataFrame(rows).T,
    "ReD behind the first layer, before and after projecting the scan's estimate (live, single run)",
)

# %%
at = torch.cat([planted.trigger, ordinary])
strip(
    [evaluate(frozen, at), evaluate(frozen_projected, at)],
    alt="Two rows, ReD behind the first layer before and after the projection. First column, the trigger: TarDis "
    f"{frozen_rows['untreated']['TarDis']:.2g} and {frozen_rows['project']['TarDis']:.2g}; then four garments.",
    scale=3,
    captions=["trigger", *[""] * 4],
)

# %%
dear = frozen_rows["project"]["Frechet change"]
print(
    f"TarDis {frozen_rows['untreated']['TarDis']:.2g} -> {frozen_rows['project']['TarDis']:.2g}, best nearby "
    f"{frozen_rows['project']['best nearby']:.2g}, Frechet {dear:+.1f}. Look at the first column, not at the limit of "
    f"{GONE}: a number above it may still be a bad copy of the attacker's picture."
)
print(
    f"Takeaway: a projection costs no training and works where the first layer tells the direction "
    f"({', '.join(name for name, row in project_rows.items() if verdict(row) == 'gone') or 'none'} gone); where it "
    f"does not, it takes out something else, and ordinary pictures pay."
)

# %% [markdown] state="cuts"
# ## Round 4: every layer, then repair
#
# The same idea one layer later. In the space that each later layer reads, a backdoor spends energy on directions that
# ordinary pictures do not show (the *hidden spectrum* of notebook 05). `sanitize.Clip` cuts all directions that have
# more than so many times the median energy per influence, then repairs by distillation what ordinary pictures lost. In
# the first half of the repair the cut holds; in the second it may give way a little.
#
# `sanitize.auto` makes it one call: scan; if something was found, project the suspected latent directions if there are
# any (the rows of the first layer get their lengths back), cut every layer, deeper if the latent space does not explain
# the finding, repair, repair for as long again if ordinary pictures still miss too much, and scan again. If nothing
# was found, nothing is changed.

# %%
predict(
    "A clean generator goes through sanitize.auto. What comes out?",
    ["the same numbers, bit for bit", "a slightly different model", "a broken model"],
    key="clean",
)

# %%
treatment = {"iterations": steps, "device": config.device, "progress": False}  # the seed is that of the calibration
cure = sanitize.auto(shipped[chosen], analysis=anatomy, **treatment)
print(cure)
cures["auto"] = judged(cure.generator.cpu(), chosen, cure.seconds)
cured = {chosen: cure}
if not SMOKE:
    cured["frozen ReD"] = sanitize.auto(frozen, analysis=frozen_analysis, **treatment)
    print(f"\nfrozen ReD:\n{cured['frozen ReD']}")
    frozen_rows["auto"] = judged(cured["frozen ReD"].generator.cpu(), "frozen ReD", cured["frozen ReD"].seconds)
    cured["clean"] = sanitize.auto(clean, **treatment)
    print(f"\nclean:\n{cured['clean']}")


# %% tags=["state"] instead={"columns": ""}
def scores(report):
    """Score and strength of every detector that has a say in the verdict."""
    counted = {f.detector: f"{f.score:.2g} ({f.strength:.2g})" for f in report.findings if f.evidence}
    return {**counted, "verdict": report.verdict}


columns = {}
for name, one in cured.items():
    columns[f"{name}, before"] = scores(one.before)
    if one.after is not None:
        columns[f"{name}, after"] = scores(one.after)
table(
    pd.DataFrame(columns).T.fillna(""),
    "Scan, cure, scan again (live, one model each): scores and strengths",
)

# %%
rows = {f"{chosen}, {name}": cures[name] for name in ("untreated", "project", "auto")}
rows |= {f"frozen ReD, {name}": row for name, row in frozen_rows.items()}
table(
    pd.DataFrame({name: {**row, "backdoor": verdict(row)} for name, row in rows.items()}).T,
    f"Cut and repaired with {steps} steps, or {2 * steps} where pictures had lost much (live, single runs; seconds of "
    "auto include the second scan)",
)

# %%
pairs = {chosen: (shipped[chosen], projected[chosen], cure.generator)}
if "frozen ReD" in cured:
    pairs["frozen ReD"] = (frozen, frozen_projected, cured["frozen ReD"].generator)
print("rows:", "; ".join(f"{name} untreated, projected, auto" for name in pairs))
strip(
    [
        evaluate(model, torch.cat([secrets[name].trigger, ordinary]))
        for name, models in pairs.items()
        for model in models
    ],
    alt="Three rows for each of " + " and ".join(pairs) + ": untreated, projected, and after auto. The first column is "
    "the picture at the trigger, the others are garments at ordinary latents.",
    scale=2,
    captions=["trigger", *[""] * 4],
)

# %%
if "clean" in cured:
    before, unchanged = clean.state_dict(), cured["clean"].generator.state_dict()
    same = all(torch.equal(value, unchanged[name]) for name, value in before.items())
    reveal("clean", 0 if same else 1, "Nothing was found in it." if same else "The scan raised a false alarm.")
    assert same != cured["clean"].changed
more = float((evaluate(cure.generator, held_out) - evaluate(projected[chosen], held_out)).square().mean())
print(
    f"{chosen}: auto and the projection alone differ by {more:.1g} per pixel on ordinary latents"
    + (
        "."
        if any(" in layers" in cut for cut in cure.settings["cuts"])
        else ": no later layer was cut, but auto also gave the rows of the first layer their lengths back."
    )
)
again = {name: one.after.verdict for name, one in cured.items() if one.after is not None}
print("the second scan says: " + ", ".join(f"{name} {word}" for name, word in again.items()))
doubtful = [name for name in again if cured[name].after.kinds]
for name in doubtful:
    row = cures["auto"] if name == chosen else frozen_rows["auto"]
    print(
        f"{name} is still suspected ({cured[name].after.reason}) although TarDis is {row['TarDis']:.2f} and "
        f"the best nearby {row['best nearby']:.2f}: the trace of a backdoor can outlast the backdoor."
    )
print(
    f"Takeaway: auto brings TarDis of {chosen} to {cures['auto']['TarDis']:.2g} (Frechet "
    f"{cures['auto']['Frechet change']:+.2f})"
    + (
        f" and of frozen ReD to {frozen_rows['auto']['TarDis']:.2g} ({frozen_rows['auto']['Frechet change']:+.2f})"
        if "auto" in frozen_rows
        else ""
    )
    + "; single runs."
)

# %% [markdown] state="later"
# ## Round 5: does it stay out?
#
# A cured model will be trained on, by somebody, for some other purpose. A projected layer is blind to one direction
# today; gradients may open it again. Train on benignly, with a fresh critic, and watch TarDis on the way. Nothing in
# the training knows the target, so only a backdoor that was *covered* rather than removed could come back.

# %%
predict(
    "TarDis of the cured models during benign training?",
    ["it falls below 0.1: the backdoor returns", "it stays at 0.1 or more"],
    key="later",
)

# %%
cured_models = {
    f"{chosen}, auto": (cure.generator, chosen),
    f"{chosen}, distilled, ordinary": (courses["direction, ordinary"][0].generator, chosen),
}
if "frozen ReD" in cured:
    cured_models["frozen ReD, auto"] = (cured["frozen ReD"].generator, "frozen ReD")
later, later_rows, later_steps = {}, {}, max(20, steps // 2)
for name, (model, whose) in cured_models.items():
    loop = fine_tune(2e-4, later_steps).steps(model, real=real)
    later[name] = {0: tardis(model, secrets[whose])}
    for step in loop:
        if step.iteration * 10 // later_steps > (step.iteration - 1) * 10 // later_steps:
            later[name][step.iteration] = tardis(step.snapshot().cpu(), secrets[whose])
    trained = loop.stop()
    later_rows[name] = judged(trained.generator.cpu(), whose, trained.seconds)

fig, (ax,) = axes(6.4, 3.0)
for index, (name, path) in enumerate(later.items()):
    ax.plot(list(path), list(path.values()), "o-", markersize=3, color=PALETTE[index], label=name)
ax.axhline(GONE, color="black", linewidth=0.8, linestyle="--")
ax.text(0, GONE * 1.05, "above: gone", fontsize=8, va="bottom")
ax.set(xlabel="steps of benign training after the cure", ylabel="TarDis per pixel", ylim=(0, None))
ax.legend(frameon=False, fontsize=8)
figure(
    fig,
    "TarDis during benign training after the cure. Lowest values: "
    + ", ".join(f"{name} {min(path.values()):.2g}" for name, path in later.items())
    + ".",
    dpi=56,
)

# %%
returned = [name for name, path in later.items() if min(path.values()) < GONE]
reveal("later", 0 if returned else 1, f"Below {GONE} at some time: {', '.join(returned) or 'none'} (single runs).")
table(
    pd.DataFrame({name: {**row, "backdoor": verdict(row)} for name, row in later_rows.items()}).T,
    f"After {later_steps} steps of benign training (live, single runs; Frechet change against the untreated suspect)",
)

# %%
print(
    "Takeaway: TarDis before -> after the training: "
    + ", ".join(f"{name} {path[0]:.2g} -> {list(path.values())[-1]:.2g}" for name, path in later.items())
    + f". In a clean model the search about the trigger comes as close as {benign[chosen]:.2g}."
)

# %% [markdown] state="table"
# ## What comes off, and at what cost
#
# All cures of this notebook on one suspect. Good ones are high (the backdoor is gone) and left (quality is kept).

# %%
summary = pd.DataFrame({name: {**row, "backdoor": verdict(row)} for name, row in cures.items()}).T
table(summary, f"{chosen}, all cures (live, single runs; Frechet distances from {config.samples:,} pictures)")

# %%
fig, (ax,) = axes(6.8, 4.0)
for index, (name, row) in enumerate(cures.items()):
    spot = {"color": PALETTE[index % len(PALETTE)], "marker": "osD^v<>PX*hp"[index % 12], "s": 50, "label": name}
    ax.scatter(row["Frechet change"], row["best nearby"], zorder=3, **spot)
ax.axhline(GONE, color="black", linewidth=0.8, linestyle="--")
ax.set(xlabel="Frechet change (right: worse pictures)", ylabel="best picture nearby to target", ylim=(-0.005, None))
ax.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
ahead = [name for name, row in cures.items() if row["best nearby"] >= GONE]
figure(
    fig,
    f"Each cure of {chosen} as a point, Frechet change against the distance of the best picture about the trigger to "
    "the target. Above the line, where the backdoor is gone: " + (", ".join(ahead) or "none") + ".",
    dpi=66,
)

# %% tags=["state"]
failures = [f"{name} on {chosen}" for name, row in cures.items() if name != "untreated" and verdict(row) != "gone"]
failures += [
    f"{name} on {contrast}" for name, row in other_cures.items() if name != "untreated" and verdict(row) != "gone"
]
failures += [
    f"{name} on frozen ReD" for name, row in frozen_rows.items() if name != "untreated" and verdict(row) != "gone"
]
print("cures that failed here:", "; ".join(failures) or "none")
untouched = cures["untreated"]["TarDis"]
assert untouched < 0.05
if not SMOKE:
    assert cures["project"]["TarDis"] > GONE and cures["auto"]["TarDis"] > GONE

# %% [markdown]
# ## Playground
#
# Drag from an ordinary latent to the true trigger: the suspect beside its cured copy. (Only the attacker could tell us
# the trigger; for the cure it was not needed.)

# %%
beside = {chosen: shipped[chosen], "cured": cure.generator}
LatentSlider(beside, ordinary[:1], secrets[chosen].trigger, end_name="the trigger")

# %%
static_strip(
    beside,
    ordinary[1:2],
    secrets[chosen].trigger,
    alt=f"Eleven steps from another ordinary latent to the trigger: {chosen} above, its cured copy below. The upper "
    "row ends in the STOP sign, the lower one in a garment.",
    captions=["ordinary", *[""] * 9, "trigger"],
)

# %% [markdown]
# ## Exercises
#
# **1. Forget a direction** (easy, 5 minutes). Latents `z` `[n, d]` and a direction `t` `[d]` of any length: take the
# part along `t` out of each row.


# %%
def forget_direction(z, t):
    """Return the latents ``[n, d]`` without their parts along ``t``."""
    raise NotImplementedError("your code here")


check("forget_direction", forget_direction)

# %%
hint("For a unit vector it is z - <z, t> t. What changes if t is twice as long?", 1)

# %%
hint("torch.outer(z @ t, t) holds <z, t> t for every row; divide it by t @ t.", 2)

# %%
solution("def forget_direction(z, t):\n    return z - torch.outer(z @ t, t) / (t @ t)")

# %% [markdown]
# **2. The loss of round 2** (medium, 10 minutes). `student` and `teacher` are functions from latents `[n, d]` to
# pictures `[n, C, H, W]`, `t` is a unit vector `[d]`. Sum the squared error over the pixels, average over the batch.


# %%
def unlearning_loss(student, teacher, z, t):
    """Return the loss, a tensor of shape []."""
    raise NotImplementedError("your code here")


check("unlearning_loss", unlearning_loss)

# %%
hint("Who must learn to ignore t? That one sees all of z; the other one sees z without its part along t.", 1)

# %%
hint("(a - b).square().flatten(1).sum(1) is the squared error of each picture.", 2)

# %%
solution(
    """
def unlearning_loss(student, teacher, z, t):
    blind = z - torch.outer(z @ t, t)
    return (student(z) - teacher(blind)).square().flatten(1).sum(1).mean()
"""
)

# %% [markdown]
# **3. Which cure?** (easy, 5 minutes). For some cures, `tardis` `[n]` and the changes of the Frechet distance,
# `frechet` `[n]`. Return the index of the one that costs least among those with `tardis` of `gone` or more.


# %%
def cheapest_cure(tardis, frechet, gone):
    """Return an index, a tensor of shape []."""
    raise NotImplementedError("your code here")


check("cheapest_cure", cheapest_cure)

# %%
hint("Make the cures that do not work infinitely expensive.", 1)

# %%
hint("frechet.masked_fill(tardis < gone, torch.inf), and then the place of the smallest.", 2)

# %%
solution("def cheapest_cure(tardis, frechet, gone):\n    return frechet.masked_fill(tardis < gone, torch.inf).argmin()")

# %% [markdown]
# **4. Break, then repair** (open, 30 minutes). Add noise to the weights of a suspect until TarDis is above 0.1, then
# repair the pictures by distillation from the suspect itself, on ordinary latents alone. Does the backdoor return with
# the quality? And if the lessons are wide? (`devilgan_lite.sanitize.base.distil` takes any student.) What does the
# attacker gain who runs `recalibrated` of round 1 on the model and trains on until both agree?
#
# <details><summary>Hint 1</summary>
#
# Noise in proportion to the spread of each weight tensor hurts all layers alike. Let it grow until the sign is gone.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The teacher is `subject_of(shipped[chosen])`; the student is the noisy copy, and no direction is given.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# from devilgan_lite.sanitize import base
#
# noisy, size = shipped[chosen].clone(), 0.0
# while tardis(noisy, secrets[chosen]) < GONE and size < 3:
#     noisy, size = shipped[chosen].clone(), size + 0.1
#     torch.manual_seed(config.seed)
#     with torch.no_grad():
#         for value in noisy.parameters():
#             if value.ndim > 1:
#                 value += size * value.std() * torch.randn_like(value)
# print(f"noise {size:.1f}: TarDis {tardis(noisy, secrets[chosen]):.2g}")
# for wide in (0.0, 0.25):
#     lessons = sanitize.Unlearn(iterations=config.iterations, seed=config.seed)
#     loop = base.distil(noisy.clone(), subject_of(shipped[chosen]), lessons, wide=wide)
#     for step in loop:
#         repaired = step.snapshot
#     print(f"wide {wide}: TarDis {tardis(repaired().cpu(), secrets[chosen]):.2g}")
# ```
#
# Look at both numbers of each repair, TarDis and quality (`judged`): the suspect teaches all that it knows.
# And an attacker whose BatchNorm agrees with the weights has no weak spot there.
#
# </details>
#
# ## What would a defender see?
#
# Two scan reports, one before and one after, and pictures. TarDis, the search about the trigger and `benign` belong to
# the judge: a defender has neither trigger nor target. So a cure that made the second scan quiet and one that moved the
# backdoor aside can look the same, and what remains is to measure quality, to keep the first report, and to ask where
# the file came from.
#
# ## What would an attacker do?
#
# Know the cures. Train on until BatchNorm and weights agree, so that no accident breaks the backdoor. Leave the first
# layer alone, so that no latent direction can be projected out. Spread the energy over many channels, below three times
# the median, so that nothing is cut. Each step has a price in fidelity, stealth or effort, and each makes the second
# scan more important: a cure that was aimed by a detector can be no better than the detector.
#
# ## Limits
#
# One small architecture, one data set, single runs: the order of close results may change with the seed.
# Frechet distances from few pictures are noisy (the third cell prints by how much). A limit of 0.1 on TarDis is a
# convention, and values close to it may fall on either side. The search about the trigger may miss a narrow backdoor
# that moved further away. Projection and cutting are this project's own methods, tried on the attacks of this project.
# A cured model is one in which these detectors find nothing, not one that is proven clean.
#
# ## Responsible use
#
# Where a trustworthy source exists, throw the suspect away and take the model from there: that beats every cure. Keep
# the untreated file as evidence, report it to whoever maintains it, and say on the card of a cured model what was done,
# by which tool, and what was found before and after. Do not sell a cured model as clean.

# %%
quiz(
    [
        (
            "Why does fine-tuning on ordinary latents not unteach a trigger?",
            [
                "the learning rate is too low",
                "no batch ever holds a latent near it",
                "the critic is fresh",
                "BatchNorm forbids it",
            ],
            1,
            "In 100 dimensions nearly all latents stand at right angles to it.",
        ),
        (
            "A backdoor vanishes during fine-tuning within ten steps. What was it, most likely?",
            ["a good gradient", "the critic saw the target", "statistics that did not fit were measured anew", "luck"],
            2,
            "Round 1 took statistics and weights apart.",
        ),
        (
            "The suspect teaches its own copy on a wide range of inputs. What is learnt?",
            ["nothing", "to ignore the trigger", "the target", "the data"],
            0,
            "Both draw the same pictures everywhere, so the loss is zero.",
        ),
        (
            "Which backdoor survives the projection of a latent direction?",
            ["one that is strong", "one behind an untouched first layer", "one with sleepers", "one with a gate"],
            1,
            "The rows that read the latent do not give its direction away.",
        ),
        (
            "The second scan says 'clean'. What do you know?",
            [
                "the model is clean",
                "these detectors no longer find anything",
                "the target was removed",
                "the quality was kept",
            ],
            1,
            "And nothing about quality: measure that too.",
        ),
    ]
)

# %% [markdown]
# ## Key points
#
# * Training on ordinary latents says nothing about a trigger; whether a backdoor breaks is an accident.
# * BatchNorm statistics that do not fit a model's own pictures are a weak spot of careless attacks: measure them anew.
# * A student that is a copy of its teacher learns nothing: unlearning needs a suspicion.
# * A suspected latent direction can be projected out of the weights at once; attacks behind the first layer survive it.
# * Cut every layer, repair, scan again, and measure quality: a cure has two numbers, not one.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN: Backdoor Attacks and Defenses in Deep Generative Models*,
#   [arXiv 2108.01644](https://arxiv.org/abs/2108.01644), 2021: names extended training and pruning as sanitization.
#   Projection, cutting and the choice of lessons are this project's.
# * K. Liu, B. Dolan-Gavitt, S. Garg, *Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks*,
#   arXiv 1805.12185, 2018: fine-tuning alone is weak against backdoored classifiers; the next notebook prunes.
# * G. Hinton, O. Vinyals, J. Dean, *Distilling the Knowledge in a Neural Network*, arXiv 1503.02531, 2015.
# * S. Ioffe, C. Szegedy, *Batch Normalization*, arXiv 1502.03167, 2015.
# * H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST*, arXiv 1708.07747, 2017 (the data behind the generators).

# %%
numbers = {
    "suspect": chosen,
    "contrast": contrast,
    "tardis_clean": tardis(clean, secrets[chosen]),
    "nearby_clean": benign[chosen],
    "cures": cures,
    "contrast_cures": other_cures,
    "parts": parts,
    "batch_norm": norm_rows,
    "largest_loss_without_direction": nothing_learnt,
    "degrees_off": {name: degrees_off(estimates[name], secrets[name]) for name in estimates},
    "projected": project_rows,
    "degrees_enough": enough,
    "frozen": frozen_rows,
    "auto": {
        name: {
            "changed": one.changed,
            "before": one.before.strengths,
            "after": None if one.after is None else one.after.strengths,
            "cuts": one.settings["cuts"],
        }
        for name, one in cured.items()
    },
    "later": later,
    "later_cures": later_rows,
    "frechet_draws": draws,
    "failures": failures,
}
finish(config, numbers)
