"""Every family: shapes and range, spec and file and back, seed, widen, shrink, exact additions, opponent, training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from devilgan_lite import attacks, data, detect, generators, train_gan, zoo
from devilgan_lite.generators import FAMILIES, Generator, adopt, build, evaluate, seeded


def layout() -> dict[str, Any]:
    random = np.random.default_rng(0)
    columns = {
        "paid": random.gamma(2.0, 50.0, 200),
        "town": random.choice(["Oslo", "Rome"], 200),
        "bad": np.arange(200) % 2,
    }
    return data.TableCode.fit(data.Table.from_columns(columns, "bad", name="small"), modes=2).layout


def stranger() -> nn.Module:
    first = [nn.Linear(7, 4 * 9), nn.Unflatten(1, (4, 3, 3)), nn.BatchNorm2d(4), nn.LeakyReLU(0.1)]
    return nn.Sequential(*first, nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Tanh())


SMALL: dict[str, Any] = {
    "Adopted": lambda: adopt(seeded(0, stranger)),
    "Beside": lambda: build({"architecture": "Beside", "base": generators.PointGenerator(widths=8).spec(), "units": 5}),
    "DCGAN": lambda: generators.DCGAN(widths=(6, 4), latent_dim=7, image_size=8, image_channels=3, prior="uniform"),
    "PointGenerator": lambda: generators.PointGenerator(latent_dim=3, widths=(8, 6), prior="uniform"),
    "RectifiedFlow": lambda: generators.RectifiedFlow(widths=(4, 6, 8), euler_steps=2, image_size=8),
    "StyleGAN": lambda: generators.StyleGAN(latent_dim=8, mapping_widths=(8, 6), style_dim=5, widths=(8, 6)),
    "TableGenerator": lambda: generators.TableGenerator(layout=layout(), latent_dim=8, widths=(12, 10)),
    "VAE": lambda: generators.VAE(latent_dim=6, widths=(6, 4), image_size=8, beta=2.0, scale=0.3, pixels="gaussian"),
    "WaveGAN": lambda: generators.WaveGAN(latent_dim=7, widths=(6, 4), strides=(4, 4), length=64),
}
CHAINS = ("Adopted", "DCGAN", "PointGenerator", "TableGenerator", "VAE", "WaveGAN")
BIG = 4_000


def made(name: str) -> Generator:
    """A small one whose weights, biases and statistics are not those of a fresh network."""
    network: Generator = seeded(3, SMALL[name])
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
        if name not in ("StyleGAN", "TableGenerator"):
            network.train()(network.sample_latent(64, random))
    return network.eval()


def test_every_family_of_the_package_is_here() -> None:
    ours = {name for name, kind in FAMILIES.items() if kind.__module__.startswith("devilgan_lite")}
    assert ours == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_it_draws_repeats_and_comes_back_from_its_spec_and_its_file(name: str, tmp_path: Path, refuses: Any) -> None:
    network = made(name)
    x = network.sample(5, seed=3)
    assert x.shape == (5, *network.sample_shape) and x.dtype == torch.float32 and x.abs().max() <= 1
    assert torch.equal(network.sample(5, seed=3), x) and not torch.equal(network.sample(5, seed=4), x)
    z = network.sample_latent(BIG, torch.Generator().manual_seed(0))
    assert z.shape == (BIG, network.latent_dim) and z.mean().abs() < 0.03
    assert float(z.var()) == pytest.approx(1 / 3 if network.prior.name == "uniform" else 1.0, rel=0.05)
    assert network.prior.name != "uniform" or z.abs().max() <= 1
    z = z[:9]
    torch.testing.assert_close(network(z), network.squash(network.logits(z)))
    for size in (1, 4, 9):  # in batches of any size; the mode is put back and nothing changes
        torch.testing.assert_close(evaluate(network.train(), z, size), network.eval()(z), atol=5e-6, rtol=1e-5)
    state = network.state_dict()
    assert network.parameter_count() == sum(value.numel() for value in state.values() if value.is_floating_point())
    refuses(lambda: network(torch.zeros(2, network.latent_dim + 1)), "z has shape")

    spec = json.loads(json.dumps(network.spec()))
    assert spec["architecture"] == name and type(network).__name__ == name
    before = torch.get_rng_state()
    first, same, other = (build(spec, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before) and json.loads(json.dumps(first.spec())) == spec
    assert all(torch.equal(value, same.state_dict()[key]) for key, value in first.state_dict().items())
    assert any(not torch.equal(value, other.state_dict()[key]) for key, value in first.state_dict().items())
    first.load_state_dict(state)
    assert torch.equal(first.eval()(z), network(z))
    fresh = network.fresh(7)
    assert type(fresh) is type(network) and not torch.equal(next(fresh.parameters()), next(network.parameters()))
    told = (
        type(network).from_shapes({key: tuple(value.shape) for key, value in state.items()}) if name != "VAE" else None
    )
    assert all(
        spec[key] == value for key, value in (told or {}).items() if key not in ("strides", "kernel_size", "length")
    )

    card = zoo.ModelCard("small", {}, "none", 0, {})
    back, read = zoo.load_file(zoo.save_file(tmp_path / "small.safetensors", network, card))
    assert type(back) is type(network) and not back.training and read.modality == network.modality.name
    assert back.prior.name == network.prior.name
    torch.testing.assert_close(back(z), network(z), atol=1e-6, rtol=1e-5)
    clone = network.clone()
    with torch.no_grad():
        next(clone.parameters()).zero_()
    assert next(network.parameters()).abs().max() > 0
    with torch.no_grad():
        torch.testing.assert_close(network.squash(network.unsquash(x, 0.99)), _inside(network, x), atol=1e-4, rtol=1e-4)


def _inside(network: Generator, x: torch.Tensor) -> torch.Tensor:
    """Samples as far inside [-1, 1] as ``unsquash`` brings them; shares add up to one again."""
    if not isinstance(network, generators.TableGenerator):
        return 0.99 * x
    shares, inside = (0.99 * x + 1) / 2, 0.99 * x
    for _, hot, end in network.code.spans:
        inside[:, hot:end] = 2 * shares[:, hot:end] / shares[:, hot:end].sum(1, keepdim=True) - 1
    return inside


@pytest.mark.parametrize("name", SMALL)
def test_every_detector_reads_it(name: str) -> None:
    network = made(name)
    report = detect.scan(network, samples=200, twin=False, seed=1)
    assert report.findings and all(finding.ran for finding in report.findings), report
    opened = report.subject
    assert opened.opened and adopt(opened) is opened and opened.clone().opened is False
    z = opened.ordinary(5, seed=2)
    assert torch.equal(z, opened.ordinary(5, seed=2)) and z.shape == (5, network.latent_dim)
    torch.testing.assert_close(opened(z), network(z), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_what_is_added_is_added_exactly_and_comes_off_again(name: str) -> None:
    """``gain <z, u>`` and ``gain relu(<z, u> - t)``, whatever the network is made of; fresh channels add nothing."""
    network = made(name)
    size, random = int(np.prod(network.sample_shape)), torch.Generator().manual_seed(5)
    z, gain = network.sample_latent(40, random), torch.randn(2, size, generator=random)
    unit = nn.functional.normalize(torch.randn(2, network.latent_dim, generator=random), dim=1)
    old = network.logits(z).flatten(1).detach()
    for threshold in (None, torch.tensor([0.1, 0.3])):
        along = z @ unit.T if threshold is None else (z @ unit.T - threshold).relu()
        folded = attacks.fold(network, network.rank_one(gain, unit, threshold)).eval()
        torch.testing.assert_close(folded.logits(z).flatten(1).detach(), old + along @ gain, atol=2e-4, rtol=2e-3)
    expansion = network.widen(3, seed=1)
    wide = expansion.fold(network, calibration=z).eval()
    torch.testing.assert_close(wide(z), network(z), atol=1e-5, rtol=1e-4)
    assert torch.equal(network.widen(3, seed=1).first.weight, expansion.first.weight)
    assert not torch.equal(network.widen(3, seed=2).first.weight, expansion.first.weight)
    chain = network.chain()
    assert (chain is not None) == (name in CHAINS)
    if chain is not None:
        assert type(wide) is type(network) and wide.chain().widths == tuple(width + 3 for width in chain.widths)
        back = wide.shrink([torch.arange(width) for width in chain.widths])
        torch.testing.assert_close(back(z), network(z), atol=1e-5, rtol=1e-4)
        assert network.resized((3, 2)[: len(chain.widths)]).chain().widths == (3, 2)[: len(chain.widths)]
    weights = {id(one) for found in network.named_layers().values() for module in found for one in module.parameters()}
    left = {key for key, one in network.named_parameters() if id(one) not in weights}
    assert left <= {"constant"}


@pytest.mark.parametrize("name", [name for name in SMALL if name != "Adopted"])
def test_it_is_trained_against_an_opponent_of_its_own(name: str) -> None:
    network = made(name)
    x = network.sample(6, seed=1)
    first, same, other = (network.opponent(seed).eval() for seed in (1, 1, 2))
    said = first(x)
    if name == "VAE":
        assert [part.shape for part in said] == [(6, 6), (6, 6)]
    elif name != "RectifiedFlow":
        assert said.shape == (6,) and torch.equal(same(x), said) and not torch.equal(other(x), said)
    grouped = [one for group in generators.groups_of(network) for one in group["params"]]
    assert {id(one) for one in grouped} == {id(one) for one in network.parameters()} and len(grouped) == len({*grouped})
    real = data.Samples(made(name).sample(40, seed=2))
    one, again = (train_gan(network, real, iterations=2, batch_size=4, device="cpu", progress=False) for _ in range(2))
    assert one.history == again.history and np.isfinite([*one.history.values()]).all()
    assert torch.equal(one.generator.sample(2), again.generator.sample(2)) and type(one.generator) is type(network)


BAD: dict[str, list[dict[str, Any]]] = {
    "DCGAN": [
        {"widths": (4,)}, {"widths": (10**9, 2)}, {"image_size": 30}, {"image_size": 10**9}, {"strides": (1, 2)},
        {"prior": "normal"}, {"latent_dim": 0}, {"negative_slope": 1.5},
    ],
    "PointGenerator": [{"widths": 10**9}],
    "VAE": [{"beta": -1.0}, {"scale": 0.0}, {"prior_match": -1.0}, {"pixels": "laplace"}, {"prior": "uniform"}],
    "RectifiedFlow": [
        {"image_size": 27}, {"image_size": 2}, {"euler_steps": 0}, {"widths": (8, 8)}, {"widths": (8, 0, 8)},
        {"prior": "uniform"},
    ],
    "StyleGAN": [
        {"widths": (8,)}, {"widths": (8, 0)}, {"mapping_widths": (0,)}, {"style_dim": 0}, {"image_channels": 0},
    ],
    "WaveGAN": [
        {"length": 4_000}, {"widths": (8,)}, {"kernel_size": 7}, {"kernel_size": 2}, {"strides": (1, 4, 4, 4)},
        {"channels": 0},
    ],
}  # fmt: skip


@pytest.mark.usefixtures("no_work")
def test_what_a_family_cannot_be_is_refused(refuses: Any) -> None:
    for name, cases in BAD.items():
        for case in cases:
            key = "kernel_size" if case == {"strides": (1, 2)} else next(iter(case))
            refuses(lambda name=name, case=case: FAMILIES[name](**case), key)
    refuses(lambda: generators.RectifiedFlow(image_channels=17, image_size=64), "latent_dim")
    refuses(generators.DCGAN(widths=(4,), strides=(1,), kernel_size=3, image_size=3).opponent, "sample_shape")
    refuses(lambda: build({"architecture": "Glow"}), "architecture", "DCGAN")
    refuses(lambda: build({"architecture": "DCGA"}), "Did you mean 'DCGAN'")
    refuses(lambda: build({"architecture": "DCGAN", "depth": 3}), "depth", error=TypeError)
    for recipe in ({"penalty": -1.0}, {"penalty_every": 0}, {"betas": (1.0, 0.9)}, {"betas": (0.9,)}):
        refuses(lambda recipe=recipe: generators.Recipe(**recipe), next(iter(recipe)))
