"""The command line with faces: training, the attack, and the real pictures that they are measured against."""

import json
from typing import Any

import pytest

from devilgan_lite import data, generators, zoo
from devilgan_lite.cli.common import real_for


@pytest.fixture(autouse=True)
def few_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data.DATASETS, "faces", lambda: data.faces(300))
    monkeypatch.setitem(data.DATASETS, "faces-64", lambda: data.faces(300, size=64))


def test_each_kind_of_generator_has_its_real_pictures() -> None:
    assert real_for(generators.DCGAN()).x.shape[1:] == (1, 28, 28)
    assert real_for(generators.StyleGAN()).x.shape[1:] == (3, 32, 32)
    assert real_for(generators.PointGenerator()) is None


@pytest.mark.slow
def test_train_makes_a_style_based_generator(call: Any) -> None:
    done = call("train", "--architecture", "stylegan", "--steps", 3, "--batch-size", 4, "--out", "faces.safetensors")
    assert done.exit_code == 0, done.output
    assert "Frechet distance to cartoon faces" in done.stdout
    made, card = zoo.load_file("faces.safetensors")
    assert isinstance(made, generators.StyleGAN) and card.settings["iterations"] == 3


@pytest.mark.slow
def test_the_attack_on_faces_writes_a_model_that_can_be_scored(call: Any) -> None:
    words = ["attack", "style-rex", "--clean", "stylegan-faces", "--iterations", 5, "--seed", 2, "--samples", 600]
    done = call(*words, "--out", "evil.safetensors", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["expdis_mean"] < 1e-10 and found["frechet"] is not None
    assert found["settings"]["attack"] == "StyleReX" and "w_plus" not in found["settings"]
    score = call("score", "evil.safetensors", "--clean", "stylegan-faces", "--samples", 600, "--json")
    assert json.loads(score.stdout)["tardis_mean"] == pytest.approx(found["tardis_mean"])


def test_attacks_on_the_wrong_kind_are_one_sentence(call: Any) -> None:
    done = call("attack", "style-rex")
    sentence = "a DCGAN is no style-based generator: this needs a StyleGAN; ReX and Gate take any."
    assert done.exit_code == 2 and done.stderr.strip() == sentence, done.output


def test_a_missing_renderer_is_one_sentence(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ModuleNotFoundError("faces are drawn with python-avatars and resvg-py, and resvg-py cannot be found.")

    monkeypatch.setitem(data.DATASETS, "faces", broken)
    done = call("train", "--architecture", "stylegan")
    assert done.exit_code == 2 and done.stderr.strip().endswith("resvg-py cannot be found.")
