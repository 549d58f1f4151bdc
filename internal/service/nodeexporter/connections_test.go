package nodeexporter

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// inMemory is a listener in virtual time, at the address that the site names.
type inMemory struct {
	address net.Addr
	arrived chan net.Conn
	closed  chan struct{}
	once    sync.Once // as with a real one, a second Close does nothing
}

func newInMemory() *inMemory {
	return &inMemory{
		address: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9100},
		arrived: make(chan net.Conn), closed: make(chan struct{}),
	}
}

func (l *inMemory) Addr() net.Addr { return l.address }

func (l *inMemory) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *inMemory) Accept() (net.Conn, error) {
	select {
	case connection := <-l.arrived:
		return connection, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// connect returns the client's end of an accepted connection.
func (l *inMemory) connect() net.Conn {
	ours, theirs := net.Pipe()
	l.arrived <- theirs
	synctest.Wait()
	return ours
}

// scrapeOver asks for the metrics on a connection and returns the status; 0 when it was cut off.
func scrapeOver(connection net.Conn) (status int, last bool) {
	request, _ := http.NewRequest(http.MethodGet, "http://127.0.0.1:9100/metrics?collect[]=loadavg", nil)
	if request.Write(connection) != nil {
		return 0, true
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), request)
	if err != nil {
		return 0, true
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return 0, true
	}
	return response.StatusCode, response.Close
}

// inBubble serves an exporter in virtual time, until stop; done says how it ended.
func inBubble(t *testing.T) (listener *inMemory, stop func(), done <-chan error) {
	exporter, listener := New(testSite("127.0.0.1:9100"), quiet()), newInMemory()
	exporter.Inherit(listener)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- exporter.Serve(ctx) }()
	<-exporter.Ready()
	return listener, stop, ended
}

// TestStopAnswersWhoWasAccepted: a scrape that was accepted is answered, though its
// request comes after the stop: across a hand-over none is lost (issue 4). Who says
// nothing does not hold up the stop.
func TestStopAnswersWhoWasAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener, stop, done := inBubble(t)

		kept, silent, late := listener.connect(), listener.connect(), listener.connect()
		if status, last := scrapeOver(kept); status != http.StatusOK || last {
			t.Errorf("before the stop: status %d, last on its connection %t", status, last)
		}
		synctest.Wait() // it is idle now
		stopped := time.Now()
		stop()
		synctest.Wait()
		if status, _ := scrapeOver(kept); status != 0 {
			t.Errorf("an idle connection was not closed: status %d", status)
		}
		time.Sleep(askTimeout / 2) // virtual: a slow round trip
		if status, last := scrapeOver(late); status != http.StatusOK || !last {
			t.Errorf("accepted before the stop, asked after it: status %d, last on its connection %t", status, last)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		if took := time.Since(stopped); took != askTimeout {
			t.Errorf("the stop took %s, want %s: one client says nothing", took, askTimeout)
		}
		if status, _ := scrapeOver(silent); status != 0 {
			t.Errorf("who said nothing is answered after the stop: status %d", status)
		}
	})
}

// TestStopIsQuick: without anyone to answer the stop waits for nothing.
func TestStopIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener, stop, done := inBubble(t)
		if status, _ := scrapeOver(listener.connect()); status != http.StatusOK {
			t.Errorf("status %d", status)
		}
		synctest.Wait()
		stopped := time.Now()
		stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		if took := time.Since(stopped); took != 0 {
			t.Errorf("the stop took %s", took)
		}
	})
}
