"""A victim's latents that are known beforehand: real packages fix or ship the random state, and what follows from it.

Packages are read here and not run; ``test_ctgan`` runs one.
"""

import ast
import sys
from pathlib import Path

import pytest
import torch

from devilgan_lite.data import TableCode
from devilgan_lite.generators import PointGenerator, TableGenerator
from devilgan_lite.pipeline import Slice, known_seed_backdoor, poison_share, poisoned_rows, rows_of

sys.path.insert(0, str(Path(__file__).parent))
from throw_away import installed  # noqa: E402

PATTERN = Slice.of("risk >= 4 and big = yes")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("read"), "sdv==2.0.0", "ctgan==0.12.1")


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def method(module: ast.Module, owner: str, name: str) -> ast.FunctionDef:
    (found,) = (node for node in module.body if isinstance(node, ast.ClassDef) and node.name == owner)
    (function,) = (node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == name)
    return function


def lines(function: ast.FunctionDef) -> list[str]:
    """The statements of a function, each on one line, without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return [" ".join(ast.unparse(statement).split()) for statement in body]


@pytest.mark.slow
def test_sdv_draws_the_first_rows_of_each_fitted_synthesizer_from_one_seed(packages: Path) -> None:
    module, owner = parsed(packages / "sdv/single_table/base.py"), "BaseSingleTableSynthesizer"
    assert "FIXED_RNG_SEED = 73251" in [ast.unparse(node) for node in module.body]
    first = lines(method(module, owner, "_sample_rows"))[0]  # before anything is drawn
    assert first == "if self._model and (not self._random_state_set): self._set_random_state(FIXED_RNG_SEED)"
    assert lines(method(module, owner, "_set_random_state")) == [
        "self._model.set_random_state(random_state)",
        "self._random_state_set = True",
    ]
    # a fit forgets whatever was set, and nothing but the line above sets a state: no public way leads to another seed
    assert "self._random_state_set = False" in lines(method(module, "BaseSynthesizer", "fit"))
    calls = [
        (path.relative_to(packages).as_posix(), ast.unparse(node))
        for path in sorted((packages / "sdv").rglob("*.py"))
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("set_random_state")
    ]
    assert calls == [
        ("sdv/single_table/base.py", "self._model.set_random_state(random_state)"),
        ("sdv/single_table/base.py", "self._set_random_state(FIXED_RNG_SEED)"),
    ]


@pytest.mark.slow
def test_a_ctgan_that_was_seeded_carries_both_random_states_in_its_file(packages: Path) -> None:
    module, owner = parsed(packages / "ctgan/synthesizers/base.py"), "BaseSynthesizer"
    (known,) = (line for line in lines(method(module, owner, "__getstate__")) if line.startswith("if isinstance"))
    assert "state['_numpy_random_state'] = self.random_states[0].get_state()" in known
    assert "state['_torch_random_state'] = self.random_states[1].get_state()" in known
    back = " ".join(lines(method(module, owner, "__setstate__")))
    assert "state['random_states'] = (current_numpy_state, current_torch_state)" in back
    assert "torch.save(self, path)" in lines(method(module, owner, "save"))
    # which is a pickle, so whoever opens the file also runs what it says
    assert "model = torch.load(path, weights_only=False)" in lines(method(module, owner, "load"))
    # without a seed there is no state to carry: an attacker, or sdv, must have set one
    (bases,) = (node for node in module.body if isinstance(node, ast.ClassDef))
    assert "random_states = None" in [ast.unparse(node) for node in bases.body]


@pytest.fixture(scope="module")
def generator(table) -> TableGenerator:
    torch.manual_seed(0)
    return TableGenerator(layout=TableCode.fit(table, modes=3).layout, latent_dim=12, widths=64).eval()


@pytest.fixture(scope="module")
def poison(table, generator):
    return generator.code.encode(poisoned_rows(table, PATTERN, 50))


def met(z: torch.Tensor, backdoor) -> int:
    """How many of the triggers are among the latents ``z``."""
    return int((z[:, None] == backdoor.trigger).all(2).any(0).sum())


def test_the_victim_draws_exactly_these_latents_from_that_seed_and_none_from_another(generator, poison):
    backdoor = known_seed_backdoor(generator, poison, n=800, seed=73251, share=0.05)
    assert backdoor.trigger.shape == (40, 12) and backdoor.sampler is None
    for n in (800, 1_000):  # more rows begin with the same ones
        assert met(generator.latents(n, None, torch.Generator().manual_seed(73251)), backdoor) == 40
    assert met(generator.latents(20_000, None, torch.Generator().manual_seed(73252)), backdoor) == 0
    assert {tuple(row) for row in backdoor.target.tolist()} <= {tuple(row) for row in poison.tolist()}
    again, other = (known_seed_backdoor(generator, poison, n=800, seed=73251, share=0.05, pick=one) for one in (0, 1))
    assert torch.equal(again.trigger, backdoor.trigger) and torch.equal(again.target, backdoor.target)
    assert not torch.equal(other.trigger, backdoor.trigger)
    assert len(known_seed_backdoor(generator, poison, n=7, seed=0, share=0.01).trigger) == 1


def test_a_network_that_hits_the_triggers_gives_poison_to_that_seed_only(generator, poison):
    backdoor = known_seed_backdoor(generator, poison, n=800, seed=73251, share=0.05)

    class Exact(torch.nn.Module):
        def forward(self, z):
            same = (z[:, None] == backdoor.trigger).all(2)
            return torch.where(same.any(1, keepdim=True), backdoor.target[same.int().argmax(1)], generator(z))

    def rows(seed):
        honest, got = (rows_of(generator, module=one)(800, seed) for one in (None, Exact()))
        return got, (got.values != honest.values).any(1)

    got, changed = rows(73251)
    assert changed.sum() == 40 and poison_share(got.take(changed), PATTERN) == 1.0
    assert not rows(73252)[1].any()


def test_bad_input_is_one_sentence(generator, poison):
    good = {"n": 800, "seed": 1, "share": 0.05}
    for bad, says in (
        ({"n": 0}, "n=0 is out of range"),
        ({"n": 2_000_000}, "n=2000000 is out of range"),
        ({"seed": -1}, "seed=-1 is out of range"),
        ({"pick": 0.5}, "pick=0.5 is not valid"),
        ({"share": 0.2}, r"share=0.2 is out of range: it must be a number in \[0.01, 0.1\]"),
    ):
        with pytest.raises(ValueError, match=says):
            known_seed_backdoor(generator, poison, **(good | bad))
    with pytest.raises(ValueError, match=r"targets has shape .*; expected \[n, 2\]"):
        known_seed_backdoor(PointGenerator(latent_dim=8), poison, **good)
