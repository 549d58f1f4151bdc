package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"pawl/deploy"
	"pawl/internal/site"
)

// siteTemplate is the lab's site file in the deploy folder.
const siteTemplate = "site/lab.yaml.tmpl"

// renderSite returns the lab's site file, checked as strictly as a build will.
func renderSite(roots []byte) ([]byte, error) {
	parsed, err := template.ParseFS(deploy.Files, siteTemplate)
	if err != nil {
		return nil, fmt.Errorf("read site template: %w", err)
	}
	var text bytes.Buffer
	err = parsed.Execute(&text, map[string]any{
		"Resolver":      resolverAddress,
		"RuntimeFolder": runtimeFolder(),
		"MetadataURL":   metadataURL,
		"VaultURL":      vaultURL,
		"ConsulName":    consulName,
		"Datacenter":    datacenter,
		"Domain":        domain,
		"Roots":         strings.Split(strings.TrimSpace(string(roots)), "\n"),
	})
	if err != nil {
		return nil, fmt.Errorf("fill site template: %w", err)
	}
	if _, err := site.Parse(text.Bytes(), siteTemplate); err != nil {
		return nil, fmt.Errorf("check the lab's site: %w", err)
	}
	return text.Bytes(), nil
}

// writeSite writes the lab's site file to out and makes the roots it names in
// directory, once: an agent built with this file trusts a lab of these roots.
func writeSite(out, directory string, now time.Time) error {
	roots, err := ensureAuthorities(directory, now)
	if err != nil {
		return err
	}
	text, err := renderSite(roots.bundle())
	if err != nil {
		return err
	}
	absolute, err := filepath.Abs(out)
	if err != nil {
		return fmt.Errorf("write site file: %w", err)
	}
	if err := replaceFile(absolute, text, 0o644); err != nil {
		return fmt.Errorf("write site file: %w", err)
	}
	return nil
}
