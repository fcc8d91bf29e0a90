"""Who the picture is of: names, numbers and dates as the header has them, in whatever character set it states."""

import io

import numpy as np
import pydicom
import pytest
from pydicom.charset import python_encoding
from pydicom.data import get_charset_files
from pydicom.uid import ImplicitVRLittleEndian

from keras_realmnet.screening.image_io import ImageSource, read_header
from tests.screening.image_io.image_files import dicom, scene

# PS3.5 Annexes H, I, J, K and pydicom's documentation: Specific Character Set, Patient's Name, what it says.
NAMES = {
    "no set": (b"", b"Adams^John Robert Quincy^^Rev.^B.A. M.Div.", "Adams^John Robert Quincy^^Rev.^B.A. M.Div."),
    "Latin-1": (b"ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
    "Latin-2": (b"ISO_IR 101", b"W\xb3odarczyk", "Włodarczyk"),
    "Cyrillic": (b"ISO_IR 144", b"\xbb\xee\xdace\xdc\xd1yp\xd3", "Люкceмбypг"),
    "Arabic": (b"ISO_IR 127", b"\xe2\xc8\xc7\xe6\xea^\xe4\xe6\xd2\xc7\xd1", "قباني^لنزار"),
    "Greek": (b"ISO_IR 126", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος"),
    "Hebrew": (b"ISO_IR 138", b"\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4", "שרון^דבורה"),
    "Turkish": (b"ISO_IR 148", b"\xc7avu\xfeo\xf0lu", "Çavuşoğlu"),
    "Thai": (b"ISO_IR 166", b"\xca\xc1\xaa\xd2\xc2", "สมชาย"),
    "UTF-8": (b"ISO_IR 192", "Wang^XiaoDong=王^小東=".encode(), "Wang^XiaoDong=王^小東"),
    "GB18030": (b"GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东"),
    "GB18030 with a byte 5C in a character": (b"GB18030", "Li=誠^一".encode("gb18030"), "Li=誠^一"),
    "GBK": (b"GBK", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东"),
    "IR 87": (
        b"\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    "IR 13 and IR 87": (
        b"ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    "IR 149": (
        b"\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    "IR 149, not switched again": (
        b"\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\xd1\xce\xd4\xd7=\xc8\xab^\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    "IR 58": (
        b"\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东",
    ),
    "two single-byte sets": (
        b"ISO 2022 IR 100\\ISO 2022 IR 144",
        b"Dion\xe9=\x1b-L\xbb\xee\xda^J\xe9r\xf4me",
        "Dioné=Люк^Jérôme",
    ),
}


def header(
    charset: bytes | None = None, name: bytes | None = None, syntax: str | None = None, **raw: bytes
) -> ImageSource:
    """The source of a picture whose elements hold these very bytes."""
    dataset = pydicom.dcmread(io.BytesIO(dicom(scene(8, 8), *([syntax] if syntax else []))))
    if name is not None:
        raw["PatientName"] = name
    for keyword, value in raw.items():
        vr = pydicom.datadict.dictionary_VR(keyword)
        tag = pydicom.datadict.tag_for_keyword(keyword)
        value += b" " * (len(value) % 2)
        dataset[tag] = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(tag), vr, len(value), value, 0, syntax == ImplicitVRLittleEndian, True
        )
    file = io.BytesIO()
    dataset.save_as(file)
    data = file.getvalue()
    if charset is not None:  # pydicom would write the text anew in that set
        charset += b" " * (len(charset) % 2)
        length = len(charset).to_bytes(4 if syntax == ImplicitVRLittleEndian else 2, "little")
        element = b"\x08\x00\x05\x00" + (b"" if syntax == ImplicitVRLittleEndian else b"CS") + length + charset
        at = data.index(b"\x08\x00\x08\x00")  # Image Type is the first element
        data = data[:at] + element + data[at:]
    return read_header(data, "x.dcm")


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
@pytest.mark.parametrize("case", NAMES)
def test_names_in_every_character_set(case: str, syntax: str | None) -> None:
    charset, name, expected = NAMES[case]
    source = header(charset or None, name, syntax)
    assert source.patient_name == expected
    assert source.warnings == ()


@pytest.mark.parametrize(
    "path",
    [path for path in get_charset_files("*.dcm") if "SQ" not in path],  # those hold nothing but a sequence
    ids=lambda path: path.rpartition("/")[2],
)
def test_names_of_pydicoms_examples(path: str) -> None:
    source = read_header(path)
    assert source.patient_name == str(pydicom.dcmread(path).PatientName).rstrip("=^")
    assert source.warnings == ()


def test_who_it_is() -> None:
    source = header(
        name=b"Family^Given^Middle^Dr^Jr ",
        PatientID=b"4711",
        IssuerOfPatientID=b"Clinic A",
        PatientBirthDate=b"19600229",
        PatientSex=b"F",
        AccessionNumber=b"ACC 7",
    )
    assert source.patient_name == "Family^Given^Middle^Dr^Jr"
    assert (source.patient_id, source.patient_id_issuer) == ("4711", "Clinic A")
    assert (source.birth_date, source.sex, source.accession_number) == ("1960-02-29", "F", "ACC 7")
    assert source.warnings == ()


def test_what_the_header_does_not_say_is_none() -> None:
    nothing = header(name=b"", PatientID=b"  ", PatientBirthDate=b"19601399", PatientSex=b"", AccessionNumber=b"\0\0")
    fields = ("patient_name", "patient_id", "patient_id_issuer", "birth_date", "sex", "accession_number")
    assert [getattr(nothing, field) for field in fields] == [None] * len(fields)
    assert header(name=b"^^^^").patient_name is None
    assert header(name=b"==").patient_name is None


def test_empty_components_at_the_end_make_no_other_name() -> None:
    assert header(name=b"Muster^Anna^^^").patient_name == header(name=b"Muster^Anna").patient_name == "Muster^Anna"
    assert header(b"ISO_IR 192", "A^B^^=王^小^=".encode()).patient_name == "A^B=王^小"
    assert header(name=b"^Anna").patient_name == "^Anna"


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_backslashes_belong_to_the_value(syntax: str | None) -> None:
    """pydicom makes lists of them, which is another patient's number to whoever prints it."""
    source = header(
        name=b"A\\B^C", syntax=syntax, PatientID=b"12\\34", AccessionNumber=b"\\9", IssuerOfPatientID=b"X\\Y"
    )
    assert (source.patient_name, source.patient_id) == ("A\\B^C", "12\\34")
    assert (source.accession_number, source.patient_id_issuer) == ("\\9", "X\\Y")
    assert source.image_type == ("ORIGINAL", "PRIMARY", "", "COLOR")


@pytest.mark.parametrize(
    ("charset", "name", "shown"),
    [
        (None, b"M\xfcller", r"M\xfcller"),  # no set stated: ASCII alone
        (b"ISO_IR 192", b"M\xfcller^J", r"M\xfcller^J"),
        (b"ISO_IR 192", "Müller".encode() + b"\xc3", r"Müller\xc3"),
        (b"GB18030", b"Li=\xcd\xf5\xff^X", r"Li=王\xff^X"),
        (b"ISO_IR 144", b"Line\nbreak", r"Line\x0abreak"),
        (b"ISO_IR 100", b"A\x85B", r"A\x85B"),
        (b"ISO_IR 100", b"A\x1b$!B", r"A\x1b$!B"),  # no such escape sequence
    ],
)
def test_bytes_that_do_not_fit_are_told_and_kept(charset: bytes | None, name: bytes, shown: str) -> None:
    source = header(charset, name)
    assert source.patient_name == shown
    assert source.patient_name.isprintable()
    assert len(source.warnings) == 1
    assert source.warnings[0].startswith("the patient's name holds bytes that do not fit its stated character set")
    assert shown not in source.warnings[0]


def test_a_set_that_is_switched_to_but_not_stated_is_told() -> None:
    source = header(b"ISO_IR 100", b"Yamada=\x1b$B;3ED\x1b(B")
    assert source.patient_name == "Yamada=山田"
    assert "the patient's name" in source.warnings[0]


def test_each_field_that_identifies_is_told() -> None:
    source = header(PatientID=b"4\xff", IssuerOfPatientID=b"\xff", AccessionNumber=b"7\xff", Manufacturer=b"Opto\xff")
    assert (source.patient_id, source.patient_id_issuer) == (r"4\xff", r"\xff")
    assert [warning.partition(" holds")[0] for warning in source.warnings] == [
        "the patient's number", "the issuer of the patient's number", "the accession number",
    ]  # fmt: skip
    assert source.manufacturer == r"Opto\xff"


def test_different_bytes_never_become_the_same_name() -> None:
    names = {header(name=b"M" + bytes([byte])).patient_name for byte in range(0x80, 0x100)}
    assert len(names) == 128
    assert not any("\N{REPLACEMENT CHARACTER}" in name for name in names)


def test_an_unknown_character_set_is_told() -> None:
    source = header(b"ISO_IR 999", b"M\xfcller")
    assert source.patient_name == r"M\xfcller"
    assert "names a character set that does not exist" in source.warnings[0]
    assert "999" not in " ".join(source.warnings)  # whatever stands there may be anything
    assert "does not exist" in header(b"UTF 8 or so", b"Mueller").warnings[0]


@pytest.mark.parametrize("term", ["ISO-IR 100", "ISO IR 100", "iso_ir 100", "ISO 2022-IR 100", "ISO_IR 100\0"])
def test_misspelled_terms_that_can_mean_one_set_only(term: str) -> None:
    source = header(term.encode(), b"M\xfcller")
    assert (source.patient_name, source.warnings) == ("Müller", ())


def test_every_term_of_the_standard_is_known() -> None:
    for term in python_encoding:
        assert header(term.encode() or None, b"Plain^Name").warnings == (), term


def test_any_bytes_give_a_printable_name() -> None:
    rng = np.random.default_rng(0)
    for number in range(300):
        charset = [None, *(term.encode() for term in python_encoding if term)][number % len(python_encoding)]
        name = rng.bytes(int(rng.integers(1, 30))).replace(b"\0", b"")
        for part in (name, name[:5] + b"\x1b$B" + name[5:], b"\x1b" + name):
            shown = header(charset, part).patient_name
            assert shown is None or ("\n" not in shown and not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown))
