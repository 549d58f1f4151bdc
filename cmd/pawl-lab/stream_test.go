package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestParseMove(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct {
		name, line string
		want       move
		any        bool
	}{
		{"plain", `time=2026-01-02T03:04:06.250Z level=INFO msg=moved from=NoIdentity event=identified to=HasJWT cause=fetch_jwt`,
			move{now.Add(1250 * time.Millisecond), "NoIdentity", "identified", "HasJWT", "fetch_jwt"}, true},
		{"quoted cause", `time=2026-01-02T03:04:05.000Z level=WARN msg=moved from=Serving event=broke to=Degraded cause="renew_token failed (transient): dial \"x\": to=Serving"`,
			move{now, "Serving", "broke", "Degraded", `renew_token failed (transient): dial "x": to=Serving`}, true},
		{"no time", `level=INFO msg=moved from=A event=b to=C cause=d`, move{now, "A", "b", "C", "d"}, true},
		{"within another's text", `time=2026-01-02T03:04:05.000Z level=INFO msg="said msg=moved from=A event=b to=C" component=consul`, move{}, false},
		{"another message", `time=2026-01-02T03:04:05.000Z level=INFO msg=failed from=A event=b to=C`, move{}, false},
		{"half a move", `msg=moved from=A event=b`, move{}, false},
		{"a dump", `{"state":"Serving","x":"msg=moved from=A event=b to=C"}`, move{}, false},
		{"a quote without end", `msg=moved from=A event=b to="C`, move{now, "A", "b", `"C`, ""}, true},
		{"empty", ``, move{}, false},
	}
	for _, one := range tests {
		t.Run(one.name, func(t *testing.T) {
			got, any := parseMove(one.line, now)
			if any != one.any || any && (got != one.want && !(got.At.Equal(one.want.At) && withoutTime(got) == withoutTime(one.want))) {
				t.Errorf("got %+v %v, want %+v %v", got, any, one.want, one.any)
			}
		})
	}
}

func withoutTime(of move) move {
	of.At = time.Time{}
	return of
}

// TestStreamPassesOnUnchanged: whatever the chunks, every byte arrives, a line at a time.
func TestStreamPassesOnUnchanged(t *testing.T) {
	text := "msg=moved from=A event=b to=C cause=d\n\nsome line\n{\"a\":1}\nmsg=moved from=C event=e to=Serving cause=f\nno end"
	for size := 1; size <= len(text); size++ {
		out := &lineRecorder{}
		s := newStream(out)
		_, grown := s.since(0)
		for rest := []byte(text); len(rest) > 0; rest = rest[min(size, len(rest)):] {
			if n, err := s.Write(rest[:min(size, len(rest))]); n != min(size, len(rest)) || err != nil {
				t.Fatal(n, err)
			}
		}
		s.flush()
		if out.String() != text || out.torn > 1 { // the last line has no end
			t.Fatalf("chunks of %d: got %q, %d torn lines", size, out.String(), out.torn)
		}
		moves, _ := s.since(0)
		if len(moves) != 2 || moves[1].To != serving || s.count() != 2 {
			t.Fatalf("chunks of %d: moves %+v", size, moves)
		}
		if late, _ := s.since(1); len(late) != 1 || late[0].From != "C" {
			t.Fatalf("since 1: %+v", late)
		}
		select {
		case <-grown:
		default:
			t.Fatal("who waits for a move was not told")
		}
	}
}

// lineRecorder counts the writes that do not end with a line's end.
type lineRecorder struct {
	bytes.Buffer
	torn int
}

func (r *lineRecorder) Write(text []byte) (int, error) {
	if !bytes.HasSuffix(text, []byte("\n")) {
		r.torn++
	}
	return r.Buffer.Write(text)
}

func TestTailIsShort(t *testing.T) {
	s := newStream(new(bytes.Buffer))
	for range 50 {
		_, _ = s.Write([]byte(strings.Repeat("x", 5000) + "\n"))
	}
	_, _ = s.Write([]byte("the reason\n"))
	tail := s.tail()
	if len(tail) > tailLines*(tailWidth+1) || !strings.HasSuffix(tail, "\nthe reason") {
		t.Errorf("%d bytes: ...%s", len(tail), tail[len(tail)-20:])
	}
}

// steps makes moves of states, a second apart.
func steps(states ...string) []move {
	var moves []move
	for i := range len(states) - 1 {
		moves = append(moves, move{At: time.Unix(int64(i+1), 0), From: states[i], To: states[i+1], Event: "event"})
	}
	return moves
}

func TestArrivalAndWalk(t *testing.T) {
	tests := []struct {
		states  string
		arrived int64 // second of the arrival; 0: not there
		walk    string
	}{
		{"Serving", 0, "stayed where it was"},
		{"Serving Degraded", 0, "Serving > Degraded"},
		{"Serving Degraded Serving", 2, "Serving > Degraded > Serving"},
		{"Serving Degraded Serving Renewing Serving", 2, "Serving > Degraded > Serving > Renewing > Serving"},
		{"Serving Renewing", 1, "Serving > Renewing"},
		{"Serving Renewing Serving Renewing Serving Degraded", 0, "(Serving > Renewing) x2 > Serving > Degraded"},
		{"Serving Degraded HasJWT NoIdentity HasJWT NoIdentity HasJWT NoIdentity HasJWT VaultAuthed ConsulReady Serving", 11,
			"Serving > Degraded > (HasJWT > NoIdentity) x3 > HasJWT > VaultAuthed > ConsulReady > Serving"},
		{"Degraded Serving Degraded Serving", 3, "(Degraded > Serving) x2"},
	}
	for _, one := range tests {
		moves := steps(strings.Fields(one.states)...)
		at, there := arrival(moves)
		if there != (one.arrived != 0) || there && at.Unix() != one.arrived {
			t.Errorf("%s: arrival %v %v, want %d", one.states, at.Unix(), there, one.arrived)
		}
		if got := walk(moves); got != one.walk {
			t.Errorf("%s: walk %q, want %q", one.states, got, one.walk)
		}
	}
}
