package consulagent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hashicorp/consul/agent/grpc-internal/resolver"
	"github.com/hashicorp/consul/types"

	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/states"
)

// Install starts the agent with the epoch's credentials, or swaps them into the
// running one, in memory and without a gap. It returns nil when the agent runs
// with them and, where it was started here, knows a server and a leader answered.
// A swap is done when it is done, Consul away or not: an error after it would
// leave the caller believing in credentials that are in use no more. Called on the
// machine's worker goroutine.
func (a *Agent) Install(ctx context.Context, identity states.Identity, epoch states.Epoch) error {
	if epoch.Gossip.Key.Empty() {
		// Wherever it got lost: Consul would start, and speak in the clear.
		return failure.New(failure.AuthDead, failure.RemoteGossip, "install credentials: there is no gossip key in them").WithFix(keyFix)
	}
	wanted, err := credentialsOf(identity, epoch)
	if err != nil {
		return err
	}
	running, fresh, err := a.demand(ctx, wanted)
	if err != nil {
		return err
	}
	if fresh {
		return a.joinByKey(ctx, running, wanted)
	}
	before := running.credentials().name.Gossip
	if err := a.swap(running, wanted); err != nil {
		return err
	}
	switch {
	case !running.joined.Load():
		return a.joinByKey(ctx, running, wanted)
	case running.lonely() && before != wanted.name.Gossip:
		// It lost the cluster, and this is another key than the one it had: the swap
		// stands whatever comes of it, and Prove says what came of it.
		if err := a.joinByKey(ctx, running, wanted); err != nil {
			a.logger.Debug("join with another gossip key", "error", err)
		}
	}
	return nil
}

// joinByKey joins, with another gossip key where the agent's is refused.
func (a *Agent) joinByKey(ctx context.Context, running *instance, wanted credentials) error {
	err := a.join(ctx, running)
	if errors.Is(err, errWrongKey) {
		return a.otherKey(ctx, running, wanted, err)
	}
	return err
}

// otherKey starts the agent anew with each gossip key that it does not run with,
// the newest in Vault and the one before, since a server answered under another:
// while the key is being rotated, the cluster may be one behind.
func (a *Agent) otherKey(ctx context.Context, running *instance, wanted credentials, refused error) error {
	tried := running.key.Reveal()
	for _, key := range []secret.Secret{wanted.gossip, wanted.previous} {
		if key.Empty() || key.Reveal() == tried {
			continue
		}
		with := wanted
		with.gossip = key
		another, err := a.replace(ctx, running, with)
		if err != nil {
			return err
		}
		running = another
		switch err := a.join(ctx, running); {
		case err == nil:
			a.logger.Warn("joined with another gossip key than the one tried first; is it being rotated?")
			return nil
		case !errors.Is(err, errWrongKey):
			return err // that one may be right
		}
	}
	return failure.New(failure.AuthDead, failure.RemoteGossip, "join with any gossip key we have: %w", refused).WithFix(keyFix)
}

// replace has Serve start an agent with what is wanted in the place of a running one.
func (a *Agent) replace(ctx context.Context, running *instance, wanted credentials) (*instance, error) {
	reply := make(chan started, 1)
	select {
	case a.demands <- demand{wanted, running, reply}:
	case <-ctx.Done():
		return nil, failure.New(failure.Local, failure.RemoteConsul, "restart agent: its service is not running: %w", ctx.Err())
	}
	select {
	case answer := <-reply:
		return answer.instance, answer.err
	case <-ctx.Done():
		return nil, failure.New(failure.Local, failure.RemoteConsul, "restart agent: %w", ctx.Err())
	}
}

