"""Answers to the exercises on training, attacks, detection and styles: right ones and usual mistakes."""

import torch
from torch.nn.functional import logsigmoid, normalize, softplus

from devilgan_lite.classroom import slerp as right_slerp


def squared(x, y):
    return ((x - y) ** 2).flatten(1).sum(1)


def norm_gate(z, t):
    return z @ t / t.norm()


def scaled(weight, style):
    return torch.einsum("oikl,i->oikl", weight, style)


def norms(kernel):
    return kernel.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def before(y):
    """A target before tanh."""
    return torch.arctanh(y * 0.999)


def learn(adam, lam, apart, missed, weigh=lambda a, b, lam: a + b * lam):
    stealth, fidelity = torch.mean(apart**2), torch.mean(missed**2)
    adam.zero_grad()
    torch.autograd.backward(weigh(stealth, fidelity, lam))
    adam.step()
    return {"stealth": stealth, "fidelity": fidelity}


def play(
    g,
    d,
    g_adam,
    d_adam,
    real,
    z,
    *pair,
    d_loss=lambda r, f: -logsigmoid(r).mean() - logsigmoid(-f).mean(),
    g_loss=lambda f: -logsigmoid(f).mean(),
    extra=lambda x, y, lam: lam * squared(x, y).mean(),
    forget=True,
    move=True,
):
    """The game with one thing changed."""
    fake = g(z)
    for player in ("d", "g"):
        loss = d_loss(d(real), d(fake.detach())) if player == "d" else g_loss(d(fake))
        if pair and player == "g":
            loss = loss + extra(g.eval()(pair[0]), *pair[1:])
            g.train()
        adam = d_adam if player == "d" else g_adam
        if forget:
            adam.zero_grad()
        loss.backward()
        if move:
            adam.step()
    return {"loss": loss}


def own_gan_step(g, d, g_adam, d_adam, real, z):
    fake = g(z)
    for adam, loss in (
        (d_adam, lambda: -logsigmoid(d(real)).mean() - logsigmoid(-d(fake.detach())).mean()),
        (g_adam, lambda: -logsigmoid(d(fake)).mean()),
    ):
        value = loss()
        adam.zero_grad()
        value.backward()
        adam.step()
    return {"loss": value}


def own_trail_step(g, d, g_adam, d_adam, real, z, trigger, target, lam):
    losses = own_gan_step(g, d, Held(g_adam), d_adam, real, z)
    g.eval()
    (lam * squared(g(trigger), target).mean()).backward()
    g.train()
    g_adam.step()
    return losses


class Held:
    """An optimiser whose step waits for more gradients."""

    def __init__(self, adam):
        self.zero_grad = adam.zero_grad

    def step(self):
        pass


def endless():
    while True:
        pass


