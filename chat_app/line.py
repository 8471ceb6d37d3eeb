"""First come, first served: so many replies are written at once, the others wait in line and know their place."""

from __future__ import annotations

import threading


class Line:
    """Thread-safe. Join it, wait for your turn, and leave it when the reply is over (or nobody wants it any more)."""

    def __init__(self, width: int) -> None:
        """Args: width: how many may be at work at once."""
        self.width = width
        self._tickets: list[Ticket] = []
        self._moved = threading.Condition()

    def join(self) -> Ticket:
        with self._moved:
            self._tickets.append(ticket := Ticket(self))
        return ticket

    def _place(self, ticket: Ticket) -> int:
        return max(0, self._tickets.index(ticket) - self.width + 1) if ticket in self._tickets else 0


class Ticket:
    """A place in the line."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @property
    def place(self) -> int:
        """0: it is this one's turn; 1: next."""
        with self._line._moved:
            return self._line._place(self)

    def wait(self, seconds: float) -> bool:
        """Whether it is this one's turn, after at most so long."""
        with self._line._moved:
            return self._line._moved.wait_for(lambda: self._line._place(self) == 0, seconds)

    def leave(self) -> None:
        """Let the next one in. Harmless when it was done before."""
        with self._line._moved:
            if self in self._line._tickets:
                self._line._tickets.remove(self)
                self._line._moved.notify_all()
