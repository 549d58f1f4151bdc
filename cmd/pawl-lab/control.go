package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
)

// order is one command for a running `up`.
type order struct {
	Command string   `json:"command"`
	Names   []string `json:"names"`
}

// outcome answers an order.
type outcome struct {
	Error string `json:"error"`
}

// report answers a question for the status.
type report struct {
	PID       int             `json:"pid"`
	Folder    string          `json:"folder"`
	TTL       string          `json:"ttl"`
	Processes []processReport `json:"processes"`
	// Vault is unsealed, sealed or silent; ConsulLeader an address or "".
	Vault        string              `json:"vault"`
	ConsulLeader string              `json:"consul_leader"`
	DNS          map[string][]string `json:"dns"`
}

// listenControl opens the control socket. Its folder is private, so whoever may
// reach it is who runs the lab.
func listenControl(path string) (net.Listener, error) {
	parent := filepath.Dir(path)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, fmt.Errorf("make control socket's folder: %w", err)
	}
	information, err := os.Lstat(parent)
	if err != nil {
		return nil, fmt.Errorf("look at control socket's folder: %w", err)
	}
	owner, known := information.Sys().(*syscall.Stat_t)
	if !information.IsDir() || information.Mode().Perm()&0o077 != 0 || !known || int(owner.Uid) != os.Getuid() {
		return nil, fmt.Errorf("control socket's folder %s is not ours alone; remove it or choose another --dir", parent)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove an old control socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	return listener, nil
}

// handler serves the control socket.
func (l *lab) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /order", func(writer http.ResponseWriter, request *http.Request) {
		var given order
		var result outcome
		if err := json.NewDecoder(io.LimitReader(request.Body, 1<<16)).Decode(&given); err != nil {
			result.Error = err.Error()
		} else if err := l.obey(request.Context(), given); err != nil {
			result.Error = err.Error()
		}
		_ = json.NewEncoder(writer).Encode(result)
	})
	mux.HandleFunc("GET /status", func(writer http.ResponseWriter, request *http.Request) {
		_ = json.NewEncoder(writer).Encode(l.report(request.Context()))
	})
	return mux
}

// call asks the `up` that runs in a folder and decodes its answer.
func call(ctx context.Context, directory, method, path string, body, answer any) error {
	absolute, err := filepath.Abs(directory)
	if err != nil {
		return err
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", folder(absolute).socket())
		},
		DisableKeepAlives: true,
	}}
	request, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("no lab runs in %s: start one with `pawl-lab up --dir %s`", absolute, directory)
	}
	if err != nil {
		return fmt.Errorf("ask the lab in %s: %w", absolute, err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("read the lab's answer: %w", err)
	}
	return nil
}

// ask sends an order and returns when it has been carried out.
func ask(ctx context.Context, directory string, given order) error {
	var result outcome
	if err := call(ctx, directory, http.MethodPost, "/order", given, &result); err != nil {
		return err
	}
	if result.Error != "" {
		return errors.New(result.Error)
	}
	return nil
}

func printStatus(ctx context.Context, directory string, asJSON bool, stdout io.Writer) error {
	var answer report
	if err := call(ctx, directory, http.MethodGet, "/status", nil, &answer); err != nil {
		return err
	}
	if asJSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(answer)
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, one := range answer.Processes {
		notes := ""
		switch {
		case one.Name == "vault":
			notes = answer.Vault
		case one.Name == "dns":
			notes = strings.Join(describeRecords(answer.DNS), " ")
		}
		fmt.Fprintf(table, "%s\t%s\tpid %d\tsince %s\t%s\n", one.Name, one.State, one.PID, one.Since.Format("15:04:05"), notes)
	}
	leader := answer.ConsulLeader
	if leader == "" {
		leader = "none"
	}
	fmt.Fprintf(table, "consul leader\t%s\n", leader)
	return table.Flush()
}
