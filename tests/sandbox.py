"""Run a command against a stand-in for GitHub, the RHCOS store and the ECS API.

    python tests/sandbox.py ./main.py 4.10
    python tests/sandbox.py --builds 200 --latency 0.1 --region-down eu-west-1 ./main.py --dry-run 4.10
    python tests/sandbox.py --outage "store hangs" --speed 20 ./main.py 4.10
    python tests/sandbox.py bash --norc

Prints what the cloud held before and after the command, and what it took: with --latency this is a benchmark, and with
--outage and --speed it shows what an outage costs. Several runs in one shell see the same cloud.

Nothing leaves the machine: the command gets a proxy on loopback (HTTPS_PROXY) that answers for the real host names,
with certificates of a CA made for the occasion. The services check what the real ones check: TLS, the ECS signature,
parameters, limits.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from faults import HANGS, THROTTLED, UNAVAILABLE, Fault, Faults
from proxy import Sandbox
from world import World, default_world, ecs_host, history_world

REGION = "us-east-1"
OUTAGES = {
    "store unavailable": Fault("/meta.json", UNAVAILABLE),
    "store hangs": Fault("/meta.json", HANGS),
    "deletion unavailable": Fault("DeleteImage", UNAVAILABLE, REGION),
    "deletion throttled": Fault("DeleteImage", THROTTLED, REGION),
}


def count_resources(world: World) -> Counter[str]:
    """The images by kind, and the snapshots."""
    snapshots = sum(snapshot.listed for snapshot in world.snapshots.values())
    return Counter(image.kind for image in world.listed()) + Counter(snapshots=snapshots)


def read_clocks() -> tuple[float, float]:
    """Seconds of a clock, and of CPU time of the commands that have ended."""
    return time.monotonic(), os.times().children_user + os.times().children_system


def report(sandbox: Sandbox, before: Counter[str], started: tuple[float, float]) -> str:
    """What the cloud held before and after, the requests that were made, and what the command took."""
    after = count_resources(sandbox.world)
    bootimages = sandbox.world.listed("bootimage")
    tagged = sum(image.tags == {"bootimage": "true"} for image in bootimages)
    rows = [f"{'images':24}{'before':>8}{'after':>8}"]
    rows += [f"{kind:24}{before[kind]:8}{after[kind]:8}" for kind in sorted(set(before) - {"snapshots"})]
    rows += [f"{'snapshots':24}{before['snapshots']:8}{after['snapshots']:8}"]
    rows += [f"bootimages untouched: {len(bootimages)} of {before['bootimage']}, tagged bootimage=true: {tagged}"]
    requests = Counter(call.what if call.service == "ecs" else call.service for call in sandbox.calls)
    rows += ["requests: " + ", ".join(f"{what} {count}" for what, count in sorted(requests.items()))]
    deleted = [image for image in sandbox.world.images.values() if image.deleted_at is not None]
    forced = len(deleted) + sum(image.was_public for image in deleted)
    calls = sum(call.service == "ecs" for call in sandbox.calls)
    rows += [f"calls to ECS: {calls}; the API forces {forced}, to make images private and to delete them"]
    seconds, cpu = (now - then for now, then in zip(read_clocks(), started))
    connections = sum(sandbox.tunnels.values())
    rows += [f"time: {seconds * sandbox.clock_speed:.1f} s, {cpu:.1f} s of CPU; {connections} connections"]
    rows += [f"LEAK: {leak}" for leak in sandbox.leaks]
    return "\n".join(rows)


def run_command(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the command and return its exit status.

    The terminal sends Ctrl-C to the command too, so it is ignored here; SIGTERM is passed on.
    """
    signal.signal(signal.SIGINT, lambda *_: None)
    with subprocess.Popen(command, env=environment) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        status = process.wait()
    return status if status >= 0 else 128 - status


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--builds", type=int, default=60, metavar="N", help="builds around the bootimages (default: 60)"
    )
    parser.add_argument("--latency", type=float, default=0, metavar="SECONDS", help="of each call and each connection")
    parser.add_argument("--calls-a-minute", type=int, metavar="N", help="of ECS, for each region and operation")
    parser.add_argument("--region-down", action="append", default=[], metavar="REGION", help="one that never answers")
    parser.add_argument("--outage", choices=OUTAGES, help=f"what goes wrong; with a deletion, it does in {REGION}")
    parser.add_argument("--speed", type=float, default=1, metavar="N", help="how many times faster the clock runs")
    parser.add_argument("--history", action="store_true", help="the real history of 4.10 and 4.11, and 60 builds each")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    args = parser.parse_args(argv)
    if not args.command:
        parser.error("no command given: try ./main.py 4.10")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    faults = Faults(
        [OUTAGES[args.outage]] if args.outage else [],
        latency=dict.fromkeys(["ecs", "store", "github", "connection"], args.latency),
        calls_a_minute=args.calls_a_minute,
        dead_hosts={ecs_host(region) for region in args.region_down},
    )
    world = history_world() if args.history else default_world(args.builds)
    before, started = count_resources(world), read_clocks()
    with Sandbox(world, faults, args.speed) as sandbox:
        environment = {**sandbox.environment(), "SANDBOX_TIMEOUT_SPEED": str(args.speed)}
        try:
            status = run_command(args.command, environment)
        except OSError as error:
            print(f"sandbox.py: error: cannot run {args.command[0]}: {error.strerror}", file=sys.stderr)
            return 127
        print(report(sandbox, before, started))
    return status


if __name__ == "__main__":
    raise SystemExit(main())
