import os
import re
import shutil
import subprocess
from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_realmnet.errors import DataSetError
from training.__main__ import main
from training.data.label_table import concatenate, read_label_table
from training.data.psmm import CHECKED, check, image_paths, parse_name, read_tables, unlisted

HEADER = "S0,S1,A0,A1,A2,A3,A4,filename,ID\n"
TRAIN_PATH = "ImageSets/Main/MYOPIA/MYOPIA.csv"
LISTS = {
    TRAIN_PATH: [
        "1,0,0,1,0,0,0,ShenzhenEye-1_OD_2020-12-27_1.jpg,ShenzhenEye-1",
        "1.0,0.0,0.0,1.0,0.0,0.0,0.0,ShenzhenEye-1_OS_2020-12-27_1.jpg,ShenzhenEye-1",
        "0,1,0,0,1,0,0,SUSTech-2_1.jpg,SUSTech-2",
    ],
    "ImageSets/Main/val.csv": ["0,1,0,0,0,0,1,LishuiR-3_20230823@090310_R5.jpg,LishuiR-3"],
    "ImageSets/Main/test.csv": ["1,0,1,0,0,0,0,Zhongshan-4_3_OD3.jpg,Zhongshan-4"],
}


def write_lists(folder, lists):
    for name, rows in lists.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(HEADER + "".join(f"{row}\n" for row in rows))


def write_jpeg(path, seed=0, side=48):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(60, 200, (side, side, 3)).astype(np.uint8)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def psmm(tmp_path):
    """Five images of four patients, everything as it should be."""
    folder = tmp_path / "psmm"
    write_lists(folder, LISTS)
    for k, row in enumerate(row for rows in LISTS.values() for row in rows):
        write_jpeg(folder / "JPEGImages" / row.split(",")[7], seed=100 + k)
    return folder


# --- file names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ShenzhenEye-2415460_OD_2020-12-27_2.jpg", ("ShenzhenEye-2415460", "ShenzhenEye", "OD", "2020-12-27", 2)),
        ("ShenzhenEye-574071_OU_2023-07-17_10.jpg", ("ShenzhenEye-574071", "ShenzhenEye", None, "2023-07-17", 10)),
        ("SUSTech-34_11.jpg", ("SUSTech-34", "SUSTech", None, None, 11)),
        ("LishuiR-027429_20230823@090310_R5.jpg", ("LishuiR-027429", "LishuiR", "OD", "2023-08-23", 5)),
        ("LishuiZ-012658_20231016@145618_L6.jpg", ("LishuiZ-012658", "LishuiZ", "OS", "2023-10-16", 6)),
        ("Zhongshan-33_3_OD3.jpg", ("Zhongshan-33", "Zhongshan", "OD", None, 3)),
        ("Zhongshan-66_23_11_8_OS4.jpg", ("Zhongshan-66", "Zhongshan", "OS", None, 8)),
        ("Zhongshan-79_7_PRE-OD2.jpg", ("Zhongshan-79", "Zhongshan", "OD", None, 7)),
        ("PHANTOM-0001_OS_2019-01-07_1.png", ("PHANTOM-0001", "PHANTOM", "OS", "2019-01-07", 1)),
    ],
)
def test_every_form_of_file_name(name, expected):
    assert parse_name(name) == expected


@pytest.mark.parametrize(
    "name",
    ["", "a.jpg", "ID.jpg", "ID_x.jpg", "ID_OD_2023-13-01_1.jpg", "ID_OD_2023-01-01.jpg", "_3.jpg", "ID_3_OX1.jpg"],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=re.escape(f"Received: {name!r}")):
        parse_name(name)


@given(
    st.from_regex(r"[A-Za-z]{1,9}-[0-9]{1,7}", fullmatch=True),
    st.sampled_from(["OD", "OS"]),
    st.dates(),
    st.integers(1, 99),
)
def test_names_come_back(patient, eye, date, number):
    parsed = parse_name(f"{patient}_{eye}_{date.isoformat()}_{number}.jpg")
    assert parsed == (patient, patient.split("-")[0], eye, date.isoformat(), number)


