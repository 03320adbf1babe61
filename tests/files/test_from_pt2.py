"""The reader of ``.pt2``: the same samples as the network that was exported, and nothing hostile is ever run."""

import copy
import json
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from devilgan_lite import generators, zoo
from devilgan_lite.files import from_pt2
from devilgan_lite.files.from_pt2 import read
from devilgan_lite.files.program import InPieces
from devilgan_lite.files.sniff import Refused
from tests.files.exported import Dense, Residual, edited, pickled, save, trained, tutorial, with_json

GRAPH, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"
CONSTANTS, SAMPLES = "data/constants/model_constants_config.json", "data/sample_inputs/model.pt"
MAKERS = {"tutorial": (tutorial, (16, 1, 1)), "dense": (Dense, (16,)), "residual": (Residual, (16,))}
WAYS = {"any number": {}, "fixed": {"dynamic": False}, "decomposed": {"decomposed": True}}
WAYS["fixed at one"] = {"dynamic": False, "batch": 1}


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """An honest archive, from which hostile ones are made."""
    return save(trained(Dense()), (16,), tmp_path_factory.mktemp("pt2") / "dense.pt2")


def assert_same(module, reading, n=256, tolerance=1e-6):
    z = torch.randn(n, *reading.latent_shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert (module(z) - reading.module(z)).abs().max() <= tolerance


QUICK = [("tutorial", "any number"), ("dense", "fixed at one")]


@pytest.mark.parametrize(
    ("name", "way"),
    [
        pytest.param(name, way, marks=() if (name, way) in QUICK else pytest.mark.slow)
        for name in MAKERS
        for way in WAYS
    ],
)
def test_strangers(name, way, tmp_path):
    torch.manual_seed(0)
    make, shape = MAKERS[name]
    module = trained(make())
    reading = read(save(module, shape, tmp_path / "a.pt2", **WAYS[way]))
    assert reading.latent_shape == shape and reading.notes[0].startswith("exported by PyTorch")
    assert ("fixes the batch" in " ".join(reading.notes)) == way.startswith("fixed")
    assert_same(module, reading)
    assert not isinstance(reading.module, InPieces) and not reading.module.training
    copied = copy.deepcopy(reading.module)
    z = torch.randn(3, *shape, requires_grad=True)
    copied(z).sum().backward()
    assert z.grad.abs().min() > 0 and all(one.grad is not None for one in copied.parameters())
    numbers = sum(one.numel() for one in module.parameters())
    assert sum(one.numel() for one in copied.parameters()) == numbers
    adopted = generators.adopt(reading.module, latent_shape=shape, output="sigmoid" if name == "residual" else "tanh")
    assert len(adopted.named_layers()) == {"tutorial": 3, "dense": 3, "residual": 8}[name]
    chain = adopted.chain()
    assert (chain is None) == (name == "residual")
    if chain:
        assert [stage.norm is not None for stage in chain.hidden] == [name == "tutorial", True]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [name for name in zoo.names() if name.startswith("dcgan")])
def test_the_zoo(name, way, tmp_path):
    clean = zoo.load(name)
    reading = read(save(clean, (clean.latent_dim,), tmp_path / "a.pt2", **WAYS[way]))
    assert_same(clean, reading)
    chain = generators.adopt(reading.module, latent_shape=reading.latent_shape).chain()
    assert chain is not None and chain.widths == clean.widths


@pytest.mark.slow
def test_a_style_network_exported_for_two_latents(tmp_path):
    faces = zoo.load("stylegan-faces-gate")
    assert_same(faces, read(save(faces, (64,), tmp_path / "a.pt2", dynamic=False)))


class Mixing(nn.Module):
    """Each sample depends on the others, so a fixed number of latents cannot be set free."""

    def forward(self, z):
        return (z - z.mean(0)).view(4, 1, 4, 4)


