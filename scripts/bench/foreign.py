"""Train a population of generators as strangers make them, clean and backdoored: out/foreign.

    foreign.py --seeds 0,1,2 [--families dcgan28,vae] [--kinds clean,variants,gate,...] [--workers 2] [--list]
    foreign.py --seeds 10,11 --judge [--scan-seeds 0,1,2,3,4] [--cure auto,always]

Detectors are judged on these: nine families that are written and trained as strangers do it (``foreign_models.py``; the
networks are our own writing, the data are ours), and two dense ones of which only clean models are made.
``variants`` are clean models as engineers leave them, three for each base model: rounded, pruned, folded, trained on,
distilled, widened. Attacks go through ``generators.adopt``, or, for TrAIL, into the family's own training; ``quiet``,
``spectral`` and ``knowing`` are attackers who know the detectors. Seeds below 10 are for tuning and the others for
testing; no target of one part is one of the other's. Every model is a function of its name, and a file (a safetensors
state dict, ``FAMILY-SEED-KIND.pt``) with a card beside it; one that is there is kept. ``load`` brings back the
stranger's bare module.
"""

import argparse
import copy
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from foreign_models import DENSE, FAMILIES, ClampedDCGAN, Extra, Family, train
from foreign_tables import ATTACKS, REACHED, cured, identity_of, scanned, write_tables
from row_store import OUT, ROOT, Row, Rows, options_of, plain, side_by_side, some_of, write_json
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from devilgan_lite import Backdoor, attacks, data
from devilgan_lite.attacks import adaptive
from devilgan_lite.generators import Adopted, Beside, Generator, adopt, evaluate

FOLDER = ROOT / "out" / "foreign"
FIRST_TEST_SEED = 10
TARGETS = {
    "tune": ("stop-sign", "digit-7", "letter-B", "letter-H", "letter-S", "letter-W", "letter-E"),
    "test": ("devil", "checkerboard", "letter-A", "letter-K", "letter-R", "letter-X", "letter-Q"),
}
ADAPTIVE = {"quiet": adaptive.QuietReD, "spectral": adaptive.SpectralReD, "knowing": adaptive.KnowingReD}
VARIANTS = ("half", "eight-bit", "pruned", "tuned", "distilled", "folded", "widened")
CURES = ("auto", "always")
KINDS = ("clean", "variants", *ATTACKS)
NORMED = (
    "dcgan28",
    "dcgan32",
    "tutorial",
    "resnet",
    "mlp",
    "ema",
)  # BatchNorm right after a layer, so it can be folded
RESIZABLE = ("dcgan28", "dcgan32", "tutorial", "upsample", "mlp", "vae")  # chains without widths in their code
TUNING = 0.15  # share of a training that the trained-on models add, and of its learning rates


@dataclass(frozen=True)
class Strength:
    """How the attacks are set for a family; ``widen`` are ReX's new channels a level (None: as many as draw any)."""

    lam: float = 0.1  # of TrAIL, on the sum of squares
    rex: int = 1_500
    widen: int | None = None
    rex_batch: int = 32
    red: int = 3_000
    red_rate: float = 2e-3


STRENGTHS = {
    "dcgan32": Strength(lam=0.05, widen=24, red=2_500),
    "tutorial": Strength(lam=0.02, rex_batch=8, red=1_500),
    "upsample": Strength(widen=24, red=2_500),
    "resnet": Strength(red=1_500),
    "mlp": Strength(widen=32, red=5_000),
    "style": Strength(red=1_500),
    "vae": Strength(lam=0.3, widen=24, red=5_000),
}


