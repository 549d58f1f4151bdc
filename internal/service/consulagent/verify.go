package consulagent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul-net-rpc/net-rpc-msgpackrpc"
	"github.com/hashicorp/consul/acl"
	"github.com/hashicorp/consul/agent/pool"
	"github.com/hashicorp/consul/agent/structs"

	"pawl/internal/failure"
	"pawl/states"
)

const (
	// verifyTimeout bounds one verification, however many servers there are: a fresh
	// token is at every server long before, and a server that says nothing for so
	// long is away (F11).
	verifyTimeout = 2 * time.Second
	// alertTimeout bounds the reading of what a server sent before it closed: it is here, or nowhere.
	alertTimeout = 100 * time.Millisecond
	// verifyPause is the wait before a server that does not know the token is asked again.
	verifyPause = 50 * time.Millisecond
)

// errUnreachable marks a server that could not be asked.
var errUnreachable = errors.New("unreachable")

// verdict is what one server says to a candidate.
type verdict struct {
	server string
	err    error
}

// Verify shows the epoch's certificate and token to every server on connections
// of its own, and returns nil when every server that can be reached accepts both,
// one at least. A dead server does not hold up a swap: it will have the token from
// the others before it can answer anybody. Called on the machine's worker goroutine.
func (a *Agent) Verify(ctx context.Context, identity states.Identity, epoch states.Epoch) error {
	wanted, err := credentialsOf(identity, epoch)
	if err != nil {
		return err
	}
	servers, err := a.serverAddresses(ctx)
	if err != nil {
		return err
	}
	// From here on only: a DNS that says nothing takes as long until the last good
	// addresses are used, and must not use up the servers' time (F35).
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	verdicts := a.askEach(ctx, servers, wanted)
	accepted := 0
	var away, refused []error
	for range servers {
		got := <-verdicts
		switch {
		case got.err == nil:
			accepted++
		case errors.Is(got.err, errUnreachable):
			away = append(away, fmt.Errorf("server %s: %w", got.server, got.err))
		default:
			refused = append(refused, fmt.Errorf("server %s: %w", got.server, got.err))
		}
	}
	switch {
	case len(refused) > 0:
		return judge(errors.Join(refused...), wanted)
	case accepted == 0:
		return failure.New(failure.Transient, failure.RemoteConsul, "verify credentials: no server answers: %w", errors.Join(away...))
	case len(away) > 0:
		a.logger.Warn("verify credentials: a server is away and was not asked", "accepted", accepted, "error", errors.Join(away...))
	}
	return nil
}

// judge classifies a refusal.
func judge(err error, wanted credentials) error {
	var clone *failure.Error
	if errors.As(err, &clone) {
		return failure.New(clone.Class, clone.Remote, "verify credentials: %w", err).WithFix(clone.Fix)
	}
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return failure.New(failure.Local, failure.RemoteConsul, "verify credentials: %w", err).
			WithFix("set this machine's clock (NTP); where it is right, renew the servers' certificate")
	case errors.As(err, &unknown), errors.As(err, &hostname), errors.As(err, &invalid):
		// It is what this machine trusts: no other candidate would be shown to them either.
		return failure.New(failure.Config, failure.RemoteHost, "verify credentials: %w", err).
			WithFix("the servers' certificate must be for server.<datacenter>.<domain> and by one of the site's ca_roots")
	case strings.Contains(err.Error(), "remote error: tls"):
		return failure.New(failure.Config, failure.RemoteConsul, "verify credentials: the servers refuse our certificate: %w", err).
			WithFix("the Consul servers' ca_file must hold the root of Vault's PKI mount, and clocks must agree")
	default:
		return classify(err, wanted.issued, "verify credentials")
	}
}

