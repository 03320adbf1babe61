"""The reader of ``.pt2``: the same samples as the network that was exported, and nothing hostile is ever run."""

import copy
import json
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from devilgan_lite import generators
from devilgan_lite.files import from_pt2
from devilgan_lite.files.aten_operations import OPERATORS
from devilgan_lite.files.batches import InPieces
from devilgan_lite.files.from_pt2 import read
from devilgan_lite.files.sniff import Refused
from tests.files.networks import Canary, Dense, differ, edited, network, pickled, refused, trained, with_json

GRAPH, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"
CONSTANTS, SAMPLES = "data/constants/model_constants_config.json", "data/sample_inputs/model.pt"
FIRST, SECOND = (f"data/weights/weight_{number}" for number in range(2))
WAYS: dict[str, dict[str, Any]] = {"any number": {}, "fixed": {"dynamic": False}, "decomposed": {"decomposed": True}}
WAYS["fixed at one"] = {"dynamic": False, "batch": 1}
nightly = pytest.mark.nightly


def save(
    module: nn.Module, shape: Sequence[int], path: Path, dynamic: bool = True, decomposed: bool = False, batch: int = 2
) -> Path:
    """Export ``module`` for latents ``[n, *shape]``, or for exactly ``batch`` of them; returns ``path``."""
    sizes = ({0: torch.export.Dim("n")},) if dynamic else None
    exported = torch.export.export(module, (torch.randn(batch, *shape),), dynamic_shapes=sizes)
    torch.export.save(exported.run_decompositions() if decomposed else exported, path)
    return path


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest archive, from which hostile ones are made."""
    return save(trained(Dense()), (16,), tmp_path_factory.mktemp("pt2") / "dense.pt2")


QUICK = [("tutorial", "any number"), ("dense", "fixed at one"), ("residual", "fixed"), ("dense", "decomposed")]
STRANGERS = [(name, way) for name in ("tutorial", "dense", "residual") for way in WAYS]


@pytest.mark.parametrize(
    ("name", "way"), [pytest.param(*one, marks=() if one in QUICK else nightly) for one in STRANGERS]
)
def test_a_stranger_makes_the_same_and_has_its_layers(name: str, way: str, tmp_path: Path) -> None:
    module, shape = network(name)
    reading = read(save(module, shape, tmp_path / "a.pt2", **WAYS[way]))
    assert reading.latent_shape == shape and "PyTorch" in reading.notes[0]
    assert ("fixes the batch" in " ".join(reading.notes)) == way.startswith("fixed")
    assert differ(module, reading.module, shape, 256) <= 2e-6
    assert not isinstance(reading.module, InPieces) and not reading.module.training
    copied = copy.deepcopy(reading.module)
    assert sum(one.numel() for one in module.parameters()) == sum(one.numel() for one in copied.parameters())
    adopted = generators.adopt(reading.module, latent_shape=shape, output="sigmoid" if name == "residual" else "tanh")
    assert len(adopted.named_layers()) == {"tutorial": 3, "dense": 3, "residual": 8}[name]
    chain = adopted.chain()
    assert (chain is None) == (name == "residual")
    assert chain is None or [one.norm is not None for one in chain.hidden] == [name == "tutorial", True]


class Doing(nn.Module):
    """A dense network that does ``what`` in addition."""

    def __init__(self, what: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.what = nn.Linear(16, 16), what
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        return self.what(self, self.layer(z)).reshape(-1, 1, 4, 4)


def test_what_cannot_be_set_free_runs_in_pieces(tmp_path: Path) -> None:
    """Each sample depends on the others, so a fixed number of latents cannot be set free."""
    module, z = Doing(lambda self, x: x - x.mean(0)), torch.randn(8, 16)
    reading = read(save(module, (16,), tmp_path / "a.pt2", dynamic=False, batch=4))
    assert isinstance(reading.module, InPieces) and "pieces of 4" in reading.notes[1]
    assert torch.equal(reading.module(z), torch.cat([module(z[:4]), module(z[4:])]))
    assert reading.module(z[:5]).shape == (5, 1, 4, 4)


# --- operator by operator: x is a picture [n, 4, 6, 6], v a vector [n, 24], p positive numbers [n, 24]
F, ATEN = functional, torch.ops.aten
OPERATIONS: dict[str, Callable[[Any, Tensor, Tensor, Tensor], Tensor]] = {
    "pointwise": lambda m, x, v, p: torch.stack([F.relu(v), F.leaky_relu(v, 0.3), F.selu(v), F.celu(v, 1.5), F.silu(v),
        F.gelu(v), F.gelu(v, approximate="tanh"), F.mish(v), F.softplus(v, beta=2), F.hardswish(v), F.hardsigmoid(v),
        F.hardtanh(v, -0.5, 0.25), F.relu6(4 * v), F.elu(v, 0.7), v.tanh(), v.sigmoid(), v.exp(), v.expm1(), p.log(),
        p.log1p(), p.sqrt(), p.rsqrt(), v.square(), v.abs(), -v, v.sin(), v.cos(), p.reciprocal(), v.erf()]),
    "bounds": lambda m, x, v, p: torch.stack(
        [v.clamp(-1, 0.5), v.clamp_min(0.1), v.clamp_max(0.2), torch.maximum(v, p), torch.minimum(v, p)]),
    "arithmetic": lambda m, x, v, p: torch.stack(
        [torch.add(v, p, alpha=3), torch.sub(v, p, alpha=2), 3 - v, v * p, v / p, v.pow(3), torch.rsub(v, p, alpha=2)]),
    "choices": lambda m, x, v, p: torch.stack([torch.where(one, v, -2 * p) for one in (
        v > p, v >= 0.1, v < p, v <= 0.1, (v > 0) == (p > 1), (v > 0) != (p > 1),
        torch.logical_and(v > 0, p > 1), torch.logical_or(v > 0, p > 1), torch.logical_not(v > 0))]),
    "products": lambda m, x, v, p: torch.cat([(x[:, 0] @ x[:, 1]).flatten(1), torch.bmm(x[:, 0], x[:, 2]).flatten(1),
        torch.einsum("nchw,nhw->nc", x, x[:, 0]),
        torch.baddbmm(x[:, 0], x[:, 1], x[:, 2], beta=2, alpha=0.5).flatten(1),
        torch.addmm(m.bias, v, m.matrix, beta=2, alpha=0.5), v.mm(m.matrix), F.linear(v, m.matrix.t())], 1),
    "sums": lambda m, x, v, p: torch.cat([x.mean(2), x.sum((2, 3), keepdim=True)[..., 0], x.var(3, correction=0),
        torch.var_mean(x, 2)[1], x.amax(2), x.amin(3), x.norm(dim=2), torch.linalg.vector_norm(x, 3, dim=3),
        torch.softmax(x, 1)[:, :, 0]], -1).flatten(1),
    "shapes": lambda m, x, v, p: torch.cat([x.reshape(-1, 24, 6)[:, 1:9:3], x.permute(0, 2, 1, 3)[:, :, 0],
        x.transpose(1, 3)[..., 1], x.unflatten(3, (2, 3))[..., 1, :].flatten(2).unflatten(2, (3, 6))[:, 0],
        x[:, :, 0].unsqueeze(1).squeeze(1), x.select(2, -1), x[:, [2, 0]][:, :, 1], x[:, :1, 2].expand(-1, 3, -1),
        x[:, 0].expand_as(x[:, 1]), x[:, 0, :1].repeat(1, 2, 1), torch.cat(x[:, 0].chunk(2, 1)[::-1], 1),
        torch.cat(x[:, 1].split([2, 4], 1)[::-1], 1), x[:, 2].split(4, 1)[1], torch.stack(x[:, 3].unbind(1)[:2], 1),
        x[:, 1].index_select(1, torch.tensor([3, 0])), x.transpose(2, 3)[:, 3],
        x[..., -4:-1].repeat(1, 1, 1, 2)[:, 2]], 1),
    "frames": lambda m, x, v, p: torch.cat([F.pad(x, (1, 2, 0, 1)), F.pad(x, (1, 2, 0, 1), value=0.5),
        F.pad(x, (1, 2, 0, 1), mode="reflect"), F.pad(x, (1, 2, 0, 1), mode="replicate"),
        ATEN.reflection_pad2d(x, (1, 2, 0, 1)), ATEN.replication_pad2d(x, (1, 2, 0, 1)),
        ATEN.reflection_pad1d(x[:, 0], (1, 2))[:, None, :1].repeat(1, 4, 7, 1),
        F.pad(x[:, 0], (1, 2), mode="reflect")[:, None].expand(-1, 4, -1, -1)[:, :, :1].repeat(1, 1, 7, 1),
        F.pad(x[:, 0], (1, 2), mode="replicate")[:, None, :1].repeat(1, 4, 7, 1)], 1),
    "sizes": lambda m, x, v, p: torch.cat([F.interpolate(x, scale_factor=2), F.interpolate(x, size=(12, 12)),
        F.interpolate(x, scale_factor=2, mode="bilinear"), F.pixel_shuffle(x, 2).repeat(1, 4, 1, 1),
        F.interpolate(x, size=(12, 12), mode="bilinear", align_corners=True),
        F.interpolate(x[:, 0], scale_factor=2)[:, None].repeat(1, 4, 2, 1),
        F.interpolate(F.avg_pool2d(x, 2), scale_factor=4)], 1),
    "norms": lambda m, x, v, p: torch.cat([m.layer_norm(x), m.group_norm(x), m.instance(x), m.batch(x), m.slopes(x),
        F.batch_norm(x, m.batch.running_mean, m.batch.running_var, eps=0.1), F.group_norm(x, 2, eps=0.1)], 1),
    "layers": lambda m, x, v, p: torch.cat([m.conv(x), m.up(x), m.conv1(x[:, 0])[:, :, None].repeat(1, 1, 6, 1),
        m.up1(x[:, 0])[:, :, None].repeat(1, 1, 6, 1), m.conv3(x[:, None])[:, 0],
        m.up3(x[:, None])[:, 0], F.conv2d(x, m.conv.weight, stride=1, padding=(1, 2), dilation=(1, 2))], 1),
    "made": lambda m, x, v, p: v * torch.ones_like(p) + torch.zeros_like(v) + torch.full_like(v, 0.5) + torch.arange(24)
        + torch.full((24,), 2.0) + torch.zeros(24) + torch.ones(24) + m.pixel + v.clone()
        + v.double().float().contiguous()
        + F.dropout(v, 0.5, False) + v.detach() + torch.full((v.shape[0] + 1, 24), 1.5)[1:],
}  # fmt: skip


class Operations(nn.Module):
    """Groups of them, on parts of the latents."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names, self.slopes = names, nn.PReLU(4)
        self.matrix, self.bias = nn.Parameter(torch.randn(24, 24)), nn.Parameter(torch.randn(24))
        self.layer_norm, self.group_norm = nn.LayerNorm(6, 0.1), nn.GroupNorm(2, 4, 0.1)
        self.instance, self.batch = nn.InstanceNorm2d(4, 0.1), nn.BatchNorm2d(4, eps=1e-2)
        self.conv, self.up = nn.Conv2d(4, 4, 3, padding=(1, 2), dilation=(1, 2)), nn.ConvTranspose2d(4, 4, 3, 1, 1)
        self.conv1, self.up1 = nn.Conv1d(6, 4, 3, padding=1), nn.ConvTranspose1d(6, 4, 3, padding=1)
        self.conv3, self.up3 = nn.Conv3d(1, 1, 3, padding=1), nn.ConvTranspose3d(1, 1, 3, padding=1)
        self.register_buffer("pixel", torch.linspace(0, 1, 24), persistent=False)
        nn.init.uniform_(self.slopes.weight), nn.init.normal_(self.layer_norm.weight)

    def forward(self, z: Tensor) -> Tensor:
        x, v = z[:, :144].reshape(z.shape[0], 4, 6, 6), z[:, 144:168]
        made = {name: OPERATIONS[name](self, x, v, v.abs() + 0.5) for name in self.names}
        stacked = ("pointwise", "bounds", "arithmetic", "choices")
        parts = [one.transpose(0, 1) if name in stacked else one for name, one in made.items()]
        return torch.cat([one.reshape(z.shape[0], -1) for one in parts], 1)


