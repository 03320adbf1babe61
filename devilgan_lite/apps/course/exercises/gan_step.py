"""``gan_step(generator, discriminator, g_adam, d_adam, real, z)``: both players learn once; a dict of losses."""

from torch.nn.functional import softplus

from devilgan_lite.apps.course.own_steps import StepExercise, adversarial, game


def my_gan_step(generator, discriminator, g_adam, d_adam, real, z):
    from torch.nn.functional import softplus

    fake = generator(z)
    d_loss = softplus(-discriminator(real)).mean() + softplus(discriminator(fake.detach())).mean()
    d_adam.zero_grad()
    d_loss.backward()
    d_adam.step()
    g_loss = softplus(-discriminator(fake)).mean()
    g_adam.zero_grad()
    g_loss.backward()
    g_adam.step()
    return {"generator_loss": g_loss, "discriminator_loss": d_loss}


exercise = StepExercise(
    my_gan_step,
    hints=(
        "D wants real logits high and fake logits low: softplus(-discriminator(real)), softplus(discriminator(...)).",
        "Take the mean over each batch. G's loss is D's loss of real samples, with the fakes in their place.",
    ),
    cases=lambda: [(adversarial(with_pair=False),)],
    mistakes={
        "the discriminator's losses are swapped: real logits should go up, fake logits down.": game(
            lambda real, fake: softplus(real).mean() + softplus(-fake).mean()
        ),
        "the discriminator learns from real samples alone: it must see the fakes as well.": game(
            lambda real, fake: softplus(-real).mean()
        ),
        "the discriminator learns from fakes alone: it must see real samples as well.": game(
            lambda real, fake: softplus(fake).mean()
        ),
        "your sums grow with the batch: take means.": game(
            lambda real, fake: softplus(-real).sum() + softplus(fake).sum(), lambda fake: softplus(-fake).sum()
        ),
        "that generator learns to look fake: it wants its fakes to be called real.": game(
            g_loss=lambda fake: softplus(fake).mean()
        ),
        "that is the saturating -log(1 - D): its gradient dies while D wins; use -log D.": game(
            g_loss=lambda fake: -softplus(fake).mean()
        ),
    },
    otherwise="the weights end elsewhere: D learns from real and fake.detach(), then G from -log D(fake).",
    praise="both players have learnt once; now let it run.",
    stands_in=True,
)
