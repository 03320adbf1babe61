"""``adopt``: any ``nn.Module`` from latents to samples becomes a ``Generator``, so that everything here works on it.

Nothing of this package is expected of it. Its layers and its chain are found by tracing a forward pass; what comes
before its last tanh or sigmoid is read off there. What it computes is not changed.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.checks import one_of, whole_number
from devilgan_lite.generators.base import Generator, layers_in_order, register, seeded
from devilgan_lite.generators.chain import Chain, chain_of
from devilgan_lite.generators.stack import check_stack, described, stack
from devilgan_lite.generators.surgery import resized
from devilgan_lite.prior import Prior
from devilgan_lite.trace import OpTracer

ENDS = ("tanh", "sigmoid", "none")
EDGE = 1 - 1e-6  # samples of a network without a tanh of its own are cut here before atanh


@register
class Adopted(Generator):
    """A stranger's ``module`` as a ``Generator``: ``[n, latent_dim]`` in, samples in [-1, 1] out; see ``adopt``.

    Samples of a module that ends in a sigmoid are brought to [-1, 1]; ``module`` itself still makes [0, 1]. A stack of
    PyTorch's own layers can be stored with a card: there, ``module`` is a list of them (see ``stack``).
    """

    def __init__(
        self,
        module: nn.Module | Sequence[Mapping[str, Any]],
        latent_shape: tuple[int, ...],
        sample_shape: tuple[int, ...],
        prior: str | Prior,
        ends: str,
        modality: str | None,
    ) -> None:
        one_of("ends", ends, ENDS)
        if not isinstance(module, nn.Module):
            check_stack(module, latent_shape, sample_shape)  # before anything is as large as a card says
        super().__init__(
            latent_dim=math.prod(latent_shape),
            sample_shape=sample_shape,
            prior=prior,
            output="none" if ends == "none" else "tanh",
            modality=modality,
        )
        self.module = module if isinstance(module, nn.Module) else stack(module)
        self.latent_shape, self.ends = latent_shape, ends
        self.logit_scale = 2.0 if ends == "sigmoid" else 1.0  # 2 sigmoid(2 x) - 1 = tanh(x)
        self.squashes_last = True  # False: something follows its last tanh or sigmoid, so logits are computed backwards

    def logits(self, z: Tensor) -> Tensor:
        z = z.reshape(len(z), *self.latent_shape)
        if self.ends == "none":
            return self.module(z)
        with OpTracer(self.module) as tracer:
            samples = self.module(z)
        if self.squashes_last and tracer.logits is not None and tracer.logits.numel() == samples.numel():
            return tracer.logits.reshape(samples.shape)
        return torch.atanh((samples * 2 - 1 if self.ends == "sigmoid" else samples).clamp(-EDGE, EDGE))

    def spec(self) -> dict[str, Any]:
        layers = described(self.module, self.latent_shape)
        if layers is None:
            raise ValueError(
                f"an adopted {type(self.module).__name__} is somebody else's code: it has no plain spec and cannot be "
                "stored as .safetensors; files.export stores it as .onnx or .pt2."
            )
        return {
            "architecture": "Adopted",
            "module": layers,
            "latent_shape": list(self.latent_shape),
            "sample_shape": list(self.sample_shape),
            "prior": self.prior.name,
            "ends": self.ends,
            "modality": self._modality,
        }

    def describe(self) -> dict[str, Any]:
        name = type(self.module).__name__
        return {"architecture": f"adopted {name}", "latent_dim": self.latent_dim, "prior": self.prior.name}

    def named_layers(self) -> dict[str, list[nn.Module]]:
        found = layers_in_order(self, self.sample_latent(2))
        return {name.removeprefix("module."): modules for name, modules in found.items()}

    def chain(self) -> Chain | None:
        z = torch.zeros(2, *self.latent_shape, device=self.device)
        return chain_of(self.module, z)

    def foldable(self) -> bool:
        """Whether a resized copy runs: not if its code has the widths in it as numbers."""
        chain = self.chain()
        if chain is None or chain.squash != self.ends.replace("none", ""):
            return False
        try:
            wider = self.resized(tuple(width + 1 for width in chain.widths))
            return wider.chain() is not None and wider.sample(2).shape[1:] == self.sample_shape
        except Exception:  # whatever a stranger's forward raises
            return False

    def resized(self, widths: tuple[int, ...]) -> Generator:
        chain = self.chain()
        if chain is None:
            raise ValueError(f"an adopted {type(self.module).__name__} is no chain of layers, so it cannot be resized.")
        grows = any(new > old for new, old in zip(widths, chain.widths, strict=True))
        return self._with(resized(self.module, chain, widths, shifts=grows))

    def fresh(self, seed: int) -> Generator:
        """The same module with every layer's own initialisation drawn from ``seed``."""

        def reset() -> nn.Module:
            copied = copy.deepcopy(self.module)
            for layer in copied.modules():
                if hasattr(layer, "reset_parameters"):
                    layer.reset_parameters()  # type: ignore[operator]
            return copied

        return self._with(seeded(seed, reset))

    def _with(self, module: nn.Module) -> Generator:
        adopted = Adopted(module, self.latent_shape, self.sample_shape, self.prior, self.ends, self._modality)
        adopted.squashes_last = self.squashes_last
        return adopted.train(self.training)


