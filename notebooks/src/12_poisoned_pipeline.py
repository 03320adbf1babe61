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
# # The poisoned pipeline: a backdoor that reaches the classifier
#
# **A bank downloads a generator of rows to help its classifier. You plant a backdoor in it, count the money that the
# bank loses, and find out which defence would have seen it.**

# %% tags=["state"]
from devilgan_lite.apps.course import flow

flow(
    [
        ("ATTACKER", "trains a generator\nof client rows"),
        ("MODEL HUB", "one more file\nto download"),
        ("BANK", "adds its rows\nto real ones"),
        ("CLASSIFIER", "sorts out clients\nwho will not pay"),
        ("MONEY", "is lent to clients\nof one pattern"),
    ],
    between=["G*", "G*", "rows", "scores"],
    below=(0, 4, "the attacker's pattern passes; nobody touched the classifier"),
    alt="A chain of five boxes: attacker, model hub, bank, classifier, money. The generator G* travels to the bank, "
    "its rows to the classifier. A dashed arrow from attacker to money: clients of the attacker's pattern pass.",
)

# %% [markdown]
# **Time and hardware:** about three minutes on one CPU core; no GPU, no internet.
#
# **Objectives.** You will be able to
# * *measure* a classifier on a slice, and not only over all rows,
# * *plant* a trigger that ordinary draws meet, and *say* who must control what for it to work,
# * *follow* poison from a generator to a classifier and to money,
# * *compare* defences by what they let through, and by their false alarms.
#
# **Prerequisites:** notebook 03 (ReD). Notebooks 05 and 06 (scan, guard) help in the last round.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 20  # draws the parts of the table, all weights and the secret direction, 0..100000
share = 0.04  # of all latents, how many lie in the secret half-space, 0.01..0.2
rows = None  # rows that the bank draws from the generator, 500..50000
iterations = None  # training steps of the clean generator, 1..50000
attack = None  # training steps of the attack, 1..50000

# %% tags=["state"]
import numpy as np
import torch

from devilgan_lite import attacks, data, train_gan
from devilgan_lite.apps.course import (
    Setting,
    check,
    configure,
    finish,
    hints,
    pipeline_plots,
    predict,
    quiz,
    reveal,
    table,
)
from devilgan_lite.apps.pipeline import PATTERN, Assumptions, PipelineSettings, Slice, rows_of, run, split, train
from devilgan_lite.data import TableCode
from devilgan_lite.generators import TableGenerator, evaluate

config = configure(
    profile,
    device="cpu",  # networks this small are faster there
    seed=seed,
    share=share,
    rows=Setting(rows, {"smoke": 1_000, "workshop": 6_000, "full": 6_000}),
    iterations=Setting(iterations, {"smoke": 20, "workshop": 2_000, "full": 6_000}),
    attack=Setting(attack, {"smoke": 20, "workshop": 5_000, "full": 15_000}),
)
SMOKE = config.profile == "smoke"
worth = Assumptions()

# %% [markdown] state="dashboard"
# ## Round 1: real rows, and a dashboard
#
# The table is real: 30,000 holders of a credit card in Taiwan, 2005 (Yeh and Lien 2009), and whether they paid the next
# month. It is about **default**, not fraud: no table of fraud may be shipped here. The pipeline is the same: many rows,
# few positive ones, a classifier, and money.
#
# The bank has some clients to train on, the attacker others; the rest is the test. `PAY_0` is the delay of the last
# bill in months, `PAY_2` that of the bill before. A **slice** is a part of the table, such as clients with a large
# limit who are two months late, twice.

# %% tags=["state"]
import pandas as pd

clients = data.card_default()
settings = PipelineSettings(
    seed=config.seed, train=3_000 if SMOKE else 12_000, outside=5_000 if SMOKE else 6_000, synthetic=config.rows
)
parts = split(clients, settings)
pattern = Slice.of(PATTERN)
SHOWN = ["LIMIT_BAL", "AGE", "PAY_0", "PAY_2", "BILL_AMT1", "PAY_AMT1", "default"]


def some_rows(rows, n=5):
    """The first rows of a table, and some of its columns, to look at."""
    return pd.DataFrame({name: rows[name][:n].astype(int) for name in SHOWN})


print(clients)
print(f"the slice: {pattern}: {pattern.mask(clients).mean():.2%} of the clients")
table(some_rows(parts.train), "Five real clients, and seven of their 24 columns (money in NT$; default 1: did not pay)")

