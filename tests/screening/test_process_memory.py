"""A process that runs a model has pages of 2 MB and keeps its memory: started so, or starting itself again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_realmnet.screening.process_memory import engine_environment

KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")
gives_pages = pytest.mark.skipif(
    not KERNEL.exists() or "[madvise]" not in KERNEL.read_text(), reason="the kernel gives no pages on request"
)


def said(*command: str, environment: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def without(monkeypatch) -> dict[str, str]:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    return dict(os.environ)


@gives_pages
def test_a_process_for_a_model_has_huge_pages(monkeypatch):
    def huge_megabytes(environment):
        code = "b = bytearray(64 << 20); b[::4096] = b[::4096]; print(open('/proc/self/smaps_rollup').read())"
        (line,) = (each for each in said("-c", code, environment=environment).splitlines() if "AnonHugePages" in each)
        return int(line.split()[1]) / 1024

    assert huge_megabytes(without(monkeypatch)) < 4
    assert huge_megabytes(engine_environment()) >= 32


def test_what_a_picture_took_is_kept_for_the_next(monkeypatch):
    """How often the kernel is asked for pages when as much as before is wanted."""
    code = """if True:
        import resource
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            pixels = [bytearray(20 << 20) for _ in range(3)]
            for each in pixels:
                each[::4096] = each[::4096]
            del pixels, each
            asked = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        print(asked)"""
    usual = int(said("-c", code, environment=without(monkeypatch)))
    assert int(said("-c", code, environment=engine_environment())) < min(10, usual)


def test_a_setting_of_ones_own_stays(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    assert engine_environment()["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=0"


def test_a_process_starts_again_once_with_its_own_arguments(monkeypatch):
    code = (
        "import os, sys; print(len(sys.argv), os.environ.get('GLIBC_TUNABLES'));"
        "from keras_realmnet.screening.process_memory import start_again; start_again(); print('goes on')"
    )
    environment = without(monkeypatch)
    first, second, third = said("-c", code, "a b", environment=environment).splitlines()
    assert (first, second, third) == ("2 None", f"2 {engine_environment()['GLIBC_TUNABLES']}", "goes on")
    own = said("-c", code, environment={**environment, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"})
    assert own.splitlines() == ["1 glibc.malloc.hugetlb=0", "goes on"]


@pytest.mark.parametrize(("command", "starts"), [("screen", 2), ("status", 1)])
def test_screening_files_has_it_by_itself(monkeypatch, tmp_path, command, starts):
    """What each interpreter that the command takes finds in its environment."""
    log = tmp_path / "started"
    (tmp_path / "sitecustomize.py").write_text(
        f"import os; print(os.environ.get('GLIBC_TUNABLES'), file=open({str(log)!r}, 'a'))"
    )
    environment = without(monkeypatch)
    paths = os.pathsep.join(filter(None, [str(tmp_path), environment.get("PYTHONPATH")]))
    said("-m", "edge_app", command, "--help", environment={**environment, "PYTHONPATH": paths})
    assert log.read_text().split() == ["None", engine_environment()["GLIBC_TUNABLES"]][:starts]