def test_all_published_names(shared):
    table = concatenate([read_label_table(shared / "psmm" / f"{name}.csv") for name in ("train", "val", "test")])
    names = [parse_name(name) for name in table.names.tolist()]
    assert len(names) == 43_371
    assert [name.patient for name in names] == table.patients.tolist()
    assert [name.source for name in names] == table.sources.tolist()
    images = Counter(name.source for name in names)
    patients = Counter(source for source, _ in {(name.source, name.patient) for name in names})
    published = {"ShenzhenEye": (38_922, 4_003), "SUSTech": (2_835, 226), "LishuiR": (938, 155)}
    published |= {"Zhongshan": (456, 85), "LishuiZ": (220, 91)}
    assert {source: (images[source], patients[source]) for source in images} == published
    # All but SUSTech's names and 64 pictures marked OU tell the eye.
    assert sum(name.eye is None for name in names) == 2_835 + 64
    assert {source for source in images if any(n.date is None for n in names if n.source == source)} == {
        "SUSTech",
        "Zhongshan",
    }


# --- lists ----------------------------------------------------------------------------------------------------------


def test_tables_of_the_layout(psmm):
    tables = read_tables(psmm)
    assert [(split, len(table)) for split, table in tables.items()] == [("train", 3), ("validation", 1), ("test", 1)]
    np.testing.assert_array_equal(tables["train"].labels[1], [1, 0, 0, 1, 0, 0, 0])
    paths = image_paths(psmm, tables["validation"])
    assert paths == [psmm / "JPEGImages" / "LishuiR-3_20230823@090310_R5.jpg"]


def test_tables_may_lie_flat_and_the_training_list_anywhere(psmm, tmp_path):
    flat = tmp_path / "flat"
    names = ("train.csv", "val.csv", "test.csv")
    write_lists(flat, dict(zip(names, LISTS.values(), strict=True)))
    assert [len(table) for table in read_tables(flat).values()] == [3, 1, 1]
    write_lists(psmm, {"ImageSets/Main/MYOPIA_MLRUS-20/MYOPIA_MLRUS-20.csv": LISTS[TRAIN_PATH][:2]})
    write_lists(tmp_path, {"mine.csv": LISTS[TRAIN_PATH][:1]})
    assert len(read_tables(psmm, "MYOPIA_MLRUS-20/MYOPIA_MLRUS-20.csv")["train"]) == 2
    assert len(read_tables(psmm, str(tmp_path / "mine.csv"))["train"]) == 1


def test_a_training_list_asked_for_is_never_replaced_by_another(psmm):
    with pytest.raises(DataSetError, match=r"no other\.csv .*found: ImageSets/Main/MYOPIA/MYOPIA\.csv"):
        read_tables(psmm, "other.csv")


def test_a_folder_without_lists_says_what_is_expected(tmp_path):
    with pytest.raises(DataSetError, match=r"no such folder\. Expected the layout of PSMM"):
        read_tables(tmp_path / "nowhere")
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataSetError, match=r"no MYOPIA/MYOPIA\.csv, val\.csv, test\.csv .*found: photos\. Expected"):
        read_tables(tmp_path)


@pytest.mark.parametrize(
    ("parts", "command"),
    [
        (["JPEGImages.z01", "JPEGImages.zip"], "zip -s 0 JPEGImages.zip --out joined.zip && unzip joined.zip"),
        (["JPEGImages.zip.001", "JPEGImages.zip.002"], "cat JPEGImages.zip.* > joined.zip && unzip joined.zip"),
        (["JPEGImages.zip"], "unzip JPEGImages.zip"),
    ],
)
def test_an_archive_not_yet_unpacked(psmm, parts, command):
    shutil.rmtree(psmm / "JPEGImages")
    tables = read_tables(psmm)
    with pytest.raises(DataSetError, match=r"JPEGImages: no such folder\. Expected the layout"):
        check(psmm, tables)
    for part in parts:
        (psmm / part).write_bytes(b"PK")
    with pytest.raises(DataSetError, match=re.escape(f"cd {psmm} && {command}")):
        check(psmm, tables)


@pytest.mark.skipif(shutil.which("zip") is None, reason="Info-ZIP is not installed")
def test_the_command_it_names_works(psmm):
    for k, path in enumerate((psmm / "JPEGImages").iterdir()):
        write_jpeg(path, seed=k, side=200)  # 64 KB are the least that Info-ZIP puts into a part
    subprocess.run(["zip", "-q", "-r", "-s", "64k", "JPEGImages.zip", "JPEGImages"], cwd=psmm, check=True)
    shutil.rmtree(psmm / "JPEGImages")
    with pytest.raises(DataSetError) as error:
        image_paths(psmm, read_tables(psmm)["train"])
    subprocess.run(str(error.value).rpartition("or: ")[2], shell=True, check=True, capture_output=True)
    assert check(psmm, read_tables(psmm)) == []