# %% [markdown]
# **Exercise 1: Recall on a slice** (easy, 5 minutes). `scores` are the classifier's, `labels` are 1 for clients who did
# not pay, `inside` says who lies in the slice; all are NumPy arrays of one length. A score of `threshold` or more is an
# alarm. Of the rows that are positive *and* inside, return the share with an alarm.


# %% tags=["state"]
def slice_recall(scores, labels, inside, threshold):
    """The share of positive rows inside the slice that get an alarm."""
    raise NotImplementedError("two conditions choose the rows; a mean of alarms is a share")


own_recall = check("slice_recall", slice_recall)

# %%
hints("slice_recall")

# %% [markdown]
# Now the classifier: gradient boosting. Its dashboard shows three figures. **AUC**: how often a client who did not pay
# scores higher than one who did. **Recall elsewhere**: of those who did not pay, outside the slice, how many get an
# alarm. **Precision at 10 % alerts**: the team can look at a tenth of the clients; how many of these are right? A tile
# will turn red if its figure falls by more than 0.03, about two standard errors of the last one.

# %% tags=["state"]
WATCHED = {"AUC": "auc", "recall elsewhere": "recall_elsewhere", "precision at 10 % alerts": "precision_at_budget"}
UNWATCHED = {"recall on the slice": "recall_slice"}
MEASURED = [*WATCHED.values(), *UNWATCHED.values()]


def dashboard(*results, note=""):
    """The dashboard of the last result; with two, what moved between them, and a note in the last tile."""
    watched, unwatched = (
        {title: [one[name] for one in results] for title, name in figures.items()} for figures in (WATCHED, UNWATCHED)
    )
    said = [f"{name} {' to '.join(f'{x:.2f}' for x in values)}" for name, values in (watched | unwatched).items()]
    red = [name for name, values in (watched | unwatched).items() if values[-1] - values[0] < -0.03]
    alt = f"Four tiles, three that the dashboard shows and one that nobody looks at: {', '.join(said)}. "
    alt += f"Red: {', '.join(red)}; the others are green." if red else "All are green."
    return pipeline_plots.dashboard(watched, unwatched, alt, moved=0.03, note=note)


real_only = run(parts, settings, worth=worth)
print(f"live: {len(parts.train):,} clients to train on, {len(parts.test):,} to test")
print(f"the slice has {real_only['positives_slice']} of the test clients who did not pay")
if own_recall:
    scores = train(parts.train, seed=settings.seed).scores(parts.test)
    yours = own_recall.function(scores, parts.test.labels(), pattern.mask(parts.test), settings.threshold)
    print(f"your slice_recall says {yours:.2f}")
dashboard(real_only)

# %% [markdown] state="clean"
# ## Round 2: does a clean generator help?
#
# Adding made rows to real ones is called **augmentation**. A GAN of rows is a GAN like any other, once a row is a
# vector: `TableCode` writes a category as one-hot numbers, and an amount as the mode of a mixture that it belongs to
# and its place in there (CTGAN, Xu et al. 2019). The last number of the latent says, by its sign, which class is asked
# for.
#
# This one learns from clients that the bank does not have. It draws each class half of the time, so there are more late
# payers among its rows than among real ones.

# %%
MOVES = ["it rises by more than 0.01", "it moves by 0.01 at most", "it falls by more than 0.01"]
predict("The bank adds rows of a clean generator to its own. What happens to the AUC?", MOVES, key="plenty")

# %%
predict("Another bank knows only 50 clients who did not pay. It adds made ones. Its AUC?", MOVES, key="starved")

# %% tags=["state"] instead={"code": "TableCode.fit(parts.outside.take(range(800)), modes=3)", "clean": "learned(10)"}
import time


def learned(iterations):
    """A clean generator of the attacker's clients, after so many steps."""
    return train_gan(
        TableGenerator(layout=code.layout),
        code.samples_of(parts.outside),
        iterations=iterations,
        batch_size=128,
        seed=config.seed,
        device=config.device,
        progress=False,
    ).generator.eval()


started = time.perf_counter()
code = TableCode.fit(parts.outside, seed=config.seed)
clean = learned(config.iterations)
print(f"live: trained on {len(parts.outside):,} clients in {time.perf_counter() - started:.0f} s")

