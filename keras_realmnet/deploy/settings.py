"""Settings of layers that the deploy graph and the exporters can deal with: nothing about a layer is guessed."""

from keras_realmnet.errors import RealMNetError

__all__ = ["expect", "expect_last_axis", "refuse"]


def expect(layer, **settings):
    """Refuses a `layer` one of whose settings is not the value given for it.

    Args:
        settings: {attribute of the layer: the only value the caller can deal with}.

    Raises:
        RealMNetError: names the layer, the setting, the value received and the one expected.
    """
    for name, expected in settings.items():
        received = getattr(layer, name)
        if received != expected:
            shown = [getattr(value, "__name__", repr(value)) for value in (received, expected)]
            raise RealMNetError(
                f"{layer.name}: a {type(layer).__name__} with {name} {shown[0]} cannot be exported; {shown[1]} expected"
            )


def expect_last_axis(norm):
    """Refuses a normalization of anything but the last axis."""
    if norm.axis not in (-1, [-1], (-1,)):
        last = len(norm.get_build_config()["input_shape"]) - 1
        if norm.axis not in (last, [last], (last,)):
            expect(norm, axis=-1)


def refuse(layer, why):
    """Raises RealMNetError: names the `layer`, its class and the reason."""
    raise RealMNetError(f"{layer.name}: this {type(layer).__name__} cannot be exported: {why}")
