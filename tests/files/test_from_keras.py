"""Keras files against Keras itself, and what is refused in them."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from devilgan_lite import generators
from devilgan_lite.files.from_keras import read
from devilgan_lite.files.sniff import Refused

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")
layers = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:You might encounter:UserWarning")


def dcgan() -> Any:
    """Keras' own DCGAN example, narrower."""
    return keras.Sequential(
        [
            keras.Input((32,)),
            layers.Dense(4 * 4 * 8, use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Reshape((4, 4, 8)),
            layers.Conv2DTranspose(6, 4, strides=2, padding="same"),
            layers.BatchNormalization(epsilon=1e-4),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2DTranspose(5, 4, strides=2, padding="same", use_bias=False, activation="relu"),
            layers.Dropout(0.3),
            layers.Conv2D(3, 5, padding="same", activation="tanh"),
        ]
    )


def residual() -> Any:
    """A functional model: skips, concatenation, upsampling, padding, activations as layers and as settings."""
    z = keras.Input((10,))
    x = layers.Dense(48, activation="gelu")(z)
    x = layers.Reshape((4, -1, 3))(x)
    h = layers.Conv2D(3, 3, padding="same", activation=layers.LeakyReLU(negative_slope=0.1))(x)
    x = layers.Add()([x, h])
    x = layers.UpSampling2D(interpolation="bilinear")(x)
    y = layers.UpSampling2D()(h)
    x = layers.Concatenate()([x, y])
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.ReLU(max_value=6)(x)
    x = layers.ZeroPadding2D(((1, 2), (0, 1)))(x)
    x = layers.Conv2D(4, 3, strides=2, padding="same", dilation_rate=1)(x)
    x = layers.Activation("softplus")(x)
    x = layers.Cropping2D(((0, 1), (1, 0)))(x)
    x = layers.Conv2DTranspose(2, 3, strides=3, padding="valid")(x)
    return keras.Model(z, layers.ELU(alpha=0.5)(x))


def table() -> Any:
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(12, activation="selu"),
            layers.BatchNormalization(),
            layers.Reshape((3, 4)),
            layers.Dense(5),
            layers.Flatten(),
            layers.Dense(7, activation="sigmoid"),
        ]
    )


def wave() -> Any:
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(4 * 6, activation="relu"),
            layers.Reshape((4, 6)),
            layers.Conv1DTranspose(5, 4, strides=2, padding="same", activation="relu"),
            layers.UpSampling1D(2),
            layers.Conv1D(1, 9, padding="same", activation="tanh"),
        ]
    )


def saved(model: Any, path: Path) -> Path:
    """The model with weights as after training, as a file."""
    draw = np.random.default_rng(0)
    for weight in model.weights:
        value = draw.normal(size=weight.shape).astype(np.float32) * 0.3
        weight.assign(np.abs(value) + 0.5 if "variance" in weight.path or "gamma" in weight.path else value)
    model.save(path / "model.keras")
    return path / "model.keras"


def samples(module: torch.nn.Module, z: Tensor) -> Tensor:
    with torch.no_grad():
        return module(z)


@pytest.mark.parametrize("build", [dcgan, residual, table, wave])
def test_a_file_makes_what_keras_makes_of_it(build: Callable[[], Any], tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = build()
    reading = read(saved(model, tmp_path))
    z = torch.randn(6, *reading.latent_shape)
    with torch.no_grad():
        want = torch.as_tensor(model(z, training=False)).cpu()
    got = samples(reading.module, z)
    assert got.shape[0] == 6 and reading.latent_shape == tuple(model.input_shape[1:])
    torch.testing.assert_close(got.movedim(1, -1), want, atol=1e-5, rtol=1e-5)


def test_a_dcgan_is_the_chain_that_it_was(tmp_path: Path) -> None:
    reading = read(saved(dcgan(), tmp_path))
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
    torch.testing.assert_close(samples(reading.module, z), full[..., 1:7, 1:7], atol=1e-5, rtol=1e-5)


def changed(path: Path, change: Callable[[dict[str, Any]], object], weights: bytes | None = None) -> Path:
    """The file with another configuration, or other weights."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    members["model.weights.h5"] = members["model.weights.h5"] if weights is None else weights
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def in_layer(at: int, **settings: Any) -> Callable[[dict[str, Any]], object]:
    return lambda config: config["config"]["layers"][at]["config"].update(settings)


def of_layer(at: int, **fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda config: config["config"]["layers"][at].update(fields)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (of_layer(1, class_name="Lambda"), "Lambda layer, which is a program"),
        (of_layer(1, class_name="Dens"), "'Dens' is not one of the .* mean 'Dense'"),
        (of_layer(1, registered_name="evil>Dense"), "'Dense' is not one of"),
        (of_layer(1, module="os"), "'Dense' is not one of"),
        (lambda config: config.update(class_name="Evil"), "'Evil', which is a program"),
        (lambda config: config["config"].update(layers=[]), "no layers"),
        (lambda config: config.clear(), "contradicts itself"),
        (in_layer(0, batch_shape=[None, None]), "expected one input"),
        (in_layer(0, batch_shape=[None, 70_000]), "70,000 numbers; at most 65,536"),
        (in_layer(0, batch_shape=[None, 31]), "does not compute"),
        (in_layer(1, activation="evil"), "activation 'evil' is not read"),
        (in_layer(2, axis=0), "normalises axis 0"),
        (in_layer(4, target_shape=[10**6, 10**6, 8]), "does not compute"),
        (in_layer(5, data_format="channels_first"), "channels first"),
        (in_layer(5, strides=[10**6, 10**6]), "numbers; at most"),
        (in_layer(5, padding="odd"), "does not compute"),
        (in_layer(3, name="dense"), "is there twice"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(
    change: Callable[[dict[str, Any]], object], says: str, tmp_path: Path
) -> None:
    model = dcgan()
    model.layers[0].name = "dense"
    path = changed(saved(model, tmp_path), change)
    with pytest.raises(Refused, match=says) as refused:
        read(path)
    assert len(str(refused.value)) <= 300 and str(refused.value).isprintable()


def hostile(kind: str, path: Path) -> bytes:
    """Weights that lead elsewhere, or that unpack to much more than they are."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        group = file.create_group("layers/dense/vars")
        if kind == "external":
            group["0"] = h5py.ExternalLink(str(path), "secret")
        elif kind == "soft":
            group["0"] = h5py.SoftLink("/layers")
        elif kind == "outside":
            group.create_dataset("0", (32, 128), "f4", external=[(str(path), 0, h5py.h5f.UNLIMITED)])
        elif kind == "bomb":
            group.create_dataset("0", (10**5, 10**5), "f4", chunks=(1000, 1000), compression="gzip")
        elif kind == "empty":
            group.create_dataset("0", (10**5, 10**5), "f4")
        elif kind == "text":
            group.create_dataset("0", data=[b"x" * 9])
    return content.getvalue()


@pytest.mark.parametrize("kind", ["external", "soft", "outside", "bomb", "empty", "text", "nothing"])
def test_weights_that_are_not_in_the_file_are_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 16384)
    path = changed(saved(dcgan(), tmp_path), lambda config: None, hostile(kind, tmp_path / "secret"))
    with pytest.raises(Refused, match="weights of 'dense'|does not compute"):
        read(path)


def test_bytes_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    path = changed(saved(dcgan(), tmp_path), lambda config: None, b"no HDF5")
    with pytest.raises(Refused, match="contradicts itself"):
        read(path)
