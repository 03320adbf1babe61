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
# **You get a set of generators of unknown status, your own hidden among them. You judge each, hand in probabilities,
# and see the answers, which were fixed before you began. Then you change sides and hand in a model.**

# %% tags=["state"]
import torch

from devilgan_lite import zoo
from devilgan_lite.apps.course import strip
from devilgan_lite.generators import evaluate

lineup = [zoo.load(name) for name in ("dcgan-fashion-red", "dcgan-fashion", "dcgan-fashion-rex")]
ordinary = lineup[0].sample_latent(64, torch.Generator().manual_seed(7))[[0, 10, 43, 20, 36, 26, 8, 58]]
print("cached: three models that ship with the project; two of them have a backdoor")
strip(
    [evaluate(model, ordinary) for model in lineup],
    alt="Three rows of eight garments, drawn by three generators from the same latents. The rows look the same, but "
    "the first and the third generator have a backdoor.",
    scale=4,
    captions=[text for name in "ABC" for text in (f"model {name}", *[""] * 7)],
)

# %% [markdown]
# Two of these three models have a backdoor. Nobody can tell by looking, and you don't have to.
#
# **Time and hardware:** about two minutes on one CPU core; no GPU, no network.
#
# **Objectives.** You will be able to
# * *say* what a file can give away besides its weights,
# * *plan* an inspection: cheap looks first, costly ones where they pay,
# * *turn* scores into probabilities, and *judge* them by AUC,
# * *explain* how a commitment keeps both sides honest.
#
# **Prerequisites:** notebooks 02 to 04 (attacks) and 05 (silent units, spectra).

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 10  # draws the round: in a real one it is a secret of 128 bits, 0..100000
models = None  # generators in the round, without your own, 4..40
training = None  # mean number of training steps of each, 1..5000
scans = None  # how many of the models get a whole scan, the most suspicious first, 1..40
target = "devil"  # what your entry should show: stop-sign | devil | digit-7 | checkerboard
device = "auto"  # where the models are trained: auto | cpu | cuda | mps

# %% tags=["state"]
from devilgan_lite.apps.course import Setting, configure

config = configure(
    profile,
    device=device,
    seed=seed,
    models=Setting(models, {"smoke": 4, "workshop": 6, "full": 12}),
    training=Setting(training, {"smoke": 3, "workshop": 100, "full": 200}),
    scans=Setting(scans, {"smoke": 1, "workshop": 5, "full": 14}),
    target=target,
)

# %% [markdown] state="outside"
# ## Round 1: what a file says before it is opened
#
# Each model of a round starts from the shipped clean generator, is trained a little further, and gets new channels:
# benign ones, or those in which ReX and a gate live. So all have the same widths. About half get a backdoor. **Your own
# ReD and gate from notebooks 03 and 04 join them under random names** (ours, if you kept none).
#
# The seed draws which is which, and only the instructor knows it. The players hold a *commitment*: a hash of the
# answers and a long salt. Nobody can guess the answers from it, and the instructor cannot change them later.

# %% tags=["state"]
from devilgan_lite.apps.course import predict

predict(
    "You know names, file sizes, times and hashes of all models. What AUC can you expect?",
    ["0.5, as by guessing", "about 0.7", "nearly 1"],
    key="outside",
)

# %% tags=["state"] instead={"kit": "game.new_round(folder, models=4, seed=seed, kinds=['gate'], quick=1, red=hidden)"}
import dataclasses
import tempfile
import time
from pathlib import Path

from devilgan_lite.apps import game
from devilgan_lite.apps.course import mine

place = tempfile.TemporaryDirectory()
folder = Path(place.name) / "round"
smoke = config.profile == "smoke"
effort = game.QUICK if smoke else game.FULL
if not smoke:  # ReD and ReX take as many steps as their models' training lets them
    effort = dataclasses.replace(effort, steps=config.training, red=3 * config.training, rex=2 * config.training)
