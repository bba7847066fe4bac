"""GitHub in the sandbox."""

from __future__ import annotations

from urllib.parse import urlencode

from faults import Answer
from world import API_HOST, COMMITS_PATH, GITHUB_TOKEN, STREAM_METADATA, World, version_path


class GitHubService:
    """The list of commits, and the files of each: https://docs.github.com/rest/commits/commits#list-commits"""

    def __init__(self, world: World) -> None:
        self.world = world
        self.budget: int | None = None  # API calls that are left in this hour
        self.reset = 2_000_000_000
        self.tokens: list[str] = []

    def answer_api(self, path: str, query: dict[str, str], token: str) -> Answer:
        self.tokens.append(token)
        if token and token != f"Bearer {GITHUB_TOKEN}":
            return Answer(401, {"message": "Bad credentials"})
        if self.budget is not None:
            self.budget -= 1
            if self.budget < 0:
                headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(self.reset), "Retry-After": "3000"}
                return Answer(403, {"message": "API rate limit exceeded"}, headers)
        if path != COMMITS_PATH or query.get("path") != STREAM_METADATA:
            return Answer(404, {"message": "Not Found"})
        branch = query.get("sha", "")
        if branch not in self.world.branches:
            return Answer(404, {"message": f"No commit found for SHA: {branch}"})
        size, page = min(int(query.get("per_page", 30)), 100), int(query.get("page", 1))
        commits = self.world.branches[branch]
        headers = {}
        if len(commits) > page * size:
            link = f"https://{API_HOST}{path}?{urlencode({**query, 'per_page': size, 'page': page + 1})}"
            headers["Link"] = f'<{link}>; rel="next", <{link}>; rel="last"'
        return Answer(200, [{"sha": commit} for commit in commits[(page - 1) * size : page * size]], headers)

    def answer_raw(self, path: str) -> Answer:
        for commit, version in self.world.versions.items():
            if path == version_path(commit):
                return Answer(200, version)
        return Answer(404, b"404: Not Found")
