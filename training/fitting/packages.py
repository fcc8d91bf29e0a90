"""Which Python packages are there, and in which versions."""

import importlib.metadata

__all__ = ["PACKAGES", "installed", "versions"]

PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "opencv-python-headless", "scikit-learn")


def installed(package: str) -> bool:
    """Whether a distribution of that name is installed; it is not imported."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def versions() -> dict[str, str]:
    """The versions of those of `PACKAGES` that are installed: what a run's numbers may depend on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES if installed(name)}
