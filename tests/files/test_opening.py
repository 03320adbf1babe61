"""One door: weights that come without a network, checkpoints, and what is refused in a sentence."""

import io
import json
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from devilgan_lite import files, zoo
from devilgan_lite.files import architectures, state_dicts
from devilgan_lite.files.sniff import OTHERS, facts, kind_of
from devilgan_lite.generators import DCGAN, FAMILIES, Generator, PointGenerator, StyleGAN, WaveGAN
from tests.files.networks import NORMS, Canary, refused, tutorial

close = partial(torch.testing.assert_close, atol=1e-6, rtol=0)
SHAPE = (20, 1, 1)
stack = partial(tutorial, 20, 4, 2)


def parts(**given: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(given))


def vanilla(latent: int = 30) -> nn.Sequential:
    """The generator of PyTorch-GAN's vanilla GAN, deeper (ten comes after two), the norm's eps where 0.8 belongs."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((latent, 32), (32, 48), (48, 48), (48, 64)):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.LeakyReLU(0.2)]
    return parts(model=nn.Sequential(*layers, nn.Linear(64, 784), nn.Tanh()), view=nn.Unflatten(1, (1, 28, 28)))


def upsampling(latent: int = 30) -> nn.Sequential:
    """The generator of PyTorch-GAN's DCGAN."""
    blocks = nn.Sequential(
        nn.BatchNorm2d(16), nn.Upsample(scale_factor=2), nn.Conv2d(16, 16, 3, padding=1),
        nn.BatchNorm2d(16, eps=0.8), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2), nn.Conv2d(16, 8, 3, padding=1),
        nn.BatchNorm2d(8, eps=0.8), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 3, padding=1), nn.Tanh(),
    )  # fmt: skip
    first = nn.Sequential(nn.Linear(latent, 16 * 7 * 7))
    return parts(l1=first, view=nn.Unflatten(1, (16, 7, 7)), conv_blocks=blocks)


