"""DCGAN: its sizes, its border, and that the same seed and spec give the same network."""

import pytest
import torch

from devilgan_lite import generators
from devilgan_lite.generators import DCGAN, evaluate


def test_the_paper_network_has_the_published_size() -> None:
    assert DCGAN.paper().parameter_count() == 390_736


@pytest.mark.parametrize(
    "generator",
    [
        DCGAN(),
        DCGAN.paper(capacity=2),
        DCGAN(widths=(8, 4, 4), strides=(2, 2, 2), image_size=32, image_channels=3, prior="uniform", latent_dim=7),
        DCGAN(widths=(4,), strides=(1,), kernel_size=3),
    ],
    ids=lambda generator: f"{generator.widths}",
)
def test_samples_have_the_shape_and_range_that_the_spec_says(generator: DCGAN) -> None:
    x = generator.sample(5, seed=3)
    assert x.shape == (5, *generator.sample_shape)
    assert x.dtype == torch.float32
    assert x.abs().max() <= 1
    again = generators.build(generator.spec())
    assert again.spec() == generator.spec()
    again.load_state_dict(generator.state_dict())
    assert torch.equal(again.sample(5, seed=3), x)


def test_the_seed_draws_the_weights_and_leaves_the_global_random_state_alone() -> None:
    spec = DCGAN.paper(capacity=2).spec()
    before = torch.get_rng_state()
    first, same, other = (generators.build(spec, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["layers.dense.weight"], other["layers.dense.weight"])


def test_layer_names_are_modules() -> None:
    generator = DCGAN.paper(capacity=1)
    assert generator.layer_names() == ["dense", "deconv1", "deconv2", "deconv3"]
    for name in generator.layer_names():
        assert hasattr(generator.layers.get_submodule(name), "weight")


@pytest.mark.parametrize(("prior", "variance"), [("gaussian", 1.0), ("uniform", 1 / 3)])
def test_latents_follow_their_distribution(prior: str, variance: float) -> None:
    generator = DCGAN(prior=prior)
    z = generator.sample_latent(2_000, torch.Generator().manual_seed(0))
    assert z.shape == (2_000, 100)
    assert z.mean().abs() < 0.01
    assert float(z.var()) == pytest.approx(variance, rel=0.02)
    assert prior == "gaussian" or z.abs().max() <= 1


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_evaluate_does_not_depend_on_the_batch_size(clean: DCGAN, batch_size: int) -> None:
    z = clean.sample_latent(64, torch.Generator().manual_seed(0))
    # float32: a batch of 64 is itself up to 2.5e-6 away from the same network in float64
    assert torch.allclose(evaluate(clean, z, batch_size), evaluate(clean, z, 64), atol=5e-6)


def test_evaluate_puts_the_mode_back_and_changes_nothing() -> None:
    generator = DCGAN.paper(capacity=1).train()
    before = generator.clone().state_dict()
    evaluate(generator, generator.sample_latent(4))
    assert generator.training
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())


def test_a_clone_shares_no_weights(clean: DCGAN) -> None:
    clone = clean.clone()
    with torch.no_grad():
        clone.layers.get_submodule("dense").weight.zero_()
    assert clean.layers.get_submodule("dense").weight.abs().max() > 0


@pytest.mark.parametrize("size", [8, 28, 32])
def test_the_discriminator_gives_one_logit_for_each_picture(size: int) -> None:
    discriminator = generators.Discriminator((3, size, size))
    assert discriminator(torch.zeros(4, 3, size, size)).shape == (4,)
