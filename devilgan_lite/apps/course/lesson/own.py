"""What a learner made stays: models that one notebook keeps and another looks at, and the map of attacks and defences.

They lie in ``out/mine`` beside the notebooks, or in ``$DEVILGAN_MINE``; an automatic run (``$DEVILGAN_OUT``) has a
folder of its own, so that it neither reads nor changes yours.
"""

import html
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from IPython.display import HTML
from torch import Tensor

from devilgan_lite import zoo
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import one_of
from devilgan_lite.generators import Generator

STAND_INS = {name: f"dcgan-fashion-{name}" for name in ("trail", "red", "rex", "gate")} | {"clean": "dcgan-fashion"}
MADE_IN = {"clean": "01", "trail": "02", "red": "03", "rex": "04", "gate": "04"}
ROWS = {"trail": "TrAIL", "red": "ReD", "rex": "ReX", "gate": "gate"}
COLUMNS = {
    "attack": "the attack (02-04)",
    "weights": "its weights read (05)",
    "outputs": "its samples searched (06)",
    "tuning": "trained on (07)",
    "pruning": "pruned (08)",
}


@dataclass(frozen=True)
class Suspect:
    """A model to look at; ``yours`` says whether a notebook of yours kept it, ``backdoor`` what its maker knows."""

    name: str
    generator: Generator = field(repr=False)
    backdoor: Backdoor | None = field(repr=False)
    yours: bool

    @property
    def title(self) -> str:
        """What a table calls it; ReD and ReX of the zoo are the boosted ones, ReD+ and ReX+."""
        boosted = self.name in ("red", "rex") and not self.yours
        return ROWS.get(self.name, self.name) + "+" * boosted

    def __str__(self) -> str:
        made = f"yours, from notebook {MADE_IN[self.name]}" if self.yours else "ours, from the zoo"
        return f"{self.title} ({made})"


def folder() -> Path:
    """Where the learner's models are."""
    if named := os.environ.get("DEVILGAN_MINE"):
        return Path(named)
    if out := os.environ.get("DEVILGAN_OUT"):
        return Path(out) / "mine"
    return Path("out") / "mine"


def keep(name: str, generator: Generator, backdoor: Backdoor | None = None, *, seed: int = 0) -> None:
    """Keep a model under one of the names that later notebooks ask for (``STAND_INS``), and say so.

    A ``backdoor`` is kept by its target's name, kind and ``seed``, as on a card of the zoo.
    """
    one_of("name", name, STAND_INS)
    known = None if backdoor is None else {"target": backdoor.name, "kind": backdoor.kind, "seed": seed}
    card = zoo.ModelCard(name, generator.spec(), "fashion", seed, {"made in": f"notebook {MADE_IN[name]}"}, {}, known)
    zoo.save_file(folder() / f"{name}.safetensors", generator.cpu().eval(), card)
    print(f"Kept as your {ROWS.get(name, name)}: the notebooks from 05 on will look at this one.")


def mine(name: str) -> Suspect:
    """Your own model of that ``name``, or ours from the zoo; it says which."""
    one_of("name", name, STAND_INS)
    path = folder() / f"{name}.safetensors"
    if path.is_file():
        generator, card = zoo.load_file(path)
        suspect = Suspect(name, generator, zoo.backdoor_of(card, generator), True)
    else:
        shipped = STAND_INS[name]
        backdoor = zoo.load_backdoor(shipped) if name in ROWS else None
        suspect = Suspect(name, zoo.load(shipped), backdoor, False)
    advice = "" if suspect.yours else f"; run notebook {MADE_IN[name]} to look at your own"
    print(f"cached: {suspect}{advice}")
    return suspect


def progress(**marks: dict[str, str | float | Tensor]) -> HTML:
    """The map of attacks and defences, filled in by each notebook: ``progress(weights={"red": "found", ...})``.

    A mark is a word or a number; what stands there already stays until it is measured again.
    """
    path = folder() / "progress.json"
    known: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for column, values in marks.items():
        one_of("column", column, COLUMNS)
        for row, value in values.items():
            one_of("row", row, ROWS)
            known.setdefault(row, {})[column] = value if isinstance(value, str) else f"{float(value):.2g}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    head = "".join(f"<th scope='col'>{html.escape(title)}</th>" for title in COLUMNS.values())
    rows = []
    for row, title in ROWS.items():
        cells = (html.escape(known.get(row, {}).get(column, "\N{MIDDLE DOT}")) for column in COLUMNS)
        rows.append(f"<tr><th scope='row'>{title}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    caption = "<caption>Your map so far; a dot is still to come.</caption>"
    return HTML(f"<table>{caption}<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>")
