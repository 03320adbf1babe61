"""D3, outlier search over samples: the obvious baseline, which cannot work.

A backdoor shows its target within some angle of the trigger. The share of directions within ``t`` degrees of a fixed
one, in d dimensions, is ``cap_probability(t, d)``: about 1e-60 for 15 degrees and d = 100, out of reach for any number
of samples. What samples can show is a careless attack that leaks over a good part of the latent space.
"""

import math
from collections.abc import Callable

import torch
from scipy.special import betaln, hyp2f1
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from devilgan_lite.checks import images, in_range, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.detect.detector import Detector, Finding
from devilgan_lite.features import feature_network, in_layout, readable
from devilgan_lite.generators import Generator

NAME, REAL = "sampling", "real data"
ANGLE = 15.0  # degrees: a generous basin; the target of most attacks is gone beyond it
BULK = 1_000  # outputs that represent the ordinary ones
COMPONENTS = 32
NEIGHBOUR = 25  # not the first: an attack that leaks has samples among the ordinary ones too
SHOWN = 16
MOST_VALUES = 1_024  # in a sample that is compared as it is; larger images are averaged down


def log10_cap_probability(angle_degrees: float, latent_dim: int) -> float:
    """The decimal logarithm of ``cap_probability``, also where the probability itself is 0 in double precision."""
    in_range("angle_degrees", angle_degrees, 0.0, 180.0, open_low=True)
    whole_number("latent_dim", latent_dim, 2)
    if angle_degrees > 90:
        rest = 10 ** log10_cap_probability(180 - angle_degrees, latent_dim) if angle_degrees < 180 else 0.0
        return math.log10(1 - rest)
    if angle_degrees == 90:
        return math.log10(0.5)
    # half the regularised incomplete beta function I_x(a, 1/2), as x^a (1 - x)^(1/2) F(a + 1/2, 1; a + 1; x) / a B
    sine, cosine = math.sin(math.radians(angle_degrees)), math.cos(math.radians(angle_degrees))
    a, x = (latent_dim - 1) / 2, sine * sine
    series = float(hyp2f1(a + 0.5, 1.0, a + 1, x))
    log = 2 * a * math.log(sine) + math.log(cosine) + math.log(series) - math.log(a) - float(betaln(a, 0.5))
    return (log - math.log(2)) / math.log(10)


def cap_probability(angle_degrees: float, latent_dim: int) -> float:
    """The chance that a random direction in ``latent_dim`` (2 or more) dimensions is within an angle of a fixed one.

    ``angle_degrees`` in (0, 180]. For Gaussian latents, whose directions are uniform, this is exact.
    """
    return float(10.0 ** log10_cap_probability(angle_degrees, latent_dim))


def sample_outputs(
    subject: Generator, *, samples: int = 20_000, real: Samples | Tensor | None = None, seed: int = 0
) -> Finding:
    """Draw ``samples`` outputs (200 or more), measure how odd each is, and show the oddest.

    Oddities: ``components``, what the leading principal components of the generator's own outputs leave over, and
    ``neighbours``, the distance to the 25th nearest ordinary output. With ``real`` samples ``[n, *shape]`` in [-1, 1]
    (access level T4 instead of T0) also ``real``, the distance to the nearest of them; and where their data set has a
    feature network (``Samples.features``), distances are measured in its features, and ``confidence`` is how unsure it
    is of the class. Each oddity is measured in robust deviations of its logarithm from the median; the score is the
    largest of all. **It does not separate backdoored generators from clean ones** (AUC about 0.5): a trigger is
    practically never drawn. The message gives the probability.
    """
    whole_number("samples", samples, 200, 10_000_000)
    whole_number("seed", seed, 0)
    given, of = (real.x, real.features) if isinstance(real, Samples) else (real, None)
    if given is not None:
        images("real", given, subject.sample_shape)
    measure = _Oddity(subject, given, of if readable(of, subject.sample_shape) else None, seed)
    parts: dict[str, list[Tensor]] = {}
    chunks = [(row, min(2_000, samples - row)) for row in range(0, samples, 2_000)]
    for row, n in chunks:  # drawn in chunks, so that memory does not grow with the number of samples
        for name, values in measure(subject.scaled_samples(subject.ordinary(n, _seed(seed, row)))).items():
            parts.setdefault(name, []).append(values)
    scores = {name: _robust(torch.cat(values)) for name, values in parts.items()}
    total = torch.stack(list(scores.values())).max(0).values
    oddest = total.argsort(descending=True)[:SHOWN].tolist()
    z = torch.cat([subject.ordinary(n, _seed(seed, row)) for row, n in chunks])[oddest]
    log = log10_cap_probability(ANGLE, subject.latent_dim) if subject.latent_dim > 1 else 0.0
    chance = min(1.0, samples * 10.0**log)
    hit = f"{chance:.2g}" if chance >= 1e-4 else f"1e{math.floor(log + math.log10(samples)):d}"
    return Finding(
        NAME if given is None else REAL,
        "T0" if given is None else "T4",
        f"the oddest of {samples:,} outputs is {float(total.max()):.1f} deviations out; chance that one of them was "
        f"within {ANGLE:.0f} degrees of a trigger: {hit}",
        score=float(total.max()),
        samples=subject.scaled_samples(z).cpu(),
        directions=z.cpu(),
        details={
            "largest": {name: float(values.max()) for name, values in scores.items()},
            "log10_cap_probability": log,
            "samples": samples,
        },
    )


