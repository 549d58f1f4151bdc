package main

import (
	"context"
	"time"

	"pawl/deploy"
	"pawl/internal/faults"
)

// configurationFaults: what a person broke at Vault or Consul, and mends. A
// config error says in one line what to fix, is asked slowly, and heals.
func configurationFaults() []fault {
	row := func(number, name, how string, inject deed, says words, heal deed) fault {
		said := append(words{"msg=failed", "class=config", "fix="}, says...)
		return fault{number: number, name: name, how: how, keeps: allKept, ttl: brisk, inject: inject,
			until: []words{said, into(degraded)}, hold: held, heal: heal, within: patient, mustNot: fallen, check: sameAgent}
	}
	overloaded := inOrder()
	relieved := inOrder()
	for name, path := range map[string]string{"login": "auth/jwt", "token": "auth/token", "pki": "pki", "consul": "consul", "kv": "kv"} {
		quota := "sys/quotas/rate-limit/" + name
		overloaded = inOrder(overloaded, vaultWrite(quota, map[string]any{"path": path, "rate": 1, "interval": "1m"}))
		relieved = inOrder(relieved, vaultDelete(quota))
	}
	rows := []fault{
		row("F20", "role-missing", "Vault's jwt role deleted", vaultDelete("auth/jwt/role/pawl"), words{"write the role auth/jwt/role/pawl"}, apply("vault/jwt-role.json")),
		row("F20", "wrong-audience", "bound_audiences of the role changed", applyWith("vault/jwt-role.json", map[string]any{"bound_audiences": []string{"another"}}),
			words{"bound_audiences at auth/jwt/role/pawl"}, apply("vault/jwt-role.json")),
		row("F20", "wrong-issuer", "bound_issuer of the mount changed", vaultWrite("auth/jwt/config", map[string]any{"jwks_url": metadataURL + "/.well-known/jwks.json", "bound_issuer": "http://another"}),
			words{"bound_issuer at auth/jwt/config"}, apply("vault/jwt-config.json")),
		row("F20", "claims-do-not-fit", "user_claim of the role changed", applyWith("vault/jwt-role.json", map[string]any{"user_claim": "nobody"}),
			words{"user_claim"}, apply("vault/jwt-role.json")),
		row("F20", "policy-missing", "Vault's policy pawl emptied", vaultWrite("sys/policies/acl/pawl", map[string]any{"policy": `path "auth/token/lookup-self" { capabilities = ["read"] }`}),
			words{"let the policy of auth/jwt/role/pawl"}, apply("vault/policy-pawl.hcl")),
		row("F20", "wrong-mount", "the PKI mount moved elsewhere", vaultWrite("sys/remount", map[string]any{"from": "pki", "to": "pki-elsewhere"}),
			words{"pki"}, vaultWrite("sys/remount", map[string]any{"from": "pki-elsewhere", "to": "pki"})),
		row("F20", "pki-role-missing", "Vault's PKI role deleted", vaultDelete("pki/roles/pawl"), words{"write the role pki/roles/pawl"}, apply("vault/pki-role.json")),
		row("F20", "consul-role-missing", "Vault's Consul role deleted", vaultDelete("consul/roles/pawl"), words{"write the role consul/roles/pawl"}, apply("vault/consul-role.json")),
		row("F20", "consul-access-wrong", "Vault's own token at Consul made worthless", vaultWrite("consul/config/access", map[string]any{"address": "consul.lab.pawl:8500", "scheme": "http", "token": randomUUID()}),
			words{"consul/config/access"}, apply("vault/consul-access.json")),
		row("F39", "gossip-key-deleted", "the key's version in KV deleted, and undeleted", vaultDelete("kv/data/consul/gossip"), words{"is deleted", "vault kv undelete"},
			vaultWrite("kv/undelete/consul/gossip", map[string]any{"versions": []int{1}})),
		row("F39", "gossip-key-gone", "the key's path in KV removed, and written", vaultDelete("kv/metadata/consul/gossip"), words{"there is nothing at kv/consul/gossip"}, apply("vault/gossip.json")),
		row("F39", "gossip-key-short", "a key of 5 bytes in KV", vaultWrite("kv/data/consul/gossip", map[string]any{"data": map[string]any{"key": "c2hvcnQ="}}), words{"has 5 bytes"}, apply("vault/gossip.json")),
		row("F20", "consul-policy-emptied", "the policy of the agent's token at Consul emptied", consulPolicy(""), words{"Consul role"}, restoreConsulPolicy),

		{number: "F19", name: "quota-429", how: "sys/quotas/rate-limit: a request a minute for each mount, for 20 s", keeps: allKept, ttl: slow,
			inject: overloaded, until: []words{into(degraded)}, hold: held, heal: relieved, within: 75 * time.Second, mustNot: []string{noIdentity}, check: sameAgent},
		{number: "F40", name: "vault-of-a-stranger", how: "DNS leads to a Vault whose certificate is of another CA", keeps: allKept, ttl: brisk, way: wired,
			inject: strangerAtTheDoor, until: []words{{"msg=failed", "class=config", "ca_roots"}, into(degraded)}, hold: held, heal: strangerLeaves, within: patient, mustNot: fallen, check: sameAgent},
	}
	for i := range rows {
		if rows[i].name == "consul-policy-emptied" {
			rows[i].ttl, rows[i].mustNot, rows[i].consulForgets = 0, []string{noIdentity, hasJWT}, true
		}
	}
	return rows
}

// restoreConsulPolicy gives the agent's policy at Consul its rules again.
func restoreConsulPolicy(ctx context.Context, s *scene) error {
	rules, err := deploy.Files.ReadFile("consul/policy-pawl.hcl")
	if err != nil {
		return err
	}
	return consulPolicy(string(rules))(ctx, s)
}

// strangerAtTheDoor leads Vault's name to a server with a certificate for the
// right name by a CA of its own, and breaks the connections to the real one off.
func strangerAtTheDoor(_ context.Context, s *scene) error {
	certificate, roots, err := s.strangersCertificate()
	if err != nil {
		return err
	}
	stranger, err := faults.ListenGateway(strangerIP+":"+vaultPort, certificate, "https://"+vaultAddress, roots)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func() { _ = stranger.Close() })
	if err := s.name(vaultName, strangerIP); err != nil {
		return err
	}
	s.wire.Set(faults.Trouble{Reset: true})
	return nil
}

func strangerLeaves(_ context.Context, s *scene) error {
	s.wire.Set(faults.Trouble{})
	return s.name(vaultName, wireIP)
}
