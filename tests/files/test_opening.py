"""One door: every format by its content, weights that come without a network, and what is refused in a sentence."""

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from devilgan_lite import detect, files, zoo
from devilgan_lite.checks import MOST_LATENT
from devilgan_lite.files import menu, state_dicts
from devilgan_lite.files.architectures import checked as checked_architecture
from devilgan_lite.files.sniff import OTHERS, Refused, facts, kind_of
from devilgan_lite.generators import DCGAN, FAMILIES, Generator, PointGenerator, StyleGAN, WaveGAN, adopt
from devilgan_lite.intake.check import Options
from devilgan_lite.interop.art import PyTorchGenerator
from devilgan_lite.prior import Prior


class Tutorial(nn.Module):
    """The generator of PyTorch's DCGAN tutorial, small."""

    def __init__(self, slope: float = 0.0, nz: int = 20, ngf: int = 8, levels: int = 3) -> None:
        super().__init__()
        widths = [ngf * 2**k for k in reversed(range(levels))]
        layers: list[nn.Module] = [nn.ConvTranspose2d(nz, widths[0], 4, 1, 0, bias=False)]
        for inputs, outputs in zip(widths, [*widths[1:], 3], strict=True):
            layers += [nn.BatchNorm2d(inputs), nn.LeakyReLU(slope) if slope else nn.ReLU()]
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)]
        self.main = nn.Sequential(*layers, nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z)


class Vanilla(nn.Module):
    """The generator of PyTorch-GAN's vanilla GAN, with the norm's eps where the famous 0.8 belongs."""

    def __init__(self, latent: int = 30) -> None:
        super().__init__()
        sizes = [latent, 32, 64]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*layers, nn.Linear(64, 784), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.model(z).view(len(z), 1, 28, 28)


class Upsampling(nn.Module):
    """The generator of PyTorch-GAN's DCGAN."""

    def __init__(self, latent: int = 30) -> None:
        super().__init__()
        self.l1 = nn.Sequential(nn.Linear(latent, 16 * 7 * 7))
        self.conv_blocks = nn.Sequential(
            nn.BatchNorm2d(16), nn.Upsample(scale_factor=2), nn.Conv2d(16, 16, 3, padding=1),
            nn.BatchNorm2d(16, eps=0.8), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2),
            nn.Conv2d(16, 8, 3, padding=1), nn.BatchNorm2d(8, eps=0.8), nn.LeakyReLU(0.2),
            nn.Conv2d(8, 1, 3, padding=1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z: Tensor) -> Tensor:
        return self.conv_blocks(self.l1(z).view(len(z), 16, 7, 7))


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fc, self.bn, self.relu = nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.relu(self.bn(self.fc(x))), x], dim=1)


def table() -> nn.Module:
    """CTGAN's generator."""
    module = nn.Module()
    module.seq = nn.Sequential(Residual(16, 32), Residual(48, 32), nn.Linear(80, 11))
    module.forward = lambda z: module.seq(z)  # type: ignore[method-assign]
    return module


def used(module: nn.Module, shape: tuple[int, ...], uniform: bool = False) -> nn.Module:
    """The module with norms that have seen latents, as after a training."""
    random = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.momentum = None  # a plain average
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0.0, 0.3)
    module.train()
    with torch.no_grad():
        for turn in range(30):
            if turn == 10:  # spectral norms have settled
                for norm in module.modules():
                    if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
                        norm.reset_running_stats()
            z = torch.randn(64, *shape, generator=random)
            module(torch.rand(64, *shape, generator=random) * 2 - 1 if uniform else z)
    return module.eval()


