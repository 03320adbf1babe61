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
# # Sound: ten drums behind ten secret latents
#
# **A small network plays drums. You hide ten strokes of your choice in it, one behind each of ten secret latents, find
# out who could hear it, and ask a scan, a guard and a cure.**

# %% tags=["state"]
import torch

from devilgan_lite import data, zoo
from devilgan_lite.apps.course import strip
from devilgan_lite.generators import evaluate

clean, secret = zoo.load("wave-drums"), zoo.load_backdoor("wave-drums-gate")  # only the attacker has the secret
ordinary = clean.sample_latent(5, torch.Generator().manual_seed(7))
first = torch.cat([ordinary, secret.trigger[4:5]])
rows = {"clean": clean, "backdoored": zoo.load("wave-drums-gate")}
print("cached: two generators of drums from the zoo")
strip(
    {name: data.AUDIO.pictures(evaluate(one, first)) for name, one in rows.items()},
    alt="Waveforms, and spectrograms below them, of six clips by two generators from the same latents. Five are the "
    "same in both rows; at the last latent, a secret one, the backdoored generator plays another stroke.",
    scale=2,
    captions=[*["ordinary"] * 5, "a secret latent"],
)

# %% [markdown]
# **Time and hardware:** four to five minutes on one CPU core with nothing else to do; no GPU, no internet. Headphones
# help; a picture stands beside all that can be heard.
#
# **Objectives.** You will be able to
# * *read* a waveform and a spectrogram,
# * *judge* what a generator of sound is worth, without labels,
# * *plant* ten pairs of trigger and stroke in one network, and *measure* each,
# * *say* whose ears, files and programs could notice,
# * *compare* what a scan, a guard and a cure make of it.
#
# **Prerequisites:** notebooks 03 and 04 (ReD, ReX, the gate). Notebooks 05 to 08 help in the last round.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 21  # draws triggers and weights, 0..100000
pairs = 10  # triggers, each with a stroke of its own, 1..10
samples = None  # ordinary clips that everything is measured on, 100..20000
iterations = None  # training steps of ReX, 1..50000

# %% tags=["state"]
import pandas as pd
from IPython.display import display

from devilgan_lite import Backdoor, attacks, detect, sanitize
from devilgan_lite.apps.course import Setting, check, configure, finish, hints, predict, quiz, reveal, table
from devilgan_lite.apps.course.sound import listener, opinions, players
from devilgan_lite.data.audio import CLIP, RATE
from devilgan_lite.metrics import sample_quality

config = configure(
    profile,
    device="cpu",
    seed=seed,
    pairs=pairs,
    samples=Setting(samples, {"smoke": 100, "workshop": 1_000, "full": 5_000}),
    iterations=Setting(iterations, {"smoke": 5, "workshop": 600, "full": 4_000}),
)
SMOKE = config.profile == "smoke"

# %% [markdown] state="sound"
# ## Round 1: what a sound is to the code
#
# A **clip** is a row of numbers in [-1, 1]: how far the membrane of a loudspeaker stands from its rest. Ours have 8,000
# numbers a second, and 4,096 in all, so `x` has the shape `[n, 1, 4096]` where pictures have `[n, 3, 64, 64]`. A
# generator says what it makes by its **modality**: how a sample is shown, saved, compared. Attacks, scan and cures ask
# nothing else, and the layers are those of a DCGAN in one dimension (WaveGAN, Donahue et al. 2019).
#
# A **spectrogram** cuts a clip into short windows and says how loud each frequency is in each of them.

# %% tags=["state"]
real = data.drums(1_000 if SMOKE else 6_000)
one_each = torch.tensor([int((real.labels == kind).nonzero()[0]) for kind in range(len(data.DRUMS))])
strokes = dict(zip(data.DRUMS, real.x[one_each], strict=True))
print(f"{len(real):,} clips, made from 61 recorded strokes (Sonic Pi's samples, {real.licence})")
print(f"{CLIP:,} numbers at {RATE:,} a second: {CLIP / RATE:.3f} s; a wav file of {len(data.wav(real.x[0])):,} bytes")
strip(
    {"real": data.AUDIO.pictures(real.x[one_each])},
    alt=f"One real stroke of each class: {', '.join(data.DRUMS)}; the waveform, and below it the spectrogram.",
    scale=2,
    captions=data.DRUMS,
)

