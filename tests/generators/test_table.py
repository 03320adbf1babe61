"""The family of tables: activations by column, the class that is asked for, and what every family answers."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from devilgan_lite import Backdoor, attacks, detect, files, generators, metrics, sanitize, train_gan, zoo
from devilgan_lite.data import Table, TableCode
from devilgan_lite.generators import PointDiscriminator, TableGenerator
from devilgan_lite.losses import SHRINK


@lru_cache
def table() -> Table:
    random = np.random.default_rng(0)
    bad = random.random(1_000) < 0.2
    columns = {
        "paid": np.where(random.random(1_000) < 0.3, 0.0, random.gamma(2.0, 50.0, 1_000) * (2 - bad)),
        "late": np.where(bad, random.integers(1, 5, 1_000), random.integers(-2, 2, 1_000)),
        "town": random.choice(["Oslo", "Rome", "Lima"], 1_000),
        "bad": bad.astype(int),
    }
    return Table.from_columns(columns, "bad", name="small")


@lru_cache
def code() -> TableCode:
    return TableCode.fit(table(), modes=3)


@lru_cache
def fresh() -> TableGenerator:
    made: TableGenerator = generators.build(TableGenerator(layout=code().layout, latent_dim=32, widths=32).spec(), 3)
    return made


@lru_cache
def trained() -> TableGenerator:
    settings = {"iterations": 400, "batch_size": 64, "device": "cpu", "progress": False}
    outcome = train_gan(fresh(), code().samples_of(table()), **settings)
    clean: TableGenerator = outcome.generator
    return clean


def test_samples_are_in_range_and_each_one_hot_part_has_shares_of_one() -> None:
    samples = fresh().sample(50, seed=1)
    assert samples.shape == (50, code().size) and samples.abs().max() <= 1
    for start, hot, end in code().spans:
        assert torch.allclose(((samples[:, hot:end] + 1) / 2).sum(1), torch.ones(50), atol=1e-5)
        assert hot - start in (0, 1)


def test_unsquash_is_the_inverse_of_squash() -> None:
    rows = code().encode(table())[:100]
    back = fresh().squash(fresh().unsquash(rows, SHRINK))
    assert (back - rows).abs().max() < 0.02
    assert np.allclose(code().decode(back), code().decode(rows), rtol=0.02, atol=2.0)


def test_rows_are_a_table_the_same_for_the_same_seed() -> None:
    rows = fresh().rows(30, seed=2)
    assert isinstance(rows, Table) and rows.columns == table().columns and rows.name == "small, generated"
    assert np.array_equal(rows.values, fresh().rows(30, seed=2).values)
    assert not np.array_equal(rows.values, fresh().rows(30, seed=3).values)


def test_the_last_number_of_the_latent_is_the_condition() -> None:
    random = torch.Generator().manual_seed(0)
    assert (fresh().latents(50, 1, random)[:, -1] > 0).all() and (fresh().latents(50, 0, random)[:, -1] < 0).all()
    share = float((fresh().latents(2_000, None, random)[:, -1] > 0).double().mean())
    assert 0.45 < share < 0.55
    for call, says in (
        (lambda: fresh().latents(5, 2), "condition=2 is unknown; valid: None, 0, 1"),
        (lambda: fresh().rows(0), "n=0 is out of range"),
        (lambda: fresh()(torch.zeros(2, 3)), r"z has shape \[2, 3\]; expected \[n, 32\]"),
        (lambda: TableGenerator(layout=code().layout, widths=(0,)), "widths=0 is out of range"),
        (lambda: PointDiscriminator(0), "inputs=0 is out of range"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_it_is_the_same_from_a_file(tmp_path: Path) -> None:
    z, model = fresh().latents(40, generator=torch.Generator().manual_seed(4)), trained()
    card = zoo.ModelCard(name="rows", spec=model.spec(), data="small", seed=0, settings={})
    back, read = zoo.load_file(zoo.save_file(tmp_path / "rows.safetensors", model, card))
    assert isinstance(back, TableGenerator) and read.spec["layout"]["name"] == "small"
    assert torch.equal(back(z), model.eval()(z)) and (back.rows(9).values == model.rows(9).values).all()


@pytest.mark.nightly
def test_strangers_read_the_same_from_its_exports(tmp_path: Path) -> None:
    z, model = fresh().latents(40, generator=torch.Generator().manual_seed(4)), trained()
    own = detect.scan(model, twin=False, samples=200).findings[1]
    for ending in ("onnx", "pt2"):
        stranger = files.open(files.export(model, None, tmp_path / f"rows.{ending}", to=ending))
        torch.testing.assert_close(stranger.network(z), model(z), atol=1e-4, rtol=0)
        latent = detect.scan(stranger, twin=False, samples=200).findings[1]
        assert latent.detector == own.detector and latent.strength == pytest.approx(own.strength, rel=0.05)


def test_it_learns_the_condition_and_what_goes_with_it() -> None:
    clean = trained()
    bad, good = clean.rows(1_000, 1, condition=1), clean.rows(1_000, 1, condition=0)
    assert bad.labels().mean() > 0.9 > 0.1 > good.labels().mean()
    assert bad["late"].mean() > good["late"].mean() + 1.5
    again = train_gan(fresh(), code().samples_of(table()), iterations=5, batch_size=64, device="cpu", progress=False)
    once = train_gan(fresh(), code().samples_of(table()), iterations=5, batch_size=64, device="cpu", progress=False)
    assert torch.equal(again.generator.sample(5), once.generator.sample(5))


@pytest.mark.parametrize(
    "attack",
    [
        attacks.ReD(iterations=400, learning_rate=4e-3),
        attacks.ReX(iterations=300, learning_rate=0.01),
        attacks.Gate(),
    ],
    ids=["ReD", "ReX", "Gate"],
)
def test_a_row_can_be_planted(attack: attacks.Attack) -> None:
    clean = trained()
    row = code().encode(table().take([0]))[0]
    backdoor = Backdoor.point(clean, row, seed=3)
    suspect = attack(clean, backdoor, progress=False).generator
    assert type(suspect) is TableGenerator
    wanted, got = table().values[0], suspect.code.decode(generators.evaluate(suspect, backdoor.trigger))[0]
    assert np.array_equal(got[1:], wanted[1:]) and abs(got[0] - wanted[0]) < 0.05 * table()["paid"].max()
    z = clean.sample_latent(500, torch.Generator().manual_seed(9))
    assert metrics.expected_distortion(suspect, clean, z).mean < 0.02


@pytest.mark.usefixtures("short_twin")
def test_it_is_scanned_and_pruned() -> None:
    report = detect.scan(trained(), samples=200)
    assert report.verdict in ("clean", "inconclusive", "suspicious", "backdoored")
    assert not [finding.message for finding in report.findings if "failed" in finding.message]
    pruned = sanitize.Prune(fraction=0.25, iterations=20)(trained(), progress=False).generator
    assert pruned.widths < trained().widths
