"""Files of every kind: the same rows give the same corpus, and whatever is damaged is refused with its place."""

import csv
import io
import json
import random

import pyarrow
import pyarrow.parquet
import pytest

from insitu.errors import InputError
from insitu.language import Columns, Corpus, load_corpus
from insitu.language.texts.tables import SUFFIXES, read_table

TEXTS = (
    "plain",
    'a "quoted" word',
    '"begins with a quote',
    "comma, and; semicolon",
    "tab\tinside",
    "two\nlines",
    "two\r\nlines of another kind",
    " blanks at both ends ",
    "line\u2028separator and {braces} and {hypothesis}",
    "Ünïcödé 文 🙂",
    "back\\slash",
    'ends in a quote"',
)
ROWS = [{"text": text, "label": ("fact", "own view")[i % 2], "id": f"row {i}"} for i, text in enumerate(TEXTS)]


def comma_separated(rows, delimiter=",", end="\r\n"):
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def parquet(rows):
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def lines(rows, end="\n"):
    return "".join(json.dumps(row) + end for row in rows).encode()


WRITERS = {
    ".jsonl": lines,
    ".json": lambda rows: json.dumps(rows, indent=1).encode(),
    ".csv": comma_separated,
    ".tsv": lambda rows: comma_separated(rows, "\t"),
    ".parquet": parquet,
}


def write(folder, suffix, content, name="train"):
    path = folder / f"{name}{suffix}"
    path.write_bytes(content)
    return path


def values(table, columns=("text", "label", "id")):
    return [tuple(row[column] for column in columns) for row in table.rows]


def test_every_kind_of_file_is_tried():
    assert set(WRITERS) == set(SUFFIXES)


@pytest.mark.parametrize("suffix", WRITERS)
def test_rows_survive_every_kind_of_file(tmp_path, suffix):
    table = read_table(write(tmp_path, suffix, WRITERS[suffix](ROWS)))
    assert values(table) == [tuple(row.values()) for row in ROWS]
    corpora = [load_corpus(write(tmp_path, suffix, WRITERS[suffix](ROWS))) for _ in range(2)]
    assert corpora[0] == corpora[1]
    assert {row.id: row.text for row in (*corpora[0].train, *corpora[0].test)} == {r["id"]: r["text"] for r in ROWS}


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_of_byte_order_and_ends_of_line_make_no_difference(tmp_path, suffix, mark, end):
    content = lines(ROWS, end) if suffix == ".jsonl" else comma_separated(ROWS, end=end)
    assert values(read_table(write(tmp_path, suffix, content.decode().encode(mark)))) == values(
        read_table(write(tmp_path, suffix, content))
    )


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_are_taken_from_the_line_of_names(tmp_path, delimiter):
    table = read_table(write(tmp_path, ".csv", comma_separated(ROWS, delimiter)))
    assert values(table) == [tuple(row.values()) for row in ROWS]


def test_quotes_of_tab_separated_text_that_open_nothing_stand_as_they_are(tmp_path):
    content = 'text\tlabel\n"so good\tfact\nhe said "no"\tview\n"all" of it\tfact\nthe end"\tview\n'
    table = read_table(write(tmp_path, ".tsv", content.encode()))
    assert values(table, ("text", "label")) == [tuple(line.split("\t")) for line in content.splitlines()[1:]]


def test_rows_are_placed_at_the_line_where_they_begin(tmp_path):
    content = b'text,label\r\n"a\nb",fact\r\n\r\nc,fact\n'
    assert read_table(write(tmp_path, ".csv", content)).numbers == (2, 5)
    assert read_table(write(tmp_path, ".json", b'[\n {"a": 1},\n\n {"a":\n 2}, {"a": 3}]')).numbers == (2, 4, 5)
    assert read_table(write(tmp_path, ".json", lines(ROWS))).numbers == tuple(range(1, len(ROWS) + 1))


