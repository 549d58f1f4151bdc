package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// chunk is how much of a process's memory is read at once; overlap is what two
// neighbours share, so that nothing is cut in two.
const (
	chunk   = 4 << 20
	overlap = 16 << 10
)

// readMemory calls look with every piece of a process's writable memory. The
// process must be a descendant of ours, which is all that the kernel asks for.
func readMemory(t *testing.T, pid int, look func([]byte)) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	must(t, err)
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	must(t, err)
	defer memory.Close()
	buffer := make([]byte, chunk+overlap)
	total := 0
	for row := range strings.Lines(string(maps)) {
		fields := strings.Fields(row)
		if len(fields) < 5 || !strings.HasPrefix(fields[1], "rw") || len(fields) > 5 && strings.HasPrefix(fields[5], "[v") {
			continue
		}
		low, high, _ := strings.Cut(fields[0], "-")
		from, err := strconv.ParseInt(low, 16, 64)
		must(t, err)
		to, err := strconv.ParseInt(high, 16, 64)
		must(t, err)
		for at := from; at < to; at += chunk {
			read, err := memory.ReadAt(buffer[:min(chunk+overlap, to-at)], at)
			if err != nil && read == 0 {
				break // unmapped meanwhile
			}
			total += read
			look(buffer[:read])
		}
	}
	if total == 0 {
		t.Fatalf("could not read any memory of process %d", pid)
	}
}

// memoryHolds returns which of the wanted byte strings are in a process's memory.
func memoryHolds(t *testing.T, pid int, wanted map[string][]byte) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	readMemory(t, pid, func(piece []byte) {
		for name, text := range wanted {
			if !found[name] && bytes.Contains(piece, text) {
				found[name] = true
			}
		}
	})
	return found
}

// serialBytes turns a serial number as Vault prints it, aa:bb:cc, into its bytes.
func serialBytes(t *testing.T, serial string) []byte {
	t.Helper()
	var raw []byte
	for part := range strings.SplitSeq(serial, ":") {
		number, err := strconv.ParseUint(part, 16, 8)
		must(t, err)
		raw = append(raw, byte(number))
	}
	return raw
}

func TestMemory(t *testing.T) {
	// Not in the binary, and in the heap once: the search must find it there.
	planted := []byte(strings.Repeat("canary-", 3) + strconv.Itoa(os.Getpid()))
	found := memoryHolds(t, os.Getpid(), map[string][]byte{"planted": planted})
	if !found["planted"] {
		t.Fatal("what is in this process's memory was not found there")
	}
}
