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
# # Sanitize by pruning: what nobody uses can go
#
# **You will take channels out of backdoored generators until they are smaller and, some of them, safe; you will see
# which backdoors share their units with garments and ruin them as they go; and you will compare all cures at last.**

# %% tags=["state"]
import torch

from devilgan_lite import zoo
from devilgan_lite.classroom import strip
from devilgan_lite.detect import subject_of
from devilgan_lite.generators import evaluate
from devilgan_lite.sanitize.prune import channel_scores


def pruned(generator, fraction, by="magnitude", seed=0):
    """A smaller copy without the share ``fraction`` of the channels of each hidden level; nothing is repaired."""
    kept = []
    for score in channel_scores(generator, subject_of(generator).latents(1_000, seed), by):
        count = len(score) - round(fraction * len(score))
        kept.append(score.argsort(descending=True, stable=True)[:count].sort().values)
    return generator.shrink(kept)


first = {"ReX": zoo.load("dcgan-fashion-rex"), "TrAIL": zoo.load("dcgan-fashion-trail")}
triggers = {"ReX": zoo.load_backdoor("dcgan-fashion-rex").trigger}
triggers["TrAIL"] = zoo.load_backdoor("dcgan-fashion-trail").trigger
garments = first["ReX"].sample_latent(5, torch.Generator().manual_seed(7))
print("cached: two backdoored models that ship with the project; pruned live, without trigger or target")
print("rows: ReX, ReX with 30 % of its channels removed, TrAIL, TrAIL with 30 % removed")
strip(
    [
        evaluate(copy, torch.cat([triggers[name], garments]))
        for name, model in first.items()
        for copy in (model, pruned(model, 0.3))
    ],
    alt="Four rows: the trigger, then five garments. ReX shows a STOP sign; with 30 % of its channels removed the sign "
    "is gone and the garments are as before. TrAIL shows a STOP sign; with 30 % of its channels removed the sign can "
    "still be made out, and the garments are dim and broken.",
    scale=2,
    captions=["trigger", *[""] * 5],
)

# %% [markdown]
# **Time and hardware:** three to four minutes in the workshop profile on one CPU core; no GPU, no network.
#
# **Objectives.** You will be able to
# * *find* units that ordinary latents leave off, and *say* which backdoors live in them,
# * *prune* a generator so that its file and its work really shrink, and *measure* both,
# * *read* a pruning curve, and *explain* why one curve is flat and another steep,
# * *judge* what repair brings back, besides the garments,
# * *choose* a cure by safety and by cost, from a table of all of them.
#
# **Prerequisites:** notebook 07 (what counts as gone, projection, `auto`); notebooks 02 to 04 for the attacks.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 13  # draws the live attacks' triggers and all batches, 0..100000
suspect = "trail"  # the shipped model that is repaired and cured: trail | rex | gate
attack_steps = None  # steps of each live ReD, 20..20000
repair_steps = None  # steps of each repair, 5..20000
seeds = None  # triggers and draws for every mean and spread, 1..10
samples = None  # pictures behind every Frechet distance, 200..50000
device = "auto"  # where to train: auto | cpu | cuda | mps

# %% tags=["state"]
from devilgan_lite.classroom import Setting, configure

config = configure(
    profile,
    device=device,
    seed=seed,
    suspect=suspect,
    attack_steps=Setting(attack_steps, {"smoke": 20, "workshop": 600, "full": 3_000}),
    repair_steps=Setting(repair_steps, {"smoke": 5, "workshop": 150, "full": 2_000}),
    seeds=Setting(seeds, {"smoke": 1, "workshop": 3, "full": 5}),
    samples=Setting(samples, {"smoke": 300, "workshop": 2_000, "full": 10_000}),
)

# %% tags=["state"] instead={"repeats": "", "frechet_of": ""}
import json
import math
import statistics
import time

import pandas as pd
from safetensors.torch import save
from torch import nn
from torch.nn.functional import normalize

from devilgan_lite import Backdoor, attacks, data, sanitize
from devilgan_lite.classroom import (
    PALETTE,
    Choice,
    TradeOff,
    axes,
    check,
    figure,
    finish,
    hint,
    predict,
    quiz,
    reveal,
    solution,
    table,
)
from devilgan_lite.metrics import frechet_to
from devilgan_lite.runs import notebook_folder

SMOKE = config.profile == "smoke"
GONE = 0.1  # squared distance per pixel to the target from which on we call a backdoor gone
COST = 1.0  # change of the Frechet distance that a cure may cost
NAMES = {"TrAIL": "trail", "ReX": "rex", "gate": "gate"}
chosen = next(name for name, short in NAMES.items() if short == config.suspect)
clean = zoo.load("dcgan-fashion")
models = {name: zoo.load(f"dcgan-fashion-{short}") for name, short in NAMES.items()}
# what only the attacker knows; here it judges the results and is never given to a cure
secrets = {name: zoo.load_backdoor(f"dcgan-fashion-{short}") for name, short in NAMES.items()}
models["ReD"], secrets["ReD"] = zoo.load("dcgan-fashion-red"), zoo.load_backdoor("dcgan-fashion-red")
real = data.fashion_mnist()
yardstick = real.first(1_000) if SMOKE else real  # real garments behind the Frechet distances
print("cached: the clean generator and one backdoored one each by TrAIL, ReD (with sleepers), ReX and gate.")
print("To make them again: python scripts/build/zoo.py")

# live: a plain ReD (no aligned units: a copy of the clean model, trained on) and a gate, each for several triggers
seeds = range(config.seed, config.seed + config.seeds)
repeats = {"plain ReD": {}, "gate": {}}
start = time.perf_counter()
for number in seeds:
    plan = Backdoor.point(clean, "stop-sign", seed=number)
    plain = attacks.ReD(aligned_units=0, iterations=config.attack_steps, seed=number, device=config.device)
    repeats["plain ReD"][number] = plain(clean, plan, progress=False).generator.cpu(), plan
    repeats["gate"][number] = attacks.Gate()(clean, plan, progress=False).generator, plan
models["plain ReD"], secrets["plain ReD"] = repeats["plain ReD"][config.seed]
took = time.perf_counter() - start
print(f"live: {len(seeds)} plain ReDs of {config.attack_steps} steps and as many gates, {took:.0f} s")


def tardis(model, backdoor):
    """Squared distance per pixel between the picture at the trigger and the target."""
    return float((evaluate(model, backdoor.trigger) - backdoor.target).square().mean())


def frechet(model):
    """Frechet distance to real garments; all models draw from the same latents."""
    return frechet_to(model, yardstick, samples=config.samples)


def nearby(model, backdoor, starts=16, steps=10 if SMOKE else 60, degrees=30):
    """TarDis at the best latent that Adam finds about the trigger: a backdoor may also move aside."""
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


