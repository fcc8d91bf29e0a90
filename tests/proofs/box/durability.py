"""Proof: success is answered only when the image is on the disk; the kernel's own record of the calls says so.

    python -m tests.proofs.box.durability --count 100

A running box receives images while strace looks on. For each image: its file synced < renamed < its folder synced <
the data base's log, with the image's hash in it, written and synced < the response sent. (`kill -9` cannot show this:
what a process has written survives it, synced or not.)
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.proofs import peers, served

CALLS = "fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat,write,pwrite64,sendto"
P_DATA = r'"\4\0'  # a PDU that carries a response, as strace writes its first bytes


@dataclass(frozen=True)
class Call:
    """A system call: arguments and result as strace writes them, and the lines where it began and ended."""

    thread: str
    name: str
    text: str
    begin: int
    end: int

    def on(self, path: str) -> bool:
        """Whether the call's first argument is a descriptor of the file `path`."""
        return re.match(rf"\d+<{re.escape(path)}>", self.text) is not None


def reason_to_skip() -> str | None:
    if shutil.which("strace") is None:
        return "strace is not installed"
    if subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode:
        return "tracing is not permitted here"
    return None


def parse(trace: str) -> list[Call]:
    """The calls of an `strace -f -yy` file; one that another thread interrupts is put together again."""
    calls, open_calls = [], {}
    for number, line in enumerate(trace.splitlines()):
        thread, _, said = line.partition(" ")
        said = said.strip()
        if resumed := re.match(r"<\.\.\. (\w+) resumed>(.*)", said):
            begin, name, text = open_calls.pop((thread, resumed[1]), (None, "", ""))
            if begin is not None:
                calls.append(Call(thread, name, text + resumed[2], begin, number))
        elif started := re.match(r"(\w+)\((.*)", said):
            name, text = started.groups()
            if text.endswith("<unfinished ...>"):
                open_calls[thread, name] = number, name, text.removesuffix("<unfinished ...>")
            else:
                calls.append(Call(thread, name, text, number, number))
    return sorted(calls, key=lambda call: call.begin)


def check_order(calls: Sequence[Call], sha256: str) -> list[Call]:
    """The calls that made one image durable, in their order. Raises AssertionError naming the step that is missing."""

    def first(what: str, after: int, wanted: Callable[[Call], bool]) -> Call:
        call = next((call for call in calls if call.begin > after and wanted(call)), None)
        assert call is not None, f"{sha256}: {what} is missing"
        return call

    renamed = first("rename", -1, lambda call: call.name.startswith("rename") and f"/{sha256}." in call.text)
    temporary, final = (Path(path) for path in re.findall(r'"([^"]+)"', renamed.text))
    data_dir = temporary.parent.parent
    written = [call for call in calls if call.name == "write" and call.on(str(temporary))]
    assert written, f"{sha256}: nothing was written to {temporary}"
    file = first("fsync of the file", written[-1].end, lambda call: call.name == "fsync" and call.on(str(temporary)))
    assert file.end < renamed.begin, f"{sha256}: renamed before its contents were synced"
    folder = first("fsync of the folder", renamed.end, lambda call: call.name == "fsync" and call.on(str(final.parent)))
    log = str(data_dir / "box.sqlite-wal")
    row = first("the row", folder.end, lambda call: call.name == "pwrite64" and call.on(log) and sha256 in call.text)
    commit = first(
        "sync of the log",
        row.end,
        lambda call: call.name in ("fsync", "fdatasync") and call.on(log) and call.thread == row.thread,
    )
    response = first("the response", written[0].begin, lambda call: call.name == "sendto" and P_DATA in call.text)
    assert response.begin > commit.end, f"{sha256}: answered before the data base was synced"
    parent = str(final.parent.parent)
    for made in calls:  # the folder itself, where it is new
        if made.name.startswith("mkdir") and f'"{final.parent}"' in made.text and made.text.endswith("= 0"):
            synced = first("fsync of a new folder's name", made.end, lambda c: c.name == "fsync" and c.on(parent))
            assert synced.end < response.begin, f"{sha256}: answered before its new folder was synced"
    return [file, renamed, folder, row, commit, response]


@contextmanager
def traced(pid: int, file: Path) -> Iterator[None]:
    """Records the calls of a process and its threads while the block runs."""
    command = ["strace", "-f", "-yy", "-s", "5000", "-e", f"trace={CALLS}", "-o", str(file), "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert "attached" in strace.stderr.readline()
        try:
            yield
        finally:
            strace.terminate()
            strace.stderr.read()


def run(folder: Path, bundle: Path, count: int) -> dict:
    box = served.Box(folder, bundle)
    pixels = np.full((64, 80, 3), 90, np.uint8)
    with box.running(), traced(box.pid, folder / "trace"):
        for number in range(count):
            image = peers.ophthalmic(pixels, PatientID=f"T-{number}")
            assert served.send(box.dicom_port, image) == 0x0000
        time.sleep(0.5)  # strace writes the last lines
    calls = parse((folder / "trace").read_text(errors="replace"))
    with box.store() as store:
        items = store.items(limit=count + 1)
    assert len(items) == count
    for item in items:
        check_order(calls, item.sha256)
    return {"images answered only when durable": count, "calls looked at": len(calls)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100, help="images")
    arguments = parser.parse_args()
    if reason := reason_to_skip():
        print(f"not proved: {reason}", file=sys.stderr)
        return 2
    with served.scratch() as (folder, bundle):
        print(json.dumps(run(folder / "box", bundle, arguments.count), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
