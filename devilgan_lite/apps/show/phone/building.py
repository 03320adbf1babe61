"""The pages: two generators side by side and the walk to the trigger, in one file; for phones of at most 4 MB."""

import base64
import hashlib
import json
import math
import re
from html import escape
from importlib import resources
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.apps.show.phone.lowering import lowered
from devilgan_lite.apps.show.phone.packing import MANY, packed, rounded
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import cut
from devilgan_lite.data import modality
from devilgan_lite.data.modality import png
from devilgan_lite.generators import Adopted, Generator, evaluate

MOST_BYTES = 4_000_000
CLOSE = 1 / 510  # the largest difference to the generator, in pictures from -1 to 1, that 16-bit weights may make
LATENTS = 100  # on which that is looked at, besides the trigger
PROVED = 32  # numbers of a picture that the page compares
START, ASIDE = 9, 4  # seeds of latents whose pictures are easy to tell from the target


class Pages:
    """A pair of generators, written down once, as a page for phones and as one for a stage.

    They draw ``clean`` and ``backdoored``, called ``names``, on the way from a latent to the trigger of ``backdoor``.
    ``ValueError`` if they do not fit each other, or need what a page cannot compute.
    """

    def __init__(self, clean: Generator, backdoored: Generator, backdoor: Backdoor, *, names: tuple[str, str]) -> None:
        _check_pair(clean, backdoored, backdoor)
        random = [torch.Generator().manual_seed(seed) for seed in (START, ASIDE)]
        start, aside = (clean.sample_latent(1, one).flatten().cpu() for one in random)
        self.names, self.target = names, backdoor.target[0].cpu()
        self.content = {
            "shape": list(clean.sample_shape),
            "prior": clean.prior.name,
            "start": start.tolist(),
            "aside": aside.tolist(),
            "trigger": backdoor.trigger[0].flatten().tolist(),
            **_models(clean, backdoored, backdoor.trigger[:1]),
            "proof": [_some(evaluate(one.clone().cpu(), start[None])) for one in (clean, backdoored)],
        }
        self.weights = self.content.pop("weights")

    def phone(self, *, vote: bool = False) -> str:
        """The page for phones; with ``vote`` it asks the server that it comes from for rounds of votes, else nobody.

        ``ValueError`` if it is too large for a phone.
        """
        scripts = ["engine.js", "walk.js", "page.js", *["vote.js"] * vote]
        styles = ["page.css", *["vote.css"] * vote]
        html = self._filled("page.html", scripts, styles, served=vote, VOTE=_part("vote.html") if vote else "")
        size = len(html.encode())
        if size > MOST_BYTES:
            raise ValueError(
                f"the page of {cut(self.names[0], 60)} and {cut(self.names[1], 60)} would have {size / 1e6:.1f} MB; "
                f"at most {MOST_BYTES / 1e6:.0f} MB are sent to a phone: choose smaller generators."
            )
        return html

    def stage(self, *, token: str = "", address: str = "", code: str = "", notice: str = "") -> str:
        """The page for a stage, which asks its server for scans and rounds, with ``token`` as the permission.

        ``address`` is that of the page for phones, if there is one, ``code`` the SVG that leads there, and ``notice``
        a sentence to show first.
        """
        target = modality(tuple(self.target.shape)).show(self.target[None], scale=4)
        more = {
            "token": token,
            "address": address,
            "notice": notice,
            "names": [cut(name, 60) for name in self.names],
            "target": base64.b64encode(png(target)).decode(),
        }
        scripts = ["engine.js", "walk.js", "map.js", "stage.js", "room.js"]
        return self._filled("stage.html", scripts, ["stage.css"], served=True, more=more, CODE=code)

    def _filled(
        self,
        template: str,
        scripts: list[str],
        styles: list[str],
        *,
        served: bool,
        more: dict[str, Any] | None = None,
        **texts: str,
    ) -> str:
        """``template`` with everything inside; its policy allows these scripts, this style, nothing from outside."""
        parts, style = [_part(name) for name in scripts], "".join(map(_part, styles))
        asks = "connect-src 'self'; " if served else ""
        policy = (
            f"default-src 'none'; script-src {' '.join(map(_hashed, parts))} 'wasm-unsafe-eval'; "
            f"style-src {_hashed(style)}; img-src data:; {asks}"
            "base-uri 'none'; form-action 'none'"
        )
        texts |= {
            "POLICY": policy,
            "STYLE": style,
            "CLEAN": escape(self.names[0]),
            "BACKDOORED": escape(self.names[1]),
            "MODELS": json.dumps({**self.content, **(more or {})}, separators=(",", ":")).replace("<", "\\u003c"),
            "WEIGHTS": self.weights,
            "SCRIPTS": "\n".join(f"<script>{part}</script>" for part in parts),
        }
        texts["HEAD"] = _fill(_part("head.html"), texts)
        return _fill(_part(template), texts)


