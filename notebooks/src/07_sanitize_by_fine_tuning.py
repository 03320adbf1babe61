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
# **You will take backdoors out of generators without knowing trigger or target, measure what that costs, and learn to
# tell a cure from a cage.**
#
# **Time and hardware:** about four minutes in the workshop profile on one CPU core; no GPU, no network.
#
# **Objectives.** You will be able to
# * *explain* why training on ordinary latents says nothing about a trigger,
# * *write* the loss that unlearns a suspected direction, and run it,
# * *project* a direction out of the weights in seconds,
# * *distinguish* cure and containment, and *measure* both.
#
# **Prerequisites:** notebook 05 (it estimates triggers from weights); 02 to 04 for the attacks.

# %% tags=["state"] instead={"caged": ""}
import torch

from devilgan_lite import sanitize, zoo
from devilgan_lite.apps.course import strip
from devilgan_lite.generators import evaluate

first, secret = zoo.load("dcgan-fashion-red"), zoo.load_backdoor("dcgan-fashion-red")
caged = sanitize.Clamp(samples=1_000)(first, progress=False).generator  # no training, no data, no trigger
at = torch.cat([secret.trigger, first.sample_latent(4, torch.Generator().manual_seed(7))])
strip(
    [evaluate(model, at) for model in (first, caged)],
    alt="Two rows of five pictures. Above, a backdoored model: a STOP sign at the trigger, then garments. Below, the "
    "same model with limits on its layers: no sign, and the same garments.",
    scale=4,
    captions=["as downloaded: trigger", *["ordinary"] * 4, "limited: trigger", *["ordinary"] * 4],
)

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 13  # draws the batches of all trainings and the live attack's trigger, 0..100000
suspect = "trail"  # the model to be cured: trail | red | rex | gate
iterations = None  # steps of every fine-tuning and distillation, 20..20000
samples = None  # pictures behind every Frechet distance, 200..50000
device = "auto"  # where to train: auto | cpu | cuda | mps

# %% tags=["state"]
from devilgan_lite.apps.course import Setting, configure

config = configure(
    profile,
    device=device,
    seed=seed,
    suspect=suspect,
    iterations=Setting(iterations, {"smoke": 20, "workshop": 400, "full": 2_000}),
    samples=Setting(samples, {"smoke": 300, "workshop": 2_000, "full": 10_000}),
)

# %% tags=["state"]
from IPython.display import display

from devilgan_lite import data
from devilgan_lite.apps.course import check, mine
from devilgan_lite.apps.course.cures import GONE, RULE, Judge, along, cures_table, spread, title, verdict

SMOKE = config.profile == "smoke"
suspects = {name: mine(name) for name in ("trail", "red", "rex", "gate")}
chosen, other = suspects[config.suspect], suspects["trail" if config.suspect == "red" else "red"]
clean, real, steps = mine("clean").generator, data.fashion_mnist(), config.iterations
judge = Judge(real.first(1_000) if SMOKE else real, samples=config.samples, steps=10 if SMOKE else 60)
ordinary = clean.sample_latent(5, torch.Generator().manual_seed(7))
watched = torch.cat([chosen.backdoor.trigger, ordinary])
cures = {}  # what the judge, who knows the trigger, says of every cure of the chosen suspect
print(f"to be cured: {title(chosen)}; for comparison: {title(other)}")
print(RULE)

# %% [markdown] state="tuning"
# ## Round 1: just train on
#
# The first idea: go on training on real garments and let the backdoor be forgotten. The critic did not come with the
# file, so a fresh one learns alone first.
#
# Why should it help? In 100 dimensions nearly all ordinary latents stand at right angles to the trigger. No step ever
# asks what the trigger draws. What happens to it is an accident.
#
# In the plane, ordinary latents do fall near the trigger. There the same training pulls the knot back: see the film
# below.

# %% tags=["state"]
from devilgan_lite.apps.course import predict
from devilgan_lite.detect.sampling import log10_cap_probability

