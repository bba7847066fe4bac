"""GitHub in the sandbox."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from faults import Answer, Faults
from world import API_HOST, COMMITS_PATH, CONTENTS_PATH, GITHUB_TOKEN, STREAM_METADATA, World, version_path

RESET = 2_000_000_000
FILES_PER_PAGE = 300


class GitHubService:
    """The list of commits, one commit, and the file of each: https://docs.github.com/rest/commits/commits and
    https://docs.github.com/rest/repos/contents"""

    def __init__(self, world: World, faults: Faults) -> None:
        self.world = world
        self.faults = faults
        self.tokens: list[str] = []

    def answer_api(self, path: str, query: dict[str, str], token: str, accept: str) -> Answer:
        self.tokens.append(token)
        if token and token != f"Bearer {GITHUB_TOKEN}":
            return Answer(401, {"message": "Bad credentials"})
        if self.faults.github_budget is not None:
            self.faults.github_budget -= 1
            if self.faults.github_budget < 0:
                headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(RESET), "Retry-After": "3000"}
                return Answer(403, {"message": "API rate limit exceeded"}, headers)
        if path == COMMITS_PATH and query.get("path") == STREAM_METADATA:
            return self.list_commits(query)
        if path == CONTENTS_PATH:
            return self.show_contents(query, accept)
        if path.startswith(f"{COMMITS_PATH}/"):
            return self.show_commit(path, query)
        return Answer(404, {"message": "Not Found"})

    def list_commits(self, query: dict[str, str]) -> Answer:
        branch = query.get("sha", "")
        if branch not in self.world.branches:
            return Answer(404, {"message": f"No commit found for SHA: {branch}"})
        size = min(int(query.get("per_page", 30)), 100)
        whole = self.world.branches[branch][: self.faults.commits_listed]
        commits, headers = one_page(whole, size, COMMITS_PATH, query)
        headers = headers if self.faults.links is None else self.faults.links
        if int(query.get("page", 1)) in self.faults.empty_pages:
            return Answer(200, [])
        return Answer(200, [{"sha": commit} for commit in commits], headers)

    def show_commit(self, path: str, query: dict[str, str]) -> Answer:
        commit = path.rpartition("/")[2]
        if commit not in self.world.changed_files:
            return Answer(422, {"message": f"No commit found for SHA: {commit}"})
        files, headers = one_page(self.world.changed_files[commit], FILES_PER_PAGE, path, query)
        return Answer(200, {"sha": commit, "files": files}, headers)

    def show_contents(self, query: dict[str, str], accept: str) -> Answer:
        version = self.world.versions.get(query.get("ref", ""))
        if version is None:
            return Answer(404, {"message": "Not Found"})
        body = version if isinstance(version, bytes) else json.dumps(version).encode()
        if accept == "application/vnd.github.raw+json":
            return Answer(200, body)
        return Answer(200, {"encoding": "base64", "content": base64.b64encode(body).decode()})

    def answer_raw(self, path: str) -> Answer:
        if self.faults.raw_limit:
            return self.faults.raw_limit
        for commit, version in self.world.versions.items():
            if path == version_path(commit):
                return Answer(200, version)
        return Answer(404, b"404: Not Found")


def one_page(items: Sequence[Any], size: int, path: str, query: dict[str, str]) -> tuple[Sequence[Any], dict[str, str]]:
    """The items of the page that the query asks for, and a Link header if more follow."""
    page, last = int(query.get("page", 1)), -(-len(items) // size)
    links = {"next": page + 1, "last": last} if page < last else {}
    header = ", ".join(
        f'<https://{API_HOST}{path}?{urlencode({**query, "page": number})}>; rel="{rel}"'
        for rel, number in links.items()
    )
    return items[(page - 1) * size : page * size], {"Link": header} if header else {}
