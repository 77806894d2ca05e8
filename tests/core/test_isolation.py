"""These tests run with the core alone."""

from collections.abc import Callable


def test_the_core_is_the_only_distribution_of_hookloop_here(installed_distributions: frozenset[str]) -> None:
    assert installed_distributions == {"hookloop"}


def test_importing_hookloop_asks_for_no_callback_package_and_nothing_that_one_brings(
    imported_by: Callable[[str], frozenset[str]],
) -> None:
    imported = imported_by("hookloop")

    assert "hookloop" in imported
    top = {name.partition(".")[0] for name in imported}
    assert not {name for name in top if name.startswith("hookloop_callbacks")}
    assert not top & {"psutil", "rich", "tensorboard", "tqdm"}
    assert "torch.utils.tensorboard" not in imported


def test_no_file_of_it_imports_what_it_does_not_declare_to_need(
    distributions_used_by: Callable[[str], frozenset[str]], declared_by: Callable[[str], frozenset[str]]
) -> None:
    used = distributions_used_by("hookloop")

    assert "hookloop" in used
    assert used <= declared_by("hookloop")
