"""These tests run with the core and this package alone."""

from collections.abc import Callable


def test_nothing_of_hookloop_is_here_but_the_core_and_this_package(installed_distributions: frozenset[str]) -> None:
    assert installed_distributions == {"hookloop", "hookloop-callbacks-swa"}


def test_importing_hookloop_does_not_ask_for_this_package(imported_by: Callable[[str], frozenset[str]]) -> None:
    imported = imported_by("hookloop")

    assert "hookloop" in imported
    assert not {name for name in imported if name.startswith("hookloop_callbacks")}


def test_no_file_of_it_imports_what_it_does_not_declare_to_need(
    distributions_used_by: Callable[[str], frozenset[str]], declared_by: Callable[[str], frozenset[str]]
) -> None:
    used = distributions_used_by("hookloop_callbacks_swa")

    assert "hookloop-callbacks-swa" in used
    assert used <= declared_by("hookloop-callbacks-swa")
