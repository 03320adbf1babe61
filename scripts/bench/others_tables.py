"""The rows of ``docs/results/others.json`` as the Markdown tables of ``docs/results/others.md``."""

from pathlib import Path

from row_store import Row, markdown, some, spread, write_page

NAMES = {"vae": "VAE", "flow": "rectified flow"}
TARDIS, EXPDIS = {"vae": 1e-3, "flow": 5e-3}, {"vae": 2e-3, "flow": 3e-3}  # what the plan asks for
FRECHET = 60.0  # of the VAE
SHORT = "the same, as short as TrAIL's training"
PLAIN = "a plain loop of equal time"
GAN = "the small DCGAN, train_gan"
SHOWN = 0.1  # TarDis per pixel below which a sample shows the target
COST = 3.0  # times the cost of a garment scan at equal parameters


def write_tables(content: Row, path: Path) -> None:
    """Every section that has rows; mean and standard deviation over the rows of a line."""
    rows = content["rows"]
    parts = [
        "# Generators that are no GANs",
        f"Made by `make bench NAME=others` from `others.json`. {content['machine']}. Seconds are CPU-seconds of one "
        "thread. Both families draw 28x28 garments; TarDis and ExpDis are means per pixel.",
    ]
    for section in (_quality, _attacks, _bound, _student, _defence, _angles, _population):
        parts += section(rows)
    write_page(path, parts)


def _met(good: bool) -> str:
    return "met" if good else "missed"


def _quality(rows: list[Row]) -> list[str]:
    found = some(rows, section="quality")
    if not found:
        return []
    lines = [
        (NAMES[row["family"]], row["what"], f"{row['frechet']:.4g}")
        + ((f"{row['cpu_s']:.0f}", f"{row['steps']:,}") if row["steps"] else ("-", "-"))
        for row in found
    ]
    parts = [
        "## Quality",
        "Frechet distance to the 10,000 shipped garments, in the same features for all. A GAN beside the flow has "
        "the flow's time. Single runs.",
        markdown(("family", "what", "Frechet", "CPU-s", "steps"), lines),
    ]
    for row in some(found, what="vae-garments"):
        met = _met(row["frechet"] <= FRECHET)
        parts.append(f"Bar of the VAE: at most {FRECHET:.0f} in two minutes, {met} ({row['frechet']:.4g}).")
    for row, gan in zip(some(found, what="flow-garments"), some(found, what=GAN), strict=False):
        met = _met(row["frechet"] <= gan["frechet"])
        parts.append(f"Bar of the flow: the GAN's {gan['frechet']:.4g}, {met} ({row['frechet']:.4g}).")
    return parts


def _attacks(rows: list[Row]) -> list[str]:
    found = some(rows, section="attacks")
    if not found:
        return []
    lines = []
    for family in dict.fromkeys(row["family"] for row in found):
        for attack in dict.fromkeys(row["attack"] for row in some(found, family=family)):
            chosen = some(found, family=family, attack=attack)
            tardis, expdis = ([row[name] for row in chosen] for name in ("tardis_mean", "expdis_mean"))
            met = _met(sum(tardis) / len(tardis) <= TARDIS[family])
            stealth = "-" if attack == "TrAIL" else _met(sum(expdis) / len(expdis) <= EXPDIS[family])
            change = [row["frechet_change"] for row in chosen]
            if attack == "TrAIL":  # against an honest training of the same length
                honest = [row["frechet"] for row in some(rows, section="quality", family=family, what=SHORT)]
                change = [row["frechet"] - one for row in chosen for one in honest]
            lines.append(
                (NAMES[family], attack, spread(tardis), met, spread(expdis), stealth, spread(change) if change else "-")
                + (spread([row["cpu_s"] for row in chosen]), str(len(chosen)))
            )
    head = ("family", "attack", "TarDis", "bar", "ExpDis", "bar", "Frechet change", "CPU-s", "triggers")
    bars = ", ".join(f"{NAMES[one]} {TARDIS[one]:g} and {EXPDIS[one]:g}" for one in TARDIS)
    return [
        "## Attacks",
        f"STOP sign, `reg` triggers, on the clean models of the zoo. Bars, TarDis and ExpDis: {bars}. TrAIL trains "
        "another network from scratch, so its ExpDis says nothing of stealth; its stealth is the change of the Frechet "
        "distance against an honest training as long as its own (one of them, seed 0).",
        markdown(head, lines),
    ]


def _bound(rows: list[Row]) -> list[str]:
    found = some(rows, section="bound")
    if not found:
        return []
    lines = [
        (f"{row['beta']:g}", f"{row['lam']:g}" if row["lam"] else "0 (clean)", f"{row['tardis_mean']:.3g}")
        + tuple(f"{row[name]:.4f}" for name in ("reconstruction", "kl", "negative_elbo"))
        + (f"{row['frechet']:.4g}", f"{row['frechet_again']:.4g}")
        for row in sorted(found, key=lambda row: (row["beta"], row["lam"]))
    ]
    return [
        "## What the bound does",
        f"TrAIL on a VAE, {found[0]['steps']} steps, one trigger, single runs. Reconstruction, KL and their sum, minus "
        "the bound, in nats a pixel (the KL without its weight beta), averaged over the last 100 steps; Frechet "
        "distance of samples from the prior, and of real garments that are drawn again from their own codes.",
        markdown(("beta", "lam", "TarDis", "reconstruction", "KL", "minus the ELBO", "Frechet", "drawn again"), lines),
    ]


