"""Which worker does what, in which order, and when all of it will be done."""

import copy
import heapq
import math
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

    Pieces that need more memory together than there is are not done at the same time; one that needs more by itself is
    done beside none that needs any. Pieces that need more than half of it go one after the other, so they count as one
    long piece.

    Args:
        costs: The seconds of each piece.
        workers: The number of workers.
        needs: The memory of each piece; nothing if not given.
        room: The memory for all that run at the same time, in the same unit.

    Example:
        >>> schedule = Schedule([200.0, 1.0, 100.0, 2.0], workers=2)
        >>> [schedule.take(worker) for worker in (0, 1, 0, 0, 0)]
        [1, 0, 3, 2, None]
        >>> schedule = Schedule([200.0, 100.0, 150.0], workers=2, needs=[0.0, 3.0, 3.0], room=4.0)
        >>> [schedule.take(worker) for worker in (0, 1, 1, 0, 1)]
        [2, 0, None, 1, None]
    """

    def __init__(
        self, costs: Sequence[float], workers: int, needs: Sequence[float] = (), room: float = math.inf
    ) -> None:
        self.costs, self.room = costs, room
        self.needs = needs or [0.0] * len(costs)
        self.taken: dict[int, int] = {}
        # In ascending order; of the large ones no two run at the same time.
        self.early, self.late, self.large = deque[int](), deque[int](), deque[int]()
        spent = 0.0
        for piece in sorted(range(len(costs)), key=costs.__getitem__):
            large = 2 * self.needs[piece] > room
            soon = workers == 1 or (not large and spent + costs[piece] <= EARLY)
            spent += costs[piece] if soon else 0.0
            (self.early if soon else self.large if large else self.late).append(piece)

    def take(self, worker: int) -> int | None:
        """The next piece for a worker, counted from 0, whose last one is done; none if none is left or fits now."""
        self.taken.pop(worker, None)
        for queue, longest_first in self.queues(worker):
            for piece in reversed(queue) if longest_first else queue:
                if self.fits(piece):
                    # At an end of the queue, but for pieces that waited.
                    queue.pop() if queue[-1] == piece else queue.remove(piece)
                    self.taken[worker] = piece
                    return piece
        return None

    def queues(self, worker: int) -> list[tuple[deque[int], bool]]:
        """Where a worker looks for its next piece, and whether it begins with the longest."""
        together = sum(self.costs[piece] for piece in self.large)
        first = self.costs[self.late[-1]] if self.late else 0.0
        long = [(self.large, True), (self.late, True)]
        long = long if together > first else long[::-1]
        return [(self.early, False), *long] if worker == 0 else [*long, (self.early, True)]

    def fits(self, piece: int) -> bool:
        """Whether there is room for a piece beside those under way."""
        need, used = self.needs[piece], sum(self.needs[other] for other in self.taken.values())
        return not need or not used or used + need <= self.room


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
    entries: list[Placement] = []
    idle: list[int] = []
    while heap:
        now, worker = heapq.heappop(heap)
        # Who found nothing that fits looks again when another piece is done.
        idle.append(worker)
        for one in idle[::-1]:
            piece = remaining.take(one)
            if piece is not None:
                idle.remove(one)
                entries.append(Placement(piece, one, now, now + remaining.costs[piece]))
                heapq.heappush(heap, (entries[-1].end, one))
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