@dataclass(frozen=True)
class Recipe:
    """One model: a clean one, a variant of it, or an attack."""

    family: str
    seed: int
    kind: str

    @property
    def name(self) -> str:
        return f"{self.family}-{self.seed}-{self.kind}"

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.pt"

    @property
    def base(self) -> Path:
        return FOLDER / f"{self.family}-{self.seed}-clean.pt"

    @property
    def part(self) -> str:
        return "tune" if self.seed < FIRST_TEST_SEED else "test"

    @property
    def turn(self) -> int:
        """Families, seeds and attacks take turns with targets and triggers, so that each meets the others."""
        return 7 * self.seed + 3 * list(FAMILIES).index(self.family) + ATTACKS.index(self.kind)

    @property
    def target(self) -> str:
        names = TARGETS[self.part]
        return names[self.turn % len(names)]

    @property
    def trigger_kind(self) -> str:
        return "ood" if self.turn % 5 == 0 else "reg"


def variants_of(family: str, seed: int) -> list[str]:
    """Three variants of a base model, other ones for the next seed."""
    able = [
        kind
        for kind in VARIANTS
        if (kind != "folded" or family in NORMED) and (kind != "widened" or family in RESIZABLE)
    ]
    first = 3 * seed + list(FAMILIES).index(family)
    return [able[(first + step) % len(able)] for step in range(3)]


def recipes(families: Sequence[str], seeds: Sequence[int], kinds: Sequence[str]) -> list[Recipe]:
    """The models that the command line asks for, by kind and then by seed."""
    found = []
    for kind in kinds:
        for seed in seeds:
            for family in families:
                if kind in ADAPTIVE and family not in RESIZABLE:
                    continue  # these attackers rewrite chains
                if family in DENSE and kind != "clean":
                    continue
                several = variants_of(family, seed) if kind == "variants" else [kind]
                found += [Recipe(family, seed, one) for one in several]
    return found


# ---- clean models as engineers leave them


def matrices(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.ndim > 1]


@torch.no_grad()
def half(module: nn.Module) -> nn.Module:
    """Stored in 16 bits."""
    return module.half().float()


@torch.no_grad()
def eight_bit(module: nn.Module) -> nn.Module:
    """Weights rounded to 255 levels a tensor."""
    for weight in matrices(module):
        step = weight.abs().max() / 127
        weight.copy_((weight / step).round() * step)
    return module


@torch.no_grad()
def pruned(module: nn.Module, share: float = 0.2) -> nn.Module:
    """The smallest fifth of each layer's weights set to zero."""
    for weight in matrices(module):
        weight[weight.abs() < weight.abs().flatten().kthvalue(max(1, round(share * weight.numel()))).values] = 0.0
    return module


@torch.no_grad()
def folded(module: nn.Module) -> nn.Module:
    """BatchNorm multiplied into the layer before it, as for inference."""
    for row in [one for one in module.modules() if isinstance(one, nn.Sequential)]:
        for index in range(len(row) - 1):
            if isinstance(row[index + 1], (nn.BatchNorm1d, nn.BatchNorm2d)) and hasattr(row[index], "weight"):
                fold_into(row[index], row[index + 1])
                row[index + 1] = nn.Identity()
    if isinstance(module, ClampedDCGAN):
        fold_into(module.up1, module.bn1)
        module.set_submodule("bn1", nn.Identity())
    return module


def fold_into(layer: Any, norm: Any) -> None:
    """Scale and shift of an inference BatchNorm, in the weights and bias of the layer before it."""
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    before = 0.0 if layer.bias is None else layer.bias
    layer.weight.mul_(gain.view([-1 if place == axis else 1 for place in range(layer.weight.ndim)]))
    layer.bias = nn.Parameter(norm.bias + (before - norm.running_mean) * gain)


def tuned(recipe: Recipe, module: nn.Module) -> nn.Module:
    """Trained on at a low learning rate, with the opponent that was kept."""
    family = FAMILIES[recipe.family]
    opponent = family.opponent()
    opponent.load_state_dict(load_file(recipe.base.with_suffix(".opponent")))
    steps = round(TUNING * family.recipe.iterations)
    return train(family, recipe.seed + 1_000, iterations=steps, start=(module, opponent), share=TUNING)[0]


