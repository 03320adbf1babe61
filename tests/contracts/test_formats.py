"""Every file format: we make of it what its usual program makes, here and in the jail; what is broken is refused."""

import copy
import importlib
import os
import random
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from devilgan_lite import files, generators, zoo
from devilgan_lite.checks import MOST_LATENT
from devilgan_lite.files import exporting
from devilgan_lite.files.architectures import checked as checked_architecture
from devilgan_lite.files.sniff import FORMATS
from devilgan_lite.generators import Generator, PointGenerator, adopt
from devilgan_lite.intake.check import Options
from devilgan_lite.intake.jail import IMPORTS, Jail
from devilgan_lite.prior import Prior
from tests.files.networks import Canary, Dense, Makes, Residual, differ, refused, trained, tutorial, with_json

onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:You might encounter:UserWarning")
BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"
ENDINGS = {"safetensors": "safetensors", "state_dict": "pt", "pt2": "pt2", "onnx": "onnx", "keras": "keras"}
Written = dict[str, tuple[Path, Makes]]
nightly = pytest.mark.nightly
walled = pytest.mark.skipif(sys.platform != "linux", reason="the walls are Linux's")


def runtime(path: Path) -> Makes:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (latent,) = session.get_inputs()
    return lambda z: torch.from_numpy(session.run(None, {latent.name: z.numpy()})[0])


@pytest.fixture(scope="module")
def native() -> nn.Sequential:
    """Latents of 12 numbers to pictures ``[1, 8, 8]``."""
    torch.manual_seed(0)
    layers = [nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8))]
    return nn.Sequential(*layers).eval()


