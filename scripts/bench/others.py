"""Measure generators that are no GANs: a VAE and a rectified flow of garments; docs/results/others.{json,md}.

    others.py [--only quality,attacks,bound,student,defence,angles,population] [--families vae,flow] [--out FOLDER]
              [--quick]

Rows are kept in others.json as they come, so that a run that was cut short goes on where it stopped. Seconds are
CPU-seconds of one thread. Three triggers (seeds 0 to 2) on the clean models of the zoo.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from others_student import student
from others_tables import GAN, PLAIN, SHORT, SHOWN, write_tables
from plain_loops import vae_steps
from row_store import OUT, QUICK, Row, Rows, options_of, some_of, timed

from devilgan_lite import Backdoor, attacks, data, detect, sanitize, scorecard, train_gan, zoo
from devilgan_lite.features import features_and_classes
from devilgan_lite.generators import DCGAN, VAE, Generator, RectifiedFlow, build, evaluate
from devilgan_lite.metrics import features_of, frechet_distance, frechet_to, target_distortion

SEEDS, TARGET = (0, 1, 2), "stop-sign"
CLEAN = {"vae": "vae-garments", "flow": "flow-garments"}
MORE = 8  # Euler steps, with the weights of the flow of the zoo
PACE = 30  # steps that tell how many fit into a time
LAMBDAS, BETAS, BOUND_STEPS = (0.01, 0.1, 1.0), (0.25, 1.0, 4.0), 400
SMALL: dict[str, Callable[[int], Generator]] = {  # one is not like the next
    "vae": lambda seed: VAE(latent_dim=(16, 32)[seed % 2], widths=((24, 16), (32, 24))[seed // 2 % 2]),
    "flow": lambda seed: RectifiedFlow(
        widths=((8, 16, 32), (16, 16, 16))[seed % 2], euler_steps=(2, 4, 6)[seed // 2 % 3]
    ),
}
ANGLES, NEAR = (0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60), 1_000  # degrees from a trigger, and latents at each
SMALL_STEPS, MEMBERS = {"vae": 600, "flow": 1_000}, 8
UNTOUCHED = 20  # the first seed of a population that no limit was set with
PLANTED = ("ReD", "ReX", "Gate")  # in a population, in turns
HASTY: Row = {"iterations": 1_200, "batch_size": 8, "learning_rate": 3e-3, "lam": 1.0}  # ReD on the small flows
ATTACKS: dict[str, dict[str, Callable[..., attacks.Attack]]] = {
    "vae": {"ReX": attacks.ReX, "Gate": attacks.Gate, "ReD": attacks.ReD, "TrAIL": attacks.TrAIL},
    "flow": {"ReD": attacks.ReD, "Gate": attacks.Gate, "ReX": attacks.ReX, "TrAIL": attacks.TrAIL},
}
SETTINGS: dict[tuple[str, str], Row] = {  # where they are not those that an attack comes with
    ("vae", "TrAIL"): {"iterations": 1_000, "lam": 0.01, "huber_delta": None},
    ("vae", "ReD"): {"aligned_units": 1, "learning_rate": 1.6e-3},
    ("flow", "TrAIL"): {"iterations": 1_000, "lam": 0.01, "huber_delta": None},
    ("flow", "ReD"): {"iterations": 800, "batch_size": 8, "learning_rate": 1e-3},
    ("flow", "ReX"): {"iterations": 400, "batch_size": 8},
}


class Bench(Rows):
    """The options, the real garments to measure against, and the file of rows."""

    def __init__(self, folder: Path, families: list[str], quick: bool) -> None:
        super().__init__(folder / "others.json")
        self.families, self.quick = families, quick
        self.real = data.fashion_mnist()
        self.samples = 200 if quick else 3_000

    def steps(self, number: int) -> int:
        return 3 if self.quick else number


def quality(bench: Bench) -> None:
    """What the zoo's models reached, and what a GAN and a plain loop reach in the same time."""
    for family in bench.families:
        card = zoo.card(CLEAN[family])
        known = {key: card.metrics[key] for key in ("frechet", "precision", "recall", "coverage")}
        steps = card.settings["iterations"]
        made = {"section": "quality", "family": family, "clean": card.sha256[:12]}
        row = {**known, "cpu_s": card.seconds, "steps": steps, "samples": card.metrics["samples"]}
        bench.measure({**made, "what": CLEAN[family]}, lambda row=row: row)  # type: ignore[misc]

        def gan(seconds: float = card.seconds) -> Row:
            return equal_time(bench, lambda n: gan_snapshots(bench, n), seconds)

        def by_hand(seconds: float = card.seconds) -> Row:
            return equal_time(bench, lambda n: vae_steps(VAE(), bench.real.x, 32), seconds)

        def honest(network: Generator, steps: int = steps) -> Row:
            steps = bench.steps(steps)
            own, spent = timed(lambda: train_gan(network, bench.real, iterations=steps, progress=False).generator)
            return {"frechet": frechet_to(own, bench.real, samples=bench.samples), "cpu_s": spent, "steps": steps}

        def short(family: str = family) -> Row:
            steps = attack_of(bench, family, "TrAIL", 0).settings()["iterations"]
            return honest(zoo.load(CLEAN[family]), steps)

        def more_steps(family: str = family) -> Row:
            few = zoo.load(CLEAN[family])
            many = build({**few.spec(), "euler_steps": MORE})
            many.load_state_dict(few.state_dict())
            return {"frechet": frechet_to(many.eval(), bench.real, samples=bench.samples), "cpu_s": 0.0, "steps": 0}

        bench.measure({**made, "what": SHORT}, short)
        if family == "vae":
            bench.measure({**made, "what": PLAIN}, by_hand)
            bench.measure({**made, "what": "without prior_match"}, lambda: honest(VAE(prior_match=0.0)))
        else:
            bench.measure({**made, "what": f"the same weights, {MORE} Euler steps"}, more_steps)
            bench.measure({**made, "what": GAN}, gan)