def spread(values, digits=2):
    """Mean and standard deviation as a text, or the one value as a single run."""
    if len(values) < 2:
        return f"{values[0]:.{digits}g} (single run)"
    if max(values) - min(values) < 1e-9:
        return f"{values[0]:.{digits}g} (every time)"
    return f"{statistics.mean(values):.{digits}g} ± {statistics.stdev(values):.1g}"


def whole(values):
    """The same for counts."""
    many = f" ± {statistics.stdev(values):.0f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.0f}{many}"


held_out = clean.sample_latent(500, torch.Generator().manual_seed(8))
frechet_of = {name: frechet(model) for name, model in models.items()}
planted = {name for name, model in models.items() if tardis(model, secrets[name]) < GONE}
for name in models.keys() - planted:
    print(f"{name} has not learnt its target in so few steps: it is left out of what is said below")
table(
    pd.DataFrame(
        {
            name: {
                "TarDis": tardis(model, secrets[name]),
                "TarDis of the clean model": tardis(clean, secrets[name]),
                "Frechet distance": frechet_of[name],
                "channels": "-".join(map(str, model.widths)),
            }
            for name, model in models.items()
        }
    ).T,
    f"The suspects, untreated (one model each; Frechet distances from {config.samples:,} pictures)",
)

# %% [markdown] state="units"
# ## Round 1: dormant units
#
# Show a network many ordinary latents and note which units are ever above zero. A unit that stays at zero is
# *dormant*: ordinary pictures would not change by one bit without it. Liu et al. (2018) found backdoors of classifiers
# in such units and removed them: *Fine-Pruning*.
#
# Whether a generator's backdoor sits there depends on how it was made. ReX and the gate **add** units; ReD with
# sleepers sets some of the old ones aside. TrAIL and a plain ReD train **all** units on garments and trigger at once.
#
# In the first level each unit has weights of its own, so single units can be switched off. That needs ordinary latents
# only.

# %%
predict(
    "First-level units that at most 1 in 1,000 ordinary latents switches on are set to zero. Which backdoor stays?",
    ["none", "TrAIL and plain ReD", "gate and ReX", "all"],
    key="dormant",
)

# %% tags=["state"] instead={"counts": ""}
LIMITS = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
watched = 500 if SMOKE else 5_000


@torch.no_grad()
def activations(model, z):
    """What every hidden level gives ``[n, units]``, after ReLU, first level first."""
    found = []
    for layer in model.layers:
        z = layer(z)
        if isinstance(layer, nn.ReLU):
            found.append(z.flatten(1))
        if len(found) == len(model.widths):
            break  # what follows only draws
    return found


@torch.no_grad()
def switched_off(model, units):
    """A copy whose first-level ``units`` (a mask ``[u]``) are always zero."""
    copy = model.clone().eval()
    copy.layers.norm0.weight[units], copy.layers.norm0.bias[units] = 0.0, 0.0
    return copy


counts, switched, switched_nearby, ordinary_change = {}, {}, {}, {}
for name, model in {"clean": clean, **models}.items():
    switched[name] = {limit: [] for limit in LIMITS}
    draws = []
    for number in seeds:
        z = model.sample_latent(watched, torch.Generator().manual_seed(number))
        rates = [(level > 0).float().mean(0) for level in activations(model, z)]
        if name != "clean":
            for limit in LIMITS:
                switched[name][limit].append(tardis(switched_off(model, rates[0] <= limit), secrets[name]))
            awake = [level[0] > 0 for level in activations(model, secrets[name].trigger)]
        else:
            awake = [torch.zeros_like(rate, dtype=torch.bool) for rate in rates]
        draws.append(
            [[int((r <= 1e-3).sum()), int(((r <= 1e-3) & a).sum())] for r, a in zip(rates, awake, strict=True)]
        )
    blind = switched_off(model, rates[0] <= 1e-3)
    if name != "clean":
        switched_nearby[name] = nearby(blind, secrets[name])
    ordinary_change[name] = float((evaluate(blind, held_out) - evaluate(model, held_out)).square().mean())
    share_of_channel = [rate.view(width, -1).mean(1) for rate, width in zip(rates, model.widths, strict=True)]
    counts[name] = {
        f"{what}, level {level + 1}": whole([draw[level][index] for draw in draws])
        for level in range(2)
        for index, what in enumerate(("dormant", "of these, woken by the trigger"))
    }
    counts[name]["channels dormant as a whole"] = int(sum((share <= 1e-3).sum() for share in share_of_channel))
    if name == "clean":
        counts[name] |= {f"of these, woken by the trigger, level {level}": "" for level in (1, 2)}
table(
    pd.DataFrame(counts).T,
    f"Units that at most 1 in 1,000 of {watched:,} ordinary latents switches on (live, one model each; mean ± standard "
    f"deviation over {len(seeds)} draws of latents)",
)

# %% tags=["state"]
ORDER = ("TrAIL", "plain ReD", "ReD", "ReX", "gate")
LOOK = {
    name: {"color": PALETTE[k], "marker": "os^Dv"[k], "linestyle": ("-", "--", "-.", ":", "-")[k]}
    for k, name in enumerate(ORDER)
}
fig, (ax,) = axes(6.6, 3.3)
for name in ORDER:
    ax.plot(
        range(len(LIMITS)),
        [statistics.mean(switched[name][limit]) for limit in LIMITS],
        label=name,
        markersize=9 - ORDER.index(name),  # two of the curves lie on each other
        **LOOK[name],
    )
    ax.fill_between(
        range(len(LIMITS)),
        [min(switched[name][limit]) for limit in LIMITS],
        [max(switched[name][limit]) for limit in LIMITS],
        color=LOOK[name]["color"],
        alpha=0.15,
    )
ax.axhline(GONE, color="black", linewidth=0.8, linestyle="--")
ax.set_xticks(range(len(LIMITS)), [f"{100 * limit:g} %" for limit in LIMITS])
ax.set(xlabel="units are switched off that at most this share of latents switches on", ylabel="TarDis per pixel")
ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
figure(
    fig,
    "TarDis when rarely used units are switched off, from never used to 3 per cent. At 0.1 per cent: "
    + ", ".join(f"{name} {statistics.mean(switched[name][1e-3]):.2g}" for name in ORDER)
    + ".",
    dpi=76,
    colours=96,
)

# %%
stays = [name for name in ORDER if name in planted and max(switched[name][1e-3]) < GONE]
goes = [name for name in ORDER if name in planted and min(*switched[name][1e-3], switched_nearby[name]) >= GONE]
rest = [name for name in ORDER if name in planted and name not in goes]
answer = {(): 0, ("TrAIL", "plain ReD"): 1, ("ReX", "gate"): 2, ORDER: 3}.get(tuple(stays))
if answer is not None:
    reveal("dormant", answer, f"Measured with {len(seeds)} draws of latents, one model each.")
