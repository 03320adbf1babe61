"""Work on the patch for the Adversarial Robustness Toolbox (docs/upstream): unpack ART, apply it, write it anew.

    upstream.py --sdist adversarial_robustness_toolbox-1.20.1.tar.gz [--out out/upstream] [--write]

Without ``--write``, unpacks the released source into the folder and applies the patch there, uncommitted: a tree in
which ART's own checks and the new tests run. With it, the patch becomes what that tree holds by now. ``--sdist`` is
what ``pip download --no-deps --no-binary :all: adversarial-robustness-toolbox==1.20.1`` leaves.
"""

import argparse
import shutil
import subprocess
import tarfile
import zlib
from pathlib import Path

PATCH = Path(__file__).resolve().parents[2] / "docs/upstream/art-pytorch-dgm.patch"
NOT_SOURCE = ("__pycache__/", "*.pyc", "*.egg-info/", ".mypy_cache/", ".ruff_cache/", ".pytest_cache/")


def git(folder: Path, *words: str) -> str:
    """What a git command says in ``folder``; its complaint is a ``SystemExit``."""
    named = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost", "-c", "core.autocrlf=false")
    done = subprocess.run(["git", *named, *words], cwd=folder, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"git {words[0]}: {done.stderr.strip()}")
    return done.stdout


def prepare(sdist: Path, folder: Path) -> None:
    """Unpack ``sdist`` into the new ``folder``, as the one commit of a repository, and apply the patch."""
    if folder.exists():
        raise SystemExit(f"{folder} exists: remove it first, or write the patch from it with --write.")
    parts = folder.with_name(f"{folder.name}.parts")
    shutil.rmtree(parts, ignore_errors=True)
    try:
        with tarfile.open(sdist) as archive:
            archive.extractall(parts, filter="data")
        tops = [path for path in parts.iterdir() if path.is_dir()]
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        shutil.rmtree(parts, ignore_errors=True)
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise SystemExit(f"{sdist.name} is not a whole .tar.gz ({reason}); download it again.") from None
    if len(tops) != 1:
        shutil.rmtree(parts)
        raise SystemExit(f"{sdist.name} has {len(tops)} folders at its top; a released source has one.")
    tops[0].rename(folder)
    shutil.rmtree(parts)
    git(folder, "init", "--quiet")
    (folder / ".git/info/exclude").write_text("\n".join(NOT_SOURCE), encoding="utf-8")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", sdist.name)
    git(folder, "apply", str(PATCH))


def write(folder: Path) -> None:
    """Make the patch what ``folder`` holds by now, committed or not, against its first commit."""
    if not (folder / ".git").is_dir():
        raise SystemExit(f"{folder} is not there, or not a tree made by this script: make it first, with --sdist.")
    git(folder, "add", "--all")
    first = git(folder, "rev-list", "--max-parents=0", "HEAD").strip()
    difference = git(folder, "diff", "--cached", first)
    if not difference:
        raise SystemExit(f"{folder} holds ART as it was released: there is nothing to write.")
    PATCH.write_text(difference, encoding="utf-8", newline="\n")
    print(git(folder, "diff", "--cached", "--shortstat", first).strip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sdist", type=Path, help="the released source; not needed with --write")
    parser.add_argument("--out", type=Path, default=Path("out/upstream"))
    parser.add_argument("--write", action="store_true", help="write the patch from the folder")
    chosen = parser.parse_args()
    folder = chosen.out.resolve()
    if chosen.write:
        write(folder)
    elif chosen.sdist is None or not chosen.sdist.is_file():
        parser.error("--sdist must name the released source of ART, a .tar.gz; --help says where to get it.")
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
        prepare(chosen.sdist.resolve(), folder)
        print(f"{folder}: ART with the patch; git diff shows it")


if __name__ == "__main__":
    main()
