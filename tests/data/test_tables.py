"""Tables: what is refused and how it is said, the shipped one, files, and the code of rows in [-1, 1] and back."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from devilgan_lite import data
from devilgan_lite.data import Column, Table, TableCode


def small(n: int = 400, seed: int = 0) -> Table:
    """A table with every kind of column: a heavy tail with a spike, few and many whole numbers, categories."""
    random = np.random.default_rng(seed)
    paid = np.where(random.random(n) < 0.3, 0.0, np.exp(random.normal(3, 2, n)))
    columns = {
        "paid": paid,
        "age": random.integers(20, 80, n),
        "months": random.integers(-2, 9, n),
        "town": random.choice(["Oslo", "Rome", "Lima"], n),
        "bad": (paid < 5).astype(int),
    }
    return Table.from_columns(columns, "bad", name="small")


@lru_cache
def fitted() -> TableCode:
    return TableCode.fit(small(), modes=5)


def test_columns_get_their_kinds_and_the_label_is_binary() -> None:
    table = small()
    assert [column.kind for column in table.columns] == ["number", "whole", "whole", "category", "category"]
    assert table.column("town").levels == ("Lima", "Oslo", "Rome") and table.column("bad").levels == ("0", "1")
    assert table.features().shape == (400, 4) and set(table.labels()) == {0, 1}
    few = table.take([3, 1])
    assert len(few) == 2 and np.array_equal(few.values, table.values[[3, 1]]) and few.name == "small"
    assert np.array_equal(table.take(table["age"] > 40)["age"], table["age"][table["age"] > 40])
    assert str(table).startswith("small: 400 rows, 5 columns, ")


def test_bad_columns_and_tables_are_one_sentence(refuses: Any) -> None:
    table = small()
    own = {column.name: table[column.name] for column in table.columns}
    for change, name in (
        ({"bad": np.arange(400) % 3}, "label"),
        ({"age": np.full(400, np.nan)}, "'age'"),
        ({"age": np.arange(3)}, "rows"),
        ({"age": np.zeros((400, 2))}, "'age'"),
    ):
        refuses(lambda change=change: Table.from_columns(own | change, "bad"), name)
    columns = (Column("x"), Column("y", "category", ("no", "yes")))
    for values, label, name in (
        (np.zeros((3, 3)), "y", "values"),
        (np.zeros((0, 2)), "y", "n >= 1"),
        (np.array([[0, 2.0]]), "y", "'y'"),
        (np.array([[0, 0.5]]), "y", "'y'"),
        (np.zeros((3, 2)), "x", "label"),
        (np.zeros((3, 2)), "z", "label"),
    ):
        refuses(lambda values=values, label=label: Table(columns, values, label), name)
    refuses(lambda: Column("town", "category", ("Oslo", "Oslo")), "'town'")
    refuses(lambda: Column("town", "text"), "kind")


def test_the_shipped_table_is_that_of_uci() -> None:
    table = data.card_default()
    assert table.values.shape == (30_000, 24) and table.labels().sum() == 6_636  # as in Yeh and Lien (2009)
    first = dict(zip((column.name for column in table.columns), table.values[0], strict=True))
    assert first["LIMIT_BAL"] == 20_000 and first["BILL_AMT1"] == 3_913 and first["default"] == 1
    assert table.column("SEX").levels[int(first["SEX"])] == "female"
    assert table.licence == "CC BY 4.0" and "Yeh" in table.source


def test_a_damaged_shipped_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "card_default.npz").write_bytes(b"damaged")
    (tmp_path / "checksums.json").write_text('{"card_default.npz": "0"}')
    monkeypatch.setenv("DEVILGAN_DATA", str(tmp_path))
    data.card_default.cache_clear()
    with pytest.raises(ValueError, match=r"card_default.npz does not match its SHA-256"):
        data.card_default()


def written(folder: Path, text: str) -> Path:
    path = folder / "rows.csv"
    path.write_text(text)
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, '\ufeffamount,"town",fraud\n1.5,Oslo,no\n\n-2e3,Rome,yes\n7,Oslo,no\n')
    table = data.read_table(path, "fraud", categories=("town",))
    assert [column.kind for column in table.columns] == ["number", "category", "category"]
    assert table.values.tolist() == [[1.5, 0, 0], [-2000, 1, 1], [7, 0, 0]] and table.name == "rows"
    assert len(data.read_table(path, "fraud", categories=("town",), rows=2)) == 2


def test_which_level_of_the_label_is_looked_for_can_be_said(tmp_path: Path) -> None:
    path = written(tmp_path, "amount,kind\n1,fraud\n2,honest\n3,honest\n")
    assert data.read_table(path, "kind").labels().tolist() == [0, 1, 1]  # the later word
    for positive, expected in (("fraud", [1, 0, 0]), ("honest", [0, 1, 1])):
        table = data.read_table(path, "kind", positive=positive)
        assert table.labels().tolist() == expected and table.column("kind").levels[1] == positive
    with pytest.raises(ValueError, match="positive='stolen' is unknown; valid: fraud, honest"):
        data.read_table(path, "kind", positive="stolen")


def test_a_bad_file_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Any) -> None:
    for text, name in (
        ("", "header"),
        ("a,a,y\n1,2,0\n", "name"),
        ("a,b\n1,0\n2,1\n", "'y'"),
        ("a,y\n1,0\nx,1\n", "row 2 has 'a'='x'"),
        ("a,y\n1,0\n,1\n", "row 2"),
        ("a,y\n1,0\nnan,1\n", "'a'"),
        ("a,y\n1,0\n2\n", "row 2"),
        ("a,y\n1,0\n", "1 rows"),
        ("a,y\n1,0\n1,1\n", "'a' is constant"),
        ("a,y\n1,0\n2,1\n3,2\n", "label='y'"),
        ("a,y\n1,0\n2,0\n", "'y' is constant"),
    ):
        path = written(tmp_path, text)
        refuses(lambda path=path: data.read_table(path, "y"), "rows.csv", name)
    monkeypatch.setattr("devilgan_lite.data.tables.MOST_ROWS", 3)
    path = written(tmp_path, "a,y\n1,0\n2,1\n3,0\n4,1\n")
    refuses(lambda: data.read_table(path, "y"), "rows=3")
    assert len(data.read_table(path, "y", rows=3)) == 3
    path.write_bytes(b"\xff\xfe\x00\x01")
    refuses(lambda: data.read_table(path, "y"), "rows.csv")
    refuses(lambda: data.read_table("none.csv", "y"), "none.csv", error=FileNotFoundError)


def test_card_fraud_is_read_from_a_file_of_its_form(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    names = ["Time", *(f"V{i}" for i in range(1, 29)), "Amount", "Class"]
    lines = [",".join(f'"{name}"' for name in names)]
    lines += [
        ",".join([str(i), *(f"{v:.9f}" for v in random.normal(size=28)), f"{i / 7:.2f}", f'"{int(i % 50 == 0)}"'])
        for i in range(200)
    ]
    table = data.card_fraud(written(tmp_path, "\n".join(lines)))
    assert table.values.shape == (200, 31) and table.labels().sum() == 4 and table.label == "Class"
    code = TableCode.fit(table, modes=3)
    assert np.abs(code.decode(code.encode(table)) - table.values).max() < 1e-3
    with pytest.raises(ValueError, match="is not creditcard.csv"):
        data.card_fraud(written(tmp_path, "a,Class\n1,0\n2,1\n"))


@pytest.mark.parametrize("table", [small(), data.card_default().take(range(200))], ids=["small", "card default"])
def test_what_is_encoded_comes_back(table: Table) -> None:
    code = TableCode.fit(table)
    encoded = code.encode(table)
    assert encoded.shape == (len(table), code.size) and encoded.dtype == torch.float32 and encoded.abs().max() <= 1
    back = code.decode(encoded)
    for column, before, after in zip(table.columns, table.values.T, back.T, strict=True):
        if column.kind == "number":  # of float32
            assert np.abs(before - after).max() <= 1e-6 * np.abs(before).max(), column.name
        else:
            assert np.array_equal(before, after), column.name
    again = TableCode(json.loads(json.dumps(code.layout)))
    assert torch.equal(again.encode(table), encoded) and again.spans == code.spans
    assert torch.equal(TableCode.fit(table).encode(table), encoded)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1, 1, width=32), min_size=31, max_size=31), st.floats(-10, 1e6))
def test_whatever_is_decoded_is_a_row_and_any_value_between_the_extremes_comes_back(
    numbers: list[float], value: float
) -> None:
    table, code = small(), fitted()
    sample = torch.tensor(numbers).repeat(2)[: code.size].unsqueeze(0)
    row = code.table(sample)  # a Table refuses codes and fractions that no row has
    low, high = table.values.min(0), table.values.max(0)
    assert ((row.values >= low) & (row.values <= high)).all()
    rows = table.values[:1].copy()
    rows[0, 0] = value
    back = code.decode(code.encode(rows))[0, 0]
    assert abs(back - min(max(value, low[0]), high[0])) <= 1e-5 * high[0]


def test_the_label_stands_where_the_code_says_and_samples_are_balanced() -> None:
    table, code = small(), fitted()
    encoded = code.encode(table)
    assert torch.equal((encoded[:, code.label + 1] > 0).long(), torch.from_numpy(table.labels()))
    real = code.samples_of(table)
    assert real.labels is not None and float(real.labels.double().mean()) == 0.5
    assert len(real) == 2 * max(np.bincount(table.labels())) and real.classes == ("0", "1")
    assert len(code.samples_of(table, balanced=False)) == len(table)


def test_the_code_refuses_in_one_sentence() -> None:
    table, code = small(), fitted()
    constant = Table(table.columns, table.values * np.array([0, 1, 1, 1, 1]), "bad")
    for call, says in (
        (lambda: TableCode.fit(table.take(range(10))), "table has 10 rows; at least 20"),
        (lambda: TableCode.fit(constant), "'paid' is constant"),
        (lambda: TableCode.fit(table, modes=0), "modes=0 is out of range"),
        (lambda: code.encode(table.values[:, :2]), r"expected finite \[n, 5\]"),
        (lambda: code.decode(torch.zeros(2, 3)), r"samples has shape \[2, 3\]"),
        (lambda: code.samples_of(table.take(table.labels() == 1)), "rows of one class"),
        (lambda: code.samples_of(data.card_default()), "other columns"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_the_modality_is_chosen_by_name_and_draws_rows() -> None:
    assert data.modality((31,)) is data.POINTS and data.modality((31,), "tables") is data.TABLES
    image = data.TABLES.show(fitted().encode(small()), scale=2)
    assert image.width == 2 * fitted().size and len(np.unique(np.asarray(image))) > 2
    with pytest.raises(ValueError, match="no named targets"):
        data.TABLES.target("devil", (31,))