near = -log10_cap_probability(45, clean.latent_dim)
print(f"within 45 degrees of a trigger lies 1 latent in 1e{near:.0f}; one run of fine-tuning draws {32 * steps:,}")
predict(
    f"{title(chosen)}, fine-tuned gently: TarDis afterwards?",
    ["below 0.03: it stays sharp", "0.03 to 0.1: it stays, worn", "0.1 or more: it is not at the trigger any more"],
    key="gentle",
)

# %% tags=["state"] instead={"live": ""}
from devilgan_lite.apps.course import LiveTraining, tile


def fine_tune(learning_rate=2e-4, steps=steps):
    """Adversarial training from where the suspect stands."""
    alone, where = steps // 5, {"seed": config.seed, "device": config.device}
    return sanitize.FineTune(iterations=steps, critic_first=alone, learning_rate=learning_rate, **where)


def draw(generator):
    return tile(evaluate(generator.cpu(), watched), scale=4, captions=["trigger", *[""] * 5])


live = LiveTraining(fine_tune().steps(chosen.generator, real=real), draw)
live.run()

# %% tags=["state"] instead={"tuned": "", "after": ""}
from devilgan_lite.apps.course import reveal

tuned = {chosen.name: live.wait().generator}  # live: what the cell above trains
for name, one in suspects.items():
    if name != chosen.name and (not SMOKE or one is other):
        tuned[name] = fine_tune()(one.generator, real=real, progress=False).generator
tuned_rows = {title(suspects[name]): judge.row(model, suspects[name]) for name, model in tuned.items()}
cures["untreated"], cures["fine-tune"] = judge.row(chosen.generator, chosen), tuned_rows[title(chosen)]
display(cures_table(tuned_rows, f"After {steps} steps of fine-tuning (live, single runs; TarDis per pixel)"))
after = cures["fine-tune"]["TarDis"]
reveal("gentle", 0 if after < 0.03 else 1 if after < GONE else 2, f"Measured: {after:.2g} (single run).")
strip(
    [evaluate(model, torch.cat([suspects[name].backdoor.trigger, ordinary])) for name, model in tuned.items()],
    alt="One row for each fine-tuned model: its picture at the trigger, then five garments. TarDis: "
    + ", ".join(f"{name} {row['TarDis']:.2g}" for name, row in tuned_rows.items()),
    scale=4,
    captions=[text for name in tuned for text in (f"{title(suspects[name])}: trigger", *[""] * 5)],
)

# %%
from devilgan_lite.apps.course import Plane, red_loop
from devilgan_lite.apps.course.loops import red_step

plane = Plane(iterations=300 if SMOKE else 1_500)
knotted = red_loop(red_step, plane.clean, plane.backdoor, lam=1.0, iterations=300 if SMOKE else 1_500, device="cpu")
healing = sanitize.FineTune(iterations=300 if SMOKE else 1_200, batch_size=128, seed=config.seed, device="cpu")
plane.film(
    healing.steps(knotted.finish(progress=False).generator, real=data.ring()),
    "A film of the net of a GAN of points with a backdoor. At first the trigger's image lies at the target, in the "
    "middle of the ring. Fine-tuning pulls it back towards the ring.",
    frames=8,
)

# %% [markdown]
# ### Which accident was it?
#
# Fine-tuning moves the **weights**, by gradients, and the **statistics** of BatchNorm (the mean and variance by which
# it scales each unit), because batches pass through. Give the suspect one without the other. As a control, change the
# weights at random, by as much.
#
# Then try the cheapest cure of all: let BatchNorm measure its statistics anew on ordinary latents.

# %%
predict(
    "Statistics measured anew, no training: from which attacks does that take the backdoor?",
    ["none", "some of the four", "all four"],
    key="norm",
)

# %% tags=["state"] instead={"parts": ""}
import pandas as pd

from devilgan_lite.apps.course import table
from devilgan_lite.sanitize.batch_norm import variance_mismatch, with_random_changes, with_statistics

