package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	consul "github.com/hashicorp/consul/api"
	vault "github.com/hashicorp/vault/api"

	"pawl/deploy"
)

// step writes one file of deploy/vault to one path of Vault. The whole set-up is
// this table, the same length however many VMs there are.
type step struct{ file, path string }

// vaultSteps in their order: a mount before what lives in it. The step whose
// file is intermediateFile also signs the answer with the lab's root.
var vaultSteps = []step{
	{"vault/mount-jwt.json", "sys/auth/jwt"},
	{"vault/mount-kv.json", "sys/mounts/kv"},
	{"vault/mount-pki.json", "sys/mounts/pki"},
	{"vault/mount-consul.json", "sys/mounts/consul"},
	{"vault/jwt-config.json", "auth/jwt/config"},
	{"vault/policy-pawl.hcl", "sys/policies/acl/pawl"},
	{"vault/jwt-role.json", "auth/jwt/role/pawl"},
	{intermediateFile, "pki/intermediate/generate/internal"},
	{"vault/pki-role.json", "pki/roles/pawl"},
	{"vault/consul-access.json", "consul/config/access"},
	{"vault/consul-role.json", "consul/roles/pawl"},
	{"vault/gossip.json", "kv/data/consul/gossip"},
}

const intermediateFile = "vault/pki-intermediate.json"

// consulPolicies maps each file of deploy/consul that is a policy to its name.
var consulPolicies = map[string]string{
	"consul/policy-pawl.hcl":  "pawl",
	"consul/policy-vault.hcl": vaultPolicy,
}

// vaultPolicy is the policy of the token of Vault's Consul engine.
const vaultPolicy = "pawl-vault"

// provisionConsul writes the ACL policies and returns the token that Vault's
// Consul engine makes tokens with.
func provisionConsul(ctx context.Context, servers *consulServers) (string, error) {
	acl := servers.clients[0].ACL()
	options := (&consul.WriteOptions{}).WithContext(ctx)
	for file, name := range consulPolicies {
		rules, err := deploy.Files.ReadFile(file)
		if err != nil {
			return "", err
		}
		if _, _, err := acl.PolicyCreate(&consul.ACLPolicy{Name: name, Rules: string(rules)}, options); err != nil {
			return "", fmt.Errorf("apply %s to consul: %w", file, err)
		}
	}
	token, _, err := acl.TokenCreate(&consul.ACLToken{
		Description: "Vault's Consul engine",
		Policies:    []*consul.ACLTokenPolicyLink{{Name: vaultPolicy}},
	}, options)
	if err != nil {
		return "", fmt.Errorf("make vault's token at consul: %w", err)
	}
	return token.SecretID, nil
}

// provisionVault applies the table. values fills the @WORDS@ of the files; what
// they lack (the jwt mount's accessor) is learned on the way and returned.
func provisionVault(ctx context.Context, client *vault.Client, root authority, values map[string]string, ttl time.Duration) (accessor string, err error) {
	values = maps.Clone(values)
	for _, one := range vaultSteps {
		text, err := render(one.file, values, ttl)
		if err != nil {
			return "", err
		}
		answer, err := writeVault(ctx, client, one.path, text)
		if err != nil {
			return "", fmt.Errorf("apply %s to vault: %w", one.file, err)
		}
		switch {
		case one.path == "sys/auth/jwt":
			mounts, err := client.Sys().ListAuthWithContext(ctx)
			if err != nil {
				return "", fmt.Errorf("read the jwt mount's accessor: %w", err)
			}
			accessor = mounts["jwt/"].Accessor
			values["JWT_ACCESSOR"] = accessor
		case one.file == intermediateFile:
			if err := installIntermediate(ctx, client, root, answer); err != nil {
				return "", err
			}
		}
	}
	return accessor, nil
}

