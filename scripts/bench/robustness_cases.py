"""Networks and rows of robustness.py: what is trained, attacked and cured for a row, and where networks are kept."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from attack_rows import CLEAN, figures_of, garments, identity_of, mounted, whole
from row_store import Row, plain, timed
from sanitize_tables import VERSION

from devilgan_lite import attacks, sanitize, train_gan, zoo
from devilgan_lite.generators import DCGAN, Generator
from devilgan_lite.metrics import frechet_to, target_distortion
from devilgan_lite.training import TrainingSettings

ARCHITECTURES = {"small": DCGAN, "paper": DCGAN.paper}
TRAINING = TrainingSettings(iterations=8_400, seed=0, device="cpu")  # of the paper's network: as long as the zoo's


@dataclass(frozen=True)
class Clean:
    """A clean network that this bench trains on the shipped garments, and where it is kept."""

    folder: Path
    architecture: str
    settings: TrainingSettings

    @property
    def path(self) -> Path:
        length, seed = self.settings.iterations, self.settings.seed
        mark = digest([self.architecture, asdict(self.settings)])
        return self.folder / f"clean-{self.architecture}-{length}-s{seed}-{mark}.safetensors"


@dataclass(frozen=True)
class Case:
    """One attack on one network; its row is a function of this."""

    folder: Path
    quick: bool
    section: str
    architecture: str
    attack: attacks.Attack
    target: str

    @property
    def clean(self) -> Clean | None:
        """What is compared with: for TrAIL an honest training as long as its own. None: the zoo's."""
        settings = TrainingSettings(iterations=3, seed=0, device="cpu") if self.quick else TRAINING
        if isinstance(self.attack, attacks.TrAIL):
            return Clean(self.folder, self.architecture, TrainingSettings.of(self.attack))
        return None if self.architecture == "small" else Clean(self.folder, self.architecture, settings)

    @property
    def samples(self) -> int:
        return 500 if self.quick else 10_000

    @property
    def origin(self) -> str:
        """Which clean network, in words, with the digest of its weights where the attack starts from them."""
        if self.clean is None:
            return f"{CLEAN} {zoo.card(CLEAN).sha256[:12]}"
        if isinstance(self.attack, attacks.TrAIL):
            return f"train_gan, {self.attack.iterations} steps, seed {self.attack.seed}"
        return f"{self.clean.path.stem} {zoo.read_card(self.clean.path.with_suffix('.json')).sha256[:12]}"

    @property
    def identity(self) -> Row:
        if self.section == "control":
            return {**self.clean_identity, "section": "control", "version": VERSION}
        against = garments(self.quick)[1]
        found = identity_of(self.section, self.attack, self.target, self.origin, self.samples, against)
        version = {"version": VERSION} if self.section == "cures" else {}
        return {"architecture": self.architecture, **found, **version}

    @property
    def clean_identity(self) -> Row:
        """What the row of the clean network depends on."""
        against = garments(self.quick)[1].name
        facts = {"section": "clean", "architecture": self.architecture, "clean": self.origin}
        return {**facts, "samples": self.samples, "against": against}

    @property
    def path(self) -> Path:
        """Where the backdoored network is kept: another name for whatever makes it another network."""
        facts = {name: value for name, value in self.identity.items() if name not in ("section", "version")}
        name = f"{self.architecture}-{facts['attack']}-{self.target}-s{facts['seed']}-{digest(facts)}"
        return self.folder / f"{name.lower()}.safetensors"


def digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(plain(facts), sort_keys=True).encode()).hexdigest()[:8]


def is_kept(path: Path) -> bool:
    """Whether a network is there: its card is written last."""
    return path.with_suffix(".json").is_file()


def train(clean: Clean) -> None:
    """Train a clean network and keep it; its settings stand on its card."""
    real, network = garments()[0], ARCHITECTURES[clean.architecture]()
    outcome, seconds = timed(lambda: whole(train_gan(network, real, progress=False, **asdict(clean.settings))))
    made: Generator = outcome.generator
    card = zoo.ModelCard(
        name=clean.path.stem,
        spec=made.spec(),
        data=real.name,
        seed=clean.settings.seed,
        settings=plain(outcome.settings),
        seconds=seconds,
    )
    zoo.save_file(clean.path, made, card)
    print(f"{clean.path.stem}: {seconds:.0f} CPU-s", flush=True)


