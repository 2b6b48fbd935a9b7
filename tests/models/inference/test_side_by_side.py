import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from sfisep_core.models.inference.side_by_side import map_side_by_side


@pytest.fixture(params=[1, 2, 5])
def cores(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield int(request.param)
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_in_the_order_of_the_parts(cores: int, count: int) -> None:
    seen = set()

    def double(part: Tensor) -> Tensor:
        seen.add((threading.get_ident(), torch.get_num_threads()))
        assert not torch.is_grad_enabled()
        return 2 * part

    with torch.no_grad():
        results = map_side_by_side(double, torch.arange(count).split(1))
    assert torch.cat(results).tolist() == [2 * value for value in range(count)]
    workers = min(cores, count)
    assert {threads for _, threads in seen} == {cores // workers}
    assert len(seen) <= workers
    assert torch.get_num_threads() == cores


@pytest.mark.usefixtures("cores")
@torch.no_grad()
def test_autocast_holds_in_threads() -> None:
    weights = torch.ones(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        products = map_side_by_side(lambda part: part @ weights, torch.ones(2, 4, 4).split(1))
    assert [product.dtype for product in products] == 2 * [torch.bfloat16]
    products = map_side_by_side(lambda part: part @ weights, torch.ones(2, 4, 4).split(1))
    assert [product.dtype for product in products] == 2 * [torch.float32]


@torch.no_grad()
def test_threads_of_others_keep_their_number(cores: int) -> None:
    map_side_by_side(lambda part: part, torch.ones(2).split(1))
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [cores]


@torch.no_grad()
def test_errors_arrive(cores: int) -> None:
    def fail(part: Tensor) -> Tensor:
        if part.item() == 1:
            raise MemoryError
        return part

    with pytest.raises(MemoryError):
        map_side_by_side(fail, torch.arange(3).split(1))
    assert torch.get_num_threads() == cores
