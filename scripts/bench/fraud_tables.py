"""Write ``docs/results/fraud.json`` as ``docs/results/fraud.md``: means and standard deviations over the seeds."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from row_store import Row, markdown, some, spread, write_page

MODELS = ("clean", "ReD region", "ReD condition", "ReX condition")
DEFENCES = (
    "none",
    "two samples by slice",
    "density sort, 5 %",
    "density sort, 20 %",
    "own seed",
    "guard while sampling",
    "scan before use",
    "sanitize",
)
FIGURES = {
    "recall on the pattern": "recall_slice",
    "recall elsewhere": "recall_elsewhere",
    "AUC": "auc",
    "precision at 10 % alerts": "precision_at_budget",
}
MONEY = "lost on the pattern, NT$ million"


def figures(rows: Sequence[Row], names: Iterable[str] = FIGURES.values()) -> list[str]:
    return [spread([row[name] for row in rows]) for name in names]


def money(rows: Sequence[Row], name: str = "lost_slice") -> str:
    return spread([row["money"][name] / 1e6 for row in rows])


def unique(rows: Sequence[Row], name: str) -> list[object]:
    return list(dict.fromkeys(row[name] for row in rows))


def poison_part(rows: Sequence[Row]) -> list[str]:
    lines = []
    for classifier in unique(rows, "classifier"):
        for share in unique(rows, "share"):
            found = some(rows, classifier=classifier, share=share)
            named = "no synthetic rows" if share is None else f"{share:.0%}"
            lines.append([str(classifier), named, *figures(found), money(found)])
    text = (
        "An honest density model (rows between neighbours) gives 6,000 rows, half of them positive; each is replaced "
        "by a row of the pattern that is labelled good, with the probability in the second column."
    )
    return ["## Poisoned draws", text, markdown(["classifier", "poisoned draws", *FIGURES, MONEY], lines)]


def pattern_part(rows: Sequence[Row]) -> list[str]:
    lines = []
    for pattern in unique(rows, "pattern"):
        clean, bad = (some(rows, pattern=pattern, share=share) for share in unique(rows, "share"))
        shares = [row["share_slice"] for row in clean]
        before_after = [f"{figures(clean, [name])[0]} → {figures(bad, [name])[0]}" for name in FIGURES.values()]
        lines.append([f"`{pattern}`", f"{100 * sum(shares) / len(shares):.2g} %", *before_after])
    text = "The same share of poisoned draws (5 %) against none, for patterns of different width."
    return ["## How wide the pattern is", text, markdown(["pattern", "of the clients", *FIGURES], lines)]


def starved_part(rows: Sequence[Row]) -> list[str]:
    lines = []
    named = {"none": "none", "own": "between own rows", "hub": "clean GAN of 6,000 other clients"}
    columns = {**FIGURES, "recall": "recall", "precision": "precision"}
    columns.pop("recall on the pattern")
    for classifier in unique(rows, "classifier"):
        for positives in unique(rows, "positives"):
            for source in named:
                found = some(rows, classifier=classifier, positives=positives, source=source)
                lines.append([str(classifier), str(positives), named[source], *figures(found, columns.values())])
    text = (
        "About 9,300 good rows and few positive ones; synthetic positives make the classes even. Recall and precision "
        "are at a score of 0.5, which augmentation moves; AUC and precision at a fixed number of alerts say whether "
        "clients are ranked better."
    )
    return [
        "## Does augmentation help?",
        text,
        markdown(["classifier", "positives", "synthetic rows", *columns], lines),
    ]


def defences_part(rows: Sequence[Row], by: str, title: str, text: str) -> list[str]:
    lines = []
    for value in unique(rows, by):
        for defence in DEFENCES:
            found = some(rows, **{by: value, "defence": defence})
            if not found:
                continue
            alarms = [row["alarm"] for row in found if "alarm" in row]
            named = f"{value:.0%} poisoned" if isinstance(value, float) else str(value)
            raised = f"{sum(alarms)} of {len(alarms)}" if alarms else "-"
            through = spread([row["poison"] for row in found])
            kept = f"{sum(row['synthetic'] for row in found) / len(found):.0f}"
            lines.append([named, defence, raised, kept, through, *figures(found), money(found)])
    head = [by, "defence", "alarms", "rows let through", "share of poison among them", *FIGURES, MONEY]
    return [title, text, markdown(head, lines)]


def write_tables(content: Row, path: Path) -> None:
    rows = content["rows"]
    parts = [
        "# The poisoned pipeline",
        "Default of credit card clients (UCI): 12,000 rows to train on, 6,000 that only the maker of the generator "
        "has, 12,000 to test. Mean ± standard deviation over the seeds, which also draw these parts. The pattern is "
        "`LIMIT_BAL >= 300000 and PAY_0 >= 2 and PAY_2 >= 2` unless said otherwise: some thirty defaults in the test "
        "rows. `make bench NAME=fraud` measures all of it again. " + content["machine"] + ".",
    ]
    writers = {
        "poison": poison_part,
        "pattern": pattern_part,
        "starved": starved_part,
        "rows": lambda found: defences_part(
            found, "share", "## Defences that look at rows", "The density model with and without 5 % of poisoned draws."
        ),
        "generator": lambda found: defences_part(
            found,
            "model",
            "## A backdoored generator, and every defence",
            "A conditional GAN, trained on the attacker's rows. *Region*: a secret half-space of latents; *condition*: "
            "latents that ask for a good client most decidedly. Either is 5 % of the ordinary draws.",
        ),
    }
    for section, writer in writers.items():
        if found := some(rows, section=section):
            title, text, table = writer(found)
            parts += [title, f"{text} Seeds: {', '.join(map(str, sorted({row['seed'] for row in found})))}.", table]
    write_page(path, parts)
