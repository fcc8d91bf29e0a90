"""A DICOM object: what its header says, also where it holds no picture that can be screened."""

import io
import re
import zlib
from typing import Any, Literal

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.filereader import read_partial
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from keras_realmnet.screening.image_io.dicom_pixels import PixelData
from keras_realmnet.screening.image_io.formats import picture_behind
from keras_realmnet.screening.image_io.names import iso_date
from keras_realmnet.screening.image_io.source import (
    MAX_BYTES,
    MAX_PICTURES,
    RESEND,
    DecompressionBomb,
    Opened,
    UnreadableImage,
    too_many,
)
from keras_realmnet.screening.image_io.text import decode_text, encodings_of

__all__ = ["DicomFile"]

# Values reach the caller as they came; pydicom's warnings about them would put patient data on stderr.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

# One of these makes bytes a DICOM object; pydicom finds elements in anything.
IDENTIFYING = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "PatientID", "Rows")
PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # Float, Double Float and Pixel Data: nothing of a picture follows
LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN", b"UT", b"SQ")
EYES = {"R": "OD", "L": "OS"}

# Who the picture is of: bytes that do not fit the character set are told. ^ and = separate the parts of a name.
IDENTITY = {
    "PatientID": "the patient's number",
    "IssuerOfPatientID": "the issuer of the patient's number",
    "PatientName": "the patient's name",
    "AccessionNumber": "the accession number",
}


class DicomFile(Opened):
    """Opened from a file's bytes; `UnreadableImage` where there is no header, `DecompressionBomb` if it inflates."""

    def __init__(self, data: bytes):
        data, self._syntax = _inflated(data)
        self._header, at = _read_header(data)
        self._elements = {int(element.tag): element.value for element in self._header.elements()}
        if not any(keyword in self._header for keyword in IDENTIFYING):
            raise UnreadableImage(f"the file begins like a DICOM object, but its header cannot be read. {RESEND}")
        if getattr(self._header.file_meta, "TransferSyntaxUID", None) is None:
            implicit, little = self._header.original_encoding
            plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            self._header.file_meta.TransferSyntaxUID = plain
        charset = self._header.get("SpecificCharacterSet") or ""
        self._encodings, self._known = encodings_of([charset] if isinstance(charset, str) else list(map(str, charset)))
        element = None if at is None else _pixel_element(data, at, self._header)
        if element is None:
            self.refuse(
                "this DICOM object holds no picture. If one was expected, send it again from the device, "
                "or take the picture again"
            )
            return
        value, vr, length, behind = element
        self._pixels = PixelData(self._header, value, vr, length, behind)
        self.pictures = self._pixels.count
        if self._pixels.problem:
            self.refuse(self._pixels.problem)
        elif self.pictures > MAX_PICTURES:
            self.refuse(too_many(self.pictures))

    def facts(self, frame: int) -> dict[str, Any]:
        warnings: list[str] = []
        if not self._known:
            warnings.append("the file names a character set that does not exist: check the patient's name and number")
        identity = {}
        for keyword, words in IDENTITY.items():
            identity[keyword], fits = self._decoded(keyword)
            if not fits:
                warnings.append(
                    f"{words} holds bytes that do not fit its stated character set: check which patient this is"
                )
        image_type = self._text("ImageType")
        eye, contradiction = self._eye(frame)
        name = identity["PatientName"]
        width, height = (self._pixels.columns, self._pixels.rows) if self.pictures else (None, None)
        return {
            "width": width,
            "height": height,
            "patient_id": identity["PatientID"],
            "patient_id_issuer": identity["IssuerOfPatientID"],
            # Empty components at the end may be written or not (PS3.5 6.2.1).
            "patient_name": name and (re.sub(r"\^+(?==|$)", "", name).rstrip("=") or None),
            "birth_date": iso_date(self._text("PatientBirthDate")),
            "sex": self._text("PatientSex"),
            "accession_number": identity["AccessionNumber"],
            "eye": eye,
            "eye_source": "dicom" if eye else None,
            "study_date": iso_date(self._text("StudyDate")) or iso_date((self._text("AcquisitionDateTime") or "")[:8]),
            "manufacturer": self._text("Manufacturer"),
            "modality": self._text("Modality"),
            "image_type": image_type and tuple(part.strip() for part in image_type.split("\\")),
            "series_description": self._text("SeriesDescription"),
            "sop_class_uid": self._text("SOPClassUID"),
            "sop_instance_uid": self._text("SOPInstanceUID"),
            "study_instance_uid": self._text("StudyInstanceUID"),
            "photometric_interpretation": self._text("PhotometricInterpretation"),
            "transfer_syntax_uid": self._syntax or str(self._header.file_meta.TransferSyntaxUID),
            "warnings": (*contradiction, *warnings),
        }

    def decodes_at_half_size(self, frame: int) -> bool:
        return self._pixels.decodes_at_half_size(frame)

    def pixels(self, frame: int, half: bool) -> NDArray[np.uint8]:
        return self._pixels.decode(frame, half)

    def _eye(self, frame: int) -> tuple[str | None, list[str]]:
        """The eye, and what contradicts it. The frame's own laterality counts first, then the image's, its series'.

        The first that is there decides: B (both) and U (unpaired) name no eye.
        """
        sides = {
            "frame": self._frame_laterality(frame),
            "image": self._text("ImageLaterality"),
            "series": self._text("Laterality"),
        }
        told = [(of, EYES.get(side.upper())) for of, side in sides.items() if side]
        if not told:
            return None, []
        first, eye = told[0]
        against = [(of, other) for of, other in told[1:] if eye and other and other != eye]
        return eye, [
            f"DICOM says {eye} of the {first}, {other} of its {of}: {eye} is used" for of, other in against[:1]
        ]

    def _frame_laterality(self, frame: int) -> str | None:
        """Frame Laterality of the functional groups (PS3.3 C.7.6.16.2.8): the frame's own, else that of all frames."""
        for keyword, index, items in (
            ("PerFrameFunctionalGroupsSequence", frame - 1, self.pictures),
            ("SharedFunctionalGroupsSequence", 0, 1),
        ):
            try:
                groups = self._header.get(keyword)
                if len(groups) == items:
                    return str(groups[index].FrameAnatomySequence[0].FrameLaterality).strip()
            except Exception:  # absent or damaged: it says nothing
                continue
        return None

    def _text(self, keyword: str) -> str | None:
        return self._decoded(keyword)[0]

    def _decoded(self, keyword: str) -> tuple[str | None, bool]:
        value = self._raw(keyword)
        if value is None:
            return None, True
        text, fits = decode_text(value, self._encodings, b"^=\\" if keyword == "PatientName" else b"\\")
        return text or None, fits

    def _raw(self, keyword: str) -> bytes | None:
        """An element's bytes as they came: pydicom would make lists of what holds a backslash."""
        value = self._elements.get(tag_for_keyword(keyword) or 0)
        return value if isinstance(value, bytes) else None


