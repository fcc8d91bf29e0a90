"""What `export.compat` relies on inside LiteRT is as it says."""

import importlib.metadata

from export import compat


def test_the_release_is_the_one_that_was_read():
    installed = f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"
    assert installed in compat.__doc__, f"{installed} is installed: see whether export/compat.py is right about it"


def test_operations_are_told_with_the_numbers_of_their_tensors(opened, litert_models, pictures):
    interpreter = opened(litert_models["float32"])
    operations = compat.operations_of(interpreter)
    assert all({"op_name", "inputs", "outputs"} <= operation.keys() for operation in operations), operations[:1]
    assert "DELEGATE" in [operation["op_name"] for operation in operations], "XNNPACK's part has another name"
    known = {detail["index"] for detail in interpreter.get_tensor_details()}
    told = {int(number) for operation in operations for number in operation["outputs"]}
    assert told <= known, f"outputs are no tensors' numbers: {sorted(told - known)[:5]}"
    # In the order in which they run: what one takes is given, stored, or made by one before it.
    made = {int(detail["index"]) for detail in interpreter.get_input_details()}
    for operation in operations:
        later = told - made
        assert not later & set(map(int, operation["inputs"])), f"{operation['op_name']} takes what is made behind it"
        made |= set(map(int, operation["outputs"]))
    answers = {int(detail["index"]) for detail in interpreter.get_output_details()}
    assert answers <= made, "no operation makes the model's outputs"
