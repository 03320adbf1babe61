"""ONNX files against onnxruntime: real exports, each operator, every refusal, and files that chance has mutated."""

import io
import json
import math
import random
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from devilgan_lite import generators, zoo
from devilgan_lite.files.batches import InPieces, Reading
from devilgan_lite.files.from_onnx import network_in as read
from devilgan_lite.files.onnx_operators import OPERATORS
from devilgan_lite.files.sniff import Refused
from devilgan_lite.trace import OpTracer
from tests.files.networks import NETWORKS, network, refused

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

close = partial(torch.testing.assert_close, atol=1e-4, rtol=1e-5)
OURS = [*(f"dcgan-fashion{kind}" for kind in ("", "-rex", "-red", "-gate")), "stylegan-faces", "stylegan-faces-gate"]


def oracle(content: bytes, z: Tensor, at_once: int) -> Tensor:
    """What onnxruntime makes of the latents ``z``, ``at_once`` at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    run = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = run.get_inputs()[0].name
    return torch.cat([torch.from_numpy(run.run(None, {name: part.numpy()})[0]) for part in z.split(at_once)])


@torch.no_grad()
def made(reading: Reading, z: Tensor) -> Tensor:
    return reading.module(z)


def export(module: nn.Module, shape: tuple[int, ...], exporter: str, batch: int = 4, frozen: bool = False) -> bytes:
    """``module`` as people export it: by the exporter called "dynamo", or by the older one, "script"."""
    content, z = io.BytesIO(), torch.randn(batch, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            free = None if frozen else ({0: torch.export.Dim("n")},)
            how: dict[str, Any] = {"dynamo": True, "optimize": False, "verbose": False, "dynamic_shapes": free}
            torch.onnx.export(module.eval(), (z,), **how).save(content)  # type: ignore[union-attr]
        else:
            axes = None if frozen else {"z": {0: "n"}}
            torch.onnx.export(module.eval(), (z,), content, dynamo=False, input_names=["z"], dynamic_axes=axes)
    return content.getvalue()


def layers(module: nn.Module, z: Tensor) -> Any:
    with torch.no_grad(), OpTracer(module) as seen:
        module(z)
    found = [(one.kind, one.inputs, one.outputs, one.weights) for one in seen.layers]
    return found, seen.conditions, seen.logits is None


WAYS = (("dynamo", False), ("script", False), ("script", True))
EXPORTS = [(name, *way) for name in [*NETWORKS, *OURS] for way in WAYS] + [("residual", "dynamo", True)]
QUICK = [("dcgan-fashion-gate", "script", False), ("dcgan-fashion-rex", "script", True), ("residual", "dynamo", False)]
QUICK += [("tutorial", "dynamo", False), *(("dense", *way) for way in WAYS[1:]), ("wave", "script", False)]


@pytest.mark.parametrize(
    ("name", "exporter", "frozen"),
    [pytest.param(*one, marks=() if one in QUICK else pytest.mark.nightly) for one in EXPORTS],
)
def test_an_export_makes_what_onnxruntime_makes_of_it_and_has_the_native_layers(
    name: str, exporter: str, frozen: bool
) -> None:
    module, shape = network(name) if name in NETWORKS else ((ours := zoo.load(name)), (ours.latent_dim,))
    batch = 1 if frozen else 4
    content = export(module, shape, exporter, batch, frozen)
    reading = read(content)
    assert reading.latent_shape == shape and "pytorch" in reading.notes[0] and "opset" in reading.notes[0]
    assert not isinstance(reading.module, InPieces)
    z = torch.randn(8, *shape, generator=torch.Generator().manual_seed(3))
    close(made(reading, z), oracle(content, z, batch))
    close(made(reading, z[:3]), made(reading, z)[:3])
    assert layers(reading.module, z) == layers(module, z)
    if not frozen and (name == "tutorial" or exporter == "script") and not name.startswith(("residual", "stylegan")):
        adopted = generators.adopt(reading.module, latent_shape=shape)
        chain = adopted.chain()
        assert chain is not None and chain.squash == "tanh" and adopted.foldable()


class Grouped(nn.Module):
    """Has the size of its batch in it, as the grouped convolutions of StyleGAN2 do: it only runs in pieces."""

    def forward(self, z: Tensor) -> Tensor:
        n = int(z.shape[0])
        start = torch.linspace(0, 1, 75).reshape(3, 5, 5).repeat(n, 1, 1)[None]
        return functional.conv2d(start, z.reshape(n * 2, 3, 1, 1), groups=n).reshape(n, 2, 5, 5)


class Mixing(nn.Module):
    """Runs with any number of latents, but makes something else of each then."""

    def forward(self, z: Tensor) -> Tensor:
        return z * 2 - z.mean(0)


def test_a_batch_that_is_frozen_is_rewritten_or_runs_in_pieces() -> None:
    for frozen, module, shape in (
        (1, Grouped(), (6,)),
        (3, Grouped(), (6,)),
        (3, Mixing(), (6,)),
        (16, *network("dense")),
    ):
        content = export(module, shape, "script", frozen, frozen=True)
        reading = read(content)
        assert isinstance(reading.module, InPieces) == ("in pieces" in reading.notes[-1]) == (frozen < 16)
        assert f"{frozen} latent" in reading.notes[-1]
        z = torch.randn(16 if frozen == 16 else 9, *shape)
        close(made(reading, z), oracle(content, z, frozen))
        few = 3 if isinstance(module, Mixing) else 5
        close(made(reading, z[:few]), made(reading, z)[:few])


# --- operator by operator


def nodes(text: str) -> list[Any]:
    """Operators from ``"Split z sizes > a b axis=1; Add a - > y"``: inputs, outputs, and attributes as JSON."""
    found = []
    for line in filter(str.strip, text.split(";")):
        (kind, *inputs), said = (part.split() for part in line.split(" > "))
        outputs = [word for word in said if "=" not in word]
        how = {name: json.loads(value) for name, _, value in (word.partition("=") for word in said if "=" in word)}
        found.append(helper.make_node(kind, ["" if one == "-" else one for one in inputs], outputs, **how))
    return found


def info(name: str, *shape: Any, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def model(graph: Any, shape: tuple[Any, ...] = ("n", 4), weights: Any = None, opset: int = 21, **more: Any) -> Any:
    """A graph from ``z`` to ``y``, of nodes or of their text; ``weights`` are its initialisers."""
    parts = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    ends = more.pop("inputs", [info("z", *shape)]), more.pop("outputs", [helper.make_tensor_value_info("y", 1, None)])
    whole_graph = helper.make_graph(nodes(graph) if isinstance(graph, str) else graph, "graph", *ends, parts)
    opsets = [helper.make_opsetid("", opset), *more.pop("domains", [])]
    return helper.make_model(whole_graph, opset_imports=opsets, ir_version=8 if opset < 21 else 10, **more)


def floats(*shape: int) -> Any:
    return np.random.default_rng(sum(shape) + len(shape)).standard_normal(shape).astype(np.float32)


def whole(*numbers: int) -> Any:
    return np.array(numbers, dtype=np.int64)


def case(name: str, *inputs: Any, shape: tuple[int, ...] = (4, 6, 6), opset: int = 21, **how: Any) -> Any:
    """An operator on latents ``[n, *shape]``, further inputs (arrays, or None for an empty one) and attributes."""
    weights = {f"w{i}": value for i, value in enumerate(inputs) if value is not None}
    names = ["z", *(f"w{i}" if value is not None else "" for i, value in enumerate(inputs))]
    return name, shape, names, weights, how, opset


vector, sound = partial(case, shape=(8,)), partial(case, shape=(4, 9))
SCALES, UNEVEN = np.float32([1, 1, 2, 2]), np.float32([1, 1, 1.5, 2.5])
PLACES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
TWICE, EVEN, UNEVEN_PADS = {"strides": [2, 2]}, [1, 1, 1, 1], ([1, 1, 2, 2], [2, 2, 1, 1], [3, 2, 0, 1])
POINTWISE = "Relu Selu Mish Softplus HardSwish Softsign Abs Neg Sin Cos Erf Sign Floor Ceil Round Tanh Sigmoid Exp"
REDUCE = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2")
CASES = [
    *(vector(name) for name in POINTWISE.split()), case("LeakyRelu", alpha=0.3), case("Elu", alpha=1.5),
    case("Celu", alpha=1.5), case("Gelu"), case("Gelu", approximate="tanh"), case("HardSigmoid", alpha=0.25),
    case("ThresholdedRelu", alpha=0.5), case("PRelu", floats(4, 1, 1)), vector("PRelu", floats(8)),
    case("PRelu", floats(6, 6)), case("Clip", np.float32(-0.5), np.float32(0.5)), case("Clip", np.float32(0)),
    case("Clip", np.float32(0), np.float32(6)), case("Clip", opset=10, min=-1.0, max=0.25),
    *(vector(name, floats(8)) for name in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean")),
    vector("Max", np.float32(0)), vector("Pow", np.float32(3)), vector("Mod", np.float32(0.7), fmod=1),
    *(case(name, axes=[1, 3], opset=13) for name in REDUCE), case("ReduceSumSquare", opset=13, axes=[1], keepdims=0),
    case("ReduceSum", whole(1, 2), keepdims=0), case("ReduceMean", whole(-1)),
    case("ReduceSum", whole(), noop_with_empty_axes=1), vector("MatMul", floats(8, 5)), sound("MatMul", floats(9, 5)),
    sound("MatMul", floats(1, 9, 2)), vector("Gemm", floats(8, 5), floats(5), alpha=0.5, beta=2.0),
    vector("Gemm", floats(5, 8), transB=1), vector("Gemm", floats(5, 8), np.float32(0.5), transB=1),
    sound("Einsum", floats(9, 3), equation="ncl,lk->nck"), case("Conv", floats(6, 4, 3, 3), floats(6), pads=EVEN),
    case("Conv", floats(6, 4, 3, 3), pads=[0, 1, 2, 1], strides=[2, 1]),
    case("Conv", floats(4, 2, 3, 3), floats(4), group=2, dilations=[2, 1]),
    *(case("Conv", floats(6, 4, 4, 4), auto_pad=pad, **TWICE) for pad in ("SAME_UPPER", "SAME_LOWER", "VALID")),
    sound("Conv", floats(6, 4, 3), floats(6), pads=[2, 2]),
    case("ConvTranspose", floats(4, 5, 4, 4), floats(5), pads=EVEN, **TWICE),
    case("ConvTranspose", floats(4, 5, 3, 3), floats(5), pads=EVEN, output_padding=[1, 1], **TWICE),
    *(case("ConvTranspose", floats(4, 5, 5, 5), floats(5), pads=pads, **TWICE) for pads in UNEVEN_PADS),
    case("ConvTranspose", floats(4, 5, 5, 5), floats(5), output_shape=[12, 12], **TWICE),
    *(case("ConvTranspose", floats(4, 5, 5, 4), auto_pad=pad, **TWICE) for pad in ("SAME_UPPER", "SAME_LOWER")),
    case("ConvTranspose", floats(4, 3, 3, 3), floats(6), group=2, dilations=[2, 2]),
    sound("ConvTranspose", floats(4, 3, 25), floats(3), strides=[4], pads=[11, 11], output_padding=[1]),
    case("GlobalAveragePool"), case("GlobalMaxPool"), case("MaxPool", kernel_shape=[3, 3], pads=EVEN, **TWICE),
    case("MaxPool", kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
    case("AveragePool", kernel_shape=[3, 3], pads=EVEN, **TWICE),
    case("AveragePool", kernel_shape=[2, 2], pads=[0, 0, 1, 1], count_include_pad=1),
    sound("AveragePool", kernel_shape=[2], strides=[2]),
    case("BatchNormalization", floats(4), floats(4), floats(4), floats(4) ** 2, epsilon=1e-3),
    vector("BatchNormalization", floats(8), floats(8), floats(8), floats(8) ** 2),
    case("InstanceNormalization", floats(4), floats(4)), case("LayerNormalization", floats(6), floats(6)),
    case("LayerNormalization", floats(4, 6, 6), axis=1), case("GroupNormalization", floats(4), floats(4), num_groups=2),
    case("Softmax", axis=1), case("Softmax", opset=11, axis=2), case("LogSoftmax"), case("Reshape", whole(0, -1, 12)),
    vector("Reshape", whole(-1, 2, 2, 2)), case("Flatten"), case("Transpose", perm=[0, 2, 3, 1]),
    case("Unsqueeze", whole(1, -1)), case("Unsqueeze", opset=11, axes=[2]),
    case("Squeeze", whole(1, 3), shape=(1, 5, 1)), case("Squeeze", shape=(1, 5, 1)),
    vector("Concat", np.zeros((0, 8), np.float32), axis=0),
    case("Slice", whole(1, -4), whole(2**62, -1), whole(1, 3), whole(1, 2)),
    case("Slice", whole(-1), whole(-(2**63)), whole(2), whole(-2)),
    case("Slice", opset=9, starts=[1], ends=[3], axes=[1]), case("Gather", np.int64(-1), axis=1),
    case("Gather", np.array([[2, 0], [1, -1]]), axis=2), case("Expand", whole(1, 4, 1), shape=(1, 6)),
    case("Tile", whole(1, 2, 1, 3)),
    *(case("Pad", whole(0, 0, 1, 2, 0, 0, 2, 1), mode=mode) for mode in ("constant", "reflect", "edge")),
    case("Pad", whole(0, 0, 1, 2, 0, 0, -2, 1), np.float32(0.5)), case("Pad", whole(1, 2), None, whole(-1)),
    case("Pad", opset=10, pads=[0, 1, 0, 0, 0, 0, 0, 2], value=2.0), case("DepthToSpace", blocksize=2),
    case("DepthToSpace", blocksize=2, mode="CRD"), case("SpaceToDepth", blocksize=2), case("Identity"), case("Dropout"),
    case("Upsample", SCALES, opset=9), case("InstanceNormalization", floats(4), floats(4), epsilon=0.5),
    case("LayerNormalization", floats(6), floats(6), epsilon=0.5),
    case("GroupNormalization", floats(4), floats(4), num_groups=2, epsilon=0.5),
    case("Upsample", SCALES, opset=9, mode="linear"), case("Resize", SCALES, opset=10),
    *(
        case("Resize", None, scales, coordinate_transformation_mode=place, **how)
        for scales, place in product((SCALES, UNEVEN), PLACES)
        for how in ({"mode": "linear"}, {"nearest_mode": "floor"}, {"nearest_mode": "round_prefer_floor"})
    ),
    case("Resize", None, UNEVEN, nearest_mode="ceil", coordinate_transformation_mode="asymmetric"),
    case("Resize", None, UNEVEN, nearest_mode="round_prefer_ceil"), case("Resize", None, SCALES, mode="cubic"),
    case("Resize", None, SCALES, mode="cubic", coordinate_transformation_mode="align_corners"),
    case("Resize", None, None, whole(9, 3), axes=[2, 3], mode="linear"),
]  # fmt: skip


def alone(name: str, shape: tuple[int, ...], inputs: list[str], weights: Any, how: dict[str, Any], opset: int) -> Any:
    graph = [helper.make_node(name, inputs, ["x"], **how), *nodes("Identity x > y")]
    return model(graph, ("n", *shape), weights, opset)


def test_each_operator_makes_what_onnxruntime_makes_of_it() -> None:
    for name, shape, inputs, weights, how, opset in CASES:
        content = alone(name, shape, inputs, weights, how, opset).SerializeToString()
        z = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
        reading = read(content)
        assert not isinstance(reading.module, InPieces), (name, how)
        close(made(reading, z), oracle(content, z, 5), msg=lambda said, told=(name, opset, how): f"{told}: {said}")


FILLED = nodes("Shape z > s start=0 end=1; Concat s three > t axis=0; ConstantOfShape t > c; Concat z c > y axis=1")
FILLED[2].attribute.append(helper.make_attribute("value", helper.make_tensor("v", TensorProto.FLOAT, [1], [2.5])))
HALF = "Cast z > h to=10; MatMul h w > m; CastLike m z > y"
AT_HALF = {"half": np.float32(0.5)}
GRAPHS: list[tuple[Any, dict[str, Any]]] = [
    ("Shape z > s; Gather s zero > n; Unsqueeze n axis > n1; Concat n1 two > t axis=0; Cast t > i to=6;"
     "Cast i > l to=7; Reshape z l > y", {"zero": np.int64(0), "axis": whole(0), "two": whole(2, 2)}),
    (FILLED, {"three": whole(3)}),
    ("Greater z half > a; LessOrEqual z half > b; Or a b > c; Not b > d; And c d > e; Where e z half > y", AT_HALF),
    ("Less z half > a; GreaterOrEqual z half > b; Cast a > c to=1; Cast b > d to=1; Sub c d > e; Mul e z > y", AT_HALF),
    ("Range a b c > r; Cast r > f to=1; Div f four > g; Mul z g > y",
     {"a": np.int64(0), "b": np.int64(8), "c": np.int64(2), "four": np.float32(4)}),
    ("Split z sizes > a b axis=1; Concat b a b > y axis=1", {"sizes": whole(1, 3)}),
    ("Split z > a b c axis=1 num_outputs=3; Concat c b a > y axis=1", {}),
    ("Mul z z > q; Add q tiny > e; Sqrt e > r; Reciprocal r > i; Log i > y", {"tiny": np.float32(1e-8)}),
    (HALF, {"w": (floats(4, 3) * 4).round().astype(np.float16) / 4}),
    ("Constant > a value_float=0.5; Constant > b value_floats=[1.0,2.0,3.0,4.0]; Constant > i value_ints=[0,3];"
     "Mul b a > c; Add z c > d; Gather d i > y axis=1", {}),
    ("Equal z z > t; Cast t > i to=7; Size w > size; Sub size one > last; Mod i last > j; Gather w j > g;"
     "Add g z > y", {"w": floats(4), "one": np.int64(1)}),
]  # fmt: skip


def test_small_graphs_make_what_onnxruntime_makes_of_them() -> None:
    compared, z = {one[0] for one in CASES}, torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    for graph, weights in GRAPHS:
        whole_model, half = model(graph, weights=weights), graph == HALF  # it is computed in float32 here
        compared |= {one.op_type for one in whole_model.graph.node}
        content = whole_model.SerializeToString()
        reading, atol = read(content), 2e-2 if half else 1e-4
        close(made(reading, z), oracle(content, z, 6), atol=atol, msg=lambda said, told=graph: f"{told}: {said}")
        assert any("half precision" in note for note in reading.notes) == half
    assert set(OPERATORS) == compared  # each one that is read is compared


def test_of_several_outputs_the_first_of_floats_is_taken_and_said() -> None:
    outputs = [info("s", None, kind=7), helper.make_tensor_value_info("y", 1, None), info("a")]
    reading = read(model("Shape z > s; Neg z > y; Abs z > a", outputs=outputs).SerializeToString())
    assert any("3 outputs" in note and "'y'" in note for note in reading.notes)
    close(made(reading, torch.ones(2, 4)), -torch.ones(2, 4))


def test_a_bias_and_a_silu_are_what_the_network_was_written_with() -> None:
    weights = {"body.weight": floats(4, 3), "bias": floats(3)}
    graph = "MatMul z body.weight > a; Add bias a > b; Sigmoid b > c; Mul b c > d; Add d b > y"
    reading = read(model(graph, weights=weights).SerializeToString())
    with OpTracer(reading.module) as tracer:
        reading.module(torch.randn(2, 4))
    assert [(layer.name, layer.weights) for layer in tracer.layers] == [("body", 12)]
    assert len(tracer.activations) == 1 and tracer.logits is None
    (layer,) = (one for one in reading.module.modules() if isinstance(one, nn.Linear))
    assert layer.bias.tolist() == floats(3).tolist()


# --- what is refused


def one(kind: str, *weights: Any, shape: tuple[Any, ...] = ("n", 4), makes: str = "y", **how: Any) -> Any:
    """A graph of one operator on the latents and ``weights``."""
    _, _, names, given, _, _ = case(kind, *weights)
    return model([helper.make_node(kind, names, makes.split(), **how)], shape, given)


def stored(edit: Callable[[Any], object] = id, **fields: Any) -> Any:
    """``y = z + w``, where the fields of the tensor ``w`` are what the test sets; ``edit`` may change the graph."""
    fields = fields or {"dims": [1], "float_data": [1.0]}
    found = model("Add z w > y")
    tensor = found.graph.initializer.add(name="w", data_type=fields.pop("data_type", TensorProto.FLOAT))
    for name, value in fields.items():
        getattr(tensor, name).extend(value) if isinstance(value, list) else setattr(tensor, name, value)
    edit(found.graph)
    return found


def grown(text: str, **weights: Any) -> Any:
    """A graph whose ``big`` is added to the latents."""
    return model(f"{text}; ReduceMax big > m; Add z m > y", weights=weights)


BRANCH = helper.make_graph(nodes("Relu z > b"), "branch", [], [info("b", "n", 4)])
FUNCTION = helper.make_function("own", "Own", ["a"], ["b"], nodes("Relu a > b"), [helper.make_opsetid("", 21)])
OWN = {"domains": [helper.make_opsetid("own", 1)], "functions": [FUNCTION]}
COUNTING = "Size z > s; Equal s four > b; Cast b > c to=1; Mul z c > m; Add z m > y"  # twice as much of a single one
DOUBLED = ";".join(f"Concat c{i} c{i} > c{i + 1} axis=0" for i in range(60))  # a kilobyte that would take terabytes
STEPS = {"a": np.int64(0), "b": np.int64(10**12), "c": np.int64(1)}
REFUSED: list[tuple[Any, str]] = [  # a model, and what the refusal names
    (model("Relu a > y; Relu y > a"), "'a'"), (model("Relu z > y; Relu z > y"), "'y' twice"),
    (model("Relu no > y"), "'no'"), (one("Loop", body=BRANCH), "Loop"), (one("Transpose"), "one sample"),
    (stored(dims=[10**9], raw_data=b"1234"), "'w' 1000000000 1"), (one("Tile", whole(1, 10**10)), "numbers; at most"),
    (one("Pad", whole(0, 10**9, 0, 10**9)), "numbers; at most"),
    (model("Expand z s > a; Transpose a > b perm=[1,0,2]; Mul a b > y", weights={"s": whole(10**6, 1, 4)}), "at most"),
    (model("Relu z > z"), "'z' twice"), (one("Leakyrelu"), "'Leakyrelu' 'LeakyRelu'"),
    (one("Gelu", domain="com.microsoft"), "'Gelu' 'com.microsoft'"),
    (model([helper.make_node("Own", ["z"], ["y"], domain="own")], **OWN), "functions"),
    (model(COUNTING, weights={"four": np.int64(4)}), "depends many"),
    (model(f"Cast z > i to={TensorProto.UINT32}; Cast i > y to=1"), "Cast sign"),
    (one("Selu", gamma=100.0), "Selu gamma"), (one("If", then_branch=BRANCH, else_branch=BRANCH), "If"),
    (one("Relu", body=BRANCH), "Relu 'body'"), (one("RandomNormalLike"), "RandomNormalLike"),
    (model(""), "no operators"), (model("Relu z > y", opset=6), "6; 7 25"), (model("Relu z > y", opset=26), "26; 7 25"),
    (model(nodes("Relu z > y") * 20_001), "20,001 20,000"),
    (model("Add z c > y", inputs=[info("z", "n", 4), info("c", "n", 4)]), "2 'z', 'c'"),
    (model("Constant > y value_float=1.0", inputs=[]), "0 inputs"),
    (model("Relu z > y", outputs=[info("other")]), "output"),
    (model("Relu z > y", outputs=[info("y", kind=7)]), "float output"),
    (model("Shape z > s; Cast s > y to=1"), "depend"),
    (model("Relu z > y", inputs=[info("z", "n", 4, kind=7)]), "'z' float"), (one("Relu", shape=("n", "d")), "'z'"),
    (one("Relu", shape=(4,)), "'z' [4]"), (one("Relu", shape=("n", 0)), "'z' 0"),
    (one("Relu", shape=("n", 70_000)), "70,000 65,536"), (one("Relu", shape=(10**6, 4)), "1,000,000 1,024"),
    (one("ReduceSum", whole(0)), "one sample"), (one("ReduceSum", whole(0), shape=(2, 4)), "one sample"),
    (one("Conv", floats(2, 2, 3), shape=("n", 2, 9), auto_pad="?"), "Conv auto_pad"),
    (one("Relu", makes="y a"), "Relu 1 2"), (stored(dims=[2**62, 4], float_data=[1.0]), "'w' 1"),
    (stored(dims=[-1], float_data=[1.0]), "'w' -1"), (stored(dims=[4], raw_data=b"1" * 15), "'w' [4]"),
    (stored(dims=[1] * 40, float_data=[1.0]), "'w'"),
    (stored(dims=[1], data_type=TensorProto.STRING, string_data=[b"x"]), "'w' 8"),
    (model('Constant > t value_string="x"; Relu z > y'), "text"), (one("MatMul", floats(4, 3) * np.nan), "'w0' finite"),
    (one("BatchNormalization", *[floats(4)] * 4, makes="y a b", training_mode=1), "training eval()"),
    (one("Dropout", None, np.array(True)), "training eval()"), (one("MatMul", floats(5, 2)), "MatMul"),
    (model("Cast z > i to=7; Reshape z i > y"), "Reshape"), (one("Gather", whole(9), axis=1), "index 4"),
    (one("MatMul"), "MatMul 2"), (one("Reshape", np.ones(10_001, np.int64)), "Reshape 10,001"),
    (grown("ConstantOfShape s > big", s=whole(10**6, 10**6)), "1,000,000,000,000"),
    (one("Expand", whole(10**9, 1, 1)), "numbers; at most"), (grown("Range a b c > big", **STEPS), "Range 10,000,000"),
    (one("Resize", None, np.float32([1, 1, 1e5, 1e5]), shape=("n", 1, 2, 2)), "Resize"),
    (one("Expand", whole(2**40, 2**40, 4)), "Expand"),
    (grown(f"{DOUBLED}; Identity c60 > big", c0=np.ones(4, np.int8)), "100,000,000"),
    (one("a\n\x1b[31m\u202e" + "A" * 9000), str(len(OPERATORS))),
    (stored(dims=[4], data_location=TensorProto.EXTERNAL), "'w' external_data=False"),
    (stored(lambda graph: graph.initializer[0].external_data.add(key="location")), "'w' external_data=False"),
    (stored(lambda graph: graph.sparse_initializer.add()), "sparse"),
    (stored(lambda graph: graph.initializer.append(graph.initializer[0])), "'w' twice"),
]  # fmt: skip


def test_what_cannot_be_read_is_refused_in_a_sentence() -> None:
    for graph, names in REFUSED:
        assert refused(names, partial(read, graph.SerializeToString()), *names.split())[-1] in ".?", names


@pytest.fixture(scope="module")
def small() -> list[bytes]:
    """Files with most of their bytes in the graph, not in weights."""
    models = [*(alone(*one) for one in CASES), *(model(graph, weights=weights) for graph, weights in GRAPHS)]
    return [one.SerializeToString() for one in models]


@pytest.mark.parametrize("numbers", [range(100), pytest.param(range(100, 1000), marks=pytest.mark.nightly)])
def test_a_mutated_file_is_read_or_refused(numbers: range, small: list[bytes]) -> None:
    for seed in numbers:
        draw = random.Random(seed)
        content = bytearray(draw.choice(small))
        for _ in range(draw.choice((1, 3, 30))):
            at, length = draw.randrange(len(content)), draw.randrange(1, 9)
            other = bytes([draw.randrange(256)]), bytes([content[at] ^ 1 << draw.randrange(8)]), draw.randbytes(length)
            kind = draw.randrange(4)  # another byte, another bit, bytes that are new, bytes that are gone
            content[at : at + (1, 1, 0, length)[kind]] = (*other, b"")[kind]
        try:
            assert math.prod(read(bytes(content)).latent_shape) <= 65_536
        except Refused as error:
            assert len(str(error)) <= 300 and str(error).isprintable()
