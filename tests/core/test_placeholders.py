import pytest

from dlas.core.placeholders import HEAD, instead, instead_of

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "empty (0 bytes)"),
        (POINTER, "`git lfs pull`"),
        (b"<!DOCTYPE html>\n<html>", "web page"),
        (b"\r\n  <HTML><body>", "web page"),
        (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code>', "web page"),
    ],
)
def test_what_stands_in_place_of_a_file_is_told(head, words):
    assert words in instead(head[:HEAD])


@pytest.mark.parametrize(
    "head",
    [b"\x89PNG\r\n\x1a\n", b"model,ms\na,1\n", b'<?xml version="1.0"?><svg/>', b"version,ms\n1,2",
     b"\x00" * 300],
)  # fmt: skip
def test_a_file_that_may_be_what_it_should_be_is_not_judged(head):
    assert instead(head) == ""


def test_of_a_file_its_head_is_read_and_one_that_cannot_be_opened_is_told(tmp_path):
    file = tmp_path / "w"
    file.write_bytes(POINTER + bytes(10 * HEAD))
    assert "`git lfs pull`" in instead_of(file)
    file.write_bytes(b"model,ms\na,1\n")
    assert instead_of(file) == ""
    assert instead_of(tmp_path) == "it cannot be opened (Is a directory)"
    assert instead_of(tmp_path / "no") == "it cannot be opened (No such file or directory)"
