"""Families of generators as strangers write them, with the networks and loops that train them, in plain PyTorch.

Nothing here knows of backdoors or of this package: each family has habits of its own (layers, activations, norms,
latents, data, losses), and ``foreign.py`` makes a population of them.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from devilgan_lite import data

Extra = Callable[[nn.Module], Tensor]  # a term to add to the generator's loss


class GarmentDCGAN(nn.Module):
    """A dense layer, then transposed convolutions with BatchNorm: 28x28."""

    def __init__(self, latent_dim: int = 64, width: int = 32) -> None:
        super().__init__()
        self.project = nn.Linear(latent_dim, 2 * width * 7 * 7)
        self.main = nn.Sequential(
            nn.BatchNorm2d(2 * width),
            nn.ReLU(True),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(True),
            nn.ConvTranspose2d(width, 1, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.main(self.project(z).view(z.size(0), -1, 7, 7))


class ColourDCGAN(nn.Module):
    """GELU and BatchNorm, 32x32 in colour."""

    def __init__(self, latent_dim: int = 32, widths: tuple[int, ...] = (96, 48, 24)) -> None:
        super().__init__()
        self.fc = nn.Linear(latent_dim, widths[0] * 16, bias=False)
        self.norm0 = nn.BatchNorm2d(widths[0])
        self.body = nn.Sequential(
            nn.ConvTranspose2d(widths[0], widths[1], 4, 2, 1, bias=False),
            nn.BatchNorm2d(widths[1]),
            nn.GELU(),
            nn.ConvTranspose2d(widths[1], widths[2], 4, 2, 1, bias=False),
            nn.BatchNorm2d(widths[2]),
            nn.GELU(),
        )
        self.rgb = nn.ConvTranspose2d(widths[2], 3, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.fc(z).reshape(z.shape[0], -1, 4, 4)
        return torch.tanh(self.rgb(self.body(functional.gelu(self.norm0(x)))))


class TutorialDCGAN(nn.Module):
    """The generator of PyTorch's DCGAN tutorial: ``[n, nz, 1, 1]`` to 64x64 in colour, N(0, 0.02) at the start."""

    def __init__(self, nz: int = 100, ngf: int = 16) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 8, 4, 1, 0, bias=False),
            nn.BatchNorm2d(ngf * 8),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 8, ngf * 4, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf * 4),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 4, ngf * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf, 3, 4, 2, 1, bias=False),
            nn.Tanh(),
        )
        self.apply(tutorial_weights)

    def forward(self, input: Tensor) -> Tensor:
        return self.main(input)


def tutorial_weights(layer: nn.Module) -> None:
    """The tutorial's ``weights_init``."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
        nn.init.zeros_(layer.bias)


class UpsampleNet(nn.Module):
    """Nearest upsampling and convolutions, LeakyReLU, no norm at all."""

    def __init__(self, latent_dim: int = 128, widths: tuple[int, ...] = (40, 32, 16)) -> None:
        super().__init__()
        self.start = nn.Linear(latent_dim, widths[0] * 49)
        self.conv1 = nn.Conv2d(widths[0], widths[1], 3, padding=1)
        self.conv2 = nn.Conv2d(widths[1], widths[2], 3, padding=1)
        self.conv3 = nn.Conv2d(widths[2], 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = functional.leaky_relu(self.start(z), 0.2).view(z.size(0), -1, 7, 7)
        x = functional.leaky_relu(self.conv1(functional.interpolate(x, scale_factor=2)), 0.2)
        x = functional.leaky_relu(self.conv2(functional.interpolate(x, scale_factor=2)), 0.2)
        return torch.tanh(self.conv3(x))


class UpBlock(nn.Module):
    """Two convolutions beside a shortcut, twice the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        self.shortcut = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.shortcut(x)


