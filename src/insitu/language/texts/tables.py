"""Files of rows: CSV, TSV, JSON, one JSON object a line, and Parquet, each value with the place where it stands."""

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from reprlib import repr as brief
from typing import Any, final

from insitu.errors import InputError, require_package

__all__ = ["SUFFIXES", "Table", "first_line", "read_table"]

# UTF-32's mark begins with UTF-16's.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
BLANKS = re.compile(r"[ \t\n\r]*")


@final
@dataclass(frozen=True)
class Table:
    """Rows of named values.

    Args:
        name: The file, as messages name it.
        columns: The names of all values, in the order in which they first occur.
        rows: The rows; one of JSON may lack columns that others have.
        numbers: The line at which each row begins, or its number.
        unit: What ``numbers`` counts.
        classes: The names of whole-number labels, for the columns that have such names.
        id: The column that names rows; empty where rows have numbers only.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]
    numbers: tuple[int, ...]
    unit: str = "line"
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    id: str = "id"

    def place(self, row: int) -> str:
        """Where a row stands, as messages name it."""
        return f"{self.name}, {self.unit} {self.numbers[row]}"

    def part(self, rows: Sequence[int]) -> "Table":
        """Some of the rows."""
        return replace(self, rows=tuple(self.rows[i] for i in rows), numbers=tuple(self.numbers[i] for i in rows))


def read_table(path: Path) -> Table:
    """The rows of a file, by its ending.

    Raises:
        InputError: If the file cannot be read or its ending is of no known kind; the message names file and line.
    """
    if path.suffix.lower() not in READERS:
        raise InputError(f"{path}: files of rows end in {', '.join(SUFFIXES)}; got {path.suffix or 'no ending'!r}.")
    return READERS[path.suffix.lower()](path)


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in the encoding that its byte-order mark names."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from None
    mark, encoding = next((m for m in MARKS if content.startswith(m[0])), (b"", "utf-8"))
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        line = content[len(mark) :][: error.start].decode(encoding, "ignore").count("\n") + 1
        raise InputError(
            f"{path} is not {encoding.upper()} text: byte {error.start + len(mark)}, in line {line}, cannot be "
            "decoded. Save it as UTF-8."
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(
            f"{path}, line {line}: there is a NUL character, as in UTF-16 without a mark. Save it as UTF-8."
        )
    return text


def read_csv(path: Path) -> Table:
    text = read_text(path)
    header = text.lstrip("\r\n").split("\n", 1)[0]
    return delimited(path, text, max(",;\t|", key=header.count))


def read_tsv(path: Path) -> Table:
    """Fields between tabs, quoted as in CSV where that makes sense, else as they stand."""
    text = read_text(path)
    try:
        table = delimited(path, text, "\t")
        # An opening quote that was only text swallows rows up to the next one, with their tabs and ends of line.
        sound = not any("\t" in value and "\n" in value for row in table.rows for value in row.values())
    except InputError:
        sound = False
    return table if sound else delimited(path, text, "\t", quoted=False)


def delimited(path: Path, text: str, delimiter: str, *, quoted: bool = True) -> Table:
    records = list(fields(path, text, delimiter, quoted))
    if not records:
        raise InputError(f"{path} is empty; expected a line of column names, and rows.")
    (first, header), rows = records[0], records[1:]
    columns = tuple(name.strip() for name in header)
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        raise InputError(f"{path}, line {first}: two columns are called {twice[0]!r}; rename or remove one.")
    for line, values in rows:
        if len(values) != len(columns):
            raise InputError(
                f"{path}, line {line}: expected {len(columns)} fields, as there are columns ({', '.join(columns)}); "
                f"got {len(values)}. A field that holds {delimiter!r} stands in double quotes."
            )
    return Table(
        str(path),
        columns,
        tuple(dict(zip(columns, values, strict=True)) for _, values in rows),
        tuple(line for line, _ in rows),
    )


def fields(path: Path, text: str, delimiter: str, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """Every row that is not blank, with the line at which it begins."""
    lines = io.StringIO(text, newline="")
    quoting: Any = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    line = 1
    try:
        for values in reader:
            if len(values) > 1 or any(value.strip() for value in values):
                yield line, values
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}, line {line}: the row that begins here cannot be read ({error}). A quote inside a quoted field is "
            "written twice, and every quote is closed."
        ) from None


def read_json_lines(path: Path) -> Table:
    # Other characters that end a line, such as U+2028, may stand in a text.
    lines = read_text(path).split("\n")
    return objects(path, ((i, parsed(path, i, line)) for i, line in enumerate(lines, start=1) if line.strip()))


def parsed(path: Path, line: int, text: str) -> Any:
    with json_at(path, line):
        return DECODER.decode(text)


@contextmanager
def json_at(path: Path, line: int) -> Iterator[None]:
    """Names file and line where JSON that begins there cannot be read."""
    try:
        yield
        return
    except json.JSONDecodeError as error:
        # In a list the position counts from the beginning of the file, in a single line from its own.
        line = max(line, error.lineno)
        reason = f"this is not JSON ({error.msg} at column {error.colno})"
    except RecursionError:
        reason = "it is nested too deeply to be read"
    except ValueError as error:
        reason = "a number has too many digits to be read" if "digits" in str(error) else str(error)
    raise InputError(f"{path}, line {line}: {reason}. Expected one object a line, or a list of objects.")


def distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!a} stands twice in one object")
    for name in made:
        if not name.isascii() and any("\ud800" <= sign <= "\udfff" for sign in name):
            raise ValueError(f"the key {name!a} holds one half of a character (a lone surrogate)")
    return made


DECODER = json.JSONDecoder(object_pairs_hook=distinct)


def read_json(path: Path) -> Table:
    """A list of objects, or one object a line, as the package datasets writes it under this ending."""
    text = read_text(path)
    return objects(path, list_items(path, text)) if text.lstrip().startswith("[") else read_json_lines(path)


def list_items(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """The items of a JSON list, each with the line at which it begins."""
    line, counted, at = 1, 0, after_blanks(text, text.index("[") + 1)
    more = text[at : at + 1] != "]"
    while more:
        line, counted = line + text.count("\n", counted, at), at
        with json_at(path, line):
            item, at = DECODER.raw_decode(text, at)
            at = after_blanks(text, at)
            if text[at : at + 1] not in ("]", ","):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, at)
        yield line, item
        more = text[at] == ","
        at = after_blanks(text, at + 1) if more else at
    rest = after_blanks(text, at + 1)
    with json_at(path, line):
        if rest < len(text):
            raise json.JSONDecodeError("Extra data", text, rest)


def after_blanks(text: str, at: int) -> int:
    found = BLANKS.match(text, at)
    assert found is not None
    return found.end()


def objects(path: Path, items: Iterable[tuple[int, Any]]) -> Table:
    lines, rows = [], []
    columns: dict[str, None] = {}
    for line, item in items:
        if not isinstance(item, dict):
            raise InputError(f"{path}, line {line}: expected an object with 'text' and 'label'; got {brief(item)}.")
        lines.append(line)
        rows.append(item)
        columns.update(dict.fromkeys(item))
    return Table(str(path), tuple(columns), tuple(rows), tuple(lines))


def read_parquet(path: Path) -> Table:
    require_package(f"{path}: reading Parquet", "pyarrow", "parquet", ", or save the rows as CSV or JSON lines")
    import pyarrow.parquet

    try:
        found = pyarrow.parquet.read_table(path)
        columns, rows = tuple(found.column_names), tuple(found.to_pylist())
    except Exception as error:  # Damaged files make pyarrow raise almost anything.
        raise InputError(f"{path} could not be read as Parquet: {first_line(error)}.") from None
    classes = class_names((found.schema.metadata or {}).get(b"huggingface", b""))
    return Table(str(path), columns, rows, tuple(range(1, len(rows) + 1)), "row", classes)


def class_names(metadata: bytes) -> dict[str, tuple[str, ...]]:
    """The names of whole-number labels that the package datasets stores beside the columns of a Parquet file."""
    try:
        features = json.loads(metadata)["info"]["features"].items()
        return {column: tuple(map(str, how["names"])) for column, how in features if "names" in how}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    return str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__


READERS: dict[str, Callable[[Path], Table]] = {
    ".jsonl": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
}
SUFFIXES = tuple(READERS)
