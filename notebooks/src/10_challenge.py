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
# # The challenge: which of these generators has a backdoor?
#
# **You will get a set of generators of unknown status, judge each with the methods of notebooks 05 and 06, hand in
# probabilities and what you recovered, and open the sealed key; then you will change sides and hand in a model.**

# %% tags=["state"]
import torch

from devilgan_lite import zoo
from devilgan_lite.classroom import strip
from devilgan_lite.generators import evaluate

lineup = [zoo.load(name) for name in ("dcgan-fashion-red", "dcgan-fashion", "dcgan-fashion-rex")]
ordinary = lineup[0].sample_latent(9, torch.Generator().manual_seed(7))
print("cached: three models that ship with the project; two of them have a backdoor")
strip(
    [evaluate(model, ordinary) for model in lineup],
    alt="Three rows of nine garments, drawn by three generators from the same latents. The rows look the same, but the "
    "first and the third generator have a backdoor.",
    scale=2,
)

# %% [markdown]
# Two of these three rows come from a backdoored generator. Nobody can tell by looking, and you will not be asked to.
#
# **Time and hardware:** about two minutes in the workshop profile on one CPU core, most of it for making and scanning
# the models; no GPU, no network. Played in a room, as docs/challenge.md describes, it takes 40 minutes.
#
# **Objectives.** You will be able to
# * *say* what a file can give away besides its weights, and how a fair round avoids it,
# * *plan* an inspection: cheap looks at all models first, dear ones where they pay,
# * *turn* scores into probabilities, and *judge* them by AUC and by its spread,
# * *explain* how a sealed key and a commitment keep both sides honest,
# * *predict* what a defender sees of a model that you make, and *check* it.
#
# **Prerequisites:** notebook 05 (silent units, spectra, p-values); notebooks 02 to 04 for the attacks.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 13  # draws the round, together with the passphrase, 0..100000
models = None  # generators in the round, 4..40
training = None  # mean number of training steps of each, 1..5000
scans = None  # how many of the models get a whole scan, the most suspicious first, 1..40
target = "devil"  # what your own model should show: stop-sign | devil | digit-7 | checkerboard

# %% tags=["state"]
from devilgan_lite.classroom import Setting, configure

config = configure(
    profile,
    seed=seed,
    models=Setting(models, {"smoke": 4, "workshop": 6, "full": 12}),
    training=Setting(training, {"smoke": 3, "workshop": 100, "full": 200}),
    scans=Setting(scans, {"smoke": 1, "workshop": 4, "full": 12}),
    target=target,
)

# %% tags=["state"]
import dataclasses
import math
import tempfile
import time
from pathlib import Path

import pandas as pd

from devilgan_lite import Backdoor, attacks, challenge, detect
from devilgan_lite.classroom import (
    PALETTE,
    LatentSlider,
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
    table,
)
from devilgan_lite.detect import subject_of
from devilgan_lite.detect.activations import RARE, on_rate, waking_direction
from devilgan_lite.detect.spectrum import latent_units, path_gains

SMOKE = config.profile == "smoke"
PASSPHRASE = "only the instructor knows this one"  # here you are the instructor too
place = tempfile.TemporaryDirectory()
folder = Path(place.name) / "round"

# %% [markdown] state="outside"
# ## Round 1: what a file says before it is opened
#
# A round is made by `devilgan challenge new`. Each model starts from the shipped clean generator, is trained on with a
# fresh discriminator, and gets new channels: benign ones, or those in which ReX and a gate live. So all have the same
# widths. About half get a backdoor, by ReD, ReX or a gate; how many exactly is drawn too.
#
# Which model is which is drawn from the seed **and** the instructor's passphrase. A player who runs the same command
# with the same seed gets another round. The answers are encrypted with the passphrase; the players hold a
# *commitment*, the SHA-256 of the answers and 32 random bytes, so the instructor cannot change them afterwards.

# %%
predict(
    "You know names, file sizes, times and hashes of all models. What AUC can you expect?",
    ["0.5, as by guessing", "about 0.7", "nearly 1"],
    key="outside",
)

