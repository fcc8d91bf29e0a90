"""What kind of file it is, told by its first bytes: those that the box reads, and others that clinics export."""

import re
from struct import unpack_from

__all__ = ["HEAD", "READ", "kind_of"]

HEAD = 8192  # bytes that `kind_of` looks at
READ = ("JPEG", "PNG", "TIFF", "BMP", "DICOM")  # by keras_realmnet.screening.image_io

SIGNATURES = (  # offset, bytes, kind; the first that fits
    (128, b"DICM", "DICOM"),
    (0, b"\x02\x00\x00\x00UL", "DICOM"),  # without a preamble
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"II\xbc\x01", "JPEG XR"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (8, b"AVI ", "video"),
    (0, b"\x1a\x45\xdf\xa3", "video"),  # Matroska, WebM
    (0, b"\x00\x00\x01\xba", "video"),  # MPEG
    (0, b"8BPS", "Photoshop"),
    (0, b"%PDF-", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"PK\x03\x04", "ZIP"),  # also of office programs
    (0, b"PK\x05\x06", "ZIP"),
    (0, b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (0, b"Rar!\x1a\x07", "RAR"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "office document"),
    (0, b"IIRO", "camera RAW"),  # Olympus
    (0, b"IIRS", "camera RAW"),
    (0, b"MMOR", "camera RAW"),
    (0, b"IIU\x00", "camera RAW"),  # Panasonic
    (0, b"FUJIFILMCCD-RAW", "camera RAW"),
    (0, b"\x00MRM", "camera RAW"),  # Minolta
    (0, b"FOVb", "camera RAW"),  # Sigma
    (0, b"FOCT", "Topcon OCT"),
    (0, b"CMDb", "Heidelberg E2E"),
)
BRANDS = {  # of the ISO base media format (ISO/IEC 14496-12 4.3); anything else there is a video
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
    "camera RAW": (b"crx ",),
}
TIFF = {b"II*\x00": "<", b"MM\x00*": ">", b"II+\x00": "", b"MM\x00+": ""}  # byte order; BigTIFF is not looked into
SUBFILE_TYPE, SUB_IFDS, DNG_VERSION = 254, 330, 50706  # tags of TIFF 6.0, of its supplement 1, of Adobe DNG
BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # bytes
UNPRINTABLE = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def kind_of(head: bytes) -> str | None:
    """A name of the file's kind, one of READ or another; "text" for text, None where it is none we know.

    `head`: the file's first HEAD bytes, or all of it.
    """
    for at, magic, kind in SIGNATURES:
        if head.startswith(magic, at):
            return kind
    if head[4:8] == b"ftyp":
        return _brand(head)
    if head[:4] in TIFF:
        return "camera RAW" if _is_raw(head, TIFF[head[:4]]) else "TIFF"
    if head[:2] == b"BM" and len(head) >= 18 and int.from_bytes(head[14:18], "little") in BMP_HEADERS:
        return "BMP"
    if head[:2] == b"\x08\x00" and len(head) > 16 and head[2] <= 0x18 and head[3] == 0:
        return "DICOM"  # a bare data set begins with group 0008, up to its SOP Instance UID
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or not UNPRINTABLE.search(head):
        return "text"
    return None


def _brand(head: bytes) -> str:
    size = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))]
    for kind, known in BRANDS.items():
        if any(brand in known for brand in brands):
            return kind
    return "video"


def _is_raw(head: bytes, order: str) -> bool:
    """Whether the first picture of a TIFF is but a small copy beside a camera's raw data, as DNG, NEF, ARW and CR2 have
    it."""
    if head[8:10] == b"CR":
        return True
    at = unpack_from(f"{order}L", head, 4)[0] if order and len(head) >= 8 else len(head)
    if at + 2 > len(head):
        return False
    [count] = unpack_from(f"{order}H", head, at)
    entries = range(at + 2, min(at + 2 + 12 * count, len(head) - 11), 12)
    tags = {unpack_from(f"{order}H", head, entry)[0]: unpack_from(f"{order}L", head, entry + 8)[0] for entry in entries}
    return DNG_VERSION in tags or (SUB_IFDS in tags and tags.get(SUBFILE_TYPE, 0) & 1 == 1)
