"""Files that want to do harm, or are merely broken: bytes of every format, from a seed.

``specimens`` are honest files of each format; ``broken`` changes one at random; ``HOSTILE`` are attacks by hand. Each
canary is a pickle that, run, would leave a file called ``canary`` in the current folder.
"""

import contextlib
import io
import json
import os
import pickle
import random
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from safetensors.torch import save
from torch import Tensor, nn

from devilgan_lite import generators

CANARY = "canary"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(200)
Make = Callable[[dict[str, bytes], random.Random], bytes]


class Canary:
    """Where somebody unpickles it, it opens a file for writing: no shell is needed."""

    def __reduce__(self) -> Any:
        return open, (CANARY, "w")


def network() -> nn.Sequential:
    """A small generator whose norms have seen latents."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.ConvTranspose2d(12, 16, 4, 1, 0, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.ConvTranspose2d(8, 1, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    for _ in range(20):
        module(torch.randn(64, 12, 1, 1))
    return module.eval()


def specimens(folder: Path) -> dict[str, bytes]:
    """An honest file of each format, by its ending."""
    from devilgan_lite.files.exporting import export

    module, dense = network(), generators.DCGAN(latent_dim=8, widths=(8, 4)).eval()
    found = {"safetensors": save(module.state_dict())}
    for name, old in (("pt", False), ("pth", True)):
        content = io.BytesIO()
        state = {"netG": module.state_dict(), "epoch": 3}
        torch.save(state, content, _use_new_zipfile_serialization=not old)
        found[name] = content.getvalue()
    for ending in ("onnx", "pt2"):
        export(module, (12, 1, 1), folder / f"a.{ending}", to=ending)
        export(dense, (8,), folder / f"b.{ending}", to=ending)
        found[ending] = (folder / f"a.{ending}").read_bytes()
        found[f"dense.{ending}"] = (folder / f"b.{ending}").read_bytes()
    with contextlib.suppress(ModuleNotFoundError):  # an extra
        found["keras"] = _keras(folder / "a.keras")
    return found


def _keras(path: Path) -> bytes:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    layers = keras.layers
    keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(7 * 7 * 4),
            layers.Reshape((7, 7, 4)),
            layers.Conv2DTranspose(4, 4, strides=2, padding="same"),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="tanh"),
        ]
    ).save(path)
    return path.read_bytes()


def broken(content: bytes, other: bytes, dice: random.Random) -> bytes:
    """``content`` with one to four random changes."""
    data = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        at, size = dice.randrange(max(len(data), 1)), dice.choice((1, 2, 4, 8, 64, 1024))
        kind = dice.randrange(9)
        if dice.random() < 0.5:  # most of a file is numbers; its headers are at both ends
            at = dice.randrange(min(len(data), 2000) or 1) if dice.random() < 0.5 else max(0, len(data) - 1 - at % 2000)
        if kind == 0:
            data[at : at + 1] = bytes([dice.randrange(256)])
        elif kind == 1:
            data[at : at + size] = dice.randbytes(size)
        elif kind == 2:
            del data[at : at + size]
        elif kind == 3:
            data[at:at] = dice.randbytes(size)
        elif kind == 4:
            data[at:at] = data[at : at + size]
        elif kind == 5:
            del data[at:]
        elif kind == 6:
            data[at : at + 8] = struct.pack("<Q", dice.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)))
        elif kind == 7:
            data[at : at + size] = other[at : at + size]
        else:
            data[at : at + 4] = struct.pack("<f", dice.choice((float("nan"), float("inf"), -3e38, 1e-45)))
    return bytes(data)


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def zipped(files: dict[str, bytes] | list[tuple[str, bytes]], packed: bool = False) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, data in files.items() if isinstance(files, dict) else files:
            archive.writestr(name, data)
    return content.getvalue()


ARCHIVES = ("pt", "pt2", "dense.pt2", "keras")


def _archive(honest: dict[str, bytes], dice: random.Random) -> dict[str, bytes]:
    return members(honest[dice.choice([name for name in ARCHIVES if name in honest])])


def canary_in_member(honest: dict[str, bytes], dice: random.Random) -> bytes:
    """Some member is replaced by a pickle that sings."""
    files = _archive(honest, dice)
    payload = pickle.dumps(Canary(), protocol=dice.choice((2, 4)))
    wrapped = io.BytesIO()
    torch.save({"a": Canary()}, wrapped)
    picked = dice.choice(sorted(files))
    files[picked] = dice.choice((payload, wrapped.getvalue()))
    return zipped(files)


def canary_alone(honest: dict[str, bytes], dice: random.Random) -> bytes:
    content = io.BytesIO()
    held = dice.choice(({"netG": Canary()}, [Canary()], {"a": torch.zeros(2), "b": Canary()}))
    if dice.random() < 0.5:
        torch.save(held, content, _use_new_zipfile_serialization=dice.random() < 0.5)
        return content.getvalue()
    return pickle.dumps(held, protocol=dice.choice((2, 3, 4, 5)))


def swapped_members(honest: dict[str, bytes], dice: random.Random) -> bytes:
    files = _archive(honest, dice)
    a, b = dice.sample(sorted(files), 2)
    files[a], files[b] = files[b], files[a]
    return zipped(files)


def member_of_another(honest: dict[str, bytes], dice: random.Random) -> bytes:
    files, others = _archive(honest, dice), _archive(honest, dice)
    files[dice.choice(sorted(files))] = others[dice.choice(sorted(others))]
    return zipped(files)


def renamed_member(honest: dict[str, bytes], dice: random.Random) -> bytes:
    files = _archive(honest, dice)
    name = dice.choice(sorted(files))
    files[dice.choice(("../" * 9 + "tmp/escaped", "/tmp/escaped", "C:\\escaped", "a\\..\\..\\b", "x" * 900))] = files[
        name
    ]
    return zipped(files)


def bomb(honest: dict[str, bytes], dice: random.Random) -> bytes:
    files = _archive(honest, dice)
    files[dice.choice(sorted(files))] = bytes(dice.choice((2**24, 2**26)))
    return zipped(files, packed=True)


def nested(honest: dict[str, bytes], dice: random.Random) -> bytes:
    content = honest["pt"]
    for _ in range(dice.randint(1, 30)):
        content = zipped({"archive/data.pkl": content, "archive/version": b"3"}, packed=True)
    return content


def many_members(honest: dict[str, bytes], dice: random.Random) -> bytes:
    return zipped([(f"a/{k}", b"") for k in range(dice.choice((500, 12_000)))] + [("a/data.pkl", b"x")])


def twice_the_same(honest: dict[str, bytes], dice: random.Random) -> bytes:
    files = list(_archive(honest, dice).items())
    return zipped([*files, dice.choice(files)])


def deep_json(honest: dict[str, bytes], dice: random.Random) -> bytes:
    files = _archive(honest, dice)
    name = dice.choice([name for name in files if name.endswith(".json")] or sorted(files))
    depth = dice.choice((500, 100_000))
    files[name] = dice.choice(
        (b"[" * depth + b"]" * depth, b'{"a":' * depth, b"{}", b"[]", b"null", b'"' + b"x" * depth)
    )
    return zipped(files)


def edited_json(honest: dict[str, bytes], dice: random.Random) -> bytes:
    """A number, text or list somewhere in a JSON member becomes something else."""
    files = members(honest[dice.choice([name for name in ("pt2", "dense.pt2", "keras") if name in honest])])
    name = dice.choice([name for name in files if name.endswith(".json")])
    try:
        content = json.loads(files[name])
    except ValueError:
        return zipped(files)
    places = list(_places(content))
    for _ in range(dice.randint(1, 3)):
        holder, key = dice.choice(places)
        holder[key] = dice.choice(
            (0, -1, 10**9, 2**63, 1e308, float("nan"), "", "x" * 5000, None, True, [], {}, [10**9] * 3)
        )
    files[name] = json.dumps(content).encode()
    return zipped(files)


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    pending = [content]
    while pending:
        one = pending.pop()
        for key in one if isinstance(one, dict) else range(len(one)):
            yield one, key
            if isinstance(one[key], (dict, list)):
                pending.append(one[key])


def safetensors_header(honest: dict[str, bytes], dice: random.Random) -> bytes:
    size = int.from_bytes(honest["safetensors"][:8], "little")
    header, rest = json.loads(honest["safetensors"][8 : 8 + size]), honest["safetensors"][8 + size :]
    name = dice.choice([key for key in header if key != "__metadata__"])
    kind = dice.randrange(6)
    if kind == 0:
        header[name]["shape"] = dice.choice(([10**9], [10**9, 10**9], [0], [-1], [2**63], []))
    elif kind == 1:
        header[name]["data_offsets"] = dice.choice(([0, 2**62], [-4, 4], [8, 4], [0, 0]))
    elif kind == 2:
        header[name]["dtype"] = dice.choice(("F64", "U8", "C64", "X9", "BOOL"))
    elif kind == 3:
        header[dice.choice(("\u202egnp.exe", "<script>alert(1)</script>", "x" * 100_000, "\x1b[31m"))] = header.pop(
            name
        )
    elif kind == 4:
        return struct.pack("<Q", dice.choice((2**63, 2**40, 10**8, len(honest["safetensors"])))) + b"{" + bytes(99)
    else:
        header["__metadata__"] = dice.choice(({"a": "x" * 10**6}, {"a": 1}, [], "x"))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def not_finite(honest: dict[str, bytes], dice: random.Random) -> bytes:
    state = network().state_dict()
    name = dice.choice([key for key, value in state.items() if value.is_floating_point()])
    state[name].view(-1)[0] = dice.choice((float("nan"), float("inf"), -3e38))
    content = io.BytesIO()
    torch.save(state, content)
    return dice.choice((save(state), content.getvalue()))


def claims_more(honest: dict[str, bytes], dice: random.Random) -> bytes:
    content, held = io.BytesIO(), torch.zeros(1)
    state: dict[str, Tensor] = {f"main.{k}.weight": held.expand(10**5, 10**5, 4, 4) for k in range(3)}
    torch.save(state, content)
    return content.getvalue()


def no_generator(honest: dict[str, bytes], dice: random.Random) -> bytes:
    content, module = io.BytesIO(), nn.Sequential(nn.Conv2d(3, 8, 4), nn.Linear(8, 10))
    torch.save(dice.choice((module.state_dict(), torch.optim.Adam(module.parameters()).state_dict(), [1, 2])), content)
    return dice.choice((content.getvalue(), PNG, b"", b"<!doctype html>", zipped({"a.png": PNG}), dice.randbytes(500)))


def onnx_graph(honest: dict[str, bytes], dice: random.Random) -> bytes:
    """Small graphs, each with something wrong."""
    many = TensorProto.FLOAT
    shape, latent = (
        dice.choice(([10**9, 10**9], [2**40], [12, 16])),
        helper.make_tensor_value_info("z", many, ["n", 12]),
    )
    nodes = [helper.make_node("MatMul", ["z", "w"], ["x"]), helper.make_node("Tanh", ["x"], ["y"])]
    weights = [helper.make_tensor("w", many, [12, 16], np.zeros(192, dtype=np.float32))]
    kind = dice.randrange(11)
    if kind == 0:
        nodes = [helper.make_node("Add", ["b", "z"], ["a"]), helper.make_node("Add", ["a", "z"], ["b"])]
        nodes.append(helper.make_node("Tanh", ["b"], ["y"]))
    elif kind == 1:
        del weights[0].dims[:]
        weights[0].dims.extend(shape)
    elif kind == 2:
        nodes[0] = helper.make_node(dice.choice(("Exec", "x" * 5000, "Loop", "PyOp")), ["z", "w"], ["x"])
    elif kind == 3:
        weights[0].data_location = TensorProto.EXTERNAL
        weights[0].external_data.add(key="location", value=dice.choice(("/etc/passwd", "../../x", "w.bin")))
    elif kind == 4:
        weights.append(helper.make_tensor("s", TensorProto.INT64, [2], [10**9, 10**9]))
        nodes = [helper.make_node("ConstantOfShape", ["s"], ["x"]), helper.make_node("Tanh", ["x"], ["y"])]
    elif kind == 5:
        weights.append(helper.make_tensor("s", TensorProto.INT64, [2], [10**5, 10**7]))
        nodes.insert(1, helper.make_node(dice.choice(("Tile", "Expand", "Reshape")), ["x", "s"], ["t"]))
        nodes[2].input[0] = "t"
    elif kind == 6:
        nodes += [helper.make_node("Concat", ["y", "y"], [f"y{k}"], axis=1) for k in range(2)]
        for k in range(40):  # doubles forty times
            nodes.append(helper.make_node("Concat", [f"d{k}" if k else "y"] * 2, [f"d{k + 1}"], axis=1))
        nodes.append(helper.make_node("Identity", ["d40"], ["last"]))
    elif kind == 7:
        inner = helper.make_graph(nodes, "then", [], [helper.make_tensor_value_info("y", many, None)])
        nodes = [helper.make_node("If", ["z"], ["y"], then_branch=inner, else_branch=inner)]
    elif kind == 8:
        nodes = [helper.make_node("Identity", ["z" if k == 0 else f"i{k}"], [f"i{k + 1}"]) for k in range(30_000)]
        nodes.append(helper.make_node("Tanh", ["i30000"], ["y"]))
    elif kind == 9:
        nodes[0].name = nodes[0].domain = dice.choice(("<script>", "\u202e", "x" * 10_000))
    else:
        weights.append(helper.make_tensor("s", TensorProto.INT64, [4], [1, 1, 10**5, 10**5]))
        nodes[1:] = [helper.make_node("Resize", ["x", "", "", "s"], ["y"])]
    last = helper.make_tensor_value_info("last" if kind == 6 else "y", many, None)
    graph = helper.make_graph(nodes, "g", [latent], [last], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def onnx_edited(honest: dict[str, bytes], dice: random.Random) -> bytes:
    """An honest graph with names, attributes and sizes changed."""
    model = onnx.load_model_from_string(honest[dice.choice(("onnx", "dense.onnx"))])
    nodes = model.graph.node
    for _ in range(dice.randint(1, 4)):
        node = nodes[dice.randrange(len(nodes))]
        kind = dice.randrange(6)
        if kind == 0 and node.input:
            node.input[dice.randrange(len(node.input))] = dice.choice(
                [nodes[-1].output[0], "nowhere", node.output[0], ""]
            )
        elif kind == 1 and node.attribute:
            one = node.attribute[dice.randrange(len(node.attribute))]
            one.i, one.f = dice.choice((-1, 0, 10**9, 2**62)), dice.choice((float("nan"), 1e38))
            one.ints[:] = [dice.choice((-1, 0, 7, 10**9, 2**62)) for _ in one.ints]
        elif kind == 2:
            node.op_type = dice.choice(
                ("Gemm", "Conv", "Reshape", "Pad", "Slice", "Gather", "Split", "Transpose", "Where")
            )
        elif kind == 3 and model.graph.initializer:
            one = model.graph.initializer[dice.randrange(len(model.graph.initializer))]
            one.dims[:] = [dice.choice((0, 1, 10**9, -1, 2**62)) for _ in one.dims]
        elif kind == 4:
            del nodes[dice.randrange(len(nodes))]
        else:
            nodes.insert(dice.randrange(len(nodes)), nodes[dice.randrange(len(nodes))])
    return model.SerializeToString()


HOSTILE: dict[str, Make] = {
    make.__name__.replace("_", " "): make
    for make in (
        canary_in_member, canary_alone, swapped_members, member_of_another, renamed_member, bomb, nested, many_members,
        twice_the_same, deep_json, edited_json, safetensors_header, not_finite, claims_more, no_generator, onnx_graph,
        onnx_edited,
    )
}  # fmt: skip


def one(honest: dict[str, bytes], index: int, seed: int) -> tuple[str, bytes]:
    """The file of this number and ``seed``: every second one is honest but for random changes, the others are made."""
    dice, kinds = random.Random(f"{seed}-{index}"), sorted(HOSTILE)
    if index % 2:
        name = kinds[(index // 2) % len(kinds)]
        return name, HOSTILE[name](honest, dice)
    name = sorted(honest)[(index // 2) % len(honest)]
    return f"broken {name}", broken(honest[name], honest[dice.choice(sorted(honest))], dice)


def write(honest: dict[str, bytes], numbers: Iterable[int], seed: int, folder: Path) -> list[tuple[str, Path]]:
    """Write the files of these ``numbers``; their kinds and paths."""
    warnings.simplefilter("ignore")  # zipfile warns of what is made on purpose
    found = []
    for index in numbers:
        name, content = one(honest, index, seed)
        path = folder / f"{index}.bin"
        path.write_bytes(content)
        found.append((name, path))
    return found