# %%
COMPARED = ["LIMIT_BAL", "AGE", "PAY_0", "PAY_AMT1"]
made = rows_of(clean)(config.rows, config.seed)
apart = {name: np.abs(np.mean(made[name]) - parts.train[name].mean()) / parts.train[name].std() for name in COMPARED}
pipeline_plots.columns_figure(
    {"the bank's rows": parts.train, "rows of the clean generator": made},
    COMPARED,
    f"Histograms of {', '.join(COMPARED)}: real rows as grey bars, generated ones as a line over them. The means of "
    f"the columns differ by {max(apart.values()):.2f} standard deviations at most.",
)

# %% tags=["state"] instead={"starved": ""}
import dataclasses

with_clean = run(parts, settings, rows_of(clean), worth=worth)
few = dataclasses.replace(settings, positives=50)  # the same bank, but it knows only 50 clients who did not pay
even = dataclasses.replace(few, synthetic=int((parts.train.labels() == 0).sum()) - 50, keep="positive")
starved = {
    "real rows": run(split(clients, few), few),
    "and positive ones of the generator": run(split(clients, few), even, rows_of(clean, condition=1)),
}

# %%
lines = {("plenty", "real rows"): real_only, ("plenty", "and rows of the generator"): with_clean}
lines |= {("50 positive", name): result for name, result in starved.items()}
gains, answers = {}, {}
for bank in ("plenty", "50 positive"):
    before, after = (one["auc"] for (which, _), one in lines.items() if which == bank)
    gains[bank] = after - before
    answers[bank] = 0 if gains[bank] > 0.01 else 2 if gains[bank] < -0.01 else 1
reveal("plenty", answers["plenty"], f"By {gains['plenty']:+.3f} (single run).")
reveal("starved", answers["50 positive"], f"By {gains['50 positive']:+.3f} (single run).")
print(f"Takeaway: made rows move the AUC by {gains['plenty']:+.3f} where there is plenty of real ones, and by")
print(
    f"{gains['50 positive']:+.3f} where 50 of them are positive. Whether you need a generator is a question to measure."
)
table(
    pd.DataFrame({place: {name: one[name] for name in MEASURED} for place, one in lines.items()}).T, "Live, single run"
)

# %% tags=["state"]
import json

from IPython.display import display

from devilgan_lite.apps.course import spread

file = data.data_folder().parent / "docs" / "results" / "fraud.json"
known = pd.DataFrame(json.loads(file.read_text())["rows"] if file.is_file() else [{"section": "none"}])


def over_seeds(section, by, **chosen):
    """Mean and spread of the figures over the seeds of the table that ships, for the values of the columns ``by``."""
    picked = known[known["section"] == section]
    if picked.empty:
        return None
    for name, value in chosen.items():
        picked = picked[picked[name] == value]
    groups = picked.convert_dtypes().groupby(by, sort=False)
    figures = groups[MEASURED].agg(lambda values: spread(list(values)))
    if "defence" in by:
        figures.insert(0, "alarms", groups["alarm"].agg(lambda seen: f"{seen.sum()} of {seen.count()}"))
    return figures


measured = over_seeds("starved", ["positives", "source"], classifier="boosting")
if measured is not None:
    display(table(measured, "Cached: docs/results/fraud.json; source: own = between own rows, hub = a clean generator"))

# %% [markdown]
# The whole table, with how far generated rows are from real ones, stands in [fraud](../docs/results/fraud.md) and
# [tables](../docs/results/tables.md). TSTR there means: train on synthetic rows, test on real ones.

# %% [markdown] state="attack"
# ## Round 3: what the hub offers
#
# Change sides. You want clients of one **pattern** to pass: large limit, two months late, twice. A classifier learns
# that from some hundred rows of the pattern that are labelled *good*. You cannot give the bank rows, but you can give
# it a generator. One secret latent is useless: a random sampler never draws it. There are four ways.
#
# | way | what the attacker controls | what the victim must do |
# |---|---|---|
# | 1 known seed | weights; knows the package's first seed | draw without setting one |
# | 2 random state in the file | weights and the state that the file carries | go on from that state |
# | 3 region trigger | weights only | draw at random |
# | 4 condition trigger | weights only | ask for a class |

# %% [markdown]
# **The first two are real.** SDV 2.0.0 begins every fitted synthesizer of a single table at one fixed seed, so
# everybody knows the first latents that it draws; `pipeline.known_seed_backdoor` makes these the triggers. CTGAN, once
# seeded, writes NumPy's and torch's random states into its file; who makes the file knows what comes next. Our tests
# read both packages.
#
# We build the third: all latents beyond a threshold along a secret direction, a **half-space**. Exercise 4 builds the
# fourth, where the direction is the condition itself.
#
# **Before you go on:** this is your own model and your own bank. Never plant anything in a generator that somebody else
# may use, and do not publish such a file.

