"""SIGINT (Ctrl-C) and SIGTERM while training: finish the step, save, say how to go on, end."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from utils.runtime.distributed import most_of_processes

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):  # noqa: N818  # nothing went wrong
    """A signal ended training after everything was saved; `status` is a shell's for that signal."""

    def __init__(self, signum: int, remedy: str) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}; {remedy}")
        self.status = 128 + signum


class StopSignals(contextlib.ExitStack):
    """While this context is open, the first signal is noted and a second one ends the process.

    A signal that the process was started to ignore, as shells start background jobs, stays ignored.

    Args:
        remedy: how to go on, for the message.
    """

    def __init__(self, remedy: str) -> None:
        super().__init__()
        self.remedy = remedy
        self.noted = 0
        self.nothing_to_save = False
        self.heard: list[signal.Signals] = []

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            self.heard = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
            for number in self.heard:
                self.callback(signal.signal, number, signal.signal(number, self.note))
        return self

    def note(self, signum: int, frame: FrameType | None) -> None:
        """The handler."""
        del frame
        for number in self.heard:
            signal.signal(number, signal.SIG_DFL)
        self.noted = signum
        if self.nothing_to_save:
            raise Stopped(signum, self.remedy)

    def noted_anywhere(self) -> int:
        """The signal that some process has noted, the same in all of them; 0 without any."""
        return most_of_processes(self.noted)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within, everything is on disk already: a signal raises `Stopped` where it arrives."""
        self.nothing_to_save = True
        try:
            if self.noted:
                raise Stopped(self.noted, self.remedy)
            yield
        finally:
            self.nothing_to_save = False
