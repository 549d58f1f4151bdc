package dial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// names is a real DNS server on a real socket whose answers a test can change.
type names struct {
	connection net.PacketConn
	mutex      sync.Mutex
	addresses  []netip.Addr
	mute       bool
	dropsAAAA  bool
	asked      []string
}

func serveNames(t *testing.T, addresses ...string) *names {
	t.Helper()
	connection, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	server := &names{connection: connection}
	server.answer(addresses...)
	go server.serve()
	return server
}

func (n *names) answer(addresses ...string) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.mute, n.addresses = false, nil
	for _, address := range addresses {
		n.addresses = append(n.addresses, netip.MustParseAddr(address))
	}
}

func (n *names) silence() {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.mute = true
}

func (n *names) serve() {
	buffer := make([]byte, 1500)
	for {
		size, from, err := n.connection.ReadFrom(buffer)
		if err != nil {
			return
		}
		var message dnsmessage.Message
		if message.Unpack(buffer[:size]) != nil || len(message.Questions) == 0 {
			continue
		}
		question := message.Questions[0]
		n.mutex.Lock()
		n.asked = append(n.asked, question.Name.String())
		reply := dnsmessage.Message{Header: dnsmessage.Header{ID: message.ID, Response: true, Authoritative: true}, Questions: message.Questions}
		for _, address := range n.addresses {
			if question.Type == dnsmessage.TypeA {
				reply.Answers = append(reply.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: question.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
					Body:   &dnsmessage.AResource{A: address.As4()},
				})
			}
		}
		if len(n.addresses) == 0 {
			reply.RCode = dnsmessage.RCodeNameError
		}
		mute := n.mute || n.dropsAAAA && question.Type == dnsmessage.TypeAAAA
		n.mutex.Unlock()
		if packed, err := reply.Pack(); err == nil && !mute {
			_, _ = n.connection.WriteTo(packed, from)
		}
	}
}

// listen accepts on address and greets with its own name.
func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_ = connection.Close()
		}
	}()
	return listener
}

func reach(t *testing.T, dialer *Dialer, port string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	connection, err := dialer.DialContext(ctx, "tcp", "vault.test.pawl:"+port)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	host, _, err := net.SplitHostPort(connection.RemoteAddr().String())
	return host, err
}

func TestLastGoodAddressesOutliveDNS(t *testing.T) {
	server := serveNames(t, "127.0.0.3", "127.0.0.2")
	first := listen(t, "127.0.0.2:0") // nothing listens on 127.0.0.3: it is tried, and passed over
	_, port, _ := net.SplitHostPort(first.Addr().String())
	dialer := New(server.connection.LocalAddr().String())
	dialer.timeout = 200 * time.Millisecond

	steps := []struct {
		name   string
		change func()
		want   string
	}{
		{"a fresh answer, one of two listening", func() {}, "127.0.0.2"},
		{"DNS is silent", server.silence, "127.0.0.2"},
		{"DNS says there is no such name", func() { server.answer() }, "127.0.0.2"},
		{"DNS lies", func() { server.answer("127.0.0.9") }, "127.0.0.2"},
		{"DNS says nowhere", func() { server.answer("0.0.0.0") }, "127.0.0.2"},
		{"the name moved", func() { listen(t, "127.0.0.4:"+port); server.answer("127.0.0.4") }, "127.0.0.4"},
		{"and DNS went away again", server.silence, "127.0.0.4"},
	}
	for _, step := range steps {
		step.change()
		if got, err := reach(t, dialer, port); err != nil || got != step.want {
			t.Fatalf("%s: reached %q (%v), want %q", step.name, got, err, step.want)
		}
	}
	server.mutex.Lock()
	defer server.mutex.Unlock()
	if slices.ContainsFunc(server.asked, func(name string) bool { return name != "vault.test.pawl." }) {
		t.Errorf("asked for more than the name: %q", server.asked)
	}
}

func TestErrorsSayWhatFailed(t *testing.T) {
	server := serveNames(t)
	dialer := New(server.connection.LocalAddr().String())
	dialer.timeout = 200 * time.Millisecond

	_, err := reach(t, dialer, "1")
	var lookup *LookupError
	if !errors.As(err, &lookup) || lookup.Name != "vault.test.pawl" {
		t.Errorf("unknown name: %v", err)
	}
	server.answer("127.0.0.5", "127.0.0.6")
	_, err = reach(t, dialer, "1")
	if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "127.0.0.5:1") || !strings.Contains(err.Error(), "127.0.0.6:1") {
		t.Errorf("nobody listens: %v", err)
	}
	if _, err := dialer.DialContext(t.Context(), "tcp", "no-port"); err == nil {
		t.Error("an address without a port was accepted")
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dialer.DialContext(cancelled, "tcp", "vault.test.pawl:1"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestLookup(t *testing.T) {
	server := serveNames(t, "127.0.0.2", "127.0.0.2", "127.0.0.3")
	dialer := New(server.connection.LocalAddr().String())
	dialer.timeout = 200 * time.Millisecond
	got, err := dialer.Lookup(t.Context(), "consul.test.pawl")
	if err != nil || len(got) != 2 {
		t.Errorf("got %v (%v), want two without a duplicate", got, err)
	}
	server.silence()
	if got, err := dialer.Lookup(t.Context(), "consul.test.pawl"); err == nil {
		t.Errorf("an answer nobody called good came back: %v", got)
	}
	dialer.Remember("consul.test.pawl", got...)
	if again, err := dialer.Lookup(t.Context(), "consul.test.pawl"); err != nil || !slices.Equal(again, got) {
		t.Errorf("got %v (%v), want what was remembered, %v", again, err, got)
	}
	if literal, err := dialer.Lookup(t.Context(), "::1"); err != nil || len(literal) != 1 {
		t.Errorf("an IP literal: %v (%v)", literal, err)
	}
	many := make([]netip.Addr, 3*mostRemembered)
	dialer.Remember("consul.test.pawl", many...)
	if kept := len(dialer.remembered("consul.test.pawl")); kept != mostRemembered {
		t.Errorf("%d remembered, want at most %d", kept, mostRemembered)
	}
}

// TestDroppedAAAA: a DNS server, or a firewall before it, that says nothing to
// questions about IPv6 does not take IPv4's answer along: the library waits for
// both, and gave neither when the time was up. A VM behind one never booted.
func TestDroppedAAAA(t *testing.T) {
	server := serveNames(t, "127.0.0.2")
	server.mutex.Lock()
	server.dropsAAAA = true
	server.mutex.Unlock()
	began := time.Now()
	got, err := New(server.connection.LocalAddr().String()).Lookup(t.Context(), "vault.test.pawl")
	if err != nil || len(got) != 1 || got[0] != netip.MustParseAddr("127.0.0.2") {
		t.Errorf("got %v (%v), want 127.0.0.2", got, err)
	}
	if took := time.Since(began); took > lookupTimeout/2 {
		t.Errorf("it took %s", took)
	}
}

func TestManyGoroutines(t *testing.T) {
	server := serveNames(t, "127.0.0.2")
	listener := listen(t, "127.0.0.2:0")
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	dialer := New(server.connection.LocalAddr().String())
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 8 {
				if _, err := reach(t, dialer, port); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func TestSystemResolver(t *testing.T) {
	listener := listen(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	connection, err := New("").DialContext(t.Context(), "tcp", "localhost:"+port)
	if err != nil {
		t.Fatal(err)
	}
	_ = connection.Close()
}