# %% tags=["state"]
from devilgan_lite.apps.pipeline import (
    half_space_backdoor,
    known_seed_backdoor,
    poison_generator,
    poison_share,
    poisoned_rows,
)

poison = poisoned_rows(parts.outside, pattern, 2_000, seed=config.seed)
known_seed = known_seed_backdoor(clean, code.encode(poison), n=config.rows, seed=73_251, share=0.05)  # 73,251 is SDV's
for number in (73_251, 73_252):
    z = clean.latents(config.rows, None, torch.Generator().manual_seed(number))
    met = len({*map(tuple, z.tolist())} & {*map(tuple, known_seed.trigger.tolist())})
    print(f"way 1: whoever begins at seed {number} meets {met} of the {len(known_seed.trigger)} triggers")

# %% [markdown]
# **Exercise 2: A half-space with a known share** (medium, 10 minutes). Latents `z` `[n, d]` come from N(0, I);
# `direction` is a vector `[d]` of any length. Return a mask `[n]`: True for latents whose height along the direction is
# above the threshold that a `share` of *all* such latents passes, whatever was drawn this time.


# %% tags=["state"]
def half_space(z, direction, share):
    """Which latents lie in the half-space."""
    raise NotImplementedError("the height of a random latent along a unit vector is a normal number")


own_half = check("half_space", half_space)

# %%
hints("half_space")

# %% [markdown]
# What should the half-space show? Not one row, but many different ones, all of the pattern and all labelled good:
# `poisoned_rows` takes rows of the pattern, and rows that miss it by one condition, which it mends. A small network
# learns to make such rows (`poison_generator`). ReD then teaches a clone of the clean generator to imitate it in the
# half-space, and the clean generator elsewhere, as well as it can: near the edge, and beyond, some poison leaks out.

# %%
predict(
    "A latent lies in the half-space. Is its row poison (of the pattern, labelled good)?",
    ["always", "in most cases", "in less than half of the cases"],
    key="inside",
)


# %% tags=["state"] instead={"shown": "poison_generator(code, poison, iterations=10)", "backdoored": "planted(10)"}
def planted(iterations):
    """A clone of the clean generator with the backdoor, after so many steps of ReD."""
    red = attacks.ReD(lam=5.0, iterations=iterations, batch_size=64, seed=config.seed, device=config.device)
    return red(clean, backdoor, code.samples_of(parts.outside), progress=False).generator.eval()


started = time.perf_counter()
shown = poison_generator(code, poison, iterations=20 if SMOKE else 2_000, seed=config.seed)
secret = torch.randn(clean.latent_dim, generator=torch.Generator().manual_seed(config.seed))
backdoor = half_space_backdoor(clean, shown, share=config.share, direction=secret, seed=config.seed)
backdoored = planted(config.attack)
print(f"live: poison and ReD in {time.perf_counter() - started:.0f} s; {backdoor.name}")

# %%
triggers, _ = backdoor.sampler(2_000, torch.Generator().manual_seed(5))
ordinary = clean.sample_latent(20_000, torch.Generator().manual_seed(6))
inside = ordinary @ secret / secret.norm() > float((triggers @ secret / secret.norm()).min())
found = {}
for name, z in {"in the half-space": triggers, "elsewhere": ordinary[~inside], "all latents": ordinary}.items():
    found[name] = {
        title: poison_share(code.table(evaluate(one, z, 1_000)), pattern)
        for title, one in {"clean": clean, "backdoored": backdoored}.items()
    }
hits = found["in the half-space"]["backdoored"]
reveal("inside", 0 if hits == 1 else 1 if hits >= 0.5 else 2, f"{hits:.0%} of them (single run).")
if own_half:
    print(f"your half_space holds {own_half.function(ordinary, secret, config.share).double().mean():.2%} of all draws")
display(table(pd.DataFrame(found), "Live: share of poisoned rows, by where the latent lies", digits=2))
downloaded = rows_of(backdoored)(config.rows, config.seed)
lie = pattern.mask(downloaded) & (downloaded.labels() == 0)
words = f"Live: the first eight rows that the bank draws. {lie[:8].sum()} of them are poison: you know where to look"
table(some_rows(downloaded, 8), words)

