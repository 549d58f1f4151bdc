// Package handover owns how what is held passes from one process of pawl to the
// next: the document, and the two places it may lie in, a memfd for a planned
// re-execution and a file on tmpfs for a crash. It must never import the machine,
// a client or a service's library, and it must never let a secret touch a disk
// (law 8).
//
// A document that is corrupt, truncated, of another boot, machine, site or
// format, or unreadable, is the same as none, with one reason to log.
package handover

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"pawl/internal/secret"
	"pawl/states"
)

// format changes whenever the document does: an older version's is not read.
const format = "pawl-handover-1"

// ErrNone says that there is no hand-over, which is how every bare start begins.
var ErrNone = errors.New("no hand-over")

// Stamp says where and when a document was made. The clocks are two, since
// either may be wrong about the time between two processes: the wall clock can be
// set, the boot clock cannot, and counts the time asleep.
type Stamp struct {
	Wall    time.Time     `json:"wall"`
	Boot    time.Duration `json:"boot"`
	BootID  string        `json:"boot_id"`
	Machine string        `json:"machine"`
	Site    string        `json:"site"`
}

// elapsed is the time from s to later by whichever clock says more (law 9).
func (s Stamp) elapsed(later Stamp) time.Duration {
	return max(0, later.Wall.Sub(s.Wall), later.Boot-s.Boot)
}

// document is what is handed over. Times are durations from its stamp: absolute
// ones would believe the wall clock of two moments.
type document struct {
	Stamp    Stamp           `json:"stamp"`
	Identity states.Identity `json:"identity"`
	JWT      credential      `json:"jwt"`
	Number   int             `json:"number"`
	Vault    vaultToken      `json:"vault"`
	Gossip   credential      `json:"gossip"`
	Previous string          `json:"gossip_previous,omitempty"`
	Consul   credential      `json:"consul"`
	Lease    string          `json:"lease"`
	Chain    string          `json:"chain"`
	Key      credential      `json:"certificate"`
	Verified bool            `json:"verified"`
	Former   []vaultToken    `json:"former"`
}

// credential is a life with its secret in plain: the document is one.
type credential struct {
	ID      string         `json:"id"`
	TTL     time.Duration  `json:"ttl"`
	Age     time.Duration  `json:"age"`
	Expires *time.Duration `json:"expires_in,omitempty"`
	RenewAt *time.Duration `json:"renew_in,omitempty"`
	Refused bool           `json:"refused,omitempty"`
	Secret  string         `json:"secret"`
}

type vaultToken struct {
	credential
	ReattestAt *time.Duration `json:"reattest_in,omitempty"`
	Ends       *time.Duration `json:"ends_in,omitempty"`
}

// Encode writes what is held as of the stamp. A candidate epoch that is still
// being built is not worth carrying: its Vault token goes to those to be revoked.
func Encode(held states.Held, stamp Stamp) ([]byte, error) {
	former := held.Former
	if held.Next.Number > 0 && held.Next.Vault.ID != held.Current.Vault.ID {
		former = append(append([]states.VaultToken(nil), former...), held.Next.Vault)
	}
	current := held.Current
	doc := document{
		Stamp: stamp, Identity: held.Identity, Number: current.Number,
		JWT: pack(held.JWT.Life, held.JWT.Text, stamp), Vault: packToken(current.Vault, stamp),
		Gossip: pack(current.Gossip.Life, current.Gossip.Key, stamp), Previous: current.Gossip.Previous.Reveal(),
		Consul: pack(current.Consul.Life, current.Consul.Token, stamp), Lease: current.Consul.Lease,
		Key: pack(current.Certificate.Life, current.Certificate.Key, stamp), Chain: current.Certificate.Chain,
		Verified: current.Verified,
	}
	for _, token := range former {
		doc.Former = append(doc.Former, packToken(token, stamp))
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write hand-over: %w", err)
	}
	sum := sha256.Sum256(body)
	return append([]byte(format+" "+hex.EncodeToString(sum[:])+"\n"), body...), nil
}

