"""Every command: help, device, JSON, the defaults of its function; what is mistyped is one line, nothing is written."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from devilgan_lite import Backdoor, attacks, sanitize, train_gan
from devilgan_lite import cli as line
from devilgan_lite.apps import studies
from devilgan_lite.apps.studies import commands
from devilgan_lite.cli import app, defence, models
from devilgan_lite.files.fetch import fetch
from devilgan_lite.intake.check import Options
from devilgan_lite.intake.cure import Cure

LONG = "x" * 10_000


def leaves(command: Any, *words: str) -> dict[str, Any]:
    """The commands below ``command``, by their words."""
    if not hasattr(command, "commands"):
        return {" ".join(words): command}
    return {name: one for word, part in command.commands.items() for name, one in leaves(part, *words, word).items()}


COMMANDS = leaves(get_command(app))
NEEDED = {  # what a command cannot do without
    "attack": "gate", "score": "dcgan-fashion-gate", "scan": "dcgan-fashion", "sanitize": "dcgan-fashion",
    "export": "dcgan-fashion --out a.onnx", "sample": "dcgan-fashion", "run": "00", "sweep": "study.yml",
    "report": "study", "zoo show": "dcgan-fashion", "challenge submit": "kit --team blue",
    "challenge score": "kit --answers answers.json --submissions in",
}  # fmt: skip
OTHERS = {
    "train", "fetch", "serve", "stage", "film", "phone", "tour", "doctor", "zoo list", "zoo verify", "challenge new",
}  # fmt: skip
COMPUTING = {
    "train", "attack", "score", "scan", "sanitize", "sample", "film", "stage",
    "challenge new", "challenge submit", "challenge score",
}  # fmt: skip


def test_every_command_has_its_help(call: Any, fails: Callable[..., str]) -> None:
    assert set(COMMANDS) == {*NEEDED, *OTHERS}
    for words in ("", "zoo", "challenge"):
        assert call(*words.split(), "--help").exit_code == call(*words.split(), "-h").exit_code == 0
    for words, command in COMMANDS.items():
        shown = call(*words.split(), "--help")
        options = [one.opts[0] for one in command.params if one.opts[0].startswith("--") and not one.hidden]
        assert shown.exit_code == 0 and [name for name in options if name not in shown.stdout] == []
        fails(*words.split(), "--sed", names=["--sed", "--help", *options[:1]])
        if words in NEEDED:
            fails(*words.split())
    assert all(name in call("attack", "--help").stdout for name in attacks.BY_NAME)


@pytest.mark.usefixtures("no_work")
def test_every_command_that_computes_takes_a_device(fails: Callable[..., str]) -> None:
    given = {words for words, one in COMMANDS.items() if any("--device" in part.opts for part in one.params)}
    assert given == COMPUTING
    for words in sorted(COMPUTING):
        fails(*f"{words} {NEEDED.get(words, '')} --device tpu".split(), names=["device='tpu'", "auto", "cpu"])


SAME: list[tuple[Callable[..., Any], Callable[..., Any], str]] = [
    (defence.sanitize, sanitize.auto, "always iterations seed device"),
    (defence.sanitize, Cure, "always iterations seed latent_dim architecture"),
    (defence.scan, Options, "latent_dim prior architecture weights seed twin access targets bank reference real"),
    (line.train, train_gan, "iterations seed batch_size device"),
    (line.attack, Backdoor.point, "target kind seed"),
    (commands.run, studies.run, "out timeout"),
    (commands.sweep, studies.sweep, "workers scheduler retries again"),
    (models.fetch, fetch, "name folder timeout"),
]


def test_a_command_has_the_defaults_of_its_function() -> None:
    for command, function, names in SAME:
        ours, theirs = (inspect.signature(one).parameters for one in (command, function))
        for name in names.split():
            default = ours[name].default
            assert (str(default) if isinstance(default, Path) else default) == theirs[name].default, (command, name)


# a command line, and what the answer must name
BAD = """
atack | atack 'attack'
attack gat | gat 'gate'
attack gate --target stop-sing | target stop-sing 'stop-sign'
attack gate --seed many | --seed
attack gate --kind rag | kind rag reg mode ood
attack gate --batch-size 3 | Gate batch_size
attack rex --lam -1 | lam -1
attack rex --clean dcgan-fashon | dcgan-fashon 'dcgan-fashion'
attack rex --clean model.pt | model.pt fetch
attack gate --samples 99 | samples 99
attack style-rex | DCGAN StyleGAN
attack gate --out model.pt | out model.pt .safetensors .onnx .pt2
score dcgan-fashion-gate --samples 99 | samples 99
score nowhere.safetensors | nowhere.safetensors
score dcgan-fashion | model dcgan-fashion backdoor
scan dcgan-fashion nowhere.onnx | nowhere.onnx
scan dcgan-fashon | dcgan-fashon 'dcgan-fashion'
scan dcgan-fashion --prior cauchy | prior cauchy gaussian uniform
scan dcgan-fashion --latent-dim 0 | latent_dim
scan dcgan-fashion --minutes 0 | --minutes
scan dcgan-fashion --access weight | access weight samples
scan dcgan-fashion dcgan-fashion --html a.html | html a.html
sanitize dcgan-fashion --iterations 0 | iterations 0
sanitize dcgan-fashion --key-file my.key | --key-file --keyed
sanitize dcgan-fashion --keyed --always | --keyed --always
export dcgan-fashion --out a.txt | out a.txt .onnx .pt2 .safetensors
export dcgan-fashion --out a.onnx --to tf | to tf onnx pt2 safetensors
export dcgan-fashion --out a.onnx --to pt2 | to pt2 out a.onnx
train --steps 0 | iterations 0
train --architecture smal | architecture smal 'small' paper vae flow stylegan wave
train --out model.pt | out model.pt .safetensors
sample dcgan-fashion --n 0 | --n
sample dcgan-fashon | 'dcgan-fashion'
run 99 | notebook 99
run 00 -p sed=1 | sed 'seed'
run 00 -p seed | seed
tour --only 00 --profile worksop | profile worksop
sweep nowhere.yml | nowhere.yml
report nowhere | nowhere
zoo show dcgan | dcgan dcgan-fashion
fetch nobody | nobody faces
film dcgan-fashion | model dcgan-fashion dcgan-fashion-gate
film dcgan-fashion-rx | 'dcgan-fashion-rex'
film dcgan-fashion-gate --pair dcgan-fashion dcgan-fashion-gate | MODEL --pair
film --out film.avi | .avi .webp .gif .mp4
film --frames 3 | frames 3
film --frames 401 | frames 401
stage --model dcgan-fashion-rax | model 'dcgan-fashion-rex'
stage --model wave-drums-gate | model wave-drums-gate
stage --model dcgan-fashion-gate --pair dcgan-fashion dcgan-fashion-gate | --model --pair
stage --scan dcgan-fashion-gat | scan 'dcgan-fashion-gate'
stage --scan nowhere.onnx | scan nowhere.onnx
stage --port 80 | --port
stage --share --check | --share
stage --share --print page.html | --share
phone --out page.txt | out page.txt .html
challenge new --models 3 | models 3
challenge new --seed -1 | seed -1
challenge new --jobs 0 | --jobs
challenge new --red nowhere | nowhere
challenge submit nowhere --team blue | --verdicts --model
challenge submit nowhere --team blue --verdicts v.csv --model m.safetensors | --verdicts --model
challenge submit nowhere --team blue --verdicts v.csv | nowhere
challenge score nowhere --answers k --submissions in | nowhere
"""
# ten thousand characters in place of each {}
LONG_WORDS = """
{}
attack {}
attack gate --{}
attack gate --target {}
attack gate --device {}
attack gate --clean {}
score {}.pt
run 00 -p {}
run 00 -p profile={}
sweep {}
stage --model {}
challenge submit {} --team blue --verdicts v.csv
"""
OUTS = """
train --out {}.safetensors
attack gate --out {}.safetensors
scan dcgan-fashion --html {}
scan dcgan-fashion --sarif {}
sanitize dcgan-fashion --out {}.onnx
export dcgan-fashion --out {}.pt2
sample dcgan-fashion --out {}
film --out {}.gif
stage --print {}
phone --out {}.html
challenge new --out {}
challenge score nowhere --answers k --submissions in --html {}
"""
PAIRS = """
dcgan-fashion-gate dcgan-fashion | dcgan-fashion backdoor
dcgan-fashion dcgan-fashion-gat | 'dcgan-fashion-gate'
dcgan-fashion nowhere/file.safetensors | nowhere/file.safetensors
dcgan-fashion nowhere.onnx | nowhere.onnx
dcgan-fashion | --pair
stylegan-faces dcgan-fashion-gate | 64 100
"""


def rows(table: str) -> list[tuple[list[str], list[str]]]:
    parted = (row.partition(" | ") for row in table.split("\n")[1:-1])
    return [(words.split(), names.split()) for words, _, names in parted]


@pytest.mark.usefixtures("no_work")
def test_what_is_mistyped_is_one_line_before_any_work(fails: Callable[..., str]) -> None:
    for words, names in rows(BAD):
        assert len(fails(*words, names=names)) < 600
    for words, names in rows(PAIRS):
        for command in ("film", "stage --no-browser", "phone"):
            fails(*command.split(), "--pair", *words, names=names)


@pytest.mark.usefixtures("no_work")
def test_ten_thousand_letters_are_cut_and_no_file_goes_where_none_can_be(
    fails: Callable[..., str], tmp_path: Path
) -> None:
    for row in (LONG_WORDS + OUTS).split("\n"):
        if row:
            assert len(fails(*row.replace("{}", LONG).split(), names=[LONG[:70]])) < 600, row
    (tmp_path / "file").touch()
    for row in OUTS.split("\n")[1:-1]:
        for place in ("/proc/x/y", "file/y"):
            fails(*row.replace("{}", place).split(), names=[place, row.split()[-2].strip("-")])
    for name in ("html", "sarif"):
        fails("scan", "dcgan-fashion", f"--{name}", ".", names=[name])


PRINTED = {  # a command line, and its exit code
    "stage --check": 0,
    "score {gate} --clean {clean} --samples 100": 0,
    "attack gate --clean {clean} --samples 100 --out made.safetensors": 0,
    "scan {clean} --no-twin --no-jail": 0,
    "scan {gate} --no-twin --no-jail --html page.html": 4,
    "sanitize {clean} --out cured.safetensors": 0,
}


@pytest.mark.parametrize(("words", "code"), PRINTED.items())
def test_json_is_json_and_nothing_else_and_the_rest_is_text(
    call: Any, monkeypatch: pytest.MonkeyPatch, pair: tuple[Path, Path], words: str, code: int
) -> None:
    monkeypatch.setattr("devilgan_lite.apps.show.serving.browser", lambda: "chromium")
    given = words.format(clean=pair[0], gate=pair[1]).split()
    said, text = call(*given, "--json"), call(*given)
    assert (said.exit_code, text.exit_code) == (code, code), said.output
    assert json.loads(said.stdout) and said.stdout.strip()[0] in "[{"
    with pytest.raises(ValueError):
        json.loads(text.stdout)
    assert text.stdout.strip() and "Traceback" not in text.output


def test_a_report_takes_the_place_of_no_model(
    fails: Callable[..., str], tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    (tmp_path / "model.safetensors").write_bytes(before := pair[0].read_bytes())
    for name in ("html", "sarif"):
        fails("scan", "model.safetensors", f"--{name}", "./model.safetensors", names=[name, "model.safetensors"])
    assert len(fails("scan", "model.safetensors", "--no-jail", "--targets", LONG, names=[LONG[:70]])) < 600
    assert (tmp_path / "model.safetensors").read_bytes() == before
