package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// productionJWT is how long a JWT lasts without --ttl.
const productionJWT = 5 * time.Minute

// audience is what the JWTs of the lab are for: Vault's role is bound to it.
const audience = "vault"

// openFolder makes the lab's folder, or finds it and checks that it is a lab's.
func openFolder(path string) (folder, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("open lab folder: %w", err)
	}
	home := folder(absolute)
	if err := os.MkdirAll(absolute, 0o700); err != nil {
		return "", fmt.Errorf("make lab folder: %w", err)
	}
	entries, err := os.ReadDir(absolute)
	if err != nil {
		return "", fmt.Errorf("read lab folder: %w", err)
	}
	if _, err := os.Lstat(home.path(lockName)); err != nil && len(entries) > 0 {
		return "", fmt.Errorf("%s is not empty and not a lab's folder; choose another --dir", absolute)
	}
	return home, nil
}

// lock marks the folder as a lab's and takes it for this process.
func (f folder) lock() (unlock func(), err error) {
	file, err := os.OpenFile(f.path(lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock lab folder: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("a lab runs in %s already: end it, or choose another --dir", f)
	}
	return func() { _ = file.Close() }, nil
}

// clear removes what an earlier lab left in the folder, and only that.
func (f folder) clear() error {
	for _, name := range owned {
		if err := os.RemoveAll(f.path(name)); err != nil {
			return fmt.Errorf("remove the state of an earlier lab: %w", err)
		}
	}
	for _, name := range []string{"vault", "metadata", "logs", "tls", tokensName} {
		if err := os.Mkdir(f.path(name), 0o700); err != nil {
			return fmt.Errorf("make lab folder: %w", err)
		}
	}
	return nil
}

// assemble makes keys, certificates, configurations and the components of a
// lab. It starts nothing.
func assemble(o upOptions, home folder, found programs, roots authorities, now time.Time) (*lab, error) {
	if err := replaceFile(home.authorities(), roots.bundle(), 0o644); err != nil {
		return nil, fmt.Errorf("write the lab's CA: %w", err)
	}
	vault, err := newVaultServer(home.authorities())
	if err != nil {
		return nil, err
	}
	management := randomUUID()
	consul, err := newConsulServers(o.servers+o.spares, management)
	if err != nil {
		return nil, err
	}
	l := &lab{
		folder: home, names: newNameServer(resolverAddress, o.servers), vault: vault, consul: consul,
		components: map[string]component{}, launcher: newLauncher(), stderr: o.stderr,
		record: record{
			PID: os.Getpid(), Started: now.UTC(), Folder: string(home), Socket: home.socket(), Resolver: resolverAddress,
			Vault:    vaultRecord{URL: vaultURL, Address: vaultAddress, AuditLog: home.auditLog(), CAFile: home.authorities()},
			Consul:   consulRecord{Datacenter: datacenter, Domain: domain, ManagementToken: management, GossipKey: randomGossipKey()},
			Metadata: metadataRecord{URL: metadataURL, Audience: audience, Inventory: home.inventory(), VMs: makeMachines(o.vms)},
		},
	}
	if o.ttl != 0 {
		l.record.TTL = o.ttl.String()
	}
	l.add("dns", l.names)
	child := func(name, program string, ready func(context.Context) error, arguments ...string) *process {
		return &process{
			name: name, program: program, arguments: arguments, log: home.log(name), launcher: l.launcher,
			ready: ready, changed: l.note, state: stateStopped, since: now,
		}
	}
	for n := 1; n <= o.servers+o.spares; n++ {
		name := consulNode(n)
		arguments, err := l.prepareConsul(clusterOf(n, o), roots[0], now)
		if err != nil {
			return nil, fmt.Errorf("prepare %s: %w", name, err)
		}
		if n > o.servers {
			l.spares = append(l.spares, name)
			l.add(name, child(name, found.consul, consul.ready(n), arguments...))
			continue
		}
		l.record.Consul.Servers = append(l.record.Consul.Servers, consulURL(n))
		l.record.Consul.Names = append(l.record.Consul.Names, name)
		l.add(name, child(name, found.consul, consul.ready(n), arguments...))
	}
	arguments, err := l.prepareMetadata(o.ttl)
	if err != nil {
		return nil, fmt.Errorf("prepare metadata: %w", err)
	}
	l.add("metadata", child("metadata", found.metadata, metadataReady, arguments...))

	pair := home.pair("vault")
	if err := roots[0].issueServer(pair, vaultName, []string{vaultIP}, now); err != nil {
		return nil, fmt.Errorf("prepare vault: %w", err)
	}
	process := child("vault", found.vault, vault.ready,
		"--folder", home.path("vault", "storage"), "--listen", vaultAddress,
		"--cert", pair.certificate, "--key", pair.key, "--resolver", resolverAddress)
	process.answers = vault.answers
	l.add("vault", process)
	return l, nil
}

// clusterOf says of server n with which others it makes a cluster: the lab's
// servers are one, and the spares another.
func clusterOf(n int, o upOptions) consulConfiguration {
	if n > o.servers {
		return consulConfiguration{number: n, first: o.servers + 1, servers: o.spares}
	}
	return consulConfiguration{number: n, first: 1, servers: o.servers}
}

func (l *lab) prepareConsul(of consulConfiguration, root authority, now time.Time) ([]string, error) {
	n := of.number
	name := consulNode(n)
	pair := l.folder.pair(name)
	// The name by which a client knows a server: verify_server_hostname.
	if err := root.issueServer(pair, fmt.Sprintf("server.%s.%s", datacenter, domain), []string{consulIP(n)}, now); err != nil {
		return nil, err
	}
	of.token, of.gossipKey = l.record.Consul.ManagementToken, l.record.Consul.GossipKey
	of.dataFolder, of.authorities, of.pair = l.folder.path(name, "data"), l.folder.authorities(), pair
	return of.write(func(file string) string { return l.folder.path(name, file) })
}

// prepareMetadata writes the inventory and returns the service's arguments.
func (l *lab) prepareMetadata(ttl time.Duration) ([]string, error) {
	type machine struct {
		UUID       string `json:"uuid"`
		Node       string `json:"node"`
		Address    string `json:"address"`
		Site       string `json:"site"`
		Datacenter string `json:"dc"`
	}
	var machines []machine
	for _, one := range l.record.Metadata.VMs {
		machines = append(machines, machine{UUID: one.UUID, Node: one.Name, Address: one.Address, Site: "lab", Datacenter: datacenter})
	}
	text, err := json.MarshalIndent(map[string]any{"machines": machines}, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := replaceFile(l.folder.inventory(), append(text, '\n'), 0o600); err != nil {
		return nil, err
	}
	lasts := productionJWT
	if ttl != 0 {
		lasts = (ttl / 2).Truncate(time.Second)
	}
	return []string{
		"--listen", metadataAddress, "--issuer", metadataURL, "--inventory", l.folder.inventory(),
		"--audience", audience, "--ttl", lasts.String(), "--keys", l.folder.path("metadata", "keys"),
	}, nil
}

// makeMachines invents the inventory: vm-1 is who asks from 127.0.0.1, vm-N from 127.0.3.N.
func makeMachines(count int) []virtualMachine {
	machines := []virtualMachine{{Name: "vm-1", UUID: randomUUID(), Address: "127.0.0.1"}}
	for n := 2; n <= count; n++ {
		address := netip.AddrFrom4([4]byte{127, 0, 3, byte(n)})
		machines = append(machines, virtualMachine{Name: fmt.Sprintf("vm-%d", n), UUID: randomUUID(), Address: address.String()})
	}
	return machines
}

// metadataReady is one attempt to read the keys that Vault will want.
func metadataReady(ctx context.Context) error {
	if err := expectOK(ctx, metadataURL+"/.well-known/jwks.json"); err != nil {
		return fmt.Errorf("ask the metadata service: %w", err)
	}
	return nil
}

// expectOK is one GET that must be answered with 200, to its last byte.
func expectOK(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// randomUUID returns a random (version 4) UUID in lower case.
func randomUUID() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails: it crashes the program instead
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	text := hex.EncodeToString(raw[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

// randomGossipKey returns a Serf key of 32 bytes, as `consul keygen` does.
func randomGossipKey() string {
	var raw [32]byte
	_, _ = rand.Read(raw[:])
	return base64.StdEncoding.EncodeToString(raw[:])
}
