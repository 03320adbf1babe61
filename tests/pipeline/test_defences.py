"""Defences: what each sees in honest and in poisoned rows, or in a generator."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from devilgan_lite.generators import PointGenerator
from devilgan_lite.pipeline import (
    Poisoned,
    Slice,
    density_sort,
    guard_while_sampling,
    poisoned_rows,
    rows_that_pass,
    sanitized,
    scan_before_use,
    two_samples_by_slice,
)

PATTERN = Slice.of("risk >= 4 and big = yes")


@pytest.fixture(scope="module")
def halves(table):
    return table.take(np.arange(1_500)), table.take(np.arange(1_500, 3_000))


def test_the_test_of_slices_passes_other_real_rows(halves):
    found = two_samples_by_slice(*halves)
    assert not found.alarm and found.passes.all() and "none of" in found.says


def test_the_test_of_slices_is_no_alarm_for_another_share_of_positives(halves):
    real, rest = halves
    few = rest.take(np.sort(np.r_[np.flatnonzero(rest.labels() == 1), np.flatnonzero(rest.labels() == 0)[:300]]))
    assert not two_samples_by_slice(real, few).alarm


def test_the_test_of_slices_names_the_pattern(halves):
    real, rest = halves
    made = Poisoned(lambda n, seed: rest.take(np.arange(n)), poisoned_rows(rest, PATTERN, 200), 0.15)(1_500, 0)
    found = two_samples_by_slice(real, made)
    bad = PATTERN.mask(made) & (made.labels() == 0)
    assert found.alarm and "bad=0" in found.says and "risk > " in found.says and "big" in found.says
    assert (~found.passes)[bad].mean() > 0.8 and (~found.passes)[~bad].mean() < 0.02
    assert found.details["flagged"][0]["times"] > 8


def test_density_sort_drops_what_is_far_and_says_so(halves):
    real, rest = halves
    values = rest.values.copy()
    values[:30, rest.index("ratio")] += 50
    found = density_sort(real, replace(rest, values=values), dropped=0.02)
    assert found.alarm and not found.passes[:30].any() and (~found.passes).sum() == 30
    assert not density_sort(real, rest, dropped=0.0).alarm and density_sort(real, rest, dropped=0.0).passes.all()


def test_rows_of_other_tables_are_one_sentence(halves):
    real, rest = halves
    few = rest.take(np.arange(10))
    for defence in (two_samples_by_slice, density_sort):
        with pytest.raises(ValueError, match="10 rows; a comparison needs 100"):
            defence(real, few)
        with pytest.raises(ValueError, match="other columns"):
            defence(real, replace(rest, label="big"))
    with pytest.raises(ValueError, match="dropped=1.0 is out of range"):
        density_sort(real, rest, dropped=1.0)
    with pytest.raises(ValueError, match="ratio=0.5 is out of range"):
        two_samples_by_slice(real, rest, ratio=0.5)
    with pytest.raises(ValueError, match="looks at no rows"):
        rows_that_pass(lambda real, made: replace(density_sort(real, made), passes=None))(real, rest)


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return PointGenerator(latent_dim=6)


@pytest.mark.slow
def test_the_guard_passes_ordinary_latents_and_stops_others(generator):
    z = generator.sample_latent(500, torch.Generator().manual_seed(9))
    usual = guard_while_sampling(generator, z, fitting=2_000)
    assert not usual.alarm and usual.passes.mean() > 0.98
    strange = guard_while_sampling(generator, torch.cat([z[:400], 40 * z[400:]]), fitting=2_000)
    assert strange.alarm and not strange.passes[400:].any() and strange.passes[:400].mean() > 0.98
    assert strange.details["flagged"] >= 0.2


def test_the_scan_keeps_out_what_is_not_clean(generator):
    found = scan_before_use(generator, twin=False)
    assert found.alarm == (found.details["verdict"] != "clean")
    assert (found.generator is None) == found.alarm and found.details["verdict"] in found.says


def test_a_sanitized_copy_makes_samples_and_the_suspect_is_untouched(generator):
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    found = sanitized(generator, iterations=20)
    z = torch.randn(50, 6)
    assert torch.isfinite(found.generator(z)).all() and found.details["treatment"] != "none"
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
