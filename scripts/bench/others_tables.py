"""The rows of ``docs/results/others.json`` as the page ``docs/results/others.md``."""

from pathlib import Path

from page import sections, where, write_page
from row_store import Row

NAMES = {"vae": "VAE", "flow": "rectified flow"}
SHORT = "the same, as short as TrAIL's training"
PLAIN = "a plain loop of equal time"
GAN = "the small DCGAN, train_gan"
SHOWN = 0.1  # TarDis per pixel below which a sample shows the target
BARS = {  # what the plan asks for
    "tardis": {"vae": 1e-3, "flow": 5e-3},
    "expdis": {"vae": 2e-3, "flow": 3e-3},
    "frechet": 60.0,  # of the VAE
    "cost": 3.0,  # times the cost of a garment scan at equal parameters
}


def write_tables(content: Row, path: Path) -> None:
    """Write every section that has rows; mean and standard deviation over the rows of a line."""
    found = sections({**row, "name": NAMES.get(row.get("family"), "-")} for row in content["rows"])
    honest = {row["family"]: row["frechet"] for row in where(found["quality"], what=SHORT)}
    attacks = [
        row | {"frechet_change": row["frechet"] - honest[row["family"]] if row["family"] in honest else None}
        if row["attack"] == "TrAIL"  # against an honest training of the same length
        else row
        for row in found["attacks"]
    ]
    defended: dict[str, Row] = {}
    for row in (*found["scan"], *found["guard"], *found["cure"]):
        defended[row["model"]] = defended.get(row["model"], {}) | row
    planted = [row | {"what": row["attack"] if row["kind"] == "backdoored" else "clean"} for row in found["population"]]
    write_page(
        path,
        content,
        found=found,
        attacks=attacks,
        defended=[row for row in defended.values() if "verdict" in row],
        by_kind=planted,
        gan=GAN,
        bars=BARS,
        names=NAMES,
        shown=SHOWN,
    )
