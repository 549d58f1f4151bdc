package consulagent

import (
	"time"

	"pawl/states"
)

// Stats is the agent at one moment, for the status page.
type Stats struct {
	Running bool `json:"running"`
	// Since is when this instance was started; Restarts counts the in-process ones.
	Since    time.Time `json:"since"`
	Restarts int       `json:"restarts"`
	// Members is every member that gossip tells of, Servers the addresses of the live servers.
	Members int      `json:"members"`
	Servers []string `json:"servers"`
	// Installed names the credentials it runs with.
	Installed states.Installed `json:"installed"`
}

// Stats returns the agent as it is. It asks nobody on the network. Safe from any goroutine.
func (a *Agent) Stats() Stats {
	a.lock.Lock()
	running, stats := a.current, Stats{Restarts: a.restarts}
	a.lock.Unlock()
	if running == nil {
		return stats
	}
	stats.Running, stats.Since = true, running.since
	stats.Installed = running.credentials().name
	stats.Members = len(running.agent.LANMembersInAgentPartition())
	for _, server := range running.servers() {
		stats.Servers = append(stats.Servers, server.Addr.String())
	}
	return stats
}