class ResNetGenerator(nn.Module):
    """Residual blocks, as in SNGAN."""

    def __init__(self, latent_dim: int = 64, widths: tuple[int, ...] = (48, 28, 16)) -> None:
        super().__init__()
        self.dense = nn.Linear(latent_dim, widths[0] * 7 * 7)
        self.width = widths[0]
        self.blocks = nn.ModuleList(UpBlock(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.norm, self.last = nn.BatchNorm2d(widths[-1]), nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.dense(z).view(-1, self.width, 7, 7)
        for block in self.blocks:
            x = block(x)
        return torch.tanh(self.last(torch.relu(self.norm(x))))


class MLPGenerator(nn.Module):
    """The MLP of the PyTorch-GAN collection, with the epsilon of 0.8 that stands there where a momentum was meant."""

    def __init__(self, latent_dim: int = 100, widths: tuple[int, ...] = (128, 256, 384), size: int = 28) -> None:
        super().__init__()
        self.size = size

        def block(inputs: int, outputs: int, normalize: bool = True) -> list[nn.Module]:
            layers: list[nn.Module] = [nn.Linear(inputs, outputs)]
            if normalize:
                layers.append(nn.BatchNorm1d(outputs, 0.8))
            return [*layers, nn.LeakyReLU(0.2, inplace=True)]

        self.model = nn.Sequential(
            *block(latent_dim, widths[0], normalize=False),
            *block(widths[0], widths[1]),
            *block(widths[1], widths[2]),
            nn.Linear(widths[2], size * size),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.model(z).view(z.size(0), 1, self.size, self.size)


class StyleNet(nn.Module):
    """A mapping network, a learned constant, and AdaIN after each convolution."""

    def __init__(self, latent_dim: int = 64, widths: tuple[int, ...] = (48, 32, 16), side: int = 7) -> None:
        super().__init__()
        self.mapping = nn.Sequential(
            nn.Linear(latent_dim, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64)
        )
        self.const = nn.Parameter(torch.randn(1, widths[0], side, side))
        inputs = (widths[0], *widths)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(inputs, widths, strict=False))
        self.affines = nn.ModuleList(nn.Linear(64, 2 * width) for width in widths)
        self.to_grey = nn.Conv2d(widths[-1], 1, 1)
        for layer in self.modules():  # else styles hardly vary at first, and many latents share one sample for good
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, 0.2)

    def forward(self, z: Tensor) -> Tensor:
        w = self.mapping(z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8))
        x = self.const.expand(z.size(0), -1, -1, -1)
        for index, (conv, affine) in enumerate(zip(self.convs, self.affines, strict=True)):
            if index:
                x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = functional.instance_norm(functional.leaky_relu(conv(x), 0.2))
            scale, shift = affine(w).unsqueeze(2).unsqueeze(3).chunk(2, dim=1)
            x = x * (1 + scale) + shift
        return torch.tanh(self.to_grey(x))


class VAEDecoder(nn.Module):
    """Dense layers and transposed convolutions with SiLU, a sigmoid at the end: [0, 1]."""

    def __init__(self, latent_dim: int = 16, hidden: int = 192, width: int = 24) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(latent_dim, hidden), nn.Linear(hidden, width * 7 * 7)
        self.deconv1 = nn.ConvTranspose2d(width, 16, 4, stride=2, padding=1)
        self.deconv2 = nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = functional.silu(self.fc2(functional.silu(self.fc1(z))))
        x = functional.silu(self.deconv1(x.view(z.size(0), -1, 7, 7)))
        return torch.sigmoid(self.deconv2(x))


class DenseDecoder(nn.Module):
    """The decoder of PyTorch's example of a VAE: two dense layers, one ReLU, a sigmoid."""

    def __init__(self, latent_dim: int = 20, hidden: int = 400) -> None:
        super().__init__()
        self.fc3, self.fc4 = nn.Linear(latent_dim, hidden), nn.Linear(hidden, 784)

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.fc4(functional.relu(self.fc3(z)))).view(z.size(0), 1, 28, 28)


