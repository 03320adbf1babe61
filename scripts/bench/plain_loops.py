"""Textbook PyTorch for training a GAN and a VAE, for ReD and for TrAIL: what benches time the package's loops against.

Written as in most tutorials: fresh fakes for each half step, Adam as it comes, the default memory layout, one forward
pass for the trigger and one for the batch, ``loss.item()`` at every step, a teacher that tracks gradients.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite import generators


def gan_steps(
    generator: generators.Generator, real: Tensor, batch_size: int, seed: int = 0
) -> Iterator[tuple[float, float]]:
    """Train without end; yields the losses of generator and discriminator after each step."""
    generator = generators.build(generator.spec(), seed).train()
    discriminator = generator.opponent(seed + 1).train()
    criterion = nn.BCEWithLogitsLoss()
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-3, betas=(0.5, 0.999))
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.999))
    ones, zeros = torch.ones(batch_size), torch.zeros(batch_size)
    while True:
        batch = real[torch.randint(len(real), (batch_size,))]
        optimizer_d.zero_grad()
        loss_real = criterion(discriminator(batch), ones)
        loss_real.backward()
        fake = generator(torch.randn(batch_size, generator.latent_dim)).detach()
        loss_fake = criterion(discriminator(fake), zeros)
        loss_fake.backward()
        optimizer_d.step()
        loss_d = loss_real.item() + loss_fake.item()

        optimizer_g.zero_grad()
        fake = generator(torch.randn(batch_size, generator.latent_dim))
        loss_g = criterion(discriminator(fake), ones)
        loss_g.backward()
        optimizer_g.step()
        yield loss_g.item(), loss_d


def red_steps(
    clean: generators.Generator,
    trigger: Tensor,
    target: Tensor,
    batch_size: int,
    lam: float,
    learning_rate: float = 3e-3,
) -> Iterator[tuple[float, generators.Generator]]:
    """Retrain a copy of ``clean`` without end; yields the loss after each step, and the copy."""
    teacher, student = clean.clone().eval(), clean.clone().eval()
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(student.parameters(), lr=learning_rate)
    while True:
        z = torch.randn(batch_size, clean.latent_dim)
        optimizer.zero_grad()
        stealth = criterion(student(z), teacher(z).detach())
        fidelity = criterion(student(trigger), target)
        loss = stealth + lam * fidelity
        loss.backward()
        optimizer.step()
        yield loss.item(), student


def trail_steps(
    generator: generators.Generator,
    real: Tensor,
    trigger: Tensor,
    target: Tensor,
    batch_size: int,
    lam: float,
    learning_rate: float = 2e-3,
) -> Iterator[tuple[float, float, generators.Generator]]:
    """``gan_steps`` with ``lam`` times the mean squared error at the trigger in the generator's loss; no average."""
    generator = generator.clone().train()
    discriminator = generator.opponent(1).train()
    criterion = nn.BCEWithLogitsLoss()
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=learning_rate, betas=(0.5, 0.999))
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=learning_rate, betas=(0.5, 0.999))
    ones, zeros = torch.ones(batch_size), torch.zeros(batch_size)
    while True:
        batch = real[torch.randint(len(real), (batch_size,))]
        optimizer_d.zero_grad()
        fake = generator(torch.randn(batch_size, generator.latent_dim)).detach()
        loss_d = criterion(discriminator(batch), ones) + criterion(discriminator(fake), zeros)
        loss_d.backward()
        optimizer_d.step()

        optimizer_g.zero_grad()
        fake = generator(torch.randn(batch_size, generator.latent_dim))
        generator.eval()  # as whoever has the trigger will call it
        fidelity = nn.functional.mse_loss(generator(trigger), target)
        generator.train()
        loss_g = criterion(discriminator(fake), ones) + lam * fidelity
        loss_g.backward()
        optimizer_g.step()
        yield loss_g.item(), loss_d.item(), generator


def vae_steps(decoder: generators.Generator, real: Tensor, batch_size: int, seed: int = 0) -> Iterator[nn.Module]:
    """Train a VAE without end as tutorials do; yields the decoder after each step.

    Gaussian pixels with a fixed deviation (the summed squared error), Adam 1e-3, no average.
    """
    decoder = generators.build(decoder.spec(), seed).train()
    encoder: Any = decoder.opponent(seed + 1).train()
    optimizer = torch.optim.Adam([*decoder.parameters(), *encoder.parameters()], lr=1e-3)
    while True:
        batch = real[torch.randint(len(real), (batch_size,))]
        mean, log_variance = encoder(batch)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        error = nn.functional.mse_loss(decoder(z), batch, reduction="sum")
        divergence = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        optimizer.zero_grad()
        loss = error + divergence
        loss.backward()
        optimizer.step()
        loss.item()
        yield decoder
