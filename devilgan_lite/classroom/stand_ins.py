"""The steps of every notebook, and what stands in for the trainings before them; see ``states``."""

from __future__ import annotations

# what takes seconds in the workshop profile, and so is never run to make a state
SLOW = (
    r"\.run\(|\.wait\(|\.steps\(|\.finish\(|train_gan\(|progress=|LiveTraining|attacks\.\w+\([^\n]*\)\(|scorecard\("
    r"|frechet_to\(|features_and_classes\(|sanitize\.|QuietReD|SpectralReD|optim\.Adam|\.split\(\w*\d"
    r"|\baxes\(|\bax\.|\bfilm\(|\bfigure\(|\bfrontier\(|style_inputs|\balong\(evil|\bpruned\("
    r"|check_entry\(|detect\.(scan|anatomy|Guard|reconstruct|sample_outputs|inspect_\w+)\("
)

STEPS: dict[str, dict[str, str]] = {
    "00": {"setup": "The threat", "walk": "Round 1", "samples": "Round 2", "scorecard": "Round 3"},
    "01": {"setup": "", "plane": "Round 1", "warp": "Round 2", "garments": "Round 3", "yardstick": "Round 4"},
    "02": {"setup": "", "attack": "Round 1", "comparison": "Round 2", "lam": "Round 3", "tricks": "Round 4"},
    "03": {
        "setup": "",
        "attack": "Round 1",
        "spaces": "Round 2",
        "layers": "Round 3",
        "width": "Round 4",
        "lam": "Round 5",
        "aligned_units": "Round 6",
    },
    "04": {
        "setup": "",
        "expansion": "Round 1",
        "attack": "Round 2",
        "formula": "Round 3",
        "gate": "Round 4",
        "width": "Round 5",
    },
    "05": {
        "setup": "",
        "graph": "Round 1",
        "units": "Round 2",
        "spectrum": "Round 3",
        "attackers": "Round 4",
        "scan": "Round 5",
    },
    "06": {
        "setup": "",
        "samples": "Round 1",
        "climb": "Round 2",
        "reconstruction": "Round 3",
        "guard": "Round 4",
        "report": "Round 5",
    },
    "07": {
        "setup": "",
        "tuning": "Round 1",
        "distillation": "Round 2",
        "projection": "Round 3",
        "cuts": "Round 4",
        "later": "Round 5",
        "table": "What comes off",
    },
    "08": {"setup": "", "units": "Round 1", "pruning": "Round 2", "repair": "Round 3", "table": "Round 4"},
    "09": {
        "setup": "",
        "styles": "Round 1",
        "inversion": "Round 2",
        "linear": "Round 3",
        "attack": "Round 4",
        "film": "Round 5",
    },
    "10": {
        "setup": "",
        "outside": "Round 1",
        "looks": "Round 2",
        "scans": "Round 3",
        "key": "Round 4",
        "entry": "Round 5",
    },
}

# name -> notebook code that takes the place of the statement which makes it
STAND_INS: dict[str, dict[str, str]] = {
    "01": {
        "ring_outcome": "ring_outcome = train_gan(generators.PointGenerator(), ring, steps=80, batch_size=128, "
        "seed=config.seed, progress=False)",
        "trained": "trained = cached",
    },
    "02": {
        "evil": "from types import SimpleNamespace\n"
        "evil = SimpleNamespace(generator=zoo.load('dcgan-fashion-trail'), history={}, "
        "seconds=zoo.card('dcgan-fashion-trail').seconds)",
        "honest": "honest = SimpleNamespace(generator=zoo.load('dcgan-fashion'), history={})",
    },
    "03": {
        "outcome": "from types import SimpleNamespace\n"
        "outcome = SimpleNamespace(generator=zoo.load('dcgan-fashion-red'), history={}, "
        "seconds=zoo.card('dcgan-fashion-red').seconds)",
    },
    "04": {
        "outcome": "from types import SimpleNamespace\n"
        "outcome = SimpleNamespace(generator=zoo.load('dcgan-fashion-rex'), history={}, "
        "seconds=zoo.card('dcgan-fashion-rex').seconds)",
        "linear_outcome": "linear_outcome = attacks.ClosedForm(lam=1.0)(clean, devil, progress=False)",
        "gate": "gate = zoo.load('dcgan-fashion-gate')",
    },
    "09": {
        "ordinary": "ordinary = clean.sample_latent(300, torch.Generator().manual_seed(7))",
        "evil": "evil = zoo.load('stylegan-faces-gate')",
    },
    "10": {
        "kit": "kit = challenge.new_round(folder, PASSPHRASE, models=4, seed=config.seed, kinds=('gate',), "
        "effort=challenge.QUICK)",
    },
}
