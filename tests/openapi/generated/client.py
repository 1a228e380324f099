"""The client that openapi-python-client generates, against the server."""

import sys
import uuid

from token_orchestrator_client import AuthenticatedClient
from token_orchestrator_client.api.key import delete_key, keep_key_alive, release_key, renew_lease, show_key
from token_orchestrator_client.api.many import keep_keys_alive, release_keys
from token_orchestrator_client.api.named import create_keys_in_pool, lease_key_in_pool, take_back_leases_in_pool
from token_orchestrator_client.api.pool import create_keys, lease_key, show_stats
from token_orchestrator_client.api.pools import delete_pool, list_keys, put_pool
from token_orchestrator_client.models import (
    Create, Details, Empty, Given, Info, Key, Keys, LeasedKey, Leases, Missing, NewKey, NewKeyLabels, Stats, TakenBack,
)


def main(url, token):
    # A status that the document does not have is an exception.
    with AuthenticatedClient(base_url=url, token=token, raise_on_unexpected_status=True) as client:
        one_key(client)
        many_keys(client)
        own_keys(client)
        refusals(client)
    with AuthenticatedClient(base_url=url, token="wrong", raise_on_unexpected_status=True) as stranger:
        answer = show_stats.sync(client=stranger)
        assert isinstance(answer, Details) and (answer.status, answer.type_) == (401, "/problems/unauthorized"), answer
    print("openapi-python-client: all is well")


def one_key(client):
    created = create_keys.sync_detailed(client=client)
    assert isinstance(created.parsed, Key) and created.headers["location"] == f"/keys/{created.parsed.key_id}", created
    key = created.parsed.key_id
    assert isinstance(key, uuid.UUID)

    leased = lease_key.sync_detailed(client=client, lease="30s", wait="1s")
    assert leased.parsed == LeasedKey(key_id=key) and leased.headers["lease-expires-at"], leased
    tag = leased.headers["etag"]
    info = show_key.sync(key, client=client)
    assert isinstance(info, Info) and info.is_blocked and info.created_at <= info.blocked_at, info

    renewed = renew_lease.sync_detailed(key, client=client, lease="45s", if_match=tag)
    assert renewed.parsed == Empty() and renewed.headers["etag"] == tag, renewed
    assert keep_key_alive.sync(key, client=client) == Empty()
    assert release_key.sync(key, client=client, cooldown="1ms", if_match=tag) == Empty()
    # With that the lease is over.
    stale = release_key.sync(key, client=client, if_match=tag)
    assert isinstance(stale, Details) and (stale.status, stale.type_) == (412, "/problems/stale-lease"), stale
    assert delete_key.sync(key, client=client) == Empty()


def many_keys(client):
    created = create_keys.sync(client=client, body=Create(count=3))
    assert isinstance(created, Keys) and len(created.key_ids) == 3, created
    leased = lease_key.sync(client=client, count=3)
    assert isinstance(leased, Leases) and all(lease.etag for lease in leased.keys), leased
    assert {str(lease.key_id) for lease in leased.keys} == set(created.key_ids), leased
    assert keep_keys_alive.sync(client=client, body=created) == Missing(missing=[])
    unknown = str(uuid.uuid4())
    answer = release_keys.sync(client=client, body=Keys(key_ids=[*created.key_ids, unknown]))
    assert answer == Missing(missing=[unknown]), answer
    stats = show_stats.sync(client=client)
    assert isinstance(stats, Stats) and (stats.free, stats.blocked) == (3, 0), stats
    for key in created.key_ids:
        assert delete_key.sync(uuid.UUID(key), client=client) == Empty()


def own_keys(client):
    put_pool.sync("own", client=client, body=Given(key_ttl="never"))
    labels = NewKeyLabels.from_dict({"plan": "pro"})
    imported = create_keys_in_pool.sync("own", client=client, body=Create(keys=[NewKey("sk-1", labels), NewKey("sk-2")]))
    assert isinstance(imported, Keys), imported
    [first, _] = map(uuid.UUID, imported.key_ids)
    leased = lease_key_in_pool.sync("own", client=client, label="plan:pro", holder="worker-7")
    assert leased == LeasedKey(key_id=first, value="sk-1"), leased
    [listed] = list_keys.sync("own", client=client, state="blocked").keys
    assert (listed.key_id, listed.holder, listed.labels.to_dict()) == (first, "worker-7", {"plan": "pro"}), listed
    assert take_back_leases_in_pool.sync("own", client=client, holder="worker-7") == TakenBack(released=1)
    assert delete_pool.sync("own", client=client, keys="delete") == Empty()


def refusals(client):
    nobody = uuid.uuid4()
    assert show_key.sync(nobody, client=client) == Empty()
    assert lease_key.sync_detailed(client=client).status_code == 404
    refused = lease_key.sync(client=client, lease="soon")
    assert isinstance(refused, Details) and (refused.status, refused.type_) == (400, "/problems/invalid-parameter"), refused
    refused = create_keys.sync(client=client, body=Create(count=0))
    assert isinstance(refused, Details) and (refused.status, refused.type_) == (422, "/problems/invalid-body"), refused


if __name__ == "__main__":
    main(*sys.argv[1:])
