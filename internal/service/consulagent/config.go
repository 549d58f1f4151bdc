package consulagent

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/agent/config"

	"pawl/internal/logs"
)

// reconnectTimeout is how long the servers keep a node that vanished without
// leaving: a working day's outage survives, a deleted VM does not haunt for Consul's 72 h (F30).
const reconnectTimeout = "8h"

// runtimeConfig builds the agent's configuration. Credentials are no part of it,
// but for the gossip key, which Consul takes from nowhere else: it stays in memory,
// and Consul shows it as hidden. TLS to the servers is switched on by secure, when
// the agent has something to show.
func (a *Agent) runtimeConfig(with credentials) (*config.RuntimeConfig, []string, error) {
	http, err := splitAddress(a.site.Consul.HTTP)
	if err != nil {
		return nil, nil, fmt.Errorf("site consul.http: %w", err)
	}
	ports := map[string]any{
		"http": http.port, "serf_lan": a.site.Consul.BindSerfPort, "serf_wan": -1,
		"server": a.site.Consul.ServerRPCPort, // a client listens on no RPC port
		"https":  -1, "grpc": -1, "grpc_tls": -1, "dns": -1,
	}
	addresses := map[string]any{"http": http.host}
	if a.site.Consul.DNS != "" {
		dns, err := splitAddress(a.site.Consul.DNS)
		if err != nil {
			return nil, nil, fmt.Errorf("site consul.dns: %w", err)
		}
		ports["dns"], addresses["dns"] = dns.port, dns.host
	}
	text, err := json.Marshal(map[string]any{
		"server":     false,
		"datacenter": a.site.Consul.Datacenter, "primary_datacenter": a.site.Consul.Datacenter,
		"domain":    a.site.Consul.Domain,
		"node_name": with.identity.Node, "node_id": strings.ToLower(with.identity.NodeID),
		"data_dir": a.folder, "bind_addr": a.site.Consul.Bind,
		"ports": ports, "addresses": addresses,
		"encrypt": with.gossip.Reveal(), "disable_keyring_file": true,
		"acl": map[string]any{
			"enabled": true, "default_policy": "deny", "down_policy": "extend-cache",
			"enable_token_persistence": false,
		},
		// Agent.RPC ignores its context, so that its own bound must be short.
		"limits":      map[string]any{"rpc_client_timeout": a.site.Consul.RPCTimeout.String()},
		"performance": map[string]any{"rpc_hold_timeout": a.site.Consul.RPCTimeout.String()},
		"connect":     map[string]any{"enabled": false}, "peering": map[string]any{"enabled": false},
		"use_streaming_backend":       false, // no gRPC connection that would outlive a certificate (F12)
		"advertise_reconnect_timeout": reconnectTimeout,
		"leave_on_terminate":          true, "rejoin_after_leave": true,
		"enable_script_checks": false, "enable_local_script_checks": false,
		"disable_remote_exec": true, "disable_update_check": true, "disable_anonymous_signature": true,
		"enable_central_service_config": false, // one service without defaults: not worth an RPC
		"log_level":                     logLevel(a),
	})
	if err != nil {
		return nil, nil, fmt.Errorf("write configuration: %w", err)
	}
	result, err := config.Load(config.LoadOpts{DefaultConfig: config.FileSource{Name: "pawl", Format: "json", Data: string(text)}})
	if err != nil {
		return nil, nil, fmt.Errorf("load configuration: %w", err)
	}
	// go-metrics' in-memory sink takes SIGUSR1, which is pawl's.
	result.RuntimeConfig.Telemetry.Disable = true
	return result.RuntimeConfig, result.Warnings, nil
}

// logLevel is the root's level in Consul's words: its gRPC logger asks for it.
func logLevel(a *Agent) string {
	if level := strings.ToUpper(logs.HclogLevel(a.logger).String()); level != "OFF" {
		return level
	}
	return "ERROR"
}

// address is an IP and a port, apart.
type address struct {
	host string
	port int
}

func splitAddress(text string) (address, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return address{}, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return address{}, fmt.Errorf("port %q is no number", port)
	}
	return address{host, number}, nil
}
