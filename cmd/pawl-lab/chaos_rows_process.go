package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"pawl/internal/faults"
)

// processFaults: the agent itself, its listeners, its environment.
func processFaults() []fault {
	return []fault{
		{number: "F16", name: "api-listener-closed", how: "ss --kill of the embedded agent's HTTP listener", keeps: "metrics, registration", network: true, environment: []string{plainTCP},
			inject: destroy(tcpListeners, "src 127.0.0.1 sport = 18500"), until: []words{{"msg=service", "consul"}, into(degraded)}, check: restartedOnce},
		{number: "F16", name: "gossip-sockets-closed", how: "ss --kill of the embedded agent's gossip sockets, UDP and TCP", keeps: "metrics, registration", network: true, environment: []string{plainTCP},
			inject: inOrder(destroy(udpSockets, "src 127.0.2.1 sport = 8301"), destroy(tcpListeners, "src 127.0.2.1 sport = 8301")),
			until:  []words{{"msg=service", "gossip listener is gone"}, into(degraded)}, within: repair, check: restartedOnce},
		{number: "F16", name: "agent-dies-four-times", how: "ss --kill of the embedded agent's HTTP listener, each time it is back; started again after exit 75", keeps: "the reason; registration; no login", network: true, environment: []string{plainTCP}, exporterHit: true,
			inject: untilExit75, heal: startAgain, check: noLogin, says: []words{{"a process before gave up", "API listeners failed"}}},
		{number: "F16", name: "exporter-listener-closed", how: "ss --kill of node_exporter's listener", keeps: "credentials, gossip", network: true, environment: []string{plainTCP}, exporterHit: true,
			inject: destroy(tcpListeners, "src 127.0.0.1 sport = 19100"), hold: 10 * time.Second, mustNot: fallen},
		{number: "F16", name: "exporter-port-taken", how: "another process has node_exporter's port at boot", keeps: "the way to a registered node, its check critical", atBoot: true, exporterHit: true,
			inject: takePort, until: []words{into(consulReady)}, hold: 5 * time.Second, during: standing("exporter_down"), heal: freePort, within: 35 * time.Second},
		{number: "F6", name: "agent-stopped-past-ttl", how: "SIGSTOP of the agent until every credential has expired, SIGCONT", keeps: "registration", ttl: dying, exporterHit: true,
			inject: signalAgent(syscall.SIGSTOP), hold: dying + 10*time.Second, heal: signalAgent(syscall.SIGCONT), within: 35 * time.Second, check: sameAgent},
		{number: "F23", name: "agent-killed", how: "SIGKILL of the agent, started again at once", keeps: "registration; no login", exporterHit: true,
			inject: killAgent, heal: startAgain, within: 2 * time.Second, mustNot: []string{hasJWT}, check: noLogin},
		{number: "F23", name: "agent-killed-vault-down", how: "SIGKILL of Vault and of the agent, which is started again while Vault is down", keeps: "registration; no login; it serves before Vault does", exporterHit: true,
			inject: inOrder(inLab("kill", "vault"), killAgent, startAgain), until: []words{into(serving)}, hold: held, heal: inLab("start", "vault"), mustNot: []string{hasJWT, degraded}, check: noLogin},
		{number: "F30", name: "agent-killed-for-long", how: "SIGKILL of the agent, started again when the servers call it failed", keeps: "registration", exporterHit: true,
			inject: inOrder(killAgent, awaitMember("failed")), heal: startAgain},
		{number: "F30", name: "agent-rebooted", how: "SIGTERM: it leaves and is taken out of the catalogue; started again", keeps: "the leave is known: no zombie", exporterHit: true, consulForgets: true,
			inject: inOrder(stopAgent, awaitMember("left")), heal: startAgain},
		{number: "F45", name: "agent-replaced", how: "SIGHUP: the binary executed anew in its place", keeps: "everything; no login",
			inject: signalAgent(syscall.SIGHUP), until: []words{{"handed over"}, {"msg=moved", "event=restored"}, into(serving)}, within: 5 * time.Second, check: noLogin},
		{number: "F24", name: "proxy-in-environment", how: "HTTP_PROXY and its like name a recorder; Vault restarted, so that all connect anew", keeps: "everything, past no proxy", ttl: brisk,
			environment: []string{"HTTP_PROXY=http://" + recorderIP + ":3128", "HTTPS_PROXY=http://" + recorderIP + ":3128", "http_proxy=http://" + recorderIP + ":3128", "https_proxy=http://" + recorderIP + ":3128", "ALL_PROXY=http://" + recorderIP + ":3128", "NO_PROXY=none.example"},
			atBoot:      true, inject: recordProxy, until: []words{into(serving)}, hold: brisk, mustNot: []string{degraded}, check: nothingRecorded},
		{number: "F35", name: "dns-silent", how: "DNS says nothing, and Vault is restarted", keeps: "the last good addresses", ttl: slow,
			inject: inOrder(consulByAddress, inLab("pause", "dns"), inLab("kill", "vault"), inLab("start", "vault")), hold: slow, heal: inLab("resume", "dns"), mustNot: append([]string{degraded}, fallen...)},
		{number: "F35", name: "dns-denies", how: "DNS knows neither name, and Vault is restarted", keeps: "the last good addresses", ttl: brisk,
			inject: inOrder(consulByAddress, inLab("dns", vaultName, "none"), inLab("dns", consulName, "none"), inLab("kill", "vault"), inLab("start", "vault")), hold: brisk,
			heal: inOrder(inLab("dns", vaultName, vaultIP), inLab("dns", consulName, "127.0.1.1")), mustNot: append([]string{degraded}, fallen...)},
		{number: "F35", name: "dns-down-at-boot", how: "DNS is down at boot", keeps: "metrics and status", atBoot: true,
			inject: inLab("stop", "dns"), until: []words{{"msg=failed", "action=log_in", "class=transient", "resolve"}}, hold: 5 * time.Second, heal: inLab("start", "dns")},
	}
}

