#!/usr/bin/env bash
# Runs a command in a network namespace of its own, with only a loopback interface. The kernel there keeps few connections
# in TIME_WAIT, so that ports do not run out. With --tracked it also tracks connections and
# counts their bytes. Needs no root on systems that allow unprivileged user namespaces.
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
