"""GitHub in the sandbox."""

from __future__ import annotations

import base64
import json

from faults import Answer, Faults
from world import COMMITS_PATH, CONTENTS_PATH, GITHUB_TOKEN, STREAM_METADATA, World, version_path


class GitHubService:
    """The list of commits, and the file of each: https://docs.github.com/rest/commits/commits and
    https://docs.github.com/rest/repos/contents"""

    def __init__(self, world: World, faults: Faults) -> None:
        self.world = world
        self.faults = faults
        self.tokens: list[str] = []

    def answer_api(self, path: str, query: dict[str, str], token: str, accept: str) -> Answer:
        self.tokens.append(token)
        if token and token != f"Bearer {GITHUB_TOKEN}":
            return Answer(401, {"message": "Bad credentials"})
        if path == COMMITS_PATH and query.get("path") == STREAM_METADATA:
            return self.list_commits(query)
        if path == CONTENTS_PATH:
            return self.show_contents(query, accept)
        return Answer(404, {"message": "Not Found"})

    def list_commits(self, query: dict[str, str]) -> Answer:
        branch = query.get("sha", "")
        if branch not in self.world.branches:
            return Answer(404, {"message": f"No commit found for SHA: {branch}"})
        size, page = min(int(query.get("per_page", 30)), 100), int(query.get("page", 1))
        commits = self.world.branches[branch][: self.faults.commits_listed]
        return Answer(200, [{"sha": commit} for commit in commits[(page - 1) * size : page * size]])

    def show_contents(self, query: dict[str, str], accept: str) -> Answer:
        version = self.world.versions.get(query.get("ref", ""))
        if version is None:
            return Answer(404, {"message": "Not Found"})
        body = version if isinstance(version, bytes) else json.dumps(version).encode()
        if accept == "application/vnd.github.raw+json":
            return Answer(200, body)
        return Answer(200, {"encoding": "base64", "content": base64.b64encode(body).decode()})

    def answer_raw(self, path: str) -> Answer:
        for commit, version in self.world.versions.items():
            if path == version_path(commit):
                return Answer(200, version)
        return Answer(404, b"404: Not Found")
