// Package failure owns the classes of failure and the one error type that
// carries a class. Clients and services decide the class once, at the edge where
// the far end's answer is in hand; everything above only reads it. It must
// import nothing but the standard library.
//
// It is a room of its own, below transitions, because embedded services classify
// too and may not know that a machine exists.
package failure

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Class says what kind of answer a failure wants (law 5 of the house).
type Class string

// The classes. Each decides a retry policy in the work table and nothing else.
const (
	// Transient: the far end is away or busy; wait and ask again.
	Transient Class = "transient"
	// AuthDead: the far end refused the credential we came with; get a new one.
	AuthDead Class = "auth-dead"
	// Config: somebody must correct a server's or the site's configuration; ask slowly, say what to fix.
	Config Class = "config"
	// Identity: the identity we were given is not ours; ask slowly, say so loudly.
	Identity Class = "identity"
	// Local: this machine lacks something (disk, port, permission).
	Local Class = "local"
	// Bug: we broke a rule of our own.
	Bug Class = "bug"
)

// Classes lists every class, in the order of the documentation.
func Classes() []Class { return []Class{Transient, AuthDead, Config, Identity, Local, Bug} }

// Remote names the far end that a failure is about.
type Remote string

// The far ends. RemoteGossip is the cluster as far as its gossip key is the
// question, RemoteHost this machine itself.
const (
	RemoteMetadata Remote = "metadata"
	RemoteVault    Remote = "vault"
	RemoteConsul   Remote = "consul"
	RemoteGossip   Remote = "gossip"
	RemoteExporter Remote = "exporter"
	RemoteHost     Remote = "host"
)

// Error is an error with its class. The text is Err's: the class is data, not prose.
type Error struct {
	Class  Class
	Remote Remote
	// Fix says in one line what a person could do and where; empty when waiting is the fix.
	Fix string
	// RetryAfter is the least wait the far end asked for; zero when it asked for none.
	RetryAfter time.Duration
	// Stranger says that it was not the far end that answered: what did could not
	// show that it is. So it is out of sight, whatever the class.
	Stranger bool
	Err      error
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap lets errors.Is and errors.As see the cause.
func (e *Error) Unwrap() error { return e.Err }

// New builds a classified error from a formatted message (%w works).
func New(class Class, remote Remote, format string, args ...any) *Error {
	return &Error{Class: class, Remote: remote, Err: fmt.Errorf(format, args...)}
}

// WithFix returns a copy of e that says what a person could do.
func (e *Error) WithFix(fix string) *Error {
	copied := *e
	copied.Fix = fix
	return &copied
}

// Of returns the outermost classified error in err's chain. An unclassified
// error is a deadline (transient) or else a bug of ours: nobody decided its class.
func Of(err error) *Error {
	var classified *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &classified):
		return classified
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Error{Class: Transient, Remote: RemoteHost, Err: err}
	default:
		return &Error{Class: Bug, Remote: RemoteHost, Err: err}
	}
}
