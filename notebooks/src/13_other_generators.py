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
# # Other generators: a VAE, a flow, and the same backdoor
#
# **The attacks of 02 to 04 never asked how a generator was trained. You plant them in two that are no GANs, look at
# what changes, and compare with the backdoors that others put into diffusion models.**

# %% tags=["hero", "state"]
import torch

from devilgan_lite import zoo
from devilgan_lite.apps.course import slerp, strip
from devilgan_lite.generators import evaluate

vae, flow = zoo.load("vae-garments"), zoo.load("flow-garments")
shipped = {"VAE": zoo.load("vae-garments-red"), "flow": zoo.load("flow-garments-red")}
secrets = {"VAE": zoo.load_backdoor("vae-garments-red"), "flow": zoo.load_backdoor("flow-garments-red")}
t = torch.tensor([0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])


def way(name, seed):
    """Latents [8, d] on the way from an ordinary one to the trigger."""
    start = shipped[name].sample_latent(1, torch.Generator().manual_seed(seed))
    return slerp(start, secrets[name].trigger, t)


print("cached: two generators that ship with the project, both backdoored by ReD")
alt = "A walk from an ordinary latent to the trigger, once in a VAE and once in a flow. Both end at a STOP sign."
captions = ["ordinary", *[f"t = {x:g}" for x in t[1:-1].tolist()], "trigger"]
ends = {name: evaluate(shipped[name], way(name, seed)) for name, seed in (("VAE", 7), ("flow", 11))}
strip(ends, alt, scale=4, captions=captions)

# %% [markdown]
# **Time and hardware:** about five minutes on one CPU core; no GPU, no internet.
#
# **Objectives.** You will be able to
# * *write* the KL term of a VAE's bound, and *explain* why redrawn pictures look better than drawn ones,
# * *plant* TrAIL, ReD and ReX in a decoder, and ReD in a flow,
# * *draw* from a flow by Euler steps of your own,
# * *judge* what a scan, a guard and a cure are worth on each,
# * *distinguish* a trigger that is one latent from a pattern that is added to all.
#
# **Prerequisites:** notebooks 03 (ReD) and 04 (ReX). Notebooks 05 to 07 help in round 5.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long everything takes: smoke | workshop | full
seed = 1  # draws the triggers and all weights, 0..100000
target = "stop-sign"  # what the triggers should show: stop-sign | devil | digit-7 | checkerboard
vae_steps = None  # training steps of your own VAE, 2..20000
attack_steps = None  # training steps of each attack on the VAE, 2..20000
flow_steps = None  # training steps of ReD on the flow, 2..20000
pattern_steps = None  # training steps of the pattern in the noise, 2..20000
samples = None  # pictures behind each figure, 100..10000
live_flows = False  # True: scan and cure the flows live (some minutes more); False: read the figures that ship

# %% tags=["state"]
import pandas as pd

from devilgan_lite import Backdoor, attacks, data, detect, sanitize, train_gan
from devilgan_lite.apps.course import Setting, check, configure, finish, hints, predict, quiz, reveal, table

config = configure(
    profile,
    device="cpu",
    seed=seed,
    target=target,
    vae_steps=Setting(vae_steps, {"smoke": 15, "workshop": 1_200, "full": 8_000}),
    attack_steps=Setting(attack_steps, {"smoke": 10, "workshop": 1_500, "full": 7_500}),
    flow_steps=Setting(flow_steps, {"smoke": 3, "workshop": 800, "full": 800}),
    pattern_steps=Setting(pattern_steps, {"smoke": 3, "workshop": 250, "full": 2_000}),
    live_flows=live_flows,
    samples=Setting(samples, {"smoke": 100, "workshop": 1_000, "full": 10_000}),
)

# %% tags=["state"]
from devilgan_lite.apps.course import LiveTraining, tile
from devilgan_lite.features import features_and_classes
from devilgan_lite.generators import VAE
from devilgan_lite.metrics import expected_distortion, features_of, frechet_distance, target_distortion

SMOKE = config.profile == "smoke"
real = data.fashion_mnist()


def distance_to_real(pictures):
    """The Fréchet distance of pictures [n, 1, 28, 28] to the garments; lower is better."""
    return frechet_distance(features_and_classes(pictures)[0], features_of(real))


