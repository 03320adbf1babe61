"""Networks as others write them, exported with ``torch.export``, and archives whose members are changed."""

import io
import json
import zipfile
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional


def tutorial(latent=16, width=4):
    """The network of PyTorch's DCGAN tutorial, small."""
    layers = []
    for inputs, outputs, step in ((latent, 4 * width, (4, 1, 0)), (4 * width, 2 * width, (4, 2, 1))):
        layers += [nn.ConvTranspose2d(inputs, outputs, *step, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
    return trained(nn.Sequential(*layers, nn.ConvTranspose2d(2 * width, 3, 4, 2, 1, bias=False), nn.Tanh()))


class Dense(nn.Module):
    """The generator of PyTorch-GAN's first script: dense layers, one norm, pictures by ``view``."""

    def __init__(self):
        super().__init__()
        first = [nn.Linear(16, 24), nn.LeakyReLU(0.2, inplace=True)]
        self.model = nn.Sequential(*first, nn.Linear(24, 32), nn.BatchNorm1d(32, 0.8), nn.LeakyReLU(0.2, inplace=True))
        self.last = nn.Linear(32, 64)

    def forward(self, z):
        made = torch.tanh(self.last(self.model(z)))
        return made.view(made.size(0), 1, 8, 8)


class Block(nn.Module):
    """A block with a way around it that doubles the size."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)])
        self.first, self.second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.around = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        made = self.first(functional.interpolate(self.norms[0](x).relu(), scale_factor=2))
        made = self.second(self.norms[1](made).relu())
        return made + self.around(functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))


class Residual(nn.Module):
    """A ResNet generator whose pictures are in [0, 1]."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(16, 8 * 16), nn.Conv2d(4, 3, 3, padding=1)
        self.blocks = nn.Sequential(Block(8, 6), Block(6, 4))

    def forward(self, z):
        return torch.sigmoid(self.last(self.blocks(self.first(z).view(z.shape[0], -1, 4, 4))))


def trained(module):
    """``module`` in eval mode, its norms with statistics that are not 0 and 1."""
    random = torch.Generator().manual_seed(1)
    for part in module.modules():
        if hasattr(part, "running_mean"):
            part.running_mean.normal_(generator=random)
            part.running_var.uniform_(0.5, 2, generator=random)
    return module.eval()


def save(module, shape, path, *, dynamic=True, decomposed=False, batch=2):
    """Export ``module`` for latents ``[n, *shape]``, or for exactly ``batch`` of them; returns ``path``."""
    sizes = ({0: torch.export.Dim("n")},) if dynamic else None
    exported = torch.export.export(module, (torch.randn(batch, *shape),), dynamic_shapes=sizes)
    torch.export.save(exported.run_decompositions() if decomposed else exported, path)
    return Path(path)


def edited(path, edit, name="edited.pt2"):
    """A copy of the archive beside it: ``edit(members)`` changes the dict of its members, by names without the root."""
    with zipfile.ZipFile(path) as zipped:
        root = zipped.namelist()[0].partition("/")[0]
        members = {one.removeprefix(f"{root}/"): zipped.read(one) for one in zipped.namelist()}
    edit(members)
    made = Path(path).with_name(name)
    with zipfile.ZipFile(made, "w") as zipped:
        for one, content in members.items():
            zipped.writestr(f"{root}/{one}", content)
    return made


def with_json(path, member, edit, name="edited.pt2"):
    """A copy of the archive in which ``edit`` has changed one member's JSON."""

    def change(members):
        content = json.loads(members[member])
        edit(content)
        members[member] = json.dumps(content).encode()

    return edited(path, change, name)


def pickled(value):
    """``torch.save`` of ``value``, as bytes."""
    made = io.BytesIO()
    torch.save(value, made)
    return made.getvalue()
