package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// refuseTaken reports every address of the lab that somebody holds already, by
// the name of the holder, a line each. Nothing has been started when it is called.
func refuseTaken(ctx context.Context, wanted []socket) error {
	var refusals []error
	var holders []string
	taken := map[string][]string{}
	for _, one := range wanted {
		err := tryBind(ctx, one)
		place := fmt.Sprintf("%s %s (%s)", one.network, one.address, one.purpose)
		switch {
		case err == nil:
		case errors.Is(err, syscall.EADDRINUSE):
			holder := holderOf("/proc", one)
			if taken[holder] == nil {
				holders = append(holders, holder)
			}
			taken[holder] = append(taken[holder], place)
		default:
			refusals = append(refusals, fmt.Errorf("%s cannot be bound: %w", place, err))
		}
	}
	for _, holder := range holders {
		refusals = append(refusals, fmt.Errorf("%s holds %s; end it and try again", holder, strings.Join(taken[holder], ", ")))
	}
	return errors.Join(refusals...)
}

func tryBind(ctx context.Context, one socket) error {
	var configuration net.ListenConfig
	var bound io.Closer
	var err error
	if one.network == "udp" {
		bound, err = configuration.ListenPacket(ctx, one.network, one.address)
	} else {
		bound, err = configuration.Listen(ctx, one.network, one.address)
	}
	if err != nil {
		return err
	}
	return bound.Close()
}

// holderOf says who holds an address: pid and command line, or as much of that
// as an ordinary user may see. proc is the proc file system.
func holderOf(proc string, one socket) string {
	want, err := netip.ParseAddrPort(one.address)
	if err != nil {
		return "somebody"
	}
	owner := ""
	for _, table := range []string{one.network, one.network + "6"} {
		text, err := os.Open(filepath.Join(proc, "net", table))
		if err != nil {
			continue
		}
		entries := matching(text, want, one.network == "tcp")
		_ = text.Close()
		for _, entry := range entries {
			if pid, command, found := processOf(proc, entry.inode); found {
				return fmt.Sprintf("pid %d (%s)", pid, command)
			}
			owner = fmt.Sprintf("a process of user id %s that only they or root can see", entry.user)
		}
	}
	if owner == "" {
		return "a process that has just gone or runs in another namespace"
	}
	return owner
}

type socketEntry struct{ inode, user string }

// listening is the word of /proc/net/tcp for a socket that accepts connections.
const listening = "0A"

// matching reads a table of /proc/net and returns who is in the way of want: a
// socket on that very address, or on all addresses, at that port.
func matching(table io.Reader, want netip.AddrPort, listenersOnly bool) []socketEntry {
	var found []socketEntry
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || listenersOnly && fields[3] != listening {
			continue
		}
		local, ok := parseSocketAddress(fields[1])
		if !ok || local.Port() != want.Port() || local.Addr() != want.Addr() && !local.Addr().IsUnspecified() {
			continue
		}
		found = append(found, socketEntry{inode: fields[9], user: fields[7]})
	}
	return found
}

// parseSocketAddress reads the kernel's hexadecimal form: 32-bit words in the
// machine's byte order, a colon, the port.
func parseSocketAddress(text string) (netip.AddrPort, bool) {
	address, port, found := strings.Cut(text, ":")
	number, err := strconv.ParseUint(port, 16, 16)
	if !found || err != nil {
		return netip.AddrPort{}, false
	}
	raw, err := hex.DecodeString(address)
	if err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		for word := range slices.Chunk(raw, 4) {
			slices.Reverse(word)
		}
	}
	parsed, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(parsed.Unmap(), uint16(number)), ok
}

// processOf finds the process that has the socket open. Folders of other users'
// processes cannot be read by an ordinary user and are passed over.
func processOf(proc, inode string) (pid int, command string, found bool) {
	links, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd", "*"))
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || target != "socket:["+inode+"]" {
			continue
		}
		home := filepath.Dir(filepath.Dir(link))
		pid, err := strconv.Atoi(filepath.Base(home))
		if err != nil {
			continue
		}
		return pid, commandLine(home), true
	}
	return 0, "", false
}

// longestCommand keeps an error readable; the pid finds the rest.
const longestCommand = 80

func commandLine(home string) string {
	raw, _ := os.ReadFile(filepath.Join(home, "cmdline"))
	if command := strings.TrimSpace(strings.ReplaceAll(string(raw), "\x00", " ")); command != "" {
		return command[:min(len(command), longestCommand)]
	}
	name, _ := os.ReadFile(filepath.Join(home, "comm"))
	return strings.TrimSpace(string(name))
}
