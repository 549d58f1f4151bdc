package site

import (
	"fmt"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// row is one key of the site file: where it stands, whether it must be there,
// and how it is read and checked.
type row struct {
	key      string
	required bool
	read     func(*Site, *yaml.Node) *complaint
}

// complaint is what is wrong with a value, and what to write instead.
type complaint struct{ what, fix string }

// rows is every key there is. A key with a dot stands in a section.
var rows = []row{
	{"name", true, text(func(s *Site) *string { return &s.Name }, label)},
	{"fleet_size", true, whole(func(s *Site) *int { return &s.FleetSize }, 1, 1_000_000)},
	{"ca_roots", true, text(func(s *Site) *string { return &s.CARoots }, roots)},
	{"resolver", false, text(func(s *Site) *string { return &s.Resolver }, address)},
	{"runtime_folder", true, text(func(s *Site) *string { return &s.RuntimeFolder }, folder)},
	{"log_level", true, text(func(s *Site) *string { return &s.LogLevel }, logLevel)},
	{"probe_interval", true, span(func(s *Site) *time.Duration { return &s.ProbeInterval })},

	{"metadata.url", true, text(func(s *Site) *string { return &s.Metadata.URL }, metadataURL)},
	{"metadata.audience", true, text(func(s *Site) *string { return &s.Metadata.Audience }, word)},
	{"metadata.timeout", true, span(func(s *Site) *time.Duration { return &s.Metadata.Timeout })},

	{"vault.address", true, text(func(s *Site) *string { return &s.Vault.Address }, vaultURL)},
	{"vault.namespace", false, text(func(s *Site) *string { return &s.Vault.Namespace }, path)},
	{"vault.jwt_mount", true, text(func(s *Site) *string { return &s.Vault.JWTMount }, path)},
	{"vault.jwt_role", true, text(func(s *Site) *string { return &s.Vault.JWTRole }, word)},
	{"vault.kv_mount", true, text(func(s *Site) *string { return &s.Vault.KVMount }, path)},
	{"vault.gossip_path", true, text(func(s *Site) *string { return &s.Vault.GossipPath }, path)},
	{"vault.gossip_field", true, text(func(s *Site) *string { return &s.Vault.GossipField }, word)},
	{"vault.pki_mount", true, text(func(s *Site) *string { return &s.Vault.PKIMount }, path)},
	{"vault.pki_role", true, text(func(s *Site) *string { return &s.Vault.PKIRole }, word)},
	{"vault.consul_mount", true, text(func(s *Site) *string { return &s.Vault.ConsulMount }, path)},
	{"vault.consul_role", true, text(func(s *Site) *string { return &s.Vault.ConsulRole }, word)},
	{"vault.timeout", true, span(func(s *Site) *time.Duration { return &s.Vault.Timeout })},

	{"consul.datacenter", true, text(func(s *Site) *string { return &s.Consul.Datacenter }, label)},
	{"consul.domain", true, text(func(s *Site) *string { return &s.Consul.Domain }, domain)},
	{"consul.servers", true, text(func(s *Site) *string { return &s.Consul.Servers }, host)},
	{"consul.server_rpc_port", true, whole(func(s *Site) *int { return &s.Consul.ServerRPCPort }, 1, 65535)},
	{"consul.serf_port", true, whole(func(s *Site) *int { return &s.Consul.SerfPort }, 1, 65535)},
	{"consul.bind", true, text(func(s *Site) *string { return &s.Consul.Bind }, bind)},
	{"consul.bind_serf_port", true, whole(func(s *Site) *int { return &s.Consul.BindSerfPort }, 1, 65535)},
	{"consul.http", true, text(func(s *Site) *string { return &s.Consul.HTTP }, loopback)},
	{"consul.dns", false, text(func(s *Site) *string { return &s.Consul.DNS }, loopback)},
	{"consul.rpc_timeout", true, span(func(s *Site) *time.Duration { return &s.Consul.RPCTimeout })},

	{"node_exporter.listen", true, text(func(s *Site) *string { return &s.NodeExporter.Listen }, listen)},
	{"node_exporter.address", false, text(func(s *Site) *string { return &s.NodeExporter.Address }, host)},
	{"node_exporter.arguments", false, list(func(s *Site) *[]string { return &s.NodeExporter.Arguments }, argument)},
	{"node_exporter.check_interval", true, span(func(s *Site) *time.Duration { return &s.NodeExporter.CheckInterval })},
	{"node_exporter.check_timeout", true, span(func(s *Site) *time.Duration { return &s.NodeExporter.CheckTimeout })},
}

// Durations outside of these are slips of the pen: a missing unit, a wrong one.
const (
	shortest = 100 * time.Millisecond
	longest  = 10 * time.Minute
)

// text reads a text and has it checked.
func text(field func(*Site) *string, check func(string) *complaint) func(*Site, *yaml.Node) *complaint {
	return func(s *Site, node *yaml.Node) *complaint {
		if wrong := scalar(node, "!!str", "a text, in quotes where it looks like a number"); wrong != nil {
			return wrong
		}
		if wrong := check(node.Value); wrong != nil {
			return wrong
		}
		*field(s) = node.Value
		return nil
	}
}

// whole reads a whole number from least to most.
func whole(field func(*Site) *int, least, most int) func(*Site, *yaml.Node) *complaint {
	return func(s *Site, node *yaml.Node) *complaint {
		want := fmt.Sprintf("a whole number from %d to %d", least, most)
		if wrong := scalar(node, "!!int", want); wrong != nil {
			return wrong
		}
		number, err := strconv.Atoi(node.Value)
		if err != nil || number < least || number > most {
			return &complaint{fmt.Sprintf("%q is out of range", node.Value), "write " + want}
		}
		*field(s) = number
		return nil
	}
}

// span reads a duration as Go writes it.
func span(field func(*Site) *time.Duration) func(*Site, *yaml.Node) *complaint {
	return func(s *Site, node *yaml.Node) *complaint {
		want := fmt.Sprintf("a duration with its unit, such as 5s, from %s to %s", shortest, longest)
		if wrong := scalar(node, "!!str", want); wrong != nil {
			return wrong
		}
		duration, err := time.ParseDuration(node.Value)
		if err != nil {
			return &complaint{fmt.Sprintf("%q is not a duration", node.Value), "write " + want}
		}
		if duration < shortest || duration > longest {
			return &complaint{fmt.Sprintf("%s is out of range", duration), "write " + want}
		}
		*field(s) = duration
		return nil
	}
}

// list reads a list of texts, each checked.
func list(field func(*Site) *[]string, check func(string) *complaint) func(*Site, *yaml.Node) *complaint {
	return func(s *Site, node *yaml.Node) *complaint {
		if node.Kind != yaml.SequenceNode {
			return &complaint{"is not a list", "write one `- value` a line, or []"}
		}
		var items []string
		for _, item := range node.Content {
			wrong := scalar(item, "!!str", "a text")
			if wrong == nil {
				wrong = check(item.Value)
			}
			if wrong != nil {
				return &complaint{fmt.Sprintf("line %d: %s", item.Line, wrong.what), wrong.fix}
			}
			items = append(items, item.Value)
		}
		*field(s) = items
		return nil
	}
}

// scalar refuses whatever is not one plain value of that YAML tag.
func scalar(node *yaml.Node, tag, want string) *complaint {
	switch {
	case node.Kind != yaml.ScalarNode:
		return &complaint{"is a list or a section", "write " + want}
	case node.Tag == "!!null" || node.Value == "":
		return &complaint{"has no value", "write " + want + ", or remove an optional key"}
	case node.Tag != tag:
		return &complaint{fmt.Sprintf("%q is not what belongs here", node.Value), "write " + want}
	}
	return nil
}
