// Package secret owns the one type in which a secret travels through pawl. It
// must import nothing but the standard library, and nothing of this project.
//
// Law 8 of the house: a secret prints, logs and marshals as "[redacted]". The
// value sits behind a pointer, so that even a struct with an unexported Secret
// field, printed by reflection, shows an address and never the text.
package secret

import (
	"fmt"
	"log/slog"
)

// Redacted is what every formatter sees in place of a secret.
const Redacted = "[redacted]"

// Secret holds one secret text. The zero value holds none. It is immutable and
// safe from any goroutine.
type Secret struct{ text *string }

// New wraps text. The empty text gives the zero Secret.
func New(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal returns the text itself, or "" where there is none. Call it only in
// the line that hands the secret to the library that needs it.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Empty reports whether there is no secret here.
func (s Secret) Empty() bool { return s.text == nil }

// String implements fmt.Stringer.
func (s Secret) String() string { return Redacted }

// Format implements fmt.Formatter, so that no verb or flag reaches the value.
func (s Secret) Format(state fmt.State, _ rune) { _, _ = state.Write([]byte(Redacted)) }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return Redacted }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalJSON implements json.Marshaler.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// MarshalText implements encoding.TextMarshaler, which YAML and XML ask.
func (s Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
