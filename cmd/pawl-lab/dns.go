package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// answerTTL is short because records change under a test's hand; seconds.
const answerTTL = 1

// nameServer answers for the lab's names over UDP and TCP. Safe from any goroutine.
type nameServer struct {
	address string

	mutex   sync.Mutex
	records map[string][]netip.Addr
	state   runState
	since   time.Time
	servers []*dns.Server
	// paused swallows questions, as a process under SIGSTOP would.
	paused bool
}

func newNameServer(address string, servers int) *nameServer {
	records := map[string][]netip.Addr{dns.Fqdn(vaultName): {netip.MustParseAddr(vaultIP)}}
	for n := 1; n <= servers; n++ {
		name := dns.Fqdn(consulName)
		records[name] = append(records[name], netip.MustParseAddr(consulIP(n)))
	}
	return &nameServer{address: address, records: records, state: stateStopped, since: time.Now()}
}

// set replaces the addresses of a name; none of them, and the name is not there.
func (n *nameServer) set(name string, addresses []netip.Addr) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	key := dns.Fqdn(strings.ToLower(name))
	if len(addresses) == 0 {
		delete(n.records, key)
		return
	}
	n.records[key] = addresses
}

// snapshot returns a copy of the records.
func (n *nameServer) snapshot() map[string][]netip.Addr {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	return maps.Clone(n.records)
}

// answer builds the reply to one question, or nil while paused.
func (n *nameServer) answer(question *dns.Msg) *dns.Msg {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if n.paused {
		return nil
	}
	reply := new(dns.Msg)
	reply.SetReply(question)
	reply.Authoritative, reply.RecursionAvailable = true, true
	if len(question.Question) != 1 || question.Question[0].Qclass != dns.ClassINET {
		reply.Rcode = dns.RcodeNotImplemented
		return reply
	}
	asked := question.Question[0]
	addresses, known := n.records[strings.ToLower(asked.Name)]
	if !known {
		reply.Rcode = dns.RcodeNameError
		return reply
	}
	for _, address := range addresses {
		header := dns.RR_Header{Name: asked.Name, Rrtype: asked.Qtype, Class: dns.ClassINET, Ttl: answerTTL}
		switch {
		case asked.Qtype == dns.TypeA && address.Is4():
			reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: address.AsSlice()})
		case asked.Qtype == dns.TypeAAAA && address.Is6():
			reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: header, AAAA: address.AsSlice()})
		}
	}
	return reply
}

// ServeDNS implements dns.Handler.
func (n *nameServer) ServeDNS(writer dns.ResponseWriter, question *dns.Msg) {
	if reply := n.answer(question); reply != nil {
		_ = writer.WriteMsg(reply)
	}
}

// start binds both sockets; when it returns, questions are answered.
func (n *nameServer) start(ctx context.Context) error {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if n.state != stateStopped {
		return wantState("dns", n.state, stateRunning)
	}
	var configuration net.ListenConfig
	packets, err := configuration.ListenPacket(ctx, "udp", n.address)
	if err != nil {
		return fmt.Errorf("start dns: %w", err)
	}
	stream, err := configuration.Listen(ctx, "tcp", n.address)
	if err != nil {
		_ = packets.Close()
		return fmt.Errorf("start dns: %w", err)
	}
	n.servers = []*dns.Server{{PacketConn: packets, Handler: n}, {Listener: stream, Handler: n}}
	for _, server := range n.servers {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
	}
	n.state, n.since = stateRunning, time.Now()
	return nil
}

func (n *nameServer) stop(context.Context) error {
	n.mutex.Lock()
	servers := n.servers
	if n.state == stateStopped {
		n.mutex.Unlock()
		return nil
	}
	n.servers, n.state, n.since, n.paused = nil, stateStopped, time.Now(), false
	n.mutex.Unlock() // an answer in flight needs the mutex before Shutdown can end
	for _, server := range servers {
		_ = server.Shutdown()
	}
	return nil
}

// kill is stop: the server is a part of this process.
func (n *nameServer) kill(ctx context.Context) error { return n.stop(ctx) }

func (n *nameServer) pause(context.Context) error {
	return n.setPaused(stateRunning, statePaused, true)
}

func (n *nameServer) resume(context.Context) error {
	return n.setPaused(statePaused, stateRunning, false)
}

func (n *nameServer) setPaused(from, to runState, paused bool) error {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if n.state != from {
		return wantState("dns", n.state, to)
	}
	n.state, n.since, n.paused = to, time.Now(), paused
	return nil
}

func (n *nameServer) report() processReport {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	return processReport{Name: "dns", State: n.state, Since: n.since}
}

// parseAddresses reads ADDR[,ADDR] of the dns command; "none" is no address.
func parseAddresses(text string) ([]netip.Addr, error) {
	if text == "none" {
		return nil, nil
	}
	var addresses []netip.Addr
	for one := range strings.SplitSeq(text, ",") {
		address, err := netip.ParseAddr(one)
		if err != nil {
			return nil, fmt.Errorf("%q is not an IP address: write ADDR[,ADDR] or none", one)
		}
		addresses = append(addresses, address)
	}
	return addresses, nil
}
