package fsm

import (
	"time"

	"pawl/internal/failure"
	"pawl/transitions"
)

// herd is how many VMs share the far ends (the site's fleet_size). What all of
// them would do at once after an outage is spread by it (faults.md F10, F19);
// alone, nothing is. internal/fleet shows what comes of these numbers.
type herd int

const (
	// probesPerSecond is how many cheap requests a far end is asked to bear from
	// the whole fleet while it is away, or as it returns.
	probesPerSecond = 2000
	// returnsPerSecond is how many VMs a second may come back to a far end with real
	// work, a login and all that follows it: half of what a Vault of 500 serves, so
	// that one of half that speed copes as well.
	returnsPerSecond = 250
	// widest bounds by how much a far end that fails again widens the spread.
	widest = 4
)

// over is how long the fleet takes to pass at so many a second.
func (h herd) over(perSecond int) time.Duration {
	return time.Duration(max(0, int(h)-1)) * time.Second / time.Duration(perSecond)
}

// retrying is over how long the next attempts after a failure are spread. A far
// end that is away is asked by probe before there is more to do, so that its
// retries are cheap; any other failure is followed by the same dear request.
func (h herd) retrying(class failure.Class) time.Duration {
	if class == failure.Transient {
		return h.over(probesPerSecond)
	}
	return h.over(returnsPerSecond)
}

// comeback is what is known of a far end that was away and answered a probe.
type comeback struct {
	// opens is when this VM's turn comes; before, no row of that far end but the probe is tried.
	opens time.Time
	// wide is by how much the spread was widened, since its work failed after a healthy answer; 0 is 1.
	wide int
}

// answered notes that the row's attempt succeeded. A probe's success opens the
// far end to this VM after its share of the spread, and ends the waits of what had
// found it away, but for what it had asked for; any other shows that all is well.
func (r *retries) answered(row transitions.Work, now time.Time, roll func() float64) {
	if !row.Probe {
		delete(r.returns, row.Remote)
		return
	}
	back := r.returns[row.Remote]
	window := r.herd.over(returnsPerSecond) * time.Duration(max(1, back.wide))
	back.opens = now.Add(time.Duration(roll() * float64(window)))
	r.returns[row.Remote] = back
	for _, each := range r.of {
		if each.away == row.Remote {
			each.next = each.asked
		}
	}
}

// refused notes that the row's attempt failed. Where its far end has a probe,
// the probe waits as long as the row, what the far end asked for by Retry-After
// included, but while nothing else is known than that it is away no longer than a
// probe's patience: the row's may have grown in outages before this one. Where a
// probe had been answered before, the far end is up but cannot bear us all: the
// next return is spread wider.
func (r *retries) refused(row transitions.Work, failed *failure.Error, table []transitions.Work) {
	if row.Probe || failed.Class != failure.Transient {
		return
	}
	if failed.Remote != row.Remote && failed.Remote != failure.RemoteHost {
		return // it was another far end, behind this one
	}
	of := r.get(row.Action)
	of.away = row.Remote
	next := of.next
	if back, returned := r.returns[row.Remote]; returned {
		back.wide = min(widest, 2*max(1, back.wide))
		r.returns[row.Remote] = back
	} else if soon := max(probing.limit, failed.RetryAfter) + of.spread; soon < of.wait {
		next = next.Add(soon - of.wait)
	}
	for _, other := range table {
		if probe := r.get(other.Action); other.Probe && other.Remote == row.Remote && probe.next.Before(next) {
			probe.next = next
		}
	}
}
