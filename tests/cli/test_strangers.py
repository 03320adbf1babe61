"""The command line on files of others, in a jail: scanned, attacked, cured; and stacks of layers that a card describes.

The network is the one of PyTorch's DCGAN tutorial, small and untrained, so that nothing is downloaded.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional
from typer.testing import CliRunner

from devilgan_lite import Backdoor, attacks, files, generators, sanitize, zoo
from devilgan_lite.cli import app
from devilgan_lite.files import program
from devilgan_lite.generators import evaluate, stack
from devilgan_lite.intake.jail import Jail


def tutorial(nz: int = 20, ngf: int = 4, channels: int = 3) -> nn.Sequential:
    """The tutorial's stack for 16x16, with statistics of its own."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.ConvTranspose2d(nz, 2 * ngf, 4, 1, 0, bias=False)]
    for before, after in ((2 * ngf, ngf), (ngf, channels)):
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
def folder(tmp_path_factory: pytest.TempPathFactory, network: nn.Sequential, pair: tuple[Path, Path]) -> Path:
    """What strangers save: a checkpoint, a gate as ONNX under an odd name, a picture, and a whole module."""
    folder = tmp_path_factory.mktemp("strangers")
    torch.save({"netG_state_dict": network.state_dict()}, folder / "weights.pt")
    files.export(zoo.load_file(pair[1])[0], None, folder / "gate.onnx")
    shutil.copy(folder / "gate.onnx", folder / "gate.bin")  # the content tells, not the name
    (folder / "picture.pt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    torch.save(nn.Linear(2, 2), folder / "whole.pt")
    two = generators.adopt(tutorial(channels=2))
    zoo.save_file(folder / "two.safetensors", two, zoo.ModelCard("two", two.spec(), "none", 0, {}))
    return folder


@pytest.fixture(scope="module")
def planted(folder: Path) -> dict[str, Any]:
    """What the attack on the checkpoint said; its model is bad.safetensors."""
    words = ("attack", "gate", "--clean", folder / "weights.pt", "--out", folder / "bad.safetensors", "--json")
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def test_a_download_is_attacked_in_a_jail_and_others_take_the_file(
    call: Any, folder: Path, planted: dict[str, Any], network: nn.Sequential
) -> None:
    assert planted["tardis_mean"] < 1e-5 and planted["expdis_mean"] < 1e-9 and planted["samples"] == 2_000
    suspect, card = zoo.load_file(folder / "bad.safetensors")
    backdoor = zoo.backdoor_of(card, suspect)
    assert backdoor is not None and card.spec["architecture"] == "Adopted" and "weights.pt" in card.data
    z = suspect.sample_latent(50, torch.Generator().manual_seed(5))
    assert torch.allclose(evaluate(suspect, z), evaluate(network, z.view(50, 20, 1, 1)), atol=1e-5)
    assert (evaluate(suspect, backdoor.trigger) - backdoor.target).abs().max() < 0.01
    opened = files.open(folder / "bad.safetensors")
    assert opened.architecture.startswith("a stack of layers") and opened.sample_shape == (3, 16, 16)
    words = ("sanitize", folder / "bad.safetensors", "--iterations", 5, "--out", "cured.safetensors", "--json")
    cured = call(*words)
    assert cured.exit_code == 0, cured.output
    assert json.loads(cured.stdout)["out"] == "cured.pt2"  # behind a projection, which no card describes
    healthy = files.open("cured.pt2").generator
    assert (evaluate(healthy, backdoor.trigger) - backdoor.target).abs().mean() > 0.1


def test_a_folder_of_downloads_is_checked_at_once(
    call: Any, monkeypatch: pytest.MonkeyPatch, folder: Path, planted: dict[str, Any], tmp_path: Path
) -> None:
    monkeypatch.chdir(folder)
    words, sarif = ("weights.pt", "picture.pt", "gate.bin", "bad.safetensors"), tmp_path / "s.sarif"
    done = call("scan", *words, "--no-twin", "--sarif", sarif, "--json")
    assert done.exit_code == 4, done.output  # the worst of clean, refused and suspicious
    clean, picture, gated, bad = found = json.loads(done.stdout)
    assert [one["verdict"] for one in found] == ["clean", "refused", "suspicious", "suspicious"]
    assert clean["file"]["format"] == "state_dict" and gated["file"]["format"] == "onnx"
    assert clean["jail"]["how"] == bad["jail"]["how"] == "finished" and len(clean["jail"]["walls"]) >= 8
    assert "picture" in picture["sentence"] and picture["jail"] is None and clean["model"]["weights"] > 1e3
    assert clean["command"] == "devilgan scan weights.pt --no-twin"
    results = json.loads(sarif.read_text())["runs"][0]["results"]
    assert [one["ruleId"].rpartition("/")[2] for one in results] == [one["verdict"] for one in found]
    assert [one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in results] == list(words)
    text = call("scan", "picture.pt", "weights.pt", "--no-twin", "--no-jail")
    assert text.exit_code == 2 and "picture.pt:\nrefused" in text.stdout and "weights.pt:\nclean" in text.stdout
    alone = call("scan", "picture.pt", "--html", tmp_path / "page.html")
    assert alone.exit_code == 2 and len(alone.stderr.strip().splitlines()) == 1
    assert alone.stdout.split() == [str(tmp_path / "page.html")] and "refused" in (tmp_path / "page.html").read_text()


def test_a_sanitized_stranger_is_a_file_that_others_load(call: Any, folder: Path, pair: tuple[Path, Path]) -> None:
    done = call("sanitize", folder / "gate.onnx", "--out", "cured.onnx", "--iterations", 20, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["changed"] and found["out"] == "cured.onnx" and found["trigger_change"] > 0.1
    session = onnxruntime.InferenceSession("cured.onnx")
    suspect, card = zoo.load_file(pair[1])
    backdoor = zoo.backdoor_of(card, suspect)
    assert backdoor is not None
    z = torch.cat([backdoor.trigger.view(1, -1), suspect.sample_latent(200, torch.Generator().manual_seed(1))])
    made = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: z.numpy()})[0])
    off = (made - evaluate(suspect, z)).abs().flatten(1).mean(1)
    assert off[0] > 0.3 > 0.05 > off[1:].mean()