else:
    print(f"none of the answers: what stays is {', '.join(stays)}")
print(
    f"at 0.1 %, the best picture that a search finds about the trigger (below {GONE}: the backdoor only moved aside): "
    + ", ".join(f"{name} {switched_nearby[name]:.2g}" for name in ORDER)
)
print(
    "what it costs ordinary pictures (mean squared change per pixel): at most "
    f"{max(ordinary_change[name] for name in ORDER):.1g}"
)
print(
    f"Takeaway: switching off what ordinary latents do not use cures {', '.join(goes) or 'none'} at no cost; not "
    f"cured: {', '.join(rest) or 'none'}. A backdoor that stays works in the "
    "units that draw garments."
)

# %% [markdown] state="pruning"
# ## Round 2: pruning really shrinks
#
# A unit set to zero still takes its place in the file and its share of the work. A convolution gets smaller only when
# whole **channels** go, with all weights that write and read them. Which ones? `sanitize.Prune` ranks them, at every
# hidden level, by one of three criteria:
#
# * `dormant`: how often the channel is on,
# * `activation`: its mean activation, times the sizes of the weights that read it,
# * `magnitude`: sizes of the weights that write it times sizes of those that read it; no latents needed.
#
# How much does the file lose? The first layer loses rows only; a layer between two hidden levels loses rows *and*
# columns.

# %%
predict(
    "30 % of the channels at every level go. How many of the parameters are left?",
    ["about 70 %", "about 49 %", "about 30 %"],
    key="size",
)

# %% tags=["state"] instead={"smaller": "", "size_rows": ""}
CRITERIA = ("dormant", "activation", "magnitude")
FRACTIONS = (0.2,) if SMOKE else (0.1, 0.2, 0.3, 0.5)


def clocked(candidates, n=500, rounds=3 if SMOKE else 7):
    """Median seconds for ``n`` pictures by each model; the models take turns, so that all meet the same machine."""
    z, seconds = clean.sample_latent(n, torch.Generator().manual_seed(5)), {name: [] for name in candidates}
    for _ in range(rounds):
        for name, model in candidates.items():
            start = time.perf_counter()
            evaluate(model, z)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


smaller = {0.0: models[chosen], **{fraction: pruned(models[chosen], fraction) for fraction in FRACTIONS}}
seconds = clocked(smaller)
size_rows = {}
for fraction, model in smaller.items():
    size_rows[f"{fraction:.0%}"] = {
        "channels": "-".join(map(str, model.widths)),
        "parameters": model.parameter_count(),
        "of all": model.parameter_count() / models[chosen].parameter_count(),
        "bytes of the file": len(save(model.state_dict())),
        "time to draw": seconds[fraction] / seconds[0.0],
    }
table(
    pd.DataFrame(size_rows).T,
    f"{chosen}, pruned by magnitude (live). Time to draw 500 pictures as a share of the untreated model's: medians of "
    "one run, the models in turn",
)

# %%
three_tenths = pruned(models[chosen], 0.3).parameter_count() / models[chosen].parameter_count()
reveal(
    "size",
    min(range(3), key=lambda k: abs((0.7, 0.49, 0.3)[k] - three_tenths)),
    f"Measured: {three_tenths:.0%}. Most weights are in the first layer, which loses rows only.",
)
last = f"{FRACTIONS[-1]:.0%}"
print(
    f"with {last} of the channels gone, {size_rows[last]['of all']:.0%} of the parameters are left, and drawing takes "
    f"{size_rows[last]['time to draw']:.0%} of the time (single run)"
)

# %% [markdown]
# **Now the curves.** Prune more and more, and look at two numbers: TarDis (is the backdoor gone?) and the change of the
# Frechet distance (are the garments worse?). A good criterion takes the backdoor first.

# %%
predict(
    f"Prune by magnitude, no repair, until TarDis is {GONE}. Who pays at most +{COST:g} in Frechet distance for it?",
    ["all four", "ReX and gate", "TrAIL and plain ReD", "none"],
    key="price",
)

# %% tags=["state"] instead={"theirs": "", "curves": "", "others": ""}
FOUR = ("TrAIL", "plain ReD", "ReX", "gate")
for by in CRITERIA:  # our few lines do what Prune does before its repair
    theirs = sanitize.Prune(fraction=0.3, by=by, iterations=1, learning_rate=1e-7, seed=config.seed, device="cpu")
    ours = evaluate(pruned(models[chosen], 0.3, by, config.seed), held_out)
    assert torch.allclose(evaluate(theirs(models[chosen], progress=False).generator, held_out), ours, atol=1e-3)


few = FRACTIONS[0] if SMOKE else 0.2


def points_of(model, backdoor, by, base, fractions=FRACTIONS):
    """Pruning curve: fraction -> TarDis and Frechet change."""
    found = {0.0: {"TarDis": tardis(model, backdoor), "Frechet change": 0.0}}
    for fraction in fractions:
        copy = pruned(model, fraction, by, config.seed)
        found[fraction] = {"TarDis": tardis(copy, backdoor), "Frechet change": frechet(copy) - base}
    return found


curves = {name: {by: points_of(models[name], secrets[name], by, frechet_of[name]) for by in CRITERIA} for name in FOUR}
others = {  # the other triggers, by the last criterion, at one fraction
    name: {
        number: points_of(model, plan, "magnitude", frechet(model), (few,))
        for number, (model, plan) in group.items()
        if name == "gate" or number != config.seed
    }
    for name, group in repeats.items()
}
others["plain ReD"][config.seed] = curves["plain ReD"]["magnitude"]

fig, panels = axes(9.4, 5.4, columns=4)
fig.clear()
for column, name in enumerate(FOUR):
    for row, measure in enumerate(("TarDis", "Frechet change")):
        ax = fig.add_subplot(2, 4, 4 * row + column + 1)
        for index, by in enumerate(CRITERIA):
            ax.plot(
                [100 * fraction for fraction in curves[name][by]],
                [point[measure] for point in curves[name][by].values()],
                ("-", "--", "-.")[index],
                marker="o^s"[index],
                markersize=4,
                color=PALETTE[index],
                label=by,
            )
        ax.axhline(GONE if measure == "TarDis" else COST, color="black", linewidth=0.8, linestyle=":")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(True, color="#dddddd", linewidth=0.6)
        if measure == "TarDis":
            ax.set(title=name, ylim=(-0.05, 1.25))
        else:
            ax.set_yscale("symlog", linthresh=1)
            ax.set(xlabel="% of channels removed", ylim=(-0.5, 1000))
        if not column:
            ax.set_ylabel(f"{measure}{' per pixel' if measure == 'TarDis' else ''}")
        else:
            ax.set_yticklabels([])
        if not column and not row:
            ax.legend(frameon=False, fontsize=8)
