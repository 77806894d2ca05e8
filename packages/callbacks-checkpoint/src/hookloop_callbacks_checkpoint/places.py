"""Where the checkpoints of a run are: its folder, and those of the processes that it was started in before."""

from hookloop.view import TrainerView
from hookloop_callbacks_checkpoint import files

FOLDER = "checkpoints"


def default_folder(trainer: TrainerView) -> str:
    """Where files go without a `dirpath`: "checkpoints" in the first logger's folder of this version.

    Without such a logger, in the trainer's default_root_dir.
    """
    return files.join(files.absolute(trainer.log_dir or trainer.default_root_dir), FOLDER)


def folders_of_run(trainer: TrainerView) -> list[str]:
    """Where this run's files may be when there is no `dirpath`.

    Each start of a script gets a new version of its logger (version_0, version_1, ...), so that a job which is started
    again finds its former files in the folders beside its own.
    """
    logger = trainer.logger
    root = getattr(logger, "root_dir", None) if logger is not None else None
    if not root:
        return [default_folder(trainer)]
    return [files.join(version, FOLDER) for version in files.folders_in(files.absolute(root))]
