package consulagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/states"
)

// found reads the registration back and complains when it is not there.
func found(agent *Agent) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		index, found, err := agent.ReadBack(ctx)
		if err == nil && (!found || index == 0) {
			err = fmt.Errorf("found %t at index %d", found, index)
		}
		return err
	}
}

func TestLife(t *testing.T) {
	lab := newLab(t)
	exporter := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") })}
	go func() { _ = exporter.Serve(lab.listen(t)) }()
	t.Cleanup(func() { _ = exporter.Close() })
	agent, stop := lab.agent(t, Options{RegisterNodeExporter: true})

	if _, err := agent.Prove(t.Context()); failure.Of(err).Class != failure.Local {
		t.Errorf("prove without an agent: %v", err)
	}
	first := lab.epoch(t)
	t.Run("boot", func(t *testing.T) {
		verify := within(t, 5*time.Second, func(ctx context.Context) error { return agent.Verify(ctx, self, first) })
		install := within(t, 5*time.Second, func(ctx context.Context) error { return agent.Install(ctx, self, first) })
		prove := within(t, 5*time.Second, func(ctx context.Context) error {
			index, err := agent.Prove(ctx)
			if err == nil && index == 0 {
				err = errors.New("index 0")
			}
			return err
		})
		register := within(t, 5*time.Second, func(ctx context.Context) error { return agent.Register(ctx, nil) })
		readback := within(t, 5*time.Second, found(agent))
		t.Logf("verify %s, install %s, prove %s, register %s, read back %s", verify, install, prove, register, readback)
		if status := lab.check(t, checkName).Status; status != api.HealthPassing {
			t.Errorf("check is %s at once after Register", status)
		}
		again := within(t, time.Second, func(ctx context.Context) error { return agent.Register(ctx, nil) })
		t.Logf("register again %s", again)
	})
	if t.Failed() {
		t.FailNow()
	}
	serf := lab.check(t, "serfHealth")

	t.Run("nothing secret on disk or in agent/self", func(t *testing.T) { lab.canaries(t, first) })
	t.Run("anonymous can register nothing", func(t *testing.T) {
		body := strings.NewReader(`{"Name":"evil","Port":1}`)
		request, _ := http.NewRequest(http.MethodPut, "http://"+lab.site.Consul.HTTP+"/v1/agent/service/register", body)
		response, err := http.DefaultClient.Do(request)
		must(t, err)
		defer response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("anonymous registration: %s", response.Status)
		}
		services, _, err := lab.api.Catalog().Services(nil)
		must(t, err)
		if _, is := services["evil"]; is {
			t.Error("evil is in the catalogue")
		}
	})
	t.Run("swap", func(t *testing.T) {
		second := lab.epoch(t)
		before := connections(t)
		within(t, 5*time.Second, func(ctx context.Context) error { return agent.Verify(ctx, self, second) })
		took := within(t, 5*time.Second, func(ctx context.Context) error { return agent.Install(ctx, self, second) })
		// An RPC of ours opens the pool's next connection; before it, there may be none.
		within(t, time.Second, func(ctx context.Context) error { _, err := agent.Prove(ctx); return err })
		var after map[string]bool
		eventually(t, "every connection to be younger than the certificate", func() error {
			after = connections(t)
			for local := range after {
				if before[local] {
					return errors.New(local + " is older")
				}
			}
			return nil
		})
		if len(before) == 0 || len(after) == 0 {
			t.Errorf("no connections to speak of: %v, %v", before, after)
		}
		_, err := lab.api.ACL().TokenDelete(first.Consul.ID, nil)
		must(t, err)
		within(t, time.Second, func(ctx context.Context) error { return agent.Register(ctx, nil) })
		within(t, time.Second, found(agent))
		if got := agent.Stats(); got.Installed != second.Credentials() || !got.Running || len(got.Servers) != 1 || got.Members != 2 {
			t.Errorf("stats: %+v", got)
		}
		t.Logf("swap %s, connections %v -> %v", took, before, after)
	})
	t.Run("the exporter fails and comes back", func(t *testing.T) {
		within(t, time.Second, func(ctx context.Context) error { return agent.Register(ctx, errors.New("bind: taken")) })
		check := lab.check(t, checkName)
		if check.Status != api.HealthCritical || check.Output != "bind: taken" {
			t.Errorf("check: %s %q", check.Status, check.Output)
		}
		// The port answers 200 all the while: it is not our exporter, and Consul must not ask it.
		time.Sleep(2500 * time.Millisecond)
		if check = lab.check(t, checkName); check.Status != api.HealthCritical {
			t.Errorf("check turned %s by itself", check.Status)
		}
		within(t, time.Second, func(ctx context.Context) error { return agent.Register(ctx, nil) })
		if check = lab.check(t, checkName); check.Status != api.HealthPassing {
			t.Errorf("check: %s %q", check.Status, check.Output)
		}
	})
	t.Run("Consul's own check goes on", func(t *testing.T) {
		var output string
		eventually(t, "an exporter that is gone to be critical", func() error {
			_ = exporter.Close()
			check := lab.check(t, checkName)
			output = check.Output
			if check.Status != api.HealthCritical {
				return errors.New(check.Status)
			}
			return nil
		})
		if !strings.Contains(output, "refused") {
			t.Errorf("output: %q", output)
		}
	})
	t.Run("an entry that vanished is found missing and put back", func(t *testing.T) {
		_, err := lab.api.Catalog().Deregister(&api.CatalogDeregistration{Node: nodeName, ServiceID: serviceName}, nil)
		must(t, err)
		_, there, err := agent.ReadBack(t.Context())
		if err != nil || there {
			t.Errorf("read back: %t, %v", there, err)
		}
		within(t, time.Second, func(ctx context.Context) error { return agent.Register(ctx, nil) })
		within(t, time.Second, found(agent))
	})
	t.Run("in-process restart", func(t *testing.T) {
		old, err := agent.running()
		must(t, err)
		began := time.Now()
		old.kill(errors.New("the test says so"))
		eventually(t, "the next agent to prove itself", func() error {
			if now, err := agent.running(); err != nil || now == old {
				return errors.New("still the old one")
			}
			_, err := agent.Prove(t.Context())
			return err
		})
		t.Logf("restart until proven %s", time.Since(began))
		eventually(t, "the registration to be there without the machine", func() error { return found(agent)(t.Context()) })
		within(t, time.Second, func(ctx context.Context) error { return agent.Install(ctx, self, lab.epoch(t)) })
		if agent.Stats().Restarts != 1 {
			t.Errorf("restarts: %d", agent.Stats().Restarts)
		}
	})
	t.Run("never seen as failed", func(t *testing.T) {
		now := lab.check(t, "serfHealth")
		if now.ModifyIndex != serf.ModifyIndex || now.Status != api.HealthPassing {
			t.Errorf("serfHealth was %d, is %d %s", serf.ModifyIndex, now.ModifyIndex, now.Status)
		}
	})
	t.Run("another identity is refused", func(t *testing.T) {
		other := states.Identity{Node: "vm-8", NodeID: nodeID}
		if err := agent.Install(t.Context(), other, lab.epoch(t)); failure.Of(err).Class != failure.Identity {
			t.Errorf("install: %v", err)
		}
	})
	t.Run("server restart", func(t *testing.T) {
		lab.stopServer()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		if _, err := agent.Prove(ctx); failure.Of(err).Class != failure.Transient {
			t.Errorf("prove without a server: %v", err)
		}
		lab.startServer(t)
		began := time.Now()
		eventually(t, "the agent to prove itself again", func() error { _, err := agent.Prove(t.Context()); return err })
		t.Logf("proven %s after the server was back", time.Since(began))
		eventually(t, "the registration", func() error {
			return errors.Join(agent.Register(t.Context(), nil), found(agent)(t.Context()))
		})
	})
	// The server's return has just triggered a full sync, some time in the next three
	// seconds: a leave that did not stop it left a node behind for ever.
	t.Run("leave", func(t *testing.T) {
		t.Logf("stop %s", stop())
		eventually(t, "the node to be gone from the catalogue", func() error {
			node, _, err := lab.api.Catalog().Node(nodeName, nil)
			if err == nil && node != nil {
				err = fmt.Errorf("still there, serfHealth %+v", lab.check(t, "serfHealth"))
			}
			return err
		})
	})
}

