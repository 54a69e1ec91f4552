"""Text files as people write them: any separator, and what stands beside the rows."""

import gzip

import pytest

from dlas.analyze.estimate.delimited import sheet
from dlas.core.errors import UserError

ROWS = [["model", "gpu", "ms"], ["a", "x, 8 GB", "1"], ["b", "y", "2"]]
FRAME = {"model": ["a", "b"], "gpu": ["x, 8 GB", "y"], "ms": ["1", "2"]}


def written(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return sheet(path)


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ""])
def test_any_separator_by_any_name(tmp_path, mark, suffix):
    text = "\n".join(mark.join(f'"{f}"' if "," in f else f for f in row) for row in ROWS)
    found = written(tmp_path / f"t{suffix}", text)
    assert found.frame.to_dict("list") == FRAME
    assert (found.separator, found.notes) == (mark, ())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_and_line_ends(tmp_path, encoding):
    text = "model;ms\r\nä;1\r\n\r\n;\r\nb;2\r\n"
    found = written(tmp_path / "t.csv", text.encode(encoding))
    assert found.frame.to_dict("list") == {"model": ["ä", "b"], "ms": ["1", "2"]}


def test_windows_text_is_said(tmp_path):
    found = written(tmp_path / "t.csv", "model,ms\nä,1\n".encode("cp1252"))
    assert found.frame["model"].tolist() == ["ä"]
    assert found.notes == ("t.csv: is no UTF-8 and is read as Windows-1252.",)


def test_a_markdown_table(tmp_path):
    text = "| model | ms |\n|---|---:|\n| a | 1 |\n| b | 2 |\n"
    assert written(tmp_path / "t.md", text).frame.to_dict("list") == {
        "model": ["a", "b"],
        "ms": ["1", "2"],
    }


def test_marks_of_markdown_are_no_part_of_a_field(tmp_path):
    text = (
        "| model | ms |\n|:---|---:|\n| **ours** | **1.5** |\n| [vit](https://x.y/z) | `2` |\n"
        "| a_b_c | ***3*** |\n| a*b | _4_ |\n"
    )
    assert written(tmp_path / "t.md", text).frame.to_dict("list") == {
        "model": ["ours", "vit", "a_b_c", "a*b"],
        "ms": ["1.5", "2", "3", "4"],
    }
    assert written(tmp_path / "t.csv", "m,ms\n**a**,1\n").frame["m"].tolist() == ["**a**"]


def test_a_name_that_stands_twice_in_the_header_is_numbered(tmp_path):
    found = written(tmp_path / "t.csv", "m,ms,ms,m\na,1,2,b\n")
    assert list(found.frame) == ["m", "ms", "ms (2)", "m (2)"]
    assert "the column ms stands 2 times: ms is the first, the others are ms (2)" in found.notes[1]


def test_blanks_between_columns(tmp_path):
    text = "model   gpu  ms\nresnet  x    1\nvit     y    12\n"
    found = written(tmp_path / "t.txt", text).frame
    assert found.to_dict("list") == {
        "model": ["resnet", "vit"], "gpu": ["x", "y"], "ms": ["1", "12"]
    }  # fmt: skip


def test_only_what_is_empty_is_empty(tmp_path):
    found = written(tmp_path / "t.csv", "q,ms\nNone,1\nNA,2\nnull,3\nn/a,4\n,5\n").frame
    assert found["q"].tolist() == ["None", "NA", "null", "n/a", ""]


def test_line_ends_in_quotes(tmp_path):
    found = written(tmp_path / "t.csv", 'm,ms\n"two\nlines",1\nb,2\n').frame
    assert found.to_dict("list") == {"m": ["two lines", "b"], "ms": ["1", "2"]}


def test_titles_comments_and_repeated_headers_are_left_out_and_counted(tmp_path):
    text = "Results of today\n\n# by hand\nm,ms,n\na,1,1\n# a word\nm,ms,n\nb,2,2\n"
    found = written(tmp_path / "t.csv", text)
    assert found.frame.to_dict("list") == {"m": ["a", "b"], "ms": ["1", "2"], "n": ["1", "2"]}
    assert found.notes == (
        "t.csv: 2 lines above the header are left out.",
        "t.csv: 2 comments or repeated headers are left out.",
    )


def test_a_header_behind_a_hash(tmp_path):
    assert list(written(tmp_path / "t.csv", "# m,ms\na,1\nb,2\n").frame) == ["m", "ms"]


def test_rows_of_another_width(tmp_path):
    found = written(tmp_path / "t.csv", "m,gpu,ms,\na,x,1,\nb,y\n")
    assert found.frame.to_dict("list") == {"m": ["a", "b"], "gpu": ["x", "y"], "ms": ["1", ""]}
    assert "1 rows are shorter than the header (row 2)" in found.notes[0]
    with pytest.raises(UserError, match=r"1 rows have more fields than the header's 2: row 2 \(3"):
        written(tmp_path / "t.csv", "m,ms\na,1\nb,2,3\nc,3\n")


def test_compressed_text_and_a_declared_separator(tmp_path):
    found = written(tmp_path / "t.csv.gz", gzip.compress(b"m,ms\na,1\n"))
    assert found.frame.to_dict("list") == {"m": ["a"], "ms": ["1"]}
    assert written(tmp_path / "t.csv", "sep=~\nm~ms\na~1\n").separator == "~"


def test_a_separator_may_be_said(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("m:ms\na:1\nb:2\n")
    assert sheet(path, ":").frame.to_dict("list") == {"m": ["a", "b"], "ms": ["1", "2"]}
    path.write_text("m;ms\na;1\n")
    assert sheet(path, "semicolon").separator == ";"
    with pytest.raises(UserError, match="must be one character"):
        sheet(path, "::")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04rest", "save it as CSV"),
        (b"SQLite format 3\0", "a database"),
        (b"m,ms\na,\x001\n", "zero bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html><body>", "a web page"),
        (b'[{"m": "a", "ms": 1}]', "is JSON: save it as CSV"),
        (b'{"m": "a"}\n{"m": "b"}\n', "is JSON: save it as CSV"),
        (b'm,ms\n"a,1\nb,2\n', "a quote is opened and never closed"),
    ],
)
def test_what_is_no_table(tmp_path, data, said):
    with pytest.raises(UserError, match=said):
        written(tmp_path / "t.csv", data)
