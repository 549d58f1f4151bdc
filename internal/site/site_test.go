package site

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBakedIsTheLab(t *testing.T) {
	got, err := Baked()
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Roots()) != 2 || len(got.Hash()) != 12 {
		t.Fatalf("roots %d, hash %q", len(got.Roots()), got.Hash())
	}
	want := Site{
		Name: "lab", FleetSize: 1, Resolver: "127.0.0.1:18053", RuntimeFolder: "/run/pawl", LogLevel: "info", ProbeInterval: 4 * time.Second,
		Metadata: Metadata{URL: "http://127.0.0.1:18169", Audience: "vault", Timeout: 5 * time.Second},
		Vault: Vault{Address: "https://vault.lab.pawl:18200", JWTMount: "jwt", JWTRole: "pawl", KVMount: "kv", GossipPath: "consul/gossip",
			GossipField: "key", PKIMount: "pki", PKIRole: "pawl", ConsulMount: "consul", ConsulRole: "pawl", Timeout: 10 * time.Second},
		Consul: Consul{Datacenter: "dc1", Domain: "consul", Servers: "consul.lab.pawl", ServerRPCPort: 8300, SerfPort: 8301, Bind: "127.0.2.1",
			BindSerfPort: 8301, HTTP: "127.0.0.1:18500", RPCTimeout: 3 * time.Second},
		NodeExporter: NodeExporter{Listen: "127.0.0.1:19100", Address: "127.0.0.1", CheckInterval: 5 * time.Second, CheckTimeout: 2 * time.Second},
		CARoots:      got.CARoots, hash: got.hash,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	other, err := Parse(append(Text(), "# another\n"...), "other")
	if err != nil || other.Hash() == got.Hash() {
		t.Errorf("another text has hash %q too (%v)", other.Hash(), err)
	}
}

