package e2e

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// line is one line of a process's output.
type line struct {
	at   time.Time
	text string
}

// fields reads a line of slog's text format. What is not of that format is passed over.
func (l line) fields() map[string]string {
	found := map[string]string{}
	for rest := l.text; rest != ""; {
		key, after, any := strings.Cut(rest, "=")
		if !any {
			break
		}
		key = key[strings.LastIndexByte(key, ' ')+1:]
		value, _, _ := strings.Cut(after, " ")
		width := len(value)
		if quoted, err := strconv.QuotedPrefix(after); err == nil {
			value, _ = strconv.Unquote(quoted)
			width = len(quoted)
		}
		if _, again := found[key]; !again {
			found[key] = value
		}
		rest = after[width:]
	}
	return found
}

// move is one arrow that the agent says it took.
type move struct {
	at                     time.Time
	from, event, to, cause string
}

func (m move) String() string { return m.from + " -" + m.event + "-> " + m.to + " (" + m.cause + ")" }

// moved reads a line as a move.
func (l line) moved() (move, bool) {
	if !strings.Contains(l.text, "msg=moved") {
		return move{}, false
	}
	fields := l.fields()
	return move{at: l.at, from: fields["from"], event: fields["event"], to: fields["to"], cause: fields["cause"]},
		fields["msg"] == "moved" && fields["component"] == ""
}

// stream keeps every line that is written to it. Safe from any goroutine.
type stream struct {
	mutex   sync.Mutex
	partial []byte
	lines   []line
	grown   chan struct{} // closed and made anew with every line
}

func newStream() *stream { return &stream{grown: make(chan struct{})} }

// Write implements io.Writer. It never fails.
func (s *stream) Write(text []byte) (int, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.partial = append(s.partial, text...)
	for {
		end := bytes.IndexByte(s.partial, '\n')
		if end < 0 {
			return len(text), nil
		}
		s.lines = append(s.lines, line{time.Now(), string(s.partial[:end])})
		s.partial = s.partial[end+1:]
		close(s.grown)
		s.grown = make(chan struct{})
	}
}

// since returns the lines after the first mark, and a channel that is closed when
// there is another.
func (s *stream) since(mark int) ([]line, <-chan struct{}) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return append([]line(nil), s.lines[min(mark, len(s.lines)):]...), s.grown
}

// mark is how many lines there are.
func (s *stream) mark() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return len(s.lines)
}

// text is everything that was written, a last line without an end included.
func (s *stream) text() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var all strings.Builder
	for _, each := range s.lines {
		all.WriteString(each.text + "\n")
	}
	all.Write(s.partial)
	return all.String()
}

// moves returns the moves after the first mark lines.
func (s *stream) moves(mark int) []move {
	lines, _ := s.since(mark)
	var moves []move
	for _, each := range lines {
		if one, is := each.moved(); is {
			moves = append(moves, one)
		}
	}
	return moves
}

// tail returns the last lines, shortened, for a failure's text.
func (s *stream) tail(count int) string {
	lines, _ := s.since(0)
	var text strings.Builder
	for _, each := range lines[max(0, len(lines)-count):] {
		text.WriteString("  " + each.text[:min(len(each.text), 500)] + "\n")
	}
	return text.String()
}

func TestFields(t *testing.T) {
	read := line{text: `time=2026-01-02T03:04:05Z level=INFO msg=moved from=HasJWT event=logged_in to=VaultAuthed cause="log_in: a \"b\" c=d" to=x`}
	moved, is := read.moved()
	if want := (move{from: "HasJWT", event: "logged_in", to: "VaultAuthed", cause: `log_in: a "b" c=d`}); !is || moved != want {
		t.Fatalf("read %+v, %v, want %+v", moved, is, want)
	}
	if _, is := (line{text: `level=INFO msg=moved component=consul from=a event=b to=c`}).moved(); is {
		t.Fatal("a line of a component was read as a move")
	}
}