def _inflated(data: bytes) -> tuple[bytes, str | None]:
    """A deflated data set inflated and named Explicit VR Little Endian, and the transfer syntax it had."""
    syntax = str(DeflatedExplicitVRLittleEndian)
    if data[128:132] != b"DICM" or syntax.encode() not in data[132:2048]:
        return data, None
    start = 144 + int.from_bytes(data[140:144], "little")
    if syntax.encode() not in data[132:start]:
        return data, None
    # Piece by piece: 512 MiB of zeros come from 0.5 MiB.
    inflate, rest, parts, size = zlib.decompressobj(-zlib.MAX_WBITS), data[start:], [], 0
    while rest:
        parts.append(inflate.decompress(rest, 2**26))
        size += len(parts[-1])
        rest = inflate.unconsumed_tail
        if size > MAX_BYTES:
            raise DecompressionBomb(f"the deflated data set has more than {MAX_BYTES} bytes; export it uncompressed")
    plain = str(ExplicitVRLittleEndian).encode().ljust(len(syntax), b"\0")
    if picture_behind(inflate.unused_data, 0):
        parts.append(inflate.unused_data)
    return data[:start].replace(syntax.encode(), plain) + b"".join(parts), syntax


def _read_header(data: bytes) -> tuple[pydicom.Dataset, int | None]:
    """All elements before the pixels, and where those begin. Damage further on does not lose what comes before it."""
    reached, last = 0, None

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        nonlocal reached
        reached = tag
        return tag in PIXELS or tag == last

    for _ in range(2):
        file = io.BytesIO(data)
        try:
            header = read_partial(file, at_pixels, force=True)
        except Exception:  # whatever its parser stumbles upon
            if last is not None or not reached:
                break
            last = reached
            continue
        return header, file.tell() if reached in PIXELS and last is None else None
    raise UnreadableImage(f"the header of this DICOM file is damaged. {RESEND}")


def _pixel_element(data: bytes, at: int, header: pydicom.Dataset) -> tuple[bytes, bytes, int, bytes] | None:
    """Value (as far as the file goes), VR and stated length of Pixel Data at `at`, and what is behind; or None."""
    implicit, little = header.original_encoding
    order: Literal["little", "big"] = "little" if little else "big"
    head = data[at : at + 12]
    if int.from_bytes(head[:2], order) != 0x7FE0 or int.from_bytes(head[2:4], order) != 0x0010:
        return None
    if implicit:
        vr, length, start = b"OW", int.from_bytes(head[4:8], order), at + 8
    elif head[4:6] in LONG_VRS:
        vr, length, start = head[4:6], int.from_bytes(head[8:12], order), at + 12
    else:
        vr, length, start = head[4:6], int.from_bytes(head[6:8], order), at + 8
    end = len(data) if length == 0xFFFFFFFF else start + length
    return data[start:end], vr, length, data[end:]
