"""What the pages show is what happens: every page's Python runs, and prints what the page says."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNNER = ROOT / "docs" / "run_examples.py"
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "packages/*/*.md")
    for page in ROOT.glob(pattern)
    if "_build" not in page.parts and "```python\n" in page.read_text(encoding="utf-8")
)


def run(page: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, RUNNER, page], capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_the_examples_of_a_page_do_what_it_says(page: Path) -> None:
    done = run(page)

    if done.returncode != 0:
        pytest.fail(done.stderr, pytrace=False)


def test_examples_share_one_namespace_and_run_in_order(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\nThen:\n\n```python\nprint(x + 1)\n```\n\n```text\n2\n```\n")

    done = run(page)

    assert (done.returncode, done.stdout) == (0, "page.md: examples that ran: 2\n")


def test_an_example_that_prints_something_else_fails_with_the_difference(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\nprint('one')\nprint('two')\n```\n```text\none\ntoo\n```\n")

    done = run(page)

    assert done.returncode == 1
    assert "page.md:4: the example prints something else than the page." in done.stderr
    assert "-too\n+two" in done.stderr


def test_an_example_that_prints_nothing_does_not_pass_for_one_that_should(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\n```text\n1\n```\n")

    assert run(page).returncode == 1


def test_an_example_that_raises_fails_with_the_line_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n\n```python\nx = 1\nassert x == 2, 'planted'\n```\n")

    done = run(page)

    assert done.returncode == 1
    assert f'File "{page}", line 5' in done.stderr
    assert "AssertionError: planted" in done.stderr
    assert "run_examples.py" not in done.stderr


def test_text_after_a_paragraph_is_not_compared(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n```\nSomewhere else:\n```text\n2\n```\n")

    assert run(page).returncode == 0


@pytest.mark.parametrize("opening", ["```python {.no-run}", "```console", "```{code-block} python", "```", "~~~text"])
def test_blocks_that_are_only_shown_do_not_run(tmp_path: Path, opening: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{opening}\nraise SystemExit(9)\n{opening[:3]}\n\n```python\nprint('ran')\n```\n")

    done = run(page)

    assert (done.returncode, done.stdout) == (0, "page.md: examples that ran: 1\n")


def test_a_longer_fence_shows_shorter_ones_without_running_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("````markdown\n```python\nraise SystemExit(9)\n```\n````\n")

    done = run(page)

    assert (done.returncode, done.stdout) == (0, "page.md: examples that ran: 0\n")


def test_examples_run_in_an_empty_folder_of_their_own(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nfrom pathlib import Path\nassert not list(Path('.').iterdir())\nPath('made').touch()\n```\n"
    )

    assert run(page).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]


def test_a_class_of_an_example_can_be_pickled(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nimport pickle\n\nclass Point:\n    x = 3\n```\n"
        "```python\nprint(pickle.loads(pickle.dumps(Point())).x)\n```\n```text\n3\n```\n"
    )

    assert run(page).returncode == 0
