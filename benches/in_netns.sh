#!/usr/bin/env bash
# Runs a command in a network of its own: nothing but a loopback interface, and a kernel that forgets connections soon
# after they ended, so that there are ports for as many as one likes. With --tracked it also tracks connections and
# counts what they carry. Needs no root where the system lets everybody make user namespaces.
#
#   benches/in_netns.sh [--tracked] COMMAND [ARGUMENT…]
set -euo pipefail
tracked=
[[ ${1-} != --tracked ]] || { tracked=yes; shift; }
[[ $# -gt 0 ]] || { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2; }
export PATH="$PATH:/usr/sbin:/sbin" tracked

exec unshare --map-root-user --net -- bash -euc '
    ip link set lo up
    echo 1000 > /proc/sys/net/ipv4/tcp_max_tw_buckets
    if [[ $tracked ]]; then
        nft "add table inet nettrace
             add chain inet nettrace track { type filter hook output priority 0; }
             add rule inet nettrace track ct state new"
        echo 1 > /proc/sys/net/netfilter/nf_conntrack_acct
    fi
    exec "$@"' in_netns "$@"
