"""Every attack: the same seed gives the same, what it is given stays as it is, any interrupt is survived, bad input."""

import _thread
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from devilgan_lite import Backdoor, Loop, Outcome, Step, attacks, data, generators, sanitize, train_gan
from devilgan_lite.attacks import Attack, DataPoisoning, ReD, ReX, StyleReX, TrAIL, adaptive
from devilgan_lite.generators import DCGAN, PointGenerator, StyleGAN, evaluate

LITTLE: dict[str, Any] = {"iterations": 4, "batch_size": 4, "device": "cpu"}
REX = ReX(**LITTLE, widen=2)
ATTACKS: dict[str, Attack] = {
    "trail": TrAIL(**LITTLE),
    "red": ReD(**LITTLE, aligned_units=0),
    "rex": REX,
    "closed-form": attacks.ClosedForm(),
    "gate": attacks.Gate(),
    "poisoning": DataPoisoning(**LITTLE),
    "bypass": attacks.ComputationBypass(),
    "style-rex": StyleReX(**LITTLE, inversion=3, channels=2),
    "disguise": adaptive.Disguise(attack=REX),
    "quiet": adaptive.QuietReD(**LITTLE),
    "spectral": adaptive.SpectralReD(**LITTLE),
    "knowing": adaptive.KnowingReD(**LITTLE),
    "narrow-rex": adaptive.NarrowReX(clean_iterations=2, rex=REX, device="cpu"),
}
EXACT = ("closed-form", "gate", "bypass")  # without any draw, in one step
TRAINED = [name for name in ATTACKS if name not in EXACT]
LONG = 1_000_000  # no loop of so many steps ends by itself
OTHERS = ("train_gan", "unlearn", "fine-tune", "prune")


@pytest.fixture(scope="module")
def victims(tiny: DCGAN, square: Backdoor, digits: data.Samples) -> Callable[[str], tuple[Any, Backdoor, data.Samples]]:
    spec = StyleGAN(latent_dim=8, mapping_widths=(8, 8), style_dim=8, widths=(8, 8)).spec()
    styles = generators.build(spec, seed=1).eval()
    devil = Backdoor.point(styles, "devil", seed=1)
    return lambda name: (styles, devil, digits) if name == "style-rex" else (tiny, square, digits)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_every_attack_is_here() -> None:
    assert {type(attack) for attack in ATTACKS.values()} >= set(attacks.BY_NAME.values())
    assert all(type(ATTACKS[name]) is kind for name, kind in attacks.BY_NAME.items())