# --- check ----------------------------------------------------------------------------------------------------------


def test_nothing_is_wrong(psmm):
    assert check(psmm, read_tables(psmm)) == []
    assert check(psmm, read_tables(psmm), fast=True) == []


def change(psmm, path, line, row):
    """Line of a list (the header is 1) replaced, or appended."""
    lines = (psmm / path).read_text().splitlines()
    lines[line - 1 : line] = [row]
    (psmm / path).write_text("\n".join(lines) + "\n")


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def doubled(path):
    path.write_bytes(path.read_bytes() * 2)


VAL, TEST = "ImageSets/Main/val.csv", "ImageSets/Main/test.csv"


@pytest.mark.parametrize(
    ("break_it", "where", "message"),
    [
        (
            lambda p: (p / "JPEGImages/SUSTech-2_1.jpg").unlink(),
            f"{TRAIN_PATH}:4",
            "JPEGImages/SUSTech-2_1.jpg is missing",
        ),
        (
            lambda p: cut(p / "JPEGImages/Zhongshan-4_3_OD3.jpg"),
            f"{TEST}:2",
            "JPEGImages/Zhongshan-4_3_OD3.jpg: the picture is incomplete",
        ),
        (
            lambda p: doubled(p / "JPEGImages/SUSTech-2_1.jpg"),
            f"{TRAIN_PATH}:4",
            "SUSTech-2_1.jpg: one picture was expected, 2 can be read",
        ),
        (
            lambda p: (p / "JPEGImages/SUSTech-2_1.jpg").write_text("<html>"),
            f"{TRAIN_PATH}:4",
            "SUSTech-2_1.jpg: the file is no image",
        ),
        (
            lambda p: change(p, VAL, 3, LISTS[TRAIN_PATH][2]),
            f"{VAL}:3",
            f"patient SUSTech-2 is in the validation set and, at {{folder}}/{TRAIN_PATH}:4, in the train set",
        ),
        (
            lambda p: change(p, TEST, 2, "1,0,1,0,0,0,0,Zhongshan-4_3_OD3.jpg,Zhongshan-5"),
            f"{TEST}:2",
            "Zhongshan-4_3_OD3.jpg is of patient Zhongshan-4, the ID column says Zhongshan-5",
        ),
        (
            lambda p: change(p, TRAIN_PATH, 5, LISTS[TRAIN_PATH][0]),
            f"{TRAIN_PATH}:5",
            f"ShenzhenEye-1_OD_2020-12-27_1.jpg is listed again, after {{folder}}/{TRAIN_PATH}:2",
        ),
        (
            lambda p: change(p, VAL, 2, "1,1,0,0,0,0,1,LishuiR-3_20230823@090310_R5.jpg,LishuiR-3"),
            f"{VAL}:2",
            "2 of S0, S1 are 1; expected exactly one",
        ),
        (
            lambda p: change(p, TRAIN_PATH, 2, "1,0,0,0,0,0,0,ShenzhenEye-1_OD_2020-12-27_1.jpg,ShenzhenEye-1"),
            f"{TRAIN_PATH}:2",
            "0 of A0, A1, A2, A3, A4 are 1; expected exactly one",
        ),
        (
            lambda p: change(p, VAL, 2, f"0,1,0,0,0,0,1,../JPEGImages/{'LishuiR-3_20230823@090310_R5.jpg'},LishuiR-3"),
            f"{VAL}:2",
            "filename must be a file's name without folders",
        ),
    ],
)
def test_each_problem_is_found_once_with_file_and_line(psmm, break_it, where, message):
    break_it(psmm)
    problems = check(psmm, read_tables(psmm))
    assert len(problems) == 1
    assert problems[0].startswith(f"{psmm / where}: ")
    assert message.format(folder=psmm) in problems[0]


def test_all_problems_are_found_at_once(psmm):
    (psmm / "JPEGImages/SUSTech-2_1.jpg").unlink()
    cut(psmm / "JPEGImages/Zhongshan-4_3_OD3.jpg")
    change(psmm, VAL, 3, LISTS[TRAIN_PATH][0])
    assert len(check(psmm, read_tables(psmm))) == 3
    assert len(check(psmm, read_tables(psmm), fast=True)) == 2  # the cut is beyond the header


