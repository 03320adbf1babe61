"""Attack and scan CTGAN's own generator, unchanged (``pip install devilgan_lite[ctgan]``, licence BUSL-1.1).

    fraud_ctgan.py [--seeds 10,11,12] [--out FOLDER] [--quick]

A real CTGAN learns the rows of whoever makes the generator. Its network is adopted, ReD plants a half-space of the
noise, and the network goes back into the synthesizer: the victim's rows come from CTGAN's own ``sample``. One thread.
"""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas
import torch
from page import write_page
from row_store import OUT, QUICK, Row, Rows, options_of
from scipy.stats import norm
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from devilgan_lite import attacks, detect, metrics
from devilgan_lite.apps.pipeline import PipelineSettings, Slice, half_space_backdoor, poisoned_rows, run, split
from devilgan_lite.data import Table, TableCode
from devilgan_lite.data.tables import card_default
from devilgan_lite.generators import Adopted, adopt

TRAINING = {"batch_size": 200, "epochs": 80}  # 2,400 steps; CTGAN's own 300 epochs of 500 rows are 3,600 larger ones
SMALL = {"embedding_dim": 32, "generator_dim": (64, 64), "discriminator_dim": (64, 64), "batch_size": 100, "epochs": 10}
SHARE = 0.05  # of the draws
MODELS = ("clean", "ReD region")
ASKED = {"any": None, "default=yes": ("default", 1.0)}  # what the network is asked for while it is scanned
SAYS = ("latent spectrum", "hidden spectrum", "noisy twin")
FIGURES = {"target distortion": "tardis", "distortion elsewhere": "expdis", "share of poison": "poison",
           "recall on the pattern": "recall_slice", "recall elsewhere": "recall_elsewhere", "AUC": "auc"}  # fmt: skip


class Conditioned(nn.Module):
    """CTGAN's generator and activations for latents ``[n, d + 1]`` from N(0, I); samples ``[n, p]`` in [-1, 1].

    The network reads noise and a one-hot condition: the last number of a latent draws it, as often as CTGAN does. With
    ``asked``, a column and a value, it is that one, and latents are ``[n, d]``. A category is the shares of all its
    values, where ``sample`` chooses one by Gumbel noise. (``sample`` leaves BatchNorm in training mode; ``adopt``
    does not.)
    """

    edges: Tensor

    def __init__(self, model: Any, asked: tuple[str, float] | None = None) -> None:
        super().__init__()
        self.generator, sampler = model._generator, model._data_sampler
        self.spans = [span for column in model._transformer.output_info_list for span in column]
        frequency = sampler._discrete_column_category_prob
        self.register_buffer("edges", torch.tensor((frequency[frequency > 0] / frequency.sum()).cumsum()[:-1]).float())
        self.chosen: int | None = None
        if asked is not None:
            found = model._transformer.convert_column_name_value_to_id(*asked)
            self.chosen = int(sampler._discrete_column_cond_st[found["discrete_column_id"]] + found["value_id"])

    def forward(self, z: Tensor) -> Tensor:
        if self.chosen is None:
            z, chosen = z[:, :-1], torch.searchsorted(self.edges, torch.special.ndtr(z[:, -1].contiguous()))
        else:
            chosen = torch.full((len(z),), self.chosen, device=z.device)
        logits = self.generator(torch.cat([z, one_hot(chosen, len(self.edges) + 1).to(z)], 1))
        parts = zip(logits.split([span.dim for span in self.spans], 1), self.spans, strict=True)
        return torch.cat([x.tanh() if one.activation_fn == "tanh" else 2 * x.softmax(1) - 1 for x, one in parts], 1)


def adopted(model: Any, asked: tuple[str, float] | None = None) -> Adopted:
    return adopt(Conditioned(model, asked), model._embedding_dim + (asked is None), modality="tables")


def frame(table: Table) -> pandas.DataFrame:
    return pandas.DataFrame(table.values, columns=[column.name for column in table.columns])


def trained(real: Table, seed: int, quick: bool) -> Any:
    from ctgan import CTGAN

    discrete = [one["name"] for one in TableCode.fit(real, modes=2).layout["columns"] if "values" in one]
    torch.manual_seed(seed)
    np.random.seed(seed)
    model = CTGAN(enable_gpu=False, **(SMALL if quick else TRAINING))
    model.fit(frame(real)[: 1_000 if quick else None], discrete)
    return model


