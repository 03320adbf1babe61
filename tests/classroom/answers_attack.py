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


SOLUTIONS = {
    "slerp": right_slerp,
    "discriminator_loss": lambda r, f: -logsigmoid(r).mean() - logsigmoid(-f).mean(),
    "generator_loss": lambda f: -logsigmoid(f).mean(),
    "trail_loss": lambda f, x, y, lam: softplus(-f).mean() + lam * squared(x, y).mean(),
    "red_loss": lambda x, y, s, c, lam: lam * squared(x, y).mean() + squared(s, c).mean(),
    "tardis": lambda a, y: ((torch.tanh(a) - y) ** 2).sum(),
    "widen_linear": lambda w, v: torch.vstack([w, v]),
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
    "discriminator_loss": [
        lambda r, f: softplus(r).mean() + softplus(-f).mean(),
        lambda r, f: softplus(-r).sum() + softplus(f).sum(),
        lambda r, f: -torch.log(torch.sigmoid(r)).mean() - torch.log(1 - torch.sigmoid(f)).mean(),
        lambda r, f: softplus(-r) + softplus(f),
    ],
    "generator_loss": [
        lambda f: -softplus(f).mean(),
        lambda f: softplus(f).mean(),
        lambda f: -torch.log(torch.sigmoid(f)).mean(),
    ],
    "trail_loss": [
        lambda f, x, y, lam: softplus(-f).mean() + lam * ((x - y) ** 2).mean(),
        lambda f, x, y, lam: lam * softplus(-f).mean() + squared(x, y).mean(),
        lambda f, x, y, lam: softplus(-f).mean() + lam * ((x - y) ** 2).sum(),
    ],
    "red_loss": [
        lambda x, y, s, c, lam: lam * ((x - y) ** 2).mean() + ((s - c) ** 2).mean(),
        lambda x, y, s, c, lam: squared(x, y).mean() + lam * squared(s, c).mean(),
        lambda x, y, s, c, lam: lam * squared(x, y).mean(),
    ],
    "tardis": [
        lambda a, y: ((a - y) ** 2).sum(),
        lambda a, y: ((torch.tanh(a) - y) ** 2).mean(),
        lambda a, y: (torch.tanh(a) - y).norm(),
    ],
    "widen_linear": [lambda w, v: torch.cat([v, w]), lambda w, v: torch.cat([w, v], dim=1), lambda w, v: w],
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