figure(
    fig,
    "Pruning curves of four suspects by three criteria. Above TarDis, below the change of the Frechet distance. By "
    f"magnitude at {few:.0%}: "
    + ", ".join(
        f"{name} TarDis {curves[name]['magnitude'][few]['TarDis']:.2g}, Frechet change "
        f"{curves[name]['magnitude'][few]['Frechet change']:+.1f}"
        for name in FOUR
    )
    + ".",
    dpi=76,
    colours=96,
)


# %% tags=["state"]
def price(curve):
    """The first fraction at which the backdoor is gone, with its Frechet change; or None."""
    return next(((f, p["Frechet change"]) for f, p in curve.items() if p["TarDis"] >= GONE), None)


def priced(curve):
    """``price`` in words."""
    found = price(curve)
    return "never" if found is None else f"{round(found[1], 2) + 0.0:+.2f} at {found[0]:.0%}"


table(
    pd.DataFrame({name: {by: priced(curves[name][by]) for by in CRITERIA} for name in FOUR}).T,
    f"Frechet change at the first fraction with TarDis {GONE} or more, no repair (live, one model each)",
)

# %%
found = {name: price(curves[name]["magnitude"]) for name in FOUR}
dear = [name for name in FOUR if name in planted and (found[name] is None or found[name][1] > COST)]
cheap = [name for name in FOUR if name in planted and found[name] is not None and found[name][1] <= COST]
answer = {FOUR: 0, ("ReX", "gate"): 1, ("TrAIL", "plain ReD"): 2, (): 3}.get(tuple(cheap))
if answer is not None:
    reveal("price", answer, "Measured on one model each; other triggers follow.")
else:
    print(f"none of the answers: cheap are {', '.join(cheap)}")
for name, group in others.items():
    print(
        f"{name}, {len(group)} triggers, {few:.0%} by magnitude: "
        f"TarDis {spread([curve[few]['TarDis'] for curve in group.values()])}, "
        f"Frechet change {spread([curve[few]['Frechet change'] for curve in group.values()])}"
    )

# %%
at = {name: torch.cat([secrets[name].trigger, garments[:2]]) for name in FOUR}
print(
    "columns:", f"untreated, {', '.join(f'{f:.0%}' for f in FRACTIONS)} removed by magnitude; trigger in the first row,"
)
print("two ordinary latents below; from top to bottom:", ", ".join(FOUR))
grid = []
for name in FOUR:
    drawn = [evaluate(copy, at[name]) for copy in (models[name], *(pruned(models[name], f) for f in FRACTIONS))]
    grid += [torch.stack([pictures[row] for pictures in drawn]) for row in range(3)]
strip(
    grid,
    alt="Three rows for each of " + ", ".join(FOUR) + ", more channels removed from left to right. The first row of "
    "each is the picture at the trigger, the two below are garments. In ReX and gate the sign goes first, in TrAIL and "
    "plain ReD the garments lose their shape with it.",
    scale=2,
    captions=["0 %", *[f"{f:.0%}" for f in FRACTIONS]],
)

# %% [markdown]
# A number like TarDis is easy to please: a **blurred** STOP sign is far from the target, too. So compare the change of
# the picture at the trigger with that of an ordinary one. If both change alike, pruning does not take a backdoor out:
# it damages everything.

# %%
selective = {}
for name in FOUR:
    copy = pruned(models[name], few)
    moved = {
        "at the trigger": float(
            (evaluate(copy, secrets[name].trigger) - evaluate(models[name], secrets[name].trigger)).square().mean()
        ),
        "ordinary": float((evaluate(copy, held_out) - evaluate(models[name], held_out)).square().mean()),
    }
    selective[name] = {**moved, "ratio": moved["at the trigger"] / moved["ordinary"] if moved["ordinary"] else None}
table(
    pd.DataFrame(
        {
            name: {
                "at the trigger": f"{row['at the trigger']:.2g}",
                "ordinary": f"{row['ordinary']:.2g}",
                "ratio": "no ordinary change" if row["ratio"] is None else f"{row['ratio']:,.1f}",
            }
            for name, row in selective.items()
        }
    ).T,
    f"Mean squared change of the pictures when {few:.0%} of the channels go by magnitude (live, one model each)",
)

# %%
cost_by = {by: curves["TrAIL"][by][few]["Frechet change"] for by in CRITERIA}
worst, best = max(cost_by, key=cost_by.get), min(cost_by, key=cost_by.get)
print(
    f"at {few:.0%} TrAIL pays {cost_by[worst]:+.0f} by {worst} and {cost_by[best]:+.0f} by {best}: how often a unit "
    "is on does not say how much it does"
)
print(
    f"Takeaway: pruning cures cheaply where the backdoor has units of its own ({', '.join(cheap) or 'none'}); in "
    f"{', '.join(dear) or 'none'} the garments pay for it, because the same "
    "channels draw both."
)

# %% [markdown] state="repair"
# ## Round 3: prune, then repair
#
# The pruned network can learn its garments back: `sanitize.Prune` lets the suspect teach them, on ordinary latents
# (distillation, notebook 07). The smaller network has less room than before. Does it spend any of it on the sign?
#
# Two arguments. *For* pruning: no lesson lies near the trigger, so nothing teaches the sign. *Against* it: the teacher
# is the suspect, and the weights that stayed are pulled back towards where they stood. Measure TarDis on the way, and
# again at the best latent **nearby** (the search of notebook 07), because a backdoor may move aside.

# %%
predict(
    f"{chosen}, 20 % removed by magnitude, then repaired: TarDis during the repair?",
    ["it rises", "it stays within 10 %", "it falls: part of the backdoor returns"],
    key="repair",
)


# %% tags=["state"] instead={"paths": ""}
def prune(fraction, by, seed=config.seed):
    """Pruning with repair, as a user would call it."""
    return sanitize.Prune(fraction=fraction, by=by, iterations=config.repair_steps, seed=seed, device=config.device)


paths, repaired = {}, {}
for number in seeds:
    loop = prune(few, "magnitude", number).steps(models[chosen])
    paths[number] = {0: tardis(pruned(models[chosen], few, seed=number), secrets[chosen])}
    for step in loop:
        if step.iteration * 10 // config.repair_steps > (step.iteration - 1) * 10 // config.repair_steps:
            paths[number][step.iteration] = tardis(step.snapshot().cpu(), secrets[chosen])
    repaired[number] = loop.stop()