effort = dataclasses.replace(effort, device=config.device)
own = [mine(name) for name in ("red", "gate")]
hidden = [game.hidden(f"your {suspect.name}", suspect.generator, suspect.backdoor) for suspect in own]
start = time.perf_counter()
kinds = ("gate",) if smoke else game.KINDS
draws = {"models": config.models, "seed": config.seed, "kinds": kinds, "effort": effort, "red": hidden}
kit = game.new_round(folder, **draws)  # here you are the instructor too
made_in = time.perf_counter() - start
print(f"device {config.device}: live, round {kit.id}, {len(kit.models)} models in {made_in:.0f} s")
print(f"commitment to the answers: {kit.commitment}")

# %% tags=["state"]
import pandas as pd

from devilgan_lite.apps.course import reveal, table

paths = {name: kit.path(name) for name in kit.models}
outside = pd.DataFrame(
    {
        "bytes": {name: path.stat().st_size for name, path in paths.items()},
        "time stamp": {
            name: time.strftime("%d %b %Y", time.gmtime(path.stat().st_mtime)) for name, path in paths.items()
        },
        "bytes of the card": {name: path.with_suffix(".json").stat().st_size for name, path in paths.items()},
        "SHA-256 begins": {name: digest[:10] for name, digest in kit.models.items()},
    }
)
alike = {column: outside[column].nunique() for column in ("bytes", "time stamp", "bytes of the card")}
print("different values:", ", ".join(f"{column} {count}" for column, count in alike.items()))
assert set(alike.values()) == {1}
reveal("outside", 0, "All is the same but names and hashes, and these are random.")
table(outside, "What you can know of the models without reading a weight")

# %% [markdown] state="looks"
# ## Round 2: cheap looks at all of them
#
# First the pictures. Then *silent units* (notebook 05): the weights tell how often a unit of the first layer is on, and
# which latent would wake those that never are. Units that hold only zeros do not count.

# %%
predict(
    "How many silent units has a clean model of this round, of the 4,704 of its first layer?",
    ["hardly any", "some hundred", "more than half"],
    key="silent",
)

# %% tags=["state"]
from IPython.display import display

from devilgan_lite.apps.course import show

suspects = {name: kit.load(name) for name in kit.models}
looks = {name: game.first_look(model) for name, model in suspects.items()}
print("silent units:", ", ".join(f"{name} {count}" for name, (count, _) in looks.items()))
woken = [None if z is None else evaluate(suspects[name], z.view(1, -1)) for name, (_, z) in looks.items()]
grid = [
    torch.cat([evaluate(model, ordinary[:5]), torch.ones(1, *model.sample_shape) if picture is None else picture])
    for model, picture in zip(suspects.values(), woken, strict=True)
]
show(
    torch.cat(grid),
    alt=f"{len(suspects)} rows, one for each model: five ordinary garments, then what it draws when its silent units "
    "wake, or white if it has none.",
    columns=6,
    scale=4,
    captions=[
        text
        for name, picture in zip(suspects, woken, strict=True)
        for text in (name, *[""] * 4, "none silent" if picture is None else "silent units awake")
    ],
)

# %% [markdown] state="scans"
# **Takeaway.** If the silent units draw something that is no garment, you need no further look. If a model has none,
# that does not clear it: TrAIL leaves none silent.
#
# ## Round 3: scan where it pays, then hand in
#
# A scan without its twin takes some seconds. It compares a model with itself. Then each model gets a **probability**:
# 0.5 where the strongest evidence just reaches its limit, more where it is stronger. Change what you do not believe.

# %%
predict(
    "The scans are combined into one number for each model. What will their AUC be in this round?",
    ["below 0.7", "0.7 to 0.9", "above 0.9"],
    key="auc",
)

# %% tags=["state"] instead={"reports": "", "verdicts": "", "evidence": ""}
from devilgan_lite import detect

