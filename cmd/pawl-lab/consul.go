package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/hashicorp/consul/api"

	"pawl/deploy"
)

// consulServers talks to the lab's Consul servers with the management token.
// Safe from any goroutine.
type consulServers struct{ clients []*api.Client }

func newConsulServers(servers int, token string) (*consulServers, error) {
	made := &consulServers{}
	for n := 1; n <= servers; n++ {
		client, err := api.NewClient(&api.Config{Address: consulURL(n), Token: token})
		if err != nil {
			return nil, fmt.Errorf("make consul client: %w", err)
		}
		made.clients = append(made.clients, client)
	}
	return made, nil
}

func consulURL(n int) string  { return fmt.Sprintf("http://%s:%d", consulIP(n), consulPorts["http"]) }
func consulNode(n int) string { return fmt.Sprintf("consul-%d", n) }

// ready is one attempt to see that server n answers, knows a leader that is
// ready to be asked, and knows the management token.
func (c *consulServers) ready(n int) func(context.Context) error {
	client := c.clients[n-1]
	return func(ctx context.Context) error {
		options := (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
		leader, err := client.Status().LeaderWithQueryOptions(options)
		if err != nil {
			return err
		}
		if leader == "" {
			return errors.New("consul has no leader")
		}
		_, _, err = client.ACL().TokenReadSelf(options)
		return err
	}
}

// leader returns the leader that any server names, or "".
func (c *consulServers) leader(ctx context.Context) string {
	for _, client := range c.clients {
		leader, err := client.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
		if err == nil && leader != "" {
			return leader
		}
	}
	return ""
}

// consulConfiguration is what one server needs beside deploy/consul/server.hcl.
type consulConfiguration struct {
	// number is the server's own; the cluster is so many servers from first on.
	number, first, servers  int
	token, gossipKey        string
	dataFolder, authorities string
	pair                    keyPair
}

// write puts the server's two configuration files into its folder and returns
// the arguments that make Consul read them.
func (c consulConfiguration) write(home func(string) string) ([]string, error) {
	own := consulIP(c.number)
	var others []string
	for n := c.first; n < c.first+c.servers; n++ {
		if n != c.number {
			others = append(others, consulIP(n))
		}
	}
	text, err := json.MarshalIndent(map[string]any{
		"node_name": consulNode(c.number),
		"data_dir":  c.dataFolder,
		"bind_addr": own, "advertise_addr": own, "client_addr": own,
		"bootstrap_expect": c.servers,
		"retry_join":       others,
		"retry_interval":   "200ms",
		"ports": map[string]int{
			"server": consulPorts["server"], "serf_lan": consulPorts["serf_lan"], "serf_wan": consulPorts["serf_wan"],
			"http": consulPorts["http"], "https": -1, "dns": -1, "grpc": -1, "grpc_tls": -1,
		},
		"encrypt": c.gossipKey,
		"acl": map[string]any{
			"tokens": map[string]string{"initial_management": c.token, "agent": c.token},
		},
		"tls": map[string]any{"defaults": map[string]any{
			"ca_file": c.authorities, "cert_file": c.pair.certificate, "key_file": c.pair.key,
		}},
		// The lab is one machine: elections may be as quick as Consul allows.
		"performance": map[string]int{"raft_multiplier": 1},
		"connect":     map[string]bool{"enabled": false},
		"ui_config":   map[string]bool{"enabled": true},
		"log_level":   "INFO",
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	shared, err := deploy.Files.ReadFile("consul/server.hcl")
	if err != nil {
		return nil, err
	}
	filled, err := fill(shared, map[string]string{"DATACENTER": datacenter, "DOMAIN": domain})
	if err != nil {
		return nil, fmt.Errorf("fill consul/server.hcl: %w", err)
	}
	if err := os.MkdirAll(c.dataFolder, 0o700); err != nil {
		return nil, err
	}
	files := map[string][]byte{"server.hcl": filled, "server.json": text}
	for name, content := range files {
		if err := replaceFile(home(name), content, 0o600); err != nil {
			return nil, err
		}
	}
	return []string{"agent", "-config-file=" + home("server.hcl"), "-config-file=" + home("server.json")}, nil
}
