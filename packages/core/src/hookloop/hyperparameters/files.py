"""Settings from a file: the YAML that loggers write, or the CSV that Lightning's earlier loggers wrote."""

import ast
import csv
import os
from pathlib import Path
from typing import Any

from hookloop.errors import MisconfigurationError


def read_hparams_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the settings in a file.

    Args:
        path: a .yaml or .yml file with a mapping (`hookloop.hyperparameters.yaml_reader` says which YAML), or a .csv
            file with the columns key and value, whose values are read as Python's literals or are text.

    Raises:
        MisconfigurationError: there is no such file, its name ends otherwise, or it holds something else.
    """
    file = Path(path)
    kind = file.suffix.lower()
    if kind not in (".yaml", ".yml", ".csv"):
        raise MisconfigurationError(
            f"hparams_file={str(file)!r}: settings are read from .yaml, .yml and .csv files. Give one of these, or "
            "pass the settings as keyword arguments."
        )
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MisconfigurationError(
            f"hparams_file={str(file)!r} cannot be read ({type(error).__name__}: {error}). The CSVLogger writes such a "
            "file into its log_dir: hparams.yaml."
        ) from error
    if kind == ".csv":
        return _from_csv(file, text)
    from hookloop.hyperparameters.yaml_reader import YamlError, read_yaml

    try:
        settings = read_yaml(text)
    except YamlError as error:
        raise MisconfigurationError(
            f"hparams_file={str(file)!r}, {error}. What this reader does not know can be read by PyYAML and passed as "
            "keyword arguments: load_from_checkpoint(path, **yaml.safe_load(text))."
        ) from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise MisconfigurationError(
            f"hparams_file={str(file)!r} holds a {type(settings).__name__}, and a mapping of settings is expected, as "
            "`lr: 0.1`."
        )
    return settings


def _from_csv(file: Path, text: str) -> dict[str, Any]:
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if any(len(row) != 2 for row in rows):
        number = next(number for number, row in enumerate(rows, 1) if len(row) != 2)
        raise MisconfigurationError(
            f"hparams_file={str(file)!r}, row {number} has {len(rows[number - 1])} cell(s), and two are expected in "
            "each row: key and value, below a row that says so."
        )
    return {key: _literal(value) for key, value in rows[1:]}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
