package site

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

var (
	labelPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	wordPattern  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
)

// label accepts one lower-case DNS label.
func label(value string) *complaint {
	if !labelPattern.MatchString(value) {
		return &complaint{fmt.Sprintf("%q is not a DNS label", value), "write lower-case letters, digits and inner hyphens, at most 63"}
	}
	return nil
}

// domain accepts lower-case DNS labels with dots between.
func domain(value string) *complaint {
	if len(value) > 253 {
		return &complaint{"is longer than a DNS name may be, 253", "shorten it"}
	}
	for part := range strings.SplitSeq(value, ".") {
		if !labelPattern.MatchString(part) {
			return &complaint{fmt.Sprintf("%q is not a DNS name", value), "write lower-case labels with dots between, such as node.example.com"}
		}
	}
	return nil
}

// host accepts a DNS name or an IP address.
func host(value string) *complaint {
	if _, err := netip.ParseAddr(value); err == nil {
		return nil
	}
	if onlyNumbers.MatchString(value) {
		return &complaint{fmt.Sprintf("%q is not an IP address", value), "write four numbers from 0 to 255, or a DNS name"}
	}
	return domain(value)
}

// onlyNumbers matches what is surely meant to be an IPv4 address.
var onlyNumbers = regexp.MustCompile(`^[0-9.]+$`)

// word accepts what stands between two slashes of a path.
func word(value string) *complaint {
	if !wordPattern.MatchString(value) {
		return &complaint{fmt.Sprintf("%q is not a name", value), "write letters, digits, and _ . - inside"}
	}
	return nil
}

// path accepts a path at Vault, without slashes at its ends.
func path(value string) *complaint {
	for part := range strings.SplitSeq(value, "/") {
		if !wordPattern.MatchString(part) {
			return &complaint{fmt.Sprintf("%q is not a path", value), "write names with / between, none at the ends, such as consul/gossip"}
		}
	}
	return nil
}

// folder accepts an absolute path that leaves room for a socket in it, whose
// whole name the kernel limits to 107 bytes.
func folder(value string) *complaint {
	if !filepath.IsAbs(value) || filepath.Clean(value) != value || value == "/" || len(value) > 80 {
		return &complaint{fmt.Sprintf("%q is not a folder of our own", value), "write a clean absolute path of at most 80 bytes, such as /run/pawl"}
	}
	return nil
}

// address accepts IP:port.
func address(value string) *complaint {
	_, wrong := splitAddress(value)
	return wrong
}

func splitAddress(value string) (netip.Addr, *complaint) {
	parsed, err := netip.ParseAddrPort(value)
	if err != nil || parsed.Port() == 0 || parsed.Addr().IsUnspecified() || parsed.Addr().IsMulticast() {
		return netip.Addr{}, &complaint{fmt.Sprintf("%q is not an address with a port", value), "write IP:port, such as 127.0.0.1:8500"}
	}
	return parsed.Addr(), nil
}

// loopback accepts IP:port on loopback: behind it, nobody asks for a token.
func loopback(value string) *complaint {
	ip, wrong := splitAddress(value)
	if wrong != nil {
		return wrong
	}
	if !ip.IsLoopback() {
		return &complaint{fmt.Sprintf("%q is not on loopback: other machines could ask it", value), "write 127.0.0.1:port or [::1]:port"}
	}
	return nil
}

// listen accepts :port or IP:port, an unspecified IP included.
func listen(value string) *complaint {
	want := "write :port or IP:port, such as :9100"
	ip, port, err := net.SplitHostPort(value)
	if err != nil {
		return &complaint{fmt.Sprintf("%q is not an address to listen on", value), want}
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return &complaint{fmt.Sprintf("%q has no good port", value), want}
	}
	if _, err := netip.ParseAddr(ip); err != nil && ip != "" {
		return &complaint{fmt.Sprintf("%q has no good IP address", value), want}
	}
	return nil
}

// bind accepts an IP address or a go-sockaddr template, which the agent resolves.
func bind(value string) *complaint {
	if strings.HasPrefix(value, "{{") && strings.HasSuffix(value, "}}") {
		return nil
	}
	if ip, err := netip.ParseAddr(value); err != nil || ip.IsUnspecified() || ip.IsMulticast() {
		return &complaint{fmt.Sprintf("%q is not an IP address of one machine", value), "write an IP address or a template such as \"{{ GetPrivateIP }}\""}
	}
	return nil
}

// metadataURL accepts a base URL whose host is an IP literal: at that moment of
// a VM's life no resolver need be up, and no resolver may send us elsewhere.
func metadataURL(value string) *complaint {
	want := "write http://IP or http://IP:port, such as http://169.254.169.254"
	parsed, wrong := baseURL(value, want, "http", "https")
	if wrong != nil {
		return wrong
	}
	if _, err := netip.ParseAddr(parsed.Hostname()); err != nil {
		return &complaint{fmt.Sprintf("the host %q is not an IP address", parsed.Hostname()), want}
	}
	return nil
}

// vaultURL accepts a base URL with TLS: tokens travel there.
func vaultURL(value string) *complaint {
	want := "write https://name:port, such as https://vault.example.com:8200"
	parsed, wrong := baseURL(value, want, "https")
	if wrong != nil {
		return wrong
	}
	if wrong := host(parsed.Hostname()); wrong != nil {
		return &complaint{wrong.what, want}
	}
	return nil
}

func baseURL(value, want string, schemes ...string) (*url.URL, *complaint) {
	parsed, err := url.Parse(value)
	if err != nil || parsed.Hostname() == "" {
		return nil, &complaint{"is not a URL", want} // the value is not echoed: it may hold a password
	}
	if parsed.User != nil {
		return nil, &complaint{"has a user in it", want}
	}
	if !strings.Contains(" "+strings.Join(schemes, " ")+" ", " "+parsed.Scheme+" ") {
		return nil, &complaint{fmt.Sprintf("the scheme %q is not %s", parsed.Scheme, strings.Join(schemes, " or ")), want}
	}
	if parsed.RawQuery != "" || parsed.Fragment != "" || parsed.ForceQuery || strings.HasSuffix(value, "/") {
		return nil, &complaint{fmt.Sprintf("%q is more than a base URL", value), want + ", without a slash, query or fragment at its end"}
	}
	if parsed.Scheme == "https" && parsed.Path != "" {
		return nil, &complaint{fmt.Sprintf("%q has a path", value), want}
	}
	if port := parsed.Port(); port != "" || strings.HasSuffix(parsed.Host, ":") {
		if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
			return nil, &complaint{fmt.Sprintf("the port %q is not from 1 to 65535", port), want}
		}
	}
	return parsed, nil
}

// argument accepts one flag of node_exporter.
func argument(value string) *complaint {
	if !argumentPattern.MatchString(value) {
		return &complaint{fmt.Sprintf("%q is not a flag", value), "write --name or --name=value, one a line"}
	}
	return nil
}

var argumentPattern = regexp.MustCompile(`^--[a-z][a-z0-9.-]*(=.*)?$`)

// logLevel wants one of the five levels.
func logLevel(value string) *complaint {
	switch value {
	case "trace", "debug", "info", "warn", "error":
		return nil
	}
	return &complaint{fmt.Sprintf("%q is not a log level", value), "write trace, debug, info, warn or error"}
}