EVERY = tuple(OPERATIONS)
NEW_NAMES = ("products", "sums", "norms", "layers", "made")  # those that decomposing writes with other operators


@pytest.mark.parametrize(
    ("way", "names", "count"),
    [("any number", EVERY, 100), ("decomposed", NEW_NAMES, 35)]
    + [pytest.param(way, EVERY, 70, marks=nightly) for way in ("fixed", "fixed at one", "decomposed")],
)
def test_each_operator_does_what_it_does_in_torch(way: str, names: tuple[str, ...], count: int, tmp_path: Path) -> None:
    module = trained(Operations(names))
    path = save(module, (168,), tmp_path / "a.pt2", **WAYS[way])
    assert differ(module, read(path).module, (168,), 16) <= 3e-5
    with zipfile.ZipFile(path) as zipped:
        graph = json.loads(zipped.read("a/models/model.json"))["graph_module"]["graph"]
    used = {node["target"].split(".")[-2] for node in graph["nodes"]}
    assert len(used & OPERATORS) >= count, sorted(OPERATORS - used)


# --- what is refused


def counting(self: Any, x: Tensor) -> Tensor:
    self.seen.add_(1)
    return x


def in_place(self: Any, x: Tensor) -> Tensor:
    before = x * 2
    y = x.relu_()
    x.mul_(3)
    return before + y + x


