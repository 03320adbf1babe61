"""Write the editions of every notebook (student, instructor, core), and the routes through them.

editions.py [--only 00,03] [--out out/editions]
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="numbers, such as 00,03")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "editions", help="the folder to write into")
    options = parser.parse_args()
    wanted = {part.strip() for part in options.only.split(",") if part.strip()}
    paths = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    missing = sorted(wanted - {path.stem[:2] for path in paths})
    if missing:
        parser.error(f"there is no notebook {missing[0]}; there are {', '.join(path.stem[:2] for path in paths)}.")

    from devilgan_lite.apps.course.lesson.editions import write_editions
    from devilgan_lite.apps.course.lesson.routes import ROUTES, write_route

    written = write_editions([path for path in paths if not wanted or path.stem[:2] in wanted], options.out)
    print(f"{len(written)} notebooks in {options.out}: student, instructor, and core (without what is tagged bonus)")
    if not wanted:
        for name in ROUTES:
            stops = write_route(name, options.out / "routes" / name)
            print(f"route {name}: {len(stops)} notebooks and index.md in {stops[0].parent}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
