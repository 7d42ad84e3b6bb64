"""Read the tables people really have: byte order marks, `;` or tab between cells, spaces after commas, ragged rows."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from mer_core.errors import UserError


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]], str]:
    """Header, rows as (line number, cells) and the separator of a CSV file in UTF-8.

    The separator is the one of `,`, `;` and tab that occurs most often in the header line. White space around cells is
    removed, blank lines are no rows, and a row keeps the number of cells it has. UserError where the file is missing,
    empty or not such a table.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; put the table there.") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # another encoding (UTF-16 has a zero in every other byte), or no text at all
        raise UserError(f"{path} is not UTF-8 text; save it again as CSV (UTF-8).")
    separator = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t")
    rows = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise UserError(f"{path} is not a readable table ({error}); save it again as CSV (UTF-8).") from None
    if not rows:
        raise UserError(f"{path} is empty; expected a header line and one line for each track.")
    return rows[0][1], rows[1:], separator
