package fsm

import (
	"time"

	"pawl/states"
	"pawl/transitions"
)

// Move is one arrow taken.
type Move struct {
	At    time.Time         `json:"at"`
	From  states.State      `json:"from"`
	Event transitions.Event `json:"event"`
	To    states.State      `json:"to"`
	// Cause is the attempt or the news that led to it, with its error if it had one.
	Cause string `json:"cause"`
}

// historyLength is how many moves are kept.
const historyLength = 64

// history keeps the last moves, oldest first. It is replaced, never written in
// place, since snapshots share it.
type history []Move

func (h history) with(move Move) history {
	kept := h[max(0, len(h)-historyLength+1):]
	return append(append(make(history, 0, len(kept)+1), kept...), move)
}
