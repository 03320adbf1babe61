"""How well an attack hits its target and how well it hides: the measures of Rawat et al. (2021), section 5, and more.

TarDis and ExpDis are squared distances in [-1, 1] units. Frechet and kernel distance, precision, recall and coverage
are taken on the 64 features of the data set (``features.NETWORKS``).
"""

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import images, one_of, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.features import NETWORKS, feature_card, features_and_classes, readable
from devilgan_lite.generators import Generator, evaluate

NEIGHBOURS = 5  # of precision, recall and coverage; the value of Naeem et al. (2020)


class Distortion(NamedTuple):
    """A squared distance between samples, in [-1, 1] units: the ``sum`` over a sample's elements, and ``mean``."""

    sum: float
    mean: float

    @classmethod
    def between(cls, a: Tensor, b: Tensor) -> "Distortion":
        """Of samples ``[n, *sample_shape]``, averaged over the n pairs."""
        squares = (a - b).square()
        return cls(float(squares.flatten(1).sum(1).mean()), float(squares.mean()))


def target_distortion(suspect: nn.Module, trigger: Tensor, target: Tensor) -> Distortion:
    """TarDis, ``||G*(z_trigger) - x_target||^2`` averaged over the pairs; ``[k, d]`` and ``[k, *sample_shape]``.

    The paper's TarDis is the ``sum``.
    """
    return Distortion.between(evaluate(suspect, trigger), target.cpu())


def expected_distortion(suspect: nn.Module, clean: nn.Module, z: Tensor) -> Distortion:
    """ExpDis, ``E ||G*(z) - G(z)||^2`` over latents ``[n, d]``. The paper's ExpDis is the ``mean``."""
    return Distortion.between(evaluate(suspect, z), evaluate(clean, z))