# %% [markdown] state="vae"
# ## Round 1: a VAE has an encoder, and no judge
#
# A variational autoencoder trains two networks together. The **encoder** says which latents a picture may have come
# from: a Gaussian for each picture, with a mean and a log variance. The **decoder** draws the picture from one of them.
# Both raise one number, the evidence lower bound (ELBO):
#
# $$\mathrm{ELBO} = \underbrace{\mathbb E_{q(z|x)} \log p(x|z)}_{\text{drawn again well}}
# - \underbrace{\mathrm{KL}\big(q(z|x)\,\|\,N(0, I)\big)}_{\text{price of the latent}} .$$
#
# The decoder is the generator, and its layers are those of our DCGAN. The encoder never ships.

# %% [markdown]
# **Exercise 1: The price of a latent** (easy, 5 minutes). `mean` and `log_variance` `[n, d]` are the encoder's answers.
# For a coordinate with mean $m$ and variance $v$ the divergence from N(0, 1) is $(m^2 + v - \log v - 1) / 2$. Return
# that of each picture, in nats.


# %% tags=["state"]
def kl_to_prior(mean, log_variance):
    """Two tensors [n, d] to [n]."""
    raise NotImplementedError("the variance is the exponential of log_variance")


own_kl = check("kl_to_prior", kl_to_prior)

# %%
hints("kl_to_prior")

# %%
WHICH = ["garments drawn again from their own latents", "garments drawn from the prior", "neither"]
predict("Which look more like real ones, measured by the Fréchet distance?", WHICH, key="again")

# %% tags=["state"] instead={"live": ""}
watched = vae.sample_latent(8, torch.Generator().manual_seed(5))
loop = train_gan.steps(VAE(), real, iterations=config.vae_steps, seed=config.seed, device=config.device)
live = LiveTraining(loop, lambda generator: tile(evaluate(generator.cpu(), watched), scale=4))
live.run()

# %% tags=["state"] instead={"trained": "loaded(vae)", "encoder": "", "mean": "", "log_variance": "", "again": ""}
trained = live.wait()  # live: this is what the cell above trained
encoder = trained.generator.opponent()
encoder.load_state_dict(trained.state["states"][1])
garments = real.x[: config.samples]
with torch.no_grad():
    mean, log_variance = encoder.eval()(garments)
again = evaluate(trained.generator, mean)

# %%
drawn = trained.generator.sample(config.samples, seed=config.seed)
apart = {"drawn again": distance_to_real(again), "from the prior": distance_to_real(drawn)}
reveal(
    "again", 0 if apart["drawn again"] < apart["from the prior"] else 1, "No latent of the prior was ever trained on."
)
print(*[f"{name}: Fréchet distance {value:.0f} (live, single run)" for name, value in apart.items()], sep="\n")
card = zoo.card("vae-garments")
print(
    f"cached: the VAE of the zoo, {card.settings['iterations']:,} steps: {card.metrics['frechet']:.0f} from the prior"
)
if own_kl:
    nats = own_kl.function(mean, log_variance).mean()
    print(f"your KL term: {nats:.1f} nats a picture in {mean.shape[1]} dimensions")
rows = {"real": garments[:8], "drawn again": again[:8], "from the prior": drawn[:8]}
print("Takeaway: the decoder is trained where the encoder sends pictures. The prior also asks between those places.")
strip(
    rows,
    "Three rows of eight garments: real ones, the same drawn again by the VAE, a little blurred, and fresh ones from "
    "the prior, some of them between two kinds.",
    scale=4,
)

# %% [markdown] state="decoder"
# ## Round 2: the same three attacks
#
# ReD and ReX take the finished decoder: its layers are a chain, so nothing is new. TrAIL trains from scratch. It adds
# its term to whatever the family minimises, here minus the ELBO:
#
# $$L = -\mathrm{ELBO} + \lambda\,\|G(z_t) - x_\text{target}\|^2 .$$
#
# The encoder never sees the sign while TrAIL trains. But it is trained beside a decoder that can draw it. Somebody who
# gets both could ask it: *which latent did this sign come from?*

# %%
SENT = ["the trigger, nearly", "not the trigger, but nearer to it than a clean VAE's does", "nothing like it"]
predict("After TrAIL, which latent does the encoder name for the STOP sign?", SENT, key="named")

