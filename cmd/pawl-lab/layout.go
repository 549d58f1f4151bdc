package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Where everything of the lab is. All of 127/8 is ours, so each server has an
// address of its own and Consul keeps its default ports; agents join from 127.0.2.1.
const (
	resolverAddress = "127.0.0.1:18053"
	metadataAddress = "127.0.0.1:18169"
	metadataURL     = "http://" + metadataAddress
	vaultName       = "vault.lab.pawl"
	vaultIP         = "127.0.1.10"
	vaultPort       = "18200"
	vaultURL        = "https://" + vaultName + ":" + vaultPort
	vaultAddress    = vaultIP + ":" + vaultPort
	consulName      = "consul.lab.pawl"
	datacenter      = "dc1"
	domain          = "consul"
)

// consulIP is the address of server n, from 1.
func consulIP(n int) string { return fmt.Sprintf("127.0.1.%d", n) }

// consulPorts are Consul's defaults: server RPC, Serf LAN, Serf WAN, HTTP.
var consulPorts = map[string]int{"server": 8300, "serf_lan": 8301, "serf_wan": 8302, "http": 8500}

// socket is one address that the lab is going to bind.
type socket struct {
	network, address string
	// purpose names it in an error.
	purpose string
}

// sockets lists what `up` binds with so many Consul servers.
func sockets(servers int) []socket {
	all := []socket{
		{"tcp", resolverAddress, "dns"}, {"udp", resolverAddress, "dns"},
		{"tcp", metadataAddress, "metadata"},
		{"tcp", vaultAddress, "vault"},
	}
	for n := 1; n <= servers; n++ {
		for name, port := range consulPorts {
			address, purpose := fmt.Sprintf("%s:%d", consulIP(n), port), fmt.Sprintf("consul-%d (%s)", n, name)
			all = append(all, socket{"tcp", address, purpose})
			if name == "serf_lan" || name == "serf_wan" {
				all = append(all, socket{"udp", address, purpose})
			}
		}
	}
	slices.SortFunc(all, func(a, b socket) int {
		return cmp.Or(strings.Compare(a.address, b.address), strings.Compare(a.network, b.network))
	})
	return all
}

// folder is the lab's own folder, absolute.
type folder string

// lockName marks a folder as a lab's; it is also what a running `up` locks.
const lockName = "lab.lock"

// owned is everything `up` may find there from an earlier run and may remove.
var owned = []string{"lab.json", "lab.sock", "vault", "consul-1", "consul-2", "consul-3", "consul-4", "consul-5", "consul-6", "metadata", "logs", "tls", tokensName}

// tokensName is the folder of the files that hold one token each, for curl.
const tokensName = "tokens"

func (f folder) path(names ...string) string {
	return filepath.Join(append([]string{string(f)}, names...)...)
}
func (f folder) record() string           { return f.path("lab.json") }
func (f folder) log(name string) string   { return f.path("logs", name+".log") }
func (f folder) auditLog() string         { return f.path("vault", "audit.log") }
func (f folder) authorities() string      { return f.path("tls", "ca.pem") }
func (f folder) inventory() string        { return f.path("metadata", "inventory.json") }
func (f folder) token(name string) string { return f.path(tokensName, name) }
func (f folder) pair(name string) keyPair {
	return keyPair{f.path("tls", name+".pem"), f.path("tls", name+".key")}
}

// longestSocket leaves room below the kernel's 107 bytes.
const longestSocket = 100

// socket is the path of the control socket: in the folder, or where that is too
// long for the kernel, in a private folder under the system's temporary one.
func (f folder) socket() string {
	path := f.path("lab.sock")
	if len(path) <= longestSocket {
		return path
	}
	sum := sha256.Sum256([]byte(f))
	return filepath.Join(os.TempDir(), "pawl-lab-control-"+strconv.Itoa(os.Getuid()), hex.EncodeToString(sum[:6])+".sock")
}

// runtimeFolder is where the lab's agent keeps its socket and disposable data:
// short, private and in memory. It is baked into the site file.
func runtimeFolder() string {
	if private := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(private) {
		return filepath.Join(private, "pawl-lab")
	}
	name := "pawl-lab-" + strconv.Itoa(os.Getuid())
	if information, err := os.Stat("/dev/shm"); err == nil && information.IsDir() {
		return filepath.Join("/dev/shm", name)
	}
	return filepath.Join(os.TempDir(), name)
}
