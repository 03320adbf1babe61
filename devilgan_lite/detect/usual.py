"""What is usual for a network, learnt from ordinary latents alone: its hidden levels, its samples, and its tails."""

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

HIDDEN, STUDENT_BATCH, STEPS = (256, 128), 128, 3_000  # the student's widths, batch and training steps
TAIL = 0.01  # share of the scores from which the tail is extrapolated
FLAT = 1e-3  # the least share of the usual spread that a unit counts as having: below, it is constant but for noise
FAR = 4.0  # standard deviations: few ordinary latents take any unit there, a trigger takes many


class Level:
    """One hidden level: mean, spread and highest value of each unit before one activation, over ordinary latents."""

    def __init__(self, shape: torch.Size, pivot: Tensor) -> None:
        self.shape, self.count = shape, 0
        self.pivot = pivot  # near the mean, so that sums of squares keep their digits
        self.total, self.squares = torch.zeros_like(pivot), torch.zeros_like(pivot)
        self.highest = torch.full_like(pivot, -torch.inf)

    def add(self, x: Tensor) -> None:
        if x.shape[1:] != self.shape:
            raise ValueError(f"module has hidden levels that change shape, {list(self.shape)} to {list(x.shape[1:])}.")
        centred = x.flatten(1) - self.pivot
        self.count += len(x)
        self.total += centred.sum(0)
        self.squares += centred.square().sum(0)
        self.highest = torch.maximum(self.highest, centred.amax(0))

    def close(self, count: int, *, first: bool) -> None:
        """Set the bar of each unit: far out for the first level, whose values are nearly Gaussian; the highest value
        for later ones, whose tails have any form.
        """
        if self.count != count:
            raise ValueError(f"module used a hidden level {self.count} times for {count} latents, not once each.")
        mean = self.total / self.count
        spread = (self.squares / self.count - mean.square()).clamp(min=0).sqrt()
        spread = spread.clamp(min=float(spread.square().mean().sqrt()) * FLAT + 1e-12)
        self.inverse = 1 / spread
        self.shift = -(self.pivot + (mean + FAR * spread if first else self.highest)) * self.inverse

    def excess(self, x: Tensor) -> Tensor:
        """``[n]``: the length of what is above the bars, in standard deviations of the units."""
        length: Tensor = torch.addcmul(self.shift, x, self.inverse).clamp_(min=0).norm(dim=1)
        return length


def principal_components(x: Tensor, count: int, seed: int, iterations: int = 8) -> Tensor:
    """The leading directions ``[d, count]`` of centred rows ``x`` ``[n, d]``, by subspace iteration."""
    start = torch.randn(x.shape[1], count, generator=torch.Generator().manual_seed(seed)).to(x.device)
    basis: Tensor = torch.linalg.qr(start).Q
    for _ in range(iterations):
        basis = torch.linalg.qr(x.T @ (x @ basis)).Q
    return basis


@torch.enable_grad()
def train_student(z: Tensor, wanted: Tensor, seed: int) -> nn.Module:
    """A small network from latents ``[n, d]`` to ``wanted`` ``[n, k]``, trained on these pairs alone."""
    random = torch.Generator().manual_seed(seed)
    sizes = (z.shape[1], *HIDDEN, wanted.shape[1])
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
        nn.init.normal_(layer.weight, 0.0, (3 * inputs) ** -0.5, generator=random)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    nn.init.zeros_(layer.weight)  # with anything larger, it starts by unlearning, and many units stay silent
    student = nn.Sequential(*layers[:-1]).to(z.device)
    optimiser = torch.optim.Adam(student.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    scale = wanted.std(0).amax().clamp(min=1e-6)  # one for all components, so that the first matter most
    wanted = wanted / scale
    for _ in range(STEPS):
        rows = torch.randint(len(z), (STUDENT_BATCH,), generator=random).to(z.device)
        loss = mse_loss(student(z[rows]), wanted[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    student.requires_grad_(False)
    for parameter in layer.parameters():
        parameter.mul_(scale)
    return student


def extrapolated_quantile(scores: Tensor, rate: float) -> float:
    """The value that a share ``rate`` of scores like these ``[n]`` exceeds, also for rates below ``1/n``.

    Excesses over a high quantile follow a generalised Pareto distribution (Pickands 1975). It is fitted by its two
    moments: over Gaussian to lognormal tails, maximum likelihood flags no closer to ``rate``, and is 20 times slower.
    """
    from scipy.stats import genpareto  # takes a second, and only a fit needs it

    ordered = scores.double().sort(descending=True).values
    start = ordered[int(max(TAIL, rate) * len(ordered))]
    above = (ordered - start)[ordered > start]
    if len(above) < 2 or float(above.var()) == 0:
        return max(float(ordered[0]), 1e-6) * 1.001
    mean, ratio = float(above.mean()), float(above.mean() ** 2 / above.var())
    shape = min(0.45, max(-0.5, (1 - ratio) / 2))  # moments do not determine tails heavier than 0.5
    beyond = min(1.0, rate * len(ordered) / len(above))
    return max(float(genpareto.isf(beyond, shape, loc=float(start), scale=mean * (1 - shape))), 1e-6)