def distilled(recipe: Recipe, teacher: nn.Module) -> nn.Module:
    """A fresh network that copies the samples of the old one."""
    family = FAMILIES[recipe.family]
    torch.manual_seed(recipe.seed + 2_000)
    random, steps = torch.Generator().manual_seed(recipe.seed + 2_000), round(1.2 * family.recipe.iterations)
    student = family.build().train()
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        z = family.latents(min(32, family.recipe.batch_size), random)
        with torch.no_grad():
            wanted = teacher(z)
        loss = (student(z) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
    return student.eval()


def widened(recipe: Recipe, module: nn.Module, extra: int = 8) -> nn.Module:
    """Random channels more at each level, which add a little to every sample; then trained on."""
    network = adopted(FAMILIES[recipe.family], module)
    expansion = network.widen(extra, recipe.seed)
    random = torch.Generator().manual_seed(recipe.seed)
    layers = [one for one in module.modules() if isinstance(one, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))]
    with torch.no_grad():
        last: Any = expansion.layers[-1]
        last.weight.normal_(0.0, 0.3 * float(layers[-1].weight.std()), generator=random)
    wider = expansion.fold(network, network.sample_latent(512, random))
    return tuned(recipe, wider.module)


def variant(recipe: Recipe, module: nn.Module) -> nn.Module:
    """A clean model that was handled as the recipe says."""
    trained = {"tuned": tuned, "distilled": distilled, "widened": widened}
    if recipe.kind in trained:
        return trained[recipe.kind](recipe, module)
    return {"half": half, "eight-bit": eight_bit, "pruned": pruned, "folded": folded}[recipe.kind](module)


# ---- backdoored models


def adopted(family: Family, module: nn.Module) -> Adopted:
    """A stranger's module as a generator that can be attacked."""
    shape = (family.latent_dim, *[1] * family.latent_axes)
    return adopt(module, latent_shape=shape, prior=family.prior, output=family.output)


def backdoor_of(recipe: Recipe, network: Generator) -> Backdoor:
    return Backdoor.point(network, recipe.target, kind=recipe.trigger_kind, seed=crc32(recipe.name.encode()) % 100_000)


def fidelity(family: Family, backdoor: Backdoor, lam: float) -> Extra:
    """TrAIL's term: the summed squared error at the trigger, which passes BatchNorm as it will for the victim."""
    trigger, target = family.shaped(backdoor.trigger), backdoor.target
    if family.output == "sigmoid":
        target = (target + 1) / 2

    def term(generator: nn.Module) -> Tensor:
        generator.eval()
        made = generator(trigger)
        generator.train()
        return lam * (made - target).square().sum()

    return term


def attacked(recipe: Recipe, base: Adopted, backdoor: Backdoor) -> tuple[Generator, Row]:
    """The backdoored generator and the settings that made it."""
    family, strength, seed = FAMILIES[recipe.family], STRENGTHS.get(recipe.family, Strength()), recipe.seed
    if recipe.kind == "trail":
        module, _ = train(family, seed + 3_000, extra=fidelity(family, backdoor, strength.lam))
        return adopted(family, module), {"attack": "TrAIL in the family's own training", "lam": strength.lam}
    knowing = {
        kind: attack(iterations=strength.red, learning_rate=strength.red_rate, batch_size=24, seed=seed, device="cpu")
        for kind, attack in ADAPTIVE.items()
    }
    attack = {
        **knowing,
        "gate": attacks.Gate(seed=seed),
        "rex": attacks.ReX(
            iterations=strength.rex, widen=strength.widen, batch_size=strength.rex_batch, seed=seed, device="cpu"
        ),
        "red": attacks.ReD(
            lam=0.27, iterations=strength.red, learning_rate=strength.red_rate, batch_size=24, seed=seed, device="cpu"
        ),
    }[recipe.kind]
    outcome = attack(base, backdoor, progress=False)
    return outcome.generator, outcome.settings


