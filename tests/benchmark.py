"""Measure main.py in the sandbox, beside a walk that does one call at a time, as the first version of this tool did.

    python tests/benchmark.py
    python tests/benchmark.py --ecs 0.05
    python tests/benchmark.py --builds 2000 --empty 10 --ecs 0 --store 0 --github 0 --connection 0 --walk 0
    python tests/benchmark.py --builds 133 --regions 2 --calls-a-minute 40 --walk 0

The world has as many builds as asked for besides the five bootimages of 4.10; every n-th uploaded no images, and of the
others half are public. Latencies are in seconds. Without --ecs they are those of a machine in us-east-1: a call takes
0.05 to America, 0.1 to Europe, 0.3 elsewhere, and a new connection the same again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from aliyunsdkcore.client import AcsClient
from aliyunsdkecs.request.v20140526.DeleteImageRequest import DeleteImageRequest
from aliyunsdkecs.request.v20140526.DescribeImagesRequest import DescribeImagesRequest
from aliyunsdkecs.request.v20140526.ModifyImageSharePermissionRequest import ModifyImageSharePermissionRequest
from aliyunsdkecs.request.v20140526.TagResourcesRequest import TagResourcesRequest
from faults import Faults
from proxy import Sandbox
from world import BOOTIMAGES, KEY_ID, REGIONS, SECRET, STORE_HOST, EcsImage, World

MAIN = Path(__file__).parent.parent / "main.py"


class Cost(NamedTuple):
    """What a run took: wall-clock and CPU time in seconds."""

    status: int
    seconds: float
    cpu: float


def benchmark_world(builds: int, regions: Sequence[str], empty: int) -> World:
    world = World()
    for build, places in BOOTIMAGES.items():
        world.add_bootimage(build, [region for region in regions if region in places])
    world.add_builds_around(builds, regions, datetime(2019, 1, 1), empty=empty)
    return world


def run_main(sandbox: Sandbox, folder: str) -> Cost:
    started, before = time.monotonic(), os.times()
    command = [sys.executable, str(MAIN), "4.10"]
    status = subprocess.run(command, cwd=folder, env=sandbox.environment(), capture_output=True, check=False).returncode
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(status, time.monotonic() - started, cpu)


def report_run(sandbox: Sandbox, cost: Cost) -> None:
    deleted = [image for image in sandbox.world.images.values() if image.state == "deleted"]
    forced = len(deleted) + sum(image.was_public for image in deleted)
    calls = [call for call in sandbox.calls if call.service == "ecs"]
    handshakes = Counter({host: count for host, count in sandbox.handshakes.items() if host.startswith("ecs.")})
    print(f"  exit status          {cost.status}")
    print(f"  images deleted       {len(deleted)}, {len(sandbox.world.listed('to be pruned'))} left")
    print(f"  time                 {cost.seconds:.1f} s, {cost.cpu:.1f} s of it CPU")
    print(f"  requests             {len(sandbox.calls)}, {len(sandbox.calls) / cost.seconds:.0f} a second")
    if forced:
        print(f"  calls to ECS         {len(calls)}, {len(calls) / forced:.3f} times the {forced} that the API forces")
        print(f"  refused by throttle  {sum(call.status == 400 for call in calls)}")
    print(f"  handshakes ECS       {sum(handshakes.values())}, {max(handshakes.values())} in the region with most")
    print(f"  handshakes store     {sandbox.handshakes[STORE_HOST]}")
    print(f"  store requests       {sandbox.most_under_way['store']} at once at most")


def walk(sandbox: Sandbox, images: Sequence[EcsImage]) -> float:
    """Prune the images one call at a time, with a new client for each call; the seconds that it took."""

    def call(region: str, request: Any, **parameters: Any) -> None:
        request.set_protocol_type("https")
        request.set_endpoint(f"ecs.{region}.aliyuncs.com")
        for name, value in parameters.items():
            getattr(request, f"set_{name}")(value)
        AcsClient(KEY_ID, SECRET, region).do_action_with_exception(request)

    started = time.monotonic()
    with patch.dict(os.environ, sandbox.environment()):
        for image in images:
            call(image.region, DescribeImagesRequest(), ImageId=image.id)
            tags = [{"Key": "bootimage", "Value": "false"}]
            call(image.region, TagResourcesRequest(), ResourceType="image", ResourceIds=[image.id], Tags=tags)
            call(image.region, DescribeImagesRequest(), ImageId=image.id)
            if image.public:
                call(image.region, ModifyImageSharePermissionRequest(), ImageId=image.id, IsPublic="false")
            call(image.region, DeleteImageRequest(), ImageId=image.id)
    return time.monotonic() - started


def real_latency(region: str) -> float:
    return {"us": 0.05, "eu": 0.1}.get(region[:2], 0.3)


def latencies(args: argparse.Namespace) -> dict[str, float]:
    """For Faults.latency."""
    latency = {"store": args.store, "github": args.github, "connection": args.connection}
    if args.ecs is None:
        return latency | {region: real_latency(region) for region in REGIONS}
    return latency | {"ecs": args.ecs}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--builds", type=int, default=120, help="builds besides the bootimages")
    parser.add_argument("--regions", type=int, default=25, help="regions, 25 at the most")
    parser.add_argument("--empty", type=int, default=4, help="every n-th build has no images")
    parser.add_argument("--ecs", type=float, help="seconds for a call to ECS in every region")
    parser.add_argument("--store", type=float, default=0.025, help="seconds for a request to the RHCOS store")
    parser.add_argument("--github", type=float, default=0.05, help="seconds for a request to GitHub")
    parser.add_argument(
        "--connection", type=float, default=0.1, help="seconds for a new connection (not to ECS without --ecs)"
    )
    parser.add_argument("--calls-a-minute", type=int, help="more are throttled, in each region and operation")
    parser.add_argument("--walk", type=int, default=40, help="images for the walk of one call at a time")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    latency = latencies(args)
    world = benchmark_world(args.builds, REGIONS[: args.regions], args.empty)
    to_delete = len(world.listed("to be pruned"))
    print(f"{args.builds} builds besides the bootimages in {args.regions} regions, {to_delete} images to delete")
    with tempfile.TemporaryDirectory() as folder:
        for title in ("first run", "second run"):
            faults = Faults(latency=latency, calls_a_minute=args.calls_a_minute)
            with Sandbox(world, faults) as sandbox:
                cost = run_main(sandbox, folder)
            print(title)
            report_run(sandbox, cost)
            if title == "first run":
                first = cost
    if args.walk:
        world = benchmark_world(args.builds, REGIONS[: args.regions], args.empty)
        with Sandbox(world, Faults(latency=latency), check_server_name=False) as sandbox:
            images = world.listed("to be pruned")[:: max(1, to_delete // args.walk)][: args.walk]
            seconds = walk(sandbox, images)
        print(f"one call at a time, {len(images)} images")
        print(f"  time                 {seconds:.1f} s")
        print(f"  calls to ECS         {len(sandbox.calls)}, {sum(sandbox.handshakes.values())} handshakes")
        print(f"  for {to_delete} images      {seconds / len(images) * to_delete:.0f} s")
        print(f"  main.py is           {seconds / len(images) * to_delete / first.seconds:.0f} times faster")


if __name__ == "__main__":
    main()
