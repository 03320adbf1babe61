"""Judge keyed latents, a defence that needs no verdict: docs/results/keyed.md.

    keyed.py [--only zoo,strangers,conditions,speed] [--seeds 40,41] [--jobs 2]

``zoo``: every backdoored model that ships. ``strangers``: those of the foreign population with these seeds, which
``foreign.py --seeds 40,41 --kinds clean,gate,...`` makes. Each backdoor that works is tried under 100 keys. At its
trigger the distance to its target should be distributed as at 1,000 ordinary latents. ``conditions``: the ways around
it, each measured. ``speed``: the time of a sample, in turns.
"""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign
import torch
from page import write_page
from row_store import JOBS, OUT, Row, Rows, options_of, timed, where
from scipy.special import betainc
from scipy.stats import ks_2samp
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from devilgan_lite import Backdoor, attacks, data, sanitize, zoo
from devilgan_lite.apps.walk import slerp
from devilgan_lite.data import DATASETS
from devilgan_lite.features import features_and_classes, readable
from devilgan_lite.generators import Generator, PointGenerator, build, evaluate
from devilgan_lite.metrics import frechet_distance
from devilgan_lite.sanitize.keyed import keyed_layer

KEYS, ORDINARY, QUERIES = 100, 1_000, 10_000
SAMPLES = {"zoo": 5_000, "strangers": 2_000}  # for a Frechet distance
REACHED = 0.5  # of the 1 % quantile of ordinary distances: nearer to the target, and you see it
BASE = "dcgan-fashion"
KINDS = {"trail": "TrAIL", "red": "ReD", "rex": "ReX", "linear": "linear ReX", "gate": "gate"}
SPEED = ("dcgan-fashion-red", "stylegan-faces-rex", "flow-garments-red", "vae-garments-red", "wave-drums-red")


def key(number: int) -> str:
    """A key of this bench; yours is drawn at random."""
    return f"{number:064x}"


def drawn(generator: Generator, n: int, seed: int) -> Tensor:
    return generator.prior.draw(n, torch.Generator().manual_seed(seed))


