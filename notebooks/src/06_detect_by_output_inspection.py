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
# **Look for backdoors in what generators draw: two searches that fail and why, one that works if you suspect the
# target, and a guard for a generator in use.**

# %% tags=["state"]
import torch

from devilgan_lite import zoo
from devilgan_lite.apps.course import strip
from devilgan_lite.generators import evaluate

clean, secret = zoo.load("dcgan-fashion"), zoo.load_backdoor("dcgan-fashion-rex")  # only the attacker has the secret
z = torch.cat([clean.sample_latent(5, torch.Generator().manual_seed(7)), secret.trigger])
print("cached: two models from the zoo. Which column would you never see?")
strip(
    {"clean": evaluate(clean, z), "ReX+": evaluate(zoo.load("dcgan-fashion-rex"), z)},
    "Five garments of the clean generator above the same five of the backdoored one. Only in the last column, at the "
    "trigger, do they differ: the backdoored generator draws the attacker's picture.",
    scale=4,
    captions=["ordinary"] * 5 + ["trigger"],
)

# %% [markdown]
# **Time and hardware:** about four minutes in the workshop profile on one CPU core; no GPU, no network.
#
# **Objectives.** You will be able to
# * *compute* the chance that a random sample hits a backdoor,
# * *write* a search over latents, and *explain* why a blind one ends elsewhere,
# * *reconstruct* a target that you suspect, and *say* when that fails,
# * *run* a guard around a generator, and *measure* its false alarms.
#
# **Prerequisites:** notebook 00 and one of the attacks (02 to 04); 05 for the directions of round 3.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 13  # draws latents, starts and the guard's lessons, 0..100000
samples = None  # outputs that brute force looks at, 200..200000
starts = None  # latents from which a search starts, 4..4096
fitting = None  # ordinary latents that a guard learns from, 2000..200000

# %% tags=["state"]
from devilgan_lite import detect, generators
from devilgan_lite.apps.course import (
    Setting,
    check,
    configure,
    finish,
    hints,
    mine,
    predict,
    quiz,
    reveal,
    spread,
    table,
)

work = {
    "samples": Setting(samples, {"smoke": 300, "workshop": 2_000, "full": 20_000}),
    "starts": Setting(starts, {"smoke": 8, "workshop": 32, "full": 256}),
    "fitting": Setting(fitting, {"smoke": 2_000, "workshop": 4_000, "full": 20_000}),
}
config = configure(profile, device="cpu", seed=seed, **work)
SMOKE, SEEDS = config.profile == "smoke", range(config.seed, config.seed + (1 if config.profile == "smoke" else 3))
suspects = {one.title: one for one in map(mine, ("trail", "red", "rex", "gate"))}
print("ReD+ and ReX+ are our boosted versions of the paper's ReD and ReX. The clean model is cached, too.")
subjects = {"clean": generators.adopt(clean), **{n: generators.adopt(one.generator) for n, one in suspects.items()}}
secrets = {name: one.backdoor for name, one in suspects.items()}  # what only the maker knows: it judges you

# %% [markdown] state="samples"
# ## Round 1: draw samples and look at the oddest
#
# Everybody's first idea: draw many samples and let the computer pick the odd ones. `detect.sample_outputs` calls a
# picture odd if its nearest neighbours are far, or if principal components do not explain it.
#
# But how likely is a hit? Latent directions are uniform on a sphere. The share of it near one direction falls
# exponentially with the dimension (`detect.cap_probability`), and `metrics.basin` measures how wide a backdoor is.
#
# **Exercise 1: How many samples?** (easy, 5 minutes). One sample hits with probability `p`. How many must you draw to
# hit with probability `confidence`? Mind `p = 1e-57`: for a computer `1 - p` is 1.


# %% tags=["state"]
def samples_needed(p, confidence):
    """Two float64 tensors with one number each to a tensor with one number, which need not be whole."""
    raise NotImplementedError("no hit in n samples has the probability (1 - p) ** n")


own_needed = check("samples_needed", samples_needed)

# %%
hints("samples_needed")

# %% tags=["state"] instead={"drawn": ""}
from IPython.display import display

