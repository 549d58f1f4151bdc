package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pawl/internal/site"
)

// agentProgram is bin/pawl, beside pawl-lab, and the site that is baked into it.
type agentProgram struct {
	path string
	site site.Site
	// environment is what an agent gets beside the driver's own.
	environment []string
}

// findAgent finds bin/pawl and reads its site.
func findAgent(ctx context.Context) (agentProgram, error) {
	self, err := os.Executable()
	if err != nil {
		return agentProgram{}, fmt.Errorf("find the folder of pawl-lab: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), "pawl")
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	text, err := exec.CommandContext(bounded, path, "site").Output()
	if err != nil {
		return agentProgram{}, fmt.Errorf("run %s site: %w; `make build` makes it", path, err)
	}
	baked, err := site.Parse(text, path)
	if err != nil {
		return agentProgram{}, fmt.Errorf("read the site of %s: %w", path, err)
	}
	return agentProgram{path: path, site: baked}, nil
}

// fits says whether the agent was built for this lab, whose roots these are.
// Without this, an agent of another checkout would fail at TLS, a minute later.
func (p agentProgram) fits(roots authorities) error {
	text, err := renderSite(roots.bundle())
	if err != nil {
		return err
	}
	lab, err := site.Parse(text, siteTemplate)
	if err != nil {
		return err
	}
	for _, one := range []struct{ what, baked, lab string }{
		{"CA roots", strings.TrimSpace(p.site.CARoots), strings.TrimSpace(lab.CARoots)},
		{"resolver", p.site.Resolver, lab.Resolver},
		{"metadata service", p.site.Metadata.URL, lab.Metadata.URL},
		{"Vault", p.site.Vault.Address, lab.Vault.Address},
		{"Consul", p.site.Consul.Servers, lab.Consul.Servers},
		{"runtime folder", p.site.RuntimeFolder, lab.RuntimeFolder},
	} {
		if one.baked != one.lab {
			return fmt.Errorf("%s is built for another site, with another %s than this lab's; `make build` builds it for the lab", p.path, one.what)
		}
	}
	return nil
}

// noAgent is the exit code of `pawl status` where no agent answers.
const noAgent = 3

// clear removes what an earlier agent of the lab left in its runtime folder, as
// a fresh VM has nothing there. It refuses where an agent still answers. Called
// after fits, which makes sure that the folder is the lab's.
func (p agentProgram) clear(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err := exec.CommandContext(bounded, p.path, "status").Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case err == nil, errors.As(err, &exit) && exit.ExitCode() != noAgent:
		return fmt.Errorf("a pawl runs in %s already (`%s status`); stop it first", p.site.RuntimeFolder, p.path)
	case exit == nil:
		return fmt.Errorf("ask for another pawl: %w", err)
	}
	if err := os.RemoveAll(p.site.RuntimeFolder); err != nil {
		return fmt.Errorf("remove what an earlier pawl left: %w", err)
	}
	return nil
}

// sockets lists what the agent binds, so that a taken port is refused by name
// of its holder before anything is started.
func (p agentProgram) sockets() []socket {
	all := []socket{
		{"tcp", p.site.Consul.HTTP, "pawl's Consul API"},
		{"tcp", p.site.NodeExporter.Listen, "pawl's node_exporter"},
	}
	if p.site.Consul.DNS != "" {
		all = append(all, socket{"tcp", p.site.Consul.DNS, "pawl's DNS"}, socket{"udp", p.site.Consul.DNS, "pawl's DNS"})
	}
	if net.ParseIP(p.site.Consul.Bind) != nil { // a template is known to the agent alone
		gossip := net.JoinHostPort(p.site.Consul.Bind, strconv.Itoa(p.site.Consul.BindSerfPort))
		all = append(all, socket{"tcp", gossip, "pawl's gossip"}, socket{"udp", gossip, "pawl's gossip"})
	}
	return all
}

// agent is one run of bin/pawl. Safe from any goroutine.
type agent struct {
	program agentProgram
	pid     int
	// began is the moment just before exec.
	began time.Time
	log   *stream
	ended chan struct{} // closed when it is reaped
	err   error         // how it ended; read it after ended only
}

// agentStop bounds the whole of a SIGTERM: the agent promises ten seconds.
const agentStop = 10 * time.Second

// errAgentEnded marks the error of an agent that ended unasked.
var errAgentEnded = errors.New("pawl ended by itself")

// errInterrupted ends a command that a person interrupted before it was done.
var errInterrupted = errors.New("interrupted")

// startAgent runs `pawl run` with its log going to out, as the agent wrote it.
func startAgent(starter *launcher, program agentProgram, out io.Writer) (*agent, error) {
	a := &agent{program: program, log: newStream(out), ended: make(chan struct{})}
	command := exec.Command(program.path, "run")
	command.Stdout, command.Stderr = a.log, a.log
	command.Env = append(os.Environ(), program.environment...)
	// Who has gone leaves no pipe to wait for: nobody inherits it.
	command.WaitDelay = time.Second
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	a.began = time.Now()
	if err := starter.start(command); err != nil {
		return nil, fmt.Errorf("start %s: %w", program.path, err)
	}
	a.pid = command.Process.Pid
	go func() {
		a.err = command.Wait()
		a.log.flush()
		close(a.ended)
	}()
	return a, nil
}

// await returns when found says yes to the moves after the first count. It asks
// again with every move. It fails when the agent ends, ctx ends or limit passes.
func (a *agent) await(ctx context.Context, count int, limit time.Duration, what string, found func([]move) bool) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		moves, grown := a.log.since(count)
		if found(moves) {
			return nil
		}
		select {
		case <-grown:
		case <-a.ended:
			return a.died()
		case <-ctx.Done():
			return errInterrupted
		case <-timer.C:
			return fmt.Errorf("pawl is not %s after %s; it stands in %s, and its log ends with:\n%s", what, limit, a.state(), a.log.tail())
		}
	}
}