def viewed(self: Any, x: Tensor) -> Tensor:
    x.view(-1, 1, 4, 4).relu_()
    return x  # it changed, too


UNREAD: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "cumsum": lambda self, x: x.cumsum(1),
    "rand": lambda self, x: x + torch.rand_like(x),
    "cond": lambda self, x: torch.cond(x.sum() > 0, lambda y: y.sin(), lambda y: y.cos(), (x,)),
    "copy_": lambda self, x: torch.zeros_like(x).copy_(x),
    "in place": viewed,
    "step": lambda self, x: x + torch.zeros(30_000, 30_000)[0, :16],
    "": counting,
}


def test_what_a_network_does_beyond_what_is_read_is_refused_or_said(dense: Path, tmp_path: Path) -> None:
    for names, what in UNREAD.items():
        refused(names, partial(read, save(Doing(what), (16,), tmp_path / "a.pt2")), *names.split())
    path = save(nn.Sequential(nn.Linear(16, 16), nn.Dropout()).train(), (16,), tmp_path / "a.pt2")
    refused("training", partial(read, path), "eval()")
    half = save(Doing(lambda self, x: x.half().float()), (16,), tmp_path / "half.pt2")
    for path, said in ((half, True), (dense, False)):
        assert any("half precision" in note for note in read(path).notes) == said


