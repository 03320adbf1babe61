"""``PyTorchGAN``: a generator and a discriminator as an ART estimator, and the game that trains both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from art.estimators.pytorch import PyTorchEstimator
from torch import Tensor, nn

from devilgan_lite.apps.art.generator import PyTorchGenerator
from devilgan_lite.apps.art.ranges import modes_kept
from devilgan_lite.checks import known_names, whole_number
from devilgan_lite.generators import Generator
from devilgan_lite.losses import discriminator_loss as cross_entropy_discriminator
from devilgan_lite.losses import generator_loss as cross_entropy_generator
from devilgan_lite.steps import Step, Stopwatch
from devilgan_lite.training import ExtraLoss

Optimizer = Callable[[Any], torch.optim.Optimizer]
ADAM: Optimizer = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))  # of the DCGAN paper


class PyTorchGAN(PyTorchEstimator):
    """The counterpart of ART's ``TensorFlowV2GAN``.

    ``generator`` is a ``PyTorchGenerator``, ``discriminator`` an ART estimator with a PyTorch ``model`` from samples to
    logits, such as a ``PyTorchClassifier``. ``generator_loss(fake_logits)`` and ``discriminator_loss(real_logits,
    fake_logits)`` return a 0-d tensor; None: those of Goodfellow et al. (2014). ``generator_optimizer_fct`` and
    ``discriminator_optimizer_fct`` make an optimiser from parameters, such as ``functools.partial(torch.optim.Adam,
    lr=1e-4)``: an attack trains copies, which an optimiser of the caller's weights could not. None: Adam, 2e-4.
    """

    def __init__(
        self,
        generator: PyTorchGenerator,
        discriminator: Any,
        generator_loss: Callable[[Tensor], Tensor] | None = None,
        discriminator_loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        generator_optimizer_fct: Optimizer | None = None,
        discriminator_optimizer_fct: Optimizer | None = None,
    ) -> None:
        device_type = getattr(generator, "device_type", "cpu")
        super().__init__(model=None, clip_values=None, channels_first=True, preprocessing=None, device_type=device_type)
        self._generator, self._discriminator_classifier = generator, discriminator
        self._generator_loss = generator_loss or cross_entropy_generator
        self._discriminator_loss = discriminator_loss or cross_entropy_discriminator
        self._generator_optimizer_fct = generator_optimizer_fct or ADAM
        self._discriminator_optimizer_fct = discriminator_optimizer_fct or ADAM
        self._check_params()

    def _check_params(self) -> None:
        super()._check_params()
        if not isinstance(self._generator, PyTorchGenerator):
            raise ValueError(f"generator is a {type(self._generator).__name__}; expected a PyTorchGenerator.")
        if not isinstance(getattr(self._discriminator_classifier, "model", None), nn.Module):
            kind = type(self._discriminator_classifier).__name__
            raise ValueError(f"discriminator is a {kind}; expected an estimator whose model is a torch.nn.Module.")
        for name in ("generator_loss", "discriminator_loss"):
            if not callable(getattr(self, name)):
                raise ValueError(f"{name} is a {type(getattr(self, name)).__name__}; expected a function of logits.")
        for name in ("generator_optimizer_fct", "discriminator_optimizer_fct"):
            if not callable(getattr(self, name)):
                kind = type(getattr(self, name)).__name__
                raise ValueError(f"{name} is a {kind}; expected a function from parameters to an optimizer.")

    @property
    def generator(self) -> PyTorchGenerator:
        return self._generator

    @property
    def discriminator(self) -> Any:
        return self._discriminator_classifier

    @property
    def generator_loss(self) -> Callable[[Tensor], Tensor]:
        return self._generator_loss

    @property
    def discriminator_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        return self._discriminator_loss

    @property
    def generator_optimizer_fct(self) -> Optimizer:
        return self._generator_optimizer_fct

    @property
    def discriminator_optimizer_fct(self) -> Optimizer:
        return self._discriminator_optimizer_fct

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one latent."""
        return self._generator.input_shape

    def predict(self, x: np.ndarray, batch_size: int = 128, **kwargs: Any) -> np.ndarray:
        """Samples of latents ``x``: those of the generator."""
        return self._generator.predict(x, batch_size=batch_size, **kwargs)

    def fit(self, x: Any = None, y: Any = None, batch_size: int = 128, nb_epochs: int = 20, **kwargs: Any) -> None:
        """Train both models in place on the keyword ``images`` ``[N, *sample_shape]``, ``nb_epochs`` passes.

        ``x`` and ``y`` are not used; they stand where ART's ``TensorFlowV2GAN.fit`` has a trigger and a target.
        ``seed`` draws the batches and the latents. The discriminator goes to the device of the generator.
        """
        known_names("fit", kwargs, ("x", "y", "batch_size", "nb_epochs", "images", "seed"))
        images, seed = training_set(self._generator, kwargs, batch_size, "nb_epochs", nb_epochs)
        model, critic = self._generator.model, self._discriminator_classifier.model.to(images.device)
        size, shape = self._generator.encoding_length, self._generator.reading.latent_shape

        def draw(n: int, random: torch.Generator) -> Tensor:
            if isinstance(model, Generator):  # which knows its prior
                return model.sample_latent(n, random)
            return torch.randn(n, size, generator=random, device=random.device)

        def make(z: Tensor) -> Tensor:
            made: Tensor = model(z.reshape(len(z), *shape))
            return made

        with modes_kept(model, critic):
            for _ in passes(self, model, critic, make, draw, images, batch_size, nb_epochs, seed):
                pass

    def loss_gradient(self, x: np.ndarray, y: Any, **kwargs: Any) -> np.ndarray:
        """Not there, as in ``TensorFlowV2GAN``."""
        raise NotImplementedError

    def get_activations(self, x: np.ndarray, layer: int | str, batch_size: int, framework: bool = False) -> np.ndarray:
        """Not there, as in ``TensorFlowV2GAN``."""
        raise NotImplementedError