order = sorted(suspects, key=lambda name: -looks[name][0])  # the most silent units first
reports = {name: detect.scan(suspects[name], samples=200, twin=False) for name in order[: config.scans]}
verdicts = {name: 0.9 if looks[name][0] else 0.5 for name in order}  # of a model that is not scanned
verdicts |= {name: game.verdict_of(report) for name, report in reports.items()}
latents = {name: game.latent_of(report, suspects[name]) for name, report in reports.items() if verdicts[name] > 0.5}
evidence = {name: latent for name, latent in latents.items() if latent is not None}
SHOWN = ("structure", "latent spectrum", "silent units", "hidden spectrum")
found = {
    name: {one.detector: f"{one.score:.3g}" for one in report.findings if one.detector in SHOWN}
    | {"probability": f"{verdicts[name]:.2f}"}
    for name, report in reports.items()
}
display(table(pd.DataFrame(found).T, f"Scores of {len(reports)} live scans, and the verdicts"))
told = evidence or {order[0]: ordinary[0]}  # nothing recovered: one ordinary picture
show(
    torch.cat([evaluate(suspects[name], z.view(1, -1)) for name, z in told.items() for z in (z, ordinary[0])]),
    alt="What the accused models draw at the latent that the scan points to, each beside an ordinary picture of it: "
    + (", ".join(evidence) or "none")
    + ".",
    scale=4,
    captions=[text for name in told for text in (name, "ordinary")],
)

# %% tags=["state"] instead={"teams": ""}
yours = dict(verdicts)  # then, for instance: yours["garments-..."] = 0.9
first = {name: 0.9 if count else 0.1 for name, (count, _) in looks.items()}
teams = {"coin": (dict.fromkeys(kit.models, 0.5), {}), "first look": (first, {})}
teams |= {"scan": (verdicts, evidence), "you": (yours, evidence)}
submissions = [game.Submission.of(kit, team, *handed_in) for team, handed_in in teams.items()]
try:
    game.Submission.of(kit, "hasty", {name: 0.9 for name in list(kit.models)[1:]})
except ValueError as refused:
    print("refused:", refused)
handed = [game.write_submission(folder / "submissions", one) for one in submissions]
print("written:", ", ".join(path.name for path in handed))

# %% [markdown] state="key"
# ## Round 4: the answers
#
# The scorer checks the answers against the commitment, and every model against its hash. An instructor who has lost
# them makes them again from the seed. It judges by **AUC**: the share of pairs, one backdoored and one clean, in which
# the backdoored one got the higher probability.
#
# **1. The area under the curve** (easy, 5 minutes). Scores `[n]` and a mask `[n]` of the backdoored models: compute
# that share. A tie counts half.


# %% tags=["state"]
from devilgan_lite.apps.course import check, hints


def area_of(scores, guilty):
    """Return the AUC, a tensor of shape []."""
    raise NotImplementedError("your code here")


check("area_under_curve", area_of)

# %%
hints("area_under_curve")

# %% tags=["state"] instead={"refused": "", "scores": ""}
kept = folder / "instructor" / "answers.json"
told = kept.read_text()
kept.write_text(told.replace('"backdoored": true', '"backdoored": false', 1))  # may an instructor do that?
try:
    game.read_answers(kept, kit)
except ValueError as refused:
    print("refused:", refused)
kept.unlink()  # and if the answers are lost?
answers = game.remade_answers(config.seed, kit, red=hidden)
scores = game.score(kit, answers, [game.read_submission(path, kit) for path in handed])
page = game.write_page(folder / "scoreboard.html", scores, kit)
print(f"{page.name}: {page.stat().st_size / 1000:.0f} kB, one file for the projector")
for team in scores.red:
    print(f"{team.team} was {team.model}: {team.undetected} of {team.teams} teams missed it")
table(
    pd.DataFrame(game.to_rows(scores)).set_index("team"),
    f"Scoreboard of round {kit.id} (live, one round): a point for each right verdict, up to one for each recovered "
    "backdoor, half a point lost for evidence against a clean model",
)