def test_in_place_steps_mean_what_they_do(tmp_path: Path) -> None:
    module, path = Doing(in_place), tmp_path / "a.pt2"
    assert differ(module, read(save(module, (16,), path)).module, (16,)) <= 1e-6

    def change(graph: Any) -> None:
        (step,) = (one for one in part(graph, "nodes") if "relu_" in one["target"])
        step["inputs"][0]["arg"]["as_tensor"]["name"] = "p_layer_weight"

    refused("a weight", partial(read, with_json(path, GRAPH, change)), "relu_", "in place")


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    """It must not sing while the test runs."""
    yield (found := Canary(tmp_path / "canary"))
    assert not found.path.exists()


def test_pickles_are_not_opened_beside_the_graph_and_refused_as_constants(dense: Path, canary: Canary) -> None:
    for content in (pickle.dumps(canary), pickled(canary)):
        path = edited(dense, lambda members, held=content: members.update({SAMPLES: held, "extra/x.pkl": held}))
        assert differ(read(dense).module, read(path).module, (16,)) == 0

    def change(members: dict[str, bytes], kind: str) -> None:
        entry = {"path_name": kind, "is_param": False, "use_pickle": kind == "tensor_0", "tensor_meta": None}
        members[CONSTANTS] = json.dumps({"config": {"evil": entry}}).encode()
        members[SAMPLES if ".." in kind else f"data/constants/{kind}"] = pickle.dumps(canary)

    for kind in ("tensor_0", "custom_obj_0", "opaque_obj_0", "../sample_inputs/model.pt"):
        refused(kind, partial(read, edited(dense, partial(change, kind=kind))), "'evil'")