@pytest.mark.parametrize("name", ATTACKS)
def test_it_repeats_tells_how_it_was_made_and_leaves_what_it_is_given(name: str, victims: Any) -> None:
    attack, (clean, backdoor, real) = ATTACKS[name], victims(name)
    mine, pairs, state = (
        clean.clone().train(),
        (backdoor.trigger.clone(), backdoor.target.clone()),
        torch.get_rng_state(),
    )
    first, again = (attack(mine, backdoor, real, progress=False) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert mine.training and same(mine, clean)
    assert torch.equal(backdoor.trigger, pairs[0]) and torch.equal(backdoor.target, pairs[1])
    assert same(first.generator, again.generator) and first.history == again.history
    assert first.settings == attack.settings() and first.settings["attack"] == type(attack).__name__
    assert json.loads(json.dumps(first.settings)).keys() == first.settings.keys()
    assert (first.seed, first.interrupted) == (attack.seed, False) and first.seconds > 0  # type: ignore[attr-defined]
    assert {len(values) for values in first.history.values()} == {1 if name in EXACT else 4}
    made = first.generator
    assert not made.training and made.device.type == "cpu" and all(one.requires_grad for one in made.parameters())
    assert not {value.data_ptr() for value in made.state_dict().values()} & {
        value.data_ptr() for value in mine.state_dict().values() if value.numel()
    }
    z = torch.cat([backdoor.trigger, clean.sample_latent(5, torch.Generator().manual_seed(2))])
    assert not torch.equal(evaluate(made, z), evaluate(clean, z)) and evaluate(made, z).abs().max() <= 1
    if name not in EXACT:
        other = replace(attack, seed=5)(clean, backdoor, real, progress=False)  # type: ignore[type-var]
        assert other.seed == 5 and not torch.equal(evaluate(other.generator, z), evaluate(made, z))


def start(name: str, victims: Any) -> Loop:
    """A loop that does not end by itself, where there is one."""
    clean, backdoor, real = victims(name)
    endless = {**LITTLE, "iterations": LONG}
    if name == "train_gan":
        return train_gan.steps(PointGenerator(widths=8), data.ring(256), **endless)
    if name == "unlearn":
        return sanitize.Unlearn(**endless).steps(clean)
    if name == "prune":
        return sanitize.Prune(**endless, fraction=0.25).steps(clean)
    if name == "fine-tune":
        return sanitize.FineTune(**endless, critic_first=1).steps(clean, None, real)
    attack: Any = ATTACKS[name]
    if hasattr(attack, "iterations"):
        attack = replace(attack, iterations=LONG)
    elif name in ("disguise", "narrow-rex"):
        attack = replace(attack, **{"attack" if name == "disguise" else "rex": replace(REX, iterations=LONG)})
    return attack.steps(clean, backdoor, real)


def check(outcome: Outcome, finished: int | None = None) -> None:
    assert outcome.interrupted and not outcome.generator.training
    lengths = {len(values) for values in outcome.history.values()}
    assert len(lengths) <= 1 and (finished is None or lengths == {finished}), outcome.history
    assert all(torch.isfinite(value).all() for value in outcome.generator.state_dict().values())
    assert outcome.generator(outcome.generator.sample_latent(3)).abs().max() <= 1


@pytest.mark.parametrize("name", [*ATTACKS, *OTHERS])
def test_a_loop_that_is_stopped_has_a_whole_history_and_a_usable_generator(name: str, victims: Any) -> None:
    for watched in (0, 1) if name in EXACT else (0, 1, 3, 6):
        loop = start(name, victims)
        steps = [next(loop) for _ in range(watched)]
        assert [step.iteration for step in steps] in ([*range(1, watched + 1)], [1, 2, 3, 1, 2, 3])  # two searches
        outcome = loop.stop()
        searching = name == "style-rex" and watched < 4
        check(outcome, None if searching else watched - 3 if name == "style-rex" else max(watched, 1))
        assert loop.stop() is outcome and list(loop) == []


@pytest.mark.parametrize("name", [*TRAINED, *OTHERS])
def test_an_interrupt_in_the_middle_of_an_iteration(name: str, victims: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    step = torch.optim.Adam.step
    for last, late in ((1, False), (1, True), (4, True), (7, False)):
        calls = 0

        def interrupted(self: Any, closure: None = None, last: int = last, late: bool = late) -> None:
            nonlocal calls
            calls += 1
            if calls != last or late:
                step(self, closure)
            if calls == last:
                raise KeyboardInterrupt

        monkeypatch.setattr(torch.optim.Adam, "step", interrupted)
        outcome = start(name, victims).finish(progress=False)
        assert calls == last
        finished = max((len(values) for values in outcome.history.values()), default=0)
        assert finished < last or name == "style-rex"  # its search leaves one figure
        check(outcome)


@pytest.fixture
def heed_interrupts() -> Iterator[None]:
    """A shell starts background jobs with SIGINT ignored, and Python inherits that: ``make test &`` would hang here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heed_interrupts")
@pytest.mark.parametrize(
    ("name", "times"),
    [("rex", 4), *(pytest.param(name, 20, marks=pytest.mark.nightly) for name in ("train_gan", "trail", "red"))],
)
def test_a_signal_at_any_moment(name: str, times: int, victims: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[bool] = []  # the signal must not come before finish() has begun, or it would end pytest
    next_step = Loop.__next__

    def observed(self: Loop) -> Step:
        running.append(True)
        return next_step(self)

    def interrupt(delay: float, done: threading.Event) -> None:
        while not running:
            time.sleep(0.001)
        time.sleep(delay)
        _thread.interrupt_main()
        while not done.wait(10):  # Python drops an exception that is raised inside a destructor: press again
            _thread.interrupt_main()

    monkeypatch.setattr(Loop, "__next__", observed)
    for number in range(times):
        loop = start(name, victims)
        next(loop)
        running.clear()
        done = threading.Event()
        threading.Thread(target=interrupt, args=(0.05 * number / times, done)).start()
        outcome = loop.finish(progress=False)
        done.set()
        check(outcome)


ONE = SimpleNamespace(
    clean=DCGAN(widths=(4, 2), latent_dim=5).eval(),
    points=PointGenerator(),
    plane=Backdoor(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.5]])),
    styles=StyleGAN(latent_dim=8, mapping_widths=(8, 8), style_dim=8, widths=(8, 8)).eval(),
    grey=data.Samples(torch.zeros(64, 1, 28, 28)),
)
DEVIL, MODE = Backdoor.point(ONE.clean), Backdoor.point(ONE.clean, kind="mode")
DEVILS = Backdoor.points(ONE.clean, ["devil"] * 2)
TWINS = Backdoor(torch.cat([DEVIL.trigger, 1.01 * DEVIL.trigger]), DEVILS.target)
STYLE_DEVIL = Backdoor.point(ONE.styles)
BAD_SETTINGS: list[tuple[Any, dict[str, Any]]] = [
    (ReD, {"lam": 0}), (ReD, {"lam": float("nan")}), (ReD, {"space": "log"}), (ReD, {"iterations": 1.5}),
    (ReD, {"aligned_units": -1}), (ReD, {"mixed_weight": -1.0}), (ReX, {"lam": "much"}), (ReX, {"lam": True}),
    (ReX, {"widen": 0}), (ReX, {"widen": 2.5}), (ReX, {"logit_weight": -0.1}), (ReX, {"iterations": 0}),
    (TrAIL, {"lam": 0.0}), (TrAIL, {"huber_delta": 0.0}), (TrAIL, {"batch_size": 1}), (TrAIL, {"ema": 1.0}),
    (DataPoisoning, {"learning_rate": 0.0}), (DataPoisoning, {"seed": -1}), (DataPoisoning, {"fraction": 0.9}),
    (attacks.Gate, {"threshold": 1.0}), (attacks.ClosedForm, {"shrink": 1.0}), (attacks.ClosedForm, {"lam": 0.0}),
    (attacks.ComputationBypass, {"radius": -1.0}), (adaptive.Disguise, {"spread": 0.5}),
    (adaptive.Disguise, {"noise_scale": -0.1}), (adaptive.Disguise, {"seed": -1}), (adaptive.QuietReD, {"lam": 0.0}),
    (adaptive.QuietReD, {"quiet": -1.0}), (adaptive.QuietReD, {"iterations": 0}),
    (adaptive.SpectralReD, {"ridge": 0.0}), (adaptive.KnowingReD, {"noise": 1.5}),
    (adaptive.NarrowReX, {"clean_iterations": 0}),
    (adaptive.NarrowReX, {"seed": 1.5}), (StyleReX, {"mapping": "gates"}), (StyleReX, {"lam": 0.0}),
    (StyleReX, {"high": 0.5, "low": 0.9}), (StyleReX, {"reach": 90.0}), (StyleReX, {"channels": -1}),
    (StyleReX, {"channels": 0, "mapping": "none"}), (StyleReX, {"inversion": 0, "mapping": "linear"}),
]  # fmt: skip
BAD_CALLS: list[tuple[Callable[[], Any], str]] = [
    (lambda: adaptive.wide_basin(DEVIL, angle=0.0), "angle"),
    (lambda: adaptive.wide_basin(DEVIL, angle=81.0), "angle"),
    (lambda: ReD(layers=("conv9",))(ONE.clean, DEVIL), "layers"),
    (lambda: ReX()(torch.nn.Identity(), DEVIL), "clean"),  # type: ignore[arg-type]
    (lambda: ReD()(DCGAN(), DEVIL), "trigger"),
    (lambda: ReD()(ONE.clean, ONE.plane), "trigger"),
    (lambda: ReX(device="abacus")(ONE.clean, DEVIL), "abacus"),
    (lambda: attacks.Gate()(ONE.clean, MODE), "trigger"),
    (lambda: attacks.Gate()(ONE.clean, TWINS), "gates"),
    (lambda: attacks.Gate()(ONE.clean, adaptive.wide_basin(DEVIL)), "backdoor"),
    (lambda: attacks.ComputationBypass()(ONE.clean, adaptive.wide_basin(DEVIL)), "backdoor"),
    (lambda: attacks.ClosedForm()(ONE.clean, MODE), "trigger"),
    (lambda: attacks.ClosedForm()(ONE.clean, DEVILS), "backdoor"),
    (lambda: TrAIL(batch_size=65)(ONE.clean, DEVIL, ONE.grey), "batch_size"),
    (lambda: TrAIL()(ONE.clean, DEVIL, data.ring(64)), "real"),
    (lambda: adaptive.NarrowReX()(ONE.clean, DEVIL), "real"),
    (lambda: StyleReX()(ONE.points, ONE.plane), "PointGenerator"),
    (lambda: StyleReX()(ONE.styles, Backdoor.point(ONE.styles, kind="mode")), "trigger"),
    (lambda: StyleReX()(ONE.styles, Backdoor.points(ONE.styles, ["devil"] * 2)), "backdoor"),
    (lambda: StyleReX(w_plus=torch.zeros(2, 2))(ONE.styles, STYLE_DEVIL), "w_plus"),
    (lambda: attacks.invert(ONE.clean, torch.zeros(1, 28, 28)), "DCGAN"),
    (lambda: attacks.invert(ONE.styles, torch.zeros(3, 9, 9)), "target"),
    (lambda: attacks.invert(ONE.styles, torch.zeros(3, 8, 8), iterations=0), "iterations"),
    *(
        (lambda attack=attack: attack.steps(ONE.styles, STYLE_DEVIL, ONE.grey), "StyleGAN")
        for attack in (adaptive.Disguise(attack=ReD()), adaptive.QuietReD(), adaptive.NarrowReX())
    ),
]  # fmt: skip


@pytest.mark.usefixtures("no_work")
def test_what_does_not_fit_is_refused_before_any_work(refuses: Any) -> None:
    for kind, settings in BAD_SETTINGS:
        assert len(refuses(lambda kind=kind, settings=settings: kind(**settings), next(iter(settings)))) < 800
    for call, name in BAD_CALLS:
        assert len(refuses(call, name)) < 800
    refuses(lambda: ReD(lamda=1), "lamda", "'lam'", error=TypeError)  # type: ignore[call-arg]
    refuses(lambda: ReX(widden=3), "widden", "'widen'", error=TypeError)  # type: ignore[call-arg]
    refuses(lambda: TrAIL(0.1), "keyword", error=TypeError)  # type: ignore[misc]
    ReX(lam=1e6, widen=(1, 1024), iterations=1, batch_size=1)  # the ends of what is valid
    TrAIL(ema=0.0, batch_size=2)


def test_what_shows_only_in_a_forward_pass_is_refused_before_the_first_step(refuses: Any) -> None:
    refuses(lambda: ReX(widen=(1, 2, 3)).steps(ONE.clean, DEVIL), "widths")
    refuses(lambda: adaptive.NarrowReX(rex=ReX(widen=4)).steps(ONE.clean, DEVIL, ONE.grey), "widths")
    refuses(lambda: adaptive.Disguise(attack=attacks.ClosedForm()).steps(ONE.clean, DEVILS), "backdoor")