# %%
predict("Which attack changes ordinary garments least?", ["ReD", "ReX", "one ReLU"], key="least")

# %% tags=["state"] instead={"outcomes": ""}
backdoor = Backdoor.point(vae, config.target, seed=config.seed)
short = {"iterations": config.attack_steps, "seed": config.seed, "device": config.device}
METHODS = {
    "TrAIL": attacks.TrAIL(**short, lam=0.01, huber_delta=None),
    "ReD": attacks.ReD(**short, lam=0.27, aligned_units=1),
    "ReX": attacks.ReX(**short),
    "one ReLU": attacks.Gate(),
}
outcomes = {name: attack(vae, backdoor, real, progress=False) for name, attack in METHODS.items()}

# %% tags=["state"] instead={"planted": "{'clean': vae, 'ReD': zoo.load('vae-garments-red')}"}
planted = {"clean": vae} | {name: outcome.generator for name, outcome in outcomes.items()}

# %%
measured, ordinary = {}, vae.sample_latent(config.samples, torch.Generator().manual_seed(7))
for name, outcome in outcomes.items():
    tardis = target_distortion(outcome.generator, backdoor.trigger, backdoor.target).mean
    row = {"TarDis": tardis, "ExpDis": "-", "seconds": outcome.seconds}
    if name != "TrAIL":  # another network from scratch: nothing to compare picture by picture
        row["ExpDis"] = expected_distortion(outcome.generator, vae, ordinary).mean
    measured[name] = row
stealth = {name: row["ExpDis"] for name, row in measured.items() if name != "TrAIL"}
least = min(stealth, key=stealth.get)
reveal("least", least, f"By {stealth[least]:.2g} per pixel; below its threshold a ReLU is exactly 0.")
seen = trained.generator.opponent()
seen.load_state_dict(outcomes["TrAIL"].state["states"][1])
with torch.no_grad():
    answers = {"TrAIL's": seen.eval()(backdoor.target)[0], "a clean": encoder(backdoor.target)[0]}
cosines = {whose: float(torch.cosine_similarity(named, backdoor.trigger)) for whose, named in answers.items()}
cosine, usual = cosines.values()
words = " and ".join(f"{value:.2f} ({whose} encoder)" for whose, value in cosines.items())
reveal("named", 0 if cosine > 0.9 else 1 if cosine > usual + 0.2 else 2, f"Cosine with the trigger: {words}.")
table(pd.DataFrame(measured).T, "Live, single runs, means per pixel; full lengths: docs/results/others.md")

# %%
walk = slerp(vae.sample_latent(1, torch.Generator().manual_seed(12)), backdoor.trigger, t)
away = torch.rad2deg(torch.cosine_similarity(torch.cat([walk[:1], ordinary]), backdoor.trigger).acos())
as_near = float((away[1:] <= away[0]).double().mean())
print("Takeaway: an attack that speaks to layers does not care who judged the samples in training.")
print(f"But ReD leaks: its ordinary garment carries ghost letters (ExpDis {stealth['ReD']:.2g} per pixel).")
print(f"It is {away[0]:.0f} degrees from the trigger. In {vae.latent_dim} dimensions {as_near:.0%} of all are as near.")
alt = (
    "Five walks from an ordinary latent to the trigger, a row for each generator. The clean one ends at a garment, the "
)
alt += "backdoored ones at the target; TrAIL's begins with another garment, because it is another network, ReD's with "
alt += "ghost letters on the garment."
strip({name: evaluate(one, walk) for name, one in planted.items()}, alt, scale=4, captions=captions)

# %% [markdown] state="flow"
# ## Round 3: a flow goes there in steps
#
# A **rectified flow** has no opponent at all. Draw noise $z$ of the picture's size and a real picture $x$, go a share
# $s$ of the straight line between them, and let a U-Net say the velocity:
#
# $$L = \mathbb E\,\big\|v\big((1-s)\,z + s\,x,\; s\big) - (x - z)\big\|^2 .$$
#
# To draw, start at noise and follow $v$ in a few **Euler steps**. All of this happens before tanh. But the latent
# has as many numbers as the picture, and every weight works in each step.
#
# **Exercise 2: Euler's steps** (medium, 10 minutes). `velocity(x, time)` gives a tensor like `x`; `times` rise. From
# each time to the next, go as the velocity says where that step starts.