// awaitServing returns the first move to Serving.
func (a *agent) awaitServing(ctx context.Context, limit time.Duration) (reached move, err error) {
	err = a.await(ctx, 0, limit, serving, func(moves []move) bool {
		for _, one := range moves {
			if one.To == serving {
				reached = one
				return true
			}
		}
		return false
	})
	return reached, err
}

// state returns where the agent stands by its log.
func (a *agent) state() string {
	moves, _ := a.log.since(0)
	if len(moves) == 0 {
		return "its first state"
	}
	return moves[len(moves)-1].To
}

// died is the error of an agent that ended unasked. Called after ended.
func (a *agent) died() error {
	return fmt.Errorf("%w (%s); its log ends with:\n%s", errAgentEnded, describeEnd(a.err), a.log.tail())
}

// stop ends the agent with SIGTERM and says how long that took. An agent that
// had ended already, does not end in time (it is killed then), or ends with
// another exit code than 0 is an error.
func (a *agent) stop() (time.Duration, error) {
	select {
	case <-a.ended:
		return 0, a.died()
	default:
	}
	began := time.Now()
	if err := syscall.Kill(a.pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return 0, fmt.Errorf("stop pawl: %w", err)
	}
	timer := time.NewTimer(agentStop)
	defer timer.Stop()
	select {
	case <-a.ended:
	case <-timer.C:
		_ = syscall.Kill(a.pid, syscall.SIGKILL)
		<-a.ended
		return 0, fmt.Errorf("pawl did not end within %s of SIGTERM and was killed; its log ends with:\n%s", agentStop, a.log.tail())
	}
	if a.err != nil {
		return 0, fmt.Errorf("pawl ended on SIGTERM with %s; its log ends with:\n%s", describeEnd(a.err), a.log.tail())
	}
	return time.Since(began), nil
}

// agentReport is what the driver reads of `pawl status --json`.
type agentReport struct {
	Verdict string    `json:"verdict"`
	State   string    `json:"state"`
	Started time.Time `json:"started"`
	Moves   []struct {
		At    time.Time `json:"at"`
		From  string    `json:"from"`
		Event string    `json:"event"`
		To    string    `json:"to"`
	} `json:"moves"`
	Actions []struct {
		Action string  `json:"action"`
		Total  int     `json:"attempts_total"`
		Took   float64 `json:"last_success_took_seconds"`
	} `json:"actions"`
}

// report asks `pawl status --json`. An agent that is not ready answers too.
func (a *agent) report(ctx context.Context) (agentReport, error) {
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	text, err := exec.CommandContext(bounded, a.program.path, "status", "--json").Output()
	var answer agentReport
	if decodeErr := json.NewDecoder(bytes.NewReader(text)).Decode(&answer); decodeErr != nil {
		return agentReport{}, fmt.Errorf("read pawl's status: %w", errors.Join(err, decodeErr))
	}
	return answer, nil
}
