"""Keras files against Keras itself, and what is refused in them."""

import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from devilgan_lite import generators
from devilgan_lite.files.from_keras import read
from tests.files.networks import edited, refused, with_json

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")
layers = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:You might encounter:UserWarning")
close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)
SAME, UP = {"padding": "same"}, {"strides": 2, "padding": "same"}


def dcgan() -> Any:
    """Keras' own DCGAN example, narrower."""
    leaky = partial(layers.LeakyReLU, negative_slope=0.2)
    return keras.Sequential([
        keras.Input((32,)), layers.Dense(128, use_bias=False), layers.BatchNormalization(), leaky(),
        layers.Reshape((4, 4, 8)), layers.Conv2DTranspose(6, 4, **UP), layers.BatchNormalization(epsilon=1e-4), leaky(),
        layers.Conv2DTranspose(5, 4, use_bias=False, activation="relu", **UP), layers.Dropout(0.3),
        layers.Conv2D(3, 5, activation="tanh", **SAME),
    ])  # fmt: skip


def residual() -> Any:
    """A functional model: skips, concatenation, upsampling, padding, activations as layers and as settings."""
    z = keras.Input((10,))
    x = layers.Reshape((4, -1, 3))(layers.Dense(48, activation="gelu")(z))
    h = layers.Conv2D(3, 3, activation=layers.LeakyReLU(negative_slope=0.1), **SAME)(x)
    x = layers.UpSampling2D(interpolation="bilinear")(layers.Add()([x, h]))
    y = layers.UpSampling2D()(h)
    x = layers.Concatenate()([layers.Multiply()([x, y]), y])
    x = layers.ReLU(max_value=6)(layers.BatchNormalization(scale=False)(x))
    x = layers.ZeroPadding2D(((1, 2), (0, 1)))(x)
    x = layers.Activation("softplus")(layers.Conv2D(4, 3, strides=2, dilation_rate=1, **SAME)(x))
    x = layers.Cropping2D(((0, 1), (1, 0)))(x)
    return keras.Model(z, layers.ELU(alpha=0.5)(layers.Conv2DTranspose(2, 3, strides=3, padding="valid")(x)))


def table() -> Any:
    return keras.Sequential([
        keras.Input((6,)), layers.Dense(12, activation="selu"), layers.BatchNormalization(), layers.Reshape((3, 4)),
        layers.Dense(5), layers.Flatten(), layers.Dense(7, activation="sigmoid"),
    ])  # fmt: skip


def wave() -> Any:
    return keras.Sequential([
        keras.Input((8,)), layers.Dense(4 * 6, activation="relu"), layers.Reshape((4, 6)),
        layers.Conv1DTranspose(5, 4, activation="relu", **UP), layers.UpSampling1D(2),
        layers.Conv1D(1, 9, activation="tanh", **SAME),
    ])  # fmt: skip


def saved(model: Any, path: Path) -> Path:
    """The model with weights as after training, as a file."""
    draw = np.random.default_rng(0)
    for weight in model.weights:
        value = draw.normal(size=weight.shape).astype(np.float32) * 0.3
        weight.assign(np.abs(value) + 0.5 if "variance" in weight.path or "gamma" in weight.path else value)
    model.save(path / "model.keras")
    return path / "model.keras"


