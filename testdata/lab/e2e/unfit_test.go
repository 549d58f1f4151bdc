package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unfits are the ways in which a hand-over can be of no use. Each gets the path of
// a good one, and what stands in it, and leaves another thing there.
var unfits = []struct {
	name string
	says string // what the one log line says
	make func(t *testing.T, path string, text []byte)
}{
	{"empty", "truncated", func(t *testing.T, path string, _ []byte) { must(t, os.Truncate(path, 0)) }},
	{"truncated in its head", "truncated", func(t *testing.T, path string, _ []byte) { must(t, os.Truncate(path, 20)) }},
	{"truncated in its body", "checksum", func(t *testing.T, path string, text []byte) {
		must(t, os.Truncate(path, int64(len(text)/2)))
	}},
	{"one bit wrong", "checksum", func(t *testing.T, path string, text []byte) {
		text[len(text)-10] ^= 1
		must(t, os.WriteFile(path, text, 0o600))
	}},
	{"no document", "no hand-over at all", func(t *testing.T, path string, _ []byte) {
		must(t, os.WriteFile(path, bytes.Repeat([]byte{0, 0xff, '\n'}, 5000), 0o600))
	}},
	{"endless", "checksum", func(t *testing.T, path string, text []byte) {
		must(t, os.WriteFile(path, append(text, make([]byte, 4<<20)...), 0o600))
	}},
	{"an older version's", "format", func(t *testing.T, path string, text []byte) {
		must(t, os.WriteFile(path, bytes.Replace(text, []byte("pawl-handover-"), []byte("pawl-handover-0"), 1), 0o600))
	}},
	{"another VM's", "another machine", func(t *testing.T, path string, text []byte) {
		must(t, os.WriteFile(path, rewritten(t, text, "machine", "11111111-2222-4333-8444-555555555555"), 0o600))
	}},
	{"another boot's", "another boot", func(t *testing.T, path string, text []byte) {
		must(t, os.WriteFile(path, rewritten(t, text, "boot_id", "11111111-2222-4333-8444-555555555555"), 0o600))
	}},
	{"another site's", "another site", func(t *testing.T, path string, text []byte) {
		must(t, os.WriteFile(path, rewritten(t, text, "site", "elsewhere"), 0o600))
	}},
	{"unreadable: a folder", "load hand-over", func(t *testing.T, path string, _ []byte) {
		must(t, os.Remove(path))
		must(t, os.Mkdir(path, 0o700))
	}},
	{"unreadable: a link", "load hand-over", func(t *testing.T, path string, text []byte) {
		elsewhere := filepath.Join(t.TempDir(), "planted")
		must(t, os.WriteFile(elsewhere, text, 0o600))
		must(t, os.Remove(path))
		must(t, os.Symlink(elsewhere, path))
	}},
}

// rewritten changes one word of a document's stamp, and makes the checksum right again.
func rewritten(t *testing.T, text []byte, key, value string) []byte {
	t.Helper()
	head, body, _ := bytes.Cut(text, []byte("\n"))
	format, _, _ := strings.Cut(string(head), " ")
	var document map[string]json.RawMessage
	must(t, json.Unmarshal(body, &document))
	var stamp map[string]any
	must(t, json.Unmarshal(document["stamp"], &stamp))
	if _, there := stamp[key]; !there {
		t.Fatalf("no %s in the stamp of a hand-over", key)
	}
	stamp[key] = value
	changed, err := json.Marshal(stamp)
	must(t, err)
	document["stamp"] = changed
	body, err = json.Marshal(document)
	must(t, err)
	sum := sha256.Sum256(body)
	return append([]byte(format+" "+hex.EncodeToString(sum[:])+"\n"), body...)
}

// testUnfit: a hand-over that is of no use is the same as none: one line says why,
// a login follows, and the next hand-over is a good one again.
func testUnfit(t *testing.T, l *lab) {
	path := filepath.Join(l.binaries.site.folder(t), handover)
	a := startAgent(t, l, program{})
	a.awaitServing()
	for _, unfit := range unfits {
		var text []byte
		eventually(t, "there is a hand-over", func() (bool, string) {
			information, err := os.Lstat(path)
			if err != nil || !information.Mode().IsRegular() {
				return false, "not a file"
			}
			text, err = os.ReadFile(path)
			return err == nil && len(text) > 0, "empty"
		})
		a.kill()
		mark := l.auditMark(t)
		unfit.make(t, path, text)
		a = startAgent(t, l, program{})
		moved := a.awaitMove(0, "Serving")
		var told []string
		lines, _ := a.log.since(0)
		for _, each := range lines {
			if strings.Contains(each.text, "hand-over") || strings.Contains(each.text, "handed over") {
				told = append(told, each.text)
			}
		}
		if len(told) != 1 || !strings.Contains(told[0], unfit.says) || !strings.Contains(told[0], "level=WARN") {
			t.Errorf("%s: the log says %q, want one warning with %q", unfit.name, told, unfit.says)
		}
		if logins := len(succeeded(l.audit(t, mark), pathLogin)); logins != 1 {
			t.Errorf("%s: %d logins, want one", unfit.name, logins)
		}
		t.Logf("%s: Serving %s after the start", unfit.name, moved.at.Sub(a.began).Round(time.Millisecond))
	}
	a.terminate(nil)
}