class ClampedDCGAN(nn.Module):
    """ReLU6 and clamps between transposed convolutions, for a phone; a large latent."""

    def __init__(self, latent_dim: int = 256, width: int = 24) -> None:
        super().__init__()
        self.inner = nn.Linear(latent_dim, width * 49, bias=False)
        self.bn0, self.act = nn.BatchNorm2d(width), nn.ReLU6()
        self.up1 = nn.ConvTranspose2d(width, width, 4, 2, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.up2 = nn.ConvTranspose2d(width, 1, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.act(self.bn0(self.inner(z).view(z.size(0), -1, 7, 7)))
        x = self.bn1(self.up1(x)).clamp(0.0, 4.0)
        return self.up2(x).tanh()


def critic(
    channels: int,
    widths: tuple[int, ...],
    cells: int,
    *,
    slope: float = 0.2,
    norm: bool = False,
    spectral: bool = False,
) -> nn.Module:
    """A discriminator of strided convolutions down to ``cells`` a side, ``widths`` of them: ``[n, 1]`` logits."""

    def wrap(layer: nn.Module) -> nn.Module:
        return spectral_norm(layer) if spectral else layer

    layers: list[nn.Module] = []
    for index, width in enumerate(widths):
        layers.append(wrap(nn.Conv2d(channels, width, 4, 2, 1, bias=not norm or not index)))
        if norm and index:
            layers.append(nn.BatchNorm2d(width))
        layers.append(nn.LeakyReLU(slope, inplace=True))
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), wrap(nn.Linear(channels * cells**2, 1)))


class SpreadCritic(nn.Module):
    """A critic whose last layer sees how much the pictures of a batch differ, as those of style networks do."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((1, *widths), widths, strict=False):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.trunk, self.last = nn.Sequential(*layers), nn.Linear(widths[-1] * 9 + 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trunk(x).flatten(1)
        spread = (x.var(0, unbiased=False) + 1e-8).sqrt().mean()
        return self.last(torch.cat([x, spread.expand(len(x), 1)], dim=1))


def mlp_critic() -> nn.Module:
    """The discriminator of the PyTorch-GAN collection, narrower."""
    layers = [nn.Flatten(), nn.Linear(784, 256), nn.LeakyReLU(0.2), nn.Dropout(0.2), nn.Linear(256, 128)]
    return nn.Sequential(*layers, nn.LeakyReLU(0.2), nn.Linear(128, 1))


def vae_encoder() -> nn.Module:
    """Pictures to means and log variances of the latents."""
    layers = [nn.Conv2d(1, 16, 4, 2, 1), nn.SiLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.SiLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(32 * 49, 128), nn.SiLU(), nn.Linear(128, 32))


def dense_encoder(latent_dim: int = 20) -> nn.Module:
    """The encoder of PyTorch's example of a VAE."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 2 * latent_dim))


@lru_cache
def garments() -> Tensor:
    return data.fashion_mnist().x


@lru_cache
def digits() -> Tensor:
    return data.digits(28).x


@lru_cache
def faces(size: int) -> Tensor:
    return data.faces(8_000 if size == 32 else 3_000, size=size).x


@dataclass(frozen=True)
class Recipe:
    """How a family trains: Adam with rates that fall to zero over the second half, and its losses.

    ``loss`` is ``"logistic"``, ``"hinge"`` or ``"elbo"`` (a VAE); ``real_label`` smooths that of real pictures;
    ``penalty`` weighs the squared gradient on real pictures, every eighth step; ``average`` is the decay of a running
    average of the weights (0: none). A seed takes one of the ``lengths``.
    """

    iterations: int
    batch_size: int = 32
    rate: float = 1e-3
    critic_rate: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)
    loss: str = "logistic"
    real_label: float = 1.0
    weight_decay: float = 0.0
    penalty: float = 0.0
    average: float = 0.0
    lengths: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class Family:
    """A kind of generator, its opponent (or encoder), its data ``[N, C, H, W]`` in [-1, 1] and its recipe."""

    build: Callable[[], nn.Module]
    opponent: Callable[[], nn.Module]
    real: Callable[[], Tensor]
    latent_dim: int
    recipe: Recipe
    prior: str = "gaussian"
    output: str = "tanh"
    latent_axes: int = 0  # further axes of a latent, of size 1

    def latents(self, n: int, random: torch.Generator) -> Tensor:
        """``n`` latents as the network reads them."""
        shape = (n, self.latent_dim)
        z = torch.randn(shape, generator=random)
        if self.prior == "uniform":
            z = torch.rand(shape, generator=random) * 2 - 1
        return self.shaped(z)

    def shaped(self, z: Tensor) -> Tensor:
        """Latents ``[n, d]`` as the network reads them."""
        return z.view(*z.shape, *[1] * self.latent_axes)