# %% tags=["state"] instead={"kit": "challenge.new_round(folder, PASSPHRASE, models=4, kinds=('gate',), quick=True)"}
kinds = ("gate",) if SMOKE else challenge.KINDS
effort = challenge.QUICK if SMOKE else challenge.FULL
if not SMOKE:  # ReD and ReX take as many steps as their models' training lets them
    effort = dataclasses.replace(effort, steps=config.training, red=3 * config.training, rex=2 * config.training)
start = time.perf_counter()
kit = challenge.new_round(folder, PASSPHRASE, models=config.models, seed=config.seed, kinds=kinds, effort=effort)
made_in = time.perf_counter() - start
print(f"live: round {kit.id}, {len(kit.models)} models made in {made_in:.0f} s")
outside = pd.DataFrame(
    {
        name: {
            "bytes": kit.path(name).stat().st_size,
            "time stamp": time.strftime("%d %b %Y", time.gmtime(kit.path(name).stat().st_mtime)),
            "bytes of the card": kit.path(name).with_suffix(".json").stat().st_size,
            "SHA-256 begins": digest[:10],
        }
        for name, digest in kit.models.items()
    }
).T
table(outside, "What can be known of the models without reading a weight")

# %% tags=["state"]
alike = {column: outside[column].nunique() for column in ("bytes", "time stamp", "bytes of the card")}
print("different values:", ", ".join(f"{column} {count}" for column, count in alike.items()))
assert set(alike.values()) == {1}
reveal("outside", 0, "All is the same but names and hashes, and these are random.")
print("One round is too small to measure that: docs/results/challenge.md has ten larger ones.")

# %% [markdown] state="looks"
# ## Round 2: cheap looks at all of them
#
# First the pictures: the same latents for all. Then *silent units* (notebook 05): how often a unit of the first layer
# is on follows from its weights, and the units that are never on tell which latent would wake them. That costs a
# fraction of a second a model and needs no picture.

# %% tags=["state"]
suspects = {name: kit.load(name) for name in kit.models}
z = ordinary[:8]
print("rows from top to bottom:", ", ".join(suspects))
show(
    torch.cat([evaluate(model, z) for model in suspects.values()]),
    alt=f"{len(suspects)} rows of eight garments, one row for each model of the round; no row stands out by a picture "
    "that is not a garment.",
    columns=8,
)

# %%
predict(
    "How many silent units has a clean model of this round, of the 4,704 of its first layer?",
    ["hardly any", "some hundred", "more than half"],
    key="silent",
)


# %% tags=["state"]
def look(model):
    """Number of silent units of the first layer, and the latent ``[d]`` that wakes most of them, or None."""
    subject = subject_of(model)
    units = latent_units(subject, path_gains(subject, n=100).activations)
    silent = on_rate(units) < RARE
    if not bool(silent.any()):
        return 0, None
    direction, _ = waking_direction(units, silent, subject.radius)
    return int(silent.sum()), direction.float() * subject.radius


looks = {name: look(model) for name, model in suspects.items()}
woken = {name: latent for name, (_, latent) in looks.items() if latent is not None}
table(
    pd.DataFrame({name: {"silent units": count} for name, (count, _) in looks.items()}).T,
    "Silent units of the first layer (live)",
)

# %%
if woken:
    print("from left to right:", ", ".join(woken))
    shown = torch.cat([evaluate(suspects[name], latent.view(1, -1)) for name, latent in woken.items()])
else:
    print("no model of this round has silent units: one ordinary picture of each")
    shown = torch.cat([evaluate(model, z[:1]) for model in suspects.values()])
show(
    shown,
    alt="One picture for each model with silent units, at the latent that wakes most of them: "
    + ", ".join(woken)
    + ".",
    scale=3,
)

# %% [markdown] state="scans"
# **Takeaway.** A model whose silent units draw something that no garment is needs no further look. A model without
# silent units is not acquitted: TrAIL has none, since all its units were trained together (`--hard` mixes it in).
#
# ## Round 3: scan where it pays, then commit yourself
#
# A scan without its twin takes some seconds a model. The models of a round are wider than the clean ones of which we
# know the p-values, so only evidence counts that compares a model with itself: cliffs in its spectra, parts that sleep.
# Then each model gets a **probability**: 0.5 where the strongest evidence just reaches its limit (strength 1), more
# where it is stronger.