def test_a_resampled_list_may_repeat_and_lose_labels(psmm):
    change(psmm, TRAIN_PATH, 5, "0,0,0,1,0,0,0,ShenzhenEye-1_OD_2020-12-27_1.jpg,ShenzhenEye-1")
    assert len(check(psmm, read_tables(psmm))) == 2  # listed again, no S
    assert check(psmm, read_tables(psmm), resampled=True) == []
    change(psmm, VAL, 3, LISTS[VAL][0])
    assert len(check(psmm, read_tables(psmm), resampled=True)) == 1  # not in the other lists


def test_a_decoded_image_is_not_decoded_again(psmm):
    tables = read_tables(psmm)
    path = psmm / "JPEGImages" / "SUSTech-2_1.jpg"
    assert check(psmm, tables) == []
    facts, data = path.stat(), path.read_bytes()
    path.write_bytes(b"\0" * len(data))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert check(psmm, tables) == []  # same size and time: remembered, not looked at
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    assert len(check(psmm, tables)) == 1
    assert len(check(psmm, tables)) == 1  # what failed is not remembered
    (psmm / CHECKED).write_text("[broken")
    assert len(check(psmm, tables)) == 1


def test_in_several_processes(psmm):
    rows = []
    for k in range(40):
        rows.append(f"1,0,1,0,0,0,0,SUSTech-9_{k}.jpg,SUSTech-9")
        write_jpeg(psmm / "JPEGImages" / f"SUSTech-9_{k}.jpg", seed=k)
    write_lists(psmm, {TEST: rows})
    cut(psmm / "JPEGImages" / "SUSTech-9_33.jpg")
    problems = check(psmm, read_tables(psmm), workers=2)
    assert len(problems) == 1
    assert problems[0].startswith(f"{psmm / TEST}:35: ")


# --- command --------------------------------------------------------------------------------------------------------


def test_command(psmm, capsys):
    write_jpeg(psmm / "JPEGImages" / "extra.jpg")
    assert unlisted(psmm, read_tables(psmm)) == 1
    assert main(["check", str(psmm), "--fast"]) == 0
    out = capsys.readouterr().out
    numbers = [re.findall(r"\w+", line) for line in out.splitlines()]
    assert ["train", "all", "3", "2", "2", "1", "0", "2", "1", "0", "0"] in numbers
    assert ["ShenzhenEye", "2", "1", "2", "0", "0", "2", "0", "0", "0"] in numbers
    assert ["test", "all", "1", "1", "1", "0", "1", "0", "0", "0", "0"] in numbers
    assert f"note: 1 files in {psmm / 'JPEGImages'} are in no list" in out

    (psmm / "JPEGImages" / "SUSTech-2_1.jpg").unlink()
    assert main(["check", str(psmm)]) == 2
    captured = capsys.readouterr()
    assert captured.out == f"{psmm / TRAIN_PATH}:4: {psmm / 'JPEGImages' / 'SUSTech-2_1.jpg'} is missing\n"
    assert captured.err.splitlines()[-1] == f"python -m training: error: {psmm}: problems found: 1, listed above"


# --- spellings, one image in two sets, and how other programs write lists --------------------------------------------


@pytest.mark.parametrize(
    "other", ["sustech-2", "SUSTech_2", "SUSTech-002", "SUSTech - 2", "\uff33USTech-2", "SUSTech\u20132"]
)
@pytest.mark.parametrize("where", [TRAIN_PATH, VAL])
def test_a_patient_under_two_spellings_is_found(psmm, other, where):
    write_jpeg(psmm / "JPEGImages" / "x.jpg", seed=9)
    change(psmm, where, 9, f"1,0,1,0,0,0,0,x.jpg,{other}")
    problems = check(psmm, read_tables(psmm), fast=True)
    assert len(problems) == 1
    assert "SUSTech-2" in problems[0]
    assert other in problems[0]
    assert "is written" in problems[0]


def test_other_patients_are_not_taken_for_one(psmm):
    for k, patient in enumerate(["SUSTech-20", "SUSTech-12", "SUSTec-2", "SUSTech-2-1"]):
        write_jpeg(psmm / "JPEGImages" / f"{k}.jpg", seed=10 + k)
        change(psmm, TEST, 9, f"1,0,1,0,0,0,0,{k}.jpg,{patient}")
    assert check(psmm, read_tables(psmm)) == []