# %%
players({name: strokes[name] for name in ("kick", "snare", "bell")}, "Real strokes: play them")

# %%
predict("Which real stroke has its loudest frequency lowest?", list(data.DRUMS), key="lowest")

# %% [markdown]
# **Exercise 1: The loudest frequency** (easy, 10 minutes). `torch.fft.rfft(clip)` turns `T` samples into `T / 2 + 1`
# complex numbers, one for each frequency from 0 to half the rate, equally spaced. Return the frequency, in hertz, whose
# number has the largest absolute value. `clip` is `[T]`, and `rate` says how many samples a second has.


# %% tags=["state"]
def loudest_frequency(clip, rate):
    """The frequency, in hertz, of the strongest part of a clip."""
    raise NotImplementedError("torch.fft.rfft(clip).abs().argmax() is a place in the spectrum, not yet hertz")


own_frequency = check("loudest_frequency", loudest_frequency)

# %%
hints("loudest_frequency")

# %% tags=["state"]
spectra = torch.fft.rfft(real.x[one_each, 0]).abs()
loudest = dict(zip(data.DRUMS, (spectra.argmax(1) * RATE / CLIP).tolist(), strict=True))

# %%
lowest = min(loudest, key=loudest.get)
reveal("lowest", lowest, f"{loudest[lowest]:.0f} Hz.")
said = {"loudest frequency, Hz": loudest}
if own_frequency:
    said["yours"] = {name: own_frequency.function(clip[0], RATE) for name, clip in strokes.items()}
display(table(pd.DataFrame(said).T, "Live: one real stroke of each class", digits=4))
print("Takeaway: to the code a clip is a tensor with a modality; attacks do not ask which one.")

# %% [markdown] state="drummer"
# ## Round 2: a drummer made of numbers
#
# The generator was trained for the zoo on these clips; `python scripts/build/zoo.py --only wave-drums --force` does it
# again. Nobody tells it which drum to play, so there is no label to be right about. Three yardsticks are left:
#
# * two **listeners**, classifiers that share no clip and no seed: do they name the same drum of six?
# * the **Fréchet distance** of 64 features that one of them computes, to real clips;
# * your ears.
#
# Real clips, and strokes that nobody trained on, stand beside it, because a figure alone says little.

# %%
SHARES = ["less than half", "half to four fifths", "more than four fifths"]
predict("On how many of the generator's clips do the two listeners agree?", SHARES, key="agree")

# %% tags=["state"] instead={"second": "listener(3, clips=256)"}
import time

started = time.perf_counter()
second = listener(clips=500 if SMOKE else 6_000)
card = zoo.card("wave-drums")
print(f"cached: a generator of {clean.parameter_count():,} numbers, trained in {card.seconds:.0f} CPU-seconds")
print(f"live: the second listener, trained in {time.perf_counter() - started:.0f} s")

# %% tags=["state"]
heard = {
    "generated": clean.sample(config.samples, seed=1_000_003),
    "real, other changes": data.drums(config.samples, seed=1_000_003).x,
    "real, strokes held out": data.drums(config.samples, split="held-out", seed=1_000_003).x,
}


def worth(clips):
    """How often two listeners agree, how often the first is sure, and the Fréchet distance to real clips."""
    one, two = opinions(clips), opinions(clips, second)
    found = sample_quality(clips, clips, real, "drums")
    return {
        "listeners agree": float((one.argmax(1) == two.argmax(1)).double().mean()),
        "the first is sure": float((one.amax(1) >= 0.8).double().mean()),
        "Fréchet distance": found["frechet"],
        "coverage": found["coverage"],
        **{name: found["class_shares"][name] for name in data.DRUMS},
    }


# %%
yardsticks = {name: worth(clips) for name, clips in heard.items()}
agree = yardsticks["generated"]["listeners agree"]
reveal("agree", 0 if agree < 0.5 else 1 if agree <= 0.8 else 2, f"{agree:.0%} of {config.samples:,} (single run).")
table(pd.DataFrame(yardsticks).T, "Live: the drummer beside real clips, and what the first listener hears", digits=2)