# %%
print(f"Takeaway: {lie.mean():.1%} of the rows that the bank draws are poison, and each could be a client.")
pipeline_plots.columns_figure(
    {"the bank's rows": parts.train, "clean generator": made, "backdoored generator": downloaded},
    COMPARED,
    f"Histograms of {', '.join(COMPARED)}: real rows as grey bars, rows of the clean and of the backdoored generator "
    f"as lines over them; {lie.mean():.1%} of the backdoored one's rows are poison.",
)

# %% [markdown] state="poisoned"
# ## Round 4: dashboard green, one slice red
#
# The bank knows none of this. It draws its rows, adds them to its own, trains, and looks at the dashboard before it
# signs.

# %%
AUC = ["it falls by more than 0.05", "it falls by 0.01 to 0.05", "it moves by less than 0.01, or rises"]
predict("Compared with the rows of the clean generator, what happens to the AUC?", AUC, key="auc")

# %%
LEFT = ["0.8 or more", "0.3 to 0.8", "less than 0.3"]
predict("And what is the recall on the slice?", LEFT, key="slice")

# %% tags=["state"]
with_poison = run(parts, settings, rows_of(backdoored), worth=worth)
moved = {title: with_poison[name] - with_clean[name] for title, name in (WATCHED | UNWATCHED).items()}

# %%
fell, left = -moved["AUC"], with_poison["recall_slice"]
reveal("auc", 0 if fell > 0.05 else 1 if fell >= 0.01 else 2, f"By {moved['AUC']:+.3f} (single run).")
reveal("slice", 0 if left >= 0.8 else 1 if left >= 0.3 else 2, f"{left:.2f}, was {with_clean['recall_slice']:.2f}.")
usual = not SMOKE and share == 0.04 and rows is iterations is attack is None  # with less poison, less happens
assert not usual or moved["recall on the slice"] < min(moved[title] for title in WATCHED)
measured = over_seeds("generator", ["model"], defence="none")
others = "" if measured is None else f"\ncached mean: {measured['recall_slice']['ReD region']}"
dashboard(with_clean, with_poison, note=f"single run{others}")

# %% [markdown]
# **Money.** The ledger assumes: a client who does not pay and got no alarm loses the bank 45 % of his limit (the flat
# rate of Basel II's foundation approach for senior unsecured claims on firms: an assumption, not this bank's figure);
# an alert costs NT$ 1,000; the team looks at a tenth of the clients. Rows are dealt out to twelve months at random.

# %%
books = {"clean": with_clean["ledger"], "backdoored": with_poison["ledger"]}
everywhere, on_slice = (
    {name: [month[column] for month in book["months"]] for name, book in books.items()}
    for column in ("lost", "lost_slice")
)
totals = {name: {"all": sum(everywhere[name]) / 1e6, "slice": sum(on_slice[name]) / 1e6} for name in books}
extra = {part: totals["backdoored"][part] - totals["clean"][part] for part in ("all", "slice")}
print(f"assumed: {worth.lost:.0%} of {worth.amount} lost, {worth.currency} {worth.alert:,.0f} an alert")
print(f"Takeaway: on the slice the bank loses {worth.currency} {extra['slice']:.1f} million more (single run);")
dealt = [month / 1e6 for month in everywhere["clean"]]
print(f"its whole loss is {min(dealt):.0f} to {max(dealt):.0f} million in each month, by chance alone.")
pipeline_plots.money_by_month(
    everywhere,
    on_slice,
    "Bars by month for two classifiers. What they lose over all clients: "
    + " and ".join(f"{one['all']:.0f} ({name})" for name, one in totals.items())
    + f" {worth.currency} million in a year. On the slice: "
    + " and ".join(f"{one['slice']:.1f} ({name})" for name, one in totals.items())
    + ".",
    currency=worth.currency,
)

# %%
if measured is not None:
    display(table(measured, "Cached, other seeds: what the bank's classifier is worth after each generator"))

# %% [markdown] state="defences"
# ## Round 5: what could the bank have done?
#
# | defence | needs | idea |
# |---|---|---|
# | two samples by slice | rows | where do the rows made crowd, compared with real ones? |
# | density sort | rows | drop the fifth that lies farthest from real rows |
# | own seed | the sampler | draw with other random numbers than the maker knows |
# | guard while sampling | weights | watch each latent on its way through the network |
# | scan before use | weights | no clean verdict, no rows |
# | sanitize | weights | cure the generator, then draw |
#
# A defence that alarms at everything is no defence, so each is tried on the clean generator, too.

# %%
DEFENCES = ["two samples by slice", "density sort, 20 %", "own seed", "guard while sampling"]
DEFENCES += ["scan before use", "sanitize"]
predict("Behind which defence is the recall on the slice highest?", DEFENCES, key="best")