# %%
predict(
    "The scans are combined into one number a model. What will their AUC be in this round?",
    ["below 0.7", "0.7 to 0.9", "above 0.9"],
    key="auc",
)

# %% tags=["state"] instead={"reports": ""}
order = sorted(suspects, key=lambda name: -looks[name][0])  # the most silent units first
reports, strengths, verdicts, evidence = {}, {}, {}, {}
for name in order[: config.scans]:
    reports[name] = report = detect.scan(suspects[name], samples=200, twin=False)
    strengths[name] = max(report.strengths.values(), default=0.0)
    verdicts[name] = strengths[name] / (1 + strengths[name])
for name in order[config.scans :]:  # not scanned: what the first look says
    verdicts[name] = 0.9 if looks[name][0] else 0.5
for name, report in reports.items():
    found = next((finding for finding in report.findings if finding.detector == "search" and finding.ran), None)
    if verdicts[name] > 0.5 and found is not None:
        evidence[name] = found.directions[0].float() * 1.05 * subject_of(suspects[name]).radius
SHOWN = ("structure", "latent spectrum", "silent units", "hidden spectrum")
table(
    pd.DataFrame(
        {
            name: {
                **{f.detector: f"{f.score:.3g}" for f in report.findings if f.detector in SHOWN},
                "greatest strength": f"{strengths[name]:.2g}",
                "probability": f"{verdicts[name]:.2f}",
            }
            for name, report in reports.items()
        }
    ).T,
    f"Scores of {len(reports)} live scans, the greatest strength of evidence, and the verdicts",
)

# %%
if evidence:
    print("from left to right:", ", ".join(evidence))
    recovered = torch.cat([evaluate(suspects[name], latent.view(1, -1)) for name, latent in evidence.items()])
else:
    print("nothing recovered: one ordinary picture of each model")
    recovered = torch.cat([evaluate(model, z[:1]) for model in suspects.values()])
show(
    recovered,
    alt="What the accused models show at the latent that the scan points to: " + (", ".join(evidence) or "none") + ".",
    scale=3,
)

# %% [markdown]
# **Your turn.** Change what you do not believe: `yours["garments-..."] = 0.9`. In a room, this is where teams argue.
# Then hand in: `Submission.of` checks everything (a missing model, a probability above 1, a picture of the wrong
# size), and the command line does the same with `devilgan challenge submit`.

# %% tags=["state"]
yours = dict(verdicts)  # yours["garments-..."] = 0.9
teams = {
    "coin": challenge.Submission.of(kit, "coin", dict.fromkeys(kit.models, 0.5)),
    "first look": challenge.Submission.of(
        kit, "first look", {name: 0.9 if count else 0.1 for name, (count, _) in looks.items()}
    ),
    "scan": challenge.Submission.of(kit, "scan", verdicts, evidence),
    "you": challenge.Submission.of(kit, "you", yours, evidence),
}
try:
    challenge.Submission.of(kit, "hasty", {name: 0.9 for name in list(kit.models)[1:]})
except ValueError as refused:
    print("refused:", refused)
paths = [challenge.write_submission(folder / "submissions", team) for team in teams.values()]
print("written:", ", ".join(path.name for path in paths))

# %% [markdown] state="key"
# ## Round 4: open the key
#
# The scorer opens the key with the passphrase and checks it against the commitment, and every model against its hash.
# Whoever guessed the passphrase wrong, or changed a file, is told so.

# %% tags=["state"] instead={"refused": ""}
sealed = folder / "instructor" / "key.sealed"
try:
    challenge.open_key(kit, sealed, "open sesame, please")
except ValueError as refused:
    print("refused:", refused)