// serverAddresses returns the RPC address of every server: those that the site's
// name resolves to now, and those that gossip tells the running agent of.
func (a *Agent) serverAddresses(ctx context.Context) ([]string, error) {
	var all []string
	resolved, err := a.dialer.Lookup(ctx, a.site.Consul.Servers)
	for _, each := range resolved {
		all = append(all, net.JoinHostPort(each.String(), strconv.Itoa(a.site.Consul.ServerRPCPort)))
	}
	if running, _ := a.running(); running != nil {
		for _, server := range running.servers() {
			all = append(all, server.Addr.String())
		}
	}
	if len(all) == 0 {
		return nil, failure.New(failure.Transient, failure.RemoteConsul, "verify credentials: find servers: %w", err)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// askEach asks all servers at once; there is one verdict of each.
func (a *Agent) askEach(ctx context.Context, servers []string, wanted credentials) <-chan verdict {
	verdicts := make(chan verdict, len(servers))
	for _, server := range servers {
		go func() { verdicts <- verdict{server, a.ask(ctx, server, wanted)} }()
	}
	return verdicts
}

// ask shows the credentials to one server, and asks again while it does not know
// the token yet, until ctx is done. One without a leader has no say.
func (a *Agent) ask(ctx context.Context, server string, wanted credentials) error {
	connection, err := a.connect(ctx, server, wanted)
	if err != nil {
		return err
	}
	defer connection.Close()
	codec := msgpackrpc.NewCodecFromHandle(true, true, connection, structs.MsgpackHandle)
	for {
		var answer structs.ACLTokenResponse
		err := msgpackrpc.CallWithCodec(codec, "ACL.TokenRead", selfRead(a.site.Consul.Datacenter, wanted, true), &answer)
		switch {
		case err == nil && (answer.Token == nil || answer.Token.AccessorID != wanted.name.Accessor):
			return fmt.Errorf("it knows the token as another than %s", wanted.name.Accessor)
		case err == nil:
			return a.cloned(codec, wanted)
		case !acl.IsErrNotFound(err):
			return unreachable(alerted(connection, err))
		case !a.led(codec):
			return fmt.Errorf("%w: it is cut off from the other servers: it knows no leader", errUnreachable)
		case time.Since(wanted.issued) >= settling, !pause(ctx, verifyPause):
			return err
		}
	}
}

// led asks a server whether it knows a leader. One that does not, on the wrong side
// of a partition, still answers what may be stale, and cannot know what was issued
// since: its word would have every VM ask for one token after the other (F11).
func (a *Agent) led(codec *msgpackrpc.MsgpackCodec) bool {
	var leader string
	err := msgpackrpc.CallWithCodec(codec, "Status.Leader", &structs.DCSpecificRequest{Datacenter: a.site.Consul.Datacenter}, &leader)
	return err == nil && leader != ""
}

// connect opens a connection of Consul's RPC protocol with the candidate's
// certificate. It is made by hand and not by Consul's pool because the pool knows
// no context and turns a refused certificate into an end of file.
func (a *Agent) connect(ctx context.Context, server string, wanted credentials) (net.Conn, error) {
	pair, err := tls.X509KeyPair([]byte(wanted.chain), []byte(wanted.key.Reveal()))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(a.site.CARoots))
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreachable, err)
	}
	if deadline, has := ctx.Deadline(); has {
		_ = raw.SetDeadline(deadline)
	}
	secure := tls.Client(raw, &tls.Config{
		MinVersion:   tls.VersionTLS12,
		RootCAs:      roots,
		ServerName:   "server." + a.site.Consul.Datacenter + "." + strings.TrimSuffix(a.site.Consul.Domain, "."),
		Certificates: []tls.Certificate{pair},
	})
	// The first byte says that TLS follows, the first inside it that RPCs do.
	if _, err = raw.Write([]byte{byte(pool.RPCTLS)}); err == nil {
		if err = secure.HandshakeContext(ctx); err == nil {
			if _, err = secure.Write([]byte{byte(pool.RPCConsul)}); err != nil {
				err = alerted(secure, err)
			}
		}
	}
	if err != nil {
		_ = raw.Close()
		return nil, unreachable(err)
	}
	return secure, nil
}

// alerted returns the TLS alert that waits to be read where a write found the
// connection closed. With TLS 1.3 the handshake is over for us before the server
// has looked at our certificate: what it says to it comes later, and by then a
// write of ours may have met the closed end first.
func alerted(connection net.Conn, err error) error {
	var network *net.OpError
	if !errors.As(err, &network) || network.Op != "write" {
		return err
	}
	_ = connection.SetReadDeadline(time.Now().Add(alertTimeout))
	var ignored [1]byte
	if _, said := connection.Read(ignored[:]); said != nil && strings.Contains(said.Error(), "remote error") {
		return said
	}
	return err
}

// unreachable marks errors of the way there, and leaves those of the far end as they are.
func unreachable(err error) error {
	var network *net.OpError
	if errors.As(err, &network) && network.Op != "remote error" || errors.Is(err, context.DeadlineExceeded) || strings.HasSuffix(err.Error(), "EOF") {
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	return err
}