FAMILIES: dict[str, Family] = {
    "dcgan28": Family(
        GarmentDCGAN,
        lambda: critic(1, (24, 48), 7, slope=0.1, norm=True),
        garments,
        64,
        Recipe(1_800, rate=1.5e-3, critic_rate=1e-3, real_label=0.9, weight_decay=1e-5, average=0.99),
    ),
    "dcgan32": Family(
        ColourDCGAN,
        lambda: critic(3, (16, 32, 64), 4, norm=True),
        lambda: faces(32),
        32,
        Recipe(1_800, rate=2e-3, critic_rate=1.5e-3, average=0.99),
        prior="uniform",
    ),
    "tutorial": Family(
        TutorialDCGAN,
        lambda: critic(3, (8, 16, 32, 64), 4, norm=True),
        lambda: faces(64),
        100,
        Recipe(1_800, batch_size=16, rate=1e-3, critic_rate=1e-3),
        latent_axes=2,
    ),
    "upsample": Family(
        UpsampleNet,
        lambda: critic(1, (16, 32, 64), 3),
        garments,
        128,
        Recipe(1_800, rate=1e-3, critic_rate=1e-3, betas=(0.0, 0.99), loss="hinge", penalty=1.0, average=0.99),
    ),
    "resnet": Family(
        ResNetGenerator,
        lambda: critic(1, (24, 48, 96), 3, slope=0.1, spectral=True),
        garments,
        64,
        Recipe(1_000, rate=1e-3, critic_rate=2e-3, betas=(0.0, 0.9), loss="hinge", average=0.99),
    ),
    "mlp": Family(MLPGenerator, mlp_critic, digits, 100, Recipe(4_000, batch_size=64, rate=5e-4, critic_rate=5e-4)),
    "style": Family(
        StyleNet,
        SpreadCritic,
        garments,
        64,
        Recipe(1_500, rate=2e-3, critic_rate=2e-3, betas=(0.0, 0.99), penalty=0.1, average=0.99),
    ),
    "vae": Family(
        VAEDecoder,
        vae_encoder,
        garments,
        16,
        Recipe(3_000, batch_size=64, rate=1e-3, betas=(0.9, 0.999), loss="elbo"),
        output="sigmoid",
    ),
    "ema": Family(
        ClampedDCGAN,
        lambda: critic(1, (24, 48), 7, norm=True),
        garments,
        256,
        Recipe(2_000, rate=2e-3, critic_rate=1e-3, average=0.998, lengths=(1.0, 0.5, 1.5)),
    ),
}
# dense networks of garments, added when users met false alarms; no limit was set with a look at them
DENSE: dict[str, Family] = {
    "dense-vae": Family(
        DenseDecoder,
        dense_encoder,
        garments,
        20,
        Recipe(3_000, batch_size=128, betas=(0.9, 0.999), loss="elbo", lengths=(1.0, 0.5, 2.0)),
        output="sigmoid",
    ),
    "dense-vae-64": Family(  # more numbers than it needs: most of them end up without a say, as in many a VAE
        lambda: DenseDecoder(64),
        lambda: dense_encoder(64),
        garments,
        64,
        Recipe(3_000, batch_size=128, betas=(0.9, 0.999), loss="elbo", lengths=(1.0, 0.5, 2.0)),
        output="sigmoid",
    ),
    "dense-gan": Family(
        lambda: MLPGenerator(widths=(128, 256, 512)),
        mlp_critic,
        garments,
        100,
        Recipe(4_000, batch_size=64, rate=2e-4, critic_rate=2e-4, lengths=(1.0, 0.5, 1.5)),
    ),
}
FAMILIES |= DENSE


