"""RAM policies, as far as the README's policy uses them. The sandbox enforces that policy on every call.

Elements and precedence: https://www.alibabacloud.com/help/doc-detail/93738.htm ("Policy elements"): Deny comes before
Allow; all keys of a condition must match. Tags as conditions (`acs:ResourceTag/KEY` is a tag on the resource,
`acs:RequestTag/KEY` one in the request): "Use tags to control resource access" in the documentation of Resource
Management. Assumed, because it is not documented: a key in a condition matches a tag's key only if both are written
alike, and one denied resource denies the whole call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

README = Path(__file__).parent.parent / "README.md"


def read_policy() -> Any:
    """The policy that the README shows."""
    blocks = re.findall(r"```json\n(.*?)```", README.read_text(), re.DOTALL)
    return next(policy for policy in map(json.loads, blocks) if "Statement" in policy)


def as_list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def allows(policy: Any, action: str, resource: str, tags: Mapping[str, str]) -> bool:
    """Whether the policy allows this action, such as ecs:DeleteImage, on a resource; `tags` by condition key."""
    effects = {s["Effect"] for s in policy["Statement"] if applies(s, action, resource, tags)}
    return effects == {"Allow"}


def applies(statement: Any, action: str, resource: str, tags: Mapping[str, str]) -> bool:
    conditions = statement.get("Condition", {"StringEqualsIgnoreCase": {}})
    assert conditions.keys() == {"StringEqualsIgnoreCase"}, "The sandbox knows no other operator."
    matches = [tags.get(k, "").casefold() == v.casefold() for k, v in conditions["StringEqualsIgnoreCase"].items()]
    return (
        any(fnmatchcase(action, pattern) for pattern in as_list(statement["Action"]))
        and any(fnmatchcase(resource, pattern) for pattern in as_list(statement["Resource"]))
        and all(matches)
    )
