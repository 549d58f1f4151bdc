package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pawl/states"
)

// scripted is a service whose calls of Serve follow a script; after its end it serves until told to stop.
type scripted struct {
	name   string
	script []func(ctx context.Context) error
	calls  int
}

func (s *scripted) Name() string { return s.name }

func (s *scripted) Serve(ctx context.Context) error {
	call := s.calls
	s.calls++
	if call < len(s.script) {
		return s.script[call](ctx)
	}
	<-ctx.Done()
	return ctx.Err()
}

// diary collects news; safe from any goroutine.
type diary struct {
	lock sync.Mutex
	news []News
}

func (d *diary) note(news News) {
	d.lock.Lock()
	defer d.lock.Unlock()
	d.news = append(d.news, news)
}

func (d *diary) kinds(name string) (kinds []Kind) {
	d.lock.Lock()
	defer d.lock.Unlock()
	for _, each := range d.news {
		if each.Service == name {
			kinds = append(kinds, each.Kind)
		}
	}
	return kinds
}

func fails(text string) func(context.Context) error {
	return func(context.Context) error { return errors.New(text) }
}

func panics(text string) func(context.Context) error {
	return func(context.Context) error { panic(text) }
}

// run supervises services inside a synctest bubble until check is done, and returns Serve's answer.
func run(t *testing.T, services []Service, check func(*Supervisor, *diary)) error {
	t.Helper()
	var answer error
	synctest.Test(t, func(t *testing.T) {
		book := &diary{}
		supervisor, err := NewSupervisor(services, slog.New(slog.NewTextHandler(io.Discard, nil)), book.note)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- supervisor.Serve(ctx) }()
		synctest.Wait()
		check(supervisor, book)
		cancel()
		answer = <-done
	})
	return answer
}

func want[T any](t *testing.T, what string, got, wanted T) {
	t.Helper()
	if !reflect.DeepEqual(got, wanted) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, wanted)
	}
}

func TestRestartsAtOnceWithinTheBudget(t *testing.T) {
	flaky := &scripted{name: "flaky", script: []func(context.Context) error{fails("one"), panics("two"), func(context.Context) error { return nil }}}
	steady := &scripted{name: "steady"}
	err := run(t, []Service{flaky, steady}, func(s *Supervisor, book *diary) {
		want(t, "news", book.kinds("flaky"), []Kind{Started, Failed, Started, Panicked, Started, Failed, Started})
		want(t, "steady's news", book.kinds("steady"), []Kind{Started})
		status := s.Status()
		want(t, "restarts", status[0].Restarts, 3)
		want(t, "running", status[0].Running, true)
		want(t, "last error", status[0].LastError, "returned without being told to")
		want(t, "order", status[1].Name, "steady")
	})
	if err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestPanicTextAndStackAreReported(t *testing.T) {
	run(t, []Service{&scripted{name: "wild", script: []func(context.Context) error{panics("boom")}}}, func(s *Supervisor, book *diary) {
		for _, each := range book.news {
			if each.Kind == Panicked && strings.Contains(each.Err.Error(), "boom") && strings.Contains(each.Err.Error(), "supervisor_test.go") {
				want(t, "status", s.Status()[0].LastError, "panic: boom")
				return
			}
		}
		t.Error("no news of the panic with its stack")
	})
}

// A spent budget pauses its own service only, and the pause ends by itself.
func TestSpentBudgetPausesOnlyThatService(t *testing.T) {
	taken := &scripted{name: "taken", script: []func(context.Context) error{fails("1"), fails("2"), fails("3"), fails("4")}}
	other := &scripted{name: "other", script: []func(context.Context) error{func(context.Context) error { time.Sleep(time.Second); return errors.New("late") }}}
	run(t, []Service{taken, other}, func(s *Supervisor, book *diary) {
		want(t, "news", book.kinds("taken"), []Kind{Started, Failed, Started, Failed, Started, Failed, Started, Failed, Paused})
		want(t, "running", s.Status()[0].Running, false)
		time.Sleep(time.Second)
		synctest.Wait()
		want(t, "other's news", book.kinds("other"), []Kind{Started, Failed, Started})
		time.Sleep(2 * failurePause)
		synctest.Wait()
		kinds := book.kinds("taken")
		want(t, "the end of the news", kinds[len(kinds)-2:], []Kind{Resumed, Started})
		want(t, "running", s.Status()[0].Running, true)
	})
}

func TestRecentCountsTenMinutes(t *testing.T) {
	wait := func(ctx context.Context) error { time.Sleep(4 * time.Minute); return errors.New("again") }
	each := &scripted{name: "slow", script: []func(context.Context) error{wait, wait, wait, wait}}
	run(t, []Service{each}, func(_ *Supervisor, book *diary) {
		time.Sleep(17 * time.Minute)
		synctest.Wait()
		var recent []int
		for _, news := range book.news {
			if news.Kind == Failed {
				recent = append(recent, news.Recent)
			}
		}
		want(t, "recent failures", recent, []int{1, 2, 3, 3})
	})
}

func TestFatalIsNotRestarted(t *testing.T) {
	each := &scripted{name: "hopeless", script: []func(context.Context) error{func(context.Context) error { return fmt.Errorf("no licence: %w", ErrFatal) }}}
	run(t, []Service{each}, func(s *Supervisor, book *diary) {
		time.Sleep(time.Hour)
		want(t, "news", book.kinds("hopeless"), []Kind{Started, GaveUp})
		want(t, "running", s.Status()[0].Running, false)
	})
}

// The stop is bounded, and what would not stop is named.
func TestStopIsBounded(t *testing.T) {
	var release chan struct{} // made in the bubble, where waiting for it counts as idle
	stubborn := &scripted{name: "stubborn", script: []func(context.Context) error{func(context.Context) error { <-release; return nil }}}
	var began time.Time
	var book *diary
	synctest.Test(t, func(t *testing.T) {
		release = make(chan struct{})
		book = &diary{}
		supervisor, err := NewSupervisor([]Service{stubborn, &scripted{name: "meek"}}, slog.New(slog.DiscardHandler), book.note)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- supervisor.Serve(ctx) }()
		synctest.Wait()
		began = time.Now()
		cancel()
		err = <-done
		if took := time.Since(began); took > StopTimeout+time.Second {
			t.Errorf("stop took %s", took)
		}
		if err == nil || !strings.Contains(err.Error(), "stubborn") || strings.Contains(err.Error(), "meek") {
			t.Errorf("stop: got %v, want an error that names stubborn alone", err)
		}
		close(release)
		synctest.Wait()
	})
	want(t, "meek's news", book.kinds("meek"), []Kind{Started, Stopped})
	want(t, "stubborn's news", book.kinds("stubborn")[:2], []Kind{Started, WouldNotStop})
}

