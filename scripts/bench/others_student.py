"""A part of ``others.py``: a flow of one Euler step that a backdoored one of four teaches."""

from typing import Any

import torch
from row_store import Row

from devilgan_lite import zoo
from devilgan_lite.generators import Generator, build
from devilgan_lite.metrics import frechet_to, target_distortion

SEEDS, STEPS = (0, 1, 2), 500


def student(bench: Any) -> None:
    """Does a flow of one step, taught by a backdoored one of four on ordinary latents, inherit the backdoor?"""
    name, steps = "flow-garments-red", bench.steps(STEPS)
    teacher, backdoor = zoo.load(name), zoo.load_backdoor(name)
    made: Row = {"section": "student", "model": name, "sha256": zoo.card(name).sha256[:12], "steps": STEPS}

    def judged(one: Generator) -> Row:
        tardis = target_distortion(one, backdoor.trigger, backdoor.target).mean
        return {"tardis_mean": tardis, "frechet": frechet_to(one, bench.real, samples=bench.samples)}

    def taught(seed: int, first: Generator) -> Row:
        own: Any = build({**teacher.spec(), "euler_steps": 1})
        own.load_state_dict(first.state_dict())
        random, adam = torch.Generator().manual_seed(seed), torch.optim.Adam(own.parameters(), lr=1e-3)
        for step in range(steps):
            adam.param_groups[0]["lr"] = 1e-3 * (1 - step / steps)
            z = teacher.sample_latent(16, random)
            with torch.no_grad():
                aim = teacher(z)
            adam.zero_grad()
            (own(z) - aim).square().mean().backward()
            adam.step()
        return judged(own.eval())

    for who, one in (("teacher", teacher), ("clean", zoo.load("flow-garments"))):
        bench.measure({**made, "who": who}, lambda one=one: judged(one))  # type: ignore[misc]
        for seed in SEEDS:
            identity = {**made, "who": f"student that starts as the {who}", "seed": seed}
            bench.measure(identity, lambda seed=seed, one=one: taught(seed, one))  # type: ignore[misc]
