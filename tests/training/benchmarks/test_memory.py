"""The steps that the benchmark of freed memory times."""

import json

import pytest

pytest.importorskip("tensorflow")

from training.benchmarks.memory import steps


def test_steps_tell_what_they_took(capsys):
    steps("edge_lite0", 32, 2, 1)
    user, system, elapsed = json.loads(capsys.readouterr().out)
    assert min(user, system) >= 0
    assert elapsed > 0
    assert user + system < 60 * elapsed
