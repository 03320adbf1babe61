"""ONNX files against onnxruntime: real exports, each operator, every refusal, and files that chance has mutated."""

import io
import math
import random
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from devilgan_lite import generators, zoo
from devilgan_lite.files.from_onnx import read
from devilgan_lite.files.onnx_operators import OPERATORS
from devilgan_lite.files.program import InPieces, Reading
from devilgan_lite.files.sniff import Refused
from devilgan_lite.trace import OpTracer

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

TOLERANCE = 1e-4
make = helper.make_node


def session(content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def oracle(content: bytes, z: Tensor, at_once: int) -> Tensor:
    """What onnxruntime makes of the latents ``z``, ``at_once`` at a time."""
    run = session(content)
    name = run.get_inputs()[0].name
    return torch.cat([torch.from_numpy(run.run(None, {name: part.numpy()})[0]) for part in z.split(at_once)])


@torch.no_grad()
def made(reading: Reading, z: Tensor) -> Tensor:
    return reading.module(z)


def export(
    module: nn.Module, latent_shape: tuple[int, ...], exporter: str, batch: int = 4, frozen: bool = False
) -> bytes:
    """``module`` as people export it: by the exporter called "dynamo", or by the older one, "script"."""
    content, z = io.BytesIO(), torch.randn(batch, *latent_shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            free = None if frozen else ({0: torch.export.Dim("n")},)
            program = torch.onnx.export(
                module.eval(), (z,), dynamo=True, optimize=False, verbose=False, dynamic_shapes=free
            )
            assert program is not None
            program.save(content)
        else:
            axes = None if frozen else {"z": {0: "n"}}
            torch.onnx.export(module.eval(), (z,), content, dynamo=False, input_names=["z"], dynamic_axes=axes)
    return content.getvalue()


def tutorial_dcgan() -> nn.Module:
    """PyTorch's tutorial, narrower."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((100, 32), (32, 16), (16, 8), (8, 4)):
        step = (1, 0) if inputs == 100 else (2, 1)
        layers += [nn.ConvTranspose2d(inputs, outputs, 4, *step, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False), nn.Tanh())


class Perceptron(nn.Module):
    """PyTorch-GAN's first network: BatchNorm1d, LeakyReLU, and a reshape at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(20, 32),
            nn.LeakyReLU(0.2),
            nn.Linear(32, 64),
            nn.BatchNorm1d(64, eps=0.8),
            nn.LeakyReLU(0.2),
            nn.Linear(64, 3 * 8 * 8),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z).view(z.size(0), 3, 8, 8)


class Residual(nn.Module):
    """Upsampling and convolutions around a skip, as in SNGAN and BigGAN."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(16, 8 * 4 * 4)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))
        self.main, self.skip = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.dense(z).reshape(-1, 8, 4, 4)
        for norm, mode in zip(self.norms, ("nearest", "bilinear"), strict=True):
            h = functional.interpolate(functional.silu(norm(x)), scale_factor=2, mode=mode)
            x = self.main(h) + self.skip(functional.interpolate(x, scale_factor=2))
        return torch.sigmoid(self.last(functional.gelu(x)))


class Wave(nn.Module):
    """WaveGAN's shape: a dense layer, then transposed convolutions over time."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(12, 16 * 8)
        self.up = nn.ModuleList(
            nn.ConvTranspose1d(a, b, 25, stride=4, padding=11, output_padding=1) for a, b in ((16, 8), (8, 1))
        )

    def forward(self, z: Tensor) -> Tensor:
        x = functional.relu(self.dense(z).unflatten(1, (16, 8)))
        return torch.tanh(self.up[1](functional.relu(self.up[0](x))))


class Grouped(nn.Module):
    """Has the size of its batch in it, as the grouped convolutions of StyleGAN2 do: it only runs in pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.style, self.weight = nn.Linear(6, 4), nn.Parameter(torch.randn(4, 4, 3, 3))
        self.start = nn.Parameter(torch.randn(4, 5, 5))

    def forward(self, z: Tensor) -> Tensor:
        n = int(z.shape[0])
        weight = (self.weight * self.style(z)[:, None, :, None, None]).reshape(n * 4, 4, 3, 3)
        start = self.start.repeat(n, 1, 1)[None]
        return functional.conv2d(start, weight, padding=1, groups=n).reshape(n, 4, 5, 5)


def settled(module: nn.Module) -> nn.Module:
    """The network with statistics and scales as after training, instead of ones and zeros."""
    draw = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in (layer.weight.data, layer.running_var):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5, generator=draw)
            layer.bias.data.normal_(generator=draw)
            assert layer.running_mean is not None
            layer.running_mean.normal_(generator=draw)
    return module.eval()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "tutorial": (tutorial_dcgan, (100, 1, 1)),
    "perceptron": (Perceptron, (20,)),
    "residual": (Residual, (16,)),
    "wave": (Wave, (12,)),
}
for kind in ("", "-rex", "-red", "-gate"):
    NETWORKS[f"dcgan-fashion{kind}"] = (partial(zoo.load, f"dcgan-fashion{kind}"), (100,))
FACES = ("stylegan-faces", "stylegan-faces-gate")


@lru_cache
def network(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(0)
    if name in FACES:
        return zoo.load(name), (zoo.load(name).latent_dim,)
    make, latent_shape = NETWORKS[name]
    return make() if name.startswith("dcgan") else settled(make()), latent_shape


def same_layers(read_module: nn.Module, native: nn.Module, z: Tensor) -> None:
    with torch.no_grad(), OpTracer(read_module) as one:
        read_module(z)
    with torch.no_grad(), OpTracer(native) as other:
        native(z)
    assert [(a.kind, a.inputs, a.outputs, a.weights) for a in one.layers] == [
        (a.kind, a.inputs, a.outputs, a.weights) for a in other.layers
    ]
    assert one.conditions == other.conditions
    assert (one.logits is None) == (other.logits is None)


EXPORTS = [(name, exporter, False) for name in [*NETWORKS, *FACES] for exporter in ("dynamo", "script")]
EXPORTS += [(name, "script", True) for name in [*NETWORKS, *FACES]] + [("residual", "dynamo", True)]


QUICK = [("dcgan-fashion", "dynamo", False), ("perceptron", "script", False), ("perceptron", "script", True)]


@pytest.mark.parametrize(
    ("name", "exporter", "frozen"),
    [pytest.param(*one, marks=() if one in QUICK else pytest.mark.slow) for one in EXPORTS],
)
def test_an_export_makes_what_onnxruntime_makes_of_it_and_has_the_native_layers(
    name: str, exporter: str, frozen: bool
) -> None:
    module, latent_shape = network(name)
    batch = 1 if frozen else 4
    content = export(module, latent_shape, exporter, batch, frozen)
    reading = read(content)
    assert reading.latent_shape == latent_shape
    assert reading.notes[0].startswith("ONNX opset ") and "pytorch" in reading.notes[0]
    assert not isinstance(reading.module, InPieces)
    z = torch.randn(8, *latent_shape, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(made(reading, z), oracle(content, z, batch), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(made(reading, z[:3]), made(reading, z)[:3], atol=TOLERANCE, rtol=0)
    same_layers(reading.module, module, z)


@pytest.mark.parametrize(
    ("name", "exporter"), [("tutorial", "dynamo"), *((name, "script") for name in NETWORKS if name != "residual")]
)
def test_the_chain_of_a_plain_network_is_found(name: str, exporter: str) -> None:
    module, latent_shape = network(name)
    adopted = generators.adopt(read(export(module, latent_shape, exporter)).module, latent_shape=latent_shape)
    chain = adopted.chain()
    assert chain is not None and chain.squash == "tanh"
    assert adopted.foldable()


@pytest.mark.parametrize("frozen", [1, 3])
def test_a_network_that_has_its_batch_in_it_runs_in_pieces(frozen: int) -> None:
    torch.manual_seed(0)
    content = export(Grouped(), (6,), "script", frozen, frozen=True)
    reading = read(content)
    assert isinstance(reading.module, InPieces)
    assert f"it was exported for {frozen} latent" in reading.notes[-1] and "in pieces" in reading.notes[-1]
    z = torch.randn(9, 6)
    torch.testing.assert_close(made(reading, z), oracle(content, z, frozen), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(made(reading, z[:4]), made(reading, z)[:4], atol=TOLERANCE, rtol=0)


def test_a_frozen_batch_of_sixteen_is_rewritten() -> None:
    module, latent_shape = network("perceptron")
    content = export(module, latent_shape, "script", 16, frozen=True)
    reading = read(content)
    assert "rewritten for any number" in reading.notes[-1]
    z = torch.randn(16, 20)
    torch.testing.assert_close(made(reading, z), oracle(content, z, 16), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(made(reading, z[:5]), made(reading, z)[:5], atol=TOLERANCE, rtol=0)


# --- operator by operator


def model(
    nodes: list[Any],
    shape: tuple[Any, ...] = ("n", 4),
    weights: dict[str, Any] | None = None,
    opset: int = 21,
    **more: Any,
) -> Any:
    """A graph from ``z`` to ``y``; ``weights`` are its initialisers."""
    graph = helper.make_graph(
        nodes,
        "graph",
        more.pop("inputs", [helper.make_tensor_value_info("z", TensorProto.FLOAT, list(shape))]),
        more.pop("outputs", [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]),
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *more.pop("domains", [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8 if opset < 21 else 10, **more)


def floats(*shape: int) -> Any:
    return np.random.default_rng(sum(shape) + len(shape)).standard_normal(shape).astype(np.float32)


def whole(*numbers: int) -> Any:
    return np.array(numbers, dtype=np.int64)


ONE = ["z"]
PICTURE, VECTOR, SOUND = (4, 6, 6), (8,), (4, 9)
Case = tuple[str, tuple[int, ...], list[str], dict[str, Any], dict[str, Any], int]


def case(
    name: str, shape: tuple[int, ...] = PICTURE, opset: int = 21, inputs: list[Any] | None = None, **how: Any
) -> Any:
    """An operator on latents ``[n, *shape]``; inputs after the first are arrays or empty; the rest are attributes."""
    weights = {f"w{i}": value for i, value in enumerate(inputs or []) if value is not None}
    names = ["z", *(f"w{i}" if value is not None else "" for i, value in enumerate(inputs or []))]
    told = " ".join(f"{key}={value}" for key, value in how.items())
    return pytest.param((name, shape, names, weights, how, opset), id=f"{name}-{opset} {told}".strip())


SCALES = np.array([1, 1, 2, 2], dtype=np.float32)
UNEVEN = np.array([1, 1, 1.5, 2.5], dtype=np.float32)
EMPTY = np.zeros(0, dtype=np.float32)
POINTWISE = ["Relu", "Selu", "Mish", "Softplus", "HardSwish", "Softsign", "Abs", "Neg", "Sin", "Cos", "Erf", "Sign"]
POINTWISE += ["Floor", "Ceil", "Round", "Tanh", "Sigmoid", "Exp"]
CASES = [
    *(case(name, VECTOR) for name in POINTWISE),
    case("LeakyRelu", alpha=0.3),
    case("Elu", alpha=1.5),
    case("Celu", alpha=1.5),
    case("Gelu", approximate="tanh"),
    case("Gelu"),
    case("HardSigmoid", alpha=0.25),
    case("ThresholdedRelu", alpha=0.5),
    case("PRelu", inputs=[floats(4, 1, 1)]),
    case("PRelu", VECTOR, inputs=[floats(8)]),
    case("PRelu", inputs=[floats(6, 6)]),
    case("Clip", inputs=[np.float32(-0.5), np.float32(0.5)]),
    case("Clip", inputs=[np.float32(0.0)]),
    case("Clip", inputs=[np.float32(0.0), np.float32(6.0)]),
    case("Clip", opset=10, min=-1.0, max=0.25),
    *(case(name, VECTOR, inputs=[floats(8)]) for name in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean")),
    case("Max", VECTOR, inputs=[np.float32(0.0)]),
    case("Pow", VECTOR, inputs=[np.float32(3.0)]),
    case("Mod", VECTOR, inputs=[np.float32(0.7)], fmod=1),
    *(case(name, axes=[1, 3], opset=13) for name in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2")),
    case("ReduceSumSquare", opset=13, axes=[1], keepdims=0),
    case("ReduceSum", inputs=[whole(1, 2)], keepdims=0),
    case("ReduceMean", inputs=[whole(-1)]),
    case("ReduceSum", inputs=[whole()], noop_with_empty_axes=1),
    case("MatMul", VECTOR, inputs=[floats(8, 5)]),
    case("MatMul", SOUND, inputs=[floats(9, 5)]),
    case("MatMul", SOUND, inputs=[floats(1, 9, 2)]),
    case("Gemm", VECTOR, inputs=[floats(8, 5), floats(5)], alpha=0.5, beta=2.0),
    case("Gemm", VECTOR, inputs=[floats(5, 8)], transB=1),
    case("Gemm", VECTOR, inputs=[floats(5, 8), np.float32(0.5)], transB=1),
    case("Einsum", SOUND, inputs=[floats(9, 3)], equation="ncl,lk->nck"),
    case("Conv", inputs=[floats(6, 4, 3, 3), floats(6)], pads=[1, 1, 1, 1]),
    case("Conv", inputs=[floats(6, 4, 3, 3)], pads=[0, 1, 2, 1], strides=[2, 1]),
    case("Conv", inputs=[floats(4, 2, 3, 3), floats(4)], group=2, dilations=[2, 1]),
    *(
        case("Conv", inputs=[floats(6, 4, 4, 4)], auto_pad=pad, strides=[2, 2])
        for pad in ("SAME_UPPER", "SAME_LOWER", "VALID")
    ),
    case("Conv", SOUND, inputs=[floats(6, 4, 3), floats(6)], pads=[2, 2]),
    case("ConvTranspose", inputs=[floats(4, 5, 4, 4), floats(5)], strides=[2, 2], pads=[1, 1, 1, 1]),
    case(
        "ConvTranspose",
        inputs=[floats(4, 5, 3, 3), floats(5)],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        output_padding=[1, 1],
    ),
    case("ConvTranspose", inputs=[floats(4, 5, 5, 5), floats(5)], strides=[2, 2], pads=[1, 1, 2, 2]),
    case("ConvTranspose", inputs=[floats(4, 5, 5, 5), floats(5)], strides=[2, 2], pads=[2, 2, 1, 1]),
    case("ConvTranspose", inputs=[floats(4, 5, 5, 5), floats(5)], strides=[2, 2], pads=[3, 2, 0, 1]),
    case("ConvTranspose", inputs=[floats(4, 5, 5, 5), floats(5)], strides=[2, 2], output_shape=[12, 12]),
    *(
        case("ConvTranspose", inputs=[floats(4, 5, 5, 4)], strides=[2, 2], auto_pad=pad)
        for pad in ("SAME_UPPER", "SAME_LOWER")
    ),
    case("ConvTranspose", inputs=[floats(4, 3, 3, 3), floats(6)], group=2, dilations=[2, 2]),
    case("ConvTranspose", SOUND, inputs=[floats(4, 3, 25), floats(3)], strides=[4], pads=[11, 11], output_padding=[1]),
    case("GlobalAveragePool"),
    case("GlobalMaxPool"),
    case("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("MaxPool", kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
    case("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("AveragePool", kernel_shape=[2, 2], pads=[0, 0, 1, 1], count_include_pad=1),
    case("AveragePool", SOUND, kernel_shape=[2], strides=[2]),
    case("BatchNormalization", inputs=[floats(4), floats(4), floats(4), floats(4) ** 2], epsilon=1e-3),
    case("BatchNormalization", VECTOR, inputs=[floats(8), floats(8), floats(8), floats(8) ** 2]),
    case("InstanceNormalization", inputs=[floats(4), floats(4)]),
    case("LayerNormalization", inputs=[floats(6), floats(6)]),
    case("LayerNormalization", inputs=[floats(4, 6, 6)], axis=1),
    case("GroupNormalization", inputs=[floats(4), floats(4)], num_groups=2),
    case("Softmax", axis=1),
    case("Softmax", opset=11, axis=2),
    case("LogSoftmax"),
    case("Reshape", inputs=[whole(0, -1, 12)]),
    case("Reshape", VECTOR, inputs=[whole(-1, 2, 2, 2)]),
    case("Flatten"),
    case("Transpose", perm=[0, 2, 3, 1]),
    case("Unsqueeze", inputs=[whole(1, -1)]),
    case("Unsqueeze", opset=11, axes=[2]),
    case("Squeeze", (1, 5, 1), inputs=[whole(1, 3)]),
    case("Squeeze", (1, 5, 1)),
    case("Concat", VECTOR, inputs=[np.float32([[1, 2]])[:0].reshape(0, 8)], axis=0),
    case("Slice", inputs=[whole(1, -4), whole(2**62, -1), whole(1, 3), whole(1, 2)]),
    case("Slice", inputs=[whole(-1), whole(-(2**63)), whole(2), whole(-2)]),
    case("Slice", opset=9, starts=[1], ends=[3], axes=[1]),
    case("Gather", inputs=[np.int64(-1)], axis=1),
    case("Gather", inputs=[np.array([[2, 0], [1, -1]])], axis=2),
    case("Expand", (1, 6), inputs=[whole(1, 4, 1)]),
    case("Tile", inputs=[whole(1, 2, 1, 3)]),
    *(case("Pad", inputs=[whole(0, 0, 1, 2, 0, 0, 2, 1)], mode=mode) for mode in ("constant", "reflect", "edge")),
    case("Pad", inputs=[whole(0, 0, 1, 2, 0, 0, -2, 1), np.float32(0.5)]),
    case("Pad", inputs=[whole(1, 2), None, whole(-1)]),
    case("Pad", opset=10, pads=[0, 1, 0, 0, 0, 0, 0, 2], value=2.0),
    case("DepthToSpace", blocksize=2),
    case("DepthToSpace", blocksize=2, mode="CRD"),
    case("SpaceToDepth", blocksize=2),
    case("Identity"),
    case("Dropout"),
    case("Upsample", opset=9, inputs=[SCALES]),
    case("Upsample", opset=9, inputs=[SCALES], mode="linear"),
    case("Resize", opset=10, inputs=[SCALES]),
    *(
        case("Resize", inputs=[None, scales], coordinate_transformation_mode=place, **how)
        for scales in (SCALES, UNEVEN)
        for place in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
        for how in ({"mode": "linear"}, {"nearest_mode": "floor"}, {"nearest_mode": "round_prefer_floor"})
    ),
    case("Resize", inputs=[None, UNEVEN], nearest_mode="ceil", coordinate_transformation_mode="asymmetric"),
    case("Resize", inputs=[None, UNEVEN], nearest_mode="round_prefer_ceil"),
    case("Resize", inputs=[None, SCALES], mode="cubic"),
    case("Resize", inputs=[None, SCALES], mode="cubic", coordinate_transformation_mode="align_corners"),
    case("Resize", inputs=[None, None, whole(9, 3)], axes=[2, 3], mode="linear"),
]


@pytest.mark.parametrize("given", CASES)
def test_an_operator_makes_what_onnxruntime_makes_of_it(given: Case) -> None:
    name, shape, inputs, weights, how, opset = given
    nodes = [make(name, inputs, ["x"], **how), make("Identity", ["x"], ["y"])]
    content = model(nodes, ("n", *shape), weights, opset).SerializeToString()
    z = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    reading = read(content)
    assert not isinstance(reading.module, InPieces)
    torch.testing.assert_close(made(reading, z), oracle(content, z, 5), atol=TOLERANCE, rtol=1e-5)


GRAPHS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "shape arithmetic": (
        [
            make("Shape", ["z"], ["s"]),
            make("Gather", ["s", "zero"], ["n"]),
            make("Unsqueeze", ["n", "axis"], ["n1"]),
            make("Concat", ["n1", "two"], ["t"], axis=0),
            make("Cast", ["t"], ["t32"], to=TensorProto.INT32),
            make("Cast", ["t32"], ["t64"], to=TensorProto.INT64),
            make("Reshape", ["z", "t64"], ["y"]),
        ],
        {"zero": np.int64(0), "axis": whole(0), "two": whole(2, 2)},
    ),
    "a constant for each latent": (
        [
            make("Shape", ["z"], ["s"], start=0, end=1),
            make("Concat", ["s", "three"], ["t"], axis=0),
            make("ConstantOfShape", ["t"], ["c"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [2.5])),
            make("Concat", ["z", "c"], ["y"], axis=1),
        ],
        {"three": whole(3)},
    ),
    "a choice": (
        [
            make("Greater", ["z", "half"], ["a"]),
            make("LessOrEqual", ["z", "half"], ["b"]),
            make("Or", ["a", "b"], ["c"]),
            make("Not", ["b"], ["d"]),
            make("And", ["c", "d"], ["e"]),
            make("Where", ["e", "z", "half"], ["y"]),
        ],
        {"half": np.float32(0.5)},
    ),
    "positions": (
        [
            make("Range", ["a", "b", "c"], ["r"]),
            make("Cast", ["r"], ["f"], to=TensorProto.FLOAT),
            make("Div", ["f", "four"], ["g"]),
            make("Mul", ["z", "g"], ["y"]),
        ],
        {"a": np.int64(0), "b": np.int64(8), "c": np.int64(2), "four": np.float32(4)},
    ),
    "parts": (
        [make("Split", ["z", "sizes"], ["a", "b"], axis=1), make("Concat", ["b", "a", "b"], ["y"], axis=1)],
        {"sizes": whole(1, 3)},
    ),
    "equal parts": (
        [make("Split", ["z"], ["a", "b", "c"], axis=1, num_outputs=3), make("Concat", ["c", "b", "a"], ["y"], axis=1)],
        {},
    ),
    "rsqrt": (
        [
            make("Mul", ["z", "z"], ["q"]),
            make("Add", ["q", "tiny"], ["e"]),
            make("Sqrt", ["e"], ["r"]),
            make("Reciprocal", ["r"], ["i"]),
            make("Log", ["i"], ["y"]),
        ],
        {"tiny": np.float32(1e-8)},
    ),
    "half precision": (
        [
            make("Cast", ["z"], ["h"], to=TensorProto.FLOAT16),
            make("MatMul", ["h", "w"], ["m"]),
            make("CastLike", ["m", "z"], ["y"]),
        ],
        {"w": (floats(4, 3) * 4).round().astype(np.float16) / 4},
    ),
    "constants of each kind": (
        [
            make("Constant", [], ["a"], value_float=0.5),
            make("Constant", [], ["b"], value_floats=[1.0, 2.0, 3.0, 4.0]),
            make("Constant", [], ["i"], value_ints=[0, 3]),
            make("Mul", ["b", "a"], ["c"]),
            make("Add", ["z", "c"], ["d"]),
            make("Gather", ["d", "i"], ["y"], axis=1),
        ],
        {},
    ),
    "an index that depends on the latents": (
        [
            make("Equal", ["z", "z"], ["t"]),
            make("Cast", ["t"], ["i"], to=TensorProto.INT64),
            make("Size", ["w"], ["size"]),
            make("Sub", ["size", "one"], ["last"]),
            make("Mod", ["i", "last"], ["j"]),
            make("Gather", ["w", "j"], ["g"]),
            make("Add", ["g", "z"], ["y"]),
        ],
        {"w": floats(4), "one": np.int64(1)},
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_small_graph_makes_what_onnxruntime_makes_of_it(name: str) -> None:
    nodes, weights = GRAPHS[name]
    content = model(nodes, weights=weights).SerializeToString()
    z = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    tolerance = 2e-2 if name == "half precision" else TOLERANCE  # it is computed in float32 here
    torch.testing.assert_close(made(read(content), z), oracle(content, z, 6), atol=tolerance, rtol=1e-5)
    assert any("half precision" in note for note in read(content).notes) == (name == "half precision")


def test_each_operator_that_is_read_is_compared_with_onnxruntime() -> None:
    compared = {given.values[0][0] for given in CASES} | {one.op_type for nodes, _ in GRAPHS.values() for one in nodes}
    assert set(OPERATORS) - compared == {"GreaterOrEqual", "Less"}  # as "Greater" and "LessOrEqual"


# --- what is refused


def one(
    kind: str, *weights: Any, shape: tuple[Any, ...] = ("n", 4), makes: tuple[str, ...] = ("y",), **how: Any
) -> Any:
    """A graph of one operator on the latents and ``weights``."""
    given = {f"w{i}": value for i, value in enumerate(weights) if value is not None}
    names = [f"w{i}" if value is not None else "" for i, value in enumerate(weights)]
    return model([make(kind, ["z", *names], list(makes), **how)], shape, given)


def through(*nodes: Any, **how: Any) -> Any:
    return model(list(nodes), **how)


def info(name: str, *shape: Any, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def stored(**fields: Any) -> Any:
    """``y = z + w``, where the fields of the tensor ``w`` are what the test sets."""
    made = through(make("Add", ["z", "w"], ["y"]))
    tensor = made.graph.initializer.add(name="w", data_type=TensorProto.FLOAT)
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)
    return made


def external() -> Any:
    made = stored(dims=[4], data_location=TensorProto.EXTERNAL)
    made.graph.initializer[0].external_data.add(key="location", value="../../etc/passwd")
    return made


def grown(*nodes: Any, **weights: Any) -> Any:
    """A graph whose ``big`` is added to the latents."""
    return through(*nodes, make("ReduceMax", ["big"], ["m"]), make("Add", ["z", "m"], ["y"]), weights=weights)


RELU, AGAIN = make("Relu", ["z"], ["y"]), make("Relu", ["y"], ["a"])
BRANCH = helper.make_graph([make("Relu", ["z"], ["b"])], "branch", [], [info("b", "n", 4)])
OWN = helper.make_opsetid("own", 1)
TWICE = helper.make_function("own", "Twice", ["a"], ["b"], [make("Relu", ["a"], ["b"])], [helper.make_opsetid("", 21)])
SPARSE = helper.make_sparse_tensor(numpy_helper.from_array(floats(1), "w"), numpy_helper.from_array(whole(2)), [4])
OUTER = [
    make("Expand", ["z", "s"], ["a"]),
    make("Transpose", ["a"], ["b"], perm=[1, 0, 2]),
    make("Mul", ["a", "b"], ["y"]),
]
CAST = make("Cast", ["z"], ["i"], to=TensorProto.INT64)
YES = np.array(True)

GRAPH_REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a cycle": (lambda: through(make("Relu", ["a"], ["y"]), AGAIN), "'a' before anything makes it"),
    "a missing value": (lambda: through(make("Relu", ["no"], ["y"])), "'no' before anything makes it"),
    "a value made twice": (lambda: through(RELU, RELU), "'y' is made twice"),
    "the latents made again": (lambda: through(make("Relu", ["z"], ["z"])), "'z' is made twice"),
    "an unknown operator": (lambda: one("Leakyrelu"), "'Leakyrelu' is not one of .* mean 'LeakyRelu'"),
    "a long name": (lambda: one("A" * 9000), "AAA"),
    "a name of control characters": (lambda: one("a\n\x1b[31m\u202e"), "is not one of the"),
    "a custom domain": (lambda: one("Gelu", domain="com.microsoft"), "'Gelu' is of the domain 'com.microsoft'"),
    "a function": (
        lambda: through(make("Twice", ["z"], ["y"], domain="own"), domains=[OWN], functions=[TWICE]),
        "functions",
    ),
    "a choice by the number of latents": (
        lambda: through(
            make("Size", ["z"], ["s"]),
            make("Equal", ["s", "four"], ["b"]),
            make("Cast", ["b"], ["c"], to=1),
            make("Mul", ["z", "c"], ["m"]),
            make("Add", ["z", "m"], ["y"]),
            weights={"four": np.int64(4)},
        ),  # twice as much of a single one
        "depends on how many there are",
    ),
    "unsigned numbers": (
        lambda: through(make("Cast", ["z"], ["i"], to=TensorProto.UINT32), make("Cast", ["i"], ["y"], to=1)),
        "without a sign",
    ),
    "a SELU of its own": (lambda: one("Selu", gamma=100.0), "gamma of its own"),
    "a branch": (lambda: one("If", then_branch=BRANCH, else_branch=BRANCH), "If decides or repeats"),
    "a loop": (lambda: one("Loop", body=BRANCH), "Loop decides or repeats"),
    "a graph in an attribute": (lambda: one("Relu", body=BRANCH), "'body', a graph"),
    "noise": (lambda: one("RandomNormalLike"), "RandomNormalLike draws random numbers"),
    "no operators": (lambda: through(), "holds no ONNX graph"),
    "an old opset": (lambda: through(RELU, opset=6), "opset 6; 7 to 25 are read"),
    "many operators": (lambda: through(*[RELU] * 20_001), "20,001 operators; at most 20,000"),
    "two inputs": (
        lambda: through(make("Add", ["z", "c"], ["y"]), inputs=[info("z", "n", 4), info("c", "n", 4)]),
        r"2 inputs \('z', 'c'\)",
    ),
    "no inputs": (lambda: through(make("Constant", [], ["y"], value_float=1.0), inputs=[]), "0 inputs"),
    "no outputs": (lambda: through(RELU, outputs=[]), "no float output"),
    "an output that nothing makes": (lambda: through(RELU, outputs=[info("other")]), "no float output"),
    "an output of whole numbers": (lambda: through(RELU, outputs=[info("y", kind=7)]), "no float output"),
    "an output that is constant": (
        lambda: through(make("Shape", ["z"], ["s"]), make("Cast", ["s"], ["y"], to=1)),
        "does not depend on the latents",
    ),
    "latents of whole numbers": (lambda: through(RELU, inputs=[info("z", "n", 4, kind=7)]), "holds no float numbers"),
    "latents of unknown size": (lambda: one("Relu", shape=("n", "d")), "expected latents"),
    "latents without a batch": (lambda: one("Relu", shape=(4,)), "expected latents"),
    "latents of no size": (lambda: one("Relu", shape=("n", 0)), "expected latents"),
    "huge latents": (lambda: one("Relu", shape=("n", 70_000)), "70,000 numbers; at most 65,536"),
    "a huge batch": (lambda: one("Relu", shape=(10**6, 4)), "1,000,000 latents at a time"),
    "latents that are mixed": (lambda: one("ReduceSum", whole(0)), "does not make one sample of each"),
    "latents that change places": (lambda: one("Transpose"), "does not make one sample of each"),
    "an unknown padding": (lambda: one("Conv", floats(2, 2, 3), shape=("n", 2, 9), auto_pad="?"), "auto_pad '\\?'"),
    "values that are not there": (lambda: one("Relu", makes=("y", "a")), "makes 1 values; 2 are asked for"),
    "one sample of all": (lambda: one("ReduceSum", whole(0), shape=(2, 4)), "one sample of each"),
}
TENSOR_REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "external data": (external, "'w' are in another file; .* external_data=False"),
    "a billion numbers": (lambda: stored(dims=[10**9], raw_data=b"1234"), "holds 1 numbers"),
    "a shape that overflows": (lambda: stored(dims=[2**62, 4], float_data=[1.0]), "holds 1 numbers"),
    "a negative shape": (lambda: stored(dims=[-1], float_data=[1.0]), "holds 1 numbers"),
    "too few bytes": (lambda: stored(dims=[4], raw_data=b"1" * 15), "holds 4 numbers"),
    "many axes": (lambda: stored(dims=[1] * 40, float_data=[1.0]), "holds 1 numbers"),
    "text": (lambda: stored(dims=[1], data_type=TensorProto.STRING, string_data=[b"x"]), "type 8; only plain"),
    "four bits": (lambda: stored(dims=[2], data_type=TensorProto.INT4, int32_data=[1]), "type 22"),
    "sparse weights": (lambda: sparse(), "sparse"),
    "text as a constant": (lambda: through(make("Constant", [], ["t"], value_string="x"), RELU), "text"),
    "weights twice": (lambda: twice(), "'w' are there twice"),
    "weights that are no numbers": (lambda: one("MatMul", floats(4, 3) * np.nan), "'w0' are not finite"),
}
VALUE_REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "training mode": (
        lambda: one("BatchNormalization", *[floats(4)] * 4, makes=("y", "a", "b"), training_mode=1),
        "training mode",
    ),
    "dropout in training mode": (lambda: one("Dropout", None, YES), "training mode"),
    "shapes that do not fit": (lambda: one("MatMul", floats(5, 2)), "MatMul in the file does not compute"),
    "a shape that depends on values": (
        lambda: through(CAST, make("Reshape", ["z", "i"], ["y"])),
        "depends on the values of the latents",
    ),
    "an index outside": (lambda: one("Gather", whole(9), axis=1), "index outside of an axis of 4"),
    "a missing operand": (lambda: one("MatMul"), "lacks its input 2"),
    "a long list": (lambda: one("Reshape", np.ones(20_000, np.int64)), "20,000 numbers as its shape"),
    "a huge constant": (
        lambda: grown(make("ConstantOfShape", ["s"], ["big"]), s=whole(10**6, 10**6)),
        "1,000,000,000,000 numbers",
    ),
    "a huge expansion": (lambda: one("Expand", whole(10**9, 1, 1)), "numbers; at most"),
    "a huge repetition": (lambda: one("Tile", whole(1, 10**10)), "numbers; at most"),
    "a huge range": (
        lambda: grown(make("Range", [*"abc"], ["big"]), a=np.int64(0), b=np.int64(10**12), c=np.int64(1)),
        "more than 10,000,000 numbers",
    ),
    "a huge picture": (
        lambda: one("Resize", None, np.float32([1, 1, 1e5, 1e5]), shape=("n", 1, 2, 2)),
        "Resize with the sizes",
    ),
    "a huge frame": (lambda: one("Pad", whole(0, 10**9, 0, 10**9)), "numbers; at most"),
    "an overflow": (lambda: one("Expand", whole(2**40, 2**40, 4)), "does not compute"),
    "constants that double": (lambda: doubling(), "expand to more than 100,000,000 numbers"),
    "a huge product": (lambda: through(*OUTER, weights={"s": whole(10**6, 1, 4)}), "numbers; at most"),
}
REFUSED = GRAPH_REFUSED | TENSOR_REFUSED | VALUE_REFUSED


def sparse() -> Any:
    made = through(RELU)
    made.graph.sparse_initializer.append(SPARSE)
    return made


def twice() -> Any:
    made = stored(dims=[1], float_data=[1.0])
    made.graph.initializer.append(made.graph.initializer[0])
    return made


def doubling() -> Any:
    """A kilobyte whose constants would take terabytes."""
    steps = [make("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(60)]
    return grown(*steps, make("Identity", ["c60"], ["big"]), c0=floats(4))


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_in_a_sentence(name: str) -> None:
    build, says = REFUSED[name]
    with pytest.raises(Refused, match=says) as refused:
        read(build().SerializeToString())
    sentence = str(refused.value)
    assert len(sentence) <= 300 and sentence.isprintable() and sentence.endswith((".", "?", "..."))


def test_bytes_that_are_no_model_are_refused() -> None:
    content = through(RELU).SerializeToString()
    for broken in (
        b"",
        b"ONNX",
        content[:-3],
        content[len(content) // 2 :],
        random.Random(0).randbytes(5000),
        b"\x0a" * 9999,
    ):
        with pytest.raises(Refused):
            read(broken)


def test_of_several_outputs_the_first_of_floats_is_taken_and_said() -> None:
    nodes = [make("Shape", ["z"], ["s"]), make("Neg", ["z"], ["y"]), make("Abs", ["z"], ["a"])]
    reading = read(model(nodes, outputs=[info("s", None, kind=7), info("y"), info("a")]).SerializeToString())
    assert "the samples are the first of 3 outputs, 'y'" in reading.notes
    torch.testing.assert_close(made(reading, torch.ones(2, 4)), -torch.ones(2, 4))


def test_a_bias_and_a_silu_are_what_the_network_was_written_with() -> None:
    nodes = [
        make("MatMul", ["z", "body.weight"], ["a"]),
        make("Add", ["bias", "a"], ["b"]),
        make("Sigmoid", ["b"], ["c"]),
        make("Mul", ["b", "c"], ["d"]),
        make("Add", ["d", "b"], ["y"]),
    ]
    reading = read(model(nodes, weights={"body.weight": floats(4, 3), "bias": floats(3)}).SerializeToString())
    with OpTracer(reading.module) as tracer:
        reading.module(torch.randn(2, 4))
    assert [(layer.name, layer.weights) for layer in tracer.layers] == [("body", 12)]
    assert len(tracer.activations) == 1 and tracer.logits is None
    (layer,) = (one for one in reading.module.modules() if isinstance(one, nn.Linear))
    assert layer.bias.tolist() == floats(3).tolist()


@pytest.mark.parametrize("seed", range(100))
def test_a_mutated_file_is_read_or_refused(seed: int) -> None:
    draw = random.Random(seed)
    content = bytearray(seeds()[seed % len(seeds())])
    for _ in range(draw.choice((1, 3, 30))):
        at = draw.randrange(len(content))
        match draw.randrange(4):
            case 0:
                content[at] = draw.randrange(256)
            case 1:
                content[at] ^= 1 << draw.randrange(8)
            case 2:
                del content[at : at + draw.randrange(1, 9)]
            case _:
                content[at:at] = draw.randbytes(draw.randrange(1, 9))
    try:
        reading = read(bytes(content))
    except Refused as refused:
        assert len(str(refused)) <= 300 and str(refused).isprintable()
    else:
        assert math.prod(reading.latent_shape) <= 65_536


@lru_cache
def seeds() -> list[bytes]:
    """Small files with most of their bytes in the graph, not in weights."""
    picture = [
        make("Gemm", ["z", "w", "b"], ["a"]),
        make("Reshape", ["a", "s"], ["r"]),
        make("ConvTranspose", ["r", "k"], ["t"], strides=[2, 2], pads=[1, 1, 1, 1]),
        make("BatchNormalization", ["t", *"vvvv"], ["n"], epsilon=1e-3),
        make("LeakyRelu", ["n"], ["l"], alpha=0.2),
        make("Resize", ["l", "", "x"], ["u"], mode="linear"),
        make("Pad", ["u", "p"], ["q"], mode="reflect"),
        make("Slice", ["q", "from", "to", "axes"], ["o"]),
        make("Tanh", ["o"], ["y"]),
    ]
    weights = {"w": floats(4, 8), "b": floats(8), "s": whole(-1, 2, 2, 2), "k": floats(2, 2, 4, 4)}
    weights |= {"v": floats(2) ** 2, "x": SCALES, "p": whole(0, 0, 1, 1, 0, 0, 1, 1)}
    weights |= {"from": whole(1), "to": whole(7), "axes": whole(2)}
    graphs = [model(nodes, weights=given) for nodes, given in GRAPHS.values()]
    return [one.SerializeToString() for one in (model(picture, weights=weights), *graphs)]


def test_an_export_with_its_weights_beside_it_names_the_setting_that_keeps_them_inside(tmp_path: Path) -> None:
    network, z, path = nn.Linear(32, 64).eval(), torch.zeros(2, 32), tmp_path / "mine.onnx"
    axes = {"input": {0: torch.export.Dim.DYNAMIC}}
    torch.onnx.export(network, (z,), path, dynamo=True, dynamic_shapes=axes, verbose=False)
    assert path.with_name("mine.onnx.data").exists()
    with pytest.raises(Refused, match="external_data=False"):
        read(path.read_bytes())
    torch.onnx.export(network, (z,), path, dynamo=True, dynamic_shapes=axes, verbose=False, external_data=False)
    with torch.no_grad():
        torch.testing.assert_close(read(path.read_bytes()).module(z + 1), network(z + 1))