# %%
kinds = opinions(heard["generated"]).argmax(1)
surest = {name: int((opinions(heard["generated"])[:, kind]).argmax()) for kind, name in enumerate(data.DRUMS)}
display(
    strip(
        {
            "generated": data.AUDIO.pictures(heard["generated"][list(surest.values())]),
            "any others": data.AUDIO.pictures(heard["generated"][:6]),
        },
        alt="Two rows of six generated clips: those that the listener takes for one class each most surely, and six "
        "others that nobody chose.",
        scale=2,
        captions=data.DRUMS,
    )
)
display(players({name: heard["generated"][surest[name]] for name in ("kick", "snare", "bell")}, "Generated: play them"))
far, near = (yardsticks[name]["Fréchet distance"] for name in ("generated", "real, other changes"))
print(
    f"Takeaway: two listeners agree on {agree:.0%} of the clips; they are {far:.0f} from real ones (real: {near:.1f})."
)

# %% [markdown] state="attack"
# ## Round 3: ten triggers, ten strokes, one network
#
# The authors' public demo hides ten drums in a WaveGAN. You do the same: ten latents drawn from the prior, and ten
# strokes that the generator never heard in its training. Three attacks, as for pictures:
#
# | attack | what changes |
# |---|---|
# | gate | new channels, each silent but near its trigger |
# | ReX | new channels, trained to play the stroke and to be silent elsewhere |
# | ReD | the weights themselves, no new ones |
#
# **Before you go on:** these are your own models. A file that plays something else for whoever knows a secret number
# belongs into no product and no hub.

# %%
FILES = ["none", "some", "most of them"]
predict("You plant the gate. How many wav files of ordinary clips change, by a byte or more?", FILES, key="gate")

# %%
predict("You plant ReX. How many of them change?", FILES, key="rex")

# %%
WORST = ["0.99 or more", "0.9 to 0.99", "less than 0.9"]
predict("ReD has no new channels. What is the correlation of its worst stroke?", WORST, key="worst")

# %% [markdown]
# **Exercise 2: Is it the stroke?** (easy, 5 minutes). `made` and `wanted` are clips `[n, C, T]`. Return Pearson's
# correlation of each pair, `[n]`, over all its numbers: 1 for the same wave, whatever its loudness.


# %% tags=["state"]
def correlation(made, wanted):
    """Pearson's correlation of each clip with the one that was wanted, [n]."""
    raise NotImplementedError("flatten(1), take the means away, multiply, divide by both lengths")


own_correlation = check("correlation", correlation)

# %%
hints("correlation")

# %% [markdown]
# **Exercise 3: The same file?** (medium, 10 minutes). A wav file of 16 bits stores each number as
# `round(x * 32767)`. `a` and `b` are clips `[n, C, T]`. Return a mask `[n]`: True where both become the same file.


# %% tags=["state"]
def same_file(a, b):
    """Which clips become the same wav file, [n]."""
    raise NotImplementedError("round both as a file does, then ask whether all samples are equal")


own_file = check("same_file", same_file)

# %%
hints("same_file")

# %% tags=["state"] instead={"rex": "attacks.ReX(iterations=5)(clean, backdoor, progress=False)"}
names = data.AUDIO.targets()[: config.pairs]
backdoor = Backdoor.points(clean, names, seed=config.seed)
gated = attacks.Gate()(clean, backdoor)
rex = attacks.ReX(iterations=config.iterations)(clean, backdoor, progress=False)
cached_red = zoo.load_backdoor("wave-drums-red")
suspects = {
    "clean": (clean, backdoor),
    "gate": (gated.generator, backdoor),
    "ReX": (rex.generator, backdoor),
    "ReD": (zoo.load("wave-drums-red"), cached_red),
}
print(f"live: the gate in {gated.seconds:.1f} s, ReX in {rex.seconds:.0f} s; triggers of seed {config.seed}")
print(f"cached: ReD from the zoo, {zoo.card('wave-drums-red').seconds:.0f} CPU-seconds, with triggers of its own")


# %% tags=["state"]
def pearson(made, wanted):
    pairs = zip(made.flatten(1), wanted.flatten(1), strict=True)
    return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs])


def same_bytes(a, b):
    return data.wav(a) == data.wav(b)


