"""What ends a run early without being a fault."""


class Stopped(Exception):
    """Somebody asked the run to end; nothing was published."""