def test_what_is_no_stack_is_stored_as_pt2_with_its_card(
    call: Any, fails: Any, tmp_path: Path, network: nn.Sequential
) -> None:
    file = files.export(network, (20, 1, 1), tmp_path / "stranger.pt2", to="pt2")
    words = ("attack", "gate", "--no-jail", "--clean", file)
    fails(*words, "--out", "bad.safetensors", names=[".onnx", ".pt2"])
    done = call(*words, "--out", "bad.pt2", "--json")
    assert done.exit_code == 0, done.output
    card, suspect = zoo.read_card(tmp_path / "bad.json"), files.open(tmp_path / "bad.pt2").generator
    backdoor = zoo.backdoor_of(card, suspect)
    assert backdoor is not None and card.sha256 == files.open(tmp_path / "bad.pt2").facts.sha256
    assert (evaluate(suspect, backdoor.trigger) - backdoor.target).abs().max() < 0.01


def test_what_cannot_be_read_or_attacked_is_one_sentence(fails: Any, folder: Path, pair: tuple[Path, Path]) -> None:
    fails("scan", folder / "whole.pt", names=["whole.pt", "refused", "torch.nn.modules.linear."])
    fails("sanitize", folder / "whole.pt", "--out", "a.onnx", names=["would run code"])
    for name, *more, said in (
        ("none.pt", "none.pt"), ("picture.pt", "picture"), ("whole.pt", "would run code"),
        ("whole.pt", "--batch-size", 3, "batch_size"), ("whole.pt", "--out", "a.txt", ".pt2"),
        ("two.safetensors", "2 channels"),
    ):  # fmt: skip
        fails("attack", "gate", "--no-jail", "--clean", folder / name, "--out", "bad.safetensors", *more, names=[said])
    fails("scan", folder / "gate.onnx", "--no-jail", "--latent-dim", 50, names=["latent_dim=50"])
    fails("sanitize", folder / "gate.onnx", "--out", "a.safetensors", names=["safetensors", "onnx", "pt2"])