// writeVault writes and, where Vault says it is still preparing a new KV mount, asks again.
func writeVault(ctx context.Context, client *vault.Client, path string, text []byte) (answer *vault.Secret, err error) {
	var refused error
	// Each write has all of ctx, and not the time of a question: on a loaded machine
	// a mount takes seconds, and cannot be made a second time.
	err = retry(ctx, nil, func(context.Context) error {
		answer, refused = client.Logical().WriteBytesWithContext(ctx, path, text)
		var response *vault.ResponseError
		if errors.As(refused, &response) && response.StatusCode == http.StatusBadRequest && strings.Contains(refused.Error(), "Upgrading from non-versioned to versioned") {
			return refused
		}
		return nil
	})
	if err == nil {
		err = refused
	}
	return answer, err
}

func installIntermediate(ctx context.Context, client *vault.Client, root authority, answer *vault.Secret) error {
	request, _ := answer.Data["csr"].(string)
	signed, err := root.signIntermediate([]byte(request), time.Now())
	if err != nil {
		return fmt.Errorf("sign vault's intermediate: %w", err)
	}
	_, err = client.Logical().WriteWithContext(ctx, "pki/intermediate/set-signed", map[string]any{"certificate": string(signed)})
	if err != nil {
		return fmt.Errorf("install vault's intermediate: %w", err)
	}
	return nil
}

// render returns what is written to Vault for a file: filled in, a policy
// wrapped as Vault's API wants it, TTLs shortened where ttl is not zero.
func render(file string, values map[string]string, ttl time.Duration) ([]byte, error) {
	text, err := deploy.Files.ReadFile(file)
	if err != nil {
		return nil, err
	}
	text, err = fill(text, values)
	if err != nil {
		return nil, fmt.Errorf("fill %s: %w", file, err)
	}
	if strings.HasSuffix(file, ".hcl") {
		return json.Marshal(map[string]string{"policy": string(text)})
	}
	if ttl == 0 {
		return text, nil
	}
	text, err = shorten(text, shortened(ttl)[file])
	if err != nil {
		return nil, fmt.Errorf("shorten %s: %w", file, err)
	}
	return text, nil
}

var placeholder = regexp.MustCompile(`@([A-Z_]+)@`)

// fill puts values in place of @WORDS@. A word without a value is an error.
func fill(text []byte, values map[string]string) ([]byte, error) {
	var missing []string
	filled := placeholder.ReplaceAllFunc(text, func(word []byte) []byte {
		value, known := values[string(bytes.Trim(word, "@"))]
		if !known {
			missing = append(missing, string(word))
		}
		return []byte(value)
	})
	if len(missing) > 0 {
		return nil, fmt.Errorf("nothing to put in place of %s", strings.Join(missing, ", "))
	}
	return filled, nil
}

// shortened says which fields --ttl overrides, by file. Everything else of a
// file is applied as it stands.
func shortened(ttl time.Duration) map[string]map[string]any {
	whole, half := seconds(ttl), seconds(ttl/2)
	return map[string]map[string]any{
		"vault/jwt-role.json": {
			"token_ttl": half, "token_max_ttl": whole, "token_explicit_max_ttl": whole,
			// Leeways are longer than these TTLs: an expired JWT would log in. -1 is none; 0 is the default.
			"expiration_leeway": -1, "not_before_leeway": -1, "clock_skew_leeway": -1,
		},
		// Vault reads a backdating of 0 as its default, 30 s: 1 s is the least there is.
		"vault/pki-role.json":    {"ttl": whole, "max_ttl": whole, "not_before_duration": "1s"},
		"vault/consul-role.json": {"ttl": half, "max_ttl": whole},
	}
}

// shortestTTL leaves a renewal, at half of a half, a second of its own.
const shortestTTL = 4 * time.Second

// seconds is how Vault reads a duration: it knows no fraction of a second.
func seconds(d time.Duration) string { return fmt.Sprintf("%ds", d/time.Second) }

// shorten overrides fields of a JSON object. A field that is not there is an
// error: the file has changed and the override would say something new.
func shorten(text []byte, override map[string]any) ([]byte, error) {
	if len(override) == 0 {
		return text, nil
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(override)) {
		if _, there := fields[name]; !there {
			return nil, fmt.Errorf("no field %q to override", name)
		}
		fields[name] = override[name]
	}
	return json.Marshal(fields)
}