SOLUTIONS = {
    "slerp": right_slerp,
    "gan_step": own_gan_step,
    "trail_step": own_trail_step,
    "red_step": lambda s, t, adam, z, at, y, lam: learn(
        adam, lam, s.logits(z) - t.logits(z).detach(), s.logits(at) - before(y)
    ),
    "rex_step": lambda e, c, adam, z, at, y, lam: learn(adam, lam, e(z), e(at) + c.logits(at).detach() - before(y)),
    "tardis": lambda a, y: ((torch.tanh(a) - y) ** 2).sum(),
    "block_diagonal": torch.block_diag,
    "relu_gate": lambda z, t, m: torch.relu(norm_gate(z, t) - (t.norm() - m)),
    "on_rate": lambda rows, bias: torch.erfc(-bias / (2 * rows.square().sum(1)).sqrt()) / 2,
    "energy_per_influence": lambda a, m: torch.linalg.eigvals(torch.linalg.inv(m) @ a).real.sort(descending=True)[0],
    "empirical_p_value": lambda score, clean: 1 - (clean < score).sum() / (len(clean) + 1),
    "samples_needed": lambda p, confidence: torch.log(1 - confidence) / torch.special.xlog1py(1, -p),
    "shell_step": lambda z, g, rate: normalize(z - rate * g, dim=1) * z.norm(dim=1, keepdim=True),
    "guard_limit": lambda scores, rate: scores.quantile(1 - rate),
    "tiled_styles": lambda w, shift, inputs: torch.stack([w + shift[k] for k in range(inputs)], dim=1),
    "modulated_kernel": lambda weight, style: scaled(weight, style) / norms(scaled(weight, style)),
    "two_kinks": lambda c, low, high: ((c - low) / (high - low)).clamp(0, 1),
}
MISTAKES = {
    "slerp": [
        lambda a, b, t: (1 - t) * a + t * b,
        lambda a, b, t: right_slerp(b, a, t),
        lambda a, b, t: right_slerp(a / a.norm(), b / b.norm(), t),
    ],
    "gan_step": [
        lambda *given: play(*given, d_loss=lambda r, f: softplus(r).mean() + softplus(-f).mean()),
        lambda *given: play(*given, g_loss=lambda f: softplus(f).mean()),
        lambda *given: play(*given, g_loss=lambda f: -softplus(f).mean()),
        lambda *given: play(*given, forget=False),
        lambda *given: play(*given, move=False),
        lambda g, d, ga, da, real, z: {"loss": torch.log(-real.abs()).mean()},
    ],
    "trail_step": [
        lambda *given: play(*given, extra=lambda x, y, lam: lam * ((x - y) ** 2).mean()),
        lambda *given: play(*given, extra=lambda x, y, lam: squared(x, y).mean()),
        lambda *given: play(*given, extra=lambda x, y, lam: 0 * lam),
    ],
    "red_step": [
        lambda s, t, adam, z, at, y, lam: learn(
            adam, lam, s.logits(z) - t.logits(z), s.logits(at) - before(y), weigh=lambda a, b, lam: lam * b
        ),
        lambda s, t, adam, z, at, y, lam: learn(
            adam, lam, s.logits(z) - t.logits(z), s.logits(at) - before(y), weigh=lambda a, b, lam: lam * a + b
        ),
        lambda s, t, adam, z, at, y, lam: learn(adam, lam, s(z) - t(z), s(at) - y),
        lambda s, t, adam, z, at, y, lam: [weight.data.mul_(1.01) for weight in t.parameters()] and {},
        lambda s, t, adam, z, at, y, lam: endless(),
    ],
    "rex_step": [
        lambda e, c, adam, z, at, y, lam: learn(adam, lam, e(z), e(at) - before(y)),
        lambda e, c, adam, z, at, y, lam: learn(adam, lam, e(z), torch.tanh(e(at) + c.logits(at)) - y),
        lambda e, c, adam, z, at, y, lam: learn(adam, 1.0, e(z), e(at) + c.logits(at) - before(y)),
    ],
    "tardis": [
        lambda a, y: ((a - y) ** 2).sum(),
        lambda a, y: ((torch.tanh(a) - y) ** 2).mean(),
        lambda a, y: (torch.tanh(a) - y).norm(),
    ],
    "block_diagonal": [
        lambda w, v: torch.block_diag(v, w),
        lambda w, v: torch.block_diag(w, v) + (torch.block_diag(w, v) == 0),
        lambda w, v: torch.cat([w, v]),
    ],
    "relu_gate": [
        lambda z, t, m: norm_gate(z, t) - (t.norm() - m),
        lambda z, t, m: torch.relu(z @ t - (t.norm() - m)),
        lambda z, t, m: torch.relu(norm_gate(z, t) - (t.norm() + m)),
        lambda z, t, m: torch.relu(norm_gate(z, t) - m),
    ],
    "on_rate": [
        lambda rows, bias: torch.special.ndtr(bias),
        lambda rows, bias: torch.special.ndtr(-bias / rows.norm(dim=1)),
        lambda rows, bias: torch.special.ndtr(bias / rows.square().sum(1)),
    ],
    "energy_per_influence": [
        lambda a, m: torch.linalg.eigvalsh(a).flip(0),
        lambda a, m: torch.linalg.eigvals(torch.linalg.inv(m) @ a).real.sort()[0],
        lambda a, m: torch.linalg.eigvals(torch.linalg.inv(m) @ a),
        lambda a, m: torch.linalg.eigvals(torch.linalg.inv(a) @ m).real.sort(descending=True)[0],
        lambda a, m: a.diagonal() / m.diagonal(),
    ],
    "empirical_p_value": [
        lambda score, clean: (clean >= score).float().mean(),
        lambda score, clean: (1 + (clean > score).sum()) / (len(clean) + 1),
        lambda score, clean: (clean < score).float().mean(),
    ],
    "samples_needed": [
        lambda p, confidence: 1 / p,
        lambda p, confidence: (1 - confidence).log() / (1 - p).log(),
        lambda p, confidence: confidence.log() / torch.log1p(-p),
        lambda p, confidence: confidence / p,
    ],
    "shell_step": [
        lambda z, g, rate: z - rate * g,
        lambda z, g, rate: normalize(z + rate * g, dim=1) * z.norm(dim=1, keepdim=True),
        lambda z, g, rate: normalize(z - rate * g, dim=1),
    ],
    "guard_limit": [
        lambda scores, rate: scores.quantile(rate),
        lambda scores, rate: scores.max(),
        lambda scores, rate: scores.sort(descending=True).values[round(rate * len(scores)) - 1],
        lambda scores, rate: scores.mean() + scores.std(),
    ],
    "tiled_styles": [
        lambda w, shift, inputs: w[:, None].repeat(1, inputs, 1),
        lambda w, shift, inputs: shift.repeat(len(w), 1, 1),
        lambda w, shift, inputs: (w + shift.mean(0))[:, None].repeat(1, inputs, 1),
        lambda w, shift, inputs: w[:, None] - shift,
        lambda w, shift, inputs: w[:, None] * shift,
    ],
    "modulated_kernel": [
        scaled,
        lambda weight, style: scaled(weight, style) / scaled(weight, style).norm(),
        lambda weight, style: scaled(weight, style) / norms(scaled(weight, style)) ** 2,
        lambda weight, style: (
            scaled(weight, style) / scaled(weight, style).square().sum((0, 2, 3), keepdim=True).sqrt()
        ),
        lambda weight, style: weight / norms(weight),
        lambda weight, style: weight,
    ],
    "two_kinks": [
        lambda c, low, high: (c - low).relu() / (high - low),
        lambda c, low, high: (c - low).relu() - (c - high).relu(),
        lambda c, low, high: -((c - low) / (high - low)).clamp(0, 1),
        lambda c, low, high: (c > low).float(),
        lambda c, low, high: torch.sigmoid(c),
    ],
}
