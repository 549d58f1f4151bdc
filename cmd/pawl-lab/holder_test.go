package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRefuseTakenNamesTheHolder(t *testing.T) {
	stream, err := net.Listen("tcp", "127.77.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	packets, err := net.ListenPacket("udp", "127.77.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	everywhere, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer everywhere.Close()
	port := everywhere.Addr().(*net.TCPAddr).Port
	wanted := []socket{
		{"tcp", stream.Addr().String(), "vault"},
		{"udp", packets.LocalAddr().String(), "consul-1 (serf_lan)"},
		// Somebody who listens on every address is in the way of one.
		{"tcp", fmt.Sprintf("127.77.0.2:%d", port), "metadata"},
	}
	refusal := refuseTaken(t.Context(), wanted)
	if refusal == nil {
		t.Fatal("three taken addresses were not refused")
	}
	for _, want := range []string{
		fmt.Sprintf("pid %d (%s", os.Getpid(), os.Args[0]),
		"tcp " + wanted[0].address + " (vault)",
		"udp " + wanted[1].address + " (consul-1 (serf_lan))",
		"tcp " + wanted[2].address + " (metadata)",
	} {
		if !strings.Contains(refusal.Error(), want) {
			t.Errorf("the refusal does not say %q:\n%s", want, refusal)
		}
	}
	if lines := strings.Count(refusal.Error(), "\n"); lines != 0 {
		t.Errorf("one holder wants one line, got %d more:\n%s", lines, refusal)
	}
}

func TestRefuseTakenAcceptsFreeAddresses(t *testing.T) {
	if err := refuseTaken(t.Context(), []socket{{"tcp", "127.77.0.9:18999", "a"}, {"udp", "127.77.0.9:18999", "b"}}); err != nil {
		t.Fatal(err)
	}
}

func TestHolderThatCannotBeSeen(t *testing.T) {
	// A proc folder as an ordinary user sees it: the table is there, the other user's fd folder is not.
	proc := t.TempDir()
	if err := os.MkdirAll(filepath.Join(proc, "net"), 0o700); err != nil {
		t.Fatal(err)
	}
	table := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0A01007F:4718 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1234        0 55555 1 0000000000000000 100 0 0 10 0\n"
	if err := os.WriteFile(filepath.Join(proc, "net", "tcp"), []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := holderOf(proc, socket{"tcp", "127.0.1.10:18200", "vault"}); !strings.Contains(got, "user id 1234") {
		t.Errorf("holder: %q, want the user's id", got)
	}
	if got := holderOf(proc, socket{"tcp", "127.0.1.11:18200", "vault"}); strings.Contains(got, "1234") {
		t.Errorf("holder of another address: %q", got)
	}
}

func TestParseSocketAddress(t *testing.T) {
	for text, want := range map[string]string{
		"0100007F:1F90":                         "127.0.0.1:8080",
		"00000000000000000000000001000000:0050": "[::1]:80",
		"0000000000000000FFFF00000100007F:0016": "127.0.0.1:22",
		"00000000:0000":                         "0.0.0.0:0",
		"xyz:0016":                              "",
		"0100007F":                              "",
		"010000:0016":                           "",
	} {
		got, ok := parseSocketAddress(text)
		if ok != (want != "") {
			t.Errorf("%s: ok is %v", text, ok)
			continue
		}
		if ok && got != netip.MustParseAddrPort(want) {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}
