package vault

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/transitions"
)

// gossipLengths are what Serf takes: AES-128, 192 or 256.
var gossipLengths = []int{16, 24, 32}

// ReadGossipKey reads the key from KV v2 and checks it: an empty or short key
// would start Serf unencrypted, or not at all (faults.md F39). The version before
// comes along where there is one, for a cluster that has not moved on yet (F13).
func (c *Client) ReadGossipKey(ctx context.Context, token secret.Secret) (transitions.GossipGrant, error) {
	grant, err := c.readGossip(ctx, token, "")
	if err != nil {
		return transitions.GossipGrant{}, err
	}
	if version, err := strconv.Atoi(grant.ID); err == nil && version > 1 {
		if before, err := c.readGossip(ctx, token, strconv.Itoa(version-1)); err == nil && before.Key.Reveal() != grant.Key.Reveal() {
			grant.Previous = before.Key
		}
	}
	return grant, nil
}

// readGossip reads one version of the key; "" is the newest.
func (c *Client) readGossip(ctx context.Context, token secret.Secret, wanted string) (transitions.GossipGrant, error) {
	read := call{kind: readingGossip, path: c.site.KVMount + "/data/" + c.site.GossipPath, token: token, version: wanted}
	place := c.site.KVMount + "/" + c.site.GossipPath
	write := fmt.Sprintf("write it: consul keygen, then vault kv put -mount=%s %s %s=KEY", c.site.KVMount, c.site.GossipPath, c.site.GossipField)
	answer, _, err := c.ask(ctx, read)
	if err != nil {
		return transitions.GossipGrant{}, err
	}
	if answer == nil {
		return transitions.GossipGrant{}, c.lacking(read, "there is nothing at "+place, write)
	}
	metadata, _ := answer.Data["metadata"].(map[string]any)
	version, versioned := metadata["version"].(json.Number)
	data, hasData := answer.Data["data"].(map[string]any)
	if !versioned {
		return transitions.GossipGrant{}, c.lacking(read, "the answer has no version", "mount KV version 2 at "+c.site.KVMount)
	}
	if !hasData {
		return transitions.GossipGrant{}, c.lacking(read, fmt.Sprintf("version %s of %s is deleted", version, place),
			fmt.Sprintf("vault kv undelete -mount=%s -versions=%s %s, or write a new version", c.site.KVMount, version, c.site.GossipPath))
	}
	text, isText := data[c.site.GossipField].(string)
	if !isText || text == "" {
		return transitions.GossipGrant{}, c.lacking(read, fmt.Sprintf("version %s of %s has no text as %s", version, place, c.site.GossipField), write)
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return transitions.GossipGrant{}, c.lacking(read, fmt.Sprintf("%s of version %s is not base64", c.site.GossipField, version), write)
	}
	if !slices.Contains(gossipLengths, len(key)) {
		return transitions.GossipGrant{}, c.lacking(read, fmt.Sprintf("%s of version %s has %d bytes, not 16, 24 or 32", c.site.GossipField, version, len(key)), write)
	}
	return transitions.GossipGrant{Key: secret.New(text), ID: version.String()}, nil
}

// IssueConsulToken has Vault make a token at Consul. Each one leaves a lease
// behind, also where the answer is lost.
func (c *Client) IssueConsulToken(ctx context.Context, token secret.Secret) (transitions.ConsulGrant, error) {
	issue := call{kind: issuingConsul, path: c.site.ConsulMount + "/creds/" + c.site.ConsulRole, token: token}
	answer, _, err := c.ask(ctx, issue)
	if err != nil {
		return transitions.ConsulGrant{}, err
	}
	role := c.site.ConsulMount + "/roles/" + c.site.ConsulRole
	if answer == nil {
		return transitions.ConsulGrant{}, c.lacking(issue, "the answer is empty", "mount Vault's Consul engine at "+c.site.ConsulMount)
	}
	text, _ := answer.Data["token"].(string)
	accessor, _ := answer.Data["accessor"].(string)
	if text == "" || accessor == "" {
		return transitions.ConsulGrant{}, c.lacking(issue, "the answer has no token, or one without an accessor", "set consul_policies at "+role+" (the legacy fields make tokens without an accessor)")
	}
	if answer.LeaseID == "" || answer.LeaseDuration <= 0 {
		return transitions.ConsulGrant{}, c.lacking(issue, "the token has no lease", "set ttl at "+role)
	}
	return transitions.ConsulGrant{
		Token: secret.New(text), Accessor: accessor, Lease: answer.LeaseID,
		TTL: time.Duration(answer.LeaseDuration) * time.Second,
	}, nil
}

// RenewLease renews a Consul token's lease and returns its new TTL. A lease that
// Vault does not know is AuthDead with Consul as remote: that token is gone.
func (c *Client) RenewLease(ctx context.Context, token secret.Secret, lease string) (time.Duration, error) {
	renew := call{kind: renewingLease, path: "sys/leases/renew", token: token, body: map[string]any{"lease_id": lease}}
	answer, _, err := c.ask(ctx, renew)
	if err != nil {
		return 0, err
	}
	if answer == nil || answer.LeaseDuration <= 0 {
		return 0, c.failed(renew, failure.Transient, failure.RemoteVault, "the answer has no TTL in it")
	}
	return time.Duration(answer.LeaseDuration) * time.Second, nil
}
