"""``check``: a stranger's file through the jail, from its bytes to a report as plain data.

The parent hashes the file and reads its first bytes; a jailed child opens it, scans it and describes what it saw. The
command line, the service and notebook 11 all come in here. A file that cannot be opened gets a report, too.
"""

import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from devilgan_lite.checks import Settings, latent_size, one_of, printable, whole_number
from devilgan_lite.files.sniff import Facts, Refused, facts
from devilgan_lite.intake.jail import Ended, Jail, Limits
from devilgan_lite.report import VERDICTS
from devilgan_lite.version import __version__

FORMAT = 2  # of a report
# what a child may add to it: the format of the file, the network, and a scan
SCAN = ("reason", "score", "evidence", "p_value", "witness", "trigger", "findings", "pictures", "not_tried")
PARTS = ("verdict", "sentence", "format", "model", *SCAN)
SAMPLES = 48  # on the contact sheet
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

    @property
    def files(self) -> list[Path]:
        """What the check reads besides the file itself."""
        given = (self.targets, self.architecture, self.reference)
        found = [Path(one) for one in given if one is not None and Path(one).exists()]
        return [*found, *(one.with_suffix(".json") for one in found if one.suffix == ".safetensors")]

    def words(self) -> str:
        """What differs from the defaults, as options of the command line."""
        parts = []
        for one in fields(self):
            value, option = getattr(self, one.name), f"--{one.name.replace('_', '-')}"
            if value == one.default:
                continue
            parts.append(
                (option if value else f"--no-{option[2:]}")
                if isinstance(value, bool)
                else f"{option} {shlex.quote(str(value))}"
            )
        return " ".join(parts)


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
    ``jail``, for files of your own, it runs in this process, on ``device``. ``FileNotFoundError`` without a file,
    ``ValueError`` for wrong ``options``.
    """
    path, options, limits = Path(path), options or Options(), limits or Limits()
    if jail is not None:
        jail.check_device(device)
    unknown = Facts(printable(name or path.name)[:80], 0, "", "")
    try:
        known = facts(path, name=name)
    except Refused as error:
        return report(unknown, options, refused(str(error)), None, limits)
    arguments = {"path": str(path.resolve()), "name": known.name, "sha256": known.sha256, "options": asdict(options)}
    if jail is None:
        return _outside(known, options, {**arguments, "device": device}, limits, on_event)
    card = path.resolve().with_suffix(".json")
    ended = jail.run(
        "devilgan_lite.intake.check:inside",
        arguments,
        # a card that is a link could lead to any file of yours
        reads=[path.resolve(), *([card] if card.is_file() and not card.is_symlink() else []), *options.files],
        limits=limits,
        on_event=on_event,
        cancelled=cancelled,
    )
    found = answer(ended.value or {}) if ended.how == "finished" else refused(ended.sentence)
    return report(known, options, found, ended, limits)


def answer(value: dict[str, Any]) -> dict[str, Any]:
    """The parts that a child may add to a report; without a verdict in words it is refused."""
    if value.get("verdict") not in VERDICTS or not isinstance(value.get("sentence"), str):
        return refused("the process that opened the file ended without a verdict.")
    return {name: part for name, part in value.items() if name in PARTS}


def _outside(
    known: Facts, options: Options, arguments: dict[str, Any], limits: Limits, on_event: Tell | None
) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        found = inside(arguments, on_event or (lambda event: None))
    except ValueError as error:  # Refused, or what the scan says of a module that it cannot take
        found = refused(str(error))
    made = report(known, options, found, None, limits)
    return {**made, "seconds": round(time.perf_counter() - start, 2)}


def refused(sentence: str) -> dict[str, Any]:
    """What a report says of a file that could not be opened or checked to the end."""
    return {"verdict": "refused", "sentence": str(Refused(sentence)), "format": None, "model": None}


def report(
    known: Facts, options: Options, found: dict[str, Any], ended: Ended | None, limits: Limits
) -> dict[str, Any]:
    """The report: what the parent knows, what the child ``found``, and how the jail fared."""
    form = found.pop("format", None)
    place = f"./{known.name}" if known.name.startswith("-") else known.name
    fared = ("how", "sentence", "walls", "seconds", "peak_bytes")
    jail = None if ended is None else {**{key: getattr(ended, key) for key in fared}, "limits": asdict(limits)}
    return {
        "format": FORMAT,
        "tool": f"devilgan_lite {__version__}",
        "file": {"name": known.name, "bytes": known.bytes, "sha256": known.sha256, "format": form},
        **found,
        "settings": asdict(options),
        "command": f"devilgan scan {shlex.quote(place)} {options.words()}".strip(),  # people paste it into a shell
        "seconds": round(ended.seconds, 2) if ended is not None else 0.0,
        "jail": jail,
    }


def inside(arguments: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """In the jail: open the file, scan it, and describe both as plain data; ``Refused`` if it cannot be opened."""
    options = Options(**arguments["options"])
    stranger = opened(arguments, options)
    model = about(stranger)
    tell({"event": "opened", "format": stranger.origin.format, "model": model})
    return {
        "format": stranger.origin.format,
        "model": model,
        **scanned(stranger, options, arguments.get("device", "cpu"), tell),
    }


def opened(arguments: dict[str, Any], how: Opening) -> Any:
    """The generator in the file that the parent hashed; ``Refused`` if it is another one by now."""
    from devilgan_lite import files

    names = [one.name for one in fields(Opening) if one.name != "seed"]
    stranger = files.open(arguments["path"], name=arguments["name"], **{name: getattr(how, name) for name in names})
    hashes = {stranger.origin.facts.sha256, facts(Path(arguments["path"])).sha256, arguments["sha256"]}
    if len(hashes) > 1:
        raise Refused("the file changed while it was checked; check it again when nobody writes to it.")
    return stranger


def about(stranger: Any) -> dict[str, Any]:
    """What is known of the network, as plain data."""
    return {
        "architecture": stranger.origin.architecture,
        "weights": stranger.parameter_count(),
        "latent_shape": list(stranger.latent_shape),
        "prior": stranger.prior.name,
        "sample_shape": list(stranger.sample_shape),
        "notes": [printable(note)[:300] for note in stranger.origin.notes],
    }


def scanned(stranger: Any, options: Options, device: str, tell: Tell) -> dict[str, Any]:
    """``detect.scan`` with what ``options`` ask for as plain data, with some ordinary samples."""
    from devilgan_lite import detect
    from devilgan_lite.detect.report import picture
    from devilgan_lite.features import real_for
    from devilgan_lite.steps import best_device

    subject = stranger.to(best_device(device))
    benign = None if options.reference is None else _reference(options.reference)
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


def _reference(text: str) -> Any:
    from devilgan_lite import files, zoo

    return zoo.load(text) if text in zoo.names() else files.open(text)
