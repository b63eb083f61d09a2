"""Numbered alerts of a party, and an output that is sent them."""

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Any

from pipeline.deliver.delivery import Delivery, read_delivery
from pipeline.deliver.sinks import make_sink
from processors.model import RawRecord
from schemas.partyoutputs import Output, SecretRef
from tests.kit.receivers import LOOPBACK
from tests.kit.subscribed import alert_record

LOOP = (ipaddress.ip_network(LOOPBACK),)


def delivery(number: int, uid: str = "", **changes: Any) -> Delivery:
    key, value, headers = alert_record(uid or f"device.findings/0/{number}", **changes)
    told = [
        ("party", b"soc"),
        ("party.sequence", b"%d" % number),
        ("source", b"alerts/0/%d" % (100 + number)),
    ]
    return read_delivery(RawRecord("alerts.soc", 0, number, 1_700_000_000_000, key, value, (*headers, *told)))


def output(kind: str, **members: Any) -> Output:
    return Output("one", kind, allow=LOOP, **{"secret": SecretRef(env="ONE_SECRET"), **members})


def send(one: Output, *batches: Sequence[Delivery]) -> None:
    async def all_of_them() -> None:
        sink = make_sink(one, "hospital.example")
        try:
            for batch in batches:
                await sink.send(batch)
        finally:
            await sink.reset()

    asyncio.run(all_of_them())
