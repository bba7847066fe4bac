"""Makes time pass faster in every Python that starts with this folder on PYTHONPATH.

A minute of throttling, or five minutes until an image leaves the listing, are seconds then. Only waiting goes faster:
timeouts of sockets stay as they are, and so does the date (datetime, time.gmtime).
"""

from __future__ import annotations

import os
import threading
import time

SPEED = float(os.environ["SANDBOX_CLOCK_SPEED"])
START = float(os.environ["SANDBOX_CLOCK_START"])

real_time, real_monotonic, real_sleep = time.time, time.monotonic, time.sleep
real_wait = threading.Condition.wait


def wait(self: threading.Condition, timeout: float | None = None) -> bool:
    return real_wait(self, None if timeout is None else timeout / SPEED)


time.time = lambda: START + (real_time() - START) * SPEED
time.monotonic = lambda: real_monotonic() * SPEED
time.sleep = lambda seconds: real_sleep(float(seconds) / SPEED)
threading.Condition.wait = wait  # type: ignore[method-assign]