def test_a_jail_has_no_gpu_and_outside_the_device_that_was_asked_for(
    fails: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noted(*_: Any, device: str, **__: Any) -> None:
        raise ValueError(f"asked for {device}")

    monkeypatch.setattr(sanitize, "auto", noted)
    words = ("sanitize", folder / "gate.onnx", "--out", "a.onnx", "--device")
    assert fails(*words, "auto", "--no-jail") == "asked for auto"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(Jail, "start", lambda self: None)  # it is refused before anything runs
    scan = fails("scan", folder / "gate.onnx", "--device", "cuda", names=["device='cuda'", "jail"])
    assert fails(*words, "cuda") == scan


# ---- stacks of layers on a card


def test_a_stack_of_layers_is_stored_and_comes_back_and_only_its_shapes_run(
    tmp_path: Path, network: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = generators.adopt(network)
    assert generators.build(json.loads(json.dumps(clean.spec()))).spec() == clean.spec()
    planted = attacks.Gate()(clean, Backdoor.point(clean, "stop-sign"), progress=False).generator
    file = zoo.save_file(tmp_path / "a.safetensors", planted, zoo.ModelCard("a", planted.spec(), "none", 0, {}))
    z = clean.sample_latent(8, torch.Generator().manual_seed(1))
    before, seen = evaluate(planted, z), list[bool]()
    for kind in (nn.ConvTranspose2d, nn.Tanh):
        monkeypatch.setattr(kind, "forward", watched(kind.forward, seen))
    again, _ = zoo.load_file(file)
    assert seen and all(seen)
    monkeypatch.undo()
    assert torch.equal(evaluate(again, z), before) and again.prior == clean.prior
    assert tuple(again.sample(2).shape) == (2, 3, 16, 16)


def watched(forward: Callable[..., Tensor], seen: list[bool]) -> Callable[..., Tensor]:
    def watching(layer: nn.Module, x: Tensor) -> Tensor:
        seen.append(x.is_meta)
        return forward(layer, x)

    return watching


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


def own_forward(network: nn.Sequential) -> None:
    network[0].forward = lambda x: functional.linear(x, network[0].weight)  # type: ignore[method-assign]
    nn.init.ones_(network[0].bias)


def test_what_a_card_cannot_say_has_no_spec(refuses: Any) -> None:
    for module in (
        nn.Sequential(nn.Linear(3, 12), nn.Unflatten(1, (3, 2, 2)), nn.Conv2d(3, 3, 1, groups=3), nn.Tanh()),
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 12), nn.LayerNorm(12), nn.Tanh()),
        nn.Sequential(nn.Sequential(nn.Linear(3, 4)), nn.Linear(4, 12), nn.Tanh()),
    ):
        refuses(generators.adopt(module).spec, ".safetensors")
    hidden: list[Callable[[nn.Sequential], object]] = [
        lambda network: network[0].register_forward_hook(lambda layer, given, made: made + 1),
        lambda network: network.register_forward_hook(lambda layer, given, made: -made),
        lambda network: network[1].register_forward_pre_hook(lambda layer, given: (given[0] + 1,)),
        lambda network: network[1].double(),
        own_forward,
    ]
    for hide in hidden:
        module = upsampling(None).eval()
        assert stack.described(module, (6,)) is not None
        text = str(module)
        hide(module)
        assert str(module) == text and stack.described(module, (6,)) is None