class Joined(nn.Module):
    """A block of CTGAN's generator."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fc, self.bn, self.relu = nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.relu(self.bn(self.fc(x))), x], dim=1)


def used(module: nn.Module, shape: tuple[int, ...] = SHAPE, uniform: bool = False) -> nn.Module:
    """The module with norms that have seen latents, as after a training."""
    draw = torch.Generator().manual_seed(0)
    norms = [layer for layer in module.train().modules() if isinstance(layer, NORMS)]
    for layer in norms:
        layer.momentum = None  # a plain average
        nn.init.uniform_(layer.weight, 0.5, 1.5)
        nn.init.normal_(layer.bias, 0.0, 0.3)
    with torch.no_grad():
        for turn in range(30):
            for norm in norms if turn == 10 else ():  # spectral norms have settled
                norm.reset_running_stats()
            size = (64, *shape)
            module(torch.rand(size, generator=draw) * 2 - 1 if uniform else torch.randn(size, generator=draw))
    return module.eval()


def written(folder: Path, content: object, name: str = "g.pt", **how: Any) -> Path:
    torch.save(content.state_dict() if isinstance(content, nn.Module) else content, folder / name, **how)
    return folder / name


def zipped(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"1")


STRANGERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "tutorial": (stack, SHAPE, "DCGAN tutorial"),
    "tutorial, leaky": (partial(stack, slope=0.2), SHAPE, "DCGAN tutorial"),
    "tutorial, 64x64": (partial(tutorial, 20, 4, 4), SHAPE, "DCGAN tutorial"),
    "dense": (vanilla, (30,), "dense layers"),
    "upsampling": (upsampling, (30,), "PyTorch-GAN"),
    "table": (lambda: parts(seq=nn.Sequential(Joined(16, 32), Joined(48, 32), nn.Linear(80, 11))), (16,), "CTGAN"),
}


@pytest.mark.parametrize("prior", ["gaussian", "uniform"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.nightly if "64" in name else ()) for name in STRANGERS]
)
def test_weights_without_a_network_get_theirs(tmp_path: Path, name: str, prior: str) -> None:
    make, shape, called = STRANGERS[name]
    torch.manual_seed(3)
    module, z = used(make(), shape, prior == "uniform"), torch.randn(16, *shape)
    save_file(module.state_dict(), tmp_path / "g.safetensors")
    for path in (tmp_path / "g.safetensors", written(tmp_path, module)):
        stranger = files.open(path)
        assert called in stranger.origin.architecture and (stranger.latent_shape, stranger.prior.name) == (shape, prior)
        close(stranger.module(z), module(z))
        assert any("norms agree" in note for note in stranger.origin.notes)
    assert stranger(z.flatten(1)).shape == (16, *stranger.sample_shape)
    assert stranger.prior.name == prior and (name == "table" or stranger.output == "tanh")


def test_norms_that_saw_something_else_are_named(tmp_path: Path) -> None:
    notes = files.open(written(tmp_path, used(stack(slope=0.9)))).origin.notes
    assert any("no activation and prior that we know fit" in note for note in notes)


UNTOLD = ("Adopted", "Beside", "TableGenerator")  # two hold other networks; a table's columns are not in its weights
OWN = [name for name, kind in FAMILIES.items() if kind.__module__.startswith("devilgan_lite.") and name not in UNTOLD]
FRESH: dict[str, Callable[[], Generator]] = {name: FAMILIES[name] for name in OWN} | {  # type: ignore[dict-item]
    "of the paper": DCGAN.paper,
    "in colour": lambda: DCGAN(widths=(8, 6, 4), strides=(2, 2, 2), image_size=32, image_channels=3),
    "two levels of style": lambda: StyleGAN(latent_dim=5, style_dim=6, mapping_widths=(), widths=(8, 4)),
    "short sounds": lambda: WaveGAN(latent_dim=9, widths=(8, 4), strides=(2, 2), kernel_size=4, length=64, channels=2),
    "points": lambda: PointGenerator(latent_dim=7, widths=(3, 9)),
}


def test_our_own_families_are_known_by_their_weights_and_by_their_card(tmp_path: Path) -> None:
    for name in ("dcgan-fashion", "dcgan-fashion-rex", "stylegan-faces", "stylegan-faces-gate"):
        native, by_card = zoo.load(name), files.open(zoo.zoo_folder() / f"{name}.safetensors")
        z = native.sample_latent(8, torch.Generator().manual_seed(0))
        by_weights = files.open(written(tmp_path, native))
        for stranger in (by_weights, by_card):
            close(stranger.network(z), native(z), atol=0)
            assert stranger.latent_dim == native.latent_dim
        assert "names and shapes" in by_weights.origin.architecture and "card" in by_card.origin.architecture
    for name, make in FRESH.items():
        generator = make().eval()
        for parameter in generator.parameters():  # a fresh flow stands still
            nn.init.normal_(parameter, std=0.1)
        stranger = files.open(written(tmp_path, generator))
        assert isinstance(generator, type(stranger.network)), name  # a VAE's decoder is a DCGAN
        assert stranger.origin.architecture.startswith(type(stranger.network).__name__)
        z = generator.sample_latent(3)
        with torch.no_grad():
            assert torch.equal(stranger.network(z), generator(z)), name
        told = "image_size=28" in " ".join(stranger.origin.notes)
        assert told == (name == "RectifiedFlow"), name  # it fits any size


def test_a_generator_is_found_in_a_checkpoint(tmp_path: Path) -> None:
    module = used(stack())
    state = module.state_dict()
    other = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 4))
    optimiser = torch.optim.Adam(module.parameters()).state_dict()
    checkpoint = {"epoch": 7, "netD_state_dict": other.state_dict(), "netG_state_dict": state, "loss": [0.1, 0.2]}
    checkpoint["optimizerG_state_dict"] = optimiser
    parallel = {f"module.{name}": value for name, value in state.items()}
    together = {f"netG.{name}": value for name, value in state.items()}
    together |= {"netD.0.weight": torch.randn(4, 3, 4, 4), "netD.0.bias": torch.randn(4)}
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    z = torch.randn(4, *SHAPE)
    for content in (checkpoint, {"model": {"generator": parallel}}, parallel, together, half):
        opened = files.open(written(tmp_path, content, "c.pth"))
        close(opened.module(z), module(z), atol=2e-2 if content is half else 1e-6)
    old = files.open(written(tmp_path, checkpoint, "old.tar", _use_new_zipfile_serialization=False))  # PyTorch 1.5
    close(old.module(z), module(z))
    assert "'netG_state_dict'" in old.origin.notes[0]


def test_several_sets_of_weights_are_named_and_chosen_by_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one, other = used(stack()), used(stack())
    shown, hidden = one.state_dict(), other.state_dict()
    told = {"latent_shape": list(SHAPE), "layers": architectures.menu(shown)[0].architecture["layers"]}
    two, z = written(tmp_path, {"netG": hidden, "ema": shown}, "two.pt"), torch.randn(2, *SHAPE)
    for architecture in (None, told):
        first, second, *_ = files.open(two, architecture=architecture).origin.notes
        assert "'ema'" in first and second.startswith("not checked: 1") and "'netG'" in second
    close(files.open(two).module(z), one(z))
    close(files.open(two, weights="netG").module(z), other(z))
    refused("no such set", partial(files.open, two, weights="netD"), "weights='netD'", "'ema'", "'netG'")
    listed = files.open(written(tmp_path, {"ema": shown, "copies": [hidden]})).origin.notes
    assert any("'copies.0'" in note for note in listed)
    faces = {"ema": zoo.load("stylegan-faces").state_dict()}  # a part of it would fit the menu by itself
    for content in ({"netG": shown, "ema": shown}, {"a": 1, "ema": shown}, faces):
        assert not any("not checked" in note for note in files.open(written(tmp_path, content)).origin.notes)


def test_a_file_that_is_two_models_at_once_is_refused(tmp_path: Path) -> None:
    module, other, both = stack().eval(), stack().eval(), tmp_path / "both.pt"
    files.export(module, SHAPE, tmp_path / "a.pt2", to="pt2")
    members: dict[str, bytes] = {}
    for path in (written(tmp_path, other, "b.pt"), tmp_path / "a.pt2"):
        with zipfile.ZipFile(path) as archive:
            members = {f"a/{one.partition('/')[2]}": archive.read(one) for one in archive.namelist()} | members
    with zipfile.ZipFile(both, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    found = torch.load(both, weights_only=True)  # what a victim gets
    assert torch.equal(found["0.weight"], other.state_dict()["0.weight"])
    refused("both", partial(files.open, both), "pt2", "state_dict")


def test_spectral_norm_is_divided_out(tmp_path: Path) -> None:
    for wrap in (nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm):
        module, z = stack(), torch.randn(4, *SHAPE)
        for layer in module:
            if isinstance(layer, nn.ConvTranspose2d):
                wrap(layer, n_power_iterations=3)
        close(files.open(written(tmp_path, used(module))).module(z), module(z), atol=1e-5)


def test_an_architecture_can_be_told(tmp_path: Path, refuses: Callable[..., str]) -> None:
    native = nn.Sequential(
        nn.Linear(12, 8 * 16), nn.Unflatten(1, (8, 4, 4)), nn.ELU(), nn.Upsample(scale_factor=2),
        nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2), nn.Sigmoid(),
    )  # fmt: skip
    layers: list[dict[str, Any]] = [
        {"layer": "linear", "weights": "0"}, {"layer": "reshape", "shape": [8, 4, 4]}, {"layer": "elu"},
        {"layer": "upsample", "scale": 2}, {"layer": "conv2d", "weights": "4", "padding": 1},
        {"layer": "pixel_shuffle", "scale": 2}, {"layer": "sigmoid"},
    ]  # fmt: skip
    told = {"latent_shape": [12], "prior": "uniform", "layers": layers}
    path, z = written(tmp_path, native), torch.randn(3, 12)
    (tmp_path / "a.json").write_text(json.dumps(told))
    refused("not told", partial(files.open, path), "'0.weight'", "--architecture")
    for given in (told, str(tmp_path / "a.json")):
        stranger = files.open(path, architecture=given)
        close(stranger.module(z), native(z), atol=0)
        assert stranger.prior.name == "uniform" and stranger.sample_shape == (3, 16, 16)
    assert stranger(z).min() >= -1 and stranger.ends == "sigmoid"
    wrong: list[tuple[Any, str]] = [
        ({"latent_shape": [0]}, "latent_shape=0"), ({"prior": "cauchy"}, "prior='cauchy'"),
        ({"layers": [{"layer": "lstm"}]}, "layer='lstm' linear"), ({"layers": layers[:4]}, "'4.weight'"),
        ({"layers": [{"layer": "relu", "slope": 1}]}, "relu 'slope'"), ({"layers": layers[:1] + layers[2:]}, "compute"),
        ({"layers": [*layers[:4], {"layer": "conv2d", "weights": "5"}]}, "'5.weight' conv2d"),
        ({"layers": [{"layer": "conv2d", "weights": "0"}]}, "'0.weight' 4"), ({"layers": None}, "architecture"),
        ({"layers": [{"layer": "conv2d", "weights": "0", "output_padding": 1}]}, "conv2d 'output_padding'"),
    ]  # fmt: skip
    check = partial(refuses, error=(ValueError, TypeError))
    for change, names in wrong:
        check(partial(files.open, path, architecture={**told, **change}), *names.split())
    refuses(partial(files.open, path, architecture=[]), "architecture")


def test_pickles_are_not_run(tmp_path: Path) -> None:
    canary = Canary(tmp_path / "canary")
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(canary))
    for path in (written(tmp_path, {"netG": canary}, _use_new_zipfile_serialization=False), tmp_path / "c.pkl"):
        said = refused(path.name, partial(files.open, path))
        assert "code" in said or "no whole file" in said
    torch.save(Joined(2, 2), tmp_path / "d.pt")
    refused("a module", partial(files.open, tmp_path / "d.pt"), "Joined", "ONNX", "pt2")
    assert not canary.path.exists()


# the content of a file, and what the refusal calls it
NO_GENERATORS: list[tuple[bytes, str]] = [
    (b"", "empty"), (b"\x89PNG\r\n\x1a\n" + bytes(100), "picture"), (b"\x08", "format"), (b"\xee" * 600, "format"),
    (b"<!doctype html><p>404", "text"), (b"version https://git-lfs.github.com/spec/v1\noid", "LFS"),
    (b"\x1f\x8b\x08" + bytes(99), "unpack"), (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    (b"\x08\x01\x12\x00" + bytes(99), "SavedModel"), (b"\0\0\0\0TFL3" + bytes(99), "Lite"),
]  # fmt: skip


def test_what_is_no_generator_is_refused_in_a_sentence(tmp_path: Path, refuses: Callable[..., str]) -> None:
    for content, names in NO_GENERATORS:
        (tmp_path / "x.pt").write_bytes(content)
        refused(names, partial(files.open, tmp_path / "x.pt"), names)
    written(tmp_path, {"epoch": 3}, "nothing.pt")
    written(tmp_path, {"a.weight": torch.full((3, 3), 1.0).expand(3, 3), "b.weight": torch.randn(2)}, "odd.pt")
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    zipped(tmp_path / "pictures.zip", "a.png", "b.jpg")
    zipped(tmp_path / "other.zip", "a.txt")
    zipped(tmp_path / "arrays.npz", "a.npy")
    with tarfile.open(tmp_path / "real.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO(b""))
    (tmp_path / "folder").mkdir()
    said = {"nothing.pt": "weights", "odd.pt": "'a.weight'", "script.pt": "TorchScript", "pictures.zip": "pictures"}
    said |= {"other.zip": "zip", "arrays.npz": "NumPy", "real.tar": "tar", "folder": "folder"}
    for name, names in said.items():
        refused(name, partial(files.open, tmp_path / name), names)
    for path in (tmp_path / "nowhere.pt", tmp_path / ("x" * 5000), Path("a\0b")):
        refuses(partial(files.open, path), error=FileNotFoundError)
    for start in OTHERS:  # each has one thing to do
        what, *advice = refused(start, partial(kind_of, start + bytes(600), 600 + len(start))).split("; ")
        assert what.startswith("the file is ") and len(advice) == 1 and advice[0].endswith(".")
    assert kind_of(b"\x08\x07\x12\x04onnx", 9) == "onnx" and kind_of(b"\x80\x02}", 3) == "state_dict"
    assert kind_of((2).to_bytes(8, "little") + b"{}", 10) == "safetensors" and kind_of(b"PK\x03\x04", 9) == "zip"
    assert kind_of((0x580).to_bytes(8, "little") + b"{}", 9_999) == "safetensors"  # it starts with 80 05, as a pickle


def test_what_is_given_must_fit_and_is_kept(tmp_path: Path, refuses: Callable[..., str]) -> None:
    path, z = written(tmp_path, used(stack())), torch.randn(2, *SHAPE)
    stranger = files.open(path, latent_dim=20, prior="uniform")
    assert stranger.prior.name == "uniform" and stranger.latent_dim == 20
    assert torch.equal(stranger.network(z.flatten(1)), stranger.module(z))
    refused("latent_dim", partial(files.open, path, latent_dim=50), "latent_dim=50", "[20, 1, 1]")
    refuses(partial(files.open, path, prior="cauchy"), "prior='cauchy'")
    stranger = files.open(written(tmp_path, DCGAN(widths=(4, 2)), "own.pt"), prior="uniform")
    assert stranger.prior.name == stranger.prior.name == "uniform"
    save_file(zoo.load("dcgan-fashion").state_dict(), tmp_path / "g.safetensors")
    (tmp_path / "g.json").write_text("{}")
    refused("no card", partial(files.open, tmp_path / "g.safetensors"), "'g.json'")


def test_tensors_that_claim_more_than_they_hold_and_huge_networks_are_refused(tmp_path: Path) -> None:
    claims = torch.zeros(1).expand(10**6, 10**6), torch.zeros(2, dtype=torch.complex64)
    for held, names in zip(claims, ("1,000,000,000,000", "'a'"), strict=True):
        refused(names, lambda held=held: list(state_dicts.candidates({"a": held, "b": torch.zeros(1)})), names)
    huge = {"constant": torch.zeros(1, 4096, 1, 1), "mapping_layers.0.weight": torch.zeros(4096, 1)}
    huge |= {f"to_rgb.{level}.convolution.weight": torch.zeros(1, 4096, 1, 1) for level in range(6)}
    small_style = {"mapping_layers.0.weight": torch.zeros(3, 3), "constant": torch.zeros(1)}
    for weights in (huge, {}, {"layers.dense.weight": torch.zeros(3, 3)}, small_style):
        assert architectures.family(weights) is None
    discriminator = nn.Sequential(nn.Conv2d(3, 8, 4), nn.Conv2d(8, 1, 4)).state_dict()
    bare = {name: held for name, held in upsampling().state_dict().items() if held.ndim != 1 or "running" in name}
    assert architectures.menu({}) == architectures.menu(discriminator) == architectures.menu(bare) == []
    with open(tmp_path / "huge.pt", "wb") as file:
        file.truncate(20 * 2**30)  # sparse
    refused("twenty gigabytes", partial(facts, tmp_path / "huge.pt"), "21,474,836,480")
    (tmp_path / "a.pt").write_bytes(b"\x80\x02}")
    refused("most", partial(facts, tmp_path / "a.pt", most=2), "a.pt", "3", "2")
    assert facts(tmp_path / "a.pt", most=3).bytes == 3
