package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"runtime/debug"
	"sync"
	"time"

	"github.com/thejerf/suture/v4"

	"pawl/states"
)

// watched is one service with its record. It turns a panic into an error, so
// that news and record stay in order: the library would call Serve again first
// and report the panic afterwards.
type watched struct {
	supervisor *Supervisor
	service    Service
	mailbox    chan states.Held // of one value, nil where the service is no Refresher
	branch     suture.ServiceToken

	lock     sync.Mutex
	status   Status
	starts   int
	failures int
	recent   []time.Time
}

// String is the name under which the library knows us.
func (w *watched) String() string { return w.service.Name() }

// Serve implements suture.Service.
func (w *watched) Serve(ctx context.Context) error {
	w.mark(true)
	w.tell(Started, nil)
	err := guard(func() error { return w.service.Serve(ctx) })
	w.mark(false)
	switch {
	case errors.Is(err, errPanic):
		w.tell(Panicked, err)
		return err
	case ctx.Err() != nil:
		// It was told to stop. What it complains of on its way out is kept, but is no failure.
		w.tell(Stopped, plain(ctx, err))
		return ctx.Err()
	case errors.Is(err, ErrFatal):
		w.tell(GaveUp, err)
		return suture.ErrDoNotRestart
	case err == nil:
		err = errors.New("returned without being told to")
	}
	w.tell(Failed, err)
	return fmt.Errorf("serve %s: %w", w.service.Name(), err)
}

// plain drops the error that only repeats that the context is done.
func plain(ctx context.Context, err error) error {
	if errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}

// guard runs work and returns its panic as an error. It sees only panics of this
// goroutine: one in a goroutine that a library started ends the process, as Go has it.
func guard(work func() error) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%w: %v\n%s", errPanic, reason, debug.Stack())
		}
	}()
	return work()
}

// mark writes down that Serve runs, or no longer does. The next tell publishes it.
func (w *watched) mark(running bool) {
	w.lock.Lock()
	defer w.lock.Unlock()
	w.status.Running, w.status.Since = running, time.Now()
	if running {
		w.starts++
		w.status.Restarts = w.starts - 1
	}
}

// tell writes the record, publishes it, logs it and hands it on.
func (w *watched) tell(kind Kind, err error) {
	now := time.Now()
	w.lock.Lock()
	if err != nil {
		w.status.LastError = firstLine(err.Error())
	}
	if kind == Failed || kind == Panicked {
		w.failures++
		w.recent = append(w.recent, now)
	}
	for len(w.recent) > 0 && now.Sub(w.recent[0]) > RecentWindow {
		w.recent = w.recent[1:]
	}
	failures, news := w.failures, News{Service: w.status.Name, Kind: kind, Err: err, Recent: len(w.recent), At: now}
	w.lock.Unlock()

	w.supervisor.republish()
	w.log(news, failures)
	w.supervisor.notify(news)
}

// log writes the line of one piece of news. Of failures it writes the first and
// then every doubling, since a port that is taken stays taken for days (F38).
func (w *watched) log(news News, failures int) {
	level := slog.LevelDebug
	switch news.Kind {
	case Panicked, GaveUp, WouldNotStop:
		level = slog.LevelError
	case Failed:
		if bits.OnesCount(uint(failures)) == 1 {
			level = slog.LevelWarn
		}
	}
	attributes := []slog.Attr{slog.String("service", news.Service), slog.String("kind", string(news.Kind))}
	if news.Err != nil {
		attributes = append(attributes, slog.Any("error", news.Err), slog.Int("failures", failures))
	}
	w.supervisor.logger.LogAttrs(context.Background(), level, "service", attributes...)
}

// read returns a copy of the record.
func (w *watched) read() Status {
	w.lock.Lock()
	defer w.lock.Unlock()
	return w.status
}

// firstLine keeps a panic's stack out of the status page: the log has it.
func firstLine(text string) string {
	for i, letter := range text {
		if letter == '\n' {
			return text[:i]
		}
	}
	return text
}

// refreshing delivers what is held to one service, one value at a time.
type refreshing struct {
	*watched
	refresher Refresher
}

// Serve implements suture.Service. A panic in Refresh spends the budget of the
// service it belongs to.
func (r *refreshing) Serve(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case held := <-r.mailbox:
			err := guard(func() error { r.refresher.Refresh(held); return nil })
			if err != nil {
				r.tell(Panicked, fmt.Errorf("refresh: %w", err)) // Serve itself still runs
				return err
			}
		}
	}
}
