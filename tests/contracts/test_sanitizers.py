"""Every sanitizer: the same copy for the same seed, the suspect as it was, a stop at any step, bad input."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from devilgan_lite import data, files, sanitize
from devilgan_lite.detect import analyse_weights
from devilgan_lite.generators import DCGAN, StyleGAN, adopt
from devilgan_lite.sanitize import Clamp, Clip, FineTune, Keyed, Limit, Prune, Sanitizer, Unlearn, auto
from devilgan_lite.sanitize.limit import contained

LITTLE: dict[str, Any] = {"iterations": 6, "batch_size": 8, "device": "cpu"}
CURES: dict[str, Any] = {
    "unlearn": Unlearn(**LITTLE),
    "clip": Clip(**LITTLE, height=1.0),  # half of every layer is cut, so that there is something to repair
    "fine-tune": FineTune(**LITTLE, critic_first=2, ema=0.0),
    "prune": Prune(**LITTLE, fraction=0.25),
    "limit": Limit(),
    "clamp": Clamp(samples=200),
    "keyed": Keyed(key="5a" * 32),
}
TRAINED = ("unlearn", "clip", "fine-tune", "prune")
each_cure = pytest.mark.parametrize("name", CURES)
X = torch.randn(1, 16, generator=torch.Generator().manual_seed(0))


def given(name: str, digits: data.Samples) -> dict[str, Any]:
    return {"real": digits if name == "fine-tune" else None, "directions": X}


def same(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(
        value.shape == theirs[key].shape and torch.equal(value, theirs[key]) for key, value in ours.items()
    )


def test_every_sanitizer_is_here() -> None:
    kinds = {one for one in vars(sanitize).values() if isinstance(one, type) and issubclass(one, Sanitizer)}
    assert kinds - {Sanitizer} == {type(cure) for cure in CURES.values()}


@each_cure
def test_it_repeats_tells_how_it_was_made_and_leaves_what_it_is_given(
    name: str, tiny: DCGAN, digits: data.Samples
) -> None:
    cure, mine, state, gives = CURES[name], tiny.clone().train(), torch.get_rng_state(), given(name, digits)
    subject = adopt(mine)
    first, again = (cure(one, progress=False, **gives) for one in (mine, subject))
    assert torch.equal(torch.get_rng_state(), state)
    assert same(subject.network, tiny) and not any(one.requires_grad for one in subject.network.parameters())
    assert mine.training and same(mine, tiny) and all(one.requires_grad for one in mine.parameters())
    assert same(first.generator, again.generator) and first.history == again.history
    cuts = first.settings.pop("cuts", [])
    assert first.settings == cure.settings() and first.settings["sanitizer"] == type(cure).__name__
    assert json.loads(json.dumps(first.settings)).keys() == first.settings.keys()
    assert (name in ("clip", "limit", "clamp", "keyed")) == bool(cuts) and all("\n" not in one for one in cuts)
    assert first.seed == getattr(cure, "seed", 0) and not first.interrupted and first.seconds > 0
    losses = {"generator_loss", "discriminator_loss"} if name == "fine-tune" else {"distillation_loss"}
    assert set(first.history) == (losses if name in TRAINED else set())
    assert all(len(values) == 6 for values in first.history.values())
    made = first.generator
    assert not any(part.training for part in made.modules()) and all(one.requires_grad for one in made.parameters())
    assert not {value.data_ptr() for value in made.parameters()} & {value.data_ptr() for value in mine.parameters()}
    z = torch.cat([4 * X, adopt(tiny).ordinary(50)])
    with torch.no_grad():
        assert torch.isfinite(made(z)).all() and not torch.equal(made(z), tiny(z))
        torch.testing.assert_close(made(z), torch.cat([made(part) for part in z.split(7)]), atol=1e-5, rtol=0.0)
    change: dict[str, Any] = {"key": "c3" * 32} if name == "keyed" else {"seed": 5}
    other = replace(cure, **change)(mine, progress=False, **gives)
    assert other.seed == change.get("seed", 0) and not same(other.generator, made)


@each_cure
def test_stopped_early_it_leaves_what_it_has(name: str, tiny: DCGAN, digits: data.Samples) -> None:
    for steps in (0, 1, 4) if name in TRAINED else (0,):
        loop = CURES[name].steps(tiny, **given(name, digits))
        seen = [(step.iteration, step.total) for step in islice(loop, steps)]
        assert seen == [(number, 6) for number in range(1, steps + 1)]
        outcome = loop.stop()
        assert outcome.interrupted and not outcome.generator.training and "undone" not in outcome.settings
        assert {len(values) for values in outcome.history.values()} == ({max(1, steps)} if name in TRAINED else set())
        with torch.no_grad():
            assert torch.isfinite(outcome.generator(X)).all()
        if name == "fine-tune":  # the critic learns alone first
            assert same(outcome.generator, tiny) == (steps < 3)
        if name == "prune":
            assert outcome.generator.widths == (6,)


def a_strangers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))


@each_cure
def test_what_comes_out_is_saved_and_opened_again(name: str, tiny: DCGAN, digits: data.Samples, tmp_path: Path) -> None:
    for suspect in (tiny, a_strangers()):
        cured = CURES[name](suspect, progress=False, **given(name, digits)).generator
        again = files.open(files.export(cured, None, tmp_path / "cured.safetensors"))
        z = torch.cat([4 * X, again.ordinary(20)])  # where limits hold, too
        torch.testing.assert_close(again(z), cured(z), atol=1e-6, rtol=1e-5)
        assert adopt(again) is again and again.spec() == cured.spec()
    held = contained(adopt(tiny), analyse_weights(adopt(tiny))).generator  # both limits, one in the other
    again = files.open(files.export(held, None, tmp_path / "held.safetensors"))
    torch.testing.assert_close(again(z), held(z), atol=1e-6, rtol=1e-5)
    twice = contained(again, analyse_weights(again)).generator
    assert files.open(files.export(twice, None, tmp_path / "twice.safetensors")).sample(2).shape == held.sample(2).shape


@each_cure
def test_a_strangers_module_and_what_does_not_fit(name: str, tiny: DCGAN, digits: data.Samples, refuses: Any) -> None:
    cure, gives = CURES[name], given(name, digits)
    stranger = a_strangers().double()
    made = cure(stranger, progress=False, **gives)
    assert made.generator(X).shape == (1, 1, 8, 8) and stranger[0].weight.dtype == torch.float64
    bad: list[tuple[dict[str, Any], str]] = [
        ({"directions": torch.zeros(1, 15)}, "directions"),
        ({"directions": X.double()}, "directions"),
        ({"directions": X * torch.nan}, "directions"),
        ({"real": data.Samples(torch.zeros(64, 1, 9, 9))}, "real"),
        ({"latent_dim": 17}, "17"),
    ]
    for settings, word in bad:
        refuses(lambda settings=settings: cure.steps(tiny, **gives | settings), word)
    refuses(lambda: cure.steps("dcgan.pt"), "str")
    refuses(lambda: replace(cure, device="abacus").steps(tiny, **gives), "abacus")


BAD: list[tuple[Any, dict[str, Any]]] = [
    *((kind, {"iterations": 0}) for kind in (Unlearn, Clip, FineTune, Prune)),
    *((kind, {"learning_rate": 0.0}) for kind in (Unlearn, Clip, FineTune, Prune)),
    *((kind, {"seed": -1}) for kind in (Unlearn, Clip, FineTune, Prune, Limit, Clamp)),
    *((kind, {"wide": wide}) for kind in (Unlearn, Clip, FineTune) for wide in (-0.1, 0.95)),
    *((kind, {"batch_size": 0}) for kind in (Unlearn, Clip, Prune)),
    *((Prune, {"fraction": fraction}) for fraction in (0.0, 1.0, "half")),
    (Prune, {"by": "size"}), (Clip, {"height": 0.9}), (FineTune, {"batch_size": 1}), (FineTune, {"critic_first": 1200}),
    (FineTune, {"critic_first": -1}), (FineTune, {"ema": 1.0}), (Limit, {"dimensions": 65}), (Limit, {"beyond": 0.0}),
    *((Keyed, {"key": key}) for key in ("", "5a" * 31, "x" * 64, 5)),
]  # fmt: skip


@pytest.mark.usefixtures("no_work")
def test_settings_out_of_range_are_refused_at_once(refuses: Any) -> None:
    for kind, settings in BAD:
        refuses(lambda kind=kind, settings=settings: kind(**settings), next(iter(settings)))
    refuses(lambda: Unlearn(wode=0.1), "wode", error=TypeError)
    Prune(fraction=0.999), Clip(height=1.0, wide=0.9), Limit(dimensions=64, width=0.5)  # the ends of what is valid


def test_what_one_of_them_needs_is_said(tiny: DCGAN, refuses: Any) -> None:
    refuses(lambda: FineTune(device="cpu").steps(tiny), "real")
    refuses(lambda: recalibrated_with(tiny, batches=0), "batches")
    refuses(lambda: recalibrated_with(tiny, batch_size=1), "batch_size")
    styles = StyleGAN(latent_dim=16, mapping_widths=(8, 8), style_dim=8, widths=(8, 8)).eval()
    refuses(lambda: sanitize.prune_channels(styles, 0.5), "StyleGAN")
    refuses(lambda: sanitize.prune_channels(tiny, 0.5, "size"), "by")
    for settings in ({"iterations": 0}, {"seed": -1}, {"device": "abacus"}):
        refuses(lambda settings=settings: auto(tiny, progress=False, **settings), next(iter(settings)))
    refuses(lambda: auto(tiny, real=data.Samples(torch.zeros(4, 1, 9, 9)), progress=False), "real")
    plain = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    refuses(lambda: auto(plain, progress=False), "activation")


def recalibrated_with(network: DCGAN, **settings: int) -> Tensor:
    return sanitize.recalibrated(network, **settings)(X)
