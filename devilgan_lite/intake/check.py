"""``check``: a stranger's file through the jail, from its bytes to a report as plain data.

The parent hashes the file and reads its first bytes; a jailed child opens it, scans it and describes what it saw. The
command line, the service and notebook 11 all come in here. A file that cannot be opened gets a report, too. ``run`` is
the way into the jail for every operation on a file.
"""

import os
import pkgutil
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from devilgan_lite.checks import Settings, latent_size, one_of, printable, shown, whole_number
from devilgan_lite.files.sniff import Facts, Refused, facts
from devilgan_lite.intake.jail import Ended, Jail, Limits
from devilgan_lite.report import VERDICTS
from devilgan_lite.shipped import names
from devilgan_lite.version import __version__

FORMAT = 2  # of a report
# what a child may add to it: the format of the file, the network, and a scan
SCAN = ("reason", "score", "evidence", "witness", "trigger", "findings", "pictures", "not_tried")
PARTS = ("verdict", "sentence", "format", "model", *SCAN)
SAMPLES = 48  # on the contact sheet
OPERATIONS = {  # on a file, and the function in the child
    "scan": "devilgan_lite.intake.check:scan",
    "sanitize": "devilgan_lite.intake.cure:sanitize",
    "adopt": "devilgan_lite.intake.cure:adopt",
}
Tell = Callable[[dict[str, Any]], object]


@dataclass(frozen=True, kw_only=True)
class Opening(Settings):
    """How a file is opened, as ``files.open``; ``seed`` draws the latents of whatever follows."""

    latent_dim: int | None = None
    prior: str | None = None
    architecture: str | None = None
    weights: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number("seed", self.seed, 0)
        if self.prior is not None:
            one_of("prior", self.prior, ("gaussian", "uniform"))
        if self.latent_dim is not None:
            latent_size(self.latent_dim)

    @property
    def places(self) -> dict[str, str]:
        """What is read besides the file itself, by setting: paths that hold in any folder."""
        given = {name: asdict(self).get(name) for name in ("targets", "architecture", "reference")}
        there = {name: text for name, text in given.items() if text is not None and os.path.exists(text)}
        return {name: os.path.abspath(text) for name, text in there.items() if text not in names()}

    @property
    def reading(self) -> dict[str, Any]:
        """What ``files.open`` takes."""
        return {one.name: getattr(self, one.name) for one in fields(Opening) if one.name != "seed"}


@dataclass(frozen=True, kw_only=True)
class Options(Opening):
    """How a file is checked. ``targets`` is a folder of pictures, ``reference`` a clean model, zoo name or file.

    ``bank`` suspects the built-in targets, ``real`` compares with our real garments or faces; ``access`` is
    ``"weights"`` or ``"samples"``; without ``twin`` seconds are enough and nothing is called more than suspicious.
    """

    twin: bool = True
    access: str = "weights"
    targets: str | None = None
    bank: bool = False
    reference: str | None = None
    real: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("access", self.access, ("samples", "weights"))

    def words(self) -> str:
        """What differs from the defaults, as options of the command line."""
        parts = []
        for one in fields(self):
            value, option = getattr(self, one.name), one.name.replace("_", "-")
            if isinstance(value, bool) and value != one.default:
                parts.append(f"--{option}" if value else f"--no-{option}")
            elif value != one.default:
                parts.append(f"--{option} {shlex.quote(str(value))}")
        return " ".join(parts)