// TestEveryFieldHasARow: a field of Site that no row reads would stay empty for ever.
func TestEveryFieldHasARow(t *testing.T) {
	var want []string
	var walk func(prefix string, of reflect.Type)
	walk = func(prefix string, of reflect.Type) {
		for i := range of.NumField() {
			field := of.Field(i)
			if !field.IsExported() {
				continue
			}
			name, option, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if field.Type.Kind() == reflect.Struct {
				walk(prefix+name+".", field.Type)
				continue
			}
			want = append(want, fmt.Sprintf("%s%s required=%t", prefix, name, option != "omitempty"))
		}
	}
	walk("", reflect.TypeFor[Site]())
	var got []string
	for _, row := range rows {
		got = append(got, fmt.Sprintf("%s required=%t", row.key, row.required))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("rows\n%s\nfields\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestProblems changes one line of the good file at a time and asks for the
// place, the key and the words of the complaint.
func TestProblems(t *testing.T) {
	good := string(Text())
	tests := []struct{ old, new, want string }{
		{"fleet_size: 1", "fleet_sise: 1", "fleet_sise: unknown key"},
		{"fleet_size: 1", "", "fleet_size: missing"},
		{"fleet_size: 1", "fleet_size: 1\nfleet_size: 2", "fleet_size: given twice, first on line"},
		{"fleet_size: 1", "fleet_size: 0", "out of range"},
		{"fleet_size: 1", "fleet_size: many", "a whole number"},
		{"fleet_size: 1", "fleet_size: 1.5", "a whole number"},
		{"fleet_size: 1", "fleet_size:", "has no value"},
		{"fleet_size: 1", "fleet_size: [1]", "is a list or a section"},
		{"name: lab", "name: Lab", "not a DNS label"},
		{"name: lab", "name: 12", "in quotes"},
		{"name: lab", "name: &a lab", "anchors"},
		{"name: lab", "<<: {name: lab}", "not a plain word"},
		{"name: lab", "name: lab\n---\nname: lab", "second document"},
		{"name: lab", "name: [lab", "not YAML"},
		{"resolver: 127.0.0.1:18053", "resolver: 127.0.0.1", "with a port"},
		{"resolver: 127.0.0.1:18053", "resolver: ns1:53", "with a port"},
		{"runtime_folder: /run/pawl", "runtime_folder: run/pawl", "absolute"},
		{"runtime_folder: /run/pawl", "runtime_folder: /run/../pawl", "absolute"},
		{"probe_interval: 4s", "probe_interval: 5", "with its unit"},
		{"probe_interval: 4s", "probe_interval: 5 s", "not a duration"},
		{"probe_interval: 4s", "probe_interval: -5s", "out of range"},
		{"probe_interval: 4s", "probe_interval: 5h", "out of range"},
		{"  url: http://127.0.0.1:18169", "  url: http://metadata:80", "metadata.url: the host \"metadata\" is not an IP address"},
		{"  url: http://127.0.0.1:18169", "  url: ftp://127.0.0.1", "scheme"},
		{"  url: http://127.0.0.1:18169", "  url: http://127.0.0.1:99999", "port"},
		{"  url: http://127.0.0.1:18169", "  url: http://127.0.0.1:1/", "base URL"},
		{"  url: http://127.0.0.1:18169", "  url: http://u:pw@127.0.0.1", "has a user"},
		{"https://vault.lab.pawl:18200", "http://vault.lab.pawl:18200", "vault.address: the scheme"},
		{"https://vault.lab.pawl:18200", "https://vault_lab:18200", "not a DNS name"},
		{"https://vault.lab.pawl:18200", "https://vault.lab.pawl/v1", "has a path"},
		{"https://vault.lab.pawl:18200", "vault.lab.pawl:18200", "not a URL"},
		{"jwt_mount: jwt", "jwt_mount: auth/jwt/", "not a path"},
		{"gossip_path: consul/gossip", "gossip_path: /consul/gossip", "not a path"},
		{"jwt_role: pawl", "jwt_role: pa/wl", "not a name"},
		{"datacenter: dc1", "datacenter: DC1", "not a DNS label"},
		{"servers: consul.lab.pawl", "servers: 127.0.0.999", "not an IP address"},
		{"server_rpc_port: 8300", "server_rpc_port: 83000", "out of range"},
		{"bind: 127.0.2.1", "bind: 0.0.0.0", "one machine"},
		{"bind: 127.0.2.1", "bind: eth0", "one machine"},
		{"http: 127.0.0.1:18500", "http: 10.0.0.1:8500", "consul.http: \"10.0.0.1:8500\" is not on loopback"},
		{"http: 127.0.0.1:18500", "http: 127.0.0.1:18500\n  dns: 0.0.0.0:53", "consul.dns"},
		{"http: 127.0.0.1:18500", "http: 127.0.0.1:18500\n  dns: 127.0.0.1:18500", "is consul.http already"},
		{"listen: 127.0.0.1:19100", "listen: 127.0.0.1", "to listen on"},
		{"listen: 127.0.0.1:19100", "listen: localhost:19100", "no good IP"},
		{"listen: 127.0.0.1:19100", "listen: 127.0.0.1:18500", "consul.http already"},
		{"  check_timeout: 2s", "  check_timeout: 6s", "longer than check_interval"},
		{"  check_timeout: 2s", "  check_timeout: 2s\n  arguments: --no-collector.wifi", "not a list"},
		{"  check_timeout: 2s", "  check_timeout: 2s\n  arguments: [collector.wifi]", "not a flag"},
		{"  check_timeout: 2s", "  check_timeout: 2s\n  arguments: [\"-v\"]", "not a flag"},
		{"metadata:", "metadata: none\nmetadatas:", "is not a section"},
	}
	for _, test := range tests {
		t.Run(test.new, func(t *testing.T) {
			if !strings.Contains(good, test.old) {
				t.Fatalf("the good file has no %q", test.old)
			}
			at := 1 + strings.Count(good[:strings.Index(good, test.old)], "\n")
			_, err := Parse([]byte(strings.Replace(good, test.old, test.new, 1)), "bad.yaml")
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v\nwant %q in it", err, test.want)
			}
			var problem *Problem
			if !errors.As(err, &problem) || problem.File != "bad.yaml" || problem.Fix == "" {
				t.Fatalf("no place or no fix: %v", err)
			}
			// What is missing has the line of its section, what is not YAML a line near by.
			vague := strings.Contains(problem.What, "missing") || strings.Contains(problem.What, "not YAML")
			if !vague && (problem.Line < at || problem.Line > at+2) {
				t.Errorf("line %d, want about %d: %v", problem.Line, at, err)
			}
		})
	}
}

func TestAllProblemsAreReported(t *testing.T) {
	text := strings.NewReplacer("name: lab", "name: LAB", "fleet_size: 1", "fleet_size: x", "bind: 127.0.2.1", "bind: y").Replace(string(Text()))
	_, err := Parse([]byte(text), "f")
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 3 {
		t.Errorf("got %d problems, want 3:\n%v", len(lines), err)
	}
	_, err = Parse([]byte("name: lab\n"), "f")
	for _, want := range []string{"fleet_size: missing", "ca_roots: missing", "vault: this section is missing", "consul: this section", "node_exporter: this section"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
	for _, text := range []string{"", "# only a comment\n", "- a\n", "lab\n", "\x00", "a: b: c", "\t"} {
		if _, err := Parse([]byte(text), "f"); err == nil || !strings.HasPrefix(err.Error(), "f:") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestRoots(t *testing.T) {
	year := 365 * 24 * time.Hour
	now := time.Now()
	one := certificate(t, "one", now.Add(-year), now.Add(year), true)
	two := certificate(t, "two", now.Add(-year), now.Add(30*24*time.Hour), true)
	old := certificate(t, "old", now.Add(-2*year), now.Add(-year), true)
	server := certificate(t, "server", now.Add(-year), now.Add(year), false)
	key := "-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n-----END EC PRIVATE KEY-----\n"
	tests := []struct{ name, bundle, want string }{
		{"two", one + two, ""},
		{"one expired", one + old, ""},
		{"one", one, "holds 1 CA"},
		{"the same twice", one + one, "holds 1 CA"},
		{"a server's", one + server, "certificate 2 (\"server\") is not a CA's"},
		{"a key", one + two + key, "PRIVATE KEY"},
		{"prose", one + "root two:\n" + two, "not PEM after 1"},
		{"broken", one + strings.Replace(two, "MII", "M!!", 1), "PEM block 2 is broken"},
		{"cut short", one + two[:len(two)-30], "PEM block 2 is broken"},
		{"not a certificate", one + "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n", "certificate 2 does not parse"},
		{"no PEM", "roots", "not PEM after 0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			wrong := roots(test.bundle)
			switch {
			case wrong == nil && test.want != "", wrong != nil && (test.want == "" || !strings.Contains(wrong.what, test.want)):
				t.Errorf("got %v, want %q", wrong, test.want)
			case wrong != nil && strings.Contains(wrong.what+wrong.fix, "c2VjcmV0"):
				t.Errorf("the complaint holds what it complains about: %v", wrong)
			}
		})
	}

	warnings := Site{CARoots: one + two + old}.Warnings(now)
	if len(warnings) != 2 || !strings.Contains(warnings[0], `"two" expires on`) || !strings.Contains(warnings[1], `"old" has expired`) {
		t.Errorf("warnings %q", warnings)
	}
	if before := (Site{CARoots: one}).Warnings(now.Add(-2 * year)); len(before) != 1 || !strings.Contains(before[0], "is not valid before") {
		t.Errorf("warnings %q", before)
	}
}

func certificate(t *testing.T, name string, from, to time.Time, authority bool) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to, IsCA: authority, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func FuzzParse(f *testing.F) {
	f.Add(Text())
	f.Add([]byte("vault: {address: [}"))
	f.Add([]byte("a: &x [*x]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		parsed, err := Parse(text, "fuzz")
		if err == nil && len(parsed.Roots()) < 2 {
			t.Errorf("accepted with %d roots", len(parsed.Roots()))
		}
		if err != nil && !reflect.DeepEqual(parsed, Site{}) {
			t.Error("an error and a site at once")
		}
	})
}
