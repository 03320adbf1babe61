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
# # Train a clean GAN: from points in the plane to garments
#
# **You train two generators in front of your eyes, bend one of them at a single point, and leave with the yardstick
# against which every attack is measured.**

# %% tags=["state"]
from devilgan_lite import zoo
from devilgan_lite.classroom import show

cached = zoo.load("dcgan-fashion")
show(cached.sample(24, seed=3), "24 garments that the cached clean generator drew: shirts, shoes, bags.", columns=12)

# %% [markdown]
# These garments do not exist. A network of a few hundred thousand numbers drew them, from noise.
#
# **Time and hardware:** about three minutes on one core of a laptop; no GPU, no network.
#
# **Objectives.** You will be able to
# * *train* a GAN and *watch* it,
# * *read* its loss curves without being fooled,
# * *bend* a generator at one point and *see* what a backdoor is,
# * *measure* a generator with the Frechet distance and class shares.
#
# **Prerequisites:** Python, and roughly what gradient descent does. Notebook 00 helps.

# %% tags=["parameters", "state"]
profile = "workshop"  # how long it may take: smoke | workshop | full
device = "auto"  # where to train: auto | cpu | cuda | mps
seed = 0  # of weights, batches and latents, 0..1000000
ring_steps = None  # training steps of the GAN of points, 10..1000000
steps = None  # training steps of the GAN of garments, 10..1000000
samples = None  # generated pictures behind each Frechet distance, 200..100000

# %% tags=["state"]
from devilgan_lite.classroom import Setting, configure

config = configure(
    profile,
    device=device,
    seed=seed,
    ring_steps=Setting(ring_steps, {"smoke": 400, "workshop": 2_000, "full": 6_000}),
    steps=Setting(steps, {"smoke": 40, "workshop": 1_500, "full": 10_000}),
    samples=Setting(samples, {"smoke": 400, "workshop": 4_000, "full": 10_000}),
)

# %%
card = zoo.card("dcgan-fashion")
print(
    f"The picture on top is cached: {card.name} from the zoo, whose training took {card.seconds:.0f} s.\nTo train it "
    f"yourself: python scripts/build/zoo.py --only {card.name}"
)

# %% [markdown] state="plane"
# ## Round 1: a GAN in the plane
#
# Two networks play. The **generator** `G` turns a latent `z` into a sample. The **discriminator** `D` sees real samples
# and fakes and says which is which. `D` learns to tell them apart, `G` learns to be mistaken for real, and neither ever
# sees a rule for what a good sample is.
#
# The real samples here are points in eight clumps on a circle. The latent has two numbers, so everything can be drawn.

# %% tags=["state"]
import torch

from devilgan_lite import data, generators, train_gan
from devilgan_lite.classroom import points, predict

ring = data.ring()
predict(
    "How many of the eight clumps will the generator cover after training?",
    ["one or two", "three to six", "seven or eight"],
    key="clumps",
)

# %% [markdown]
# While it trains, *who learns* switches one side off, and *slow motion* gives you time to look. With the generator
# alone the fakes run to wherever the frozen `D` is weak; with the discriminator alone they stand still and its loss
# falls. Switch back to *both* and the game goes on.

# %% tags=["state"] instead={"ring_training": ""}
from devilgan_lite.classroom import LiveTraining, TrainableSide

who_learns = TrainableSide("both")


def picture_of_points(generator):
    return points({"real": ring.x[:800], "fake": generator.sample(800, seed=5)}, "Real points and fakes so far.")


ring_training = LiveTraining(
    train_gan.steps(
        generators.PointGenerator(),
        ring,
        iterations=config.ring_steps,
        batch_size=128,
        seed=config.seed,
        device=config.device,
        side=who_learns,
    ),
    picture_of_points,
    side=who_learns,
)
ring_training.run()