def clean_of(case: Case) -> Generator:
    """The network that a case starts from, or is compared with."""
    if case.clean is None:
        return zoo.load(CLEAN)
    if not is_kept(case.clean.path):
        train(case.clean)
    return zoo.load_file(case.clean.path)[0]


def started_from(case: Case) -> Row:
    """What the clean network of a case is worth."""
    network, shipped = clean_of(case), case.clean is None
    card = zoo.card(CLEAN) if case.clean is None else zoo.read_card(case.clean.path.with_suffix(".json"))
    return {
        "name": card.name,
        "steps": card.settings["steps" if shipped else "iterations"],
        "parameters": network.parameter_count(),
        "frechet": frechet_to(network, garments(case.quick)[1], samples=case.samples),
        "cpu_s": None if shipped else card.seconds,  # those of the zoo's are another machine's
    }


def attacked(case: Case, keep: bool = True) -> Row:
    """The figures of an attack; the backdoored network is kept, and not made again where it is."""
    if keep and is_kept(case.path):
        card = zoo.read_card(case.path.with_suffix(".json"))
        return {**card.metrics, "cpu_s": card.seconds}
    real, reference, _ = garments(case.quick)
    benign = clean_of(case)
    outcome, backdoor, seconds = mounted(case.attack, benign, case.target, real)
    made: Generator = outcome.generator
    figures = figures_of(made, benign, backdoor, reference, case.samples)
    if keep:
        card = zoo.ModelCard(
            name=case.path.stem,
            spec=made.spec(),
            data=real.name,
            seed=backdoor.seed,
            settings=plain(case.attack.settings()),
            metrics=figures,
            backdoor={"target": case.target, "kind": backdoor.kind, "seed": backdoor.seed},
            seconds=seconds,
        )
        zoo.save_file(case.path, made, card)
    return {**figures, "cpu_s": seconds}


def cured(case: Case) -> Row:
    """What ``sanitize.auto`` leaves of the backdoor, of which it knows nothing: before and after."""
    before = attacked(case)
    suspect, card = zoo.load_file(case.path)
    backdoor = zoo.backdoor_of(card, suspect)
    if backdoor is None:
        raise ValueError(f"{case.path.name} has no backdoor on its card.")
    network, figures = blind_cure(case, suspect, before["frechet"])
    after = target_distortion(network, backdoor.trigger, backdoor.target)
    left = {"tardis_sum": [before["tardis_sum"], after.sum], "tardis_mean": [before["tardis_mean"], after.mean]}
    return {**left, **figures}


def blind_cure(case: Case, suspect: Generator, before: float) -> tuple[Generator, Row]:
    """What ``sanitize.auto`` makes of a network at a Frechet distance of ``before``, and what it costs."""
    cure, seconds = timed(
        lambda: sanitize.auto(suspect, iterations=3 if case.quick else 1_500, device="cpu", progress=False)
    )
    network: Generator = whole(cure).generator
    frechet = frechet_to(network, garments(case.quick)[1], samples=case.samples) if cure.changed else before
    return network, {
        "found": cure.changed,
        "cuts": cure.settings["cuts"],
        "verdict_after": cure.after.verdict if cure.after is not None else "clean",
        "frechet": [before, frechet],
        "frechet_change": frechet - before,
        "cpu_s": seconds,
    }


def controlled(case: Case) -> Row:
    """The cure of the clean network of a case, where there is nothing to find."""
    clean = clean_of(case)
    return blind_cure(case, clean, frechet_to(clean, garments(case.quick)[1], samples=case.samples))[1]


def work(case: Case) -> Row:
    if case.section in ("cures", "control"):
        return cured(case) if case.section == "cures" else controlled(case)
    return attacked(case, keep=case.section == "attacks")
