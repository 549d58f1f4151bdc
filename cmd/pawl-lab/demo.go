package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// demoOptions are the flags of `demo`.
type demoOptions struct {
	up upOptions
	// untilServing ends the demo when the agent serves.
	untilServing bool
	// outage takes Vault down, then Consul, each for outageLength; zero: past the TTL.
	outage       bool
	outageLength time.Duration
}

const (
	// servingTimeout bounds the way to Serving, at boot and after an outage.
	servingTimeout = 60 * time.Second
	// outageTTL is the default TTL where things are to expire while a person watches.
	outageTTL = 20 * time.Second
	// outageMargin is how much longer than the TTL an outage is by default.
	outageMargin = 10 * time.Second
)

// filled returns the options with their defaults.
func (o demoOptions) filled() demoOptions {
	if o.outage && o.up.ttl == 0 {
		o.up.ttl = outageTTL
	}
	if o.outage && o.outageLength == 0 {
		o.outageLength = o.up.ttl + outageMargin
	}
	return o
}

func (o demoOptions) check() error {
	switch {
	case o.outage && o.untilServing:
		return usageError{"--outage and --until-serving: choose one"}
	case !o.outage && o.outageLength != 0:
		return usageError{"--outage-length without --outage"}
	case o.outageLength < 0:
		return usageError{fmt.Sprintf("--outage-length %s is negative", o.outageLength)}
	}
	return o.up.check()
}

// demo runs lab and agent together and shows the way to Serving.
func demo(ctx context.Context, o demoOptions) error {
	o = o.filled()
	err := withAgent(ctx, o.up, func(ctx context.Context, l *lab, program agentProgram) error {
		return l.demonstrate(ctx, o, program)
	})
	if errors.Is(err, errInterrupted) && !o.outage && !o.untilServing {
		return nil // Ctrl-C is how it ends
	}
	return err
}

// withAgent is withLab for who runs the agent beside it: it refuses an agent
// that is missing or built for another site before it starts anything.
func withAgent(ctx context.Context, o upOptions, work func(context.Context, *lab, agentProgram) error) error {
	program, err := findAgent(ctx)
	if err != nil {
		return err
	}
	o.agent = &program
	return withLab(ctx, o, func(ctx context.Context, l *lab) error {
		if err := program.clear(ctx); err != nil {
			return err
		}
		// work has ended its agent: nothing of it stays behind.
		defer func() { _ = os.RemoveAll(program.site.RuntimeFolder) }()
		return work(ctx, l, program)
	})
}

// demonstrate runs the agent in a lab that is up, and ends it.
func (l *lab) demonstrate(ctx context.Context, o demoOptions, program agentProgram) error {
	kept, err := os.OpenFile(l.folder.log("pawl"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keep pawl's log: %w", err)
	}
	defer kept.Close()
	l.tell("starting %s run; its log stream follows", program.path)
	running, err := startAgent(l.launcher, program, io.MultiWriter(kept, l.stderr))
	if err != nil {
		return err
	}
	if err = l.watch(ctx, o, running); errors.Is(err, errAgentEnded) {
		return err
	}
	l.tell("stopping pawl: it leaves Consul and gives back what Vault gave")
	took, stopErr := running.stop()
	if stopErr == nil {
		l.tell("pawl left and exited 0 after %s", short(took))
	}
	return errors.Join(err, stopErr)
}

// watch follows the running agent to Serving and through what the options ask for.
func (l *lab) watch(ctx context.Context, o demoOptions, running *agent) error {
	reached, err := running.awaitServing(ctx, servingTimeout)
	if err != nil {
		return err
	}
	l.tell("pawl is Serving, %s after exec", short(reached.At.Sub(running.began)))
	switch {
	case o.untilServing:
		return nil
	case o.outage:
		return l.showOutages(ctx, o, running)
	}
	fmt.Fprint(o.up.stdout, l.guide(running))
	select {
	case <-ctx.Done():
		return nil
	case <-running.ended:
		return running.died()
	}
}

// guide says where to look while the demo runs.
func (l *lab) guide(running *agent) string {
	name := l.record.Metadata.VMs[0].Name
	own := l.folder.path()
	here, err := os.Getwd()
	if err == nil {
		own = nearer(here, own)
	}
	token := func(name string) string { return filepath.Join(own, tokensName, name) }
	program := nearer(here, running.program.path)
	driver := filepath.Join(filepath.Dir(program), "pawl-lab")
	in := ""
	if own != defaultFolder {
		in = " --dir " + own
	}
	var text strings.Builder
	line := func(what, how string) { fmt.Fprintf(&text, "  %-22s %s\n", what, how) }
	fmt.Fprintf(&text, "\nEverything runs until Ctrl-C here. From another terminal:\n")
	line("how pawl is", program+" status")
	line("all it knows, as JSON", program+" status --json; or into its log: kill -USR1 "+fmt.Sprint(running.pid))
	line("metrics", "curl -s http://"+running.program.site.NodeExporter.Listen+"/metrics")
	line("Consul, with its UI", l.record.Consul.Servers[0]+"/ui/ (log in with the token in "+token("consul")+")")
	line("the node's checks", fmt.Sprintf(`curl -s -H "X-Consul-Token: $(cat %s)" %s/v1/health/node/%s`, token("consul"), l.record.Consul.Servers[0], name))
	line("Vault", fmt.Sprintf("https://%s (CA: %s, root token: %s)", vaultAddress, filepath.Join(own, "tls", "ca.pem"), token("vault")))
	line("who got what", "tail -f "+nearer(here, l.record.Vault.AuditLog))
	line("the lab itself", driver+" status"+in)
	line("break it", driver+" stop vault"+in+"      (or: kill, pause; consul, metadata, dns; seal)")
	line("mend it", driver+" start vault"+in+"     (or: resume; unseal)")
	return text.String() + "\n"
}

// nearer returns path as seen from here where that is shorter.
func nearer(here, path string) string {
	if relative, err := filepath.Rel(here, path); err == nil && len(relative) < len(path) {
		return relative
	}
	return path
}

// short is a duration a person can read: milliseconds below a second, tenths above.
func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
