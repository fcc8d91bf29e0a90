import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keras_realmnet.errors import RealMNetError
from training.data.parallel import ALONE, in_parallel


def process_and_square(item):
    return os.getpid(), item**2


def end_itself(item):
    if item == ALONE:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


@pytest.mark.parametrize("chunk", [1, 7])
def test_results_come_in_order_from_other_processes(chunk):
    items = list(range(3 * ALONE))
    processes, squares = zip(*in_parallel(process_and_square, items, "squares", workers=2, chunk=chunk), strict=True)
    assert list(squares) == [item**2 for item in items]
    assert os.getpid() not in processes
    assert len(set(processes)) <= 2


def test_few_items_or_one_worker_need_no_other_process():
    for items, workers in ((range(ALONE), 4), (range(3 * ALONE), 1), (range(0), None)):
        results = list(in_parallel(process_and_square, items, "squares", workers=workers))
        assert results == [(os.getpid(), item**2) for item in items]


def test_a_worker_that_is_killed(capfd):
    with pytest.raises(RealMNetError, match="numbers: a worker process was ended, probably for lack of memory"):
        list(in_parallel(end_itself, range(3 * ALONE), "numbers", workers=2))


SCRIPT = """
import signal, sys, time
from training.data.parallel import in_parallel
def slow(item):
    time.sleep(0.05)
    return item
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what it puts in the background without
    try:
        print("begun", flush=True)
        for result in in_parallel(slow, range(1000), "slow", workers=2):
            print(result, flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("seconds", [0, 0.05, 0.1, 0.2, 0.4, 1.5])  # workers not started, starting, working
def test_an_interrupt_ends_it_soon_and_quietly(tmp_path, seconds):
    (tmp_path / "slow.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "slow.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert len(out.split()) < 500
    assert "Traceback" not in err


KEPT = """
import os, signal, threading, time
from training.data.parallel import _no_interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Thread(target=time.sleep, args=(2,), daemon=True).start()  # takes the signal that the main thread blocks
try:
    with _no_interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)
        print("not interrupted", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_an_interrupt_waits_whichever_thread_it_reaches():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    done = subprocess.run([sys.executable, "-c", KEPT], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["not interrupted", "interrupted"]
