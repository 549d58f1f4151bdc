package main

import (
	"bytes"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// move is one arrow that the agent says it took.
type move struct {
	At              time.Time
	From, Event, To string
	Cause           string
}

// The states that the driver has to know by name; all others it only prints.
const (
	serving  = "Serving"
	renewing = "Renewing"
)

// good says whether the agent does its whole work in a state.
func good(state string) bool { return state == serving || state == renewing }

// parseMove reads one line of the agent's log, and says false where it is no
// `moved` line. A line without a readable time is of now.
func parseMove(line string, now time.Time) (move, bool) {
	if !strings.Contains(line, "msg=moved") { // nearly every line ends here
		return move{}, false
	}
	fields := attributes(line)
	found := move{At: now, From: fields["from"], Event: fields["event"], To: fields["to"], Cause: fields["cause"]}
	if at, err := time.Parse(time.RFC3339, fields["time"]); err == nil {
		found.At = at
	}
	return found, fields["msg"] == "moved" && found.From != "" && found.To != "" && found.Event != ""
}

// attributes splits a line of slog's text format: key=value or key="value", the
// first of a key counts. What is not of that format is passed over.
func attributes(line string) map[string]string {
	found := map[string]string{}
	for rest := line; rest != ""; {
		key, after, any := strings.Cut(rest, "=")
		if !any {
			break
		}
		key = key[strings.LastIndexByte(key, ' ')+1:]
		value, _, _ := strings.Cut(after, " ")
		rest = after[len(value):]
		if quoted, err := strconv.QuotedPrefix(after); err == nil {
			value, _ = strconv.Unquote(quoted)
			rest = after[len(quoted):]
		}
		if _, again := found[key]; !again {
			found[key] = value
		}
	}
	return found
}

const (
	// tailLines and tailWidth are how much of the log an error repeats.
	tailLines = 10
	tailWidth = 400
)

// stream takes the agent's log, passes it on unchanged, line by line, and keeps
// the moves. Safe from any goroutine.
type stream struct {
	out io.Writer

	mutex   sync.Mutex
	partial []byte
	last    []string
	moves   []move
	grown   chan struct{} // closed and made anew with every move
}

func newStream(out io.Writer) *stream {
	return &stream{out: out, grown: make(chan struct{})}
}

// Write implements io.Writer. It never fails: an agent must not stop because
// its reader's terminal has gone.
func (s *stream) Write(text []byte) (int, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.partial = append(s.partial, text...)
	if end := bytes.LastIndexByte(s.partial, '\n'); end >= 0 {
		s.take(s.partial[:end+1])
		s.partial = slices.Clone(s.partial[end+1:])
	}
	return len(text), nil
}

// flush passes on a last line that has no end. Called once the agent has ended.
func (s *stream) flush() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.partial) > 0 {
		s.take(s.partial)
		s.partial = nil
	}
}

// take passes whole lines on in one write and reads them. Called under the mutex.
func (s *stream) take(text []byte) {
	_, _ = s.out.Write(text)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		s.last = append(s.last, line[:min(len(line), tailWidth)])
		s.last = s.last[max(0, len(s.last)-tailLines):]
		if found, any := parseMove(line, time.Now()); any {
			s.moves = append(s.moves, found)
			close(s.grown)
			s.grown = make(chan struct{})
		}
	}
}

// since returns the moves after the first count, and a channel that is closed
// when there is another. The caller may keep the slice but not write to it.
func (s *stream) since(count int) ([]move, <-chan struct{}) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clip(s.moves[min(count, len(s.moves)):]), s.grown
}

// count returns how many moves there were.
func (s *stream) count() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return len(s.moves)
}

// tail returns the last lines, for an error.
func (s *stream) tail() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return strings.Join(s.last, "\n")
}

// arrival returns when the agent last came to its whole work from elsewhere,
// and false where it is not there now. Renewals do not count as going away.
func arrival(moves []move) (time.Time, bool) {
	if len(moves) == 0 || !good(moves[len(moves)-1].To) {
		return time.Time{}, false
	}
	for _, one := range slices.Backward(moves) {
		if !good(one.From) {
			return one.At, true
		}
	}
	return moves[0].At, true
}

// walk writes the states that moves led through, short enough for a table: what
// is walked again at once is written once, with how often.
func walk(moves []move) string {
	if len(moves) == 0 {
		return "stayed where it was"
	}
	states := []string{moves[0].From}
	for _, one := range moves {
		states = append(states, one.To)
	}
	var parts []string
	for i := 0; i < len(states); {
		rounds := 1
		for i+2*rounds+1 < len(states) && states[i+2*rounds] == states[i] && states[i+2*rounds+1] == states[i+1] {
			rounds++
		}
		if rounds == 1 {
			parts = append(parts, states[i])
			i++
			continue
		}
		parts = append(parts, "("+states[i]+" > "+states[i+1]+") x"+strconv.Itoa(rounds))
		i += 2 * rounds
	}
	return strings.Join(parts, " > ")
}
