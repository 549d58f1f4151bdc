package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The first byte of a connection to a Consul server, and the first inside TLS.
const (
	saysTLS = 3
	// saysVerify is said by what shows a candidate to the server; the running agent says others.
	saysVerify = 0
)

// relay stands at the address where gossip says that the Consul server takes RPCs.
// It ends TLS as the server would, and so sees which certificate each connection
// shows. Safe from any goroutine.
type relay struct {
	server string // where the server really is
	own    tls.Certificate
	roots  *x509.CertPool

	mutex sync.Mutex
	shown tls.Certificate // what it shows of itself
	seen  []*sight
}

// sight is one connection.
type sight struct {
	at, end     time.Time // end is zero while it is open
	serial      string    // as Vault prints it; empty: the handshake failed
	running     bool      // it is the running agent's own
	connections [2]net.Conn
}

// startRelay moves the server's RPC port aside and takes its place.
func (l *lab) startRelay(t *testing.T) *relay {
	t.Helper()
	file := filepath.Join(l.folder, "consul-1", "server.json")
	text, err := os.ReadFile(file)
	must(t, err)
	var settings map[string]any
	must(t, json.Unmarshal(text, &settings))
	own, _ := settings["bind_addr"].(string)
	aside := strings.TrimSuffix(own, ".1") + ".101"
	settings["bind_addr"], settings["serf_lan"], settings["serf_wan"] = aside, own, own
	text, err = json.Marshal(settings)
	must(t, err)
	must(t, os.WriteFile(file, text, 0o600))
	l.control(t, "stop", "consul-1")
	l.control(t, "start", "consul-1")

	r := &relay{server: aside + ":8300", own: l.pair(t, "consul-1"), roots: x509.NewCertPool()}
	authorities, err := os.ReadFile(filepath.Join(l.folder, "tls", "ca.pem"))
	must(t, err)
	r.roots.AppendCertsFromPEM(authorities)
	r.shown = r.own
	listener, err := net.Listen("tcp", own+":8300")
	must(t, err)
	t.Cleanup(func() { _ = listener.Close(); r.drop() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go r.serve(connection)
		}
	}()
	return r
}

// pair reads a server's key pair.
func (l *lab) pair(t *testing.T, name string) tls.Certificate {
	t.Helper()
	path := filepath.Join(l.folder, "tls", name)
	pair, err := tls.LoadX509KeyPair(path+".pem", path+".key")
	must(t, err)
	return pair
}

func (r *relay) serve(raw net.Conn) {
	defer raw.Close()
	one := &sight{at: time.Now(), connections: [2]net.Conn{raw}}
	r.mutex.Lock()
	shown := r.shown
	r.seen = append(r.seen, one)
	r.mutex.Unlock()
	defer func() {
		r.mutex.Lock()
		one.end = time.Now()
		r.mutex.Unlock()
	}()
	var first [1]byte
	if _, err := io.ReadFull(raw, first[:]); err != nil || first[0] != saysTLS {
		return
	}
	client := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{shown}, ClientAuth: tls.RequireAnyClientCert})
	if client.Handshake() != nil {
		return
	}
	if _, err := io.ReadFull(client, first[:]); err != nil {
		return
	}
	onward, err := net.Dial("tcp", r.server)
	if err != nil {
		return
	}
	defer onward.Close()
	r.mutex.Lock()
	one.serial, one.running, one.connections[1] = printed(client.ConnectionState().PeerCertificates[0]), first[0] != saysVerify, onward
	r.mutex.Unlock()
	if _, err := onward.Write([]byte{saysTLS}); err != nil {
		return
	}
	server := tls.Client(onward, &tls.Config{Certificates: []tls.Certificate{r.own}, RootCAs: r.roots, ServerName: "server.dc1.consul"})
	if _, err := server.Write(first[:]); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(client, server)
		_ = raw.Close()
	}()
	_, _ = io.Copy(server, client)
}

// printed is a serial number as Vault prints it.
func printed(certificate *x509.Certificate) string {
	return strings.ReplaceAll(fmt.Sprintf("% x", certificate.SerialNumber.Bytes()), " ", ":")
}

// show changes what the relay shows of itself, on every new connection, and ends the old ones.
func (r *relay) show(pair tls.Certificate) {
	r.mutex.Lock()
	r.shown = pair
	r.mutex.Unlock()
	r.drop()
}

func (r *relay) drop() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, each := range r.seen {
		for _, connection := range each.connections {
			if connection != nil && each.end.IsZero() {
				_ = connection.Close()
			}
		}
	}
}

// since returns what it saw from a moment on.
func (r *relay) since(from time.Time) []sight {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	var all []sight
	for _, each := range r.seen {
		if !each.at.Before(from) {
			all = append(all, *each)
		}
	}
	return all
}

// issuer signs certificates, as one of the lab's roots or as nobody's.
type issuer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// root returns one of the lab's roots: "root-a" or "root-b".
func (l *lab) root(t *testing.T, name string) issuer {
	t.Helper()
	path := filepath.Join(l.binaries.authority, name)
	pair, err := tls.LoadX509KeyPair(path+".pem", path+".key")
	must(t, err)
	return issuer{pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)}
}

// unknownRoot returns a root that no site file has, of the same name as one that it has.
func unknownRoot(t *testing.T) issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	made := issuer{key: key}
	made.certificate = made.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "pawl lab root-a"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, &key.PublicKey)
	return made
}

// sign makes a certificate for a key; by itself where the issuer has none of its own yet.
func (i issuer) sign(t *testing.T, template *x509.Certificate, public any) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	must(t, err)
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(24*time.Hour)
	parent := i.certificate
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, i.key)
	must(t, err)
	made, err := x509.ParseCertificate(der)
	must(t, err)
	return made
}

// issue makes a server's pair for the names and addresses of another one.
func (i issuer) issue(t *testing.T, like tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	made := i.sign(t, &x509.Certificate{Subject: like.Leaf.Subject, DNSNames: like.Leaf.DNSNames, IPAddresses: like.Leaf.IPAddresses,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, &key.PublicKey)
	return tls.Certificate{Certificate: [][]byte{made.Raw}, PrivateKey: key, Leaf: made}
}

// install writes a pair where a server of the lab finds it at its next start.
func (l *lab) install(t *testing.T, name string, pair tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalECPrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
	must(t, err)
	path := filepath.Join(l.folder, "tls", name)
	must(t, os.WriteFile(path+".key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}), 0o600))
	must(t, os.WriteFile(path+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o644))
}
