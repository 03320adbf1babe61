"""``devilgan sample``: what a generator makes, as files that other programs open."""

from pathlib import Path
from typing import Annotated

import typer

from devilgan_lite.checks import shown
from devilgan_lite.cli.common import Device, check_out, load_model


def sample(
    model: Annotated[str, typer.Argument(help="A name in the zoo, or a .safetensors file with its card.")],
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("out/samples"),
    n: Annotated[int, typer.Option("--n", min=1, max=10_000, help="How many.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of their latents.")] = 0,
    trigger: Annotated[bool, typer.Option(help="Also what the triggers of the backdoor on its card make.")] = False,
    device: Device = "cpu",
) -> None:
    """Write samples of a generator, a file each: sound as .wav, anything else as a drawing (.png)."""
    from devilgan_lite import zoo
    from devilgan_lite.generators.base import evaluate

    check_out(out / "sample", ending="")
    generator, card = load_model(model, device)
    found = {f"sample-{index}": x for index, x in enumerate(generator.sample(n, seed))}
    if trigger:
        backdoor = zoo.backdoor_of(card, generator)
        if backdoor is None:
            raise ValueError(f"model={shown(model)} has no backdoor on its card, so there is no trigger.")
        names = backdoor.name.split("+")
        found |= {f"trigger-{name}": x for name, x in zip(names, evaluate(generator, backdoor.trigger), strict=True)}
    out.mkdir(parents=True, exist_ok=True)
    ending = generator.modality.endings[0]
    for name, x in found.items():
        (out / f"{name}{ending}").write_bytes(generator.modality.file(x))
    typer.echo(f"{out}: {len(found)} files of the kind {ending}, a {generator.modality.noun} each")
