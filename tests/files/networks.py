"""Networks as others write them, archives whose members are changed, and how the refusal of a file is judged."""

import io
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from devilgan_lite.files.sniff import Refused

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
Makes = Callable[[Tensor], Tensor]


def tutorial(latent: int = 16, width: int = 4, levels: int = 2, slope: float = 0.0) -> nn.Sequential:
    """The network of PyTorch's DCGAN tutorial, small."""
    widths = [latent, *(width * 2**k for k in reversed(range(1, levels + 1)))]
    layers: list[nn.Module] = []
    for inputs, outputs in zip(widths, widths[1:], strict=False):
        step = (4, 2, 1) if layers else (4, 1, 0)
        layers += [nn.ConvTranspose2d(inputs, outputs, *step, bias=False), nn.BatchNorm2d(outputs)]
        layers.append(nn.LeakyReLU(slope) if slope else nn.ReLU(True))
    return nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1, bias=False), nn.Tanh())


class Dense(nn.Module):
    """The generator of PyTorch-GAN's first script: dense layers, one norm, pictures by ``view``."""

    def __init__(self) -> None:
        super().__init__()
        first = nn.Linear(16, 24), nn.LeakyReLU(0.2, inplace=True), nn.Linear(24, 32)
        self.model = nn.Sequential(*first, nn.BatchNorm1d(32, 0.8), nn.LeakyReLU(0.2, inplace=True))
        self.last = nn.Linear(32, 64)

    def forward(self, z: Tensor) -> Tensor:
        made = torch.tanh(self.last(self.model(z)))
        return made.view(made.size(0), 1, 8, 8)


class Block(nn.Module):
    """A block with a way around it that doubles the size, as in SNGAN and BigGAN."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)])
        self.first, self.second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.around = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        made = self.first(functional.interpolate(functional.silu(self.norms[0](x)), scale_factor=2))
        made = self.second(self.norms[1](made).relu())
        return made + self.around(functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))


class Residual(nn.Module):
    """A ResNet generator whose pictures are in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 8 * 16), nn.Conv2d(4, 3, 3, padding=1)
        self.blocks = nn.Sequential(Block(8, 6), Block(6, 4))

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.last(functional.gelu(self.blocks(self.first(z).view(z.shape[0], -1, 4, 4)))))


def wave() -> nn.Sequential:
    """WaveGAN's shape: a dense layer, then transposed convolutions over time."""
    first, last = (nn.ConvTranspose1d(n, m, 25, 4, 11, output_padding=1) for n, m in ((16, 8), (8, 1)))
    return nn.Sequential(nn.Linear(12, 128), nn.ReLU(), nn.Unflatten(1, (16, 8)), first, nn.ReLU(), last, nn.Tanh())


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {"tutorial": (tutorial, (16, 1, 1))}
NETWORKS |= {"dense": (Dense, (16,)), "residual": (Residual, (16,)), "wave": (wave, (12,))}


def trained(module: nn.Module) -> nn.Module:
    """``module`` in eval mode, its norms with numbers as after a training, instead of ones and zeros."""
    draw = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, NORMS):
            for tensor in (part.weight.data, part.running_var):
                tensor.uniform_(0.5, 2, generator=draw)
            for tensor in (part.bias.data, part.running_mean):
                tensor.normal_(generator=draw)
    return module.eval()


def network(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    return trained(make()), shape


def differ(one: Makes, other: Makes, shape: Sequence[int], n: int = 64) -> float:
    """The largest difference of what two networks make of the same latents; both make float32 of the same shape."""
    z = torch.randn(n, *shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        some, others = one(z), other(z)
    assert some.shape == others.shape and some.dtype == others.dtype == torch.float32
    return float((some - others).abs().max())


def refused(name: object, call: Callable[[], object], *names: str) -> str:
    """``call`` is refused in one plain line that has all ``names``; ``name`` is shown where it is not."""
    try:
        made = call()
    except Refused as error:
        said = str(error)
    else:
        raise AssertionError(f"{name} is taken: {made}")
    assert 0 < len(said) <= 300 and said.isascii() and said.isprintable(), (name, said)
    assert [one for one in names if one not in said] == [], (name, said)
    return said


def edited(path: Path, edit: Callable[[dict[str, bytes]], object], name: str = "edited.pt2") -> Path:
    """A copy of the archive beside it: ``edit(members)`` changes the dict of its members, by names without the root."""
    with zipfile.ZipFile(path) as zipped:
        root = os.path.commonpath(zipped.namelist())
        members = {one.removeprefix(f"{root}/"): zipped.read(one) for one in zipped.namelist()}
    edit(members)
    with zipfile.ZipFile(path.with_name(name), "w") as zipped:
        for one, content in members.items():
            zipped.writestr(os.path.join(root, one), content)
    return path.with_name(name)


def with_json(path: Path, member: str, edit: Callable[[Any], object], name: str = "edited.pt2") -> Path:
    """A copy of the archive in which ``edit`` has changed one member's JSON."""

    def change(members: dict[str, bytes]) -> None:
        content = json.loads(members[member])
        edit(content)
        members[member] = json.dumps(content).encode()

    return edited(path, change, name)


def pickled(value: object) -> bytes:
    """``torch.save`` of ``value``."""
    made = io.BytesIO()
    torch.save(value, made)
    return made.getvalue()


class Canary:
    """A pickle that leaves a file behind where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "sung")