@pytest.mark.parametrize("build", [dcgan, residual, table, wave])
def test_a_file_makes_what_keras_makes_of_it(build: Callable[[], Any], tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = build()
    reading = read(saved(model, tmp_path))
    z = torch.randn(6, *reading.latent_shape)
    with torch.no_grad():
        want, got = torch.as_tensor(model(z, training=False)).cpu(), reading.module(z)
    assert got.shape[0] == 6 and reading.latent_shape == tuple(model.input_shape[1:])
    close(got.movedim(1, -1), want)
    if build is dcgan:  # it is the chain of layers that it was
        adopted = generators.adopt(reading.module, latent_shape=reading.latent_shape)
        chain = adopted.chain()
        assert chain is not None and chain.squash == "tanh" and chain.widths == (8, 6, 5)
        assert adopted.sample_shape == (3, 16, 16)


def test_an_uneven_padding_is_that_of_tensorflow(tmp_path: Path) -> None:
    """Keras on torch warns that it differs there; what is meant is the gradient of a convolution that pads "same"."""
    model = keras.Sequential([keras.Input((3, 3, 1)), layers.Conv2DTranspose(1, 5, strides=2, padding="same")])
    reading = read(saved(model, tmp_path))
    kernel = torch.as_tensor(np.array(model.weights[0])).permute(3, 2, 0, 1)
    z = torch.randn(2, 3, 3, 1)
    full = functional.conv_transpose2d(z.permute(0, 3, 1, 2), kernel, stride=2) + float(np.array(model.weights[1])[0])
    close(reading.module(z).detach(), full[..., 1:7, 1:7])


def layer(at: int, **given: Any) -> Callable[[Any], object]:
    return lambda config: config["config"]["layers"][at].update(given)


def settings(at: int, **given: Any) -> Callable[[Any], object]:
    return lambda config: config["config"]["layers"][at]["config"].update(given)


REFUSED: list[tuple[Callable[[Any], object], str]] = [
    (layer(1, class_name="Lambda"), "Lambda"), (layer(1, class_name="Dens"), "'Dens' 'Dense'"),
    (layer(1, registered_name="evil>Dense"), "'Dense'"), (layer(1, module="os"), "'Dense'"),
    (lambda config: config.update(class_name="Evil"), "'Evil'"), (lambda config: config.clear(), "KeyError"),
    (lambda config: config["config"].update(layers=[]), "no layers"), (settings(3, name="dense"), "'dense'"),
    (settings(0, batch_shape=[None, None]), "[None, None] one input"), (settings(0, batch_shape=[None, 31]), "'dense'"),
    (settings(0, batch_shape=[None, 70_000]), "70,000 65,536"), (settings(1, activation="evil"), "'evil'"),
    (settings(2, axis=0), "axis 0"), (settings(4, target_shape=[10**6, 10**6, 8]), "'reshape"),
    (settings(5, data_format="channels_first"), "first"), (settings(5, padding="odd"), "odd"),
    (settings(5, strides=[10**6, 10**6]), "numbers; at most"),
]  # fmt: skip


def hostile(path: Path) -> dict[str, Callable[[Any], object]]:
    """Weights that lead elsewhere, or that unpack to much more than they are."""
    size, outside = (10**5, 10**5), [(str(path), 0, h5py.h5f.UNLIMITED)]
    return {
        "external": lambda group: group.update({"0": h5py.ExternalLink(str(path), "secret")}),
        "soft": lambda group: group.update({"0": h5py.SoftLink("/layers")}),
        "outside": lambda group: group.create_dataset("0", (32, 128), "f4", external=outside),
        "bomb": lambda group: group.create_dataset("0", size, "f4", chunks=(1000, 1000), compression="gzip"),
        "empty": lambda group: group.create_dataset("0", size, "f4"),
        "text": lambda group: group.create_dataset("0", data=[b"x" * 9]),
        "nothing": id,
    }


def test_what_cannot_be_read_is_refused_in_a_sentence(tmp_path: Path) -> None:
    keras.utils.clear_session()
    model = dcgan()
    model.layers[0].name = "dense"
    honest = saved(model, tmp_path)
    for change, names in REFUSED:
        refused(names, partial(read, with_json(honest, "config.json", change, "a.keras")), *names.split())
    (tmp_path / "secret").write_bytes(b"\0" * 16384)
    for kind, fill in hostile(tmp_path / "secret").items():
        with h5py.File(weights := io.BytesIO(), "w") as file:
            fill(file.create_group("layers/dense/vars"))
        held = {"model.weights.h5": weights.getvalue()}
        path = edited(honest, lambda members, held=held: members.update(held), "a.keras")
        refused(kind, partial(read, path), "'dense'")
    path = edited(honest, lambda members: members.update({"model.weights.h5": b"no HDF5"}), "a.keras")
    refused("no HDF5", partial(read, path))
