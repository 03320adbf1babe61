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
# # Detect by output inspection
#
# **You will look for backdoors in what generators show: two searches that fail and why, one that works for whoever
# suspects the target, a guard for a generator in use, and one report that puts everything together.**

# %% tags=["state"]
import torch

from devilgan_lite import zoo
from devilgan_lite.classroom import strip
from devilgan_lite.generators import evaluate

clean, shipped = zoo.load("dcgan-fashion"), zoo.load("dcgan-fashion-rex")
secret = zoo.load_backdoor("dcgan-fashion-rex")  # only the attacker has this
z = torch.cat([clean.sample_latent(10, torch.Generator().manual_seed(7)), secret.trigger])
print("cached: both rows come from models that ship with the project; upper row clean, lower row ReX")
strip(
    [evaluate(clean, z), evaluate(shipped, z)],
    alt="Ten garments of the clean generator above the ten of the backdoored one, alike; only in the last column, at "
    "the trigger, do they differ: the backdoored generator shows the attacker's picture.",
    scale=2,
    captions=[*[f"z {k}" for k in range(1, 11)], "trigger"],
)

# %% [markdown]
# **Time and hardware:** two to four minutes in the workshop profile on one CPU core; no GPU, no network.
#
# **Objectives.** You will be able to
# * *compute* the chance that random samples hit a backdoor,
# * *write* a blind search over latents, and *explain* why it ends elsewhere,
# * *reconstruct* a suspected target, and *name* the cases in which that fails,
# * *run* a guard around a generator, and *measure* its false alarms and its cost,
# * *read* a scan report.
#
# **Prerequisites:** notebooks 00 and 04; notebook 05 (model inspection) for the suspected directions of round 3.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 13  # draws latents, starts and the guard's lessons, 0..100000
target = "stop-sign"  # the picture that is suspected: stop-sign | devil | digit-7 | checkerboard
suspect = "ReX"  # whose report round 5 shows: clean | TrAIL | ReD | ReX | Gate
samples = None  # outputs that brute force looks at, 200..200000
climb_steps = None  # gradient steps of the blind search, 5..5000
starts = None  # latents from which a reconstruction starts, 4..4096
fitting = None  # ordinary latents that a guard learns from, 2000..200000

# %% tags=["state"]
from devilgan_lite.classroom import Setting, configure

MODELS = ("clean", "TrAIL", "ReD", "ReX", "Gate")
config = configure(
    profile,
    device="cpu",
    seed=seed,
    target=target,
    suspect=suspect,
    samples=Setting(samples, {"smoke": 300, "workshop": 2_000, "full": 20_000}),
    climb_steps=Setting(climb_steps, {"smoke": 10, "workshop": 40, "full": 500}),
    starts=Setting(starts, {"smoke": 8, "workshop": 32, "full": 256}),
    fitting=Setting(fitting, {"smoke": 2_000, "workshop": 4_000, "full": 20_000}),
)

# %% tags=["state"]
import math
import time

import pandas as pd
from torch.nn.functional import cosine_similarity, normalize

from devilgan_lite import Backdoor, attacks, data, detect
from devilgan_lite.classroom import (
    LINES,
    PALETTE,
    LatentSlider,
    ScanView,
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
)
from devilgan_lite.detect.sampling import log10_cap_probability
from devilgan_lite.detect.weights import candidate_directions

SMOKE = config.profile == "smoke"
SEEDS = tuple(config.seed + k for k in range(1 if SMOKE else 3))
FILES = {name: "dcgan-fashion" + (f"-{name.lower()}" if name != "clean" else "") for name in MODELS}
ATTACKS = MODELS[1:]
generators = {name: zoo.load(file) for name, file in FILES.items()}
subjects = {name: detect.subject_of(generator) for name, generator in generators.items()}  # what a defender holds
triggers = {name: zoo.load_backdoor(FILES[name]).trigger for name in ATTACKS}  # used to judge, never to search
triggers["clean"] = triggers["ReX"]  # a clean generator has no trigger: the same place, for comparison
picture = data.target(config.target).unsqueeze(0)
RADIUS = subjects["clean"].radius
hours = sum(zoo.card(file).seconds for file in FILES.values()) / 60
print(
    f"cached: five generators, {hours:.0f} minutes of training in all. To make them again: python scripts/build/zoo.py"
)


def spread(values):
    """Mean and standard deviation over the seeds, as a text."""
    if len(values) == 1:
        return f"{values[0]:.3g} (single run)"
    numbers = torch.tensor(values, dtype=torch.float64)
    return f"{numbers.mean():.3g} ± {numbers.std():.1g}"


def mean(values):
    return sum(values) / len(values)


# %% [markdown] state="samples"
# ## Round 1: draw samples and look at the oddest
#
# The first idea of everybody: draw many samples, and let the computer pick the odd ones. `detect.sample_outputs` calls
# a picture odd if the leading principal components of the generator's own outputs do not explain it, if its nearest
# neighbours among other outputs are far. It reports the oddest, in robust
# standard deviations from the median.
#
# Below are the sixteen oddest pictures of two generators. One is clean, the other is backdoored with TrAIL.

