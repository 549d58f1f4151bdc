package main

import (
	"context"
	"fmt"
	"strings"

	consul "github.com/hashicorp/consul/api"
)

// killServers keeps the servers' state and kills them all.
func killServers(ctx context.Context, s *scene) error {
	saved, _, err := s.lab.consul.clients[0].Snapshot().Save((&consul.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("save consul's state: %w", err)
	}
	_, err = s.saved.ReadFrom(saved)
	_ = saved.Close()
	if err != nil {
		return fmt.Errorf("save consul's state: %w", err)
	}
	return inLab("kill", s.lab.record.Consul.Names...)(ctx, s)
}

// replaceServers puts the lab's spare Consul servers, which are at other
// addresses, in the place of those that were killed, and has DNS say so. Restored,
// they get the old ones' state; else they know nothing, and are set up anew.
func replaceServers(restored bool) deed {
	return func(ctx context.Context, s *scene) error {
		if err := inLab("start", s.lab.spares...)(ctx, s); err != nil {
			return err
		}
		old := len(s.lab.record.Consul.Names)
		spares := &consulServers{clients: s.lab.consul.clients[old:]}
		if restored {
			if err := spares.clients[0].Snapshot().Restore(consulWrites(ctx), &s.saved); err != nil {
				return fmt.Errorf("restore consul's state: %w", err)
			}
		} else if err := s.provisionAnew(ctx, spares); err != nil {
			return err
		}
		var addresses []string
		for n := range spares.clients {
			if err := retry(ctx, nil, spares.ready(n+1)); err != nil {
				return err
			}
			addresses = append(addresses, consulIP(old+n+1))
		}
		return s.name(consulName, strings.Join(addresses, ","))
	}
}

// provisionAnew sets new servers up, and tells Vault of them.
func (s *scene) provisionAnew(ctx context.Context, servers *consulServers) error {
	token, err := provisionConsul(ctx, servers)
	if err != nil {
		return err
	}
	s.lab.record.Consul.VaultToken = token
	return apply("vault/consul-access.json")(ctx, s)
}
