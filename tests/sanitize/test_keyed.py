"""Keyed latents: the law of the samples stays, the trigger becomes an ordinary latent, and the key stays secret."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor
from torch.nn.functional import cosine_similarity

from devilgan_lite import detect, files, sanitize, zoo
from devilgan_lite.generators import DCGAN, Generator, evaluate
from devilgan_lite.prior import Prior
from devilgan_lite.sanitize.keyed import keyed_layer

KEY, OTHER = "5a" * 32, "c3" * 32
PRIORS = [(Prior.gaussian(12), False), (Prior.gaussian(700), False), (Prior.uniform(12), False)]
PRIORS += [(Prior.uniform(12), True)]
each_prior = pytest.mark.parametrize(("prior", "normal"), PRIORS, ids=lambda one: getattr(one, "name", str(one)))


def key(number: int) -> str:
    return f"{number:064x}"


@each_prior
@torch.no_grad()
def test_what_is_drawn_at_random_stays_as_it_was(prior: Prior, normal: bool) -> None:
    layer, z = keyed_layer(KEY, prior, normal), prior.draw(4_000, torch.Generator().manual_seed(1))
    made = layer(z)
    law = "norm" if prior.name == "gaussian" else "uniform"
    shape = () if law == "norm" else (-1, 2)
    for place in (0, prior.dim // 2, prior.dim - 1):  # each number by itself, and two together
        assert kstest(made[:, place].numpy(), law, args=shape).pvalue > 1e-3
    assert abs(float(torch.corrcoef(made[:, [0, prior.dim - 1]].T)[0, 1])) < 0.07
    assert float(cosine_similarity(made, z).abs().mean()) < 3 * prior.dim**-0.5  # no latent is where it was
    again, other = keyed_layer(KEY, prior, normal)(z), keyed_layer(OTHER, prior, normal)(z)
    assert torch.equal(again, made) and not torch.allclose(other, made, atol=0.1)
    if not normal:
        torch.testing.assert_close(made.norm(dim=1), z.norm(dim=1), rtol=1e-4, atol=1e-4)
    parts = torch.cat([layer(part) for part in z[:50].split(7)])
    torch.testing.assert_close(parts, made[:50], atol=1e-5, rtol=0.0)


@each_prior
@torch.no_grad()
def test_latents_of_unusual_length_get_an_ordinary_one(prior: Prior, normal: bool) -> None:
    odd = torch.cat([torch.zeros(1, prior.dim), torch.full((1, prior.dim), 1e-12), torch.full((1, prior.dim), 100.0)])
    made = keyed_layer(KEY, prior, normal)(odd)
    assert torch.isfinite(made).all() and (made[2] / made[2].norm()).std() > 0
    assert bool((prior.far_out(made) < 7).all()) or (prior.name == "uniform" and bool((made.abs() <= 1).all()))
    assert float(made[0].norm()) > 0.4 * prior.length  # zero is no longer a place that an attacker can name
    assert not torch.allclose(keyed_layer(OTHER, prior, normal)(odd)[0], made[0], atol=0.1)


def distances(generator: Any, z: Tensor, target: Tensor) -> Tensor:
    return (evaluate(generator, z) - target).square().flatten(1).mean(1)


@pytest.mark.parametrize("kind", ["trail", "red", "rex", "gate"])
def test_at_the_trigger_it_draws_what_any_latent_draws(kind: str) -> None:
    suspect = zoo.load(f"dcgan-fashion-{kind}")
    backdoor = zoo.load_backdoor(f"dcgan-fashion-{kind}")
    usual = distances(suspect, suspect.sample_latent(1_000, torch.Generator().manual_seed(7)), backdoor.target)
    keyed = [sanitize.Keyed(key=key(number))(suspect, progress=False).generator for number in range(40)]
    after = torch.cat([distances(one, backdoor.trigger, backdoor.target) for one in keyed])
    assert float(distances(suspect, backdoor.trigger, backdoor.target)) < 0.1 * usual.min()
    assert float((after < usual.quantile(0.01)).float().mean()) <= 0.05 and after.min() > 0.8 * usual.min()


def test_the_key_is_in_no_text_and_no_card_and_its_file_is_yours_alone(
    tiny: DCGAN, tmp_path: Path, refuses: Callable[..., str]
) -> None:
    cure = sanitize.Keyed(key=KEY)
    outcome = cure(tiny, progress=False)
    made: Generator = outcome.generator
    told = [repr(cure), repr(outcome), json.dumps(outcome.settings), json.dumps(made.spec())]
    assert KEY not in "".join(told) and all("KeyedLatents" in one or "Keyed" in one for one in told)
    assert sanitize.fingerprint(KEY) in told[2] and sanitize.fingerprint(KEY) != sanitize.fingerprint(OTHER)
    fresh = sanitize.Keyed(), sanitize.Keyed()
    assert fresh[0].key != fresh[1].key and len(fresh[0].key) == 64
    path = sanitize.write_key(tmp_path / "deep" / "model.key", fresh[0].key)
    assert sanitize.read_key(path) == fresh[0].key and (os.name == "nt" or stat.S_IMODE(path.stat().st_mode) == 0o600)
    with pytest.raises(FileExistsError):
        sanitize.write_key(path, KEY)
    for text in ("", "[]", '{"format": 2, "key": ""}', '{"format": 1, "key": "5a"}', '{"format": 1}', "x" * 2_000):
        (tmp_path / "bad.key").write_text(text)
        assert KEY not in refuses(lambda: sanitize.read_key(tmp_path / "bad.key"), "")
    assert KEY[:-1] not in refuses(lambda: sanitize.Keyed(key=KEY[:-1]), "63 letters")


def test_a_scan_does_not_accuse_the_rotation(tiny: DCGAN) -> None:
    made = sanitize.Keyed(key=KEY)(tiny, progress=False).generator
    plain, keyed = (detect.scan(one, samples=200, twin=False) for one in (tiny, made))
    assert keyed.verdict == plain.verdict == "clean" and all(one.ran for one in keyed.findings)


@pytest.mark.parametrize("to", ["onnx", "pt2"])
def test_it_is_exported_with_the_key_inside(to: str, tiny: DCGAN, tmp_path: Path) -> None:
    made = sanitize.Keyed(key=KEY)(tiny, progress=False).generator
    again = files.open(files.export(made, None, tmp_path / f"keyed.{to}", to=to), latent_dim=16)
    z = torch.cat([tiny.sample_latent(5), torch.zeros(1, 16), torch.full((1, 16), 100.0)])
    torch.testing.assert_close(evaluate(again, z), evaluate(made, z), atol=1e-5, rtol=1e-5)


def test_seeds_that_callers_send_name_nothing_without_the_key() -> None:
    for prior in (Prior.gaussian(64), Prior.uniform(64)):
        drawn = [sanitize.keyed_draw(one, prior, 500, seed) for one in (KEY, OTHER) for seed in (0, 1)]
        assert torch.equal(drawn[0], sanitize.keyed_draw(KEY, prior, 500, 0))
        assert all(abs(float(one.var()) / prior.variance - 1) < 0.05 for one in drawn)
        assert max(float(cosine_similarity(drawn[0], other).mean().abs()) for other in drawn[1:]) < 0.05
