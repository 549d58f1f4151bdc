package house

import (
	"slices"
	"strings"
	"testing"
)

// only says which rooms may import nothing but the standard library and these.
// Tests may need more: what they may not is the business of the owners below.
var only = []struct {
	room    string
	allowed []string
	reason  string
}{
	{"states", []string{"pawl/internal/secret"},
		"the one function that decides is pure: it knows no client, no table and no machine"},
	{"transitions", []string{"pawl/states", "pawl/internal/failure", "pawl/internal/secret"},
		"an action sees the world through the ports alone, and cannot name the machine that runs it"},
	{"fsm", []string{"pawl/states", "pawl/transitions", "pawl/internal/failure", "github.com/looplab/fsm", "github.com/cenkalti/backoff/v4"},
		"all the machine knows of the world are the rows of the two tables"},
	{"internal/secret", nil, "every room holds a secret, so the type may pull nothing in"},
	{"internal/failure", nil, "services classify too, and may not know that a machine exists"},
	{"internal/clock", []string{"golang.org/x/sys/unix"}, "what we know of the time is asked by every client"},
	{"internal/faults", nil, "it breaks connections for a living: nothing of the agent is in it, nor it in the agent"},
	{"internal/dial", nil, "a connection is below every client and knows none"},
	{"internal/logs", []string{"github.com/hashicorp/go-hclog"}, "the log stream is there before anything else is"},
	{"internal/site", []string{"go.yaml.in/yaml/v3"}, "the constants stand at the head of the flow: site -> cmd -> clients"},
	{"internal/site/verify", []string{"pawl/internal/site"}, "the build runs it before there is anything else to build"},
	{"internal/service", []string{"pawl/states", "github.com/thejerf/suture/v4"}, "a service knows no machine, and the supervisor no service"},
	{"internal/metadata/server", []string{"github.com/go-jose/go-jose/v4/...", "go.yaml.in/yaml/v3"},
		"the JWT service is another program, for another machine: nothing of the agent is in it"},
	{"cmd/pawl-metadata", []string{"pawl/internal/metadata/server"}, "as its server"},
	{"internal/fleet", []string{"pawl/states", "pawl/transitions", "pawl/fsm", "pawl/internal/failure", "pawl/internal/secret"},
		"ten thousand machines in one process: all they may meet is the model of a far end"},
	{"internal/fleet/simulate", []string{"pawl/internal/fleet"}, "a command with a table and a picture"},
	{"deploy", nil, "it is files; whoever applies them brings the client"},
	{"internal/house", []string{"pawl/states", "pawl/transitions", "pawl/internal/status"}, "it looks at sources, not through them"},
}

