// Package dial owns how a site's names become connections: resolved anew for
// every attempt through the site's own resolver, and remembered, so that what
// answered before is still reached while DNS is away (faults.md F35). TLS checks
// the name as ever, so a remembered address can be stale but never wrong.
//
// It must import nothing but the standard library.
package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// lookupTimeout bounds one resolution: longer than any healthy resolver takes,
	// and short enough to leave an attempt time for the fallback.
	lookupTimeout = 2 * time.Second
	// otherFamily is how long IPv6's addresses are waited for when IPv4's are there,
	// and the other way round: both come from the same server.
	otherFamily = 100 * time.Millisecond
	// leastConnect is the least time one address is given, so that a long list
	// cannot starve each of its members.
	leastConnect = time.Second
	// mostConnect bounds one address when the context has no deadline.
	mostConnect = 5 * time.Second
	// mostRemembered bounds the memory of a name whose addresses keep changing.
	mostRemembered = 8
)

// Dialer resolves and connects. Safe from any goroutine.
type Dialer struct {
	resolver *net.Resolver
	rooted   bool // names are asked as they stand, without the machine's search list
	timeout  time.Duration
	connect  func(ctx context.Context, network, address string) (net.Conn, error)

	mutex sync.Mutex
	good  map[string][]netip.Addr // by name; a slice is replaced, never written in place
}

// New returns a Dialer that asks the DNS server at resolver (IP:port), or the
// system's resolver when it is empty.
func New(resolver string) *Dialer {
	plain := &net.Dialer{KeepAlive: 15 * time.Second}
	dialer := &Dialer{resolver: net.DefaultResolver, timeout: lookupTimeout, connect: plain.DialContext, good: map[string][]netip.Addr{}}
	if resolver != "" {
		dialer.rooted = true
		dialer.resolver = &net.Resolver{
			PreferGo: true,
			Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return plain.DialContext(ctx, network, resolver)
			},
		}
	}
	return dialer
}

// LookupError says that a name could not be resolved and that no address of it
// was ever good. Its cause is in the chain.
type LookupError struct {
	Name string
	Err  error
}

// Error implements error.
func (e *LookupError) Error() string { return fmt.Sprintf("resolve %s: %v", e.Name, e.Err) }

// Unwrap lets errors.As see the cause.
func (e *LookupError) Unwrap() error { return e.Err }

// Lookup resolves name within two seconds, without duplicates. When DNS does
// not answer, it returns the addresses that were last good, if any. An IP literal
// is its own answer. The caller owns the slice.
func (d *Dialer) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	if address, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{address}, nil
	}
	fresh, err := d.ask(ctx, name)
	if err == nil {
		return fresh, nil
	}
	if former := d.remembered(name); len(former) > 0 {
		return slices.Clone(former), nil
	}
	return nil, &LookupError{Name: name, Err: err}
}

// Remember notes that these addresses of name were good: somebody who connects
// by other means (Serf) reached one of them. DialContext remembers by itself.
func (d *Dialer) Remember(name string, addresses ...netip.Addr) {
	if len(addresses) == 0 {
		return
	}
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.good[name] = slices.Clone(addresses[:min(len(addresses), mostRemembered)])
}

// DialContext connects to address (name:port or IP:port), trying in turn what
// the name resolves to now and then what was last good. It fits
// http.Transport.DialContext. The error names every address that was tried.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("dial %s: the port is not a number: %w", address, err)
	}
	candidates, err := d.Lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, former := range d.remembered(name) {
		if !slices.Contains(candidates, former) {
			candidates = append(candidates, former)
		}
	}
	var failures []error
	for i, candidate := range candidates {
		if ctx.Err() != nil {
			failures = append(failures, ctx.Err())
			break
		}
		connection, err := d.try(ctx, network, netip.AddrPortFrom(candidate, uint16(number)), len(candidates)-i)
		if err == nil {
			// The one that answered goes first; the others of the same answer stay behind it.
			others := slices.DeleteFunc(slices.Clone(candidates), func(other netip.Addr) bool { return other == candidate })
			d.Remember(name, append([]netip.Addr{candidate}, others...)...)
			return connection, nil
		}
		failures = append(failures, err)
	}
	return nil, fmt.Errorf("connect to %s: %w", address, errors.Join(failures...))
}

// try connects to one address within its share of what is left of the context.
func (d *Dialer) try(ctx context.Context, network string, to netip.AddrPort, left int) (net.Conn, error) {
	share := mostConnect
	if deadline, has := ctx.Deadline(); has {
		share = max(time.Until(deadline)/time.Duration(left), leastConnect)
	}
	ctx, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	return d.connect(ctx, network, to.String())
}

// ask asks DNS, and takes an answer without a usable address for none. IPv4 and
// IPv6 are asked for side by side: asked for together, the library waits for both
// answers, and one that never comes, as behind a firewall that drops questions
// about IPv6, takes the other along.
func (d *Dialer) ask(ctx context.Context, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	asked := name
	if d.rooted && !strings.HasSuffix(name, ".") {
		asked = name + "."
	}
	type answer struct {
		addresses []netip.Addr
		err       error
	}
	ask := func(network string) <-chan answer {
		answered := make(chan answer, 1)
		go func() {
			addresses, err := d.resolver.LookupNetIP(ctx, network, asked)
			answered <- answer{addresses, err}
		}()
		return answered
	}
	four, six := ask("ip4"), ask("ip6")
	var of4, of6 answer
	var late <-chan time.Time
	for four != nil || six != nil {
		select {
		case of4 = <-four:
			four = nil
		case of6 = <-six:
			six = nil
		case <-late:
			four, six = nil, nil
		}
		if late == nil && len(of4.addresses)+len(of6.addresses) > 0 {
			timer := time.NewTimer(otherFamily)
			defer timer.Stop()
			late = timer.C
		}
	}
	found := append(of4.addresses, of6.addresses...)
	usable := make([]netip.Addr, 0, len(found))
	for _, address := range found {
		address = address.Unmap()
		if !address.IsUnspecified() && !address.IsMulticast() && !slices.Contains(usable, address) {
			usable = append(usable, address)
		}
	}
	switch {
	case len(usable) > 0:
		return usable, nil
	case len(found) > 0 || of4.err == nil || of6.err == nil:
		return nil, fmt.Errorf("no usable address in %v", found)
	case of4.err.Error() == of6.err.Error():
		return nil, of4.err
	default:
		return nil, errors.Join(of4.err, of6.err)
	}
}

// remembered returns the last good addresses of name. Not to be written to.
func (d *Dialer) remembered(name string) []netip.Addr {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.good[name]
}
