// Package site owns the constants of a site: addresses, names, mounts, roles,
// ports, timeouts and CA roots. They are read from one YAML file that is
// compiled into the binary and parsed strictly, at build and again at start. It
// must import nothing of this project.
//
// Nothing here can be set on a VM (design.md 1): whoever wants another value
// builds another binary, with `make build SITE=path`.
package site

import "time"

// Site is everything a binary knows about where it runs. A value, read only.
type Site struct {
	// Name names the site in logs and in the dump.
	Name string `yaml:"name"`
	// FleetSize is how many VMs share the servers; recovery is spread by it (issue 3).
	FleetSize int `yaml:"fleet_size"`
	// CARoots is a PEM bundle of two or more roots that Vault's and Consul's server
	// certificates are verified by. Two, so that one can be retired (faults.md F40).
	CARoots string `yaml:"ca_roots"`
	// Resolver is the address of the DNS server that knows the site's names; empty: the system's.
	Resolver string `yaml:"resolver,omitempty"`
	// RuntimeFolder holds the status socket and Consul's disposable data; made 0700. Best on tmpfs.
	RuntimeFolder string `yaml:"runtime_folder"`
	// LogLevel is trace, debug, info, warn or error; info where nothing is hunted.
	LogLevel string `yaml:"log_level"`
	// ProbeInterval is how often the far ends are asked whether we are still there.
	ProbeInterval time.Duration `yaml:"probe_interval"`

	Metadata     Metadata     `yaml:"metadata"`
	Vault        Vault        `yaml:"vault"`
	Consul       Consul       `yaml:"consul"`
	NodeExporter NodeExporter `yaml:"node_exporter"`

	// hash is the fingerprint of the text this was parsed from.
	hash string
}

// Hash is the short fingerprint of the text the site was parsed from: twelve hex
// digits, for logs and the dump, so that two binaries can be told apart. It is
// empty for a Site that was not parsed.
func (s Site) Hash() string { return s.hash }

// Metadata says where the VM's JWT comes from.
type Metadata struct {
	// URL is the base URL of the service, an IP address as host: no name, no proxy.
	URL string `yaml:"url"`
	// Audience is the aud asked for: the one that Vault's role is bound to.
	Audience string `yaml:"audience"`
	// Timeout bounds one attempt.
	Timeout time.Duration `yaml:"timeout"`
}

// Vault says where Vault is and what is mounted where.
type Vault struct {
	Address   string `yaml:"address"`
	Namespace string `yaml:"namespace,omitempty"`
	// JWTMount and JWTRole: auth/<mount>/login with this role.
	JWTMount string `yaml:"jwt_mount"`
	JWTRole  string `yaml:"jwt_role"`
	// KVMount, GossipPath and GossipField: where KV v2 keeps the gossip key.
	KVMount     string `yaml:"kv_mount"`
	GossipPath  string `yaml:"gossip_path"`
	GossipField string `yaml:"gossip_field"`
	// PKIMount and PKIRole sign the client certificate.
	PKIMount string `yaml:"pki_mount"`
	PKIRole  string `yaml:"pki_role"`
	// ConsulMount and ConsulRole give the Consul token.
	ConsulMount string        `yaml:"consul_mount"`
	ConsulRole  string        `yaml:"consul_role"`
	Timeout     time.Duration `yaml:"timeout"`
}

// Consul says how the embedded agent joins.
type Consul struct {
	Datacenter string `yaml:"datacenter"`
	Domain     string `yaml:"domain"`
	// Servers is the DNS name whose addresses are Consul's servers.
	Servers string `yaml:"servers"`
	// ServerRPCPort and SerfPort are the same on every server.
	ServerRPCPort int `yaml:"server_rpc_port"`
	SerfPort      int `yaml:"serf_port"`
	// Bind is the agent's own Serf address: an IP, or a go-sockaddr template such as {{ GetPrivateIP }}.
	Bind string `yaml:"bind"`
	// BindSerfPort is the agent's own Serf port.
	BindSerfPort int `yaml:"bind_serf_port"`
	// HTTP is the agent's local API, on loopback, without any token of its own (faults.md F49).
	HTTP string `yaml:"http"`
	// DNS is the agent's local DNS, on loopback; empty: off. It answers only what anonymous may read.
	DNS string `yaml:"dns,omitempty"`
	// RPCTimeout bounds one RPC to a server; it becomes limits.rpc_client_timeout.
	RPCTimeout time.Duration `yaml:"rpc_timeout"`
}

// NodeExporter says how the embedded node_exporter serves.
type NodeExporter struct {
	// Listen is the address of /metrics.
	Listen string `yaml:"listen"`
	// Address is what the catalogue says, empty for the node's own address.
	Address string `yaml:"address,omitempty"`
	// Arguments are node_exporter's own flags, compiled in, such as --no-collector.wifi.
	Arguments []string `yaml:"arguments,omitempty"`
	// CheckInterval and CheckTimeout are of Consul's HTTP check.
	CheckInterval time.Duration `yaml:"check_interval"`
	CheckTimeout  time.Duration `yaml:"check_timeout"`
}
