"""Searching for the largest size that works; nothing here knows of training."""

from collections.abc import Callable


def largest_power(works: Callable[[int], bool], first: int, most: int, trials: int) -> int:
    """Double from `first` until a size fails, `most` is reached, or there were so many trials.

    If the first size fails, it is halved until one works.

    Args:
        works: tries a size.
        first: the first one, at least 1 and at most `most`.
        most: the largest one to try.
        trials: sizes to try.

    Returns:
        The largest size that worked; 0 if none did.
    """
    return _search(works, first, most, trials, exact=False)


def largest_by_halving(works: Callable[[int], bool], first: int, most: int, trials: int) -> int:
    """The same, and between the largest size that worked and the least that failed by halving the distance."""
    return _search(works, first, most, trials, exact=True)


def _search(works: Callable[[int], bool], first: int, most: int, trials: int, exact: bool) -> int:
    good, bad, size = 0, most + 1, first
    for _ in range(trials):
        if works(size):
            good = size
            if bad > most:
                size = min(2 * size, most)
            elif exact:
                size = (good + bad) // 2
        else:
            bad = size
            size = (good + bad) // 2 if exact and good else size // 2
        if size <= good or size >= bad or size == 0:
            break
    return good
