"""Any module from latents to samples is taken as it is and left as it was; anything else is one sentence."""

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from devilgan_lite import sanitize
from devilgan_lite.detect import Guard
from devilgan_lite.generators import DCGAN, adopt, adopted, build
from devilgan_lite.generators.stack import ClampedLayer


class Convolutional(nn.Module):
    """No ``latent_dim``, no ``Linear``: the latent becomes a 1 x 1 image inside ``forward``."""

    def __init__(self, change: Callable[[Tensor, Tensor], Any] = lambda z, x: x) -> None:
        super().__init__()
        self.first, self.last, self.change = nn.ConvTranspose2d(12, 4, 4), nn.ConvTranspose2d(4, 1, 4, 2, 1), change

    def forward(self, z: Tensor) -> Any:
        return self.change(z, torch.tanh(self.last(functional.relu(self.first(z[:, :, None, None])))))


def dense(*, last: nn.Module, latent_dim: int = 9) -> nn.Sequential:
    layers = nn.Linear(latent_dim, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 36), last
    return nn.Sequential(*layers, nn.Unflatten(1, (1, 6, 6)))


def test_the_size_of_the_latents_is_found(clean: DCGAN) -> None:
    axes = nn.Sequential(nn.ConvTranspose2d(12, 4, 4), nn.ReLU(), nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Tanh()).eval()
    for module, size, shape in [
        (Convolutional(), 12, (1, 8, 8)),
        (nn.Sequential(nn.Flatten(), dense(last=nn.Tanh(), latent_dim=5)), 5, (1, 6, 6)),
        (clean, 100, (1, 28, 28)),
        (axes, 12, (1, 8, 8)),
    ]:
        found = adopt(module)
        assert (found.latent_dim, found.sample_shape) == (size, shape) and found.scaled(found.ordinary(2)).shape == (
            2,
            *shape,
        )
    z = found.ordinary(3)
    assert torch.equal(found.scaled(z), axes(z[..., None, None])) and torch.equal(found(z), axes(z[..., None, None]))
    module = Convolutional()  # an attribute of a stranger's module may mean something else
    module.latent, module.latent_dim = nn.Linear(3, 3), torch.tensor(12.0)
    assert (adopt(module).prior.name, adopt(module).latent_dim) == ("gaussian", 12)


@torch.no_grad()
def test_samples_of_any_range_and_shape_are_stretched() -> None:
    sigmoid, tanh = dense(last=nn.Sigmoid()).eval(), dense(last=nn.Tanh()).eval()
    z = torch.randn(50, 9)
    stretched, plain = adopt(sigmoid), adopt(tanh)
    assert stretched.span == (0, 1) and plain.span == (-1, 1) and stretched.bounded and plain.repeatable
    torch.testing.assert_close(stretched.scaled(z), sigmoid(z) * 2 - 1)
    assert torch.equal(plain.scaled_samples(z, batch_size=7), torch.cat([tanh(part) for part in z.split(7)]))
    for scale, axes in ((255.0, (36,)), (3.0, (1, 6, 6))):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(9, 36), nn.Hardtanh(), nn.Unflatten(1, axes))
        module.register_forward_hook(lambda module, arguments, x, scale=scale: x * scale)
        found = adopt(module.eval())
        z = found.ordinary(500)
        assert not found.bounded and found.sample_shape == axes
        assert -1.01 < float(found.scaled(z).min()) < -0.9 and 0.9 < float(found.scaled(z).max()) < 1.01
        low, high = found.span
        torch.testing.assert_close((found.scaled(z) + 1) / 2 * (high - low) + low, module(z), atol=1e-3, rtol=0.0)