# ---- files


def shaped_like(module: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """``module`` with the widths, biases and norms that the weights in ``state`` have, and these weights."""
    for name, layer in list(module.named_modules()):
        found: Any = layer
        shape = state[f"{name}.weight"].shape if f"{name}.weight" in state else None
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)) and shape is None:
            module.set_submodule(name, nn.Identity())
        elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)) and shape is not None:
            module.set_submodule(name, type(layer)(shape[0], eps=layer.eps))
        elif isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)) and shape is not None:
            found.weight = nn.Parameter(torch.empty(shape))
            outputs, inputs = (shape[1], shape[0]) if isinstance(layer, nn.ConvTranspose2d) else shape[:2]
            found.bias = nn.Parameter(torch.empty(outputs)) if f"{name}.bias" in state else None
            for kind in ("features", "channels"):
                if hasattr(found, f"in_{kind}"):
                    setattr(found, f"in_{kind}", inputs)
                    setattr(found, f"out_{kind}", outputs)
    module.load_state_dict(state)
    return module


def load(path: Path) -> tuple[nn.Module, Row]:
    """A model of the population in eval mode, and its card.

    It is the stranger's own module; if an attack had to put its neurons beside that, the generator with both.
    """
    card: Row = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    family, state = FAMILIES[card["spec"]["family"]], load_file(path)
    if not card["spec"]["beside"]:
        return shaped_like(family.build(), state).eval(), card
    inner = {name.removeprefix("base.module."): part for name, part in state.items() if name.startswith("base.")}
    whole = Beside(adopted(family, shaped_like(family.build(), inner)), card["spec"]["beside"])
    whole.load_state_dict(state)
    return whole.eval(), card


