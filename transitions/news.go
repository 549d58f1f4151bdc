package transitions

import (
	"time"

	"pawl/states"
)

// News is a fact that no attempt of ours brought: an embedded service died, a
// clock jumped. It is folded into what is held on the machine's goroutine.
type News struct {
	// Name is the fact, as the log prints it.
	Name string
	// Cause says why, in one line without secrets.
	Cause string
	fold  func(held states.Held, now time.Time, cause string) states.Held
}

// Fold returns what is held after the news. It is pure.
func (n News) Fold(held states.Held, now time.Time) states.Held {
	if n.fold == nil {
		return held
	}
	return n.fold(held, now, n.Cause)
}

// AgentStopped says that the embedded Consul agent ended: nothing is installed any more.
func AgentStopped(cause string) News {
	return News{"agent_stopped", cause, func(held states.Held, now time.Time, cause string) states.Held {
		held.Installed = states.Installed{}
		held.Agent = held.Agent.Gone(now, cause)
		return held
	}}
}

// ExporterStopped says that the embedded node_exporter ended.
func ExporterStopped(cause string) News {
	return News{"exporter_stopped", cause, func(held states.Held, now time.Time, cause string) states.Held {
		held.Exporter = held.Exporter.Down(now, cause)
		return held
	}}
}

// ClockJumped says that the wall clock and the monotonic one parted: a suspend, a
// migration, a step. All that was seen is to be seen again, and the next login
// takes a fresh JWT (faults.md F6).
func ClockJumped(cause string) News {
	return News{"clock_jumped", cause, func(held states.Held, _ time.Time, _ string) states.Held {
		held.JWT.Refused = held.JWT.Held()
		for _, sighting := range []*states.Sighting{&held.Vault, &held.Agent, &held.Registration, &held.Exporter} {
			sighting.Seen = time.Time{}
		}
		return held
	}}
}

// ServiceNews says something of an embedded service that holds no rung.
func ServiceNews(name, cause string) News { return News{Name: name, Cause: cause} }