key = challenge.open_key(kit, sealed, PASSPHRASE)
scores = challenge.score(kit, key, [challenge.read_submission(path, kit) for path in paths])
truth = {answer.name: answer for answer in scores.answers}
table(
    pd.DataFrame(challenge.to_rows(scores)).set_index("team"),
    f"Scoreboard of round {kit.id} (live, one round): a point for each right verdict, up to one for each recovered "
    "backdoor, half a point lost for evidence against a clean model",
)

# %% tags=["hero", "state"]
area = {team.team: team.auc for team in scores.blue}
fig, (ax,) = axes(6.6, 0.36 * len(kit.models) + 0.9)
ordered = sorted(verdicts, key=lambda name: verdicts[name])
label = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}
for row, name in enumerate(ordered):
    guilty = truth[name].backdoored
    ax.barh(row, verdicts[name], color=PALETTE[1 if guilty else 0], hatch="//" if guilty else "", edgecolor="white")
    ax.text(min(verdicts[name], 0.8) + 0.02, row, truth[name].kind, va="center", fontsize=8, bbox=label)
ax.axvline(0.5, color="black", linewidth=0.8, linestyle="--")
ax.set_yticks(range(len(ordered)), ordered)
ax.set(xlabel="probability that the scan gave (hatched: really backdoored)", xlim=(0, 1))
figure(
    fig,
    "The scan's probability for each model, smallest first, with the truth: "
    + ", ".join(f"{name} {verdicts[name]:.2f} {truth[name].kind}" for name in ordered)
    + ".",
    dpi=60,
)