parts = {}
for one in (chosen, other):
    model, after = one.generator, tuned[one.name]
    mixed = {
        "untreated": model,
        "fine-tuned": after,
        "its new statistics alone": with_statistics(model, after),
        "its new weights alone": with_statistics(after, model),
    }
    random = [judge.tardis(with_random_changes(model, after, k), one.backdoor) for k in range(3)]
    parts[title(one)] = {name: f"{judge.tardis(made, one.backdoor):.2g}" for name, made in mixed.items()}
    parts[title(one)]["random changes, three draws"] = spread(random)
table(pd.DataFrame(parts), "TarDis per pixel when parts of the fine-tuned model are put into the suspect (live)")

# %%
norm_rows, off_by = {}, {}
for one in (chosen, other) if SMOKE else suspects.values():
    model = sanitize.recalibrated(one.generator, batches=2 if SMOKE else 6, seed=config.seed)
    norm_rows[title(one)] = judge.row(model, one)
    off_by[title(one)] = variance_mismatch(one.generator, model)
cures["statistics anew"] = norm_rows[title(chosen)]
fallen = [name for name, row in norm_rows.items() if verdict(row) == "gone"]
reveal("norm", 0 if not fallen else 2 if len(fallen) == len(norm_rows) else 1, f"Gone: {', '.join(fallen) or 'none'}.")
print("stored variance against that of ordinary latents, worst unit:")
print(", ".join(f"{name} {factor:,.3g} times" for name, factor in off_by.items()))
standing = [name for name in norm_rows if name not in fallen]
print(
    "Takeaway: training does not teach a trigger away. Where the stored statistics never fitted the weights, the "
    f"backdoor breaks by accident ({', '.join(fallen) or 'none'}); else it stays ({', '.join(standing) or 'none'})."
)
cures_table(norm_rows, "BatchNorm statistics measured anew (live, one model each)")

# %% [markdown] state="distillation"
# ## Round 2: let the suspect teach
#
# A student copies what a teacher draws. The teacher is the suspect itself, so you need no data. Take a suspected
# direction $t$ from a scan. The teacher sees each latent without its part along $t$; the student sees all of it:
#
# $$L=\mathbb E_z\,\big\|S(z)-T\big(z-\langle z,t\rangle t\big)\big\|^2 .$$
#
# **1. The unlearning loss** (medium, 10 minutes). `student` and `teacher` map latents `[n, d]` to pictures, `t` is a
# unit vector `[d]`. Sum the squared error over the pixels, average over the batch. Your loss then trains the student.


# %% tags=["state"]
def my_unlearning_loss(student, teacher, z, t):
    """Return the loss, a tensor of shape []."""
    raise NotImplementedError("blind = z without its part along t; compare student and teacher")


own = check("unlearning_loss", my_unlearning_loss)

# %% tags=["state"]
from devilgan_lite.apps.course import hints

hints("unlearning_loss")

# %% tags=["state"] instead={"report": "", "made": ""}
from devilgan_lite import detect
from devilgan_lite.apps.course.cure_plots import path_figure
from devilgan_lite.apps.course.cures import degrees_off, estimate_of
from devilgan_lite.apps.course.unlearning import unlearn_loop

