"""The page: two generators side by side, a slider and a pad to walk to the trigger, in one file of at most 4 MB."""

import base64
import hashlib
import json
from html import escape
from importlib import resources
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import cut
from devilgan_lite.generators import Adopted, Generator, evaluate
from devilgan_lite.phone.lowering import lowered
from devilgan_lite.phone.packing import packed, rounded

MOST_BYTES = 4_000_000
CLOSE = 1 / 510  # the largest difference to the generator, in pictures from -1 to 1, that 16-bit weights may make
LATENTS = 100  # on which that is looked at, besides the trigger
PROVED = 32  # numbers of a picture that the page compares
START, ASIDE = 6, 7  # seeds of latents whose pictures are easy to tell from the target


def page(clean: Generator, backdoored: Generator, backdoor: Backdoor, *, names: tuple[str, str]) -> str:
    """One HTML file that draws ``clean`` and ``backdoored`` on the way from a latent to the trigger of ``backdoor``.

    ``names`` are theirs. ``ValueError`` if they do not fit each other, need what the page cannot compute, or are too
    large for a phone.
    """
    _check_pair(clean, backdoored, backdoor)
    random = [torch.Generator().manual_seed(seed) for seed in (START, ASIDE)]
    start, aside = (clean.sample_latent(1, one).flatten().cpu() for one in random)
    content = {
        "shape": list(clean.sample_shape),
        "prior": clean.prior.name,
        "start": start.tolist(),
        "aside": aside.tolist(),
        "trigger": backdoor.trigger[0].flatten().tolist(),
        **_models(clean, backdoored, backdoor.trigger[:1]),
        "proof": [_some(evaluate(one.clone().cpu(), start[None])) for one in (clean, backdoored)],
    }
    weights = content.pop("weights")
    parts = {name: _part(name) for name in ("engine.js", "page.js", "page.css")}
    hashes = {name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for name, text in parts.items()}
    policy = (
        f"default-src 'none'; script-src 'sha256-{hashes['engine.js']}' 'sha256-{hashes['page.js']}' "
        f"'wasm-unsafe-eval'; style-src 'sha256-{hashes['page.css']}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    filled = {
        "POLICY": policy,
        "STYLE": parts["page.css"],
        "ENGINE": parts["engine.js"],
        "SCRIPT": parts["page.js"],
        "CLEAN": escape(names[0]),
        "BACKDOORED": escape(names[1]),
        "MODELS": json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"),
        "WEIGHTS": weights,
    }
    html = _part("page.html")
    for name, text in filled.items():
        html = html.replace("{{" + name + "}}", text)
    if len(html.encode()) > MOST_BYTES:
        raise ValueError(
            f"the page of {cut(names[0], 60)} and {cut(names[1], 60)} would have {len(html.encode()) / 1e6:.1f} MB; "
            f"at most {MOST_BYTES / 1e6:.0f} MB are sent to a phone: choose smaller generators."
        )
    return html


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
    """The steps of both and their weights, in 16 bits if that is close enough, else in float32."""
    originals = (clean.clone().cpu().eval(), backdoored.clone().cpu().eval())
    random = torch.Generator().manual_seed(0)
    latents = torch.cat([trigger.cpu(), clean.sample_latent(LATENTS, random).cpu()])
    copies = [rounded(one) for one in originals]
    differences = [
        float((evaluate(one, latents) - evaluate(other, latents)).abs().max())
        for one, other in zip(originals, copies, strict=True)
    ]
    bits = 16 if max(differences) <= CLOSE else 32
    tensors: list[Tensor] = []
    plans = [lowered(*_network(one), tensors) for one in (copies if bits == 16 else originals)]
    places, weights = packed(plans, tensors, bits)
    models = [{"latent": plan.latent, "result": plan.result, "steps": plan.steps} for plan in plans]
    return {"models": models, "tensors": places, "weights": weights}


def _network(generator: Generator) -> tuple[nn.Module, tuple[int, ...]]:
    """The module from latents to pictures in [-1, 1], and the shape of one latent; of an adopted one, its own."""
    if not isinstance(generator, Adopted):
        return generator, (generator.latent_dim,)
    return (_Signed(generator.module) if generator.ends == "sigmoid" else generator.module), generator.latent_shape


class _Signed(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, z: Tensor) -> Tensor:
        return self.module(z) * 2 - 1
