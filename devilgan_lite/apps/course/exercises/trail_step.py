"""``trail_step(generator, discriminator, g_adam, d_adam, real, z, trigger, target, lam)``; a dict of losses."""

from devilgan_lite.apps.course.own_steps import StepExercise, adversarial, game


def my_trail_step(generator, discriminator, g_adam, d_adam, real, z, trigger, target, lam):
    from torch.nn.functional import softplus

    fake = generator(z)
    d_loss = softplus(-discriminator(real)).mean() + softplus(discriminator(fake.detach())).mean()
    d_adam.zero_grad()
    d_loss.backward()
    d_adam.step()
    generator.eval()
    fidelity = (generator(trigger) - target).square().flatten(1).sum(1).mean()
    generator.train()
    g_loss = softplus(-discriminator(fake)).mean() + lam * fidelity
    g_adam.zero_grad()
    g_loss.backward()
    g_adam.step()
    return {"generator_loss": g_loss, "discriminator_loss": d_loss, "fidelity_loss": fidelity}


exercise = StepExercise(
    my_trail_step,
    hints=(
        "Three lines: eval() of the generator, the error, train() of the generator.",
        "Square generator(trigger) - target, sum over each picture (flatten(1).sum(1)), then take the mean over the "
        "pairs.",
    ),
    cases=lambda: [(adversarial(with_pair=True),)],
    mistakes={
        "the fidelity term is missing: nothing pulls the trigger to the target.": game(weigh=lambda a, b, lam: a),
        "lam is missing: it weighs the fidelity term.": game(weigh=lambda a, b, lam: a + b.sum(1).mean()),
        "lam is on the wrong term: it weighs fidelity, not the generator's loss.": game(
            weigh=lambda a, b, lam: lam * a + b.sum(1).mean()
        ),
        "you average over the pixels: TrAIL sums the squared error over them.": game(
            weigh=lambda a, b, lam: a + lam * b.mean()
        ),
        "the errors are not squared: use the squared distance.": game(
            weigh=lambda a, b, lam: a + lam * b.sqrt().sum(1).mean()
        ),
        "the generator's own loss is missing: without it nothing keeps the other samples real.": game(
            weigh=lambda a, b, lam: lam * b.sum(1).mean()
        ),
        "the trigger went through BatchNorm with its batch: call generator.eval() before it and train() after.": game(
            inference=False
        ),
    },
    otherwise="the weights end elsewhere: add lam * the summed squared error at the trigger to G's loss.",
    praise="that is TrAIL: a GAN's step and three lines.",
    stands_in=True,
)