@pytest.fixture(scope="module")
def written(native: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The network in a file of each format, and what the program that people use makes of it."""
    folder, layers = tmp_path_factory.mktemp("formats"), keras.layers
    paths = {form: folder / f"g.{ending}" for form, ending in ENDINGS.items()}
    save_file(native.state_dict(), paths["safetensors"])
    torch.save(native.state_dict(), paths["state_dict"])
    for form in ("pt2", "onnx"):
        files.export(native, (12,), paths[form])
    dense = layers.Dense(24, "relu"), layers.Dense(64, "tanh")
    built = keras.Sequential([keras.Input((12,)), *dense, layers.Reshape((8, 8, 1))])
    built.set_weights([part.detach().numpy().T for part in native.parameters()])
    built.save(paths["keras"])
    usual: dict[str, Makes] = {"pt2": torch.export.load(paths["pt2"]).module(), "onnx": runtime(paths["onnx"])}
    usual["keras"] = lambda z: torch.as_tensor(built(z, training=False)).detach().cpu().movedim(-1, 1)
    assert set(FORMATS) == set(paths)
    return {form: (path, usual.get(form, native)) for form, path in paths.items()}


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_makes_what_its_usual_program_makes_of_it(
    form: str, written: Written, native: nn.Sequential, tmp_path: Path
) -> None:
    path, usual = written[form]
    stranger = files.open(path)
    origin = stranger.origin
    assert (origin.format, stranger.prior.name, origin.facts.bytes) == (form, "gaussian", path.stat().st_size)
    assert (stranger.latent_shape, stranger.latent_dim, stranger.sample_shape) == ((12,), 12, (1, 8, 8))
    assert stranger.parameter_count() == 12 * 24 + 24 + 24 * 64 + 64 and not stranger.module.training
    assert differ(stranger.module, usual, (12,)) <= 1e-5 and differ(stranger.module, native, (12,)) <= 1e-5
    z = torch.randn(7, 12)
    before, made = z.clone(), stranger.module(z)
    for n in (1, 3):
        torch.testing.assert_close(stranger.module(z[:n]), made[:n], atol=1e-6, rtol=0)
    assert torch.equal(z, before) and torch.equal(stranger.module(z), made) and torch.equal(stranger.network(z), made)
    free = z.clone().requires_grad_()
    generator = stranger.clone()  # which can be trained
    generator.module(free).sum().backward()
    assert free.grad is not None and free.grad.abs().min() > 0
    assert all(one.grad is not None for one in generator.parameters())
    assert (generator.latent_dim, generator.output, generator.sample_shape) == (12, "tanh", (1, 8, 8))
    torch.testing.assert_close(generator(z), made, atol=1e-6, rtol=0)
    again = files.export(stranger.module, (12,), tmp_path / ("a.onnx" if form == "pt2" else "a.pt2"))
    assert differ(files.open(again).module, native, (12,)) <= 1e-5


@pytest.mark.parametrize("form", FORMATS)
def test_a_broken_file_or_one_with_another_ending_is_refused(form: str, written: Written, tmp_path: Path) -> None:
    content, noise = written[form][0].read_bytes(), random.Random(0).randbytes(5000)
    path = tmp_path / f"broken.{ENDINGS[form]}"
    cut = [content[: int(share * len(content))] for share in (0.0, 0.1, 0.5, 0.9, 0.999)]
    for number, broken in enumerate([*cut, content[:512] + noise, noise, content[:1] * 9999]):
        path.write_bytes(broken)
        refused((form, number), partial(files.open, path))
    for other in {"safetensors", "pt2", "onnx", "keras"} - {form}:
        (tmp_path / f"false.{other}").write_bytes(content)
        refused((form, other), partial(files.open, tmp_path / f"false.{other}"), f".{other}", form)


def test_what_no_reader_knows_is_refused_by_its_name(written: Written, tmp_path: Path) -> None:
    canary = Canary(tmp_path / "canary")
    torch.save({"netG": canary}, tmp_path / "a.pt")
    save_file({"odd.weight": torch.ones(3, 3), "b.bias": torch.ones(3)}, tmp_path / "a.safetensors")
    model = onnx.load(written["onnx"][0])
    model.graph.node[0].op_type = "Leakyrelu"
    onnx.save(model, tmp_path / "a.onnx")

    def graph(content: Any) -> None:
        content["graph_module"]["graph"]["nodes"][0]["target"] = "os.system"

    def layer(content: Any) -> None:
        content["config"]["layers"][1]["class_name"] = "Dens"

    for path, name in (
        (tmp_path / "a.pt", "'getattr'"),
        (tmp_path / "a.safetensors", "'odd.weight'"),
        (tmp_path / "a.onnx", "'Leakyrelu'"),
        (with_json(written["pt2"][0], "models/model.json", graph), "'os.system'"),
        (with_json(written["keras"][0], "config.json", layer, "edited.keras"), "'Dens'"),
    ):
        refused(path.name, partial(files.open, path), name)
    assert not canary.path.exists()


def test_the_largest_latent_is_the_same_at_every_door(tmp_path: Path) -> None:
    for size, accepted in ((5_000, True), (MOST_LATENT + 1, False)):
        # a sample is a quarter of a latent, or it would be a classifier
        layers = nn.Linear(size, 2, bias=False), nn.Linear(2, size // 4 + 1, bias=False), nn.Tanh()
        module = nn.Sequential(*layers).eval()
        torch.save(module.state_dict(), tmp_path / "g.pt")
        save_file(module.state_dict(), tmp_path / "g.safetensors")
        architecture = {"latent_shape": [size], "layers": [{"layer": "linear", "weights": "0"}]}
        doors: list[Callable[[], Any]] = [partial(adopt, module), partial(adopt, module)]
        doors += [partial(adopt, module, size), partial(adopt, module, size)]
        doors += [partial(adopt, module, latent_shape=(size,)), partial(PointGenerator, latent_dim=size, widths=2)]
        doors += [partial(Options, latent_dim=size), partial(Prior.gaussian, size)]
        doors += [partial(checked_architecture, architecture)]
        doors += [partial(files.open, tmp_path / name) for name in ("g.pt", "g.safetensors")]
        for door in doors:
            if accepted:
                door()
            else:
                with pytest.raises(ValueError, match=r"65,?536"):
                    pytest.fail(f"{door} takes {door()}")


# --- written for others


def style() -> Generator:
    torch.manual_seed(0)
    return generators.StyleGAN(latent_dim=5, style_dim=6, mapping_widths=(), widths=(8, 4)).eval()


ONE_OF_EACH = {str(zoo.card(name).spec): name for name in reversed(zoo.names())}.values()  # of each architecture
MODELS = ["style", "tiny_gate", *(pytest.param(name, marks=nightly) for name in ONE_OF_EACH)]


@pytest.mark.parametrize("to", ["onnx", "pt2"])
@pytest.mark.parametrize("name", MODELS)
def test_a_generator_of_ours_is_written_without_a_trace_of_this_machine(
    name: str, to: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    own = {"style": style, "tiny_gate": lambda: request.getfixturevalue("tiny_gate")}
    model: Any = own.get(name, partial(zoo.load, name))()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    capfd.readouterr()
    path = files.export(model, None, tmp_path / "new" / f"a.{to}")
    assert [one.name for one in path.parent.iterdir()] == [f"a.{to}"]
    assert capfd.readouterr() == ("", "")  # exporters print a lot
    usual = runtime(path) if to == "onnx" else torch.export.load(path).module()
    for made in (files.open(path).module, usual):
        assert differ(model, made, (model.latent_dim,), 100) <= 3e-4
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert str(Path(exporting.__file__).parent).encode() not in path.read_bytes()


@pytest.mark.parametrize("to", [pytest.param("onnx", marks=nightly), "pt2"])
def test_a_stranger_is_written_as_it_is_adopted_and_read_out_of_a_file(to: str, tmp_path: Path) -> None:
    for module, shape, output in ((trained(tutorial()), (16, 1, 1), "tanh"), (trained(Residual()), (16,), "sigmoid")):
        plain = files.open(files.export(module, shape, tmp_path / f"plain.{to}"))
        adopted = adopt(module, latent_shape=shape, output=output)
        again = files.open(files.export(adopted, None, tmp_path / f"adopted.{to}"))
        for reading in (plain, again):  # the stranger's module, not what stands around it
            assert reading.latent_shape == shape and differ(module, reading.module, shape) <= 1e-5
    adopted = adopt(trained(tutorial()))
    chain = adopted.chain()
    assert chain is not None
    pruned = adopted.resized(tuple(width - 1 for width in chain.widths))
    sanitized = files.open(files.export(pruned, None, tmp_path / f"pruned.{to}"))
    assert differ(pruned.module, sanitized.module, (16, 1, 1)) <= 1e-5


def test_an_exporter_that_errs_is_noticed_and_an_older_one_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Callable[..., str]
) -> None:
    """A number is lost: the file is refused, and what was there before stays."""
    module, export, older, asked = trained(Dense()), torch.export.export, torch.onnx.export, list[bool]()
    wrong, path = copy.deepcopy(module), tmp_path / "a.pt2"
    wrong.last.bias.data += 0.01
    path.write_bytes(b"before")
    with monkeypatch.context() as patch:
        patch.setattr(torch.export, "export", lambda of, *rest, **how: export(wrong, *rest, **how))
        refuses(partial(files.export, module, (16,), path), "differ")
    assert path.read_bytes() == b"before" and [one.name for one in tmp_path.iterdir()] == ["a.pt2"]

    def errs(*given: Any, **how: Any) -> None:
        asked.append(how.get("dynamo", True))
        older(*given, **how)
        if asked == [True]:
            model = onnx.load(given[2])
            for tensor in model.graph.initializer:
                tensor.raw_data = bytes(len(tensor.raw_data))
            onnx.save(model, given[2])

    monkeypatch.setattr(torch.onnx, "export", errs)
    path = files.export(module, (16,), tmp_path / "a.onnx")
    assert differ(module, files.open(path).module, (16,)) <= 1e-5 and asked == [True, False]


class Odd(nn.Module):
    """Decides on its latents, or makes what is not finite."""

    def __init__(self, endless: bool) -> None:
        super().__init__()
        self.endless = endless

    def forward(self, z: Tensor) -> Tensor:
        return z / 0 if self.endless else z if z.sum() > 0 else -z


def test_safetensors_come_with_their_card_and_what_cannot_be_written_is_refused_and_nothing_is(
    tmp_path: Path, refuses: Callable[..., str], call: Any, fails: Callable[..., str]
) -> None:
    for module, shape, name, to, names in (
        (tutorial(), (16, 1, 1), "a.onnx", "tf", "to 'tf' onnx pt2 safetensors"),
        (tutorial(), (16, 1, 1), "a.onnx", "pt2", "'pt2' .pt2"),
        (tutorial(), (16, 1, 1), "a.txt", None, "'txt' onnx pt2 safetensors"),
        (tutorial(), (16, 1, 1), "a.safetensors", None, "safetensors card"),
        (tutorial(), None, "a.onnx", None, "latent_shape"),
        (Odd(True), (4,), "a.onnx", None, "finite"),
        (Odd(False), (4,), "a.onnx", None, "torch.export"),
    ):
        refuses(partial(files.export, module, shape, tmp_path / name, to), *names.split())
    fails("export", "nothing", "--out", "a.onnx", names=["name='nothing'"])
    assert list(tmp_path.iterdir()) == []
    model = zoo.load("dcgan-fashion")
    loaded, card = zoo.load_file(files.export(model, None, "a.safetensors", card=zoo.card("dcgan-fashion")))
    assert {one.name for one in tmp_path.iterdir()} == {"a.safetensors", "a.json"} and card.data
    assert torch.equal(loaded.sample(4), model.sample(4))
    assert call("export", "dcgan-fashion", "--out", "a.pt2").exit_code == 0  # the ending says the format
    assert differ(model, files.open("a.pt2").module, (100,)) <= 3e-4


# --- in the jail


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The trial of ten thousand hostile files; the child of a jail finds it where the test does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        yield importlib.import_module("hostile")


@walled
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_in_the_jail_an_honest_file_opens_and_a_hostile_one_of_each_kind_does_no_harm(
    bench: Any, written: Written, tmp_path: Path
) -> None:
    honest = {ENDINGS[form]: path.read_bytes() for form, (path, _) in written.items()}
    torch.save(torch.load(written["state_dict"][0]), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    honest |= {"pth": (tmp_path / "old.pth").read_bytes(), "dense.onnx": honest["onnx"], "dense.pt2": honest["pt2"]}
    kinds, seen = bench.hostile_files.HOSTILE, set()
    with Jail(imports=(*IMPORTS, "torch._dynamo")) as jail:  # which each child would import else
        for form, (path, _) in written.items():
            assert bench.judged(jail, path, False)["verdict"] == "opened", form
        for number in range(1, 2 * len(kinds), 2):  # the others are honest ones with random changes
            name, content = bench.hostile_files.one(honest, number, seed=7)
            (tmp_path / "x.bin").write_bytes(content)
            row = bench.judged(jail, tmp_path / "x.bin", False)
            assert row["how"] in ("finished", "refused") and not row["sang"], (name, row)
            assert row["verdict"] in ("opened", "refused") and len(row["sentence"]) <= 300, (name, row)
            assert row["sentence"].isprintable(), (name, row)
            seen.add(name)
    assert set(kinds) <= seen


@walled
@nightly
def test_many_hostile_and_broken_files_of_every_kind(bench: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    found = bench.trial(count=136, seed=7, every=60, folder=tmp_path)
    seen = {row["name"] for row in found["outcomes"]}
    assert found["wrong"] == [] and 20 < found["longest"] <= 300
    assert set(bench.hostile_files.HOSTILE) <= seen and sum(name.startswith("broken") for name in seen) >= 7
    verdicts = {row["verdict"] for row in found["outcomes"]}
    assert {"opened", "refused"} <= verdicts <= {"opened", "refused", "no subject", *bench.VERDICTS}