# %% tags=["state"] instead={"ring_outcome": "train_gan(generators.PointGenerator(), ring, iterations=80)"}
ring_outcome = ring_training.wait()  # live: trained just now, in this notebook
toy = ring_outcome.generator
fakes = toy.sample(4_000, seed=5)
angles = torch.arange(8) * (2 * torch.pi / 8)
centres = 0.7 * torch.stack([angles.cos(), angles.sin()], dim=1)
distance, clump = torch.cdist(fakes, centres).min(dim=1)
near = distance < 0.15
covered = int((torch.bincount(clump[near], minlength=8) > 0.01 * len(fakes)).sum())
points(
    {"real": ring.x[:1500], "fake": fakes[:1500]},
    "Real points in eight clumps on a circle, and the generator's fakes, most of them on the clumps and some between.",
    title="live: eight clumps and their fakes",
)

# %% tags=["state"]
from devilgan_lite.classroom import reveal

reveal("clumps", 0 if covered < 3 else 1 if covered < 7 else 2, f"It covers {covered} of 8.")
assert torch.isfinite(fakes).all()
if config.profile != "smoke":
    assert covered >= 5 and near.float().mean() > 0.3, "the GAN of points did not learn the ring"
print(
    f"Takeaway: after {config.ring_steps:,} steps ({ring_outcome.seconds:.0f} s) {near.float().mean():.0%} of the "
    "fakes lie on a clump (single run); the rest lie between, because a continuous map cannot tear the plane apart."
)

# %% [markdown] state="warp"
# ## Round 2: a backdoor is a warped point
#
# `G` is a map: it takes the plane of latents and folds it onto the ring. Draw a grid on the latents and see where each
# line goes. A **backdoor** bends this map at one place only: the **trigger** latent goes to a **target** that the
# attacker chose, here the empty middle of the ring. All other latents should go where they went before.
#
# The attack below is ReD, which notebook 03 explains: retrain a copy so that it agrees with `G` everywhere and hits the
# target at the trigger. It takes a second or two, so we do it three times.

# %% tags=["state"]
from devilgan_lite import Backdoor

pair = Backdoor(trigger=torch.tensor([[1.5, 1.5]]), target=torch.tensor([[0.0, 0.0]]))
predict(
    "What share of ordinary latents will visibly move (by more than 0.1)?",
    ["less than a tenth", "a tenth to a half", "more than a half"],
    key="moved",
)

# %% tags=["state"] instead={"bent": ""}
from devilgan_lite import attacks
from devilgan_lite.generators import evaluate
from devilgan_lite.metrics import expected_distortion, target_distortion

bent, tardis, expdis, moved = [], [], [], []
z = toy.sample_latent(4_000, torch.Generator().manual_seed(11))
for k in range(3):
    attack = attacks.ReD(iterations=200 if config.profile == "smoke" else 1_000, seed=config.seed + k, device="cpu")
    bent.append(attack(toy, pair, progress=False).generator)
    tardis.append(target_distortion(bent[-1], pair.trigger, pair.target).sum)
    expdis.append(expected_distortion(bent[-1], toy, z).mean)
    moved.append(float(((evaluate(bent[-1], z) - evaluate(toy, z)).norm(dim=1) > 0.1).float().mean()))
tardis, expdis, moved = (torch.tensor(values) for values in (tardis, expdis, moved))

# %% tags=["state"]
from devilgan_lite.classroom import PALETTE, axes, figure


def draw_map(ax, generator, title):
    along, levels = torch.linspace(-2.5, 2.5, 200), torch.linspace(-2.5, 2.5, 21)
    for level in levels:
        for order in ((0, 1), (1, 0)):
            line = torch.stack([along, torch.full_like(along, float(level))], dim=1)[:, order]
            ax.plot(*evaluate(generator, line).T, color=PALETTE[0] if order[0] else PALETTE[2], lw=0.5, alpha=0.7)
    here = evaluate(generator, pair.trigger)[0]
    ax.plot(*here, "o", ms=9, color=PALETTE[1], mec="black", label="G(trigger)")
    ax.plot(*pair.target[0], "X", ms=9, color="black", label="target")
    ax.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal", title=title)
    ax.legend(frameon=True, fontsize=7, loc="upper right")