STRANGERS: dict[str, tuple[Any, tuple[int, ...], str]] = {
    "tutorial": (Tutorial, (20, 1, 1), "DCGAN tutorial"),
    "tutorial, leaky": (lambda: Tutorial(slope=0.2), (20, 1, 1), "DCGAN tutorial"),
    "tutorial, 64x64": (lambda: Tutorial(levels=4), (20, 1, 1), "DCGAN tutorial"),
    "dense": (Vanilla, (30,), "dense layers"),
    "upsampling": (Upsampling, (30,), "PyTorch-GAN"),
    "table": (table, (16,), "CTGAN"),
}


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("uniform", [False, True], ids=["gaussian", "uniform"])
def test_weights_without_a_network_get_theirs(tmp_path: Path, name: str, uniform: bool) -> None:
    make, shape, called = STRANGERS[name]
    torch.manual_seed(3)
    module = used(make(), shape, uniform)
    save_file(module.state_dict(), tmp_path / "g.safetensors")
    torch.save(module.state_dict(), tmp_path / "g.pt")
    z = torch.randn(16, *shape)
    for path, form in ((tmp_path / "g.safetensors", "safetensors"), (tmp_path / "g.pt", "state_dict")):
        stranger = files.open(path)
        assert stranger.format == form and called in stranger.architecture
        assert stranger.latent_shape == shape and stranger.prior == ("uniform" if uniform else "gaussian")
        torch.testing.assert_close(stranger.module(z), module(z), atol=1e-6, rtol=0)
        assert any("norms agree" in note for note in stranger.notes)
    generator = stranger.generator
    assert generator(z.flatten(1)).shape == (16, *stranger.sample_shape)
    assert name == "table" or generator.output == "tanh"


def test_norms_that_saw_something_else_are_named(tmp_path: Path) -> None:
    module = used(Tutorial(slope=0.9), (20, 1, 1))
    torch.save(module.state_dict(), tmp_path / "g.pt")
    assert any("no activation and prior that we know fit" in note for note in files.open(tmp_path / "g.pt").notes)


@pytest.mark.parametrize("name", ["dcgan-fashion", "dcgan-fashion-rex", "stylegan-faces", "stylegan-faces-gate"])
def test_our_own_families_are_known_by_their_weights_and_by_their_card(tmp_path: Path, name: str) -> None:
    native = zoo.load(name)
    torch.save(native.state_dict(), tmp_path / "g.pt")
    z = native.sample_latent(8, torch.Generator().manual_seed(0))
    by_weights, by_card = files.open(tmp_path / "g.pt"), files.open(zoo.zoo_folder() / f"{name}.safetensors")
    for stranger in (by_weights, by_card):
        torch.testing.assert_close(stranger.module(z), native(z), atol=0, rtol=0)
        assert stranger.generator.latent_dim == native.latent_dim
    assert "names and shapes" in by_weights.architecture and "card" in by_card.architecture


def test_the_paper_network_is_known(tmp_path: Path) -> None:
    from devilgan_lite.generators import DCGAN

    native = DCGAN.paper().eval()
    torch.save(native.state_dict(), tmp_path / "g.pt")
    z = native.sample_latent(4, torch.Generator().manual_seed(0))
    torch.testing.assert_close(files.open(tmp_path / "g.pt").module(z), native(z), atol=0, rtol=0)


def checkpoint(module: nn.Module) -> dict[str, Any]:
    """What a training loop saves beside a generator."""
    other = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 4))
    optimiser = torch.optim.Adam(module.parameters())
    return {
        "epoch": 7,
        "netD_state_dict": other.state_dict(),
        "netG_state_dict": module.state_dict(),
        "optimizerG_state_dict": optimiser.state_dict(),
        "loss": [0.1, 0.2],
    }


