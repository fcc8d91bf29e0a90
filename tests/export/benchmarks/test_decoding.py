from PIL import Image

from export.benchmarks.decoding import app
from keras_realmnet.command_line import run
from training.phantoms.cohorts import cohort


def test_large_jpegs_are_timed_and_others_left_out(tmp_path, capsys):
    image = Image.fromarray(cohort(1, seed=5)[0].render(2101).image)
    image.save(tmp_path / "large.jpg")
    image.save(tmp_path / "large.png")
    image.resize((900, 700)).save(tmp_path / "small.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "large.jpg").read_bytes()[:-3000])
    arguments = [str(tmp_path), "--size", "64", "--size", "384", "--size", "512", "--repetitions", "1"]
    assert run(app, "decoding", arguments) == 0
    output = capsys.readouterr()
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.out.splitlines() if "│" in line]
    assert [(line[0], line[3]) for line in lines] == [("large.jpg", "64"), ("large.jpg", "384")]  # 512 needs 2560 px
    for line in lines:
        full, half, ratio = map(float, line[4:])
        lowest, highest = (half - 0.5) / (full + 0.5), (half + 0.5) / (full - 0.5)  # rounded to whole milliseconds
        assert lowest - 0.005 <= ratio <= highest + 0.005
    assert output.err.strip().startswith("left out: cut.jpg: the picture is incomplete")
    assert len(output.err.splitlines()) == 1


def test_without_a_large_jpeg_the_message_says_so(tmp_path, capsys):
    image = Image.fromarray(cohort(1, seed=5)[0].render(480).image)
    image.save(tmp_path / "small.jpg")
    assert run(app, "decoding", [str(tmp_path)]) == 2
    assert "no JPEG among these images is large enough" in capsys.readouterr().err
