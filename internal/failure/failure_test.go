package failure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"
)

func TestOf(t *testing.T) {
	inner := New(Config, RemoteConsul, "no such role")
	outer := New(Transient, RemoteVault, "log in: %w", inner)
	rows := []struct {
		name   string
		err    error
		class  Class
		remote Remote
	}{
		{"classified", inner, Config, RemoteConsul},
		{"classified, then wrapped", fmt.Errorf("again: %w", fmt.Errorf("log in: %w", inner)), Config, RemoteConsul},
		{"classified twice: the outermost counts", outer, Transient, RemoteVault},
		{"one of two joined", errors.Join(io.EOF, inner), Config, RemoteConsul},
		{"a classified deadline keeps its class", New(Local, RemoteHost, "write: %w", context.DeadlineExceeded), Local, RemoteHost},
		{"a deadline", fmt.Errorf("ask: %w", context.DeadlineExceeded), Transient, RemoteHost},
		{"a cancellation", context.Canceled, Transient, RemoteHost},
		{"nobody decided: a bug of ours", io.EOF, Bug, RemoteHost},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			failed := Of(row.err)
			if failed == nil || failed.Class != row.class || failed.Remote != row.remote {
				t.Fatalf("got %+v, want %s of %s", failed, row.class, row.remote)
			}
			if !errors.Is(row.err, failed.Err) || failed.Error() == "" {
				t.Errorf("%q is not what failed: %q", failed, row.err)
			}
		})
	}
	if failed := Of(nil); failed != nil {
		t.Errorf("no error is %+v", failed)
	}
}

func TestErrorKeepsItsCause(t *testing.T) {
	err := New(Transient, RemoteVault, "read %s: %w", "gossip", io.ErrUnexpectedEOF)
	if err.Error() != "read gossip: unexpected EOF" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %q, unwraps to %v", err, errors.Unwrap(err))
	}
	err.RetryAfter = time.Second
	fixed := err.WithFix("write the key at kv/pawl/gossip")
	if fixed.Fix != "write the key at kv/pawl/gossip" || fixed.RetryAfter != time.Second || fixed.Error() != err.Error() || fixed.Class != Transient {
		t.Errorf("with a fix: %+v", fixed)
	}
	if err.Fix != "" {
		t.Error("WithFix wrote into the error it was asked of")
	}
}

// The classes are words in logs, metrics and the dump.
func TestClasses(t *testing.T) {
	want := []Class{"transient", "auth-dead", "config", "identity", "local", "bug"}
	if !slices.Equal(Classes(), want) {
		t.Errorf("classes %v, want %v", Classes(), want)
	}
}
