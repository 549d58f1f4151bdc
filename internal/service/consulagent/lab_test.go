package consulagent

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"pawl/internal/dial"
	"pawl/internal/secret"
	"pawl/internal/site"
	"pawl/states"
)

// The addresses of this package's own small lab, on loopback.
const (
	serverIP = "127.0.7.1"
	clientIP = "127.0.7.2"
	nodeName = "vm-7"
	nodeID   = "4b7e0f3c-5a60-4c43-9c2d-7d3a5f0c1b77"
)

// binary is the stock Consul of our own go.mod, built once.
var binary string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "consulagent")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(folder, "consul")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/hashicorp/consul").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the stock consul: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// authority is a CA of the test's own.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64
	pem         string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	certificate, err := x509.ParseCertificate(der)
	must(t, err)
	return &authority{certificate: certificate, key: key, serial: 1, pem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

// issue returns a certificate for name, with its key and serial.
func (a *authority) issue(t *testing.T, name string, server bool) (chain, key, serial string) {
	t.Helper()
	a.serial++
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if server {
		usage = append(usage, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, ExtKeyUsage: usage,
		KeyUsage: x509.KeyUsageDigitalSignature, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	}, a.certificate, &own.PublicKey, a.key)
	must(t, err)
	raw, err := x509.MarshalECPrivateKey(own)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})), big.NewInt(a.serial).String()
}