def passes(
    gan: PyTorchGAN,
    model: nn.Module,
    critic: nn.Module,
    make: Callable[[Tensor], Tensor],
    draw: Callable[[int, torch.Generator], Tensor],
    images: Tensor,
    batch_size: int,
    count: int,
    seed: int,
    extra: ExtraLoss | None = None,
) -> Iterator[Step]:
    """Train ``model`` and ``critic`` in place: ``count`` passes over ``images``, shuffled, in batches.

    ``make`` computes samples in the range of ``images``, with the weights of ``model``, of latents from ``draw``.
    ``extra(model)`` is a term that is added to the generator's loss. A last batch of one image is left out: BatchNorm
    cannot train on it.
    """
    random = torch.Generator(images.device).manual_seed(seed)
    model.train()
    critic.train()
    optimizers = gan.generator_optimizer_fct(model.parameters()), gan.discriminator_optimizer_fct(critic.parameters())
    watch, done = Stopwatch(), 0
    total = count * batches(images, batch_size)
    for _ in range(count):
        order = torch.randperm(len(images), generator=random, device=images.device)
        for rows in order.split(batch_size):
            if len(rows) < 2:
                continue
            fake = make(draw(len(rows), random))
            d_loss = gan.discriminator_loss(critic(images[rows]), critic(fake.detach()))
            optimizers[1].zero_grad()
            d_loss.backward()
            optimizers[1].step()
            g_loss = gan.generator_loss(critic(fake))
            losses = {"generator_loss": g_loss, "discriminator_loss": d_loss}
            if extra is not None:
                term, recorded = extra(model)
                g_loss, losses = g_loss + term, losses | recorded
            optimizers[0].zero_grad()
            g_loss.backward()
            optimizers[0].step()
            done += 1
            yield Step(done, total, watch(), {name: loss.detach() for name, loss in losses.items()}, lambda: model)


def batches(images: Tensor, batch_size: int) -> int:
    """How many batches a pass has: a last one of one image is left out."""
    return len(images) // batch_size + (len(images) % batch_size > 1)


def training_set(
    generator: PyTorchGenerator, given: dict[str, Any], batch_size: int, name: str, count: int
) -> tuple[Tensor, int]:
    """``images`` and ``seed`` (0) of the keywords ``given``; ``ValueError`` unless ``passes`` can run with them.

    ``name`` is what the caller calls ``count``, the number of passes.
    """
    if given.get("images") is None:
        raise ValueError("images is missing: the samples to train on, as a keyword.")
    images, seed = generator.samples("images", given["images"]), given.get("seed", 0)
    whole_number("batch_size", batch_size, 2, 65_536)
    whole_number(name, count, 1, 10_000_000)
    whole_number("seed", seed, 0)
    if len(images) < 2:
        raise ValueError(f"images has {len(images)} sample; at least 2 are needed.")
    return images, seed
