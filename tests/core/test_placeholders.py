import pytest

from dlas.core.placeholders import HEAD, instead

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
