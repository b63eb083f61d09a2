"""The list of shards, read strictly: hostile texts give one error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shardlist import shard_list, shard_list_name
from processors.integrity.shardlist import ShardListError, parse_shard_list
from schemas.note import Ed25519Signer, parse_note

NAME = shard_list_name("log.example")


def test_what_the_sealer_writes_is_read() -> None:
    places = [("device.events", 0), ("device.events", 1), ("alerts", 0)]
    origins = {place: f"log.example/{place[0]}/{place[1]}" for place in places}
    signer = Ed25519Signer.from_seed(NAME, bytes(32))
    data = shard_list(signer, {"device.events": "A", "alerts": "B"}, origins, {("device.events", 1): "A.2"})
    assert parse_shard_list(parse_note(data).text, NAME) == {
        "log.example/device.events/0": "A",
        "log.example/device.events/1": "A.2",
        "log.example/alerts/0": "B",
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "other/shards\n0\n",
        f"{NAME}\n1\n",
        f"{NAME}\n1\na A",
        f"{NAME}\n2\na A\n",
        f"{NAME}\n2\na A\na B\n",
        f"{NAME}\n1\na\n",
        f"{NAME}\n1\n A\n",
        f"{NAME}\n01\na A\n",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ShardListError):
        parse_shard_list(text, NAME)


@given(st.text(max_size=200))
def test_hostile_texts_give_one_error(text: str) -> None:
    with pytest.raises(ShardListError):
        parse_shard_list(f"{NAME}\nx{text}", NAME)
