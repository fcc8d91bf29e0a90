import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from keras_realmnet.errors import BundleMismatch, DataSetError, RealMNetError
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess
from training.__main__ import main
from training.data.label_table import read_label_table
from training.data.prepare import JOURNAL, SHEET, STAMP, prepare, read_stamp
from training.data.psmm import check, read_tables
from training.datasets.found.psmm import PsmmDataSet
from training.phantoms.cohorts import cohort, write_psmm_tree
from training.phantoms.phantom import render

SPEC = PreprocessSpec(64)
HEADER = "S0,S1,A0,A1,A2,A3,A4,filename,ID\n"


def write_frame(path, seed=0, side=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(60, 200, (side, side, 3)).astype(np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


@pytest.fixture
def raw(tmp_path):
    for k, name in enumerate(["a.jpg", "deep/er/b.png", "c.tif", "d.bmp"]):
        write_frame(tmp_path / "raw" / name, seed=k)
    return tmp_path / "raw"


def journal(out):
    with (out / JOURNAL).open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


# --- what is made ---------------------------------------------------------------------------------------------------


def test_every_format_a_clinic_sends(samples, tmp_path):
    """The shipped samples, those in a folder too: JPEG, PNG, TIFF, DICOM, up to 3900 x 3072; one is cut off."""
    summary = prepare([samples], tmp_path / "out", SPEC, image_format="png")
    frames = {path.stem: path for path in samples.rglob("PHANTOM-*")}
    broken = "PHANTOM-0009_OD_2026-03-02_1"
    assert [(frame, "truncated" in reason) for frame, reason in summary.failures] == [(str(frames.pop(broken)), True)]
    assert (summary.images, summary.new, summary.missing, summary.left_out) == (15, 15, (), 0)
    assert summary.no_images == 1  # README.md
    assert {path.stem for path in (tmp_path / "out" / "JPEGImages").iterdir()} == set(frames)
    rows = journal(tmp_path / "out")
    for stem, frame in frames.items():
        loaded = read_image(frame)
        expected, geometry = preprocess(loaded.pixels, SPEC)
        made = np.asarray(Image.open(tmp_path / "out" / "JPEGImages" / f"{stem}.png"))
        np.testing.assert_array_equal(made, expected)
        row = rows[f"{stem}.png"]
        assert (row["source"], row["sha256"]) == (frame.relative_to(samples).as_posix(), loaded.source.sha256)
        assert (int(row["height"]), int(row["width"])) == loaded.pixels.shape[:2]
        assert tuple(int(row[edge]) for edge in ("x0", "y0", "x1", "y1")) == geometry.box


def test_jpeg_of_quality_95_without_chroma_subsampling(tmp_path):
    phantom = render(5, width=500, staphyloma=True, grade=3).image
    (tmp_path / "raw").mkdir()
    Image.fromarray(phantom).save(tmp_path / "raw" / "eye.png")
    prepare([tmp_path / "raw"], tmp_path / "out", PreprocessSpec(224))
    made = Image.open(tmp_path / "out" / "JPEGImages" / "eye.jpg")
    assert [component[1:3] for component in made.layer] == [(1, 1)] * 3
    Image.new("RGB", (8, 8)).save(tmp_path / "reference.jpg", quality=95)
    with Image.open(tmp_path / "reference.jpg") as reference:
        assert made.quantization == reference.quantization
    expected = preprocess(phantom, PreprocessSpec(224))[0]
    Image.fromarray(expected).save(tmp_path / "reference.jpg", quality=95, subsampling="4:4:4")
    reference = np.asarray(Image.open(tmp_path / "reference.jpg"), np.int16)
    assert np.abs(np.asarray(made, np.int16) - reference).max() <= 2


def test_files_are_told_by_content(raw, tmp_path):
    (raw / "c.tif").rename(raw / "1.2.840.10008.55")  # a DICOM UID as a name; the digits are no ending
    (raw / "d.bmp").rename(raw / "scan.dat")
    (raw / "notes.txt").write_text("not an image")
    write_frame(raw / ".thumbnails" / "a.jpg")
    summary = prepare([raw], tmp_path / "out", SPEC)
    names = sorted(path.name for path in (tmp_path / "out" / "JPEGImages").iterdir())
    assert names == ["1.2.840.10008.55.jpg", "a.jpg", "b.jpg", "scan.dat.jpg"]
    assert (summary.failures, summary.no_images) == ((), 1)


def test_the_stamp(raw, tmp_path):
    out = tmp_path / "out"
    assert read_stamp(tmp_path) is None
    (raw / "bad.jpg").write_bytes((raw / "a.jpg").read_bytes()[:-500])
    prepare([raw], out, SPEC)
    stamp = json.loads((out / STAMP).read_text())
    assert read_stamp(out) == SPEC
    assert stamp["spec_hash"] == SPEC.hash
    assert (stamp["format"], stamp["complete"], stamp["images"], stamp["missing"]) == ("jpg", False, 4, [])
    assert [failure["frame"] for failure in stamp["failures"]] == [str(raw / "bad.jpg")]
    assert "bad.jpg: the picture is incomplete" in stamp["failures"][0]["reason"]

    (out / STAMP).write_text(json.dumps({**stamp, "spec": {**stamp["spec"], "version": 99}}))
    with pytest.raises(BundleMismatch, match="version 99"):
        read_stamp(out)
    (out / STAMP).write_text("{")
    with pytest.raises(DataSetError, match=r"preprocess\.json: damaged"):
        read_stamp(out)


def test_the_contact_sheet_shows_what_was_made(raw, tmp_path):
    for k in range(60):
        write_frame(raw / "many" / f"{k:02d}.png", seed=k, side=16)
    prepare([raw], tmp_path / "out", SPEC)
    with Image.open(tmp_path / "out" / SHEET) as sheet:
        width, height = sheet.size
    assert width == 8 * (256 + 8) + 8  # eight in a row
    assert 6 * 264 < height < 6 * 300  # 48 of the 64


# --- resuming -------------------------------------------------------------------------------------------------------


def test_only_what_is_missing_or_changed_is_made(raw, tmp_path):
    out = tmp_path / "out"
    assert prepare([raw], out, SPEC).new == 4
    times = {path.name: path.stat().st_mtime_ns for path in (out / "JPEGImages").iterdir()}
    moved = raw.rename(tmp_path / "moved")  # the same frames elsewhere
    assert prepare([moved], out, SPEC).new == 0
    assert {path.name: path.stat().st_mtime_ns for path in (out / "JPEGImages").iterdir()} == times

    (out / "JPEGImages" / "b.jpg").unlink()
    write_frame(moved / "d.bmp", seed=99)
    write_frame(moved / "e.png", seed=5)
    assert prepare([moved], out, SPEC).new == 3
    expected = preprocess(read_image(moved / "d.bmp").pixels, SPEC)[0]
    made = read_image(out / "JPEGImages" / "d.jpg").pixels.astype(float)
    assert np.abs(made - expected).mean() < 5  # the new frame's, not the old one's
    assert len(journal(out)) == 5


def test_a_line_cut_off_by_a_crash_counts_as_not_done(raw, tmp_path):
    out = tmp_path / "out"
    prepare([raw], out, SPEC)
    whole = (out / JOURNAL).read_bytes()
    (out / JOURNAL).write_bytes(whole[:-15])
    assert prepare([raw], out, SPEC).new == 1
    assert sorted((out / JOURNAL).read_bytes().split()) == sorted(whole.split())


@pytest.mark.slow
def test_killed_and_called_again(tmp_path):
    """SIGKILL while two processes work; what is under its name is whole, and the second call does the rest."""
    for k in range(200):
        write_frame(tmp_path / "raw" / f"{k:03d}.png", seed=k, side=300)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "training", "prepare", str(tmp_path / "raw"), "--out", str(out), "--workers", "2"]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(out.glob("JPEGImages/*.jpg")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    made = {path.name: path.stat().st_mtime_ns for path in (out / "JPEGImages").glob("*.jpg")}
    assert 0 < len(made) < 200
    for name in made:
        assert read_image(out / "JPEGImages" / name).pixels.shape == (384, 384, 3)
    recorded = set(journal(out))
    summary = prepare([tmp_path / "raw"], out, PreprocessSpec(384), workers=2)
    assert (summary.images, summary.failures) == (200, ())
    assert summary.new == 200 - len(recorded & set(made))
    for name in recorded & set(made):
        assert (out / "JPEGImages" / name).stat().st_mtime_ns == made[name]
    assert not list((out / "JPEGImages").glob(".*"))


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_folder_belongs_to_one_spec_and_format(raw, tmp_path):
    out = tmp_path / "out"
    prepare([raw], out, SPEC)
    with pytest.raises(DataSetError, match=r"was prepared with spec .*'size': 64.* not .*'size': 96"):
        prepare([raw], out, PreprocessSpec(96))
    with pytest.raises(DataSetError, match="was prepared with format jpg, not png"):
        prepare([raw], out, SPEC, image_format="png")
    with pytest.raises(ValueError, match="Received: 'gif'"):
        prepare([raw], out, SPEC, image_format="gif")


def test_images_of_unknown_making_are_not_mixed_with_prepared_ones(raw, tmp_path):
    write_frame(tmp_path / "psmm" / "JPEGImages" / "x.jpg")
    with pytest.raises(DataSetError, match="holds images that were not prepared here"):
        prepare([raw], tmp_path / "psmm", SPEC)


def test_two_frames_of_one_name(raw, tmp_path):
    other = write_frame(raw / "deep" / "a.tif")
    with pytest.raises(DataSetError, match=re.escape(f"{raw / 'a.jpg'} and {other} would both become a.jpg")):
        prepare([raw], tmp_path / "out", SPEC)
    assert not (tmp_path / "out").exists()
    other.unlink()
    prepare([raw], tmp_path / "out", SPEC)
    second = write_frame(tmp_path / "second" / "later" / "a.jpg", seed=7)
    with pytest.raises(DataSetError, match=re.escape(f"a.jpg was made from a.jpg; now {second} would become it")):
        prepare([tmp_path / "second"], tmp_path / "out", SPEC)


def test_nothing_to_prepare(tmp_path):
    with pytest.raises(DataSetError, match="nowhere: no such file or folder"):
        prepare([tmp_path / "nowhere"], tmp_path / "out", SPEC)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "notes.txt").write_text("x")
    with pytest.raises(DataSetError, match="raw: no image; expected JPEG"):
        prepare([tmp_path / "raw"], tmp_path / "out", SPEC)


def test_a_disk_that_takes_no_more(tmp_path):
    """A limit on the size of files stands for a full disk."""
    for k in range(2):
        write_frame(tmp_path / "raw" / f"{k}.png", seed=k, side=300)
    command = [sys.executable, "-m", "training", "prepare", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]
    shell = f"ulimit -f 20; exec {' '.join(command)}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    assert done.returncode == 2
    assert re.search(r"error: .*/out: cannot be written \(File too large\)", done.stderr)
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out" / "JPEGImages").glob("*.jpg"))
    assert main(command[3:]) == 0


# --- label lists ----------------------------------------------------------------------------------------------------


def test_lists_decide_what_is_made(raw, tmp_path):
    (tmp_path / "train.csv").write_text(HEADER + "1,0,1,0,0,0,0,a.jpg,P-1\n1,0,1,0,0,0,0,b.jpg,P-1\n")
    lists = tmp_path / "ImageSets" / "Main" / "MYOPIA"
    lists.mkdir(parents=True)
    (lists / "MYOPIA.csv").write_text(HEADER + "0,1,1,0,0,0,0,c.jpg,P-2\n1,0,1,0,0,0,0,gone.jpg,P-3\n")
    write_frame(raw / "other" / "d.jpg")  # like d.bmp, but nobody asks for either
    out = tmp_path / "out"
    summary = prepare([raw], out, SPEC, image_format="png", labels=[tmp_path / "train.csv", lists / "MYOPIA.csv"])
    assert (summary.images, summary.missing, summary.left_out) == (3, ("gone",), 1)
    assert sorted(path.name for path in (out / "JPEGImages").iterdir()) == ["a.png", "b.png", "c.png"]
    assert json.loads((out / STAMP).read_text())["missing"] == ["gone"]
    table = read_label_table(out / "ImageSets" / "Main" / "MYOPIA" / "MYOPIA.csv")
    assert table.names.tolist() == ["c.png", "gone.png"]
    np.testing.assert_array_equal(table.labels, [[0, 1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0, 0]])
    assert read_label_table(out / "ImageSets" / "Main" / "train.csv").patients.tolist() == ["P-1", "P-1"]

    (tmp_path / "again").mkdir()
    shutil.copy(tmp_path / "train.csv", tmp_path / "again")
    with pytest.raises(DataSetError, match=r"a second list named train\.csv"):
        prepare([raw], out, SPEC, image_format="png", labels=[tmp_path / "train.csv", tmp_path / "again" / "train.csv"])


def test_phantoms_become_a_data_set(tmp_path):
    """Drawn, prepared with their lists, checked: the way that real frames take."""
    for split, seed in (("train", 1), ("val", 2), ("test", 3)):
        write_psmm_tree(cohort(1, seed), tmp_path / split, 200, labels_csv=f"{split}.csv")
        for path in (tmp_path / split / "JPEGImages").iterdir():
            path.rename(path.with_name(path.name.replace("PHANTOM-", f"{split}-")))
        text = (tmp_path / split / f"{split}.csv").read_text()
        (tmp_path / f"{split}.csv").write_text(text.replace("PHANTOM-", f"{split}-"))
    lists = [
        argument for split in ("train", "val", "test") for argument in ("--labels", str(tmp_path / f"{split}.csv"))
    ]
    raw = [str(tmp_path / split / "JPEGImages") for split in ("train", "val", "test")]
    out = tmp_path / "out"
    assert main(["prepare", *raw, "--out", str(out), "--size", "96", *lists, "--workers", "1"]) == 0
    tables = read_tables(out)
    assert sum(map(len, tables.values())) == len(list((out / "JPEGImages").iterdir()))
    assert check(out, tables) == []
    assert read_stamp(out) == PreprocessSpec(96)


# --- command --------------------------------------------------------------------------------------------------------


def test_command_and_its_exit_status(raw, tmp_path, capsys):
    arguments = ["prepare", str(raw), "--out", str(tmp_path / "out"), "--size", "64"]
    assert main(arguments) == 0
    assert "4 images (4 new), 0 not readable, 0 not found" in capsys.readouterr().out
    (raw / "bad.png").write_bytes((raw / "deep/er/b.png").read_bytes()[:800])
    assert main(arguments) == 1
    out = capsys.readouterr().out
    assert "not prepared: bad.png: the picture is incomplete: its data end early (truncated file)." in out
    assert "4 images (0 new), 1 not readable" in out
    (tmp_path / "only").mkdir()
    (raw / "bad.png").rename(tmp_path / "only" / "bad.png")
    assert main(["prepare", str(tmp_path / "only"), "--out", str(tmp_path / "none")]) == 2
    assert "no image could be prepared" in capsys.readouterr().err
    assert main([*arguments, "--format", "gif"]) == 2
    assert "must be one of jpg, png. Received: 'gif'" in capsys.readouterr().err


def test_errors_of_the_project_are_one_line(raw, tmp_path, capsys):
    assert main(["prepare", str(raw / "nowhere"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert issubclass(DataSetError, RealMNetError)


# --- from frames to a training, as docs/training.md tells -------------------------------------------------------------


def test_raw_frames_become_a_data_set(tmp_path, capsys):
    """Endings in capitals, PNG, sub-folders: the list that names the frames is good for every step."""
    codes = ["1,0,1,0,0,0,0", "1,0,0,1,0,0,0", "0,1,0,0,1,0,0"]
    rows = []
    for k in range(60):
        name = [f"{k}.JPG", f"visit/{k}.png", f"other\\{k}.jpeg"][k % 3]
        write_frame(tmp_path / "frames" / name.replace("\\", "/"), seed=k)
        rows.append(f"{codes[k % 3]},{name},Clinic-{k}")
    (tmp_path / "all.csv").write_text(HEADER + "\n".join(rows) + "\n")
    labels, out = ["--labels", str(tmp_path / "all.csv")], tmp_path / "own"
    assert main(["prepare", str(tmp_path / "frames"), "--out", str(out), "--size", "64", *labels]) == 0
    assert main(["split", *labels, "--out", str(out)]) == 0
    assert main(["check", str(out)]) == 0
    assert "are in no list" not in capsys.readouterr().out
    data = PsmmDataSet(str(out), train_list="train.csv")
    sets = [data.load(split, SPEC, tmp_path / "cache") for split in ("train", "validation", "test")]
    assert [len(images) for images in sets] == [42, 9, 9]
    for images in sets:
        for k, name in enumerate(images.names):
            made = read_image(out / "JPEGImages" / f"{re.split(r'[/.]', name.replace(chr(92), '/'))[-2]}.jpg")
            np.testing.assert_array_equal(images.image(k), made.pixels)

    (out / "JPEGImages" / "0.jpg").unlink()
    assert main(["check", str(out)]) == 2
    assert f"{out / 'JPEGImages' / '0.jpg'} is missing" in capsys.readouterr().out


def test_two_frames_of_one_stem_in_a_list_are_found(tmp_path):
    write_frame(tmp_path / "frames" / "a.png")
    rows = "".join(f"1,0,1,0,0,0,0,{name},P-1\n" for name in ("a.png", "a.JPG"))
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.csv").write_text(HEADER + rows.replace("P-1", f"P-{name}"))
    prepare([tmp_path / "frames"], tmp_path / "own", SPEC, labels=[tmp_path / "train.csv"])
    for name in ("train", "val", "test"):
        shutil.copy(tmp_path / f"{name}.csv", tmp_path / "own")
    problems = check(tmp_path / "own", {"train": read_label_table(tmp_path / "own" / "train.csv")})
    assert len(problems) == 1
    assert "a.JPG is listed again" in problems[0]
