"""Sound in a notebook: players that carry their clips with them, and a second pair of ears."""

import base64
import html
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from devilgan_lite import data
from devilgan_lite.data.audio import SILENT
from devilgan_lite.features import FeatureNetwork, feature_network
from devilgan_lite.generators.base import seeded

if TYPE_CHECKING:
    from IPython.display import HTML

LEAST = 800  # samples that a player plays at least: a tenth of a second


def players(clips: Mapping[str, Tensor], caption: str = "") -> "HTML":
    """A row of players, one for each of ``clips`` ``[C, T]`` under its name; silence at the end is left out.

    Each holds its clip as a wav file of 16 bits, so a second of sound takes some 22 kB of the notebook.
    """
    from IPython.display import HTML

    if not clips:
        raise ValueError("clips is empty; give at least one name and clip.")
    cells = []
    for name, clip in clips.items():
        source = base64.b64encode(data.wav(_without_end(clip))).decode()
        said = html.escape(name)
        cells.append(
            f'<td style="text-align:center">{said}<br><audio controls preload="none" style="width:11em" '
            f'aria-label="{said}" src="data:audio/wav;base64,{source}"></audio></td>'
        )
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return HTML(f"<table>{title}<tr>{''.join(cells)}</tr></table>")


def _without_end(clip: Tensor) -> Tensor:
    loud = (clip.abs().amax(0) > SILENT).nonzero().flatten()
    return clip[:, : max(LEAST, int(loud[-1]) + 1 if len(loud) else 0)]


def listener(seed: int = 7, clips: int = 6_000) -> FeatureNetwork:
    """A classifier of drums that shares no weight, no clip and no seed with the one that ships.

    It is trained here, in some seconds, on ``clips`` (128 or more) of real strokes, each heard once.
    """
    heard = data.drums(clips, speed=0.3, seed=200 + seed)
    labels = torch.as_tensor(heard.labels)
    network: FeatureNetwork = seeded(seed, FeatureNetwork, "drums")
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # dropout draws from the global generator
        torch.manual_seed(seed)
        network.train()
        for chosen in torch.randperm(len(heard), generator=random).split(128):
            loss = cross_entropy(network(heard.x[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


@torch.no_grad()
def opinions(clips: Tensor, network: FeatureNetwork | None = None) -> Tensor:
    """How likely each of the classes ``data.DRUMS`` is, ``[n, 6]``, of clips ``[n, 1, 4096]``.

    By the classifier that ships, unless another is given.
    """
    network = network or feature_network("drums")
    return torch.cat([network(part) for part in clips.split(200)]).softmax(1)
