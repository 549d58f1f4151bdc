package e2e

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// warp is the wall clock of one agent, which can be set without touching the
// machine's. The kernel maps the code that tells the time, the vDSO, into every
// process; here that of one process is overwritten with code that asks the kernel
// and adds an offset to the wall clock. All other clocks stay as they are.
type warp struct {
	pid int
	at  int64 // where the offset stands in the process's memory
}

// warpCode, by architecture, is clock_gettime(clock, *timespec) with so many
// seconds added where clock is CLOCK_REALTIME; the seconds follow it, 8 bytes.
var warpCode = map[string][]byte{
	"amd64": {
		0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, 228: clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi
		0x75, 0x0a, // jne to ret
		0x48, 0x8b, 0x15, 0x04, 0x00, 0x00, 0x00, // mov rdx, [rip+4]: the seconds
		0x48, 0x01, 0x16, // add [rsi], rdx
		0xc3, // ret
	},
}

// put patches a process that has not run yet, so that its first look at the clock is a wrong one.
func (w *warp) put(pid int, ahead time.Duration) error {
	code, known := warpCode[runtime.GOARCH]
	if !known {
		return fmt.Errorf("no code for the clock of %s: write it, it is ten instructions", runtime.GOARCH)
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return err
	}
	for row := range strings.Lines(string(maps)) {
		if !strings.Contains(row, "[vdso]") {
			continue
		}
		low, rest, _ := strings.Cut(row, "-")
		high, _, _ := strings.Cut(rest, " ")
		from, err := strconv.ParseInt(low, 16, 64)
		if err != nil {
			return err
		}
		to, err := strconv.ParseInt(high, 16, 64)
		if err != nil {
			return err
		}
		memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer memory.Close()
		image := make([]byte, to-from)
		if _, err := memory.ReadAt(image, from); err != nil && err != io.EOF {
			return fmt.Errorf("read the vDSO: %w", err)
		}
		entry, err := clockEntry(image)
		if err != nil {
			return err
		}
		w.pid, w.at = pid, from+int64(entry)+int64(len(code))
		if _, err := memory.WriteAt(code, from+int64(entry)); err != nil {
			return fmt.Errorf("write the vDSO: %w", err)
		}
		return w.write(memory, ahead)
	}
	return fmt.Errorf("process %d has no vDSO", pid)
}

// clockEntry finds clock_gettime in a vDSO.
func clockEntry(image []byte) (uint64, error) {
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, fmt.Errorf("read the vDSO: %w", err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("read the vDSO: %w", err)
	}
	for _, symbol := range symbols {
		if strings.HasSuffix(symbol.Name, "_clock_gettime") {
			return symbol.Value, nil
		}
	}
	return 0, fmt.Errorf("no clock_gettime among %d symbols of the vDSO", len(symbols))
}

func (w *warp) write(memory io.WriterAt, ahead time.Duration) error {
	_, err := memory.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(int64(ahead/time.Second))), w.at)
	return err
}

// set steps the wall clock of the running process to so far ahead of the machine's.
func (w *warp) set(t *testing.T, ahead time.Duration) {
	t.Helper()
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", w.pid), os.O_RDWR, 0)
	must(t, err)
	defer memory.Close()
	must(t, w.write(memory, ahead))
}

// patch runs at the first instruction of a process that was started to be traced,
// on the thread that started it, and lets it go.
func (w *warp) patch(pid int, ahead time.Duration) error {
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		return fmt.Errorf("wait for the new process: %w", err)
	}
	if !status.Stopped() {
		return fmt.Errorf("the new process did not stop: %v", status)
	}
	if err := w.put(pid, ahead); err != nil {
		return err
	}
	return syscall.PtraceDetach(pid)
}
