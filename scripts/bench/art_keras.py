"""Run an attack of the Adversarial Robustness Toolbox, with TensorFlow, for ``art.py``: one line of JSON a measurement.

    python -P art_keras.py FOLDER ATTACK LAMBDA LIMIT

Its interpreter has ART and TensorFlow and needs nothing of this project (``-P``: a script beside this one is called
art, too). FOLDER holds weights, trigger, target and latents as ``art.py`` wrote them. The attack is ART's own; only
``fidelity``, which ART calls to log its progress, also measures and ends the run.
"""

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import art
import keras
import numpy as np
import tensorflow as tf
from art.attacks.poisoning.backdoor_attack_dgm.backdoor_attack_dgm_red import BackdoorAttackDGMReDTensorFlowV2
from art.attacks.poisoning.backdoor_attack_dgm.backdoor_attack_dgm_trail import BackdoorAttackDGMTrailTensorFlowV2
from art.estimators.classification.tensorflow import TensorFlowV2Classifier
from art.estimators.gan.tensorflow import TensorFlowV2GAN
from art.estimators.generation.tensorflow import TensorFlowV2Generator
from keras import layers

EVERY = 100  # iterations of ReD between two measurements
ENDLESS = 10**9


class Arrived(Exception):
    """Near enough, or out of time."""


def norm_weights(weights: Any, name: str) -> list[np.ndarray]:
    return [weights[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]


def generator_of(weights: Any) -> Any:
    """The small DCGAN with its channels last: latents ``[n, 100]`` to pictures ``[n, 28, 28, 1]``."""
    net = keras.Sequential(
        [
            keras.Input((weights["dense.weight"].shape[1],)),
            layers.Dense(weights["dense.weight"].shape[0], use_bias=False, name="dense"),
            layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="norm0"),
            layers.ReLU(),
            layers.Reshape((weights["deconv1.weight"].shape[0], 7, 7)),
            layers.Permute((2, 3, 1)),
            layers.Conv2DTranspose(
                weights["deconv1.weight"].shape[1], 4, 2, padding="same", use_bias=False, name="deconv1"
            ),
            layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="norm1"),
            layers.ReLU(),
            layers.Conv2DTranspose(1, 4, 2, padding="same", use_bias=False, activation="tanh", name="deconv2"),
        ]
    )
    net.get_layer("dense").set_weights([weights["dense.weight"].T])
    for name in ("norm0", "norm1"):
        net.get_layer(name).set_weights(norm_weights(weights, name))
    for name in ("deconv1", "deconv2"):
        net.get_layer(name).set_weights([weights[f"{name}.weight"].transpose(2, 3, 1, 0)])
    return net


def discriminator_of(weights: Any) -> Any:
    """The discriminator that the small DCGAN is trained against: pictures to logits ``[n, 1]``."""
    width, wide = weights["layers.0.weight"].shape[0], weights["layers.2.weight"].shape[0]
    net = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(width, 4, 2, padding="same", name="0"),
            layers.LeakyReLU(0.2),
            layers.Conv2D(wide, 4, 2, padding="same", use_bias=False, name="2"),
            layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="3"),
            layers.LeakyReLU(0.2),
            layers.Flatten(),
            layers.Dense(1, name="6"),
        ]
    )
    net.get_layer("0").set_weights([weights["layers.0.weight"].transpose(2, 3, 1, 0), weights["layers.0.bias"]])
    net.get_layer("2").set_weights([weights["layers.2.weight"].transpose(2, 3, 1, 0)])
    net.get_layer("3").set_weights(norm_weights(weights, "layers.3"))
    last = weights["layers.6.weight"].reshape(wide, 7, 7).transpose(1, 2, 0).reshape(-1, 1)
    net.get_layer("6").set_weights([last, weights["layers.6.bias"]])
    return net


