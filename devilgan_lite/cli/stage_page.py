"""``devilgan stage --print``: walks to the trigger on a page for paper."""

from html import escape

from devilgan_lite.cli.common import load_pair

TITLE = "The devil is in the GAN"
STYLE = """
body { background: #fff; color: #000; font: 20px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1240px; }
h1 { font-size: 40px; font-weight: 700; margin: 8px 0 4px; }
figure { margin: 0 0 24px; } img { max-width: 100%; }
@media print { body { font-size: 12pt; max-width: none; } figure { break-inside: avoid; } }
"""


def printable(clean: str, suspect: str, device: str = "cpu", starts: int = 4) -> str:
    """One self-contained HTML page: walks to the trigger from ``starts`` latents as strips, and TarDis at its end."""
    import torch

    from devilgan_lite import metrics
    from devilgan_lite.classroom import static_strip

    *both, backdoor = load_pair((clean, suspect), device)
    generators = dict(zip((clean, suspect), both, strict=True))
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