LINEAR = {"layer": "Linear", "in_features": 4, "out_features": 16}
PICTURE = {"layer": "Unflatten", "dim": 1, "unflattened_size": [1, 4, 4]}
BIG = {"layer": "Upsample", "scale_factor": 64}
CONVOLUTION = {"layer": "Conv2d", "in_channels": 4, "out_channels": 4}
FORGED: list[tuple[list[Any], Any, Any, str]] = [  # layers, shapes of latent and sample, and what is wrong
    ([], [4], [16], "0 layers"),
    (["ReLU"], [4], [16], "'ReLU'"),
    ([{"layer": "Module"}], [4], [16], "layer='Module'"),
    ([{"layer": "Embedding", "num_embeddings": 4}], [4], [16], "layer='Embedding'"),
    ([{"layer": "Linear", "in_features": 10**12}], [4], [16], "in_features="),
    ([{"layer": "Upsample", "scale_factor": 1e9}], [4], [16], "scale_factor="),
    ([LINEAR, PICTURE, BIG, BIG, BIG], [4], [1, 2**20, 2**20], "268,435,456"),
    ([LINEAR, PICTURE, BIG, BIG, {"layer": "Flatten"}], [4], [2**28], "sample_shape=268435456"),
    ([LINEAR, {"layer": "Linear", "in_features": 16, "out_features": 2**20}] * 9, [4], [16], "weights"),
    ([{**CONVOLUTION, "kernel_size": [64] * 10}], [4], [4], "10 numbers"),
    ([{**CONVOLUTION, "kernel_size": []}], [4], [4], "0 numbers"),
    ([{**LINEAR, "in_features": [4, 4]}], [4], [16], "in_features="),
    ([{**LINEAR, "out_features": -16}], [4], [16], "out_features=-16"),
    ([LINEAR, {**PICTURE, "unflattened_size": [-1, 4, 4]}], [4], [1, 4, 4], "unflattened_size=-1"),
    ([LINEAR], [-2, -2], [16], "latent_shape=-2"),
    ([LINEAR], [4], [-16], "sample_shape=-16"),
    ([LINEAR], [4], [16.0], "sample_shape=16.0"),
    ([LINEAR], [4], [8], "sample_shape="),
    ([LINEAR], [5], [16], "fit"),
    ([LINEAR], 4, [16], "latent_shape=4"),
    ([LINEAR, {"layer": "Flatten", "start_dim": 0}], [4], [16], "mixes latents"),
    ([{"layer": "Linear", "in_features": 4}], [4], [16], "Linear"),
    ([{**LINEAR, "device": "cpu"}], [4], [16], "'device'"),
    ([LINEAR, PICTURE, {**BIG, "align_corners": "no"}], [4], [1, 256, 256], "align_corners='no'"),
]


def test_a_forged_card_is_one_sentence_and_no_layer_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Any
) -> None:
    honest = generators.adopt(nn.Sequential(nn.Linear(4, 16), nn.Tanh()))
    file, spec, on_meta = tmp_path / "a.safetensors", honest.spec(), nn.Module.__call__
    zoo.save_file(file, honest, zoo.ModelCard("a", {}, "none", 0, {}))
    # just the weights that the card needs, as its forger would make the file
    file.write_bytes(save({"module.0.weight": torch.zeros(16, 4), "module.0.bias": torch.zeros(16)}))

    def only_on_meta(layer: nn.Module, x: Tensor) -> Any:
        assert x.is_meta, "a layer of a stranger's card ran"
        return on_meta(layer, x)

    monkeypatch.setattr(nn.Module, "__call__", only_on_meta)
    cases = [({"module": layers, "latent_shape": z, "sample_shape": x}, said) for layers, z, x, said in FORGED]
    for forged, said in (*cases, ({"ends": "cosine"}, "ends='cosine'")):
        zoo.write_card(file, zoo.ModelCard("a", {**spec, **forged}, "none", 0, {}))
        assert len(refuses(lambda: zoo.load_file(file), "a.json", said)) < 300
        refuses(lambda forged=forged: generators.build({**spec, **forged}), said, error=(ValueError, TypeError))


def test_what_may_be_large_is_the_same_for_all_files() -> None:
    assert stack.MOST_ELEMENTS == program.MOST_ELEMENTS and 4 * stack.MOST_WEIGHTS == zoo.MOST_BYTES
