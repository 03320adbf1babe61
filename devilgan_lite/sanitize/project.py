"""Take suspicious directions out of the weights: of the latent space, and of the space that each later layer reads.

A backdoor spends weight energy on directions that ordinary samples do not show (``detect.spectrum``), so removing what
the weights answer to along them costs ordinary samples little, and no data are needed. Our own method; nothing like it
has been published for generators.
"""

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from devilgan_lite.detect.spectrum import Spectrum
from devilgan_lite.detect.styles import Styles
from devilgan_lite.generators.stack import ProjectedLatents
from devilgan_lite.trace import Layer, OpTracer

LONGER = 1.25  # a row that loses more than a fifth of its length belongs to the backdoor and is not restored in full
READERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)


@dataclass(frozen=True)
class Cut:
    """What was taken out: the name of the space, and how many directions of how many; ``projection`` ``[of, of]``.

    ``layers`` names those that read the space.
    """

    space: str
    directions: int
    of: int
    projection: Tensor = field(repr=False, compare=False)
    layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.directions} of {self.of} directions in {self.space}"


def projector(directions: Tensor) -> Tensor:
    """``I - Q Q^T`` ``[d, d]`` for the span ``Q`` of ``directions`` ``[k, d]``, of any length, dependent or not."""
    rows = directions.detach().double().cpu()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-300)
    _, values, right = torch.linalg.svd(rows, full_matrices=False)
    span = right[values > 1e-6]
    return torch.eye(rows.shape[1], dtype=torch.float64) - span.T @ span


@torch.no_grad()
def project_latents(module: nn.Module, directions: Tensor, *, restore: bool = False) -> nn.Module:
    """A copy that draws ``module(z - Q Q^T z)``, ``Q`` the span of ``directions`` ``[k, d]``: blind to them.

    The projection is folded into the weights of the layers that read the latent; where that does not give the same
    samples, the copy stands behind ``ProjectedLatents``. (A module that normalises its latent first may give other
    samples, as long as it is blind.) With ``restore`` the rows of folded weights get their lengths back, up to a
    quarter: units that ordinary latents drive vary as they did.
    """
    folded, projection = copy.deepcopy(module).eval(), projector(directions)
    where = next((value.device for value in folded.parameters()), torch.device("cpu"))
    z = probes(directions).to(where)
    expected = folded(z @ projection.float().to(where))
    readers: list[nn.Module] = []
    scaled: list[bool] = []  # for each reader, whether it reads the latent at another length

    def on_linear(layer: Layer, x: Tensor, weight: Tensor, result: Tensor) -> None:
        if x.shape == z.shape and (x.data_ptr() == z.data_ptr() or _parallel(x, z)):
            readers.extend(_owner(folded, layer.name))
            scaled.append(x.data_ptr() != z.data_ptr())

    with OpTracer(folded, on_linear=on_linear) as watch:
        folded(z)
    lengths = []
    for reader in readers:
        if isinstance(reader, nn.Linear):
            lengths.append((reader, reader.weight.norm(dim=1, keepdim=True)))
            reader.weight.copy_(reader.weight.cpu().double() @ projection)
    mirrored = z @ (2 * projection - torch.eye(len(projection), dtype=projection.dtype)).float().to(where)
    blind = any(scaled) and torch.allclose(folded(z), folded(mirrored), atol=1e-4)  # mirrored at what it cannot see
    if watch.conditions or not (blind or torch.allclose(folded(z), expected, atol=1e-4)):  # programs may compare too
        return nn.Sequential(ProjectedLatents.of(projection), copy.deepcopy(module)).to(where).eval()
    for reader, length in lengths if restore else ():
        reader.weight.mul_((length / reader.weight.norm(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=LONGER))
    return folded


def _parallel(x: Tensor, z: Tensor) -> bool:
    """Whether each row of ``x`` is a positive multiple of that of ``z``, both ``[n, d]``."""
    return bool((cosine_similarity(x, z, dim=1) > 1 - 1e-5).all())


def probes(directions: Tensor, seed: int = 0) -> Tensor:
    """Latents on which a fold is checked: 16 ordinary ones, and both sides of ``directions`` ``[k, d]`` at lengths."""
    k, d = directions.shape
    random = torch.Generator().manual_seed(seed)
    ordinary = torch.randn(16, d, generator=random)
    unit = directions.detach().float().cpu()
    unit = unit / unit.norm(dim=1, keepdim=True).clamp(min=1e-30)
    lengths = d**0.5 * torch.tensor([0.5, 0.9, 1.0, 1.1, 2.0]).view(-1, 1, 1)
    along = (lengths * unit).flatten(0, 1)
    beside = along + 0.1 * torch.randn(along.shape, generator=random)
    return torch.cat([ordinary, along, -along, beside, -beside])


@torch.no_grad()
def cut_spectra(module: nn.Module, spectra: tuple[Spectrum, ...], height: float) -> list[Cut]:
    """In place: each layer forgets the directions with more than ``height`` times its median energy per influence.

    The projection is oblique (``W - W V (D^T V)^-1 D^T``): inputs that have nothing of the removed directions in the
    sense of the influence go through unchanged. Layers that are not among ``READERS`` are left alone.
    """
    cuts = []
    for spectrum in spectra:
        count = standing_out(spectrum, height)
        layers = tuple(name for name in spectrum.readers or (spectrum.space,) if _owner(module, name))
        if not layers or not count:
            continue
        vectors, duals = spectrum.vectors[:, :count], spectrum.directions[:, :count]
        removed = vectors @ torch.linalg.solve(duals.T @ vectors, duals.T)
        whole = torch.eye(len(removed), dtype=removed.dtype)
        cuts.append(Cut(spectrum.space, count, len(removed), whole - removed, layers))
    apply_cuts(module, cuts)
    return cuts


@torch.no_grad()
def apply_cuts(module: nn.Module, cuts: list[Cut]) -> None:
    """In place: the layers that ``cuts`` name forget the same directions, again: training lets them grow back."""
    for cut in cuts:
        for layer in (layer for name in cut.layers for layer in _owner(module, name)):
            weight: Tensor = layer.weight  # type: ignore[assignment]
            axis = 0 if isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d)) else 1
            rows = weight.detach().movedim(axis, -1)
            exact = rows.dtype if rows.device.type == "mps" else torch.float64
            weight.copy_((rows.to(exact) @ cut.projection.to(rows.device, exact)).movedim(-1, axis))


def project_styles(module: nn.Module, styles: Styles) -> tuple[nn.Module, Cut]:
    """A copy whose layers no longer answer to the rows that they share (``detect.styles``), and what was cut.

    Nothing is trained: ordinary styles have little along those rows. What a linear expansion added goes with them, and
    so does the tint that it leaves on ordinary samples.
    """
    copied, rows = copy.deepcopy(module).eval(), styles.rows
    cut = Cut(styles.spectrum.space, len(rows), rows.shape[1], projector(rows), styles.spectrum.readers)
    apply_cuts(copied, [cut])
    return copied, cut


def standing_out(spectrum: Spectrum, height: float) -> int:
    """How many directions have more than ``height`` times the median energy per influence, at most half of them."""
    top = spectrum.values[0].clamp(min=1e-300)
    median = spectrum.values[spectrum.values > 1e-6 * top].median()
    return min(int((spectrum.values > height * median).sum()), len(spectrum.values) // 2)


def _owner(module: nn.Module, name: str) -> list[nn.Module]:
    """The layer of a name, as a list of one, if it is an ordinary layer with a weight of its own."""
    found = dict(module.named_modules()).get(name)
    return [found] if isinstance(found, READERS) else []
