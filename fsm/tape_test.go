package fsm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pawl/internal/failure"
	"pawl/internal/secret"
	"pawl/states"
	"pawl/transitions"
)

// tape is the bytes of a history. When it has run out, everything goes well.
type tape struct {
	bytes []byte
	at    int
}

// next returns the next byte, and 0, which always means the best, after the last.
func (t *tape) next() byte {
	if t.at >= len(t.bytes) {
		return 0
	}
	t.at++
	return t.bytes[t.at-1]
}

func (t *tape) ended() bool { return t.at >= len(t.bytes) }

// pick takes one of these by a byte; the first is the best.
func pick[T any](b byte, of ...T) T { return of[int(b)%len(of)] }

// tapeWorld is every far end, each answer decided by a byte of the tape. Time is
// advanced by its latencies, while one attempt is made.
type tapeWorld struct {
	tape *tape
	// now is the history's clock; spent what the attempt under way has taken of its deadline.
	now             time.Time
	spent, deadline time.Duration
	// deaf: the attempt ignores its deadline.
	deaf bool
	// usual is how long most things last in this world: an hour, or so short that
	// much runs out while something else is under way.
	usual time.Duration
	// gossip decides the answer that is given on a goroutine of its own.
	gossip byte

	serial int
	// named: the machine knows who it is, so that another identity is a lie.
	named bool
	// alive are the Vault tokens granted and not revoked, by accessor, until they expire.
	alive map[string]time.Time
	notes []string
	trace bool
}

func (w *tapeWorld) note(format string, args ...any) {
	if w.trace {
		w.notes = append(w.notes, fmt.Sprintf("%10s  ", w.clock().Sub(historyBegins).Round(time.Millisecond))+fmt.Sprintf(format, args...))
	}
}

// clock is what the machine is told the time is.
func (w *tapeWorld) clock() time.Time { return w.now.Add(w.spent) }

// begin prepares the world for one attempt.
func (w *tapeWorld) begin(row transitions.Work) {
	w.spent, w.deadline, w.deaf = 0, row.Deadline, false
	if row.Action == transitions.Issue {
		w.gossip = w.tape.next()
	}
}

var errOdd = errors.New("an error that nobody classified")

// answer decides one call: how long it takes and what comes of it. The low four
// bits say what, the high four how late.
func (w *tapeWorld) answer(method string, remote failure.Remote) error {
	b := w.tape.next()
	late := pick(b>>4, 5*time.Millisecond, 0, time.Millisecond, 20*time.Millisecond, 80*time.Millisecond, 300*time.Millisecond,
		0, time.Second, 5*time.Millisecond, 2500*time.Millisecond, 0, 5*time.Second, 0, 9*time.Second, 11*time.Second, 40*time.Second)
	err := outcome(b&15, remote, w.tape)
	if w.spent >= w.deadline {
		late = 0
	}
	if w.spent+late >= w.deadline && !w.deaf {
		if w.deaf = b&1 == 1; !w.deaf { // it honours its context
			w.spent, err = w.deadline, failure.New(failure.Transient, remote, "%s: %w", method, context.DeadlineExceeded)
			w.note("    %s: no answer in time", method)
			return err
		}
	}
	w.spent += late
	w.note("    %s after %s: %v", method, late, err)
	if b&15 == 15 {
		panic("planted in " + method)
	}
	return err
}

// outcome is one of the ends of a call, the first ones good.
func outcome(b byte, remote failure.Remote, tape *tape) error {
	switch b {
	case 7, 8:
		return failure.New(failure.Transient, remote, "away")
	case 9:
		busy := failure.New(failure.Transient, remote, "busy (429)")
		busy.RetryAfter = pick(tape.next(), time.Second, 3*time.Second, 17*time.Second, 90*time.Second)
		return busy
	case 10, 11:
		return failure.New(failure.AuthDead, remote, "permission denied")
	case 12:
		return failure.New(failure.Config, remote, "role missing")
	case 13:
		behind := pick(tape.next(), failure.RemoteConsul, failure.RemoteMetadata, failure.RemoteVault, failure.RemoteHost)
		return failure.New(pick(tape.next(), failure.Transient, failure.AuthDead, failure.Local), behind, "the one behind it")
	case 14:
		return errOdd
	default:
		return nil
	}
}

// ttl is how long a grant lasts, by a byte; the best is the world's usual. Once
// the tape has run out that is an hour.
func (w *tapeWorld) ttl() time.Duration {
	if w.tape.ended() {
		return time.Hour
	}
	return pick(w.tape.next(), w.usual, 24*time.Hour, w.usual, 10*time.Minute, w.usual, 90*time.Second, w.usual, 20*time.Second)
}

// maxTTL is how long a Vault token lasts with all its renewals.
func (w *tapeWorld) maxTTL() time.Duration {
	if w.tape.ended() {
		return 24 * time.Hour
	}
	return pick(w.tape.next(), 2*w.usual, 24*time.Hour, w.usual, 0, 3*time.Minute)
}

func (w *tapeWorld) name(kind string) string {
	w.serial++
	return fmt.Sprint(kind, "-", w.serial)
}