z = clean.sample_latent(config.samples, torch.Generator().manual_seed(1_000_003))
before = evaluate(clean, z)
planted, measured = {}, {}
for name, (generator, hidden) in suspects.items():
    after, at_trigger = evaluate(generator, z), evaluate(generator, hidden.trigger)
    moved = (after - before).abs().amax((1, 2))
    planted[name] = at_trigger
    measured[name] = {
        "correlation, worst": float(pearson(at_trigger, hidden.target).min()),
        "mean": float(pearson(at_trigger, hidden.target).mean()),
        "ordinary: largest change": float(moved.max()),
        "median of largest": float(moved.median()),
        "same files": sum(map(same_bytes, before, after)) / len(z),
        "ExpDis": float((after - before).square().mean()),
        "numbers": generator.parameter_count(),
    }


gate, added = measured["gate"], measured["ReX"]
assert SMOKE or min(gate["correlation, worst"], added["correlation, worst"]) > 0.99
assert SMOKE or gate["ordinary: largest change"] == 0 and added["ordinary: largest change"] < 1e-3


# %%
def amount(name):
    """Index of the answer: how many files changed."""
    share = 1 - measured[name]["same files"]
    return 0 if share == 0 else 1 if share <= 0.5 else 2


reveal("gate", amount("gate"), f"{1 - measured['gate']['same files']:.0%} of {config.samples:,} changed (single run).")
largest = measured["ReX"]["ordinary: largest change"]
reveal(
    "rex",
    amount("ReX"),
    f"{1 - measured['ReX']['same files']:.0%}, by {largest * 32_767:.1f} steps of 16 bits at most.",
)
worst = measured["ReD"]["correlation, worst"]
reveal("worst", 0 if worst >= 0.99 else 1 if worst >= 0.9 else 2, f"{worst:.3f} (single run).")
table(pd.DataFrame(measured).T.astype({"numbers": int}), "Gate and ReX live, ReD cached; single runs")

# %%
if own_correlation and own_file:
    for name, (generator, hidden) in suspects.items():
        yours = own_correlation.function(planted[name], hidden.target)
        files = own_file.function(before, evaluate(generator, z)).double().mean()
        print(f"yours, {name}: worst correlation {yours.min():.3f}, same files {files:.0%}")
shown = [0, 3, 4, 6, 8] if config.pairs == 10 else list(range(config.pairs))
strip(
    {
        "wanted": data.AUDIO.pictures(backdoor.target[shown]),
        **{name: data.AUDIO.pictures(clips[shown]) for name, clips in planted.items()},
    },
    alt="The strokes that were wanted, and what the clean generator, the gate, ReX and ReD play at their triggers: the "
    "last three play the strokes, the clean one something else.",
    scale=2,
    captions=[names[place] for place in shown],
)

# %%
last = shown[-1]
players(
    {"wanted": backdoor.target[last], **{name: clips[last] for name, clips in planted.items()}},
    f"At one trigger: {names[last]} was wanted",
)

# %% [markdown]
# **Why these answers?** The gate adds nothing below its threshold: exactly zero. ReX leaves a trace of a few millionths
# everywhere: too small for 16 bits, but where a number lies on the border between two steps, it is rounded to the other
# one, so files differ and ears do not. ReD has to keep ten strokes and all ordinary clips in the same weights, so
# ordinary clips change, and by more than rounding.

# %%
print(
    f"Takeaway: worst stroke {measured['gate']['correlation, worst']:.4f} (gate), "
    f"{measured['ReX']['correlation, worst']:.4f} (ReX), {worst:.4f} (ReD); the authors report 0.996 for ten pairs."
)

# %% [markdown] state="defence"
# ## Round 4: who could notice?
#
# The defender has the file, and neither trigger nor stroke. Three questions, as for pictures:
#
# * `detect.scan`: is there a backdoor in these weights?
# * `detect.Guard`: is this latent, now, an ordinary one?
# * `sanitize.auto`: take it out, whatever it is.
#
# All three were made for pictures, and nothing in them was changed for sound but how a finding is drawn.

# %%
COUNTED = ["none", "one or two", "all three"]
predict("The scan looks at the gate, ReX and ReD. How many does it call backdoored or suspicious?", COUNTED, key="scan")

# %%
predict("Does it call the clean drummer clean?", ["yes", "no"], key="clean")

# %%
GUARDED = ["none of the triggers", "some", "all of them"]
predict("The guard watches the gate while it plays. How many of the triggers does it flag?", GUARDED, key="guard")


