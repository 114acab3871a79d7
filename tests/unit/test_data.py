"""Rows are read from every kind of file, and an error in a file is one line."""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from aeclaims.anatomy.files import READERS, read
from aeclaims.cli import app
from aeclaims.errors import InvalidData

ROWS = np.random.default_rng(0).random((40, 3))


class Executed:
    """If it is unpickled, it leaves a file behind."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def npy(array, **settings):
    buffer = io.BytesIO()
    np.save(buffer, array, **settings)
    return buffer.getvalue()


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy_header(text, rest=b""):
    header = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + rest


def pt(value):
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def parquet(**columns):
    pa = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from pyarrow import parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def archive(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members.items():
            out.writestr(name.replace("_dot_", "."), content)
    return buffer.getvalue()


def tensor(*values, **kinds):
    import torch

    return torch.tensor(values, **kinds)


GOOD = npy(ROWS)
# The name of the file, its bytes, and a part of the message.
BAD = {
    "empty.npy": (b"", "the file is empty"),
    "empty.npz": (b"", "the file is empty"),
    "empty.csv": (b"", "the file is empty"),
    "empty.parquet": (b"", "the file is empty"),
    "empty.pt": (b"", "the file is empty"),
    "text.npy": (b"1,2\n3,4\n", "cannot be read as .npy"),
    "magic.npy": (b"\x93NUMPY", "cannot be read as .npy"),
    "cut_header.npy": (GOOD[:40], "cannot be read as .npy"),
    "cut_data.npy": (GOOD[:-50], "cannot be read as .npy"),
    "version.npy": (b"\x93NUMPY\x09\x00" + GOOD[8:], "cannot be read as .npy"),
    "pickle.npy": (pickle.dumps(Executed()), "cannot be read as .npy"),
    "objects.npy": (npy(np.array([Executed(), 1], object), allow_pickle=True), "cannot be read as .npy"),
    "code.npy": (npy_header("__import__('os').system('touch executed')"), "cannot be read as .npy"),
    "nested.npy": (npy_header("(" * 5000), "cannot be read as .npy"),
    "huge.npy": (npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000, 10), }"), "cannot be read as"),
    "overflow.npy": (npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,), }"), "cannot be"),
    "negative.npy": (npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-5, 2), }", bytes(80)), "cannot be read as"),
    "dtype.npy": (npy_header("{'descr': 'nonsense', 'fortran_order': False, 'shape': (5, 2), }", bytes(80)), "cannot be read as"),
    "zip.npy": (npz(x=ROWS), "cannot be read as .npy"),
    "no_rows.npy": (npy(np.zeros((0, 3))), "no numbers|cannot be read"),
    "no_columns.npy": (npy(np.zeros((5, 0))), "no numbers|cannot"),
    "one_row.npy": (npy(ROWS[:1]), "one row"),
    "scalar.npy": (npy(np.float64(3)), "a single number"),
    "complex.npy": (npy(ROWS * 1j), "complex numbers"),
    "strings.npy": (npy(np.array(["a", "b"])), "text"),
    "bytes.npy": (npy(np.array([b"a", b"b"])), "bytes"),
    "dates.npy": (npy(np.array(["2020", "2021"], "M8[Y]")), "dates"),
    "durations.npy": (npy(np.array([1, 2], "m8[s]")), "durations"),
    "void.npy": (npy(np.zeros(4, "V3")), "give real numbers"),
    "fields.npy": (npy(np.zeros(4, [("a", "f4"), ("b", "i4")])), "named fields"),
    "nan.npy": (npy(np.where(ROWS[7, 2] == ROWS, np.nan, ROWS)), "row 7, column 2 is nan"),
    "infinite.npy": (npy(np.where(ROWS[39, 0] == ROWS, -np.inf, ROWS)), "row 39, column 0 is -inf"),
    "half_nan.npy": (npy(np.full((5, 2), np.nan, np.float16)), "row 0, column 0 is nan"),
    "text.npz": (b"hello, world", "cannot be read as .npz"),
    "cut.npz": (npz(x=ROWS)[:-30], "cannot be read as .npz"),
    "pickle.npz": (pickle.dumps(Executed()), "cannot be read as .npz"),
    "objects.npz": (archive(x_dot_npy=npy(np.array([Executed()], object), allow_pickle=True)), "cannot be read as .npz"),
    "none.npz": (npz(), "it holds no array"),
    "several.npz": (npz(a=ROWS, b=ROWS), "it holds a, b: give the name of one with --key"),
    "no_array.npz": (archive(x_dot_txt="hello"), "cannot be read|give real|bytes"),
    "member.npz": (archive(x_dot_npy=GOOD[:60]), "cannot be read as .npz"),
    "claims_more.npz": (archive(x_dot_npy=npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (9**9,), }")), "cannot"),
    "nan.npz": (npz(x=np.array([[1.0, np.nan], [0, 1]])), "row 0, column 1 is nan"),
    "blank.csv": (b"\n\n  \n", "no lines"),
    "names.csv": (b"a,b,c\n", "one line of names"),
    "text.csv": (b"a,b\n1,2\n3,x\n", "line 3, column 2: 'x' is not a number"),
    "gap.csv": (b"1,2\n3,\n", "line 2, column 2: '' is not a number"),
    "ragged.csv": (b"1,2\n3,4,5\n", "line 2 has 3 cells"),
    "short.csv": (b"a,b\n1,2\n3\n", "line 3 has 1 cells"),
    "nan.csv": (b"1,2\n3,nan\n", "row 1, column 1 is nan"),
    "infinite.csv": (b"1,2\n3,inf\n", "row 1, column 1 is inf"),
    "large.csv": (b"1,2\n3,1e999\n", "row 1, column 1 is inf"),
    "one_row.csv": (b"a,b\n1,2\n", "one row"),
    "binary.csv": (bytes(range(256)) * 4, "cannot be read as .csv"),
    "latin.csv": ("größe\n1\n2\n".encode("latin-1"), "cannot be read as .csv"),
    "nul.csv": (b"1,2\n3,\x00\n4,5\n", "."),
    "complex.csv": (b"1,2\n3,1+2j\n", "'1\\+2j' is not a number"),
    "quote.csv": (b'1,2\n"3,4\n5,6\n', "."),
    "formula.csv": (b"1,2\n3,=SUM(A1)\n", "is not a number"),
    "decimal.csv": (b"1,5;2,5\n3,5;4,5\n", "."),
    "json.csv": (json.dumps({"a": [1, 2]}).encode(), "one row|is not a number|one line of names"),
    "text.parquet": (b"PAR1 and no more", "cannot be read as .parquet"),
    "cut.parquet": (lambda: parquet(a=[1.0, 2.0])[:-20], "cannot be read as .parquet"),
    "strings.parquet": (lambda: parquet(a=[1.0, 2.0], name=["x", "y"]), "column 'name' holds string"),
    "lists.parquet": (lambda: parquet(a=[[1.0], [2.0]]), "column 'a' holds list"),
    "null.parquet": (lambda: parquet(a=[1.0, None]), "row 1, column 0 is nan"),
    "none.parquet": (lambda: parquet(a=np.zeros(0)), "no numbers"),
    "text.pt": (b"hello, world", "cannot be read as .pt|execute code"),
    "cut.pt": (lambda: pt(tensor(1.0, 2.0))[:-40], "cannot be read as .pt"),
    "pickle.pt": (pickle.dumps(Executed()), "execute code|cannot be read"),
    "old.pt": (pickle.dumps([1, 2]), "execute code|cannot be read|no array"),
    "code.pt": (lambda: pt(Executed()), "it holds more than tensors, and loading it would execute code"),
    "hidden.pt": (lambda: pt({"x": tensor(1.0), "y": Executed()}), "it holds more than tensors"),
    "number.pt": (lambda: pt(3.5), "it holds a float, not a tensor"),
    "none.pt": (lambda: pt({}), "it holds no array"),
    "text2.pt": (lambda: pt({"a": "b"}), "it holds no array"),
    "several.pt": (lambda: pt({"a": tensor(1.0), "b": tensor(2.0)}), "it holds a, b: give the name"),
    "scalar.pt": (lambda: pt(tensor(1.0)[0]), "a single number"),
    "complex.pt": (lambda: pt(tensor(1j, 2j)), "complex numbers"),
    "empty_tensor.pt": (lambda: pt(tensor()), "no numbers"),
    "nan.pt": (lambda: pt(tensor(1.0, float("nan"))), "row 1, column 0 is nan"),
    "rows.xlsx": (b"PK", "suffix '.xlsx': give one of .npy, "),
    "rows": (GOOD, "suffix '': give one of"),
    "rows.pickle": (pickle.dumps(Executed()), "suffix '.pickle'"),
}  # fmt: skip


def explain(*arguments, **settings):
    return CliRunner().invoke(app, ["explain", *map(str, arguments)], **settings)


def check_refused(result, message):
    import re

    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit | type(None))
    assert "Traceback" not in result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("aeclaims: explain: ")
    assert re.search(message, line), line
    assert result.stdout == ""


def test_the_corpus_of_bad_files_is_large():
    assert len(BAD) >= 60


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore:.*")  # warnings of parsers about foreign bytes
def test_a_bad_file_is_one_line_and_exit_code_2_and_nothing_is_executed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, message = BAD[name]
    Path(name).write_bytes(content() if callable(content) else content)
    check_refused(explain(name, "--loss", "mse"), message)
    assert not Path("executed").exists()


@pytest.mark.parametrize(("path", "message"), [
    ("absent.npy", "no such file"), (".", "this is not a file"), ("/dev/null", "this is not a file"),
    ("a" * 300 + ".npy", "cannot be read|no such file"), ("nul\0.npy", "cannot be read|no such file"),
])  # fmt: skip
def test_what_is_no_file_is_refused(path, message):
    check_refused(explain(path, "--loss", "mse"), message)


@pytest.mark.skipif(os.name != "posix", reason="no FIFOs here")
def test_a_pipe_with_a_name_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    check_refused(explain(tmp_path / "pipe.npy", "--loss", "mse"), "this is not a file")


def test_every_format_gives_the_same_rows(tmp_path):
    import torch

    np.save(tmp_path / "a.npy", ROWS)
    np.savez(tmp_path / "a.npz", x=ROWS)
    np.savetxt(tmp_path / "a.csv", ROWS, "%.17g", ",", header="a,b,c", comments="")
    np.savetxt(tmp_path / "a.tsv", ROWS, "%.17g", "\t")
    torch.save(torch.tensor(ROWS), tmp_path / "a.pt")
    torch.save({"x": torch.tensor(ROWS), "y": torch.zeros(3)}, tmp_path / "a.pth")
    (tmp_path / "a.parquet").write_bytes(parquet(a=ROWS[:, 0], b=ROWS[:, 1], c=ROWS[:, 2]))
    assert {path.suffix for path in tmp_path.iterdir()} == set(READERS)
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(read(str(path), "x" if path.suffix == ".pth" else None), ROWS, err_msg=path.name)
    text = (tmp_path / "a.csv").read_bytes()
    np.testing.assert_array_equal(read("-", stdin=io.BytesIO(text)), ROWS)
    np.testing.assert_array_equal(read("-", stdin=io.BytesIO(b"\xef\xbb\xbf" + text.replace(b",", b";"))), ROWS)


def test_an_npy_file_is_mapped_not_read(tmp_path):
    np.save(tmp_path / "a.npy", ROWS)
    assert isinstance(read(str(tmp_path / "a.npy")), np.memmap)


def test_csv_of_many_lines_names_the_line_that_is_wrong(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "1,2\n" * 45_000 + "1,x\n")
    with pytest.raises(InvalidData, match="line 45002, column 2: 'x' is not a number"):
        read(str(path))
    path.write_text("1,2\n" * 45_000)
    assert read(str(path)).shape == (45_000, 2)


def test_what_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", x=ROWS)
    np.savetxt(tmp_path / "a.csv", ROWS, delimiter=",")
    monkeypatch.setattr("aeclaims.anatomy.files.MOST_BYTES", 500)
    for name in ("a.npz", "a.csv"):
        with pytest.raises(InvalidData, match="save the rows as .npy, which is mapped"):
            read(str(tmp_path / name))


@settings(deadline=None)
@given(suffix=st.sampled_from(sorted(READERS)), content=st.binary(min_size=1, max_size=300))
@pytest.mark.filterwarnings("ignore:.*")
def test_no_bytes_break_a_reader(suffix, content, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / f"a{suffix}"
    path.write_bytes(content)
    result = explain(path, "--loss", "mse")
    assert result.exit_code in (0, 2), result.output
    assert "Traceback" not in result.output


@settings(deadline=None)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore:.*")
def test_no_change_of_a_few_bytes_breaks_a_reader(data, tmp_path_factory):
    suffix, content = data.draw(
        st.sampled_from([(".npy", GOOD), (".npz", npz(x=ROWS)), (".csv", b"a,b\n1,2\n3,4\n5,6\n")])
    )
    changed = bytearray(content)
    for at in data.draw(st.lists(st.integers(0, len(changed) - 1), min_size=1, max_size=8)):
        changed[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / f"a{suffix}"
    path.write_bytes(bytes(changed))
    result = explain(path, "--loss", "bce")
    assert result.exit_code in (0, 2), (result.output, result.exception)


def test_the_command_reads_csv_from_a_pipe():
    text = "x,y\n" + "".join(f"{a:.17g},{b:.17g}\n" for a, b in ROWS[:, :2])
    done = subprocess.run(
        [sys.executable, "-m", "aeclaims", "explain", "-", "--loss", "bce"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "standard input: 40 rows of 2 features" in done.stdout
    assert done.stderr == ""
