"""Writes into a bundle's folder and is killed, or finds the disk full, at every step in turn: prints what was left.

`python interrupted.py {write|add} {killed|full} BUNDLE SCRATCH`. Each try is a process of its own, on a copy of BUNDLE.
"""

import json
import os
import resource
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.bundle.document import BUNDLE_FILE, named_files
from keras_realmnet.screening.bundle.folder_change import FolderChange
from keras_realmnet.screening.bundle.writing import ArtifactSource, add_artifacts, write_bundle
from keras_realmnet.tasks.rules import AnyAbove

TOUCHING = ("open", "os.", "shutil.")  # audit events that come before a change of files


def change(how: str, directory: Path, models: Path) -> None:
    """Replaces the bundle by one with a new model in the place of "float32"; "write" leaves "second" out."""
    bundle = Bundle.load(directory)
    sources = {"float32": ArtifactSource(models / "other.tflite", "float32", 2e-3)}
    if how == "add":
        add_artifacts(bundle, sources)
        return
    write_bundle(
        directory,
        name=bundle.name,
        version="2",
        task=replace(bundle.task, rule=AnyAbove("probabilities", replace(bundle.task.operating_point, chosen="anew"))),
        spec=bundle.spec,
        artifacts=sources,
        default_artifact="float32",
        golden_image=255 - bundle.golden()[0],
        training_data={"statement": "None: drawn by hand."},
        scores={},
        versions={},
        intended_use="Tests only.",
    )


def killed_at(step: int, directory: Path) -> None:
    """Sends this process SIGKILL before the given step among those that have to do with the folder."""
    count = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal count
        if event.startswith(TOUCHING) and any(str(directory) in str(argument) for argument in arguments):
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def attempt(how: str, trouble: str, step: int, directory: Path, models: Path) -> int:
    """The exit status of one try; 0: it was done, 1: it was refused, -9: it was killed."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            if trouble == "killed":
                killed_at(step, directory)
            elif step:  # bytes that a file may have
                resource.setrlimit(resource.RLIMIT_FSIZE, (step, resource.RLIM_INFINITY))
            change(how, directory, models)
            status = 0
        except RealMNetError as error:
            print(f"{directory}: {error}" if "File too large" not in str(error) else "", end="", file=sys.stderr)
            status = 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def left(directory: Path) -> dict[str, object]:
    try:
        digest: str | None = Bundle.load(directory).digest
    except BundleMismatch as error:
        digest = str(error)
    return {"digest": digest, "files": sorted(path.name for path in directory.iterdir())}


def main(how: str, trouble: str, bundle: Path, scratch: Path) -> None:
    models = scratch / "models"
    models.mkdir()
    # The same network in other bytes: what follows the model in the file is ignored.
    (models / "other.tflite").write_bytes((bundle / "float32.tflite").read_bytes() + bytes(64))
    steps = range(1, 1000) if trouble == "killed" else (*range(1, 5_000, 400), 0)
    for step in steps:
        directory = Path(shutil.copytree(bundle, scratch / f"{how}-{step}"))
        status = attempt(how, trouble, step, directory, models)
        found = left(directory)
        with FolderChange(directory, BUNDLE_FILE, named_files):
            pass  # a next change, which breaks off, too
        print(json.dumps({"step": step, "status": status, "left": found, "then": left(directory)}), flush=True)
        shutil.rmtree(directory)
        if trouble == "killed" and status != -signal.SIGKILL:
            break


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
