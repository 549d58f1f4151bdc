package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// serviceName is what the agent registers.
const serviceName = "node-exporter"

// consistent makes a question one that only a leader may answer.
func consistent(index uint64) *consul.QueryOptions {
	return &consul.QueryOptions{RequireConsistent: true, WaitIndex: index, WaitTime: 5 * time.Second}
}

// awaitCatalogue blocks on the servers' view of this VM's node until it is as
// wanted. nil is a node that is not there.
func (l *lab) awaitCatalogue(t *testing.T, what string, wanted func(*consul.CatalogNode) bool) *consul.CatalogNode {
	t.Helper()
	var index uint64
	for began := time.Now(); ; {
		found, meta, err := l.consul.Catalog().Node(l.vm().Name, consistent(index))
		must(t, err)
		if found != nil && found.Node == nil {
			found = nil
		}
		if wanted(found) {
			return found
		}
		if time.Since(began) > bound {
			t.Fatalf("waited %s for the catalogue to say: %s; it says %+v", bound, what, found)
		}
		index = meta.LastIndex
	}
}

// awaitWritten waits until the server has written down that it knows the node,
// which it does half a second after it has met it. One that is killed before does
// not know the node when it comes back, and takes it out of the catalogue itself.
func (l *lab) awaitWritten(t *testing.T, server string) {
	t.Helper()
	name := l.vm().Name
	eventually(t, server+" to write down that it knows "+name, func() (bool, string) {
		text, err := os.ReadFile(filepath.Join(l.folder, server, "data", "serf", "local.snapshot"))
		must(t, err)
		known := strings.LastIndex(string(text), "\nalive: "+name+" ")
		return known >= 0 && known > strings.LastIndex(string(text), "\nnot-alive: "+name+"\n"), string(text)
	})
}

// awaitGone waits until the node has left the catalogue.
func (l *lab) awaitGone(t *testing.T) {
	t.Helper()
	l.awaitCatalogue(t, "the node is gone", func(found *consul.CatalogNode) bool { return found == nil })
}

// awaitHealth blocks on the servers' view of the service's checks until it is as
// wanted, calling seen with each in between.
func (l *lab) awaitHealth(t *testing.T, what string, wanted func([]*consul.ServiceEntry) bool) []*consul.ServiceEntry {
	t.Helper()
	var index uint64
	for began := time.Now(); ; {
		entries, meta, err := l.consul.Health().Service(serviceName, "", false, consistent(index))
		must(t, err)
		if wanted(entries) {
			return entries
		}
		if time.Since(began) > bound {
			t.Fatalf("waited %s for the servers to say of %s: %s; they say %s", bound, serviceName, what, describe(entries))
		}
		index = meta.LastIndex
	}
}

// isPassing: one instance, and all of its checks pass.
func isPassing(entries []*consul.ServiceEntry) bool {
	return len(entries) == 1 && entries[0].Checks.AggregatedStatus() == consul.HealthPassing
}

func describe(entries []*consul.ServiceEntry) string {
	var all []string
	for _, each := range entries {
		for _, check := range each.Checks {
			all = append(all, fmt.Sprintf("%s: %s is %s (%q)", each.Node.Node, check.CheckID, check.Status, check.Output))
		}
	}
	return strings.Join(all, "; ")
}

// nodeChecks returns the checks of this VM's node by id, as the servers have them.
func (l *lab) nodeChecks(t *testing.T) map[string]*consul.HealthCheck {
	t.Helper()
	checks, _, err := l.consul.Health().Node(l.vm().Name, consistent(0))
	must(t, err)
	found := map[string]*consul.HealthCheck{}
	for _, each := range checks {
		found[each.CheckID] = each
	}
	return found
}

// awaitPassing waits until a check of our node passes: the leader makes serfHealth
// on its own time, when gossip tells it of the node.
func (l *lab) awaitPassing(t *testing.T, id string) {
	t.Helper()
	eventually(t, "check "+id+" passes", func() (bool, string) {
		check := l.nodeChecks(t)[id]
		return check != nil && check.Status == consul.HealthPassing, fmt.Sprintf("%+v", check)
	})
}

// tokens returns the accessors of the Consul tokens that Vault made for agents.
func (l *lab) tokens() ([]string, error) {
	all, _, err := l.consul.ACL().TokenList(consistent(0))
	if err != nil {
		return nil, err
	}
	var accessors []string
	for _, each := range all {
		for _, policy := range each.Policies {
			if policy.Name == "pawl" {
				accessors = append(accessors, each.AccessorID)
			}
		}
	}
	return accessors, nil
}

// awaitNoTokens waits until Consul has no token of an agent any more.
func (l *lab) awaitNoTokens(t *testing.T) {
	t.Helper()
	eventually(t, "Consul has no token of an agent left", func() (bool, string) {
		accessors, err := l.tokens()
		return err == nil && len(accessors) == 0, fmt.Sprint(accessors, err)
	})
}

// serfEvents counts what the first Consul server says that gossip told of our node.
func (l *lab) serfEvents(t *testing.T) map[string]int {
	t.Helper()
	counts := map[string]int{}
	pattern := regexp.MustCompile(`serf: (EventMember\w+): ` + regexp.QuoteMeta(l.vm().Name) + ` `)
	for _, found := range pattern.FindAllStringSubmatch(l.serverLog(t, "consul-1"), -1) {
		counts[found[1]]++
	}
	return counts
}

// serverErrors counts what the first Consul server complained of, by the words
// before the first colon.
func (l *lab) serverErrors(t *testing.T) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for line := range strings.Lines(l.serverLog(t, "consul-1")) {
		if _, text, bad := strings.Cut(line, "[ERROR] "); bad {
			source, rest, _ := strings.Cut(text, ": ")
			what, _, _ := strings.Cut(rest, ":")
			counts[source+": "+strings.TrimSpace(what)]++
		}
	}
	return counts
}
