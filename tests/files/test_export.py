"""Export: the files make the same samples in other programs and here, or they are not written."""

import copy

import onnx
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from devilgan_lite import generators, zoo
from devilgan_lite.cli.common import commands
from devilgan_lite.cli.exchange import export as command
from devilgan_lite.files import exporting as module_under_test
from devilgan_lite.files import from_onnx, from_pt2
from devilgan_lite.files.exporting import export
from tests.files.exported import Dense, Residual, trained, tutorial

READERS = {"onnx": lambda path: from_onnx.read(path.read_bytes()), "pt2": from_pt2.read}
# of each architecture: what was only trained again exports alike
ONE_OF_EACH = {str(zoo.card(name).spec): name for name in reversed(zoo.names())}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ONE_OF_EACH.values() if name != "dcgan-fashion"]


def assert_same(module, reading, tolerance=3e-4):
    z = torch.randn(100, *reading.latent_shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert (module(z) - reading.module(z)).abs().max() <= tolerance


@pytest.mark.parametrize("to", READERS)
@pytest.mark.parametrize("name", ["dcgan-fashion", *SLOW])
def test_the_zoo(name, to, tmp_path, capfd):
    model = zoo.load(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    path = export(model, None, tmp_path / "new" / f"a.{to}", to)
    assert [one.name for one in path.parent.iterdir()] == [f"a.{to}"]
    assert_same(model, READERS[to](path))
    assert capfd.readouterr() == ("", "")  # exporters print a lot
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert str(module_under_test.__file__).encode().rpartition(b"/")[0] not in path.read_bytes()


@pytest.mark.parametrize("to", [pytest.param("onnx", marks=pytest.mark.slow), "pt2"])
def test_strangers(to, tmp_path):
    """As they are, adopted, and read out of a file: each can be written again."""
    torch.manual_seed(0)
    for name, module, shape in (("a", tutorial(), (16, 1, 1)), ("b", trained(Residual()), (16,))):
        first = READERS[to](export(module, shape, tmp_path / f"{name}.{to}", to))
        assert first.latent_shape == shape
        again = READERS[to](export(first.module, shape, tmp_path / f"again-{name}.{to}", to))
        adopted = generators.adopt(module, latent_shape=shape, output="tanh" if name == "a" else "sigmoid")
        third = READERS[to](export(adopted, None, tmp_path / f"adopted-{name}.{to}", to))
        assert third.latent_shape == shape  # the stranger's module, not what stands around it
        for reading in (first, again, third):
            assert_same(module, reading, 1e-5)


@pytest.mark.slow
def test_from_one_format_to_the_other(tmp_path):
    module = trained(Dense())
    pt2 = from_pt2.read(export(module, (16,), tmp_path / "a.pt2", "pt2"))
    reading = from_onnx.read(export(pt2.module, (16,), tmp_path / "a.onnx").read_bytes())
    back = from_pt2.read(export(reading.module, (16,), tmp_path / "b.pt2", "pt2"))
    assert_same(module, reading, 1e-5)
    assert_same(module, back, 1e-5)


def test_a_sanitized_stranger(tmp_path):
    adopted = generators.adopt(tutorial())
    pruned = adopted.resized(tuple(width - 1 for width in adopted.chain().widths))
    reading = from_pt2.read(export(pruned, None, tmp_path / "a.pt2", "pt2"))
    assert_same(pruned.module, reading, 1e-5)


def test_safetensors_with_its_card(tmp_path):
    name = "dcgan-fashion"
    path = export(zoo.load(name), None, tmp_path / "a.safetensors", "safetensors", card=zoo.card(name))
    loaded, card = zoo.load_file(path)
    assert {one.name for one in tmp_path.iterdir()} == {"a.safetensors", "a.json"} and card.data
    assert torch.equal(loaded.sample(4), zoo.load("dcgan-fashion").sample(4))
    with pytest.raises(ValueError, match="with a card"):
        export(tutorial(), (16, 1, 1), tmp_path / "b.safetensors", "safetensors")


def test_a_file_that_makes_something_else_is_not_kept(tmp_path, monkeypatch):
    """An exporter that loses a number: the file is refused, and what was there before stays."""
    module = trained(Dense())
    wrong = copy.deepcopy(module)
    wrong.last.bias.data += 0.01
    path = tmp_path / "a.pt2"
    path.write_bytes(b"before")
    real = torch.export.export
    monkeypatch.setattr(torch.export, "export", lambda of, *rest, **settings: real(wrong, *rest, **settings))
    with pytest.raises(ValueError, match="differ by"):
        export(module, (16,), path, "pt2")
    assert path.read_bytes() == b"before" and [one.name for one in tmp_path.iterdir()] == ["a.pt2"]


@pytest.mark.slow
def test_the_older_exporter_is_asked_when_the_first_one_errs(tmp_path, monkeypatch):
    module, real, asked = trained(Dense()), torch.onnx.export, []

    def errs(*given, **settings):
        asked.append(settings.get("dynamo", True))
        real(*given, **settings)
        if asked == [True]:
            model = onnx.load(settings.get("f", given[2]))
            for tensor in model.graph.initializer:
                tensor.raw_data = bytes(len(tensor.raw_data))
            onnx.save(model, given[2])

    monkeypatch.setattr(torch.onnx, "export", errs)
    assert_same(module, from_onnx.read(export(module, (16,), tmp_path / "a.onnx").read_bytes()), 1e-5)
    assert asked == [True, False]


class Deciding(nn.Module):
    def forward(self, z):
        return z if z.sum() > 0 else -z


class Endless(nn.Module):
    def forward(self, z):
        return z / 0


def test_bad_input(tmp_path):
    module = tutorial()
    with pytest.raises(ValueError, match="valid: onnx, pt2, safetensors"):
        export(module, (16, 1, 1), tmp_path / "a.onnx", "tf")
    with pytest.raises(ValueError, match="ends in .pt2"):
        export(module, (16, 1, 1), tmp_path / "a.onnx", "pt2")
    with pytest.raises(ValueError, match="'txt' is unknown; valid: onnx, pt2, safetensors"):
        export(module, (16, 1, 1), tmp_path / "a.txt")
    with pytest.raises(ValueError, match="latent_shape is missing"):
        export(module, None, tmp_path / "a.onnx")
    with pytest.raises(ValueError, match="not finite"):
        export(Endless(), (4,), tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=r"torch\.export failed"):
        export(Deciding(), (4,), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path):
    app = commands("test")
    app.command()(command)
    app.command("other")(lambda: None)
    path = tmp_path / "a.pt2"
    done = CliRunner().invoke(app, ["export", "dcgan-fashion", "--out", str(path)])  # the ending says the format
    assert done.exit_code == 0 and "makes the same samples" in done.output
    assert_same(zoo.load("dcgan-fashion"), from_pt2.read(path))
    refused = {
        "nothing --out a.onnx": "name='nothing' is unknown",
        "dcgan-fashion --out a.txt": "out='a.txt' is not valid",
        "dcgan-fashion --to onnx --out a.pt2": "to=onnx and out='a.pt2' say different formats",
    }
    for wrong, sentence in refused.items():
        failed = CliRunner().invoke(app, ["export", *wrong.split()])
        assert failed.exit_code == 2 and sentence in failed.output and len(failed.output.splitlines()) == 1
