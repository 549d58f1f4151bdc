package main

// bootFaults: what a person forgot at Vault before the VM was made. The VM waits on
// its rung, says what to mend, and goes on when it is.
func bootFaults() []fault {
	row := func(number, name, how string, inject deed, until words, heal deed) fault {
		return fault{number: number, name: name, how: how, keeps: "metrics and status", atBoot: true,
			inject: inject, until: []words{append(words{"msg=failed"}, until...)}, hold: held, heal: heal, within: patient, check: sameAgent}
	}
	return []fault{
		row("F20", "role-missing-at-boot", "no jwt role at Vault when the agent boots", vaultDelete("auth/jwt/role/pawl"),
			words{"class=config", "fix=", "write the role auth/jwt/role/pawl"}, apply("vault/jwt-role.json")),
		row("F20", "wrong-audience-at-boot", "another audience in the role when the agent boots", applyWith("vault/jwt-role.json", map[string]any{"bound_audiences": []string{"another"}}),
			words{"class=config", "fix=", "bound_audiences at auth/jwt/role/pawl"}, apply("vault/jwt-role.json")),
		row("F20", "wrong-mount-at-boot", "the JWT method is mounted elsewhere when the agent boots", vaultWrite("sys/remount", map[string]any{"from": "auth/jwt", "to": "auth/jwt-elsewhere"}),
			words{"class=config", "fix=", "auth/jwt"}, vaultWrite("sys/remount", map[string]any{"from": "auth/jwt-elsewhere", "to": "auth/jwt"})),
		row("F21", "jwks-unreachable-at-boot", "Vault cannot fetch the JWT service's keys when the agent boots", hideKeys, words{"action=log_in", "class=transient"}, showKeys),
		row("F39", "gossip-key-gone-at-boot", "no gossip key in KV when the agent boots", vaultDelete("kv/metadata/consul/gossip"),
			words{"class=config", "there is nothing at kv/consul/gossip"}, apply("vault/gossip.json")),
	}
}