func TestToggledOffTakesTheServiceOut(t *testing.T) {
	lab := newLab(t)
	for _, row := range []struct {
		on       bool
		services int
	}{{true, 1}, {false, 0}} {
		agent, stop := lab.agent(t, Options{RegisterNodeExporter: row.on})
		agent.StayRegistered()
		within(t, 10*time.Second, func(ctx context.Context) error { return agent.Install(ctx, self, lab.epoch(t)) })
		if !row.on {
			if _, there, err := agent.ReadBack(t.Context()); err != nil || there {
				t.Errorf("a service of a former process is not noticed: %t, %v", there, err)
			}
		}
		within(t, 2*time.Second, func(ctx context.Context) error { return agent.Register(ctx, nil) })
		within(t, 2*time.Second, found(agent))
		entries, _, err := lab.api.Catalog().NodeServiceList(nodeName, nil)
		must(t, err)
		if len(entries.Services) != row.services {
			t.Errorf("registered %t: %d services", row.on, len(entries.Services))
		}
		t.Logf("stop without leaving %s", stop())
	}
}

func TestRefusals(t *testing.T) {
	lab := newLab(t)
	agent, _ := lab.agent(t, Options{RegisterNodeExporter: true})
	agent.StayRegistered()
	good := lab.epoch(t)
	fresh, old, foreign, garbled := good, good, good, good
	fresh.Consul.Token = secret.New("11111111-2222-4333-8444-555555555555")
	old.Consul.Token = fresh.Consul.Token
	old.Consul.Received = time.Now().Add(-time.Hour)
	chain, key, _ := newAuthority(t).issue(t, nodeName, false)
	foreign.Certificate.Chain, foreign.Certificate.Key = chain, secret.New(key)
	garbled.Certificate.Key = secret.New("not a key")
	for _, row := range []struct {
		what  string
		epoch states.Epoch
		class failure.Class
		text  string
	}{
		{"a fresh token that no server knows yet", fresh, failure.Transient, serverIP},
		{"an old token that no server knows", old, failure.AuthDead, "ACL not found"},
		{"a certificate of another CA", foreign, failure.Config, "refuse our certificate"},
		{"a key that is none", garbled, failure.Config, "certificate"},
	} {
		began := time.Now()
		got := failure.Of(agent.Verify(t.Context(), self, row.epoch))
		if got == nil || got.Class != row.class || !strings.Contains(got.Error(), row.text) {
			t.Errorf("%s: got %v (%+v), want %s with %q", row.what, got, got, row.class, row.text)
		}
		if took := time.Since(began); took > verifyTimeout+time.Second {
			t.Errorf("%s: took %s", row.what, took)
		}
	}
	site := agent.site
	agent.site.CARoots = newAuthority(t).pem
	if got := failure.Of(agent.Verify(t.Context(), self, good)); got == nil || got.Class != failure.Config || got.Remote != failure.RemoteHost || !strings.Contains(got.Fix, "ca_roots") {
		t.Errorf("servers of another CA: %v", got)
	}
	agent.site = site
	must(t, agent.Verify(t.Context(), self, good))
	within(t, 5*time.Second, func(ctx context.Context) error { return agent.Install(ctx, self, good) })
	_, err := lab.api.ACL().TokenDelete(good.Consul.ID, nil)
	must(t, err)
	if _, err := agent.Prove(t.Context()); failure.Of(err).Class != failure.Transient {
		t.Errorf("a young token is given up: %v", err)
	}
	running, err := agent.running()
	must(t, err)
	running.lock.Lock()
	running.installed.issued = time.Now().Add(-time.Hour)
	running.lock.Unlock()
	for what, attempt := range map[string]func() error{
		"prove":     func() error { _, err := agent.Prove(t.Context()); return err },
		"register":  func() error { return agent.Register(t.Context(), nil) },
		"read back": func() error { _, _, err := agent.ReadBack(t.Context()); return err },
	} {
		if got := failure.Of(attempt()); got == nil || got.Class != failure.AuthDead || got.Remote != failure.RemoteConsul {
			t.Errorf("%s with a deleted token: %v", what, got)
		}
	}
}

