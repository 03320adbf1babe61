"""Make the bundle for a room without a network: wheels, project, pages, and a script that installs it all.

    bundle.py [--out out/bundle] [--wheels FOLDER] [--zip] [--try]

The wheels are those of this Python and this platform. On Linux, pip would bring torch with its libraries for GPUs
(about 3 GB); where PyTorch's own index can be reached, the build for CPUs is taken instead. ``--wheels`` takes wheels
that were collected before. ``--try`` installs the bundle into an empty environment with the network closed and runs
notebooks 00 to 04 there.
"""

import argparse
import html
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from bundle_install import sha256, this_place
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
TRIED = ("00", "01", "02", "03", "04")
GUIDE = """# devilgan_lite without a network

For Python {python} on {platform}. Everything is here; nothing is fetched.

1. `python3 install.py` (a few minutes) makes `venv` in this folder. `--into FOLDER` puts it elsewhere.
2. `venv/bin/devilgan film` writes and opens the first moving picture.
3. `venv/bin/jupyter lab project/notebooks` opens the notebooks; `venv/bin/devilgan stage` the page for a projector.

On Windows, `venv\\Scripts` stands for `venv/bin`. `html/index.html` shows the executed notebooks in any browser,
without Python. `project/docs/instructor_guide.md` has the plans for a demo and a workshop. `install.py` checks every
file against `manifest.json` first, so a copy that lost something says so.
"""


def requirements() -> list[str]:
    """What the bundle must be able to install: the project, its notebooks, and what builds the editable install."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    extras = project["optional-dependencies"]
    notebooks = list(extras["notebooks"])
    own = next(text for text in notebooks if text.startswith(f"{project['name']}["))  # its other extras
    notebooks.remove(own)
    notebooks += [text for name in sorted(Requirement(own).extras) for text in extras[name]]
    return [*project["dependencies"], *notebooks, *pyproject["build-system"]["requires"]]


def lacking(wanted: Iterable[str], wheels: Path) -> list[str]:
    """What keeps pip, which may look at nothing but ``wheels``, from installing ``wanted``; empty if nothing does."""
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--no-index", "--find-links", str(wheels), *wanted]
    done = subprocess.run(command, capture_output=True, text=True)
    return [line for line in done.stderr.splitlines() if line.startswith("ERROR")] if done.returncode else []


def collect(folder: Path) -> None:
    """Download or build the wheels into ``folder``."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(folder), *requirements()]
    if sys.platform == "linux":
        try:
            urllib.request.urlopen(f"{CPU_INDEX}/torch/", timeout=10).close()
            command += ["--extra-index-url", CPU_INDEX]  # its versions end in +cpu and win
        except OSError:
            print(f"{CPU_INDEX} cannot be reached: torch comes with its libraries for GPUs.", flush=True)
    subprocess.run(command, check=True)


