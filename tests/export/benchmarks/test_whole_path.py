from export.benchmarks.whole_path import ROOT, STAGES, app
from keras_realmnet.command_line import run


def test_a_checkout_takes_turns_with_another(samples, tiny_bundle, capsys):
    """With itself here: both screen the same files and name every stage."""
    arguments = [str(samples / "PHANTOM-0002_OS_2026-03-02_1.png"), "--bundle", str(tiny_bundle), "--rounds", "2"]
    assert run(app, "whole_path", [*arguments, "--against", str(ROOT)]) == 0
    lines = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if "│" in line]
    rows = {stage.strip(): [cell.strip() for cell in cells] for stage, *cells in lines}
    assert set(rows) == set(STAGES)
    for stage, (this, other, *_) in rows.items():
        assert float(this) > 0, stage
        assert float(other) > 0, stage
    this, other, ratio, _ = rows["all"]
    assert abs(float(ratio) - float(this) / float(other)) < 0.02 * float(ratio) + 0.1 / float(other)
    stages = [float(rows[stage][0]) for stage in ("decode", "quality", "preprocess", "inference", "overlay")]
    assert sum(stages) <= 1.05 * float(this) + 0.3  # of medians, rounded


def test_a_checkout_that_cannot_screen_says_why(samples, tiny_bundle, tmp_path, capsys):
    (tmp_path / "edge_app").mkdir()
    (tmp_path / "edge_app" / "__init__.py").write_text("raise ImportError('of an earlier age')")
    arguments = [str(samples / "PHANTOM-0002_OS_2026-03-02_1.png"), "--bundle", str(tiny_bundle)]
    assert run(app, "whole_path", [*arguments, "--against", str(tmp_path)]) == 2
    assert "the process ended: ImportError: of an earlier age" in capsys.readouterr().err
