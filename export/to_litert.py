"""Keras → LiteRT: a float32 model, and from it one whose large matrices are int8."""

import contextlib
import io
from pathlib import Path

import keras

from keras_realmnet import RealMNet
from keras_realmnet.errors import RealMNetError

__all__ = ["to_litert", "to_litert_int8"]


def to_litert(model: RealMNet, path: Path) -> Path:
    """Writes `model.inference_model()` as a float32 LiteRT model with a static batch of one.

    The signature `serving_default` takes `images` float32 (1, h, w, 3), 0–255, and gives `probabilities` (1, classes)
    and `class_maps` (1, h', w', classes). Only built-in operations: no Flex, no custom ones.

    Raises:
        RealMNetError: the Keras backend is not TensorFlow, which LiteRT's converter needs.
    """
    if keras.backend.backend() != "tensorflow":
        backend = keras.backend.backend()
        raise RealMNetError(f"export to LiteRT needs KERAS_BACKEND=tensorflow. Received: {backend}")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The batch is static because a dynamic one would keep most of the graph from the XNNPACK delegate.
    images = keras.InputSpec(shape=(1, *model.image_size, 3), dtype="float32", name="images")
    with contextlib.redirect_stdout(io.StringIO()):  # the converter prints what it does
        model.inference_model().export(path, format="litert", input_signature=[images], verbose=False)
    return path


def to_litert_int8(float_model: Path, path: Path) -> Path:
    """Writes `float_model` with the backbone's dense layers in int8: weights per channel, activations on the fly.

    Everything else stays float32: the convolutions, which lose accuracy in int8 (early feature maps have channels of
    very different range), the attention itself, and the head with its class maps, which decide. No calibration data.
    """
    from litert_quantizer import qtyping, quantizer

    weights = qtyping.TensorQuantizationConfig(
        num_bits=8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
    )
    dynamic = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.INTEGER
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # the quantizer does not overwrite
    work = quantizer.Quantizer(str(float_model))
    work.update_quantization_recipe(
        regex=".*backbone.*", operation_name=qtyping.TFLOperationName.FULLY_CONNECTED, op_config=dynamic
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        work.quantize().export_model(str(path))
    return path