def copy_project(folder: Path) -> None:
    """What git tracks, and new files that it does not ignore, as they are in the work tree."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the files of the project come from git, which said: {done.stderr.strip()}")
    names = done.stdout.split("\0")
    for name in sorted({name for name in names if name and (ROOT / name).is_file()}):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)


def write_pages(notebooks: Path, folder: Path) -> None:
    """The executed notebooks as HTML, which need nothing from elsewhere, and an index of them."""
    from devilgan_lite.apps.studies.pages import STYLE, to_html

    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for source in sorted(notebooks.glob("*.ipynb")):
        copy = Path(shutil.copy(source, folder))
        page = to_html(copy)
        copy.unlink()
        entries.append(f'<li><a href="{page.name}">{html.escape(page.stem.replace("_", " "))}</a></li>')
    head = f'<meta charset="utf-8"><title>devilgan_lite: notebooks</title><style>{STYLE}</style>'
    body = f"<h1>The executed notebooks</h1><ul>{''.join(entries)}</ul>"
    (folder / "index.html").write_text(f'<!doctype html><html lang="en">{head}<body>{body}</body></html>\n', "utf-8")


def write_manifest(bundle: Path) -> None:
    """``install.py``, a guide, and the SHA-256 of every file."""
    shutil.copy(Path(__file__).with_name("bundle_install.py"), bundle / "install.py")
    (bundle / "README.md").write_text(GUIDE.format(**this_place()), encoding="utf-8")
    files = sorted(path for path in bundle.rglob("*") if path.is_file() and path.name != "manifest.json")
    digests = {path.relative_to(bundle).as_posix(): sha256(path) for path in files}
    (bundle / "manifest.json").write_text(json.dumps({**this_place(), "files": digests}, indent=1) + "\n", "utf-8")


def build(bundle: Path, wheels: Path | None, notebooks: Path = ROOT / "notebooks") -> list[str]:
    """Make ``bundle`` anew, with pages of ``notebooks``; what its wheels lack, a sentence each."""
    if bundle.exists() and any(bundle.iterdir()) and not (bundle / "manifest.json").is_file():
        raise SystemExit(f"{bundle} is not empty and no bundle; name another folder.")
    shutil.rmtree(bundle, ignore_errors=True)
    (bundle / "wheels").mkdir(parents=True)
    if wheels is None:
        collect(bundle / "wheels")
    else:
        for path in wheels.glob("*.whl"):
            shutil.copy(path, bundle / "wheels")
    found = lacking(requirements(), bundle / "wheels")
    copy_project(bundle / "project")
    write_pages(notebooks, bundle / "html")
    write_manifest(bundle)
    return found


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def closed(command: list[str]) -> list[str]:
    """``command`` in a network of its own with nothing in it but this machine's loopback, where Linux permits that."""
    shell = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    try:
        done = subprocess.run([*shell, "true"], capture_output=True, timeout=20)
    except OSError:
        return command
    return [*shell, *command] if done.returncode == 0 else command


def attempt(bundle: Path) -> int:
    """Install into an empty environment with the network closed, run the notebooks, and print what it took."""
    with tempfile.TemporaryDirectory(prefix="devilgan-bundle-") as folder:
        place = Path(folder)
        clean = {"HOME": folder, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
        clean |= {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(bundle / "project/tests/offline")}  # sockets, too
        print("network:", "a namespace of its own" if closed([]) else "closed in Python only", flush=True)

        def timed(what: str, command: list[str]) -> None:
            start, before = time.perf_counter(), os.times()
            done = subprocess.run(closed(command), cwd=folder, env=clean, capture_output=True, text=True)
            seconds, after = time.perf_counter() - start, os.times()
            busy = after.children_user + after.children_system - before.children_user - before.children_system
            print(f"{what:22s}{seconds:8.1f} s {busy:8.1f} CPU-s", flush=True)
            if done.returncode:
                raise SystemExit(f"{what} failed: {(done.stderr or done.stdout)[-2000:]}")

        timed("install", [sys.executable, str(bundle / "install.py"), "--into", str(place / "venv")])
        print(f"{'environment':22s}{megabytes(place / 'venv'):8.0f} MB", flush=True)
        devilgan = str(place / "venv/bin/devilgan")
        timed("film", [devilgan, "film", "--no-browser", "--out", str(place / "film.webp")])
        for number in TRIED:
            timed(
                f"notebook {number}, smoke",
                [devilgan, "run", number, "-p", "profile=smoke", "--out", folder, "--timeout", "3600"],
            )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out/bundle", help="folder to make")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to take instead of downloading")
    parser.add_argument("--zip", action="store_true", help="also write FOLDER.zip")
    parser.add_argument("--try", action="store_true", dest="attempt", help="only try the bundle that is there")
    options = parser.parse_args()
    bundle = options.out.resolve()
    if options.attempt:
        if not (bundle / "manifest.json").is_file():
            parser.error(f"there is no bundle in {options.out}; run make release NAME=bundle first.")
        return attempt(bundle)
    if options.wheels is not None and not options.wheels.is_dir():
        parser.error(f"--wheels {options.wheels} is no folder.")
    start = time.perf_counter()
    if found := build(bundle, options.wheels):
        print("\n".join(found), file=sys.stderr)
        return 1
    count = len(list((bundle / "wheels").glob("*.whl")))
    print(f"{options.out}: {megabytes(bundle):.0f} MB with {count} wheels, {time.perf_counter() - start:.0f} s")
    if options.zip:
        print(shutil.make_archive(os.fspath(bundle), "zip", bundle.parent, bundle.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
