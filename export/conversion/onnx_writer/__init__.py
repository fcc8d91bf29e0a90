"""A deploy graph, written layer by layer as ONNX: the writer, and a module of rules for each kind of layer."""
