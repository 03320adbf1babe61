"""ART's estimators for generators and GANs in PyTorch: what they take, refuse and compute, and what they leave."""

import copy
import os
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from art.estimators.generation.generator import GeneratorMixin
from art.estimators.pytorch import PyTorchEstimator
from torch import Tensor, nn

from devilgan_lite import generators, zoo
from devilgan_lite.interop.art import PyTorchGAN, PyTorchGenerator
from devilgan_lite.interop.art.ranges import Range
from tests.interop.tiny import SIZE, Bytes, Critic, Deconv, HalfTanh, mlp, on_cpu

Z = np.random.default_rng(0).standard_normal((5, SIZE))


def wrapped(model: nn.Module, **settings: Any) -> PyTorchGenerator:
    return on_cpu(encoding_length=SIZE, model=model, **settings)


def same_weights(module: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


RANGES = [
    (lambda: mlp(nn.Tanh()), None, "tanh", Range(), True),
    (lambda: mlp(nn.Tanh()), (-1, 1), "tanh", Range(), True),
    (lambda: mlp(nn.Sigmoid()), None, "sigmoid", Range(0.0, 1.0), True),
    (lambda: mlp(nn.Sigmoid()), (np.zeros((1, 8, 8)), np.ones((1, 8, 8))), "sigmoid", Range(0.0, 1.0), True),
    (lambda: mlp(nn.Identity()), None, "none", Range(), False),
    (Bytes, (0, 255), "none", Range(0.0, 255.0), True),
    (HalfTanh, (-1.0, 1.0), "none", Range(), True),
    (Deconv, None, "tanh", Range(), True),
]


@pytest.mark.parametrize(("make", "clip_values", "ends", "values", "bounded"), RANGES)
def test_any_module_is_read_as_it_is(make: Any, clip_values: Any, ends: str, values: Range, bounded: bool) -> None:
    model = make().eval()
    estimator = wrapped(model, clip_values=clip_values)
    assert (estimator.reading.ends, estimator.reading.values, estimator.reading.bounded) == (ends, values, bounded)
    assert (
        estimator.model is model and isinstance(estimator, GeneratorMixin) and isinstance(estimator, PyTorchEstimator)
    )
    assert estimator.input_shape == (SIZE,) and estimator.encoding_length == SIZE
    z = torch.from_numpy(Z).float()
    with torch.no_grad():
        expected = model(z.reshape(5, *estimator.reading.latent_shape))
        ours, inside = estimator.to_ours()
        assert torch.allclose(inside.outward(ours(z)), expected, atol=1e-3 * values.half)
    for batch_size in (1, 2, 128):
        assert np.allclose(estimator.predict(Z, batch_size=batch_size), expected.numpy(), atol=1e-5 * values.half)


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


def test_parameters_as_art_has_them() -> None:
    estimator = wrapped(mlp(nn.Tanh()), clip_values=(-1, 1), device_type="cpu")
    params = estimator.get_params()
    assert {"encoding_length", "model", "clip_values", "channels_first", "device_type"} <= params.keys()
    again = PyTorchGenerator(**params)
    assert np.array_equal(again.predict(Z), estimator.predict(Z))
    other = mlp(nn.Tanh(), seed=1)
    estimator.set_params(model=other)
    assert estimator.model is other and not np.array_equal(again.predict(Z), estimator.predict(Z))
    with pytest.raises(ValueError, match="no samples from latents"):
        estimator.set_params(encoding_length=SIZE + 1)
    with pytest.raises(ValueError, match="Unexpected parameter"):
        estimator.set_params(nonsense=1)
    for work in (estimator.fit, estimator.loss_gradient):
        with pytest.raises(NotImplementedError):
            work(Z, Z)
    with pytest.raises(NotImplementedError):
        estimator.get_activations(Z, 0, 1)


def tied_weight() -> nn.Module:
    """A layer whose weight is computed, and cannot be copied."""
    model: Any = mlp(nn.Tanh())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(model[0])
    return model


def scripted() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(mlp(nn.Tanh()))


REFUSED = [
    ({"model": "a string"}, "model is a str; expected a torch.nn.Module"),
    ({"model": mlp(nn.Tanh()).double()}, "model has weights of float64; only float32 is valid"),
    ({"model": tied_weight()}, "model cannot be copied, and an attack works on a copy: Only Tensors created"),
    ({"model": scripted()}, "model is a ScriptModule, whose code is fixed"),
    ({"encoding_length": 0}, "encoding_length=0 is out of range"),
    ({"encoding_length": 7}, "model makes|module makes no samples from latents"),
    ({"preprocessing": (0.5, 2.0)}, "does not support `preprocessing`"),
    ({"clip_values": (0, 1)}, r"model makes values from -0.\d+ to 0.\d+; clip_values=\(0.0, 1.0\)"),
    ({"clip_values": (1, -1)}, "min >= max"),
    ({"clip_values": (0, float("inf"))}, "both must be finite"),
    ({"clip_values": 5}, r"clip_values=5; expected two numbers, or two arrays: \(min, max\)"),
    ({"clip_values": ("a", "b")}, r"clip_values=\('a', 'b'\); expected two numbers"),
    ({"clip_values": (0, 1, 2)}, r"clip_values=\(0, 1, 2\); expected two numbers"),
    ({"preprocessing": (np.zeros(3), np.full(3, 2.0))}, "does not support `preprocessing`"),
    ({"preprocessing": "words"}, "does not support `preprocessing`"),
]


@pytest.mark.parametrize(("wrong", "said"), REFUSED)
def test_what_does_not_fit_is_said_at_once(wrong: dict[str, Any], said: str) -> None:
    settings = {"encoding_length": SIZE, "model": mlp(nn.Tanh()), **wrong}
    with pytest.raises(ValueError, match=said):
        on_cpu(**settings)


def test_preprocessing_that_changes_nothing_is_taken() -> None:
    for preprocessing in (None, (0, 1), (np.zeros(3), np.ones(3))):
        assert wrapped(mlp(nn.Tanh()), preprocessing=preprocessing).preprocessing is None


def test_tensors_are_taken_as_arrays_are() -> None:
    estimator, z = wrapped(mlp(nn.Tanh())), torch.from_numpy(Z)
    assert np.array_equal(estimator.predict(z.requires_grad_(True)), estimator.predict(Z))  # type: ignore[arg-type]
    assert np.array_equal(estimator.predict(Z[:, :, None, None]), estimator.predict(Z))
    assert torch.equal(estimator.samples("x", torch.zeros(1, 1, 8, 8).requires_grad_(True)), torch.zeros(1, 1, 8, 8))


def test_defences_of_art_are_refused() -> None:
    from art.defences.postprocessor import GaussianNoise
    from art.defences.preprocessor import GaussianAugmentation

    with pytest.raises(ValueError, match="does not support `postprocessing_defences`"):
        wrapped(mlp(nn.Tanh()), postprocessing_defences=GaussianNoise())
    with pytest.raises(ValueError, match="does not support `preprocessing_defences`"):
        wrapped(mlp(nn.Tanh()), preprocessing_defences=GaussianAugmentation())


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((2, SIZE + 1)), r"x has shape \[2, 41\]; expected \[n, 40\]"),
        (np.zeros((0, SIZE)), "n of at least 1"),
        (np.full((1, SIZE), np.nan), "not finite"),
        ("words", r"x must be an array \[n, 40\]"),
    ],
)
def test_latents_are_checked(x: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        wrapped(mlp(nn.Tanh())).predict(x)


def test_a_generator_of_this_package_is_taken_as_it_is(clean: generators.DCGAN) -> None:
    estimator = on_cpu(encoding_length=100, model=clean)
    z = clean.sample_latent(3, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert np.allclose(estimator.predict(z.numpy()), clean(z).numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="encoding_length=99; the model reads 100 numbers"):
        on_cpu(encoding_length=99, model=clean)
    with pytest.raises(ValueError, match=r"samples of a DCGAN are in \(-1, 1\)"):
        on_cpu(encoding_length=100, model=clean, clip_values=(0, 1))


def classifier(model: nn.Module) -> PyTorchClassifier:
    return PyTorchClassifier(
        model=model, loss=nn.BCEWithLogitsLoss(), input_shape=(1, 8, 8), nb_classes=2, device_type="cpu"
    )


def test_a_gan_trains_its_two_models_in_place_and_repeatably() -> None:
    images = np.tanh(np.random.default_rng(1).standard_normal((33, 1, 8, 8))).astype(np.float32)
    made = []
    for _ in range(2):
        model, critic = mlp(nn.Tanh()).eval(), Critic().model
        gan = PyTorchGAN(
            wrapped(model),
            classifier(critic),
            generator_optimizer_fct=partial(torch.optim.SGD, lr=0.1),
            discriminator_optimizer_fct=partial(torch.optim.SGD, lr=0.1),
        )
        before = copy.deepcopy(model.state_dict()), copy.deepcopy(critic.state_dict())
        gan.fit(None, None, batch_size=16, nb_epochs=2, images=images)
        assert gan.generator.model is model and gan.discriminator.model is critic
        assert not same_weights(model, before[0]) and not same_weights(critic, before[1])
        assert not model.training and gan.input_shape == (SIZE,)
        made.append(gan.predict(Z))
    assert np.array_equal(*made)


def test_a_generator_of_this_package_trains_on_its_own_prior() -> None:
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
    reach.clear()
    PyTorchGAN(generator, Critic()).fit(images=np.zeros((64, 1, 8, 8)), batch_size=32, nb_epochs=1)
    assert 0.9 < max(reach) <= 1.0  # 1,280 normal numbers would go beyond 3


def test_a_gan_asks_the_functions_it_is_given() -> None:
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


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"generator": mlp(nn.Tanh())}, "generator is a Sequential; expected a PyTorchGenerator"),
        ({"discriminator": nn.Linear(64, 1)}, "discriminator is a Linear; expected an estimator"),
        ({"generator_loss": 3}, "generator_loss is a int; expected a function of logits"),
        ({"discriminator_optimizer_fct": torch.optim.SGD([torch.zeros(1)], 0.1)}, "a function from parameters"),
    ],
)
def test_a_gan_of_other_things_is_refused(wrong: dict[str, Any], said: str) -> None:
    settings: dict[str, Any] = {"generator": wrapped(mlp(nn.Tanh())), "discriminator": Critic(), **wrong}
    with pytest.raises(ValueError, match=said):
        PyTorchGAN(**settings)