class Watch:
    """Measures the model every time that ART logs, and ends the run when it has arrived or its time is up."""

    def __init__(self, model: Any, given: Any, limit: float, least: int) -> None:
        self.model, self.given, self.limit, self.least = model, given, limit, least
        self.measured, self.calls = 0.0, 0
        self.benign = self.made_by(model, given["z"])
        self.start = time.process_time()

    @staticmethod
    def made_by(model: Any, z: np.ndarray) -> np.ndarray:
        parts = [model(part, training=False).numpy() for part in np.array_split(z, max(1, len(z) // 250))]
        return np.concatenate(parts)

    def look(self, iterations: int) -> None:
        begun = time.process_time()
        spent = begun - self.start - self.measured
        tardis = float(
            ((self.made_by(self.model, self.given["trigger"]) - self.given["target"]) ** 2).sum((1, 2, 3)).mean()
        )
        expdis = float(((self.made_by(self.model, self.given["z"]) - self.benign) ** 2).mean())
        print(json.dumps({"iteration": iterations, "cpu_s": spent, "tardis": tardis, "expdis": expdis}), flush=True)
        self.measured += time.process_time() - begun
        near = iterations >= self.least and tardis <= self.given["tardis"] and expdis <= self.given["expdis"]
        if near or spent >= self.limit:
            raise Arrived


def run_red(given: Any, lam: float, limit: float) -> Any:
    """ART's ReD as it comes: Adam 1e-4, batches of 32."""
    model = generator_of(given)
    check(model, None, given)
    watch = Watch(model, given, limit, 0)

    class Watched(BackdoorAttackDGMReDTensorFlowV2):
        def fidelity(self, z_trigger: np.ndarray, x_target: np.ndarray) -> Any:
            if watch.calls:  # ART logs after its first step, and after each hundredth that follows
                watch.look(watch.calls * EVERY + 1)
            watch.calls += 1
            return tf.constant(0.0)

    attack = Watched(generator=TensorFlowV2Generator(encoding_length=given["z"].shape[1], model=model))
    with contextlib.suppress(Arrived):
        attack.poison_estimator(
            given["trigger"], given["target"], batch_size=32, max_iter=ENDLESS, lambda_p=lam, verbose=EVERY
        )
    return model


def run_trail(given: Any, lam: float, limit: float) -> Any:
    """ART's TrAIL, with the optimisers, losses and weights that our training starts with; a look after each pass."""
    model, critic = generator_of(given), discriminator_of(given)
    check(model, critic, given)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    watch = Watch(model, given, limit, int(given["least"]))
    passes = -(-len(given["images"]) // 32)

    class Watched(BackdoorAttackDGMTrailTensorFlowV2):
        def fidelity(self, z_trigger: np.ndarray, x_target: np.ndarray) -> Any:
            watch.calls += 1
            watch.look(watch.calls * passes)
            return tf.constant(0.0)

    gan = TensorFlowV2GAN(
        generator=TensorFlowV2Generator(encoding_length=given["z"].shape[1], model=model),
        discriminator=TensorFlowV2Classifier(model=critic, nb_classes=2, input_shape=(28, 28, 1)),
        generator_loss=lambda made: loss(tf.ones_like(made), made),
        discriminator_loss=lambda real, made: loss(tf.ones_like(real), real) + loss(tf.zeros_like(made), made),
        generator_optimizer_fct=keras.optimizers.Adam(2e-3, beta_1=0.5, beta_2=0.999),
        discriminator_optimizer_fct=keras.optimizers.Adam(2e-3, beta_1=0.5, beta_2=0.999),
    )
    with contextlib.suppress(Arrived):
        Watched(gan=gan).poison_estimator(
            given["trigger"],
            given["target"],
            batch_size=32,
            max_iter=ENDLESS,
            lambda_p=lam,
            images=given["images"],
        )
    return model


def check(model: Any, critic: Any, given: Any) -> None:
    """The carried-over networks are the same functions, or it ends here; says which versions run."""
    off = float(np.abs(model(given["z"][:250], training=False).numpy() - given["made"]).max())
    if critic is not None:
        statistics = [np.array(weight) for weight in critic.non_trainable_weights]
        judged = critic(given["images"][:250], training=True).numpy().ravel()
        off = max(off, float(np.abs(judged - given["judged"].ravel()).max()))
        for weight, value in zip(critic.non_trainable_weights, statistics, strict=True):
            weight.assign(value)
    if off > 1e-5:
        raise SystemExit(f"what was carried over differs by {off:.1e}; at most 1e-5 is valid.")
    versions = f"ART {art.__version__}, TensorFlow {tf.__version__}, Keras {keras.__version__}"
    print(json.dumps({"off": off, "versions": versions}), flush=True)


def main(folder: Path, attack: str, lam: float, limit: float) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(0)
    with np.load(folder / f"{attack}.npz") as arrays:
        given: dict[str, Any] = dict(arrays)
    model = {"ReD": run_red, "TrAIL": run_trail}[attack](given, lam, limit)
    np.save(folder / "made.npy", Watch.made_by(model, given["fresh"]).transpose(0, 3, 1, 2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
