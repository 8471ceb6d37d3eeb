"""Threads of this process that work side by side, each on rows of its own with one core's arithmetic.

A small model's matrix products are small: two cores inside every one of them wait for each other thousands of times a
step. Measured on 8 replies of 96 tokens, forward and backward: one core 4.7 s, two cores inside each product 3.9 s (a
waiting core sleeps; spinning takes 2.8 s, and is 2.4 times slower than sleeping when people chat on the same cores),
two lanes of four replies 2.6 s. With both cores busy otherwise, at the learner's low priority: 47 s against 27 s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

from data.cpus import usable_cpus
from learner.model.priority import as_idle_work, computes_idle

Item = TypeVar("Item")
Found = TypeVar("Found")


def count(device: torch.device) -> int:
    """How many lanes there are: as many as cores that torch may use; on a GPU one."""
    return min(usable_cpus(), torch.get_num_threads()) if device.type == "cpu" else 1


def at_once(sizes: Sequence[int], most: int, lanes: int) -> int:
    """In how many lanes items of these sizes go through while no more than `most` is in all of them together; one, where a single item is larger."""
    return max(1, min(lanes, most // max(sizes, default=1)))


def alone(work: Callable[[], Found]) -> Found:
    """`work()` with all cores inside each product, as idle work where this process gave way so. Never from within a lane."""
    [found] = in_lanes(lambda _: work(), [None], 1)
    return found


def in_lanes(work: Callable[[Item], Found], items: Sequence[Item], lanes: int) -> Iterator[Found]:
    """`work(item)` for every item, in the order of the items, as soon as each is known; in at most `lanes` threads.

    Nothing of it goes on when the iterator ends, early or not: what `work` looks at may be changed again.
    """
    lanes = min(lanes, len(items))
    if lanes < 2 and (torch.cuda.is_available() or not computes_idle()):       # beside a card this thread computes nothing to speak of
        yield from map(work, items)
        return
    with_gradient = torch.is_grad_enabled()                 # of this thread; each thread has its own

    def there(item: Item) -> Found:
        with torch.set_grad_enabled(with_gradient):
            return work(item)

    futures = [_threads(max(1, lanes)).submit(there, item) for item in items]
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


@cache
def _threads(lanes: int) -> ThreadPoolExecutor:
    def begin() -> None:
        as_idle_work()
        if lanes > 1:                                       # a single one has all cores inside each product
            torch.set_num_threads(1)

    return ThreadPoolExecutor(lanes, thread_name_prefix="lane", initializer=begin)