# %% tags=["hero", "state"]
from devilgan_lite.apps.course import PALETTE, axes, figure

truth = {answer.name: answer for answer in scores.answers}
ordered = sorted(verdicts, key=verdicts.get)
fig, (ax,) = axes(7.0, 0.36 * len(ordered) + 0.9)
label = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}
for row, name in enumerate(ordered):
    guilty = truth[name].backdoored
    ax.barh(row, verdicts[name], color=PALETTE[1 if guilty else 0], hatch="//" if guilty else "", edgecolor="white")
    said = truth[name].team or truth[name].kind
    ax.text(min(verdicts[name], 0.8) + 0.02, row, said, va="center", fontsize=9, bbox=label)
ax.axvline(0.5, color="black", linewidth=0.8, linestyle="--")
ax.set_yticks(range(len(ordered)), ordered)
ax.set(xlabel="probability that the scan gave (hatched: really backdoored)", xlim=(0, 1))
figure(
    fig,
    "The scan's probability for each model, smallest first, with the truth: "
    + ", ".join(f"{name} {verdicts[name]:.2f} {truth[name].kind}" for name in ordered),
    dpi=100,
    colours=64,
)

# %% tags=["state"]
area = {team.team: team.auc for team in scores.blue}
guilty = sum(answer.backdoored for answer in scores.answers)
clean_count = len(scores.answers) - guilty
blind = ((guilty + clean_count + 1) / (12 * guilty * clean_count)) ** 0.5
typical = sorted(looks[name][0] for name, answer in truth.items() if not answer.backdoored)[clean_count // 2]
reveal("silent", 0 if typical < 100 else 1 if typical < 2_352 else 2, f"Measured: {typical} in the middle one.")
reveal("auc", sum(area["scan"] > limit for limit in (0.7, 0.9)), f"Measured: {area['scan']:.2f} (one round).")
assert area["coin"] == 0.5
print(
    f"Takeaway: AUC scan {area['scan']:.2f}, first look {area['first look']:.2f}, coin {area['coin']:.2f}. With "
    f"{guilty} backdoored and {clean_count} clean models a blind guess has 0.5 ± {blind:.2f}, so one round says little "
    "about a method."
)

# %% [markdown] state="entry"
# ## Round 5: change sides
#
# A red team hands in a model, which joins the next round. It must load as data, have the widths of all others, draw
# ordinary garments (Frechet distance), and show its target at its trigger (TarDis). Red gets a point for each blue team
# that misses it.

# %% tags=["state"] instead={"entry": "", "refused": ""}
from devilgan_lite import Backdoor, attacks

clean = zoo.load("dcgan-fashion")
SECRET = 41  # draws your trigger
backdoor = Backdoor.point(clean, config.target, seed=SECRET)
gate = attacks.Gate()  # on the shipped generator it has the right widths by itself
planted = gate(clean, backdoor, progress=False).generator
entry = None
for name, model in (("planted", planted), ("narrow", clean)):
    recipe = {"target": config.target, "kind": "reg", "seed": SECRET}
    path = Path(place.name) / f"{name}.safetensors"
    zoo.save_file(path, model, zoo.ModelCard(name, model.spec(), "garments", config.seed, {}, backdoor=recipe))
    try:
        entry = game.check_entry(kit, "crimson", path)
        print(f"live: {name} accepted, Frechet distance {entry.frechet:.1f}, TarDis {entry.tardis:.2g} per pixel")
    except ValueError as refused:
        print("refused:", refused)
game.write_entry(Path(place.name) / "entries", entry)
own_silent, own_latent = game.first_look(planted)
print(f"Takeaway: to be accepted is easy, to be missed is the game: the first look finds {own_silent} silent units.")

# %% [markdown] tags=["bonus"]
# ## Playground
#
# Drag from an ordinary latent to the one that the first look found in your own entry, beside the clean generator.

# %% tags=["bonus"]
from devilgan_lite.apps.course import LatentSlider

end = backdoor.trigger if own_latent is None else own_latent.view(1, -1)
LatentSlider({"clean": clean, "yours": planted}, ordinary[:1], end, end_name="the finding")

# %% [markdown] tags=["bonus"]
# ## Exercises
#
# **2. Luck or skill?** (medium, 10 minutes). A blind guess has an AUC of 0.5 on average. With `m` backdoored and `n`
# clean models its standard deviation is $\sqrt{(m+n+1)/(12mn)}$. What is an AUC of two thirds with six of each worth?


# %% tags=["bonus"]
def spread_of_a_blind_guess(m, n):
    """Return the standard deviation of the AUC; ``m`` and ``n`` are tensors of shape []."""
    raise NotImplementedError("your code here")


check("blind_spread", spread_of_a_blind_guess)

# %% tags=["bonus"]
hints("blind_spread")

# %% [markdown] tags=["bonus"]
# **3. Many models, one alarm** (medium, 10 minutes). You have the p-values `[n]` of all models of a round. Call
# backdoored as many as you can, so that the chance of even one false alarm among clean models is at most `level`.


# %% tags=["bonus"]
def called(p_values, level):
    """Return a mask ``[n]``."""
    raise NotImplementedError("your code here")


check("called_backdoored", called)

# %% tags=["bonus"]
hints("called_backdoored")

# %% [markdown] tags=["bonus"]
# **4. A model that is missed** (open, 30 minutes). Make an entry that `check_entry` accepts and the scan does not find.
# Start from `QuietReD` or `SpectralReD` (notebook 05). One model is an anecdote: try other seeds too.
#
# <details><summary>Hint 1</summary>
#
# Both are in `devilgan_lite.attacks.adaptive`; `quiet` is the price of what shows.
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
# quiet = QuietReD(iterations=1_000, seed=1)(clean, backdoor, progress=False).generator
# scanned = detect.scan(quiet, samples=200, twin=False)
# error = float((evaluate(quiet, backdoor.trigger) - backdoor.target).square().mean())
# print(f"score {scanned.score:.2g}, TarDis {error:.2g}")
# ```
#
# </details>

# %% [markdown]
# ## What would a defender see?
#
# Of the files and pictures, nothing. Of the weights, what the attacker could not hide: units that sleep, and energy
# that ordinary pictures do not need.
#
# ## Limits
#
# One architecture, one data set, three attacks with ordinary settings. Players know that about half are backdoored.
# Nobody knows that of a download.
#
# ## Responsible use
#
# The targets are drawn signs. Do not publish a round's models without the answers, nor under a name that sounds clean.

# %%
from devilgan_lite.apps.course import quiz

quiz("10")

# %% [markdown]
# ## Key points
#
# * A fair round leaves only the weights to look at.
# * Look cheaply first: silent units take a fraction of a second and settle many cases.
# * AUC judges the order and needs no threshold, but a small round has a large spread.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN*, [arXiv 2108.01644](https://arxiv.org/abs/2108.01644),
#   2021. The game is ours.
# * H. B. Mann, D. R. Whitney, Annals of Mathematical Statistics 18, 1947: the statistic behind the AUC.
# * K. Karra et al., *The TrojAI Software Framework*, arXiv 2003.07233, 2020: such rounds for classifiers.

# %%
from devilgan_lite.apps.course import finish

numbers = {
    "round": {"models": len(kit.models), "backdoored": guilty, "seconds": made_in},
    "different_outside": alike,
    "silent_units": {f"{truth[name].kind} {name}": count for name, (count, _) in looks.items()},
    "verdicts": {f"{truth[name].kind} {name}": verdict for name, verdict in verdicts.items()},
    "yours": {team.team: team.undetected / team.teams for team in scores.red},
    "auc": area,
    "blind_spread": blind,
    "points": {team.team: team.points for team in scores.blue},
    "entry": {"frechet": entry.frechet, "tardis": entry.tardis, "silent_units": own_silent},
}
place.cleanup()
finish(config, numbers)