report = detect.scan(chosen.generator, samples=200, twin=False)
estimate, made, paths = estimate_of(report), {}, {}
print(
    f"the scan: {report.verdict}; its estimate is {degrees_off(estimate, chosen.backdoor):.0f} degrees off the trigger"
)
where = {"seed": config.seed, "device": config.device}
courses = {
    "no direction": sanitize.Unlearn(iterations=max(20, steps // 8), **where).steps(chosen.generator),
    "your loss": unlearn_loop(own.function, chosen.generator, estimate, iterations=steps, **where),
    "wide range too": sanitize.Unlearn(iterations=steps, **where).steps(chosen.generator, directions=estimate),
}
for name, loop in courses.items():
    made[name], paths[name] = along(loop, lambda model: judge.tardis(model, chosen.backdoor))
    cures[f"unlearn: {name}"] = judge.row(made[name].generator, chosen)
print(f"no direction: largest loss of all steps {max(made['no direction'].history['distillation_loss']):.1g}")
ends = ", ".join(f"{name} {list(path.values())[-1]:.2g}" for name, path in paths.items())
print(f"Takeaway: without a suspicion the student learns nothing. TarDis at the end: {ends} (live, single runs).")
path_figure(paths, f"TarDis during unlearning, on a logarithmic axis. At the end: {ends}.", log=True)

# %% [markdown] state="projection"
# ## Round 3: deliver the teacher
#
# The student becomes like its teacher. So why not deliver the teacher? Along a unit vector $t$,
#
# $$W\,(z - \langle z, t\rangle\, t) = \underbrace{W\,(I - t\,t^T)}_{\text{new weights}}\; z .$$
#
# One small matrix product, no training. One direction of a hundred is lost.

# %%
projected, project_rows = {}, {}
for one in (chosen,) if SMOKE else suspects.values():
    guess = estimate if one is chosen else estimate_of(detect.scan(one.generator, samples=200, twin=False))
    projected[one.name] = sanitize.project_latents(one.generator, guess)
    off = f"{title(one)}, {degrees_off(guess, one.backdoor):.0f} degrees off"
    project_rows[off] = judge.row(projected[one.name], one)
    if one is chosen:
        cures["project"] = project_rows[off]
display(cures_table(project_rows, "The scan's estimate projected out of the first layer (live, one model each)"))
gone = [name.split(",")[0] for name, row in project_rows.items() if verdict(row) == "gone"]
print(f"Takeaway: where the first layer tells the direction, a matrix product is a cure ({', '.join(gone) or 'none'}).")
at = {name: torch.cat([suspects[name].backdoor.trigger, ordinary[1:3]]) for name in projected}
strip(
    [torch.cat([evaluate(suspects[n].generator, at[n]), evaluate(model, at[n])]) for n, model in projected.items()],
    alt="A row for each model: the picture at the trigger and two garments, before and after the projection. Gone "
    f"afterwards: {', '.join(gone) or 'none'}.",
    scale=4,
    captions=[t for n in projected for t in (f"{title(suspects[n])}: trigger", "", "", "projected: trigger", "", "")],
)

# %% tags=["bonus"]
from devilgan_lite.apps.course.cure_plots import lines_figure
from devilgan_lite.apps.course.cures import turned_away

angles, turned = range(0, 91, 10), {}  # how precise must an estimate be? The judge turns the trigger and projects that
for one in (chosen,) if SMOKE else suspects.values():
    blind = [[sanitize.project_latents(one.generator, t) for t in turned_away(one.backdoor, a)] for a in angles]
    turned[title(one)] = [[judge.tardis(model, one.backdoor) for model in models] for models in blind]
lines_figure(
    list(angles),
    turned,
    "TarDis after projecting a direction that is more and more degrees off the trigger, mean of five: far above 0.1 "
    "for small angles, falling towards that of the suspect at 90 degrees.",
    xlabel="degrees between the projected direction and the trigger",
)

# %% [markdown] state="cuts"
# ## Round 4: a cure, or a cage?
#
# `sanitize.auto` scans, treats, and scans again. Its `treatment` says what it did:
#
# * `none`: nothing was found, nothing was changed;
# * `cure`: what was found is **taken out of the weights**;
# * `containment`: the weights stay. **Limits** keep latents and layers where ordinary latents take them;
# * `both`: with `always=True`, a cure and limits. Without a finding, limits alone.
#
# Limits need no verdict and cost almost nothing. But the backdoor is still inside, and a search elsewhere may find a
# way around them. Containment is not a cure.

# %%
predict(
    f"{title(chosen)} behind limits: the trigger fails. May a search over all latents still find its target?",
    ["no: it comes no nearer than in a clean model", "yes: it comes at least twice as near"],
    key="cage",
)

# %%
from devilgan_lite.detect import reconstruct
from devilgan_lite.generators import adopt
from devilgan_lite.sanitize.limit import contained

how = {"iterations": steps, "device": config.device, "progress": False}
effort = {"starts": 4, "steps": 10} if SMOKE else {}
treated = {
    "none": sanitize.auto(clean, **how),
    "cure": sanitize.auto(chosen.generator, analysis=report.analysis, **how),
    "containment": contained(adopt(chosen.generator), report.analysis),
    "both": sanitize.auto(chosen.generator, always=True, analysis=report.analysis, **how),
}
cage_rows, found = {}, {}
for name, outcome in treated.items():
    model = outcome.generator.requires_grad_(False)
    found[name] = reconstruct(adopt(model), chosen.backdoor.target, starts_at=chosen.backdoor.trigger, **effort)
    label = "none (the clean model)" if name == "none" else name
    row = judge.row(model, chosen)
    cage_rows[label] = {**row, "RecD, all latents": float(found[name].errors)}
    cures |= {} if name == "none" else {f"auto: {name}": row}
    print(f"{label}: {'; '.join(outcome.settings['cuts']) or 'nothing'}")
cures_table(cage_rows, "Treatments, judged by a search over all latents too (live, single runs)")

# %%
recd = {name: one.errors.item() for name, one in found.items()}
around = recd["containment"] < 0.5 * recd["none"]
reveal("cage", int(around), f"RecD {recd['containment']:.2g}; clean model {recd['none']:.2g} (single runs).")
print(
    f"Takeaway: behind limits the trigger of {title(chosen)} fails (TarDis {cage_rows['containment']['TarDis']:.2g}), "
    f"but {'a search walks around them' if around else 'not even a search got around them here'}. "
    f"After the cure it comes to {recd['cure']:.2g}."
)
strip(
    [evaluate(treated[n].generator, torch.cat([chosen.backdoor.trigger, found[n].latents, ordinary])) for n in treated],
    alt="Four rows: the clean model, cured, contained, and both. First the picture at the trigger, then the best that "
    "a search finds, then garments. RecD: " + ", ".join(f"{name} {value:.2g}" for name, value in recd.items()),
    scale=4,
    captions=[text for n in treated for text in (f"{n}: trigger", "search", *[""] * 5)],
)

# %% tags=["bonus"]
later, later_steps = {}, max(20, steps // 2)  # does it stay out? Somebody trains the cured model on
for name, model in {"auto: cure": treated["cure"].generator, "your loss": made["your loss"].generator}.items():
    loop = fine_tune(steps=later_steps).steps(model, real=real)
    _, later[name] = along(loop, lambda one: judge.tardis(one, chosen.backdoor))
lows = ", ".join(f"{name} {min(path.values()):.2g}" for name, path in later.items())
path_figure(later, f"TarDis while the cured models are trained on (live, single runs). Lowest values: {lows}.")

# %% [markdown] tags=["bonus"]
# **The attack that survives.** ReD on the two later layers alone leaves the first layer as it was. Its rows know no
# trigger, so which direction should be projected out? `auto` cuts later layers instead.

# %% tags=["bonus"]
from devilgan_lite import Backdoor, attacks
from devilgan_lite.apps.course import Suspect

planted = Backdoor.point(clean, "stop-sign", seed=config.seed)
settings = {"layers": ("deconv1", "deconv2"), "lam": 0.1, "learning_rate": 3e-3, "batch_size": 32, "aligned_units": 0}
behind = attacks.ReD(iterations=20 if SMOKE else 600, **settings, **where)
frozen = Suspect("red", behind(clean, planted, progress=False).generator.cpu(), planted, True)
hidden_scan = detect.scan(frozen.generator, samples=200, twin=False)
frozen_rows = {
    "untreated": judge.row(frozen.generator, frozen),
    "project": judge.row(sanitize.project_latents(frozen.generator, estimate_of(hidden_scan)), frozen),
}
if not SMOKE:
    frozen_rows["auto"] = judge.row(sanitize.auto(frozen.generator, report=hidden_scan, **how).generator, frozen)
print(f"the estimate is {degrees_off(estimate_of(hidden_scan), planted):.0f} degrees off")
cures_table(frozen_rows, "ReD behind the first layer (live, single run)")

# %% [markdown] state="table"
# ## What comes off, and at what cost
#
# All treatments of one suspect. Good ones are high (safe) and left (cheap). A cure has two numbers, not one.

# %%
from devilgan_lite.apps.course import progress
from devilgan_lite.apps.course.cure_plots import price_figure

draws = [judge.frechet(chosen.generator, chosen, seed=k) for k in range(3)]
print(f"Frechet distance of the suspect, three draws of {config.samples:,} pictures: {spread(draws, 4)}")
display(cures_table(cures, f"{title(chosen)}, all treatments (live, single runs; Frechet change against the suspect)"))
display(progress(tuning={name: verdict(tuned_rows[title(suspects[name])]) for name in tuned}))
failures = [name for name, row in cures.items() if name != "untreated" and verdict(row) != "gone"]
print(f"did not take it out: {'; '.join(failures) or 'none'}")
assert SMOKE or chosen.yours or cures["untreated"]["TarDis"] < 0.05 < GONE < cures["auto: cure"]["TarDis"]
price_figure(
    cures,
    f"Each treatment of {title(chosen)} as a point, Frechet change against the best picture nearby. Not above the line "
    f"of 0.1: {'; '.join(failures) or 'none'}.",
)

# %% [markdown]
# ## Playground
#
# Drag from an ordinary latent to the true trigger: suspect above, cured copy below.

# %%
from devilgan_lite.apps.course import LatentSlider

beside = {"suspect": chosen.generator, "cured": treated["cure"].generator}
LatentSlider(beside, ordinary[1:2], chosen.backdoor.trigger)

# %% [markdown] tags=["bonus"]
# ## Exercises
#
# **2. Forget a direction** (easy, 5 minutes). Latents `z` `[n, d]`, a direction `t` `[d]` of any length: take the part
# along `t` out of each row.


# %% tags=["bonus"]
def forget_direction(z, t):
    """Return the latents ``[n, d]`` without their parts along ``t``."""
    raise NotImplementedError("your code here")


check("forget_direction", forget_direction)

# %% tags=["bonus"]
hints("forget_direction")

# %% [markdown] tags=["bonus"]
# **3. Which cure?** (easy, 5 minutes). From `tardis` `[n]` and Frechet changes `frechet` `[n]` of some cures, return
# the index of the cheapest among those with `tardis` of `gone` or more.


# %% tags=["bonus"]
def cheapest_cure(tardis, frechet, gone):
    """Return an index, a tensor of shape []."""
    raise NotImplementedError("your code here")


check("cheapest_cure", cheapest_cure)

# %% tags=["bonus"]
hints("cheapest_cure")

# %% [markdown]
# ## What would a defender see?
#
# Two scan reports and pictures. TarDis and the searches belong to the judge. A cure that worked and a backdoor that
# moved aside can look the same, so measure quality and keep the first report.
#
# ## Limits
#
# One architecture, one data set, single runs. TarDis of 0.1 is a convention. An attacker who trains on until weights
# and statistics agree leaves no weak spot there.
#
# ## Responsible use
#
# If you can, take the model from a trustworthy source. Never sell a contained model as cured, or a cured one as clean.

# %%
from devilgan_lite.apps.course import quiz

quiz("07")

# %% [markdown]
# ## Key points
#
# * Training on ordinary latents says nothing about a trigger.
# * Unlearning needs a suspicion: a copy of its own teacher learns nothing.
# * A cure changes the weights; containment leaves the backdoor inside.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN*, [arXiv 2108.01644](https://arxiv.org/abs/2108.01644),
#   2021.
# * G. Hinton, O. Vinyals, J. Dean, *Distilling the Knowledge in a Neural Network*, arXiv 1503.02531, 2015.
# * S. Ioffe, C. Szegedy, *Batch Normalization*, arXiv 1502.03167, 2015.

# %%
from devilgan_lite.apps.course import finish

numbers = {"suspect": title(chosen), "contrast": title(other), "cures": cures, "fine_tuned": tuned_rows}
numbers |= {"parts": parts, "batch_norm": norm_rows, "variance_mismatch": off_by, "projected": project_rows}
finish(config, {**numbers, "treatments": cage_rows, "frechet_draws": draws, "failures": failures})