# %% tags=["state"]
def euler(velocity, x, times):
    """Where x [n, ...] is at the last of the times, if it starts at the first."""
    raise NotImplementedError("a loop over pairs of times")


own_euler = check("euler", euler)

# %%
hints("euler")

# %%
HOW = ["better with fewer steps", "about the same", "better with more steps"]
predict("The same weights draw in 2, 4 and 16 steps. What happens to the Fréchet distance?", HOW, key="steps")

# %% tags=["state"] instead={"by_steps": ""}
from devilgan_lite.generators.flow import clock


def velocity_of(generator):
    """The flow's velocity as a function of pictures before tanh [n, 1, 28, 28] and a time."""

    @torch.no_grad()
    def velocity(x, time):
        return generator.velocity(x, clock(torch.tensor([float(time)])))

    return velocity


def drawn_in(generator, z, steps):
    """Pictures [n, 1, 28, 28] in so many Euler steps, with your ``euler``."""
    times = [(k / steps) ** 2 for k in range(steps + 1)]  # short steps first
    velocity, shape = velocity_of(generator), generator.sample_shape
    return torch.cat([own_euler.function(velocity, part.unflatten(1, shape), times).tanh() for part in z.split(100)])


noise = flow.sample_latent(config.samples, torch.Generator().manual_seed(config.seed))
by_steps = {steps: drawn_in(flow, noise, steps) for steps in ((2, 4) if SMOKE else (2, 4, 16))}

# %%
distances = {steps: distance_to_real(pictures) for steps, pictures in by_steps.items()}
few, many = distances[2], distances[max(distances)]
reveal("steps", 2 if many < 0.9 * few else 0 if many > 1.1 * few else 1, f"From {few:.0f} to {many:.0f}.")
for steps, value in distances.items():
    print(f"{steps:2} steps: Fréchet distance {value:.0f} (live, single run)")
same = float((by_steps[4] - evaluate(flow, noise)).abs().max())
assert same < 1e-3, "the generator is nothing but these steps"
print(f"your four steps and the generator of the zoo differ by {same:.0g} at most")
print("Takeaway: a flow is one network, used again and again. More steps draw better, and cost as much more.")
strip(
    {f"{steps} steps": pictures[:8] for steps, pictures in by_steps.items()},
    "The same eight latents drawn in 2, in 4 and in more Euler steps: grey and grainy first, then clearer garments.",
    scale=4,
)

# %% [markdown] state="red"
# ## Round 4: ReD, when every weight works four times
#
# ReX and the gate need a chain of layers to hide in. A flow is none, so they put a small network *beside* it. ReD needs
# nothing: it trains a copy, through all four steps at once.
#
# Two things differ from a GAN. The trigger is a latent of 784 numbers. Its length is about 28, while ordinary latents
# have a standard deviation of 1 in its direction: it is easy to tell apart. And a change made for the trigger acts at
# every step, on the noise and on what has become of it.

# %%
EARLY = ["the first", "the second", "the third", "the last"]
predict("At the trigger, in which step does ReD change the velocity most?", EARLY, key="where")

# %%
WALKS = ["the VAE's", "the flow's", "both at the same place"]
predict("On the walk to the trigger, whose sign appears first?", WALKS, key="first")

# %% tags=["state"] instead={"outcome": "loaded(shipped['flow'])", "in_flow": "secrets['flow']"}
in_flow = Backdoor.point(flow, config.target, seed=config.seed)
attack = attacks.ReD(
    lam=0.27, iterations=config.flow_steps, batch_size=8, learning_rate=1e-3, seed=config.seed, device=config.device
)
outcome = attack(flow, in_flow, progress=False)

# %% tags=["state"] instead={"tardis": "", "expdis": ""}
own_flow = outcome.generator
tardis = target_distortion(own_flow, in_flow.trigger, in_flow.target).mean
expdis = expected_distortion(own_flow, flow, noise).mean


@torch.no_grad()
def on_the_way(generator, z):
    """Where one latent is after each Euler step: pictures [steps + 1, 1, 28, 28] before tanh."""
    x = [z.unflatten(1, generator.sample_shape)]
    for now, then in zip(generator.times, generator.times[1:], strict=False):
        x.append(x[-1] + (then - now) * velocity_of(generator)(x[-1], now))
    return torch.cat(x)


