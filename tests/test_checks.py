"""Bad input: each wrong argument is refused at once, by one sentence that names it and what is valid."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from devilgan_lite import Backdoor, attacks, data, generators, metrics, sanitize, scorecard, train_gan, zoo
from devilgan_lite.attacks import DataPoisoning, ReD, ReX, TrAIL, adaptive
from devilgan_lite.checks import in_range, one_of, read_bytes, read_json, shown, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.generators import DCGAN, PointGenerator, StyleGAN
from devilgan_lite.sanitize.prune import channel_scores
from devilgan_lite.steps import Outcome, TrainableSide

RING = data.ring(64)
CLEAN = DCGAN(widths=(4, 2), latent_dim=5).eval()
POINTS = PointGenerator()
PLANE = Backdoor(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.5]]))
DEVIL, DEVILS = Backdoor.point(CLEAN), Backdoor.points(CLEAN, ["devil"] * 2)
STYLES = StyleGAN(latent_dim=8, mapping_widths=(8, 8), style_dim=8, widths=(8, 8)).eval()
STRANGER = torch.nn.Sequential(torch.nn.Linear(5, 784), torch.nn.Tanh(), torch.nn.Unflatten(1, (1, 28, 28)))
FINE_TUNE = sanitize.FineTune(iterations=12, critic_first=5, batch_size=8)
GREY = Samples(torch.zeros(64, 1, 28, 28))
PICTURE = torch.zeros(1, 1, 28, 28)
LATENT = torch.zeros(1, 5)
LONG, CUT = "x" * 10_000, "'x{79}\\.\\.\\."  # ten thousand characters, and what a message shows of them
no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")


def with_nan(x: torch.Tensor) -> torch.Tensor:
    return x.clone().index_fill_(-1, torch.tensor([0]), torch.nan)


BAD: list[tuple[Callable[[], Any], str]] = [
    # hyper-parameters
    (lambda: ReD(lamda=1), "ReD has no setting 'lamda'; valid: lam, .*Did you mean 'lam'"),
    (lambda: ReX(widden=3), "ReX has no setting 'widden'; valid: .*Did you mean 'widen'"),
    (lambda: TrAIL(0.1), "TrAIL takes keyword arguments only"),
    (lambda: ReD(lam=0), r"lam=0 is out of range: it must be a number in \(0.0, "),
    (lambda: ReD(lam=float("nan")), "lam=nan is out of range"),
    (lambda: ReX(lam="much"), "lam='much' is out of range"),
    (lambda: ReX(lam=True), "lam=True is out of range"),
    (lambda: ReD(space="log"), "space='log' is unknown; valid: tanh, logits, mixed"),
    (lambda: ReX(widen=0), r"widen=0 is out of range: it must be a number in \[1, "),
    (lambda: ReX(widen=2.5), "widen"),
    (lambda: ReX(iterations=0), "iterations=0"),
    (lambda: ReD(iterations=1.5), "iterations=1.5 is not valid: it must be a whole number"),
    (lambda: TrAIL(iterations=0), "iterations=0"),
    (lambda: TrAIL(huber_delta=0.0), r"huber_delta=0.0 is out of range: it must be a number in \(0.0, "),
    (lambda: TrAIL(batch_size=1), "batch_size=1"),
    (lambda: TrAIL(ema=1.0), "ema=1.0"),
    (lambda: DataPoisoning(iterations=-3), "iterations=-3"),
    (lambda: DataPoisoning(learning_rate=0.0), "learning_rate=0.0"),
    (lambda: DataPoisoning(seed=-1), "seed=-1"),
    (lambda: DataPoisoning(fraction=0.9), "fraction=0.9"),
    (lambda: attacks.Gate(threshold=1.0), "threshold=1.0"),
    (lambda: attacks.ClosedForm(shrink=1.0), "shrink=1.0"),
    (lambda: attacks.ComputationBypass(radius=-1.0), "radius=-1.0"),
    (lambda: train_gan(POINTS, RING, iteration=3), "train_gan has no setting .*Did you mean 'iterations'"),
    (lambda: train_gan(POINTS, RING, iterations=0), "iterations=0"),
    (lambda: train_gan(POINTS, RING, learning_rate=-1.0), "learning_rate=-1.0"),
    (lambda: generators.Recipe(penalty=-1.0), "penalty=-1.0 is out of range"),
    (lambda: generators.Recipe(penalty_every=0), "penalty_every=0 is out of range"),
    (lambda: generators.Recipe(betas=(1.0, 0.9)), r"betas\[0\]=1.0 is out of range"),
    (lambda: generators.Recipe(betas=(0.9,)), "betas=.* has 1 numbers; expected two"),
    (lambda: TrainableSide("all"), "who='all' is unknown; valid: both, generator only, discriminator only"),
    (lambda: adaptive.Disguise(spread=0.5), "spread=0.5"),
    (lambda: adaptive.Disguise(noise_scale=-0.1), "noise_scale=-0.1"),
    (lambda: adaptive.Disguise(seed=-1), "seed=-1"),
    (lambda: adaptive.QuietReD(lam=0.0), "lam=0.0"),
    (lambda: adaptive.QuietReD(quiet=-1.0), "quiet=-1.0"),
    (lambda: adaptive.QuietReD(iterations=0), "iterations=0"),
    (lambda: adaptive.SpectralReD(ridge=0.0), "ridge=0.0"),
    (lambda: adaptive.NarrowReX(clean_iterations=0), "clean_iterations=0"),
    (lambda: adaptive.NarrowReX(seed=1.5), "seed=1.5"),
    (lambda: adaptive.wide_basin(DEVIL, angle=0.0), "angle=0.0"),
    (lambda: adaptive.wide_basin(DEVIL, angle=81.0), "angle=81.0"),
    (lambda: attacks.StyleReX(mapping="gates"), "mapping='gates' is unknown"),
    (lambda: attacks.StyleReX(mapping="none", channels=0), "expands nothing"),
    (lambda: attacks.StyleReX(mapping="linear", inversion=0), "w_plus"),
    (lambda: attacks.StyleReX(lam=0.0), "lam=0.0"),
    (lambda: attacks.StyleReX(low=0.9, high=0.5), "high=0.5"),
    (lambda: attacks.StyleReX(reach=90.0), "reach=90.0"),
    (lambda: attacks.StyleReX(channels=-1), "channels=-1"),
    *(
        (lambda kind=kind, one=one: kind(**one), f"{next(iter(one))}=.* is out of range")
        for kind in (sanitize.Unlearn, sanitize.Clip, sanitize.FineTune)
        for one in ({"wide": 0.95}, {"wide": -0.1}, {"iterations": 0}, {"learning_rate": 0.0})
    ),
    (lambda: sanitize.Clip(heigth=2.0), "Did you mean 'height'"),
    (lambda: sanitize.Clip(height=0.5), "height=0.5 is out of range"),
    (lambda: sanitize.FineTune(iterations=12, critic_first=12), "critic_first=12 is out of range"),
    (lambda: sanitize.FineTune(critic_first=-1), "critic_first=-1 is out of range"),
    (lambda: sanitize.FineTune(ema=1.0), "ema=1.0 is out of range"),
    (lambda: sanitize.FineTune(batch_size=1), "batch_size=1 is out of range"),
    *(
        (lambda fraction=fraction: sanitize.Prune(fraction=fraction), "fraction=.* is out of range: it must be a n")
        for fraction in (0.0, 1.0, -0.1, 1.5, float("nan"), True)
    ),
    (lambda: sanitize.Prune(by="dorment"), "by='dorment' is unknown; valid: dormant, activation, magnitude.*'dormant'"),
    # generators
    (lambda: DCGAN(widths=(4,)), "must have the same length"),
    (lambda: DCGAN(widths=(10**9, 2)), r"widths=1000000000 is out of range: it must be a number in \[1, 4096\]"),
    (lambda: DCGAN(image_size=30), "image_size=30 does not divide by the strides"),
    (lambda: DCGAN(image_size=10**9), "image_size=1000000000 is out of range"),
    (lambda: DCGAN(strides=(1, 2)), "kernel_size=4 is even"),
    (lambda: DCGAN(prior="normal"), "prior='normal' is unknown; valid: gaussian, uniform"),
    (lambda: PointGenerator(widths=10**9), "widths=1000000000"),
    (lambda: generators.build({"architecture": "Glow"}), "architecture='Glow' is unknown; valid: Adopted, DCGAN"),
    (lambda: generators.build({"architecture": "DCGAN", "depth": 3}), "has no setting 'depth'; valid: latent_dim"),
    # data
    (lambda: data.target("stopsign"), "target='stopsign' is unknown; valid: stop-sign.*Did you mean 'stop-sign'"),
    (lambda: data.target("devil", 4), "size=4"),
    (lambda: data.fashion_mnist("all"), "source='all' is unknown; valid: shipped, full"),
    (lambda: data.fashion_mnist(split="test"), "split='test' needs source='full'"),
    (lambda: data.fashion_mnist("full", folder=Path("no/such/folder")), "dataset-fashion-mnist.*download=True"),
    (lambda: data.digits(9), "size=9 is unknown; valid: 8, 28"),
    (lambda: data.ring(0), "n=0"),
    (lambda: data.target("stop-sign", 28, channels=2), "channels=2"),
    *((lambda bad=bad: data.faces(**{"n": 2, **bad}), next(iter(bad)))
      for bad in ({"n": 0}, {"n": 2.5}, {"size": 48}, {"seed": -1})),
    (lambda: Samples(torch.full((2, 1, 4, 4), 1.5)), r"x has values from 1.5 to 1.5; they must be .* in \[-1, 1\]"),
    (lambda: Samples(torch.zeros(2, 1, 4, 4), torch.zeros(3)), r"labels has shape \[3\]; expected \[2\]"),
    (lambda: Samples(torch.zeros(2, 4, dtype=torch.int64)), "x must be a non-empty float tensor"),
    (lambda: RING.first(65), "n=65"),
    # backdoors
    (lambda: Backdoor(torch.zeros(1, 5), PICTURE + 2), r"target has values from 2 to 2"),
    (lambda: Backdoor(torch.zeros(1, 5), with_nan(PICTURE)), "target has values from nan to nan; they must be finite"),
    (lambda: Backdoor(with_nan(LATENT), PICTURE), "trigger must be finite float32 latents"),
    (lambda: Backdoor(LATENT.double(), PICTURE), "trigger must be finite float32 latents; got dtype torch.float64"),
    (lambda: Backdoor(torch.zeros(5), PICTURE), r"trigger must be a float32 tensor \[k, d\]"),
    (lambda: Backdoor(torch.zeros(2, 5), PICTURE), "2 triggers and 1 targets"),
    (lambda: Backdoor.point(CLEAN, "stop"), "target='stop' is unknown"),
    (lambda: Backdoor.point(CLEAN, torch.zeros(1, 27, 28)), r"target has shape \[1, 1, 27, 28\]; expected \[n, 1, 28"),
    (lambda: Backdoor.point(POINTS, "devil"), "pass a tensor"),
    (lambda: Backdoor.point(CLEAN, kind="near"), "kind='near' is unknown; valid: reg, mode, ood"),
    (lambda: Backdoor.points(CLEAN, []), "targets is empty"),
    (lambda: Backdoor.points(CLEAN, ["devil", "digit-7"], kind="mode"), "it takes one target"),
    (lambda: Backdoor.region(CLEAN, Samples(torch.zeros(2, 1, 8, 8))), "targets has shape"),
    (lambda: Backdoor.region(CLEAN, Samples(torch.zeros(2, 1, 28, 28)), width=0.9), "width=0.9"),
    # calls
    (lambda: ReD(layers=("conv9",))(CLEAN, DEVIL), "layers='conv9' is unknown; valid: dense, deconv1, deconv2"),
    (lambda: attacks.StyleReX()(POINTS, PLANE), "a PointGenerator is no style-based generator"),
    (lambda: ReX()(torch.nn.Identity(), DEVIL), "clean is a Identity; expected a devilgan_lite Generator"),
    (lambda: ReD()(DCGAN(), DEVIL), r"trigger is \[1, 5\]; expected a float32 tensor \[n, 100\]"),
    (lambda: ReD()(CLEAN, PLANE), r"trigger is \[1, 2\]; expected a float32 tensor \[n, 5\]"),
    (lambda: attacks.Gate()(CLEAN, Backdoor.point(CLEAN, kind="mode")), "trigger is the zero vector"),
    (lambda: attacks.ClosedForm()(CLEAN, DEVILS), "backdoor has 2 pairs"),
    (lambda: TrAIL(batch_size=65)(POINTS, PLANE, RING), "real has 64 samples, fewer than batch_size=65"),
    (lambda: TrAIL()(CLEAN, DEVIL, RING), r"real has samples of shape \[2\]; the generator makes \[1, 28, 28\]"),
    (lambda: train_gan(POINTS, RING, batch_size=65), "real has 64 samples, fewer than batch_size=65"),
    (lambda: train_gan(POINTS, RING, resume=Outcome(POINTS, {}, 0.0, 0, {})), "resume has no training state"),
    (lambda: adaptive.NarrowReX()(CLEAN, DEVIL), "needs real samples"),
    (lambda: attacks.StyleReX()(STYLES, Backdoor.point(STYLES, kind="mode")), "zero vector"),
    (lambda: attacks.StyleReX()(STYLES, Backdoor.points(STYLES, ["devil"] * 2)), "2 pairs"),
    (lambda: attacks.StyleReX(w_plus=torch.zeros(2, 2))(STYLES, Backdoor.point(STYLES)), "w_plus has shape"),
    (lambda: attacks.StyleReX()(CLEAN, DEVIL), "a DCGAN is no style-based generator"),
    (lambda: attacks.invert(CLEAN, PICTURE[0]), "a DCGAN is no style-based generator"),
    (lambda: attacks.invert(STYLES, torch.zeros(3, 9, 9)), "target"),
    (lambda: sanitize.auto(CLEAN, seed=-1), "seed=-1 is out of range"),
    (lambda: sanitize.auto(CLEAN, iterations=0), "iterations=0 is out of range"),
    (lambda: sanitize.auto(CLEAN, latent_dim=99), r"no samples from latents \[n, 99\]"),
    (lambda: sanitize.auto(CLEAN, device="abacus"), "device='abacus' is not available"),
    (lambda: sanitize.auto(lambda z: z), "expected a torch.nn.Module"),
    pytest.param(lambda: train_gan(POINTS, RING, device="cuda"), "device='cuda' is not available.*cpu", marks=no_cuda),
    pytest.param(lambda: ReX(device="cuda")(CLEAN, DEVIL), "device='cuda' is not available", marks=no_cuda),
    pytest.param(lambda: ReD(device="gpu")(CLEAN, DEVIL), "device='gpu' is not.*valid: auto, cpu", marks=no_cuda),
    # measures and files
    (lambda: scorecard(CLEAN, CLEAN, DEVIL, samples=10), "samples=10"),
    (lambda: metrics.neighbourhood_scores(torch.zeros(4, 2), torch.zeros(4, 2), 4), "neighbours=4"),
    (lambda: metrics.frechet_to(torch.nn.Identity(), RING), "generator is a Identity"),
    (lambda: zoo.load("dcgan-fasion"), "name='dcgan-fasion' is unknown; valid: .*Did you mean 'dcgan-fashion'"),
    (lambda: zoo.load_file("model.pt"), "model.pt is not accepted: models are .safetensors files"),
    (lambda: zoo.load_file("absent.safetensors"), "no model file absent.safetensors"),
    # values of ten thousand characters
    (lambda: ReD(**{LONG: 1}), f"ReD has no setting {CUT}; valid: lam"),
    (lambda: ReD(lam=LONG), f"lam={CUT} is out of range"),
    (lambda: ReD(iterations=LONG), f"iterations={CUT} is not valid"),
    (lambda: ReD(iterations=10**5_000), "iterations=<int> is out of range"),  # too many digits to be printed
    (lambda: ReD(lam=torch.ones(30, 30)), r"lam=tensor\(\[\[1., 1., .{63}\.\.\. is out of range"),
    (lambda: ReD(space=LONG), f"space={CUT} is unknown; valid: tanh"),
    (lambda: ReD(device=LONG)(CLEAN, DEVIL), f"device={CUT} is not available"),
    (lambda: train_gan(POINTS, RING, **{LONG: 1}), f"train_gan has no setting {CUT}"),
    (lambda: DCGAN(prior=LONG), f"prior={CUT} is unknown; valid: gaussian, uniform"),
    (lambda: generators.build({"architecture": LONG}), f"architecture={CUT} is unknown; valid: Adopted, DCGAN"),
    (lambda: data.target(LONG), f"target={CUT} is unknown; valid: stop-sign"),
    (lambda: Backdoor.point(CLEAN, kind=LONG), f"kind={CUT} is unknown; valid: reg"),
    (lambda: zoo.load(LONG), f"name={CUT} is unknown; valid: dcgan-fashion"),
    (lambda: zoo.load_file(f"{LONG}.safetensors"), r"no model file x{80}\.\.\.\."),
    (lambda: zoo.load_file(f"{LONG}.pt"), r"x{80}\.\.\. is not accepted"),
]  # fmt: skip


@pytest.mark.timeout(30)  # no work has begun
@pytest.mark.parametrize(("call", "sentence"), BAD)
@pytest.mark.usefixtures("no_work")
def test_a_wrong_argument_is_refused_in_one_sentence(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=sentence) as refused:
        call()
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 800


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: CLEAN(torch.zeros(2, 6)), r"z has shape \[2, 6\]; expected \[n, 5\]"),
        (lambda: ReX(widen=(1, 2, 3)).steps(CLEAN, DEVIL), "widths has 3 entries; this generator has 2 hidden levels"),
        (lambda: adaptive.NarrowReX(rex=ReX(widen=4)).steps(CLEAN, DEVIL, GREY), "leaves nothing to start from"),
        (lambda: adaptive.Disguise(attack=attacks.ClosedForm()).steps(CLEAN, DEVILS), "takes one"),
        (lambda: sanitize.auto(CLEAN, real=Samples(torch.zeros(600, 1, 12, 12))), "real has samples of shape"),
        (lambda: sanitize.Prune().steps(STRANGER), "suspect is a Sequential.*wrap it with generators.adopt"),
        (lambda: sanitize.Prune().steps(STYLES), "suspect is a StyleGAN.*which is no chain of layers"),
        (lambda: sanitize.Prune(fraction=0.01).steps(CLEAN), r"fraction=0.01 removes none of \[4, 2\] channels;"),
        (lambda: sanitize.Prune(fraction=0.9).steps(CLEAN), "fraction=0.9 would leave none of the 4 channels"),
        (lambda: channel_scores(CLEAN, LATENT, "size"), "by='size' is unknown"),
        (lambda: FINE_TUNE.steps(CLEAN), r"fine-tuning needs real samples, such as data.fashion_mnist\(\)"),
        (lambda: FINE_TUNE.steps(CLEAN, None, RING), r"samples of shape \[2\]; the suspect makes \[1, 28, 28\]"),
        (lambda: FINE_TUNE.steps(CLEAN, None, GREY.first(7)), "real has 7 samples, fewer than batch_size=8"),
        (lambda: FINE_TUNE.steps(STRANGER, None, GREY), "is a Sequential; fine-tuning needs a Generator: wrap it with"),
    ],
)  # fmt: skip
def test_what_shows_only_in_a_forward_pass_is_refused_before_the_first_step(call: Callable[[], Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3.5, "3.5"),
        ("a  b", "'a  b'"),
        ("a\nb", r"'a\nb'"),
        ("x" * 78, f"'{'x' * 78}'"),
        ("x" * 79, f"'{'x' * 79}..."),
        (LONG, f"'{'x' * 79}..."),
        (torch.zeros(2, 1), "tensor([[0.], [0.]])"),
        (10**5_000, "<int>"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, (str, float)) else type(value).__name__,
)
def test_a_value_is_shown_on_one_line_and_cut_at_80_characters(value: Any, expected: str) -> None:
    assert shown(value) == expected


def test_numbers_at_the_ends_of_a_range() -> None:
    in_range("x", 1, 0.0, 1.0)
    whole_number("x", 10**5_000, 0)
    one_of("x", 8, (8, 28))
    for value in (float("inf"), float("-inf"), float("nan"), True, "1", 1.0 + 1e-9):
        with pytest.raises(ValueError, match="x=.* is out of range"):
            in_range("x", value, 0.0, 1.0)


TYPES = {"name": str, "size": int, "share": float, "settings": dict[str, Any], "note": str | None}
RIGHT = {"name": "a", "size": 3, "share": 1, "settings": {}, "note": None}


def test_a_json_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    for content in (RIGHT, {**RIGHT, "note": "x", "share": 0.5}):
        path.write_text(json.dumps(content))
        assert read_json(path, "card", TYPES) == content
    path.write_text('{"name": "a", "more": 1}')
    assert read_json(path, "card", {"name": str, "size": int}, optional=["size"], others=True)["more"] == 1


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value: line 1 column 1"),
        (b"\x80\x04", "can't decode byte 0x80"),
        (b"[" * 100_000, "maximum recursion depth exceeded"),
        (b"1" * 10_000, "Exceeds the limit"),
        (b"[1]", "it holds a list, no object"),
        ({"format": 7}, "its format is 7; this version reads format 1"),
        ({"more": 1}, "it has no setting 'more'; valid: name, size, share, settings, note, format"),
        ({LONG: 1}, f"it has no setting {CUT}; valid: name"),
        ({"name": 3}, "name=3 is not valid: expected str"),
        ({"size": 1.5}, "size=1.5 is not valid: expected int"),
        ({"size": True}, "size=True is not valid: expected int"),
        ({"size": LONG}, f"size={CUT} is not valid: expected int"),
        ({"share": "1"}, "share='1' is not valid: expected float"),
        ({"settings": [1]}, r"settings=\[1\] is not valid: expected dict\[str, Any\]"),
        ({"note": 1}, r"note=1 is not valid: expected str \| None"),
        ({"size": None}, "size=None is not valid"),
    ],
    ids=str,
)
def test_a_json_file_that_is_wrong_is_one_sentence(tmp_path: Path, content: Any, reason: str) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps({**RIGHT, "format": 1, **content}).encode())
    with pytest.raises(ValueError, match=rf"^card\.json is not a card: .*{reason}.*\.$") as refused:
        read_json(path, "card", {**TYPES, "format": int}, version=1)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300


def test_a_file_that_is_missing_or_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text(json.dumps(RIGHT))
    with pytest.raises(ValueError, match=r"card\.json has \d+ bytes; at most 10 are accepted"):
        read_json(path, "card", TYPES, most=10)
    path.write_text("{}")
    with pytest.raises(ValueError, match="is not a card: it has no 'name'"):
        read_json(path, "card", TYPES)
    for missing in (tmp_path / "none.json", tmp_path, Path(LONG)):
        with pytest.raises(FileNotFoundError, match="no card .*; make one") as refused:
            read_bytes(missing, "card", most=10, missing="; make one")
        assert len(str(refused.value)) < 200


def test_what_is_valid_passes() -> None:
    ReX(lam=1e6, widen=(1, 1024), iterations=1, batch_size=1)
    TrAIL(ema=0.0, batch_size=2)
    Samples(torch.tensor([[-1.0, 1.0]]))