def test_latents_follow_the_prior_and_the_seed() -> None:
    uniform, gaussian = adopt(Convolutional(), prior="uniform"), adopt(Convolutional())
    assert adopt(DCGAN(widths=(4, 2), latent_dim=5, prior="uniform")).prior.name == "uniform"
    for found in (uniform, gaussian):
        z = found.ordinary(20_000, seed=3)
        assert torch.equal(z, found.ordinary(20_000, seed=3)) and not torch.equal(z, found.ordinary(20_000, seed=4))
        assert float(z.norm(dim=1).square().mean().sqrt()) == pytest.approx(found.prior.length, rel=0.01)
    assert uniform.ordinary(1_000).abs().max() <= 1 < gaussian.ordinary(1_000).abs().max()


def test_the_callers_module_stays_as_it_was_and_gradients_reach_the_latent() -> None:
    module = dense(last=nn.Tanh()).double().train()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    found = adopt(module)
    found.scaled_samples(found.ordinary(300))
    with torch.no_grad():
        for value in found.network.parameters():
            value.zero_()
    assert module.training and all(value.requires_grad for value in module.parameters())
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert {value.dtype for value in module.parameters()} == {torch.float64}
    assert not found.network.training and not any(value.requires_grad for value in found.network.parameters())
    assert {value.dtype for value in found.network.parameters()} == {torch.float32} and adopt(found) is found
    z = torch.randn(2, 12, requires_grad=True)
    (gradient,) = torch.autograd.grad(adopt(Convolutional()).scaled(z).sum(), z)
    assert gradient.abs().max() > 0


def made(**changes: Any) -> nn.Module:
    module = Convolutional()
    for name, value in changes.items():
        setattr(module, name, value)
    return module


def raising(z: Tensor, x: Tensor) -> Tensor:
    raise RuntimeError("\nfirst line\nsecond line")


class Conditional(Convolutional):
    def forward(self, z: Tensor, y: Tensor, noise: float = 0.0) -> Any:
        return super().forward(z)


CLASSIFIER = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
BAD: list[tuple[Callable[[], Any], dict[str, Any], str]] = [
    (lambda: "dcgan.pt", {}, "str"),
    (lambda: made(extra=nn.Parameter(torch.tensor([torch.nan]))), {}, "extra"),
    (lambda: Convolutional().to("meta"), {}, "first.weight"),  # weights without values
    (lambda: nn.Sequential(nn.LazyLinear(4)), {"latent_dim": 4}, "0.weight"),
    (Convolutional, {"latent_dim": 13}, "[n, 13]"),
    (Convolutional, {"prior": "normal"}, "prior"),
    (Convolutional, {"device": "abacus"}, "abacus"),
    (lambda: made(lock=threading.Lock()), {}, "copied"),
    (nn.Identity, {}, "layer"),
    (lambda: Convolutional(raising), {}, "first line"),
    (lambda: Convolutional(lambda z, x: x if len(x) == 3 else raising(z, x)), {}, "64"),
    (lambda: Convolutional(lambda z, x: x / (z[:, :1, None, None] < 1.5)), {}, "not finite"),  # now and then
    (lambda: Convolutional(lambda z, x: (x, z)), {}, "tuple"),
    (lambda: Convolutional(lambda z, x: x[:1]), {}, "[1, 1, 8, 8]"),
    (lambda: Convolutional(lambda z, x: x.new_zeros(1).expand(len(x), 10**9)), {}, "1,000,000,000"),
    (lambda: Convolutional(lambda z, x: x[..., :0]), {}, "without a value"),
    (lambda: nn.Sequential(*CLASSIFIER), {}, "sizes"),
]
ODD: list[tuple[Callable[[], nn.Module], tuple[str, ...]]] = [  # what must be wrapped, and how
    (Conditional, ("'y'", "wrap")),
    (lambda: Convolutional(lambda z, x: (x * 100).to(torch.uint8)), ("uint8 [3, 1, 8, 8]", "wrap", "floats")),
    (lambda: Convolutional(lambda z, x: {"mean": x}), ("dict (float32 [3, 1, 8, 8])", "part 'mean'")),
]


