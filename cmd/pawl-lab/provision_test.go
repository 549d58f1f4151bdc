package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"pawl/deploy"
)

// values fills every word that a file of deploy may hold.
var values = map[string]string{
	"ISSUER": "http://192.0.2.1", "DATACENTER": "dc1", "DOMAIN": "consul", "JWT_ACCESSOR": "auth_jwt_1",
	"CONSUL_ADDRESS": "192.0.2.2:8500", "CONSUL_SCHEME": "http", "CONSUL_TOKEN": "t", "GOSSIP_KEY": "k",
}

// fields renders one file and decodes what would be written to Vault.
func fields(t *testing.T, file string, ttl time.Duration) map[string]any {
	t.Helper()
	text, err := render(file, values, ttl)
	if err != nil {
		t.Fatal(err)
	}
	var decoded map[string]any
	if err := json.Unmarshal(text, &decoded); err != nil {
		t.Fatalf("%s: %v\n%s", file, err, text)
	}
	return decoded
}

func TestEveryFileIsApplied(t *testing.T) {
	applied := map[string]bool{"consul/server.hcl": true} // read by the servers themselves
	for _, one := range vaultSteps {
		applied[one.file] = true
	}
	for file := range consulPolicies {
		applied[file] = true
	}
	guide, err := os.ReadFile("../../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, directory := range []string{"vault", "consul"} {
		entries, err := fs.ReadDir(deploy.Files, directory)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			file := path.Join(directory, entry.Name())
			if !applied[file] {
				t.Errorf("%s is in deploy and the lab does not apply it", file)
			}
			if !strings.Contains(string(guide), file) {
				t.Errorf("deploy/README.md does not speak of %s", file)
			}
		}
	}
}

func TestTTLChangesNothingButTTLs(t *testing.T) {
	const ttl = 20 * time.Second
	want := map[string]map[string]any{
		"vault/jwt-role.json": {
			"token_ttl": "10s", "token_max_ttl": "20s", "token_explicit_max_ttl": "20s",
			"expiration_leeway": -1.0, "not_before_leeway": -1.0, "clock_skew_leeway": -1.0,
		},
		"vault/pki-role.json":    {"ttl": "20s", "max_ttl": "20s", "not_before_duration": "1s"},
		"vault/consul-role.json": {"ttl": "10s", "max_ttl": "20s"},
	}
	for _, one := range vaultSteps {
		before, after := fields(t, one.file, 0), fields(t, one.file, ttl)
		for name, value := range before {
			expected, overridden := want[one.file][name]
			if !overridden {
				expected = value
			}
			got, _ := json.Marshal(after[name])
			if text, _ := json.Marshal(expected); string(got) != string(text) {
				t.Errorf("%s: %s is %s, want %s", one.file, name, got, text)
			}
		}
		if len(before) != len(after) {
			t.Errorf("%s: %d fields with --ttl, %d without", one.file, len(after), len(before))
		}
	}
}

func TestProductionTTLs(t *testing.T) {
	for file, want := range map[string]map[string]string{
		"vault/jwt-role.json":    {"token_ttl": "1h", "token_max_ttl": "24h", "token_explicit_max_ttl": "24h"},
		"vault/pki-role.json":    {"ttl": "24h", "max_ttl": "24h"},
		"vault/consul-role.json": {"ttl": "1h"},
	} {
		got := fields(t, file, 0)
		for name, value := range want {
			if got[name] != value {
				t.Errorf("%s: %s is %v, want %s", file, name, got[name], value)
			}
		}
	}
	if _, periodic := fields(t, "vault/jwt-role.json", 0)["token_period"]; periodic {
		t.Error("a periodic token outlives a deleted VM")
	}
}

func TestShortenRefusesAFieldThatIsNotThere(t *testing.T) {
	if _, err := shorten([]byte(`{"ttl":"1h"}`), map[string]any{"max_ttl": "1s"}); err == nil || !strings.Contains(err.Error(), "max_ttl") {
		t.Errorf("got %v", err)
	}
}

func TestFill(t *testing.T) {
	got, err := fill([]byte("a @ISSUER@ b@c.d {{x.@JWT_ACCESSOR@.y}}"), values)
	if want := "a http://192.0.2.1 b@c.d {{x.auth_jwt_1.y}}"; err != nil || string(got) != want {
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
	if _, err := fill([]byte("@NOBODY_KNOWS@"), values); err == nil || !strings.Contains(err.Error(), "@NOBODY_KNOWS@") {
		t.Errorf("got %v", err)
	}
}

func TestThePKIRoleAllowsOneNameOnly(t *testing.T) {
	role := fields(t, "vault/pki-role.json", 0)
	want := []any{"{{identity.entity.aliases.auth_jwt_1.metadata.node}}.node.dc1.consul"}
	if got := role["allowed_domains"].([]any); !slices.Equal(got, want) {
		t.Errorf("allowed_domains: %v", got)
	}
	for name, value := range map[string]bool{
		"allowed_domains_template": true, "allow_bare_domains": true, "client_flag": true, "no_store": true,
		"allow_subdomains": false, "allow_glob_domains": false, "allow_any_name": false, "allow_localhost": false,
		"allow_ip_sans": false, "server_flag": false,
	} {
		if role[name] != value {
			t.Errorf("%s is %v", name, role[name])
		}
	}
}