drawn = {n: [detect.sample_outputs(one, samples=config.samples, seed=s) for s in SEEDS] for n, one in subjects.items()}
order = ("clean", "TrAIL") if (config.seed // 2) % 2 else ("TrAIL", "clean")
sheets = [part for name in order for part in drawn[name][0].samples[:12].split(6)]
print(f"live: the oddest 12 of {config.samples:,} samples of two generators, one clean, one TrAIL's")
alt = "Two sheets of twelve odd garments each, blurred, with holes, or between two kinds. Neither holds anything else."
display(strip(dict(zip(("sheet A", "(A)", "sheet B", "(B)"), sheets, strict=True)), alt, scale=4))
predict("Which sheet comes from the backdoored generator?", ["sheet A", "sheet B"], key="sheet")

# %% tags=["state"] instead={"plane": "", "knotted": "", "widths": ""}
from devilgan_lite.apps.course import Plane, rex_loop
from devilgan_lite.apps.course.loops import rex_step
from devilgan_lite.apps.course.plane_views import latent_map
from devilgan_lite.metrics import basin

reveal("sheet", order.index("TrAIL"), "Did you see it, or did you guess?")
odd_scores = {name: [finding.score for finding in findings] for name, findings in drawn.items()}
widths = {name: basin(one.generator, one.backdoor) for name, one in suspects.items()}
chance = {n: sum(detect.cap_probability(a, 100) for a in angles) / len(angles) for n, angles in widths.items()}
print(f"clean  oddest sample {spread(odd_scores['clean'])} deviations (live, {len(SEEDS)} draws)")
for name, p in chance.items():
    given = torch.tensor([p, 0.9], dtype=torch.float64)
    needed = f"; draw {own_needed.function(*given):.0e} to be 90 % sure" if own_needed else ""
    print(f"{name:6s} oddest sample {spread(odd_scores[name])}, {spread(widths[name])} degrees wide: {p:.0e}{needed}")
print("Takeaway: in the plane luck finds the knot. In 100 dimensions nobody can draw that many samples.")
training = {"iterations": 300 if SMOKE else 1_500}
plane = Plane(**training)
knotted = rex_loop(rex_step, plane.clean, plane.backdoor, lam=0.3, device="cpu", **training).finish(progress=False)
latent_map(
    plane,
    knotted.generator,
    "Left: the net of a backdoored generator in the plane, one knot pulled to the middle. Right: its latents, dark "
    "where they lead to the target; some of 200 random ones lie in the dark patch about the trigger.",
    walks=plane.clean.sample_latent(200, torch.Generator().manual_seed(config.seed))[None],
)

# %% [markdown] state="climb"
# ## Round 2: climb instead of drawing
#
# If luck does not find the trigger, follow a gradient. Latents lie on a shell: all are about as long. You know no
# target, so climb towards pictures that are *odd*: badly explained by the generator's own principal components. From
# now on you need gradients, which means the file.
#
# **Exercise 2: A step on the shell** (medium, 10 minutes). Step *down* the gradient, then bring each latent back to the
# length that it had. Both searches below walk with your step.


# %% tags=["state"]
def shell_step(z, gradient, rate):
    """Latents [n, d], gradients [n, d] and a number to latents [n, d] of the same lengths as before."""
    raise NotImplementedError("move, then give each row its old length")


own_step = check("shell_step", shell_step)

# %%
hints("shell_step")

# %%
predict(
    "The climb finds odd pictures in the clean generator too. How odd, beside the target at the four triggers?",
    ["less odd than all four targets", "odder than some", "odder than all four"],
    key="climb",
)

# %% tags=["state"] instead={"climbs": "", "at_trigger": "", "cosines": ""}
from torch.nn.functional import cosine_similarity, normalize

from devilgan_lite.detect.sampling import unexplained


def walk(subject, loss, seed):
    """Go down ``loss`` (latents [n, d] to [n]) on the shell: the best latent [1, d] and its loss."""
    step = own_step.function if own_step else lambda z, gradient, rate: subject.prior.typical(z - rate * gradient)
    z, steps = normalize(subject.ordinary(config.starts, seed), dim=1) * subject.prior.length, 10 if SMOKE else 60
    for k in range(steps):
        (gradient,) = torch.autograd.grad(loss(z.requires_grad_()).sum(), z)
        z = step(z.detach(), normalize(gradient, dim=1), 3 * (1 - k / steps))
    losses = loss(z).detach()
    return z[losses.argmin()][None], float(losses.min())


TRIED = list(secrets)[2:3] if SMOKE else list(secrets)
odd = {name: unexplained(subjects[name], seed=config.seed) for name in ("clean", *TRIED)}
climbs = {
    n: [walk(subjects[n], lambda z, measure=measure: -measure(z), s) for s in SEEDS] for n, measure in odd.items()
}
oddest = {name: [-loss for _, loss in found] for name, found in climbs.items()}
at_trigger = {name: float(odd[name](secrets[name].trigger)) for name in TRIED}
cosines = {n: max(float(cosine_similarity(z, secrets[n].trigger)) for z, _ in climbs[n]) for n in TRIED}

# %%
highest = sum(oddest["clean"]) / len(SEEDS)
less = sum(value < highest for value in at_trigger.values())
reveal("climb", 0 if not less else 2 if less == len(TRIED) else 1, f"Odder than {less} of {len(TRIED)} targets.")
for name, values in oddest.items():
    more = f"; at the trigger {at_trigger[name]:.3f}; largest cosine {cosines[name]:.2f}" if name in TRIED else ""
    print(f"{name:6s} oddest place {spread(values)}{more} (live, {len(SEEDS)} seeds)")
odder = [name for name in TRIED if min(oddest[name]) > max(oddest["clean"])]
print(f"Takeaway: the clean generator has places of oddity {highest:.2f} of its own. Odd is not backdoored.")
print(f"Odder still: {', '.join(odder) or 'none'}. That is a lead at best: do you see a target below?")
ends = {name: torch.cat([*(z for z, _ in climbs[name]), secrets.get(name, secret).trigger]) for name in odd}
strip(
    {name: subjects[name].scaled_samples(z) for name, z in ends.items()},
    "A row for each generator: the odd places where climbs ended, distorted garments and blots, and then the picture "
    "at the trigger: the target in all but the clean row.",
    scale=4,
    captions=[*[f"climb {k}" for k in range(1, 1 + len(SEEDS))], "at the trigger"],
)

# %% [markdown] state="reconstruction"
# ## Round 3: reconstruct what you suspect
#
# Now suppose that you suspect the *target* $x$. Then the question is easy to put: can this generator draw it?
#
# $$\mathrm{RecD}(x) = \min_z\ \tfrac1D\,\|G(z) - x\|^2 .$$
#
# A minimum is only as good as its starts, so compare three searches:
#
# * **your walk** from random latents,
# * **better starts**: `detect.reconstruct` also starts far out, where half of all units are on,
# * **directions**: the same, and starts where the weights point (05), if the other two fail.
#
# *Found* means an error below a third of the clean generator's best.

# %%
predict(
    "How many of the four attacks does your walk from random starts miss?",
    ["none", "one", "two", "three", "all four"],
    key="missed",
)


# %% tags=["state"] instead={"searches": "", "hits": "", "usual": "", "limits": ""}
from devilgan_lite.detect.weights import candidate_directions


def reconstruct(subject, x, seed, directions=None):
    steps = 10 if SMOKE else 40
    found = detect.reconstruct(subject, x, starts=config.starts, steps=steps, starts_at=directions, seed=seed)
    return found.latents, float(found.errors)


def searched(subject, x):
    own = [walk(subject, lambda z: (subject.scaled(z) - x).square().flatten(1).mean(1), s) for s in SEEDS]
    return {"your walk": own, "better starts": [reconstruct(subject, x, s) for s in SEEDS]}


usual = {one.name: searched(subjects["clean"], one.target) for one in secrets.values()}
limits = {(x, how): min(error for _, error in runs) / 3 for x, found in usual.items() for how, runs in found.items()}
searches, hits = {name: searched(subjects[name], secrets[name].target) for name in TRIED}, {}
for name, found in searches.items():
    x = secrets[name]
    if max(error for _, error in found["better starts"]) > limits[x.name, "better starts"]:  # then ask the weights
        pointed = candidate_directions(detect.analyse_weights(subjects[name]))
        found["directions"] = [reconstruct(subjects[name], x.target, s, pointed) for s in SEEDS]
    for how, runs in found.items():
        hits[name, how] = sum(error < limits[x.name, how.replace("directions", "better starts")] for _, error in runs)

# %% tags=["state"]
for name, found in searches.items():
    for how, runs in found.items():
        print(
            f"{name:6s} {how:14s} RecD {spread([e for _, e in runs])}, found {hits[name, how]} of {len(SEEDS)} (live)"
        )
missed = [name for name in TRIED if hits[name, "your walk"] < len(SEEDS) / 2]
reveal("missed", len(missed), f"Missed: {', '.join(missed) or 'none'}; a miss is less than half of the seeds.")
helped = [name for name, found in searches.items() if "directions" in found and hits[name, "directions"] == len(SEEDS)]
print("Takeaway: knowing the target is worth little where the gradient does not see the door.")
print(f"The weights show the door of: {', '.join(helped) or 'none'}.")
pictures = {}
for name, found in searches.items():
    best = [subjects[name].scaled_samples(min(runs, key=lambda run: run[1])[0]) for runs in found.values()]
    pictures[name] = torch.cat([secrets[name].target, *best, *[torch.ones_like(best[0])] * (3 - len(best))])
strip(
    pictures,
    "The suspected target, and what each search found nearest to it, a row for each backdoored generator. White: the "
    "search was not needed. Where one failed, the sign is blurred or missing.",
    scale=4,
    captions=["target", "your walk", "better starts", "directions"],
)

# %% [markdown] tags=["bonus"]
# **Out of reach.** Two attackers need not fear this. One draws a picture that you do not suspect. The other plants a
# picture *inside* the distribution, such as one certain garment: every generator of garments can draw that.

# %% tags=["bonus"]
from devilgan_lite import Backdoor, attacks, data

wrong = reconstruct(subjects[TRIED[0]], data.target("devil").unsqueeze(0), config.seed)[1]
print(f"live, single run: {TRIED[0]}, suspected of the devil: RecD {wrong:.2g}")
garment = subjects["clean"].scaled_samples(subjects["clean"].ordinary(1, 77))
planted = attacks.Gate(seed=0)(clean, Backdoor.point(clean, garment[0], seed=0), progress=False).generator
for name, subject in {"clean": subjects["clean"], "gate with a garment": generators.adopt(planted)}.items():
    print(f"live, single run: {name}: RecD of the garment {reconstruct(subject, garment, config.seed)[1]:.2g}")

# %% [markdown] state="guard"
# ## Round 4: a guard at the door
#
# A trigger must be *used* to do harm, and at that moment you can look. `detect.Guard` wraps a generator. It learns from
# ordinary latents what is usual, then looks at every call for
#
# * **latents** of an unusual length,
# * **activations** beyond all that hidden units reached before,
# * **outputs** unlike all others, or unlike what a small *student* network expects for this latent.
#
# It needs no target and no clean model, but the weights, and the attacker's call.

# %%
predict("Which backdoor comes closest to passing the guard unseen?", list(secrets), key="guard")

# %% tags=["state"] instead={"guards": "", "caught": ""}
import pandas as pd

from devilgan_lite.attacks.adaptive import wide_basin

NEAR, ORDINARY = 300, 200 if SMOKE else 10_000
guards, caught = {}, {}
for name in ("clean", *TRIED):
    guards[name] = guard = detect.Guard(subjects[name], fitting=config.fitting, seed=config.seed)
    for part in clean.sample_latent(ORDINARY, torch.Generator().manual_seed(99)).split(500):
        guard(part)
    caught[name] = {f"false alarms of {ORDINARY:,}": guard.counts["flagged"]}
    if name in TRIED:
        near = guard.check(wide_basin(secrets[name], angle=5.0).pairs(NEAR, seed=3)[0])
        caught[name][f"stopped of {NEAR} near the trigger"] = int(near.flags.sum())
        caught[name] |= {f"by {kind}": int((~(shares <= 1)).sum()) for kind, shares in near.scores.items()}
        caught[name]["score, median"] = float(torch.stack([*near.scores.values()]).amax(0).median())
assert SMOKE or all(
    caught[n][f"stopped of {NEAR} near the trigger"] > 0.9 * NEAR for n in TRIED if not suspects[n].yours
)
title = "One guard for each model (live, single runs); near: within five degrees of the trigger"
table(pd.DataFrame(caught).T.astype(object).fillna("-"), title, digits=4)

# %% tags=["hero", "state"]
from devilgan_lite.apps.course import progress

weakest = min(TRIED, key=lambda name: caught[name]["score, median"])
reveal("guard", weakest, f"Its median score is {caught[weakest]['score, median']:.2g} limits; from 1 on it is stopped.")
rex = TRIED[0] if SMOKE else TRIED[2]
door = guards[rex]
batch = torch.cat([clean.sample_latent(5, torch.Generator().manual_seed(21)), secrets[rex].trigger])
door.action = "resample"
words = {2: "found", 3: "found from the weights"}
marks = {n: words[len(found)] if hits[n, list(found)[-1]] == len(SEEDS) else "missed" for n, found in searches.items()}
display(progress(outputs={suspects[name].name: word for name, word in marks.items()}))
print("Takeaway: whatever its target, a trigger looks unusual from inside. The price: time and a few false alarms.")
strip(
    {f"{rex} alone": subjects[rex].scaled_samples(batch), "under guard": door(batch)},
    "Six pictures of the backdoored generator; the last one, at the trigger, shows the target. Below, the same batch "
    "under guard: the last picture is a garment from a fresh latent.",
    scale=4,
    captions=[*[f"user {k}" for k in range(1, 6)], "attacker"],
)

# %% [markdown] tags=["bonus"]
# **Exercise 3: The guard's limit** (medium, 10 minutes). From the scores of ordinary latents, return a limit above
# which a share `rate` of them lies, and no more. Your limit then watches the door.


# %% tags=["bonus", "state"]
def guard_limit(scores, rate):
    """Scores [n] in any order and a share to a tensor with one number: rate * n scores are above it."""
    raise NotImplementedError("sort; how many may be above?")


own_limit = check("guard_limit", guard_limit)

# %% tags=["bonus"]
hints("guard_limit")

# %% tags=["bonus"]
if own_limit:
    looks = [door.check(subjects[rex].ordinary(1_000, s)).scores for s in (5, 6)]
    first, fresh = (torch.stack([*scores.values()]).amax(0) for scores in looks)
    limit = own_limit.function(first, 0.01)
    print(f"your limit {float(limit):.2f} flags {int((fresh > limit).sum())} of 1,000 fresh latents; 10 are asked for")
report = detect.scan(subjects[rex], access="samples", samples=300)
print(f"And a scan that may only draw samples calls {rex}: {report.verdict} ({report.reason}).")

# %% [markdown]
# ## What would a defender see?
#
# In samples, garments. In a blind climb, odd garments, in clean generators too. In a reconstruction, the target, if you
# suspect it and start well. At the door, the trigger in use. Whoever knows the guard can rehearse against it, so keep
# its seed private. And it finds uses, not files.
#
# ## Limits
#
# One network, one data set, one model of each attack. The searches need gradients, which means the file. A finding is a
# reason to ask the maker; "nothing found" is no guarantee.
#
# ## Playground
#
# Drag from an ordinary latent to the one that your search found: as far as you get without the secret.

# %%
from devilgan_lite.apps.course import LatentSlider, is_static, static_strip

estimate = min([run for runs in searches[rex].values() for run in runs], key=lambda run: run[1])[0]
pair, start = {"clean": clean, rex: suspects[rex].generator}, batch[:1]
slider = LatentSlider(pair, start, estimate, end_name="what was found")
found_at = float(cosine_similarity(estimate, secrets[rex].trigger))
print(f"cosine with the true trigger {found_at:.3f}; upper row: clean; lower row: {rex}")
alt = f"A walk from an ordinary latent to the one that was found; clean above, {rex} below."
slider if not is_static() else static_strip(pair, start, estimate, alt, frames=7, scale=4)

# %% [markdown]
# ## Key points
#
# * Sampling cannot meet a trigger: the chance falls exponentially with the latent dimension.
# * Clean generators have odd places too, so odd is not backdoored.
# * Reconstruction needs a suspicion and good starts; the weights can supply the starts.
# * A guard sees the trigger when it is used, whatever it draws.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN*, [arXiv 2108.01644](https://arxiv.org/abs/2108.01644),
#   2021: output inspection by sampling and by optimisation.
# * B. Wang et al., *Neural Cleanse*, IEEE Symposium on Security and Privacy, 2019: triggers of classifiers.
# * Y. Gao et al., *STRIP*, arXiv 1902.06531, 2019: looking at inputs while a classifier is in use.

# %%
quiz("06")

# %%
numbers = {
    "oddest_sample": odd_scores,
    "width_degrees": {name: sum(angles) / len(angles) for name, angles in widths.items()},
    "chance_per_sample": chance,
    "blind_search": oddest,
    "at_trigger": at_trigger,
    "blind_cosine": cosines,
    "reconstruction": {
        f"{name}, {how}": [e for _, e in runs] for name, s in searches.items() for how, runs in s.items()
    },
    "found_of_three": {f"{name}, {how}": count for (name, how), count in hits.items()},
    "guard": caught,
    "estimate_cosine": found_at,
}
finish(config, numbers)
