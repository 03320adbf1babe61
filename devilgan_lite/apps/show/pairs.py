"""Which two models are shown, from where to where they walk, and the pages that show them. Choosing needs no torch."""

import contextlib
from html import escape
from typing import TYPE_CHECKING

from devilgan_lite import shipped
from devilgan_lite.checks import cut, one_of
from devilgan_lite.loading import load_pair

if TYPE_CHECKING:
    from torch import Tensor

    from devilgan_lite.apps.show.phone import Pages
    from devilgan_lite.generators import Generator

SHOWN = ("images", "")  # the modality on a card, which cards from before that do not have
FILMED = (*SHOWN, "audio")
CANDIDATES = 256  # latents from which the ends of a film of garments are chosen: few samples are clear in a small GAN
SURE = 0.95  # probability of its class from which a garment is recognised
TITLE = "The devil is in the GAN"
STYLE = """
body { background: #fff; color: #000; font: 20px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1240px; }
h1 { font-size: 40px; font-weight: 700; margin: 8px 0 4px; }
figure { margin: 0 0 24px; } img { max-width: 100%; }
@media print { body { font-size: 12pt; max-width: none; } figure { break-inside: avoid; } }
"""


def cards() -> dict[str, shipped.ModelCard]:
    """The model cards of the zoo by name."""
    return {path.stem: shipped.read_card(path) for path in sorted(shipped.zoo_folder().glob("*.json"))}


def pairs(modalities: tuple[str, ...] = SHOWN) -> list[tuple[str, str]]:
    """(clean, backdoored) names in the zoo, the best for a stage first: colour before grey, ReX before others.

    Only those of these ``modalities``: a stage draws pictures, a film can also show sound (``FILMED``).
    """
    known = cards()

    def rank(pair: tuple[str, str]) -> tuple[bool, bool, str]:
        card = known[pair[1]]
        return card.spec.get("image_channels") != 3, card.settings.get("attack") != "ReX", pair[1]

    suspects = [name for name, card in known.items() if card.backdoor and card.modality in modalities]
    both = [(str(known[name].settings.get("clean")), name) for name in suspects]
    return sorted((pair for pair in both if pair[0] in known), key=rank)


def wanted(model: str, modalities: tuple[str, ...] = SHOWN) -> list[tuple[str, str]]:
    """(clean, backdoored) names, the pair of ``model`` first; the others follow in case it cannot be shown."""
    both = pairs(modalities)
    if not both:
        raise ValueError("the zoo has no backdoored model with its clean one; run devilgan stage --check.")
    if model:
        one_of("model", model, [suspect for _, suspect in both])
    return sorted(both, key=lambda pair: pair[1] != model) if model else both


def film_ends(clean: "Generator", seed: int) -> tuple["Tensor", "Tensor"]:
    """The ordinary latents ``[1, d]`` at both ends of a film; of garments, two kinds that anybody recognises."""
    import torch

    from devilgan_lite.features import readable
    from devilgan_lite.generators import evaluate

    random = torch.Generator().manual_seed(seed)
    if readable("fashion", clean.sample_shape):
        z = clean.sample_latent(CANDIDATES, random)
        order, classes = recognised(evaluate(clean, z))
        others = order[classes[order] != classes[order[:1]]]
        if len(others):
            return z[order[:1]], z[others[:1]]
    return clean.sample_latent(1, random), clean.sample_latent(1, random)


def recognised(garments: "Tensor") -> tuple["Tensor", "Tensor"]:
    """Which of ``garments`` ``[n, 1, 28, 28]`` are recognised: their indices, clearest first; and the class of each.

    The most likely class must be as probable as ``SURE``. That alone lets shreds pass, so garments are in the order of
    their distance to real ones: the mean of the features' distances to the nearest five of 2,000.
    """
    import torch

    from devilgan_lite.data import fashion_mnist
    from devilgan_lite.features import feature_network, features_and_classes

    features, classes = features_and_classes(garments)
    real, _ = features_and_classes(fashion_mnist().x[:2_000])
    sure = feature_network().head(features.float()).softmax(dim=1).amax(dim=1) >= SURE
    order = torch.cdist(features, real).topk(5, largest=False).values.mean(dim=1).argsort()
    return order[sure[order]], classes


def prepared(pair: tuple[str, str]) -> "Pages":
    """The pages of (clean, backdoored): names in the zoo, or files."""
    from devilgan_lite.apps.show.phone import Pages

    return Pages(*load_pair(pair), names=pair)


def first_prepared(choices: list[tuple[str, str]]) -> tuple["Pages", str]:
    """The pages of the first of some pairs that can be shown, and a sentence on each before it.

    If there is none, the error of the last.
    """
    notices = list[str]()
    for pair in choices[:-1]:
        try:
            return prepared(pair), " ".join(notices)
        except Exception as error:  # a broken model, a missing package: the next pair is tried
            reason = " ".join(cut(word, 120) for word in str(error).split()) or type(error).__name__
            notices.append(f"{cut(pair[1])} cannot be shown: {reason}")
    return prepared(choices[-1]), " ".join(notices)


def for_phones(pages: "Pages", others: list[tuple[str, str]]) -> tuple[str, str]:
    """The page of ``pages``, or of the first of ``others`` that fits a phone; and a sentence where it is another."""
    try:
        return pages.phone(vote=True), ""
    except ValueError as error:
        reason = str(error)
    for pair in others:
        with contextlib.suppress(ValueError, OSError, ImportError):
            return prepared(pair).phone(vote=True), f"Phones get {pair[0]} and {pair[1]}, because {reason}"
    raise ValueError(reason)


def printable(clean: str, suspect: str, device: str = "cpu", starts: int = 4) -> str:
    """One self-contained HTML page: walks to the trigger from ``starts`` latents as strips, and TarDis at its end."""
    import torch

    from devilgan_lite import metrics
    from devilgan_lite.apps.walk import static_strip

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
