import threading

import pytest

from ml_common.parallel import THREADS, ahead, parallel_map


def test_results_come_in_the_order_of_the_items() -> None:
    assert list(parallel_map(lambda number: -number, range(100))) == [-number for number in range(100)]
    assert list(parallel_map(str, [])) == []


def test_items_are_processed_in_parallel() -> None:
    all_started = threading.Barrier(THREADS, timeout=30)
    assert len(list(parallel_map(lambda _: all_started.wait(), range(THREADS)))) == THREADS


def test_only_a_few_items_are_started_before_results_are_consumed() -> None:
    begun: list[int] = []
    results = parallel_map(begun.append, range(1000))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(begun) <= 2 * THREADS + 1


def test_an_error_stops_the_rest() -> None:
    begun: list[int] = []

    def fail(number: int) -> None:
        begun.append(number)
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        list(parallel_map(fail, range(1000)))
    assert len(begun) <= 2 * THREADS + 1


def test_one_item_is_loaded_ahead() -> None:
    loaded = [threading.Event() for _ in range(4)]

    def load(number: int) -> int:
        loaded[number].set()
        return number

    numbers = ahead(load, range(4))
    assert next(numbers) == 0
    assert loaded[1].wait(30)
    assert not loaded[2].is_set()
    assert list(numbers) == [1, 2, 3]
    assert list(ahead(load, [])) == []
