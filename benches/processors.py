"""Who gets which processors: the driver and the upstream the last one, what is measured all others.

Left to itself, the kernel puts two processes that talk to each other on one processor in some runs and
on two in others, and a round trip takes 11 us or 22. In the world an API is never on one's own processor.
"""

import os
import subprocess

ALL = sorted(os.sched_getaffinity(0))
OURS, MEASURED = (ALL[-1:], ALL[:-1]) if len(ALL) > 1 else (ALL, ALL)


def take_ours():
    """Keeps this thread, and whatever it starts but for what is measured, to the last processor."""
    os.sched_setaffinity(0, OURS)


def start(command, **options):
    """Starts what is measured."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, MEASURED)
    try:
        return subprocess.Popen(command, **options)
    finally:
        os.sched_setaffinity(0, before)
