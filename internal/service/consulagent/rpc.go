package consulagent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/consul/acl"
	"github.com/hashicorp/consul/agent/structs"

	"pawl/internal/failure"
)

// settling is how long after its issue a token that a server does not know may
// only be late on its way there, and is not yet given up (F11). A token is shown to
// every server before it is used, so that this is for servers that were away then;
// and a token that was deleted must be replaced within a probe and 30 s (issue 3).
const settling = 20 * time.Second

// call makes one RPC through the running agent. Consul ignores the context, so
// that a call that is given up ends by itself, within limits.rpc_client_timeout.
func call[Reply any](ctx context.Context, running *instance, method string, arguments any) (*Reply, error) {
	type answer struct {
		reply *Reply
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		reply := new(Reply)
		err := running.agent.RPC(ctx, method, arguments, reply)
		answered <- answer{reply, err}
	}()
	select {
	case got := <-answered:
		return got.reply, got.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

// classify decides what an answer of the servers means for the token issued then.
func classify(err error, issued time.Time, doing string) *failure.Error {
	class, remote, fix := failure.Transient, failure.RemoteConsul, ""
	switch {
	case acl.IsErrNotFound(err):
		if time.Since(issued) >= settling {
			class = failure.AuthDead
		}
	case acl.IsErrPermissionDenied(err):
		class, fix = failure.Config, "give the policies of the Consul role node write and service write; see deploy/"
	case acl.IsErrDisabled(err):
		class, fix = failure.Config, "switch ACLs on at the Consul servers"
	case strings.Contains(err.Error(), "is reserved by node"):
		// It passes as soon as the servers miss the old one. But they did answer: who
		// says so must not be taken for out of sight.
		remote = failure.RemoteHost
		fix = "an older VM of this name still looks healthy; if it is gone for good: consul force-leave -prune <its name>"
	}
	return failure.New(class, remote, "%s: %w", doing, err).WithFix(fix)
}

// Prove reads our own token at the servers, by way of the leader, through the
// running agent, and returns the answer's index: the one proof that the agent has
// access. An agent that has lost every server looks for them first. Called on the
// machine's worker goroutine.
func (a *Agent) Prove(ctx context.Context) (uint64, error) {
	running, err := a.running()
	if err != nil {
		return 0, err
	}
	if running.lonely() || running.unasked() {
		if err := a.join(ctx, running); err != nil {
			return 0, err
		}
	}
	with := running.credentials()
	question := selfRead(a.site.Consul.Datacenter, with, false)
	answer, err := call[structs.ACLTokenResponse](ctx, running, "ACL.TokenRead", question)
	if acl.IsErrNotFound(err) && running.proven.Load() == with.name.Accessor {
		// The leader knew it before, so that it is not late on its way but gone, unless
		// the leader is new and has not read up to there: this question waits for that.
		question.AllowStale, question.RequireConsistent = false, true
		if answer, err = call[structs.ACLTokenResponse](ctx, running, "ACL.TokenRead", question); acl.IsErrNotFound(err) {
			return 0, failure.New(failure.AuthDead, failure.RemoteConsul, "read own token: %w", err)
		}
	}
	switch {
	case err != nil:
		return 0, classify(err, with.issued, "read own token")
	case answer.Token == nil || answer.Token.AccessorID != with.name.Accessor:
		return 0, failure.New(failure.AuthDead, failure.RemoteConsul, "read own token: the servers know it as another than %s", with.name.Accessor)
	}
	running.proven.Store(with.name.Accessor)
	return answer.Index, nil
}

// selfRead asks for a token by its own text, which needs no permission.
func selfRead(datacenter string, with credentials, stale bool) *structs.ACLTokenGetRequest {
	return &structs.ACLTokenGetRequest{
		TokenID:      with.token.Reveal(),
		TokenIDType:  structs.ACLTokenSecret,
		Datacenter:   datacenter,
		QueryOptions: structs.QueryOptions{Token: with.token.Reveal(), AllowStale: stale},
	}
}
