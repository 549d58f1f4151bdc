package fsm

import (
	"encoding/hex"
	"flag"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	historySeed = flag.Uint64("seed", 0, "seed of TestRandomHistories (0: a new one, which is printed) and of TestStories (0: 1)")
	historyTape = flag.String("history", "", "the tape of a history for TestReplay, in hexadecimal; none: a boot")
)

// TestRandomHistories: 100,000 lives of the machine in worlds that dice decide,
// every law checked after every turn; 4,000 under -short, which the run with the
// race detector is given.
func TestRandomHistories(t *testing.T) {
	count := 100_000
	if testing.Short() {
		count = 4_000
	}
	seed := *historySeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d: repeat with -run TestRandomHistories -seed %d", seed, seed)

	var next, turns, busiest atomic.Int64
	var lock sync.Mutex
	var failing []byte
	var workers sync.WaitGroup
	began := time.Now()
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // little lives on; the collector would take a fifth
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for {
				at := next.Add(1)
				if at > int64(count) {
					return
				}
				bytes := randomTape(seed, uint64(at))
				came := runHistory(bytes, false)
				turns.Add(int64(came.turns))
				for busy := busiest.Load(); int64(came.busy) > busy && !busiest.CompareAndSwap(busy, int64(came.busy)); busy = busiest.Load() {
				}
				if came.broken != nil {
					lock.Lock()
					if failing == nil || len(bytes) < len(failing) {
						failing = bytes
					}
					lock.Unlock()
					next.Store(int64(count))
				}
			}
		})
	}
	workers.Wait()
	if failing != nil {
		report(t, failing)
		return
	}
	t.Logf("%d histories, %d turns in %s; at most %d attempts in a minute", count, turns.Load(), time.Since(began).Round(time.Millisecond), busiest.Load())
}

// randomTape is the tape of one history. Some worlds are kinder than others: a
// tape is mostly good answers, or mostly bad ones.
func randomTape(seed, number uint64) []byte {
	dice := rand.New(rand.NewPCG(seed, number))
	bytes := make([]byte, 6+dice.IntN(44))
	kindness := dice.IntN(8)
	for i := range bytes {
		bytes[i] = byte(dice.Uint32())
		if dice.IntN(8) < kindness {
			bytes[i] = 0
		}
	}
	return bytes
}

// report shrinks a failing tape and prints how to replay it, and what happens in it.
func report(t *testing.T, bytes []byte) {
	t.Helper()
	least := shrink(bytes, func(candidate []byte) bool { return runHistory(candidate, false).broken != nil })
	came := runHistory(least, true)
	t.Errorf("%v\nreplay: go test ./fsm -run TestReplay -v -history %s\n%s", came.broken, hex.EncodeToString(least), strings.Join(came.notes, "\n"))
}

// shrink returns a short tape that still fails: without what is not needed, and
// with the best of all bytes wherever a byte does not matter.
func shrink(bytes []byte, fails func([]byte) bool) []byte {
	for shorter := true; shorter; {
		shorter = false
		for size := max(1, len(bytes)/2); size >= 1; size /= 2 {
			for at := 0; at+size <= len(bytes); {
				candidate := slices.Delete(slices.Clone(bytes), at, at+size)
				if fails(candidate) {
					bytes, shorter = candidate, true
				} else {
					at++
				}
			}
		}
	}
	for at, b := range bytes {
		for _, simpler := range []byte{0, b & 15, b &^ 15} {
			candidate := slices.Clone(bytes)
			if candidate[at] = simpler; simpler < b && fails(candidate) {
				bytes = candidate
				break
			}
		}
	}
	return bytes
}

// TestReplay replays one history and tells it; without -history it is a boot.
func TestReplay(t *testing.T) {
	bytes, err := hex.DecodeString(*historyTape)
	if err != nil {
		t.Fatal(err)
	}
	came := runHistory(bytes, true)
	t.Log("\n" + strings.Join(came.notes, "\n"))
	if came.broken != nil {
		t.Error(came.broken)
	}
}
