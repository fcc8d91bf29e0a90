"""Every network by its name: which outputs it may have, and how it is built for them."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_realmnet.arguments import HEADS, check
from keras_realmnet.models.beside import beside_network
from keras_realmnet.models.deeplab import deeplab_v3
from keras_realmnet.models.edge import HEAD_CLASSES, edge_network
from keras_realmnet.models.guided.network import guided_network
from keras_realmnet.models.lesions.grading import attention_branch_network, lesion_guided_network, plain_network
from keras_realmnet.models.lesions.segmentation import lesion_network
from keras_realmnet.models.palm import palm_classifier, palm_disc, palm_fovea
from keras_realmnet.models.realmnet import RealMNet
from keras_realmnet.models.refuge.disc_cup import disc_cup_network
from keras_realmnet.models.refuge.fovea import fovea_network
from keras_realmnet.models.refuge.glaucoma import findings_network, glaucoma_network
from keras_realmnet.models.vessels.adversarial import VesselGAN
from keras_realmnet.models.vessels.segmentation import vessel_lite, vessel_unet
from keras_realmnet.presets import (
    BASELINE_PRESETS,
    BESIDE_PRESETS,
    DEEPLAB_PRESETS,
    EDGE_PRESETS,
    GRADING_PRESETS,
    GUIDED_PRESETS,
    LESION_GUIDED_PRESETS,
    LESION_PRESETS,
    PALM_PRESETS,
    REALMNET_PRESETS,
    REFUGE_PRESETS,
    VESSEL_GAN_PRESETS,
    VESSEL_PRESETS,
    VESSELS,
    network_options,
)
from keras_realmnet.tasks.guidance import is_marked
from keras_realmnet.tasks.outputs import Features, Grades, Labels, Maps, Masks, Output, Points
from keras_realmnet.tasks.vocabulary import Label, LabelSet

__all__ = ["build", "check_answers"]


def build(
    name: str, outputs: Mapping[str, Output], image_size=None, load_weights: Any = False, dtype=None, **options: Any
) -> keras.Model:
    """The network called `name` with an end for each of `outputs`.

    Args:
        name: a row of `keras_realmnet.presets`: realmnet_…, a baseline, palm_classifier, palm_fovea, palm_disc,
            edge_lite0, edge_mobilenet_v2, one that tells lesions (lesion_net_…, fcn_…, unet, deeplab_v3_plus, danet),
            grading_…, guided_…, refuge_…, vessels (vessel_lite, vessel_unet, vessel_gan_…), deeplab_v3_resnet50, or
            beside.
        outputs: a task's, {name: what it is}. Maps and features are not the network's: `deploy_graph` adds them.
        image_size: pixels, one number or (height, width); `None`: the preset's.
        load_weights: `False` for random weights, or what the network's own documentation says, "imagenet" for one.
        dtype: precision, a Keras dtype policy; `None`: Keras' own. What ends the network is float32.
        options: arguments of the network, those of `presets.network_options(name)`.

    Returns:
        A model: images (batch, h, w, 3), RGB, 0–255 → {name: logits, or points as they are}, float32, and of
        grading_abn, and of points by offset maps, an auxiliary end (`network.learned_by`); of a RealMNet or a baseline
        one tensor, (batch, labels).

    Raises:
        ValueError: for another name, outputs that this network cannot have, an unknown option, or a value out of range.
        WeightsMismatch: the weights cannot be found, fetched or fitted.
    """
    check(name, network_options(name), options)
    if options.get("head_options"):
        head = options.get("head", "residual_attention")
        check(f"head_options of {head}", HEADS[head], options["head_options"])
    check_answers(name, outputs)
    ends = _ends(outputs)
    common = {"load_weights": load_weights, "dtype": dtype}
    if image_size is not None:
        common["image_size"] = image_size
    if name in EDGE_PRESETS:
        return edge_network(ends, **{**EDGE_PRESETS[name], **options, **common}, name=name)
    (key, output), *_ = ends.items()
    if name in REALMNET_PRESETS:
        head = HEAD_CLASSES[options.pop("head", "residual_attention")]
        head = head(len(output.labels), name="head", **(options.pop("head_options", None) or {}))
        return RealMNet.from_preset(name, len(output.labels), head=head, **options, **common)
    if name in BASELINE_PRESETS:
        from keras_realmnet.models.baselines.baseline import Baseline  # keras-hub takes its time

        return Baseline.from_preset(name, len(output.labels), **options, **common)
    if name in LESION_PRESETS:
        return lesion_network(key, output.channels, **{**LESION_PRESETS[name], **options, **common}, name=name)
    if name in VESSEL_PRESETS:
        make = vessel_lite if name == "vessel_lite" else vessel_unet
        return make(key, output.channels, **{**VESSEL_PRESETS[name], **options, **common}, name=name)
    if name in VESSEL_GAN_PRESETS:
        return VesselGAN(key, output.channels, **{**VESSEL_GAN_PRESETS[name], **options, **common}, name=name)
    if name in DEEPLAB_PRESETS:
        return deeplab_v3(key, output.channels, **{**DEEPLAB_PRESETS[name], **options, **common}, name=name)
    if name in LESION_GUIDED_PRESETS:
        return _lesion_guided(name, ends, {**LESION_GUIDED_PRESETS[name], **options, **common})
    if name in GUIDED_PRESETS:
        return _guided(name, ends, {**GUIDED_PRESETS[name], **options, **common})
    if name in BESIDE_PRESETS:
        return _beside(name, ends, **{**BESIDE_PRESETS[name], **options, **common})
    if name in GRADING_PRESETS:
        arguments = {**GRADING_PRESETS[name], **options, **common, "name": name}
        if name == "grading_abn":
            return attention_branch_network(key, len(output.labels), **arguments)
        return plain_network(key, len(output.labels), **arguments)
    if name in REFUGE_PRESETS:
        return _refuge(name, key, output, {**REFUGE_PRESETS[name], **options, **common, "name": name})
    arguments = {**PALM_PRESETS[name], **options, **common}
    if name == "palm_classifier":
        return palm_classifier(key, len(output.labels), **arguments)
    if name == "palm_fovea":
        return palm_fovea(key, len(output.labels), **arguments)
    return palm_disc(key, output.channels, **arguments)


def _lesion_guided(name, ends, arguments):
    ((key, output),) = [pair for pair in ends.items() if isinstance(pair[1], Grades)]
    for lesion_key, masks in ends.items():
        if lesion_key != key:
            arguments |= {"lesion_output": lesion_key, "lesions": masks.channels}
    return lesion_guided_network(key, len(output.labels), **arguments, name=name)


def _beside(name, ends, main, part, reduction=1, image_size=None, load_weights=False, dtype=None):
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if any(side % reduction for side in sides):
        raise ValueError(f"image_size must be a multiple of the reduction, {reduction}. Received: {image_size!r}")
    key = part["output"]
    if key not in ends:
        raise ValueError(f"the output of part must be one of {', '.join(ends)}. Received: {key!r}")
    others = {other: output for other, output in ends.items() if other != key}
    small = tuple(side // reduction for side in sides)
    return beside_network(
        build(main["preset"], others, small, load_weights, dtype, **main.get("options", {})),
        build(part["preset"], {key: ends[key]}, sides, False, dtype, **part.get("options", {})),
        reduction,
        name=name,
        dtype=dtype,
    )


def _guided(name, ends, arguments):
    ((key, output),) = [pair for pair in ends.items() if isinstance(pair[1], Labels)]
    maps = next((other for other in ends if other != key), None)
    return guided_network(key, len(output.labels), maps, **arguments, name=name)


def _refuge(name, key, output, arguments):
    if name == "refuge_findings":
        return findings_network(key, output.labels.codes, **arguments)
    if name == "refuge_glaucoma":
        return glaucoma_network(key, len(output.labels), **arguments)
    if arguments.get(VESSELS) is not None:
        part = dict(arguments[VESSELS])
        mask = Masks(LabelSet(VESSELS, (Label("vessel", "Vessel", "retinal vessel"),)))
        preset, size = part.pop("preset"), part.pop("image_size", None)
        arguments[VESSELS] = build(preset, {VESSELS: mask}, size, dtype=arguments["dtype"], **part.pop("options", {}))
    if name == "refuge_fovea":
        return fovea_network(key, len(output.labels), output.confidence, **arguments)
    return disc_cup_network(key, output.channels, **arguments)


def check_answers(name: str, outputs: Mapping[str, Output]) -> None:
    """Raises ValueError, naming the outputs, where the network called `name` cannot have them."""
    ends = list(_ends(outputs).values())
    if name in EDGE_PRESETS:
        expected, fits = "labels, grades, points and masks, at least one", bool(ends)
    elif name == "palm_fovea":
        expected, fits = "one output of points without confidence", _one(ends, Points) and not ends[0].confidence
    elif name == "palm_disc":
        expected, fits = "one output of exclusive masks", _one(ends, Masks) and ends[0].exclusive
    elif name in ("refuge_findings", "refuge_glaucoma"):
        expected, fits = "one output of labels", _one(ends, Labels)
    elif name == "refuge_fovea":
        expected, fits = "one output of points", _one(ends, Points)
    elif name in (*LESION_PRESETS, *VESSEL_PRESETS, *DEEPLAB_PRESETS):
        expected, fits = "one output of masks", _one(ends, Masks)
    elif name == "refuge_disc_cup" or name in VESSEL_GAN_PRESETS:
        expected, fits = "one output of masks that are not exclusive", _one(ends, Masks) and not ends[0].exclusive
    elif name in BESIDE_PRESETS:
        expected = "two outputs or more, of which the frozen part's is of masks"
        fits = len(ends) > 1 and any(isinstance(output, Masks) for output in ends)
    elif name in LESION_GUIDED_PRESETS:
        masks = [output for output in ends if isinstance(output, Masks)]
        expected = "one output of grades, and at most one of masks that are not exclusive"
        fits = _one([output for output in ends if output not in masks], Grades) and len(masks) <= 1
        fits = fits and not any(output.exclusive for output in masks)
    elif name in GUIDED_PRESETS:
        marked = [output for output in ends if is_marked(output)]
        labels = [output for output in ends if not is_marked(output)]
        expected = "one output of labels, and at most one of the regions in which the same were marked"
        fits = _one(labels, Labels) and len(marked) <= 1
        fits = fits and all(output.labels.codes == labels[0].labels.codes for output in marked)
    else:
        expected, fits = "one output of labels or grades", _one(ends, Labels | Grades)
    if not fits:
        received = ", ".join(f"{key} ({_described(output)})" for key, output in outputs.items()) or "none"
        raise ValueError(f"{name} answers {expected}. Received: {received}")


def _ends(outputs):
    """Those of a task's outputs that the network itself has."""
    return {key: output for key, output in outputs.items() if not isinstance(output, Maps | Features)}


def _one(ends, kind):
    return len(ends) == 1 and isinstance(ends[0], kind)


def _described(output):
    if isinstance(output, Masks):
        return "exclusive masks" if output.exclusive else "masks"
    if isinstance(output, Points):
        return "points with confidence" if output.confidence else "points"
    return output.kind