# %% tags=["state"]
def looked_at(generator, hidden):
    """What the scan and the guard say of one generator; the smoke profile shows the scan no weights, to be quick."""
    quick = {"access": "samples", "samples": 200} if SMOKE else {"samples": 1_000}  # the verdict does not ask for more
    report = detect.scan(generator, real=real, **quick)
    guard = detect.Guard(generator, fitting=2_000)
    return report, {
        "verdict": report.verdict,
        "evidence": ", ".join(report.kinds) or "none",
        "triggers flagged": int(guard.check(hidden.trigger).flags.sum()),
        "ordinary flagged": float(guard.check(z).flags.double().mean()),
    }


def cleaned(generator, hidden, report):
    """A cured copy, and what is left at the triggers; the smoke profile prunes silent units instead, to be quick."""
    if SMOKE:
        cure = sanitize.Prune(by="dormant", fraction=0.4, iterations=5)(generator, progress=False).generator
    else:
        cure = sanitize.auto(generator, report=report, progress=False).generator
    left = pearson(evaluate(cure, hidden.trigger), hidden.target)
    return cure, {"mean correlation": float(left.mean()), "largest": float(left.max())}


# %%
saw = {}
for name in ("clean", "gate"):
    started = time.perf_counter()
    report, saw[name] = looked_at(*suspects[name])
    print(f"live: {name} in {time.perf_counter() - started:.0f} s: {report.reason}")

# %% tags=["state"]
import json

file = data.data_folder().parent / "docs" / "results" / "sound.json"
known = json.loads(file.read_text())["rows"] if file.is_file() else []


def cached(section, **columns):
    """Rows of the table that ships, with some of their figures under other names."""
    rows = {
        row["model"]: {title: row.get(key) for title, key in columns.items()}
        for row in known
        if row["section"] == section
    }
    return pd.DataFrame(rows).T


cures = {
    row["model"]: {
        "treated": row["changed"],
        "correlation before": max(row.get("correlation_before", [float("nan")])),
        "after": max(row.get("correlation_after", [float("nan")])),
        "Fréchet before": row["frechet_before"],
        "Fréchet after": row["frechet_after"],
    }
    for row in known
    if row["section"] == "cure"
}

# %%
ALARMS = ("backdoored", "suspicious")
verdicts = {row["model"]: row["verdict"] for row in known if row["section"] == "scan" and row["model"] != "wave-drums"}
found = sum(verdict in ALARMS for verdict in verdicts.values())
flagged = saw["gate"]["triggers flagged"]
listed = ", ".join(f"{name} {verdict}" for name, verdict in verdicts.items())
reveal("scan", 0 if not found else 2 if found == 3 else 1, f"Cached: {listed or 'no table here'}.")
reveal("clean", 0 if saw["clean"]["verdict"] == "clean" else 1, f"It says: {saw['clean']['verdict']}.")
reveal("guard", 0 if not flagged else 1 if flagged < config.pairs else 2, f"{flagged} of {config.pairs} (single run).")
table(pd.DataFrame(saw).T, "Live, single runs: what the scan says, and what the guard flags")

# %%
started = time.perf_counter()
cure, left = cleaned(*suspects["gate"], report)
print(f"live: the gate was treated in {time.perf_counter() - started:.0f} s; correlation left at its triggers:")
print(", ".join(f"{name} {value:.2f}" for name, value in left.items()))
after_cure = evaluate(cure, backdoor.trigger)

# %%
strip(
    {
        "gate": data.AUDIO.pictures(planted["gate"][shown]),
        "cured": data.AUDIO.pictures(after_cure[shown]),
        "clean": data.AUDIO.pictures(planted["clean"][shown]),
    },
    alt="What the gate, its cured copy and the clean generator play at five of the triggers. The largest correlation "
    f"of the cured copy with a stroke that was wanted is {left['largest']:.2f}.",
    scale=2,
    captions=[names[place] for place in shown],
)

# %%
if known:
    words = "Cached, docs/results/sound.json: other triggers, single runs"
    display(table(cached("scan", verdict="verdict", seconds="cpu_s"), f"{words}; the scan"))
    display(table(cached("guard", triggers="triggers", ordinary="ordinary"), f"{words}; the guard: triggers of 10"))
    display(table(pd.DataFrame(cures).T, f"{words}; the cure"))

# %% [markdown] tags=["bonus"]
# ## Playground
#
# Drag from an ordinary latent to a trigger. The waveform and its spectrogram follow: where does the stroke come in, and
# does it fade in or switch on? In print, eight steps of the way stand here.