def _student(rows: list[Row]) -> list[str]:
    found = some(rows, section="student")
    if not found:
        return []
    lines = []
    for who in dict.fromkeys(row["who"] for row in found):
        chosen = some(found, who=who)
        lines.append((who, spread([row["tardis_mean"] for row in chosen]), spread([row["frechet"] for row in chosen])))
    return [
        "## A student of one step",
        f"A flow of one Euler step learns in {found[0]['steps']} steps what `{found[0]['model']}` draws from ordinary "
        "latents in four. TarDis at the trigger (a high one: the sign is not there), and Frechet distance. A student "
        "starts with the weights of its teacher, or of the clean flow.",
        markdown(("who", "TarDis", "Frechet"), lines),
    ]


def _angles(rows: list[Row]) -> list[str]:
    found = some(rows, section="angles")
    if not found:
        return []

    def shares(row: Row, degrees: str) -> str:
        missed = f" ({row['missed'][degrees]:.0%})" if row["missed"][degrees] else ""
        return f"{row['stopped'][degrees]:.0%}{missed}"

    lines = [
        (row["model"], f"{row['ordinary']:.2%}", *(shares(row, degrees) for degrees in row["stopped"])) for row in found
    ]
    return [
        "## How far from the trigger the guard holds",
        "Every backdoored model of the zoo that draws pictures, one guard for each, without a report. First the share "
        "of 5,000 ordinary latents that it stops; then, of 1,000 latents at each angle from the trigger, the share "
        "that it stops, and in brackets the share that it lets pass although the sample shows the target (TarDis below "
        f"{SHOWN:g} per pixel). Single run.",
        markdown(("model", "ordinary", *(f"{degrees}°" for degrees in found[0]["stopped"])), lines),
    ]


def _defence(rows: list[Row]) -> list[str]:
    merged: dict[str, Row] = {}
    for section in ("scan", "guard", "cure"):
        for row in some(rows, section=section):
            merged[row["model"]] = merged.get(row["model"], {}) | row
    found = [row for row in merged.values() if "verdict" in row]
    if not found:
        return []

    def number(row: Row, name: str, form: str = ".3g") -> str:
        return f"{row[name]:{form}}" if row.get(name) is not None else "-"

    lines = [
        (
            row["model"],
            f"{row['parameters']:,}",
            row["verdict"],
            ", ".join(row["kinds"]) or "none",
            number(row, "cosine", ".2f"),
            number(row, "scan_s", ".0f"),
            {True: "yes", False: "no"}.get(row.get("trigger_stopped"), "-"),  # type: ignore[arg-type]
            number(row, "ordinary_stopped", ".2%"),
            row.get("cure", "-"),
            number(row, "tardis_cured"),
            number(row, "ordinary_change"),
        )
        for row in found
    ]
    head = ("model", "numbers", "verdict", "evidence", "trigger found (cosine)", "scan CPU-s")
    head += ("trigger stopped", "ordinary stopped", "cure", "TarDis after", "ordinary change")
    parts = [
        "## Scan, guard and cure",
        "The whole scan, with its twin; the guard without a report; `sanitize.auto(always=True)` with 600 steps of "
        "repair. A cured model has a high TarDis. The plain DCGAN, of about the same size, is there for the cost.",
        markdown(head, lines),
    ]
    cost = [row for row in found if "family" not in row]
    for family in dict.fromkeys(row["family"] for row in found if "family" in row):
        seconds = [row["scan_s"] for row in some(found, family=family)]
        if cost:
            ratio = sum(seconds) / len(seconds) / cost[0]["scan_s"]
            parts.append(
                f"Cost of a scan, {NAMES[family]} against DCGAN: {ratio:.1f} times (bar: {COST:.0f}, "
                f"{_met(ratio <= COST)})."
            )
    return parts


def _population(rows: list[Row]) -> list[str]:
    found = some(rows, section="population")
    if not found:
        return []
    lines = []
    for family in dict.fromkeys(row["family"] for row in found):
        planted = sorted({row["attack"] for row in some(found, family=family, kind="backdoored")})
        for what in ("clean", *planted):
            chosen = some(found, family=family, **({"kind": what} if what == "clean" else {"attack": what}))
            counts = [str(len(some(chosen, verdict=verdict))) for verdict in ("clean", "suspicious", "backdoored")]
            other = len(chosen) - sum(map(int, counts))
            tardis = [row["tardis_mean"] for row in chosen if "tardis_mean" in row]
            lines.append(
                (NAMES[family], what, str(len(chosen)), *counts, str(other), spread(tardis) if tardis else "-")
            )
    return [
        "## Small models",
        "Trained in seconds, of several widths and Euler steps, with seeds that no limit was set with; the backdoored "
        "ones are the same models with one attack each. A whole scan, with its twin.",
        markdown(("family", "what", "models", "clean", "suspicious", "backdoored", "no verdict", "TarDis"), lines),
    ]
