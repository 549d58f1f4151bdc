package main

import (
	"net/http"
	"time"

	"pawl/internal/faults"
)

const (
	// slow is the TTL where each attempt runs into its timeout of 10 s, or is told to
	// wait: the Vault token lasts 50 s and is renewed at 25 to 33.
	slow = 100 * time.Second
	// dying is the TTL of outages that outlast every credential.
	dying = 20 * time.Second
	// settledToken is the age from which a Consul token that a server does not know is
	// dead, and not only late on its way there.
	settledToken = 21 * time.Second
	// held is how long a fault lasts after it was noticed: a few attempts' time.
	held = 3 * time.Second
	// repair bounds what nobody mends but the agent: a probe_interval and 30 s.
	repair = 35 * time.Second
)

const (
	allKept    = "all credentials"
	servesOn   = "gossip, checks, expired credentials until they are refused"
	runsOn     = "the embedded agent, gossip"
	repairOnly = "gossip, registration"
)

// vaultFaults: Vault itself, and the way to it on the level of TCP.
func vaultFaults() []fault {
	out := []words{into(degraded)}
	return []fault{
		{number: "F3", name: "vault-killed", how: "SIGKILL, started 3 s after it is noticed", keeps: allKept, ttl: brisk,
			inject: inLab("kill", "vault"), until: out, hold: held, during: standing("vault_unreachable"), heal: inLab("start", "vault"), mustNot: fallen},
		{number: "F3", name: "vault-killed-past-ttl", how: "SIGKILL until every credential has expired", keeps: servesOn, ttl: dying,
			inject: inLab("kill", "vault"), until: []words{into(noIdentity), into(hasJWT)}, hold: dying, heal: inLab("start", "vault"), must: []string{degraded}, check: sameAgent},
		{number: "F3", name: "vault-sealed", how: "sys/seal, unsealed 3 s after it is noticed", keeps: allKept, ttl: brisk,
			inject: inLab("seal"), until: out, hold: held, heal: inLab("unseal"), mustNot: fallen,
			says: []words{{"fix=", "vault operator unseal"}}},
		{number: "F3", name: "vault-sealed-past-ttl", how: "sys/seal until every credential has expired", keeps: servesOn, ttl: dying,
			inject: inLab("seal"), until: []words{into(noIdentity)}, hold: dying, heal: inLab("unseal"), must: []string{degraded}, check: sameAgent},
		{number: "F14", name: "vault-paused", how: "SIGSTOP: it takes connections and says nothing", keeps: allKept, ttl: slow,
			inject: inLab("pause", "vault"), until: out, hold: held, heal: inLab("resume", "vault"), mustNot: fallen},
		{number: "F10", name: "vault-flapping", how: "SIGKILL and start, ten times", keeps: allKept, ttl: brisk,
			inject: flapping(10), hold: held, mustNot: []string{noIdentity, hasJWT}},
		{number: "F4", name: "vault-token-revoked", how: "auth/token/revoke-accessor, just after the login", keeps: repairOnly,
			inject: revokeVaultToken, until: out, within: repair, check: fromInjection(repair, replaced("vault_token"))},
		{number: "F2", name: "consul-token-deleted", how: "deleted at Consul, just after its issue", keeps: repairOnly,
			inject: deleteConsulToken, until: out, within: repair, check: fromInjection(repair, replaced("consul_token"))},
		{number: "F4", name: "old-vault-token-revoked", how: "the same, 21 s after the login", keeps: repairOnly, age: settledToken,
			inject: revokeVaultToken, until: out, within: soon, check: fromInjection(soon, replaced("vault_token"))},
		{number: "F2", name: "old-consul-token-deleted", how: "the same, 21 s after its issue", keeps: repairOnly, age: settledToken,
			inject: deleteConsulToken, until: out, within: soon, check: fromInjection(soon, replaced("consul_token"))},
		{number: "F2", name: "consul-token-deleted-vault-down", how: "deleted at Consul while Vault is killed, for 15 s", keeps: repairOnly,
			inject: inOrder(inLab("kill", "vault"), deleteConsulToken), until: out, hold: 15 * time.Second, heal: inLab("start", "vault"), within: repair, check: replaced("consul_token")},

		{number: "F14", name: "vault-resets", how: "proxy: every connection reset", keeps: allKept, ttl: brisk, way: wired,
			inject: troubling(faults.Trouble{Reset: true}), until: out, hold: held, heal: troubling(faults.Trouble{}), mustNot: fallen},
		{number: "F14", name: "vault-half-open", how: "proxy: connections taken, nothing said, no end", keeps: allKept, ttl: slow, way: wired,
			inject: troubling(faults.Trouble{Mute: true}), until: out, hold: held, heal: troubling(faults.Trouble{}), mustNot: fallen},
		{number: "F22", name: "attempt-hangs", how: "the same; SIGUSR1, status and a scrape while the attempt hangs", keeps: "dump, status and metrics answer within 2 s", ttl: slow, way: wired,
			inject: troubling(faults.Trouble{Mute: true}), until: out, hold: held, during: answersAtOnce, heal: troubling(faults.Trouble{}), mustNot: fallen},
		{number: "F14", name: "vault-cut-off", how: "proxy: each connection reset after 2500 bytes", keeps: allKept, ttl: brisk, way: wired,
			inject: inOrder(troubling(faults.Trouble{Reset: true}), troubling(faults.Trouble{CutAfter: 2500})), until: out, hold: held, heal: troubling(faults.Trouble{}), mustNot: fallen},
		{number: "F14", name: "vault-sluggish", how: "proxy: 300 ms before each piece of an answer", keeps: "everything: slow is not down", ttl: brisk, way: wired,
			inject: troubling(faults.Trouble{Delay: 300 * time.Millisecond}), hold: brisk, heal: troubling(faults.Trouble{}), mustNot: append([]string{degraded}, fallen...)},
	}
}