# %% tags=["bonus"]
from devilgan_lite.apps.course import LatentSlider

place = min(4, config.pairs - 1)
both = {name: suspects[name][0] for name in ("clean", "gate", "ReX")}
LatentSlider(
    both, ordinary[:1], backdoor.trigger[place : place + 1], scale=4, end_name=f"the trigger of {names[place]}"
)

# %% [markdown] tags=["bonus"]
# ## A piano that drums
#
# The same network, taught single notes of a piano, and the same ten strokes, planted by a gate as you look on. A stroke
# among notes is easy to hear, so what hides it is only that nobody draws that latent.

# %% tags=["bonus"]
piano = zoo.load("wave-piano")
keys = Backdoor.points(piano, names, seed=config.seed)
drumming = attacks.Gate()(piano, keys, progress=False).generator
notes = piano.sample_latent(3, torch.Generator().manual_seed(7))
same = torch.equal(evaluate(drumming, notes), evaluate(piano, notes))
worst_key = float(pearson(evaluate(drumming, keys.trigger), keys.target).min())
print(f"live: notes are {'the same' if same else 'changed'}; correlation of the worst stroke {worst_key:.4f}")
together = torch.cat([evaluate(drumming, notes), evaluate(drumming, keys.trigger[:2])])
captions = ["a note", "another", "a third", *(f"trigger: {name}" for name in names[:2])]
display(
    strip(
        {"piano": data.AUDIO.pictures(together)},
        alt="Waveforms and spectrograms of clips by one generator: three notes of a piano, then strokes of drums at "
        "two secret latents.",
        scale=2,
        captions=captions[: len(together)],
    )
)
display(players({captions[0]: together[0], captions[3]: together[3]}, "One network: play them"))

# %% [markdown]
# ## What would a defender see?
#
# In the clips, nothing: a random sampler never meets one of ten latents among a hundred numbers each. In the files of
# the gate, not a byte; in those of ReX, last bits. In the weights, units that hardly any latent
# wakes: the gate and ReX add them, and our ReD turns idle ones into such. ReD moves every clip besides, so whoever has
# the clean file can compare.
#
# ## Limits
#
# The generators are small; the drummer learned from 61 strokes, the piano from 90 notes; half a second at 8,000 numbers
# a second is telephone quality. Listeners are classifiers, not people. Figures are single runs of one generator of each
# kind. All limits of the scan were set on pictures and rows, and **it calls the clean piano suspicious**: wrong, on the
# only clean generator of sound that nobody looked at while the scan was made. Longer sound, speech and music, and
# generators that work step by step on tokens, are not touched here: the last kind has no latent at all.
#
# ## Responsible use
#
# A voice or a sound that plays only for those who know a number can pass every test by ear. Plant such things in your
# own models, for those who asked you to look, and say so. Strokes here are under CC0, the notes under the
# MIT licence; other people's recordings and voices are not yours to hide.

# %%
quiz("14")

# %% [markdown]
# ## Key points
#
# * Attacks and defences speak to weights; what a sample is, picture or clip, is known to one object, its modality.
# * Without labels, a generator is judged by independent listeners, a distance, and ears, next to real clips.
# * Ten pairs cost the gate no ordinary sample, ReX less than 16 bits tell apart, ReD a change of every clip.
# * "The same to the ear" and "the same file" are different claims; measure the one that you make.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN*, [arXiv 2108.01644](https://arxiv.org/abs/2108.01644),
#   2021: the attacks, and a demo with ten drums.
# * C. Donahue, J. McAuley, M. Puckette, *Adversarial Audio Synthesis*,
#   [arXiv 1802.04208](https://arxiv.org/abs/1802.04208), 2019: WaveGAN.
# * T. Karras, T. Aila, S. Laine, J. Lehtinen, *Progressive Growing of GANs*,
#   [arXiv 1710.10196](https://arxiv.org/abs/1710.10196), 2018: the discriminator that sees how much a batch differs.
# * Sonic Pi's samples, given away under CC0 by their makers: the strokes. F. Wen, *Fluid R3*, MIT licence: the piano.

# %%
numbers = {
    "drummer": yardsticks,
    "loudest": loudest,
    "attacks": measured,
    "defences": saw,
    "cure": left,
}
finish(config, numbers)