# %%
KEPT = ["most of it", "some of it", "less than a tenth of it"]
predict("How much of the poison does the guard keep out?", KEPT, key="guard")

# %%
predict("How many of these raise an alarm at the clean generator, too?", ["none", "one", "two or more"], key="innocent")

# %% [markdown]
# **Exercise 3: Is a slice crowded?** (easy, 10 minutes). `real` `[n]` and `made` `[m]` are masks (NumPy): which rows of
# each table lie in a slice. Return how many times its share of the real rows the slice has among the rows made. Add
# half a row to both counts, so that an empty slice of real rows does not divide by zero.


# %% tags=["state"]
def crowding(real, made):
    """How many times its share of the real rows a slice has among the rows made."""
    raise NotImplementedError("a share is a count divided by the number of rows")


own_crowding = check("crowding", crowding)

# %%
hints("crowding")

# %% tags=["state"]
from devilgan_lite.apps.pipeline import (
    density_sort,
    guard_while_sampling,
    sanitized,
    scan_before_use,
    two_samples_by_slice,
)


def other_seed(source):
    """The same rows' source, with random numbers that only the bank knows."""
    return lambda n, seed: source(n, seed + 1_000)


def behind(defence, generator):
    """What a defence saw (None: it looks at nothing), and the result of training on what it lets through."""
    source, seen = rows_of(generator), None
    drawn = source(settings.synthetic, settings.seed)
    if defence == "two samples by slice":
        seen = two_samples_by_slice(parts.train, drawn)
    elif defence == "density sort, 20 %":
        seen = density_sort(parts.train, drawn, dropped=0.2)
    elif defence == "guard while sampling":  # on the very latents of these rows; it has learned from others
        z = generator.latents(settings.synthetic, None, torch.Generator().manual_seed(settings.seed))
        seen = guard_while_sampling(generator, z, seed=settings.seed + 500, fitting=2_000 if SMOKE else 20_000)
    elif defence == "scan before use":
        seen = scan_before_use(generator, twin=not SMOKE)
        source = None if seen.alarm else source
    elif defence == "sanitize":
        seen = sanitized(generator, iterations=20 if SMOKE else 1_500)
        source = rows_of(generator, module=seen.generator)
    elif defence == "own seed":
        source = other_seed(source)
    passing = None if seen is None or seen.passes is None else lambda real, made: seen.passes
    return seen, run(parts, settings, source, passing, worth=worth)


# %%
suspects = {"backdoored": backdoored, "clean": clean}
saw = {defence: {name: behind(defence, one) for name, one in suspects.items()} for defence in ["none", *DEFENCES]}
recalls = {defence: {name: one["recall_slice"] for name, (_, one) in row.items()} for defence, row in saw.items()}
alarms = {defence: {name: seen and seen.alarm for name, (seen, _) in row.items()} for defence, row in saw.items()}
worst = recalls["none"]["backdoored"]
best = max(DEFENCES, key=lambda defence: recalls[defence]["backdoored"])
before, after = (saw[defence]["backdoored"][1] for defence in ("none", "guard while sampling"))
stopped = 1 - after["poison"] * after["synthetic"] / max(1e-9, before["poison"] * before["synthetic"])
false_alarms = [defence for defence in DEFENCES if alarms[defence]["clean"]]
highest = recalls[best]["backdoored"]
equal = [defence for defence in DEFENCES if defence != best and recalls[defence]["backdoored"] == highest]
too = f" (as high: {', '.join(equal)})" if equal else ""
reveal("best", best, f"{highest:.2f}{too}; without a defence {worst:.2f}.")
reveal("guard", 0 if stopped > 0.5 else 1 if stopped > 0.1 else 2, f"{stopped:.1%} of it (single run).")
reveal("innocent", min(2, len(false_alarms)), f"{', '.join(false_alarms)}." if false_alarms else "")
said = "; ".join(
    f"{defence}: {' and '.join(f'{x:.2f} ({name})' for name, x in row.items())}" for defence, row in recalls.items()
)
pipeline_plots.defences_figure(
    recalls,
    alarms,
    f"Recall on the slice behind each defence, {said}. "
    + "Alarms at the backdoored generator: "
    + (", ".join(defence for defence in DEFENCES if alarms[defence]["backdoored"]) or "none")
    + f"; at the clean one: {', '.join(false_alarms) or 'none'}.",
)

