package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
)

// The paths of Vault that an agent asks, as the audit log has them.
const (
	// loginPath is a VM's login.
	loginPath = "auth/jwt/login"
	// issuePath is a client certificate's, leasePath a Consul token's.
	issuePath = "pki/sign/pawl"
	leasePath = "consul/creds/pawl"
)

// audited is one answer of Vault, as its audit log has it.
type audited struct {
	Path string
	// Refused is Vault's error, empty where it did what it was asked.
	Refused string
	// Login is the accessor of the Vault token that a login made, Serial a
	// certificate's, Consul a Consul token's accessor.
	Login, Serial, Consul string
}

// readAudit returns Vault's answers in the audit log after offset, refusals too,
// and how many lines are no entries: a Vault that is killed may cut one short.
func readAudit(path string, offset int64) (all []audited, damaged int, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, fmt.Errorf("read vault's audit log: %w", err)
	}
	lines := bufio.NewReader(bytes.NewReader(text[min(offset, int64(len(text))):]))
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return all, damaged, nil // what has no end is still being written
		}
		var entry struct {
			Type    string `json:"type"`
			Error   string `json:"error"`
			Request struct {
				Path string `json:"path"`
			} `json:"request"`
			Response struct {
				Auth struct {
					Accessor string `json:"accessor"`
				} `json:"auth"`
				Data map[string]any `json:"data"`
			} `json:"response"`
		}
		if json.Unmarshal(line, &entry) != nil {
			damaged++
		}
		if entry.Type != "response" {
			continue
		}
		one := audited{Path: entry.Request.Path, Refused: entry.Error, Login: entry.Response.Auth.Accessor}
		one.Serial, _ = entry.Response.Data["serial_number"].(string)
		one.Consul, _ = entry.Response.Data["accessor"].(string)
		all = append(all, one)
	}
}

// countLogins counts Vault's answers to logins in the audit log after offset,
// refused ones too.
func countLogins(path string, offset int64) (int, error) {
	all, damaged, err := readAudit(path, offset)
	if err == nil && damaged > 0 {
		err = fmt.Errorf("read vault's audit log: %d lines of %s are no entries", damaged, path)
	}
	count := 0
	for _, one := range all {
		if one.Path == loginPath {
			count++
		}
	}
	return count, err
}