def gan_snapshots(bench: Bench, steps: int) -> Iterator[Any]:
    for step in train_gan.steps(DCGAN(), bench.real, iterations=steps, device="cpu"):
        yield step.snapshot() if step.iteration == steps else None


def equal_time(bench: Bench, loop: Callable[[int], Iterator[Any]], seconds: float) -> Row:
    """Train for about ``seconds``: a first piece tells how many steps that is."""
    probe, pace = loop(1_000_000), bench.steps(PACE)
    _, first = timed(lambda: [next(probe) for _ in range(pace)])
    _, first = timed(lambda: [next(probe) for _ in range(pace)])
    steps = pace if bench.quick else max(pace, round(seconds * pace / first))
    run = loop(steps)
    made, spent = timed(lambda: [next(run) for _ in range(steps)][-1])
    made.eval()
    return {"frechet": frechet_to(made, bench.real, samples=bench.samples), "cpu_s": spent, "steps": steps}


def planted(family: str, attack: attacks.Attack, clean: Generator, bench: Bench) -> tuple[Any, Backdoor, float]:
    """The outcome of an attack, its backdoor, and its CPU-seconds; the attack's seed draws the trigger as well."""
    backdoor = Backdoor.point(clean, TARGET, seed=attack.settings()["seed"])
    outcome, seconds = timed(lambda: attack(clean, backdoor, bench.real, progress=False))
    return outcome, backdoor, seconds


def attack_of(bench: Bench, family: str, name: str, seed: int) -> attacks.Attack:
    kind, settings = ATTACKS[family][name], SETTINGS.get((family, name), {})
    short = {"iterations": 3} if bench.quick and name != "Gate" else {}
    return kind(seed=seed, **{**settings, **short})


def mounted(bench: Bench) -> None:
    """Every attack with three triggers. TrAIL makes another network, so its ExpDis says nothing of stealth."""
    for family in bench.families:
        clean, origin = zoo.load(CLEAN[family]), zoo.card(CLEAN[family]).sha256[:12]
        for name, seed in itertools.product(ATTACKS[family], SEEDS):
            attack = attack_of(bench, family, name, seed)

            def work(attack: attacks.Attack = attack, family: str = family, clean: Generator = clean) -> Row:
                outcome, backdoor, seconds = planted(family, attack, clean, bench)
                real = bench.real.first(bench.samples)
                card = scorecard(outcome.generator, clean, backdoor, real, samples=bench.samples)
                names = ("tardis_mean", "tardis_sum", "expdis_mean", "frechet", "frechet_clean", "frechet_change")
                return {**{one: getattr(card, one) for one in names}, "cpu_s": seconds}

            identity = {"section": "attacks", "family": family, "attack": name, "target": TARGET, "seed": seed}
            bench.measure({**identity, "clean": origin, "settings": attack.settings()}, work)


