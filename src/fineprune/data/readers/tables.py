"""Tables beside the data: CSV files whose every fault is told with its line."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fineprune.errors import DataError, excerpt


@dataclass(frozen=True)
class Row:
    """One row of a table; ``where`` is its file and line."""

    where: str
    cells: Mapping[str, str]

    def text(self, column: str) -> str:
        """A cell without the blanks around it; empty where the table has no such column."""
        return self.cells.get(column, "").strip()

    def number(self, column: str) -> float:
        """A cell as a finite number.

        Raises:
            DataError: it is none.
        """
        try:
            value = float(self.text(column))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(
                f"{self.where}: expected a number in {column!r}, found {excerpt(self.text(column))}"
            )
        return value

    def whole(self, column: str) -> int:
        """A cell as a whole number.

        Raises:
            DataError: it is none.
        """
        value = self.number(column)
        if not value.is_integer():
            raise DataError(
                f"{self.where}: expected a whole number in {column!r}, found {excerpt(self.text(column))}"
            )
        return int(value)


def read_table(path: Path, columns: Sequence[str], delimiter: str) -> Iterator[Row]:
    """The rows of a CSV file with a header.

    Raises:
        DataError: the file cannot be read or is no text, one of ``columns`` is missing or there twice, or a
            row has another number of cells than the header, or takes more than one line: a quote that nothing
            closes would swallow the rows below it.
    """
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in columns if name not in header]
            if missing:
                raise DataError(f"{path}: expected the column {missing[0]!r}, found {excerpt(header)}")
            twice = [name for name in columns if header.count(name) > 1]
            if twice:
                raise DataError(f"{path}: expected one column {twice[0]!r}, found {header.count(twice[0])}")
            line = reader.line_num + 1
            for cells in reader:
                where = f"{path}:{line}"
                if reader.line_num != line:
                    raise DataError(f"{where}: expected a row of one line, found a quote over several")
                line += 1
                if not cells:  # a blank line is none of the table's
                    continue
                if len(cells) != len(header):
                    raise DataError(f"{where}: expected {len(header)} cells, found {len(cells)}")
                yield Row(where, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise DataError(
            f"{path}:{line}: expected a row of one line, its quotes closed, found {error}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a table, found {error}") from error
