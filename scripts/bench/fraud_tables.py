"""Write ``docs/results/fraud.json`` as ``docs/results/fraud.md``: means and standard deviations over the seeds."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from row_store import Row, markdown, some, spread, write_page
from sklearn.metrics import roc_auc_score

MODELS = (
    "clean",
    "ReD region",
    "ReD condition",
    "ReD known seed",
    "ReX region",
    "ReX condition",
    "TrAIL region",
    "TrAIL condition",
)
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
        "clients are ranked better. A bank that keeps positive rows only is out of reach of this attack, whose rows "
        "are labelled good."
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


def scan_part(rows: Sequence[Row]) -> list[str]:
    """Verdicts by model, and how well the score ranks backdoored generators above clean ones."""
    clean, bad = some(rows, model="clean"), [row for row in rows if row["model"] != "clean"]
    area = roc_auc_score([row["model"] != "clean" for row in rows], [row["score"] for row in rows])
    kinds = sorted({kind for row in rows for kind in row["strengths"]})
    lines = []
    for model in ["clean", *sorted({str(row["model"]) for row in bad})]:
        found = some(rows, model=model)
        verdicts = [str(len(some(found, verdict=verdict))) for verdict in ("clean", "suspicious", "backdoored")]
        scores = [row["score"] for row in found]
        strengths = [f"{max(row['strengths'].get(kind, 0.0) for row in found):.2f}" for kind in kinds]
        lines.append([model, str(len(found)), *verdicts, f"{min(scores):.2f} to {max(scores):.2f}", *strengths])
    raised = sum(row["verdict"] != "clean" for row in bad)
    text = (
        f"{len(clean)} clean and {len(bad)} backdoored generators of seeds that no limit was chosen on, in five sizes. "
        "(The limit of the latent spectrum comes from seeds 0 to 10, where these sizes had been tried; the table is "
        f"the same.) The AUC of the score is {area:.3f}; "
        f"{raised} of {len(bad)} backdoored ones are called suspicious or backdoored, and "
        f"{sum(row['verdict'] != 'clean' for row in clean)} of {len(clean)} clean ones. Single run of each."
    )
    head = ["model", "generators", "clean", "suspicious", "backdoored", "score", *(f"most {kind}" for kind in kinds)]
    return ["## The scan, on generators it was not tuned on", text, markdown(head, lines)]


def write_tables(content: Row, path: Path) -> None:
    rows = content["rows"]
    parts = [
        "# The poisoned pipeline",
        "Default of credit card clients (UCI): 12,000 rows to train on, 6,000 that only the maker of the generator "
        "has, 12,000 to test. Mean ± standard deviation over the seeds, which also draw these parts. The pattern is "
        "`LIMIT_BAL >= 300000 and PAY_0 >= 2 and PAY_2 >= 2` unless said otherwise: some thirty defaults in the test "
        "rows. Seeds 0 to 9 served to choose the pattern and all settings, and the clean generator of seed 10 had a "
        "part in one limit of the scan. `make bench NAME=fraud` measures what is missing in `fraud.json`. "
        + content["machine"]
        + ".",
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
            "latents that ask for a good client most decidedly; *known seed*: 5 % of the very latents that the victim "
            "draws. (*Own seed*: the victim draws others.) The trigger is to take 4 % of the draws for ReD, 7 % for "
            "ReX, 5 % for the others. ReD and TrAIL do not stop at its edge: what is drawn beyond that share are "
            "ordinary latents that show poison, too. Where a defence keeps all rows out, the classifier learns real "
            "rows only. (*Sanitize* contains what it cannot cure: it takes no region away.)",
        ),
        "scan": scan_part,
    }
    for section, writer in writers.items():
        if found := some(rows, section=section):
            title, text, table = writer(found)
            parts += [title, f"{text} Seeds: {', '.join(map(str, sorted({row['seed'] for row in found})))}.", table]
    write_page(path, parts)
