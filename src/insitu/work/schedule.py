"""Which worker does what, in which order, and when all of it will be done."""

import copy
import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

__all__ = ["Placement", "Schedule", "WorkPace", "shares", "timetable"]

# For how long one worker does the cheap work first, in predicted seconds.
EARLY = 90.0
# How much the prediction weighs against what was measured, in predicted seconds.
PRIOR = 10.0


@final
class Schedule:
    """Hands out pieces of work: cheap ones soon, and all of them in as little time as the longest-first rule takes.

    The first worker does the cheap pieces that fit into a minute and a half, in ascending order, so that results come
    soon; the others, and the first one afterwards, take the longest of what is left (Graham, 1969), so that no worker
    is alone with a long one at the end. A lone worker goes through all of them in ascending order.

    Args:
        costs: The seconds of each piece.
        workers: The number of workers.

    Example:
        >>> schedule = Schedule([200.0, 1.0, 100.0, 2.0], workers=2)
        >>> [schedule.take(worker) for worker in (0, 1, 0, 0, 0)]
        [1, 0, 3, 2, None]
    """

    def __init__(self, costs: Sequence[float], workers: int) -> None:
        self.costs = costs
        self.early: deque[int] = deque()
        order = deque(sorted(range(len(costs)), key=costs.__getitem__))
        spent = 0.0
        while order and (workers == 1 or spent + costs[order[0]] <= EARLY):
            spent += costs[order[0]]
            self.early.append(order.popleft())
        self.late = order

    def take(self, worker: int) -> int | None:
        """The next piece for a worker, counted from 0; none if all are handed out."""
        if worker == 0 and self.early:
            return self.early.popleft()
        if self.late:
            return self.late.pop()
        return self.early.pop() if self.early else None


def shares(costs: Sequence[float], count: int) -> list[list[int]]:
    """Pieces of work divided among machines that do not talk to each other, each with about the same to do.

    The longest piece goes to the worker with the least so far. The same costs give the same shares.

    Example:
        >>> shares([5.0, 1.0, 4.0, 2.0], count=2)
        [[0, 1], [2, 3]]
    """
    parts: list[list[int]] = [[] for _ in range(count)]
    loads = [0.0] * count
    for piece in sorted(range(len(costs)), key=lambda piece: -costs[piece]):
        least = loads.index(min(loads))
        parts[least].append(piece)
        loads[least] += costs[piece]
    return parts


@final
@dataclass(frozen=True)
class Placement:
    """A piece of work in a timetable.

    Args:
        piece: The index of the piece.
        worker: Who does it.
        start: When it begins, in seconds.
        end: When it is done.
    """

    piece: int
    worker: int
    start: float
    end: float


def timetable(schedule: Schedule, free: Sequence[float]) -> list[Placement]:
    """The predicted times of all pieces; the schedule itself is not changed.

    Args:
        schedule: The pieces to do.
        free: The time at which each worker becomes free.

    Example:
        >>> [entry.end for entry in timetable(Schedule([3.0, 1.0, 2.0], workers=1), free=[0.0])]
        [1.0, 3.0, 6.0]
    """
    remaining = copy.deepcopy(schedule)
    heap = [(time, worker) for worker, time in enumerate(free)]
    heapq.heapify(heap)
    entries = []
    while heap:
        now, worker = heapq.heappop(heap)
        piece = remaining.take(worker)
        if piece is not None:
            entries.append(Placement(piece, worker, now, now + remaining.costs[piece]))
            heapq.heappush(heap, (entries[-1].end, worker))
    return entries


@final
@dataclass
class WorkPace:
    """The ratio of actual to predicted time.

    Args:
        predicted: The predicted seconds of finished work.
        taken: Its actual seconds.
    """

    predicted: float = 0.0
    taken: float = 0.0

    def add(self, predicted: float, taken: float) -> None:
        """Add a finished piece."""
        self.predicted += predicted
        self.taken += taken

    @property
    def factor(self) -> float:
        """The ratio, near one until something is measured."""
        return (self.taken + PRIOR) / (self.predicted + PRIOR)

    def left(self, schedule: Schedule, under_way: Iterable[tuple[float, float]]) -> float:
        """The predicted seconds until all work is done.

        Args:
            schedule: The pieces that are not started.
            under_way: For every worker, the predicted seconds of its current piece, and the seconds since its start.

        Example:
            >>> WorkPace(predicted=30.0, taken=90.0).left(Schedule([60.0], 1), [(100.0, 50.0)])
            350.0
        """
        free = [max(0.0, predicted - since / self.factor) for predicted, since in under_way]
        return self.factor * max([*free, *(entry.end for entry in timetable(schedule, free))])
