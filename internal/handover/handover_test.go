package handover

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pawl/internal/secret"
	"pawl/states"
)

const canary = "canary-7f3a"

// whole is everything that can be held, each secret a canary.
func whole(now time.Time) states.Held {
	text := func(name string) secret.Secret { return secret.New(canary + "-" + name) }
	token := func(id string) states.VaultToken {
		return states.VaultToken{Life: states.NewLife(id, now, time.Hour, 0.5), Token: text(id), ReattestAt: now.Add(20 * time.Hour)}
	}
	return states.Held{
		Identity: states.Identity{Node: "vm-1", NodeID: "6f0e", Subject: "vm:6f0e"},
		JWT:      states.JWT{Life: states.NewLife("jti", now, 5*time.Minute, 0), Text: text("jwt")},
		Current: states.Epoch{
			Number: 3, Verified: true, Vault: token("vault-3"),
			Gossip:      states.GossipKey{Life: states.NewLife("v7", now, 0, 0), Key: text("gossip")},
			Certificate: states.Certificate{Life: states.NewLife("aa:bb", now, 24*time.Hour, 0.1), Key: text("key"), Chain: "chain"},
			Consul:      states.ConsulToken{Life: states.NewLife("accessor", now, time.Hour, 0.9), Token: text("consul"), Lease: "lease"},
		},
		Next:   states.Epoch{Number: 4, Vault: token("vault-4")},
		Former: []states.VaultToken{token("vault-2")},
	}
}

func stampAt(wall time.Time) Stamp {
	return Stamp{Wall: wall, Boot: time.Hour, BootID: "boot", Machine: "machine", Site: "site"}
}

// TestRoundTrip: what goes in comes out, and time goes on in between.
func TestRoundTrip(t *testing.T) {
	now := time.Now()
	before := whole(now)
	text, err := Encode(before, stampAt(now))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name       string
		wall, boot time.Duration
		elapsed    time.Duration
	}{
		{"at once", 0, 0, 0},
		{"ten minutes later", 10 * time.Minute, 10 * time.Minute, 10 * time.Minute},
		{"the wall clock was set back", -time.Hour, 10 * time.Minute, 10 * time.Minute},
		{"the wall clock was set forward", 30 * time.Minute, 10 * time.Minute, 30 * time.Minute},
	} {
		t.Run(row.name, func(t *testing.T) {
			stamp := stampAt(now.Add(row.wall))
			stamp.Boot += row.boot
			after, err := Decode(text, stamp)
			if err != nil {
				t.Fatal(err)
			}
			if after.Identity != before.Identity || after.Current.Number != 3 || !after.Current.Verified || after.Next.Number != 0 {
				t.Errorf("came out as %+v", after)
			}
			lives := func(h states.Held) []states.Life {
				return []states.Life{h.JWT.Life, h.Current.Vault.Life, h.Current.Gossip.Life, h.Current.Certificate.Life, h.Current.Consul.Life}
			}
			for i, life := range lives(after) {
				was := lives(before)[i]
				if life.ID != was.ID || life.TTL != was.TTL || life.Expires.IsZero() != was.Expires.IsZero() {
					t.Errorf("%s came out as %+v", was.ID, life)
				}
				if !was.Expires.IsZero() {
					left, want := life.Expires.Sub(stamp.Wall), was.Expires.Sub(now)-row.elapsed
					if left != want {
						t.Errorf("%s has %s left, want %s", was.ID, left, want)
					}
				}
			}
			if got := after.Current.Consul.Token.Reveal() + after.Current.Certificate.Key.Reveal() + after.JWT.Text.Reveal(); got != canary+"-consul"+canary+"-key"+canary+"-jwt" {
				t.Error("a secret got lost")
			}
			// The token of the epoch that was being built waits to be revoked.
			if len(after.Former) != 2 || after.Former[1].ID != "vault-4" || after.Former[1].Token.Empty() {
				t.Errorf("%d former tokens", len(after.Former))
			}
			if !reflect.DeepEqual(after.Agent, states.Sighting{}) || after.Installed != (states.Installed{}) {
				t.Error("a sighting was handed over: the new process has seen nothing")
			}
		})
	}
}

