package main

import "time"

// networkFaults: routes and ports, in a network namespace of our own.
func networkFaults() []fault {
	out := []words{into(degraded)}
	return []fault{
		{number: "F8", name: "metadata-prohibited", how: "a prohibit route to the JWT service at boot, for 10 s", keeps: "metrics and status", network: true, atBoot: true,
			inject: rules("prohibit", "ipproto tcp to 127.0.0.1 dport 18169"), until: []words{{"msg=failed", "action=fetch_jwt", "class=local", "prohibit route", "fix="}}, hold: 10 * time.Second, heal: mend, within: 35 * time.Second},
		{number: "F8", name: "metadata-unroutable", how: "an unreachable route to the JWT service at boot, for 10 s", keeps: "metrics and status", network: true, atBoot: true,
			inject: rules("unreachable", "ipproto tcp to 127.0.0.1 dport 18169"), until: []words{{"msg=failed", "action=fetch_jwt", "class=transient", "no route to it yet"}}, hold: 10 * time.Second, heal: mend},
		{number: "F14", name: "vault-partitioned", how: "packets to Vault dropped, open connections too", keeps: allKept, network: true, ttl: slow,
			inject: drop("ipproto tcp dport 18200 to " + vaultIP), until: out, hold: held, heal: mend, mustNot: fallen},
		{number: "F29", name: "gossip-udp-dropped", how: "UDP 8301 dropped both ways, TCP open, for 40 s", keeps: "all credentials, RPC", network: true,
			inject: drop("ipproto udp dport 8301"), hold: 40 * time.Second, heal: mend, mustNot: fallen, check: untouched},
		{number: "F29", name: "rpc-dropped", how: "TCP 8300 dropped, gossip fine", keeps: "all credentials, gossip", network: true,
			inject: drop("ipproto tcp dport 8300"), until: out, hold: 15 * time.Second, during: notReady, heal: mend, within: 20 * time.Second, mustNot: fallen, check: untouched},
		{number: "F29", name: "rpc-unroutable", how: "an unreachable route to TCP 8300, gossip fine", keeps: "all credentials, gossip", network: true,
			inject: rules("unreachable", "ipproto tcp dport 8300"), until: out, hold: 15 * time.Second, during: notReady, heal: mend, mustNot: fallen, check: untouched},
		{number: "F14", name: "rpc-connections-reset", how: "ss --kill of every connection to TCP 8300, ten times in 10 s", keeps: "all credentials, gossip", network: true, environment: []string{plainTCP},
			inject: breakConnections(10), hold: 10 * time.Second, mustNot: fallen, check: untouched},
		{number: "F29", name: "consul-partitioned", how: "all between agent and Consul dropped for 40 s", keeps: "all credentials", network: true,
			inject: drop("ipproto tcp dport 8300", "ipproto tcp dport 8301", "ipproto udp dport 8301"), until: out, hold: 40 * time.Second, during: notReady, heal: mend, within: 30 * time.Second, mustNot: fallen, check: untouched},
	}
}