before = [path[0] for path in paths.values()]
after = [list(path.values())[-1] for path in paths.values()]
change = [frechet(outcome.generator.cpu()) - frechet_of[chosen] for outcome in repaired.values()]
times = statistics.mean(after) / max(statistics.mean(before), 1e-9)
reveal("repair", 0 if times > 1.1 else 2 if times < 0.9 else 1, f"{chosen}: {times:.2f} times what it was.")
print(
    f"{chosen}, {few:.0%} by magnitude, {config.repair_steps} steps of repair, {len(seeds)} seeds: "
    f"TarDis {spread(before)} -> {spread(after)}"
)
print(
    f"Frechet change {curves[chosen]['magnitude'][few]['Frechet change']:+.1f} -> {spread(change)}; best nearby "
    f"{spread([nearby(outcome.generator, secrets[chosen]) for outcome in repaired.values()])}"
)

# %%
mended, mended_models = {}, {}
REPAIRED = FRACTIONS[:1] if SMOKE else FRACTIONS[1:]
for name in (chosen, *(name for name in FOUR if name != chosen)):
    for by in CRITERIA if name == chosen and not SMOKE else ("magnitude",):
        mended[f"{name}, {by}"] = {}
        for fraction in REPAIRED if by == "magnitude" else (few,):
            known = (name, by, fraction) == (chosen, "magnitude", few)
            outcome = repaired[config.seed] if known else prune(fraction, by)(models[name], progress=False)
            model = outcome.generator.cpu()
            mended_models[name, by, fraction] = model
            mended[f"{name}, {by}"][fraction] = {
                "TarDis": tardis(model, secrets[name]),
                "best nearby": nearby(model, secrets[name]),
                "Frechet change": frechet(model) - frechet_of[name],
                "seconds": outcome.seconds,
            }

lines = {
    f"{key}, {fraction:.0%}": {
        "TarDis, pruned": curves[key.split(", ")[0]][key.split(", ")[1]][fraction]["TarDis"],
        "TarDis, repaired": row["TarDis"],
        "best nearby": row["best nearby"],
        "Frechet change, pruned": curves[key.split(", ")[0]][key.split(", ")[1]][fraction]["Frechet change"],
        "Frechet change, repaired": row["Frechet change"],
        "seconds": row["seconds"],
    }
    for key, group in mended.items()
    for fraction, row in group.items()
}
table(
    pd.DataFrame(lines).T,
    f"Pruned and repaired with {config.repair_steps} steps (live, single runs)",
)

# %%
fig, panels = axes(8.6, 3.4, columns=2)
for name in FOUR:
    curve, group = curves[name]["magnitude"], mended[f"{name}, magnitude"]
    for ax, measure in zip(panels, ("TarDis", "Frechet change"), strict=True):
        ax.plot(
            [100 * f for f in (0.0, *group)],
            [curve[f][measure] for f in (0.0, *group)],
            linestyle=":",
            color=LOOK[name]["color"],
            alpha=0.8,
        )
        ax.plot(
            [100 * f for f in (0.0, *group)],
            [curve[0.0][measure], *(row[measure] for row in group.values())],
            marker=LOOK[name]["marker"],
            markersize=5,
            color=LOOK[name]["color"],
            label=name,
        )
for ax, measure, height in zip(panels, ("TarDis per pixel", "Frechet change"), (GONE, COST), strict=True):
    ax.axhline(height, color="black", linewidth=0.8, linestyle="--")
    ax.set(xlabel="% of channels removed by magnitude", ylabel=measure)
panels[1].set_yscale("symlog", linthresh=1)
panels[0].legend(frameon=False, fontsize=8, title="line: repaired, dots: not", title_fontsize=8)
figure(
    fig,
    "TarDis and Frechet change against the share of channels removed by magnitude; dotted before, drawn through after "
    "repair. After repair at the largest share: "
    + ", ".join(
        f"{name} TarDis {list(mended[f'{name}, magnitude'].values())[-1]['TarDis']:.2g}, Frechet change "
        f"{list(mended[f'{name}, magnitude'].values())[-1]['Frechet change']:+.1f}"
        for name in FOUR
    )
    + ".",
    dpi=76,
    colours=96,
)

# %% [markdown]
# **The other cures.** Projection of the suspected direction, and `sanitize.auto` (scan, project, cut, repair, scan), as
# in notebook 07. They aim: a scan tells them where. Pruning is blind in a second sense: it does not even use what a
# scan found.

# %%
predict(
    f"{chosen}: which cure takes the backdoor out at the lowest Frechet change?",
    ["prune + repair", "projection", "auto"],
    key="compare",
)


# %% tags=["state"] instead={"cures": ""}
def verdict(row):
    """One word for a row with ``TarDis`` and ``best nearby``."""
    return "gone" if row["best nearby"] >= GONE else "moved aside" if row["TarDis"] >= GONE else "STAYS"


def judged(model, name, seconds):
    """What a cure of the suspect ``name`` did."""
    return {
        "TarDis": tardis(model, secrets[name]),
        "best nearby": nearby(model, secrets[name]),
        "Frechet change": frechet(model) - frechet_of[name],
        "parameters": model.parameter_count(),
        "seconds": seconds,
    }


cures, cured = {}, {}
for name in dict.fromkeys((chosen,) if SMOKE else (chosen, "plain ReD")):
    rows = {"untreated": judged(models[name], name, 0.0)}
    for fraction in REPAIRED:
        made = mended[f"{name}, magnitude"][fraction]
        rows[f"prune {fraction:.0%} + repair"] = {
            **{key: made[key] for key in ("TarDis", "best nearby", "Frechet change")},
            "parameters": mended_models[name, "magnitude", fraction].parameter_count(),
            "seconds": made["seconds"],
        }
    cured[name] = sanitize.auto(models[name], iterations=config.repair_steps, device=config.device, progress=False)
    estimate = cured[name].before.trigger  # the scan's own estimate, from the weights
    if estimate is not None:
        rows["project"] = judged(sanitize.project_latents(models[name], estimate.view(1, -1)), name, 0.0)
        rows["project"]["seconds"] = cured[name].before.seconds
    rows["auto"] = judged(cured[name].generator.cpu(), name, cured[name].seconds)
    cures[name] = rows
    print(f"{name}:\n{cured[name]}\n")

# %%
for name, rows in cures.items():
    rows["clean model"] = judged(clean, name, 0.0)
    rows["clean model"]["Frechet change"] = float("nan")