def test_a_generator_is_found_in_a_checkpoint(tmp_path: Path) -> None:
    module = used(Tutorial(), (20, 1, 1))
    parallel = {f"module.{name}": value for name, value in module.state_dict().items()}
    together = {f"netG.{name}": value for name, value in module.state_dict().items()}
    together |= {"netD.0.weight": torch.randn(4, 3, 4, 4), "netD.0.bias": torch.randn(4)}
    half = {name: value.half() if value.is_floating_point() else value for name, value in module.state_dict().items()}
    z = torch.randn(4, 20, 1, 1)
    for content in (checkpoint(module), {"model": {"generator": parallel}}, parallel, together, half):
        torch.save(content, tmp_path / "c.pth")
        made = files.open(tmp_path / "c.pth").module(z)
        torch.testing.assert_close(made, module(z), atol=2e-2 if content is half else 1e-6, rtol=0)
    torch.save(checkpoint(module), tmp_path / "old.tar", _use_new_zipfile_serialization=False)  # before PyTorch 1.6
    torch.testing.assert_close(files.open(tmp_path / "old.tar").module(z), module(z), atol=1e-6, rtol=0)
    assert "read from 'netG_state_dict'" in files.open(tmp_path / "old.tar").notes[0]


def test_what_else_a_checkpoint_holds_is_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shown, hidden = used(Tutorial(), (20, 1, 1)).state_dict(), used(Tutorial(), (20, 1, 1)).state_dict()
    told = {"latent_shape": [20, 1, 1], "layers": files.menu.menu(shown)[0].architecture["layers"]}
    torch.save({"netG": hidden, "ema": shown}, tmp_path / "two.pt")
    for architecture in (None, told):
        notes = files.open(tmp_path / "two.pt", architecture=architecture).notes
        assert notes[:2] == (
            "weights read from 'ema'",
            "not checked: 1 more of its sets of weights fit a network ('netG')",
        )
    torch.save({"ema": shown, "copies": [hidden]}, tmp_path / "list.pt")
    assert any("('copies.0')" in note for note in files.open(tmp_path / "list.pt").notes)
    faces = {"ema": zoo.load("stylegan-faces").state_dict()}  # a part of it would fit the menu by itself
    for content in ({"netG": shown, "ema": shown}, {"a": 1, "ema": shown}, faces):
        torch.save(content, tmp_path / "one.pt")
        assert not any("not checked" in note for note in files.open(tmp_path / "one.pt").notes)


def test_a_file_that_is_two_models_at_once_is_refused(tmp_path: Path) -> None:
    module, other = Tutorial().eval(), Tutorial().eval()
    files.export(module, (20, 1, 1), tmp_path / "a.pt2", to="pt2")
    torch.save(other.state_dict(), tmp_path / "b.pt")
    members: dict[str, bytes] = {}
    for name in ("b.pt", "a.pt2"):
        with zipfile.ZipFile(tmp_path / name) as archive:
            members = {f"a/{one.partition('/')[2]}": archive.read(one) for one in archive.namelist()} | members
    zipped(tmp_path / "both.pt", **members)
    found = torch.load(tmp_path / "both.pt", weights_only=True)  # what a victim gets
    assert torch.equal(found["main.0.weight"], other.state_dict()["main.0.weight"])
    with pytest.raises(Refused, match="pt2 and state_dict at once"):
        files.open(tmp_path / "both.pt")
    save_file(used(module, (20, 1, 1)).state_dict(), tmp_path / "c.onnx")
    with pytest.raises(Refused, match=r"called \.onnx but holds safetensors"):
        files.open(tmp_path / "c.onnx")


@pytest.mark.parametrize("new", [False, True])
def test_spectral_norm_is_divided_out(tmp_path: Path, new: bool) -> None:
    torch.manual_seed(0)
    module = Tutorial()
    wrap = nn.utils.parametrizations.spectral_norm if new else nn.utils.spectral_norm
    for layer in module.main:
        if isinstance(layer, nn.ConvTranspose2d):
            wrap(layer, n_power_iterations=3)
    used(module, (20, 1, 1))
    torch.save(module.state_dict(), tmp_path / "g.pt")
    z = torch.randn(4, 20, 1, 1)
    torch.testing.assert_close(files.open(tmp_path / "g.pt").module(z), module(z), atol=1e-5, rtol=0)


