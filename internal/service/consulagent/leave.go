package consulagent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/consul-net-rpc/net-rpc-msgpackrpc"
	"github.com/hashicorp/consul/agent/structs"
)

// farewellTimeout bounds the look after a leave whether it was heard, and what
// follows where it was not; SIGTERM owes an exit within ten seconds.
const farewellTimeout = 700 * time.Millisecond

// leave tells the cluster that the node goes, within leaveTimeout. Anti-entropy is
// stopped first: the servers take the node out at once, the agent lives on for
// three seconds, and a sync in that time would put back a node that nobody ever
// takes out again.
func (a *Agent) leave(running *instance) {
	running.agent.PauseSync()
	farewell := a.farewell(running)
	left := make(chan error, 1)
	go func() { left <- running.agent.Leave() }()
	select {
	case err := <-left:
		if err != nil {
			a.logger.Warn("leave the cluster", "error", err)
		}
	case <-time.After(leaveTimeout):
		a.logger.Warn("leave the cluster: not done in time", "timeout", leaveTimeout)
	}
	if err := farewell(); err != nil {
		a.logger.Warn("leave the cluster: the servers may see this node as failed", "error", err)
	}
}

// farewell returns what to do when the node has left: it asks a server whether the
// node is still in its catalogue, and takes it out. A server that was itself just
// started does not hear the leave of a node that it has not met again; the node
// would be there as failed for hours. Gossip forgets the servers meanwhile, so that
// they are noted now.
func (a *Agent) farewell(running *instance) func() error {
	var servers []string
	for _, server := range running.servers() {
		servers = append(servers, server.Addr.String())
	}
	address := running.agent.AgentLocalMember().Addr.String()
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), farewellTimeout)
		defer cancel()
		var last error
		for _, server := range servers {
			if last = a.takeOut(ctx, server, running.credentials(), address); last == nil {
				return nil
			}
		}
		return last
	}
}

// takeOut takes our node out of the catalogue by way of one server. A node of our
// name that has another id or address is another's: it stays.
func (a *Agent) takeOut(ctx context.Context, server string, with credentials, address string) error {
	connection, err := a.connect(ctx, server, with)
	if err != nil {
		return err
	}
	defer connection.Close()
	codec := msgpackrpc.NewCodecFromHandle(true, true, connection, structs.MsgpackHandle)
	var found structs.IndexedNodeServiceList
	err = msgpackrpc.CallWithCodec(codec, "Catalog.NodeServiceList", &structs.NodeSpecificRequest{
		Datacenter: a.site.Consul.Datacenter, Node: with.identity.Node,
		QueryOptions: structs.QueryOptions{Token: with.token.Reveal()},
	}, &found)
	if err != nil {
		return fmt.Errorf("look for our node: %w", err)
	}
	node := found.NodeServices.Node
	if node == nil || node.Address != address || !strings.EqualFold(string(node.ID), with.identity.NodeID) {
		return nil
	}
	err = msgpackrpc.CallWithCodec(codec, "Catalog.Deregister", &structs.DeregisterRequest{
		Datacenter: a.site.Consul.Datacenter, Node: with.identity.Node,
		WriteRequest: structs.WriteRequest{Token: with.token.Reveal()},
	}, new(struct{}))
	if err != nil {
		return fmt.Errorf("take our node out of the catalogue: %w", err)
	}
	a.logger.Info("the servers had not heard of the leave; the node is out of the catalogue", "server", server)
	return nil
}