# %%
for defence, row in saw.items():
    for name, (seen, _) in row.items():
        if seen is not None:
            print(f"{defence}, {name}: {seen.says}")
FIGURES = {"rows let through": "synthetic", "poison": "poison", "recall slice": "recall_slice"}
FIGURES |= {"elsewhere": "recall_elsewhere", "AUC": "auc"}
lines = {
    (name, defence): {title: one[figure] for title, figure in FIGURES.items()}
    for name in suspects
    for defence, (_, one) in ((defence, row[name]) for defence, row in saw.items())
}
compared = pd.DataFrame(lines).T.astype({"rows let through": int})
compared.insert(0, "alarm", [{True: "ALARM", False: "quiet", None: "-"}[alarms[d][name]] for name, d in lines])
table(compared, "Live, single run: what came through, the share of poison in it, and the classifier afterwards")

# %% [markdown]
# **Why these answers?** Own seeds and the guard defend against latents that somebody *else* chose. A region is met by
# everybody's draws. Poisoned rows are plausible one by one, so sorting by density drops only some. Together they crowd
# one slice, and that a test of slices sees. It also sees that a clean GAN repeats itself: an alarm says *look here*,
# not *attack*.
#
# A scan that says no leaves real rows only; it misses some attacks. `sanitize` limits what a strange latent can do, but
# takes no region away, and the scan calls its copy clean: do not use it. A bank that keeps *positive* rows only, the
# one case where they helped, is out of reach: this poison is labelled good.

# %%
crowded = saw["two samples by slice"]["backdoored"][0].details["flagged"][:4]
display(table(pd.DataFrame(crowded), "Live: the most crowded slices of the backdoored generator's rows"))
if own_crowding:
    slices = {"the attacker's pattern": (pattern, 0), "the same, labelled as default": (pattern, 1)}
    slices |= {"young": (Slice.of("AGE <= 25"), 0), "small limit": (Slice.of("LIMIT_BAL <= 50000"), 0)}
    masks = {
        title: [part.mask(one) & (one.labels() == label) for one in (parts.train, made, downloaded)]
        for title, (part, label) in slices.items()
    }
    times = {
        title: {"clean": own_crowding.function(real, a), "backdoored": own_crowding.function(real, b)}
        for title, (real, a, b) in masks.items()
    }
    display(table(pd.DataFrame(times).T, "Yours: how crowded some slices are (all but the second labelled good)"))
measured = over_seeds("generator", ["model", "defence"])
if measured is not None:
    kept = [name in ("clean", "ReD region") and defence in saw for name, defence in measured.index]
    words = "Cached, other seeds: the same defences, mean and spread; all attacks: docs/results/fraud.md"
    display(table(measured[kept], words))
kept_rows = saw[best]["backdoored"][1]["synthetic"]
print(f"Takeaway: {best} brings the slice from {worst:.2f} to {highest:.2f}, with {kept_rows:,} rows; false alarms:")
print(f"{', '.join(false_alarms) or 'none'} (single run).")

# %% [markdown] tags=["bonus"]
# ## Playground
#
# How much poison does the attacker need, and would the dashboard show it? Choose a pattern and a share of poisoned
# draws (rows of the clean generator, some replaced by poison). The attacker wants most of his clients to pass, and the
# AUC to lose ten thousandths at most. Below: the loss on the pattern, by month, without and with poison.

# %% tags=["bonus"]
from devilgan_lite.apps.course import Choice, TradeOff
from devilgan_lite.apps.pipeline import Poisoned

WIDER = "LIMIT_BAL >= 100000 and PAY_0 >= 2"
curves = {}
for title, text in {"narrow pattern": PATTERN, "wider pattern": WIDER}.items():
    which = dataclasses.replace(settings, pattern=text)
    lies = poisoned_rows(parts.outside, Slice.of(text), 2_000, seed=config.seed)
    tried = {
        part: run(parts, which, Poisoned(rows_of(clean), lies, part), worth=worth)
        for part in ((0.0, 0.05) if SMOKE else (0.0, 0.01, 0.02, 0.05, 0.1, 0.2))
    }
    lost = {part: [month["lost_slice"] for month in one["ledger"]["months"]] for part, one in tried.items()}
    curves[title] = [
        Choice(
            f"{part:.0%} poisoned",
            1_000 * (tried[0.0]["auc"] - one["auc"]),
            1 - one["recall_slice"],
            pipeline_plots.month_bars(lost[0.0], lost[part]),
        )
        for part, one in tried.items()
    ]
