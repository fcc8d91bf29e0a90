"""An image file or DICOM object becomes RGB pixels and what the file says about itself; or one clear error.

Formats are told by their first bytes, never by extension. Size caps hold on the header, before anything is decoded.
A damaged picture is refused: never half of one. Colour is converted exactly once, whatever the coding. A file that
holds several pictures gives each by its number, or none: never the first one as if it were all.
"""

from keras_realmnet.screening.image_io.names import DEFAULT_FILE_NAME_PATTERN, FileName, parse_file_name
from keras_realmnet.screening.image_io.reading import EXTENSIONS, may_be_image, named_as_image, read_header, read_image
from keras_realmnet.screening.image_io.source import (
    MAX_BYTES,
    MAX_PICTURES,
    MAX_PIXELS,
    DecompressionBomb,
    ImageSource,
    LoadedImage,
    UnreadableImage,
)

__all__ = [
    "DEFAULT_FILE_NAME_PATTERN",
    "EXTENSIONS",
    "MAX_BYTES",
    "MAX_PICTURES",
    "MAX_PIXELS",
    "DecompressionBomb",
    "FileName",
    "ImageSource",
    "LoadedImage",
    "UnreadableImage",
    "may_be_image",
    "named_as_image",
    "parse_file_name",
    "read_header",
    "read_image",
]