GOOD = '{"text": "x", "label": "a"}\n'
DEEP = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".csv", "text,label\na,b,c\n", r"train.csv, line 2: expected 2 fields, .* \(text, label\); got 3"),
        (".csv", 'text,label\n"a\nb",c\nd\n', r"line 4: expected 2 fields"),
        (".csv", "text,label,text\n", r"line 1: two columns are called 'text'"),
        (".csv", 'text,label\n"a,b\n', r"line 2: the row that begins here cannot be read \(unexpected end of data"),
        (".csv", 'text,label\na,b\n"a" c,d\n', r"line 3: the row that begins here cannot be read"),
        (".csv", "", "is empty; expected a line of column names"),
        (".csv", "text,label\n", "there is no train row"),
        (".csv", "a,b\n1,2\n", r"has the columns a, b; the column 'label' is missing"),
        (".csv", "Txt,label\n1,2\n", r"the column 'text' is missing \(did you mean Txt\?\)"),
        (".csv", "t\0e\0x\0t\0", "line 1: there is a NUL character"),
        (".csv", b"text,label\n\xe4,b\n", "is not UTF-8 text: byte 11, in line 2"),
        (".csv", "text,label\na,b\n".encode("utf-16")[:-1], "is not UTF-16-LE text: byte 30, in line 2"),
        (".tsv", "text\tlabel\na\n", "line 2: expected 2 fields"),
        (".jsonl", GOOD + '{"text": "x", "label": "a", "text": "y"}', "line 2: the key 'text' stands twice"),
        (".jsonl", GOOD + '{"\\ud800": 1}', r"line 2: the key '\\ud800' holds one half of a character"),
        (".jsonl", GOOD + '{"text": "x", "label": "a\\udc00"}', r"line 2: 'label' holds '\\udc00', one half"),
        (".jsonl", GOOD + '{"text": "x\\ud83d", "label": "a"}', r"line 2: 'text' holds '\\ud83d', one half"),
        (".jsonl", GOOD + '{"text": "x", "label": "a", "id": "\\ud83d"}', r"line 2: 'id' holds '\\ud83d'"),
        (".jsonl", GOOD + '{"text": "x", "m": ' + DEEP + "}", "line 2: it is nested too deeply"),
        (
            ".jsonl",
            GOOD + '{"text": ' + "[" * 500 + "]" * 500 + ', "label": "a"}',
            r"line 2: 'text' must be .* got \[\[",
        ),
        (".jsonl", GOOD + "[" * 500 + "]" * 500, r"line 2: expected an object"),
        (".jsonl", GOOD + '{"text": "x", "n": ' + "9" * 5000 + "}", "line 2: a number has too many digits"),
        (
            ".jsonl",
            GOOD + '{"text": "x", "label": 1.5}',
            "label in 'label' must be a string or a whole number; got 1.5",
        ),
        (".jsonl", GOOD + '{"text": "x", "label": ["a"]}', r"must be a string or a whole number; got \['a'\]"),
        (".jsonl", GOOD + '{"text": "x", "label": "b", "id": [1]}', "an id must be a string or a whole number"),
        (".jsonl", GOOD + '{"text": true, "label": "b"}', "'text' must be there and hold a string; got True"),
        (".jsonl", GOOD + '{"text": "y", "label": "A"}', "the labels 'a' and 'A' differ in capitals only"),
        (".jsonl", '{"text": "x", "label": "a", "id": 7}\n' * 2, "line 1 and .*line 2: two rows have the id '7'"),
        (".jsonl", '{"text": "x", "label": "a", "hypothesis": "h"}', "one of premise and hypothesis is missing"),
        (".json", "[" + GOOD + ",\n" + GOOD + "\n" + GOOD + "]", r"line 5: this is not JSON \(Expecting ',' or '\]'"),
        (".json", "[" + GOOD + ",\n]", r"line 3: this is not JSON"),
        (".json", "[" + GOOD + "]\n\n1", "line 4: this is not JSON .Extra data"),
        (".json", "[" + GOOD, "line 2: this is not JSON"),
        (".json", '[{"a":\n1},\n' + DEEP + "]", "line 3: it is nested too deeply"),
        (".json", '{"train": [\n1]}', "line 1: this is not JSON"),
        (".json", "[1]", "line 1: expected an object"),
        (".parquet", b"PAR1", "could not be read as Parquet"),
        (".xlsx", b"", r"files of rows end in .jsonl, .json, .csv, .tsv, .parquet; got '.xlsx'"),
    ],
)
def test_what_cannot_be_used_is_refused_with_file_and_line(tmp_path, suffix, content, message):
    path = write(tmp_path, suffix, content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        load_corpus(path)


def test_parquet_needs_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'insitu\[parquet\]'"):
        load_corpus(write(tmp_path, ".parquet", parquet(ROWS)))


def test_parquet_names_whole_number_labels_as_the_package_datasets_stores_them(tmp_path):
    rows = [{"text": f"text {i}", "label": [0, 1, None, -1][i % 4]} for i in range(16)]
    features = {"text": {"dtype": "string"}, "label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pyarrow.Table.from_pylist(rows).replace_schema_metadata(metadata)
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    corpus = load_corpus(tmp_path / "train.parquet")
    assert corpus.labels == ("no", "yes")
    assert len(corpus.excluded) == 8
    assert all(row.label == ("no", "yes")[int(row.id) % 4] for row in (*corpus.train, *corpus.test))
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": "{"}), tmp_path / "train.parquet")
    with pytest.raises(InputError, match="the labels are -1, 0 and 1"):
        load_corpus(tmp_path / "train.parquet")


def test_columns_of_one_name_in_parquet_are_refused(tmp_path):
    twice = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    pyarrow.parquet.write_table(twice, tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"two columns are called 'text'|could not be read as Parquet"):
        load_corpus(tmp_path / "train.parquet")


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("text", "label"), Columns()),
        (("Text ", " LABEL"), Columns()),
        (("review", "label"), Columns()),
        (("body", "class"), Columns(text="body", label="class")),
        (("sentence1", "sentence2", "label"), Columns()),
        (("left", "right", "gold"), Columns(label="gold", pair=("left", "right"))),
    ],
)
def test_columns_are_found_by_name(tmp_path, names, columns):
    parts = [(f"first {i}", f"second {i}", "ab"[i % 2]) for i in range(4)]
    rows = [dict(zip(names, part[-len(names) :], strict=True)) for part in parts]
    corpus = load_corpus(write(tmp_path, ".csv", comma_separated(rows)), columns)
    for row in (*corpus.train, *corpus.test):
        first, second, label = parts[int(row.id)]
        assert row.label == label
        assert (row.text, row.hypothesis) == ((first, second) if len(names) == 3 else (second, ""))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "a", "pair": ("b", "c")}, r"texts are single \(--text a\) or pairs \(--pair b c\), not both"),
        ({"pair": ("a",)}, "a pair has two columns"),
        ({"pair": ("a", "a")}, "a pair has two columns"),
    ],
)
def test_columns_that_contradict_each_other_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Columns(**arguments)


