import pytest

from export.benchmarks.multiply_peak import app, multiply_peak
from keras_realmnet.command_line import run


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_a_rate_is_measured(kind):
    assert 0.001 < multiply_peak(kind, threads=1, repetitions=3, side=64) < 100_000


def test_the_table_says_what_a_network_takes_at_least(capsys):
    assert run(app, "peak", ["--threads", "1", "--macs", "2"]) == 0
    lines = [[cell.strip() for cell in x.split("│")[1:-1]] for x in capsys.readouterr().out.splitlines() if "│" in x]
    assert [line[:2] for line in lines] == [["float32", "1"], ["int8", "1"]]
    for line in lines:
        rate = float(line[2])  # rounded: of a busy processor it has one digit or two
        assert 2000 / (rate + 0.51) - 1 <= float(line[3]) <= 2000 / (rate - 0.51) + 1
