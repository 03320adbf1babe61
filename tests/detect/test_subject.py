"""Any module from latents to samples is taken as it is and left as it was; anything else is one sentence."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from devilgan_lite.detect import Subject, subject, subject_of
from devilgan_lite.generators import DCGAN, adopt


class Convolutional(nn.Module):
    """No ``latent_dim``, no ``Linear``: the latent becomes a 1 x 1 image inside ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ConvTranspose2d(12, 4, 4)
        self.last = nn.ConvTranspose2d(4, 1, 4, 2, 1)

    def forward(self, z: Tensor) -> Any:
        return torch.tanh(self.last(functional.relu(self.first(z[:, :, None, None]))))


def dense(*, last: nn.Module, latent_dim: int = 9) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(latent_dim, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 36), last, nn.Unflatten(1, (1, 6, 6))
    )


def after(change: Callable[[Tensor, Tensor], Any]) -> nn.Module:
    """A ``Convolutional`` whose output ``x`` of latents ``z`` is replaced by ``change(z, x)``."""

    class Changed(Convolutional):
        def forward(self, z: Tensor) -> Any:
            return change(z, super().forward(z))

    return Changed()


def test_the_size_of_the_latents_is_found(clean: DCGAN) -> None:
    for module, size, shape in [
        (dense(last=nn.Tanh()), 9, (1, 6, 6)),
        (Convolutional(), 12, (1, 8, 8)),
        (nn.Sequential(nn.Flatten(), dense(last=nn.Tanh(), latent_dim=5)), 5, (1, 6, 6)),
        (clean, 100, (1, 28, 28)),
    ]:
        found = subject_of(module)
        assert (found.latent_dim, found.shape) == (size, shape)
        assert found(found.latents(2)).shape == (2, *shape)
    assert subject_of(Convolutional(), 12).latent_dim == 12


def test_an_attribute_of_a_strangers_module_may_mean_something_else() -> None:
    module = Convolutional()
    module.latent, module.latent_dim = nn.Linear(3, 3), torch.tensor(12.0)
    found = subject_of(module)
    assert (found.prior.name, found.latent_dim) == ("gaussian", 12)


@torch.no_grad()
def test_samples_in_the_unit_range_are_stretched() -> None:
    sigmoid, tanh = dense(last=nn.Sigmoid()).eval(), dense(last=nn.Tanh()).eval()
    z = torch.randn(50, 9)
    stretched, plain = subject_of(sigmoid), subject_of(tanh)
    assert stretched.span == (0, 1) and plain.span == (-1, 1)
    torch.testing.assert_close(stretched(z), sigmoid(z) * 2 - 1)
    assert torch.equal(plain(z), tanh(z))
    assert torch.equal(plain.samples(z, batch_size=7), torch.cat([tanh(part) for part in z.split(7)]))


@torch.no_grad()
@pytest.mark.parametrize("scale", [255.0, 3.0])
@pytest.mark.parametrize("axes", [(36,), (6, 6), (1, 6, 6)])
def test_samples_of_any_range_and_shape_are_stretched(axes: tuple[int, ...], scale: float) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(9, 36), nn.Hardtanh(), nn.Unflatten(1, axes))
    module.register_forward_hook(lambda module, arguments, x: x * scale)
    found = subject_of(module.eval())
    z = found.latents(500)
    assert not found.bounded and found.shape == axes
    assert -1.01 < float(found(z).min()) < -0.9 and 0.9 < float(found(z).max()) < 1.01
    low, high = found.span
    torch.testing.assert_close((found(z) + 1) / 2 * (high - low) + low, module(z), atol=1e-3, rtol=0.0)


def test_latents_with_two_more_axes_are_read_flat() -> None:
    module = nn.Sequential(nn.ConvTranspose2d(12, 4, 4), nn.ReLU(), nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Tanh()).eval()
    found = subject_of(module)
    z = found.latents(3)
    assert (found.latent_dim, found.shape) == (12, (1, 8, 8))
    assert torch.equal(found(z), module(z[..., None, None])) and torch.equal(found(z), found(z[..., None, None]))


def test_latents_follow_the_law_and_the_seed() -> None:
    uniform, gaussian = subject_of(Convolutional(), prior="uniform"), subject_of(Convolutional())
    assert subject_of(DCGAN(widths=(4, 2), latent_dim=5, prior="uniform")).prior.name == "uniform"
    assert gaussian.prior.name == "gaussian"
    for found in (uniform, gaussian):
        z = found.latents(20_000, seed=3)
        assert torch.equal(z, found.latents(20_000, seed=3)) and not torch.equal(z, found.latents(20_000, seed=4))
        assert float(z.norm(dim=1).square().mean().sqrt()) == pytest.approx(found.radius, rel=0.01)
    assert uniform.latents(1_000).abs().max() <= 1 < gaussian.latents(1_000).abs().max()


def test_the_callers_module_stays_as_it_was() -> None:
    module = dense(last=nn.Tanh()).double().train()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    found = subject_of(module)
    found.samples(found.latents(300))
    with torch.no_grad():
        for value in found.module.parameters():
            value.zero_()
    assert module.training and all(value.requires_grad for value in module.parameters())
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert {value.dtype for value in module.parameters()} == {torch.float64}
    assert not found.module.training and not any(value.requires_grad for value in found.module.parameters())
    assert {value.dtype for value in found.module.parameters()} == {torch.float32}
    assert subject_of(found) is found


def test_gradients_reach_the_latent() -> None:
    z = torch.randn(2, 12, requires_grad=True)
    (gradient,) = torch.autograd.grad(subject_of(Convolutional())(z).sum(), z)
    assert gradient.abs().max() > 0


