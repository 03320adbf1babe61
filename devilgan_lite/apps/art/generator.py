"""``PyTorchGenerator``: any ``nn.Module`` from latents to samples as an ART estimator."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
import torch
from art.estimators.generation.generator import GeneratorMixin
from art.estimators.pytorch import PyTorchEstimator
from torch import Tensor, nn

from devilgan_lite import generators
from devilgan_lite.apps.art.ranges import (
    Range,
    Reading,
    changes_nothing,
    check_module,
    clip_range,
    modes_kept,
    plain,
    read,
    to_ours,
    to_theirs,
)
from devilgan_lite.checks import latent_size, whole_number


class PyTorchGenerator(GeneratorMixin, PyTorchEstimator):
    """The counterpart of ART's ``TensorFlowV2Generator``, with the same arguments and a ``device_type``.

    ``model``, of float32 weights, maps latents ``[n, encoding_length]`` (or ``[n, encoding_length, 1, 1]``: whichever
    it reads) to samples ``[n, ...]``. Latents are drawn from N(0, I), as in ART; a ``Generator`` of this package, which
    will do as well, draws from its own prior.
    ``clip_values`` ``(min, max)`` is the range of samples; None reads it off a last tanh or sigmoid, and without one
    takes samples to be unbounded. Preprocessing and postprocessing are refused: an attack is on the weights alone. What
    is wrong is a ``ValueError``.
    """

    estimator_params = PyTorchEstimator.estimator_params + ["encoding_length"]
    _strict = True  # False: the model came out of an attack, and may leave ``clip_values`` by a little

    def __init__(
        self,
        encoding_length: int,
        model: nn.Module,
        channels_first: bool = True,
        clip_values: Any = None,
        preprocessing_defences: Any = None,
        postprocessing_defences: Any = None,
        preprocessing: Any = (0.0, 1.0),
        device_type: str = "gpu",
    ) -> None:
        if not changes_nothing(preprocessing):
            raise ValueError("PyTorchGenerator does not support `preprocessing`; leave it at (0.0, 1.0).")
        clip_range(clip_values)  # before ART does, which takes two numbers for granted
        super().__init__(
            model=model,
            clip_values=clip_values,
            channels_first=channels_first,
            preprocessing_defences=preprocessing_defences,
            postprocessing_defences=postprocessing_defences,
            preprocessing=None,
            device_type=device_type,
        )
        self._encoding_length = encoding_length
        self._check_params()

    def _check_params(self) -> None:
        clip_values = clip_range(self._clip_values)
        super()._check_params()
        check_module(self._model)
        latent_size(self._encoding_length, "encoding_length")
        for name in ("preprocessing", "preprocessing_defences", "postprocessing_defences"):
            if getattr(self, name):
                raise ValueError(f"PyTorchGenerator does not support `{name}`.")
        self._model.to(self._device)  # as ART's classifiers do
        self._reading = read(self._model, self._encoding_length, clip_values, strict=self._strict)

    @property
    def model(self) -> nn.Module:
        """The module itself, not a copy."""
        return self._model

    @property
    def encoding_length(self) -> int:
        """The number of values in a latent."""
        return self._encoding_length

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one latent."""
        return (self._encoding_length,)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._device

    @property
    def reading(self) -> Reading:
        """What a look at the model's samples has shown: shapes and range."""
        return self._reading

    def to_ours(self, *wanted: Tensor) -> tuple[generators.Generator, Range]:
        """A ``Generator`` with a copy of the model inside, samples in [-1, 1], and the range that these stand for.

        ``wanted`` are values of an unbounded model that have to lie in that range.
        """
        return to_ours(self._model, self._reading, *wanted)

    def with_ours(self, generator: generators.Generator, values: Range) -> Self:
        """What ``to_ours`` made, attacked since, as an estimator with the settings of this one."""
        return self.with_model(to_theirs(generator, self._model, values))

    def with_model(self, model: nn.Module) -> Self:
        """An estimator of another ``model`` with the settings of this one.

        Samples may leave ``clip_values``: what an attack or a cure took its time for is not refused at its end.
        """
        made = copy.copy(self)
        made._model, made._strict = model, False
        made._check_params()
        return made

    def subject(self, device: str | torch.device | None = None) -> generators.Generator:
        """A copy of the model as the detectors see it, with the range that ``clip_values`` gives it."""
        found = generators.adopt(self._model, self._encoding_length, device=device or self._device)
        if self._reading.bounded and not isinstance(self._model, generators.Generator):
            found.span, found.bounded = (self._reading.values.low, self._reading.values.high), True
        return found

    def latents(self, name: str, z: Any) -> Tensor:
        """``z``, ``[n, encoding_length]`` or ``[n, encoding_length, 1, 1]``, as float32 on the model's device, flat.

        Anything else is a ``ValueError``.
        """
        try:
            found = torch.as_tensor(plain(z), device=self._device)
        except ValueError:
            raise ValueError(f"{name} must be an array [n, {self._encoding_length}] of latents.") from None
        if found.shape[2:] == (1, 1):
            found = found.flatten(1)
        if found.ndim != 2 or found.shape[1] != self._encoding_length or not len(found):
            raise ValueError(
                f"{name} has shape {list(found.shape)}; expected [n, {self._encoding_length}] with n of at least 1."
            )
        if not bool(torch.isfinite(found).all()):
            raise ValueError(f"{name} has values that are not finite.")
        return found

    def samples(self, name: str, x: Any) -> Tensor:
        """``x`` as float32 ``[n, *sample_shape]`` in the model's range; a single sample becomes a batch of one."""
        shape, values = self._reading.sample_shape, self._reading.values
        try:
            found = torch.as_tensor(plain(x), device=self._device)
        except ValueError:
            raise ValueError(f"{name} must be an array [n, {', '.join(map(str, shape))}] of samples.") from None
        if tuple(found.shape) == shape:
            found = found[None]
        if tuple(found.shape[1:]) != shape or not len(found):
            raise ValueError(f"{name} has shape {list(found.shape)}; expected [n, {', '.join(map(str, shape))}].")
        if not bool(torch.isfinite(found).all()):
            raise ValueError(f"{name} has values that are not finite.")
        low, high = float(found.min()), float(found.max())
        if self._reading.bounded and (low < values.low - 1e-4 or high > values.high + 1e-4):
            raise ValueError(
                f"{name} has values from {low:.3g} to {high:.3g}; samples are in [{values.low:g}, {values.high:g}]."
            )
        return found

    def predict(self, x: np.ndarray, batch_size: int = 128, training_mode: bool = False, **kwargs: Any) -> np.ndarray:
        """Samples ``[n, *sample_shape]`` of latents ``x`` ``[n, encoding_length]``.

        ``training_mode`` runs the model in training mode, in which BatchNorm changes its statistics; each part's own
        mode is put back afterwards.
        """
        whole_number("batch_size", batch_size, 1)
        z, shape = self.latents("x", x), self._reading.latent_shape
        with modes_kept(self._model), torch.no_grad():
            self._model.train(training_mode)
            made = [self._model(part.reshape(len(part), *shape)).cpu() for part in z.split(batch_size)]
        return torch.cat(made).numpy()

    def fit(self, x: np.ndarray, y: Any, batch_size: int = 128, nb_epochs: int = 10, **kwargs: Any) -> None:
        """A generator does not train alone: see ``PyTorchGAN.fit``."""
        raise NotImplementedError

    def loss_gradient(self, x: np.ndarray, y: Any, **kwargs: Any) -> np.ndarray:
        """Not there: a generator has no loss of its own."""
        raise NotImplementedError

    def get_activations(self, x: np.ndarray, layer: int | str, batch_size: int, framework: bool = False) -> np.ndarray:
        """Not there, as in ``TensorFlowV2Generator``."""
        raise NotImplementedError