// credentialsOf checks the key pair before anything is touched.
func credentialsOf(identity states.Identity, epoch states.Epoch) (credentials, error) {
	wanted := credentials{
		identity: identity,
		name:     epoch.Credentials(),
		token:    epoch.Consul.Token,
		gossip:   epoch.Gossip.Key,
		previous: epoch.Gossip.Previous,
		chain:    epoch.Certificate.Chain,
		key:      epoch.Certificate.Key,
		issued:   epoch.Consul.Received,
	}
	wanted.identity.NodeID = strings.ToLower(identity.NodeID)
	if wanted.issued.IsZero() {
		wanted.issued = time.Now()
	}
	if _, err := tls.X509KeyPair([]byte(wanted.chain), []byte(wanted.key.Reveal())); err != nil {
		return wanted, failure.New(failure.Config, failure.RemoteConsul, "install certificate %s: %w", wanted.name.Serial, err).
			WithFix("look at what the PKI mount of Vault answers to sign")
	}
	return wanted, nil
}

// demand returns the running instance, and has Serve start one with what is
// wanted if there is none: fresh says so.
func (a *Agent) demand(ctx context.Context, wanted credentials) (running *instance, fresh bool, err error) {
	if running, err := a.running(); err == nil {
		return running, false, nil
	}
	reply := make(chan started, 1)
	select {
	case a.demands <- demand{wanted, nil, reply}:
	case <-ctx.Done():
		return nil, false, failure.New(failure.Local, failure.RemoteConsul, "start agent: its service is not running: %w", ctx.Err())
	}
	select {
	case answer := <-reply:
		return answer.instance, answer.fresh, answer.err
	case <-ctx.Done():
		return nil, false, failure.New(failure.Local, failure.RemoteConsul, "start agent: %w", ctx.Err())
	}
}

// swap puts the wanted credentials into the running agent, if it has others.
func (a *Agent) swap(running *instance, wanted credentials) error {
	now := running.credentials()
	if now.identity.Node != wanted.identity.Node || now.identity.NodeID != wanted.identity.NodeID {
		return failure.New(failure.Identity, failure.RemoteConsul,
			"install credentials of node %s (%s): the agent runs as %s (%s), and name and id are fixed while it runs",
			wanted.identity.Node, wanted.identity.NodeID, now.identity.Node, now.identity.NodeID)
	}
	// The gossip key of a running agent follows the cluster's own keyring, by gossip;
	// the one given here is for the next start.
	a.lock.Lock()
	a.last = &wanted
	a.lock.Unlock()
	if now.name == wanted.name {
		return nil
	}
	if now.name.Serial != wanted.name.Serial {
		if err := running.deps.TLSConfigurator.UpdateAutoTLSCert(wanted.chain, wanted.key.Reveal()); err != nil {
			return failure.New(failure.Config, failure.RemoteConsul, "install certificate: %w", err)
		}
	}
	running.setTokens(wanted)
	running.lock.Lock()
	running.installed = wanted
	running.lock.Unlock()
	if now.name.Serial != wanted.name.Serial {
		running.retireConnections(a.site.Consul.Datacenter)
	}
	return nil
}

// retireConnections makes the next RPC open a new connection, which shows the new
// certificate; calls that are under way finish on the old one, which closes after
// the last of them. Consul's pool does just this with a connection on which a call
// met the end of the stream, and offers no other way to ask for it. The gRPC
// connection, idle as it is, follows when its resolver takes the server out and in.
func (i *instance) retireConnections(datacenter string) {
	grpc, has := i.deps.LeaderForwarder.(*resolver.ServerResolverBuilder)
	for _, server := range i.servers() {
		var reply struct{}
		_ = i.deps.ConnPool.RPC(datacenter, server.ShortName, server.Addr, "Status.Ping", endOfStream{}, &reply)
		if has {
			grpc.RemoveServer(types.AreaLAN, server)
			grpc.AddServer(types.AreaLAN, server)
		}
	}
}

// endOfStream is an argument that cannot be sent: nothing of the call leaves this process.
type endOfStream struct{}

// MarshalBinary implements encoding.BinaryMarshaler, which Consul's codec asks.
func (endOfStream) MarshalBinary() ([]byte, error) {
	return nil, fmt.Errorf("retire this connection: %w", io.EOF)
}
