package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCrashesAreKept: a crash loop was seen in systemd's log alone, and in pawl's
// own report every process of it looked like the first one. Now each knows of those before it.
func TestCrashesAreKept(t *testing.T) {
	folder := t.TempDir()
	now := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(&text, nil))
	if got := tellCrashes(folder, 0, now, log); got == nil || len(got) != 0 || text.Len() > 0 {
		t.Errorf("nothing crashed, and it says %v, %q", got, text.String())
	}
	for i := range crashesKept + 5 {
		got := tellCrashes(folder, 7, now.Add(time.Duration(i)*time.Second), log)
		if want := min(i+1, crashesKept); len(got) != want {
			t.Fatalf("after %d crashes it knows of %d", i+1, len(got))
		}
	}
	if !strings.Contains(text.String(), `level=WARN msg="the process before ended unasked" pid=7 crashes=3`) {
		t.Errorf("it says %.300q", text.String())
	}
	last := tellCrashes(folder, 0, now.Add(time.Hour), log)
	if len(last) != crashesKept || !last[0].Equal(now.Add(5*time.Second).Truncate(time.Second)) {
		t.Errorf("a process after no crash knows of %d, the first at %v", len(last), last[0])
	}
	if got := tellCrashes(folder, 7, now.Add(25*time.Hour), log); len(got) != 1 {
		t.Errorf("a day later it knows of %d", len(got))
	}
	// A file that is of no use is the same as none.
	path := filepath.Join(folder, crashesName)
	if err := os.WriteFile(path, []byte("odd\n\x00\n2026-01-03T0"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tellCrashes(folder, 7, now, log); len(got) != 1 {
		t.Errorf("out of a broken file it read %v", got)
	}
	if err := forget(folder, crashesName); err != nil {
		t.Error(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	text.Reset()
	if got := tellCrashes(folder, 7, now, log); len(got) != 1 || !strings.Contains(text.String(), "cannot keep") {
		t.Errorf("where the file cannot be written it knows of %v and says %q", got, text.String())
	}
}
