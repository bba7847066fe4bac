"""The RHCOS store in the sandbox."""

from __future__ import annotations

import json

from faults import Answer
from world import STORE_ROOT, World, builds_path

# A meta.json is 100 to 300 KB, most of it the list of packages.
PACKAGES = json.dumps(
    {"commitmeta": {"pkglist": [["package-" + "x" * 40, "0", "1.0", "1.el8", "x86_64"]] * 1500}}
).encode()


class StoreService:
    """builds.json and meta.json, with 403 for everything else."""

    def __init__(self, world: World) -> None:
        self.world = world

    def answer(self, path: str) -> Answer:
        path = path.removeprefix(STORE_ROOT)
        for directory, builds in self.world.listings.items():
            if path == builds_path(directory):
                return Answer(200, {"schema-version": "1.0.0", "builds": builds})
        if path in self.world.metas:
            return Answer(200, json.dumps(self.world.metas[path]).encode()[:-1] + b"," + PACKAGES[1:])
        return Answer(403, b"<Error><Code>AccessDenied</Code></Error>")
