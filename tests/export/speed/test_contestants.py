import pytest

from export.speed.contestants import of_bundle, of_bundle_and_others
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle


def test_who_takes_part(tiny_bundle):
    bundle = Bundle.load(tiny_bundle)
    assert [contestant.name for contestant in of_bundle(bundle)] == ["float32 (litert)", "second (litert)"]
    with pytest.raises(RealMNetError, match="none of its artifacts is for openvino"):
        of_bundle(bundle, engines=["openvino"])
    with pytest.raises(RealMNetError, match="'abacus'"):
        of_bundle(bundle, engines=["abacus"])
    with pytest.raises(RealMNetError, match="'int4'"):
        of_bundle(bundle, ["int4"])
    compared = of_bundle_and_others(tiny_bundle, [], [], ["all", str(tiny_bundle)])
    assert len(compared) == 2  # its default artifact is named three times, and takes part once