// consulByAddress has Vault know Consul by its address: here it is the agent that
// must do without DNS, and not Vault.
func consulByAddress(ctx context.Context, s *scene) error {
	return applyWith("vault/consul-access.json", map[string]any{"address": fmt.Sprintf("%s:%d", consulIP(1), consulPorts["http"])})(ctx, s)
}

// restartedOnce checks that the embedded agent was restarted within the process.
func restartedOnce(ctx context.Context, s *scene) (string, error) {
	now, err := s.status(ctx)
	if err != nil {
		return "", err
	}
	for _, one := range now.Services {
		if one.Name == "consul" && one.Restarts != 1 {
			return "", fmt.Errorf("the embedded agent was restarted %d times", one.Restarts)
		}
	}
	return "restarted within the process", nil
}

// takePort takes node_exporter's port.
func takePort(_ context.Context, s *scene) error {
	listener, err := net.Listen("tcp", s.program.site.NodeExporter.Listen)
	if err != nil {
		return err
	}
	s.taken = listener
	s.closers = append(s.closers, func() { _ = listener.Close() })
	return nil
}

func freePort(_ context.Context, s *scene) error { return s.taken.Close() }

// signalAgent sends a signal to the agent.
func signalAgent(signal syscall.Signal) deed {
	return func(_ context.Context, s *scene) error { return syscall.Kill(s.running.pid, signal) }
}

// killAgent ends the agent as a crash does.
func killAgent(_ context.Context, s *scene) error {
	s.killAgent()
	s.killed = true
	return nil
}

// startAgain starts the agent again, as the service manager does.
func startAgain(_ context.Context, s *scene) error {
	s.killed, s.fresh, s.moved = false, true, 0
	s.logged = s.log.count()
	return s.start()
}

// stopAgent ends the agent as the service manager does.
func stopAgent(_ context.Context, s *scene) error {
	_, err := s.running.stop()
	s.killed = true
	return err
}

// awaitMember waits until a server says so of the node.
func awaitMember(state string) deed {
	return func(ctx context.Context, s *scene) error {
		bounded, cancel := context.WithTimeout(ctx, readyTimeout)
		defer cancel()
		return retry(bounded, nil, func(context.Context) error { return s.member(state, s.program.site.Consul.Bind) })
	}
}

const (
	// restarts is how often the embedded agent may fail before the process gives up
	// at its next failure, and giveUp the exit code by which it asks for a new process.
	restarts = 3
	giveUp   = 75
)

