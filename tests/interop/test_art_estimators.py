"""ART's estimators for generators and GANs in PyTorch: what they take, refuse and compute, and what they leave."""

import copy
import os
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
from art.defences.preprocessor import GaussianAugmentation
from art.estimators.classification import PyTorchClassifier
from art.estimators.generation.generator import GeneratorMixin
from art.estimators.pytorch import PyTorchEstimator
from torch import Tensor, nn

from devilgan_lite import generators
from devilgan_lite.interop.art import PyTorchGAN, PyTorchGenerator
from devilgan_lite.interop.art.ranges import Range
from tests.interop.tiny import SIZE, Bytes, Critic, Deconv, HalfTanh, mlp, on_cpu

Z = np.random.default_rng(0).standard_normal((5, SIZE))


def wrapped(model: nn.Module, **settings: Any) -> PyTorchGenerator:
    return on_cpu(encoding_length=SIZE, model=model, **settings)


def same_weights(module: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_any_module_is_read_as_it_is() -> None:
    rows: list[tuple[Any, Any, str, Range, bool]] = [
        (lambda: mlp(nn.Tanh()), None, "tanh", Range(), True),
        (lambda: mlp(nn.Tanh()), (-1, 1), "tanh", Range(), True),
        (lambda: mlp(nn.Sigmoid()), None, "sigmoid", Range(0.0, 1.0), True),
        (lambda: mlp(nn.Sigmoid()), (np.zeros((1, 8, 8)), np.ones((1, 8, 8))), "sigmoid", Range(0.0, 1.0), True),
        (lambda: mlp(nn.Identity()), None, "none", Range(), False),
        (Bytes, (0, 255), "none", Range(0.0, 255.0), True),
        (HalfTanh, (-1.0, 1.0), "none", Range(), True),
        (Deconv, None, "tanh", Range(), True),
    ]
    z = torch.from_numpy(Z).float()
    for make, clip_values, ends, values, bounded in rows:
        model = make().eval()
        estimator = wrapped(model, clip_values=clip_values)
        reading = estimator.reading
        assert (reading.ends, reading.values, reading.bounded) == (ends, values, bounded)
        assert estimator.model is model and isinstance(estimator, GeneratorMixin)
        assert isinstance(estimator, PyTorchEstimator)
        assert estimator.input_shape == (SIZE,) and estimator.encoding_length == SIZE
        with torch.no_grad():
            expected = model(z.reshape(5, *reading.latent_shape))
            ours, inside = estimator.to_ours()
            assert torch.allclose(inside.outward(ours(z)), expected, atol=1e-3 * values.half)
        for batch_size in (1, 2, 128):
            made = estimator.predict(Z, batch_size=batch_size)
            assert np.allclose(made, expected.numpy(), atol=1e-5 * values.half)


def test_predict_leaves_the_model_as_it_was() -> None:
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
    estimator = wrapped(mlp(nn.Tanh()), clip_values=(-1, 1), device_type="cpu")
    params = estimator.get_params()
    assert {"encoding_length", "model", "clip_values", "channels_first", "device_type"} <= params.keys()
    again = PyTorchGenerator(**params)
    assert np.array_equal(again.predict(Z), estimator.predict(Z))
    other = mlp(nn.Tanh(), seed=1)
    estimator.set_params(model=other)
    assert estimator.model is other and not np.array_equal(again.predict(Z), estimator.predict(Z))
    refuses(lambda: estimator.set_params(encoding_length=SIZE + 1), "latents")
    refuses(lambda: estimator.set_params(nonsense=1), "nonsense")
    activations = partial(estimator.get_activations, Z, 0, 1)
    for work in (partial(estimator.fit, Z, Z), partial(estimator.loss_gradient, Z, Z), activations):
        with pytest.raises(NotImplementedError):
            work()
    for preprocessing in (None, (0, 1), (np.zeros(3), np.ones(3))):  # these change nothing
        assert wrapped(other, preprocessing=preprocessing).preprocessing is None
    # tensors are taken as arrays are
    z = torch.from_numpy(Z).requires_grad_(True)
    assert np.array_equal(again.predict(z), again.predict(Z))  # type: ignore[arg-type]
    assert np.array_equal(again.predict(Z[:, :, None, None]), again.predict(Z))
    x = torch.zeros(1, 1, 8, 8).requires_grad_(True)
    assert torch.equal(again.samples("x", x), torch.zeros(1, 1, 8, 8))


def test_what_does_not_fit_is_said_at_once(tiny: generators.DCGAN, refuses: Callable[..., str]) -> None:
    tied = mlp(nn.Tanh())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(tied[0])  # type: ignore[index]  # a weight that is computed, and cannot be copied
        scripted = torch.jit.script(mlp(nn.Tanh()))
    rows: list[dict[str, Any]] = [
        {"model": "a string"},
        {"model": mlp(nn.Tanh()).double()},
        {"model": tied},
        {"model": scripted},
        {"encoding_length": 0},
        {"clip_values": (0, 1)},
        {"clip_values": (0, float("inf"))},
        {"clip_values": 5},
        {"clip_values": ("a", "b")},
        {"clip_values": (0, 1, 2)},
        {"preprocessing": (0.5, 2.0)},
        {"preprocessing": (np.zeros(3), np.full(3, 2.0))},
        {"preprocessing": "words"},
        {"postprocessing_defences": GaussianNoise()},
        {"preprocessing_defences": GaussianAugmentation()},
    ]
    for wrong in rows:
        settings = {"encoding_length": SIZE, "model": mlp(nn.Tanh()), **wrong}
        refuses(lambda settings=settings: on_cpu(**settings), *wrong)
    refuses(lambda: wrapped(mlp(nn.Tanh()), clip_values=(1, -1)), "min")
    refuses(lambda: on_cpu(7, mlp(nn.Tanh())), "latents")
    for x in (np.zeros((2, SIZE + 1)), np.zeros((0, SIZE)), np.full((1, SIZE), np.nan), "words"):
        refuses(lambda x=x: wrapped(mlp(nn.Tanh())).predict(x), "x ")
    refuses(lambda: on_cpu(17, tiny), "encoding_length=17", "16")
    refuses(lambda: on_cpu(16, tiny, clip_values=(0, 1)), "clip_values")


def test_a_generator_of_this_package_is_taken_as_it_is(tiny: generators.DCGAN) -> None:
    estimator = on_cpu(encoding_length=16, model=tiny)
    assert estimator.reading.sample_shape == (1, 8, 8)
    z = tiny.sample_latent(3, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert np.allclose(estimator.predict(z.numpy()), tiny(z).numpy(), atol=1e-5)
    reach = []

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp(nn.Tanh())

        def forward(self, z: Tensor) -> Tensor:
            reach.append(float(z.abs().max()))
            made: Tensor = self.inner(z)
            return made

    generator = wrapped(generators.adopt(Watching(), SIZE, prior="uniform"))
    reach.clear()  # it trains on its own prior
    PyTorchGAN(generator, Critic()).fit(images=np.zeros((64, 1, 8, 8)), batch_size=32, nb_epochs=1)
    assert 0.9 < max(reach) <= 1.0  # 1,280 normal numbers would go beyond 3


def test_a_gan_trains_its_two_models_in_place_and_repeatably() -> None:
    images = np.tanh(np.random.default_rng(1).standard_normal((33, 1, 8, 8))).astype(np.float32)
    made = []
    for seed in (0, 0, 1):
        model, critic = mlp(nn.Tanh()).eval(), Critic().model
        classifier = PyTorchClassifier(
            model=critic, loss=nn.BCEWithLogitsLoss(), input_shape=(1, 8, 8), nb_classes=2, device_type="cpu"
        )
        slow = partial(torch.optim.SGD, lr=0.1)
        gan = PyTorchGAN(wrapped(model), classifier, generator_optimizer_fct=slow, discriminator_optimizer_fct=slow)
        before = copy.deepcopy(model.state_dict()), copy.deepcopy(critic.state_dict())
        gan.fit(None, None, batch_size=16, nb_epochs=2, images=images, seed=seed)
        assert gan.generator.model is model and gan.discriminator.model is critic
        assert not same_weights(model, before[0]) and not same_weights(critic, before[1])
        assert not model.training and gan.input_shape == (SIZE,)
        made.append(gan.predict(Z))
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])


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
    rows: list[dict[str, Any]] = [
        {"generator": mlp(nn.Tanh())},
        {"discriminator": nn.Linear(64, 1)},
        {"generator_loss": 3},
        {"discriminator_optimizer_fct": torch.optim.SGD([torch.zeros(1)], 0.1)},
    ]
    for wrong in rows:
        settings: dict[str, Any] = {"generator": wrapped(mlp(nn.Tanh())), "discriminator": Critic(), **wrong}
        refuses(lambda settings=settings: PyTorchGAN(**settings), *wrong)
    for images in (None, np.linspace(0, 2, 128).reshape(2, 1, 8, 8)):
        refuses(lambda images=images: gan.fit(Z, Z, images=images), "images")
    refuses(lambda: gan.fit(pictures=np.zeros((2, 1, 8, 8))), "pictures", "images", error=TypeError)