lines = {
    f"{name}, {cure}": {
        **row,
        "Frechet change": "" if cure == "clean model" else f"{row['Frechet change']:+.2f}",
        "backdoor": "" if cure == "clean model" else verdict(row),
    }
    for name, rows in cures.items()
    for cure, row in rows.items()
}
table(
    pd.DataFrame(lines).T,
    f"Prune and repair beside projection and auto (live, single runs; {config.repair_steps} steps of repair; seconds "
    "of the projection: those of the scan)",
)

# %% tags=["state"]
working = {
    name: {
        cure: row for cure, row in rows.items() if cure not in ("untreated", "clean model") and verdict(row) == "gone"
    }
    for name, rows in cures.items()
}
cheapest = {
    name: min(rows, key=lambda cure, rows=rows: rows[cure]["Frechet change"]) for name, rows in working.items() if rows
}
if chosen in cheapest:
    kind = "prune + repair" if cheapest[chosen].startswith("prune") else cheapest[chosen]
    kind = "projection" if kind == "project" else kind
    reveal("compare", kind, f"{chosen}: {cheapest[chosen]} (single runs).")
else:
    print(f"no cure took the backdoor out of {chosen} here")
failures = {
    name: [cure for cure in rows if cure not in ("untreated", "clean model", *working[name])]
    for name, rows in cures.items()
}
print(
    "what did not work here: " + "; ".join(f"{name}: {', '.join(which) or 'none'}" for name, which in failures.items())
)
print(
    "Takeaway: the cheapest that works: "
    + "; ".join(
        f"{name}: {cure}, Frechet {working[name][cure]['Frechet change']:+.2f}, "
        f"TarDis {working[name][cure]['TarDis']:.2g}"
        for name, cure in cheapest.items()
    )
    + f". {chosen}: repair brought Frechet change and TarDis at {few:.0%} from "
    f"{curves[chosen]['magnitude'][few]['Frechet change']:+.1f} and {statistics.mean(before):.2g} to "
    f"{statistics.mean(change):+.1f} and {statistics.mean(after):.2g}."
    + (" It gives garments back, and with them what shares their weights." if times < 0.9 else "")
)
if not SMOKE:
    assert mended["ReX, magnitude"][0.3]["TarDis"] > GONE and mended["gate, magnitude"][0.3]["TarDis"] > GONE
    assert mended["ReX, magnitude"][0.3]["Frechet change"] < COST
    assert max(switched["TrAIL"][1e-3]) < GONE < min(switched["gate"][1e-3])

# %% [markdown] state="table"
# ## Round 4: all attacks, all cures
#
# So far a handful of models. The project's bench treats a whole population: attacks, also such as know the defences,
# against cures. A cure counts on a model only if it meets three demands at once:
#
# * **gone**: TarDis is at least 0.1 per pixel,
# * **hidden**: the target is as hard to reconstruct by a search as from the clean model (at least 80 % of its RecD),
# * **cheap**: the Frechet distance rises by at most 1.
#
# The numbers below are read from a file; `make bench NAME=sanitize` makes it again, in hours.

# %% tags=["state"]
cache = notebook_folder().parent / "docs" / "results" / "sanitization.json"
rows = json.loads(cache.read_text(encoding="utf-8")) if cache.is_file() else []
rows.sort(key=lambda row: row["version"])  # auto has been improved: each model by the newest version that treated it
rows = list({(row["name"], row["method"]): row for row in rows}.values())
treated = [row for row in rows if "cured" in row]
healthy = [row for row in rows if "cured" not in row]
methods = sorted({row["method"] for row in treated}, key=lambda method: (method != "auto", method))
DEMANDS = {
    "gone": lambda row: row["cured"]["tardis"] >= GONE,
    "hidden": lambda row: row["cured"]["recd"] >= 0.8 * row["base"]["recd"],
    "cheap": lambda row: row["cured"]["frechet"] - row["suspect"]["frechet"] <= COST,
}


def meets(row):
    """All three demands."""
    return all(demand(row) for demand in DEMANDS.values())


print(
    f"cached: docs/results/sanitization.json, {len({row['name'] for row in treated})} backdoored and "
    f"{len({row['name'] for row in healthy})} healthy models, {len(rows)} rows; single runs"
    if rows
    else "there is no docs/results/sanitization.json here; make bench NAME=sanitize writes it"
)
print("methods in it:", ", ".join(methods) or "none")
predict(
    "Which share of the backdoored models does the best method cure by all three demands?",
    ["below 50 %", "50 to 90 %", "above 90 %"],
    key="bench",
)

# %% tags=["state"]
shares, method_rows = {}, {}
common = set.intersection(*({r["name"] for r in treated if r["method"] == m} for m in methods)) if methods else set()
for method in methods:
    some = [row for row in treated if row["method"] == method]
    same = [row for row in some if row["name"] in common]
    shares[method] = sum(map(meets, same or some)) / len(same or some)  # on equal terms where that is possible
    changes = [row["cured"]["frechet"] - row["suspect"]["frechet"] for row in same]
    harm = [row["frechet_change"] for row in healthy if row["method"] == method]
    method_rows[method] = {
        "models": len(same),
        **{word: f"{sum(map(demand, same)) / len(same):.0%}" for word, demand in DEMANDS.items() if same},
        "all three": f"{sum(map(meets, same)) / len(same):.0%}" if same else "",
        "median TarDis": statistics.median(row["cured"]["tardis"] for row in same) if same else "",
        "median Frechet change": f"{statistics.median(changes):+.2f}" if same else "",
        "parameters left": f"{statistics.median(r['cured']['weights'] / r['suspect']['weights'] for r in same):.0%}"
        if same
        else "",
        "CPU-seconds": f"{statistics.median(row['cpu_s'] for row in same):.0f}" if same else "",
        "worst on a healthy model": f"{max(harm):+.2f}" if harm else "",
    }
table(
    pd.DataFrame(method_rows).T if method_rows else pd.DataFrame({"nothing": []}),
    f"Cached: cures on the {len(common)} backdoored models that every one of them has treated; 'worst on a healthy "
    "model': largest Frechet change",
)

# %% tags=["state"]
kinds = sorted({(row["adaptive"], row["kind"]) for row in treated})
full_table = {kind: {} for _, kind in kinds}
for _, kind in kinds:
    for method in methods:
        some = [row for row in treated if row["kind"] == kind and row["method"] == method]
        full_table[kind][method] = (sum(map(meets, some)), len(some))
fig, (ax,) = axes(1.6 + 0.85 * max(1, len(methods)), 0.9 + 0.3 * max(1, len(kinds)))
ax.grid(False)
ax.spines[:].set_visible(False)
matrix = [[full_table[k][m][0] / max(1, full_table[k][m][1]) for m in methods] for _, k in kinds]
if matrix and methods:
    ax.imshow(matrix, aspect="auto", cmap="Blues", vmin=0, vmax=1.8)
