"""What is shown of an error that is not ours."""

import pytest

from vicinal.errors import first_line, reason_of


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("no such file", "no such file"),
        ("cut short\nat byte 7\n", "cut short"),
        ("\n  \n\t cut  short \r\nat byte 7", "cut  short"),
        ("", "OSError"),
        (" \n\t\n", "OSError"),
    ],
)
def test_the_first_line_is_the_first_with_text_or_the_type(text: str, line: str) -> None:
    assert first_line(OSError(text)) == line


def test_an_error_without_arguments_has_the_name_of_its_type() -> None:
    assert first_line(AssertionError()) == "AssertionError"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no  number\nat 7"), "no number"),
        (RuntimeError("sizes 3\tand 4 differ\n"), "RuntimeError: sizes 3 and 4 differ"),
        (AssertionError(), "AssertionError"),
        (ValueError(), "ValueError"),
    ],
)
def test_a_reason_has_the_type_where_it_tells_more(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