// connections returns the local ends of this process's connections to the server's RPC port.
func connections(t *testing.T) map[string]bool {
	t.Helper()
	table, err := os.ReadFile("/proc/self/net/tcp")
	must(t, err)
	const established, client, server = "01", "0207007F:", "0107007F:206C" // 127.0.7.2 and 127.0.7.1:8300 as the kernel writes them
	ends := map[string]bool{}
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 3 && strings.HasPrefix(fields[1], client) && fields[2] == server && fields[3] == established {
			ends[fields[1]] = true
		}
	}
	return ends
}

// canaries looks for secrets where none may be.
func (l *lab) canaries(t *testing.T, epoch states.Epoch) {
	t.Helper()
	secrets := map[string]string{"token": epoch.Consul.Token.Reveal(), "gossip key": l.gossip, "private key": strings.Split(epoch.Certificate.Key.Reveal(), "\n")[1]}
	places := map[string]string{"log": l.log.String(), "environment": strings.Join(os.Environ(), "\n")}
	must(t, filepath.WalkDir(l.site.RuntimeFolder, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var text []byte
			text, err = os.ReadFile(path)
			places[path] = string(text)
		}
		return err
	}))
	if info, err := os.Stat(filepath.Join(l.site.RuntimeFolder, "consul")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data folder: %v, %v", info.Mode(), err)
	}
	request, _ := http.NewRequest(http.MethodGet, "http://"+l.site.Consul.HTTP+"/v1/agent/self", nil)
	request.Header.Set("X-Consul-Token", l.management)
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	places["agent/self"] = string(body)
	if response.StatusCode != http.StatusOK || !strings.Contains(string(body), nodeName) {
		t.Errorf("agent/self: %s", response.Status)
	}
	for place, text := range places {
		for what, value := range secrets {
			if strings.Contains(text, value) {
				t.Errorf("the %s is in %s", what, place)
			}
		}
	}
}