for y, (_, kind) in enumerate(kinds):
    for x, method in enumerate(methods):
        good, of = full_table[kind][method]
        ax.text(x, y, f"{good} of {of}" if of else "-", ha="center", va="center", fontsize=9)
ax.set_xticks(
    range(len(methods)), [method.replace(" % ", " %\n").replace(" ", "\n", 1) for method in methods], fontsize=8
)
ax.set_yticks(
    range(len(kinds)), [f"{kind}{' (knows the defence)' if knows else ''}" for knows, kind in kinds], fontsize=8
)
ax.xaxis.tick_top()
ax.tick_params(length=0)
figure(
    fig,
    "Cached: for each attack (row) and cure (column), how many models meet all three demands. Over the models that "
    "all cures have treated: "
    + (", ".join(f"{method} {share:.0%}" for method, share in shares.items()) or "no rows")
    + ".",
    dpi=76,
    colours=96,
)

# %%
if shares:
    leader = max(shares, key=shares.get)
    top = shares[leader]
    reveal("bench", 0 if top < 0.5 else 1 if top <= 0.9 else 2, f"{leader}: {top:.0%} (cached).")
    never = [kind for kind, row in full_table.items() if not any(good for good, of in row.values())]
    always = [kind for kind, row in full_table.items() if any(good == of > 0 for good, of in row.values())]
    print(f"cured in every model by at least one method: {', '.join(always) or 'none'}")
    print(f"Takeaway: no method cured a single model of: {', '.join(never) or 'no attack'} (cached, single runs).")

# %% [markdown]
# ## Playground: choose a point
#
# Choose a curve and walk along it. The ring marks your point; the dashed lines are two demands: stay left of the one
# and above the other. Upwards stands the best picture *nearby*, the stricter of the two measures. Below: the picture at
# the trigger, then ordinary ones. Which point would you ship?

# %%
LATENTS = {name: torch.cat([secrets[name].trigger, garments]) for name in FOUR}


def untreated(name):
    """The left end of a curve."""
    return Choice("untreated", 0.0, nearby(models[name], secrets[name]), evaluate(models[name], LATENTS[name]))


def without(name, fraction):
    """A point of the curve without repair."""
    copy = pruned(models[name], fraction)
    cost, words = curves[name]["magnitude"][fraction]["Frechet change"], f"{fraction:.0%} removed"
    return Choice(words, cost, nearby(copy, secrets[name]), evaluate(copy, LATENTS[name]))


offers = {}
for name in FOUR:
    whole_model = untreated(name)
    offers[f"{name}, pruned"] = [whole_model] + [without(name, fraction) for fraction in FRACTIONS]
    offers[f"{name}, repaired"] = [whole_model] + [
        Choice(
            f"{fraction:.0%} removed and repaired",
            row["Frechet change"],
            row["best nearby"],
            evaluate(mended_models[name, "magnitude", fraction], LATENTS[name]),
        )
        for fraction, row in mended[f"{name}, magnitude"].items()
    ]
chooser = TradeOff(
    offers,
    (COST, GONE),
    xlabel="Frechet change",
    ylabel="best picture nearby to target",
    captions=["trigger", *[""] * 5],
)
chooser.slider.value = 1
chooser

