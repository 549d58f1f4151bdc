// Package service owns the contract of an embedded service and the supervision
// of all of them: a failure budget each, a bounded stop, news of everything that
// happened, and a snapshot for the status page.
//
// It must never import fsm or transitions, nor any library that a service
// embeds: a service knows no machine, and the supervisor knows no service. A new
// service is one new package and one row in cmd's service table.
package service

import (
	"context"
	"errors"
	"time"

	"pawl/states"
)

// Service is something that runs beside the machine for as long as it can.
type Service interface {
	// Name is the word in logs, news and the status page: lower case, constant, unique.
	Name() string
	// Serve runs until ctx is done or the service cannot go on. It is called in a
	// goroutine of its own, again after every return and every panic, and never
	// twice at a time. After ctx is done it must return within StopTimeout.
	Serve(ctx context.Context) error
}

// Refresher is a service that wants to know what the machine holds.
type Refresher interface {
	// Refresh is told the latest of what is held, on a goroutine of the supervisor
	// and never twice at a time. Values in between may be skipped.
	Refresh(held states.Held)
}

// Healther is a service that can say more of itself than that it runs.
type Healther interface {
	// Healthy returns nil while the service does its work. Safe from any goroutine.
	Healthy(ctx context.Context) error
}

// ErrFatal, wrapped in what Serve returns, says that starting again is of no
// use. The service is not restarted in this process and is reported GaveUp.
var ErrFatal = errors.New("do not restart")

// Kind says what happened to a service. Its text is the word in logs and metrics.
type Kind string

// The kinds of news.
const (
	// Started: Serve was called. Attempt says how many times before.
	Started Kind = "started"
	// Stopped: Serve returned because it was told to.
	Stopped Kind = "stopped"
	// Failed: Serve returned although nobody asked it to. It will be called again.
	Failed Kind = "failed"
	// Panicked: as Failed, by a panic in the service's own goroutine.
	Panicked Kind = "panicked"
	// Paused: the failure budget is spent; nothing is restarted until Resumed.
	Paused Kind = "paused"
	// Resumed: the pause is over.
	Resumed Kind = "resumed"
	// GaveUp: Serve returned ErrFatal. It will not be called again.
	GaveUp Kind = "gave_up"
	// WouldNotStop: Serve did not return within StopTimeout of being told to.
	WouldNotStop Kind = "would_not_stop"
)

// Kinds lists every kind, for metric series that are there before they count.
func Kinds() []Kind {
	return []Kind{Started, Stopped, Failed, Panicked, Paused, Resumed, GaveUp, WouldNotStop}
}

// News is one thing that happened to one service.
type News struct {
	Service string
	Kind    Kind
	// Err is the cause, nil where there is none (Started, Stopped, Paused, Resumed).
	Err error
	// Recent is how many failures and panics the service had in the last
	// RecentWindow, this one included: what the rule of exit 75 counts.
	Recent int
	At     time.Time
}

// Status is one service at one moment.
type Status struct {
	Name    string `json:"name"`
	Running bool   `json:"running"`
	// Since is when Running became what it is; zero before the first start.
	Since time.Time `json:"since"`
	// Restarts counts the calls of Serve after the first.
	Restarts int `json:"restarts"`
	// LastError is the last cause, kept after a restart; empty if there was none.
	LastError string `json:"last_error,omitempty"`
}