def test_older_layouts_are_read_if_they_hold_tensors_and_nothing_else(
    dense: Path, tmp_path: Path, canary: Canary
) -> None:
    """Those of PyTorch 2.8 and 2.7, of which PyTorch itself is the oracle."""
    exported = torch.export.load(dense)

    def older(members: dict[str, bytes], **more: Any) -> None:
        for name in [name for name in members if name.startswith(("data/weights/", "data/constants/"))]:
            del members[name]
        weights = {**exported.state_dict, **more}
        members.update({"data/weights/model.pt": pickled(weights), "data/constants/model.pt": pickled({})})

    path = edited(dense, older)
    assert differ(torch.export.load(path).module(), read(path).module, (16,), 2) <= 1e-6
    for evil in (canary, {"a": 1}):
        refused("more than tensors", partial(read, edited(dense, partial(older, evil=evil))), "model.pt")
    with zipfile.ZipFile(dense) as zipped:
        members = {"serialized_exported_program.json": zipped.read(f"dense/{GRAPH}"), "version": b"8.20"}
    members |= {"serialized_state_dict.pt": pickled(dict(exported.state_dict)), "serialized_constants.pt": pickled({})}
    for samples in (exported.example_inputs, canary):
        with zipfile.ZipFile(tmp_path / "old.pt2", "w") as zipped:
            for name, content in {**members, "serialized_example_inputs.pt": pickled(samples)}.items():
                zipped.writestr(name, content)
        assert differ(exported.module(), read(tmp_path / "old.pt2").module, (16,), 2) <= 1e-6
        if samples is not canary:
            assert differ(torch.export.load(tmp_path / "old.pt2").module(), exported.module(), (16,), 2) == 0


def ints(*numbers: Any) -> list[dict[str, Any]]:
    return [{"as_int": one} for one in numbers]


LIES: list[dict[str, Any]] = [  # of what the archive says of one weight [24, 16]
    *({"sizes": ints(lie, 16)} for lie in (25, 2**39, 2**62, -1, "24")), {"sizes": []}, {"strides": ints(10**6, 1)},
    {"sizes": ints(10**7, 16), "strides": ints(0, 1)}, {"storage_offset": {"as_int": 1}},
    {"dtype": 8}, {"dtype": 99}, {"layout": 1},
]  # fmt: skip
BOMBS = [b"[" * 100_000, b'{"a":' * 50_000, b"1" * 10_000, b"", b"\xff\xfe", b"null", b"[]", b" " * (33 * 2**20)]


def both(members: dict[str, bytes]) -> None:
    members[CONSTANTS] = members[WEIGHTS].replace(b"weight_", b"tensor_")
    members.update({name.replace("weights/weight", "constants/tensor"): members[name] for name in list(members)})


def many(members: dict[str, bytes]) -> None:
    """Twenty names for one member: ten thousand would need 100 times the memory of the file."""
    config, meta = json.loads(members[WEIGHTS]), {"storage_offset": {"as_int": 0}, "dtype": 7, "layout": 7}
    members["data/weights/weight_99"] = bytes(4 * 2**20)
    meta |= {"sizes": ints(2**20), "strides": ints(1)}
    entry = {"path_name": "weight_99", "use_pickle": False, "tensor_meta": meta}
    config["config"] |= {f"w{index}": entry for index in range(20)}
    members[WEIGHTS] = json.dumps(config).encode()