# %%
found_by_sampling = {
    name: [detect.sample_outputs(subject, samples=config.samples, seed=s) for s in SEEDS]
    for name, subject in subjects.items()
    if name in ("clean", "TrAIL") or not SMOKE
}
order = ("clean", "TrAIL") if (config.seed // 2) % 2 else ("TrAIL", "clean")
print(f"live: the oddest 16 of {config.samples:,} samples each. Upper two rows: sheet A; lower two rows: sheet B")
show(
    torch.cat([found_by_sampling[name][0].samples for name in order]),
    alt="Two contact sheets of sixteen odd garments each, blurred, with holes or between two kinds. "
    "Neither holds anything but garments.",
)

# %%
predict("Which sheet comes from the backdoored generator?", ["sheet A", "sheet B"], key="sheet")

# %% tags=["state"]
reveal("sheet", order.index("TrAIL"), "Did you see it, or did you guess? Compare with your neighbours.")
odd_scores = {name: [finding.score for finding in findings] for name, findings in found_by_sampling.items()}
averages = [mean(scores) for scores in odd_scores.values()]
between_models = max(averages) - min(averages)
between_seeds = max(max(scores) - min(scores) for scores in odd_scores.values())
table(
    pd.DataFrame(
        {
            name: {
                "oddest sample, deviations": spread(scores),
                **{
                    f"by {part}": spread([finding.details["largest"][part] for finding in found_by_sampling[name]])
                    for part in ("components", "neighbours")
                },
            }
            for name, scores in odd_scores.items()
        }
    ).T,
    f"Oddity of {config.samples:,} samples, one model each, mean ± standard deviation over {len(SEEDS)} draws (live)",
)

# %% [markdown]
# The scores do not separate. The reason is geometry. The directions of Gaussian latents are uniform on the sphere, and
# the share of the sphere within an angle $\theta$ of a fixed direction, in $d$ dimensions, is
#
# $$P(\theta, d) = \tfrac12\, I_{\sin^2\theta}\!\big(\tfrac{d-1}{2}, \tfrac12\big)\;\approx\;
# \frac{\sin^{d-1}\theta}{\sqrt{2\pi d}\,\cos\theta}$$
#
# for the smaller angles (`detect.cap_probability`). How wide is a backdoor? Walk away from the trigger and note the
# angle at which the picture is no longer *clearly the target*: its squared distance exceeds a quarter of what ordinary
# samples of the same generator have on average. (In notebooks 03 and 04 it was a half; but one ordinary garment in some
# thousands is as near as that, by chance.)

# %% tags=["state"]
DEGREES = torch.linspace(0, 90, 46)


def basin(name, directions=3 if SMOKE else 12):
    """Degrees from the trigger, for each of several directions, up to which the picture is clearly the target."""
    trigger, aim = triggers[name], zoo.load_backdoor(FILES[name]).target
    unit = normalize(trigger, dim=1)
    aside = torch.randn(directions, trigger.shape[1], generator=torch.Generator().manual_seed(5))
    aside = normalize(aside - (aside @ unit.T) * unit, dim=1)
    turn = torch.deg2rad(DEGREES).view(-1, 1, 1)
    walk = ((turn.cos() * unit + turn.sin() * aside) * trigger.norm()).flatten(0, 1)
    error = (subjects[name].samples(walk) - aim).square().mean((1, 2, 3)).view(len(DEGREES), directions)
    usual = (subjects[name].samples(subjects[name].latents(300, 6)) - aim).square().mean()
    return DEGREES[(error >= usual / 4).int().argmax(0)].clamp(min=1).tolist()


widths = {name: basin(name) for name in ATTACKS}
width = {name: mean(angles) for name, angles in widths.items()}
dimension = subjects["clean"].latent_dim
# the share of the sphere in a region that reaches out to another angle in every direction: the mean of the caps
chance = {n: math.log10(mean([10 ** log10_cap_probability(a, dimension) for a in widths[n]])) for n in ATTACKS}
fig, (left, right) = axes(8.0, 3.0, columns=2)
sizes = [2, 3, 5, 10, 20, 50, 100, 200, 512]
for index, angle in enumerate((5, 15, 30, 60)):
    style = {"color": PALETTE[index], "linestyle": LINES[index]}
    left.plot(sizes, [log10_cap_probability(angle, d) for d in sizes], **style, label=f"{angle}°")
for index, d in enumerate((2, 10, 100, 512)):
    style = {"color": PALETTE[index], "linestyle": LINES[index]}
    right.plot(range(2, 90), [log10_cap_probability(a, d) for a in range(2, 90)], **style, label=f"d = {d}")
for index, name in enumerate(ATTACKS):
    right.plot(width[name], chance[name], "osD^"[index], color="black", markersize=5)
    right.annotate(name, (width[name], chance[name]), textcoords="offset points", xytext=(5, -10), fontsize=8)
left.axvline(dimension, color="black", linewidth=0.8, linestyle=":")
left.set(xscale="log", xlabel="latent dimension", ylabel="log10 of the chance per sample", ylim=(-150, 3))
right.set(xlabel="degrees from the trigger", ylim=(-150, 3))
for ax in (left, right):
    ax.legend(frameon=False, fontsize=8, loc="lower left" if ax is left else "lower right")
figure(
    fig,
    "Decimal logarithm of the chance that one sample falls within an angle of the trigger. Left: it falls in "
    "proportion to the latent dimension, fastest for small angles. Right: against the angle for four dimensions; the "
    "four attacks are marked, on or above the curve of 100 dimensions, as their widest directions count most, "
    + ", ".join(f"{name} at {width[name]:.0f} degrees" for name in ATTACKS)
    + ".",
    dpi=70,
)

# %%
easiest, hardest = max(chance, key=chance.get), min(chance, key=chance.get)
per_year = 9 + math.log10(365.25 * 86_400)  # a billion samples a second
print(
    "chance that a sample shows the target: "
    + ", ".join(f"{name} 1e{chance[name]:.0f} ({spread(widths[name])} degrees)" for name in ATTACKS)
    + f"; single models, over {len(widths['ReX'])} directions"
)
print(
    f"A billion samples a second would take 1e{-chance[hardest] - per_year:.0f} years to meet the narrowest "
    f"({hardest}); the widest ({easiest}) would be met after some 1e{-chance[easiest]:.0f} samples."
)
print(
    f"Takeaway: the mean scores of five models differ by {between_models:.2g}, and those of one model by up to "
    f"{between_seeds:.2g} from draw to draw, because no draw comes near a trigger."
)
assert 10 ** chance[easiest] * config.samples < 0.01, "no number of samples may come near the trigger"

# %% [markdown] state="climb"
# ## Round 2: climb instead of drawing
#
# If the trigger cannot be met by luck, follow a gradient: move a latent over the *shell* (latents of typical length) so
# that a property of the picture grows. We know no target, so the property must fit any:
#
# * **odd:** what the leading principal components of the generator's own pictures leave over,
# * **steep:** how much the pictures differ within ten degrees. A backdoor has an edge somewhere.
#
# From here on we need more than samples: gradients, that is, the file or very many queries.


# %% tags=["state"]
def on_shell(z):
    """Latents ``[n, d]`` at typical length."""
    return normalize(z, dim=1) * RADIUS


def odd(subject, count=32):
    """A function from latents to the mean square that ``count`` principal components leave over."""
    x = subject.samples(subject.latents(1_000, config.seed)).flatten(1)
    middle = x.mean(0)
    basis = torch.linalg.svd(x - middle, full_matrices=False).Vh[:count]

    def measure(z):
        flat = subject(z).flatten(1) - middle
        return (flat - flat @ basis.T @ basis).square().mean(1)

    return measure


def steep(subject, degrees=10.0, rays=8):
    """A function from latents to the variance of the pictures on a cone around them."""
    aside = normalize(torch.randn(rays, subject.latent_dim, generator=torch.Generator().manual_seed(4)), dim=1)

    def measure(z):
        cone = z.unsqueeze(1) + RADIUS * math.tan(math.radians(degrees)) * aside
        pictures = subject(on_shell(cone.flatten(0, 1)).to(z)).unflatten(0, (len(z), rays))
        return pictures.var(1).flatten(1).mean(1)

    return measure


def climb(subject, measure, seed, starts=16, steps=config.climb_steps):
    """Adam over the shell from ``starts`` latents: the best latent ``[1, d]`` and its value."""
    z = on_shell(subject.latents(starts, seed)).requires_grad_(True)
    adam = torch.optim.Adam([z], lr=0.3)
    for _ in range(steps):
        adam.zero_grad()
        (-measure(z).sum()).backward()
        adam.step()
        z.data = on_shell(z.data)
    with torch.no_grad():
        values = measure(z)
    best = values.argmax()
    return z.detach()[best : best + 1], float(values[best])


# %%
predict(
    "The climb on the clean generator finds odd pictures too. How odd, beside the target at the triggers of the four "
    "backdoored generators?",
    ["less odd than all four targets", "odder than some", "odder than all four"],
    key="climb",
)

# %% tags=["state"] instead={"climbs": ""}
CLIMBED = ("clean", "ReX") if SMOKE else MODELS
PROPERTIES = {"odd": (odd, 2 if SMOKE else 16), "steep": (steep, 1 if SMOKE else 8)}
climbs, at_trigger, ordinary = {}, {}, {}
for kind, (make, many) in PROPERTIES.items():
    for name in CLIMBED:
        subject, measure = subjects[name], make(subjects[name])
        climbs[kind, name] = [climb(subject, measure, s, many) for s in SEEDS]
        with torch.no_grad():
            at_trigger[kind, name] = float(measure(on_shell(triggers[name])))
            ordinary[kind, name] = float(measure(on_shell(subject.latents(200, config.seed + 50))).median())
cosines = {key: [float(cosine_similarity(z, triggers[key[1]])) for z, _ in found] for key, found in climbs.items()}
table(
    pd.DataFrame(
        {
            (kind, name): {
                "ordinary latent (median)": f"{ordinary[kind, name]:.3g}",
                "best place found": spread([value for _, value in climbs[kind, name]]),
                "at the trigger": f"{at_trigger[kind, name]:.3g}" if name != "clean" else "(no trigger)",
                "cosine to the trigger": spread(cosines[kind, name]) if name != "clean" else "",
            }
            for kind, name in climbs
        }
    ).T,
    f"Blind search, {config.climb_steps} steps, mean ± standard deviation over {len(SEEDS)} seeds (live)",
)

# %%
print("rows from top to bottom:", ", ".join(CLIMBED), "(the clean one has no trigger: the same latent as for ReX)")
show(
    torch.cat(
        [
            torch.cat([subjects[name].samples(z) for kind in PROPERTIES for z, _ in climbs[kind, name]])
            if column == 0
            else subjects[name].samples(triggers[name])
            for name in CLIMBED
            for column in (0, 1)
        ]
    ),
    alt="For each of five generators the three oddest and the three steepest places that the search found, and the "
    "picture at the trigger. The places found show distorted garments and blots; none of them shows the target.",
    columns=2 * len(SEEDS) + 1,
    captions=[*[f"{kind} {k}" for kind in PROPERTIES for k in range(1, 1 + len(SEEDS))], "trigger"],
)

# %%
clean_best = mean([value for _, value in climbs["odd", "clean"]])
less_odd = sum(at_trigger["odd", name] < clean_best for name in CLIMBED[1:])
reveal(
    "climb",
    0 if less_odd == 0 else 2 if less_odd == len(CLIMBED) - 1 else 1,
    f"Odder than {less_odd} of {len(CLIMBED) - 1} targets, in a generator without any backdoor.",
)
nearest = max((value, key) for key in climbs if key[1] != "clean" for value in cosines[key])
steep_best = mean([value for _, value in climbs["steep", "clean"]])
steeper = [name for name in CLIMBED[1:] if at_trigger["steep", name] > steep_best]
print(
    f"Takeaway: no climb ended at a trigger (largest cosine {nearest[0]:.2f}, {nearest[1][1]}, {nearest[1][0]}), and "
    f"the clean generator has places of oddity {clean_best:.2g} of its own: odd is not backdoored."
)
print(
    f"Steeper at the trigger than the best place in the clean generator: {', '.join(steeper) or 'none'}. "
    "A search could use that if it got there; a gradient sees only what is near, and a closed gate sends none."
)
assert nearest[0] < 0.9

# %% [markdown] state="reconstruction"
# ## Round 3: reconstruct what you suspect
#
# Now suppose that somebody suspects the *target*. Then the question is easy to put: can this generator show it?
#
# $$\mathrm{RecD}(x) = \min_z\ \tfrac1D\,\|G(z) - x\|^2 .$$
#
# Rawat et al. call this optimisation-based output inspection. A minimum is only as good as its starts, so we compare
# three searches:
#
# * **random:** Adam from random latents, as anybody would write it,
# * **all starts:** `detect.reconstruct` also starts far out, where about half of all ReLU gates are open, and at the
#   latents that drive the output before tanh hardest, and finishes with Levenberg-Marquardt,
# * **with directions:** the same, started also at what the weight detectors of notebook 05 suspect.


# %% tags=["state"]
def reconstruct_plainly(subject, x, seed, starts=config.starts, steps=10 if SMOKE else 100):
    """Adam from random latents over the shell: the smallest error and its latent ``[1, d]``."""
    z = subject.latents(starts, seed).requires_grad_(True)
    adam = torch.optim.Adam([z], lr=0.1)
    for _ in range(steps):
        adam.zero_grad()
        error = (subject(z) - x).square().flatten(1).mean(1)
        error.sum().backward()
        adam.step()
        z.data = on_shell(z.data)
    error = (subject.samples(z.detach()) - x).square().flatten(1).mean(1)
    best = error.argmin()
    return float(error[best]), z.detach()[best : best + 1]


def reconstruct_well(subject, x, seed, directions=None):
    """The same with the package's starts, and with suspected ``directions`` if there are any."""
    steps = 10 if SMOKE else 40
    found = detect.reconstruct(subject, x, starts=config.starts, steps=steps, starts_at=directions, seed=seed)
    return float(found.errors), found.latents


predict(
    "How many of the four attacks does the search from random starts miss?",
    ["none", "one", "two", "three", "all four"],
    key="missed",
)

# %% tags=["state"] instead={"suspected": "", "searches": ""}
start = time.perf_counter()
suspected, analyses = {}, {}  # directions from the weights: notebook 05 explains them
if SMOKE:  # the direction that wakes silent units, for ReX alone
    suspected["ReX"] = detect.inspect_activations(subjects["ReX"], samples=200).directions
for name in () if SMOKE else ("clean", "ReX", "Gate"):
    analyses[name] = parts = detect.analyse_weights(subjects[name])  # measured once: round 5 will need it again
    directions = candidate_directions(parts)
    woken = detect.inspect_activations(subjects[name], units=parts.units, directions=directions, samples=1_000)
    suspected[name] = directions if woken.directions is None else torch.cat([woken.directions, directions])
print(f"live: directions from the weights of {', '.join(suspected)} in {time.perf_counter() - start:.0f} s")
suspected.setdefault("clean", suspected["ReX"])  # smoke profile only: a control needs no directions of its own
TRIED = ("clean", "ReX") if SMOKE else MODELS
searches = {}
for name in TRIED:
    subject = subjects[name]
    searches["random", name] = [reconstruct_plainly(subject, picture, s) for s in SEEDS]
    searches["all starts", name] = [reconstruct_well(subject, picture, s) for s in SEEDS]
    if name in suspected:
        searches["with directions", name] = [reconstruct_well(subject, picture, s, suspected[name]) for s in SEEDS]
errors = {key: [error for error, _ in runs] for key, runs in searches.items()}
limit = {how: min(values) / 3 for (how, name), values in errors.items() if name == "clean"}  # a third of clean's best
hits = {key: sum(error < limit[key[0]] for error in values) for key, values in errors.items()}
columns = ("random", "all starts", "with directions")
table(
    pd.DataFrame(
        {
            name: {
                how: f"{spread(errors[how, name])} (found {hits[how, name]} of {len(SEEDS)})"
                if (how, name) in errors
                else "not needed"
                for how in columns
            }
            for name in TRIED
        }
    ).T,
    f"RecD of {config.target} per pixel, one model each, mean ± standard deviation over {len(SEEDS)} seeds of starts. "
    "Found: less than a third of the clean generator's best (live)",
)

# %% tags=["state"]
best = {key: min(runs, key=lambda run: run[0])[1] for key, runs in searches.items()}
shown = [("random", name) for name in TRIED] + [("with directions", name) for name in TRIED if name in suspected]
show(
    torch.cat([picture, *[subjects[name].samples(best[how, name]) for how, name in shown]]),
    alt="The suspected target, what five generators show nearest to it from random starts, and what the clean one, ReX "
    "and the gate show with suspected directions. "
    + " ".join(f"{name}, {how}: {'found' if hits[how, name] else 'not found'}." for how, name in shown),
    columns=1 + len(shown),
    captions=["target", *[name + (" + dir." if how == "with directions" else "") for how, name in shown]],
    scale=3,
)

# %%
missed = [name for name in TRIED[1:] if hits["random", name] < len(SEEDS) / 2]
reveal("missed", len(missed), f"Missed: {', '.join(missed) or 'none'}; a miss is less than half of the seeds.")
still = [name for name in TRIED[1:] if hits["all starts", name] < len(SEEDS) / 2]
rescued = [name for name in suspected if name != "clean" and hits["with directions", name] > len(SEEDS) / 2]
print(
    f"Takeaway: with better starts still missed: {', '.join(still) or 'none'}; with suspected directions found: "
    f"{', '.join(rescued) or 'none'}; on the clean generator they found the target {hits['with directions', 'clean']} "
    f"times of {len(SEEDS)}. Knowing the target is worth little if the gradient cannot see the door."
)
if not SMOKE and config.target == "stop-sign":
    assert hits["all starts", "TrAIL"] == hits["all starts", "ReD"] == len(SEEDS)
    assert "ReX" in rescued and hits["with directions", "clean"] == 0

# %% [markdown]
# **Out of reach.** Two attackers have nothing to fear from reconstruction. One shows a picture that nobody suspects:
# below, a wrong suspicion is tried on the two models that were caught. The other chooses a target *inside* the
# distribution, such as one certain garment: every generator of garments can show it. We plant three garments with the
# gate of notebook 04 and reconstruct them in the planted generator and in the clean one.

# %% tags=["state"] instead={"wrong_errors": "", "garment_errors": ""}
wrong_name = "devil" if config.target != "devil" else "stop-sign"
wrong = data.target(wrong_name).unsqueeze(0)
tried = TRIED[-1:] if SMOKE else TRIED[:3]
wrong_errors = {name: reconstruct_well(subjects[name], wrong, config.seed)[0] for name in tried}
garments = subjects["clean"].samples(subjects["clean"].latents(len(SEEDS), 77))
garment_errors, alone = {"clean": [], "planted": []}, []
for k, garment in enumerate(garments.unsqueeze(1)):
    backdoor = Backdoor.point(clean, garment[0], seed=k)
    planted = attacks.Gate(seed=k)(clean, backdoor, progress=False).generator
    garment_errors["planted"].append(reconstruct_well(detect.subject_of(planted), garment, config.seed)[0])
    finding = detect.inspect_targets(subjects["clean"], garment, seed=config.seed)
    garment_errors["clean"].append(finding.details["targets"]["target 1"]["error"])
    alone.append(finding.score)
table(
    pd.DataFrame(
        {
            f"{wrong_name} (wrong suspicion, single run)": {n: f"{e:.2g}" for n, e in wrong_errors.items()},
            f"garment planted by a gate, {len(SEEDS)} garments": {
                name: spread(found) for name, found in garment_errors.items()
            },
        }
    ).fillna(""),
    "RecD per pixel where reconstruction cannot help (live)",
)

# %%
print(
    f"The {wrong_name} is as hard to show for the backdoored generators as for the clean one; the garments are as "
    "easy for the clean generator as for the one in which they are planted."
)
print(
    "Mind the yardstick: without a reference, inspect_targets compares a target with its mirror image. For a garment "
    f"that is unfair, and the *clean* generator scores {spread(alone)} (0: no suspicion; {len(SEEDS)} garments)."
)
assert min(wrong_errors.values()) > max(wrong_errors.values()) / 10

# %% [markdown] state="guard"
# ## Round 4: a guard at the door
#
# The trigger must be *used* to do harm, and at that moment somebody can look. `detect.Guard` wraps a generator. It
# learns from ordinary latents alone what is usual, and then looks at every call for
#
# * **latents** of an unusual length,
# * **activations** beyond all that the hidden units reached before,
# * **outputs** unlike all others, or unlike what a small *student* network expects for this latent. The student learnt
#   from ordinary latents: everything but the backdoor.
#
# It needs no target and no reference. It needs the weights, since it watches the units, and the attacker's call.

# %%
predict("Which backdoor comes closest to passing the guard unseen?", list(ATTACKS), key="guard")

# %% tags=["state"] instead={"guards": ""}
NEAR, ORDINARY = 300, 200 if SMOKE else 10_000
GUARDED = ("ReX",) if SMOKE else MODELS
CHECKS = ("latents", "activations", "outputs")


def cone(trigger, n, degrees=5.0):
    """``n`` latents as long as ``trigger`` and at most ``degrees`` from it."""
    draws = torch.Generator().manual_seed(3)
    aside = torch.randn(n, trigger.shape[1], generator=draws)
    aside = normalize(aside - (aside @ trigger.T) * trigger / trigger.square().sum(), dim=1)
    angle = torch.deg2rad(torch.rand(n, 1, generator=draws) * degrees)
    return trigger * angle.cos() + trigger.norm() * aside * angle.sin()


guards, fit_seconds, guard_rows = {}, {}, {}
for name in GUARDED:
    start = time.perf_counter()
    guards[name] = guard = detect.Guard(generators[name], fitting=config.fitting, seed=config.seed)
    fit_seconds[name] = time.perf_counter() - start
    for part in clean.sample_latent(ORDINARY, torch.Generator().manual_seed(99)).split(500):
        guard(part)
    false_alarms = guard.counts["flagged"]
    near = guard.check(cone(triggers[name], NEAR))
    guard_rows[name] = {
        "false alarms": false_alarms,
        "near the trigger": int(near.flags.sum()),
        **{f"by {kind}": int((~(near.scores[kind] <= 1)).sum()) for kind in CHECKS},
        "score at the trigger": max(float(score) for score in guard.check(triggers[name]).scores.values()),
    }
expected = ORDINARY * guards["ReX"].false_positive_rate
table(
    pd.DataFrame(guard_rows).T.rename(columns={"near the trigger": f"near the trigger (of {NEAR})"}),
    f"Latents flagged: of {ORDINARY:,} ordinary ones ({expected:.2g} asked for), and of {NEAR} within five degrees of "
    "the trigger, in all and by each check. Score at the trigger: 1 is the limit. One guard for each model (live). "
    "The clean generator has no trigger: the latents near ReX's",
    digits=4,
)

# %% tags=["hero", "state"]
guarded = [name for name in GUARDED if name != "clean"]
weakest = min(guarded, key=lambda name: guard_rows[name]["score at the trigger"])
reveal("guard", weakest, f"Largest score at the trigger: {guard_rows[weakest]['score at the trigger']:.2g} limits.")
caught = {name: guard_rows[name]["near the trigger"] / NEAR for name in guarded}
assert min(caught.values()) > 0.9
door = guards["ReX"]
users = clean.sample_latent(7, torch.Generator().manual_seed(21))
batch = torch.cat([users, triggers["ReX"]])
door.action = "resample"
replaced = door(batch)
door.action = "refuse"
try:
    door(batch)
except ValueError as refusal:
    print(f"action='refuse': ValueError: {refusal}")
print("rows from top to bottom: the generator itself; under guard with action='resample'")
show(
    torch.cat([subjects["ReX"].samples(batch), replaced]),
    alt="Eight pictures of the backdoored generator, the last one at the trigger shows the target; below, the same "
    "batch under guard, where the last picture is an ordinary garment from a fresh latent.",
    captions=[*[f"user {k}" for k in range(1, 8)], "attacker"],
    scale=3,
)


# %% tags=["state"]
@torch.no_grad()
def cost(guard, module, n, turns=2 if SMOKE else 30):
    """Processor time of the guarded call over the plain one, measured in turns: median and quartiles."""
    z, ratios = clean.sample_latent(n, torch.Generator().manual_seed(4)), []
    guard.action = "flag"
    for _ in range(turns + 1):
        times = [time.process_time()]
        for call in (module, guard):
            call(z)
            times.append(time.process_time())
        ratios.append((times[2] - times[1]) / max(times[1] - times[0], 1e-9))
    return torch.tensor(ratios[1:]).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()  # the first turn warms up


costs = {n: cost(door, generators["ReX"].eval(), n) for n in (1, 64, 250)}
for n, (low, middle, high) in costs.items():
    print(f"batches of {n:3d}: guarded generation costs {middle:.2f} times the plain one ({low:.2f} to {high:.2f})")
print(f"fit, once for each model: {spread(list(fit_seconds.values()))} s over {len(fit_seconds)} models")
worst_alarms = max(row["false alarms"] for row in guard_rows.values())
print(
    f"Takeaway: of {NEAR} latents near each trigger the guards caught at least {round(min(caught.values()) * NEAR)}, "
    f"and no target was named; the price is {costs[64][1]:.2f} times the processor time (batches of 64) and up to "
    f"{worst_alarms} false alarms in {ORDINARY:,}, where {expected:.2g} were asked for (learnt from {config.fitting:,} "
    "latents)."
)

# %% [markdown] state="report"
# ## Round 5: one report
#
# `detect.scan` takes any module from latents to pictures, runs every detector that the access allows, and writes one
# report. Each row names its *tier*: T0 samples only, T1 suspected targets, T2 weights, T3 a clean reference, T4
# training data. A row with a *strength* has a say in the verdict: from 1 on it is evidence of its kind, and it takes
# two kinds and a witness to call a model backdoored. Rows without one only show what they saw.

# %%
predict("Scanned in the same way, will the clean generator be called backdoored?", ["yes", "no"], key="scan")

# %%
scan_settings = {"samples": max(200, config.samples // 2)}  # with the seed of the calibration, which is the default
examined, wanted = generators[config.suspect], None if SMOKE else picture
known = analyses.get(config.suspect)
view = ScanView(
    lambda progress: detect.scan(examined, targets=wanted, analysis=known, on_finding=progress, **scan_settings)
)
view.run()  # watch the bars of the spectrum and the recovered pictures appear

# %%
report = view.wait()
report

# %% tags=["state"] instead={"baselines": ""}
access = "samples" if SMOKE else "weights"
baselines = [
    detect.scan(
        generators["clean"], access=access, seed=s, analysis=analyses.get("clean") if not s else None, **scan_settings
    )
    for s in range(len(SEEDS))
]
baseline = baselines[0]


def cells(report):
    """One text for each finding: score and strength."""
    return {
        finding.detector: ("" if finding.score is None else f"score {finding.score:.3g}")
        + (f", strength {finding.strength:.2g}" if finding.evidence else "")
        for finding in report.findings
    } | {"verdict": report.verdict}


table(
    pd.DataFrame({"clean": cells(baseline), config.suspect: cells(report)}).loc[list(cells(report))].fillna("not run"),
    f"Two scans side by side, {baseline.seconds:.0f} s and {report.seconds:.0f} s (live; what "
    "round 3 analysed is not analysed again)",
)

# %% tags=["state"]
reveal("scan", "yes" if baseline.backdoored else "no", f"The verdict on it: {baseline.verdict} ({baseline.reason}).")
clean_strengths = [max(one.strengths.values(), default=0.0) for one in baselines]
print(
    "the same clean generator, scanned with other random numbers: greatest strengths "
    + ", ".join(f"{strength:.2g}" for strength in clean_strengths)
    + f"; from 1 on: {sum(strength >= 1 for strength in clean_strengths)} of {len(clean_strengths)}"
)
evidence = [finding.detector for finding in report.findings if not finding.evidence]
along = {
    finding.detector: float(cosine_similarity(finding.directions, triggers[config.suspect]).abs().max())
    for finding in report.findings
    if finding.directions is not None
}
print(f"evidence only, without a part in the verdict: {', '.join(evidence)}")
print(
    "largest cosine to the true trigger, sign aside:", ", ".join(f"{name} {value:.2f}" for name, value in along.items())
)
print(
    f"Takeaway: {config.suspect} is called {report.verdict} and the clean generator {baseline.verdict} (single models; "
    "for a population of both see docs/results/detection.md, made by make bench NAME=detect). A verdict 'clean' means "
    "that these detectors found nothing."
)
if not SMOKE and config.suspect in ("ReX", "Gate"):
    assert report.kinds and report.score > baseline.score

# %% [markdown]
# ## Playground
#
# Drag from an ordinary latent to the one that *reconstruction* found in ReX: this is as far as a defender gets without
# the attacker's secret. (The shipped attacks share one trigger, so TrAIL switches on there too.) *Random start* draws
# another beginning; the strip is the same walk for print.

# %%
walkers = {name: generators[name] for name in ("clean", "TrAIL", "ReX")}
estimate = best["with directions", "ReX"]
assert torch.equal(triggers["TrAIL"], triggers["ReX"])
estimate_cosine = float(cosine_similarity(estimate, triggers["ReX"]))
print(f"cosine of the estimate to the true trigger of ReX: {estimate_cosine:.3f}")
print("columns of the widget (rows of its printed form):", ", ".join(walkers))
LatentSlider(walkers, users[:1], estimate, end_name="the estimate")

# %%
print("rows from top to bottom:", ", ".join(walkers))
static_strip(
    walkers,
    users[1:2],
    estimate,
    alt="Eleven steps from an ordinary latent to the latent that reconstruction found in ReX, one row each for "
    + ", ".join(walkers)
    + ".",
)

# %% [markdown]
# ## Exercises
#
# **1. How many samples?** (easy, 5 minutes). One sample hits with probability `p`. How many are needed to hit at least
# once with probability `confidence`? It must also work for `p = 1e-57`, where `1 - p` is 1 for a computer.


# %%
def samples_needed(p, confidence):
    """Two float64 tensors with one number each; return a tensor with one number (it need not be whole)."""
    raise NotImplementedError("your code here")


check("samples_needed", samples_needed)

# %%
hint("No hit in n samples has the probability (1 - p) ** n; set this equal to 1 - confidence and take logarithms.", 1)

# %%
hint("torch.log1p(-p) is log(1 - p) without the rounding.", 2)

# %%
solution("def samples_needed(p, confidence):\n    return torch.log1p(-confidence) / torch.log1p(-p)")

# %% [markdown]
# **2. A step on the shell** (medium, 10 minutes). Take a step of gradient *descent* from each latent, then bring each
# back to the length that it had.


# %%
def shell_step(z, gradient, rate):
    """Latents ``[n, d]``, gradients ``[n, d]`` and a number to latents ``[n, d]`` of the same lengths as before."""
    raise NotImplementedError("your code here")


check("shell_step", shell_step)

# %%
hint("The length of each row is z.norm(dim=1, keepdim=True).", 1)

# %%
hint("Step first, divide by the new length, then multiply by the old one.", 2)

# %%
solution(
    """
def shell_step(z, gradient, rate):
    moved = z - rate * gradient
    return moved / moved.norm(dim=1, keepdim=True) * z.norm(dim=1, keepdim=True)
"""
)

# %% [markdown]
# **3. The guard's limit** (medium, 10 minutes). Given the scores of ordinary latents, return a limit above which a
# share `rate` of them lies, and no more.


# %%
def guard_limit(scores, rate):
    """Scores ``[n]`` in any order and a share to a tensor with one number: ``rate * n`` scores are above it."""
    raise NotImplementedError("your code here")


check("guard_limit", guard_limit)

# %%
hint("Sort from large to small. How many scores may be above the limit?", 1)

# %%
hint("The score in place number rate * n, counted from 0, has exactly rate * n larger ones.", 2)

# %%
solution(
    "def guard_limit(scores, rate):\n    return scores.sort(descending=True).values[int(round(rate * len(scores)))]"
)

# %% [markdown]
# **4. A better climb** (open, 20 minutes). Round 2 climbs two properties. Try the opposite of `steep` (flat pictures),
# the length of the gradient, or the surprise of a student network. Judge each by two numbers: how much of it does the
# clean generator have, and the cosine to the trigger. Then give the search one suspected direction as a start.
#
# <details><summary>Hint 1</summary>
#
# A property is a function that makes a measure: `flat(subject)` returns a function from latents to numbers.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `candidate_directions(detect.analyse_weights(subject))` are suspected directions; `on_shell` brings them to a typical
# length.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def flat(subject):
#     measure = steep(subject)
#     return lambda z: -measure(z)
#
#
# for name in ("clean", "TrAIL", "ReX"):
#     place, value = climb(subjects[name], flat(subjects[name]), config.seed, starts=2)
#     print(f"{name}: {value:.2g}, cosine to the trigger {float(cosine_similarity(place, triggers[name])):.2f}")
#
# suspected = candidate_directions(detect.analyse_weights(subjects["ReX"]))
# z = on_shell(torch.cat([suspected, -suspected]))
# values = odd(subjects["ReX"])(z)
# print(f"ReX, from suspected directions: {float(cosine_similarity(z[values.argmax()][None], triggers['ReX'])):.2f}")
# ```
#
# A start that the weights suggest is worth more than a better property to climb.
#
# </details>

# %% [markdown]
# ## What would a defender see?
#
# * **In samples**: garments, however many are drawn.
# * **In a climb**: odd garments, in clean generators too.
# * **In a reconstruction**: the target, if somebody suspects it and the starts are good.
# * **At the door**: the trigger, at the moment of its use, and now and then an innocent latent.
#
# ## What would an attacker do?
#
# * Against samples: nothing, geometry is on the attacker's side.
# * Against reconstruction: choose a target that nobody thinks of, or one that looks like the training data, and keep
#   the door closed to gradients (a gate).
# * Against the guard: put the trigger where it wakes few units, and keep hidden values in their usual range. The guard
#   can be rehearsed against by whoever knows it; its seed and the latents that it learns from should stay private.
# * Against all of it: do not use the trigger. A guard finds uses, not files.
#
# ## Limits
#
# One network, one data set, one model of each attack, low resolution. Reconstruction and the blind search
# take gradients, so they need the file; with queries alone they cost very many. Latents keep typical length here:
# triggers of kind `mode` and `ood` are out of reach of the searches, and the guard's first check is there for them.
#
# ## Responsible use
#
# Scan only models that you may copy and run. A finding is a reason to ask, not a proof: publish the report with its
# level, its false alarms and its version, and let the maker of the model answer first. A verdict "clean" must never be
# sold as a guarantee. Keep backdoored files labelled, and in the room.

# %%
quiz(
    [
        (
            "Why do samples not show the backdoor?",
            [
                "too few pixels",
                "the share of the sphere near the trigger is negligible",
                "the classifier is too weak",
                "the target is hidden by tanh",
            ],
            1,
            "In 100 dimensions a cap of some degrees holds next to nothing of the sphere.",
        ),
        (
            "The blind search ends at odd pictures. What do they prove?",
            ["a backdoor", "nothing: clean generators have such places too", "bad training", "a wrong seed"],
            1,
            "A search needs a property that clean generators do not have.",
        ),
        (
            "When does reconstruction help?",
            [
                "always",
                "when the target is suspected, unusual, and the search starts where the gradient sees it",
                "only with training data",
                "when many samples are drawn",
            ],
            1,
            "Each of the three conditions can fail.",
        ),
        (
            "What does the guard learn from?",
            ["known triggers", "a clean reference", "ordinary latents alone", "the training data"],
            2,
            "It flags what is unusual for this very network.",
        ),
        (
            "A report says 'clean'. What does it mean?",
            ["no backdoor", "these detectors found nothing", "the model is safe to sell", "it was not scanned"],
            1,
            "Absence of evidence, at a stated level.",
        ),
    ]
)

# %% [markdown]
# ## Key points
#
# * Sampling cannot meet a trigger: the chance falls exponentially with the latent dimension.
# * Odd places exist in clean generators too; climbing to them finds garments gone wrong, and no trigger.
# * Reconstruction answers "can it show *this*?" and needs a suspicion and good starts; weights can supply the starts.
# * A guard sees the trigger when it is used, whatever it shows, for a measured price.
# * A scan is evidence at a level, with false alarms; its "clean" is not a guarantee.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN: Backdoor Attacks and Defenses in Deep Generative Models*,
#   [arXiv 2108.01644](https://arxiv.org/abs/2108.01644), 2021: output inspection by sampling and by optimisation.
# * B. Wang et al., *Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks*, IEEE Symposium on
#   Security and Privacy, 2019: searching for triggers of classifiers.
# * Y. Gao et al., *STRIP: A Defence Against Trojan Attacks on Deep Neural Networks*, arXiv 1902.06531, 2019: looking at
#   inputs while a classifier is in use.
# * J. Pickands, *Statistical Inference Using Extreme Order Statistics*, Annals of Statistics 3, 1975: the
#   guard's limits.
# * H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST*, arXiv 1708.07747, 2017 (the data behind the generators).

# %%
numbers = {
    "oddest_sample": odd_scores,
    "oddity_range": {"between_models": between_models, "between_seeds": between_seeds},
    "width_degrees": width,
    "log10_chance_per_sample": chance,
    "blind_search": {
        f"{kind}, {name}": {
            "found": [value for _, value in climbs[kind, name]],
            "at_trigger": at_trigger[kind, name],
            "cosine": cosines[kind, name],
        }
        for kind, name in climbs
    },
    "reconstruction": {f"{how}, {name}": values for (how, name), values in errors.items()},
    "found_of_three": {f"{how}, {name}": count for (how, name), count in hits.items()},
    "wrong_suspicion": wrong_errors,
    "garments": garment_errors,
    "garments_by_mirror_image_on_clean": alone,
    "guard": guard_rows,
    "guard_false_alarms_of": ORDINARY,
    "guard_near_of": NEAR,
    "guard_cost": {str(n): middle for n, (_, middle, _) in costs.items()},
    "guard_fit_seconds": fit_seconds,
    "scan": {
        name: {"verdict": one.verdict, "strengths": one.strengths, "seconds": one.seconds}
        for name, one in (("clean", baseline), (config.suspect, report))
    },
    "scan_clean_strengths": clean_strengths,
    "scan_cosines": along,
    "estimate_cosine": estimate_cosine,
}
finish(config, numbers)
