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
real_settimeout, real_gettimeout = socket.socket.settimeout, socket.socket.gettimeout


def wait(self: threading.Condition, timeout: float | None = None) -> bool:
    return real_wait(self, None if timeout is None else timeout / SPEED)


def join(self: threading.Thread, timeout: float | None = None) -> None:
    real_join(self, None if timeout is None else timeout / SPEED)


def settimeout(self: socket.socket, timeout: float | None) -> None:
    real_settimeout(self, None if timeout is None else timeout / TIMEOUT_SPEED)


def gettimeout(self: socket.socket) -> float | None:
    timeout = real_gettimeout(self)
    return None if timeout is None else timeout * TIMEOUT_SPEED


time.time = lambda: START + (real_time() - START) * SPEED
time.monotonic = lambda: real_monotonic() * SPEED
time.sleep = lambda seconds: real_sleep(float(seconds) / SPEED)
threading.Condition.wait = wait  # type: ignore[method-assign]
threading.Thread.join = join  # type: ignore[method-assign]
if TIMEOUT_SPEED != 1:
    socket.socket.settimeout = settimeout  # type: ignore[assignment, method-assign]
    socket.socket.gettimeout = gettimeout  # type: ignore[assignment, method-assign]