// listener is a service that wants to know what is held, and is slow to take it in.
type listener struct {
	scripted
	hold chan struct{}
	got  []string
	boom bool
}

func (l *listener) Refresh(held states.Held) {
	<-l.hold
	l.got = append(l.got, held.Identity.Node)
	if l.boom {
		l.boom = false
		panic("cannot take it in")
	}
}

// The machine's one goroutine calls Refresh (law 7): it must not wait for a slow service.
func TestRefreshNeverWaitsAndTheLatestWins(t *testing.T) {
	each := &listener{scripted: scripted{name: "ears"}}
	synctest.Test(t, func(t *testing.T) {
		each.hold = make(chan struct{})
		supervisor, _ := NewSupervisor([]Service{each, &scripted{name: "deaf"}}, slog.New(slog.DiscardHandler), nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- supervisor.Serve(ctx) }()
		for _, node := range []string{"a", "b", "c", "d"} {
			supervisor.Refresh(states.Held{Identity: states.Identity{Node: node}})
			synctest.Wait() // "a" is taken up at once and held; of the rest the last counts
		}
		close(each.hold)
		synctest.Wait()
		want(t, "refreshed with", each.got, []string{"a", "d"})
		each.boom = true
		supervisor.Refresh(states.Held{})
		synctest.Wait()
		want(t, "still running after a panic in Refresh", supervisor.Status()[0].Running, true)
		want(t, "last error", supervisor.Status()[0].LastError, "refresh: panic: cannot take it in")
		supervisor.Refresh(states.Held{Identity: states.Identity{Node: "e"}})
		synctest.Wait()
		want(t, "after the panic", each.got[len(each.got)-1], "e")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestNamesAreUnique(t *testing.T) {
	for _, services := range [][]Service{{&scripted{name: ""}}, {&scripted{name: "a"}, &scripted{name: "a"}}} {
		if _, err := NewSupervisor(services, slog.New(slog.DiscardHandler), nil); err == nil {
			t.Error("a name that is empty or taken was accepted")
		}
	}
}

// ill is a service with an opinion of itself.
type ill struct{ scripted }

func (*ill) Healthy(context.Context) error { return errors.New("a cold") }

func TestHealthyNamesTheService(t *testing.T) {
	run(t, []Service{&scripted{name: "fit"}, &ill{scripted{name: "ill"}}}, func(s *Supervisor, _ *diary) {
		if err := s.Healthy(t.Context()); err == nil || err.Error() != "service ill: a cold" {
			t.Errorf("got %v", err)
		}
	})
}
