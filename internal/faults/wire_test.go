package faults

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// echo is a far end that says back what it is told.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				_, _ = io.Copy(connection, connection)
			}()
		}
	}()
	return listener.Addr().String()
}

func wire(t *testing.T, target string) *Wire {
	t.Helper()
	made, err := ListenWire("127.0.0.1:0", target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = made.Close() })
	return made
}

func connect(t *testing.T, to *Wire) net.Conn {
	t.Helper()
	connection, err := net.Dial("tcp", to.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

// say sends a text and returns what comes back of the same length.
func say(t *testing.T, connection net.Conn, text string, within time.Duration) (string, error) {
	t.Helper()
	if err := connection.SetDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(connection, text); err != nil {
		return "", err
	}
	answer := make([]byte, len(text))
	count, err := io.ReadFull(connection, answer)
	return string(answer[:count]), err
}

// refuses checks that a new connection is reset, which may happen before it is
// known to be made.
func refuses(t *testing.T, to *Wire) {
	t.Helper()
	connection, err := net.Dial("tcp", to.Address())
	if err == nil {
		_, err = say(t, connection, "x", enough)
		_ = connection.Close()
	}
	if !broken(err) {
		t.Errorf("a new connection: %v", err)
	}
}

const (
	// enough is for what comes at once; short for what never comes.
	enough = 10 * time.Second
	short  = 50 * time.Millisecond
)

func TestWirePassesOn(t *testing.T) {
	between := wire(t, echo(t))
	text := strings.Repeat("all of it ", 10_000)
	if got, err := say(t, connect(t, between), text, enough); err != nil || got != text {
		t.Errorf("%d of %d bytes came back: %v", len(got), len(text), err)
	}
	connection := connect(t, between)
	_, _ = io.WriteString(connection, "the end")
	_ = connection.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(connection); string(got) != "the end" || err != nil {
		t.Errorf("after our end: %q, %v", got, err)
	}
	if between.Accepted() != 2 {
		t.Errorf("accepted %d", between.Accepted())
	}
}

func TestWireResets(t *testing.T) {
	between := wire(t, echo(t))
	before := connect(t, between)
	if _, err := say(t, before, "x", enough); err != nil {
		t.Fatal(err)
	}
	between.Set(Trouble{Reset: true})
	if _, err := say(t, before, "x", enough); !broken(err) {
		t.Errorf("an open connection: %v", err)
	}
	refuses(t, between)
	between.Set(Trouble{})
	if got, err := say(t, connect(t, between), "x", enough); err != nil || got != "x" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

// broken says that it was a reset and no polite end.
func broken(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func TestWireIsMute(t *testing.T) {
	between := wire(t, echo(t))
	before := connect(t, between)
	if _, err := say(t, before, "x", enough); err != nil {
		t.Fatal(err)
	}
	between.Set(Trouble{Mute: true})
	after := connect(t, between)
	for what, connection := range map[string]net.Conn{"an open connection": before, "a new connection": after} {
		if got, err := say(t, connection, "x", short); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	between.Set(Trouble{})
	if _, err := say(t, before, "x", enough); !broken(err) {
		t.Errorf("what was swallowed is lost, so the connection must not live on: %v", err)
	}
	if got, err := say(t, connect(t, between), "x", enough); err != nil || got != "x" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

func TestWireDelays(t *testing.T) {
	between := wire(t, echo(t))
	between.Set(Trouble{Delay: short})
	began := time.Now()
	if got, err := say(t, connect(t, between), "x", enough); err != nil || got != "x" || time.Since(began) < short {
		t.Errorf("%q after %s, %v", got, time.Since(began), err)
	}
	between.Set(Trouble{Delay: time.Hour})
	connection := connect(t, between)
	if got, err := say(t, connection, "x", short); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q, %v", got, err)
	}
	between.Set(Trouble{}) // lets go what is held back
	_ = connection.SetDeadline(time.Now().Add(enough))
	if count, err := connection.Read(make([]byte, 1)); count != 1 || err != nil {
		t.Errorf("let go: %d, %v", count, err)
	}
}

func TestWireCuts(t *testing.T) {
	between := wire(t, echo(t))
	between.Set(Trouble{CutAfter: 5})
	got, err := say(t, connect(t, between), "hello, world", enough)
	if !strings.HasPrefix("hello", got) || !broken(err) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWireWithoutFarEnd(t *testing.T) {
	recorder := wire(t, "")
	refuses(t, recorder)
	if recorder.Accepted() != 1 {
		t.Errorf("accepted %d", recorder.Accepted())
	}
	gone := wire(t, "127.0.0.1:1")
	refuses(t, gone)
}
