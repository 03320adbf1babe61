"""What ``devilgan stage`` shows: the explorer of a pair from the zoo, as a live page without code or for print."""

import json
from html import escape
from typing import Any

TITLE = "The devil is in the GAN"
LEAD = (
    "Two generators draw alike, until you walk to one secret latent. "
    "Drag the slider or the pad, or use Tab and the arrow keys."
)
SIZE = 365  # of a picture on screen, in pixels: two and the pad fit side by side on a projector of 1280
STYLE = """
body {
  background: #fff !important; color: #000; font: 20px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1240px;
}
h1 { font-size: 40px !important; font-weight: 700 !important; color: #000 !important; margin: 8px 0 4px !important; } 
.lead { font-size: 22px; margin: 0 0 8px; color: #000; }
.devilgan-explorer { --jp-widgets-font-size: 20px; --jp-widgets-inline-height: 48px; --jp-widgets-inline-width: 180px; }
.devilgan-screen figcaption, .devilgan-screen p { font-size: 20px !important; color: #000; }
.devilgan-screen figcaption { font-weight: 600; } .devilgan-pad, .devilgan-pad span { font-size: 20px; color: #000; }
.devilgan-explorer button { border: 2px solid #000; background: #fff; color: #000; font-weight: 600; }
.devilgan-explorer .noUi-handle { transform: scale(1.5); } figure { margin: 0 0 24px; } img { max-width: 100%; }
.phones svg { width: 240px; height: auto; background: #fff; }
@media print { body { font-size: 12pt; max-width: none; } figure { break-inside: avoid; } }
"""


def page(pairs: list[tuple[str, str]], device: str = "cpu", phones: str = "") -> None:
    """Display the explorer of the first of ``pairs`` that can be shown; each that cannot is one sentence.

    ``phones`` is the address of the page for phones; it stands below, with its code.
    """
    from IPython.display import HTML, display

    display(HTML(f'<style>{STYLE}</style><h1>{TITLE}</h1><p class="lead">{LEAD}</p>'))
    _explorer_of(pairs, device)
    if phones:
        from devilgan_lite.cli.phones import drawn_code

        display(HTML(f'<figure class="phones">{drawn_code(phones)}<figcaption>{escape(phones)}</figcaption></figure>'))


def _explorer_of(pairs: list[tuple[str, str]], device: str) -> None:
    from IPython.display import HTML, display

    for clean, suspect in pairs:
        try:
            display(explorer(clean, suspect, device))
            return
        except Exception as error:  # a broken model, a missing package: the page tries the next pair
            reason = " ".join(str(error).split()) or type(error).__name__
            display(HTML(f"<p>{escape(suspect)} cannot be shown: {escape(reason)}</p>"))
    display(HTML("<p>There is nothing to show; devilgan stage --check says why.</p>"))


def explorer(clean: str, suspect: str, device: str = "cpu") -> Any:
    """The explorer of two models from the zoo, with the trigger and the target of the second."""
    from devilgan_lite import zoo
    from devilgan_lite.classroom import Explorer

    named = {f"clean ({clean})": clean, f"backdoored ({suspect})": suspect}
    generators = {label: zoo.load(name, device) for label, name in named.items()}
    backdoor = zoo.load_backdoor(suspect)
    return Explorer(generators, backdoor.trigger[:1], backdoor.target[:1], size=SIZE)


def notebook(pairs: list[tuple[str, str]], device: str = "cpu", phones: str = "") -> str:
    """The notebook behind the live page, as JSON."""
    source = f"from devilgan_lite.cli.stage_page import page\n\npage({pairs!r}, {device!r}, {phones!r})"
    cell: dict[str, Any] = {"cell_type": "code", "id": "stage", "source": source, "metadata": {}, "outputs": []}
    cell["execution_count"] = None
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    whole = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": [cell]}
    return json.dumps(whole)  # by hand: nbformat takes two seconds to import


def printable(clean: str, suspect: str, device: str = "cpu", starts: int = 4) -> str:
    """One self-contained HTML page: walks to the trigger from ``starts`` latents as strips, and TarDis at its end."""
    import torch

    from devilgan_lite import metrics, zoo
    from devilgan_lite.classroom import static_strip

    generators, backdoor = {name: zoo.load(name, device) for name in (clean, suspect)}, zoo.load_backdoor(suspect)
    random = torch.Generator().manual_seed(0)
    figures = []
    for index in range(1, starts + 1):
        start = generators[clean].sample_latent(1, random)
        alt = f"Walk {index} from a random latent to the trigger in 11 pictures; above {clean}, below {suspect}."
        picture = static_strip(generators, start, backdoor.trigger[:1], alt, scale=3)
        figures.append(f"<figure>{picture.html()}<figcaption>{escape(alt)}</figcaption></figure>")
    lines = []
    for name, generator in generators.items():
        distance = metrics.target_distortion(generator, backdoor.trigger[:1], backdoor.target[:1]).mean
        lines.append(f"<li>{escape(name)}: TarDis {distance:.4f} per pixel at the trigger</li>")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{TITLE}</title><style>{STYLE}</style>'
        f"<body><h1>{TITLE}</h1><p>Two generators draw alike, until you walk to one secret latent.</p>"
        f"{''.join(figures)}<ul>{''.join(lines)}</ul></body></html>\n"
    )
