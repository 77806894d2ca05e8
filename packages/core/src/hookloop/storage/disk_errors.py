"""What an error of a file system means, in words, and what whoever sees it can do."""

import errno

_MEANINGS = {
    errno.ENOSPC: (
        "there is no space left on the disk",
        "Free space there, or save elsewhere: another path, dirpath of the checkpoint callback, or default_root_dir of "
        "the Trainer.",
    ),
    errno.EDQUOT: ("the disk quota of this user is used up", "Delete what is no longer needed, or ask for more."),
    errno.EFBIG: (
        "the file would be larger than this process or file system allows",
        "Look at `ulimit -f`, or save to another file system.",
    ),
    errno.EACCES: (
        "this user has no permission to do that",
        "Change the permissions or the owner of the folder, or choose another one.",
    ),
    errno.EPERM: (
        "this user has no permission to do that",
        "Change the permissions, the owner or the attributes of the folder, or choose another one.",
    ),
    errno.EROFS: ("the file system is read-only", "Choose a folder on another one, or mount it for writing."),
    errno.ENOENT: (
        "the folder is gone",
        "Did somebody remove or rename it meanwhile? Make it again, or choose another one.",
    ),
    errno.ENOTDIR: ("a part of the path is a file, and a folder is needed", "Choose another path."),
    errno.EISDIR: ("it is a folder, and a file is needed", "Give the name of a file too."),
    errno.EEXIST: ("something else of that name is there", "Choose another path."),
    errno.ENAMETOOLONG: ("the name is too long for the file system", "Choose a shorter one."),
    errno.ELOOP: ("the links on the path lead in a circle", "Choose another path, or mend the links."),
    errno.EIO: (
        "the disk reports that reading or writing failed",
        "Look at the system's log for what is wrong with it, and choose another disk.",
    ),
    errno.ESTALE: ("the network file system has lost the folder", "Mount it again, or choose another one."),
    errno.ENOTCONN: ("the network file system is not connected", "Mount it again, or choose another one."),
    errno.ETIMEDOUT: ("the file system does not answer", "Try again, or choose another one."),
    errno.EMFILE: (
        "this process has too many files open",
        "Look at `ulimit -n`, and for files that are opened and never closed.",
    ),
    errno.ENFILE: ("this machine has too many files open", "Close programs, or raise fs.file-max."),
}


def explained(error: BaseException) -> str:
    """What an error means and what to do, in whole sentences; with its name, so that it can be searched for.

    An OSError that led to the error, or was being handled when it was raised, is what is explained.

    Args:
        error: what was raised.

    Returns:
        "There is no space left on the disk (OSError: [Errno 28] ...). Free space there, or ...", or for an error of
        which nothing is known, its name and text.
    """
    cause = _os_error_behind(error)
    if cause is None or cause.errno not in _MEANINGS:
        shown = error if cause is None else cause
        return f"{type(shown).__name__}: {str(shown).rstrip('.') or 'without a message'}."
    means, advice = _MEANINGS[cause.errno]
    return f"{means[0].upper()}{means[1:]} ({type(cause).__name__}: {cause}). {advice}"


def _os_error_behind(error: BaseException | None) -> OSError | None:
    passed: list[BaseException] = []  # an error that is raised again can be the cause of its cause
    while error is not None and not any(error is one for one in passed):
        if isinstance(error, OSError) and error.errno is not None:
            return error
        passed.append(error)
        error = error.__cause__ or error.__context__
    return None