// health is the path that a Vault in trouble may still answer well.
const health = "/v1/sys/health"

// answerFaults: what may come in the place of Vault's answers.
func answerFaults() []fault {
	row := func(number, name, how string, answer faults.Answer) fault {
		return fault{number: number, name: name, how: "proxy: " + how, keeps: allKept, ttl: brisk, way: throughGateway,
			inject: answering(answer), until: []words{into(degraded)}, hold: held, heal: answering(faults.Answer{}), mustNot: fallen, check: unhurried}
	}
	said := func(text string) string { return `{"errors":["` + text + `"]}` }
	page := map[string]string{"Content-Type": "text/html"}
	all := []fault{
		row("F18", "vault-412", "412, health as ever", faults.Answer{But: []string{health}, Status: http.StatusPreconditionFailed, Body: said("required index state not present")}),
		row("F18", "vault-429-standby", "429 of a standby without its active node", faults.Answer{Status: http.StatusTooManyRequests, Body: `{"initialized":true,"sealed":false,"standby":true}`}),
		row("F18", "vault-472", "472, of a recovery secondary", faults.Answer{Status: 472, Body: said("replication secondary")}),
		row("F18", "vault-473", "473, of a performance standby", faults.Answer{Status: 473, Body: said("performance standby")}),
		row("F18", "vault-redirects", "307 to itself", faults.Answer{Status: http.StatusTemporaryRedirect, Header: map[string]string{"Location": vaultURL + "/v1/sys/health"}}),
		row("F18", "vault-read-only", "500, cannot write to readonly storage", faults.Answer{But: []string{health}, Status: 500, Body: said("cannot write to readonly storage")}),
		row("F19", "vault-503", "503 of an overload, health as ever", faults.Answer{But: []string{health}, Status: http.StatusServiceUnavailable, Body: said("server is overloaded")}),
		row("F19", "vault-429", "429 with Retry-After: 6", faults.Answer{Status: http.StatusTooManyRequests, Header: map[string]string{"Retry-After": "6"}, Body: said("request path \\\"x\\\": rate limit quota exceeded")}),
		row("F14", "vault-502-page", "502 with a page of HTML", faults.Answer{Status: http.StatusBadGateway, Header: page, Body: "<html><h1>Bad Gateway</h1></html>"}),
		row("F14", "vault-200-page", "200 with a page of HTML", faults.Answer{Status: http.StatusOK, Header: page, Body: "<html><h1>Welcome</h1></html>"}),
		row("F14", "vault-garbage", "Vault does as asked, its answers are noise", faults.Answer{Garbage: true}),
		row("F14", "vault-truncated", "Vault does as asked, its answers are cut in half", faults.Answer{Cut: true}),
		row("F14", "vault-endless", "answers that never end", faults.Answer{Endless: true}),
		row("F14", "vault-too-slow", "12 s before each answer, timeouts are at 10", faults.Answer{Delay: 12 * time.Second}),
		row("F4", "vault-403-page", "403 with a page of HTML, as of a firewall", faults.Answer{But: []string{health}, Status: http.StatusForbidden, Header: page, Body: "<html><h1>Forbidden</h1></html>"}),
	}
	for i := range all {
		switch all[i].name {
		case "vault-429":
			all[i].ttl, all[i].hold, all[i].check = slow, 8*time.Second, waited(6*time.Second)
		case "vault-too-slow":
			all[i].ttl = slow
		}
	}
	return all
}
