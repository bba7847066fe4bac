"""A stand-in for GitHub, the RHCOS store and the ECS API, to run the unchanged main.py in.

    python tests/sandbox.py [--history FOLDER] ./main.py 4.10

runs that command in a small world of its own, and prints what the cloud held before and after. Nothing leaves the
machine: the command gets a proxy on loopback (HTTPS_PROXY) that answers for the real host names, with certificates of
a CA made for the occasion. The services check what the real ones check: TLS, the ECS signature, parameters and limits.

Tests build a World, say by Faults what is to go wrong, and look at what the Sandbox saw.
"""

from __future__ import annotations

import argparse
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from proxy import Sandbox
from world import default_world, history_world


def report(sandbox: Sandbox, before: Counter[str]) -> str:
    """What the cloud held before and after, and the requests that were made."""
    after = Counter(image.kind for image in sandbox.world.listed())
    bootimages = sandbox.world.listed("bootimage")
    tagged = sum(image.tags == {"bootimage": "true"} for image in bootimages)
    rows = [f"{'images':24}{'before':>8}{'after':>8}"]
    rows += [f"{kind:24}{before[kind]:8}{after[kind]:8}" for kind in sorted(before)]
    rows += [f"bootimages untouched: {len(bootimages)} of {before['bootimage']}, tagged bootimage=true: {tagged}"]
    requests = Counter(call.what if call.service == "ecs" else call.service for call in sandbox.calls)
    rows += ["requests: " + ", ".join(f"{what} {count}" for what, count in sorted(requests.items()))]
    rows += [f"LEAK: {leak}" for leak in sandbox.leaks]
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Run a command against a stand-in for GitHub, RHCOS store and ECS API."
    )
    parser.add_argument(
        "--history", type=Path, metavar="FOLDER", help="serve the versions of rhcos.json in this folder (commits.json)"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    args = parser.parse_args(argv)
    if not args.command:
        parser.error("no command given: try ./main.py 4.10")
    world = history_world(args.history) if args.history else default_world()
    before = Counter(image.kind for image in world.images.values())
    with Sandbox(world) as sandbox:
        status = subprocess.run(args.command, env=sandbox.environment(), check=False).returncode
        print(report(sandbox, before))
    return status


if __name__ == "__main__":
    raise SystemExit(main())
