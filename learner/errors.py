"""What ends a run early without being a fault."""


class Stopped(Exception):
    """Somebody asked the run to end; nothing was published."""


class Diverged(Exception):
    """Training left the numbers that can be computed with; there is no candidate."""
