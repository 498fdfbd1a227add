"""What is shown of an error that is not ours."""

import pytest

from vicinal.errors import first_line


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
