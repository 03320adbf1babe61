"""Build the documentation site from README, docs and the executed notebooks with mystmd: out/site.

    website.py [--out out/site] [--theme FOLDER] [--check]

Needs Node.js 20 or newer. mystmd fetches its theme (book-theme) from the network; ``--theme`` takes one that lies in a
folder. ``--check`` makes no pages: it reads every source, follows every reference between them and fails on the first
error, without a theme and without a network.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "docs" / "myst.yml"
LINKED = (
    *("docs", "data", "studies", "notebooks", "devilgan_lite", "scripts", "tests"),
    *("LICENSE", "CITATION.cff", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
)
NOT_COPIED = shutil.ignore_patterns("*.npz", "*.safetensors", "__pycache__", ".ipynb_checkpoints", "myst.yml")
FOLD = "<summary>\N{BLACK RIGHT-POINTING SMALL TRIANGLE} "  # in outputs; the theme's own style takes the sign away
NO_THEME = {"jtex": "v1", "title": "None", "version": "1.0.0", "build": {"install": "true", "start": "true"}}


def pages(toc: list[dict[str, Any]]) -> Iterator[str]:
    """The files of a table of contents, in order."""
    for entry in toc:
        if "file" in entry:
            yield entry["file"]
        yield from pages(entry.get("children", []))


def copy_sources(folder: Path) -> None:
    """What the pages are made of and what they link to, without models and data."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in LINKED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=NOT_COPIED)
        else:
            shutil.copy2(ROOT / name, folder)
    for path in folder.glob("notebooks/*.ipynb"):  # cells are numbered in each; on one site, names must differ
        document = json.loads(path.read_text(encoding="utf-8"))
        for cell in document["cells"]:
            cell["id"] = f"{path.stem.partition('_')[0]}-{cell['id']}"
            for output in cell.get("outputs", []):
                if "text/html" in (data := output.get("data", {})):
                    data["text/html"] = "".join(data["text/html"]).replace("<summary>", FOLD)
        path.write_text(json.dumps(document), encoding="utf-8")


def configuration(theme: Path | None) -> dict[str, Any]:
    """docs/myst.yml, with the theme in a folder where one is given."""
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    if theme is not None:
        config["site"]["template"] = str(theme.resolve())
    return config


def build(out: Path, theme: Path | None, check: bool) -> int:
    """Copy, configure, run mystmd; its exit code."""
    sources = out / "sources"
    copy_sources(sources)
    if check:
        theme = out / "no_theme"
        theme.mkdir(exist_ok=True)
        (theme / "template.yml").write_text(yaml.safe_dump(NO_THEME), encoding="utf-8")
    (sources / "myst.yml").write_text(yaml.safe_dump(configuration(theme), sort_keys=False), encoding="utf-8")
    environment = dict(os.environ)
    if check:  # mystmd asks the registry whether it is the newest; a closed door answers at once
        environment["npm_config_registry"] = "http://127.0.0.1:9/"
    kind = ["--site", "--strict"] if check else ["--html"]
    done = subprocess.run(
        [sys.executable, "-m", "mystmd_py.main", "build", *kind, "--ci"], cwd=sources, env=environment
    ).returncode
    if done == 0 and not check:
        shutil.rmtree(out / "html", ignore_errors=True)
        shutil.move(sources / "_build" / "html", out / "html")
        print(f"{out / 'html'}; look at it with: python3 -m http.server --directory {out / 'html'}")
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out/site", help="folder to make")
    parser.add_argument("--theme", type=Path, help="folder of a mystmd site theme, instead of fetching one")
    parser.add_argument("--check", action="store_true", help="only read all sources and follow their references")
    options = parser.parse_args()
    if options.theme is not None and not (options.theme / "template.yml").is_file():
        parser.error(f"--theme {options.theme} is no theme: it has no template.yml.")
    if shutil.which("node") is None:
        parser.error("mystmd needs Node.js 20 or newer, and there is no node; install it from your system's packages.")
    return build(options.out.resolve(), options.theme, options.check)


if __name__ == "__main__":
    sys.exit(main())
