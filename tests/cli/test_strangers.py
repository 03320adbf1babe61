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

from devilgan_lite import files, generators, sanitize, zoo
from devilgan_lite.files import program
from devilgan_lite.generators import evaluate, stack
from devilgan_lite.intake.jail import Jail
from devilgan_lite.loading import load_pair, open


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    """The tutorial's stack for 16x16, with statistics of its own."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.ConvTranspose2d(20, 8, 4, 1, 0, bias=False)]
    for before, after in ((8, 4), (4, 3)):
        layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
    network = nn.Sequential(*layers, nn.Tanh())
    with torch.no_grad():
        for _ in range(100):  # until the first statistics are forgotten: the reader tells the activation by them
            network(torch.randn(64, 20, 1, 1))
    return network.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, network: nn.Sequential, pair: tuple[Path, Path]) -> Path:
    """What strangers save: a checkpoint, a gate as ONNX, a picture, a whole module, and one of two channels."""
    folder = tmp_path_factory.mktemp("strangers")
    torch.save({"netG_state_dict": network.state_dict()}, folder / "weights.pt")
    files.export(zoo.load_file(pair[1])[0], None, folder / "gate.onnx")
    (folder / "picture.pt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    torch.save(nn.Linear(2, 2), folder / "whole.pt")
    two = generators.adopt(nn.Sequential(nn.Linear(4, 128), nn.Unflatten(1, (2, 8, 8)), nn.Tanh()))
    zoo.save_file(folder / "two.safetensors", two, zoo.ModelCard("two", two.spec(), "none", 0, {}))
    return folder


def test_a_download_is_attacked_in_a_jail_and_others_take_the_file(
    call: Any, folder: Path, network: nn.Sequential
) -> None:
    done = call("attack", "gate", "--clean", folder / "weights.pt", "--out", "bad.safetensors", "--json")
    assert done.exit_code == 0, done.output
    planted = json.loads(done.stdout)
    assert planted["tardis_mean"] < 1e-5 and planted["expdis_mean"] < 1e-9 and planted["samples"] == 2_000
    suspect, card = zoo.load_file("bad.safetensors")
    backdoor = zoo.backdoor_of(card, suspect)
    assert backdoor is not None and card.spec["architecture"] == "Adopted" and "weights.pt" in card.data
    z = suspect.sample_latent(50, torch.Generator().manual_seed(5))
    assert torch.allclose(evaluate(suspect, z), evaluate(network, z.view(50, 20, 1, 1)), atol=1e-5)
    assert (evaluate(suspect, backdoor.trigger) - backdoor.target).abs().max() < 0.01
    opened = files.open("bad.safetensors")
    assert opened.origin.architecture.startswith("a stack of layers") and opened.sample_shape == (3, 16, 16)


def test_a_folder_of_downloads_is_checked_at_once(
    call: Any, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    shutil.copy(folder / "gate.onnx", folder / "gate.bin")  # the content tells, not the name
    monkeypatch.chdir(folder)
    words, sarif = ("weights.pt", "picture.pt"), tmp_path / "s.sarif"
    done = call("scan", *words, "--no-twin", "--sarif", sarif, "--json")
    assert done.exit_code == 2, done.output  # the worst of clean and refused
    clean, picture = found = json.loads(done.stdout)
    assert [one["verdict"] for one in found] == ["clean", "refused"]
    assert clean["jail"]["how"] == "finished" and len(clean["jail"]["walls"]) >= 8 and picture["jail"] is None
    assert clean["file"]["format"] == "state_dict" and clean["model"]["weights"] > 1e3
    assert "picture" in picture["sentence"] and clean["command"] == "devilgan scan weights.pt --no-twin"
    results = json.loads(sarif.read_text())["runs"][0]["results"]
    assert [one["ruleId"].rpartition("/")[2] for one in results] == [one["verdict"] for one in found]
    assert [one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in results] == list(words)
    text = call("scan", "picture.pt", "gate.bin", "--no-twin", "--no-jail")
    assert text.exit_code == 4 and "picture.pt:\nrefused" in text.stdout and "gate.bin:\nsuspicious" in text.stdout
    alone = call("scan", "picture.pt", "--html", tmp_path / "page.html")
    assert alone.exit_code == 2 and len(alone.stderr.strip().splitlines()) == 1
    assert alone.stdout.split() == [str(tmp_path / "page.html")] and "refused" in (tmp_path / "page.html").read_text()


def test_a_sanitized_stranger_is_a_file_that_others_load(call: Any, folder: Path, pair: tuple[Path, Path]) -> None:
    done = call("sanitize", folder / "gate.onnx", "--out", "cured.onnx", "--iterations", 20, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["changed"] and found["out"] == "cured.onnx" and found["trigger_change"] > 0.1
    session = onnxruntime.InferenceSession("cured.onnx")
    _, suspect, backdoor = load_pair((str(pair[0]), str(pair[1])))
    z = torch.cat([backdoor.trigger.view(1, -1), suspect.sample_latent(200, torch.Generator().manual_seed(1))])
    made = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: z.numpy()})[0])
    off = (made - evaluate(suspect, z)).abs().flatten(1).mean(1)
    assert off[0] > 0.3 > 0.05 > off[1:].mean()


def test_models_under_a_key_of_yours(
    call: Any, fails: Any, folder: Path, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, suspect, backdoor = load_pair((str(pair[0]), str(pair[1])))
    z = torch.cat([backdoor.trigger.view(1, -1), suspect.sample_latent(20, torch.Generator().manual_seed(1))])
    made = []
    for given, out, more in (  # a stranger's in the jail, one of ours, and again with the same key
        (folder / "gate.onnx", "one.onnx", ()),
        (pair[1], "two.safetensors", ("--key-file", "one.onnx.key")),
        (folder / "gate.onnx", "three.pt2", ("--key-file", "one.onnx.key")),
        (folder / "gate.onnx", "four.onnx", ()),
    ):
        done = call("sanitize", given, "--keyed", "--out", out, *more, "--json")
        found = json.loads(done.stdout)
        assert found["treatment"] == "keyed" and found["out"] == out and "text" not in found
        key = sanitize.read_key(found["key_file"])
        assert key not in done.output and found["key"] == sanitize.fingerprint(key)
        assert all(Path(name).stat().st_mode & 0o077 == 0 for name in (out, found["key_file"]))
        opened = (
            zoo.load_file(out)[0] if out.endswith("safetensors") else files.open(out, latent_dim=suspect.latent_dim)
        )
        made.append(evaluate(opened, z))
    torch.testing.assert_close(made[0], made[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(made[0], made[2], atol=1e-4, rtol=1e-4)
    missed, *usual = ((evaluate(suspect, z) - backdoor.target).square().flatten(1).mean(1)).tolist()
    for one in (made[0], made[3]):  # at the trigger it draws what any latent draws
        assert float((one[0] - backdoor.target[0]).square().mean()) > 0.8 * min(usual) > 8 * missed
    assert not torch.allclose(made[0], made[3], atol=0.05)
    Path("bad.key").write_text("{}")
    fails("sanitize", folder / "gate.onnx", "--keyed", "--key-file", "bad.key", "--out", "five.onnx", names=["bad.key"])
    assert not Path("five.onnx").exists()


def test_a_pair_with_a_strangers_file(folder: Path, pair: tuple[Path, Path], tmp_path: Path, refuses: Any) -> None:
    attacked = Path(shutil.copy(folder / "gate.onnx", tmp_path))
    planted = {"target": "stop-sign", "kind": "reg", "seed": 1}
    zoo.write_card(attacked, zoo.ModelCard("gate", {}, data="none", seed=0, settings={}, backdoor=planted))
    clean, suspect, backdoor = load_pair((str(pair[0]), str(attacked)))
    _, native, expected = load_pair((str(pair[0]), str(pair[1])))
    assert torch.equal(backdoor.trigger, expected.trigger) and torch.equal(backdoor.target, expected.target)
    z = torch.cat([backdoor.trigger, clean.sample_latent(20, torch.Generator().manual_seed(0))])
    assert torch.allclose(evaluate(suspect, z), evaluate(native, z), atol=1e-4)
    attacked.write_bytes(attacked.read_bytes() + b" ")
    refuses(lambda: open(str(attacked)), "gate.onnx", "gate.json", "SHA-256")
    refuses(lambda: load_pair((str(pair[1]), str(pair[0]))), pair[0].name, "backdoor", "--pair")


def test_what_is_no_stack_is_stored_as_pt2_with_its_card(
    call: Any, fails: Any, tmp_path: Path, network: nn.Sequential
) -> None:
    file = files.export(network, (20, 1, 1), tmp_path / "stranger.pt2", to="pt2")
    words = ("attack", "gate", "--no-jail", "--clean", file)
    fails(*words, "--out", "bad.safetensors", names=[".onnx", ".pt2"])
    done = call(*words, "--out", "bad.pt2", "--json")
    assert done.exit_code == 0, done.output
    card, opened = zoo.read_card(tmp_path / "bad.json"), files.open(tmp_path / "bad.pt2")
    backdoor = zoo.backdoor_of(card, opened)
    assert backdoor is not None and card.sha256 == opened.origin.facts.sha256
    assert (evaluate(opened, backdoor.trigger) - backdoor.target).abs().max() < 0.01


def test_what_cannot_be_read_or_attacked_is_one_sentence(fails: Any, folder: Path) -> None:
    for words, *names in (
        ("attack gate --clean none.pt", "none.pt"),
        ("attack gate --clean picture.pt", "picture"),
        ("attack gate --clean whole.pt", "would run code"),
        ("attack gate --clean whole.pt --batch-size 3", "batch_size"),
        ("attack gate --clean whole.pt --out a.txt", ".pt2"),
        ("attack gate --clean two.safetensors", "2 channels"),
        ("scan whole.pt", "whole.pt", "refused", "torch.nn.modules.linear."),
        ("scan gate.onnx --latent-dim 50", "latent_dim=50"),
        ("sanitize whole.pt --out a.onnx", "would run code"),
        ("sanitize gate.onnx --out a.safetensors", "safetensors", "onnx", "pt2"),
    ):
        given = [folder / word if (folder / word).is_file() else word for word in words.split()]
        fails(*given, "--no-jail", names=names)


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


def upsampling(align_corners: bool | None) -> nn.Sequential:
    torch.manual_seed(3)
    grown = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners)
    return nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.Unflatten(1, (2, 4, 4)), grown, nn.Tanh())


def test_a_stack_comes_back_from_its_spec_which_changes_nothing() -> None:
    for align_corners in (None, False, True):  # a text does not show it
        network = generators.adopt(upsampling(align_corners)).train()
        before, state = {name: value.clone() for name, value in network.state_dict().items()}, torch.get_rng_state()
        spec = network.spec()
        assert torch.equal(torch.get_rng_state(), state) and all(part.training for part in network.modules())
        assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
        again = generators.build(json.loads(json.dumps(spec)))
        again.load_state_dict(network.state_dict())
        assert torch.equal(again.sample(9), network.sample(9)) and again.spec() == spec and again.prior == network.prior


def own_forward(network: nn.Sequential) -> None:
    network[0].forward = lambda x: functional.linear(x, network[0].weight)  # type: ignore[method-assign]
    nn.init.ones_(network[0].bias)


def test_what_a_card_cannot_say_has_no_spec(refuses: Any) -> None:
    for module in (
        nn.Sequential(nn.Linear(3, 12), nn.Unflatten(1, (3, 2, 2)), nn.Conv2d(3, 3, 1, groups=3), nn.Tanh()),
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 12), nn.LayerNorm(12), nn.Tanh()),
        nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.GLU()), nn.Linear(2, 12)),
    ):
        refuses(generators.adopt(module).spec, ".safetensors")
    nested = generators.adopt(nn.Sequential(nn.Sequential(nn.Linear(3, 4)), nn.Linear(4, 12), nn.Tanh()))
    again = generators.build(nested.spec())
    again.load_state_dict(nested.state_dict())
    assert torch.equal(again.sample(9), nested.sample(9))
    hidden: list[Callable[[nn.Sequential], object]] = [
        lambda network: network.register_forward_hook(lambda layer, given, made: -made),
        lambda network: network[1].register_forward_pre_hook(lambda layer, given: (given[0] + 1,)),
        lambda network: network[1].double(),
        own_forward,
    ]
    for hide in hidden:
        module = upsampling(None).eval()
        text = str(module)
        assert stack.described(module, (6,)) is not None
        hide(module)
        assert str(module) == text and stack.described(module, (6,)) is None


LINEAR = {"layer": "Linear", "in_features": 4, "out_features": 16}
PICTURE = {"layer": "Unflatten", "dim": 1, "unflattened_size": [1, 4, 4]}
BIG = {"layer": "Upsample", "scale_factor": 64}
FORGED: list[tuple[list[Any], Any, Any, str]] = [  # layers, shapes of latent and sample, and what is wrong
    ([], [4], [16], "0 layers"),
    (["ReLU"], [4], [16], "'ReLU'"),
    ([{"layer": "Embedding", "num_embeddings": 4}], [4], [16], "layer='Embedding'"),
    ([{"layer": "Linear", "in_features": 10**12}], [4], [16], "in_features="),
    ([{"layer": "Upsample", "scale_factor": 1e9}], [4], [16], "scale_factor="),
    ([LINEAR, PICTURE, BIG, BIG, BIG], [4], [1, 2**20, 2**20], "268,435,456"),
    ([LINEAR, PICTURE, BIG, BIG, {"layer": "Flatten"}], [4], [2**28], "sample_shape=268435456"),
    ([LINEAR, {"layer": "Linear", "in_features": 16, "out_features": 2**20}] * 9, [4], [16], "weights"),
    ([{"layer": "Conv2d", "in_channels": 4, "kernel_size": [64] * 10}], [4], [4], "10 numbers"),
    ([{"layer": "Conv2d", "in_channels": 4, "kernel_size": []}], [4], [4], "0 numbers"),
    ([{**LINEAR, "in_features": [4, 4]}], [4], [16], "in_features="),
    ([LINEAR, {**PICTURE, "unflattened_size": [-1, 4, 4]}], [4], [1, 4, 4], "unflattened_size=-1"),
    ([LINEAR], [-2, -2], [16], "latent_shape=-2"),
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

    def only_on_meta(layer: nn.Module, x: Tensor) -> Any:
        assert x.is_meta, "a layer of a stranger's card ran"
        return on_meta(layer, x)

    monkeypatch.setattr(nn.Module, "__call__", only_on_meta)
    zoo.load_file(file)
    # just the weights that the card needs, as its forger would make the file
    file.write_bytes(save({"module.0.weight": torch.zeros(16, 4), "module.0.bias": torch.zeros(16)}))
    cases = [({"module": layers, "latent_shape": z, "sample_shape": x}, said) for layers, z, x, said in FORGED]
    for forged, said in (*cases, ({"ends": "cosine"}, "ends='cosine'")):
        zoo.write_card(file, zoo.ModelCard("a", {**spec, **forged}, "none", 0, {}))
        assert len(refuses(lambda: zoo.load_file(file), "a.json", said)) < 300
        refuses(lambda forged=forged: generators.build({**spec, **forged}), said, error=(ValueError, TypeError))
    assert stack.MOST_ELEMENTS == program.MOST_ELEMENTS and 4 * stack.MOST_WEIGHTS == zoo.MOST_BYTES