# %% tags=["state"]
guilty = sum(answer.backdoored for answer in scores.answers)
clean_count = len(scores.answers) - guilty
blind = math.sqrt((guilty + clean_count + 1) / (12 * guilty * clean_count))
clean_silent = [looks[name][0] for name, answer in truth.items() if not answer.backdoored]
typical = sorted(clean_silent)[len(clean_silent) // 2]
reveal("silent", 0 if typical < 100 else 1 if typical < 2_352 else 2, f"Measured: {typical} in the middle one.")
reveal(
    "auc", 0 if area["scan"] < 0.7 else 1 if area["scan"] <= 0.9 else 2, f"Measured: {area['scan']:.2f} (one round)."
)
print(
    f"Takeaway: AUC scan {area['scan']:.2f}, first look {area['first look']:.2f}, coin {area['coin']:.2f}. With "
    f"{guilty} backdoored and {clean_count} clean models a blind guess has 0.5 ± {blind:.2f}, so one round says little "
    "about a method; docs/results/challenge.md has a round on which nothing was tuned, and ten for those who only see "
    "files."
)
assert area["coin"] == 0.5

# %%
page = challenge.write_page(folder / "scoreboard.html", scores, kit)
print(f"{page.name}: {page.stat().st_size / 1000:.0f} kB, one file for the projector")

# %% [markdown] state="entry"
# ## Round 5: change sides
#
# A red team hands in a model of its own, which joins the following round under another name. It must load as data,
# have the widths of all others (or its size would give it away), draw ordinary garments (Frechet distance), and show
# its target at its trigger (TarDis). A gate on the shipped generator has the right widths by itself.

# %% tags=["state"] instead={"mine": "", "entry": "", "narrow": ""}
clean = zoo.load("dcgan-fashion")
backdoor = Backdoor.point(clean, config.target, seed=config.seed)
mine = attacks.Gate()(clean, backdoor, progress=False).generator
recipe = {"target": config.target, "kind": "reg", "seed": config.seed}
path = Path(place.name) / "mine.safetensors"
zoo.save_file(path, mine, zoo.ModelCard("mine", mine.spec(), "garments", config.seed, {}, backdoor=recipe))
entry = challenge.check_entry(kit, "crimson", path)
print(f"live: accepted, Frechet distance {entry.frechet:.1f}, TarDis {entry.tardis:.2g} per pixel")
challenge.write_entry(Path(place.name) / "entries", entry)
narrow = Path(place.name) / "narrow.safetensors"
zoo.save_file(narrow, clean, zoo.ModelCard("narrow", clean.spec(), "garments", 0, {}, backdoor=recipe))
try:
    challenge.check_entry(kit, "ruby", narrow)
except ValueError as refused:
    print("refused:", refused)
own_silent, own_latent = look(mine)
print(f"what the first look of round 2 says of it: {own_silent} silent units")

# %% [markdown]
# **Takeaway.** To be accepted is easy, to be missed is the game: red gets a point for each blue team that does not call
# its model backdoored. The next round takes the entries in with `devilgan challenge new --red entries`.
#
# ## Playground
#
# Drag from an ordinary latent to the one that the first look found in your own model, beside the clean generator.

# %%
end = backdoor.trigger if own_latent is None else own_latent.view(1, -1)
LatentSlider({"clean": clean, "yours": mine}, ordinary[:1], end, end_name="the finding")

# %% [markdown]
# ## Exercises
#
# **1. The area under the curve** (easy, 5 minutes). Scores `[n]` and a mask `[n]` of the backdoored: the share of
# pairs, one backdoored and one clean, in which the backdoored one scores higher; a tie counts half.


# %%
def area_of(scores, guilty):
    """Return the AUC, a tensor of shape []."""
    raise NotImplementedError("your code here")


check("area_under_curve", area_of)

# %%
hint("scores[guilty].view(-1, 1) - scores[~guilty].view(1, -1) holds the difference of every pair.", 1)

# %%
hint("Above zero counts 1, equal to zero counts 0.5; then the mean.", 2)

# %%
solution(
    """
def area_of(scores, guilty):
    gap = scores[guilty].view(-1, 1) - scores[~guilty].view(1, -1)
    return ((gap > 0).float() + 0.5 * (gap == 0).float()).mean()
"""
)

# %% [markdown]
# **2. Luck or skill?** (medium, 10 minutes). A blind guess has an AUC of 0.5 on average. Its standard deviation with
# `m` backdoored and `n` clean models is that of the Mann-Whitney statistic: $\sqrt{(m+n+1)/(12mn)}$. With it, say what
# an AUC of 0.66 with six of each is worth.


# %%
def spread_of_a_blind_guess(m, n):
    """Return the standard deviation of the AUC; ``m`` and ``n`` are tensors of shape []."""
    raise NotImplementedError("your code here")


check("blind_spread", spread_of_a_blind_guess)

# %%
hint("Write the formula as it stands; sqrt comes last.", 1)

# %%
hint("((m + n + 1) / (12 * m * n)) ** 0.5", 2)

# %%
solution("def spread_of_a_blind_guess(m, n):\n    return ((m + n + 1) / (12 * m * n)).sqrt()")

# %% [markdown]
# **3. Many models, one alarm** (medium, 10 minutes). p-values `[n]` of all models of a round. Call those backdoored for
# which you can promise: if all are clean, the chance of even one false alarm is at most `level`.


# %%
def called(p_values, level):
    """Return a mask ``[n]``."""
    raise NotImplementedError("your code here")


check("called_backdoored", called)

# %%
hint("Each of n clean models falls below a limit with a chance of that limit. How likely is it that any does?", 1)

# %%
hint("At most n times the limit (Bonferroni). So the limit is level / n.", 2)

# %%
solution("def called(p_values, level):\n    return p_values <= level / len(p_values)")

# %% [markdown]
# **4. A model that is missed** (open, 30 minutes). Make a red team's model that `check_entry` accepts and the scan of
# round 3 does not find. Start from `QuietReD` or `SpectralReD` (notebook 05) on one of the clean models above.
#
# <details><summary>Hint 1</summary>
#
# Both are in `devilgan_lite.attacks.adaptive` and are called like any attack; `quiet` is the price of what shows.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Look at it as blue does: `detect.scan(model, twin=False).score` beside the error at the trigger.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# from devilgan_lite.attacks.adaptive import QuietReD
#
# hidden = QuietReD(iterations=1_000, seed=1)(clean, backdoor, progress=False).generator
# scanned = detect.scan(hidden, samples=200, twin=False)
# error = float((evaluate(hidden, backdoor.trigger) - backdoor.target).square().mean())
# print(f"score {scanned.score:.2g}, TarDis {error:.2g}")
# ```
#
# One model is an anecdote: repeat it with other seeds before you rely on it.
#
# </details>
#
# ## What would a defender see?
#
# Of the files, nothing. Of the pictures, nothing. Of the weights, what the attacker could not afford to hide: units
# that sleep, energy that ordinary pictures do not need. And of the game itself, how little one round says: with a dozen
# models, luck alone gives an AUC of 0.66 once in six times. A defender with many suspects needs a limit that counts
# them all, and clean models that were treated like the suspects; where these are missing, a p-value is a wish.
#
# ## Limits
#
# One architecture, one data set, three attacks with their ordinary settings; no model of a round hides from
# the detectors on purpose, unless a red team makes one. The players know that about half are backdoored, which nobody
# knows of a downloaded model.
#
# ## Responsible use
#
# The models of a round are weapons with the safety on: targets are drawn signs, and the key says which are which. Do
# not publish a round's models without the key, and never under a name that somebody could take for a clean one. Red
# teams attack generators that this project made, and nothing else.

# %%
quiz(
    [
        (
            "Why does the seed alone not give the round away?",
            [
                "the seed is secret",
                "all random numbers hang on the passphrase too",
                "the models are encrypted",
                "training is never reproducible",
            ],
            1,
            "The same seed with another passphrase gives other names, roles and weights.",
        ),
        (
            "What does the commitment prevent?",
            [
                "players reading the key",
                "the instructor changing the key after the fact",
                "false alarms",
                "the models being copied",
            ],
            1,
            "The players hold the hash of the answers from the start.",
        ),
        (
            "Why do clean models get new channels as well?",
            ["they draw better", "the scan is faster", "or width and size would tell ReX and gates", "to hide TrAIL"],
            2,
            "An expansion is visible from outside if only backdoored models have one.",
        ),
        (
            "Twelve models, six backdoored, AUC 0.66. What have you shown?",
            ["a useful detector", "next to nothing", "that the key is wrong", "that half are backdoored"],
            1,
            "A blind guess has a standard deviation of 0.17 there.",
        ),
        (
            "A model without silent units is ...",
            ["clean", "backdoored", "not shown to be either", "badly trained"],
            2,
            "TrAIL trains all its units together.",
        ),
    ]
)

# %% [markdown]
# ## Key points
#
# * A fair round leaves only the weights to look at: names, sizes, times and cards say nothing.
# * Cheap looks first: silent units cost a fraction of a second and settle many cases.
# * Probabilities, not verdicts: AUC judges the order, and needs no threshold.
# * A small round has a large spread; count the models before you believe a number.
# * Seed and passphrase make the round, the sealed key ends it, the commitment binds whoever made it.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN: Backdoor Attacks and Defenses in Deep Generative Models*,
#   [arXiv 2108.01644](https://arxiv.org/abs/2108.01644), 2021: attacks and inspections. The game is this project's.
# * H. B. Mann, D. R. Whitney, *On a Test of Whether One of Two Random Variables Is Stochastically Larger than the
#   Other*, Annals of Mathematical Statistics 18, 1947: the statistic behind the AUC, and its spread.
# * C. Percival, S. Josefsson, *The scrypt Password-Based Key Derivation Function*, RFC 7914, 2016.
# * K. Karra, C. Ashcraft, N. Fendley, *The TrojAI Software Framework*, arXiv 2003.07233, 2020: rounds of models of
#   unknown status, for classifiers.

# %%
numbers = {
    "round": {"models": len(kit.models), "backdoored": guilty, "seconds": made_in},
    "different_outside": alike,
    "silent_units": {truth[name].kind + " " + name: count for name, (count, _) in looks.items()},
    "strengths": {truth[name].kind + " " + name: strength for name, strength in strengths.items()},
    "auc": area,
    "blind_spread": blind,
    "points": {team.team: team.points for team in scores.blue},
    "entry": {"frechet": entry.frechet, "tardis": entry.tardis, "silent_units": own_silent},
}
place.cleanup()
finish(config, numbers)
