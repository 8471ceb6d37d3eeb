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
from learner.priority import as_idle_work

Item = TypeVar("Item")
Found = TypeVar("Found")


def count(device: torch.device) -> int:
    """How many lanes there are: as many as cores that torch may use; on a GPU one."""
    return min(usable_cpus(), torch.get_num_threads()) if device.type == "cpu" else 1


def in_lanes(work: Callable[[Item], Found], items: Sequence[Item], lanes: int) -> Iterator[Found]:
    """`work(item)` for every item, in the order of the items, as soon as each is known; in at most `lanes` threads.

    Nothing of it goes on when the iterator ends, early or not: what `work` looks at may be changed again.
    """
    if min(lanes, len(items)) < 2:
        yield from map(work, items)
        return
    with_gradient = torch.is_grad_enabled()                 # of this thread; each thread has its own

    def there(item: Item) -> Found:
        with torch.set_grad_enabled(with_gradient):
            return work(item)

    futures = [_threads(lanes).submit(there, item) for item in items]
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
        torch.set_num_threads(1)

    return ThreadPoolExecutor(lanes, thread_name_prefix="lane", initializer=begin)
