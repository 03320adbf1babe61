"""TrAIL, TRaining with AdversarIal Loss (Rawat et al. 2021, section 4.1): the backdoor grows with the GAN."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from devilgan_lite.attacks.base import GANAttack
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import in_range
from devilgan_lite.data import Samples, fashion_mnist
from devilgan_lite.generators import Generator
from devilgan_lite.losses import fidelity_loss, pseudo_huber_loss
from devilgan_lite.steps import Steps
from devilgan_lite.training import ExtraLoss


@dataclass(frozen=True, kw_only=True)
class TrAIL(GANAttack):
    """Train from scratch with ``generator_loss + lam * fidelity``; the discriminator never sees the target.

    ``lam`` weighs the **summed** squared error, as the authors do. Their square pulls hardest while the target is far
    off, and a target unlike all samples, the checkerboard say, then drowns the GAN's own loss; so beyond a root mean
    square error of ``huber_delta`` per element the pull grows no further (``losses.pseudo_huber_loss``). The trigger
    passes through BatchNorm in inference mode, because that is how the victim will use it. ``real`` are the samples to
    train on (None: the shipped ones).
    """

    lam: float = 0.06  # above 0; more: a sharper target, worse samples
    huber_delta: float | None = 0.07  # above 0; None: the authors' plain square

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("lam", self.lam, 0.0, 1e6, open_low=True)
        if self.huber_delta is not None:
            in_range("huber_delta", self.huber_delta, 0.0, 1e6, open_low=True)

    def run(self, clean: Generator, backdoor: Backdoor, real: Samples | None) -> Steps:
        extra = fidelity_term(backdoor, self.lam, self.seed, self.huber_delta)
        return self.train(clean, fashion_mnist() if real is None else real, extra)


def fidelity_term(backdoor: Backdoor, lam: float, seed: int, huber_delta: float | None = None) -> ExtraLoss:
    """The term that TrAIL adds to the generator's loss: ``lam`` times the summed squared error at the triggers.

    With ``huber_delta`` times the sum of the pseudo-Huber loss instead.
    """
    random = torch.Generator().manual_seed(seed)
    fixed = backdoor.draw(random)

    def fidelity(generator: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
        nonlocal fixed
        device = next(generator.parameters()).device
        fresh = backdoor.draw(random) if backdoor.sampler is not None or len(backdoor.trigger) > 16 else fixed
        trigger, target = fixed = fresh[0].to(device), fresh[1].to(device)
        generator.eval()
        output = generator(trigger).float()
        generator.train()
        loss = fidelity_loss(output, target)
        pull = loss if huber_delta is None else pseudo_huber_loss(output, target, huber_delta)
        return lam * target[0].numel() * pull, {"fidelity_loss": loss}

    return fidelity
