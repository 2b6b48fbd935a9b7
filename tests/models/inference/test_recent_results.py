from copy import deepcopy

import torch

from sfisep_core.models.inference.recent_results import RecentResults


def test_the_last_two_times_are_kept() -> None:
    recent = RecentResults()
    given = [torch.full((2, 3), float(number)) for number in range(3)]
    for tensor in given:
        recent.keep([(tensor, tensor + 10)])
    assert recent.find(given[0]) is None
    for tensor in given[1:]:
        result = recent.find(tensor.clone())
        assert result is not None
        assert torch.equal(result, tensor + 10)


def test_only_the_same_values_type_shape_and_precision_count() -> None:
    recent = RecentResults()
    ones = torch.ones(2, 3)
    recent.keep([(ones, ones)])
    assert recent.find(ones + 1e-6) is None
    assert recent.find(ones.double()) is None
    assert recent.find(torch.ones(2, 4)) is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert recent.find(ones) is None
    assert recent.find(ones) is not None


def test_what_is_kept_does_not_change_and_does_not_travel() -> None:
    recent = RecentResults()
    given, result = torch.ones(4), torch.ones(4)
    recent.keep([(given, result)])
    given.zero_()
    result.zero_()
    found = recent.find(torch.ones(4))
    assert found is not None
    assert torch.equal(found, torch.ones(4))
    assert deepcopy(recent).find(torch.ones(4)) is None
