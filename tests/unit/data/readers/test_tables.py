import pytest

from fineprune.data.readers.tables import read_table
from fineprune.errors import DataError


@pytest.fixture
def table(tmp_path):
    def write(data):
        path = tmp_path / "table.csv"
        path.write_bytes(data)
        return path

    return write


def test_cells_are_found_by_the_name_of_their_column(table):
    path = table(b"\xef\xbb\xbfa;b,c; d\r\n1;x,y; 2 \r\n\r\n")
    (row,) = read_table(path, ("a", "d"), delimiter=";")
    assert (row.where, row.text("b,c"), row.number("d")) == (f"{path}:2", "x,y", 2.0)
    assert row.text("no such column") == ""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"table.csv: expected the column 'a', found \[\]"),
        (b"a\n1\n", r"table.csv: expected the column 'd', found \['a'\]"),
        (b"a;d;a\n1;2;3\n", "table.csv: expected one column 'a', found 2"),
        (b"a;d\n1;2\n1\n", "table.csv:3: expected 2 cells, found 1"),
        (b"a;d\n1;2;3\n", "table.csv:2: expected 2 cells, found 3"),
        (b"a;d\n\xff;2\n", "table.csv: expected a table, found .*codec"),
        (
            b'a;d\n\n1;"2\n3;4\n',
            "table.csv:3: expected a row of one line, its quotes closed, found unexpected end",
        ),
        (b'a;d\n1;"2\n3;4"\n5;6\n', "table.csv:2: expected a row of one line, found a quote over several"),
        (b'a;d\n1;"2"3\n', "table.csv:2: expected a row of one line, its quotes closed, found"),
    ],
)
def test_refuses_a_damaged_table(data, message, table):
    with pytest.raises(DataError, match=message):
        list(read_table(table(data), ("a", "d"), delimiter=";"))


@pytest.mark.parametrize("cell", ["", "x", "nan", "inf", "1,5"])
def test_refuses_what_is_no_finite_number(cell, table):
    (row,) = read_table(table(f"a;b\n{cell};1\n".encode()), ("a",), delimiter=";")
    with pytest.raises(DataError, match=r"table.csv:2: expected a number in 'a', found"):
        row.number("a")


def test_refuses_a_table_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"expected a table, found .*No such file"):
        list(read_table(tmp_path / "table.csv", (), delimiter=";"))