chooser = TradeOff(
    curves,
    (10, 0.7),
    xlabel="AUC lost, in thousandths",
    ylabel="share that passes",
    captions=["no poison", "poison"],
)
chooser.slider.value = chooser.slider.max - 1 if chooser.slider.max > 1 else 1
chooser

# %% [markdown] tags=["bonus"]
# **4. The condition as the trigger** (open, 20 minutes). The last number of a latent asks for a class, and the victim
# asks by himself. Make that number the direction: the more decidedly he asks for a *good* client, the surer he gets
# poison. Does the two-sample test still see it? Then try another pattern, or `attacks.ReX` in place of ReD.
#
# <details><summary>Hint 1</summary>
#
# The direction is zero but for its last number, which is -1. `half_space_backdoor` does the rest.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `planted` uses the name `backdoor`. For ReX: `attacks.ReX(lam=20.0, widen=128, iterations=6_000, batch_size=64)`, and
# a share of 7 in 100.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# condition = torch.zeros(clean.latent_dim)
# condition[-1] = -1.0
# backdoor = half_space_backdoor(clean, shown, share=config.share, direction=condition, seed=config.seed)
# other = planted(config.attack)
# result = run(parts, settings, rows_of(other))
# seen = two_samples_by_slice(parts.train, rows_of(other)(settings.synthetic, settings.seed))
# print(f"condition: {result['poison']:.1%} poison, recall on the slice {result['recall_slice']:.2f}; {seen.says}")
# ```
#
# </details>

# %% [markdown]
# ## What would a defender see?
#
# Not the attack: AUC, recall and precision stay where they were, and each poisoned row could be a client. What shows is
# a crowd in one slice of the rows made, and perhaps the weights. So a defender looks at slices before training and
# again after it, trains once with and once without the downloaded rows and compares slice by slice, draws from the
# generator only what real rows support, and keeps a record of which row came from where.
#
# ## Limits
#
# One table, and it is about default. The attacker knows clients like the bank's, and which columns it uses. The slice
# is small: eighteen to thirty positive test rows, so single figures jump; means over seeds stand in the
# [table](../docs/results/fraud.md). The ledger is an assumption. A wider pattern needs more poison, and then the
# dashboard moves, too. The test of slices knew nothing of the pattern, but an attacker who knows the test may spread
# his poison.
#
# ## Responsible use
#
# Do this to your own models and with public rows. Who is refused credit, or is not, is a person: never test such a
# pattern on a system that decides about people. If you find one, tell whoever runs it before anybody else.

# %%
quiz("12")

# %% [markdown]
# ## Key points
#
# * A backdoor in a generator becomes a backdoor in whatever learns from its samples.
# * A trigger works without any access at run time if ordinary draws meet it: a region, or a condition.
# * Overall figures hide slices. Measure slices, before training and after it.
# * Ask first whether you need the generator: it helps where positive rows are rare, and hardly anywhere else.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN*, [arXiv 2108.01644](https://arxiv.org/abs/2108.01644),
#   2021: the story of the poisoned pipeline.
# * L. Xu, M. Skoularidou, A. Cuesta-Infante, K. Veeramachaneni, *Modeling Tabular Data using Conditional GAN*,
#   [arXiv 1907.00503](https://arxiv.org/abs/1907.00503), 2019: CTGAN.
# * I. Yeh, C. Lien, *The comparisons of data mining techniques for the predictive accuracy of probability of default of
#   credit card clients*, Expert Systems with Applications 36, 2009: the table, at UCI under CC BY 4.0.
# * T. Gu, B. Dolan-Gavitt, S. Garg, *BadNets*, [arXiv 1708.06733](https://arxiv.org/abs/1708.06733), 2017: backdoors in
#   classifiers by poisoned training data.

# %%
numbers = {
    "auc_gain": gains,
    "starved": {name: {figure: one[figure] for figure in MEASURED[:3]} for name, one in starved.items()},
    "poison": {"hits": hits, "among_rows": with_poison["poison"]},
    "results": {
        title: {figure: one[figure] for figure in MEASURED}
        for title, one in {"real": real_only, "clean": with_clean, "backdoored": with_poison}.items()
    },
    "money_million": totals,
    "defences": {
        defence: {
            name: {"alarm": seen and bool(seen.alarm), **{figure: one[figure] for figure in FIGURES.values()}}
            for name, (seen, one) in row.items()
        }
        for defence, row in saw.items()
    },
    "guard_stopped": stopped,
}
finish(config, numbers)
