package watchdog

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pawl/internal/service"
	"pawl/states"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// recorded is a watchdog whose words and stacks are kept.
func recorded() (*Watchdog, *[]string, *strings.Builder) {
	var words []string
	stacks := &strings.Builder{}
	w := New(quiet(), stacks, "")
	w.tell = func(said string) error { words = append(words, said); return nil }
	return w, &words, stacks
}

// TestGivesUp: a machine that turned once and then never again is given up after
// a minute, with every goroutine's stack; not before.
func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, words, stacks := recorded()
		w.Refresh(states.Held{})
		began := time.Now()
		err := w.Serve(t.Context())
		if took := time.Since(began); !errors.Is(err, service.ErrFatal) || took != patience*interval {
			t.Errorf("ended after %s with %v", took, err)
		}
		if !strings.Contains(stacks.String(), "goroutine ") || !strings.Contains(stacks.String(), "TestGivesUp") {
			t.Errorf("no stacks: %.200s", stacks.String())
		}
		if len(*words) != 1 || !strings.HasPrefix((*words)[0], "READY=1\nWATCHDOG=1\nSTATUS=NoIdentity") {
			t.Errorf("told systemd %q", *words)
		}
	})
}

// TestKeepsQuiet: a machine that turns as seldom as one does, every 12 s, is left
// alone for a day; systemd is told of every look that saw a turn, and of the state
// only where it is another.
func TestKeepsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, words, stacks := recorded()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Serve(ctx) }()
		for range 7200 {
			w.Refresh(states.Held{})
			time.Sleep(12 * time.Second)
		}
		cancel()
		if err := <-ended; err != nil || stacks.Len() > 0 {
			t.Errorf("ended with %v and %d bytes of stacks", err, stacks.Len())
		}
		// Told less than once in ten seconds, systemd would have to wait longer.
		if len(*words) < 7000 {
			t.Errorf("told %d times", len(*words))
		}
		if stated := slices.DeleteFunc(*words, func(said string) bool { return !strings.Contains(said, "STATUS=") }); len(stated) != 1 {
			t.Errorf("the state was told %d times", len(stated))
		}
	})
}

// TestTellsTheSocket: what systemd listens on gets the words, as one datagram.
func TestTellsTheSocket(t *testing.T) {
	for name, socket := range map[string]string{"path": filepath.Join(t.TempDir(), "notify"), "abstract": "@pawl-watchdog-test"} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			w := New(quiet(), io.Discard, socket)
			w.Refresh(states.Held{})
			w.report("")
			text := make([]byte, 200)
			n, err := listener.Read(text)
			if err != nil || !strings.HasPrefix(string(text[:n]), "READY=1\nWATCHDOG=1\nSTATUS=NoIdentity") {
				t.Errorf("got %q, %v", text[:n], err)
			}
		})
	}
	// Nobody there: said once at debug, and all goes on.
	w := New(quiet(), io.Discard, filepath.Join(t.TempDir(), "nobody"))
	w.Refresh(states.Held{})
	if said := w.report("before"); said != "before" {
		t.Errorf("it believes that %q was heard", said)
	}
}
