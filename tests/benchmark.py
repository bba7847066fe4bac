"""Measure main.py in the sandbox: what a first and a second run take, and what an outage costs them.

    python tests/benchmark.py
    python tests/benchmark.py --builds 2000 --latency 0
    python tests/benchmark.py --builds 133 --regions 3 --calls-a-minute 40
    python tests/benchmark.py --builds 200 --regions 3 --latency 0 --speed 20 --outage "store hangs"

The world has as many builds as asked for besides the five bootimages of 4.10; every fourth uploaded no images, and of
the others half are public. Latencies are in seconds. Without --latency they are those of a machine in us-east-1: a call
takes 0.05 to America, 0.1 to Europe, 0.3 elsewhere, and a new connection the same again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime

from faults import HANGS, THROTTLED, UNAVAILABLE, Fault, Faults
from harness import MAIN
from proxy import Sandbox
from world import BOOTIMAGES, REGIONS, World

DOWN = REGIONS[0]
OUTAGES = {
    "store unavailable": Fault("/meta.json", UNAVAILABLE),
    "store hangs": Fault("/meta.json", HANGS),
    "deletion unavailable": Fault("DeleteImage", UNAVAILABLE, DOWN),
    "deletion throttled": Fault("DeleteImage", THROTTLED, DOWN),
}


def benchmark_world(builds: int, regions: Sequence[str]) -> World:
    world = World()
    for build, places in BOOTIMAGES.items():
        world.add_bootimage(build, [region for region in regions if region in places])
    world.add_builds_around(builds, regions, datetime(2019, 1, 1), empty=4)
    return world


def latencies(seconds: float | None) -> dict[str, float]:
    """For Faults.latency."""
    if seconds is not None:
        return dict.fromkeys(["ecs", "store", "github", "connection"], seconds)
    regions = {region: {"us": 0.05, "eu": 0.1}.get(region[:2], 0.3) for region in REGIONS}
    return {"store": 0.025, "github": 0.05, "connection": 0.1} | regions


def run_main(sandbox: Sandbox, folder: str) -> None:
    """Run main.py and report what it took."""
    to_delete, started, before = sandbox.world.listed("to be pruned"), time.monotonic(), os.times()
    environment = {**sandbox.environment(), "SANDBOX_TIMEOUT_SPEED": str(sandbox.clock_speed)}
    command = [sys.executable, str(MAIN), "4.10"]
    status = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=False).returncode
    seconds, after = time.monotonic() - started, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    deleted = [image for image in to_delete if not image.listed]
    forced = len(deleted) + sum(image.was_public for image in deleted)
    calls = [call for call in sandbox.calls if call.service == "ecs"]
    print(f"  exit status      {status}")
    print(f"  images deleted   {len(deleted)} of {len(to_delete)}")
    print(f"  time             {seconds * sandbox.clock_speed:.1f} s by its clock; {cpu:.1f} s of CPU")
    print(f"  requests         {len(sandbox.calls)}, over {sum(sandbox.tunnels.values())} connections")
    if forced:
        print(f"  calls to ECS     {len(calls)}, {len(calls) / forced:.3f} times the {forced} that the API forces")
        print(f"  throttled        {sum(call.status == 400 for call in calls)}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--builds", type=int, default=120, help="builds besides the bootimages")
    parser.add_argument("--regions", type=int, default=25, help="regions, 25 at the most")
    parser.add_argument("--latency", type=float, help="seconds for each call and for each new connection")
    parser.add_argument("--calls-a-minute", type=int, help="more are throttled, in each region and operation")
    parser.add_argument("--outage", choices=OUTAGES, help=f"what goes wrong, in the first run; of ECS in {DOWN}")
    parser.add_argument("--speed", type=float, default=1, help="how many times faster the clock runs")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    world = benchmark_world(args.builds, REGIONS[: args.regions])
    to_delete = len(world.listed("to be pruned"))
    print(f"{args.builds} builds besides the bootimages in {args.regions} regions, {to_delete} images to delete")
    with tempfile.TemporaryDirectory() as folder:
        for title, failing in (("first run", [OUTAGES[args.outage]] if args.outage else []), ("second run", [])):
            print(title)
            faults = Faults(failing, latency=latencies(args.latency), calls_a_minute=args.calls_a_minute)
            with Sandbox(world, faults, args.speed) as sandbox:
                run_main(sandbox, folder)


if __name__ == "__main__":
    main()