def run(
    operation: str,
    path: Path,
    options: Opening,
    *,
    jail: Jail | None,
    name: str | None = None,
    out: Path | None = None,
    limits: Limits | None = None,
    device: str = "cpu",
    on_event: Tell | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[Facts, Ended]:
    """Open the file ``path`` for one of ``OPERATIONS`` in a child of ``jail``, or without one in this process.

    Returns what the parent knows of the file, and how the run ended; its ``value`` is the child's word. The child may
    write into the folder of ``out``. ``Refused`` for a file that is not even tried, ``FileNotFoundError`` without one.
    """
    if jail is not None and device not in ("auto", "cpu"):
        raise ValueError(f"device={shown(device)} is not valid in the jail, which has only the CPU; valid: auto, cpu.")
    known, path = facts(path, name=name), path.resolve()
    arguments: dict[str, Any] = {"path": str(path), "name": known.name, "sha256": known.sha256, "out": str(out)}
    arguments |= {"options": asdict(options) | options.places, "device": device if jail is None else "cpu"}
    if jail is not None:
        beside = [Path(place) for place in options.places.values()]
        beside += [place.with_suffix(".json") for place in beside if place.suffix == ".safetensors"]
        card = path.with_suffix(".json")
        if card.is_file() and not card.is_symlink():  # a card that is a link could lead to any file of yours
            beside.append(card)
        how: dict[str, Any] = {"limits": limits, "on_event": on_event, "cancelled": cancelled}
        scratch = None if out is None else out.parent
        return known, jail.run(OPERATIONS[operation], arguments, reads=[path, *beside], scratch=scratch, **how)
    start = time.perf_counter()
    try:
        value = pkgutil.resolve_name(OPERATIONS[operation])(arguments, on_event or (lambda event: None))
        ended = Ended("finished", value=value, seconds=time.perf_counter() - start)
    except ValueError as error:  # Refused, or what the scan says of a module that it cannot take
        ended = Ended("refused", str(Refused(str(error))), seconds=time.perf_counter() - start)
    return known, ended


def check(
    path: str | Path,
    options: Options | None = None,
    *,
    jail: Jail | None,
    name: str | None = None,
    limits: Limits | None = None,
    device: str = "cpu",
    on_event: Tell | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Check a file and return the report (``docs/check_a_model.md`` describes it), whatever is in the file.

    ``name`` is shown instead of the file's own. ``on_event`` gets ``{"event": "opened" | "finding", ...}``. Without a
    ``jail``, for files of your own, it runs in this process, on ``device``. A jail with ``traceback`` adds the key
    ``traceback`` where its process failed. ``FileNotFoundError`` without a file, ``ValueError`` for wrong ``options``.
    """
    path, options, limits = Path(path), options or Options(), limits or Limits()
    how: dict[str, Any] = {"limits": limits, "device": device, "on_event": on_event, "cancelled": cancelled}
    try:
        known, ended = run("scan", path, options, jail=jail, name=name, **how)
    except Refused as error:
        known, ended, jail = Facts(printable(name or path.name)[:80], 0, "", ""), Ended("refused", str(error)), None
    found, sentence = ended.value or {}, ended.sentence
    if found.get("verdict") not in VERDICTS or not isinstance(found.get("sentence"), str):
        sentence = str(Refused(sentence or "the process that opened the file ended without a verdict."))
        found = {"verdict": "refused", "sentence": sentence, "format": None, "model": None}
    place = f"./{known.name}" if known.name.startswith("-") else known.name
    fared = {key: getattr(ended, key) for key in ("how", "sentence", "walls", "seconds", "peak_bytes")}
    return {
        "format": FORMAT,
        "tool": f"devilgan_lite {__version__}",
        "file": {"name": known.name, "bytes": known.bytes, "sha256": known.sha256, "format": found.get("format")},
        **{part: told for part, told in found.items() if part in PARTS and part != "format"},
        "settings": asdict(options),
        "command": f"devilgan scan {shlex.quote(place)} {options.words()}".strip(),  # people paste it into a shell
        "seconds": round(ended.seconds, 2),
        "jail": None if jail is None else {**fared, "limits": asdict(limits)},
        **({"traceback": ended.last} if ended.last and ended.how != "finished" else {}),
    }


# --- in the jail
def opened(arguments: dict[str, Any], how: Opening) -> Any:
    """The generator in the file that the parent hashed; ``Refused`` if it is another one by now."""
    from devilgan_lite import files

    stranger = files.open(arguments["path"], name=arguments["name"], **how.reading)
    hashes = {stranger.origin.facts.sha256, facts(Path(arguments["path"])).sha256, arguments["sha256"]}
    if len(hashes) > 1:
        raise Refused("the file changed while it was checked; check it again when nobody writes to it.")
    return stranger


def scan(arguments: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Open the file, scan it, and describe both as plain data; ``Refused`` if it cannot be opened."""
    options = Options(**arguments["options"])
    stranger = opened(arguments, options)
    model = {
        "architecture": stranger.origin.architecture,
        "weights": stranger.parameter_count(),
        "latent_shape": list(stranger.latent_shape),
        "prior": stranger.prior.name,
        "sample_shape": list(stranger.sample_shape),
        "notes": [printable(note)[:300] for note in stranger.origin.notes],
    }
    about = {"format": stranger.origin.format, "model": model}
    tell({"event": "opened", **about})
    return {**about, **scanned(stranger, options, arguments["device"], tell)}


def scanned(stranger: Any, options: Options, device: str, tell: Tell) -> dict[str, Any]:
    """``detect.scan`` with what ``options`` ask for as plain data, with some ordinary samples."""
    from devilgan_lite import detect, files, zoo
    from devilgan_lite.detect.report import picture
    from devilgan_lite.features import real_for
    from devilgan_lite.steps import best_device

    subject = stranger.to(best_device(device))
    benign = None
    if options.reference is not None:
        ours = options.reference in zoo.names()
        benign = zoo.load(options.reference) if ours else files.open(options.reference)
    targets = None if options.targets is None else detect.samples_in(Path(options.targets), subject.sample_shape)[0]
    report = detect.scan(
        subject,
        real=real_for(subject.sample_shape) if options.real else None,
        reference=benign,
        targets=targets,
        suspect_bank=options.bank,
        access=options.access,
        seed=options.seed,
        twin=options.twin,
        device=device,
        on_finding=lambda finding: tell({"event": "finding", **finding.to_dict(), "details": {}}),
    )
    parts = report.to_dict(pictures=True)
    ordinary = subject.scaled_samples(subject.ordinary(SAMPLES, options.seed)).cpu()
    return {**parts, "pictures": {**parts["pictures"], "samples": picture(ordinary, subject.modality)}}
