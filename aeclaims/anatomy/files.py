"""Readers of your rows: .npy, .npz, .csv, .parquet, .pt, or CSV on standard input.

Files are data, never programs: no pickle in them is executed. Any error of a file becomes InvalidData, in one line.
"""

import contextlib
import csv
import io
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from aeclaims.errors import InvalidData

Array = npt.NDArray[Any]

# Limit of files that are read into memory. .npy is mapped and can have any size.
MOST_BYTES = 4 * 2**30
# Number of CSV lines that are converted at once.
LINES = 20_000


def read(source: str, key: str | None = None, stdin: IO[bytes] | None = None) -> Array:
    """Read the array in a file.

    Args:
        source: Path of the file. Its suffix selects the reader. `-` is CSV on standard input.
        key: Name of the array, if the file holds several.
        stdin: Standard input.

    Returns:
        Array of any shape, mapped to the file if possible.

    Raises:
        InvalidData: If the file holds no usable rows.
    """
    if source == "-":
        with _reduction("CSV"):
            return _of_lines(io.TextIOWrapper(stdin or sys.stdin.buffer, encoding="utf-8-sig", newline=""))
    path = Path(source)
    reader = READERS.get(path.suffix.lower())
    with _reduction("file"):
        if not path.exists():
            raise InvalidData("there is no such file")
        if not path.is_file():
            raise InvalidData("this is not a file")
        if reader is None:
            raise InvalidData(
                f"suffix {path.suffix!r}: give one of {', '.join(READERS)}, or - for CSV on standard input"
            )
        if path.stat().st_size == 0:
            raise InvalidData("the file is empty")
    with _reduction(path.suffix):
        return reader(path, key)


@contextlib.contextmanager
def _reduction(what: str) -> Iterator[None]:
    """Turn any error of a parser on a broken or hostile file into one line."""
    try:
        yield
    except InvalidData:
        raise
    except MemoryError:
        raise InvalidData("it does not fit into memory: save the rows as .npy, which is mapped") from None
    except Exception as error:  # parsers of untrusted bytes can raise any exception
        lines = str(error).strip().splitlines()
        raise InvalidData(f"cannot be read as {what}: {lines[0][:200] if lines else type(error).__name__}") from None


def _npy(path: Path, key: str | None) -> Array:
    array: Array = np.lib.format.open_memmap(path, mode="r")  # refuses objects, because they are pickles
    return array


def _npz(path: Path, key: str | None) -> Array:
    with zipfile.ZipFile(path) as archive:
        members = {Path(info.filename).stem: info for info in archive.infolist()}
    name = _pick(list(members), key)
    _check_size(members[name].file_size)
    with np.load(path, allow_pickle=False) as arrays:
        return np.asarray(arrays[name])


def _csv(path: Path, key: str | None) -> Array:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        return _of_lines(lines)


def _parquet(path: Path, key: str | None) -> Array:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise InvalidData("reading .parquet needs pyarrow: pip install 'aeclaims[parquet]'") from None
    file = parquet.ParquetFile(path)
    for field in file.schema_arrow:
        kinds = pyarrow.types
        is_number = kinds.is_floating(field.type) or kinds.is_integer(field.type) or kinds.is_boolean(field.type)
        if not is_number:
            raise InvalidData(f"column {field.name!r} holds {field.type}, not numbers: leave it out")
    if not file.schema_arrow.names:
        raise InvalidData("no columns")
    _check_size(8 * file.metadata.num_rows * file.metadata.num_columns)
    return np.column_stack([column.to_numpy() for column in file.read().itercolumns()])


def _pt(path: Path, key: str | None) -> Array:
    try:
        import torch
    except ImportError:
        raise InvalidData("reading .pt needs torch, which cannot be imported here") from None
    _check_size(path.stat().st_size)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if "weights" in str(error).lower():  # torch's message for a pickle of more than tensors is pages long
            raise InvalidData(
                "it holds more than tensors, and loading it would execute code: save only the tensor, "
                "torch.save(tensor, path)"
            ) from None
        raise
    if isinstance(found, list | tuple):
        found = {str(index): value for index, value in enumerate(found)}
    if isinstance(found, dict):
        tensors = {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}
        found = tensors[_pick(list(tensors), key)]
    if not isinstance(found, torch.Tensor):
        raise InvalidData(f"it holds a {type(found).__name__}, not a tensor")
    tensor = found.detach().to_dense() if found.is_sparse else found.detach()
    return np.asarray((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())


READERS: dict[str, Callable[[Path, str | None], Array]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".pt": _pt,
    ".pth": _pt,
}


def _pick(names: list[str], key: str | None) -> str:
    if key is not None and key in names:
        return key
    if key is None and len(names) == 1:
        return names[0]
    held = f"it holds {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else "it holds no array"
    raise InvalidData(
        f"{held}: " + (f"none is called {key!r}" if key else "give the name of one with --key") if names else held
    )


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise InvalidData(f"{size / 2**30:.1f} GiB do not fit into memory: save the rows as .npy, which is mapped")


def _of_lines(lines: Iterable[str]) -> Array:
    """Read CSV with commas, semicolons or tabs, with or without a line of names."""
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    first = next(numbered, None)
    if first is None:
        raise InvalidData("no lines")
    delimiter = max(",;\t", key=first[1].count)
    has_names = not any(_is_number(cell) for cell in _cells(first[1], delimiter))
    parts, size = [], 0
    kept = [] if has_names else [first]
    while batch := kept + list(islice(numbered, LINES - len(kept))):
        kept = []
        parts.append(_numbers(batch, delimiter, width=len(_cells(first[1], delimiter))))
        size += parts[-1].nbytes
        _check_size(size)
    if not parts:
        raise InvalidData("one line of names, and no numbers")
    return np.concatenate(parts)


def _numbers(batch: list[tuple[int, str]], delimiter: str, width: int) -> Array:
    try:
        found = np.loadtxt((line for _, line in batch), delimiter=delimiter, ndmin=2, comments=None, quotechar='"')
        if found.shape == (len(batch), width):
            return found
    except ValueError:
        pass
    for number, line in batch:  # slow, but it finds the place
        cells = _cells(line, delimiter)
        if len(cells) != width:
            raise InvalidData(f"line {number} has {len(cells)} cells, the first line has {width}")
        for column, cell in enumerate(cells, 1):
            if not _is_number(cell):
                raise InvalidData(f"line {number}, column {column}: {cell[:40]!r} is not a number")
    raise InvalidData(f"lines {batch[0][0]} to {batch[-1][0]} are not a table of numbers")


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
