"""One function over many files, on all cores, with a progress bar."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

import cv2
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from keras_realmnet.errors import RealMNetError

__all__ = ["in_parallel"]

Item = TypeVar("Item")
Result = TypeVar("Result")

ALONE = 16  # so few items are done before a pool of processes has started


def in_parallel(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    title: str,
    workers: int | None = None,
    done: int = 0,
    chunk: int = 1,
) -> Iterator[Result]:
    """`function(item)` for each item, in their order, as the results come; a progress bar on stderr shows `title`.

    Args:
        function: of a module's top level (or a partial of one), so that other processes can import it. It returns
            what went wrong with an item rather than raising it: an exception ends everything.
        workers: processes; default: one per core. Few items are done in this process.
        done: items already finished in an earlier run, for the progress bar.
        chunk: items handed to a worker at a time; more than one pays where an item takes milliseconds.

    Raises:
        RealMNetError: a worker process was ended from outside, as happens when memory runs out.
    """
    workers = min(workers or os.cpu_count() or 1, len(items))
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=done + len(items), completed=done)
        if workers <= 1 or len(items) <= ALONE:
            for item in items:
                yield function(item)
                progress.advance(task)
            return
        # Spawned, not forked: a process that already runs TensorFlow or OpenCV threads cannot be forked safely.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,))
        try:
            with _no_interrupt():
                results = pool.map(function, items, chunksize=chunk)
            for result in results:
                yield result
                progress.advance(task)
        except BrokenProcessPool as error:
            raise RealMNetError(
                f"{title}: a worker process was ended, probably for lack of memory; the same command with fewer "
                "workers goes on from here"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Ctrl-C waits until the block ends, and never reaches a process started inside, which inherits the blocked signal.

    A terminal sends it to every process of the group. The interrupt is the parent's to handle: a worker that dies of
    it while it starts makes the pool break or even wait for ever. A blocked signal still reaches another thread of this
    process, as that of the progress bar, and Python then interrupts the main thread: so it is kept by a handler, too.
    """
    came: list[int] = []
    handled = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not None
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number)) if handled else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if handled:
            signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)