// bans says what else may not be imported. Rows with tests bind those as well.
var bans = []struct {
	room, banned string
	reason       string
	tests        bool
}{
	{"states", "net/...", "it is pure", true},
	{"states", "os/...", "it is pure", true},
	{"transitions", "net/...", "the far ends are behind the ports", true},
	{"fsm", "net/...", "the loop never speaks to the network, and must not be able to", true},
	{"fsm", "pawl/internal/vault/...", "the machine knows rows, not clients", true},
	{"fsm", "pawl/internal/service/...", "the machine knows rows, not services", true},

	{"cmd/pawl", "github.com/looplab/fsm", "behind fsm/machine.go, since only a few of its calls are safe", true},
	{"cmd/pawl", "github.com/cenkalti/backoff/...", "behind fsm/retry.go, since only one of its constructors is safe", true},
	{"cmd/pawl", "github.com/hashicorp/consul/...", "the wiring sees the agent through its service", true},
	{"cmd/pawl", "github.com/hashicorp/vault/...", "the wiring sees Vault through its client", true},
	{"cmd/pawl", "github.com/prometheus/node_exporter/...", "the wiring sees the exporter through its service", true},
	{"cmd/pawl", "pawl/internal/fleet/...", "a simulation is no part of the agent", true},
	{"cmd/pawl", "pawl/internal/metadata/server", "the agent is not the service that says who it is", true},

	{"cmd/pawl", "pawl/internal/faults", "the troubles of the lab are no part of the agent", true},

	{"cmd/pawl-lab", "pawl/fsm", "the lab is what the machine is tried on", true},
	{"cmd/pawl-lab", "pawl/transitions", "the lab is what the machine is tried on", true},
	{"cmd/pawl-lab", "pawl/states", "the lab is what the machine is tried on", true},
	{"cmd/pawl-lab", "pawl/internal/service/...", "the lab's servers are processes of their own, as at a real site", true},
	{"testdata/lab/...", "pawl/...", "a module of its own: Vault's dependencies never reach the agent's, and the lab tests see the agent from outside alone", true},

	{"internal/vault", "pawl/fsm", "a client is told what to do by an action, once", true},
	{"internal/vault", "pawl/internal/metadata/...", "clients do not know each other", true},
	{"internal/vault", "pawl/internal/service/...", "clients do not know each other", true},
	{"internal/vault", "pawl/internal/status", "a client has no reader", true},
	{"internal/metadata", "pawl/fsm", "a client is told what to do by an action, once", true},
	{"internal/metadata", "pawl/internal/vault/...", "clients do not know each other", true},
	{"internal/metadata", "pawl/internal/service/...", "clients do not know each other", true},
	{"internal/metadata", "pawl/internal/status", "a client has no reader", true},
	{"internal/metadata", "pawl/internal/metadata/server", "the client trusts no code of the one it asks", false},

	{"internal/service/...", "pawl/fsm", "services hang beside the ladder and are told what is held; what they do is news", true},
	{"internal/service/...", "pawl/transitions", "a service knows no table", true},
	{"internal/service/...", "pawl/internal/vault/...", "a service asks for no credential: it is handed them", true},
	{"internal/service/...", "pawl/internal/metadata/...", "a service asks for no credential: it is handed them", true},
	{"internal/service/...", "pawl/internal/status", "a service has no reader", true},
	{"internal/service/nodeexporter", "pawl/internal/service/consulagent", "services do not know each other", true},
	{"internal/service/consulagent", "pawl/internal/service/nodeexporter", "services do not know each other", true},

	{"internal/status", "pawl/internal/vault/...", "a report never asks a far end: it reads snapshots", true},
	{"internal/status", "pawl/internal/metadata/...", "a report never asks a far end: it reads snapshots", true},
	{"internal/status", "pawl/internal/dial", "a report never asks a far end: it reads snapshots", true},
	{"internal/status", "pawl/internal/service/consulagent", "a report never asks a far end: it reads snapshots", true},
	{"internal/status", "pawl/internal/service/nodeexporter", "a report never asks a far end: it reads snapshots", true},
	{"internal/status", "pawl/internal/handover", "what is handed over is secret; a report is public", true},
	{"internal/status", "pawl/internal/secret", "a report has no secret to reveal", false},

	{"internal/handover", "pawl/fsm", "it hands over what is held, whoever held it", true},
	{"internal/handover", "pawl/transitions", "it hands over what is held, whoever held it", true},
	{"internal/handover", "pawl/internal/vault/...", "a document needs no far end", true},
	{"internal/handover", "pawl/internal/metadata/...", "a document needs no far end", true},
	{"internal/handover", "pawl/internal/service/...", "a document needs no far end", true},
	{"internal/handover", "pawl/internal/status", "what is handed over is secret; a report is public", true},
	{"internal/handover", "net/...", "a secret that is handed over never leaves the machine", true},
}

// owners says which rooms, or which single files, may import a library, tests
// included. The longest pattern that fits counts. A library that is not here may
// not be imported at all: a new one is a decision, and has a reason.
var owners = []struct {
	library string
	owners  []string
	reason  string
}{
	{"github.com/looplab/fsm", []string{"fsm/machine.go"}, "only a few of its calls are safe (design.md 4)"},
	{"github.com/cenkalti/backoff/v4", []string{"fsm/retry.go"}, "its defaults give up after a quarter of an hour (design.md 4)"},
	{"github.com/hashicorp/consul/...", []string{"internal/service/consulagent"}, "minutes of compiling, and globals of its own"},
	{"github.com/hashicorp/consul/api", []string{"internal/service/consulagent", "cmd/pawl-lab", "testdata/lab/e2e"}, "the agent's types, and the client of what provisions and checks a lab"},
	{"github.com/hashicorp/consul-net-rpc/...", []string{"internal/service/consulagent"}, "part of Consul"},
	{"github.com/hashicorp/serf/...", []string{"internal/service/consulagent"}, "part of Consul"},
	{"github.com/armon/go-metrics", []string{"internal/service/consulagent"}, "named in an interface of Consul's, where it is switched off"},
	{"github.com/hashicorp/go-hclog", []string{"internal/logs", "internal/service/consulagent", "testdata/lab/vault"}, "Consul's and Vault's way to log, turned into slog at one place"},
	{"github.com/hashicorp/vault/...", []string{"testdata/lab/vault"}, "the real Vault, in the lab's module alone"},
	{"github.com/hashicorp/vault/api", []string{"internal/vault", "cmd/pawl-lab", "testdata/lab/e2e"}, "one client, and the lab's provisioner"},
	{"github.com/hashicorp/vault-plugin-auth-jwt", []string{"testdata/lab/vault"}, "part of the real Vault"},
	{"github.com/hashicorp/vault-plugin-secrets-kv", []string{"testdata/lab/vault"}, "part of the real Vault"},
	{"github.com/prometheus/...", []string{"internal/service/nodeexporter"}, "the exporter's collectors and its web server"},
	{"github.com/prometheus/client_golang/...", []string{"internal/service/nodeexporter", "internal/status"}, "a registry for the host's metrics, and one for our own"},
	{"github.com/alecthomas/kingpin/v2", []string{"internal/service/nodeexporter"}, "how node_exporter's collectors are told to be"},
	{"github.com/thejerf/suture/v4", []string{"internal/service"}, "supervision, behind our contract"},
	{"github.com/go-jose/go-jose/v4/...", []string{"internal/metadata/server"}, "only the JWT service signs"},
	{"github.com/miekg/dns", []string{"cmd/pawl-lab"}, "the lab's DNS server"},
	{"github.com/spf13/cobra", []string{"cmd/pawl"}, "the command line"},
	{"go.yaml.in/yaml/v3", []string{"internal/site", "internal/metadata/server", "transitions/rows_test.go", "fsm/story_read_test.go", "testdata/scenarios", "internal/secret/secret_test.go"}, "two files that people write, and tables of tests"},
	{"golang.org/x/sys/unix", []string{"internal/handover", "internal/clock", "cmd/pawl"}, "memfd and statfs, the boot clock, and the lock that keeps a second agent out"},
	{"golang.org/x/net/dns/dnsmessage", []string{"internal/dial/dial_test.go"}, "a DNS server for a test"},
	{"pgregory.net/rapid", []string{"any test"}, "property tests"},
	{"go.uber.org/goleak", []string{"any test"}, "goroutines that outlive their test"},
}