def broken() -> nn.Module:
    module = Convolutional()
    with torch.no_grad():
        module.last.weight[0, 0, 0, 0] = float("nan")
    return module


def locked() -> nn.Module:
    module = Convolutional()
    module.lock = threading.Lock()
    return module


def raising(z: Tensor, x: Tensor) -> Tensor:
    raise RuntimeError("\nfirst line\nsecond line")


def only_few(z: Tensor, x: Tensor) -> Tensor:
    return x if len(x) == 3 else raising(z, x)


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.relu(self.convolution(x)).mean((2, 3)))


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return Convolutional()


BAD: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "no module": (lambda: "dcgan.pt", {}, "module is a str"),
    "nothing": (lambda: None, {}, "module is a NoneType"),
    "a function": (lambda: torch.tanh, {}, "expected a torch.nn.Module"),
    "NaN weights": (broken, {}, "not finite, in last.weight"),
    "weights without values": (on_meta, {}, "in first.weight"),
    "weights without a shape": (lambda: nn.Sequential(nn.LazyLinear(4)), {"latent_dim": 4}, "in 0.weight"),
    "wrong size": (Convolutional, {"latent_dim": 13}, r"from latents \[n, 13\]"),
    "size 0": (Convolutional, {"latent_dim": 0}, "latent_dim=0"),
    "size 1.5": (Convolutional, {"latent_dim": 1.5}, "latent_dim=1.5"),
    "unknown prior": (Convolutional, {"prior": "normal"}, "prior='normal' is unknown; valid: gaussian, uniform"),
    "unknown device": (Convolutional, {"device": "abacus"}, "device='abacus'"),
    "no copy": (locked, {}, "cannot be copied"),
    "no layers": (nn.Identity, {}, "no linear or convolution layer"),
    "raises": (lambda: after(raising), {}, "RuntimeError: first line"),
    "raises for many": (lambda: after(only_few), {}, "not of 64"),
    "infinite": (lambda: after(lambda z, x: x / 0.0), {}, "not finite"),
    "NaN now and then": (lambda: after(lambda z, x: x / (z[:, :1, None, None] < 1.5)), {}, "not finite"),
    "a tuple": (lambda: after(lambda z, x: (x, z)), {}, "makes tuple"),
    "nothing made": (lambda: after(lambda z, x: None), {}, "makes NoneType"),
    "one sample": (lambda: after(lambda z, x: x[:1]), {}, r"makes float32 \[1, 1, 8, 8\] of 3"),
    "a billion values": (lambda: after(lambda z, x: x.new_zeros(1).expand(len(x), 10**9)), {}, "1,000,000,000 values"),
    "empty": (lambda: after(lambda z, x: x[..., :0]), {}, "without a value"),
    "bytes": (lambda: after(lambda z, x: (x * 100).to(torch.uint8)), {}, "float tensor"),
    "classifier": (Classifier, {}, "makes no samples from latents of the sizes"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_one_sentence(name: str) -> None:
    make, settings, message = BAD[name]
    torch.manual_seed(0)
    module = make()
    with pytest.raises(ValueError, match=message) as caught:
        subject_of(module, **settings)
    assert "\n" not in str(caught.value) and str(caught.value)[-1] in ".?"


class Conditional(Convolutional):
    def forward(self, z: Tensor, y: Tensor, noise: float = 0.0) -> Any:
        return super().forward(z)


class OfLabels(Convolutional):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 12)

    def forward(self, z: Tensor) -> Any:
        return super().forward(self.embedding(z))


ODD: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a second argument": (Conditional, r"'y'; wrap "),
    "labels": (OfLabels, r"got torch\.FloatTensor .*wrap "),
    "bytes": (lambda: after(lambda z, x: (x * 100).to(torch.uint8)), r"uint8 \[3, 1, 8, 8\].*wrap .* floats"),
    "a tuple": (lambda: after(lambda z, x: (3, x)), r"tuple \(int, float32 \[3, 1, 8, 8\]\).*part 1\b"),
    "a dictionary": (lambda: after(lambda z, x: {"mean": x}), r"dict \(float32 \[3, 1, 8, 8\]\).*part 'mean'"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_module_is_told_how_to_be_wrapped_and_not_to_give_what_it_gave(name: str) -> None:
    make, message = ODD[name]
    for take in (subject_of, adopt):
        with pytest.raises(ValueError, match=message) as caught:
            take(make(), 12)
        assert "latent_dim" not in str(caught.value) and len(str(caught.value)) < 400
    with pytest.raises(ValueError, match="'y'"):
        subject_of(Conditional())


def test_a_long_error_of_a_module_is_cut_between_words() -> None:
    word = "word" * 9

    def wordy(z: Tensor, x: Tensor) -> Tensor:
        raise RuntimeError(f"{word} " * 40)

    for take in (subject_of, adopt):
        with pytest.raises(ValueError, match="give latent_dim") as caught:
            take(after(wordy))
        assert set(str(caught.value).partition("RuntimeError: ")[2].partition(" ...")[0].split()) == {word}


def test_too_many_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Convolutional()
    count = sum(value.numel() for value in module.state_dict().values())
    monkeypatch.setattr(subject, "MOST_WEIGHTS", count)
    assert isinstance(subject_of(module), Subject)
    monkeypatch.setattr(subject, "MOST_WEIGHTS", count - 1)
    with pytest.raises(ValueError, match=f"{count:,} weights; at most {count - 1:,}"):
        subject_of(module)
