"""Errors of file systems in words."""

import errno

import pytest

from hookloop.storage.disk_errors import explained


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, r"There is no space left on the disk (OSError: [Errno 28] text). Free space there, or save"),
        (errno.EDQUOT, r"The disk quota of this user is used up (OSError: [Errno 122] text). Delete what"),
        (errno.EACCES, r"This user has no permission to do that (PermissionError: [Errno 13] text). Change the"),
        (errno.EROFS, r"The file system is read-only (OSError: [Errno 30] text). Choose a folder on another one"),
        (errno.EIO, r"The disk reports that reading or writing failed (OSError: [Errno 5] text). Look at the system's"),
        (errno.ESTALE, r"The network file system has lost the folder (OSError: [Errno 116] text). Mount it again"),
        (errno.EMFILE, r"This process has too many files open (OSError: [Errno 24] text). Look at `ulimit -n`"),
    ],
)
def test_an_error_of_a_file_system_says_what_it_means_and_what_to_do(number: int, text: str) -> None:
    assert explained(OSError(number, "text")).startswith(text)


def test_what_led_to_an_error_is_what_is_explained() -> None:
    error = RuntimeError("unexpected pos 704 vs 598")
    error.__context__ = OSError(errno.ENOSPC, "text")
    assert explained(error).startswith("There is no space left on the disk")


def test_an_error_of_which_nothing_is_known_has_its_name_and_text() -> None:
    assert explained(ValueError("no such thing.")) == "ValueError: no such thing."
    assert explained(OSError(errno.EXDEV, "text")) == "OSError: [Errno 18] text."
    assert explained(KeyError()) == "KeyError: without a message."


def test_errors_that_lead_to_each_other_come_to_an_end() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    assert explained(one) == "ValueError: one."