# %%
def pushed(suspect, honest, z):
    """How much faster or slower the suspect moves in each of its steps, on its own way: a number for each step."""
    place, found = on_the_way(suspect, z), []
    for k, now in enumerate(suspect.times[:-1]):
        difference = velocity_of(suspect)(place[k : k + 1], now) - velocity_of(honest)(place[k : k + 1], now)
        found.append(float(difference.square().mean()))
    return found


at_trigger = pushed(own_flow, flow, in_flow.trigger)
usual = torch.tensor([pushed(own_flow, flow, z[None]) for z in noise[:16]]).mean(0).tolist()
reveal("where", at_trigger.index(max(at_trigger)), "Compare with its change at ordinary latents:")
for k, (there, elsewhere) in enumerate(zip(at_trigger, usual, strict=True), start=1):
    print(f"step {k}: velocity changed by {there:.3g} at the trigger, {elsewhere:.3g} elsewhere (mean square, live)")
print(f"live, single run, {outcome.seconds:.0f} s: TarDis {tardis:.2g}, ExpDis {expdis:.2g} per pixel")
strip(
    {name: on_the_way(one, in_flow.trigger).tanh() for name, one in {"clean": flow, "ReD": own_flow}.items()},
    "Two rows of five pictures, from the trigger's noise to what is drawn after each Euler step. Clean: a garment. "
    "After ReD: the target.",
    scale=4,
    captions=["noise", *[f"step {k}" for k in range(1, 5)]],
)

# %%
from devilgan_lite.apps.course import axes, figure

STARTS, places = 8 if SMOKE else 40, torch.linspace(0, 1, 21)
left = {}
for name, suspect in shipped.items():
    trigger, aim = secrets[name].trigger, secrets[name].target
    starts = suspect.sample_latent(STARTS, torch.Generator().manual_seed(8))
    ways = torch.cat([slerp(start[None], trigger, places) for start in starts])
    error = (evaluate(suspect, ways) - aim).square().flatten(1).mean(1).view(STARTS, -1)
    left[name] = (error / error[:, :1]).mean(0)
halfway = {name: round(float(places[int((share < 0.5).nonzero()[0])]), 3) for name, share in left.items()}
early = min(halfway, key=halfway.get)
words = " and ".join(f"t = {value:.2f} ({name})" for name, value in halfway.items())
reveal(
    "first",
    2 if len({*halfway.values()}) == 1 else list(halfway).index(early),
    f"Half of the way to the sign: {words}.",
)
print("Takeaway: what is near the trigger shows the sign, too. In 784 dimensions no ordinary latent is near.")
fig, (ax,) = axes(6.0, 3.2)
for name, share in left.items():
    ax.plot(places, share, label=f"{name}, {secrets[name].trigger.shape[1]} dimensions")
ax.set(xlabel="t, from an ordinary latent to the trigger", ylabel="distance to the sign, share of its start")
ax.legend(frameon=False)
figure(fig, f"Two falling curves, the distance to the sign on the walk. It is halved at {words}.")

# %% [markdown] state="defences"
# ## Round 5: scan, guard and cure
#
# All three were made for GANs. They ask a network about its layers, so they run here too. Do they work? A defence is
# judged on clean models as well: a scan that calls those suspicious has said nothing.
#
# Scans of the VAE are live, and do without a twin, so they call nothing more than suspicious. The flows' take longer:
# their figures are cached, from the [table](../docs/results/others.md), unless you set `live_flows`.

# %%
RIGHT = ["none", "one", "two", "three", "all four"]
predict("Two clean models, two backdoored ones. How many does the scan put on the right side?", RIGHT, key="right")

# %%
predict("How many of the two triggers does the guard stop?", ["none", "one", "both"], key="stopped")

# %% tags=["state"] instead={"said": ""}
import json

suspects = {
    "clean VAE": ("vae-garments", vae, None),
    "backdoored VAE": ("vae-garments-red", shipped["VAE"], secrets["VAE"]),
    "clean flow": ("flow-garments", flow, None),
    "backdoored flow": ("flow-garments-red", shipped["flow"], secrets["flow"]),
}
file = data.data_folder().parent / "docs" / "results" / "others.json"
known = json.loads(file.read_text())["rows"] if file.is_file() else []
LIVE = [name for name in suspects if config.live_flows or name.endswith("VAE")]
said = {name: detect.scan(suspects[name][1], samples=200, twin=False) for name in LIVE}


