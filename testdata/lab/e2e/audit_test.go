package e2e

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"
)

// audited is one answer of Vault, as its audit log has it.
type audited struct {
	Time    time.Time
	Path    string
	Failure string
	// Accessor is the Vault token's: the one that asked, or that a login made.
	Accessor string
	// Serial is of a certificate, Consul of a Consul token, where one was made.
	Serial, Consul string
}

// The requests of an agent.
const (
	pathLogin  = "auth/jwt/login"
	pathGossip = "kv/data/consul/gossip"
	pathSign   = "pki/sign/pawl"
	pathCreds  = "consul/creds/pawl"
	pathRenew  = "auth/token/renew-self"
	pathLease  = "sys/leases/renew"
	pathRevoke = "auth/token/revoke-self"
)

// auditMark is where the audit log ends now.
func (l *lab) auditMark(t *testing.T) int64 {
	t.Helper()
	information, err := os.Stat(l.record.Vault.AuditLog)
	must(t, err)
	return information.Size()
}

// audit returns Vault's answers since mark.
func (l *lab) audit(t *testing.T, mark int64) []audited {
	t.Helper()
	file, err := os.Open(l.record.Vault.AuditLog)
	must(t, err)
	defer file.Close()
	_, err = file.Seek(mark, 0)
	must(t, err)
	type auth struct {
		Accessor string `json:"accessor"`
	}
	var all []audited
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var entry struct {
			Time    time.Time `json:"time"`
			Type    string    `json:"type"`
			Error   string    `json:"error"`
			Auth    auth      `json:"auth"`
			Request struct {
				Path string `json:"path"`
			} `json:"request"`
			Response struct {
				Auth auth           `json:"auth"`
				Data map[string]any `json:"data"`
			} `json:"response"`
		}
		if json.Unmarshal(lines.Bytes(), &entry) != nil || entry.Type != "response" {
			continue // the last line may be under way
		}
		one := audited{Time: entry.Time, Path: entry.Request.Path, Failure: entry.Error, Accessor: entry.Auth.Accessor}
		if entry.Response.Auth.Accessor != "" {
			one.Accessor = entry.Response.Auth.Accessor
		}
		one.Serial, _ = entry.Response.Data["serial_number"].(string)
		one.Consul, _ = entry.Response.Data["accessor"].(string)
		all = append(all, one)
	}
	must(t, lines.Err())
	return all
}

// succeeded keeps the answers of a path that were no failure.
func succeeded(all []audited, path string) []audited {
	var kept []audited
	for _, each := range all {
		if each.Path == path && each.Failure == "" {
			kept = append(kept, each)
		}
	}
	return kept
}

// awaitRevoked waits until Vault knows none of the tokens that logins since mark
// made, and returns how many those were.
func (l *lab) awaitRevoked(t *testing.T, mark int64) int {
	t.Helper()
	logins := succeeded(l.audit(t, mark), pathLogin)
	for _, login := range logins {
		eventually(t, "Vault has revoked "+login.Accessor, func() (bool, string) {
			found, err := l.vault.Auth().Token().LookupAccessor(login.Accessor)
			if err == nil {
				return false, "it lives: " + string(found.Data["ttl"].(json.Number))
			}
			answer, is := err.(*vault.ResponseError)
			return is && (answer.StatusCode == http.StatusForbidden || answer.StatusCode == http.StatusBadRequest) &&
				strings.Contains(err.Error(), "invalid accessor"), err.Error()
		})
	}
	return len(logins)
}