def test_what_lies_is_in_two_places_or_is_no_json_is_refused(dense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch takes one of two places and we might take the other: what is scanned must be what is used."""
    rows: dict[str, Any] = {
        "constant": both,
        "2": lambda members: members.update({"models/other.json": members[GRAPH]}),
        "compiled": lambda members: members.update({"data/aotinductor/model/x.so": b"\x7fELF"}),
        "endian": lambda members: members.update({"byteorder": b"big"}),
        "bytes": lambda members: members.update({FIRST: members[SECOND], SECOND: members[FIRST]}),
        "0 bytes": lambda members: members.pop(FIRST),
    }
    for names, edit in rows.items():
        refused(names, partial(read, edited(dense, edit)), names)
    for lie in LIES:

        def change(meta: Any, lie: Any = lie) -> None:
            meta["config"]["model.0.weight"]["tensor_meta"].update(lie)

        refused(lie, partial(read, with_json(dense, WEIGHTS, change)))
    for content in BOMBS:
        for member in (GRAPH, WEIGHTS):
            path = edited(dense, lambda members, name=member, held=content: members.update({name: held}))
            refused((member, content[:9]), partial(read, path))
    monkeypatch.setattr(from_pt2, "MOST_WEIGHTS", 64 * 2**20)
    refused("many names", partial(read, edited(dense, many)))


def part(graph: Any, name: str) -> Any:
    """The ``nodes`` or ``tensor_values`` of the graph, or the ``input_specs`` or ``output_specs`` of its signature."""
    return {**graph["graph_module"]["graph"], **graph["graph_module"]["signature"]}[name]


def node(graph: Any, index: int = 0) -> Any:
    return part(graph, "nodes")[index]


HOSTILE: dict[str, Callable[[Any], Any]] = {
    "set_default_dtype": lambda graph: node(graph).update(target="torch.set_default_dtype"),
    "aten.linear": lambda graph: node(graph).update(target="torch.ops.aten.linear"),
    "linear.__class__": lambda graph: node(graph).update(target="torch.ops.aten.linear.__class__"),
    "arguments": lambda graph: node(graph)["inputs"][0].update(name="out"),
    "'later'": lambda graph: node(graph)["inputs"][0].update(arg={"as_tensor": {"name": "later"}}),
    "exists": lambda graph: node(graph, 2)["outputs"][0]["as_tensor"].update(name="linear"),
    "schema": lambda graph: graph["schema_version"].update(major=7),
    "as_graph": lambda graph: node(graph)["inputs"][0].update(arg={"as_graph": {}}),
    "something else": lambda graph: node(graph)["inputs"][0].update(arg={"as_int": "1"}),
    "20,000": lambda graph: part(graph, "nodes").extend([node(graph)] * 20_000),
    "1024": lambda graph: part(graph, "tensor_values")["z"].update(sizes=ints(10**9, 16)),
    "65,536": lambda graph: part(graph, "tensor_values")["z"].update(sizes=ints(1, 10**9)),
    "2 tensors": lambda graph: part(graph, "input_specs").extend(part(graph, "input_specs")[-1:]),
    "damaged": lambda graph: part(graph, "output_specs").extend(part(graph, "output_specs")),
    "?": lambda graph: node(graph).update(target="\x1b[31m<script>\u202e" + "x" * 10_000),
}


def test_hostile_graphs_are_refused_and_their_names_not_echoed(dense: Path) -> None:
    for names, change in HOSTILE.items():
        refused(names, partial(read, with_json(dense, GRAPH, change)), names)


ODD = (None, -1, 0, 1, 2**31, 2**63, 2**70, 1e308, "", "x" * 10_000, "../x", [], {}, [[]], True, "\x1b[31m", [0] * 50)


@pytest.mark.parametrize("count", [40, pytest.param(300, marks=nightly)])
def test_whatever_is_changed_the_answer_is_a_network_or_one_sentence(dense: Path, count: int) -> None:
    source, outcomes = random.Random(0), {"read": 0, "refused": 0}

    def change(content: Any) -> None:
        """Other values in up to three places of the JSON that is read."""
        for name in ("metadata", "module_call_graph"):
            content.pop(name, None)
        for _ in range(source.choice((1, 1, 3))):
            inner = content
            while True:
                key = source.choice([*inner] if isinstance(inner, dict) else range(len(inner)))
                if source.random() < 0.05 or not inner[key] or not isinstance(inner[key], (dict, list)):
                    inner[key] = source.choice(ODD)
                    break
                inner = inner[key]

    for _ in range(count):
        path = with_json(dense, source.choice((GRAPH, GRAPH, WEIGHTS)), change)
        try:
            read(path)
            outcomes["read"] += 1
        except Refused as error:
            outcomes["refused"] += 1
            assert len(str(error)) <= 300 and str(error).isprintable()
    assert min(outcomes.values()) > count // 20