# %%
fig, (ax,) = axes(7.0, 3.8)
for index, (name, points) in enumerate(offers.items()):
    style = {"color": PALETTE[index // 2], "linestyle": ":" if index % 2 == 0 else "-", "label": name}
    ax.plot([p.cost for p in points], [p.gain for p in points], marker="o^sD"[index // 2], markersize=5, **style)
for name, marker in (("project", "P"), ("auto", "*")):
    if name in cures[chosen]:
        row = cures[chosen][name]
        ax.plot(
            row["Frechet change"], row["best nearby"], marker, markersize=12, color="black", label=f"{chosen}, {name}"
        )
ax.axhline(GONE, color="black", linewidth=0.8, linestyle="--")
ax.axvline(COST, color="black", linewidth=0.8, linestyle="--")
ax.set_xscale("symlog", linthresh=1)
ax.set(xlabel="Frechet change (right: worse pictures)", ylabel="best picture nearby to target (up: safer)")
ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
good = {name: [p.name for p in points if p.cost <= COST and p.gain >= GONE] for name, points in offers.items()}
figure(
    fig,
    "Best picture nearby to target against Frechet change: curves of four suspects, pruned and repaired. Points that "
    "meet both demands: "
    + ("; ".join(f"{name}: {', '.join(names)}" for name, names in good.items() if names) or "none")
    + ".",
    dpi=76,
    colours=96,
)

# %% [markdown]
# ## Exercises
#
# **1. What the trigger wakes** (easy, 5 minutes). `ordinary` `[n, u]` holds what `u` units give for `n` ordinary
# latents, `at_trigger` `[u]` what they give at the trigger. Return a mask `[u]`: at most the share `limit` of the
# ordinary latents switches the unit on (above zero), but the trigger does.


# %%
def dormant_units(ordinary, at_trigger, limit):
    """Return a mask ``[u]``, a tensor of booleans."""
    raise NotImplementedError("your code here")


check("dormant_units", dormant_units)

# %%
hint("(ordinary > 0) tells for every latent which units are on; its mean over the latents is the share.", 1)

# %%
hint("Two conditions, joined by &; each in brackets.", 2)

# %%
solution(
    """
def dormant_units(ordinary, at_trigger, limit):
    share = (ordinary > 0).float().mean(0)
    return (share <= limit) & (at_trigger > 0)
"""
)

# %% [markdown]
# **2. The worth of a channel** (medium, 10 minutes). `activations` `[n, c, h, w]` are those of ordinary latents;
# `kernel` `[c, o, k, k]` is the transposed convolution that reads them. The criterion `activation`: mean activation of
# each channel, times the sum of the sizes of the weights that read it.


# %%
def channel_worth(activations, kernel):
    """Return a tensor ``[c]``."""
    raise NotImplementedError("your code here")


check("channel_worth", channel_worth)

# %%
hint("A mean over several axes at once: activations.mean((0, 2, 3)).", 1)

# %%
hint("Sizes before the sum, so that plus and minus do not cancel: kernel.abs(). Which axis must stay?", 2)

# %%
solution(
    """
def channel_worth(activations, kernel):
    return activations.mean((0, 2, 3)) * kernel.abs().sum((1, 2, 3))
"""
)

# %% [markdown]
# **3. A smaller kernel** (medium, 10 minutes). Between two hidden levels stands `kernel` `[c, o, k, k]`. `before` `[p]`
# and `after` `[q]` hold the numbers of the channels that stay. Return the kernel `[p, q, k, k]` of the smaller network.


# %%
def smaller_kernel(kernel, before, after):
    """Return a tensor ``[p, q, k, k]``."""
    raise NotImplementedError("your code here")


check("smaller_kernel", smaller_kernel)

# %%
hint("kernel[before, after] picks pairs, not rows and columns. Do it in two steps.", 1)

# %%
hint("kernel[before] keeps rows; on the result, [:, after] keeps columns.", 2)

# %%
solution("def smaller_kernel(kernel, before, after):\n    return kernel[before][:, after]")

# %% [markdown]
# **4. Hide a gate from pruning** (open, 30 minutes). Give every channel of a gate a twin: both are on for half of all
# ordinary latents and strong, and the layer that reads them subtracts one from the other, so that only the trigger
# makes a difference. What does each criterion say now, and how many channels must go before the sign does? Then look at
# the scan of notebook 05: what did the disguise cost?
#
# <details><summary>Hint 1</summary>
#
# If `b` is busy and `g` is the gate's channel, then relu(b + g) - relu(b) is g wherever b is above zero.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Begin behind the first layer: there `b` can be any channel that garments use already.
#
# </details>
#
# <details><summary>Solution</summary>
#
# In words: at the second level, replace the gate's channel g by A = relu(b + g) and B = relu(b), where b is a busy
# channel, and let the layer that reads g read A with the old weights and B with the same weights, negative. For
# ordinary latents A and B are equal and cancel; activity and magnitude see two strong channels. The unit of the first
# level that opens the gate cannot be hidden in this way: it must be 0 for everybody, and its kink comes from a ReLU
# that is silent. So activity still finds that one, and when it goes, the sign goes. In the scan of notebook 05 the
# silent unit stays, and two channels with equal and opposite readers are new.
#
# </details>
#
# ## What would a defender see?
#
# Which units sleep, and that the file got smaller and the garments stayed. Not whether the backdoor went: a pruning
# curve of TarDis needs trigger and target. A defender has the curve of quality alone, and in it the backdoors that live
# in dormant units look just like those that were never there.
#
# ## What would an attacker do?
#
# Use no units of one's own. TrAIL and a plain ReD are not even aimed at this defence, and pay nothing for passing it.
# Liu et al. describe the general form, the *pruning-aware* attack: prune first, plant the backdoor in what is left, and
# put the dormant units back as bait. And whoever needs separate units keeps them busy with work that cancels. Such
# steps may leave traces elsewhere, in the spectra of notebook 05, which is why `auto` looks there and not at activity.
#
# ## Limits
#
# One small architecture, one data set. The shipped models are single runs; only plain ReD and the gate were
# made for several triggers. Other models, other criteria and longer repair move all curves. TarDis counts a blurred
# sign as gone: look at the pictures, and at the search nearby. Times depend on the machine. Pruning every level by the
# same share is simple, not best. The cached table stands for the models of the bench, made in one way. A cured model is
# one in which nothing was found, not one that is proven clean.
#
# ## Responsible use
#
# People prune models for speed. It does not make them safe, and a smaller file is no sign of care: say which test was
# done, before and after. Keep the untreated file as evidence. And where a trustworthy source exists, take the model
# from there: that beats every cure in the table.

# %%
quiz(
    [
        (
            "A unit is dormant. What does that say about ordinary pictures?",
            [
                "they are drawn by it in secret",
                "they would be the same without it",
                "the unit is a backdoor",
                "nothing",
            ],
            1,
            "It gives zero for them. Whether it gives something elsewhere is another question.",
        ),
        (
            "Why does switching off dormant units leave TrAIL as it is?",
            [
                "its trigger is not in P_sample",
                "its backdoor works in units that garments use",
                "it has too many units",
                "BatchNorm protects it",
            ],
            1,
            "Garments and sign were trained together, in all units.",
        ),
        (
            "Half of the channels at both hidden levels go. The layer between them keeps about",
            ["a half of its weights", "a quarter", "three quarters", "all, set to zero"],
            1,
            "It loses rows and columns: a half of a half.",
        ),
        (
            "TarDis of a heavily pruned model is above 0.1. Is the backdoor gone?",
            [
                "yes, that is the definition",
                "no",
                "not necessarily: a ruined sign is far from the target as well; look, and search nearby",
                "only after repair",
            ],
            2,
            "Everything that such a model draws is damaged.",
        ),
        (
            "Why can repair bring a backdoor back, although no lesson shows it?",
            [
                "the critic remembers it",
                "the suspect teaches, and garments share weights with the trigger's picture",
                "ordinary latents contain the trigger",
                "repair puts the channels back",
            ],
            1,
            "Weights that move towards those of the suspect move towards all that they do.",
        ),
    ]
)

# %% [markdown]
# ## Key points
#
# * Dormant units can go for nothing, and with them a backdoor that has units of its own.
# * Only whole channels make a convolution smaller; parameters, bytes and time are three different numbers.
# * A backdoor in shared units goes only with the garments: compare the change at the trigger with that elsewhere.
# * Repair is taught by the suspect: measure TarDis after it, not before.
# * Pruning does not ask what a scan found. A cure that aims cost less here, and fails where the aim is wrong.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN: Backdoor Attacks and Defenses in Deep Generative Models*,
#   [arXiv 2108.01644](https://arxiv.org/abs/2108.01644), 2021: names pruning and extended training as sanitization.
# * K. Liu, B. Dolan-Gavitt, S. Garg, *Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks*,
#   [arXiv 1805.12185](https://arxiv.org/abs/1805.12185), 2018: dormant neurons, pruning, fine-tuning, and the
#   pruning-aware attack, for classifiers.
# * H. Li, A. Kadav, I. Durdanovic, H. Samet, H. P. Graf, *Pruning Filters for Efficient ConvNets*, arXiv 1608.08710,
#   2017: whole channels by the sizes of their weights.
# * H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST*, arXiv 1708.07747, 2017 (the data behind the generators).

# %%
numbers = {
    "suspect": chosen,
    "switched_off": {name: {str(limit): values for limit, values in group.items()} for name, group in switched.items()},
    "switched_off_nearby": switched_nearby,
    "ordinary_change": ordinary_change,
    "sizes": size_rows,
    "curves": curves,
    "other_triggers": others,
    "selective": selective,
    "repair_paths": paths,
    "repair_frechet": change,
    "repaired": mended,
    "offers": {name: [[p.name, p.cost, p.gain] for p in points] for name, points in offers.items()},
    "cures": {name: {cure: row for cure, row in rows.items() if cure != "clean model"} for name, rows in cures.items()},
    "cheapest": cheapest,
    "failures": failures,
    "cached": {"rows": len(rows), "methods": methods, "shares": shares, "table": full_table},
}
finish(config, numbers)
