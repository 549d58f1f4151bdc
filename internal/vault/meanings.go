package vault

import "pawl/internal/failure"

// meanings is the table of Vault's answers (law 5; faults.md F4, F18 to F21).
// Unknown words with 400 are transient: a wrong guess there costs a wait, while
// a wrong "config" would cost five minutes of it. 403 under a token is decided
// by lookup-self and never comes here.
var meanings = []meaning{
	// Vault itself, whatever was asked.
	{nil, 300, 399, nil, failure.Transient, failure.RemoteVault, ""},
	{nil, 412, 412, nil, failure.Transient, failure.RemoteVault, ""}, // a node that lags behind what it told us
	{nil, 429, 429, nil, failure.Transient, failure.RemoteVault, ""}, // a quota, or a standby
	{nil, 472, 474, nil, failure.Transient, failure.RemoteVault, ""}, // standbys of other kinds
	{probes, 530, 530, nil, failure.Transient, failure.RemoteVault, "take the node that was removed from vault's cluster out of vault.address"},
	{nil, 501, 501, nil, failure.Config, failure.RemoteVault, "initialise vault: vault operator init"},
	{nil, 503, 503, []string{"sealed"}, failure.Transient, failure.RemoteVault, "unseal vault: vault operator unseal"},
	{nil, 502, 504, nil, failure.Transient, failure.RemoteVault, ""},
	{nil, 404, 405, nil, failure.Config, failure.RemoteVault, "mount what should be at {path} in the namespace {namespace}, or correct the site file"},

	// Login. First what is not the token's fault: whoever publishes the keys is away.
	{logins, 400, 500, away, failure.Transient, failure.RemoteMetadata, ""},
	{logins, 400, 500, []string{"fetching keys", "failed to fetch"}, failure.Transient, failure.RemoteMetadata, ""},
	{logins, 400, 400, []string{"not before (nbf)", "issued in the future", "not yet valid"}, failure.Transient, failure.RemoteVault, "set the clocks of vault and of the metadata service: vault's is behind"},
	{logins, 400, 400, []string{"invalid issuer"}, failure.Config, failure.RemoteVault, "set bound_issuer at {auth}/config to the metadata service's --issuer"},
	{logins, 400, 400, []string{"invalid audience", "no audiences bound"}, failure.Config, failure.RemoteVault, "set bound_audiences at {role} to the site's metadata.audience"},
	{logins, 400, 400, []string{"unexpected algorithm", "invalid algorithm"}, failure.Config, failure.RemoteVault, "set jwt_supported_algs at {auth}/config to ES256"},
	{logins, 400, 400, []string{"invalid subject"}, failure.Config, failure.RemoteVault, "correct bound_subject at {role}"},
	{logins, 400, 400, []string{"could not be found", "missing role"}, failure.Config, failure.RemoteVault, "write the role {role}"},
	{logins, 400, 400, []string{"role_type is not allowed"}, failure.Config, failure.RemoteVault, "set role_type=jwt at {role}"},
	{logins, 400, 400, []string{"could not load configuration", "error configuring token validator"}, failure.Config, failure.RemoteVault, "write {auth}/config"},
	{logins, 400, 400, []string{"error validating claims", "not found in token", "could not be converted", "claim not found", "could not be parsed"}, failure.Config, failure.RemoteVault, "make bound_claims, user_claim and claim_mappings of {role} and the metadata service's inventory agree"},
	// The token's fault: expired, or signed by a key that is not published any more.
	{logins, 400, 400, []string{"error validating token", "token is expired", "signature", "malformed", "compact jws"}, failure.AuthDead, failure.RemoteVault, ""},
	{logins, 403, 403, nil, failure.Config, failure.RemoteVault, "mount a jwt method at {auth} in the namespace {namespace}, or let this VM's address log in (token_bound_cidrs at {role})"},

	{renewals, 400, 500, []string{"does not exist during renewal"}, failure.Config, failure.RemoteVault, "write the role {role}"},

	// The Consul engine, and leases of it: Consul's words come in Vault's 400.
	{consuls, 400, 400, []string{"code: 403", "code: 401", "permission denied", "acl not found"}, failure.Config, failure.RemoteConsul, "write {consul}/config/access with a Consul token that has acl = \"write\""},
	{consuls, 400, 500, []string{"no such acl policy", "no such policy", "no such acl role", "cannot find policy", "cannot find role", "policy not found"}, failure.Config, failure.RemoteConsul, "make the policies named at {consulrole} at Consul"},
	{consuls, 400, 500, []string{"x509:", "certificate signed by unknown", "http response to https", "http request to an https"}, failure.Config, failure.RemoteConsul, "correct scheme and ca_cert at {consul}/config/access"},
	{consuls, 400, 500, away, failure.Transient, failure.RemoteConsul, ""},
	{consuls, 400, 500, []string{"code: 5", "code: 429", "rpc error"}, failure.Transient, failure.RemoteConsul, ""},
	{consuls, 400, 400, []string{"role \""}, failure.Config, failure.RemoteVault, "write the role {consulrole}"},
	{consuls, 400, 400, []string{"not configured", "no configuration", "configure"}, failure.Config, failure.RemoteVault, "write {consul}/config/access"},
	{leases, 400, 400, []string{"not renewable", "past the max ttl"}, failure.Config, failure.RemoteVault, "set max_ttl at {consulrole} to more than its ttl"},
	{leases, 400, 400, []string{"lease not found", "invalid lease"}, failure.AuthDead, failure.RemoteConsul, ""},

	// PKI.
	{signs, 400, 400, []string{"unknown role"}, failure.Config, failure.RemoteVault, "write the role {pkirole}"},
	{signs, 400, 400, []string{"not allowed by this role", "is not allowed", "not allowed"}, failure.Config, failure.RemoteVault, "let {pkirole} sign <node>.node.<dc>.<domain>: allowed_domains with its template and the jwt mount's accessor in it, claim_mappings with node at {role}"},
	{signs, 400, 400, []string{"beyond the expiration"}, failure.Config, failure.RemoteVault, "renew the CA at {pki}, or shorten ttl at {pkirole}"},
	{signs, 400, 400, []string{"requires keys of type", "key type", "key bits", "key size"}, failure.Config, failure.RemoteVault, "set key_type=ec key_bits=256 at {pkirole}"},
	{signs, 400, 500, []string{"no default issuer", "unable to find pki issuer", "backend must be configured", "missing ca", "could not fetch the ca", "unable to fetch the ca"}, failure.Config, failure.RemoteVault, "give {pki} a CA and make it the default issuer"},

	// Whatever else is no 4xx of the known ones.
	{nil, 400, 400, []string{"namespace"}, failure.Config, failure.RemoteVault, "correct vault.namespace, now {namespace}, in the site file"},
	{nil, 400, 400, nil, failure.Transient, failure.RemoteVault, ""},
	{nil, 401, 499, nil, failure.Config, failure.RemoteVault, "make sure that vault itself answers at vault.address"},
	{nil, 500, 599, nil, failure.Transient, failure.RemoteVault, ""},
}
