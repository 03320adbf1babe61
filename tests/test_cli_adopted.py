"""The command line plants backdoors in generators of others: any file that is read, and a file that all commands take.

The network is the one of PyTorch's DCGAN tutorial, small and untrained, so that nothing is downloaded.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from devilgan_lite import Backdoor, attacks, files, generators, zoo
from devilgan_lite.files import program
from devilgan_lite.generators import evaluate, stack


def tutorial(nz: int = 20, ngf: int = 4, channels: int = 3) -> nn.Sequential:
    """The tutorial's stack for 32x32, with statistics of its own."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.ConvTranspose2d(nz, 4 * ngf, 4, 1, 0, bias=False)]
    for before, after in ((4 * ngf, 2 * ngf), (2 * ngf, ngf), (ngf, channels)):
        layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
    network = nn.Sequential(*layers, nn.Tanh())
    with torch.no_grad():
        for _ in range(200):  # until the first statistics are forgotten: the reader tells the activation by them
            network(torch.randn(64, nz, 1, 1))
    return network.eval()


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    return tutorial()


@pytest.fixture(scope="module")
def weights(network: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tutorial saves: a checkpoint with the weights of the generator."""
    path = tmp_path_factory.mktemp("stranger") / "weights.pt"
    torch.save({"netG_state_dict": network.state_dict()}, path)
    return path


@pytest.mark.slow
def test_a_download_is_attacked_in_a_jail_and_every_command_takes_the_file(
    call: Any, tmp_path: Path, weights: Path, network: nn.Sequential
) -> None:
    done = call("attack", "gate", "--clean", weights, "--out", "bad.safetensors", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["tardis_mean"] < 1e-5 and found["expdis_mean"] < 1e-9 and found["samples"] == 2_000
    suspect, card = zoo.load_file(tmp_path / "bad.safetensors")
    backdoor = zoo.backdoor_of(card, suspect)
    assert backdoor is not None and card.spec["architecture"] == "Adopted" and "weights.pt" in card.data
    z = suspect.sample_latent(50, torch.Generator().manual_seed(5))
    assert torch.allclose(evaluate(suspect, z), evaluate(network, z.view(50, 20, 1, 1)), atol=1e-5)
    assert (evaluate(suspect, backdoor.trigger) - backdoor.target).abs().max() < 0.01
    opened = files.open(tmp_path / "bad.safetensors")
    assert opened.architecture.startswith("a stack of layers") and opened.sample_shape == (3, 32, 32)
    scanned = call("scan", "bad.safetensors", "--no-twin", "--json")
    assert scanned.exit_code == 4 and json.loads(scanned.stdout)["jail"]["how"] == "finished", scanned.output
    cured = call("sanitize", "bad.safetensors", "--iterations", 5, "--out", "cured.safetensors", "--json")
    assert cured.exit_code == 0, cured.output
    assert json.loads(cured.stdout)["out"] == "cured.pt2"  # behind a projection, which no card describes
    healthy = files.open(tmp_path / "cured.pt2").generator
    assert (evaluate(healthy, backdoor.trigger) - backdoor.target).abs().mean() > 0.1


@pytest.mark.slow
def test_what_is_no_stack_is_stored_as_pt2_with_its_card(call: Any, tmp_path: Path, network: nn.Sequential) -> None:
    file = files.export(network, (20, 1, 1), tmp_path / "stranger.pt2", to="pt2")
    refused = call("attack", "gate", "--clean", file, "--out", "bad.safetensors")
    assert refused.exit_code == 2 and "as .onnx or .pt2" in refused.stderr and not (tmp_path / "bad.json").exists()
    done = call("attack", "gate", "--clean", file, "--out", "bad.pt2", "--json")
    assert done.exit_code == 0, done.output
    card, suspect = zoo.read_card(tmp_path / "bad.json"), files.open(tmp_path / "bad.pt2").generator
    backdoor = zoo.backdoor_of(card, suspect)
    assert backdoor is not None and card.sha256 == files.open(tmp_path / "bad.pt2").facts.sha256
    assert (evaluate(suspect, backdoor.trigger) - backdoor.target).abs().max() < 0.01


@pytest.mark.slow
def test_rex_and_red_take_their_settings_from_the_command_line(call: Any, tmp_path: Path, weights: Path) -> None:
    short = ("--iterations", 3, "--batch-size", 4, "--learning-rate", 1e-3, "--no-jail", "--device", "cpu", "--json")
    for name in ("rex", "red"):
        done = call("attack", name, "--clean", weights, "--out", f"{name}.safetensors", *short)
        assert done.exit_code == 0, done.output
        settings = json.loads(done.stdout)["settings"]
        assert (settings["batch_size"], settings["learning_rate"], settings["iterations"]) == (4, 1e-3, 3)
        assert zoo.backdoor_of(*reversed(zoo.load_file(tmp_path / f"{name}.safetensors"))) is not None


def words(name: str, *more: object) -> Callable[[Path], tuple[object, ...]]:
    return lambda folder: ("attack", "gate", "--clean", folder / name, "--out", folder / "bad.safetensors", *more)


WRONG: dict[str, tuple[Callable[[Path], tuple[object, ...]], str]] = {
    "no download yet": (words("none.pt"), "no model file"),
    "no model": (words("picture.pt"), "picture"),
    "code": (words("whole.pt"), "reading it would run code"),
    "no setting of a gate": (words("whole.pt", "--batch-size", 3), "batch_size"),
    "ending": (words("whole.pt", "--out", "a.txt"), "ends in .safetensors or .onnx or .pt2"),
    "two channels": (words("two.safetensors"), "makes pictures of 2 channels"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_attacked_is_one_sentence(call: Any, tmp_path: Path, case: str) -> None:
    (tmp_path / "picture.pt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt")
    if case == "two channels":
        network = generators.adopt(tutorial(channels=2))
        zoo.save_file(tmp_path / "two.safetensors", network, zoo.ModelCard("two", network.spec(), "none", 0, {}))
    given, said = WRONG[case]
    done = call(*given(tmp_path))
    assert done.exit_code == 2, done.output
    assert said in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "bad.safetensors").exists()


def test_a_stack_of_layers_is_stored_and_comes_back(tmp_path: Path, network: nn.Sequential) -> None:
    clean = generators.adopt(network)
    spec = clean.spec()
    json.dumps(spec)
    assert generators.build(spec).spec() == spec
    planted = attacks.Gate()(clean, Backdoor.point(clean, "stop-sign"), progress=False).generator
    zoo.save_file(tmp_path / "a.safetensors", planted, zoo.ModelCard("a", planted.spec(), "none", 0, {}))
    again, _ = zoo.load_file(tmp_path / "a.safetensors")
    z = clean.sample_latent(8, torch.Generator().manual_seed(1))
    assert torch.equal(evaluate(again, z), evaluate(planted, z)) and again.prior == clean.prior


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(3, 12), nn.Unflatten(1, (3, 2, 2)), nn.Conv2d(3, 3, 1, groups=3), nn.Tanh()),
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 12), nn.LayerNorm(12), nn.Tanh()),
        nn.Sequential(nn.Sequential(nn.Linear(3, 4)), nn.Linear(4, 12), nn.Tanh()),
    ],
)
def test_what_the_list_cannot_say_is_not_stored(module: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"no plain spec and cannot be stored as \.safetensors"):
        generators.adopt(module).spec()


def upsampling(align_corners: bool | None) -> nn.Sequential:
    torch.manual_seed(3)
    grown = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners)
    return nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.Unflatten(1, (2, 4, 4)), grown, nn.Tanh())


@pytest.mark.parametrize("align_corners", [None, False, True])
def test_what_a_text_does_not_show_is_in_the_spec(align_corners: bool | None) -> None:
    network = generators.adopt(upsampling(align_corners)).train()
    before, state = {name: value.clone() for name, value in network.state_dict().items()}, torch.get_rng_state()
    spec = network.spec()
    assert torch.equal(torch.get_rng_state(), state) and all(part.training for part in network.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    again = generators.build(spec)
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.sample(9), network.sample(9)) and again.spec() == spec


def double(network: nn.Sequential) -> None:
    network[1].double()


def own_forward(network: nn.Sequential) -> None:
    network[0].forward = lambda x: functional.linear(x, network[0].weight)  # type: ignore[method-assign]
    nn.init.ones_(network[0].bias)


HIDDEN: dict[str, Callable[[nn.Sequential], object]] = {
    "hook": lambda network: network[0].register_forward_hook(lambda layer, given, made: made + 1),
    "hook on all": lambda network: network.register_forward_hook(lambda layer, given, made: -made),
    "hook before": lambda network: network[1].register_forward_pre_hook(lambda layer, given: (given[0] + 1,)),
    "float64": double,
    "own forward": own_forward,
}


@pytest.mark.parametrize("case", HIDDEN)
def test_what_a_card_cannot_say_has_no_spec(case: str) -> None:
    module = upsampling(None).eval()
    assert stack.described(module, (6,)) is not None
    text = str(module)
    HIDDEN[case](module)
    assert str(module) == text and stack.described(module, (6,)) is None


def changed(spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**spec, **more}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: changed(s, module=[]), "module has 0 layers"),
        (lambda s: changed(s, module=["ReLU"]), "a layer is 'ReLU'"),
        (lambda s: changed(s, module=[{"layer": "Module"}]), "layer='Module' is unknown"),
        (lambda s: changed(s, module=[{"layer": "Linear", "in_features": 10**12}]), "in_features="),
        (lambda s: changed(s, module=[{"layer": "Upsample", "scale_factor": 1e9}]), "scale_factor="),
        (lambda s: changed(s, module=s["module"][1:]), "do not fit each other"),
        (lambda s: changed(s, sample_shape=[3, 16, 16]), "sample_shape="),
        (lambda s: changed(s, ends="cosine"), "ends='cosine' is unknown"),
    ],
)
def test_a_forged_list_of_layers_is_one_sentence(network: nn.Sequential, change: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        generators.build(change(generators.adopt(network).spec()))


LINEAR = {"layer": "Linear", "in_features": 4, "out_features": 16}
PICTURE = {"layer": "Unflatten", "dim": 1, "unflattened_size": [1, 4, 4]}
BIG = {"layer": "Upsample", "scale_factor": 64}


@pytest.mark.parametrize(
    ("layers", "latent", "sample", "said"),
    [
        ([LINEAR, PICTURE, BIG, BIG, BIG], [4], [1, 2**20, 2**20], "makes 268,435,456 numbers of one latent"),
        ([LINEAR, PICTURE, BIG, BIG, {"layer": "Flatten"}], [4], [2**28], "sample_shape=268435456 is out of range"),
        ([LINEAR, {"layer": "Linear", "in_features": 16, "out_features": 2**20}] * 9, [4], [16], "weights; at most"),
        ([{"layer": "Conv2d", "in_channels": 4, "out_channels": 4, "kernel_size": [64] * 10}], [4], [4], "10 numbers"),
        ([{"layer": "Conv2d", "in_channels": 4, "out_channels": 4, "kernel_size": []}], [4], [4], "has 0 numbers"),
        ([{**LINEAR, "in_features": [4, 4]}], [4], [16], "in_features="),
        ([{**LINEAR, "out_features": -16}], [4], [16], "out_features=-16 is out of range"),
        ([LINEAR, {**PICTURE, "unflattened_size": [-1, 4, 4]}], [4], [1, 4, 4], "unflattened_size=-1"),
        ([LINEAR], [-2, -2], [16], "latent_shape=-2 is out of range"),
        ([LINEAR], [4], [-16], "sample_shape=-16 is out of range"),
        ([LINEAR], [4], [16.0], "sample_shape=16.0 is not valid"),
        ([LINEAR], 4, [16], "latent_shape=4 is not valid"),
        ([LINEAR, {"layer": "Flatten", "start_dim": 0}], [4], [16], "mixes latents"),
        ([{"layer": "Linear", "in_features": 4}], [4], [16], "Linear cannot be made of its settings"),
        ([{"layer": "Embedding", "num_embeddings": 4}], [4], [16], "layer='Embedding' is unknown"),
        ([{**LINEAR, "device": "cpu"}], [4], [16], "Linear has no setting 'device'"),
        ([LINEAR, PICTURE, {**BIG, "align_corners": "no"}], [4], [1, 256, 256], "align_corners='no' is unknown"),
    ],
)
def test_a_forged_card_on_disk_is_one_sentence_and_no_layer_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: list[Any], latent: Any, sample: Any, said: str
) -> None:
    honest = generators.adopt(nn.Sequential(nn.Linear(4, 16), nn.Tanh()))
    file = zoo.save_file(tmp_path / "a.safetensors", honest, zoo.ModelCard("a", {}, "none", 0, {}))
    shapes = {"module": layers, "latent_shape": latent, "sample_shape": sample}
    if layers[0] == LINEAR:  # a file that has just the weights that the card needs, as its forger would make it
        file.write_bytes(save({"module.0.weight": torch.zeros(16, 4), "module.0.bias": torch.zeros(16)}))
    zoo.write_card(file, zoo.ModelCard("a", changed(honest.spec(), **shapes), "none", 0, {}))
    on_meta = nn.Module.__call__

    def only_on_meta(layer: nn.Module, x: Tensor) -> Any:
        assert x.is_meta, "a layer of a stranger's card ran"
        return on_meta(layer, x)

    monkeypatch.setattr(nn.Module, "__call__", only_on_meta)
    with pytest.raises(ValueError, match="a.json describes no generator of this package") as refused:
        zoo.load_file(file)
    assert said in str(refused.value) and len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 300


def test_reading_a_card_runs_no_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: nn.Sequential) -> None:
    clean = generators.adopt(network)
    file = zoo.save_file(tmp_path / "a.safetensors", clean, zoo.ModelCard("a", {}, "none", 0, {}))
    seen = []
    for kind in (nn.ConvTranspose2d, nn.Tanh):
        monkeypatch.setattr(kind, "forward", watched(kind.forward, seen))
    zoo.load_file(file)
    assert seen and all(seen)


def watched(forward: Callable[..., Tensor], seen: list[bool]) -> Callable[..., Tensor]:
    def watching(layer: nn.Module, x: Tensor) -> Tensor:
        seen.append(x.is_meta)
        return forward(layer, x)

    return watching


def test_what_may_be_large_is_the_same_for_all_files() -> None:
    assert stack.MOST_ELEMENTS == program.MOST_ELEMENTS and 4 * stack.MOST_WEIGHTS == zoo.MOST_BYTES


def test_a_sample_of_the_stored_network_is_what_the_card_promises(network: nn.Sequential) -> None:
    made: Tensor = generators.build(generators.adopt(network).spec()).sample(2)
    assert tuple(made.shape) == (2, 3, 32, 32)
