"""The tables on the pages say what the code says."""

import inspect
import re
import tomllib
from pathlib import Path

from hookloop.callback import HOOKS, Hooks
from hookloop.metrics.rules import LOG_RULES

ROOT = Path(__file__).parents[2]
CORE = ROOT / "packages" / "core" / "src" / "hookloop"


def rows(page: str, first_head: str) -> list[list[str]]:
    """The rows of the table on a page whose first column has that head."""
    lines = iter((ROOT / "docs" / page).read_text(encoding="utf-8").splitlines())
    next(line for line in lines if line.startswith(f"| {first_head} |"))
    assert next(lines).startswith("|---")
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_architecture_page_names_every_file_of_the_core_on_its_floor() -> None:
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = [one for one in workspace["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    floors = {
        module.strip(" ()"): floor
        for floor, layer in enumerate(reversed(contract["layers"]), start=1)
        for module in layer.split("|")
    }
    files = [path.relative_to(CORE) for path in CORE.rglob("*.py*") if path.suffix in (".py", ".pyi")]
    expected = [(floors[file.parts[0].split(".")[0]], str(file)) for file in files if file.name != "__init__.py"]

    shown = [(int(floor), file) for floor, names, *_ in rows("architecture.md", "floor") for file in quoted(names)]

    assert sorted(shown) == sorted(expected)
    assert [floor for floor, _ in shown] == sorted(floor for floor, _ in shown)


def test_the_callbacks_page_names_every_hook_with_its_arguments() -> None:
    expected = {}
    for name in HOOKS:
        parameters = [str(one).split(":")[0] for one in inspect.signature(getattr(Hooks, name)).parameters.values()]
        defaults = {one.name: one.default for one in inspect.signature(getattr(Hooks, name)).parameters.values()}
        given = [one for one in parameters if one not in ("self", "trainer", "pl_module")]
        expected[name] = [f"{one}=0" if defaults[one] == 0 else one for one in given]

    shown = {}
    for names, arguments, *_ in rows("callbacks.md", "hook"):
        like_validation = re.match(r"the same six with `(\w+)`", names)
        for name in quoted(names):
            given = [one.strip() for text in quoted(arguments) for one in text.split(",")]
            shown[name] = [] if name == "state_dict" else given
        if like_validation:
            del shown[like_validation[1]]
            six = [name for name in shown if name.startswith("on_validation_")]
            assert len(six) == 6
            shown |= {name.replace("validation", like_validation[1]): shown[name] for name in six}

    assert shown == expected


def test_the_logging_page_says_of_every_hook_how_it_logs() -> None:
    expected = {
        name: ("yes" if rule.step_by_default else "no" if rule.step_allowed else "an error", rule.epoch_by_default)
        for name, rule in LOG_RULES.items()
    }

    shown = {}
    for names, on_step, on_epoch in rows("logging.md", "hook"):
        if on_epoch == "an error":
            assert not set(quoted(names)) & set(expected)
            continue
        for name in quoted(names):
            shown[name] = (on_step, on_epoch == "yes")
        if "the same for `test`" in names:
            del shown["test"]
            of_validation = [name for name in quoted(names) if "validation" in name]
            shown |= {name.replace("validation", "test"): shown[name] for name in of_validation}

    assert shown == expected
