"""Makes time pass faster in every Python that starts with this folder on PYTHONPATH.

A minute of throttling, or five minutes until an image leaves the listing, are seconds then. Only waiting goes faster,
not the date (datetime, time.gmtime). Timeouts of sockets go faster by SANDBOX_TIMEOUT_SPEED only.
"""

from __future__ import annotations

import os
import socket
import threading
import time

SPEED = float(os.environ["SANDBOX_CLOCK_SPEED"])
START = float(os.environ["SANDBOX_CLOCK_START"])
TIMEOUT_SPEED = float(os.environ.get("SANDBOX_TIMEOUT_SPEED", "1"))

real_time, real_monotonic, real_sleep = time.time, time.monotonic, time.sleep
real_wait, real_join = threading.Condition.wait, threading.Thread.join


def scaled(timeout: float | None, factor: float) -> float | None:
    return None if timeout is None else timeout * factor


time.time = lambda: START + (real_time() - START) * SPEED
time.monotonic = lambda: real_monotonic() * SPEED
time.sleep = lambda seconds: real_sleep(float(seconds) / SPEED)
threading.Condition.wait = lambda self, timeout=None: real_wait(self, scaled(timeout, 1 / SPEED))  # type: ignore[method-assign]
threading.Thread.join = lambda self, timeout=None: real_join(self, scaled(timeout, 1 / SPEED))  # type: ignore[method-assign]
if TIMEOUT_SPEED != 1:
    settimeout, gettimeout = socket.socket.settimeout, socket.socket.gettimeout
    socket.socket.settimeout = lambda self, timeout: settimeout(self, scaled(timeout, 1 / TIMEOUT_SPEED))  # type: ignore
    socket.socket.gettimeout = lambda self: scaled(gettimeout(self), TIMEOUT_SPEED)  # type: ignore
