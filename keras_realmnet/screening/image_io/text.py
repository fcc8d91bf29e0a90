"""Text in DICOM data sets: its character sets (PS3.5 6.1, PS3.3 C.12.1.1.2), with nothing lost silently."""

import re
import unicodedata
from collections.abc import Sequence

from pydicom.charset import CODES_TO_ENCODINGS, python_encoding

__all__ = ["decode_text", "encodings_of"]

ASCII = "ascii"
KEEP_ESCAPES = ("iso2022_jp", "iso2022_jp_2")  # Python's codecs of these take the escape sequences themselves
FRAGMENTS = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")


def encodings_of(terms: Sequence[str]) -> tuple[list[str], bool]:
    """Python's encodings for the values of Specific Character Set, and whether all of them are defined terms."""
    encodings, known = [], True
    for term in terms:
        name = re.sub(
            r"^ISO[ _-]*(2022)?[ _-]*IR[ _-]*",
            lambda m: "ISO 2022 IR " if m[1] else "ISO_IR ",
            term.strip(" \0").upper(),
        )
        encoding = python_encoding.get(name)
        known = known and encoding is not None
        # Without a term only ISO IR 6 is allowed: what pydicom takes for Latin-1 may be anything.
        encodings.append(ASCII if encoding in (None, "iso8859") else str(encoding))
    return encodings, known


def decode_text(value: bytes, encodings: Sequence[str], delimiters: bytes = b"\\") -> tuple[str, bool]:
    r"""The text of an element's value, as one string also where it holds backslashes; and whether all bytes fitted.

    Bytes that do not fit the character set, and control characters, come out as `\xNN`: printable, and different for
    different bytes. `delimiters`: after which the first character set is in force again.
    """
    text, fits = "", True
    for fragment in FRAGMENTS.findall(value):
        if not fragment.startswith(b"\x1b"):
            decoded, whole = _decode(fragment, encodings[:1])
            text, fits = text + decoded, fits and whole
            continue
        code = fragment[: 4 if fragment[1:3] in (b"$(", b"$)") else 3]
        encoding = str(CODES_TO_ENCODINGS.get(code, ""))
        stated = encoding == "iso8859" or encoding in encodings
        parts: list[tuple[bytes, Sequence[str]]]
        if encoding in KEEP_ESCAPES:
            parts = [(fragment, [encoding])]
        elif encoding == "iso8859":  # back to ASCII: what lies above it is the first character set's
            parts = [(fragment[len(code) :], [ASCII, encodings[0]])]
        elif encoding:
            cut = next((n for n, byte in enumerate(fragment) if n >= len(code) and byte in delimiters), len(fragment))
            parts = [
                (fragment[len(code) : cut], [encoding]),
                (fragment[cut:], [encodings[0], encoding]),  # some writers do not switch again
            ]
        else:
            parts = [(fragment, encodings[:1])]
        for part, candidates in parts:
            decoded, whole = _decode(part, candidates)
            text, fits = text + decoded, fits and whole
        fits = fits and stated
    text = text.rstrip("\0 ").lstrip(" ")
    shown = "".join(f"\\x{ord(c):02x}" if unicodedata.category(c) == "Cc" else c for c in text)
    return shown, fits and shown == text


def _decode(value: bytes, encodings: Sequence[str]) -> tuple[str, bool]:
    for encoding in encodings:
        try:
            return value.decode(encoding), True
        except UnicodeDecodeError:
            continue
    return value.decode(encodings[0], "backslashreplace"), False
