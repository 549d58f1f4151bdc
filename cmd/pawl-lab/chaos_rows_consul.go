package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// joinSpread is after how long gossip has told every server of a join. A force-leave
// before that can have the join's own Lamport time, and then neither is newer: Serf
// keeps the node as leaving, and the node has nothing to refute.
const joinSpread = 5 * time.Second

// consulFaults: the servers, and what they know of us.
func consulFaults() []fault {
	out := []words{into(degraded)}
	return []fault{
		{number: "F28", name: "consul-killed", how: "the one server: SIGKILL for 15 s", keeps: allKept,
			inject: inLab("kill", "consul"), until: out, hold: 15 * time.Second, during: inOrder(notReady, standing("consul_unreachable")), heal: inLab("start", "consul"), mustNot: fallen, check: untouched},
		{number: "F14", name: "consul-paused", how: "the one server: SIGSTOP for 15 s", keeps: allKept,
			inject: inLab("pause", "consul"), until: out, hold: 15 * time.Second, during: notReady, heal: inLab("resume", "consul"), mustNot: fallen, check: untouched},
		{number: "F28", name: "consul-leader-killed", how: "the leader of three servers: SIGKILL for 15 s", keeps: allKept, servers: 3,
			inject: onLeader("kill"), hold: 15 * time.Second, heal: startAll, mustNot: fallen, check: untouched},
		{number: "F28", name: "consul-no-leader", how: "two of three servers: SIGKILL for 15 s", keeps: allKept, servers: 3,
			inject: inLab("kill", "consul-1", "consul-2"), until: out, hold: 15 * time.Second, during: notReady, heal: startAll, mustNot: fallen, check: untouched},
		{number: "F11", name: "consul-follower-lags", how: "a follower of three: SIGSTOP over a new epoch", keeps: allKept, servers: 3, ttl: slow,
			inject: onFollower("pause"), hold: 75 * time.Second, heal: onPaused, mustNot: fallen, check: sameAgent},
		{number: "F11", name: "consul-follower-cut-off", how: "a follower of three: TCP 8300 between it and the others dropped, over a new epoch; it answers us", keeps: allKept, servers: 3, ttl: slow, network: true,
			inject: cutOffFollower, hold: 100 * time.Second, heal: mend, mustNot: fallen, check: rotated},
		{number: "F5", name: "consul-replaced", how: "all three servers: SIGKILL; three new ones at other addresses with the old state, DNS changed", keeps: runsOn, servers: 3, spares: 3,
			inject: killServers, until: out, heal: replaceServers(true), within: repair, mustNot: fallen, check: untouched},
		{number: "F5", name: "consul-replaced-empty", how: "the same, but the new servers know nothing and are set up anew", keeps: runsOn, servers: 3, spares: 3, consulForgets: true,
			inject: killServers, until: out, heal: replaceServers(false), within: 60 * time.Second, check: sameAgent},
		{number: "F2", name: "node-deregistered", how: "taken out of the catalogue by the operator", keeps: allKept, consulForgets: true,
			inject: deregister, hold: 12 * time.Second, mustNot: []string{noIdentity, hasJWT, vaultAuthed}, check: untouched},
		{number: "F30", name: "force-left", how: "consul force-leave of the living node", keeps: allKept, age: joinSpread, servers: 3, // with one, Serf has nobody left to tell of it, and the node cannot refute
			inject: forceLeave, hold: 12 * time.Second, mustNot: []string{noIdentity, hasJWT, vaultAuthed}, consulForgets: true, check: untouched},
		{number: "F16", name: "name-lost", how: "another agent takes the node's name while this one is under SIGSTOP; it leaves after Serf has voted", keeps: "credentials", exporterHit: true, consulForgets: true,
			inject: loseName, until: []words{{"msg=service", "serf stopped by itself"}, into(degraded)}, hold: held, heal: endImpostor, within: patient, check: keepsName},
	}
}

// onLeader gives the lab an order for the server that leads.
func onLeader(command string) deed { return onOne(command, true) }

// onFollower gives the lab an order for one that does not.
func onFollower(command string) deed { return onOne(command, false) }

func onOne(command string, leads bool) deed {
	return func(ctx context.Context, s *scene) error {
		leader := s.lab.consul.leader(ctx)
		for n := range s.lab.record.Consul.Names {
			if leader != "" && strings.HasPrefix(leader, consulIP(n+1)+":") == leads {
				s.chosen = consulNode(n + 1)
				return inLab(command, s.chosen)(ctx, s)
			}
		}
		return fmt.Errorf("no such server; the leader is %q", leader)
	}
}

// cutOffFollower parts a server that does not lead from the others: it soon has no
// leader, knows nothing that is written from then on, and goes on answering what
// may be stale.
func cutOffFollower(ctx context.Context, s *scene) error {
	leader := s.lab.consul.leader(ctx)
	servers := len(s.lab.record.Consul.Names)
	cut := consulIP(servers)
	if leader == "" || strings.HasPrefix(leader, cut+":") {
		cut = consulIP(servers - 1)
	}
	var ways []string
	for n := range servers {
		if other := consulIP(n + 1); other != cut {
			ways = append(ways, "ipproto tcp dport 8300 from "+cut+" to "+other, "ipproto tcp dport 8300 from "+other+" to "+cut)
		}
	}
	return drop(ways...)(ctx, s)
}

// rotated checks that a new epoch came, and that nothing was wrong with its credentials.
func rotated(ctx context.Context, s *scene) (string, error) {
	_, err := replaced("consul_token")(ctx, s)
	if line, refused := s.log.find(s.logged, words{"msg=failed", "action=verify_credentials"}); refused {
		err = errors.Join(err, fmt.Errorf("the server that is cut off had a say: %s", line))
	}
	return "a new epoch", err
}

// onPaused resumes the server that was chosen.
func onPaused(ctx context.Context, s *scene) error { return inLab("resume", s.chosen)(ctx, s) }

// startAll starts every server that does not run.
func startAll(ctx context.Context, s *scene) error {
	return inLab("start", s.lab.record.Consul.Names...)(ctx, s)
}

// deregister takes the agent's node out of the catalogue.
func deregister(ctx context.Context, s *scene) error {
	_, err := s.lab.consul.clients[0].Catalog().Deregister(&consul.CatalogDeregistration{Node: s.lab.record.Metadata.VMs[0].Name}, consulWrites(ctx))
	return err
}

// forceLeave tells the cluster that the agent's node has left.
func forceLeave(ctx context.Context, s *scene) error {
	err := s.lab.consul.clients[0].Agent().ForceLeave(s.lab.record.Metadata.VMs[0].Name)
	return errors.Join(err, ctx.Err())
}
