package states

import "time"

// Life is how long a credential lasts, counted from the moment it was received.
// Its times keep the monotonic reading of the clock that made them, so that a
// life ends by whichever clock gets there first (law 9): the monotonic one when
// the wall clock is set back, the wall one when the machine slept.
type Life struct {
	// ID names the credential in public: an accessor, a serial number, a key id.
	ID string
	// TTL is how long it lasted as first granted: a renewal that gives less has met a maximum.
	TTL time.Duration
	// Received is when the answer that carried the credential came in.
	Received time.Time
	// Expires is when it ends; zero means that it does not.
	Expires time.Time
	// RenewAt is when a successor is wanted; rolled once (models.md 11). Zero: never.
	RenewAt time.Time
	// Refused is set when the far end said no: dead, whatever the clock says.
	Refused bool
	// Failed says that a renewal was tried since RenewAt and did not succeed.
	Failed bool
}

// NewLife returns the life of a credential received now that lasts ttl. roll in
// [0,1) places RenewAt between one half and two thirds of it, which spreads a
// fleet (faults.md F10). A ttl of zero or less is a life that never ends.
func NewLife(id string, now time.Time, ttl time.Duration, roll float64) Life {
	life := Life{ID: id, Received: now, TTL: max(0, ttl)}
	if ttl <= 0 {
		return life
	}
	life.Expires = now.Add(ttl)
	life.RenewAt = RenewAt(now, ttl, roll)
	return life
}

// RenewAt returns the moment between one half and two thirds of ttl after now.
func RenewAt(now time.Time, ttl time.Duration, roll float64) time.Time {
	roll = min(max(roll, 0), 1)
	return now.Add(ttl/2 + time.Duration(roll*float64(ttl)/6))
}

// Extended returns the life after a renewal that was answered now with ttl. The
// credential is the same one, so its ID, first TTL and refusal stay.
func (l Life) Extended(now time.Time, ttl time.Duration, roll float64) Life {
	extended := NewLife(l.ID, now, ttl, roll)
	extended.TTL, extended.Refused = l.TTL, l.Refused
	return extended
}

// Held reports whether there is a credential at all.
func (l Life) Held() bool { return l.ID != "" }

// Live reports whether the credential is held, unrefused and unexpired.
func (l Life) Live(now time.Time) bool {
	return l.Held() && !l.Refused && !Passed(l.Expires, now)
}

// Due reports whether a successor is wanted.
func (l Life) Due(now time.Time) bool { return l.Held() && Passed(l.RenewAt, now) }

// Overdue reports whether a successor is wanted and an attempt at it failed.
func (l Life) Overdue(now time.Time) bool { return l.Failed && l.Due(now) }

// Passed reports whether moment has come, by the wall clock or by the monotonic
// one, whichever is sooner. A zero moment never comes.
func Passed(moment, now time.Time) bool {
	if moment.IsZero() {
		return false
	}
	return !now.Before(moment) || !now.Round(0).Before(moment.Round(0))
}

// Sooner returns the earlier of two moments, where a zero one never comes.
func Sooner(a, b time.Time) time.Time {
	switch {
	case a.IsZero():
		return b
	case b.IsZero(), a.Before(b):
		return a
	default:
		return b
	}
}

// Remaining is the time from now to moment, never negative (faults.md F47).
func Remaining(moment, now time.Time) time.Duration {
	return max(0, min(moment.Sub(now), moment.Round(0).Sub(now.Round(0))))
}
