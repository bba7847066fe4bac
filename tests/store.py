"""The RHCOS store in the sandbox."""

from __future__ import annotations

import json
from typing import Any

from faults import Answer
from world import STORE_ROOT, World, builds_path

# A meta.json is 100 to 300 KB, most of it the list of packages.
PACKAGES = json.dumps(
    {"commitmeta": {"pkglist": [["package-" + "x" * 40, "0", "1.0", "1.el8", "x86_64"]] * 1500}}
).encode()


class StoreService:
    """Serves builds.json and meta.json; anything else is a 403."""

    def __init__(self, world: World) -> None:
        self.world = world

    def answer(self, path: str) -> Answer:
        path = path.removeprefix(STORE_ROOT)
        for directory, builds in self.world.listings.items():
            if path == builds_path(directory):
                return Answer(200, {"schema-version": "1.0.0", "builds": builds} | self.tombstones(directory))
        if path in self.world.metas:
            return Answer(200, with_packages(self.world.metas[path]))
        return Answer(403, b"<Error><Code>AccessDenied</Code></Error>")

    def tombstones(self, directory: str) -> dict[str, Any]:
        builds = self.world.tombstones.get(directory)
        return {"tombstone-builds": builds} if builds else {}


def with_packages(meta: Any) -> bytes:
    body = json.dumps(meta).encode()
    return body[:-1] + b"," + PACKAGES[1:] if isinstance(meta, dict) and meta else body