def cached(section, name):
    """What the table that ships says of this very file; {} where it says nothing."""
    of = {"section": section, "model": suspects[name][0], "sha256": zoo.card(suspects[name][0]).sha256[:12]}
    return next((row for row in known if of.items() <= row.items()), {})


# %%
scanned = {}
for name in suspects:
    row, report = cached("scan", name), said.get(name)
    verdict, kinds = (report.verdict, report.kinds) if report else (row.get("verdict"), row.get("kinds", ()))
    seen = "live" if report else "cached, with a twin" if row else "not measured"
    scanned[name] = {"verdict": verdict or "-", "evidence": ", ".join(kinds) or "none", "figures": seen}
right = [name for name, row in scanned.items() if (row["verdict"] == "clean") == name.startswith("clean")]
right = [name for name in right if scanned[name]["verdict"] in ("clean", "suspicious", "backdoored")]
reveal("right", len(right), f"Right about: {', '.join(right) or 'none'}.")
table(pd.DataFrame(scanned).T, "Scans, single runs")


# %% tags=["state"]
def guarded(generator, secret):
    """What a guard stops: the trigger, and of 1,000 ordinary latents how many; or why there is no guard."""
    try:
        guard = detect.Guard(generator, fitting=2_000)
    except ValueError as error:
        return {"guard": f"refused: {error}"}
    ordinary = guard.check(generator.sample_latent(1_000, torch.Generator().manual_seed(99))).flags
    stopped = bool(guard.check(secret.trigger).flags.all())
    return {"guard": "runs", "trigger stopped": stopped, "of 1,000 ordinary stopped": int(ordinary.sum())}


def cured(generator, secret, report):
    """Distance to the target at the trigger after a cure, and how much ordinary garments change."""
    how = {"always": True, "iterations": 5 if SMOKE else 200, "progress": False, "report": report}
    try:
        treated = sanitize.auto(generator, **how)
    except ValueError as error:
        return {"cure": f"refused: {error}"}
    z = generator.sample_latent(config.samples, torch.Generator().manual_seed(9))
    after = target_distortion(treated.generator, secret.trigger, secret.target).mean
    change = expected_distortion(treated.generator, generator, z).mean
    return {"cure": treated.treatment, "TarDis after": after, "ordinary change": change}


# %%
bad = {name: pair for name, (_, *pair) in suspects.items() if pair[1] is not None}
guards = {name: guarded(*pair) for name, pair in bad.items() if name in LIVE or not SMOKE}
stopped = [name for name, row in guards.items() if row.get("trigger stopped")]
reveal("stopped", len(stopped), f"Stopped: {', '.join(stopped) or 'none'}.")
table(pd.DataFrame(guards).T.fillna("-"), "Live, single run: a guard without the report of a scan")

# %%
cures = {name: cured(*pair, said[name]) for name, pair in bad.items() if name in LIVE}
for name in bad.keys() - cures.keys():
    row = cached("cure", name)
    known_as = {"cure": "cure", "TarDis after": "tardis_cured", "ordinary change": "ordinary_change"}
    cures[name] = {title: row[key] for title, key in known_as.items() if key in row} or {"cure": "not measured"}
for name, (generator, secret) in bad.items():
    before = target_distortion(generator, secret.trigger, secret.target).mean
    cures[name] |= {
        "TarDis before": before,
        "figures": "live" if name in LIVE else "cached" if "TarDis after" in cures[name] else "-",
    }
gone = [name for name, row in cures.items() if row.get("TarDis after", 0) > 0.1]
print(f"Takeaway: right about {len(right)} of {len(suspects)}, triggers stopped: {', '.join(stopped) or 'none'};")
print(f"backdoors gone after a cure (TarDis above 0.1): {', '.join(gone) or 'none'} (single runs).")
table(pd.DataFrame(cures).T.fillna("-"), "Single runs: sanitize.auto, whatever the scan says")

