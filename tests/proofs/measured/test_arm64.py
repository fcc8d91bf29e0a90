"""The emulated run of arm64.py needs qemu and minutes, so it is made by name; here: what goes before it."""

import pytest

from tests.proofs.measured import arm64


def test_without_an_emulator_it_says_what_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert arm64.main([]) == 2
    assert "cannot be tried here: qemu-aarch64-static is not installed" in capsys.readouterr().err


@pytest.mark.parametrize(("python", "numpy"), [("3.10", "numpy==2.2.6"), ("3.11", "numpy==2.4.6")])
def test_the_wheels_are_those_that_are_pinned_for_a_board(python, numpy):
    pins = list(arm64.pins(python))
    assert numpy in pins
    assert sorted(pin.split("==")[0] for pin in pins) == sorted(arm64.PACKAGES)


def test_the_shipped_bundle_has_artifacts_to_check():
    assert "int8" in arm64.for_processors(arm64.ROOT / "bundles/realmnet-demo")
