"""What all tables of images share: their columns, their text, and their refusal.

Lists of files, tables of pixels, TFRecord files and TensorFlow Datasets find their columns or
features here, so that all of them know the same words. A table that is not as `docs/data.md` says
is refused in one form, and `docs/how-to/lists.md` has short programs that write one that is read.
"""

from __future__ import annotations

import collections
import csv
import io
import itertools
import json
import re
import shlex
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_file import file_names
from imgpipe.components.common.splits import are_splits
from imgpipe.components.example_gen.notes import noted
from imgpipe.models import names
from imgpipe.models.errors import ConfigError
from imgpipe.models.files import json_object
from imgpipe.models.files.regular_files import open_regular
from imgpipe.models.finding import Finding
from imgpipe.models.settings.data import DataSettings

if TYPE_CHECKING:
    import pandas

#: Usual names of columns and features by role, the surest first. Case and everything that is
#: neither a letter nor a digit are ignored: "Class Name", "class_name" and "ClassName" are one.
_USUAL = {
    "name": (
        *("path", "filepath", "filename", "file", "filepaths", "filenames", "files"),
        *("imagepath", "imgpath", "imagefile", "imagefilename", "imagename", "imgname"),
    ),
    "image": (
        *("imagebytes", "imageencoded", "image", "encodedimage", "imageraw"),
        *("jpeg", "jpg", "png", "imagedata", "img", "encoded", "bytes"),
    ),
    "label": (
        *("label", "labels", "class", "classname", "imageclasstext", "imageclasslabel"),
        *("imagelabel", "classlabel", "labelname", "classid", "category", "categoryname"),
        *("target", "y"),
    ),
    "split": ("split", "partition"),
    "group": ("group", "groupid", "groups"),
}
_USUAL["path"] = (*_USUAL["name"], "image", "img", "imageid", "imgid", "id")
#: Setting that names the column of a role.
SETTINGS = {
    "path": "image_column",
    "image": "image_column",
    "label": "label_column",
    "group": "group_column",
}
_REPEATED = 0.5  # values for each row of a column that says more than the row
_LINE_LIMIT = 1 << 26  # characters of a line; 2048 x 2048 RGB pixels take 50 MB
#: Words for an empty cell, as `pandas.read_csv` knows them. "none" and "na" in lower case may be
#: classes: no gesture, and a syllable.
_EMPTY = {"None", "NA", "", "nan", "-nan", "null", "n/a", "<na>", "#n/a", "#na"}
_ONE_LABEL = re.compile(r"^\[\s*(?:'([^']*)'|\"([^\"]*)\"|([^'\",\s]*))\s*\]$")
_SIGNS_IN_WORDS = "_-'’.()"  # signs that stand in the name of one class: t-shirt, No. 5
_SEPARATORS = re.compile(r"\0+|\s-+\s|(?<=\d)\s+(?=\d)")  # between several labels
_WORDS = re.compile(r"[\s_-]+")  # between words, each of which may be a label
_SEVERAL = re.compile(r"[^\W][|;]|^\[.*[,.\s].*\]$|^[\d\s]+$")  # surely several labels
_MAX_COLUMNS = 200  # rows of JSON may have different keys, so that a table may be very large
_MOST_SPLITS = 50  # words for splits and folds in a column
_FOLDS_SHOWN = 5  # words for splits and folds that a message shows
_SHOWN = 12  # columns and cells that a message shows
_LONGEST_CELL = 40  # characters of a cell that a message shows
#: Endings of JSON Lines.
JSON_LINES = (".jsonl", ".ndjson")
_START = 200  # bytes in which the first character of a file is
#: Where a message sends a person whose table is not read.
GUIDE = "docs/how-to/lists.md has short pandas programs that write a table that is read"