def damaged(content, draw):
    """The bytes with one slip of the kinds that files suffer: cut, doubled, moved, overwritten or spoiled."""
    a, b = sorted(draw.sample(range(len(content) + 1), 2))
    spoil = bytes(draw.randrange(256) for _ in range(draw.randint(1, 4)))
    sign = draw.choice((b'"', b"\n", b"\r", b",", b"\t", b"{", b"]", b"\\ud800", b"null", b"-1", b"1e999", b"\0", b""))
    return draw.choice(
        (content[:a], content[:a] + content[b:], content[:b] + content[a:], content[:a] + spoil + content[a:],
         content[:a] + spoil + content[a + len(spoil) :], content[:a] + sign + content[a:], content[b:] + content[:b])
    )  # fmt: skip


@pytest.mark.parametrize("suffix", WRITERS)
def test_damaged_files_are_read_or_refused_and_nothing_else(tmp_path, suffix):
    draw = random.Random(0)
    outcomes = set()
    for _ in range(150):
        content = WRITERS[suffix]([{**row, "n": 3} for row in ROWS])
        for _ in range(draw.randint(1, 3)):
            content = damaged(content, draw) or b" "
        try:
            outcomes.add(type(load_corpus(write(tmp_path, suffix, content))))
        except InputError as error:
            str(error).encode()
            outcomes.add(InputError)
    assert outcomes == {Corpus, InputError}


def test_a_plain_reader_fails_on_damaged_files_in_other_ways(tmp_path):
    draw = random.Random(0)
    failures = set()
    for _ in range(150):
        path = write(tmp_path, ".jsonl", damaged(lines(ROWS), draw))
        try:
            [(row["text"].strip(), row["label"]) for row in map(json.loads, path.read_text("utf-8").splitlines())]
        except Exception as error:
            failures.add(type(error))
    assert {json.JSONDecodeError, UnicodeDecodeError, KeyError} <= failures


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_values_of_any_kind_are_read_or_refused_and_nothing_else(tmp_path, suffix):
    draw = random.Random(1)
    kinds = ("a", "", " ", None, 0, 1, -1, 2**70, 1.0, 0.5, float("nan"), float("inf"), True, ["a"], {"a": 1}, "\u2028")
    for _ in range(150):
        rows = [{name: draw.choice(("b", draw.choice(kinds))) for name in ("text", "label", "id")} for _ in range(4)]
        try:
            content = WRITERS[suffix]([row for row in rows if draw.random() < 0.9])
        except (pyarrow.ArrowException, OverflowError, IndexError):
            continue  # Parquet holds values of one kind in a column.
        try:
            load_corpus(write(tmp_path, suffix, content))
        except InputError as error:
            str(error).encode()