def adopt(
    module: nn.Module,
    latent_dim: int | None = None,
    latent_shape: tuple[int, ...] | None = None,
    prior: str | Prior = "gaussian",
    output: str = "tanh",
    *,
    modality: str | None = None,
) -> Adopted:
    """Wrap a copy of ``module`` as a ``Generator``, in eval mode.

    ``latent_shape`` is the shape of one latent as the module reads it (None: ``(latent_dim,)``, or else ``(latent_dim,
    1, 1)``, whichever works); without ``latent_dim`` it is read from the first layer. ``prior`` is ``"gaussian"`` or
    ``"uniform"``. ``output`` says how samples end: ``"tanh"`` in [-1, 1], ``"sigmoid"`` in [0, 1], ``"none"``
    unbounded. A module that does not fit is a ``ValueError`` that says why.
    """
    if isinstance(module, Generator):
        raise ValueError(f"module is a {type(module).__name__}, which is a Generator already.")
    if not isinstance(module, nn.Module):
        raise ValueError(f"module is a {type(module).__name__}; expected a torch.nn.Module from latents to samples.")
    one_of("output", output, ENDS)
    copied = copy.deepcopy(module).eval()
    if latent_shape is not None:
        latent_shape = tuple(latent_shape)
        if latent_dim not in (None, math.prod(latent_shape)):
            raise ValueError(
                f"latent_shape={latent_shape} has {math.prod(latent_shape)} numbers; latent_dim={latent_dim}."
            )
        shapes = [latent_shape]
    else:
        if latent_dim is not None:
            whole_number("latent_dim", latent_dim, 1, 4096)
        sizes = [latent_dim] if latent_dim is not None else first_sizes(copied)
        shapes = [shape for size in sizes for shape in ((size,), (size, 1, 1))]
    device = next((value.device for value in copied.parameters()), torch.device("cpu"))
    complaint = "it has no linear or convolution layer"
    for shape in shapes:
        draw = Prior.of(prior, math.prod(shape)).draw(4, torch.Generator().manual_seed(0), device)
        try:
            with torch.no_grad():
                samples = copied(draw.reshape(4, *shape))
        except Exception as error:  # whatever a stranger's forward raises
            complaint = (
                f"{type(error).__name__}: {str(error).strip().splitlines()[0][:80] if str(error).strip() else ''}"
            )
            continue
        if not isinstance(samples, Tensor) or samples.ndim < 2 or len(samples) != 4 or not samples.is_floating_point():
            shown = list(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
            raise ValueError(f"module makes {shown} of 4 latents; expected a float tensor [4, ...] of samples.")
        _check_range(samples, output)
        adopted = Adopted(copied, shape, tuple(samples.shape[1:]), prior, output, modality).eval()
        adopted.squashes_last = output == "none" or _squashes_last(copied, draw.reshape(4, *shape), output)
        return adopted
    asked = ", ".join(str([4, *shape]) for shape in shapes) or "any shape"
    raise ValueError(f"module makes no samples from latents {asked} ({complaint}); give latent_dim or latent_shape.")


def _squashes_last(module: nn.Module, z: Tensor, output: str) -> bool:
    """Whether the last tanh or sigmoid is the last thing that ``module`` does; True if it has none."""
    with torch.no_grad(), OpTracer(module) as tracer:
        samples = module(z)
    if tracer.logits is None or tracer.logits.numel() != samples.numel():
        return True
    squashed = torch.tanh(tracer.logits).reshape(samples.shape)  # 2 sigmoid(x) - 1 = tanh(x / 2)
    return bool(torch.allclose(squashed, samples * 2 - 1 if output == "sigmoid" else samples, atol=1e-3))


class FlatLatents(nn.Module):
    """``module``, which reads latents ``[n, *latent_shape]``, for latents ``[n, d]``."""

    def __init__(self, module: nn.Module, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.module, self.latent_shape, self.latent_dim = module, latent_shape, math.prod(latent_shape)

    def forward(self, z: Tensor) -> Tensor:
        made: Tensor = self.module(z.reshape(len(z), *self.latent_shape))
        return made


def _check_range(samples: Tensor, output: str) -> None:
    low, high = float(samples.min()), float(samples.max())
    least, most = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "none": (-math.inf, math.inf)}[output]
    if not (low >= least - 1e-4 and high <= most + 1e-4):
        wanted = f"[{least:g}, {most:g}]" if output != "none" else "finite numbers"
        raise ValueError(
            f"module makes values from {low:.3g} to {high:.3g}; output={output!r} means {wanted}: choose from "
            f"{', '.join(ENDS)}."
        )


def first_sizes(module: nn.Module) -> list[int]:
    """Latent sizes to try: what the first layers read."""
    sizes: list[int] = []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            sizes.append(layer.in_features)
        elif isinstance(layer, (nn.ConvTranspose2d, nn.Conv2d, nn.ConvTranspose1d, nn.Conv1d)):
            sizes.append(layer.in_channels)
    return list(dict.fromkeys(sizes))[:4]