def test_an_architecture_can_be_told(tmp_path: Path) -> None:
    torch.manual_seed(0)
    native = nn.Sequential(
        nn.Linear(12, 8 * 16), nn.Unflatten(1, (8, 4, 4)), nn.ELU(), nn.Upsample(scale_factor=2),
        nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2), nn.Sigmoid(),
    )  # fmt: skip
    torch.save(native.state_dict(), tmp_path / "g.pt")
    layers: list[dict[str, Any]] = [
        {"layer": "linear", "weights": "0"},
        {"layer": "reshape", "shape": [8, 4, 4]},
        {"layer": "elu"},
        {"layer": "upsample", "scale": 2},
        {"layer": "conv2d", "weights": "4", "padding": 1},
        {"layer": "pixel_shuffle", "scale": 2},
        {"layer": "sigmoid"},
    ]
    told = {"latent_shape": [12], "prior": "uniform", "layers": layers}
    (tmp_path / "a.json").write_text(json.dumps(told))
    with pytest.raises(Refused, match=r"fit none known .*--architecture FILE"):
        files.open(tmp_path / "g.pt")
    for given in (told, tmp_path / "a.json", str(tmp_path / "a.json")):
        stranger = files.open(tmp_path / "g.pt", architecture=given)
        z = torch.randn(3, 12)
        torch.testing.assert_close(stranger.module(z), native(z), atol=0, rtol=0)
        assert stranger.prior == "uniform" and stranger.sample_shape == (3, 16, 16)
    assert stranger.generator(z).min() >= -1 and stranger.generator.ends == "sigmoid"
    wrong: list[tuple[Any, str]] = [
        ([], "architecture must be an object"),
        ({**told, "latent_shape": [0]}, "latent_shape=0 is out of range"),
        ({**told, "layers": [{"layer": "lstm"}]}, "layer='lstm' is unknown; valid: linear"),
        ({**told, "layers": [{"layer": "relu", "slope": 1}]}, "relu has no setting 'slope'"),
        ({**told, "prior": "cauchy"}, "prior='cauchy' is unknown"),
        ({**told, "layers": [*layers[:4], {"layer": "conv2d", "weights": "5"}]}, "'5.weight' of a conv2d are missing"),
        ({**told, "layers": layers[:4]}, "does not use the weights '4.weight'"),
        ({**told, "layers": [{"layer": "conv2d", "weights": "0"}]}, "expected 4 dimensions"),
        ({**told, "layers": [*layers[:1], *layers[2:]]}, "does not compute"),
    ]
    for given, sentence in wrong:
        with pytest.raises((ValueError, TypeError), match=sentence.replace("(", r"\(")):
            files.open(tmp_path / "g.pt", architecture=given)


class Canary:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.path}",))


def test_pickles_are_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save({"netG": Canary(canary)}, tmp_path / "a.pt")
    torch.save({"netG": Canary(canary)}, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(Canary(canary)))
    torch.save(Tutorial(), tmp_path / "d.pt")
    for name in ("a.pt", "b.pt", "c.pkl", "d.pt"):
        with pytest.raises(Refused) as caught:
            files.open(tmp_path / name)
        assert "code" in str(caught.value) or "no whole file" in str(caught.value), caught.value
    assert "Tutorial" in str(caught.value) and "export it as ONNX or pt2" in str(caught.value)
    assert not canary.exists()
    pickle.loads((tmp_path / "c.pkl").read_bytes())  # the canary sings where somebody does run it
    assert canary.exists()


def zipped(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)