func TestRoomsImportOnlyWhatTheyMay(t *testing.T) {
	for _, file := range sources(t) {
		for _, rule := range only {
			if !within(file.folder, rule.room) || file.test && rule.room != "internal/house" {
				continue
			}
			for _, imported := range file.imports {
				if !standard(imported) && !withinAny(imported, rule.allowed) {
					t.Errorf("%s imports %s, but %s may import the standard library and %v only: %s", file.path, imported, rule.room, rule.allowed, rule.reason)
				}
			}
		}
	}
}

func TestRoomsDoNotImportWhatIsBanned(t *testing.T) {
	for _, file := range sources(t) {
		for _, rule := range bans {
			if !within(file.folder, rule.room) || file.test && !rule.tests {
				continue
			}
			for _, imported := range file.imports {
				if within(imported, rule.banned) {
					t.Errorf("%s imports %s, which is banned in %s: %s", file.path, imported, rule.room, rule.reason)
				}
			}
		}
	}
}

func TestEveryLibraryHasItsOwner(t *testing.T) {
	imported := map[string]map[string]bool{} // by pattern: the owners that do import it
	for _, file := range sources(t) {
		for _, library := range file.imports {
			if standard(library) || ours(library) {
				continue
			}
			pattern, allowed, reason := "", []string(nil), ""
			for _, row := range owners {
				if within(library, row.library) && len(strings.TrimSuffix(row.library, "/...")) > len(strings.TrimSuffix(pattern, "/...")) {
					pattern, allowed, reason = row.library, row.owners, row.reason
				}
			}
			if pattern == "" {
				t.Errorf("%s imports %s, which has no owner: say in this table which room it belongs to, and why", file.path, library)
				continue
			}
			at := slices.IndexFunc(allowed, func(owner string) bool {
				return owner == file.path || owner == file.folder || owner == "any test" && file.test
			})
			if at < 0 {
				t.Errorf("%s imports %s, which only %v may: %s", file.path, library, allowed, reason)
				continue
			}
			if imported[pattern] == nil {
				imported[pattern] = map[string]bool{}
			}
			imported[pattern][allowed[at]] = true
		}
	}
	for _, row := range owners {
		for _, owner := range row.owners {
			// The lab's tests are free to use the two clients or not.
			if !imported[row.library][owner] && owner != "testdata/lab/e2e" {
				t.Errorf("the table says that %s imports %s; it does not", owner, row.library)
			}
		}
	}
}

// A rule about a room or a package that is not there protects nothing.
func TestImportRulesAreAboutWhatIsThere(t *testing.T) {
	folders := map[string]bool{}
	for _, file := range sources(t) {
		folders[file.folder] = true
	}
	there := func(pattern string) bool {
		for folder := range folders {
			if within(folder, strings.TrimPrefix(pattern, module+"/")) {
				return true
			}
		}
		return false
	}
	var patterns []string
	for _, rule := range only {
		if rule.reason == "" {
			t.Errorf("no reason why %s may import only %v", rule.room, rule.allowed)
		}
		patterns = append(append(patterns, rule.room), rule.allowed...)
	}
	for _, rule := range bans {
		if rule.reason == "" {
			t.Errorf("no reason why %s is banned in %s", rule.banned, rule.room)
		}
		patterns = append(patterns, rule.room, rule.banned)
	}
	for _, pattern := range patterns {
		first, _, _ := strings.Cut(pattern, "/")
		if first == module && pattern == module+"/..." || strings.Contains(first, ".") || standard(pattern) && (first == "net" || first == "os") {
			continue
		}
		if !there(pattern) {
			t.Errorf("a rule names %s, which is not there", pattern)
		}
	}
	for _, row := range owners {
		if row.reason == "" {
			t.Errorf("no reason why %s belongs to %v", row.library, row.owners)
		}
	}
}
