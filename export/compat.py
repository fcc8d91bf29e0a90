"""Everything that export relies on inside LiteRT (ai-edge-litert 2.3.0), beyond its public interface.

As `keras_realmnet/compat.py` and `edge_app/dicom/compat.py`; the test is `tests/export/test_compat.py`.
"""

from typing import Any

__all__ = ["operations_of"]


def operations_of(interpreter: Any) -> list[dict[str, Any]]:
    """The operations in the order in which they run: `op_name`, and `inputs` and `outputs` as numbers of tensors, the
    `index` of `get_tensor_details`. Those that a delegate took over are missing, and there is one called DELEGATE.

    `Interpreter._get_ops_details`; nothing public lists operations.
    """
    return interpreter._get_ops_details()