// untilExit75 closes the embedded agent's listener as often as it comes back, until
// the process ends, and checks when and how it does.
func untilExit75(ctx context.Context, s *scene) error {
	s.killed = true
	bounded, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for failures := range restarts + 1 {
		err := retry(bounded, s.running.ended, func(ctx context.Context) error { return destroy(tcpListeners, "src 127.0.0.1 sport = 18500")(ctx, s) })
		if errors.Is(err, errEnded) {
			return fmt.Errorf("after %d failures already: %w", failures, s.running.died())
		}
		if err != nil {
			return err
		}
	}
	select {
	case <-s.running.ended:
	case <-bounded.Done():
		return fmt.Errorf("%d failures did not end the process", restarts+1)
	}
	var exit *exec.ExitError
	if !errors.As(s.running.err, &exit) || exit.ExitCode() != giveUp {
		return fmt.Errorf("the process ended with %s, not %d", describeEnd(s.running.err), giveUp)
	}
	if _, found := s.log.find(s.logged, words{`msg="giving up"`, "API listeners failed", "exit=75"}); !found {
		return errors.New("the log does not keep the reason of exit 75")
	}
	kept, err := os.ReadFile(filepath.Join(s.program.site.RuntimeFolder, "gave-up"))
	if err != nil || !strings.Contains(string(kept), "API listeners failed") {
		return errors.Join(fmt.Errorf("the runtime folder keeps another reason of exit 75: %q", kept), err)
	}
	return nil
}

// answersAtOnce checks that dump, status and metrics do not wait for an attempt that hangs.
func answersAtOnce(ctx context.Context, s *scene) error {
	count := s.log.count()
	if err := signalAgent(syscall.SIGUSR1)(ctx, s); err != nil {
		return err
	}
	if err := s.log.await(ctx, s.running.ended, count, atOnce, words{`"in_flight":`, `"reasons":`}); err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	bounded, cancel := context.WithTimeout(ctx, atOnce)
	defer cancel()
	_, err := s.status(bounded)
	return errors.Join(err, s.scrape(bounded, "http://"+s.program.site.NodeExporter.Listen+"/metrics"))
}

// atOnce is for what waits for nothing, on a machine that other faults load.
const atOnce = 2 * time.Second

// noLogin checks that the agent went on with the Vault token it had.
func noLogin(ctx context.Context, s *scene) (string, error) {
	now, err := s.status(ctx)
	switch {
	case err != nil:
		return "", err
	case now.id("vault_token") != s.before.id("vault_token"):
		return "", errors.New("it logged in anew")
	}
	return "no login", nil
}

// recordProxy opens what the proxy variables name.
func recordProxy(_ context.Context, s *scene) (err error) {
	if s.recorder, err = faults.ListenWire(recorderIP+":3128", ""); err != nil {
		return err
	}
	s.closers = append(s.closers, func() { _ = s.recorder.Close() })
	return nil
}

// nothingRecorded checks that nobody came to the proxy.
func nothingRecorded(_ context.Context, s *scene) (string, error) {
	if came := s.recorder.Accepted(); came > 0 {
		return "", fmt.Errorf("the proxy was asked %d times", came)
	}
	return "the proxy was asked 0 times", nil
}

// flapping kills Vault and starts it again, so many times.
func flapping(times int) deed {
	return func(ctx context.Context, s *scene) error {
		for range times {
			if err := inOrder(inLab("kill", "vault"), inLab("start", "vault"))(ctx, s); err != nil {
				return err
			}
			if err := s.sleep(ctx, 2*time.Second); err != nil {
				return err
			}
		}
		return nil
	}
}

// strangersCertificate makes one for Vault's name, by a CA that nobody trusts.
func (s *scene) strangersCertificate() (tls.Certificate, *x509.CertPool, error) {
	folder, err := os.MkdirTemp(s.lab.folder.path("tls"), "stranger")
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	authorities, err := ensureAuthorities(folder, time.Now())
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pair := keyPair{folder + "/server.pem", folder + "/server.key"}
	if err := authorities[0].issueServer(pair, vaultName, []string{strangerIP}, time.Now()); err != nil {
		return tls.Certificate{}, nil, err
	}
	made, err := tls.LoadX509KeyPair(pair.certificate, pair.key)
	return made, x509.NewCertPool(), err
}
