"""Text files: encoding, delimiter and header are found out, and what does not fit is refused with its place."""

from pathlib import Path

import pytest
from files import profile_of_text

from models.errors import UnreadableData

ROWS = "a,b\n1,x\n2,y\n"
LONG = b"x" * 1000


def refusal(folder: Path, content: str | bytes) -> str:
    with pytest.raises(UnreadableData) as refused:
        profile_of_text(folder, content)
    return str(refused.value)


@pytest.mark.parametrize(
    ("content", "encoding", "delimiter"),
    [
        (ROWS, "UTF-8", "comma"),
        (b"\xef\xbb\xbf" + ROWS.encode(), "UTF-8 with a byte order mark", "comma"),
        (ROWS.replace(",", ";"), "UTF-8", "semicolon"),
        (ROWS.replace(",", "\t"), "UTF-8", "tab"),
        (ROWS.replace(",", "|"), "UTF-8", "vertical bar"),
        (ROWS.replace("\n", "\r\n"), "UTF-8", "comma"),
        (ROWS.rstrip("\n"), "UTF-8", "comma"),
        ('a;b\n"1,5";"x;y"\n"2,25";z\n', "UTF-8", "semicolon"),
    ],
)
def test_encoding_and_delimiter_are_found_out_and_said(
    tmp_path: Path, content: str | bytes, encoding: str, delimiter: str
) -> None:
    profile = profile_of_text(tmp_path, content)

    assert (encoding, delimiter) == (profile.reading["encoding"], profile.reading["delimiter"])
    assert ("a", "b") == profile.names
    assert 2 == profile.rows


def test_line_breaks_delimiters_and_quotes_within_quotes_belong_to_the_cell(tmp_path: Path) -> None:
    profile = profile_of_text(tmp_path, 'a,b\n"one\ntwo, ""three""",1\nx,2\n')

    assert 2 == profile.rows
    assert {'one\ntwo, "three"', "x"} == {value for value, _ in profile.column("a").values}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", ["an empty file"], id="empty"),
        pytest.param(b" \n\n", ["an empty file"], id="blank"),
        pytest.param(b"a,b\n", ["a header alone"], id="header only"),
        pytest.param(b"a,b", ["a header alone"], id="header only, no line break"),
        pytest.param("a,b\nü,1\n".encode("latin-1"), ["0xFC at byte 4 (line 2)", "iconv"], id="Latin-1"),
        pytest.param(b"a,b\n1,2\n3,\xe2\x82", ["cut off at byte 10"], id="a character cut off"),
        pytest.param("a,b\n1,2\n".encode("utf-16"), ["UTF-16", "save it as UTF-8"], id="UTF-16"),
        pytest.param(b"a,b\n1,\x002\n", ["a zero byte at byte 6"], id="binary"),
        pytest.param(b"a^b\n1^2\n", ["one column", "'a^b'", "comma, semicolon, tab, vertical bar"], id="delimiter"),
        pytest.param(b"a,b\n1,2\n1,2,3\n", ["2 fields in every line", "3 fields in line 3"], id="too many fields"),
        pytest.param(b'a,b\n"x\ny",2\n1\n', ["1 fields in line 4"], id="too few, after a quoted line break"),
        pytest.param(b"a,b,a\n1,2,3\n", ["'a' 2 times"], id="a name twice"),
        pytest.param(b"1,2\n3,4\n", ["names of the columns", "'1,2'"], id="no header"),
    ],
)
def test_text_that_is_no_table_is_refused_with_its_place_and_a_cure(
    tmp_path: Path, content: bytes, words: list[str]
) -> None:
    message = refusal(tmp_path, content)

    assert [] == [word for word in words if word not in message], message


def test_byte_that_is_no_text_is_found_beyond_the_first_block(tmp_path: Path) -> None:
    beginning = b"a,b\n" + (b"1," + LONG + b"\n") * 1200

    message = refusal(tmp_path, beginning + b"1,\xe9\n")

    assert f"at byte {len(beginning) + 2} (line 1202)" in message


def test_ragged_line_is_found_beyond_the_first_block(tmp_path: Path) -> None:
    message = refusal(tmp_path, b"a,b\n" + (b"1," + LONG + b"\n") * 5000 + b"1\n")

    assert "1 fields in line 5002" in message


def test_column_without_a_name_gets_one(tmp_path: Path) -> None:
    """pandas writes its index so."""
    profile = profile_of_text(tmp_path, ",b\n0,x\n1,y\n")

    assert ("column_1", "b") == profile.names
    assert ("the column without a name is called 'column_1'",) == profile.remarks
