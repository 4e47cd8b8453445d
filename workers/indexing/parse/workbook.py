"""Workbooks: a sheet is a page with its name as heading, a row is a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date, datetime, time
from io import BytesIO
from typing import Any

from workers.errors import DocumentCorrupt, DocumentEncrypted, DocumentTooBig
from workers.indexing.parse.archive import Archive
from workers.indexing.parse.dates import iso
from workers.indexing.parse.ooxml import core_properties
from workers.indexing.values import DocumentMetadata, Element, Parsed

MOST_CELLS = 5_000_000
_TOO_MANY = f"It has more than {MOST_CELLS:,} cells. Split it, or export what matters as csv."


def read_xlsx(data: bytes, _name: str) -> Parsed:
    """Read the values that Excel stored, formulas' results included."""
    import openpyxl

    book = openpyxl.load_workbook(BytesIO(data), read_only=True, data_only=True, keep_links=False)
    elements: list[Element] = []
    cells = 0
    for number, sheet in enumerate(book.worksheets, 1):
        rows: list[str] = []
        # Some writers declare fewer cells than they write.
        sheet.reset_dimensions()
        for row in sheet.iter_rows(values_only=True):
            cells += len(row)
            if cells > MOST_CELLS:
                raise DocumentTooBig(_TOO_MANY)
            rows.extend(_line(map(_shown, row)))
        elements += _sheet(sheet.title, rows, number)
    return Parsed(tuple(elements), replace(core_properties(Archive(data)), pages=len(book.worksheets)))


def read_xls(data: bytes, _name: str) -> Parsed:
    """Old workbooks."""
    import xlrd

    try:
        book = xlrd.open_workbook(file_contents=data, on_demand=True)
    except xlrd.XLRDError as exc:
        if "encrypt" in str(exc).lower():
            raise DocumentEncrypted("It is protected by a password. Save a copy without one.") from exc
        raise DocumentCorrupt("It is no workbook that can be read. Save it again as xlsx.") from exc
    elements: list[Element] = []
    cells = 0
    for number in range(book.nsheets):
        sheet = book.sheet_by_index(number)
        cells += sheet.nrows * sheet.ncols
        if cells > MOST_CELLS:
            raise DocumentTooBig(_TOO_MANY)
        rows = [
            line
            for row in range(sheet.nrows)
            for line in _line(_shown(_old_value(cell, book.datemode)) for cell in sheet.row(row))
        ]
        elements += _sheet(sheet.name, rows, number + 1)
        book.unload_sheet(number)
    return Parsed(tuple(elements), DocumentMetadata(author=book.user_name or None, pages=book.nsheets))


def _old_value(cell: Any, datemode: int) -> Any:
    import xlrd

    if cell.ctype == xlrd.XL_CELL_DATE:
        try:
            return xlrd.xldate_as_datetime(cell.value, datemode)
        except (ValueError, OverflowError):
            return cell.value
    if cell.ctype == xlrd.XL_CELL_BOOLEAN:
        return bool(cell.value)
    if cell.ctype == xlrd.XL_CELL_ERROR:
        return xlrd.error_text_from_code.get(cell.value, "")
    return cell.value


def _shown(value: Any) -> str:
    """Return a cell's value as a reader would write it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime):
        return iso(value.date() if value.time() == time() else value) or ""
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.15g}"
    return " ".join(str(value).split())


def _line(values: Iterable[str]) -> Iterator[str]:
    row = list(values)
    while row and not row[-1]:
        row.pop()
    if row:
        yield " | ".join(row)


def _sheet(name: str, rows: list[str], number: int) -> list[Element]:
    if not rows:
        return []
    return [Element("heading", name, level=1, page=number), Element("table", "\n".join(rows), page=number)]
