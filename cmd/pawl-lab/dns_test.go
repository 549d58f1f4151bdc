package main

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// testResolver is on an address of its own, so that a lab may run meanwhile.
const testResolver = "127.77.0.1:18053"

func startNames(t *testing.T, servers int) *nameServer {
	t.Helper()
	names := newNameServer(testResolver, servers)
	if err := names.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = names.stop(context.Background()) })
	return names
}

// lookUp asks as the agent does: through Go's own resolver.
func lookUp(t *testing.T, network, name string) ([]string, error) {
	t.Helper()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, testResolver)
	}}
	addresses, err := resolver.LookupHost(t.Context(), name)
	slices.Sort(addresses)
	return addresses, err
}

func TestNamesAreAnsweredOverBothTransports(t *testing.T) {
	startNames(t, 3)
	for _, network := range []string{"udp", "tcp"} {
		got, err := lookUp(t, network, consulName)
		if want := []string{"127.0.1.1", "127.0.1.2", "127.0.1.3"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %s is %v (%v), want %v", network, consulName, got, err, want)
		}
		if got, err := lookUp(t, network, vaultName); err != nil || !slices.Equal(got, []string{vaultIP}) {
			t.Errorf("%s: %s is %v (%v)", network, vaultName, got, err)
		}
		_, err = lookUp(t, network, "nobody.lab.pawl")
		if missing, is := err.(*net.DNSError); !is || !missing.IsNotFound {
			t.Errorf("%s: an unknown name gives %v, want not found", network, err)
		}
	}
}

func TestRecordsChange(t *testing.T) {
	names := startNames(t, 1)
	addresses, err := parseAddresses("127.0.1.2,::1")
	if err != nil {
		t.Fatal(err)
	}
	names.set("Consul.lab.pawl", addresses)
	if got, err := lookUp(t, "udp", consulName); err != nil || !slices.Equal(got, []string{"127.0.1.2", "::1"}) {
		t.Errorf("after the change: %v (%v)", got, err)
	}
	names.set(consulName, nil)
	if got, err := lookUp(t, "udp", consulName); err == nil {
		t.Errorf("a removed name is %v", got)
	}
	if _, err := parseAddresses("127.0.1.2,x"); err == nil {
		t.Error("a bad address was accepted")
	}
}

func TestAnswer(t *testing.T) {
	names := newNameServer(testResolver, 1)
	question := new(dns.Msg).SetQuestion(vaultName+".", dns.TypeAAAA)
	if reply := names.answer(question); reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != 0 {
		t.Errorf("AAAA of a name with an IPv4 address: %v", reply)
	}
	reply := names.answer(new(dns.Msg).SetQuestion(vaultName+".", dns.TypeA))
	if len(reply.Answer) != 1 || reply.Answer[0].Header().Ttl != answerTTL {
		t.Fatalf("A: %v", reply)
	}
	if got := reply.Answer[0].(*dns.A).A; !got.Equal(net.ParseIP(vaultIP)) {
		t.Errorf("A: %s", got)
	}
	if reply := names.answer(new(dns.Msg)); reply.Rcode != dns.RcodeNotImplemented {
		t.Errorf("no question at all: %v", reply)
	}
}

func TestStopPauseResumeOfNames(t *testing.T) {
	names := startNames(t, 1)
	ctx := t.Context()
	if err := names.pause(ctx); err != nil {
		t.Fatal(err)
	}
	if reply := names.answer(new(dns.Msg).SetQuestion(vaultName+".", dns.TypeA)); reply != nil {
		t.Errorf("paused, and answers %v", reply)
	}
	if got := names.report().State; got != statePaused {
		t.Errorf("state %s", got)
	}
	if err := names.start(ctx); err == nil {
		t.Error("what is paused was started")
	}
	if err := names.resume(ctx); err != nil {
		t.Fatal(err)
	}
	for range 2 { // twice: the sockets are free again when stop returns
		if err := names.stop(ctx); err != nil {
			t.Fatal(err)
		}
		if connection, err := net.DialTimeout("tcp", testResolver, time.Second); err == nil {
			_ = connection.Close()
			t.Error("stopped, and still listens")
		}
		if err := names.start(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := lookUp(t, "udp", vaultName); err != nil || !slices.Equal(got, []string{netip.MustParseAddr(vaultIP).String()}) {
		t.Errorf("after all that: %v (%v)", got, err)
	}
}
