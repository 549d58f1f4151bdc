package consulagent

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/consul-net-rpc/net-rpc-msgpackrpc"
	"github.com/hashicorp/consul/agent/structs"
	"github.com/hashicorp/consul/api"

	"pawl/internal/failure"
)

// serfCheck is the check by which the servers say whether a node is alive.
const serfCheck = "serfHealth"

// alone asks the servers, before an agent that was started anew joins, whether a
// node of our name is alive elsewhere. It may have died because Serf lost a vote
// about the name: joining again it would write its own address over the winner's,
// as a snapshot that was resumed on another VM would. Where no server can be asked,
// that is for the join to say.
func (a *Agent) alone(ctx context.Context, running *instance) error {
	servers, err := a.serverAddresses(ctx)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	verdicts := a.askEach(ctx, servers, running.credentials())
	for range servers {
		err := (<-verdicts).err
		var clone *failure.Error
		switch {
		case errors.As(err, &clone):
			return failure.New(clone.Class, clone.Remote, "join: %w", err).WithFix(clone.Fix)
		case !errors.Is(err, errUnreachable):
			return nil // one that answered is enough
		}
	}
	return nil
}

// cloned asks a server, before our agent joins, whether a node of our name is alive
// at another address. Two VMs with one identity would take each other's place in gossip and in the catalogue, to and fro: the second
// one stays out, and the first one never notices (F7). A node that died does not
// count, so that a rebuilt VM comes in as soon as the servers have missed the old one.
func (a *Agent) cloned(codec *msgpackrpc.MsgpackCodec, wanted credentials) error {
	if running, _ := a.running(); running != nil && running.joined.Load() {
		return nil // we are that node, and Serf watches over the name
	}
	ours, _, err := a.runtimeConfig(wanted)
	if err != nil {
		return err
	}
	asked := structs.NodeSpecificRequest{
		Datacenter: a.site.Consul.Datacenter, Node: wanted.identity.Node,
		QueryOptions: structs.QueryOptions{Token: wanted.token.Reveal(), AllowStale: true},
	}
	var services structs.IndexedNodeServiceList
	if err := msgpackrpc.CallWithCodec(codec, "Catalog.NodeServiceList", &asked, &services); err != nil {
		return unreachable(err)
	}
	node := services.NodeServices.Node
	if node == nil || node.Address == "" || node.Address == ours.AdvertiseAddrLAN.String() {
		return nil
	}
	var checks structs.IndexedHealthChecks
	if err := msgpackrpc.CallWithCodec(codec, "Health.NodeChecks", &asked, &checks); err != nil {
		return unreachable(err)
	}
	for _, check := range checks.HealthChecks {
		if string(check.CheckID) == serfCheck && check.Status == api.HealthPassing {
			return failure.New(failure.Identity, failure.RemoteConsul, "node %s is alive at %s, and this VM is at %s",
				wanted.identity.Node, node.Address, ours.AdvertiseAddrLAN).
				WithFix(fmt.Sprintf("one of the two VMs is a clone of the other: give it an identity of its own, or stop the one at %s", node.Address))
		}
	}
	return nil
}
