"""ART's estimators for generators and GANs in PyTorch: what they take, refuse and compute, and what they leave."""

import copy
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.defences.postprocessor import GaussianNoise
from art.estimators.classification import PyTorchClassifier
from art.estimators.generation.generator import GeneratorMixin
from art.estimators.pytorch import PyTorchEstimator
from torch import Tensor, nn

from devilgan_lite import generators
from devilgan_lite.apps.art import PyTorchGAN, PyTorchGenerator
from devilgan_lite.apps.art.ranges import Range
from tests.apps.art.tiny import SIZE, Bytes, Critic, Deconv, mlp, on_cpu

Z = np.random.default_rng(0).standard_normal((5, SIZE))


class HalfTanh(nn.Module):
    """A tanh that is not the last step; it notes how far latents reach."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.reach = mlp(nn.Tanh()), [0.0]

    def forward(self, z: Tensor) -> Tensor:
        self.reach.append(float(z.abs().max()))
        return 0.5 * self.inner(z)


def wrapped(model: nn.Module, **settings: Any) -> PyTorchGenerator:
    return on_cpu(encoding_length=SIZE, model=model, **settings)


def same_weights(module: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_any_module_is_read_as_it_is_and_left_as_it_was(tiny: generators.DCGAN) -> None:
    z, arrays = torch.from_numpy(Z).float(), (np.zeros((1, 8, 8)), np.ones((1, 8, 8)))
    rows: list[tuple[Any, Any, str, Range, bool]] = [
        (mlp(nn.Tanh()), None, "tanh", Range(), True),
        (mlp(nn.Sigmoid()), None, "sigmoid", Range(0.0, 1.0), True),
        (mlp(nn.Sigmoid()), arrays, "sigmoid", Range(0.0, 1.0), True),
        (mlp(nn.Identity()), None, "none", Range(), False),
        (Bytes(), (0, 255), "none", Range(0.0, 255.0), True),
        (HalfTanh(), (-1.0, 1.0), "none", Range(), True),
        (Deconv(), None, "tanh", Range(), True),
    ]
    for model, clip_values, ends, values, bounded in rows:
        estimator = wrapped(model.eval(), clip_values=clip_values)
        reading = estimator.reading
        assert (reading.ends, reading.values, reading.bounded) == (ends, values, bounded)
        assert estimator.model is model and isinstance(estimator, GeneratorMixin)
        assert isinstance(estimator, PyTorchEstimator) and estimator.input_shape == (estimator.encoding_length,) == (
            SIZE,
        )
        with torch.no_grad():
            expected = model(z.reshape(5, *reading.latent_shape))
            ours, inside = estimator.to_ours()
            assert torch.allclose(inside.outward(ours(z)), expected, atol=1e-3 * values.half)
        for batch_size in (2, 128):
            made = estimator.predict(Z, batch_size=batch_size)
            assert np.allclose(made, expected.numpy(), atol=1e-5 * values.half)
    with torch.no_grad():
        assert np.allclose(on_cpu(16, tiny).predict(Z[:, :16]), tiny(z[:, :16]).numpy(), atol=1e-5)

    model = Deconv()
    model.main[1].eval()  # its parts are in different modes
    before, modes = copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]
    estimator = wrapped(model)
    estimator.predict(Z)
    estimator.to_ours()
    assert same_weights(model, before) and [part.training for part in model.modules()] == modes
    estimator.predict(Z, training_mode=True)
    assert not same_weights(model, before)  # BatchNorm has counted
    assert [part.training for part in model.modules()] == modes


def test_parameters_as_art_has_them(refuses: Callable[..., str]) -> None:
    estimator = wrapped(mlp(nn.Tanh()), clip_values=(-1, 1))
    params = estimator.get_params()
    assert {"encoding_length", "model", "clip_values", "channels_first", "device_type"} <= params.keys()
    again, other = PyTorchGenerator(**params), mlp(nn.Tanh(), seed=1)
    assert np.array_equal(again.predict(Z), estimator.predict(Z))
    estimator.set_params(model=other)
    assert estimator.model is other and not np.array_equal(again.predict(Z), estimator.predict(Z))
    refuses(lambda: estimator.set_params(encoding_length=SIZE + 1), "latents")
    refuses(lambda: estimator.set_params(nonsense=1), "nonsense")
    for work in (estimator.fit, estimator.loss_gradient, partial(estimator.get_activations, batch_size=1)):
        with pytest.raises(NotImplementedError):
            work(Z, Z)
    for preprocessing in (None, (np.zeros(3), np.ones(3))):  # these change nothing
        assert wrapped(other, preprocessing=preprocessing).preprocessing is None
    z, x = torch.from_numpy(Z).requires_grad_(True), torch.zeros(1, 1, 8, 8).requires_grad_(True)
    for same in (z, Z[:, :, None, None]):  # tensors are taken as arrays are
        assert np.array_equal(again.predict(same), again.predict(Z))  # type: ignore[arg-type]
    assert torch.equal(again.samples("x", x), torch.zeros(1, 1, 8, 8))


def test_what_does_not_fit_is_said_at_once(tiny: generators.DCGAN, refuses: Callable[..., str]) -> None:
    tied = mlp(nn.Tanh())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(tied[0])  # type: ignore[index]  # a weight that is computed, and cannot be copied
        scripted = torch.jit.script(mlp(nn.Tanh()))
    rows: list[dict[str, Any]] = [
        {"model": "a string"}, {"model": mlp(nn.Tanh()).double()}, {"model": tied}, {"model": scripted},
        {"encoding_length": 0}, {"encoding_length": 65_537},
        {"clip_values": (0, 1)}, {"clip_values": (0, float("inf"))}, {"clip_values": 5},
        {"preprocessing": (0.5, 2.0)}, {"preprocessing": "words"}, {"postprocessing_defences": GaussianNoise()},
    ]  # fmt: skip
    for wrong in rows:
        settings = {"encoding_length": SIZE, "model": mlp(nn.Tanh()), **wrong}
        refuses(lambda settings=settings: on_cpu(**settings), *wrong)
    refuses(lambda: wrapped(mlp(nn.Tanh()), clip_values=(1, -1)), "min")
    refuses(lambda: on_cpu(7, mlp(nn.Tanh())), "latents")
    for x in (np.zeros((2, SIZE + 1)), np.zeros((0, SIZE)), np.full((1, SIZE), np.nan), "words"):
        refuses(lambda x=x: wrapped(mlp(nn.Tanh())).predict(x), "x ")
    refuses(lambda: on_cpu(17, tiny), "encoding_length=17", "16")
    refuses(lambda: on_cpu(16, tiny, clip_values=(0, 1)), "clip_values")


def test_a_gan_trains_its_two_models_in_place_repeatably_and_on_the_prior_of_a_generator_of_ours() -> None:
    images = np.tanh(np.random.default_rng(1).standard_normal((33, 1, 8, 8))).astype(np.float32)
    loss, made = nn.BCEWithLogitsLoss(), []
    for seed in (0, 0, 1):
        model, critic = mlp(nn.Tanh()).eval(), Critic().model
        classifier = PyTorchClassifier(critic, loss, input_shape=(1, 8, 8), nb_classes=2, device_type="cpu")
        slow = partial(torch.optim.SGD, lr=0.1)
        gan = PyTorchGAN(wrapped(model), classifier, generator_optimizer_fct=slow, discriminator_optimizer_fct=slow)
        before = copy.deepcopy(model.state_dict()), copy.deepcopy(critic.state_dict())
        gan.fit(None, None, batch_size=16, nb_epochs=2, images=images, seed=seed)
        assert gan.generator.model is model and gan.discriminator.model is critic
        assert not same_weights(model, before[0]) and not same_weights(critic, before[1])
        assert not model.training and gan.input_shape == (SIZE,)
        made.append(gan.predict(Z))
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])
    model = HalfTanh()
    generator = wrapped(generators.adopt(model, SIZE, prior="uniform"))
    model = generator.model.module  # type: ignore[assignment]
    model.reach.clear()
    PyTorchGAN(generator, Critic()).fit(images=np.zeros((64, 1, 8, 8)), batch_size=32, nb_epochs=1)
    assert 0.9 < max(model.reach) <= 1.0  # 1,280 normal numbers would go beyond 3


def test_a_gan_asks_the_functions_it_is_given_and_refuses_others(refuses: Callable[..., str]) -> None:
    asked = []

    def generator_loss(fake: Tensor) -> Tensor:
        asked.append("generator")
        return fake.mean()

    def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
        asked.append(tuple(real.shape))
        return real.mean() - fake.mean()

    gan = PyTorchGAN(wrapped(mlp(nn.Tanh())), Critic(), generator_loss, discriminator_loss)
    gan.fit(batch_size=4, nb_epochs=1, images=np.zeros((9, 1, 8, 8)))  # a batch of one is left out
    assert asked == [(4, 1), "generator"] * 2
    rows: Any = ({"generator": mlp(nn.Tanh())}, {"discriminator": nn.Linear(64, 1)}, {"generator_loss": 3})
    for wrong in (*rows, {"discriminator_optimizer_fct": 5}):
        settings: dict[str, Any] = {"generator": wrapped(mlp(nn.Tanh())), "discriminator": Critic(), **wrong}
        refuses(lambda settings=settings: PyTorchGAN(**settings), *wrong)
    for images in (None, np.linspace(0, 2, 128).reshape(2, 1, 8, 8)):
        refuses(lambda images=images: gan.fit(Z, Z, images=images), "images")
    refuses(lambda: gan.fit(pictures=np.zeros((2, 1, 8, 8))), "pictures", "images", error=TypeError)


def test_art_is_only_imported_when_asked_for_and_its_absence_has_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "art.py").write_text("def text2art(): ...", encoding="utf-8")  # PyPI has another package of that name
    code = "import sys\nfrom devilgan_lite import apps, attacks, detect, sanitize, zoo\n"
    code += "print([name for name in sys.modules if name.partition('.')[0] == 'art'])\nimport devilgan_lite.apps.art"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n" and "devilgan_lite[art]" in done.stderr.splitlines()[-1], done.stderr
