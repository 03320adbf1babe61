"""Widening and folding: the old network stays as it is, to the bit, inside one ordinary, wider network."""

import pytest
import torch
from torch import nn

from devilgan_lite import Backdoor, attacks, generators
from devilgan_lite.attacks import expand, fold
from devilgan_lite.generators import DCGAN, Stage
from devilgan_lite.generators.chain import weight_of


@pytest.fixture(scope="module", params=["shipped", "small", "paper"])
def network(request: pytest.FixtureRequest, clean: DCGAN) -> DCGAN:
    """The shipped network, and two fresh ones with BatchNorm statistics that are not trivial."""
    if request.param == "shipped":
        return clean
    fresh: DCGAN = generators.build((DCGAN() if request.param == "small" else DCGAN.paper()).spec(), seed=3)
    with torch.no_grad():
        fresh.train()(fresh.sample_latent(64, torch.Generator().manual_seed(0)))
    return fresh.eval()


def stages(network: generators.Generator) -> tuple[Stage, ...]:
    chain = network.chain()
    assert chain is not None
    return chain.stages


def shaken(expansion: attacks.Expansion, seed: int = 0) -> attacks.Expansion:
    """As if it had been trained: no weight or bias is zero any more."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in expansion.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=random))
    return expansion


@pytest.mark.parametrize("widen", [1, 4, 8, 16])
def test_a_fresh_expansion_folds_into_the_same_function_to_the_bit(network: DCGAN, widen: int) -> None:
    folded = fold(network, expand(network, widen))
    assert folded.widths == tuple(width + widen for width in network.widths)
    for n in (1, 7, 64):
        z = network.sample_latent(n, torch.Generator().manual_seed(n))
        with torch.no_grad():
            assert torch.equal(folded(z), network(z)), n


@pytest.mark.parametrize("calibrated", [False, True])
def test_the_folded_network_computes_the_sum_before_tanh(network: DCGAN, calibrated: bool) -> None:
    expansion = shaken(expand(network, tuple(range(2, 2 + len(network.widths)))))
    z = network.sample_latent(64, torch.Generator().manual_seed(5))
    folded = fold(network, expansion, calibration=network.sample_latent(256) if calibrated else None)
    with torch.no_grad():
        assert torch.allclose(folded(z), torch.tanh(network.logits(z) + expansion(z)), atol=1e-5)
        assert not torch.allclose(folded(z), network(z), atol=1e-2)


def test_the_old_weights_stand_unchanged_inside_the_wide_ones(network: DCGAN) -> None:
    folded = fold(network, shaken(expand(network, 4)))
    for index, (wide, old) in enumerate(zip(stages(folded), stages(network), strict=True)):
        ours, theirs = weight_of(wide.layer), weight_of(old.layer)
        outputs, inputs = theirs.shape[:2]
        assert torch.equal(ours[:outputs, :inputs], theirs)
        if index and len(ours) > outputs:  # no way from the old part into the new, nor back
            assert not ours[outputs:, :inputs].any()
            assert not ours[:outputs, inputs:].any()
        if old.norm is not None:
            for name, value in old.norm.state_dict().items():
                if value.ndim:
                    assert torch.equal(wide.norm.state_dict()[name][: len(value)], value)


def test_calibration_gives_the_new_batchnorm_the_statistics_that_it_sees(clean: DCGAN) -> None:
    z = clean.sample_latent(2_000, torch.Generator().manual_seed(0))
    folded = fold(clean, shaken(expand(clean, 4)), calibration=z)
    with torch.no_grad():
        hidden = folded.layers[:1](z)
    new = slice(stages(clean)[0].units, None)
    norm = stages(folded)[0].norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert torch.allclose(norm.running_mean[new], hidden[:, new].mean(0), atol=1e-3)
    assert torch.allclose(norm.running_var[new], hidden[:, new].var(0), rtol=1e-2)


def operations(generator: nn.Module) -> list[str]:
    """The kinds of operation in the traced graph, in order."""
    traced = torch.jit.trace(generator.eval(), torch.zeros(2, 100), check_trace=False)
    torch._C._jit_pass_inline(traced.graph)
    return [node.kind() for node in traced.graph.nodes() if node.kind().startswith("aten::")]


def test_the_graph_has_no_branch(clean: DCGAN, digit: Backdoor) -> None:
    folded = fold(clean, shaken(expand(clean, 8)))
    gated = attacks.Gate()(clean, digit, progress=False).generator
    bypassed = attacks.ComputationBypass()(clean, digit, progress=False).generator
    assert operations(folded) == operations(gated) == operations(clean)
    extra = set(operations(bypassed)) - set(operations(clean))
    assert {"aten::where", "aten::le"} <= extra


def test_folding_changes_neither_its_arguments_nor_the_global_random_state(clean: DCGAN) -> None:
    expansion = shaken(expand(clean, 4))
    before = [value.clone() for module in (clean, expansion) for value in module.state_dict().values()]
    state = torch.get_rng_state()
    fold(clean, expansion, calibration=clean.sample_latent(16, torch.Generator().manual_seed(0)))
    after = [value for module in (clean, expansion) for value in module.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_published_size_the_names_of_layers_and_opponents_of_any_size() -> None:
    assert DCGAN.paper().parameter_count() == 390_736
    assert DCGAN.paper(capacity=1).layer_names() == ["dense", "deconv1", "deconv2", "deconv3"]
    assert all(one.paper(capacity=1).sample(2).shape == (2, 1, 28, 28) for one in (DCGAN, generators.VAE))
    for shape in ((3, 8, 8), (3, 28, 28), (3, 30, 30), (1, 5, 18)):  # halves of an odd side, and no square
        assert generators.Discriminator(shape)(x := torch.zeros(4, *shape)).shape == (4,)
        assert generators.Encoder(shape, 6)(x)[0].shape == (4, 6)
