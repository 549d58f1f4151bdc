package fleet

import (
	"container/heap"
	"time"
)

// events is what is planned, the soonest first.
type events struct {
	queue   queue
	planned uint64
}

type event struct {
	at    time.Duration
	order uint64 // of planning, for what happens at one moment
	do    func()
}

func (e *events) push(at time.Duration, do func()) {
	e.planned++
	heap.Push(&e.queue, event{at, e.planned, do})
}

func (e *events) pop() (time.Duration, func(), bool) {
	if len(e.queue) == 0 {
		return 0, nil, false
	}
	next := heap.Pop(&e.queue).(event)
	return next.at, next.do, true
}

// queue implements heap.Interface.
type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q queue) Swap(i, j int)  { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(item any) { *q = append(*q, item.(event)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	item := (*q)[last]
	(*q)[last] = event{}
	*q = (*q)[:last]
	return item
}
