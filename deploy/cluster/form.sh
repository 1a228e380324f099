#!/bin/sh
# Makes one cluster of the nodes in $NODES, HOST:PORT with spaces between them: the first half become primaries, and the others
# their replicas. Nodes that are a cluster already are left as they are. With a password it is in $REDISCLI_AUTH.
set -eu

addresses=
for node in $NODES; do
    host=${node%:*} port=${node##*:}
    until [ "$(redis-cli -h "$host" -p "$port" ping 2>/dev/null)" = PONG ]; do
        echo "waiting for $node"
        sleep 1
    done
    # Nodes know each other by addresses, not by names.
    addresses="$addresses $(getent ahostsv4 "$host" | awk 'NR == 1 { print $1 }'):$port"
done
# shellcheck disable=SC2086
set -- $addresses

if redis-cli -h "${1%:*}" -p "${1##*:}" cluster info | grep -q '^cluster_slots_assigned:16384'; then
    echo "they are a cluster already"
else
    redis-cli --cluster create "$@" --cluster-replicas 1 --cluster-yes
fi
