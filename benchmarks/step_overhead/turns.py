"""Taking turns: several subjects at once, of which one runs at any time, a few steps each."""

import threading
from collections.abc import Callable, Sequence


class Turns:
    """Threads of which exactly one runs; it hands over where it chooses, to the next one in the row.

    Args:
        number: how many take part.
        first: whose turn it is at the beginning.
    """

    def __init__(self, number: int, first: int = 0) -> None:
        self._number = number
        self._left = set(range(number))
        self._whose = first % number
        self._changed = threading.Condition()

    def wait(self, me: int) -> None:
        """Wait for my turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._whose == me)

    def hand_over(self, me: int) -> None:
        """Let the others run, each once, and return when it is my turn again."""
        with self._changed:
            self._next(me)
            self._changed.wait_for(lambda: self._whose == me)

    def leave(self, me: int) -> None:
        """Take no further part."""
        with self._changed:
            self._left.discard(me)
            if self._left:
                self._next(me)

    def _next(self, me: int) -> None:
        after = (number % self._number for number in range(me + 1, me + 1 + self._number))
        self._whose = next(number for number in after if number in self._left)
        self._changed.notify_all()


def take_turns(turns: Turns, bodies: Sequence[Callable[[], None]]) -> None:
    """Run all bodies, each in a thread of its own and only when it is its turn.

    Raises:
        BaseException: what the first body raised that raised anything.
    """
    raised: list[BaseException] = []

    def run(me: int, body: Callable[[], None]) -> None:
        turns.wait(me)
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that asked
            raised.append(error)
        finally:
            turns.leave(me)

    threads = [threading.Thread(target=run, args=(me, body)) for me, body in enumerate(bodies)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]