var (
	ourselves    = states.Identity{Node: "vm-1", NodeID: "uuid-1"}
	somebodyElse = states.Identity{Node: "vm-2", NodeID: "uuid-2"}
)

func (w *tapeWorld) FetchJWT(context.Context) (transitions.JWTGrant, error) {
	if err := w.answer("fetch jwt", failure.RemoteMetadata); err != nil {
		return transitions.JWTGrant{}, err
	}
	grant := transitions.JWTGrant{Text: secret.New("jwt"), ID: w.name("jti"), TTL: w.ttl(), Identity: ourselves}
	if w.named && w.tape.next() > 240 {
		grant.Identity = somebodyElse
	}
	return grant, nil
}

func (w *tapeWorld) Healthy(context.Context) error { return w.answer("healthy", failure.RemoteVault) }

func (w *tapeWorld) Login(context.Context, secret.Secret) (transitions.VaultGrant, error) {
	if err := w.answer("log in", failure.RemoteVault); err != nil {
		return transitions.VaultGrant{}, err
	}
	name := w.name("vault")
	grant := transitions.VaultGrant{Token: secret.New(name), Accessor: name, TTL: w.ttl(), MaxTTL: w.maxTTL()}
	if grant.MaxTTL > 0 {
		grant.TTL = min(grant.TTL, grant.MaxTTL)
	}
	w.alive[name] = w.clock().Add(grant.TTL)
	w.note("      %s, for %s, at most %s", name, grant.TTL, grant.MaxTTL)
	return grant, nil
}

// ReadGossipKey is called beside SignCertificate: it reads its own byte only, and
// refuses no token, since the other one keeps that account.
func (w *tapeWorld) ReadGossipKey(context.Context, secret.Secret) (transitions.GossipGrant, error) {
	grant := transitions.GossipGrant{Key: secret.New("gossip"), ID: "v1"}
	switch what := w.gossip & 15; what {
	case 15:
		panic("planted in read gossip key")
	case 10, 11, 13:
		return grant, nil
	default:
		return grant, outcome(what, failure.RemoteVault, &tape{bytes: []byte{w.gossip >> 4, w.gossip >> 4}})
	}
}

func (w *tapeWorld) SignCertificate(_ context.Context, token secret.Secret, _ string) (transitions.CertificateGrant, error) {
	if err := w.answerTo(token, "sign certificate"); err != nil {
		return transitions.CertificateGrant{}, err
	}
	return transitions.CertificateGrant{Serial: w.name("serial"), TTL: w.ttl()}, nil
}

func (w *tapeWorld) IssueConsulToken(_ context.Context, token secret.Secret) (transitions.ConsulGrant, error) {
	if err := w.answerTo(token, "issue consul token"); err != nil {
		return transitions.ConsulGrant{}, err
	}
	name := w.name("consul")
	return transitions.ConsulGrant{Token: secret.New(name), Accessor: name, Lease: name, TTL: w.ttl()}, nil
}

func (w *tapeWorld) RenewToken(_ context.Context, token secret.Secret) (time.Duration, error) {
	if err := w.answerTo(token, "renew token"); err != nil {
		return 0, err
	}
	ttl := w.ttl()
	w.note("      %s, for %s more", token.Reveal(), ttl)
	if _, known := w.alive[token.Reveal()]; known {
		w.alive[token.Reveal()] = w.clock().Add(ttl)
	}
	return ttl, nil
}

func (w *tapeWorld) RenewLease(_ context.Context, token secret.Secret, _ string) (time.Duration, error) {
	err := w.answerTo(token, "renew lease")
	return w.ttl(), err
}

func (w *tapeWorld) LookupToken(_ context.Context, token secret.Secret) error {
	return w.answerTo(token, "look up token")
}

func (w *tapeWorld) RevokeToken(_ context.Context, token secret.Secret) error {
	err := w.answerTo(token, "revoke")
	if err == nil {
		delete(w.alive, token.Reveal())
	}
	return err
}

// answerTo decides a call that is made with a Vault token: one that is refused is dead.
func (w *tapeWorld) answerTo(token secret.Secret, method string) error {
	err := w.answer(method, failure.RemoteVault)
	if failed := failure.Of(err); err != nil && failed.Class == failure.AuthDead && failed.Remote == failure.RemoteVault {
		delete(w.alive, token.Reveal())
	}
	return err
}

func (w *tapeWorld) Verify(context.Context, states.Identity, states.Epoch) error {
	return w.answer("verify", failure.RemoteConsul)
}

func (w *tapeWorld) Install(context.Context, states.Identity, states.Epoch) error {
	return w.answer("install", failure.RemoteConsul)
}

func (w *tapeWorld) Prove(context.Context) (uint64, error) {
	return 1, w.answer("prove", failure.RemoteConsul)
}

func (w *tapeWorld) Register(context.Context, error) error {
	return w.answer("register", failure.RemoteConsul)
}

func (w *tapeWorld) ReadBack(context.Context) (uint64, bool, error) {
	err := w.answer("read back", failure.RemoteConsul)
	return 1, w.tape.next() < 200, err
}

func (w *tapeWorld) Scrape(context.Context) error {
	return w.answer("scrape", failure.RemoteExporter)
}
