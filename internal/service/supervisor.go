package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/thejerf/suture/v4"

	"pawl/states"
)

// The failure budget, one for each service: a port that is taken must not hold
// up the restart of the Consul agent.
const (
	// failureThreshold: three failures close together are restarted at once (a
	// fluke, the fluke of its restart, and one to spare); the fourth waits.
	failureThreshold = 3
	// failureDecay is the half-life of a failure in seconds. Half a minute is longer
	// than any start takes, so that a service that dies while starting is noticed.
	failureDecay = 30
	// failurePause is the wait when the budget is spent, up to half as much again by
	// jitter. It is short because a restart costs this machine little, and because a
	// valid registration is owed within seconds of Consul answering (law 3).
	failurePause = 5 * time.Second
	// StopTimeout is how long a service may take to stop: Consul's leave takes about
	// four seconds, and SIGTERM owes an exit within ten, a revocation included.
	StopTimeout = 7 * time.Second
	// RecentWindow is how far back News.Recent counts: three failed restarts of the
	// Consul agent within ten minutes end the process with exit 75 (law 1).
	RecentWindow = 10 * time.Minute
)

// Supervisor runs services. Build it with NewSupervisor, then call Serve once.
type Supervisor struct {
	tree    *suture.Supervisor
	watched []*watched
	logger  *slog.Logger
	notify  func(News)

	// publish guards the making of a snapshot; readers take the pointer and never wait.
	publish   sync.Mutex
	snapshot  atomic.Pointer[[]Status]
	stopping  sync.Mutex
	unstopped []string
}

// NewSupervisor returns a supervisor of services, which must have unique names.
//
// notify is called with every piece of news, from the supervisor's goroutines,
// possibly from several at once; the news of one service come in order. It must
// return at once (put it into a buffered channel, drop it when full): while it
// runs, that service is neither restarted nor stopped. nil means that nobody listens.
func NewSupervisor(services []Service, logger *slog.Logger, notify func(News)) (*Supervisor, error) {
	if notify == nil {
		notify = func(News) {}
	}
	supervisor := &Supervisor{logger: logger, notify: notify}
	supervisor.tree = suture.New("services", suture.Spec{
		EventHook: supervisor.event,
		// One second more than the services have, so that the report below is the first to come.
		Timeout: StopTimeout + time.Second,
	})
	seen := make(map[string]bool)
	for _, each := range services {
		name := each.Name()
		if name == "" || seen[name] {
			return nil, fmt.Errorf("supervise services: name %q is empty or taken; give every service a name of its own", name)
		}
		seen[name] = true
		supervisor.add(name, each)
	}
	supervisor.republish()
	return supervisor, nil
}

// add gives a service a supervisor of its own below the root, and with it a budget of its own.
func (s *Supervisor) add(name string, each Service) {
	branch := suture.New(name, suture.Spec{
		EventHook:        s.event,
		FailureThreshold: failureThreshold,
		FailureDecay:     failureDecay,
		FailureBackoff:   failurePause,
		Timeout:          StopTimeout,
	})
	runner := &watched{supervisor: s, service: each, status: Status{Name: name}}
	s.watched = append(s.watched, runner)
	branch.Add(runner)
	if refresher, is := each.(Refresher); is {
		runner.mailbox = make(chan states.Held, 1)
		branch.Add(&refreshing{watched: runner, refresher: refresher})
	}
	runner.branch = s.tree.Add(branch)
}

// Serve runs the services until ctx is done, then stops them one after the
// other, the last of the table first: what came later may need what came before,
// as Consul's check needs the exporter until the node has left. Each has
// StopTimeout. It returns nil when everything stopped, or an error that names
// what would not. Call it once.
func (s *Supervisor) Serve(ctx context.Context) error {
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	ended := s.tree.ServeBackground(running)
	<-ctx.Done()
	for _, each := range slices.Backward(s.watched) {
		// What does not stop in time is reported by the branch's own event.
		_ = s.tree.RemoveAndWait(each.branch, StopTimeout+time.Second)
	}
	end()
	<-ended
	s.stopping.Lock()
	defer s.stopping.Unlock()
	if len(s.unstopped) > 0 {
		return fmt.Errorf("stop services: %s still running after %s", strings.Join(s.unstopped, ", "), StopTimeout)
	}
	return nil
}

// Refresh hands the latest of what is held to every service that wants it. It
// never waits: a service that is busy finds the newest value when it is done.
// Call it from one goroutine, the machine's.
func (s *Supervisor) Refresh(held states.Held) {
	for _, each := range s.watched {
		if each.mailbox == nil {
			continue
		}
		select {
		case <-each.mailbox: // what nobody has read is out of date
		default:
		}
		// There is room: this goroutine alone puts anything in.
		select {
		case each.mailbox <- held:
		default:
		}
	}
}

// Status returns every service, in the order of the service table. The slice is
// shared: read it only. Safe from any goroutine, and never waits.
func (s *Supervisor) Status() []Status { return *s.snapshot.Load() }

// Healthy asks every service that can say so whether it does its work, and
// returns the first complaint. Safe from any goroutine.
func (s *Supervisor) Healthy(ctx context.Context) error {
	for _, each := range s.watched {
		healther, is := each.service.(Healther)
		if !is {
			continue
		}
		if err := healther.Healthy(ctx); err != nil {
			return fmt.Errorf("service %s: %w", each.service.Name(), err)
		}
	}
	return nil
}

// event translates what the library reports and our own wrapper cannot know.
// Starts, returns and panics are reported by the wrapper, in order.
func (s *Supervisor) event(event suture.Event) {
	switch event := event.(type) {
	case suture.EventBackoff:
		s.tell(event.SupervisorName, Paused, nil)
	case suture.EventResume:
		s.tell(event.SupervisorName, Resumed, nil)
	case suture.EventStopTimeout:
		if _, branch := event.Service.(*suture.Supervisor); branch {
			return // it waits for its service, which was reported already
		}
		name := event.SupervisorName
		s.stopping.Lock()
		s.unstopped = append(s.unstopped, name)
		s.stopping.Unlock()
		s.tell(name, WouldNotStop, fmt.Errorf("stop %s: still running after %s", name, StopTimeout))
	}
}

// tell reports news of a service by name.
func (s *Supervisor) tell(name string, kind Kind, err error) {
	for _, each := range s.watched {
		if each.service.Name() == name {
			each.tell(kind, err)
			return
		}
	}
}

// republish makes a new snapshot. Called on any goroutine of the supervisor.
func (s *Supervisor) republish() {
	s.publish.Lock()
	defer s.publish.Unlock()
	list := make([]Status, 0, len(s.watched))
	for _, each := range s.watched {
		list = append(list, each.read())
	}
	s.snapshot.Store(&list)
}

// errPanic marks an error that was a panic.
var errPanic = errors.New("panic")