def _word(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def is_usual(name: str, role: str) -> bool:
    """Whether a column has a usual name for its role."""
    return _word(name) in _USUAL[role]


def find_columns(
    where: str, titles: Sequence[str], options: DataSettings, roles: Iterable[str]
) -> dict[str, int]:
    """Return the index of the column or feature of each role, -1 for none.

    A setting gives its name or index, and it is a ConfigError if there is no such column; otherwise
    it has one of the usual names. `titles` are empty where a table has no header.
    """
    words = [_word(title) for title in titles]
    columns = {}
    for role in roles:
        wanted = getattr(options, SETTINGS[role]) if role in SETTINGS else ""
        if not wanted:
            usual = (words.index(word) for word in _USUAL[role] if word in words)
            columns[role] = next(usual, -1)
        elif wanted in titles:
            columns[role] = titles.index(wanted)
        elif wanted.isdecimal() and (not titles or int(wanted) < len(titles)):
            columns[role] = int(wanted)
        elif words.count(_word(wanted)) == 1:
            columns[role] = words.index(_word(wanted))
        else:
            others = f"; found {join_names(titles, _SHOWN)}" if titles else ""
            raise ConfigError(f"data source {where!r} has no column or feature {wanted!r}{others}")
    return columns


def refuse_splits(where: str, titles: Sequence[str], columns: Mapping[int, Sequence[str]]) -> None:
    """Refuse a table in which a column that nothing reads names splits and is not called so.

    It is a ConfigError if all cells name splits, train among them. The number of a fold counts as
    train, as in a column of 0, 1, 2 and test.
    """
    for number, cells in columns.items():
        words = sorted({split_text(cell) for cell in set(cells)} - {""})
        splits = {names.TRAIN if word.isdecimal() else word for word in words[: _MOST_SPLITS + 1]}
        if len(words) <= _MOST_SPLITS and are_splits(splits):
            raise not_read(
                where,
                f"the column {titles[number]} names splits ({join_names(words, _FOLDS_SHOWN)}): "
                "call it split, and write train, validation or test into each cell",
            )


def split_text(text: str) -> str:
    """Return the word in the text of a cell of a split; tables of Google AutoML name none so."""
    return "" if text.upper() == "UNASSIGNED" else text


def unread_columns(header: Sequence[str], columns: Mapping[int, Sequence[str]]) -> list[Finding]:
    """Note columns whose cells repeat, and which nothing reads, with what they may be."""
    notes = []
    for number, cells in columns.items():
        values = sorted({cell for cell in cells if cell})
        if 1 < len(values) <= _REPEATED * len(cells):
            detail = f"{len(values):,} values ({join_names(values, 3)})"
            column = shlex.quote(header[number])
            way = (
                f"if it says which images belong together: --set data.group_column={column}; if it "
                f"is the class: --set data.label_column={column}; if it says which images are held "
                "out: write train, validation or test into each cell, and call it split"
            )
            notes.append(noted("unused_column", header[number], detail, remedies=[way]))
    return notes


def encoding(file: BinaryIO) -> str:
    """Return the Unicode encoding of a table by its first bytes; spreadsheets write UTF-16."""
    detected = json.detect_encoding(file.read(4))
    file.seek(0)
    return "utf-8-sig" if detected == "utf-8" else detected


def first_rows(path: Path) -> tuple[str, list[list[str]]]:
    """Return the delimiter of a table, and the cells of its first two rows ([] for none)."""
    try:
        with open_regular(path) as file, io.TextIOWrapper(file, encoding(file), "replace") as text:
            lines = filter(str.strip, iter(lambda: text.readline(_LINE_LIMIT), ""))
            first = list(itertools.islice(lines, 2))
    except OSError:  # whoever reads the table says so
        first = []
    delimiter = max(",\t;", key=first[0].count) if first else ","
    if first and delimiter not in first[0]:
        # Beside others, it stands between several labels or words.
        delimiter = "|" if "|" in first[0] else " "
    csv.field_size_limit(_LINE_LIMIT)
    rows = [[cell.strip() for cell in row] for row in csv.reader(first, delimiter=delimiter)]
    return delimiter, [*rows, [], []][:2]


def is_number(cell: str) -> bool:
    """Whether a cell holds a number, with a point or a comma."""
    try:
        float(cell.replace(",", ".", 1))
    except ValueError:
        return False
    return True


def cell_text(cell: str) -> str:
    """Return the label, split or group in a cell, "" for none.

    Spreadsheets add decimals ("3.0" becomes "3"), and programs write words for an empty cell.
    """
    cell = cell.strip()
    if cell.startswith("["):  # a list of one label
        cell = _ONE_LABEL.sub(r"\1\2\3", cell)
    if cell in _EMPTY or (cell.lower() in _EMPTY and cell.lower() not in ("none", "na")):
        return ""
    return cell[:-2] if cell.endswith(".0") and cell[:-2].isdecimal() else cell


def check_single_labels(
    where: str, labels: Collection[str], allowed: Collection[str]
) -> list[Finding]:
    """Return notes of labels that are made of the words of others: water bird beside bird, water.

    Labels that list others and are not `allowed` as names of classes are a ConfigError.
    """
    several, doubtful = _of_several(set(labels) - set(allowed))
    if several:
        raise ConfigError(
            f"data source {where!r} gives several labels to an image: {join_names(several)}. "
            "Expected one label in each row, because the answer of the model is one class; "
            f"{GUIDE}. Labels that are the name of one class nevertheless go in data.classes"
        )
    detail = "made of the names of other classes"
    way = "if it lists several labels: keep one in each row, as docs/how-to/lists.md shows"
    return [noted("doubtful_label", label, detail, remedies=[way]) for label in doubtful]


def _of_several(labels: set[str]) -> tuple[list[str], list[str]]:
    """Return the labels that list several, and those that may.

    A label is divided at any sign that does not stand in words. It lists several if each part
    recurs in other company: clear/road beside clear/sea and fog/road. Animal/cat and animal/dog are
    names, and so are black cat and white cat; it is doubtful if two words are classes of their own.
    """
    parts_of = {label: _parts(label) for label in labels if not is_number(label)}
    company: dict[str, set[frozenset[str]]] = collections.defaultdict(set)
    for parts in parts_of.values():
        for part in parts:
            company[part].add(parts)
    several = {
        label
        for label, parts in parts_of.items()
        if len(parts) > 1
        and (_SEVERAL.search(label) or all(len(company[part]) > 1 for part in parts))
    }
    folded = {label.casefold() for label in labels}
    words_of = {label: {*_WORDS.split(label.casefold())} for label in labels - several}
    doubtful = [label for label, words in words_of.items() if len(words & folded) > 1]
    return sorted(several), sorted(doubtful)


def _parts(label: str) -> frozenset[str]:
    """Return what stands between the separators in a label, whatever script they are of."""
    text = unicodedata.normalize("NFKC", label.casefold())
    signs = {sign for sign in text if unicodedata.category(sign)[0] in "PS"}
    for sign in signs.difference(_SIGNS_IN_WORDS):
        text = text.replace(sign, "\0")
    return frozenset(filter(None, map(str.strip, _SEPARATORS.split(text))))


def not_read(
    where: str, why: str | Exception, titles: Sequence[str] = (), first: Sequence[str] = ()
) -> ConfigError:
    """Return the refusal of a table, with its columns and its first row where they are the reason.

    `why` may be what its reader raised.
    """
    if isinstance(why, UnicodeDecodeError):
        why = f"it is not UTF-8 text (byte {why.start}): write it again in UTF-8"
    elif isinstance(why, OSError):
        why = f"it cannot be opened: {why.strerror or why}"
    titles, first = ([_shortened(cell) for cell in cells] for cells in (titles, first))
    columns = f". Its columns are {join_names(titles, _SHOWN)}" if titles else ""
    row = f"; its first row is {join_names(first, _SHOWN)}" if first else ""
    return ConfigError(
        f"data source {where!r} is not read: {str(why).strip()}{columns}{row}. {GUIDE}"
    )


def _shortened(cell: str) -> str:
    return cell if len(cell) <= _LONGEST_CELL else f"{cell[:_LONGEST_CELL]}…"


def read_rows(file: Path, by_number: bool) -> tuple[list[str], pandas.DataFrame]:
    """Return the titles of a list's columns, and its cells by the number of the row.

    Without a header, the titles are the numbers of the columns. The columns of JSON Lines are all
    keys. `by_number` says that columns are given by numbers, so that there may be no header. A file
    that is no such list is an OSError or a ValueError.
    """
    import pandas

    if is_json_lines(file):
        objects = dict(json_rows(file))
        titles = list(dict.fromkeys(key for value in objects.values() for key in value))
        _check_width(titles)
        rows = [[_json_text(value.get(title)) for title in titles] for value in objects.values()]
        return titles, pandas.DataFrame(rows, index=list(objects), columns=range(len(titles)))
    delimiter, (first, _) = first_rows(file)
    _check_width(first)
    with open_regular(file) as stream:
        text = {"dtype": str, "na_filter": False, "encoding": encoding(stream)}
        table = pandas.read_csv(stream, sep=delimiter, header=None, **text).fillna("")
    table = table.apply(lambda column: column.str.strip())
    table.index += 1
    first = table.iloc[0].tolist()
    titled = any(is_usual(cell, role) for cell in first for role in ("path", "label"))
    if not titled and (by_number or any(map(file_names.is_image, first))):
        return list(map(str, table.columns)), table
    return first, table[1:]


def json_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSON Lines file with the numbers of their lines.

    Raises ValueError for a line that is no object in JSON.
    """
    with open_regular(file) as stream, io.TextIOWrapper(stream, encoding(stream)) as lines:
        for row, line in enumerate(iter(lambda: lines.readline(_LINE_LIMIT), ""), 1):
            try:
                value = json_object.parse(line) if line.strip() else {}
            except ValueError as error:
                raise ValueError(f"row {row}: {error}") from None
            if value:
                yield row, value


def _json_text(value: Any) -> str:
    """Return a JSON value as text; null is "", and what holds other values is JSON."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value).strip()


def _check_width(titles: Sequence[str]) -> None:
    if len(titles) > _MAX_COLUMNS:
        raise ValueError(f"it has {len(titles):,} columns")


def is_json_lines(file: Path) -> bool:
    """Whether a file is JSON Lines, by its ending or by its first character."""
    if file_names.ending_of(file.name) in JSON_LINES:
        return True
    try:
        with open_regular(file) as stream:
            return stream.read(_START).decode("utf-8-sig", "replace").lstrip().startswith("{")
    except OSError:
        return False
