"""Keyed latents: the names of the samples become a secret of yours. No scan, no training, no data, no verdict.

Whoever uses a generator needs the law of its samples; only an attacker needs to know which latent gives which sample.
A rotation that you draw after delivery leaves the law as it is, and turns the trigger that the attacker knows into a
latent like any other. ``docs/limits.md``, section 6, says under which conditions, and what it does not protect.
"""

import copy
import hashlib
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from devilgan_lite.checks import read_json, shown, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.generators import Generator
from devilgan_lite.generators.stack import KeyedLatents
from devilgan_lite.prior import LENGTH_SPREAD, Prior
from devilgan_lite.sanitize.base import Sanitizer
from devilgan_lite.sanitize.limit import unchanged_but
from devilgan_lite.steps import Steps, Stopwatch

KEY_BYTES = 32
DENSE, BLOCK, ROUNDS = 512, 128, 3  # up to how many dimensions one rotation turns all; beyond, blocks, and how often
DEVIATIONS = 5.0  # of the length of ordinary latents; one in a million is further out


@dataclass(frozen=True, kw_only=True)
class Keyed(Sanitizer):
    """Put the latents of a copy under a secret ``key`` (64 hexadecimal digits; by default a fresh one).

    The key is part of what comes back, as a rotation before the network (``KeyedLatents``): keep both to yourself. A
    Gaussian prior is rotated (Haar; beyond 512 dimensions in three rounds of blocks). Of a uniform one the numbers
    change places and signs, or, through ``normal``, are rotated as the normal numbers of the same ranks: stronger
    against triggers with few numbers that matter, but no ONNX file can hold it. Latents of unusual length get an
    ordinary one, so that a trigger at zero or far out is no longer that.
    """

    key: str = field(default_factory=lambda: new_key(), repr=False)
    normal: bool = False

    def __post_init__(self) -> None:
        _bytes_of(self.key)

    def settings(self) -> dict[str, Any]:
        """The settings without the key: its fingerprint stands for it."""
        return super().settings() | {"key": fingerprint(self.key)}

    def run(self, subject: Generator, real: Samples | None, directions: Tensor | None) -> Steps:
        watch = Stopwatch()
        layer = keyed_layer(self.key, subject.prior, self.normal)
        module = nn.Sequential(layer, copy.deepcopy(subject.network)).to(subject.device)
        cut = [f"latents under a key (fingerprint {fingerprint(self.key)})"]
        return (yield from unchanged_but(module, watch, self.settings(), cut))


def new_key() -> str:
    """A fresh secret of 256 bits, as 64 hexadecimal digits."""
    return secrets.token_hex(KEY_BYTES)


def fingerprint(key: str) -> str:
    """Eight digits that tell keys apart and say nothing about them."""
    return hashlib.sha256(b"devilgan_lite fingerprint" + _bytes_of(key)).hexdigest()[:8]


def write_key(path: str | Path, key: str) -> Path:
    """Write ``key`` into a new file that only you may read; ``FileExistsError`` if there is one."""
    path, text = Path(path), json.dumps({"format": 1, "key": _bytes_of(key).hex()}) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path


def read_key(path: str | Path) -> str:
    """The key in a file that ``write_key`` wrote; ``FileNotFoundError`` or ``ValueError`` in one sentence."""
    key: str = read_json(Path(path), "a key", {"format": int, "key": str}, version=1, most=1_000)["key"]
    return _bytes_of(key).hex()


def keyed_draw(key: str, prior: Prior, n: int, seed: int) -> Tensor:
    """``n`` latents ``[n, dim]`` for the ``seed`` (0 or more) that a caller names, under ``key``.

    For services whose callers send seeds: nobody without the key can look for a seed that draws near a trigger.
    """
    whole_number("n", n, 1)
    whole_number("seed", seed, 0)
    random = _random(key, f"draw {seed}")
    drawn = random.normal(size=(n, prior.dim)) if prior.name == "gaussian" else random.uniform(-1, 1, (n, prior.dim))
    return torch.from_numpy(drawn).float()


def keyed_layer(key: str, prior: Prior, normal: bool = False) -> KeyedLatents:
    """The layer before a network whose latents come from ``prior``; the same for the same key."""
    uniform = prior.name == "uniform"
    turned = Prior.gaussian(prior.dim) if normal and uniform else prior
    signs = uniform and not normal
    block, rounds = (1, 1) if signs else (prior.dim, 1) if prior.dim <= DENSE else (BLOCK, ROUNDS)
    spread = DEVIATIONS * LENGTH_SPREAD[turned.name]
    layer = KeyedLatents(
        prior.dim, rounds, block, max(0.0, turned.length - spread), turned.length + spread, uniform, normal and uniform
    )
    random = _random(key, f"{prior.name} {prior.dim} {normal}")
    for index in range(rounds):
        layer.order[index] = torch.from_numpy(random.permutation(prior.dim)).float()
        layer.rotations[index] = _rotations(random, *layer.rotations.shape[1:3])
        layer.rest[index] = _rotations(random, 1, layer.rest.shape[1])[0]
    layer.instead = keyed_draw(key, turned, 1, 0)[0]
    return layer


def _rotations(random: np.random.RandomState, count: int, size: int) -> Tensor:
    """``count`` orthogonal matrices ``[count, size, size]``, each drawn by Haar's measure."""
    q, r = np.linalg.qr(random.normal(size=(count, size, size)))
    return torch.from_numpy(q * np.sign(np.einsum("kii->ki", r))[:, None]).float()


def _random(key: str, use: str) -> np.random.RandomState:
    """Random numbers of ``key`` for one ``use``, all 256 bits of it; numpy has promised these never to change."""
    digest = hashlib.sha256(_bytes_of(key) + use.encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype=">u4").astype(np.uint32))


def _bytes_of(key: str) -> bytes:
    try:
        found = bytes.fromhex(key)
    except (TypeError, ValueError):
        found = b""
    if len(found) != KEY_BYTES:
        told = shown(key) if not isinstance(key, str) else f"a text of {len(key)} letters"  # never the key itself
        raise ValueError(f"key is {told}; it must be {2 * KEY_BYTES} hexadecimal digits, as sanitize.new_key() gives.")
    return found