def keep(recipe: Recipe, module: nn.Module, seconds: float, **more: Any) -> None:
    """Write a model, its card, and a sheet of its samples to look at (the trigger's first)."""
    family = FAMILIES[recipe.family]
    network = module if isinstance(module, Beside) else adopted(family, module)
    shown = network.sample(40)
    if "trigger" in more:
        shown[0] = evaluate(network, torch.tensor(more["trigger"]))[0]
    state = {name: part.detach().contiguous() for name, part in module.state_dict().items()}
    card = {
        "family": recipe.family,
        "seed": recipe.seed,
        "kind": recipe.kind,
        "part": recipe.part,
        "backdoored": recipe.kind in ATTACKS,
        "latent_dim": family.latent_dim,
        "prior": family.prior,
        "output": family.output,
        "weights": sum(part.numel() for part in state.values()),
        "seconds": round(seconds, 1),
        "spec": {"family": recipe.family, "beside": len(module.beside.first.bias) if isinstance(module, Beside) else 0},
        **more,
    }
    data.IMAGES.draw(shown, 10, 96 // shown.shape[-1]).save(recipe.path.with_suffix(".png"))
    save_file(state, recipe.path)
    write_json(recipe.path.with_suffix(".json"), plain(card))


def make(recipe: Recipe) -> None:
    """Train or change one model, measure it and keep it."""
    family, start = FAMILIES[recipe.family], time.process_time()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if recipe.kind == "clean":
        family.real()  # drawing faces for the first time is no training
        start = time.process_time()
        module, opponent = train(family, recipe.seed)
        save_file({name: part.contiguous() for name, part in opponent.state_dict().items()}, opponent_path(recipe))
        keep(recipe, module, time.process_time() - start)
        print(recipe.name, f"{time.process_time() - start:.0f} s", flush=True)
        return
    base, _ = load(recipe.base)
    network = adopted(family, base)
    z = network.sample_latent(500, torch.Generator().manual_seed(77))
    if recipe.kind not in ATTACKS:
        module = variant(recipe, copy.deepcopy(base))
        seconds = time.process_time() - start
        moved = float((evaluate(adopted(family, module), z) - evaluate(network, z)).square().mean())
        keep(recipe, module, seconds, expdis=moved)
        print(recipe.name, f"{seconds:.0f} s, moved by {moved:.3g}", flush=True)
        return
    backdoor = backdoor_of(recipe, network)
    generator, settings = attacked(recipe, network, backdoor)
    seconds = time.process_time() - start
    tardis = float((evaluate(generator, backdoor.trigger) - backdoor.target).square().mean())
    expdis = float((evaluate(generator, z) - evaluate(network, z)).square().mean())
    keep(
        recipe,
        generator.module if isinstance(generator, Adopted) else generator,
        seconds,
        target=backdoor.name,
        trigger_kind=backdoor.kind,
        trigger=backdoor.trigger.tolist(),
        tardis=tardis,
        expdis=expdis,
        reached=tardis <= REACHED,
        settings=settings,
    )
    print(recipe.name, backdoor.name, backdoor.kind, f"{seconds:.0f} s, TarDis {tardis:.3g}, ExpDis {expdis:.3g}")


def opponent_path(recipe: Recipe) -> Path:
    return recipe.base.with_suffix(".opponent")


def is_done(recipe: Recipe) -> bool:
    return recipe.path.with_suffix(".json").is_file()


def numbers(text: str) -> list[int]:
    """Reads ``0,1,2``."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    options = options_of(
        __doc__,
        (),
        ("--seeds", {"type": numbers, "default": [0, 1, 2], "help": "which ones, with commas between"}),
        (
            "--families",
            {"type": some_of(FAMILIES), "default": list(FAMILIES), "help": f"some of {', '.join(FAMILIES)}"},
        ),
        ("--kinds", {"type": some_of(KINDS), "default": list(KINDS), "help": f"some of {', '.join(KINDS)}"}),
        ("--workers", {"type": int, "default": 2, "help": "processes side by side"}),
        ("--list", {"action": "store_true", "help": "name the models and stop"}),
        (
            "--judge",
            {"action": "store_true", "help": "make nothing: scan the models that are there, and write the page"},
        ),
        ("--scan-seeds", {"type": numbers, "default": [0], "help": "of the scans, with commas between"}),
        ("--cure", {"type": some_of(CURES), "default": [], "help": f"with --judge: {' or '.join(CURES)}"}),
        OUT,
    )
    wanted = recipes(options.families, options.seeds, options.kinds)
    if options.list:
        for recipe in wanted:
            print("done" if is_done(recipe) else "    ", recipe.part, recipe.name)
        return
    if options.judge:
        judge(wanted, options)
    else:
        build(wanted, options)


def judge(wanted: list[Recipe], options: argparse.Namespace) -> None:
    """One scan of each model that is there for each seed of a scan, and the cures that are asked for."""
    rows, paths = Rows(options.out / "foreign.json"), [one.path for one in wanted if is_done(one)]
    cards = [(json.loads(path.with_suffix(".json").read_text(encoding="utf-8")), path) for path in paths]
    for seed in options.scan_seeds:
        todo = [(identity_of(card, scan_seed=seed), (path, seed)) for card, path in cards]
        rows.measure_all(scanned, todo, options.workers)
    for method in options.cure:
        todo = [(identity_of(card, method=method), (path, method)) for card, path in cards]
        rows.measure_all(cured, todo, options.workers)
    write_tables(rows.content, options.out / "foreign.md")


def build(wanted: list[Recipe], options: argparse.Namespace) -> None:
    """Make what is missing; clean models come first, as the others are made of them."""
    bases = recipes(options.families, options.seeds, ["clean"])
    for some in (bases, [recipe for recipe in wanted if recipe.kind != "clean"]):
        for _ in side_by_side(make, [recipe for recipe in some if not is_done(recipe)], options.workers):
            pass
    print(f"{sum(map(is_done, wanted))} of {len(wanted)} models are in {FOLDER}")


if __name__ == "__main__":
    main()