def bound(bench: Bench) -> None:
    """TrAIL on a VAE: what ``lam`` and ``beta`` do to target, bound and quality. ``lam`` 0: an honest training."""
    if "vae" not in bench.families:
        return
    for beta, lam in itertools.product(BETAS, (0.0, *LAMBDAS)):

        def work(beta: float = beta, lam: float = lam) -> Row:
            network, steps = VAE(beta=beta), bench.steps(BOUND_STEPS)
            backdoor = Backdoor.point(network, TARGET, seed=0)
            if lam:
                outcome = attacks.TrAIL(lam=lam, huber_delta=None, iterations=steps)(
                    network, backdoor, bench.real, progress=False
                )
            else:
                outcome = train_gan(network, bench.real, iterations=steps, progress=False)
            last = {name: sum(values[-100:]) / len(values[-100:]) for name, values in outcome.history.items()}
            kl = last["kl_loss"] / beta
            return {
                "tardis_mean": target_distortion(outcome.generator, backdoor.trigger, backdoor.target).mean,
                "reconstruction": last["reconstruction_loss"],
                "kl": kl,
                "negative_elbo": last["reconstruction_loss"] + kl,
                "frechet": frechet_to(outcome.generator, bench.real, samples=bench.samples),
                "frechet_again": drawn_again(outcome, bench),
            }

        bench.measure({"section": "bound", "beta": beta, "lam": lam, "steps": BOUND_STEPS, "seed": 0}, work)


@torch.no_grad()
def drawn_again(outcome: Any, bench: Bench) -> float:
    """The Frechet distance of real garments that the VAE draws again, from latents of its encoder's posterior."""
    encoder = outcome.generator.opponent()
    encoder.load_state_dict(outcome.state["states"][1])
    mean, log_variance = encoder.eval()(bench.real.x[: bench.samples])
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    again = evaluate(outcome.generator, mean + (log_variance / 2).exp() * noise)
    return frechet_distance(features_and_classes(again)[0], features_of(bench.real))


def defended(bench: Bench) -> None:
    """Scan, guard and cure of what the zoo has of either family; and what a scan of a garment GAN costs."""
    gan = build(DCGAN(widths=(48, 32)).spec(), seed=0).eval()  # as many numbers as the flow
    identity: Row = {"section": "scan", "model": "a fresh DCGAN", "parameters": gan.parameter_count()}
    bench.measure(identity, lambda: scanned(gan, None))
    todo = [(family, name) for family in bench.families for name in zoo.names() if name.startswith(CLEAN[family])]
    for (section, work), (family, name) in itertools.product(DEFENCES.items(), todo):
        module = zoo.load(name)
        backdoor = zoo.load_backdoor(name) if zoo.card(name).backdoor else None
        identity = {"section": section, "family": family, "model": name, "sha256": zoo.card(name).sha256[:12]}
        identity["parameters"] = module.parameter_count()
        if section != "cure" or backdoor is not None:
            bench.measure(identity, lambda w=work, m=module, b=backdoor: w(m, b))  # type: ignore[misc]


def scanned(module: Generator, backdoor: Backdoor | None) -> Row:
    report, seconds = timed(lambda: detect.scan(module, samples=200))
    row: Row = {"verdict": report.verdict, "kinds": list(report.kinds), "scan_s": seconds}
    row["strengths"] = {kind: round(strength, 3) for kind, strength in report.strengths.items()}
    row["not_run"] = [finding.detector for finding in report.findings if not finding.ran]
    if backdoor is not None and report.trigger is not None:
        unit = torch.nn.functional.normalize(report.trigger.view(1, -1), dim=1)
        row["cosine"] = float((unit * torch.nn.functional.normalize(backdoor.trigger, dim=1)).sum(1).abs().max())
    return row


def guarded(module: Generator, backdoor: Backdoor | None) -> Row:
    guard, seconds = timed(lambda: detect.Guard(module, fitting=2_000))
    z = module.sample_latent(2_000, torch.Generator().manual_seed(1_000_003))
    row: Row = {"guard_s": seconds, "ordinary_stopped": float(guard.check(z).flags.double().mean())}
    return row if backdoor is None else {**row, "trigger_stopped": bool(guard.check(backdoor.trigger).flags.all())}


def cured(module: Generator, backdoor: Backdoor | None) -> Row:
    try:
        outcome, seconds = timed(lambda: sanitize.auto(module, always=True, iterations=600, progress=False))
    except ValueError as error:
        return {"cure": f"refused: {error}"}
    row: Row = {"cure": outcome.treatment, "cure_s": seconds, **outcome.scorecard}
    if backdoor is not None:
        row["tardis_cured"] = target_distortion(outcome.generator, backdoor.trigger, backdoor.target).mean
    return row


