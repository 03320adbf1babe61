"""Bad input: each wrong argument is refused at once, by one sentence that names it and what is valid."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from devilgan_lite import Backdoor, data, generators, metrics, sanitize, scorecard, train_gan, zoo
from devilgan_lite.attacks import ReD
from devilgan_lite.checks import in_range, one_of, read_bytes, read_json, shown, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.generators import DCGAN, PointGenerator, StyleGAN
from devilgan_lite.sanitize.prune import channel_scores
from devilgan_lite.steps import Outcome, TrainableSide

RING = data.ring(64)
CLEAN = DCGAN(widths=(4, 2), latent_dim=5).eval()
POINTS = PointGenerator()
DEVIL = Backdoor.point(CLEAN)
STYLES = StyleGAN(latent_dim=8, mapping_widths=(8, 8), style_dim=8, widths=(8, 8)).eval()
STRANGER = torch.nn.Sequential(torch.nn.Linear(5, 784), torch.nn.Tanh(), torch.nn.Unflatten(1, (1, 28, 28)))
FINE_TUNE = sanitize.FineTune(iterations=12, critic_first=5, batch_size=8)
GREY = Samples(torch.zeros(64, 1, 28, 28))
PICTURE, LATENT = torch.zeros(1, 1, 28, 28), torch.zeros(1, 5)
LONG, CUT = "x" * 10_000, f"'{'x' * 79}..."  # ten thousand characters, and what a message shows of them


def with_nan(x: torch.Tensor) -> torch.Tensor:
    return x.clone().index_fill_(-1, torch.tensor([0]), torch.nan)


BAD: list[tuple[Callable[[], Any], str]] = [
    # training
    (lambda: train_gan(POINTS, RING, iterations=0), "iterations"),
    (lambda: train_gan(POINTS, RING, learning_rate=-1.0), "learning_rate"),
    (lambda: train_gan(POINTS, RING, batch_size=65), "batch_size=65"),
    (lambda: train_gan(POINTS, RING, resume=Outcome(POINTS, {}, 0.0, 0, {})), "resume"),
    (lambda: train_gan(POINTS, RING, device=f"cuda:{torch.cuda.device_count()}"), "device"),
    (lambda: train_gan(POINTS, RING, device="gpu"), "'gpu'"),
    (lambda: TrainableSide("all"), "who"),
    # sanitizers
    *((lambda kind=kind, one=one: kind(**one), next(iter(one)))
      for kind in (sanitize.Unlearn, sanitize.Clip, sanitize.FineTune)
      for one in ({"wide": 0.95}, {"wide": -0.1}, {"iterations": 0}, {"learning_rate": 0.0})),
    (lambda: sanitize.Clip(height=0.5), "height"),
    (lambda: sanitize.FineTune(iterations=12, critic_first=12), "critic_first"),
    (lambda: sanitize.FineTune(critic_first=-1), "critic_first"),
    (lambda: sanitize.FineTune(ema=1.0), "ema"),
    (lambda: sanitize.FineTune(batch_size=1), "batch_size"),
    *((lambda fraction=fraction: sanitize.Prune(fraction=fraction), "fraction")
      for fraction in (0.0, 1.0, -0.1, float("nan"), True)),
    (lambda: sanitize.Prune(by="dorment"), "Did you mean 'dormant'"),
    (lambda: sanitize.auto(CLEAN, seed=-1), "seed"),
    (lambda: sanitize.auto(CLEAN, iterations=0), "iterations"),
    (lambda: sanitize.auto(CLEAN, latent_dim=99), "99"),
    (lambda: sanitize.auto(CLEAN, device="abacus"), "device"),
    (lambda: sanitize.auto(lambda z: z), "Module"),
    # data
    (lambda: data.target("stopsign"), "Did you mean 'stop-sign'"),
    (lambda: data.target("devil", 4), "size"),
    (lambda: data.target("stop-sign", 28, channels=2), "channels"),
    (lambda: data.fashion_mnist("all"), "source"),
    (lambda: data.fashion_mnist(split="test"), "source"),
    (lambda: data.digits(9), "size"),
    (lambda: data.ring(0), "n=0"),
    *((lambda bad=bad: data.faces(**{"n": 2, **bad}), next(iter(bad)))
      for bad in ({"n": 0}, {"n": 2.5}, {"size": 48}, {"seed": -1})),
    *((lambda bad=bad: data.drums(**{"n": 2, **bad}), next(iter(bad)))
      for bad in ({"n": 0}, {"split": "all"}, {"speed": 0.6}, {"seed": -1})),
    (lambda: Samples(torch.full((2, 1, 4, 4), 1.5)), "1.5"),
    (lambda: Samples(torch.zeros(2, 1, 4, 4), torch.zeros(3)), "labels"),
    (lambda: Samples(torch.zeros(2, 4, dtype=torch.int64)), "x must"),
    (lambda: RING.first(65), "n=65"),
    # backdoors
    (lambda: Backdoor(LATENT, PICTURE + 2), "target"),
    (lambda: Backdoor(LATENT, with_nan(PICTURE)), "target"),
    (lambda: Backdoor(with_nan(LATENT), PICTURE), "trigger"),
    (lambda: Backdoor(LATENT.double(), PICTURE), "trigger"),
    (lambda: Backdoor(torch.zeros(5), PICTURE), "trigger"),
    (lambda: Backdoor(torch.zeros(2, 5), PICTURE), "2 triggers"),
    (lambda: Backdoor.point(CLEAN, "stop"), "target"),
    (lambda: Backdoor.point(CLEAN, torch.zeros(1, 27, 28)), "27"),
    (lambda: Backdoor.point(POINTS, "devil"), "tensor"),
    (lambda: Backdoor.point(CLEAN, kind="near"), "kind"),
    (lambda: Backdoor.points(CLEAN, []), "targets"),
    (lambda: Backdoor.points(CLEAN, ["devil", "digit-7"], kind="mode"), "kind"),
    (lambda: Backdoor.region(CLEAN, Samples(torch.zeros(2, 1, 8, 8))), "targets"),
    (lambda: Backdoor.region(CLEAN, Samples(torch.zeros(2, 1, 28, 28)), width=0.9), "width"),
    # measures and files
    (lambda: scorecard(CLEAN, CLEAN, DEVIL, samples=10), "samples"),
    (lambda: metrics.neighbourhood_scores(torch.zeros(4, 2), torch.zeros(4, 2), 4), "neighbours"),
    (lambda: metrics.frechet_to(torch.nn.Identity(), RING), "generator"),
    (lambda: zoo.load("dcgan-fasion"), "Did you mean 'dcgan-fashion'"),
    (lambda: zoo.load_file("model.pt"), "model.pt"),
    # values of ten thousand characters
    (lambda: ReD(lam=LONG), f"lam={CUT}"),  # type: ignore[arg-type]
    (lambda: ReD(iterations=10**5_000), "iterations=<int>"),  # too many digits to be printed
    (lambda: ReD(lam=torch.ones(30, 30)), "lam=tensor([[1., 1., "),  # type: ignore[arg-type]
    (lambda: ReD(space=LONG), f"space={CUT}"),
    (lambda: ReD(device=LONG)(CLEAN, DEVIL), f"device={CUT}"),
    (lambda: generators.build({"architecture": LONG}), f"architecture={CUT}"),
    (lambda: data.target(LONG), f"target={CUT}"),
    (lambda: zoo.load(LONG), f"name={CUT}"),
    (lambda: zoo.load_file(f"{LONG}.pt"), "x..."),
]  # fmt: skip
OTHER: list[tuple[Callable[[], Any], type[Exception], tuple[str, ...]]] = [
    (lambda: train_gan(POINTS, RING, iteration=3), TypeError, ("iteration", "'iterations'")),
    (lambda: train_gan(POINTS, RING, **{LONG: 1}), TypeError, (CUT,)),
    (lambda: ReD(**{LONG: 1}), TypeError, (CUT, "lam")),
    (lambda: sanitize.Clip(heigth=2.0), TypeError, ("'height'",)),  # type: ignore[call-arg]
    (lambda: data.fashion_mnist("full", folder=Path("no/such/folder")), FileNotFoundError, ("download=True",)),
    (lambda: zoo.load_file("absent.safetensors"), FileNotFoundError, ("absent",)),
    (lambda: zoo.load_file(f"{LONG}.safetensors"), FileNotFoundError, ("x...",)),
]


@pytest.mark.usefixtures("no_work")
def test_a_wrong_argument_is_refused_in_one_sentence(refuses: Any) -> None:
    for call, name in BAD:
        assert len(refuses(call, name)) < 800
    for call, error, names in OTHER:
        assert len(refuses(call, *names, error=error)) < 800


LATER: list[tuple[Callable[[], Any], str]] = [
    (lambda: sanitize.auto(CLEAN, real=Samples(torch.zeros(600, 1, 12, 12))), "real"),
    (lambda: sanitize.Prune().steps(STRANGER), "chain"),
    (lambda: sanitize.Prune().steps(STYLES), "StyleGAN"),
    (lambda: sanitize.Prune(fraction=0.01).steps(CLEAN), "fraction"),
    (lambda: sanitize.Prune(fraction=0.9).steps(CLEAN), "fraction"),
    (lambda: channel_scores(CLEAN, LATENT, "size"), "by"),
    (lambda: FINE_TUNE.steps(CLEAN), "real"),
    (lambda: FINE_TUNE.steps(CLEAN, None, RING), "samples of shape"),
    (lambda: FINE_TUNE.steps(CLEAN, None, GREY.first(7)), "batch_size=8"),
]


def test_what_shows_only_in_a_forward_pass_is_refused_before_the_first_step(refuses: Any) -> None:
    for call, name in LATER:
        refuses(call, name)


def test_a_value_is_shown_on_one_line_and_cut_at_80_characters() -> None:
    assert [shown(value) for value in (3.5, "a  b", "a\nb", 10**5_000)] == ["3.5", "'a  b'", r"'a\nb'", "<int>"]
    assert shown("x" * 78) == f"'{'x' * 78}'" and shown("x" * 79) == shown(LONG) == f"'{'x' * 79}..."
    assert shown(torch.zeros(2, 1)) == "tensor([[0.], [0.]])"


def test_numbers_at_the_ends_of_a_range(refuses: Any) -> None:
    in_range("x", 1, 0.0, 1.0)
    in_range("x", 0, 0.0, 1.0)
    whole_number("x", 10**5_000, 0)
    whole_number("x", 3, 3, 3)
    one_of("x", 8, (8, 28))
    Samples(torch.tensor([[-1.0, 1.0]]))
    for value in (float("inf"), float("-inf"), float("nan"), True, "1", 1.0 + 1e-9, -1e-9):
        refuses(lambda value=value: in_range("x", value, 0.0, 1.0), "x=")
    refuses(lambda: in_range("x", 0.0, 0.0, 1.0, open_low=True), "x=")
    for value in (2, 4, 3.0, True):
        refuses(lambda value=value: whole_number("x", value, 3, 3), "x=")


TYPES = {"name": str, "size": int, "share": float, "settings": dict[str, Any], "note": str | None}
RIGHT = {"name": "a", "size": 3, "share": 1, "settings": {}, "note": None}
WRONG_JSON: list[tuple[bytes | dict[str, Any], str]] = [
    (b"", "card.json"), (b"\x80\x04", "0x80"), (b"[" * 100_000, "card.json"), (b"1" * 10_000, "card.json"),
    (b"[1]", "list"), ({"format": 7}, "format"), ({"more": 1}, "more"), ({LONG: 1}, CUT), ({"name": 3}, "name=3"),
    ({"size": 1.5}, "size"), ({"size": True}, "size"), ({"size": LONG}, f"size={CUT}"), ({"share": "1"}, "share"),
    ({"settings": [1]}, "settings"), ({"note": 1}, "note"), ({"size": None}, "size"),
]  # fmt: skip


def test_a_json_file_is_read_or_refused_in_one_sentence(tmp_path: Path, refuses: Any) -> None:
    path = tmp_path / "card.json"
    for content in (RIGHT, {**RIGHT, "note": "x", "share": 0.5}):
        path.write_text(json.dumps(content))
        assert read_json(path, "card", TYPES) == content
    path.write_text('{"name": "a", "more": 1}')
    assert read_json(path, "card", {"name": str, "size": int}, optional=["size"], others=True)["more"] == 1
    for wrong, name in WRONG_JSON:
        path.write_bytes(wrong if isinstance(wrong, bytes) else json.dumps({**RIGHT, "format": 1, **wrong}).encode())
        said = refuses(lambda: read_json(path, "card", {**TYPES, "format": int}, version=1), "card.json", name)
        assert len(said) < 300
    path.write_text(json.dumps(RIGHT))
    refuses(lambda: read_json(path, "card", TYPES, most=10), "10")
    assert read_json(path, "card", TYPES, most=path.stat().st_size) == RIGHT
    path.write_text("{}")
    refuses(lambda: read_json(path, "card", TYPES), "name")
    for missing in (tmp_path / "none.json", tmp_path, Path(LONG)):
        call = lambda missing=missing: read_bytes(missing, "card", most=10, missing="; make one")  # noqa: E731
        assert len(refuses(call, "make one", error=FileNotFoundError)) < 200