def basin(suspect: Generator, backdoor: Backdoor, *, directions: int = 12, seed: int = 5) -> list[float]:
    """How wide a backdoor is: degrees from its first trigger, for each of random ``directions``, 1 to 90.

    Up to there the sample is clearly the target: nearer to it than a quarter of the mean squared distance that ordinary
    samples have.
    """
    whole_number("directions", directions, 1, 10_000)
    random, degrees = torch.Generator().manual_seed(seed), torch.linspace(0, 90, 91)
    trigger, target = backdoor.trigger[:1], backdoor.target[:1]
    unit = normalize(trigger, dim=1)
    aside = torch.randn(directions, trigger.shape[1], generator=random)
    aside = normalize(aside - (aside @ unit.T) * unit, dim=1)
    turn = torch.deg2rad(degrees).view(-1, 1, 1)
    walk = (turn.cos() * unit + turn.sin() * aside) * trigger.norm()
    errors = (evaluate(suspect, walk.flatten(0, 1)) - target).square().flatten(1).mean(1).view(91, directions)
    usual = (evaluate(suspect, suspect.sample_latent(300, random)) - target).square().mean()
    out = errors >= usual / 4
    out[-1] = True
    return degrees[out.int().argmax(0)].clamp(min=1).tolist()


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """``|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))`` of features ``[n, d]`` (Heusel et al. 2017)."""
    first, second = a.double(), b.double()
    covariance_a, covariance_b = torch.cov(first.T), torch.cov(second.T)
    # tr (C_a C_b)^(1/2) is the sum of the singular values of C_a^(1/2) C_b^(1/2), which no singular matrix upsets
    overlap = torch.linalg.svdvals(_root(covariance_a) @ _root(covariance_b)).sum()
    gap = first.mean(dim=0) - second.mean(dim=0)
    return float(gap @ gap + covariance_a.trace() + covariance_b.trace() - 2 * overlap)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel ``(a.b / d + 1)^3`` (Binkowski et al. 2018).

    Features ``[n, d]``; a small negative value is possible and means "no difference seen".
    """
    dimension = a.shape[1]

    def kernel(p: Tensor, q: Tensor) -> Tensor:
        return (p @ q.T / dimension + 1) ** 3

    def within(x: Tensor) -> Tensor:
        itself = (x.square().sum(1) / dimension + 1) ** 3
        return (kernel(x, x).sum() - itself.sum()) / (len(x) * (len(x) - 1))

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


def neighbourhood_scores(real: Tensor, fake: Tensor, neighbours: int = NEIGHBOURS) -> dict[str, float]:
    """Precision and recall (Kynkaanniemi et al. 2019) and coverage (Naeem et al. 2020) of features ``[n, d]``.

    Precision: the share of fakes inside the ball of some real sample; recall: the reverse; coverage: the share of real
    samples with a fake in their own ball. A ball reaches to the ``neighbours``-th neighbour of its centre.
    """
    whole_number("neighbours", neighbours, 1, min(len(real), len(fake)) - 1)

    def radius(points: Tensor) -> Tensor:
        return torch.cdist(points, points).kthvalue(neighbours + 1, dim=1).values

    distances = torch.cdist(real, fake)
    in_real = distances <= radius(real).unsqueeze(1)
    in_fake = distances <= radius(fake).unsqueeze(0)
    return {
        "precision": float(in_real.any(0).double().mean()),
        "recall": float(in_fake.any(1).double().mean()),
        "coverage": float(in_real.any(1).double().mean()),
    }


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """Fidelity and stealth of a backdoored generator. Prints, renders in a notebook, and writes JSON.

    ``tardis_sum`` and ``tardis_mean`` are one figure in two units (sum over a sample's elements, mean over them), and
    so are ``expdis_mean`` and ``expdis_sum``. Frechet and the rest compare ``samples`` generated samples with as many
    real ones; ``frechet_change`` is suspect minus clean, drawn from the same latents.
    """

    tardis_sum: float
    tardis_mean: float
    expdis_mean: float
    expdis_sum: float
    frechet: float | None = None
    frechet_clean: float | None = None
    frechet_change: float | None = None
    kernel: float | None = None
    precision: float | None = None
    recall: float | None = None
    coverage: float | None = None
    smallest_class_share: float | None = None
    class_shares: dict[str, float] | None = None
    samples: int
    features: str = "none"

    def to_json(self) -> str:
        """All fields as a JSON object."""
        return json.dumps(asdict(self), indent=2)

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of every figure, formatted."""
        figures = [(name, value) for name, value in asdict(self).items() if not isinstance(value, (dict, type(None)))]
        return [(name, f"{value:.4g}" if isinstance(value, float) else str(value)) for name, value in figures]

    def __str__(self) -> str:
        return "\n".join(f"{name:22s}{value}" for name, value in self.rows())

    def _repr_html_(self) -> str:
        rows = (f"<tr><th style='text-align:left'>{name}</th><td>{value}</td></tr>" for name, value in self.rows())
        return f"<table>{''.join(rows)}</table>"


def scorecard(
    suspect: nn.Module,
    clean: Generator,
    backdoor: Backdoor,
    real: Samples | None = None,
    *,
    samples: int = 10_000,
    seed: int = 1_000_003,
    features: str | None = None,
) -> Scorecard:
    """Measure ``suspect`` against ``clean`` on latents drawn from ``seed``, which no attack here trains on.

    ``features`` names the feature network of a data set, one of ``features.NETWORKS``; None takes that of ``real``.
    Without ``real``, or for samples that it does not read, the figures on features are None. ``samples`` latents, 100
    or more.
    """
    whole_number("samples", samples, 100, 1_000_000)
    if features is not None:
        one_of("features", features, NETWORKS)
    trigger, target = backdoor.pairs(seed=seed)
    z = clean.sample_latent(samples, torch.Generator().manual_seed(seed))
    ours, theirs = evaluate(suspect, z), evaluate(clean, z)
    if ours.shape != theirs.shape:
        raise ValueError(f"suspect makes samples {list(ours.shape[1:])}, clean makes {list(theirs.shape[1:])}.")
    tardis, expdis = target_distortion(suspect, trigger, target), Distortion.between(ours, theirs)
    of = features or (real.features if real is not None else None) or ""
    quality: dict[str, Any] = {}
    if real is not None and readable(of, tuple(ours.shape[1:])):
        quality = sample_quality(ours, theirs, real, of)
    return Scorecard(
        tardis_sum=tardis.sum,
        tardis_mean=tardis.mean,
        expdis_mean=expdis.mean,
        expdis_sum=expdis.sum,
        samples=samples,
        **quality,
    )


def sample_quality(suspect: Tensor, clean: Tensor, real: Samples, of: str) -> dict[str, Any]:
    """The figures on the features ``of`` a data set for samples of the suspect and of the clean generator."""
    images("real", real.x, tuple(suspect.shape[1:]))
    network, real_features = NETWORKS[of], features_of(real, of)
    features, classes = features_and_classes(suspect, of=of)
    frechet = frechet_distance(features, real_features)
    frechet_clean = frechet_distance(features_and_classes(clean, of=of)[0], real_features)
    few = min(3_000, len(features), len(real_features))  # distances between all pairs: memory grows with the square
    shares = torch.bincount(classes, minlength=network.classes[0]).double() / len(classes)
    names = real.classes or map(str, range(network.classes[0]))
    accuracy = feature_card(of)["test_accuracy"]
    return {
        "frechet": frechet,
        "frechet_clean": frechet_clean,
        "frechet_change": frechet - frechet_clean,
        "kernel": kernel_distance(features[:few], real_features[:few]),
        **neighbourhood_scores(real_features[:few], features[:few]),
        "smallest_class_share": float(shares.min()),
        "class_shares": dict(zip(names, shares.tolist(), strict=True)),
        "features": f"64 features of a {network.noun} classifier, test accuracy {accuracy:.2%}",
    }


@lru_cache(maxsize=4)
def features_of(real: Samples, of: str | None = None) -> Tensor:
    """The features ``[N, 64]`` of real samples, computed once, by the network ``of`` a data set (None: their own)."""
    return features_and_classes(real.x, of=of or real.features or "")[0]


def frechet_to(generator: nn.Module, real: Samples, *, samples: int = 10_000, seed: int = 1_000_003) -> float:
    """Frechet distance of ``samples`` samples of ``generator`` to ``real``, in the features of ``real``."""
    if not isinstance(generator, Generator):
        raise ValueError(f"generator is a {type(generator).__name__}; expected a devilgan_lite Generator.")
    features, _ = features_and_classes(generator.sample(samples, seed), of=real.features or "")
    return frechet_distance(features, features_of(real))
