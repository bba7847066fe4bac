"""Run a command against a stand-in for GitHub, the RHCOS store and the ECS API.

    python tests/sandbox.py ./main.py 4.10
    python tests/sandbox.py --builds 200 --latency 0.1 --region-down eu-west-1 ./main.py --dry-run 4.10
    python tests/sandbox.py --outage "store hangs" --speed 20 ./main.py 4.10
    python tests/sandbox.py --outage "store unavailable" --outage-seconds 90 bash --norc

Prints what the cloud held before and after the command, and what it took: with --latency this is a benchmark, and with
--outage and --speed it shows what an outage costs. Several runs in one shell see the same cloud.

Nothing leaves the machine: the command gets a proxy on loopback (HTTPS_PROXY) that answers for the real host names,
with certificates of a CA made for the occasion. The services check what the real ones check: TLS, the ECS signature,
parameters, limits.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import trustme
from aiohttp import web
from faults import ACCIDENTS, HANGS, LOST, OUTAGE_REGION, OUTAGES, REQUEST_ID, Answer, Call, Faults
from services import EcsService, GitHubService, StoreService, ids_in
from world import API_HOST, CREDENTIALS, SERVICES, STORE_ROOT, World, default_world, ecs_host, history_world

from main import CLOSED_REGIONS

CLOCK_START = time.time()


class Sandbox:
    """The services behind a proxy on loopback, in a thread; a context manager.

    With a `clock_speed` of 60, minutes pass in seconds, for the services and for the command. `tunnels` counts the
    connections to each host, the refused ones included; `leaks` names what should not have been sent where it was.
    """

    def __init__(self, world: World, faults: Faults | None = None, clock_speed: float = 1) -> None:
        self.world = world
        self.faults = faults or Faults()
        self.latency = self.faults.latency
        self.clock_speed = clock_speed
        self.github = GitHubService(world, self.faults)
        self.store = StoreService(world)
        self.ecs = EcsService(world, self.faults, lambda: CLOCK_START + (time.time() - CLOCK_START) * clock_speed)
        self.calls: list[Call] = []
        self.tunnels: Counter[str] = Counter()
        self.leaks: list[str] = []
        self.under_way: Counter[str] = Counter()
        self.random = random.Random(self.faults.seed)
        self.ca = trustme.CA()
        self.tls: dict[str, ssl.SSLContext] = {}

    def __enter__(self) -> Sandbox:
        self.folder = tempfile.TemporaryDirectory()
        self.ca_file = str(Path(self.folder.name) / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.listener.setblocking(False)
        self.proxy = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.loop = asyncio.new_event_loop()
        self.serving = self.loop.create_task(self.serve())
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=[self.serving])
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.serving.cancel)
        self.thread.join()
        self.loop.close()
        self.listener.close()
        self.folder.cleanup()

    def environment(self) -> dict[str, str]:
        """The environment of a command that is to run in this sandbox."""
        environment = {name: os.environ[name] for name in os.environ if name.lower() not in ("no_proxy", "all_proxy")}
        if self.clock_speed != 1:
            environment["PYTHONPATH"] = str(Path(__file__).parent / "fast_clock")
            environment["SANDBOX_CLOCK_SPEED"] = str(self.clock_speed)
            environment["SANDBOX_CLOCK_START"] = str(CLOCK_START)
        return {
            **environment,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), self.proxy),
            **dict.fromkeys(("REQUESTS_CA_BUNDLE", "ALIBABA_CLOUD_CA_BUNDLE", "CURL_CA_BUNDLE"), self.ca_file),
            **CREDENTIALS,
        }

    # The proxy

    async def serve(self) -> None:
        self.server = web.Server(self.handle, access_log=None)
        tunnels = set()
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                connection, _ = await self.loop.sock_accept(self.listener)
                tunnel = self.loop.create_task(self.open_tunnel(connection))
                tunnels.add(tunnel)
                tunnel.add_done_callback(tunnels.discard)
        await self.server.shutdown(0.01)  # seconds; 0 means no timeout
        unfinished = asyncio.all_tasks() - {self.serving}
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)

    async def open_tunnel(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                received = await self.loop.sock_recv(connection, 4096)
                if not received:
                    connection.close()
                    return
                head += received
            method, target = head.decode("latin-1").split(" ")[:2]
            host = target.partition(":")[0]
            self.tunnels[host] += 1
            self.under_way["connection"] += 1
            await asyncio.sleep(self.latency.get(region_of(host), self.latency.get("connection", 0)))
            self.under_way["connection"] -= 1
            if method != "CONNECT":
                self.leaks.append(f"plain HTTP: {method} {target}")
            status = self.faults.proxy_refusal
            exists = service_of(host) and region_of(host) not in CLOSED_REGIONS
            if method != "CONNECT" or not exists or host in self.faults.dead_hosts:
                status = "502 Bad Gateway"
            if status:
                await self.loop.sock_sendall(connection, f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
                connection.close()
                return
            await self.loop.sock_sendall(connection, b"HTTP/1.1 200 Connection established\r\n\r\n")
            await self.loop.connect_accepted_socket(self.server, connection, ssl=self.tls_context(host))

    def tls_context(self, host: str) -> ssl.SSLContext:
        if host not in self.tls:
            self.tls[host] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ca = trustme.CA() if host in self.faults.untrusted_hosts else self.ca
            name = f"not.{host}" if host in self.faults.misnamed_hosts else host
            ca.issue_cert(name).configure_cert(self.tls[host])
            refusal = ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME  # of a handshake with another server name, or none
            self.tls[host].sni_callback = lambda _, name, __: None if name == host else refusal
        return self.tls[host]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        service = service_of(request.host)
        query = dict(parse_qsl(urlsplit(request.raw_path).query, keep_blank_values=True))
        where = query.get("RegionId", "") if service == "ecs" else request.host
        what = query.get("Action", "") if service == "ecs" else request.path
        call = Call(service, what, where, 0, self.ecs.clock(), ids_in(query))
        if request.host != API_HOST and "Authorization" in request.headers:
            self.leaks.append(f"Authorization sent to {request.host}")
        if self.faults.on_call:
            self.faults.on_call(call)
        self.under_way[service] += 1
        try:
            await asyncio.sleep(self.latency.get(service, 0) + self.latency.get(where, 0))
            answer = self.answer_or_fault(service, request, query)
        finally:
            self.under_way[service] -= 1
        self.calls.append(call._replace(status=max(answer.status, 0)))
        return await self.send(answer, request)

    async def send(self, answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is None:  # the client has gone
            return web.Response()
        if answer == HANGS:
            await asyncio.Event().wait()
        if answer == LOST:
            request.transport.abort()
            raise asyncio.CancelledError
        body = answer.body
        if not isinstance(body, bytes):
            body = json.dumps(body).replace(REQUEST_ID, str(uuid.uuid4()).upper()).encode()
        return web.Response(status=answer.status, body=body, headers=answer.headers)

    def answer_or_fault(self, service: str, request: web.BaseRequest, query: dict[str, str]) -> Answer:
        happens = self.random.random() < self.faults.accidents
        instead, carried_out = self.random.choice(ACCIDENTS)
        if happens and not carried_out:
            return instead
        answer = self.answer(service, request, query)
        return instead if happens else answer

    def answer(self, service: str, request: web.BaseRequest, query: dict[str, str]) -> Answer:
        path = unquote(urlsplit(request.raw_path).path)
        url = f"https://{request.host}{path}"
        if service == "ecs":
            return self.ecs.answer(request.method, request.host, query)
        for fault in self.faults.failing:
            if fault.answer and fault.applies(url):
                return fault.answer
        if service == "store":
            return self.store.answer(path.removeprefix(STORE_ROOT))
        if request.host == API_HOST:
            headers = request.headers
            return self.github.answer_api(path, query, headers.get("Authorization", ""), headers.get("Accept", ""))
        return self.github.answer_raw(path)


def service_of(host: str) -> str:
    """github, store or ecs; empty for a host that does not exist in the sandbox."""
    return SERVICES.get(host, "ecs" if region_of(host) else "")


def region_of(host: str) -> str:
    """The region that this host is the ECS endpoint of, or an empty string."""
    region = host.removeprefix("ecs.").partition(".")[0]
    return region if host == ecs_host(region) else ""


# The command line

MOST_SPEED = 60  # Timeouts are shorter by this; with more, calls of a busy machine would time out.


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
    rows += [f"{kind:24}{before[kind]:8}{after[kind]:8}" for kind in before]
    rows += [f"bootimages untouched: {len(bootimages)} of {before['bootimage']}, tagged bootimage=true: {tagged}"]
    requests = Counter(f"ECS {call.what}" if call.service == "ecs" else call.service for call in sandbox.calls)
    rows += ["requests: " + ", ".join(f"{what} {count}" for what, count in sorted(requests.items()))]
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
    parser.add_argument("--builds", type=int, default=60, metavar="N", help="builds around the bootimages; default: 60")
    parser.add_argument("--latency", type=float, default=0, metavar="SECONDS", help="of each call and each connection")
    parser.add_argument("--calls-a-minute", type=int, metavar="N", help="of ECS, for each region and operation")
    parser.add_argument("--region-down", action="append", default=[], metavar="REGION", help="one that never answers")
    parser.add_argument("--outage", choices=OUTAGES, help=f"what goes wrong; a deletion in {OUTAGE_REGION}")
    parser.add_argument("--outage-seconds", type=float, metavar="N", help="when it ends, by the command's clock")
    parser.add_argument("--speed", type=float, default=1, metavar="N", help=f"of the clock, at most {MOST_SPEED}")
    parser.add_argument("--history", action="store_true", help="the real history of 4.10 and 4.11, and 60 builds each")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    args = parser.parse_args(argv)
    if args.speed > MOST_SPEED:
        parser.error(f"--speed {args.speed:g} is too much: with more than {MOST_SPEED}, healthy regions would time out")
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
    outage_end = time.monotonic() + (args.outage_seconds or 10**9) / args.speed
    for fault in faults.failing:
        fault.when = lambda _: time.monotonic() < outage_end
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