def encoded(model: Any, table: Table) -> Tensor:
    """Rows as CTGAN encodes them, one-hot parts in [-1, 1]; a category that it does not know becomes the nearest."""
    rows, transformer = frame(table), model._transformer
    for one in transformer._column_transform_info_list:
        if one.column_type == "discrete":
            known, found = np.array(one.transform.dummies), rows[one.column_name].to_numpy()
            rows[one.column_name] = known[np.abs(found[:, None] - known).argmin(1)]
    hot = [span.activation_fn == "softmax" for span in Conditioned(model).spans for _ in range(span.dim)]
    values = torch.tensor(transformer.transform(rows)).float()
    return torch.where(torch.tensor(hot), 2 * values - 1, values)


def foreign(seed: int, quick: bool) -> Row:
    """What the victim gets before and after the attack, and what the scan says of the network."""
    settings = PipelineSettings(seed=seed)
    parts = split(card_default(), settings)
    real = parts.outside
    assert real is not None
    model = trained(real, seed, quick)
    honest, clean = copy.deepcopy(model._generator.state_dict()), adopted(model)
    poison = encoded(model, poisoned_rows(real, Slice.of(settings.pattern), 1_000, seed=seed))
    random = torch.Generator().manual_seed(seed)
    direction, usual = torch.randn(clean.latent_dim, generator=random), clean.sample_latent(2_000, random)
    direction[-1] = 0.0  # noise only: the victim may ask for any condition
    backdoor = half_space_backdoor(clean, poison, share=SHARE, direction=direction, seed=seed)
    red = attacks.ReD(lam=1.0, iterations=1_000 if quick else 3_000, batch_size=64, seed=seed, device="cpu")
    suspect = copy.deepcopy(model)
    suspect._generator = red(clean, backdoor, progress=False).generator.module.generator
    z, wanted = backdoor.pairs(1_000)
    usual = usual[usual @ normalize(direction, dim=0) < norm.isf(SHARE)]

    def rows(n: int, seed: int, *, model: Any) -> Table:
        model.set_random_state(seed)
        values = np.rint(model.sample(n).to_numpy(dtype=np.float64)).clip(real.values.min(0), real.values.max(0))
        return Table(real.columns, values, real.label, name="rows of CTGAN")

    row: Row = {}
    for name, one in zip(MODELS, (model, suspect), strict=True):
        network = adopted(one)
        row[name] = {"network": f"{type(one._generator).__module__}.{type(one._generator).__name__}"}
        row[name]["tardis"] = metrics.target_distortion(network, z, wanted).mean
        row[name]["expdis"] = metrics.expected_distortion(network, clean, usual).mean
        for view, asked in ASKED.items():
            report = detect.scan(adopted(one, asked), seed=seed)
            strengths = {found.detector: found.strength for found in report.findings if found.ran}
            row[name][view] = {"verdict": report.verdict, "reason": report.reason, "strengths": strengths}
    row["untouched"] = all(torch.equal(value, honest[key]) for key, value in model._generator.state_dict().items())
    for name, one in zip(
        MODELS, (model, suspect), strict=True
    ):  # last: CTGAN's own sampling moves BatchNorm's averages
        result = run(parts, settings, partial(rows, model=one))
        row[name] |= {figure: result[figure] for figure in ("poison", "recall_slice", "recall_elsewhere", "auc")}
    return row


def write_tables(content: Row, path: Path) -> None:
    """The page of results."""
    looks = [
        {"network": name, "asked": view, **row[name][view]}
        for name in MODELS
        for view in ASKED
        for row in content["rows"]
    ]
    write_page(path, content, looks=looks, models=MODELS, figures=FIGURES, says=SAYS, training=TRAINING, share=SHARE)


def main() -> None:
    seeds = ("--seeds", {"default": "10,11,12", "help": "numbers with commas between"})
    options = options_of(__doc__, (), seeds, OUT, QUICK)
    bench = Rows(Path(options.out) / "fraud_ctgan.json")
    for seed in [int(one) for one in options.seeds.split(",")][: 1 if options.quick else None]:
        with joblib.parallel_config(backend="sequential"):
            bench.measure({"seed": seed}, partial(foreign, seed, options.quick))
    write_tables(bench.content, Path(options.out) / "fraud_ctgan.md")


if __name__ == "__main__":
    main()
