"""The ECS API in the sandbox."""

from __future__ import annotations

import base64
import hmac
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from faults import Answer, Faults, Refused
from world import KEY_ID, OTHER_KEY_ID, OTHER_SECRET, SECRET, STATUSES, EcsImage, World, ecs_host


class EcsService:
    """The four operations, with checks and error codes of the API reference; one clock for all regions."""

    def __init__(self, world: World, faults: Faults, clock: Callable[[], float]) -> None:
        self.world = world
        self.faults = faults
        self.clock = clock
        self.nonces: set[str] = set()
        self.signatures: set[str] = set()
        self.calls_in_minute: Counter[tuple[str, str, int]] = Counter()
        self.operations = {
            "DescribeImages": self.describe_images,
            "TagResources": self.tag_resources,
            "ModifyImageSharePermission": self.modify_image_share_permission,
            "DeleteImage": self.delete_image,
        }

    def answer(self, method: str, host: str, query: dict[str, str]) -> Answer:
        try:
            account = self.check_request(method, host, query)
            self.throttle(query["RegionId"], query["Action"])
            result = self.operations[query["Action"]](account, query)
        except Refused as refused:
            return refused.answer
        return Answer(200, {"RequestId": "00000000-0000-0000-0000-000000000000"} | result)

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
        secrets = {KEY_ID: SECRET, OTHER_KEY_ID: OTHER_SECRET}
        if query["AccessKeyId"] not in secrets:
            raise Refused(
                404, "InvalidAccessKeyId.NotFound", f"Specified access key {query['AccessKeyId']} is not found."
            )
        to_sign = string_to_sign(method, query)
        if query["Signature"] != signature(to_sign, secrets[query["AccessKeyId"]]):
            raise Refused(400, "SignatureDoesNotMatch", f"server string to sign is:{to_sign}")
        return query["AccessKeyId"]

    def throttle(self, region: str, operation: str) -> None:
        if operation in self.faults.throttled_operations:
            raise Refused(400, "Throttling", "Request was denied due to request throttling.")
        if self.faults.calls_a_minute is None:
            return
        minute = region, operation, int(self.clock() // 60)
        self.calls_in_minute[minute] += 1
        if self.calls_in_minute[minute] > self.faults.calls_a_minute:
            raise Refused(400, "Throttling.User", "Request was denied due to user flow control.")

    def find(self, account: str, region: str, id: str) -> EcsImage | None:
        """An image that the account may see, unless it has left the listing."""
        image = self.world.images.get(id)
        if image is None or image.region != region or not (image.owner == account or image.public):
            return None
        if image.deleted_at is not None and self.clock() - image.deleted_at >= self.faults.listing_lag:
            return None
        return image

    def find_own(self, account: str, region: str, id: str) -> EcsImage:
        image = self.find(account, region, id)
        if image is None:
            raise Refused(404, "InvalidImageId.NotFound", f"The specified image {id} does not exist.")
        if image.owner != account:
            raise Refused(403, "OperationDenied", "The image belongs to another account.")
        return image

    def describe_images(self, account: str, query: dict[str, str]) -> dict[str, Any]:
        size, page = int(query.get("PageSize", 10)), int(query.get("PageNumber", 1))
        ids = query["ImageId"].split(",") if "ImageId" in query else []
        statuses = query.get("Status", "Available").split(",")
        if not 1 <= size <= 100 or page < 1 or len(ids) > 100 or not set(statuses) <= set(STATUSES):
            raise Refused(400, "InvalidParameter")
        self.refuse_by_fault("DescribeImages", ids)
        visible = (self.find(account, query["RegionId"], id) for id in dict.fromkeys(ids or self.world.images))
        listed = [image for image in visible if image and image.status in statuses]
        if "ImageOwnerAlias" in query:
            listed = [image for image in listed if (image.owner == account) == (query["ImageOwnerAlias"] == "self")]
        return {
            "RegionId": query["RegionId"],
            "TotalCount": len(listed),
            "PageNumber": page,
            "PageSize": size,
            "Images": {"Image": [as_described(image, account) for image in listed[(page - 1) * size : page * size]]},
        }

    def tag_resources(self, account: str, query: dict[str, str]) -> dict[str, Any]:
        ids = [query[f"ResourceId.{n}"] for n in range(1, 1 + sum(name.startswith("ResourceId.") for name in query))]
        if not 1 <= len(ids) <= 50 or query.get("ResourceType") != "image":
            raise Refused(400, "InvalidParameter")
        self.refuse_by_fault("TagResources", ids)
        images = [self.find(account, query["RegionId"], id) for id in ids]
        if any(image is None or image.owner != account for image in images):
            raise Refused(404, "InvalidResourceId.NotFound")
        for image in images:
            assert image is not None
            image.tags[query["Tag.1.Key"]] = query["Tag.1.Value"]
        return {}

    def modify_image_share_permission(self, account: str, query: dict[str, str]) -> dict[str, Any]:
        self.refuse_by_fault("ModifyImageSharePermission", [query["ImageId"]])
        image = self.find_own(account, query["RegionId"], query["ImageId"])
        if query.get("IsPublic", "false") != "false":
            raise Refused(400, "InvalidParameter.IsPublic")
        if not image.public:
            raise Refused(403, "InvalidOperation.ImageNotPublic", "The image is not a community image.")
        image.public = False
        return {}

    def delete_image(self, account: str, query: dict[str, str]) -> dict[str, Any]:
        self.refuse_by_fault("DeleteImage", [query["ImageId"]])
        image = self.find_own(account, query["RegionId"], query["ImageId"])
        if image.public:
            raise Refused(403, "ImageIsPublic")
        if query.get("Force") == "true":
            raise Refused(403, "Forbidden.RAM", "The sandbox's policy does not grant Force.")
        if image.deleted_at is None:
            image.deleted_at = self.clock()
        return {}

    def refuse_by_fault(self, operation: str, ids: Iterable[str]) -> None:
        for id in ("", *ids):
            if (operation, id) in self.faults.refusals:
                raise self.faults.refusals[operation, id]


def as_described(image: EcsImage, account: str) -> dict[str, Any]:
    return {
        "ImageId": image.id,
        "ImageName": image.name,
        "ImageOwnerAlias": "self" if image.owner == account else "others",
        "IsPublic": image.public,
        "Status": image.status,
        "Tags": {"Tag": [{"TagKey": key, "TagValue": value} for key, value in image.tags.items()]},
        "DiskDeviceMappings": {"DiskDeviceMapping": [{"Device": "/dev/xvda", "SnapshotId": image.snapshot}]},
    }


def string_to_sign(method: str, query: dict[str, str]) -> str:
    encoded = [f"{quote(k, safe='~')}={quote(v, safe='~')}" for k, v in sorted(query.items()) if k != "Signature"]
    return f"{method}&%2F&{quote('&'.join(encoded), safe='~')}"


def signature(to_sign: str, secret: str) -> str:
    return base64.b64encode(hmac.digest(f"{secret}&".encode(), to_sign.encode(), "sha1")).decode()