// TestUnfit: cut short at every byte, or with any byte changed, or of another
// boot, machine, site or version, it is refused, and no error quotes it.
func TestUnfit(t *testing.T) {
	now := time.Now()
	text, err := Encode(whole(now), stampAt(now))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name string, text []byte, stamp Stamp) {
		t.Helper()
		held, err := Decode(text, stamp)
		if err == nil || held.Current.Number != 0 {
			t.Errorf("%s was taken", name)
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the error quotes the document: %v", name, err)
		}
	}
	for i := range text {
		refused("truncated", text[:i], stampAt(now))
		flipped := append([]byte(nil), text...)
		flipped[i] ^= 1
		refused("flipped", flipped, stampAt(now))
	}
	for name, change := range map[string]func(*Stamp){
		"another boot":    func(s *Stamp) { s.BootID = "other" },
		"another machine": func(s *Stamp) { s.Machine = "other" },
		"another site":    func(s *Stamp) { s.Site = "other" },
	} {
		stamp := stampAt(now)
		change(&stamp)
		refused(name, text, stamp)
	}
	refused("older", []byte(strings.Replace(string(text), format, "pawl-handover-0", 1)), stampAt(now))
}

// TestFile: the file is ours alone, on tmpfs or nowhere, and gone after a delete.
func TestFile(t *testing.T) {
	folder := memoryFolder(t)
	if _, err := Load(folder); !errors.Is(err, ErrNone) {
		t.Fatalf("an empty folder gave %v", err)
	}
	for _, text := range []string{"first", "second, longer than the first"} {
		if err := Save(folder, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := Load(folder); err != nil || string(got) != text {
			t.Fatalf("loaded %q, %v", got, err)
		}
	}
	status, err := os.Stat(filepath.Join(folder, fileName))
	if err != nil || status.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", status.Mode(), err)
	}
	if err := Delete(folder); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(folder); !errors.Is(err, ErrNone) {
		t.Errorf("after the delete: %v", err)
	}
	if err := Delete(folder); err != nil {
		t.Errorf("a second delete: %v", err)
	}
	// Whatever somebody put in its place makes way.
	if err := os.MkdirAll(filepath.Join(folder, fileName, "inner"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(folder); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("a folder was loaded: %v", err)
	}
	if err := Save(folder, []byte("third")); err != nil {
		t.Errorf("over a folder: %v", err)
	}
}

// TestKeeperTriesAgain: what had no room is saved when there is some, and was named
// once. A disk that was full at the first attempt cost every later crash a login.
func TestKeeperTriesAgain(t *testing.T) {
	folder := filepath.Join(memoryFolder(t), "run")
	if err := os.WriteFile(folder, nil, 0o600); err != nil { // in the way
		t.Fatal(err)
	}
	var lines bytes.Buffer
	keeper := NewKeeper(folder, "site", slog.New(slog.NewTextHandler(&lines, nil)))
	held := states.Held{Current: states.Epoch{Number: 1}}
	keeper.Refresh(held)
	keeper.Refresh(held)
	if told := strings.Count(lines.String(), "no hand-over"); told != 1 {
		t.Errorf("%d lines: %s", told, lines.String())
	}
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	keeper.Refresh(held)
	if text, err := Load(folder); err != nil || len(text) == 0 {
		t.Errorf("loaded %q, %v", text, err)
	}
}

// TestForget: what is forgotten does not come back, though its service still runs.
func TestForget(t *testing.T) {
	folder := memoryFolder(t)
	keeper := NewKeeper(folder, "site", slog.New(slog.DiscardHandler))
	held := states.Held{Current: states.Epoch{Number: 1}}
	keeper.Refresh(held)
	if _, err := Load(folder); err != nil {
		t.Fatal(err)
	}
	if err := keeper.Forget(); err != nil {
		t.Fatal(err)
	}
	held.Current.Number++
	keeper.Refresh(held) // it was under way
	if _, err := Load(folder); !errors.Is(err, ErrNone) {
		t.Errorf("after it was forgotten: %v", err)
	}
}

// TestUnfitFolder: never on a disk, never in a folder that others may enter, never through a link.
func TestUnfitFolder(t *testing.T) {
	open := filepath.Join(memoryFolder(t), "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(memoryFolder(t), "link")
	if err := os.Symlink(memoryFolder(t), link); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{open, link, "/proc/self"} {
		if err := Save(folder, []byte(canary)); err == nil {
			t.Errorf("saved in %s", folder)
		}
	}
}

// TestMemory: a document passes through a memfd.
func TestMemory(t *testing.T) {
	descriptor, err := Memory([]byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := FromMemory(descriptor); err != nil || string(text) != canary {
		t.Errorf("read %q, %v", text, err)
	}
}

// memoryFolder is a private folder on tmpfs: every Linux has one here.
func memoryFolder(t *testing.T) string {
	folder, err := os.MkdirTemp("/dev/shm", "pawl-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}
