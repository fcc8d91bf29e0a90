"""The exceptions this project raises on purpose, as one small tree.

Every message names the file or value received and what was expected; the command line prints it as one line.
"""

__all__ = [
    "BundleMismatch",
    "DataSetError",
    "EngineFailed",
    "MachineFault",
    "ModelOutOfOrder",
    "RealMNetError",
    "WeightsMismatch",
]


class RealMNetError(Exception):
    """Base of every error that is the input's fault rather than a bug."""


class MachineFault(RealMNetError):
    """A file could not be read since this machine failed (no memory, an I/O error): it is not the file's fault.

    `problem`: the sentence for a person, without the file's name.
    """

    def __init__(self, problem: str, name: str):
        super().__init__(f"{name}: {problem}")
        self.problem = problem


class EngineFailed(RealMNetError):
    """The engine no longer computes the golden output on this machine: nothing it says can be believed."""


class ModelOutOfOrder(RealMNetError):
    """A model cannot screen on this machine for now: what it should say is missing, not negative."""


class BundleMismatch(RealMNetError):
    """A bundle that is incomplete, was changed after it was made, or no longer gives its golden output."""


class DataSetError(RealMNetError):
    """A data set whose files or labels are not what its format promises."""


class WeightsMismatch(RealMNetError):
    """A checkpoint whose names or shapes do not fit the model."""