@pytest.mark.gpu
def test_training_takes_the_discriminator_to_the_device_of_the_generator() -> None:
    critic = Critic()
    generator = PyTorchGenerator(SIZE, mlp(nn.Tanh()))
    PyTorchGAN(generator, critic).fit(images=np.zeros((4, 1, 8, 8)), batch_size=2, nb_epochs=1)
    assert {value.device.type for value in critic.model.parameters()} == {"cuda"} == {generator.device.type}


IMPORTS = """
import sys, devilgan_lite
from devilgan_lite import attacks, detect, interop, sanitize, zoo
assert not [name for name in sys.modules if name == "art" or name.startswith("art.")]
for missing in ("not installed", "another package of that name, which PyPI has"):
    if missing == "not installed":
        sys.modules["art"] = None
    else:
        del sys.modules["art"]
        sys.path.insert(0, sys.argv[1])
    try:
        import devilgan_lite.interop.art
    except ImportError as error:
        print(error)
"""


def test_art_is_only_imported_when_asked_for_and_its_absence_has_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "art.py").write_text("def text2art(): ...", encoding="utf-8")
    command = [sys.executable, "-c", IMPORTS, str(tmp_path)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = done.stdout.strip().splitlines()
    assert len(said) == 2 and said[0] == said[1] and "devilgan_lite[art]" in said[0]
