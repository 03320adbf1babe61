"""Every number that README.md and SECURITY.md measure, from the rows that are committed in docs/results.

    claims.py [--write] [--tour FOLDER]

A claim is a phrase of a page with ``{}`` for each number, and the values that the rows give. Checked both ways: each
phrase stands in its page with these values, and a number that belongs to no claim is one of ``PLAIN``, which measures
nothing. ``--write`` puts the values into the pages; ``--tour`` first keeps the seconds of a ``make tour`` in FOLDER.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
sys.path.insert(0, str(ROOT / "scripts" / "bench"))

import foreign_tables as strangers  # noqa: E402
from page import spread  # noqa: E402
from row_store import Row, machine, where, write_json  # noqa: E402
from sanitize_tables import COST, VERSION, is_cured  # noqa: E402

from devilgan_lite.detect.twin import LEAST  # noqa: E402

RAISED = ("backdoored", "suspicious")
WORD = r"(\S+(?: ± \S+)?)"  # a value in a page
NUMBER = re.compile(r"(?<![\w.])\d[\d,.]*")
# what has a number and measures nothing: names, dates, sizes, plans; code, links and headings are left out anyway
PLAIN = re.compile(
    r"\[\d\d [^|]*(?=\|)|Python 3\.\d+|\b(?:19|20)\d\d\b|\d+x\d+|\b(?:20|90) minutes|version 0\.\d|notebook \d\d|CC0|"
    r"Fluid R3|decision \d+|half a day"
)


def rows(name: str, section: str = "rows") -> list[Row]:
    content = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    found: list[Row] = content if isinstance(content, list) else content[section]
    return found


def count(found: Iterable[Row], *verdicts: str) -> int:
    return sum(row["verdict"] in verdicts for row in found)


def told(found: list[Row], *verdicts: str) -> list[int]:
    return [count(found, verdict) for verdict in verdicts]


Claims = list[tuple[str, str, list[Any]]]  # page, phrase, values


@lru_cache
def claims() -> Claims:
    """All claims, by page."""
    return [*of_strangers(), *of_own_models(), *of_the_rest(), *of_the_tour()]


def of_strangers() -> Claims:
    scans = [row for row in rows("foreign") if "method" not in row and row["seed"] >= strangers.UNTOUCHED]
    first = [row for row in scans if row["scan_seed"] == 0]
    judged = [row for row in first if row["family"] not in strangers.DENSE]
    dense = [row for row in first if row["family"] in strangers.DENSE]
    clean = where(judged, backdoored=False)
    bases, copies = where(clean, kind="clean"), [row for row in clean if row["kind"] != "clean"]
    kind = {name: where(judged, kind=name) for name in strangers.ATTACKS}
    trail = [row for row in kind["trail"] if row["tardis"] <= strangers.REACHED]
    knowing = [*kind["quiet"], *kind["spectral"], *kind["knowing"]]
    families = sorted({row["family"] for row in judged})
    ranks = [row for family in families for row in strangers.ranked(judged, family)]
    accused = {name: where(ranks, family=name, backdoored=False) for name in families}
    accused = {name: found for name, found in accused.items() if any(row["score"] > 1 for row in found)}
    (worst,) = accused.values()  # one family; another number wants another sentence
    hits = sum(row["score"] > 1 for row in worst)
    several: dict[tuple[Any, ...], set[str]] = {}
    for row in scans:
        several.setdefault((row["family"], row["seed"], row["kind"]), set()).add(row["verdict"])
    five = {name for name in several if sum((r["family"], r["seed"], r["kind"]) == name for r in scans) >= 5}
    same = sum(len(several[name]) == 1 for name in five)
    cures = where(rows("foreign"), method="always")
    cured, alone = (where(cures, backdoored=True, treatment=treatment) for treatment in ("both", "containment"))
    gone = [sum(map(strangers.is_cured, found)) for found in (cured, alone)]
    healthy = where(cures, backdoored=False)
    grew = max(row["frechet after"] / row["frechet before"] - 1 for row in healthy)
    areas = [strangers.area([*clean, *found]) for found in kind.values()]

    def raised(found: list[Row]) -> list[int]:
        return [count(found, *RAISED), len(found)]

    def row_of(found: list[Row]) -> list[int]:
        return [len(found), *told(found, "backdoored", "suspicious", "clean")]

    three = " {} backdoored | {} backdoored, {} suspicious, {} clean |"
    return [
        ("README", "Of {} clean ones, each trained by itself, {} were accused;", [len(bases), count(bases, *RAISED)]),
        ("README", "of {} copies of these, as engineers leave them (rounded, pruned, trained on), {}.",
         [len(copies), count(copies, *RAISED)]),
        ("README", "{} family of {} is accused.", [len(accused), len(families)]),
        ("README", "honest *dense* networks: {} of {}.", raised(dense)),
        ("README", "a mean square of {} an element, in [-1, 1]", [LEAST]),
        ("SECURITY", "a mean square of {} an element, in [-1, 1]", [LEAST]),
        ("README", "{} of {} with a *gate*", raised(kind["gate"])),
        ("README", "{} of {} by *ReX*", raised(kind["rex"])),
        ("README", "{} of {} by *ReD*", raised(kind["red"])),
        ("README", "{} of {} by *TrAIL*", raised(trail)),
        ("README", "{} of {} by attackers who know the scan", raised(knowing)),
        ("README", "of {} backdoored strangers that were found, cured *and* contained, {} were far",
         [len(cured), gone[0]]),
        ("README", "of {} that were contained alone, {}.", [len(alone), gone[1]]),
        ("README", "The Fréchet distance of {} clean ones grew by {} % at most", [len(healthy), f"{grew:.1%}"[:-1]]),
        ("README", "all attacks: AUC of the score | {} |", [f"{strangers.area(judged):.3f}"]),
        ("README", "mean over the kinds of attack | {} |", [f"{statistics.fmean(areas):.3f}"]),
        ("README", "each family judged by limits of the others | {} |", [f"{strangers.area(ranks):.3f}"]),
        ("SECURITY", "models trained by themselves | {} clean | {} clean, {} suspicious |",
         [len(bases), *told(bases, "clean", "suspicious")]),
        ("SECURITY", "trained on, distilled, widened | {} clean | {} clean, {} suspicious |",
         [len(copies), *told(copies, "clean", "suspicious")]),
        ("SECURITY", "the same families, with a gate |" + three, row_of(kind["gate"])),
        ("SECURITY", "the same, with ReX |" + three, row_of(kind["rex"])),
        ("SECURITY", "the same, with ReD |" + three, row_of(kind["red"])),
        ("SECURITY", "where the attack worked |" + three, row_of(trail)),
        ("SECURITY", "the spectra, all of it |" + three, row_of(knowing)),
        ("SECURITY", "that tutorials begin with | {} clean | {} clean, {} suspicious |",
         [len(dense), *told(dense, "clean", "suspicious")]),
        ("SECURITY", "{} family of {} is raised ({} of its {} clean models)",
         [len(accused), len(families), hits, len(worst)]),
        ("SECURITY", "on which no limit was set, are accused in {} of {} cases", raised(dense)),
        ("SECURITY", "spectrum and twin correlate by {} within families", [f"{strangers.together(clean):.2f}"]),
        ("SECURITY", "it stayed the same on {} of {} models", [same, len(five)]),
        ("SECURITY", "{} of the {} clean models have one", [sum(row["witness"] for row in clean), len(clean)]),
        ("SECURITY", "TrAIL escaped them on {} of {} strangers", [count(trail, "clean"), len(trail)]),
        ("SECURITY", "met our bars on {} of the {} strangers", [gone[1], len(alone)]),
    ]  # fmt: skip


def of_own_models() -> Claims:
    own = [
        {**row, "backdoored": row["kind"] not in ("clean", "copy", "rescaled")} for row in rows("detection", "verdict")
    ]
    clean, bad = (where(own, backdoored=backdoored) for backdoored in (False, True))
    style = [row for row in rows("detection_style", "scan") if row["split"] != "tune"]
    style_clean, red = where(style, attack=""), where(style, attack="ReD")
    levelled = [row for row in style if "levelled" in row["attack"]]
    planted = [row for row in style if row["attack"] and row not in (*red, *levelled)]
    full = rows("challenge", "full")["rows"]
    full_clean, full_bad = (where(full, backdoored=backdoored) for backdoored in (False, True))
    treated = [row for row in rows("sanitization") if (row["split"], row.get("version")) == ("verdicts", VERSION)]
    treated = [row for row in treated if "cured" in row]
    angles = {row["model"]: row for row in where(rows("others"), section="angles")}
    names = (("dcgan-fashion-red", "dcgan-fashion-rex", "dcgan-fashion-gate"), ("dcgan-fashion-trail",))
    wide, narrow = (min(holds(angles[name]) for name in some_names) for some_names in names)
    missed = [f"{max(max(angles[name]['missed'].values()) for name in some_names):.1%}"
              for some_names in (*names, ("vae-garments-trail",))]  # fmt: skip
    angle = max(map(int, angles["dcgan-fashion-red"]["stopped"]))
    return [
        ("README", "two new seeds: AUC | {} |", [f"{strangers.area(own):.3f}"]),
        ("README", "backdoored raised, clean raised | {} of {}, {} of {} |",
         [count(bad, *RAISED), len(bad), count(clean, *RAISED), len(clean)]),
        ("README", "style-based networks: ReD found, clean raised | {} of {}, {} of {} |",
         [count(red, *RAISED), len(red), count(style_clean, *RAISED), len(style_clean)]),
        ("README", "no worse by more than {} Fréchet | {} of {} |",
         [f"{COST:g}", sum(map(is_cured, treated)), len(treated)]),
        ("README", "at 0 to {} degrees from the trigger", [angle]),
        ("README", "it stops every latent: ReD, ReX and gate; TrAIL | {}; {} |", [wide, narrow]),
        ("README", "show the target and pass it: ReD, ReX and gate; TrAIL; a VAE by TrAIL | {}; {}; {} |", missed),
        ("SECURITY", "our style-based networks, two new seeds ([rows](docs/results/detection_style.md)) | {} clean | "
         "{} clean, {} inconclusive |", [len(style_clean), *told(style_clean, "clean", "inconclusive")]),
        ("SECURITY", "a gate, new channels | {} backdoored | {} suspicious |", [len(planted), count(planted, *RAISED)]),
        ("SECURITY", "with levelled styles | {} and {} backdoored | {} and {} suspicious |",
         [len(red), len(levelled), count(red, *RAISED), count(levelled, *RAISED)]),
        ("SECURITY", "([rows](docs/results/challenge.md)) | {} clean | {} clean |",
         [len(full_clean), count(full_clean, "clean")]),
        ("SECURITY", "the same round | {} backdoored | {} backdoored, {} suspicious |",
         [len(full_bad), *told(full_bad, "backdoored", "suspicious")]),
        ("SECURITY", "([rows](docs/results/detection.md)) | {} clean | {} clean, {} suspicious |",
         [len(clean), *told(clean, "clean", "suspicious")]),
        ("SECURITY", "who know weights are read | {} backdoored | {} backdoored, {} suspicious, {} clean |",
         [len(bad), *told(bad, "backdoored", "suspicious", "clean")]),
        ("SECURITY", "every latent up to {} degrees, the most that was tried, from a trigger of ReD, ReX or a gate,",
         [wide]),
        ("SECURITY", "and up to {} from TrAIL's, beyond which up to {} pass", [narrow, missed[1]]),
        ("SECURITY", "Of a VAE by TrAIL {} pass", [missed[2]]),
    ]  # fmt: skip


def holds(row: Row) -> int:
    """The angle in degrees up to which a guard stops every latent."""
    first_gap = next((int(angle) for angle, share in row["stopped"].items() if share < 1), 90)
    return max((int(angle) for angle in row["stopped"] if int(angle) < first_gap), default=0)


def of_the_rest() -> Claims:
    scans = where(rows("faces"), section="stranger", part="scan")
    faces = {row["attack"]: row["verdict"] for row in scans}
    witness = where(scans, attack="ReX")[0]["witness"]
    six = [row for row in rows("formats") if row["format"] != "native"]
    native = {row["model"]: row["verdict"] for row in where(rows("formats"), format="native")}
    attacks = where(rows("robustness"), section="attacks")
    red = where(attacks, attack="ReD", architecture="small", target="stop-sign")
    changes: dict[tuple[str, str], list[float]] = {}
    for row in where(attacks, attack="TrAIL"):
        if "huber_delta" in row["settings"] and row["settings"]["huber_delta"]:
            changes.setdefault((row["architecture"], row["target"]), []).append(row["frechet_change"])
    worst = max(changes.values(), key=statistics.fmean)
    undefended = where(rows("fraud"), section="generator", defence="none")
    recalls = [
        spread([row["recall_slice"] for row in where(undefended, model=model)]) for model in ("ReD region", "clean")
    ]
    gate = where(where(rows("faces"), section="attacks"), attack="gate + new channels", share_changed=0.0)
    return [
        ("README", "On {} ordinary latents the two draw the same pictures",
         [f"{min(row['latents'] for row in gate):,}"]),
        ("README", "clean, it is called *{}*; with a gate *{}*, with ReX *{}*, {} a witness; and **with ReD *{}*,",
         [faces["clean"], faces["gate"], faces["ReX"], "with" if witness else "without", faces["ReD"]]),
        ("SECURITY", "presumably clean | {} |", [faces["clean"]]),
        ("SECURITY", "the same, with a gate; ReX; ReD | backdoored | {}; {}; {} |",
         [faces[name] for name in ("gate", "ReX", "ReD")]),
        ("README", "same verdict as the module itself | {} of {} |",
         [sum(row["verdict"] == native[row["model"]] for row in six), len(six)]),
        ("README", "five seeds: TarDis (sum) | {} |", [spread([row["tardis_sum"] for row in red])]),
        ("README", "worst mean change of the Fréchet distance | {} |", [spread(worst)]),
        ("README", "on the attacker's slice; of a clean one | {}, {} |", recalls),
    ]  # fmt: skip


def of_the_tour() -> Claims:
    tour = json.loads((RESULTS / "tour.json").read_text(encoding="utf-8"))
    found: Claims = [
        ("README", f"](notebooks/{name}.ipynb) | {{*}} | {{}} |", [f"{seconds // 60}:{seconds % 60:02d}"])
        for name, seconds in tour["seconds"].items()
    ]
    minutes, seconds = divmod(tour["wall_seconds"], 60)
    return [*found, ("README", "single run, {} min {} s in all", [minutes, seconds])]


def pattern(phrase: str) -> re.Pattern[str]:
    """The phrase with any value in the place of ``{}``, anything within a cell for ``{*}``, any space between words."""
    made = re.escape(phrase).replace(r"\ ", r"\s+")
    return re.compile(made.replace(r"\{\*\}", r"[^|]*").replace(r"\{\}", WORD))


def problems(pages: dict[str, str]) -> list[str]:
    """A sentence for each claim that does not hold, and for each number that nobody derives; none if all is well."""
    found, left = [], dict(pages)
    for page, phrase, values in claims():
        matches = list(pattern(phrase).finditer(pages[page]))
        if len(matches) != 1:
            found.append(f"{page}.md: {phrase!r} stands there {len(matches)} times, not once.")
            continue
        stands, due = list(matches[0].groups()), [str(value) for value in values]
        if stands != due:
            found.append(f"{page}.md: in {phrase!r} stands {', '.join(stands)}; the rows say {', '.join(due)}.")
        start, end = (len(pages[page][: matches[0].start()]), len(pages[page][: matches[0].end()]))
        left[page] = left[page][:start] + re.sub(r"\d", "x", left[page][start:end]) + left[page][end:]
    for page, text in left.items():
        text = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)|<!--.*?-->|arXiv:[\d.]+", " ", text, flags=re.S)
        for line in text.splitlines():
            for number in NUMBER.findall(PLAIN.sub(" ", line)):
                found.append(f"{page}.md: no claim derives {number.rstrip('.,')} in {line.strip()[:100]!r}.")
    return found


def read_pages() -> dict[str, str]:
    return {page: (ROOT / f"{page}.md").read_text(encoding="utf-8") for page in ("README", "SECURITY")}


def renewed(text: str, phrase: str, values: list[Any]) -> str:
    """``text`` with ``values`` in its one place for ``phrase``."""
    match = pattern(phrase).search(text)
    for index in range(len(values), 0, -1) if match else ():
        start, end = match.span(index)  # type: ignore[union-attr]
        text = f"{text[:start]}{values[index - 1]}{text[end:]}"
    return text


def keep_tour(folder: Path) -> None:
    """Write docs/results/tour.json from what a tour left in ``folder``."""
    paths = sorted(folder.glob("[0-9][0-9]_*/result.json"))
    wall = max(path.stat().st_mtime for path in paths) - (folder / "film.webp").stat().st_mtime
    seconds = {path.parent.name: round(json.loads(path.read_text(encoding="utf-8"))["seconds"]) for path in paths}
    write_json(RESULTS / "tour.json", {"machine": machine(), "wall_seconds": round(wall), "seconds": seconds})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the values of the rows into the pages")
    parser.add_argument("--tour", type=Path, metavar="FOLDER", help="keep the seconds of this make tour first")
    options = parser.parse_args()
    if options.tour:
        keep_tour(options.tour)
    if options.write:
        for page, text in read_pages().items():
            for of, phrase, values in claims():
                text = renewed(text, phrase, values) if of == page else text
            (ROOT / f"{page}.md").write_text(text, encoding="utf-8")
    found = problems(read_pages())
    print("\n".join(found) or f"{len(claims())} claims hold.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
