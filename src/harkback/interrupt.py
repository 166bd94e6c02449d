"""Ctrl-C, where it would leave things by half, waits."""

from __future__ import annotations

import inspect
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN = 0.05  #: seconds until it is looked again whether something is still loaded
LOADER = "<frozen importlib._bootstrap>"  #: the file of the frames in which Python imports


@contextmanager
def when_loaded() -> Iterator[None]:
    """In the ``with`` block, Ctrl-C waits until what is being imported is there, and for the end of finalizers.

    Libraries that are stopped while they load make any error of it, or go on as if nobody had asked, with modules that
    are there by half. Who calls this from a program that answers Ctrl-C, or has it ignored, keeps their way.
    """
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler and hasattr(signal, "setitimer")
    if not ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    outside = _imports(inspect.currentframe())  # We may be imported ourselves.

    def answer(number: int, frame: FrameType | None) -> None:
        if _imports(frame) > outside:
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
        else:
            signal.default_int_handler(number, frame)

    def swallowed(what: sys.UnraisableHookArgs) -> None:
        """Python drops what is raised in a finalizer; it is raised again behind that."""
        if what.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
        else:
            hook(what)

    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.signal(signal.SIGINT, answer)
    hook, sys.unraisablehook = sys.unraisablehook, swallowed
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGALRM, before)


def _imports(frame: FrameType | None) -> int:
    """How many are under way."""
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename == LOADER
        frame = frame.f_back
    return count


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C waits for the end of the ``with`` block.

    A process that was asked for and never noted would begin when its parent has gone, and say that it lacks it.
    """
    if threading.current_thread() is not threading.main_thread():  # Ctrl-C interrupts no other.
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)