DEFENCES: dict[str, Callable[[Generator, Backdoor | None], Row]] = {"scan": scanned, "guard": guarded, "cure": cured}


def angles(bench: Bench) -> None:
    """The guard of each backdoored model of the zoo that draws pictures, at latents so far from the trigger."""
    for name in zoo.names():
        card = zoo.card(name)
        if card.backdoor and card.modality in ("", "images"):
            identity: Row = {"section": "angles", "model": name, "sha256": card.sha256[:12]}
            bench.measure(identity, lambda name=name: watched(name))  # type: ignore[misc]


def watched(name: str) -> Row:
    """By angle: the share of latents that the guard stops, and of those that it lets pass and that show the target."""
    module, backdoor, random = zoo.load(name), zoo.load_backdoor(name), torch.Generator().manual_seed(7)
    guard, unit = detect.Guard(module), torch.nn.functional.normalize(backdoor.trigger[:1], dim=1)
    aside = torch.randn(NEAR, unit.shape[1], generator=random)
    aside = torch.nn.functional.normalize(aside - (aside @ unit.T) * unit, dim=1)
    row: Row = {"stopped": {}, "shown": {}, "missed": {}}
    for degrees in ANGLES:
        turn = torch.tensor(degrees).deg2rad()
        z = (turn.cos() * unit + turn.sin() * aside) * backdoor.trigger.norm()
        stopped = torch.cat([guard.check(part).flags for part in z.split(250)])
        shown = (evaluate(module, z) - backdoor.target[:1]).square().flatten(1).mean(1) < SHOWN
        shares = {"stopped": stopped, "shown": shown, "missed": shown & ~stopped}
        for what, share in shares.items():
            row[what][str(degrees)] = float(share.double().mean())
    z = module.sample_latent(5_000, torch.Generator().manual_seed(1_000_003))
    row["ordinary"] = float(torch.cat([guard.check(part).flags for part in z.split(250)]).double().mean())
    return row


def population(bench: Bench) -> None:
    """Small models of either family, clean and backdoored by each of ``PLANTED`` in turns: verdicts of a whole scan.

    No limit of the scan was set with a look at these seeds.
    """
    for family, seed in itertools.product(
        bench.families, range(UNTOUCHED, UNTOUCHED + (1 if bench.quick else MEMBERS))
    ):
        kept: list[Generator] = []

        def trained(family: str = family, seed: int = seed, kept: list[Generator] = kept) -> Generator:
            if not kept:
                steps = bench.steps(SMALL_STEPS[family])
                kept.append(
                    train_gan(SMALL[family](seed), bench.real, iterations=steps, seed=seed, progress=False).generator
                )
            return kept[0]

        def clean(trained: Callable[[], Generator] = trained) -> Row:
            return scanned(trained(), None)

        def bad(trained: Callable[[], Generator] = trained, family: str = family, seed: int = seed) -> Row:
            attack = attack_of(bench, family, PLANTED[seed % len(PLANTED)], seed)
            if family == "flow" and isinstance(attack, attacks.ReD) and not bench.quick:
                attack = attacks.ReD(seed=seed, **HASTY)
            outcome, backdoor, _ = planted(family, attack, trained(), bench)
            tardis = target_distortion(outcome.generator, backdoor.trigger, backdoor.target).mean
            return {
                **scanned(outcome.generator, backdoor),
                "attack": type(attack).__name__,
                "tardis_mean": tardis,
            }

        for kind, work in (("clean", clean), ("backdoored", bad)):
            bench.measure({"section": "population", "family": family, "kind": kind, "seed": seed}, work)


RUN: dict[str, Callable[[Bench], None]] = {
    "quality": quality,
    "attacks": mounted,
    "bound": bound,
    "student": student,
    "defence": defended,
    "angles": angles,
    "population": population,
}


def main() -> None:
    families = ("--families", {"type": some_of(CLEAN), "default": list(CLEAN), "help": f"some of {', '.join(CLEAN)}"})
    options = options_of(__doc__, RUN, families, OUT, QUICK)
    bench = Bench(options.out, options.families, options.quick)
    for section in options.only:
        RUN[section](bench)
        write_tables(bench.content, options.out / "others.md")


if __name__ == "__main__":
    main()