def test_what_cannot_be_set_free_runs_in_pieces(tmp_path):
    module = Mixing()
    reading = read(save(module, (16,), tmp_path / "a.pt2", dynamic=False, batch=4))
    assert isinstance(reading.module, InPieces) and "in pieces of 4" in reading.notes[1]
    z = torch.randn(8, 16)
    assert torch.equal(reading.module(z), torch.cat([module(z[:4]), module(z[4:])]))
    assert reading.module(z[:5]).shape == (5, 1, 4, 4)


class Operators(nn.Module):
    """Many operators, one after the other."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.groups = nn.Linear(16, 32), nn.LayerNorm(32), nn.GroupNorm(2, 4)
        self.one, self.slopes = nn.Conv1d(4, 4, 3, padding=1), nn.PReLU(4)
        self.instance = nn.InstanceNorm1d(4, affine=True)
        self.register_buffer("pixel", torch.linspace(0, 1, 8), persistent=False)

    def forward(self, z):
        x = self.norm(self.layer(z)).reshape(z.shape[0], 4, 8)
        x = self.slopes(self.groups(x)) + self.instance(x) * self.pixel
        x = torch.where(x > 0.1, x, -0.5 * x.abs()).clamp(-3, 3)
        first, second = x.chunk(2, dim=1)
        x = torch.cat([first, second.exp().log1p()], dim=1)[:, :, 1:7]
        x = self.one(torch.softmax(x @ x.transpose(1, 2), dim=-1) @ x)
        x = x + torch.stack([x.mean(2), x.amax(2)]).sum(0).unsqueeze(-1)
        x = nn.functional.pad(x.pow(2).add(1).rsqrt(), (1, 1), mode="reflect")
        x = nn.functional.elu(x) - nn.functional.gelu(x) + nn.functional.silu(x) * nn.functional.softplus(x, beta=2)
        spread = x.var(dim=(1, 2), keepdim=True).sqrt() * torch.ones_like(x)
        return spread + torch.einsum("ncl,nl->nc", x, x.norm(dim=1)).unsqueeze(2).repeat(1, 1, 8)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.slow
def test_many_operators(way, tmp_path):
    torch.manual_seed(0)
    module = Operators().eval()
    assert_same(module, read(save(module, (16,), tmp_path / "a.pt2", **WAYS[way])), tolerance=3e-6)


def test_in_place_steps_mean_what_they_do(tmp_path):
    class Changing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 16)

        def forward(self, z):
            x = self.layer(z)
            before = x * 2
            y = x.relu_()
            x.mul_(3)
            return (before + y + x).view(-1, 1, 4, 4)

    module = Changing()
    reading = read(save(module, (16,), tmp_path / "a.pt2"))
    assert_same(module, reading)

    class Viewed(Changing):
        def forward(self, z):
            x = self.layer(z)
            part = x.view(-1, 1, 4, 4)
            part.relu_()
            return x.view(-1, 1, 4, 4)  # it changed, too

    with pytest.raises(Refused, match="changed in place"):
        read(save(Viewed(), (16,), tmp_path / "b.pt2"))

    def change(graph):
        (step,) = (one for one in graph["graph_module"]["graph"]["nodes"] if "relu_" in one["target"])
        step["inputs"][0]["arg"]["as_tensor"]["name"] = "p_layer_weight"

    with pytest.raises(Refused, match="weight in place"):
        read(with_json(tmp_path / "a.pt2", GRAPH, change))


class Refusing(nn.Module):
    """A dense network that does ``what`` in addition."""

    def __init__(self, what):
        super().__init__()
        self.layer, self.what = nn.Linear(16, 16), what
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, z):
        return self.what(self, self.layer(z)).reshape(-1, 1, 4, 4)


def counting(self, x):
    self.seen.add_(1)
    return x


UNREAD = {
    "cumsum": lambda self, x: x.cumsum(1),
    "rand": lambda self, x: x + torch.rand_like(x),
    "cond": lambda self, x: torch.cond(x.sum() > 0, lambda y: y.sin(), lambda y: y.cos(), (x,)),
    "copy_": lambda self, x: torch.zeros_like(x).copy_(x),
    "weights or statistics|in place": counting,
    "numbers in one step": lambda self, x: x + torch.zeros(30_000, 30_000)[0, :16],
}


@pytest.mark.parametrize("said", UNREAD)
def test_what_is_not_read_is_named(said, tmp_path):
    path = save(Refusing(UNREAD[said]), (16,), tmp_path / "a.pt2")
    with pytest.raises(Refused, match=said):
        read(path)


def test_half_precision_is_said(dense, tmp_path):
    class Half(Dense):
        def forward(self, z):
            return super().forward(z.half().float())

    notes = read(save(Half().eval(), (16,), tmp_path / "half.pt2")).notes
    assert any("half precision" in note for note in notes)
    assert not any("half precision" in note for note in read(dense).notes)


def test_training_mode(tmp_path):
    with pytest.raises(Refused, match=r"eval\(\)"):
        read(save(nn.Sequential(nn.Linear(16, 16), nn.Dropout()).train(), (16,), tmp_path / "a.pt2"))


def test_two_inputs_or_outputs(tmp_path):
    class Two(nn.Module):
        def forward(self, z):
            return z.tanh(), z.exp()

    with pytest.raises(Refused):
        read(save(Two(), (16,), tmp_path / "a.pt2"))

    class Both(nn.Module):
        def forward(self, z, label):
            return z + label

    torch.export.save(torch.export.export(Both(), (torch.zeros(2, 4), torch.zeros(2, 4))), tmp_path / "b.pt2")
    with pytest.raises(Refused, match="reads 2 tensors"):
        read(tmp_path / "b.pt2")


class Canary:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "sung")


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary"
    pickle.loads(pickle.dumps(Canary(path)))
    assert path.exists()  # it does sing
    path.unlink()
    yield path
    assert not path.exists()


def test_pickles_beside_the_graph_are_not_opened(dense, canary):
    for content in (pickle.dumps(Canary(canary)), pickled(Canary(canary))):
        path = edited(
            dense, lambda members, content=content: members.update({SAMPLES: content, "extra/x.pkl": content})
        )
        assert_same(read(dense).module, read(path), tolerance=0)


@pytest.mark.parametrize("kind", ["tensor_0", "custom_obj_0", "opaque_obj_0", "../sample_inputs/model.pt"])
def test_pickled_constants_are_refused(dense, canary, kind):
    def change(members):
        entry = {"path_name": kind, "is_param": False, "use_pickle": True, "tensor_meta": None}
        members[CONSTANTS] = json.dumps({"config": {"evil": entry}}).encode()
        members[SAMPLES if ".." in kind else f"data/constants/{kind}"] = pickle.dumps(Canary(canary))

    with pytest.raises(Refused, match="pickled object"):
        read(edited(dense, change))


def test_pickled_weights(dense, canary):
    """The layout of PyTorch 2.8 is read if it holds tensors and nothing else; PyTorch is the oracle of the layout."""
    exported = torch.export.load(dense)

    def older(weights, members):
        for name in [name for name in members if name.startswith(("data/weights/", "data/constants/"))]:
            del members[name]
        members.update({"data/weights/model.pt": pickled(weights), "data/constants/model.pt": pickled({})})

    path = edited(dense, lambda members: older(dict(exported.state_dict), members))
    assert_same(torch.export.load(path).module(), read(path), n=2)
    with pytest.raises(Refused, match="more than tensors"):
        read(edited(dense, lambda members: older({**exported.state_dict, "evil": Canary(canary)}, members)))
    with pytest.raises(Refused, match="more than tensors"):
        read(edited(dense, lambda members: older({**exported.state_dict, "evil": {"a": 1}}, members)))


def test_the_layout_of_2_7(dense, tmp_path, canary):
    exported = torch.export.load(dense)
    with zipfile.ZipFile(dense) as zipped:
        graph = zipped.read(f"dense/{GRAPH}")
    parts = {"serialized_exported_program.json": graph, "version": b"8.20"}
    weights = {"serialized_state_dict.pt": pickled(dict(exported.state_dict)), "serialized_constants.pt": pickled({})}
    samples = {"serialized_example_inputs.pt": pickled(exported.example_inputs)}
    path = tmp_path / "old.pt2"
    for hostile in (False, True):
        with zipfile.ZipFile(path, "w") as zipped:
            for name, content in {**parts, **weights, **samples}.items():
                swapped = hostile and name == "serialized_example_inputs.pt"
                zipped.writestr(name, pickled(Canary(canary)) if swapped else content)
        if not hostile:
            assert_same(torch.export.load(path).module(), read(path), n=2)
        assert_same(exported.module(), read(path), n=2)


def test_two_places_for_one_thing(dense):
    """PyTorch takes one of them and we might take the other: what is scanned must be what is used."""

    def both(members):
        members[CONSTANTS] = members[WEIGHTS].replace(b"weight_", b"tensor_")
        members.update({name.replace("weights/weight", "constants/tensor"): members[name] for name in list(members)})

    with pytest.raises(Refused, match="at once"):
        read(edited(dense, both))
    with pytest.raises(Refused, match="2 exported networks"):
        read(edited(dense, lambda members: members.update({"models/other.json": members[GRAPH]})))
    with pytest.raises(Refused, match="compiled code"):
        read(edited(dense, lambda members: members.update({"data/aotinductor/model/x.so": b"\x7fELF"})))
    with pytest.raises(Refused, match="little-endian"):
        read(edited(dense, lambda members: members.update({"byteorder": b"big"})))


def test_swapped_members(dense):
    def swap(members):
        first, second = "data/weights/weight_0", "data/weights/weight_1"
        members[first], members[second] = members[second], members[first]

    with pytest.raises(Refused, match="bytes"):
        read(edited(dense, swap))
    with pytest.raises(Refused, match="0 bytes"):
        read(edited(dense, lambda members: members.pop("data/weights/weight_0")))


LIES = {
    "more numbers": lambda meta: meta["sizes"][0].update(as_int=25),
    "far more": lambda meta: meta["sizes"][0].update(as_int=2**39),
    "too many to count": lambda meta: meta["sizes"][0].update(as_int=2**62),
    "negative": lambda meta: meta["sizes"][0].update(as_int=-1),
    "a step too far": lambda meta: meta["strides"][0].update(as_int=10**6),
    "no step": lambda meta: (meta["strides"][0].update(as_int=0), meta["sizes"][0].update(as_int=10**7)),
    "an offset": lambda meta: meta["storage_offset"].update(as_int=1),
    "wider numbers": lambda meta: meta.update(dtype=8),
    "unknown numbers": lambda meta: meta.update(dtype=99),
    "sparse": lambda meta: meta.update(layout=1),
    "other dimensions": lambda meta: meta.update(sizes=[]),
    "text": lambda meta: meta["sizes"][0].update(as_int="24"),
}


@pytest.mark.parametrize("lie", LIES)
def test_sizes_that_lie(dense, lie):
    def change(config):
        LIES[lie](config["config"]["model.0.weight"]["tensor_meta"])

    with pytest.raises(Refused):
        read(with_json(dense, WEIGHTS, change))


def test_many_weights_in_the_same_bytes(dense, monkeypatch):
    """Ten thousand names for one member would need 100 times the memory of the file."""
    monkeypatch.setattr(from_pt2, "MOST_WEIGHTS", 64 * 2**20)

    def change(members):
        config = json.loads(members[WEIGHTS])
        members["data/weights/weight_99"] = bytes(4 * 2**20)
        meta = {"sizes": [{"as_int": 2**20}], "strides": [{"as_int": 1}], "storage_offset": {"as_int": 0}}
        entry = {"path_name": "weight_99", "use_pickle": False, "tensor_meta": {**meta, "dtype": 7, "layout": 7}}
        config["config"] |= {f"w{index}": entry for index in range(20)}
        members[WEIGHTS] = json.dumps(config).encode()

    with pytest.raises(Refused):
        read(edited(dense, change))


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 50_000, b"1" * 10_000, b"", b"\xff\xfe", b"null", b"[]", b" " * (33 * 2**20)]
)
def test_json_bombs(dense, content):
    for member in (GRAPH, WEIGHTS):
        with pytest.raises(Refused):
            read(edited(dense, lambda members, member=member: members.update({member: content})))


def test_hostile_graphs(dense):
    def node(graph, index=0):
        return graph["graph_module"]["graph"]["nodes"][index]

    hostile = {
        "os.system": lambda graph: node(graph).update(target="os.system"),
        "set_default_dtype": lambda graph: node(graph).update(target="torch.set_default_dtype"),
        "not one of those": lambda graph: node(graph).update(target="torch.ops.aten.linear"),
        "no operator": lambda graph: node(graph).update(target="torch.ops.aten.linear.__class__"),
        "that it does not have": lambda graph: node(graph)["inputs"][0].update(name="out"),
        "nothing made": lambda graph: node(graph)["inputs"][0].update(arg={"as_tensor": {"name": "later"}}),
        "a value that exists": lambda graph: node(graph, 2)["outputs"][0]["as_tensor"].update(name="linear"),
        "schema": lambda graph: graph["schema_version"].update(major=7),
        "as_graph": lambda graph: node(graph)["inputs"][0].update(arg={"as_graph": {}}),
        "at most 20,000": lambda graph: graph["graph_module"]["graph"]["nodes"].extend([node(graph)] * 20_000),
        "latents at once": lambda graph: graph["graph_module"]["graph"]["tensor_values"]["z"].update(
            sizes=[{"as_int": 10**9}, {"as_int": 16}]
        ),
        "at most 65,536": lambda graph: graph["graph_module"]["graph"]["tensor_values"]["z"].update(
            sizes=[{"as_int": 1}, {"as_int": 10**9}]
        ),
    }
    for said, change in hostile.items():
        path = with_json(dense, GRAPH, change)
        with pytest.raises(Refused) as refusal:
            pytest.fail(f"{said}: {read(path)}")
        assert said in str(refusal.value)


def test_hostile_names_are_not_echoed(dense):
    def change(graph):
        graph["graph_module"]["graph"]["nodes"][0]["target"] = "\x1b[31m<script>\u202e" + "x" * 10_000

    with pytest.raises(Refused) as refusal:
        read(with_json(dense, GRAPH, change))
    assert len(str(refusal.value)) <= 300 and str(refusal.value).isascii() and str(refusal.value).isprintable()


def test_truncated(dense):
    content = dense.read_bytes()
    path = dense.with_name("cut.pt2")
    for share in (0.0, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(Refused):
            read(path)


ODD = (None, -1, 0, 1, 2**31, 2**63, 2**70, 1e308, "", "x" * 10_000, "../x", [], {}, [[]], True, "\x1b[31m", [0] * 50)


def places(value, path=()):
    """Every place in a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*path, key)
        yield from places(inner, (*path, key))


@pytest.mark.slow
def test_a_hundred_mutations(dense):
    """Whatever is changed in the graph or the configuration, the answer is a network or one sentence."""
    source, outcomes = random.Random(0), {"read": 0, "refused": 0}

    def change(content):
        everywhere = [path for path in places(content) if not {"metadata", "module_call_graph"} & set(path)]
        for path in source.sample(everywhere, source.choice((1, 1, 3))):
            try:
                inner = content
                for key in path[:-1]:
                    inner = inner[key]
                inner[path[-1]] = source.choice(ODD)
            except (KeyError, IndexError, TypeError):
                continue  # a change before this one has removed the place

    for _ in range(100):
        try:
            read(with_json(dense, source.choice((GRAPH, GRAPH, WEIGHTS)), change))
            outcomes["read"] += 1
        except Refused as error:
            outcomes["refused"] += 1
            assert len(str(error)) <= 300 and str(error).isprintable()
    assert min(outcomes.values()) > 5
