package main

import (
	"encoding/json"
	"fmt"
	"time"
)

// record is lab.json: all that a test or a person needs to talk to the lab. It
// holds its secrets, so the file is 0600; they are random and end with the lab.
type record struct {
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	Folder   string    `json:"folder"`
	Socket   string    `json:"socket"`
	Resolver string    `json:"resolver"`
	// TTL is what --ttl was, empty for the TTLs of production.
	TTL       string          `json:"ttl"`
	Vault     vaultRecord     `json:"vault"`
	Consul    consulRecord    `json:"consul"`
	Metadata  metadataRecord  `json:"metadata"`
	Processes []processReport `json:"processes"`
}

type vaultRecord struct {
	// URL is by name, for who uses the lab's resolver; Address is IP:port.
	URL       string `json:"url"`
	Address   string `json:"address"`
	RootToken string `json:"root_token"`
	UnsealKey string `json:"unseal_key"`
	AuditLog  string `json:"audit_log"`
	// CAFile is a PEM bundle of the lab's two roots.
	CAFile string `json:"ca_file"`
	// JWTAccessor is the auth mount's, which the PKI role's template names.
	JWTAccessor string `json:"jwt_accessor"`
}

type consulRecord struct {
	Datacenter      string `json:"datacenter"`
	Domain          string `json:"domain"`
	ManagementToken string `json:"management_token"`
	// VaultToken is the one Vault's Consul engine makes tokens with.
	VaultToken string `json:"vault_token"`
	GossipKey  string `json:"gossip_key"`
	// Servers are the base URLs of the servers' HTTP, consul-1 first.
	Servers []string `json:"servers"`
	// Names are the servers' node names, in the same order.
	Names []string `json:"names"`
}

type metadataRecord struct {
	URL       string           `json:"url"`
	Audience  string           `json:"audience"`
	Inventory string           `json:"inventory"`
	VMs       []virtualMachine `json:"vms"`
}

// virtualMachine is one VM of the lab's inventory, known by its source address.
type virtualMachine struct {
	Name    string `json:"name"`
	UUID    string `json:"uuid"`
	Address string `json:"address"`
}

type processReport struct {
	Name  string   `json:"name"`
	State runState `json:"state"`
	// PID is 0 while it does not run, and for dns, which is a part of the driver.
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
	Log   string    `json:"log,omitempty"`
}

// write puts the record into its file, whole or not at all.
func (r record) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write lab.json: %w", err)
	}
	if err := replaceFile(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write lab.json: %w", err)
	}
	return nil
}
