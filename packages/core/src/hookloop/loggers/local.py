"""What loggers that write local files share: a folder that belongs to one run, and the run's settings in it."""

import os
import warnings
from pathlib import Path
from typing import Any, ClassVar

from hookloop.errors import MisconfigurationError
from hookloop.loggers.base import Logger, version_folder
from hookloop.loggers.hparams import Plain, to_plain, to_yaml
from hookloop.loggers.versions import next_version

_EMPTY = to_yaml({})
# The files of numbers that local loggers write, other libraries' among them. A folder that has one has had its run.
_NUMBERS = ("metrics.csv", "events.out.tfevents.*")


class LocalLogger(Logger):
    """Gives each run the folder save_dir/name/version_N, and keeps its settings there in `hparams.yaml`.

    Constructing the logger, and reading its properties (`experiment` excepted), makes no folder. The first thing that
    is logged does, or `save`. `version=None` takes the number after the highest one that exists when it is first asked
    for. If another process begins to log under that number earlier than this one, this run moves on to the next number
    and warns: no run writes over another. A version that is given is used as it is: several loggers, and several runs,
    may share its folder. An hparams.yaml there that says something else than what this logger wrote is kept as
    hparams-1.yaml (-2, ...).

    Args:
        save_dir: local folder for all experiments; `~` and $VARIABLES in it are expanded.
        name: name of the experiment; None or "": no folder of that name between save_dir and the version.
        version: number or name of the run; None: the next free number.
        prefix: put before every metric's name, with `LOGGER_JOIN_CHAR` between them.

    Raises:
        MisconfigurationError: save_dir is no local path, name or prefix is no text, or version is neither a number nor
            a text.
    """

    LOGGER_JOIN_CHAR: ClassVar[str] = "-"
    """What stands between the prefix and a metric's name."""
    NAME_HPARAMS_FILE: ClassVar[str] = "hparams.yaml"
    """The file of settings."""

    def __init__(
        self, save_dir: str | os.PathLike[str], name: str | None, version: int | str | None, prefix: str
    ) -> None:
        kind = type(self).__name__
        if not isinstance(save_dir, str | os.PathLike):
            raise MisconfigurationError(f"{kind}(save_dir={save_dir!r}) must be the path of a local folder.")
        if "://" in os.fspath(save_dir):
            raise MisconfigurationError(
                f"{kind}(save_dir={save_dir!r}) is a URL, and {kind} writes local files; "
                "give a local folder, and copy it away afterwards."
            )
        if name is not None and not isinstance(name, str):
            raise MisconfigurationError(
                f"{kind}(name={name!r}) must be a text, or None for no folder between save_dir and the version."
            )
        if not _is_version(version):
            raise MisconfigurationError(
                f"{kind}(version={version!r}) is neither an int of at least 0 nor a text that is not empty; "
                "give one of these, or None for the next free number."
            )
        if not isinstance(prefix, str):
            raise MisconfigurationError(f'{kind}(prefix={prefix!r}) must be a text; "" puts nothing before the names.')
        self._root = Path(os.path.expandvars(save_dir)).expanduser()
        self._name = name
        self._version = version
        self._given = version is not None
        self._prefix = f"{prefix}{self.LOGGER_JOIN_CHAR}" if prefix else ""
        self._folder: Path | None = None
        self._hparams: dict[Plain, Plain] = {}
        self._hparams_text = _EMPTY

    @property
    def name(self) -> str | None:
        """Name of the experiment, as given."""
        return self._name

    @property
    def version(self) -> int | str:
        """Number or name of the run. If none was given, the first reading looks for the next free number."""
        if self._version is None:
            self._version = next_version(Path(self.root_dir))
        return self._version

    @property
    def save_dir(self) -> str:
        """The folder of all experiments, with `~` and variables expanded."""
        return str(self._root)

    @property
    def root_dir(self) -> str:
        """The folder of the experiment: save_dir/name."""
        return str(self._root / (self._name or ""))

    @property
    def log_dir(self) -> str:
        """The folder of the run: save_dir/name/version_N. It need not exist yet."""
        return str(Path(self.root_dir, version_folder(self.version)))

    @property
    def hparams(self) -> dict[Plain, Plain]:
        """The settings that were logged, as they stand in hparams.yaml."""
        return dict(self._hparams)

    def _add_hparams(self, params: Any) -> dict[Plain, Plain]:
        """Add settings to hparams.yaml, at once. A name that is there already gets the new value.

        Args:
            params: a mapping, an argparse.Namespace, a dataclass instance, or None. Values may be nested;
                `hookloop.loggers.hparams` says how each kind is written. Nothing is written if it is empty.

        Returns:
            All settings of the run.

        Raises:
            MisconfigurationError: params is something else, or the folder cannot be made.
        """
        plain = to_plain({} if params is None else params)
        if not isinstance(plain, dict):
            raise MisconfigurationError(
                f"{type(self).__name__}.log_hyperparams got {params!r} ({type(params).__qualname__}); "
                "give a mapping, an argparse.Namespace or a dataclass instance, as {'lr': 0.1}."
            )
        if plain:
            self._hparams.update(plain)
            self._write_hparams(self._claim())
        return self.hparams

    def _claim(self) -> Path:
        """Make the run's folder, for this run alone if its number was not given, and return its absolute path.

        Raises:
            MisconfigurationError: it cannot be made, or nothing can be written in it.
        """
        if self._folder is None:
            try:
                self._folder = self._claim_given() if self._given else self._claim_number()
            except OSError as error:
                raise MisconfigurationError(
                    f"{type(self).__name__} cannot write in {self.log_dir!r}: {error.strerror or error}. Give a folder "
                    "in which files can be made, as save_dir or as the Trainer's default_root_dir; "
                    "Trainer(logger=False) writes none."
                ) from error
        return self._folder

    def _claim_given(self) -> Path:
        folder = Path(self.log_dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        self._create_hparams(folder)
        return folder

    def _claim_number(self) -> Path:
        while True:
            promised = self._version is not None
            folder = Path(self.log_dir).absolute()
            # The folder may exist, made by a checkpoint callback of this run or of another one; the file that only one
            # process can create decides whose it is.
            folder.mkdir(parents=True, exist_ok=True)
            if not any(any(folder.glob(name)) for name in _NUMBERS) and self._create_hparams(folder):
                return folder
            self._version = None
            if promised:
                warnings.warn(
                    f"{type(self).__name__}: another run has begun to log in {str(folder)!r} since this run chose it; "
                    f"this run logs in {self.log_dir!r} instead. Give runs that start at the same moment a `version` "
                    "each, and several loggers that are to share a folder the same one.",
                    stacklevel=5,
                )

    def _create_hparams(self, folder: Path) -> bool:
        """Create the file of settings, with none in it; False if it exists."""
        try:
            with (folder / self.NAME_HPARAMS_FILE).open("x", encoding="utf-8") as file:
                file.write(_EMPTY)
        except FileExistsError:
            return False
        return True

    def _write_hparams(self, folder: Path) -> None:
        path = folder / self.NAME_HPARAMS_FILE
        text = to_yaml(self._hparams)
        folder.mkdir(parents=True, exist_ok=True)
        # Another run, or another logger, may have settings there.
        if _text_of(path) not in (None, _EMPTY, self._hparams_text, text):
            path.rename(_free_path(path))
        beside = path.with_name(f"{path.name}.new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
        self._hparams_text = text


def _is_version(version: object) -> bool:
    if isinstance(version, str):
        return version != ""
    return version is None or (type(version) is int and version >= 0)


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _free_path(taken: Path) -> Path:
    number = 1
    while (path := taken.with_stem(f"{taken.stem}-{number}")).exists():
        number += 1
    return path
