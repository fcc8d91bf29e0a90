import importlib.metadata

from training.fitting import packages
from training.fitting.packages import installed, versions


def test_what_is_not_installed_has_no_version(monkeypatch):
    assert installed("keras")
    assert not installed("no-such-package-of-ours")
    monkeypatch.setattr(packages, "PACKAGES", ("no-such-package-of-ours", "keras"))
    assert versions() == {"keras": importlib.metadata.version("keras")}