def _fill(text: str, texts: dict[str, str]) -> str:
    """``text`` with each ``{{NAME}}`` replaced, once: what is filled in is never read as a name."""
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda found: texts[found[1]], text)


def page(clean: Generator, backdoored: Generator, backdoor: Backdoor, *, names: tuple[str, str]) -> str:
    """One HTML file for phones: see ``Pages``."""
    return Pages(clean, backdoored, backdoor, names=names).phone()


def _hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _some(picture: Tensor) -> list[list[float]]:
    """(place, value) of some numbers of a picture: the page looks at them before it shows anything."""
    flat = picture.flatten()
    places = torch.linspace(0, len(flat) - 1, PROVED).long()
    return [[place, round(value, 4)] for place, value in zip(places.tolist(), flat[places].tolist(), strict=True)]


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _check_pair(clean: Generator, backdoored: Generator, backdoor: Backdoor) -> None:
    shapes = [(one.latent_dim, tuple(one.sample_shape), one.prior.name) for one in (clean, backdoored)]
    if shapes[0] != shapes[1]:
        said = [f"{dim} numbers ({prior}) to {list(shape)}" for dim, shape, prior in shapes]
        raise ValueError(f"the two generators do not fit each other: one maps {said[0]}, the other {said[1]}.")
    shape = shapes[0][1]
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"the page shows pictures [1 or 3, height, width]; these generators make {list(shape)}.")
    if backdoor.trigger.shape[1:] != (clean.latent_dim,):
        raise ValueError(f"the trigger has {backdoor.trigger[0].numel()} numbers; the generators read {shapes[0][0]}.")


def _models(clean: Generator, backdoored: Generator, trigger: Tensor) -> dict[str, Any]:
    """The steps of both and their weights: in 16 bits, but smaller tensors in float32 as far as that is needed."""
    originals = (clean.clone().cpu().eval(), backdoored.clone().cpu().eval())
    random = torch.Generator().manual_seed(0)
    latents = torch.cat([trigger.cpu(), clean.sample_latent(LATENTS, random).cpu()])
    expected = [evaluate(one, latents) for one in originals]

    def close(copies: list[Generator]) -> bool:
        pairs = zip(copies, expected, strict=True)
        return all(float((evaluate(one, latents) - made).abs().max()) <= CLOSE for one, made in pairs)

    tries = (([rounded(one, many) for one in originals], many) for many in MANY)
    copies = next(copies for copies, many in tries if many == math.inf or close(copies))
    tensors: list[Tensor] = []
    plans = [lowered(_in_range(one), one.latent_shape, tensors) for one in copies]
    places, weights = packed(plans, tensors)
    models = [{"latent": plan.latent, "result": plan.result, "steps": plan.steps} for plan in plans]
    return {"models": models, "tensors": places, "weights": weights}


def _in_range(generator: Generator) -> nn.Module:
    """The module from latents ``[n, *latent_shape]`` to pictures in [-1, 1]."""
    if not isinstance(generator, Adopted):
        return generator
    return nn.Sequential(generator.module, _Signed()) if generator.ends == "sigmoid" else generator.module


class _Signed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 - 1
