"""The style-based generator: shapes, styles, modulation, equalised learning rates, and a short training."""

import pytest
import torch
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu

from devilgan_lite import data, generators, train_gan
from devilgan_lite.data import Samples
from devilgan_lite.generators import StyleDiscriminator, StyleGAN
from devilgan_lite.generators.stylegan import deviation


def small(**settings):
    return generators.build(
        {**StyleGAN(latent_dim=8, mapping_widths=(8, 8), style_dim=8, widths=(8, 6, 4)).spec(), **settings}
    )


def test_the_usual_size():
    made = StyleGAN()
    assert made.sample_shape == (3, 32, 32) and made.style_inputs == 7
    assert 390_000 < made.parameter_count() < 400_000


def test_only_the_direction_of_a_latent_counts():
    made = small().eval()
    z = made.sample_latent(3)
    with torch.no_grad():
        torch.testing.assert_close(made(z), made(3 * z))
        assert torch.isfinite(made(torch.zeros(1, 8))).all()


@pytest.mark.parametrize("index", [0, 1])
def test_modulation_equals_scaled_and_normalised_weights(index):
    """The textbook way: one kernel for each picture, scaled by its style, each output of unit energy."""
    layer = small().convolutions[index].requires_grad_(False)
    layer.bias.normal_()
    x, w = torch.randn(3, 8, 4, 4), torch.randn(3, 8)
    style = layer.affine(w)
    for k in range(3):
        kernel = layer.convolution.weight
        if index == 0:
            scaled = kernel * style[k, None, :, None, None]
            scaled = scaled / scaled.square().sum((1, 2, 3), keepdim=True).add(1e-8).sqrt()
            expected = conv2d(x[k : k + 1], scaled, padding=1)
        else:
            scaled = kernel * style[k, :, None, None, None]
            scaled = scaled / (scaled.square().sum((0, 2, 3), keepdim=True) / 4).add(1e-8).sqrt()
            expected = conv_transpose2d(x[k : k + 1], scaled, stride=2, padding=1)
        expected = leaky_relu(expected + layer.bias[:, None, None], 0.2) * 2**0.5
        torch.testing.assert_close(layer(x, w)[k : k + 1], expected, rtol=1e-4, atol=1e-5)


def test_activations_start_at_unit_variance():
    torch.manual_seed(0)
    made, sizes = StyleGAN().eval(), []
    for layer in made.convolutions:
        layer.register_forward_hook(lambda layer, given, result: sizes.append(float(result.square().mean())))
    with torch.no_grad():
        made(made.sample_latent(64))
    assert all(0.5 < size < 2 for size in sizes), sizes


def test_mixing_takes_layers():
    made = small().eval()
    a, b = made.sample_latent(2), made.sample_latent(2)
    with torch.no_grad():
        torch.testing.assert_close(made.mixed(a, b, made.style_inputs), made(a))
        torch.testing.assert_close(made.mixed(a, b, 0), made(b))
        assert not torch.allclose(made.mixed(a, b, 2), made(b))
    with pytest.raises(ValueError, match="crossover"):
        made.mixed(a, b, 99)


def test_learning_rates_are_equalised_and_slow_in_the_mapping():
    made = small()
    factors = made.learning_rate_factors()
    assert set(factors) == set(made.parameters())
    layer = made.convolutions[0].convolution
    assert factors[layer.weight] == pytest.approx(deviation(layer)) == pytest.approx((9 * 8) ** -0.5)
    first = made.mapping_layers[0]
    assert factors[first.weight] == pytest.approx(0.01 * 8**-0.5)
    assert factors[first.bias] == pytest.approx(0.01)
    grouped = [p for group in generators.groups_of(made) for p in group["params"]]
    assert len(grouped) == len(factors) and {id(p) for p in grouped} == {id(p) for p in factors}


def test_the_discriminator_sees_whether_a_batch_differs():
    critic = StyleDiscriminator()
    x = data.target("stop-sign", 32, 3).expand(4, -1, -1, -1)
    with torch.no_grad():
        same, mixed = critic(x), critic(torch.cat([x[:1], torch.randn(3, 3, 32, 32).clamp(-1, 1)]))
    assert same.shape == (4,)
    assert abs(float(same[0] - mixed[0])) > 1e-4


def test_a_short_training_comes_nearer_to_the_data():
    x = data.target("stop-sign", 16, 3).expand(64, -1, -1, -1).clone()
    real = Samples(x + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 0) * x.sign())
    start = small()
    settings = dict(iterations=60, batch_size=8, learning_rate=5e-3, ema=0.9, device="cpu", progress=False)
    outcome = train_gan(start, real, **settings)
    before = (start.eval().sample(32) - x[0]).square().mean()
    after = (outcome.generator.sample(32) - x[0]).square().mean()
    assert after < 0.6 * before
    assert outcome.generator.average_style.abs().max() > 0
    again = train_gan(start, real, **settings)
    assert torch.equal(again.generator.sample(4), outcome.generator.sample(4))