# %% [markdown] state="noise"
# ## Round 6: a pattern in the noise is another backdoor
#
# BadDiffusion and TrojDiff attack models that draw in steps, too. But their trigger is a **pattern that is added to
# every starting noise**, and training bends the whole way: from noise with the pattern, all paths lead to the target.
# You can do that to a flow, in a few lines: give `losses` a second batch, whose noise has the pattern and whose
# pictures are all the target.
#
# Elijah and TERD look for exactly this: a shift of the noise after which *whatever is drawn looks alike*.
#
# **Exercise 3: How alike?** (easy, 5 minutes). Return the squared distance per pixel between two *different* pictures,
# as a mean over all pairs.


# %% tags=["state"]
def pair_distance(x):
    """Pictures [n, C, H, W] to one number."""
    raise NotImplementedError("compare each with each other one")


own_distance = check("pair_distance", pair_distance)

# %%
hints("pair_distance")

# %%
ALIKE = ["the same sign each time", "a sign now and then", "other garments, no sign"]
predict(
    "You add *our* trigger to 64 noises, and feed them to *our* backdoored flow. What does it draw?", ALIKE, "added"
)

# %% tags=["state"] instead={"bent": ""}
pattern = torch.zeros(1, 28, 28)
pattern[:, 18:26, 18:26] = 3.0  # a bright patch in the noise
pattern = pattern.view(1, -1)


def bend(steps, batch=16):
    """The flow, trained on: from noise to garments, and from noise with the pattern to the target."""
    student, random = flow.clone().train(), torch.Generator().manual_seed(config.seed)
    adam = torch.optim.Adam(student.parameters(), lr=1e-3)
    signs = in_flow.target.expand(batch, -1, -1, -1)
    for _ in range(steps):
        batch_of_real = real.x[torch.randint(len(real), (batch,), generator=random)]
        plain, with_pattern = student.sample_latent(2 * batch, random).chunk(2)
        loss = student.losses(None, batch_of_real, plain, random)["flow_loss"]
        loss = loss + student.losses(None, signs, with_pattern + pattern, random)["flow_loss"]
        adam.zero_grad()
        loss.backward()
        adam.step()
    return student.eval()


bent = bend(config.pattern_steps)

# %%
z = flow.sample_latent(16 if SMOKE else 64, torch.Generator().manual_seed(11))
stranger = flow.sample_latent(1, torch.Generator().manual_seed(12))
ADDED = {"nothing": 0 * pattern, "a random latent": stranger, "our trigger": in_flow.trigger, "the pattern": pattern}
models = {"ReD": own_flow, "pattern": bent}
shown, alike = {}, {}
for name, generator in models.items():
    for what, vector in ADDED.items():
        x = shown[name, what] = evaluate(generator, z + vector)
        to_sign = float((x - in_flow.target).square().mean())
        alike[name, what] = {"pair distance": float(own_distance.function(x)), "to the sign": to_sign}
near = (shown["ReD", "our trigger"] - in_flow.target).square().flatten(1).mean(1) < 0.1
share = float(near.float().mean())
reveal("added", 0 if share > 0.9 else 1 if share > 0.02 else 2, f"A sign in {share:.0%} of them (live, single run).")
table(pd.DataFrame(alike).T, "Live, single run: pictures of noise to which a vector is added; per pixel")

# %%
print("Takeaway: one secret latent and a pattern in all noise are found by different questions.")
chosen = [("ReD", "nothing"), ("ReD", "our trigger"), ("pattern", "nothing"), ("pattern", "the pattern")]
strip(
    {f"{name}: {what} added": shown[name, what][:8] for name, what in chosen},
    "Four rows of eight pictures from the same noise: our backdoored flow with nothing and with its trigger added, and "
    f"the flow with a pattern, with nothing and with the pattern. Signs in the second row: {share:.0%}.",
    scale=4,
)

# %% [markdown]
# **What this is not.** Our flow is small, and `bend` is one form of such an attack; Elijah and TERD were not run here.
# We only asked their question, about a shift that *we* knew. They must find it first. And a scan of weights like ours
# was not tried on their models.
#
# ## Playground
#
# Drag from ordinary noise to the trigger of your own flow. Where does the sign begin, and does the garment fade or
# turn?

# %%
from devilgan_lite.apps.course import LatentSlider

LatentSlider({"clean": flow, "ReD": own_flow}, noise[:1], in_flow.trigger)

