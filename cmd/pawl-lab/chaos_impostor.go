package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

const (
	impostorIP = "127.0.2.9"
	// reclaimTime is after how long Serf gives a dead node's name to another.
	reclaimTime = 30 * time.Second
)

// loseName has another agent take the node's name while ours is stopped, so that
// Serf's vote goes against ours when it comes back.
func loseName(ctx context.Context, s *scene) error {
	if err := signalAgent(syscall.SIGSTOP)(ctx, s); err != nil {
		return err
	}
	failed := func(ctx context.Context) error { return s.member("failed", s.program.site.Consul.Bind) }
	bounded, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := retry(bounded, nil, failed); err != nil {
		return err
	}
	if err := s.sleep(ctx, reclaimTime); err != nil {
		return err
	}
	found, err := findPrograms()
	if err != nil {
		return err
	}
	home := s.lab.folder.path("tls", "impostor")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(map[string]any{
		"server": false, "datacenter": datacenter, "node_name": s.lab.record.Metadata.VMs[0].Name, "node_id": randomUUID(),
		"data_dir": home + "/data", "bind_addr": impostorIP, "client_addr": impostorIP,
		"ports":   map[string]int{"http": 8500, "dns": -1, "grpc": -1, "grpc_tls": -1},
		"encrypt": s.lab.record.Consul.GossipKey, "retry_join": []string{consulIP(1)},
	})
	if err != nil {
		return err
	}
	if err := replaceFile(home+"/agent.json", text, 0o600); err != nil {
		return err
	}
	s.impostor = &process{
		name: "impostor", program: found.consul, arguments: []string{"agent", "-config-file=" + home + "/agent.json"},
		log: s.lab.folder.log("impostor"), launcher: s.lab.launcher, state: stateStopped, since: time.Now(),
		ready: func(context.Context) error { return s.member("alive", impostorIP) },
	}
	s.closers = append(s.closers, func() { _ = s.impostor.kill(context.Background()) })
	if err := s.impostor.start(ctx); err != nil {
		return err
	}
	return signalAgent(syscall.SIGCONT)(ctx, s)
}

// endImpostor has the other agent leave.
func endImpostor(ctx context.Context, s *scene) error { return s.impostor.stop(ctx) }

// keepsName waits for longer than a second vote would take, and for the agent to
// notice what came of it, and checks that the name is ours.
func keepsName(ctx context.Context, s *scene) (string, error) {
	if err := s.sleep(ctx, reclaimTime); err != nil {
		return "", err
	}
	now, err := s.status(ctx)
	if err != nil {
		return "", err
	}
	for _, one := range now.Services {
		if one.Name == "consul" {
			return fmt.Sprintf("%d restarts within the process", one.Restarts), errors.Join(s.awaitAlive(ctx), s.awaitReady(ctx))
		}
	}
	return "", errors.New("pawl status has no service consul")
}

// serfStates are Serf's numbers for the states of a member.
var serfStates = map[int]string{1: "alive", 2: "leaving", 3: "left", 4: "failed"}

// member is nil when the server knows the node's name in that state at that address.
func (s *scene) member(state, address string) error {
	members, err := s.lab.named().clients[0].Agent().Members(false)
	if err != nil {
		return err
	}
	for _, one := range members {
		if one.Name == s.lab.record.Metadata.VMs[0].Name {
			if serfStates[one.Status] == state && one.Addr == address {
				return nil
			}
			return fmt.Errorf("the name is %s at %s, not %s at %s", serfStates[one.Status], one.Addr, state, address)
		}
	}
	return fmt.Errorf("the name is not there")
}