def test_what_is_wrong_is_one_sentence(refuses: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for make, settings, name in BAD:
        torch.manual_seed(0)
        module = make()
        said = refuses(lambda module=module, settings=settings: adopt(module, **settings), name)
        assert said[-1] in ".?", said
    for make, names in ODD:
        said = refuses(lambda make=make: adopt(make(), 12), *names)
        assert "latent_dim" not in said and len(said) < 400  # it was given
    module = Convolutional()
    count = sum(value.numel() for value in module.state_dict().values())
    monkeypatch.setattr(adopted, "MOST_WEIGHTS", count)
    assert adopt(module).opened
    monkeypatch.setattr(adopted, "MOST_WEIGHTS", count - 1)
    refuses(lambda: adopt(module), f"{count:,}", f"{count - 1:,}")
    found = adopt(DCGAN(widths=(4, 2), latent_dim=12, image_size=12))
    refuses(lambda: adopt(found, 7), "latent_dim")
    refuses(lambda: adopt(found, prior="uniform"), "prior")


def test_what_was_looked_at_stays_so_only_as_it_is() -> None:
    opened = adopt(dense(last=nn.Tanh()))
    assert opened.opened and adopt(opened) is opened and copy.deepcopy(opened).opened
    assert not opened.clone().opened and not copy.deepcopy(opened).train().opened  # a scan would move its BatchNorm
    told = adopt(dense(last=nn.Sigmoid()), output="tanh")  # samples say "sigmoid", you say "tanh"
    z = told.ordinary(5)
    assert told.ends == adopt(told.clone()).ends == "tanh" and torch.equal(told(z), adopt(told.clone())(z))
    own = adopt(dense(last=nn.Sigmoid()))
    watched = Guard(own, fitting=2_000)  # a generator's guard answers as it does, a module's as that
    assert torch.equal(watched(z), own(z)) and torch.equal(Guard(own.module, 9, fitting=2_000)(z), own.module(z))


class WithState(Convolutional):
    def get_extra_state(self) -> dict[str, int]:
        return {"version": 1}

    def set_extra_state(self, state: Any) -> None: ...


def test_state_that_is_no_tensor_and_limits_of_layers_with_a_copy_of_their_own() -> None:
    assert adopt(WithState()).parameter_count() == adopt(Convolutional()).parameter_count()
    layers = weight_norm(nn.Linear(16, 32)), nn.ReLU(), weight_norm(nn.Linear(32, 64)), nn.Tanh()
    held = sanitize.Clamp(samples=500)(nn.Sequential(*layers), 16, progress=False).generator
    assert sum(isinstance(part, ClampedLayer) for part in held.modules()) == 1  # all layers but the last


STACK = {"architecture": "Adopted", "latent_shape": [4], "sample_shape": [4], "prior": "gaussian", "ends": "none"}
LINEAR = {"layer": "Linear", "in_features": 4, "out_features": 4}
UPSAMPLE = {"layer": "Upsample", "scale_factor": 64}


def holding(layers: list[Any]) -> dict[str, Any]:
    return {**STACK, "modality": None, "module": layers}


def test_a_forged_card_of_layers_in_layers_is_refused_at_once(refuses: Any) -> None:
    inside = holding([LINEAR])
    for _ in range(40):  # each level would be built twice
        inside = holding([{"layer": "Generator", "spec": inside}])
    large = [{"layer": "Unflatten", "dim": 1, "unflattened_size": [1, 2, 2]}, UPSAMPLE, UPSAMPLE, UPSAMPLE]
    limits = {"layer": "LimitedLatents", "latent_dim": 4, "suspected": 65, "favoured": 2, "bound": 1.0, "ratio": 1.0}
    for layers, name in (
        (inside["module"], "levels"),
        ([{"layer": "Sequential", "layers": large}], "67,108,864"),
        ([{"layer": "Sequential", "layers": [{"layer": "Flatten", "start_dim": 0}]}], "mixes"),
        ([limits], "suspected"),
        ([{**LINEAR, "clamped": {"": [10**9]}}], "clamped"),
        ([{**LINEAR, "clamped": {"weight": [4]}}], "weight"),
    ):
        refuses(lambda layers=layers: build(holding(layers)), name)