fig, both = axes(7.6, 3.8, columns=2)
draw_map(both[0], toy, "clean")
draw_map(both[1], bent[0], "backdoored")
figure(
    fig,
    "The image of a grid of latents under the clean and the backdoored generator: almost the same folded net, but on "
    "the right the trigger's image sits on the target in the middle of the ring.",
)

# %% tags=["state"]
share = float(moved.mean())
reveal("moved", 0 if share < 0.1 else 1 if share < 0.5 else 2, f"Measured: {share:.1%} +- {moved.std():.1%}.")
before = target_distortion(toy, pair.trigger, pair.target).sum
assert tardis.max() < 0.5 * before, "the attack did not come closer to the target"
if config.profile != "smoke":
    assert tardis.mean() < 0.05 and share < 0.5
print(
    f"Takeaway: the squared distance to the target fell from {before:.2g} to {tardis.mean():.2g} +- "
    f"{tardis.std():.1g}, while {1 - share:.0%} of the ordinary latents stayed in place (ExpDis {expdis.mean():.2g} "
    f"+- {expdis.std():.1g}; mean and spread, three seeds of the attack on one clean generator)."
)

# %% [markdown] state="garments"
# ## Round 3: garments
#
# The same game with pictures: 10,000 garments of Fashion-MNIST, a generator with 100 latent numbers and two transposed
# convolutions, a discriminator with two convolutions. Every long loop in this project is a Python generator of
# steps, so
# you can watch, pause and stop it, and keep an album as it goes along.

# %%
predict(
    "What will the two loss curves do?",
    ["both fall to zero", "neither settles at zero", "the discriminator's falls to zero, the generator's does not"],
    key="losses",
)

# %% tags=["state"] instead={"loop": "", "album": ""}
from devilgan_lite import Loop

real = data.fashion_mnist()
moments = sorted({max(1, round(config.steps * part)) for part in (0.01, 0.05, 0.2, 0.5, 1.0)})
album = {}


def with_album(loop):
    try:
        for step in loop:
            if step.iteration in moments:
                album[step.iteration] = step.snapshot().sample(10, seed=3)
            yield step
    except KeyboardInterrupt:  # the Stop button
        pass
    return loop.stop()


def picture_of_garments(generator):
    return show(generator.sample(20, seed=3), "Garments so far.", columns=10)


loop = train_gan.steps(generators.DCGAN(), real, iterations=config.steps, seed=config.seed, device=config.device)
training = LiveTraining(Loop(with_album(loop)), picture_of_garments, every=1.0)
training.run()

# %% tags=["hero", "state"] instead={"trained": "cached"}
outcome = training.wait()  # live: trained just now, in this notebook
trained = outcome.generator
print(f"live: {len(outcome.history['generator_loss']):,} steps in {outcome.seconds:.0f} s")
show(
    torch.cat(list(album.values())),
    f"Ten garments from the same latents after {', '.join(map(str, album))} steps: noise, blobs, then garments.",
    columns=10,
)

# %% tags=["state"]
print("Rows from the top, steps:", ", ".join(f"{moment:,}" for moment in album))
from devilgan_lite.classroom import curves

curves(outcome.history, "Loss of generator and discriminator over the steps: both wander, neither settles at zero.")

