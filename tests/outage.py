"""Measure what an outage of the store or of a region costs a run of main.py.

    python tests/outage.py
    python tests/outage.py --builds 200 --speed 20 --limit 600 "store hangs"

The sandbox's clock runs faster, so that minutes pass in seconds. A row has the outage, the number of builds, the
minutes by the clock of main.py, its exit status, and the requests that it made. A run that takes longer than the limit
is ended.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from benchmark import MAIN, benchmark_world
from faults import HANGS, THROTTLED, Answer, EcsFault, Faults
from proxy import Sandbox

REGIONS = ["us-east-1", "cn-hangzhou"]
DOWN = REGIONS[0]
UNAVAILABLE = Answer(503)
OUTAGES: dict[str, Callable[[], Faults]] = {
    "none": Faults,
    "store unavailable": lambda: Faults(answers={"/meta.json": UNAVAILABLE}),
    "store hangs": lambda: Faults(answers={"/meta.json": HANGS}),
    "deletion unavailable": lambda: Faults(ecs=[EcsFault("DeleteImage", DOWN, answer=UNAVAILABLE)]),
    "deletion throttled": lambda: Faults(ecs=[EcsFault("DeleteImage", DOWN, answer=THROTTLED)]),
}


def measure(outage: str, builds: int, speed: float, limit: float) -> str:
    world = benchmark_world(builds, REGIONS, empty=4)
    with Sandbox(world, OUTAGES[outage](), speed) as sandbox, tempfile.TemporaryDirectory() as folder:
        environment = {**sandbox.environment(), "SANDBOX_TIMEOUT_SPEED": str(min(speed, 20))}
        started = time.monotonic()
        try:
            process = subprocess.run(
                [sys.executable, MAIN, "4.10"],
                cwd=folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                timeout=limit,
                check=False,
            )
            status = f"exit status {process.returncode}"
        except subprocess.TimeoutExpired:
            status = "not over"
        minutes = (time.monotonic() - started) * speed / 60
    return f"{outage:22}{builds:7}{minutes:12.1f} min  {status:14}{len(sandbox.calls):8} requests"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--builds", type=int, nargs="+", default=[200, 2000], help="builds besides the bootimages")
    parser.add_argument("--speed", type=float, default=20, help="how many times faster the clock runs")
    parser.add_argument("--limit", type=float, default=120, help="real seconds after which a run is ended")
    parser.add_argument("outages", nargs="*", default=list(OUTAGES), metavar="OUTAGE", help=", ".join(OUTAGES))
    args = parser.parse_args()
    for outage in args.outages:
        for builds in args.builds:
            print(measure(outage, builds, args.speed, args.limit), flush=True)


if __name__ == "__main__":
    main()
