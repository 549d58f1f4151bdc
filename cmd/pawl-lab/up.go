package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// upOptions are the flags of `up`.
type upOptions struct {
	folder, authority string
	// ttl shortens every TTL; zero leaves those of production.
	ttl          time.Duration
	servers, vms int
	// spares are more Consul servers, at addresses of their own, that nobody starts:
	// they are to take the place of all others.
	spares         int
	stdout, stderr io.Writer
	// agent is who will be run beside the lab; nil for the lab alone.
	agent *agentProgram
}

// mostVMs is what 127.0.3.0/24 has addresses for, and 127.0.0.1.
const mostVMs = 254

func (o upOptions) check() error {
	switch {
	case o.ttl != 0 && o.ttl < shortestTTL:
		return usageError{fmt.Sprintf("--ttl %s is too short: at least %s", o.ttl, shortestTTL)}
	case o.servers != 1 && o.servers != 3:
		return usageError{fmt.Sprintf("--servers %d: 1 or 3", o.servers)}
	case o.vms < 1 || o.vms > mostVMs:
		return usageError{fmt.Sprintf("--vms %d: from 1 to %d", o.vms, mostVMs)}
	}
	return nil
}

// programs are the lab's binaries, found beside pawl-lab itself.
type programs struct{ vault, consul, metadata string }

func findPrograms() (programs, error) {
	self, err := os.Executable()
	if err != nil {
		return programs{}, fmt.Errorf("find the folder of pawl-lab: %w", err)
	}
	var missing []string
	find := func(name string) string {
		path := filepath.Join(filepath.Dir(self), name)
		if information, err := os.Stat(path); err != nil || information.Mode()&0o111 == 0 {
			missing = append(missing, path)
		}
		return path
	}
	found := programs{vault: find("lab-vault"), consul: find("consul"), metadata: find("pawl-metadata")}
	if len(missing) > 0 {
		return programs{}, fmt.Errorf("missing: %s; `make build` makes them", strings.Join(missing, ", "))
	}
	return found, nil
}

// up runs the lab until ctx ends, then ends everything it started.
func up(ctx context.Context, o upOptions) error {
	err := withLab(ctx, o, func(ctx context.Context, _ *lab) error {
		fmt.Fprintln(o.stdout, "lab is up")
		<-ctx.Done()
		return nil
	})
	if errors.Is(err, errInterrupted) {
		return nil // a person changed his mind
	}
	return err
}

// withLab brings a lab up, calls work with it, and when work returns ends
// everything it started. It fails with errInterrupted when ctx ends before the
// lab is up. work's context ends with ctx, or when the lab cannot go on.
func withLab(ctx context.Context, o upOptions, work func(context.Context, *lab) error) error {
	began := time.Now()
	found, err := findPrograms()
	if err != nil {
		return err
	}
	roots, err := loadAuthorities(o.authority, began)
	if err != nil {
		return fmt.Errorf("%w; `pawl-lab site --out FILE` makes the CA, and the agent must be built with that file (`make build` does both)", err)
	}
	wanted := sockets(o.servers + o.spares)
	if o.agent != nil {
		if err := o.agent.fits(roots); err != nil {
			return err
		}
		wanted = append(wanted, o.agent.sockets()...)
	}
	home, err := openFolder(o.folder)
	if err != nil {
		return err
	}
	unlock, err := home.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := refuseTaken(ctx, wanted); err != nil {
		return err
	}
	if err := home.clear(); err != nil {
		return err
	}
	l, err := assemble(o, home, found, roots, began)
	if err != nil {
		return err
	}
	err = l.run(ctx, o.ttl, roots[0], began, work)
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*stopTimeout)
	defer cancel()
	err = errors.Join(err, l.end(ending))
	// What these say is no longer true; the logs stay.
	_ = os.Remove(home.record())
	_ = os.Remove(home.socket())
	_ = os.RemoveAll(home.path(tokensName))
	l.tell("lab has ended; its logs are in %s", home.path("logs"))
	return err
}

// run starts and provisions the lab, says so, obeys while work runs, and
// returns what work returns.
func (l *lab) run(ctx context.Context, ttl time.Duration, root authority, began time.Time, work func(context.Context, *lab) error) error {
	if err := l.bringUp(ctx, root, ttl); err != nil {
		if ctx.Err() != nil {
			return errInterrupted
		}
		return err
	}
	listener, err := listenControl(l.folder.socket())
	if err != nil {
		return err
	}
	working, give := context.WithCancelCause(ctx)
	defer give(nil)
	server := &http.Server{Handler: l.handler(), ReadHeaderTimeout: askTimeout}
	go func() { give(fmt.Errorf("serve control socket: %w", server.Serve(listener))) }()
	defer server.Close()
	l.mutex.Lock()
	l.up = true
	l.mutex.Unlock()
	if err := l.save(); err != nil {
		return err
	}
	l.tell("lab is up after %s; %s", time.Since(began).Round(time.Millisecond), l.folder.record())
	err = work(working, l)
	if working.Err() != nil && ctx.Err() == nil { // it was not a person who ended it
		err = errors.Join(context.Cause(working), err)
	}
	return err
}

// bringUp starts every part at once, then sets Consul and Vault up.
func (l *lab) bringUp(ctx context.Context, root authority, ttl time.Duration) error {
	if err := l.names.start(ctx); err != nil {
		return err
	}
	l.tell("starting %s", strings.Join(l.parts(), ", "))
	work := map[string]func() error{"vault": func() (err error) {
		if err := l.components["vault"].start(ctx); err != nil {
			return err
		}
		l.record.Vault.RootToken, l.record.Vault.UnsealKey, err = l.vault.initialise(ctx, l.folder.auditLog())
		if err == nil {
			l.tell("vault is up, initialised and unsealed")
		}
		return err
	}}
	for _, name := range l.parts() {
		if one := l.components[name]; name != "vault" && name != "dns" {
			work[name] = func() error {
				err := one.start(ctx)
				if err == nil {
					l.tell("%s is up", name)
				}
				return err
			}
		}
	}
	err := together(slices.Collect(maps.Values(work)), func(one func() error) error { return one() })
	if err != nil {
		return err
	}
	l.tell("setting Consul and Vault up from deploy/: %d objects", len(consulPolicies)+1+len(vaultSteps))
	if l.record.Consul.VaultToken, err = provisionConsul(ctx, l.consul); err != nil {
		return err
	}
	l.record.Vault.JWTAccessor, err = provisionVault(ctx, l.vault.client, root, l.values(), ttl)
	return err
}

// values fill the @WORDS@ of the files of deploy/vault.
func (l *lab) values() map[string]string {
	return map[string]string{
		"ISSUER":         metadataURL,
		"DATACENTER":     datacenter,
		"DOMAIN":         domain,
		"CONSUL_ADDRESS": fmt.Sprintf("%s:%d", consulName, consulPorts["http"]),
		"CONSUL_SCHEME":  "http",
		"CONSUL_TOKEN":   l.record.Consul.VaultToken,
		"GOSSIP_KEY":     l.record.Consul.GossipKey,
	}
}