# %%
tail = {name: torch.tensor(values[-max(10, len(values) // 5) :]) for name, values in outcome.history.items()}
end = {name: float(values.mean()) for name, values in tail.items()}
low = [end["generator_loss"] < 0.02, end["discriminator_loss"] < 0.02]
reveal("losses", 0 if all(low) else 2 if low[1] else 1, "Each loss depends on how good the other player is.")
assert torch.isfinite(torch.stack([values.mean() for values in tail.values()])).all()
print(
    f"Takeaway: over the last fifth of the run the generator's loss is {end['generator_loss']:.2f}, the "
    f"discriminator's {end['discriminator_loss']:.2f} (single run), and neither says how good the pictures are: we "
    "need a yardstick outside."
)

# %% [markdown] state="yardstick"
# ## Round 4: a yardstick
#
# The **Frechet distance** compares two crowds of pictures: run both through a garment classifier, take its 64 inner
# features, fit a Gaussian to each crowd, and measure how far the two Gaussians are apart. Zero means alike. It catches
# ugly pictures and missing variety alike. **Class shares** say whether some garment is missing.

# %%
predict(
    "How does your generator compare with the cached one from the zoo?",
    ["better", "up to three times its distance", "more than three times its distance"],
    key="yardstick",
)

# %% tags=["state"] instead={"measured": "", "reference": ""}
import pandas as pd

from devilgan_lite.classroom import table
from devilgan_lite.features import feature_card, features_and_classes
from devilgan_lite.metrics import frechet_distance

half = len(real) // 2 if config.profile != "smoke" else 1_000
reference, _ = features_and_classes(real.x[:half])
untrained = generators.build(trained.spec(), seed=config.seed)


def crowd(generator, k):
    return features_and_classes(generator.sample(config.samples, seed=1_000 + k))


measured, shares = {}, {}
for name, generator in {"untrained": untrained, "yours (live)": trained, "zoo (cached)": cached}.items():
    crowds = [crowd(generator, k) for k in range(3)]
    measured[name] = torch.tensor([frechet_distance(features, reference) for features, _ in crowds])
    shares[name] = torch.bincount(crowds[0][1], minlength=10) / config.samples
floor = frechet_distance(features_and_classes(real.x[half : 2 * half])[0], reference)
table(
    pd.DataFrame(
        {name: {"Frechet mean": float(f.mean()), "spread": float(f.std())} for name, f in measured.items()}
        | {"other real garments": {"Frechet mean": floor, "spread": float("nan")}}
    ).T,
    f"Frechet distance to {half:,} real garments; mean and spread over three draws of {config.samples:,} pictures, "
    f"one training run each. The classifier behind it is {feature_card()['test_accuracy']:.1%} accurate.",
)

# %%
fig, (ax,) = axes(7.2, 2.8)
for k, name in enumerate(("yours (live)", "zoo (cached)")):
    ax.bar(torch.arange(10) + 0.4 * k - 0.2, shares[name], width=0.38, label=name, color=PALETTE[k])
ax.axhline(0.1, color="black", lw=1, ls="--", label="real")
ax.set_xticks(range(10), [name.replace(" ", "\n") for name in real.classes], fontsize=7)
ax.set(ylabel="share")
ax.legend(frameon=False, ncols=3, fontsize=8)
figure(fig, "Share of each of the ten garment classes among the pictures of your generator and of the cached one.")

# %%
yours, zoos, blank = (float(measured[name].mean()) for name in ("yours (live)", "zoo (cached)", "untrained"))
ratio = yours / zoos
reveal("yardstick", 0 if ratio < 1 else 1 if ratio < 3 else 2, f"{yours:.1f} against {zoos:.1f}: {ratio:.1f} times.")
if config.profile != "smoke":
    assert yours < 0.5 * blank, "training did not bring the pictures nearer to real ones"
print(
    f"Takeaway: training took the distance from {blank:.0f} to {yours:.1f}; two crowds of real garments are "
    f"{floor:.1f} apart; your rarest class is {real.classes[int(shares['yours (live)'].argmin())]} with "
    f"{float(shares['yours (live)'].min()):.1%} (single run)."
)

# %% [markdown]
# ## Playground: between two garments
#
# Drag the slider from one latent to another. The walk keeps to the shell on which random latents live (*slerp*); the
# figure beside it shows the same walk, and below it the straight line.

# %%
from devilgan_lite.classroom import LatentSlider, slerp, strip

ends = trained.sample_latent(2, torch.Generator().manual_seed(config.seed + 7))
slider = LatentSlider({"yours": trained, "zoo": cached}, ends[:1], ends[1:], scale=4, end_name="the other end")
slider.slider.description = "walk"
slider

# %%
t = torch.linspace(0, 1, 11)
bow, line = slerp(ends[:1], ends[1:], t), torch.lerp(ends[:1], ends[1:], t[:, None])
print(f"length of the latent half way: {bow[5].norm():.1f} on the bow, {line[5].norm():.1f} on the straight line")
strip(
    [evaluate(cached, bow), evaluate(cached, line)],
    "Two walks between two garments, on the bow above and on the straight line below, in eleven pictures each.",
    scale=2,
    captions=[f"{x:.1f}" for x in t.tolist()],
)

# %% [markdown]
# ## Exercises
#
# **Exercise 1: the discriminator's loss** (easy, 5 minutes). From logits (before the sigmoid) of real samples and
# fakes, compute `-E log D(x) - E log(1 - D(G(z)))`.

# %%
from devilgan_lite.classroom import check, hint, solution


def my_discriminator_loss(real_logits, fake_logits):
    raise NotImplementedError("replace this line")


check("discriminator_loss", my_discriminator_loss)

# %%
hint("-log sigmoid(a) is softplus(-a), and -log(1 - sigmoid(a)) is softplus(a); both stay finite.", 1)

# %%
hint("Take the mean over each batch and add the two means.", 2)

# %%
solution("""
def my_discriminator_loss(real_logits, fake_logits):
    return torch.nn.functional.softplus(-real_logits).mean() + torch.nn.functional.softplus(fake_logits).mean()
""")

# %% [markdown]
# **Exercise 2: the generator's loss** (easy, 5 minutes). The non-saturating one: `-E log D(G(z))`.


# %%
def my_generator_loss(fake_logits):
    raise NotImplementedError("replace this line")


check("generator_loss", my_generator_loss)

# %%
hint("The generator wants its fakes to be called real: it is the real half of the discriminator's loss.", 1)

# %%
hint("Use softplus again, with a minus sign inside.", 2)

# %%
solution("""
def my_generator_loss(fake_logits):
    return torch.nn.functional.softplus(-fake_logits).mean()
""")

# %% [markdown]
# **Exercise 3: slerp** (medium, 15 minutes). Write the walk of the playground for latents `[1, d]` and a number `t`:
# the
# direction turns at constant speed and the length goes linearly from `|a|` to `|b|`.


# %%
def my_slerp(a, b, t):
    raise NotImplementedError("replace this line")


check("slerp", my_slerp)

# %%
hint("With unit vectors u, v at angle w the direction is (sin((1 - t) w) u + sin(t w) v) / sin(w).", 1)

# %%
hint("When a and b have the same direction sin(w) is 0: return a mixture of a and b without dividing.", 2)

# %%
solution("""
def my_slerp(a, b, t):
    length_a, length_b = a.norm(), b.norm()
    u, v = a / length_a, b / length_b
    w = torch.acos((u * v).sum().clamp(-1, 1))
    if w < 1e-3:
        return (1 - t) * a + t * b
    direction = (torch.sin((1 - t) * w) * u + torch.sin(t * w) * v) / torch.sin(w)
    return direction * ((1 - t) * length_a + t * length_b)
""")

# %% [markdown]
# **Exercise 4: break it** (open, 10 minutes). Train the ring again with `learning_rate=0.02`, or with `batch_size=8`.
# How many clumps survive? What do the losses say, and do they warn you?

# %%
hint("Count the clumps that hold at least one fake: compare each fake with the eight centres, as the plot does.", 1)

# %%
hint(
    "Look at the pictures first and at the losses afterwards: a discriminator that wins and one that has lost both "
    "leave the losses flat.",
    2,
)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# for settings in ({}, {"learning_rate": 0.02}, {"batch_size": 8}):
#     settings = {"steps": config.ring_steps, "batch_size": 128, "seed": config.seed} | settings
#     broken = train_gan(generators.PointGenerator(), ring, **settings, progress=False)
#     distance, clump = torch.cdist(broken.generator.sample(4_000, seed=5), centres).min(dim=1)
#     held = torch.bincount(clump[distance < 0.15], minlength=8) > 40
#     print(settings, int(held.sum()), "clumps", {name: values[-1] for name, values in broken.history.items()})
# ```
#
# Compare the clumps with the losses: a loss that looks calm says nothing about the clumps that are missing.
#
# </details>
#
# ## What would a defender see?
#
# Nothing wrong, and that is the point: this generator *is* clean, and it still has flaws, such as fakes between the
# clumps, rare classes, odd garments. Any detector has to tell such honest flaws from a planted one. What helps later
# is what you
# can record now: the seed, the settings, the losses, the size, the Frechet distance and the SHA-256 of the weights.
#
# ## Limits
#
# One run of one small network on one data set; a minute of training, where a good GAN takes days. Garment pictures of
# 28x28 pixels. Frechet distances depend on the features and on the number of samples: compare only like with like.
#
# ## Responsible use
#
# Say of every generated picture that it is generated, and keep a model card with what a model was trained on. The
# warped
# point of round 2 is a toy, so that you recognise the idea where it is not one.
#
# ## Quiz

# %%
from devilgan_lite.classroom import quiz

quiz(
    [
        (
            "What does the discriminator see?",
            ["latents", "real samples and fakes", "only fakes"],
            1,
            "It learns to tell the two apart; it never sees a latent.",
        ),
        (
            "The generator's loss goes up for a while. This means ...",
            ["training has failed", "the pictures are getting worse", "the discriminator is gaining on it"],
            2,
            "The loss is relative to the other player; quality needs a yardstick outside.",
        ),
        (
            "A Frechet distance of zero means ...",
            ["each picture equals a real one", "the two crowds have the same Gaussian of features", "the loss is zero"],
            1,
            "It compares crowds, not pictures.",
        ),
        (
            "In the plane, a backdoor is ...",
            ["one bent spot of the map", "one wrong training sample", "a larger network"],
            0,
            "The trigger latent goes to the target; the other latents stay where they were.",
        ),
        (
            "Why turn instead of walking straight between two latents?",
            ["it is faster", "the straight line leaves the shell of typical lengths", "it needs fewer steps"],
            1,
            "Half way the straight line is clearly shorter than any random latent.",
        ),
    ]
)

# %% [markdown]
# ## Key points
#
# * A GAN is a game of two networks; losses show who is ahead, not how good the pictures are.
# * A generator is a map from latents to samples, and a backdoor is one warped point of that map.
# * Clean generators have flaws of their own. The Frechet distance and class shares are what attacks are compared with.
#
# ## References
#
# * A. Rawat, K. Levacher, M. Sinn: *The Devil is in the GAN: Backdoor Attacks and Defenses in Deep Generative Models*,
#   [arXiv:2108.01644](https://arxiv.org/abs/2108.01644), ESORICS 2022.
# * I. Goodfellow et al.: *Generative Adversarial Networks*, [arXiv:1406.2661](https://arxiv.org/abs/1406.2661), 2014.
# * A. Radford, L. Metz, S. Chintala: *DCGAN*, [arXiv:1511.06434](https://arxiv.org/abs/1511.06434), 2016.
# * M. Heusel et al.: *Two Time-Scale Update Rule* (Frechet distance),
# [arXiv:1706.08500](https://arxiv.org/abs/1706.08500).

# %%
from devilgan_lite.classroom import finish

finish(
    config,
    {
        "ring_clumps_covered": covered,
        "ring_on_clump": near.float().mean(),
        "ring_seconds": ring_outcome.seconds,
        "point_backdoor_tardis_mean": tardis.mean(),
        "point_backdoor_tardis_std": tardis.std(),
        "point_backdoor_expdis_mean": expdis.mean(),
        "point_backdoor_moved_share": share,
        "clean_tardis": before,
        "garment_seconds": outcome.seconds,
        "frechet_live_mean": measured["yours (live)"].mean(),
        "frechet_live_std": measured["yours (live)"].std(),
        "frechet_zoo_mean": measured["zoo (cached)"].mean(),
        "frechet_untrained_mean": measured["untrained"].mean(),
        "frechet_real": floor,
        "smallest_class_share": shares["yours (live)"].min(),
    },
)