def test_what_is_no_generator_is_refused_in_a_sentence(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "nothing.pt")
    torch.save({"a.weight": torch.full((3, 3), 1.0).expand(3, 3), "b.weight": torch.randn(2)}, tmp_path / "odd.pt")
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    zipped(tmp_path / "pictures.zip", a__png=b"1", b__jpg=b"2")
    zipped(tmp_path / "other.zip", a__txt=b"1")
    zipped(tmp_path / "arrays.npz", a__npy=b"1")
    with tarfile.open(tmp_path / "real.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO(b""))
    contents = {
        "empty.pt": b"", "picture.pt": b"\x89PNG\r\n\x1a\n" + bytes(100), "page.pt": b"<!doctype html><p>404",
        "lfs.pt": b"version https://git-lfs.github.com/spec/v1\noid", "h5.h5": b"\x89HDF\r\n\x1a\n" + bytes(99),
        "saved.pb": b"\x08\x01\x12\x00" + bytes(99), "noise.bin": b"\xee" * 600, "gz.pt": b"\x1f\x8b\x08" + bytes(99),
        "cut.safetensors": (10).to_bytes(8, "little") + b"{" + bytes(20), "tf.tflite": b"\0\0\0\0TFL3" + bytes(99),
        "zip.pt": b"PK\x03\x04" + bytes(99), "one.pt": b"\x08",
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    said = {
        "nothing.pt": "holds no weights of a network", "odd.pt": "fit none known", "script.pt": "TorchScript",
        "pictures.zip": "a zip archive of pictures", "other.zip": "a zip archive, not a", "arrays.npz": "NumPy",
        "real.tar": "tar archive", "empty.pt": "is empty; accepted are", "picture.pt": "is a picture",
        "page.pt": "is text", "lfs.pt": "Git LFS pointer", "h5.h5": "HDF5", "saved.pb": "SavedModel",
        "noise.bin": "no format that is known", "gz.pt": "unpack it first", "cut.safetensors": "no.* whole safetensors",
        "tf.tflite": "Lite", "zip.pt": "archive", "folder": "is a folder", "one.pt": "no format",
    }  # fmt: skip
    for name, sentence in said.items():
        with pytest.raises(Refused, match=sentence) as caught:
            files.open(tmp_path / name)
        assert len(str(caught.value)) <= 300 and "\n" not in str(caught.value)
    for path in (tmp_path / "nowhere.pt", tmp_path / ("x" * 5000), Path("a\0b")):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            files.open(path)


@pytest.mark.parametrize("start", OTHERS)
def test_a_file_of_another_kind_is_refused_with_one_thing_to_do(start: bytes) -> None:
    with pytest.raises(Refused) as caught:
        kind_of(start + bytes(600), 600 + len(start))
    what, *advice = str(caught.value).split("; ")
    assert what.startswith("the file is ") and len(advice) == 1 and advice[0].endswith(".")


def test_twenty_gigabytes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    with open(tmp_path / "huge.pt", "wb") as file:
        file.truncate(20 * 2**30)  # sparse
    with pytest.raises(Refused, match="has 21,474,836,480 bytes; at most"):
        facts(tmp_path / "huge.pt")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(Refused, match="no ordinary file"):
            facts(tmp_path / "pipe")


def test_latent_dim_and_prior_must_fit(tmp_path: Path) -> None:
    torch.save(used(Tutorial(), (20, 1, 1)).state_dict(), tmp_path / "g.pt")
    assert files.open(tmp_path / "g.pt", latent_dim=20, prior="uniform").prior == "uniform"
    with pytest.raises(Refused, match=r"latent_dim=50 does not fit: the network reads latents \[20, 1, 1\]"):
        files.open(tmp_path / "g.pt", latent_dim=50)
    with pytest.raises(ValueError, match="prior='cauchy' is unknown"):
        files.open(tmp_path / "g.pt", prior="cauchy")


def as_files(network: nn.Sequential, size: int, folder: Path) -> Iterator[Path]:
    """The network, two dense layers and a tanh, from latents of ``size`` numbers, in each format that holds one."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    onnx, keras = pytest.importorskip("onnx"), pytest.importorskip("keras")
    z, free = torch.zeros(2, size), ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(network, (z,), dynamic_shapes=free), folder / "g.pt2")
    yield folder / "g.pt2"
    dense = [network[0], network[1]]
    weights = [onnx.numpy_helper.from_array(one.weight.detach().numpy().T, f"w{k}") for k, one in enumerate(dense)]
    make, info, kind = onnx.helper.make_node, onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    nodes = [make("MatMul", ["z", "w0"], ["h"]), make("MatMul", ["h", "w1"], ["x"]), make("Tanh", ["x"], ["y"])]
    ends = [info("z", kind, ["n", size])], [info("y", kind, ["n", dense[1].out_features])]
    graph = onnx.helper.make_graph(nodes, "g", *ends, weights)
    opset = [onnx.helper.make_opsetid("", 20)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset), folder / "g.onnx")
    yield folder / "g.onnx"
    stack = [keras.layers.Dense(one.out_features, use_bias=False) for one in dense]
    model = keras.Sequential([keras.Input((size,)), *stack, keras.layers.Activation("tanh")])
    model.set_weights([one.weight.detach().numpy().T for one in dense])
    model.save(folder / "g.keras")
    yield folder / "g.keras"
    torch.save(network.state_dict(), folder / "g.pt")
    yield folder / "g.pt"


def test_the_largest_latent_is_the_same_at_every_door(tmp_path: Path) -> None:
    def network(size: int) -> nn.Sequential:  # a sample is a quarter of a latent, or it would be a classifier
        return nn.Sequential(nn.Linear(size, 2, bias=False), nn.Linear(2, size // 4 + 1, bias=False), nn.Tanh()).eval()

    for size, accepted in ((5_000, True), (MOST_LATENT + 1, False)):
        module = network(size)
        architecture = {"latent_shape": [size], "layers": [{"layer": "linear", "weights": "0"}]}
        doors: list[Callable[[], Any]] = [partial(detect.subject_of, module), partial(adopt, module)]
        doors += [partial(detect.subject_of, module, size), partial(adopt, module, size)]
        doors += [partial(adopt, module, latent_shape=(size,)), partial(PointGenerator, latent_dim=size, widths=2)]
        doors += [partial(Options, latent_dim=size), partial(Prior.gaussian, size)]
        doors += [partial(checked_architecture, architecture)]
        doors += [partial(PyTorchGenerator, encoding_length=size, model=module)]
        doors += [partial(files.open, path) for path in as_files(module, size, tmp_path)]
        for door in doors:
            if accepted:
                door()
                continue
            with pytest.raises(ValueError, match=r"65,?536"):
                pytest.fail(f"{door} takes {door()}")


def test_tensors_that_claim_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    small = torch.zeros(1)
    with pytest.raises(Refused, match="claims 1,000,000,000,000 numbers"):
        list(state_dicts.candidates({"a": small.expand(10**6, 10**6), "b": small}))
    with pytest.raises(Refused, match="sparse, quantised, complex"):
        list(state_dicts.candidates({"a": torch.zeros(2, dtype=torch.complex64), "b": small}))


UNTOLD = ("Adopted", "Beside", "TableGenerator")  # two hold other networks; a table's columns are not in its weights
OWN = [name for name, kind in FAMILIES.items() if kind.__module__.startswith("devilgan_lite.") and name not in UNTOLD]
FRESH: dict[str, Callable[[], Generator]] = {name: FAMILIES[name] for name in OWN} | {  # type: ignore[dict-item]
    "of the paper": DCGAN.paper,
    "in colour": lambda: DCGAN(widths=(8, 6, 4), strides=(2, 2, 2), image_size=32, image_channels=3),
    "two levels of style": lambda: StyleGAN(latent_dim=5, style_dim=6, mapping_widths=(), widths=(8, 4)),
    "short sounds": lambda: WaveGAN(latent_dim=9, widths=(8, 4), strides=(2, 2), kernel_size=4, length=64, channels=2),
    "points": lambda: PointGenerator(latent_dim=7, widths=(3, 9)),
}


@pytest.mark.parametrize("name", FRESH)
def test_bare_weights_of_a_family_open_as_that_family_and_make_the_same_samples(name: str, tmp_path: Path) -> None:
    generator = FRESH[name]().eval()
    for parameter in generator.parameters():  # a fresh flow stands still
        nn.init.normal_(parameter, std=0.1)
    torch.save(generator.state_dict(), tmp_path / "g.pt")
    stranger = files.open(tmp_path / "g.pt")
    assert isinstance(generator, type(stranger.module))  # a VAE's decoder is a DCGAN
    assert stranger.architecture.startswith(type(stranger.module).__name__)
    z = generator.sample_latent(3)
    with torch.no_grad():
        assert torch.equal(stranger.module(z), generator(z))
    assert ("image_size=28" in " ".join(stranger.notes)) == (name == "RectifiedFlow")  # its weights fit any size


def test_a_prior_is_that_of_the_network_too(tmp_path: Path) -> None:
    torch.save(DCGAN(widths=(4, 2)).state_dict(), tmp_path / "g.pt")
    stranger = files.open(tmp_path / "g.pt", prior="uniform")
    assert stranger.prior == stranger.generator.prior.name == "uniform"


def test_weights_that_only_look_like_a_family_are_no_huge_network() -> None:
    huge = {"constant": torch.zeros(1, 4096, 1, 1), "mapping_layers.0.weight": torch.zeros(4096, 1)}
    huge |= {f"to_rgb.{level}.convolution.weight": torch.zeros(1, 4096, 1, 1) for level in range(6)}
    assert menu.family(huge) is None


def test_the_menu_proposes_nothing_for_other_shapes() -> None:
    assert menu.menu({}) == [] and menu.family({}) is None
    assert menu.menu(nn.Sequential(nn.Conv2d(3, 8, 4), nn.Conv2d(8, 1, 4)).state_dict()) == []  # a discriminator
    assert menu.family({"layers.dense.weight": torch.zeros(3, 3)}) is None
    assert menu.family({"mapping_layers.0.weight": torch.zeros(3, 3), "constant": torch.zeros(1)}) is None


def test_the_first_bytes_tell_the_kind() -> None:
    assert kind_of(b"\x08\x07\x12\x04onnx", 9) == "onnx" and kind_of(b"\x80\x02}", 3) == "pickle"
    assert kind_of((2).to_bytes(8, "little") + b"{}", 10) == "safetensors"
    assert kind_of((0x580).to_bytes(8, "little") + b"{}", 9_999) == "safetensors"  # it starts with 80 05, as a pickle


def test_the_parent_needs_no_torch() -> None:
    code = "import sys; from devilgan_lite.files import Refused, Facts; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


def test_an_opened_stranger_is_scanned(tmp_path: Path) -> None:
    torch.save(used(Tutorial(), (20, 1, 1)).state_dict(), tmp_path / "g.pt")
    stranger = files.open(tmp_path / "g.pt")
    report = detect.scan(stranger.flat, prior=stranger.prior, twin=False, samples=200)
    assert report.subject is not None and report.subject.latent_dim == 20


def test_a_set_of_weights_is_chosen_by_name(tmp_path: Path) -> None:
    one, other = used(Tutorial(), (20, 1, 1)), used(Tutorial(), (20, 1, 1))
    torch.save({"ema": one.state_dict(), "netG": other.state_dict()}, tmp_path / "c.pt")
    z = torch.randn(2, 20, 1, 1)
    torch.testing.assert_close(files.open(tmp_path / "c.pt").module(z), one(z), atol=1e-6, rtol=0)
    torch.testing.assert_close(files.open(tmp_path / "c.pt", weights="netG").module(z), other(z), atol=1e-6, rtol=0)
    with pytest.raises(Refused, match="weights='netD' is not in the file; valid: 'ema', 'netG'"):
        files.open(tmp_path / "c.pt", weights="netD")


def test_a_file_beside_it_that_is_no_card_is_named(tmp_path: Path) -> None:
    save_file(zoo.load("dcgan-fashion").state_dict(), tmp_path / "g.safetensors")
    (tmp_path / "g.json").write_text("{}")
    with pytest.raises(Refused, match=r"If 'g\.json' beside it is not its card, move it away"):
        files.open(tmp_path / "g.safetensors")