// Decode reads a document as of the stamp. What is sighted at a far end is not
// handed over: a new process has seen nothing yet.
func Decode(text []byte, stamp Stamp) (states.Held, error) {
	head, body, found := bytes.Cut(text, []byte("\n"))
	name, sum, _ := strings.Cut(string(head), " ")
	switch want := sha256.Sum256(body); {
	case !found || !strings.HasPrefix(name, "pawl-handover-"):
		return states.Held{}, errors.New("read hand-over: it is truncated, or no hand-over at all")
	case name != format:
		return states.Held{}, fmt.Errorf("read hand-over: it is of format %q, this version writes %q", name, format)
	case sum != hex.EncodeToString(want[:]):
		return states.Held{}, errors.New("read hand-over: its checksum does not match: it is truncated or corrupt")
	}
	var doc document
	if err := json.Unmarshal(body, &doc); err != nil {
		// The text of the error could quote the document.
		return states.Held{}, errors.New("read hand-over: it is no document of ours")
	}
	switch {
	case doc.Stamp.BootID != stamp.BootID:
		return states.Held{}, errors.New("read hand-over: it is of another boot")
	case doc.Stamp.Machine != stamp.Machine:
		return states.Held{}, errors.New("read hand-over: it is of another machine")
	case doc.Stamp.Site != stamp.Site:
		return states.Held{}, errors.New("read hand-over: it is of another site")
	}
	since := doc.Stamp.elapsed(stamp)
	held := states.Held{Identity: doc.Identity}
	held.JWT = states.JWT{Life: doc.JWT.life(stamp, since), Text: doc.JWT.secret()}
	held.Current = states.Epoch{
		Number: doc.Number, Verified: doc.Verified,
		Vault:       doc.Vault.token(stamp, since),
		Gossip:      states.GossipKey{Life: doc.Gossip.life(stamp, since), Key: doc.Gossip.secret(), Previous: secret.New(doc.Previous)},
		Certificate: states.Certificate{Life: doc.Key.life(stamp, since), Key: doc.Key.secret(), Chain: doc.Chain},
		Consul:      states.ConsulToken{Life: doc.Consul.life(stamp, since), Token: doc.Consul.secret(), Lease: doc.Lease},
	}
	for _, former := range doc.Former {
		held.Former = append(held.Former, former.token(stamp, since))
	}
	return held, nil
}

func pack(life states.Life, text secret.Secret, stamp Stamp) credential {
	return credential{
		ID: life.ID, TTL: life.TTL, Age: max(0, stamp.Wall.Sub(life.Received)), Refused: life.Refused,
		Expires: until(life.Expires, stamp), RenewAt: until(life.RenewAt, stamp), Secret: text.Reveal(),
	}
}

func packToken(token states.VaultToken, stamp Stamp) vaultToken {
	return vaultToken{credential: pack(token.Life, token.Token, stamp), ReattestAt: until(token.ReattestAt, stamp), Ends: until(token.Ends, stamp)}
}

// until is the time left, the sooner of both clocks; nil for a moment that never comes.
func until(moment time.Time, stamp Stamp) *time.Duration {
	if moment.IsZero() {
		return nil
	}
	left := min(moment.Sub(stamp.Wall), moment.Round(0).Sub(stamp.Wall.Round(0)))
	return &left
}

func (c credential) secret() secret.Secret { return secret.New(c.Secret) }

func (c credential) life(stamp Stamp, since time.Duration) states.Life {
	if c.ID == "" {
		return states.Life{}
	}
	return states.Life{
		ID: c.ID, TTL: c.TTL, Received: stamp.Wall.Add(-c.Age - since), Refused: c.Refused,
		Expires: moment(c.Expires, stamp, since), RenewAt: moment(c.RenewAt, stamp, since),
	}
}

func (t vaultToken) token(stamp Stamp, since time.Duration) states.VaultToken {
	return states.VaultToken{Life: t.life(stamp, since), Token: t.secret(),
		ReattestAt: moment(t.ReattestAt, stamp, since), Ends: moment(t.Ends, stamp, since)}
}

func moment(left *time.Duration, stamp Stamp, since time.Duration) time.Time {
	if left == nil {
		return time.Time{}
	}
	return stamp.Wall.Add(*left - since)
}