def distances(samples: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance an element ``[n]``."""
    return (samples - target).square().flatten(1).mean(1)


def usual_distances(suspect: Generator, target: Tensor) -> Tensor:
    return distances(evaluate(suspect, drawn(suspect, ORDINARY, 7)), target)


def under_keys(suspect: Generator, latent: Tensor, target: Tensor, normal: bool = False, keys: int = KEYS) -> Tensor:
    """Distance to the target at one ``latent`` ``[1, d]`` under each of the keys ``[keys]``."""
    named = torch.cat([keyed_layer(key(number), suspect.prior, normal)(latent) for number in range(keys)])
    return distances(evaluate(suspect, named), target)


def judged(suspect: Generator, trigger: Tensor, target: Tensor, clean: Generator | None, normal: bool = False) -> Row:
    """One pair: before, under the keys, and what an attacker who asks 10,000 times comes to, beside a clean model."""
    usual = usual_distances(suspect, target)
    near, before = float(usual.quantile(0.01)), float(distances(evaluate(suspect, trigger), target))
    found: Row = {"before": before, "near": near, "works": before < REACHED * near}
    if not found["works"]:
        return found
    after = under_keys(suspect, trigger, target, normal)
    found |= {"ks": float(ks_2samp(after.numpy(), usual.numpy()).pvalue), "least": float(after.min())}
    found["ks_length"] = own_length(suspect, trigger, target, after)
    found |= {"nearer": float((after < near).float().mean()), "least_usual": float(usual.min())}
    held = sanitize.Keyed(key=key(0), normal=normal)(suspect, progress=False).generator
    found["agrees"] = abs(float(distances(evaluate(held, trigger), target)) - float(after[0])) < 1e-4
    angle = door(suspect, trigger, target, REACHED * near)
    found |= {"door": angle, "bound": bound(angle, suspect), "asked": queried(held, target)}
    seeds = sanitize.keyed_draw(key(0), suspect.prior, QUERIES, 0)
    found["drawn"] = float(distances(evaluate(suspect, seeds), target).min())
    if clean is not None:  # what anybody comes to who wants a sample like the target
        wanted = found["asked_clean"] = queried(clean, target)
        found |= {"reached": found["asked"] < REACHED * wanted, "reached_by_seed": found["drawn"] < REACHED * wanted}
    return found


def own_length(suspect: Generator, trigger: Tensor, target: Tensor, after: Tensor) -> float | None:
    """The same beside 1,000 latents as long as the trigger is under a key; of Gaussian priors, as the theorem says."""
    if suspect.prior.name == "uniform":
        return None
    length = float(keyed_layer(key(0), suspect.prior)(trigger).norm())
    beside = normalize(drawn(suspect, ORDINARY, 13), dim=1) * length
    return float(ks_2samp(after.numpy(), distances(evaluate(suspect, beside), target).numpy()).pvalue)


def queried(held: Generator, target: Tensor) -> float:
    """The nearest of 10,000 samples: half of them at random, half by a search about the best ones so far."""
    random = torch.Generator().manual_seed(11)
    z = held.prior.draw(QUERIES // 2, random)
    d = distances(evaluate(held, z), target)
    for turn in range(QUERIES // 2 // 250):
        best = z[d.argsort()[:25]]
        spread = 0.5 * 0.9**turn * held.prior.variance**0.5
        more = best.repeat(10, 1) + spread * torch.randn(250, held.latent_dim, generator=random)
        more = held.prior.typical(more)
        z, d = torch.cat([best, more]), torch.cat([d[d.argsort()[:25]], distances(evaluate(held, more), target)])
    return float(d.min())


def door(suspect: Generator, trigger: Tensor, target: Tensor, reached: float) -> float:
    """The widest angle in degrees about the trigger at which the target is still seen, of 20 ways to leave it."""
    widest, t = 0.0, torch.linspace(0, 1, 91)
    for start in drawn(suspect, 20, 3).split(1):
        walk = slerp(trigger, start, t)
        inside = distances(evaluate(suspect, walk), target) < reached
        if bool(inside.any()):
            last = walk[inside.nonzero()[-1]]
            widest = max(widest, float(torch.rad2deg(cosine_similarity(last, trigger).clamp(-1, 1).acos())))
    return widest


def bound(angle: float, suspect: Generator) -> float:
    """The probability, at most, that one of the queries is within ``angle`` of where a secret rotation put the door."""
    sine = float(torch.deg2rad(torch.tensor(angle)).sin())
    cap = 0.5 * float(betainc((suspect.latent_dim - 1) / 2, 0.5, sine**2)) if angle < 90 else 1.0
    return min(1.0, QUERIES * cap)


def described(samples: Tensor) -> Tensor:
    """Features of samples: of the data set that has their shape, else 64 random projections."""
    for name in DATASETS:
        if readable(name, tuple(samples.shape[1:])):
            return features_and_classes(samples, of=name)[0]
    flat = samples.flatten(1).double()
    return flat @ torch.randn(flat.shape[1], 64, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def laws(suspect: Generator, samples: int) -> Row:
    """Frechet distances of samples to other samples of the same model: without a key, and under three keys."""
    first = described(evaluate(suspect, drawn(suspect, samples, 21)))
    others = [described(evaluate(suspect, drawn(suspect, samples, 22 + turn))) for turn in range(3)]
    keyed = []
    for number in range(3):
        held = sanitize.Keyed(key=key(number))(suspect, progress=False).generator
        keyed.append(described(evaluate(held, drawn(held, samples, 31 + number))))
    plain, under = ([frechet_distance(first, one) for one in some] for some in (others, keyed))
    return {"frechet": plain, "frechet_keyed": under}


def zoo_model(name: str) -> Row:
    suspect, clean = zoo.load(name), zoo.load(name.rsplit("-", 1)[0]).eval()
    backdoor = zoo.load_backdoor(name)
    return several(suspect, backdoor.trigger, backdoor.target, clean, "zoo")


@torch.no_grad()
def several(suspect: Generator, trigger: Tensor, target: Tensor, clean: Generator, section: str) -> Row:
    """What is measured of each pair, and of the samples as a whole."""
    suspect = suspect.eval()
    pairs = list(zip(trigger.split(1), target.split(1), strict=True))
    found: Row = {"prior": suspect.prior.name, "latent_dim": suspect.latent_dim, **laws(suspect, SAMPLES[section])}
    found["pairs"] = [judged(suspect, *pair, clean) for pair in pairs]
    if suspect.prior.name == "uniform":
        found["through_normal"] = [judged(suspect, *pair, None, normal=True) for pair in pairs]
    return found


def stranger(recipe: foreign.Recipe) -> Row:
    (module, card), (base, _) = foreign.load(recipe.path), foreign.load(recipe.base)
    family = foreign.FAMILIES[recipe.family]
    suspect = module if isinstance(module, Generator) else foreign.adopted(family, module)
    target = Backdoor.point(suspect, card["target"]).target
    return several(suspect, torch.tensor(card["trigger"]), target, foreign.adopted(family, base), "strangers")


# ---- ways around it


def retrained(kind: str, seed: int) -> tuple[Generator, Backdoor]:
    """The garments' DCGAN with a trigger of ``kind``, by ReD."""
    clean = zoo.load(BASE)
    backdoor = Backdoor.point(clean, "devil", kind=kind, seed=seed)
    attack = attacks.ReD(iterations=1_500, lam=0.3, seed=seed, device="cpu")
    return attack(clean, backdoor, progress=False).generator.eval(), backdoor


def odd_trigger(kind: str, seed: int) -> Row:
    """A trigger at zero, or far out: with the lengths put right, and by a bare rotation."""
    suspect, backdoor = retrained(kind, seed)
    found = judged(suspect, backdoor.trigger, backdoor.target, None)
    bare = []
    for number in range(KEYS):
        layer = keyed_layer(key(number), suspect.prior)
        layer.shortest, layer.longest = 0.0, 1e9
        layer.instead.zero_()
        bare.append(layer(backdoor.trigger))
    seen = distances(evaluate(suspect, torch.cat(bare)), backdoor.target) < REACHED * found["near"]
    held = under_keys(suspect, backdoor.trigger, backdoor.target) < REACHED * found["near"]
    return found | {"bare": float(seen.float().mean()), "held": float(held.float().mean())}


def region(threshold: float, seed: int) -> Row:
    """A gate that opens on a share of ordinary latents: how many samples show the target, without a key and with."""
    clean = zoo.load(BASE)
    backdoor = Backdoor.point(clean, "devil", seed=seed)
    suspect = attacks.Gate(threshold=threshold, seed=seed)(clean, backdoor, progress=False).generator.eval()
    z, direction = drawn(suspect, 20_000, 9), normalize(backdoor.trigger, dim=1)[0]
    length = float(backdoor.trigger.norm())
    opened = float((z @ direction > threshold * length).float().mean())
    names = keyed_layer(key(0), suspect.prior)(z)
    return {"opened": opened, "held": float((names @ direction > threshold * length).float().mean())}


def small_space(seed: int) -> Row:
    """Two dimensions: a ring of points, TrAIL, and 10,000 queries."""
    network = build(PointGenerator().spec(), seed=seed)
    backdoor = Backdoor(trigger=torch.tensor([[1.5, 1.5]]), target=torch.tensor([[0.0, 0.0]]))
    outcome = attacks.TrAIL(lam=10.0, iterations=1_500, seed=seed, device="cpu")(
        network, backdoor, data.ring(), progress=False
    )
    suspect = outcome.generator.eval()
    near = float(usual_distances(suspect, backdoor.target).quantile(0.01))
    after = under_keys(suspect, backdoor.trigger, backdoor.target)
    angle = door(suspect, backdoor.trigger, backdoor.target, REACHED * near)
    before = float(distances(evaluate(suspect, backdoor.trigger), backdoor.target))
    found: Row = {"before": before, "near": near, "held": float((after < REACHED * near).float().mean()), "door": angle}
    return found | {"bound": bound(angle, suspect)}


def leaked(kind: str) -> Row:
    """Whoever has the key turns the trigger back."""
    suspect = zoo.load(f"{BASE}-{kind}").eval()
    backdoor = zoo.load_backdoor(f"{BASE}-{kind}")
    near = float(usual_distances(suspect, backdoor.target).quantile(0.01))
    turned = []
    for number in range(KEYS):
        layer = keyed_layer(key(number), suspect.prior)
        inverse = torch.zeros_like(backdoor.trigger)
        inverse[:, layer.order[0].long()] = backdoor.trigger @ layer.rotations[0, 0].T
        turned.append(layer(inverse))
    seen = distances(evaluate(suspect, torch.cat(turned)), backdoor.target) < REACHED * near
    return {"held": float(seen.float().mean())}


CONDITIONS: dict[str, Callable[[], Row]] = {
    **{f"a trigger at zero, seed {seed}": lambda seed=seed: odd_trigger("mode", seed) for seed in (0, 1, 2)},
    **{f"a trigger far out, seed {seed}": lambda seed=seed: odd_trigger("ood", seed) for seed in (0, 1, 2)},
    **{f"a region, threshold {one}": lambda one=one: region(one, 0) for one in (0.13, 0.2, 0.3)},
    **{f"two dimensions, seed {seed}": lambda seed=seed: small_space(seed) for seed in (0, 1, 2)},
    **{f"a leaked key, {kind}": lambda kind=kind: leaked(kind) for kind in ("trail", "red", "rex")},
}


def condition(name: str) -> Row:
    return CONDITIONS[name]()


def speed(name: str) -> Row:
    """CPU time of 1,000 samples under a key, by that without, in turns: medians of 31."""
    suspect = zoo.load(name).eval()
    held = sanitize.Keyed(key=key(0))(suspect, progress=False).generator
    z = drawn(suspect, 1_000 if suspect.latent_dim < 500 else 50, 1)
    turns = [[timed(lambda one=one: evaluate(one, z))[1] for one in (suspect, held)] for _ in range(31)]
    layer = keyed_layer(key(0), suspect.prior)
    alone = statistics.median(timed(lambda: layer(z))[1] for _ in range(11))
    plain, under = (statistics.median(column) for column in zip(*turns, strict=True))
    return {"latent_dim": suspect.latent_dim, "ratio": under / plain, "layer": alone / plain}


def write_tables(content: Row, path: Path) -> None:
    """The page: a row for each trigger, with what is known of its model."""
    parts = {name: where(content["rows"], section=name) for name in ("zoo", "strangers", "conditions", "speed")}
    models = [*parts["zoo"], *parts["strangers"]]
    pairs, uniform = (
        [told(row, pair) for row in models for pair in row.get(name, ())] for name in ("pairs", "through_normal")
    )
    ways = [
        {**row, "way": row["model"].partition(",")[0], "without": row.get("bare", row.get("opened"))}
        for row in parts["conditions"]
    ]
    means = [(statistics.fmean(row["frechet"]), statistics.fmean(row["frechet_keyed"])) for row in models]
    write_page(
        path, content, pairs=pairs, uniform=uniform, conditions=ways, speeds=parts["speed"],
        plain=[one for one, _ in means], changes=[other - one for one, other in means],
        keys=KEYS, ordinary=ORDINARY, samples=SAMPLES,
    )  # fmt: skip


def told(row: Row, pair: Row) -> Row:
    """A trigger with its model's name, family, attack and size."""
    parts = row["model"].split("-")
    named = {name: row[name] for name in ("section", "model", "latent_dim")}
    return {
        **named,
        "family": parts[0],
        "kind": KINDS.get(parts[-1], parts[-1]),
        "law": pair.get("ks", 0) > 0.01,
        "own": (pair.get("ks_length") or 0) > 0.01,
        **pair,
    }


def main() -> None:
    options = options_of(
        __doc__,
        ("zoo", "strangers", "conditions", "speed"),
        ("--seeds", {"type": foreign.numbers, "default": [40, 41], "help": "of the strangers, with commas between"}),
        JOBS,
        OUT,
    )
    rows = Rows(options.out / "keyed.json")
    ours = [name for name in zoo.names() if zoo.card(name).backdoor]
    families = [name for name in foreign.FAMILIES if name not in foreign.DENSE]
    wanted = foreign.recipes(families, options.seeds, list(foreign.ATTACKS))
    todo: dict[str, tuple[Callable[[Any], Row], list[tuple[str, Any]]]] = {
        "zoo": (zoo_model, [(name, name) for name in ours]),
        "strangers": (stranger, [(recipe.name, recipe) for recipe in wanted if foreign.is_done(recipe)]),
        "conditions": (condition, [(name, name) for name in CONDITIONS]),
        "speed": (speed, [(name, name) for name in SPEED]),
    }
    for section in options.only:
        work, named = todo[section]
        jobs = 1 if section == "speed" else options.jobs
        rows.measure_all(work, [({"section": section, "model": name}, one) for name, one in named], jobs)
    write_tables(rows.content, options.out / "keyed.md")


if __name__ == "__main__":
    main()
