"""GitHub, the RHCOS store and the ECS API in the sandbox."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote

from faults import FORBIDDEN, REQUEST_ID, THROTTLED, Answer, Faults, Refused
from world import GITHUB_TOKEN, KEY_ID, SECRETS, STREAM_METADATA, TOKENS, EcsImage, EcsSnapshot, World, ecs_host

REPOSITORY = "/repos/openshift/installer"
README = Path(__file__).parent.parent / "README.md"
STATUSES = ("Creating", "Waiting", "Available", "UnAvailable", "CreateFailed", "Deprecated")
# The tag of what another account shares (aliyun/oos-templates)
SHARED = "acs:ecs:sharedFrom"
# A meta.json is 100 to 300 KB, most of it the list of packages.
PACKAGE = ["package-" + "x" * 40, "0", "1.0", "1.el8", "x86_64"]
PACKAGES = json.dumps({"commitmeta": {"pkglist": [PACKAGE] * 1500}}).encode()


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
        if path == f"{REPOSITORY}/commits" and query.get("path") == STREAM_METADATA:
            return self.list_commits(query)
        if path == f"{REPOSITORY}/contents/{STREAM_METADATA}":
            return self.show_contents(query, accept)
        return Answer(404, {"message": "Not Found"})

    def list_commits(self, query: dict[str, str]) -> Answer:
        start = query.get("sha", "")  # a branch, or the SHA of a commit; its history cannot change
        branch = next((name for name, commits in self.world.branches.items() if start in (name, *commits)), "")
        if not branch:
            return Answer(404, {"message": f"No commit found for SHA: {start}"})
        size, page = min(int(query.get("per_page", 30)), 100), int(query.get("page", 1))
        commits = self.world.branches[branch]
        commits = commits[commits.index(start) if start in commits else 0 :][: self.faults.commits_listed]
        return Answer(200, [{"sha": commit} for commit in commits[(page - 1) * size : page * size]])

    def show_contents(self, query: dict[str, str], accept: str) -> Answer:
        version = self.world.versions.get(query.get("ref", ""))
        if version is None:
            return Answer(404, {"message": "Not Found"})
        if accept == "application/vnd.github.raw+json":
            return Answer(200, version)
        return Answer(200, {"encoding": "base64", "content": base64.b64encode(json.dumps(version).encode()).decode()})

    def answer_raw(self, path: str) -> Answer:
        for commit, version in self.world.versions.items():
            if path == f"/openshift/installer/{commit}/{STREAM_METADATA}":
                return Answer(200, version)
        return Answer(404, b"404: Not Found")


class StoreService:
    """Serves builds.json and meta.json, by their paths below STORE_ROOT; anything else is a 403."""

    def __init__(self, world: World) -> None:
        self.world = world

    def answer(self, path: str) -> Answer:
        for directory, builds in self.world.listings.items():
            if path == f"{directory}/builds.json":
                pruned = self.world.tombstones.get(directory)
                return Answer(200, {"builds": builds} | ({"tombstone-builds": pruned} if pruned else {}))
        if path in self.world.metas:
            meta = json.dumps(self.world.metas[path]).encode()
            return Answer(200, meta[:-1] + b"," + PACKAGES[1:])
        return Answer(403, b"<Error><Code>AccessDenied</Code></Error>")


class EcsService:
    """The operations on images and snapshots, with checks and error codes of the API reference; one clock for all."""

    def __init__(self, world: World, faults: Faults, clock: Callable[[], float]) -> None:
        self.world = world
        self.faults = faults
        self.clock = clock
        self.policy = faults.policy or read_policy()
        self.nonces: set[str] = set()
        self.signatures: set[str] = set()
        self.calls_in_minute: Counter[tuple[str, str, int]] = Counter()
        self.leaves_at: dict[str, float] = {}  # when each deleted image leaves the listing, by ID
        self.operations = {
            "DescribeImages": self.describe_images,
            "DescribeSnapshots": self.describe_snapshots,
            "TagResources": self.tag_resources,
            "ModifyImageSharePermission": self.modify_image_share_permission,
            "DeleteImage": self.delete_image,
            "DeleteSnapshot": self.delete_snapshot,
        }

    def answer(self, method: str, host: str, query: dict[str, str]) -> Answer:
        try:
            account = self.check_request(method, host, query)
            operation, region, ids = query["Action"], query["RegionId"], ids_in(query)
            if self.is_throttled(region, operation):
                return THROTTLED
            faults = [fault for fault in self.faults.failing if fault.applies(operation, region, ids)]
            for fault in faults:
                if fault.answer:
                    return fault.answer
            if not self.is_allowed(account, query):
                return FORBIDDEN
            result = self.operations[operation](account, query)
        except Refused as refused:
            return refused.answer
        for fault in faults:
            if fault.late:
                return fault.late
        return Answer(200, {"RequestId": REQUEST_ID} | result)

    def check_request(self, method: str, host: str, query: dict[str, str]) -> str:
        """Check the common parameters and the signature, as described at
        https://www.alibabacloud.com/help/en/sdk/product-overview/rpc-mechanism; the account that signed."""
        for name in ("Action", "RegionId", "AccessKeyId", "Signature", "SignatureNonce", "Timestamp"):
            if not query.get(name):
                raise Refused(400, f"Missing{name}")
        if query["Action"] not in self.operations or query.get("Version") != "2014-05-26":
            raise Refused(404, "InvalidAction.NotFound")
        if host != ecs_host(query["RegionId"]):
            raise Refused(404, "InvalidRegionId.NotFound")
        signed = datetime.strptime(query["Timestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        if abs((datetime.now(timezone.utc) - signed).total_seconds()) > 900:
            raise Refused(400, "InvalidTimeStamp.Expired")
        if query["SignatureNonce"] in self.nonces:
            raise Refused(400, "SignatureNonceUsed")
        self.nonces.add(query["SignatureNonce"])
        self.signatures.add(query["Signature"])
        key_id = query["AccessKeyId"]
        if key_id not in SECRETS:
            raise Refused(404, "InvalidAccessKeyId.NotFound", f"Specified access key {key_id} is not found.")
        to_sign = string_to_sign(method, query)
        if query["Signature"] != signature(to_sign, SECRETS[key_id]):
            raise Refused(400, "SignatureDoesNotMatch", f"server string to sign is:{to_sign}")
        return account_of(key_id, query)

    def is_throttled(self, region: str, operation: str) -> bool:
        minute = region, operation, int(self.clock() // 60)
        self.calls_in_minute[minute] += 1
        return self.faults.calls_a_minute is not None and self.calls_in_minute[minute] > self.faults.calls_a_minute

    def is_allowed(self, account: str, query: dict[str, str]) -> bool:
        """Whether the policy of the account's key allows a call. For Describe operations there are no resources."""
        if account != KEY_ID:
            return True
        if query.get("Force") == "true":
            return False
        operation, region = query["Action"], query["RegionId"]
        if operation.startswith("Describe"):
            return allows(self.policy, f"ecs:{operation}", "*", {})
        requested = {f"acs:RequestTag/{key}": value for key, value in tags_in(query).items()}
        for id in ids_in(query):
            kind = "snapshot" if id.startswith("s-") else "image"
            found = self.world.snapshots.get(id) or self.world.images.get(id)
            tags = {f"acs:ResourceTag/{key}": value for key, value in found.tags.items()} if found else {}
            resource = f"acs:ecs:{region}:{account}:{kind}/{id}"
            if not allows(self.policy, f"ecs:{operation}", resource, requested | tags):
                return False
        return True

    def find(self, account: str, region: str, id: str) -> EcsImage | None:
        """An image that the account may see, unless it has left the listing."""
        image = self.world.images.get(id)
        if image is None or image.region != region or not (image.owner == account or image.public):
            return None
        if image.deleted_at is None:
            return image
        is_gone = self.clock() >= self.leaves_at.get(id, image.deleted_at + self.faults.listing_lag)
        return None if is_gone else image

    def find_own(self, account: str, region: str, id: str) -> EcsImage:
        image = self.find(account, region, id)
        if image is None:
            raise Refused(404, "InvalidImageId.NotFound", f"The specified image {id} does not exist.")
        if image.owner != account:
            raise Refused(403, "OperationDenied", "The image belongs to another account.")
        return image

    def find_snapshot(self, account: str, region: str, id: str) -> EcsSnapshot | None:
        snapshot = self.world.snapshots.get(id)
        if snapshot is None or not snapshot.listed or snapshot.region != region:
            return None
        return snapshot if snapshot.owner == account or SHARED in snapshot.tags else None

    def describe_images(self, account: str, query: dict[str, str]) -> dict[str, Any]:
        ids = query["ImageId"].split(",") if "ImageId" in query else []
        statuses = query.get("Status", "Available").split(",")
        if len(ids) > 100 or not set(statuses) <= set(STATUSES):
            raise Refused(400, "InvalidParameter")
        visible = (self.find(account, query["RegionId"], id) for id in dict.fromkeys(ids or self.world.images))
        listed = [image for image in visible if image and image.status in statuses]
        if "ImageOwnerAlias" in query:
            listed = [image for image in listed if (image.owner == account) == (query["ImageOwnerAlias"] == "self")]
        images = [as_described(image, account) for image in listed[page_in(query)]]
        return {"TotalCount": len(listed), "Images": {"Image": images}}

    def describe_snapshots(self, account: str, query: dict[str, str]) -> dict[str, Any]:
        ids = snapshots_in(query)
        if ids is None or len(ids) > 100:
            raise Refused(400, "InvalidParameter")
        wanted = dict.fromkeys(ids or self.world.snapshots)
        found = (self.find_snapshot(account, query["RegionId"], id) for id in wanted)
        listed = [snapshot for snapshot in found if snapshot]
        shown_without = self.faults.untagged_shown_without_tags
        snapshots = [
            {"SnapshotId": snapshot.id, "Status": "accomplished"}
            | ({} if shown_without and not snapshot.tags else {"Tags": described_tags(snapshot.tags)})
            for snapshot in listed[page_in(query)]
        ]
        return {"TotalCount": len(listed), "Snapshots": {"Snapshot": snapshots}}

    def tag_resources(self, account: str, query: dict[str, str]) -> dict[str, Any]:
        ids = ids_in(query)
        if not 1 <= len(ids) <= 50 or query.get("ResourceType") not in ("image", "snapshot"):
            raise Refused(400, "InvalidParameter")
        find = self.find if query["ResourceType"] == "image" else self.find_snapshot
        found: list[EcsImage | EcsSnapshot | None] = [find(account, query["RegionId"], id) for id in ids]
        own = [resource for resource in found if resource and resource.owner == account]
        if len(own) < len(ids):
            raise Refused(404, "InvalidResourceId.NotFound")
        for resource in own:
            # Keys are unique without regard to case (cloudfoundry/bosh-alicloud-cpi-release#162).
            others = {key.casefold() for key in resource.tags if key not in tags_in(query)}
            if others & {key.casefold() for key in tags_in(query)}:
                raise Refused(400, "TagKey.Duplication", "The Tag.N.Key contain duplicate key.")
        for resource in own:
            resource.tags.update(tags_in(query))
        return {}

    def modify_image_share_permission(self, account: str, query: dict[str, str]) -> dict[str, Any]:
        image = self.find_own(account, query["RegionId"], query["ImageId"])
        if query.get("IsPublic", "false") != "false":
            raise Refused(400, "InvalidParameter.IsPublic")
        if not image.public:
            raise Refused(403, "Image.NotPublic", "The image is not a community image.")
        image.public = False
        return {}

    def delete_image(self, account: str, query: dict[str, str]) -> dict[str, Any]:
        if self.faults.ignore_missing and not self.find(account, query["RegionId"], query["ImageId"]):
            return {}
        image = self.find_own(account, query["RegionId"], query["ImageId"])
        if image.public:
            raise Refused(403, "ImageIsPublic")
        if image.usage == "instance":
            raise Refused(403, "ImageUsingByInstance", "The image is used by an instance.")
        if image.deleted_at is None:
            image.deleted_at = self.clock()
            interval = 1 / self.faults.leaving_rate if self.faults.leaving_rate else 0
            last = max(self.leaves_at.values(), default=0.0)
            self.leaves_at[image.id] = max(image.deleted_at + self.faults.listing_lag, last + interval)
        return {}

    def delete_snapshot(self, account: str, query: dict[str, str]) -> dict[str, Any]:
        snapshot = self.find_snapshot(account, query["RegionId"], query["SnapshotId"])
        if snapshot is None:
            raise Refused(404, "InvalidSnapshotId.NotFound", "The specified snapshot does not exist.")
        if snapshot.owner != account:
            raise Refused(403, "Forbidden.RAM")
        # It is not free for some seconds after its image has left the listing (terraform-provider-alicloud#3403).
        behind = [image for image in self.world.images.values() if snapshot.id in image.snapshots]
        left_at = [self.leaves_at[image.id] for image in behind if image.id in self.leaves_at]
        is_free = all(self.clock() >= at + self.faults.snapshot_lag for at in left_at)
        if any(image.listed for image in behind) or not is_free:
            raise Refused(403, "SnapshotCreatedImage", "An image was created from the snapshot.")
        if snapshot.disk:
            raise Refused(403, "SnapshotCreatedDisk", "A disk was created from the snapshot.")
        snapshot.deleted_at = self.clock()
        return {}


def read_policy() -> Any:
    """The RAM policy that the README shows. The sandbox enforces it on every call."""
    blocks = re.findall(r"```json\n(.*?)```", README.read_text(), re.DOTALL)
    return next(policy for policy in map(json.loads, blocks) if "Statement" in policy)


def as_list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def allows(policy: Any, action: str, resource: str, tags: Mapping[str, str]) -> bool:
    """Whether the policy allows this action, such as ecs:DeleteImage, on a resource; `tags` by condition key.

    Elements and precedence: https://www.alibabacloud.com/help/doc-detail/93738.htm ("Policy elements"): Deny comes
    before Allow; all keys of a condition must match. Tags as conditions (`acs:ResourceTag/KEY` is a tag on the
    resource, `acs:RequestTag/KEY` one in the request): "Use tags to control resource access" in the documentation of
    Resource Management. Assumed, because it is not documented: a key in a condition matches a tag's key only if both
    are written alike, and one denied resource denies the whole call.
    """
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


def account_of(key_id: str, query: Mapping[str, str]) -> str:
    """The account of a key, by the name of its permanent key; a temporary one needs its token."""
    if key_id not in TOKENS:
        return key_id
    if query.get("SecurityToken") != TOKENS[key_id]:  # Of the codes that are seen then, this one is sent here.
        raise Refused(400, "MissingSecurityToken")
    return KEY_ID


def ids_in(query: Mapping[str, str]) -> tuple[str, ...]:
    """The images or snapshots that a call names."""
    resources = [value for name, value in query.items() if name.startswith("ResourceId.")]
    images = query["ImageId"].split(",") if "ImageId" in query else []
    snapshots = [query["SnapshotId"]] if "SnapshotId" in query else snapshots_in(query) or []
    return (*resources, *images, *snapshots)


def snapshots_in(query: Mapping[str, str]) -> list[str] | None:
    """SnapshotIds, a JSON list; None if it is something else."""
    try:
        ids = json.loads(query.get("SnapshotIds", "[]"))
    except ValueError:
        return None
    return ids if isinstance(ids, list) else None


def page_in(query: Mapping[str, str]) -> slice:
    """What a listing is to show. One filtered by tags, which the vendor's SDK says to be cut at 1,000, is refused."""
    size, page = int(query.get("PageSize", 10)), int(query.get("PageNumber", 1))
    if not 1 <= size <= 100 or page < 1 or tags_in(query):
        raise Refused(400, "InvalidParameter")
    return slice((page - 1) * size, page * size)


def tags_in(query: Mapping[str, str]) -> dict[str, str]:
    """Tag.1.Key and Tag.1.Value, and so on."""
    keys = {name: value for name, value in query.items() if name.startswith("Tag.") and name.endswith(".Key")}
    return {key: query.get(name.replace(".Key", ".Value"), "") for name, key in keys.items()}


def described_tags(tags: Mapping[str, str]) -> dict[str, Any]:
    return {"Tag": [{"TagKey": key, "TagValue": value} for key, value in tags.items()]}


def as_described(image: EcsImage, account: str) -> dict[str, Any]:
    disks = [{"Device": f"/dev/xvd{n}", "SnapshotId": id} for n, id in enumerate(image.snapshots)]
    return {
        "ImageId": image.id,
        "ImageName": image.name,
        "ImageOwnerAlias": "self" if image.owner == account else "others",
        "IsPublic": image.public,
        "Status": image.status,
        "Usage": image.usage,
        "Tags": described_tags(image.tags),
        "DiskDeviceMappings": {"DiskDeviceMapping": disks if image.disks_shown else []},
    }


def string_to_sign(method: str, query: dict[str, str]) -> str:
    encoded = [f"{quote(k, safe='~')}={quote(v, safe='~')}" for k, v in sorted(query.items()) if k != "Signature"]
    return f"{method}&%2F&{quote('&'.join(encoded), safe='~')}"


def signature(to_sign: str, secret: str) -> str:
    return base64.b64encode(hmac.digest(f"{secret}&".encode(), to_sign.encode(), "sha1")).decode()