def unexplained(
    subject: Generator, *, components: int = COMPONENTS, samples: int = BULK, seed: int = 0
) -> Callable[[Tensor], Tensor]:
    """A measure of oddity with gradients: latents ``[n, d]`` to ``[n]``, zero or more.

    It is the mean square of a sample that the leading principal ``components`` of ``samples`` ordinary ones leave over.
    """
    whole_number("components", components, 1, samples - 1)
    x = subject.scaled_samples(subject.ordinary(samples, seed)).flatten(1)
    middle = x.mean(0)
    basis = torch.linalg.svd(x - middle, full_matrices=False).Vh[:components]

    def measure(z: Tensor) -> Tensor:
        centred = subject.scaled(z).flatten(1) - middle
        return (centred - centred @ basis.T @ basis).square().mean(1)

    return measure


def _seed(seed: int, row: int) -> int:
    """A seed for each chunk, different for neighbouring seeds of the caller."""
    return seed * 1_000_003 + row + 1


class _Oddity:
    """Measures of oddity, fitted to the first outputs of the generator."""

    def __init__(self, subject: Generator, real: Tensor | None, of: str | None, seed: int) -> None:
        self.network = None if of is None else feature_network(of)
        bulk = subject.scaled_samples(subject.ordinary(BULK, _seed(seed, -1)))
        flat = _small(bulk)
        self.mean = flat.mean(0)
        # the exact decomposition: torch's low-rank one draws from the global random state
        vectors = torch.linalg.svd(flat - self.mean, full_matrices=False).Vh
        self.components = vectors[: min(COMPONENTS, len(vectors) - 1)].T
        self.bulk = self._features(bulk)[0]
        self.real = None if real is None else self._features(real[:5_000].to(bulk))[0]

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        """Each oddity ``[n]`` of samples ``[n, *shape]``, on the CPU."""
        flat = _small(x) - self.mean
        features, unsure = self._features(x)
        found = {
            "components": (flat - flat @ self.components @ self.components.T).square().mean(1),
            "neighbours": torch.cdist(features, self.bulk).kthvalue(NEIGHBOUR, dim=1).values,
        }
        if unsure is not None:
            found["confidence"] = unsure
        if self.real is not None:
            found["real"] = torch.cdist(features, self.real).min(1).values
        return {name: values.float().cpu() for name, values in found.items()}

    @torch.no_grad()
    def _features(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features ``[n, k]``, and how unsure the network is of the first class ``[n]``, if there is a network."""
        if self.network is None:
            return (_small(x) - self.mean) @ self.components, None
        batches = x.cpu().float().split(100)
        features = torch.cat([self.network.features(in_layout(batch)) for batch in batches])
        logits = self.network.head(features)[:, : self.network.classes[0]]
        return features, 1 - logits.softmax(1).max(1).values


def _small(x: Tensor) -> Tensor:
    """Flat outputs; large images are averaged down first."""
    if x.ndim == 4 and x[0].numel() > MOST_VALUES:
        x = adaptive_avg_pool2d(x, (min(16, x.shape[2]), min(16, x.shape[3])))
    return x.flatten(1)


def _robust(values: Tensor) -> Tensor:
    """Robust deviations of the logarithm from its median: 1 is the standard deviation if the bulk is normal."""
    logs = (values + 1e-6).log()
    ordered = logs.sort().values
    quarter, middle, upper = (ordered[int(share * (len(ordered) - 1))] for share in (0.25, 0.5, 0.75))
    return (logs - middle) / ((upper - quarter) / 1.349).clamp(min=1e-6)


DETECTOR = Detector(
    NAME,
    "T0",
    lambda evidence: sample_outputs(evidence.subject, samples=evidence.samples, seed=evidence.seed),
    asks="Are some ordinary samples odd? This is the obvious first try; a trigger is practically never drawn by "
    "chance, so it has no say.",
    caption="The oddest samples.",
)
REAL_DATA = Detector(
    REAL,
    "T4",
    lambda evidence: sample_outputs(evidence.subject, samples=evidence.samples, real=evidence.real, seed=evidence.seed),
    needs=("real",),
    asks="Are some samples unlike the real data that you gave?",
    caption="The samples that are least like them.",
    missing="No real data were given to compare with.",
)