// lab is one real Consul server, and what a site would say of it.
type lab struct {
	ca         *authority
	gossip     string
	management string
	folder     string
	server     *exec.Cmd
	api        *api.Client
	site       site.Site
	log        *lockedBuffer
	epochs     int
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	lock sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(text []byte) (int, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.text.Write(text)
}

func (b *lockedBuffer) String() string {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.text.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newLab(t *testing.T) *lab {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	l := &lab{ca: newAuthority(t), gossip: base64.StdEncoding.EncodeToString(key), management: "0f0e0d0c-1111-4222-8333-444455556666", folder: t.TempDir(), log: &lockedBuffer{}}
	chain, private, _ := l.ca.issue(t, "server.dc1.consul", true)
	files := map[string]string{"ca.pem": l.ca.pem, "server.pem": chain, "server.key": private}
	configuration, err := json.Marshal(map[string]any{
		"server": true, "bootstrap_expect": 1, "node_name": "server-7", "datacenter": "dc1", "data_dir": filepath.Join(l.folder, "data"),
		"bind_addr": serverIP, "client_addr": serverIP, "encrypt": l.gossip, "log_level": "warn",
		"ports":       map[string]any{"http": 8500, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1},
		"performance": map[string]any{"raft_multiplier": 1},
		"acl":         map[string]any{"enabled": true, "default_policy": "deny", "tokens": map[string]any{"initial_management": l.management, "agent": l.management}},
		"tls": map[string]any{"internal_rpc": map[string]any{
			"verify_incoming": true, "verify_outgoing": true, "verify_server_hostname": true,
			"ca_file": filepath.Join(l.folder, "ca.pem"), "cert_file": filepath.Join(l.folder, "server.pem"), "key_file": filepath.Join(l.folder, "server.key"),
		}},
	})
	must(t, err)
	files["server.json"] = string(configuration)
	for name, text := range files {
		must(t, os.WriteFile(filepath.Join(l.folder, name), []byte(text), 0o600))
	}
	l.api, err = api.NewClient(&api.Config{Address: serverIP + ":8500", Token: l.management})
	must(t, err)
	l.startServer(t)
	t.Cleanup(l.stopServer)
	_, _, err = l.api.ACL().PolicyCreate(&api.ACLPolicy{Name: "vm", Rules: `node_prefix "" { policy = "write" } service "node-exporter" { policy = "write" }`}, nil)
	must(t, err)
	l.site = site.Site{
		Name: "test", CARoots: l.ca.pem, RuntimeFolder: filepath.Join(l.folder, "run"),
		Consul: site.Consul{
			Datacenter: "dc1", Domain: "consul", Servers: serverIP, ServerRPCPort: 8300, SerfPort: 8301,
			Bind: clientIP, BindSerfPort: 8301, HTTP: clientIP + ":8500", RPCTimeout: 3 * time.Second,
		},
		NodeExporter: site.NodeExporter{Listen: clientIP + ":9100", CheckInterval: time.Second, CheckTimeout: time.Second},
	}
	return l
}

func (l *lab) startServer(t *testing.T) {
	t.Helper()
	l.server = exec.Command(binary, "agent", "-config-file", filepath.Join(l.folder, "server.json"))
	l.server.Stdout, l.server.Stderr = l.log, l.log
	l.server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, l.server.Start())
	eventually(t, "the server to lead and to know its token", func() error {
		if _, _, err := l.api.ACL().TokenReadSelf(nil); err != nil {
			return err
		}
		nodes, _, err := l.api.Catalog().Nodes(nil)
		if err == nil && len(nodes) == 0 {
			err = fmt.Errorf("no node yet")
		}
		return err
	})
}

func (l *lab) stopServer() {
	_ = l.server.Process.Kill()
	_ = l.server.Wait()
}

// eventually asks until there is no error: the far end has no event to wait for.
func eventually(t *testing.T, what string, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("wait for %s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

var self = states.Identity{Node: nodeName, NodeID: nodeID, Subject: "vm:" + nodeID}

// epoch returns fresh credentials: a token at the server and a certificate of the CA.
func (l *lab) epoch(t *testing.T) states.Epoch {
	t.Helper()
	l.epochs++
	token, _, err := l.api.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLTokenPolicyLink{{Name: "vm"}}}, nil)
	must(t, err)
	chain, key, serial := l.ca.issue(t, nodeName, false)
	now := time.Now()
	return states.Epoch{
		Number:      l.epochs,
		Vault:       states.VaultToken{Life: states.NewLife(fmt.Sprint("vault-", l.epochs), now, time.Hour, 0)},
		Gossip:      states.GossipKey{Life: states.NewLife("1", now, 0, 0), Key: secret.New(l.gossip)},
		Certificate: states.Certificate{Life: states.NewLife(serial, now, time.Hour, 0), Chain: chain, Key: secret.New(key)},
		Consul:      states.ConsulToken{Life: states.NewLife(token.AccessorID, now, time.Hour, 0), Token: secret.New(token.SecretID)},
	}
}

// agent returns an agent that is served until the test ends or stop is called.
func (l *lab) agent(t *testing.T, options Options) (agent *Agent, stop func() time.Duration) {
	t.Helper()
	level := slog.LevelWarn
	agent = New(l.site, dial.New(""), slog.New(slog.NewTextHandler(l.log, &slog.HandlerOptions{Level: level})), options)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil { // as the supervisor would
			if err := agent.Serve(ctx); err != nil {
				fmt.Fprintln(l.log, "TEST: agent returned:", err)
			}
		}
	}()
	stop = func() time.Duration {
		began := time.Now()
		cancel()
		<-done
		return time.Since(began)
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Log(l.log.String())
		}
	})
	return agent, stop
}

// within gives an attempt its deadline and returns how long it took.
func within(t *testing.T, limit time.Duration, attempt func(ctx context.Context) error) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	must(t, attempt(ctx))
	return time.Since(began)
}

// check returns one check of our node as the server has it, nil if it has none.
func (l *lab) check(t *testing.T, id string) *api.HealthCheck {
	t.Helper()
	checks, _, err := l.api.Health().Node(nodeName, &api.QueryOptions{RequireConsistent: true})
	must(t, err)
	for _, check := range checks {
		if check.CheckID == id {
			return check
		}
	}
	return nil
}

// listen serves status on the exporter's address until the test ends.
func (l *lab) listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", l.site.NodeExporter.Listen)
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}
