package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// namespaceVariable tells a process that was started in a namespace of its own
	// which one its parent is in.
	namespaceVariable = "PAWL_LAB_NAMESPACE_BEFORE"
	// needsNamespace is why a row is skipped.
	needsNamespace = "needs root, and `ip` and `ss`, for a network namespace of its own"
	// nowhere is a bridge without ports, and the table that leads to it: what is
	// routed there is lost without a word, as behind a firewall that drops.
	nowhere      = "nowhere"
	nowhereTable = "99"
)

// ownNamespace says whether this process is in a network namespace of its own,
// where routes and sockets are ours to break.
func ownNamespace() bool {
	before := os.Getenv(namespaceVariable)
	here, err := os.Readlink("/proc/self/ns/net")
	return before != "" && err == nil && here != before
}

// mayNamespace says why this process can make no network namespace, or nothing.
func mayNamespace() error {
	var lacks []error
	if os.Geteuid() != 0 {
		lacks = append(lacks, errors.New("not root"))
	}
	for _, tool := range []string{"ip", "ss"} {
		if _, err := exec.LookPath(tool); err != nil {
			lacks = append(lacks, err)
		}
	}
	if shared := filepath.Dir(runtimeFolder()); shared == filepath.Clean(os.TempDir()) {
		lacks = append(lacks, fmt.Errorf("the agent's runtime folder is in %s, which cannot be mounted over", shared))
	}
	if len(lacks) == 0 { // root of a container may be root in name only
		trial := exec.Command("/proc/self/exe", "help")
		trial.SysProcAttr = &syscall.SysProcAttr{Unshareflags: ownNamespaces}
		if err := trial.Run(); err != nil {
			lacks = append(lacks, fmt.Errorf("make a namespace: %w", err))
		}
	}
	return errors.Join(lacks...)
}

// ownNamespaces is what a row has for itself: loopback and routes, and mounts, made private.
const ownNamespaces = syscall.CLONE_NEWNET | syscall.CLONE_NEWNS

// buildNamespace makes loopback work, and lets rules come before the kernel's own
// for local addresses, so that loopback's packets can be led astray.
func buildNamespace() error {
	for _, command := range []string{
		"link set lo up",
		"rule add priority 32000 lookup local",
		"rule del priority 0",
		"link add " + nowhere + " type bridge",
		"link set " + nowhere + " up",
	} {
		if err := ip(context.Background(), command); err != nil {
			return err
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+nowhere+"/route_localnet", []byte("1"), 0); err != nil {
		return fmt.Errorf("let loopback's packets out: %w", err)
	}
	for _, command := range []string{
		"neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev " + nowhere,
		"route add default via 192.0.2.1 dev " + nowhere + " onlink table " + nowhereTable,
	} {
		if err := ip(context.Background(), command); err != nil {
			return err
		}
	}
	return nil
}

// ip runs iproute2's ip.
func ip(ctx context.Context, command string) error {
	said, err := exec.CommandContext(ctx, "ip", strings.Fields(command)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", command, err, strings.TrimSpace(string(said)))
	}
	return nil
}

// firstRule is the priority of the first rule of a fault: before all others.
const firstRule = 100

// rules has packets that fit any of the selectors (of `ip rule`) dealt with so,
// until mend or the scene's end.
func rules(action string, selectors ...string) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		for _, selector := range selectors {
			s.ruled++
			if err := ip(ctx, fmt.Sprintf("rule add priority %d %s %s", firstRule+s.ruled, selector, action)); err != nil {
				return err
			}
		}
		s.closers = append(s.closers, func() { _ = mend(context.Background(), s) })
		return nil
	}
}

// drop loses packets without a word.
func drop(selectors ...string) func(context.Context, *scene) error {
	return rules("lookup "+nowhereTable, selectors...)
}

// mend takes the rules away.
func mend(ctx context.Context, s *scene) error {
	for ; s.ruled > 0; s.ruled-- {
		if err := ip(ctx, "rule del priority "+strconv.Itoa(firstRule+s.ruled)); err != nil {
			return err
		}
	}
	return nil
}

// plainTCP keeps Go from MPTCP, whose listeners the kernel does not let ss close.
const plainTCP = "GODEBUG=multipathtcp=0"

// What of sockets can be closed, in the words of ss.
const (
	tcpListeners   = "--tcp --listening"
	tcpConnections = "--tcp state established"
	udpSockets     = "--udp --all"
)

// destroy has the kernel close sockets under whoever holds them.
func destroy(sockets, filter string) deed {
	return func(ctx context.Context, _ *scene) error {
		said, err := exec.CommandContext(ctx, "ss", append([]string{"--kill", "--numeric", "--no-header"}, strings.Fields(sockets+" "+filter)...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ss --kill %s: %w: %s", filter, err, said)
		}
		if text := strings.TrimSpace(string(said)); text == "" || strings.Contains(text, "SOCK_DESTROY") {
			return fmt.Errorf("ss --kill %s: no such socket, or not to be closed: %q", filter, text)
		}
		return nil
	}
}

// breakConnections closes the agent's connections to the servers so many times, one
// second apart; the first time there must be one.
func breakConnections(times int) deed {
	once := destroy(tcpConnections, "dport = 8300")
	return func(ctx context.Context, s *scene) error {
		if err := once(ctx, s); err != nil {
			return err
		}
		for range times - 1 {
			if err := s.sleep(ctx, time.Second); err != nil {
				return err
			}
			_ = once(ctx, s) // it need not have opened another yet
		}
		return nil
	}
}
