package fsm

import (
	"time"

	"pawl/internal/failure"
	"pawl/transitions"
)

// phrases is all that can happen in a story; ... stands for a duration.
var phrases = map[string]func(*stage, time.Duration){
	"nothing": func(*stage, time.Duration) {},

	"vault is down":       answersNot(failure.RemoteVault, "connection refused"),
	"vault is sealed":     answersNot(failure.RemoteVault, "Vault is sealed (503)"),
	"vault is overloaded": answersNot(failure.RemoteVault, "too many requests in flight (503)"),
	"vault has no leader": answersNot(failure.RemoteVault, "local node not active but active cluster node not found (500)"),
	"vault hangs":         hangs(failure.RemoteVault),
	"vault is up":         isUp(failure.RemoteVault),
	"vault is busy, wait ...": func(s *stage, d time.Duration) {
		busy := failure.New(failure.Transient, failure.RemoteVault, "rate limit quota exceeded (429)")
		busy.RetryAfter = d
		s.world.set(func(w *world) { w.troubles[failure.RemoteVault] = busy })
	},
	"vault's new tokens are unknown to a standby for ...": func(s *stage, d time.Duration) {
		s.world.set(func(w *world) { w.vaultBehind = d })
	},
	"somebody revokes our vault token": change(func(w *world) {
		for _, token := range w.tokens {
			token.revoked = true
		}
	}),
	"vault's role is missing":     login(failure.Config, "role \"pawl\" could not be found (400)", "write the role"),
	"vault's audience is another": login(failure.Config, "invalid audience (aud) claim (400)", "set bound_audiences"),
	"vault's mount is gone":       login(failure.Config, "no handler for route (404)", "mount what should be at auth/jwt"),
	"vault cannot reach the jwks": loginAway("error fetching keys: connection refused (500)"),
	"vault's login is mended":     change(func(w *world) { w.loginTrouble = nil }),
	"the gossip key is deleted":   gossip("no value found at secret/data/pawl/gossip (404)", "write the gossip key"),
	"the gossip key is too short": gossip("the gossip key has 8 bytes", "write a gossip key of 16, 24 or 32 bytes"),
	"the gossip key is back":      change(func(w *world) { w.gossipTrouble = nil }),
	"the next login panics":       change(func(w *world) { w.panics = true }),
	"the next gossip read panics": change(func(w *world) { w.gossipPanics = true }),

	"the metadata service is down":       answersNot(failure.RemoteMetadata, "connection refused"),
	"the metadata service has no route":  answersNot(failure.RemoteMetadata, "network is unreachable"),
	"the metadata service hangs":         hangs(failure.RemoteMetadata),
	"the metadata service is up":         isUp(failure.RemoteMetadata),
	"the metadata service's key rotates": change(func(w *world) { w.key++ }),

	"no name resolves": func(s *stage, _ time.Duration) {
		for _, remote := range []failure.Remote{failure.RemoteMetadata, failure.RemoteVault, failure.RemoteConsul} {
			answersNot(remote, "no such host")(s, 0)
		}
	},
	"names resolve": func(s *stage, _ time.Duration) {
		for _, remote := range []failure.Remote{failure.RemoteMetadata, failure.RemoteVault, failure.RemoteConsul} {
			isUp(remote)(s, 0)
		}
	},

	"consul is down":       answersNot(failure.RemoteConsul, "connection refused"),
	"consul has no leader": answersNot(failure.RemoteConsul, "No cluster leader (500)"),
	"consul hangs":         hangs(failure.RemoteConsul),
	"consul is up":         isUp(failure.RemoteConsul),
	"consul's new tokens are unknown to a server for ...": func(s *stage, d time.Duration) {
		s.world.set(func(w *world) { w.consulBehind = d })
	},
	"somebody deletes our consul token": change(func(w *world) { w.deleted[w.installed] = true }),
	"consul forgets the node": func(s *stage, _ time.Duration) {
		s.forgotten = true
		s.world.set(func(w *world) { w.registered = false })
	},
	"consul keeps our name for the old node": change(func(w *world) { w.reserved = true }),
	"consul gives our name free":             change(func(w *world) { w.reserved = false }),

	"node_exporter is down": answersNot(failure.RemoteExporter, "connection refused"),
	"node_exporter hangs":   hangs(failure.RemoteExporter),
	"node_exporter is up":   isUp(failure.RemoteExporter),
	"node_exporter stops":   news(transitions.ExporterStopped("planted")),
	"the consul agent stops": func(s *stage, _ time.Duration) {
		s.agentStopped = true
		s.world.set(func(w *world) { w.installed = "" })
		s.tell(transitions.AgentStopped("its listener is gone"))
	},

	"pawl is killed": func(s *stage, _ time.Duration) {
		s.agentStopped = true
		s.end()
		s.world.set(func(w *world) { w.installed = "" })
		s.running = nil
	},
	"pawl is started": func(s *stage, _ time.Duration) { s.launch() },
}

type does = func(*stage, time.Duration)

func change(make func(*world)) does {
	return func(s *stage, _ time.Duration) { s.world.set(make) }
}

func news(item transitions.News) does {
	return func(s *stage, _ time.Duration) { s.tell(item) }
}

func answersNot(remote failure.Remote, text string) does {
	class := failure.Transient
	if remote == failure.RemoteExporter {
		class = failure.Local
	}
	return change(func(w *world) {
		w.hanging[remote] = false
		w.troubles[remote] = failure.New(class, remote, "ask %s: %s", remote, text)
	})
}

func hangs(remote failure.Remote) does {
	return change(func(w *world) { w.hanging[remote] = true })
}

func isUp(remote failure.Remote) does {
	return change(func(w *world) {
		w.hanging[remote] = false
		delete(w.troubles, remote)
	})
}

func login(class failure.Class, text, fix string) does {
	return change(func(w *world) {
		w.loginTrouble = failure.New(class, failure.RemoteVault, "log in: %s", text).WithFix(fix)
	})
}

// loginAway: Vault answers, what is behind it does not.
func loginAway(text string) does {
	return change(func(w *world) {
		w.loginTrouble = failure.New(failure.Transient, failure.RemoteMetadata, "log in: %s", text)
	})
}

func gossip(text, fix string) does {
	return change(func(w *world) {
		w.gossipTrouble = failure.New(failure.Config, failure.RemoteVault, "read gossip key: %s", text).WithFix(fix)
	})
}