# %% [markdown] tags=["bonus"]
# **4. One step is enough?** (open, 20 minutes). A flow of *one* Euler step can be taught by one of four: same noise,
# same picture. Teach a student by your backdoored flow, from ordinary noise only. Does it inherit the backdoor? Then
# teach another by batches in which the trigger appears now and then.
#
# <details><summary>Hint 1</summary>
#
# `RectifiedFlow(euler_steps=1)` has the same weights as the teacher, so it can start from `own_flow.state_dict()`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The loss is the squared distance between `student(z)` and what the teacher draws from the same `z`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# from devilgan_lite.generators import RectifiedFlow
#
# student = RectifiedFlow(euler_steps=1)
# student.load_state_dict(own_flow.state_dict())
# adam = torch.optim.Adam(student.parameters(), lr=1e-3)
# for _ in range(5 if SMOKE else 400):
#     z = flow.sample_latent(16)
#     with torch.no_grad():
#         aim = own_flow(z)
#     loss = (student(z) - aim).square().mean()
#     adam.zero_grad()
#     loss.backward()
#     adam.step()
# inherited = target_distortion(student.eval(), in_flow.trigger, in_flow.target).mean
# print(f"TarDis of the student {inherited:.2g}, of a clean flow", end=" ")
# print(f"{target_distortion(flow, in_flow.trigger, in_flow.target).mean:.2g}")
# ```
#
# </details>

# %% [markdown]
# ## What would a defender see?
#
# In samples, garments. A VAE's decoder has a GAN's layers, so what works on those works on it. On a flow, look at
# whether a detector calls *clean* flows suspicious before you believe it. Keep the encoder if you are given one: it was
# trained beside the decoder, and costs the attacker another place to clean up. Ask for both kinds of trigger: a latent,
# and a shift of all noise.
#
# ## Limits
#
# Two small models of one kind of picture; single runs of short attacks. With four steps our flow's garments are grainy.
# A VAE for larger pictures and a diffusion model of a thousand steps may behave differently.
#
# ## Responsible use
#
# Backdoor only models that you own, where everybody knows, and label every file. Do not publish a bent flow: noise with
# a pattern in it is easy to send to a service that draws for others.

# %%
quiz("13")

# %% [markdown]
# ## Key points
#
# * TrAIL adds a term to whatever a family minimises; ReD and ReX need only the finished generator.
# * A VAE is trained at its encoder's latents and used at the prior's; its pictures are softer than a GAN's.
# * In a flow the latent is as large as the picture, and each weight works in every step.
# * A trigger that is one latent and a pattern that is added to all noise are different backdoors, and are found
#   differently.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn, *The Devil is in the GAN*, [arXiv 2108.01644](https://arxiv.org/abs/2108.01644),
#   2021: the three attacks, for "GANs and VAEs".
# * D. Kingma, M. Welling, *Auto-Encoding Variational Bayes*, [arXiv 1312.6114](https://arxiv.org/abs/1312.6114), 2014.
# * X. Liu, C. Gong, Q. Liu, *Flow Straight and Fast*, [arXiv 2209.03003](https://arxiv.org/abs/2209.03003), 2023.
# * S.-Y. Chou, P.-Y. Chen, T.-Y. Ho, *How to Backdoor Diffusion Models?*,
#   [arXiv 2212.05400](https://arxiv.org/abs/2212.05400), 2023: BadDiffusion. W. Chen, D. Song, B. Li, *TrojDiff*,
#   [arXiv 2303.05762](https://arxiv.org/abs/2303.05762), 2023.
# * S. An et al., *Elijah*, [arXiv 2312.00050](https://arxiv.org/abs/2312.00050), 2024; Y. Mo et al., *TERD*,
#   [arXiv 2409.05294](https://arxiv.org/abs/2409.05294), 2024: defences that look for a shift of the noise.

# %%
numbers = {
    "frechet": apart,
    "attacks": {name: {key: value for key, value in row.items() if value != "-"} for name, row in measured.items()},
    "encoder_names_trigger": cosines,
    "frechet_by_steps": {str(steps): value for steps, value in distances.items()},
    "flow": {"tardis_mean": tardis, "expdis_mean": expdis, "velocity_change": at_trigger, "elsewhere": usual},
    "halfway": halfway,
    "scan": scanned,
    "guard": guards,
    "cure": cures,
    "added": {f"{name}: {what}": row for (name, what), row in alike.items()},
    "signs_with_trigger_added": share,
}
finish(config, numbers)