def test_the_same_image_in_two_sets_is_found(psmm):
    images = psmm / "JPEGImages"
    shutil.copy(images / "SUSTech-2_1.jpg", images / "copy.jpg")
    change(psmm, TEST, 3, "0,1,0,0,1,0,0,copy.jpg,Other-7")
    for _ in range(2):  # the second time from what is remembered
        problems = check(psmm, read_tables(psmm))
        assert len(problems) == 1
        assert problems[0].startswith(f"{psmm / TEST}:3: copy.jpg in the test set is the same image as the one at ")
        assert f"{psmm / TRAIN_PATH}:4" in problems[0]
    write_jpeg(images / "copy.jpg", seed=9)
    assert check(psmm, read_tables(psmm)) == []


def test_one_file_in_two_sets_under_two_patients_is_found(psmm):
    change(psmm, VAL, 3, "1,0,1,0,0,0,0,anonymous.jpg,Other-8")
    change(psmm, TEST, 3, "1,0,1,0,0,0,0,anonymous.jpg,Other-9")
    write_jpeg(psmm / "JPEGImages" / "anonymous.jpg", seed=9)
    assert len(check(psmm, read_tables(psmm))) == 1


def test_ids_and_names_are_stripped(psmm):
    lines = (psmm / TEST).read_text().splitlines()
    (psmm / TEST).write_text(
        " S0,S1 ,A0,A1,A2,A3,A4, filename,ID \n1, 0,1 ,0,0,0,0, Zhongshan-4_3_OD3.jpg , Zhongshan-4\n"
    )
    assert len(lines) == 2
    table = read_tables(psmm)["test"]
    assert (table.names.tolist(), table.patients.tolist()) == (["Zhongshan-4_3_OD3.jpg"], ["Zhongshan-4"])
    assert check(psmm, read_tables(psmm)) == []


ROW = "1,0,1,0,0,0,0,a.jpg,P-1\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((HEADER + ROW).encode("utf-16"), r"list\.csv(:1)?: not a csv file in UTF-8"),
        ((HEADER + ROW).encode("utf-16-le"), r"list\.csv: not a csv file in UTF-8 \(it holds zero bytes"),
        (("\u00e4" + HEADER + ROW).encode("latin-1"), r"list\.csv:1: not a csv file in UTF-8"),
        ((HEADER + ROW + ROW.replace("P-1", "M\u00fcller")).encode("latin-1"), r"list\.csv:3: not a csv file in UTF-8"),
        ((HEADER + ROW).replace(",", ";").encode(), r"list\.csv:1: the columns are separated by ';'"),
        ((HEADER + ROW).replace(",", "\t").encode(), r"list\.csv:1: the columns are separated by '\\t'"),
        ((HEADER.lower() + ROW).encode(), r"list\.csv:1: column 's0', .* must be written 'S0', .*'ID'$"),
        (
            (HEADER.replace("filename", "Filename") + ROW).encode(),
            r"list\.csv:1: column 'Filename' must be written 'filename'$",
        ),
        (
            (HEADER + 40 * "True,False,True,False,False,False,False,a.jpg,P-1\n").encode(),
            r"list\.csv:2: labels must be 0 or 1, not words\. Found: '(True|False)', and 279 more such labels$",
        ),
        ((HEADER + ROW.replace("1,0", "TRUE,0", 1)).encode(), r"list\.csv:2: labels must be .* Found: 'TRUE'$"),
        (b"", r"list\.csv:1: missing column"),
    ],
    ids=[
        "utf-16",
        "utf-16-le",
        "latin header",
        "latin row",
        ";",
        "tab",
        "lower case",
        "Filename",
        "True",
        "TRUE",
        "empty",
    ],
)
def test_what_other_programs_write_is_one_clear_line(tmp_path, content, message, capsys):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(DataSetError, match=message):
        read_label_table(tmp_path / "list.csv")
    assert main(["imbalance", "--labels", str(tmp_path / "list.csv")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_list_without_images_is_refused(psmm):
    (psmm / VAL).write_text(HEADER)
    with pytest.raises(DataSetError, match=r"val\.csv: lists no image"):
        read_tables(psmm)
