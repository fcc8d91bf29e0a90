"""A process that runs a model has pages of 2 MB: where it is started, and where it starts itself again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_realmnet.screening.huge_pages import engine_environment

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


def test_a_setting_of_ones_own_stays(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    assert engine_environment()["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=0"


def test_a_process_starts_again_once_with_its_own_arguments(monkeypatch):
    code = (
        "import os, sys; print(len(sys.argv), os.environ.get('GLIBC_TUNABLES'));"
        "from keras_realmnet.screening.huge_pages import start_again; start_again(); print('goes on')"
    )
    environment = without(monkeypatch)
    first, second, third = said("-c", code, "a b", environment=environment).splitlines()
    assert (first, second, third) == ("2 None", "2 glibc.malloc.hugetlb=1", "goes on")
    own = said("-c", code, environment={**environment, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"})
    assert own.splitlines() == ["1 glibc.malloc.hugetlb=0", "goes on"]


@pytest.mark.parametrize(("command", "settings"), [("screen", [None, "glibc.malloc.hugetlb=1"]), ("status", [None])])
def test_screening_files_has_them_by_itself(monkeypatch, tmp_path, command, settings):
    """What each interpreter that the command takes finds in its environment."""
    log = tmp_path / "started"
    (tmp_path / "sitecustomize.py").write_text(
        f"import os; print(os.environ.get('GLIBC_TUNABLES'), file=open({str(log)!r}, 'a'))"
    )
    environment = without(monkeypatch)
    paths = os.pathsep.join(filter(None, [str(tmp_path), environment.get("PYTHONPATH")]))
    said("-m", "edge_app", command, "--help", environment={**environment, "PYTHONPATH": paths})
    assert log.read_text().split() == [str(each) for each in settings]