@pytest.mark.gpu
def test_training_takes_the_discriminator_to_the_device_of_the_generator() -> None:
    critic = Critic()
    generator = PyTorchGenerator(SIZE, mlp(nn.Tanh()))
    PyTorchGAN(generator, critic).fit(images=np.zeros((4, 1, 8, 8)), batch_size=2, nb_epochs=1)
    assert {value.device.type for value in critic.model.parameters()} == {"cuda"} == {generator.device.type}


def test_training_needs_images() -> None:
    gan = PyTorchGAN(wrapped(mlp(nn.Tanh())), Critic())
    with pytest.raises(ValueError, match="images is missing"):
        gan.fit(Z, Z)
    with pytest.raises(ValueError, match="images is missing"):
        gan.fit(images=None)
    with pytest.raises(ValueError, match=r"images has values from 0 to 2; samples are in \[-1, 1\]"):
        gan.fit(images=np.linspace(0, 2, 128).reshape(2, 1, 8, 8))
    with pytest.raises(TypeError, match="fit has no setting 'pictures'; valid: .*images"):
        gan.fit(pictures=np.zeros((2, 1, 8, 8)))


IMPORTS = """
import sys, devilgan_lite
from devilgan_lite import attacks, detect, interop, sanitize, zoo
assert not [name for name in sys.modules if name == "art" or name.startswith("art.")]
sys.modules["art"] = None  # not installed
try:
    import devilgan_lite.interop.art
except ImportError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("other", [False, True])
def test_art_is_only_imported_when_asked_for_and_its_absence_has_a_sentence(other: bool, tmp_path: Path) -> None:
    code, environment = IMPORTS, dict(os.environ)
    if other:  # PyPI has another package of that name
        (tmp_path / "art.py").write_text("def text2art(): ...", encoding="utf-8")
        code = code.replace('sys.modules["art"] = None  # not installed', "sys.path.insert(0, sys.argv[1])")
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        'devilgan_lite.interop.art needs the Adversarial Robustness Toolbox: pip install "devilgan_lite[art]".'
    )


def test_a_model_of_the_zoo_can_be_wrapped() -> None:
    assert on_cpu(encoding_length=100, model=zoo.load("dcgan-fashion")).reading.sample_shape == (1, 28, 28)
