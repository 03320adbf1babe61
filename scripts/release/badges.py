"""Write the badges for Colab and Binder into the README, between its markers: badges.py

Both open a public repository on GitHub, whose address is ``repository`` under ``[project.urls]`` in pyproject.toml.
While there is none, the badges lead to the page of each service where one enters an address. Their pictures ship here,
so that the page is whole without a network.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- badges:begin -->", "<!-- badges:end -->"
FIRST = "notebooks/00_two_minute_tour.ipynb"
COLAB = "https://colab.research.google.com"
BINDER = "https://mybinder.org"


def repository() -> str | None:
    """``owner/name`` on GitHub from pyproject.toml, or None; an address of another form is a ``ValueError``."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})
    address = next((value for name, value in urls.items() if name.lower() == "repository"), None)
    if address is None:
        return None
    match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", address)
    if not match:
        raise ValueError(f"repository={address!r} is not valid: it must be https://github.com/OWNER/NAME.")
    return match[1]


def badges(name: str | None) -> str:
    """The block between the markers for the repository ``name`` (owner/name), or for none."""
    colab = f"{COLAB}/github/" + (f"{name}/blob/main/{FIRST}" if name else "")
    binder = f"{BINDER}/" + (f"v2/gh/{name}/main?urlpath=lab/tree/{FIRST}" if name else "")
    first = f"[![Open in Colab](docs/pictures/colab.svg)]({colab})"
    second = f"[![Launch Binder](docs/pictures/binder.svg)]({binder})"
    address = f"https://github.com/{name}" if name else "ADDRESS"
    clone = f"`!git clone {address} devilgan && pip install -q -e './devilgan[notebooks]'`"
    enter = "" if name else "Enter the address of your copy of this repository there. "
    return f"{first} {second}\n\n{enter}In Colab, run this first, then restart the session:\n{clone}"


def with_badges(readme: str) -> str:
    """``readme`` with the block made anew."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{badges(repository())}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(with_badges(path.read_text(encoding="utf-8")), encoding="utf-8")
    print(badges(repository()))