def train(
    family: Family,
    seed: int,
    *,
    iterations: int | None = None,
    start: tuple[nn.Module, nn.Module] | None = None,
    share: float = 1.0,
    extra: Extra | None = None,
) -> tuple[nn.Module, nn.Module]:
    """A generator and its opponent, trained from weights drawn by ``seed``, or on from ``start``, in eval mode.

    ``share`` is that of the learning rates; ``extra(generator)`` adds to the generator's loss.
    """
    recipe = family.recipe
    steps = iterations or round(recipe.iterations * recipe.lengths[seed % len(recipe.lengths)])
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    generator, opponent = start if start is not None else (family.build(), family.opponent())
    parts = [(generator, recipe.rate * share), (opponent, recipe.critic_rate * share)]
    for network, _ in parts:
        network.train().requires_grad_(True).to(memory_format=torch.channels_last)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=rate, betas=recipe.betas, weight_decay=recipe.weight_decay)
        for network, rate in parts
    ]
    falling = [
        torch.optim.lr_scheduler.LambdaLR(one, lambda step: min(1.0, 2 * (steps - step) / steps)) for one in optimizers
    ]
    average = copy.deepcopy(generator).requires_grad_(False)
    real = family.real()
    step_of = vae_step if recipe.loss == "elbo" else gan_step
    for step in range(1, steps + 1):
        batch = real[torch.randint(len(real), (recipe.batch_size,), generator=random)]
        step_of(family, generator, opponent, optimizers, batch, random, step, extra)
        for schedule in falling:
            schedule.step()
        if recipe.average:
            with torch.no_grad():
                keep = min(recipe.average, step / (step + 10))
                for kept, new in zip(average.state_dict().values(), generator.state_dict().values(), strict=True):
                    kept.lerp_(new, 1 - keep) if kept.is_floating_point() else kept.copy_(new)
    return (average if recipe.average else generator).eval(), opponent.eval()


def gan_step(
    family: Family,
    generator: nn.Module,
    opponent: nn.Module,
    optimizers: list[torch.optim.Adam],
    batch: Tensor,
    random: torch.Generator,
    step: int,
    extra: Extra | None,
) -> None:
    """One step of each side; the same fakes serve both."""
    recipe = family.recipe
    fake = generator(family.latents(len(batch), random))
    penalised = bool(recipe.penalty) and step % 8 == 0
    on_real, on_fake = opponent(batch.requires_grad_(penalised)), opponent(fake.detach())
    if recipe.loss == "hinge":
        loss = torch.relu(1 - on_real).mean() + torch.relu(1 + on_fake).mean()
    else:
        labels = torch.full_like(on_real, recipe.real_label)
        loss = functional.binary_cross_entropy_with_logits(on_real, labels) + functional.softplus(on_fake).mean()
    if penalised:
        (slope,) = torch.autograd.grad(on_real.sum(), batch, create_graph=True)
        loss = loss + 8 * recipe.penalty * slope.square().flatten(1).sum(1).mean()
    optimizers[1].zero_grad()
    loss.backward()
    optimizers[1].step()
    opponent.requires_grad_(False)
    judged = opponent(fake)
    opponent.requires_grad_(True)
    wanted = -judged.mean() if recipe.loss == "hinge" else functional.softplus(-judged).mean()
    if extra is not None:
        wanted = wanted + extra(generator)
    optimizers[0].zero_grad()
    wanted.backward()
    optimizers[0].step()


def vae_step(
    family: Family,
    decoder: nn.Module,
    encoder: nn.Module,
    optimizers: list[torch.optim.Adam],
    batch: Tensor,
    random: torch.Generator,
    step: int,
    extra: Extra | None,
) -> None:
    """One step of both networks on the evidence bound: nats a picture."""
    mean, log_variance = encoder(batch).chunk(2, dim=1)
    z = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=random)
    drawn = functional.binary_cross_entropy(decoder(z), (batch + 1) / 2, reduction="sum")
    divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum() / 2
    loss = (drawn + divergence) / len(batch)
    if extra is not None:
        loss = loss + extra(decoder)
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
