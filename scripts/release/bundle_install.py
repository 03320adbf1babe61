"""Install the bundle in which this file lies, without a network: python3 install.py [--into FOLDER]

Checks that this Python and this computer are those that the wheels were collected for and that every file arrived
whole, makes a virtual environment, and installs into it from ``wheels/`` alone. Needs nothing but Python itself.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

BUNDLE = Path(__file__).resolve().parent


def this_place() -> dict[str, str]:
    """What wheels depend on: Python's version (major.minor) and the platform."""
    return {"python": f"{sys.version_info[0]}.{sys.version_info[1]}", "platform": sysconfig.get_platform()}


def problems(bundle: Path, place: dict[str, str]) -> list[str]:
    """What keeps ``bundle`` from being installed at ``place``, a sentence each; an empty list if nothing does."""
    path = bundle / "manifest.json"
    if not path.is_file():
        return [f"{path} is missing: copy the whole folder of the bundle."]
    manifest = json.loads(path.read_text(encoding="utf-8"))
    found = []
    if manifest["python"] != place["python"]:
        found.append(f"This is Python {place['python']}; the bundle was made for Python {manifest['python']}.")
    if manifest["platform"] != place["platform"]:
        found.append(f"This computer is {place['platform']}; the bundle was made for {manifest['platform']}.")
    for name, digest in manifest["files"].items():
        file = bundle / name
        if not file.is_file():
            found.append(f"{name} is missing; copy the bundle again.")
        elif sha256(file) != digest:
            found.append(f"{name} is damaged (its SHA-256 differs); copy the bundle again.")
    return found


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def commands(bundle: Path, environment: Path) -> list[list[str]]:
    """What to run, in order: a virtual environment, then pip, which may look at nothing but ``wheels/``."""
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    install = [str(python), "-m", "pip", "--isolated", "install", "--no-index", "--find-links", str(bundle / "wheels")]
    return [
        [sys.executable, "-m", "venv", str(environment)],
        [*install, "--editable", f"{bundle / 'project'}[notebooks]"],
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--into", type=Path, default=BUNDLE / "venv", help="folder of the virtual environment to make")
    options = parser.parse_args()
    found = problems(BUNDLE, this_place())
    if found:
        print("\n".join(found), file=sys.stderr)
        return 2
    environment = options.into.resolve()
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHONPATH"))}
    for command in commands(BUNDLE, environment):
        done = subprocess.run(command, env=quiet | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
        if done.returncode:
            print(f"{' '.join(command)} ended with exit code {done.returncode}.", file=sys.stderr)
            return 1
    programs = environment / ("Scripts" if os.name == "nt" else "bin")
    print(f"Installed. The first moving picture: {programs / 'devilgan'} film")
    print(f"The notebooks: {programs / 'jupyter'} lab {BUNDLE / 'project' / 'notebooks'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
